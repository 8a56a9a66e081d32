//! The whole daemon: the real binary behind its real sockets, or the same daemon in this process where a
//! test has to hold its disk or its clock.

mod browsers;
mod client;
mod clocks;
mod crash;
mod crowd;
mod damage;
mod deleted;
mod door;
mod floods;
mod full_disk;
mod holes;
mod hostile;
mod house;
mod inside;
mod load;
mod matrix;
mod mutations;
#[path = "../sim/packets.rs"]
#[allow(dead_code, reason = "shared with tests/sim")]
mod packets;
mod paste;
mod player;
mod quiet_disk;
mod quotas;
mod readme;
mod relay;
mod reload;
mod running;
mod sessions;
#[path = "../store_disk/sim_disk.rs"]
#[allow(dead_code, reason = "the store's own tests do more to it")]
mod sim_disk;
mod slow_disk;
mod socket;
mod state_dir;
mod stop;
mod stun;
mod supervisor;

use std::time::{Duration, Instant};

/// Longer than anything takes, even on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until something is so.
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// splitmix64: the same numbers for the same seed.
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}
