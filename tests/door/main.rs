//! The HTTP door against clients that behave badly, each in front of a toy service in a process of its
//! own, so that its descriptors and threads can be counted.

mod attacks;
mod client;
#[path = "../../src/cli/client.rs"]
mod command_line;
mod cost;
mod house;
mod http;
mod unix;
mod websocket;
