//! The relay's own WireGuard identity: what stock apps have as their only peer, and others besides their
//! peers, so that they roam with authentication.

use crate::crypto::x25519::PublicKey;
use crate::datagram::Path;
use crate::figures::{DropReason, Reach, Traffic};
use crate::keyed_hash::KeyedState;
use crate::relay::blind::Blind;
use crate::relay::resumption::{Resumption, Resumptions};
use crate::relay::roster::{MemberId, RosterMember};
use crate::relay::state::{RelayState, Turn};
use crate::relay::{broadcast, local};
use crate::time::Instant;
use crate::wire::ip::{self, Ipv4};
use crate::wireguard::allowed_ips::AllowedIp;
use crate::wireguard::device::{Device, DeviceSettings, ReceiveOutcome};
use crate::wireguard::inner_packet::InnerPacket;
use crate::wireguard::message::{INITIATION_LENGTH, Message, TRANSPORT_HEADER_LENGTH, Type};
use crate::wireguard::peer::{PeerIndex, PeerSettings};
use crate::wireguard::verdict::{Accepted, Content, Outgoing, Reason, Rejection, SendOutcome, Verdict};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Room for what the hub sends of its own accord and for copies of broadcasts, in bytes. A packet of the
/// virtual LAN is at most 1420 long.
const SCRATCH_LENGTH: usize = 2048;
/// Handshakes that are kept until they are asked for. Further ones are not kept: the next handshake of the same member,
/// two minutes later, is reported again.
const MAX_HANDSHAKES: usize = 1024;

/// Answers to handshakes of one member that may get lost before it is said that it does not take them.
const MAX_UNCONFIRMED: u8 = 2;

/// What is kept of a member that has come to the hub.
pub struct HubSession {
    pub(super) peer: PeerIndex,
    /// Where it is known to receive what we send, and our address that it speaks to.
    pub(super) path: Option<Path>,
    /// Where our last initiation to it went.
    initiated_to: Option<SocketAddr>,
    /// Where our last answer to its initiation went.
    answered_to: Option<SocketAddr>,
    /// Its handshakes since the last that it completed.
    unconfirmed: u8,
    /// The last broadcast that it has had.
    pub(super) round: u64,
    /// It had a session before a restart, and none since.
    pub(super) resumption: Option<Resumption>,
}

/// The hub.
pub(super) struct Hub {
    pub device: Device,
    /// Which member each peer of the device is.
    pub members: HashMap<PeerIndex, MemberId, KeyedState>,
    pub ip: Ipv4Addr,
    pub broadcast_ip: Ipv4Addr,
    /// Whether this machine itself is at that address.
    pub is_local: bool,
    pub scratch: Box<[u8]>,
    pub rounds: u64,
    pub resumptions: Resumptions,
    /// Keys that have completed a handshake, and from where.
    pub handshakes: Vec<(PublicKey, IpAddr)>,
}

impl Hub {
    pub fn new(
        settings: DeviceSettings,
        ip: Ipv4Addr,
        broadcast_ip: Ipv4Addr,
        hasher: KeyedState,
        now: Instant,
    ) -> Self {
        Hub {
            device: Device::new(settings, now),
            members: HashMap::with_hasher(hasher),
            ip,
            broadcast_ip,
            is_local: false,
            scratch: vec![0; SCRATCH_LENGTH].into(),
            rounds: 0,
            resumptions: Resumptions::default(),
            handshakes: Vec::new(),
        }
    }

    /// Takes a member in, when it first comes: most never do, and a peer of the device is not small. Somebody at
    /// `source` who only says to have the key is a guest, so that he can prove it.
    pub fn adopt(
        &mut self,
        state: &mut RelayState,
        key: &PublicKey,
        source: SocketAddr,
        now: Instant,
    ) -> Option<PeerIndex> {
        let guest = self.device.find_peer(key);
        let Some(id) = state.roster.with_key(key) else {
            let is_guest = guest.is_none() && state.roster.is_claimed(key, source.ip());
            return is_guest.then(|| self.device.add_peer(PeerSettings::new(*key), now).ok()).flatten();
        };
        let peer = match guest {
            Some(guest) => guest,
            None => self.device.add_peer(PeerSettings::new(*key), now).ok()?,
        };
        let member = state.roster.get_mut(id)?;
        self.device.allow(peer, AllowedIp::host(member.ip.into()));
        member.state.appear().hub = Some(HubSession {
            peer,
            path: None,
            initiated_to: None,
            answered_to: None,
            unconfirmed: 0,
            round: 0,
            resumption: None,
        });
        self.members.insert(peer, id);
        Some(peer)
    }

    /// Nobody claims the key any more: a guest who has not proven it is removed.
    pub fn dismiss(&mut self, key: &PublicKey) {
        if let Some(peer) = self.device.find_peer(key).filter(|peer| !self.members.contains_key(peer)) {
            self.device.remove_peer(peer);
        }
    }

