//! Floor 3: the relay, sans-IO. One UDP port forwards WireGuard between members, ends it for those who have
//! the relay itself as a peer, and answers STUN.
//!
//! Per datagram, in this order: STUN, the hub, blind flows, drop. The caller owns the sockets. It hands each
//! datagram to [`Relay::receive`], as it lies in its buffer (no headroom is needed), and calls
//! [`Relay::poll`] when [`Relay::poll_timeout`] says so; what is to be sent comes out through [`Output`].

pub mod flow_key;
pub mod limits;
pub mod link;
pub mod roster;
pub mod snapshot;

mod admission;
mod blind;
mod broadcast;
mod candidates;
mod endpoints;
mod flows;
mod hub;
mod local;
mod member;
mod pacing;
mod pending;
mod postponed;
mod resumption;
mod rules;
#[cfg(test)]
mod search;
mod sources;
mod state;
mod stun;

use crate::crypto::random::Seeded;
use crate::crypto::x25519::{PrivateKey, PublicKey};
use crate::datagram::Path;
use crate::figures::{
    DropReason, Drops, Figure, MemberStats, Reach, Readings, RelayStats, Resource, Traffic,
};
use crate::ids::{PartyId, PeerId};
use crate::keyed_hash::KeyedState;
use crate::relay::admission::RateLimiter;
use crate::relay::blind::Blind;
use crate::relay::flow_key::unmapped;
use crate::relay::hub::Hub;
use crate::relay::limits::{RelayLimits, SWEEP_INTERVAL};
use crate::relay::postponed::{Postponed, PostponedInitiation};
use crate::relay::roster::{JoinError, MemberId};
use crate::relay::rules::Rule;
use crate::relay::snapshot::SnapshotKey;
use crate::relay::sources::Sources;
use crate::relay::state::{RelayState, Turn};
use crate::subnet::Subnet;
use crate::time::{Instant, Now};
use crate::wire::stun::is_stun;
use crate::wireguard::device::DeviceSettings;
use crate::wireguard::message::{KEEPALIVE_LENGTH, Message, TRANSPORT_HEADER_LENGTH};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Room before and behind a packet that this machine itself sends, in bytes, so that it can be sealed in place.
pub const LOCAL_HEADROOM: usize = TRANSPORT_HEADER_LENGTH;

/// One of our two UDP ports.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Port {
    /// The one for everything.
    Main,
    /// The one that only answers STUN, so that agents can tell NAT types.
    Alternate,
}

impl Port {
    /// The other one.
    pub fn other(self) -> Port {
        match self {
            Port::Main => Port::Alternate,
            Port::Alternate => Port::Main,
        }
    }
}

/// Where and when a datagram came.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Who sent it, and to which address of ours.
    pub path: Path,
    /// To which port of ours.
    pub port: Port,
    /// When.
    pub now: Now,
}

impl Arrival {
    /// From `source`, to whichever address of ours.
    pub fn new(source: SocketAddr, port: Port, now: Now) -> Self {
        Arrival { path: Path::to(source), port, now }
    }

    fn source(&self) -> SocketAddr {
        self.path.remote
    }

    /// With the sender in the one spelling that it is compared in.
    fn unmapped(self) -> Self {
        Arrival { path: Path { remote: unmapped(self.path.remote), ..self.path }, ..self }
    }
}

/// Datagrams of one flow that lie one behind the other.
#[derive(Clone, Copy)]
struct DatagramRun<'a> {
    /// All of them.
    bytes: &'a [u8],
    /// The length of each but the last, which may be shorter, in bytes; not 0.
    segment: usize,
    /// How many they are.
    count: usize,
}

/// Takes what is to be sent, and copies it or sends it at once: it lies in the buffer that the relay was given, or
/// in its own.
pub trait Output {
    /// Sends on what is being received, from the main port and with its traffic class: `received` is the beginning of
    /// the bytes that the relay was given, datagrams of `segment` bytes each but the last, which may be shorter.
    fn forward(&mut self, to: Path, received: &[u8], segment: usize);

    /// Sends a datagram that lies elsewhere, from one of our ports.
    fn send(&mut self, to: Path, from: Port, datagram: &[u8]);

    /// Hands a member's packet to this machine itself, [if that takes part](Relay::take_part); whether it was taken.
    fn deliver(&mut self, _packet: &[u8]) -> bool {
        false
    }
}

