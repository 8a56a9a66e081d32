//! Floor 5: the only sockets.

pub mod client;
pub mod extra_socket;
pub mod http;
pub mod lan_socket;
pub mod listen;
pub mod notify;
pub mod owner_socket;
pub mod router_socket;
pub mod udp;
pub mod way_out;