    /// A member has another address in the virtual LAN.
    pub fn readdress(&mut self, member: &RosterMember, old: Ipv4Addr, new: Ipv4Addr) {
        if let Some(session) = member.state.hub() {
            if self.device.route(old.into()) == Some(session.peer) {
                self.device.disallow(AllowedIp::host(old.into()));
            }
            self.device.allow(session.peer, AllowedIp::host(new.into()));
        }
    }

    /// Removes a member that is gone, with its session.
    pub fn remove(&mut self, gone: &RosterMember) {
        if let Some(session) = gone.state.hub() {
            self.device.remove_peer(session.peer);
            self.members.remove(&session.peer);
        }
    }

    /// Takes a datagram that is for the hub.
    pub fn receive(
        &mut self,
        blind: &mut Blind,
        turn: &mut Turn<'_>,
        datagram: &mut [u8],
        from: Path,
    ) -> Result<(), DropReason> {
        let (source, now) = (from.remote, turn.now);
        let is_expected = turn.state.is_expected(source);
        let verdict = match self.device.receive_from(datagram, source, is_expected, now) {
            ReceiveOutcome::Verdict(verdict) => verdict,
            ReceiveOutcome::Unknown(stranger) => {
                // If it is no member's key, the device reports an unknown peer.
                self.adopt(turn.state, stranger.public_key(), source, now.instant);
                self.device.accept(stranger, now.instant)
            }
        };
        let result = match verdict {
            Verdict::Accepted(accepted) => self.accept(blind, turn, accepted, datagram, from),
            Verdict::Challenged | Verdict::CookieTaken(_) => Ok(()),
            Verdict::Dropped(reason) => Err(match reason {
                Reason::Malformed | Reason::WrongMac1 => DropReason::HubMalformed,
                Reason::UnknownPeer => DropReason::HubUnknownPeer,
                Reason::UnknownIndex | Reason::Expired => DropReason::HubExpired,
                Reason::Forged => DropReason::HubForged,
                Reason::Replayed => DropReason::HubReplayed,
                Reason::Limited => DropReason::HubLimit,
            }),
        };
        self.drain(turn, Some(from));
        result
    }

    fn accept(
        &mut self,
        blind: &mut Blind,
        turn: &mut Turn<'_>,
        accepted: Accepted,
        datagram: &mut [u8],
        from: Path,
    ) -> Result<(), DropReason> {
        let Accepted { peer, established, .. } = accepted;
        let key = *self.device.key_of(peer).ok_or(DropReason::HubUnknownPeer)?;
        if established && self.handshakes.len() < MAX_HANDSHAKES {
            self.handshakes.push((key, from.remote.ip()));
        }
        if !self.members.contains_key(&peer) {
            // A guest, who is served from the moment on that the control plane has said so.
            self.adopt(turn.state, &key, from.remote, turn.now.instant);
        }
        let &member = self.members.get(&peer).ok_or(DropReason::HubUnknownPeer)?;
        let session = turn.state.roster.state(member).and_then(|kept| kept.hub_mut());
        let is_unconfirmed = session.is_some_and(|session| {
            session.unconfirmed = match accepted.content {
                _ if established => 0,
                Content::Handshake => session.unconfirmed.saturating_add(1),
                _ => session.unconfirmed,
            };
            session.unconfirmed > MAX_UNCONFIRMED
        });
        if established {
            turn.state.handshake(member, Reach::None, turn.now);
            let round_trip = self.device.stats(peer).and_then(|stats| stats.round_trip);
            turn.state.note_round_trip(member, round_trip);
        }
        self.follow(blind, turn, &accepted, member, datagram.len(), from);
        match accepted.content {
            Content::Handshake if is_unconfirmed => Err(DropReason::HubUnconfirmed),
            Content::Handshake | Content::Keepalive => Ok(()),
            Content::Probe(_) | Content::Rejected(Rejection::Malformed) => Err(DropReason::HubMalformed),
            Content::Rejected(Rejection::Source) => Err(DropReason::InnerSource),
            Content::Packet { inner, .. } => match inner.destination {
                IpAddr::V4(to) if self.is_for_all(to) || is_for_all_of_24(turn.state, member, to) => {
                    broadcast::send(self, turn, member, datagram, inner.length)
                }
                _ => self.route(turn, member, peer, inner, datagram, from.remote),
            },
        }
    }

