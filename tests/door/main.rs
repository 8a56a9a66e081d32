//! The HTTP door against clients that behave badly, each in front of a toy service in a process of its
//! own, so that its descriptors and threads can be counted.

mod attacks;
#[path = "../../src/cli/client.rs"]
mod command_line;
mod cost;
#[path = "../harness/mod.rs"]
mod harness;
mod http;
mod test_door;
mod unix;
mod websocket;

use harness::{PATIENCE, client, eventually};
