//! On what somebody's claim to be a peer rests.

use super::party::Party;
use crate::crypto::{blake2s, random};
use crate::ids::PeerId;
use std::net::IpAddr;

/// One registration and all tokens that descend from it. Anybody may register a free id, so a squatter can
/// hold a token for an id before its user comes; lineages tell the two apart, and when one of them becomes
/// a member the tokens of all others end.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Lineage(pub u64);

impl Lineage {
    /// A new registration's.
    pub fn random() -> Self {
        Lineage(u64::from_le_bytes(random::bytes()))
    }
}

/// On what a claim rests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// A token of this lineage.
    Token(Lineage),
    /// Nothing but the address that it came from: a stock WebSocket client has no token.
    Address(IpAddr),
}

/// Somebody who has shown to be a peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The peer.
    pub peer: PeerId,
    /// How it was shown.
    pub standing: Standing,
}

impl Identity {
    /// Who this is for as long as keys are remembered: the lineage, or what stands for an id that was claimed from an
    /// address.
    pub fn owner(&self) -> u64 {
        match self.standing {
            Standing::Token(Lineage(lineage)) => lineage,
            Standing::Address(address) => {
                let hash =
                    blake2s::hash(&[self.peer.as_str().as_bytes(), b"@", address.to_string().as_bytes()]);
                u64::from_le_bytes(*hash.first_chunk().expect("a hash is 32 bytes"))
            }
        }
    }
}

/// Who asks for something.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Actor {
    /// The owner of the daemon.
    Admin,
    /// A peer.
    Peer(Identity),
}

impl Actor {
    /// Whether this is the peer `id`.
    pub fn is(&self, id: &str) -> bool {
        self.peer().is_some_and(|peer| peer.as_str() == id)
    }

    /// Whether this is the host of a party.
    pub fn hosts(&self, party: &Party) -> bool {
        self.peer().is_some_and(|peer| party.is_hosted_by(peer.as_str()))
    }

    /// The peer, if it is one.
    pub fn peer(&self) -> Option<&PeerId> {
        match self {
            Actor::Admin => None,
            Actor::Peer(identity) => Some(&identity.peer),
        }
    }
}