/// For who only wants to know what is sent where.
impl<F: FnMut(SocketAddr, Port, &[u8])> Output for F {
    fn forward(&mut self, to: Path, received: &[u8], segment: usize) {
        received.chunks(segment).for_each(|datagram| self(to.remote, Port::Main, datagram));
    }

    fn send(&mut self, to: Path, from: Port, datagram: &[u8]) {
        self(to.remote, from, datagram);
    }
}

/// What a relay has to be told.
pub struct RelaySettings {
    /// The hub's private key.
    pub hub_key: PrivateKey,
    /// The virtual LAN.
    pub subnet: Subnet,
    /// The longest inner packet, in bytes, that padding may not make longer.
    pub mtu: usize,
    /// The last [`Relay::take_stamp_mark`] that was stored, 0 if none was.
    pub stamp_mark: u64,
    /// Decides how tables hash, so it should be secret, and the jitter of the hub's retries.
    pub seed: u64,
    /// What it may hold and do.
    pub limits: RelayLimits,
}

/// What a datagram is by its first byte, in a word for people.
pub fn kind(datagram: &[u8]) -> &'static str {
    match datagram.first() {
        _ if is_stun(datagram) => "STUN",
        Some(1) => "initiation",
        Some(2) => "response",
        Some(3) => "cookie reply",
        Some(4) => "data",
        _ => "unknown",
    }
}

/// The relay.
pub struct Relay {
    state: RelayState,
    blind: Blind,
    hub: Hub,
    postponed: Postponed,
    snapshot_key: SnapshotKey,
    swept: Instant,
}

impl Relay {
    /// A relay that serves nobody yet.
    pub fn new(settings: RelaySettings, now: Instant) -> Self {
        let RelaySettings { hub_key, subnet, mtu, stamp_mark, seed, limits } = settings;
        let mut random = Seeded::new(seed);
        let hasher = KeyedState::new(random.next_u64(), random.next_u64());
        let snapshot_key = SnapshotKey::new(&hub_key);
        let (jitter_seed, x25519) = (random.next_u64(), limits.x25519);
        let postponed = Postponed::new(x25519, hasher, now);
        let device = DeviceSettings { private_key: hub_key, mtu, stamp_mark, jitter_seed, x25519 };
        Relay {
            state: RelayState::new(limits, hasher, random.next_u64()),
            blind: Blind::new(hasher, random.next_u64()),
            hub: Hub::new(device, subnet.hub(), subnet.broadcast(), hasher, now),
            postponed,
            snapshot_key,
            swept: now,
        }
    }

    /// The hub's public key.
    pub fn hub_key(&self) -> &PublicKey {
        self.hub.device.public_key()
    }

    /// From now on this machine itself is in the virtual LAN, under the hub's address and in every party: what is
    /// for that address is [delivered](Output::deliver), and [`Relay::send_local`] sends what comes from there.
    pub fn take_part(&mut self) {
        self.hub.is_local = true;
    }

    /// `peer` is in `party`, with this key and this address in the virtual LAN; again, if either has changed.
    pub fn join(
        &mut self,
        party: &PartyId,
        peer: &PeerId,
        key: PublicKey,
        ip: Ipv4Addr,
        now: Instant,
    ) -> Result<(), JoinError> {
        if key == *self.hub_key() {
            return Err(JoinError::BadKey);
        }
        // A guest whose claim is granted stays in the hub.
        self.state.roster.forget_claim(party, peer);
        let before = self.state.roster.with_key(&key);
        if self.state.roster.find(party, peer).is_some_and(|known| Some(known) != before) {
            self.leave(party, peer, now);
        }
        let old_ip = before.and_then(|id| self.state.roster.get(id)).map(|member| member.ip);
        let id = self.state.roster.join(party, peer, key, ip, &self.state.limits)?;
        if let Some(old) = old_ip.filter(|&old| old != ip)
            && let Some(member) = self.state.roster.get(id)
        {
            self.hub.readdress(member, old, ip);
        }
        Ok(())
    }

    /// The member with this key speaks to the control plane from this address: there it may be (rule 4).
    pub fn set_origin(&mut self, key: &PublicKey, origin: Option<IpAddr>) {
        if let Some(id) = self.state.roster.with_key(key) {
            self.state.roster.set_origin(id, origin);
        }
    }

