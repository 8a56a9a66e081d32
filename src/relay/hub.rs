//! The relay's own WireGuard identity: what stock apps have as their only peer, and others besides their
//! peers, so that they roam with authentication.

use crate::crypto::x25519::{PrivateKey, PublicKey};
use crate::datagram::Path;
use crate::keyed_hash::KeyedState;
use crate::relay::blind::Blind;
use crate::relay::books::Books;
use crate::relay::greetings::{Greeting, Greetings};
use crate::relay::roster::MemberId;
use crate::relay::stats::{DropReason, Reach};
use crate::relay::{Arrival, Output};
use crate::time::{Instant, Now};
use crate::wire::ip::Ipv4;
use crate::wireguard::allowed_ips::Prefix;
use crate::wireguard::device::{Config, Device};
use crate::wireguard::inner_packet::InnerPacket;
use crate::wireguard::message::{INITIATION_LENGTH, Message, TRANSPORT_HEADER_LENGTH, Type};
use crate::wireguard::noise::{Claim, LocalIdentity};
use crate::wireguard::peer::{PeerConfig, PeerIndex};
use crate::wireguard::verdict::{Accepted, Content, Outgoing, Reason, Rejection, Sent, Verdict};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Room for what the hub sends of its own accord and for copies of broadcasts, in bytes. A packet of the
/// virtual LAN is at most 1420 long.
const SCRATCH_LENGTH: usize = 2048;

/// Members that may be asked for a proof of their address at the same time; others are asked later.
const MAX_UNPROVEN: usize = 64;

/// A member that has come to the hub.
pub(super) struct Spoke {
    pub member: MemberId,
    /// The address at which it is known to receive what we send.
    pub proven_at: Option<SocketAddr>,
    /// Where our last initiation to it went.
    initiated_to: Option<SocketAddr>,
    /// Where our last answer to its initiation went.
    answered_to: Option<SocketAddr>,
    /// The last broadcast that it has had.
    pub round: u64,
    /// It had a session before a restart, and none since.
    pub greeting: Option<Greeting>,
}

/// The hub.
pub(super) struct Hub {
    pub device: Device,
    /// The same identity once more: to read who an initiation says it is from.
    identity: LocalIdentity,
    pub spokes: HashMap<PeerIndex, Spoke, KeyedState>,
    /// Which peer of the device each member is, by slot.
    by_member: Vec<Option<PeerIndex>>,
    pub ip: Ipv4Addr,
    pub broadcast_ip: Ipv4Addr,
    /// Whether this machine itself is at that address.
    pub is_local: bool,
    pub scratch: Box<[u8]>,
    pub rounds: u64,
    /// Members that have shown up somewhere and must prove it.
    unproven: Vec<PeerIndex>,
    pub greetings: Greetings,
}

impl Hub {
    pub fn new(
        config: Config,
        ip: Ipv4Addr,
        broadcast_ip: Ipv4Addr,
        hasher: KeyedState,
        now: Instant,
    ) -> Self {
        Hub {
            identity: LocalIdentity::new(PrivateKey::from_bytes(*config.private_key.to_bytes())),
            device: Device::new(config, now),
            spokes: HashMap::with_hasher(hasher),
            by_member: Vec::new(),
            ip,
            broadcast_ip,
            is_local: false,
            scratch: vec![0; SCRATCH_LENGTH].into(),
            rounds: 0,
            unproven: Vec::new(),
            greetings: Greetings::default(),
        }
    }

    pub fn reserve(&mut self, members: usize) {
        if self.by_member.len() < members {
            self.by_member.resize(members, None);
        }
    }

    pub fn peer_of(&self, member: MemberId) -> Option<PeerIndex> {
        let peer = (*self.by_member.get(member.slot())?)?;
        self.spokes.get(&peer).is_some_and(|spoke| spoke.member == member).then_some(peer)
    }

    /// One more than the highest slot of a member.
    pub fn member_slots(&self) -> usize {
        self.by_member.len()
    }

    /// The member with this slot, if it has come to the hub.
    pub fn spoke_in(&self, slot: usize) -> Option<(PeerIndex, MemberId)> {
        let peer = (*self.by_member.get(slot)?)?;
        Some((peer, self.spokes.get(&peer)?.member))
    }

    /// Takes a member in, when it first comes: most never do, and a peer of the device is not small.
    pub fn adopt(&mut self, books: &Books, key: &PublicKey, now: Instant) -> Option<PeerIndex> {
        let id = books.roster.with_key(key)?;
        let member = books.roster.get(id)?;
        let allowed_ips = vec![Prefix::host(member.ip.into())];
        let config = PeerConfig { allowed_ips, ..PeerConfig::new(member.key) };
        let peer = self.device.add_peer(config, now).ok()?;
        let spoke = Spoke {
            member: id,
            proven_at: None,
            initiated_to: None,
            answered_to: None,
            round: 0,
            greeting: None,
        };
        self.spokes.insert(peer, spoke);
        self.by_member[id.slot()] = Some(peer);
        Some(peer)
    }

