//! Several instances over a real PostgreSQL: what was acknowledged survives whatever is killed, stopped or cut off.

mod cable;
mod database;
mod failover;
#[path = "../harness/mod.rs"]
mod harness;
mod instances;
#[allow(dead_code, reason = "each test binary uses a part of it")]
#[path = "../interop/lab.rs"]
mod lab;
#[path = "../daemon/load.rs"]
mod load;
mod lost_replies;
mod probes;
mod relays;
#[path = "../daemon/socket.rs"]
#[allow(dead_code, reason = "these tests use a part of it")]
mod socket;
#[path = "../daemon/test_daemon.rs"]
#[allow(dead_code, reason = "these tests use a part of it")]
mod test_daemon;
mod transfer;

use harness::random::Random;
use harness::{PATIENCE, client, eventually};
