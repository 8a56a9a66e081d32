//! The relay of the real daemon against WireGuard as others wrote it, through real NATs, in network
//! namespaces.
//!
//! `LANRAGE_BORINGTUN` may name a boringtun-cli: then every second player uses it instead of wireguard-go. What
//! boringtun can't do is said, and done otherwise, in `player.rs`; what a test expects is the same for both.

mod blind;
mod broadcast;
mod egress;
mod figures;
#[path = "../harness/mod.rs"]
mod harness;
mod hostile;
mod hub;
#[allow(dead_code, reason = "each test binary uses a part of it")]
mod lab;
mod local;
mod no_clock;
mod player;
mod readme;
mod restart;
mod server;
mod stun;
mod weather;

use harness::player as bystander;
use harness::{PATIENCE, alone, client, eventually, floods, paste};
