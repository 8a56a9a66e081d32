//! Floor 1: what bytes on the wire mean.

pub mod http;
