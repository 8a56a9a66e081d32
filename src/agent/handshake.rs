//! What is kept of handshakes under way.

use crate::time::Instant;
use crate::wireguard::message::{INITIATION_LENGTH, RESPONSE_LENGTH};

/// An initiation that was not answered.
pub(super) struct PendingInitiation {
    pub bytes: [u8; INITIATION_LENGTH],
    pub at: Instant,
    pub copies: usize,
}

/// What an initiation was answered with.
pub(super) struct CachedAnswer {
    pub initiation: [u8; INITIATION_LENGTH],
    pub response: Option<[u8; RESPONSE_LENGTH]>,
    pub at: Instant,
}
