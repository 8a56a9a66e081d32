//! Floor 5: the only sockets.

mod connections;
mod exchange;
pub mod http;
pub mod http_client;
mod limits;
pub mod listen;
pub mod notify;
mod outbox;
mod response;
mod service;
mod shared;
mod stream;
pub mod udp;
mod websocket;
