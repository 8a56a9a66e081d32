//! The agent: the real binary against a real server, with WireGuard apps beside it, in network namespaces.

mod bulk;
mod everyday;
mod far_relays;
#[path = "../harness/mod.rs"]
mod harness;
mod host;
#[allow(dead_code, reason = "each test binary uses a part of it")]
#[path = "../interop/lab.rs"]
mod lab;
#[allow(dead_code, reason = "each test binary uses a part of it")]
#[path = "../interop/player.rs"]
mod player;
mod relays;
mod router;
#[allow(dead_code, reason = "each test binary uses a part of it")]
#[path = "../interop/server.rs"]
mod server;
mod trouble;
mod weather;

use harness::{PATIENCE, alone, client, eventually};