    /// `peer` in `party` says to have `key`, and is not served before that is proven: the hub completes handshakes with
    /// it that come from where `from` is, and [tells](Relay::take_handshakes) of them.
    pub fn claim(&mut self, party: &PartyId, peer: &PeerId, key: PublicKey, from: IpAddr, now: Instant) {
        self.leave(party, peer, now);
        if key.canonical() == key && !key.is_low_order() {
            self.state.roster.claim(party, peer, key, from);
        }
    }

    /// Keys that completed a handshake with the hub since last asked, and from which addresses.
    pub fn take_handshakes(&mut self) -> Vec<(PublicKey, IpAddr)> {
        std::mem::take(&mut self.hub.handshakes)
    }

    /// `peer` is no more in `party`: what it had there ends at once, flows and hub session.
    pub fn leave(&mut self, party: &PartyId, peer: &PeerId, now: Instant) {
        if let Some(unclaimed) = self.state.roster.forget_claim(party, peer) {
            self.hub.dismiss(&unclaimed);
        }
        let id = self.state.roster.find(party, peer);
        let mates: Vec<_> = id.into_iter().flat_map(|id| self.state.roster.mates(id)).collect();
        let Some((id, gone)) = self.state.roster.leave(party, peer) else { return };
        let presence = match &gone {
            Some(gone) => gone.state.presence(),
            None => self.state.roster.get(id).and_then(|member| member.state.presence()),
        };
        let flows = presence.map(|presence| presence.flows.clone()).unwrap_or_default();
        self.blind.end(&mut self.state, id, &flows, now);
        for mate in mates {
            self.forget_word(id, mate);
        }
        if let Some(gone) = gone {
            self.hub.remove(&gone);
            self.state.sources.forget_member(id);
        }
    }

    /// What `witness` has shown of `member` counts no more, unless they still share a party.
    fn forget_word(&mut self, witness: MemberId, member: MemberId) {
        let RelayState { roster, sources, .. } = &mut self.state;
        if witness == member || roster.shared_party(witness, member).is_some() {
            return;
        }
        let Some(presence) = roster.state(member).and_then(|state| state.presence_mut()) else { return };
        let hub = presence.endpoints.hub;
        for address in presence.endpoints.forget_witness(witness) {
            if hub.is_none_or(|hub| hub.remote != address) {
                sources.unset_member(address, member);
            }
        }
    }

    /// Takes a datagram. A hub packet is opened, and sealed again, in place, so the bytes are of no use afterwards.
    /// What went wrong is counted, too.
    pub fn receive(
        &mut self,
        datagram: &mut [u8],
        arrival: Arrival,
        out: &mut dyn Output,
    ) -> Result<(), DropReason> {
        self.state.stats.add(Traffic::Received, datagram.len());
        let arrival = arrival.unmapped();
        let source = arrival.source();
        log::trace!(
            "received: {}, {} bytes, from {source} ({})",
            kind(datagram),
            datagram.len(),
            self.state.who(source)
        );
        let result = self.dispatch(datagram, arrival, out);
        if let Err(reason) = result {
            self.state.drop(source, reason);
        }
        result
    }

    /// Takes datagrams that came as one and lie one behind the other: each of `segment` bytes but the last, which may
    /// be shorter. Handles as many as can be handled together, at least one, and returns how many bytes that were.
    /// What went wrong is counted.
    pub fn receive_run(
        &mut self,
        run: &mut [u8],
        segment: usize,
        arrival: Arrival,
        out: &mut dyn Output,
    ) -> usize {
        if arrival.port == Port::Main
            && let Some((receiver, count, length)) = alike(run, segment)
            && !self.hub.device.owns_index(receiver)
        {
            let run = DatagramRun { bytes: &run[..length], segment, count };
            let mut turn = Turn { state: &mut self.state, now: arrival.now, out };
            if self.blind.on_run(&mut turn, run, receiver, arrival.unmapped().source()) {
                return length;
            }
        }
        let length = if segment == 0 { run.len() } else { segment.min(run.len()) };
        let _ = self.receive(&mut run[..length], arrival, out);
        length
    }

