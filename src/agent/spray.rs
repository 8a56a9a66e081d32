//! What is kept of a spray under way.

use crate::time::Instant;
use std::net::SocketAddr;

/// What is going on.
pub(super) struct Spray {
    pub began: Instant,
    pub next: Instant,
    pub side: SpraySide,
}

pub(super) enum SpraySide {
    /// We send from many sockets to this address.
    Sockets { to: SocketAddr, sent: u16, punches: u16 },
    /// We send to many ports of this address.
    Ports { of: SocketAddr, sent: u16, punches: u16 },
}