    /// A member has another address in the virtual LAN.
    pub fn readdress(&mut self, member: MemberId, old: Ipv4Addr, new: Ipv4Addr) {
        if let Some(peer) = self.peer_of(member) {
            if self.device.route(old.into()) == Some(peer) {
                self.device.disallow(Prefix::host(old.into()));
            }
            self.device.allow(peer, Prefix::host(new.into()));
        }
    }

    /// Removes a member that is gone, with its session.
    pub fn remove(&mut self, member: MemberId) {
        if let Some(peer) = self.peer_of(member) {
            self.device.remove_peer(peer);
            self.spokes.remove(&peer);
            self.unproven.retain(|&other| other != peer);
            self.by_member[member.slot()] = None;
        }
    }

    /// Takes a datagram that is for the hub.
    pub fn receive(
        &mut self,
        books: &mut Books,
        blind: &mut Blind,
        datagram: &mut [u8],
        arrival: Arrival,
        out: &mut dyn Output,
    ) -> Result<(), DropReason> {
        let (source, now) = (arrival.source(), arrival.now);
        let mut verdict = self.device.receive(datagram, source, now);
        if verdict == Verdict::Dropped(Reason::UnknownPeer)
            && let Some(Message::Initiation(message)) = Message::parse(datagram)
            && let Some(claim) = Claim::read(&self.identity, message)
            && self.adopt(books, claim.public_key(), now.instant).is_some()
        {
            verdict = self.device.receive(datagram, source, now);
        }
        let result = match verdict {
            Verdict::Accepted(accepted) => self.accept(books, blind, accepted, datagram, arrival, out),
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
        self.drain(books, now, out);
        result
    }

    fn accept(
        &mut self,
        books: &mut Books,
        blind: &mut Blind,
        accepted: Accepted,
        datagram: &mut [u8],
        arrival: Arrival,
        out: &mut dyn Output,
    ) -> Result<(), DropReason> {
        let (source, now) = (arrival.source(), arrival.now);
        let Accepted { peer, content, established, .. } = accepted;
        let spoke = self.spokes.get_mut(&peer).ok_or(DropReason::HubUnknownPeer)?;
        let member = spoke.member;
        if established && let Some(stats) = books.members.get_mut(member.slot()) {
            stats.last_handshake = Some(now.instant);
        }
        if spoke.proven_at != Some(source) {
            books.sources.note(source, &books.limits, now.instant);
            books.sources.credit(source, datagram.len());
            let told = if content == Content::Handshake { spoke.initiated_to } else { spoke.answered_to };
            if established && told == Some(source) {
                books.sources.prove(source, now.instant);
                spoke.proven_at = Some(source);
                spoke.greeting = None;
                books.place(member, source);
            } else if content != Content::Handshake {
                // Whoever else was shown to be there, this member must prove it itself: by a handshake, once it
                // has given enough to be sent one.
                if self.unproven.len() < MAX_UNPROVEN && !self.unproven.contains(&peer) {
                    self.unproven.push(peer);
                }
                self.ask(books, arrival);
            }
        }
        let is_proven = self.spokes.get(&peer).is_some_and(|spoke| spoke.proven_at == Some(source));
        if is_proven
            && books.bindings.hub(member) != Some(source)
            && books.admission.relocation(member, &books.limits, now.instant)
        {
            books.bindings.set_hub(member, Some(source));
            blind.relocate(books, member, source);
            if let Some(stats) = books.members.get_mut(member.slot()) {
                stats.path = Reach::Hub;
            }
        }
        match content {
            Content::Handshake | Content::Keepalive => Ok(()),
            Content::Rejected(Rejection::Malformed) => Err(DropReason::HubMalformed),
            Content::Rejected(Rejection::Source) => Err(DropReason::InnerSource),
            Content::Packet { inner, .. } => match inner.destination {
                IpAddr::V4(to) if self.is_for_all(to) => {
                    self.broadcast(books, member, datagram, inner.length, now, out)
                }
                _ => self.forward(books, peer, inner, datagram, arrival, out),
            },
        }
    }

    /// Begins a handshake with a member that has shown up where this came from, if that has given as much as it
    /// takes; whether something is to be [sent](Hub::drain) now.
    pub fn ask(&mut self, books: &Books, arrival: Arrival) -> bool {
        let (source, now) = (arrival.source(), arrival.now);
        let Hub { unproven, device, .. } = self;
        if unproven.is_empty() || !books.sources.can_charge(source, INITIATION_LENGTH) {
            return false;
        }
        let at = |peer: PeerIndex| device.stats(peer).and_then(|stats| stats.endpoint);
        let Some(place) = unproven.iter().position(|&peer| at(peer) == Some(source)) else { return false };
        device.connect(unproven.swap_remove(place), now);
        true
    }

    /// Asks a member with a session whether it is where this came from: a flow of its says so, which anybody may have
    /// sent. Whether something is to be [sent](Hub::drain) now.
    pub fn seek(&mut self, books: &Books, member: MemberId, arrival: Arrival) -> bool {
        let (source, now) = (arrival.source(), arrival.now);
        let Some(peer) = self.peer_of(member) else { return false };
        let elsewhere = self.spokes.get(&peer).is_some_and(|spoke| spoke.proven_at != Some(source));
        let may_ask = elsewhere && books.sources.can_charge(source, INITIATION_LENGTH);
        may_ask && self.device.can_send(peer, now.instant) && self.device.probe(peer, source, now)
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

    /// Sends a packet from `peer` on, over the same bytes.
    fn forward(
        &mut self,
        books: &mut Books,
        peer: PeerIndex,
        inner: InnerPacket,
        datagram: &mut [u8],
        arrival: Arrival,
        out: &mut dyn Output,
    ) -> Result<(), DropReason> {
        let InnerPacket { destination, length, .. } = inner;
        let (source, now) = (arrival.source(), arrival.now);
        if destination == self.ip && self.is_local {
            return self.deliver(books, peer, &datagram[TRANSPORT_HEADER_LENGTH..][..length], arrival, out);
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
        let member = self.spokes.get(&peer).ok_or(DropReason::HubUnknownPeer)?.member;
        let receiver = self.spokes.get(&next).ok_or(DropReason::InnerDestination)?.member;
        let party = books.roster.shared_party(member, receiver).ok_or(DropReason::OtherParty)?;
        let bucket = books.admission.address_bucket(source);
        if !books.admission.data(member, party, bucket, datagram.len(), now.instant) {
            return Err(DropReason::DataLimit);
        }
        match self.device.send(next, datagram, length, now) {
            Sent::Sealed { to, length } => {
                if !self.may_send(next, to) {
                    return Err(DropReason::Unproven);
                }
                books.count_data(member, receiver, 1, length);
                books.stats.hub.add(length);
                books.forward(Path::to(to), &datagram[..length], out);
                Ok(())
            }
            Sent::Staged => Ok(()),
            Sent::Dropped => Err(DropReason::NoSession),
        }
    }

    /// Whether data may go to the peer at `to`: only if that is known to arrive (rule 8).
    pub fn may_send(&self, peer: PeerIndex, to: SocketAddr) -> bool {
        self.spokes.get(&peer).is_some_and(|spoke| spoke.proven_at == Some(to))
    }

    /// Sends what the device wants to send of its own accord.
    pub fn drain(&mut self, books: &mut Books, now: Now, out: &mut dyn Output) {
        while let Some(Outgoing { peer, to, length }) = self.device.poll(now, &mut self.scratch) {
            if let Some(peer) = peer {
                let kind = Message::parse(&self.scratch[..length]).map(|message| message.kind());
                let may_send = match kind {
                    Some(Type::Transport) => self.may_send(peer, to),
                    Some(Type::Initiation) if self.is_greeting(peer, to) => true,
                    _ => books.sources.charge(to, length),
                };
                if !may_send {
                    books.stats.drop(DropReason::Unproven);
                    continue;
                }
                if let Some(spoke) = self.spokes.get_mut(&peer) {
                    match kind {
                        Some(Type::Initiation) => spoke.initiated_to = Some(to),
                        Some(Type::Response) => spoke.answered_to = Some(to),
                        _ => (),
                    }
                }
            }
            // What has no peer is a cookie reply: shorter than what it answers, which has just come.
            books.send(Path::to(to), &self.scratch[..length], out);
        }
    }

    /// Keeps the addresses of members that the hub heard of since `since`, and lets go of those whose session
    /// is over.
    pub fn sweep(&mut self, books: &mut Books, since: Instant, now: Instant) {
        // Who still must prove its address says so again.
        self.unproven.clear();
        for (&peer, spoke) in &mut self.spokes {
            let heard = self.device.stats(peer).and_then(|stats| stats.last_received);
            if let (Some(heard), Some(address)) = (heard, spoke.proven_at)
                && heard >= since
            {
                books.sources.touch(address, heard);
            }
            spoke.greeting.take_if(|greeting| greeting.is_over(now));
            if spoke.proven_at.is_some_and(|address| !books.sources.contains(address))
                || !self.device.can_send(peer, now)
            {
                spoke.proven_at = None;
                books.bindings.set_hub(spoke.member, None);
            }
        }
    }
}