    fn dispatch(
        &mut self,
        datagram: &mut [u8],
        arrival: Arrival,
        out: &mut dyn Output,
    ) -> Result<(), DropReason> {
        let Relay { state, blind, hub, postponed, .. } = self;
        let (from, source) = (arrival.path, arrival.source());
        let turn = &mut Turn { state, now: arrival.now, out };
        if is_stun(datagram) {
            return stun::answer(turn, datagram, arrival);
        }
        let message = Message::parse(datagram).ok_or(DropReason::Unknown)?;
        if arrival.port == Port::Alternate {
            return Err(DropReason::WrongPort);
        }
        if hub.is_inside(source.ip()) {
            // A tunnel within the tunnel: its packets would be carried to their own carrier.
            return Err(DropReason::LocalSource);
        }
        let for_hub = match message {
            Message::Initiation(message) => {
                let is_for_hub = hub.device.mac1_key().matches(message.bytes());
                let RelayState { sources, admission, limits, .. } = &mut *turn.state;
                // Somebody may write a member's address on what he sends: that must not cost the member its share.
                let is_known = is_for_hub && sources.is_proven(source);
                if !is_known && !take_handshake(sources, admission, limits, source, turn.now.instant) {
                    return Err(DropReason::HandshakeLimit);
                }
                if is_for_hub && !postponed.has_room(hub.device.x25519_count(), turn.now.instant) {
                    let is_expected = turn.state.is_expected(source);
                    if let Some(refused) = postponed.push(from, *message.bytes(), is_expected) {
                        turn.state.drop(refused.remote, DropReason::HandshakeLimit);
                    }
                    return Ok(());
                }
                is_for_hub
            }
            Message::Response(message) => hub.device.owns_index(message.receiver()),
            Message::CookieReply(message) => hub.device.owns_index(message.receiver()),
            Message::Transport(message) => hub.device.owns_index(message.receiver()),
        };
        if for_hub {
            return hub.receive(blind, turn, datagram, from);
        }
        match message {
            Message::Initiation(message) => blind.on_initiation(turn, message, from),
            Message::Response(message) => {
                let is_taken = |index| hub.device.owns_index(index);
                blind.on_response(turn, message, from, is_taken)
            }
            Message::CookieReply(message) => {
                blind.on_cookie_reply(turn, datagram, message.receiver(), source)
            }
            Message::Transport(message) => {
                let result = blind.on_data(turn, datagram, message.receiver(), from);
                if result == Err(DropReason::NoFlow) {
                    let sighted = blind.on_stray(turn, datagram.len(), message.receiver(), from);
                    // Who has roamed may have given enough by this to be asked who it is.
                    if sighted.is_some_and(|id| hub.seek(turn, id, source)) {
                        hub.drain(turn, Some(from));
                    }
                }
                result
            }
        }
    }

    /// Takes a packet of `length` bytes from this machine itself, which lies in `buffer` behind
    /// [`LOCAL_HEADROOM`] bytes; as many behind it are used. It is sealed in place. What went wrong is counted.
    pub fn send_local(
        &mut self,
        buffer: &mut [u8],
        length: usize,
        now: Now,
        out: &mut dyn Output,
    ) -> Result<(), DropReason> {
        let turn = &mut Turn { state: &mut self.state, now, out };
        let result = local::send(&mut self.hub, turn, buffer, length);
        if let Err(reason) = result {
            turn.state.stats.drop(reason);
        }
        self.hub.drain(turn, None);
        result
    }

    /// When [`Relay::poll`] is to be called next; `None` for never.
    pub fn poll_timeout(&mut self) -> Option<Instant> {
        let is_idle = self.blind.is_empty() && self.state.sources.is_empty() && self.hub.members.is_empty();
        let sweep = (!is_idle).then(|| self.swept + SWEEP_INTERVAL);
        let hub = self.hub.device.poll_timeout();
        let waiting = [self.blind.pacer.next(), self.hub.resumptions.next(), self.postponed.next()];
        [sweep, hub].into_iter().chain(waiting).flatten().min()
    }

    /// Does what is due: sends what has waited, forgets what has expired.
    pub fn poll(&mut self, now: Now, out: &mut dyn Output) {
        let Relay { state, blind, hub, postponed, .. } = self;
        resumption::resume(hub, state, now);
        let turn = &mut Turn { state, now, out };
        hub.drain(turn, None);
        blind.poll(turn);
        while let Some(one) = postponed.pop(hub.device.x25519_count(), now.instant) {
            let PostponedInitiation { path, mut bytes, .. } = one;
            if let Err(reason) = hub.receive(blind, turn, &mut bytes, path) {
                turn.state.drop(path.remote, reason);
            }
        }
        if now.instant.since(self.swept) >= SWEEP_INTERVAL && Rule::Expiry.holds() {
            self.sweep(now.instant);
        }
    }

