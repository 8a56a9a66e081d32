//! Floor 1: what bytes on the wire mean.

pub mod chunked;
pub mod control;
pub mod datetime;
pub mod endpoint;
pub mod http;
pub mod http_head;
pub mod ip;
pub mod json;
pub mod nat_type;
pub mod percent;
pub mod portmap;
pub mod probe;
pub mod proxies;
pub mod response_head;
pub mod server_url;
pub mod static_body;
pub mod stun;
pub mod websocket_upgrade;