    /// Goes with a member to where its authentic datagram came from, once that is known to receive what we send: by a
    /// handshake, or because it was there before.
    fn follow(
        &mut self,
        blind: &mut Blind,
        turn: &mut Turn<'_>,
        accepted: &Accepted,
        member: MemberId,
        length: usize,
        from: Path,
    ) -> Option<()> {
        let (source, now) = (from.remote, turn.now);
        let &Accepted { peer, ref content, established, .. } = accepted;
        let state = &mut *turn.state;
        let is_handshake = *content == Content::Handshake;
        let session = state.roster.state(member)?.hub_mut()?;
        if session.path.is_none_or(|path| path.remote != source) {
            let told = if is_handshake { session.initiated_to } else { session.answered_to };
            // Its own initiation may be an old one that was held back until now.
            let was_there = !is_handshake && state.sources.is_proven_of(source, member);
            state.sources.note(from, &state.limits, now.instant);
            state.sources.note_received(source, length);
            if established && told == Some(source) || was_there {
                state.sources.prove(from, now.instant);
                let session = state.roster.state(member)?.hub_mut()?;
                (session.path, session.resumption) = (Some(from), None);
                state.note_address(member, source);
            } else if !is_handshake && state.roster.state(member)?.buckets.probe(&state.limits, now.instant) {
                // It must prove that it is there. A keepalive is shorter than what asks for that.
                state.sources.note_received(source, INITIATION_LENGTH);
                self.device.probe(peer, source, now);
            }
        } else {
            session.path = Some(from);
        }
        let kept = state.roster.state(member)?;
        let path = kept.hub()?.path?;
        let before = kept.presence()?.endpoints.hub;
        if path.remote == source && before != Some(path) {
            let is_move = before.is_none_or(|before| before.remote != source);
            if is_move && !kept.buckets.relocation(&state.limits, now.instant) {
                return None;
            }
            let presence = kept.presence_mut()?;
            presence.endpoints.hub = Some(path);
            presence.stats.reach = Reach::Hub;
            blind.relocate(state, member, path);
        }
        Some(())
    }

    /// Asks a member with a session whether it is where this came from: a flow of its says so, which anybody may have
    /// sent. Whether something is to be [sent](Hub::drain) now.
    pub fn seek(&mut self, turn: &mut Turn<'_>, member: MemberId, source: SocketAddr) -> bool {
        let RelayState { roster, sources, .. } = &mut *turn.state;
        let session = roster.get(member).and_then(|member| member.state.hub());
        let Some(&HubSession { peer, path, .. }) = session else { return false };
        let is_elsewhere = path.is_none_or(|path| path.remote != source);
        let may_ask = is_elsewhere && sources.can_spend(source, INITIATION_LENGTH);
        may_ask && self.device.can_send(peer, turn.now.instant) && self.device.probe(peer, source, turn.now)
    }

    /// Whether an address is one of the virtual LAN's, out of which this machine may send.
    pub fn is_inside(&self, address: IpAddr) -> bool {
        self.is_local
            && matches!(address, IpAddr::V4(address) if (self.ip..=self.broadcast_ip).contains(&address))
    }

    /// Whether a packet to this address is for everybody.
    pub fn is_for_all(&self, to: Ipv4Addr) -> bool {
        to.is_multicast() || to == Ipv4Addr::BROADCAST || to == self.broadcast_ip
    }

    /// Sends a packet from `member`, a `peer` of the device, to whom it is for, over the same bytes.
    fn route(
        &mut self,
        turn: &mut Turn<'_>,
        member: MemberId,
        peer: PeerIndex,
        inner: InnerPacket,
        datagram: &mut [u8],
        source: SocketAddr,
    ) -> Result<(), DropReason> {
        let InnerPacket { destination, length, .. } = inner;
        if destination == self.ip && self.is_local {
            let packet = &datagram[TRANSPORT_HEADER_LENGTH..][..length];
            return local::deliver(turn, member, packet, source);
        }
        let next = if destination == self.ip {
            let packet = &mut datagram[TRANSPORT_HEADER_LENGTH..][..length];
            let answered = Ipv4::parse(packet).is_some_and(|mut packet| packet.answer_echo());
            if !answered {
                return Err(DropReason::InnerDestination);
            }
            peer
        } else {
            let next = self.device.route(destination).filter(|&next| next != peer);
            next.ok_or(DropReason::InnerDestination)?
        };
        let &receiver = self.members.get(&next).ok_or(DropReason::InnerDestination)?;
        let RelayState { roster, admission, .. } = &mut *turn.state;
        let party = roster.shared_party(member, receiver).ok_or(DropReason::OtherParty)?;
        let bucket = admission.address_bucket(source);
        if !admission.data(roster, member, party, bucket, datagram.len(), turn.now.instant) {
            return Err(DropReason::DataLimit);
        }
        match self.device.send(next, datagram, length, turn.now) {
            SendOutcome::Sealed { to, length } => {
                let path = path_to(turn.state, receiver, to).ok_or(DropReason::Unproven)?;
                turn.state.count_data(member, receiver, 1, length, turn.now);
                turn.state.stats.add(Traffic::Hub, length);
                turn.forward(path, &datagram[..length]);
                Ok(())
            }
            SendOutcome::Staged => Ok(()),
            SendOutcome::Dropped => Err(DropReason::NoSession),
        }
    }

