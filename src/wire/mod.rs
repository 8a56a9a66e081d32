//! Floor 1: what bytes on the wire mean.

pub mod http;
pub mod http_head;
pub mod websocket_upgrade;
