//! What is kept of a spray under way.

use crate::time::Instant;
use std::net::SocketAddr;
use std::time::Duration;

/// After this it has failed.
pub(super) const PATIENCE: Duration = Duration::from_secs(12);

/// What is going on.
pub(super) struct Spray {
    pub began: Instant,
    pub next: Instant,
    pub side: SpraySide,
}

impl Spray {
    /// Whether it has failed.
    pub fn is_over(&self, now: Instant) -> bool {
        now.since(self.began) >= PATIENCE
    }

    /// When it goes on, or has failed.
    pub fn due(&self, now: Instant) -> Instant {
        if self.next > now { self.next } else { self.began + PATIENCE }
    }
}

pub(super) enum SpraySide {
    /// We send from many sockets to this address.
    Sockets { to: SocketAddr, sent: u16, punches: u16 },
    /// We send to many ports of this address.
    Ports { of: SocketAddr, sent: u16, punches: u16 },
}
