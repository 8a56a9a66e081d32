//! Parties and their members.

use super::addresses;
use super::costs::Footprint;
use super::entry::PartyAccess;
use super::expiry::Expiry;
use super::invites::{Invite, InviteId};
use super::keys::RelayService;
use super::signals::Signal;
use super::standing::Standing;
use super::viewer::LocalClock;
use crate::crypto::x25519::PublicKey;
use crate::ids::{PartyId, PeerId, RelayId};
use crate::sorted::SortedMap;
use crate::time::{Instant, UnixTime};
use crate::wire::datetime;
use crate::wire::nat_type::NatType;
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;

/// What a peer says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerInfo {
    /// Its id.
    pub peer_id: PeerId,
    /// What people call it, 1 to 100 characters.
    pub name: Box<str>,
    /// Its public key as it was sent, at most 128 characters; opaque to the API.
    pub public_key: Rc<str>,
    /// Its NAT.
    pub nat_type: NatType,
    /// Its address as seen from outside, or `unknown`.
    pub public_ip: Box<str>,
    /// The port there, or 0.
    pub public_port: u16,
    /// Its address in its own network, or `unknown`.
    pub local_ip: Box<str>,
    /// The port there, or 0.
    pub local_port: u16,
    /// Its own clock.
    pub last_seen: Option<datetime::Read>,
}

impl PeerInfo {
    /// With its key in the memory of `text`, if that is the same: as a rule, the name of its address is.
    pub(super) fn sharing(mut self, text: &Rc<str>) -> Self {
        if self.public_key == *text {
            self.public_key = text.clone();
        }
        self
    }

    /// The key in canonical form, if it is one that WireGuard can use.
    pub fn wireguard_key(&self) -> Option<PublicKey> {
        PublicKey::decode(&self.public_key).filter(|key| !key.is_low_order())
    }
}

/// A peer in a party.
#[derive(Clone, Debug)]
pub struct Member {
    /// What it said of itself.
    pub info: PeerInfo,
    /// Its key, if it is one that WireGuard can use.
    pub key: Option<PublicKey>,
    /// Its address in the virtual LAN.
    pub virtual_ip: Ipv4Addr,
    /// The name under which the pool knows that address.
    pub address_name: Rc<str>,
    /// Grows with every member of the party: the smallest has been there longest.
    pub joined: u64,
    /// When it last gave a sign of life, here or at the relay.
    pub seen: Instant,
    /// When it last gave one here.
    pub heard: Instant,
    /// Where it last asked for something from, if it was not the owner of the machine, and if that is known.
    pub origin: Option<IpAddr>,
    /// Grows with every claim to a key: of two with the same key, the larger came later.
    pub claim: u64,
    /// Its clock.
    pub clock: LocalClock,
    /// Who may speak for it.
    pub standing: Standing,
    /// What it costs, and whom.
    pub footprint: Footprint,
    /// What few have, and there are thousands.
    pub extras: Option<Box<MemberExtras>>,
}

/// What only some members have.
#[derive(Clone, Debug, Default)]
pub struct MemberExtras {
    /// What waits for it, oldest first.
    pub signals: VecDeque<Signal>,
    /// What it is besides, if it has nothing but a WireGuard app.
    pub device: Option<DeviceMember>,
    /// The invite by which it came, if it came by one.
    pub invite: Option<InviteId>,
    /// What it calls the party, if that is an invite's code. It is nowhere kept.
    pub called: Option<Box<str>>,
    /// How many others it reaches straight, if it is an agent, and the most there were since the start.
    pub straight: Option<(u8, u8)>,
}

/// A member with nothing but a WireGuard app: it says nothing here, its handshakes show that it is alive.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DeviceMember {
    /// When it leaves.
    pub expires: Option<Expiry>,
    /// When a session of its last came up at the hub, since the last start.
    pub handshake: Option<Instant>,
}

impl Member {
    /// What it is besides, if it has nothing but a WireGuard app.
    pub fn device(&self) -> Option<&DeviceMember> {
        self.extras.as_ref()?.device.as_ref()
    }

    /// The same.
    pub(super) fn device_mut(&mut self) -> Option<&mut DeviceMember> {
        self.extras.as_mut()?.device.as_mut()
    }

    /// The invite by which it came, if it came by one.
    pub fn invite(&self) -> Option<InviteId> {
        self.extras.as_ref()?.invite
    }