    fn sweep(&mut self, now: Instant) {
        let Relay { state, blind, hub, .. } = self;
        hub.sweep(state, self.swept, now);
        blind.sweep(state, now);
        state.sources.sweep(now);
        let RelayState { roster, sources, .. } = state;
        for (_, member) in roster.iter_mut() {
            let Some(presence) = member.state.presence_mut() else { continue };
            presence.endpoints.sweep(|address| sources.contains(address));
            let is_blind = presence.flows.iter().any(|&id| blind.flows.is_open(id));
            presence.stats.reach = match presence.endpoints.hub {
                Some(_) => Reach::Hub,
                None if is_blind => Reach::Blind,
                None => Reach::None,
            };
        }
        self.swept = now;
    }

    /// How many members a party may have from now on.
    pub fn set_members_per_party(&mut self, count: usize) {
        self.state.limits.members_per_party = count;
    }

    /// The mark that must be stored for the next [`RelaySettings::stamp_mark`], if it has moved since last asked.
    pub fn take_stamp_mark(&mut self) -> Option<u64> {
        self.hub.device.take_stamp_mark()
    }

    /// What the whole relay has counted.
    pub fn stats(&self) -> &RelayStats {
        &self.state.stats
    }

    /// X25519 computations that handshakes with the hub have cost.
    pub fn x25519_count(&self) -> u64 {
        self.hub.device.x25519_count()
    }

    /// How many members there are.
    pub fn member_count(&self) -> usize {
        self.state.roster.len()
    }

    /// How many members are reached, blind or through the hub. Looks at each.
    pub fn reachable_count(&self) -> usize {
        self.state.roster.iter().filter(|(_, member)| member.state.stats().reach != Reach::None).count()
    }

    /// How many blind sessions there are: half the number of directions.
    pub fn flow_count(&self) -> usize {
        self.blind.flows.len() / 2
    }

    /// How many sessions a [snapshot](Relay::snapshot) would have: blind ones and the hub's.
    pub fn session_count(&self) -> usize {
        self.flow_count() + self.hub.members.len()
    }

    /// Tells what was counted, how full the tables are that strangers can fill, and of whom.
    pub fn report(&self, out: &mut Readings) {
        let limits = &self.state.limits;
        out.stats.merge(&self.state.stats);
        out.set(Figure::Flows, self.flow_count() as u64);
        out.table(Resource::RelaySources, self.state.sources.held(), limits.sources);
        out.table(Resource::RelayPending, self.blind.pending.held(), limits.pending);
        out.table(Resource::RelayPaced, self.blind.pacer.held(), limits.paced);
        out.table(Resource::RelayFlows, self.blind.flows.held(), limits.flows);
    }

    /// What is counted of the member with this key.
    pub fn member_stats(&self, key: &PublicKey) -> Option<&MemberStats> {
        let id: MemberId = self.state.roster.with_key(key)?;
        Some(self.state.roster.get(id)?.state.stats())
    }

    /// What came from where the member with this key is known to be and went nowhere.
    pub fn member_drops(&self, key: &PublicKey) -> Option<&Drops> {
        let id: MemberId = self.state.roster.with_key(key)?;
        Some(&self.state.roster.get(id)?.state.presence()?.drops)
    }
}

/// Whether `source` may have one more initiation looked at.
fn take_handshake(
    sources: &mut Sources,
    admission: &mut RateLimiter,
    limits: &RelayLimits,
    source: SocketAddr,
    now: Instant,
) -> bool {
    let known = sources.take_handshake(source, limits.handshakes_per_source, now);
    known.unwrap_or_else(|| admission.handshake(source, limits, now))
}

/// How many datagrams at the start of a run are data with one receiver index, if there are several: the index,
/// how many, and their bytes.
fn alike(run: &[u8], segment: usize) -> Option<(u32, usize, usize)> {
    let first = run.get(..segment).filter(|first| first.len() < run.len())?;
    let Some(Message::Transport(message)) = Message::parse(first) else { return None };
    // Type, reserved bytes and index.
    let head = first.first_chunk::<8>()?;
    let alike = run
        .chunks(segment)
        .take_while(|other| other.len() >= KEEPALIVE_LENGTH && other.first_chunk() == Some(head));
    let (count, length) = alike.fold((0, 0), |(count, length), one| (count + 1, length + one.len()));
    (count > 1).then_some((message.receiver(), count, length))
}