    /// Seals a copy for `receiver` in the scratch buffer.
    pub(super) fn seal_copy(
        &mut self,
        turn: &mut Turn<'_>,
        peer: PeerIndex,
        receiver: MemberId,
        packet: &[u8],
    ) -> Option<(Path, usize)> {
        let copy = &mut self.scratch[TRANSPORT_HEADER_LENGTH..][..packet.len()];
        copy.copy_from_slice(packet);
        Ipv4::parse(copy)?.set_destination(turn.state.roster.get(receiver)?.ip);
        match self.device.send(peer, &mut self.scratch, packet.len(), turn.now) {
            SendOutcome::Sealed { to, length } => {
                path_to(turn.state, receiver, to).map(|path| (path, length))
            }
            _ => None,
        }
    }

    /// Sends what the device wants to send of its own accord; answers to what came from `arrived` go back the way it
    /// came.
    pub fn drain(&mut self, turn: &mut Turn<'_>, arrived: Option<Path>) {
        while let Some(Outgoing { peer, to, length }) = self.device.poll(turn.now, &mut self.scratch) {
            let back = arrived.filter(|path| path.remote == to);
            let mut path = back.unwrap_or_else(|| turn.state.sources.path(to));
            if let Some(peer) = peer {
                let kind = Message::parse(&self.scratch[..length]).map(|message| message.kind());
                let Some(told) = self.may_send(turn.state, peer, to, kind, length) else {
                    turn.state.stats.drop(DropReason::Unproven);
                    continue;
                };
                path = told.unwrap_or(path);
            }
            // What has no peer is a cookie reply: shorter than what it answers, which has just come.
            turn.send(path, &self.scratch[..length]);
        }
    }

    /// Whether a message of the device's may go to a member at `to`, and by which path if that is known.
    fn may_send(
        &mut self,
        state: &mut RelayState,
        peer: PeerIndex,
        to: SocketAddr,
        kind: Option<Type>,
        length: usize,
    ) -> Option<Option<Path>> {
        let Some(&member) = self.members.get(&peer) else {
            // A guest gets answers to its handshakes: they are shorter than what they answer.
            return (kind == Some(Type::Response)).then_some(None);
        };
        if kind == Some(Type::Transport) {
            return path_to(state, member, to).map(Some);
        }
        let session = state.roster.state(member)?.hub_mut()?;
        let is_resumed = kind == Some(Type::Initiation)
            && session.resumption.as_mut().is_some_and(|resumption| resumption.take(to));
        if !is_resumed && !state.sources.spend(to, length) {
            return None;
        }
        let session = state.roster.state(member)?.hub_mut()?;
        match kind {
            Some(Type::Initiation) => session.initiated_to = Some(to),
            Some(Type::Response) => session.answered_to = Some(to),
            _ => (),
        }
        Some(None)
    }

    /// Keeps the addresses of members that the hub heard of since `since`, and lets go of those whose session
    /// is over.
    pub fn sweep(&mut self, state: &mut RelayState, since: Instant, now: Instant) {
        for (&peer, &member) in &self.members {
            let heard = self.device.stats(peer).and_then(|stats| stats.last_received);
            let Some(presence) = state.roster.state(member).and_then(|state| state.presence_mut()) else {
                continue;
            };
            let Some(session) = &mut presence.hub else { continue };
            if let (Some(heard), Some(path)) = (heard, session.path)
                && heard >= since
            {
                state.sources.touch(path.remote, heard);
            }
            session.resumption.take_if(|resumption| resumption.is_over(now));
            if session.path.is_some_and(|path| !state.sources.contains(path.remote))
                || !self.device.can_send(peer, now)
            {
                session.path = None;
                presence.endpoints.hub = None;
            }
        }
    }
}

/// The path by which data may go to a member at `to`: only if that is known to arrive (rule 8).
pub(super) fn path_to(state: &RelayState, member: MemberId, to: SocketAddr) -> Option<Path> {
    state.roster.get(member)?.state.hub()?.path.filter(|path| path.remote == to)
}

/// Whether an address that no mate of `member` has is for everybody, by the /24 that it may have been given.
fn is_for_all_of_24(state: &RelayState, member: MemberId, to: Ipv4Addr) -> bool {
    let ip_of = |id| state.roster.get(id).map(|member| member.ip);
    ip_of(member).is_some_and(|own| ip::is_broadcast_of_24(own, to))
        && !state.roster.mates(member).any(|mate| ip_of(mate) == Some(to))
}
