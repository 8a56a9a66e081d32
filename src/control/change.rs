//! What a mutation did. The loop drains these to the store, the relay's roster and the open sessions.

use super::invites::InviteId;
use super::signals::Signal;
use super::standing::Identity;
use super::tokens::TokenHash;
use crate::crypto::x25519::PublicKey;
use crate::ids::{PartyId, PeerId, RelayId};
use crate::time::UnixTime;
use std::fmt;

/// Why a member is no longer in its party.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Departure {
    /// It said so.
    Left,
    /// The host or an admin removed it.
    Kicked,
    /// The same, and it must not come back.
    Banned,
    /// It was to stay until now.
    Expired,
    /// It gave no sign of life for too long.
    Stale,
    /// The party is gone.
    PartyDeleted,
}

impl Departure {
    /// Whether somebody else wanted it out.
    pub fn is_removal(self) -> bool {
        matches!(self, Departure::Kicked | Departure::Banned)
    }
}

impl fmt::Display for Departure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Departure::Left => "it said so",
            Departure::Kicked => "it was removed",
            Departure::Banned => "it was banned",
            Departure::Expired => "its time was over",
            Departure::Stale => "it fell silent",
            Departure::PartyDeleted => "the party ended",
        })
    }
}

/// One thing that happened, in the order in which it happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// A party was made; its host's `MemberJoined` follows.
    PartyCreated(PartyId),
    /// A party has another host, name or list of bans.
    PartyChanged(PartyId),
    /// Something of a party changed that members are not told: who may come in, and for how long.
    EntryChanged(PartyId),
    /// A member came in by an invite.
    InviteUsed(PartyId, PeerId, InviteId),
    /// A party has another id.
    PartyRenamed {
        /// The id that it had.
        from: PartyId,
        /// Its id.
        party: PartyId,
        /// Who is in it.
        members: Vec<PeerId>,
    },
    /// A party is gone; its members' `MemberLeft` came before.
    PartyDeleted {
        /// The party.
        party: PartyId,
        /// What people called it.
        name: String,
        /// When it was made.
        created_at: UnixTime,
        /// Who hosted it at the end.
        host: Option<PeerId>,
        /// Who was in it when its end began.
        members: Vec<Identity>,
    },
    /// A peer is in a party that it was not in before.
    MemberJoined(PartyId, PeerId),
    /// A member joined again, perhaps from elsewhere or with another key; or what its key is worth changed.
    MemberChanged(PartyId, PeerId),
    /// A member asked for something from another address than before. Nobody is told, and it is kept only
    /// if something else is written.
    MemberMoved(PartyId, PeerId),
    /// A member, which is an agent, reaches somebody straight for the first time since the start. Nobody is told,
    /// and it is not kept.
    WentStraight(PartyId, PeerId),
    /// A member is gone.
    MemberLeft {
        /// The party.
        party: PartyId,
        /// The peer, and on what its claim to be it rested.
        who: Identity,
        /// What people called it.
        name: Box<str>,
        /// Whether it was a device.
        is_device: bool,
        /// Its key, if it had one that WireGuard can use.
        key: Option<PublicKey>,
        /// Why.
        why: Departure,
    },
    /// A signal for a member; it waits in the queue unless somebody delivers it.
    Signalled(PartyId, Signal),
    /// The owner said where friends reach the relay.
    EndpointChanged,
    /// A token was issued.
    TokenIssued(TokenHash),
    /// A token's life was extended. Not worth a write of its own.
    TokenExtended(TokenHash),
    /// A token is worth nothing any more.
    TokenRevoked(TokenHash),
    /// A relay was registered, or its entry changed.
    RelayChanged(RelayId),
    /// A relay was heard of that serves so many, and, if it is approved, so many parties have no room there. Only other
    /// instances are told.
    RelayHeard {
        /// Which one.
        relay: RelayId,
        /// How many it serves.
        load: u32,
        /// Parties for which it has no room.
        left_out: u32,
    },
    /// A relay is gone.
    RelayExpired(RelayId),
    /// A key was given an address or another owner, or its owner has proven it.
    AddressAssigned(String),
    /// An address was taken back from a key.
    AddressForgotten(String),
}

impl Change {
    /// Whether an answer has to wait until this is on disk.
    pub fn is_durable(&self) -> bool {
        let is_passing = matches!(self, Change::TokenExtended(_) | Change::Signalled(..));
        !is_passing && !matches!(self, Change::MemberMoved(..) | Change::WentStraight(..))
    }
}
