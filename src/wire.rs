//! Floor 1: what bytes on the wire mean.

pub mod chunked;
pub mod control;
pub mod datetime;
pub mod decimal;
pub mod endpoint;
pub mod http;
pub mod http_head;
pub mod ip;
pub mod json;
pub mod nat_type;
pub mod offload;
pub mod percent;
pub mod portmap;
pub mod probe;
pub mod proxies;
pub mod proxy_header;
pub mod response_head;
pub mod roster;
pub mod server_url;
pub mod static_body;
pub mod stun;
pub mod upnp;
pub mod websocket_upgrade;
