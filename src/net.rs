//! Floor 5: the only sockets.

pub mod http;
pub mod listen;
pub mod notify;
pub mod udp;
