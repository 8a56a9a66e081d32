//! The whole daemon: the real binary behind its real sockets, or the same daemon in this process where a
//! test has to hold its disk or its clock.

mod backups;
mod browsers;
mod chat;
mod clocks;
mod commands;
mod crash;
mod crowd;
mod damage;
mod deleted;
mod doctor;
mod door;
mod far_relays;
mod full_disk;
mod guests;
#[path = "../harness/mod.rs"]
mod harness;
mod holes;
mod hostile;
mod inside;
mod load;
mod matrix;
mod mutations;
mod proxies;
mod quiet_disk;
mod quotas;
mod readme;
mod relay;
mod reload;
mod running;
mod sessions;
mod slow_disk;
mod socket;
mod state_dir;
mod stop;
mod stun;
mod supervisor;
mod test_daemon;
mod upgrade;

use harness::random::Random;
use harness::{PATIENCE, client, eventually, floods, paste, player, sim_disk};
