//! Floor 1: what bytes on the wire mean.

pub mod datetime;
pub mod http;
pub mod http_head;
pub mod json;
pub mod percent;
pub mod websocket_upgrade;
