//! What is known of one member.

use crate::agent::network::NetworkMember;
use crate::time::Instant;

/// One member and the ways to it.
pub(super) struct Pair {
    /// As the control plane tells it.
    pub member: NetworkMember,
    /// Whether it has shown to be an agent as we are.
    pub is_agent: bool,
    /// When a session with it was last wanted.
    pub wanted: Option<Instant>,
    /// Bytes of packets that came from it.
    pub received: u64,
    /// Bytes that were sent to it by its session.
    pub sent: u64,
}

impl Pair {
    pub fn new(member: NetworkMember) -> Self {
        Pair { member, is_agent: false, wanted: None, received: 0, sent: 0 }
    }
}
