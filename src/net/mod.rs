//! Floor 5: the only sockets.

pub mod http;
pub mod http_client;
pub mod listen;
pub mod notify;
pub mod udp;
