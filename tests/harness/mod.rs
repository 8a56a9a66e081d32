//! What tests of different parts share: the real binary, a client for it, a WireGuard peer, network namespaces.

#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod client;
pub mod daemon;
pub mod directory;
pub mod far_relay;
pub mod floods;
pub mod game;
pub mod namespace;
pub mod packets;
pub mod paste;
pub mod player;
pub mod process;
pub mod random;
pub mod sim_disk;
pub mod store;

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Longer than anything takes, even on a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until something is so, and says how long that took.
#[track_caller]
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
    start.elapsed()
}

/// For a test that measures times: none of the others measures at the same time.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
