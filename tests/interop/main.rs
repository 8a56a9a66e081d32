//! The relay of the real daemon against WireGuard as others wrote it, through real NATs, in network
//! namespaces.
//!
//! `LANRAGE_BORINGTUN` may name a boringtun-cli: then every second player uses it instead of wireguard-go. What
//! boringtun can't do is said, and done otherwise, in `player.rs`; what a test expects is the same for both.

mod blind;
mod broadcast;
#[path = "../daemon/player.rs"]
#[allow(dead_code, reason = "the daemon's own tests use more of it")]
mod bystander;
#[path = "../daemon/client.rs"]
#[allow(dead_code, reason = "the daemon's own tests ask it more")]
mod client;
mod egress;
mod figures;
#[path = "../daemon/floods.rs"]
mod floods;
mod hostile;
mod hub;
mod lab;
mod local;
mod no_clock;
#[path = "../sim/packets.rs"]
#[allow(dead_code, reason = "shared with tests/sim")]
mod packets;
#[path = "../daemon/paste.rs"]
#[allow(dead_code, reason = "the daemon's own tests read more of what it prints")]
mod paste;
mod player;
mod readme;
mod restart;
mod server;
mod stun;
mod weather;

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Longer than anything takes, even on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until something is so, and says how long that took.
#[track_caller]
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
    start.elapsed()
}

/// For a test that measures times: none of the others measures at the same time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
