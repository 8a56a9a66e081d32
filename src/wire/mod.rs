//! Floor 1: what bytes on the wire mean.

pub mod datetime;
pub mod http;
pub mod json;
pub mod percent;