    /// How many others it reaches straight, if it is an agent.
    pub fn straight(&self) -> Option<u8> {
        Some(self.extras.as_ref()?.straight?.0)
    }

    /// What waits for it, oldest first.
    pub fn signals(&self) -> impl Iterator<Item = &Signal> {
        self.extras.iter().flat_map(|extras| &extras.signals)
    }

    /// What few have.
    pub(super) fn extras_mut(&mut self) -> &mut MemberExtras {
        self.extras.get_or_insert_default()
    }

    /// What a relay does for this member.
    pub fn relay_service(&self) -> RelayService {
        match (self.key, self.origin) {
            (Some(key), _) if !addresses::is_shared(&self.address_name) => RelayService::Served { key },
            (Some(key), Some(from)) => RelayService::Claimed { key, from },
            _ => RelayService::None,
        }
    }

    /// The key under which a relay serves this member, if it does.
    pub fn relay_key(&self) -> Option<PublicKey> {
        match self.relay_service() {
            RelayService::Served { key } => Some(key),
            RelayService::None | RelayService::Claimed { .. } => None,
        }
    }
}

/// Somebody who must not come back. Either field is enough to recognise them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ban {
    /// The id that is banned.
    pub peer_id: Option<PeerId>,
    /// The key that is banned, in canonical form.
    pub key: Option<PublicKey>,
}

impl Ban {
    /// Whether this ban means a peer of this id with this key.
    pub fn covers(&self, peer: &PeerId, key: Option<PublicKey>) -> bool {
        self.peer_id.as_ref() == Some(peer) || (self.key.is_some() && self.key == key)
    }
}

/// A virtual LAN.
#[derive(Clone, Debug)]
pub struct Party {
    /// Its id, the secret that friends share.
    pub id: PartyId,
    /// What people call it, 1 to 100 characters.
    pub name: String,
    /// The peer that owns it. Without one it belongs to this machine.
    pub host: Option<PeerId>,
    /// Who may come in.
    pub access: PartyAccess,
    /// Whether it stays without members, and its host however silent it is.
    pub permanent: bool,
    /// When it ends.
    pub ends: Option<Expiry>,
    /// The relay in another place that its members are sent to, if it is not this machine's own.
    pub relay: Option<RelayId>,
    /// By what others may come in, oldest first.
    pub invites: Vec<Invite>,
    /// The ids that it had before, under which its members may go on.
    pub former: Vec<PartyId>,
    /// When it was made, by the wall clock of then.
    pub created_at: UnixTime,
    /// When it was made, if that was since this machine started.
    pub created: Option<Instant>,
    /// Its members. In boxes, so that little is moved when one comes or goes.
    pub members: SortedMap<PeerId, Box<Member>>,
    /// How many members it has ever had.
    pub joins: u64,
    /// Who must not come back.
    pub bans: Vec<Ban>,
    /// What it costs without its members, and whom.
    pub footprint: Footprint,
}

impl Party {
    /// Whether this peer owns it.
    pub fn is_hosted_by(&self, peer: &str) -> bool {
        self.host.as_ref().is_some_and(|host| host.as_str() == peer)
    }

    /// What clients are told of who owns it.
    pub fn host_id(&self) -> &str {
        host_id(self.host.as_ref())
    }

    /// The members that are devices.
    pub fn devices(&self) -> impl Iterator<Item = (&Member, &DeviceMember)> {
        self.members.values().filter_map(|member| Some((&**member, member.device()?)))
    }

    /// Whether somebody of this id with this key is banned.
    pub fn bans(&self, peer: &PeerId, key: Option<PublicKey>) -> bool {
        self.bans.iter().any(|ban| ban.covers(peer, key))
    }

    /// The member that has been there longest, of those that can speak for themselves.
    pub fn longest_present(&self) -> Option<&PeerId> {
        let players = self.members.iter().filter(|(_, member)| member.device().is_none());
        players.min_by_key(|(_, member)| member.joined).map(|(peer, _)| peer)
    }
}

/// Stands on the wire for the host of a party that belongs to this machine. It begins as no id that anybody can
/// register does.
const MACHINE: &str = "_machine";

/// What clients are told of who owns a party.
pub fn host_id(host: Option<&PeerId>) -> &str {
    host.map_or(MACHINE, PeerId::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn a_member_is_small() {
        // There are thousands. The C library of static binaries has room of 288 bytes, 4 of which are its own, and
        // then of 320.
        assert!(size_of::<Member>() <= 284, "{}", size_of::<Member>());
    }
}
