//! Floor 3: the player's side, sans-IO. Members of the party are peers of one WireGuard device. What is for a member goes
//! there by its session, else by the hub.
//!
//! The caller owns the one socket and the interface. It hands in datagrams and packets as they lie in its buffers, and calls
//! [`Agent::poll`] after each batch of them and when [`Agent::next`] says so; what is to be sent or delivered comes out through
//! [`AgentOutput`].

pub mod network;
pub mod portmap;
pub mod session;
pub mod view;

mod broadcast;
mod candidates;
mod choice;
mod copies;
mod ends;
mod explain;
mod handshake;
mod hubs;
pub mod lan;
mod links;
mod mappings;
mod mtu;
mod nat;
pub mod nat_check;
mod nat_watch;
mod offers;
mod pair;
mod path;
mod peers;
mod punch;
mod relays;
mod rendezvous;
mod spray;
mod standby;
mod turn;

use crate::agent::broadcast::Announcements;
use crate::agent::candidates::{Locality, read_signal, write_signal};
use crate::agent::ends::Ends;
use crate::agent::lan::LanCalls;
use crate::agent::network::Network;
use crate::agent::pair::Pair;
use crate::agent::peers::Peers;
use crate::agent::turn::AgentTurn;
use crate::agent::view::{MemberView, NatView, OTHER_ADDRESSES};
use crate::crypto::random::Seeded;
use crate::crypto::x25519::{PrivateKey, PublicKey};
use crate::datagram::Path;
use crate::ids::PeerId;
use crate::time::{Instant, Now};
use crate::wire::ip::{IPV4_HEADER_LENGTH, Ipv4, UDP, is_broadcast_of_24};
use crate::wire::nat_type::NatType;
use crate::wire::probe::{MAX_PROBE_LENGTH, Probe};
use crate::wire::stun::is_stun;
use crate::wireguard::device::{Device, DeviceSettings, ReceiveOutcome};
use crate::wireguard::inner_packet::InnerPacket;
use crate::wireguard::message::{
    INITIATION_LENGTH, KEEPALIVE_LENGTH, Message, RESPONSE_LENGTH, TRANSPORT_HEADER_LENGTH,
};
use crate::wireguard::peer::PeerIndex;
use crate::wireguard::verdict::{Accepted, Content, Outgoing, SendOutcome, Verdict};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

/// Room before and behind a packet of this machine's, in bytes, so that it can be sealed in place.
pub const HEADROOM: usize = TRANSPORT_HEADER_LENGTH;
/// Room for what is sent of our own accord and for copies, in bytes.
const SCRATCH_LENGTH: usize = 2048;
/// The first byte of an IPv4 header without options.
const NO_OPTIONS: u8 = 0x40 | (IPV4_HEADER_LENGTH / 4) as u8;

/// Takes what is to be sent, and what is for this machine.
pub trait AgentOutput {
    /// Sends a datagram from the one socket.
    fn send(&mut self, to: Path, datagram: &[u8]);

    /// Sends a datagram from an [additional](SocketWish::Extra) socket, numbered from 1 on.
    fn send_from(&mut self, _socket: u16, _to: Path, _datagram: &[u8]) {}

    /// Hands a packet to this machine.
    fn deliver(&mut self, packet: &[u8]);
}

/// What an agent has to be told.
pub struct AgentSettings {
    /// Our private key.
    pub key: PrivateKey,
    /// The last [`Agent::take_stamp_mark`] that was stored, 0 if none was.
    pub stamp_mark: u64,
    /// The longest inner packet, in bytes.
    pub mtu: usize,
    /// Decides ids and the jitter of retries. No secret, but different at each start.
    pub seed: u64,
    /// How long an X25519 computation takes on this machine.
    pub x25519: Duration,
}

/// One player's agent.
pub struct Agent {
    device: Device,
    peers: Peers,
    locality: Locality,
    own_ip: Ipv4Addr,
    announcements: Announcements,
    random: Seeded,
    scratch: Box<[u8]>,
    signals: Vec<(PeerId, String)>,
    /// The hub does not know yet where we are.
    is_moving: bool,
    /// What others were told of the NAT.
    told: Option<(Option<SocketAddr>, NatType, [Option<IpAddr>; OTHER_ADDRESSES])>,
    /// When the hub was last heard, or another socket wanted because it was not.
    watched: Instant,
    lan: LanCalls,
}

impl Agent {
    /// An agent in no network.
    pub fn new(settings: AgentSettings, now: Instant) -> Self {
        let AgentSettings { key, stamp_mark, mtu, seed, x25519 } = settings;
        let mut random = Seeded::new(seed);
        let jitter_seed = random.next_u64();
        let device = DeviceSettings { private_key: key, mtu, stamp_mark, jitter_seed, x25519 };
        Agent {
            device: Device::new(device, now),
            peers: Peers::default(),
            locality: Locality::default(),
            own_ip: Ipv4Addr::UNSPECIFIED,
            announcements: Announcements::default(),
            random,
            scratch: vec![0; SCRATCH_LENGTH].into(),
            signals: Vec::new(),
            is_moving: true,
            told: None,
            watched: now,
            lan: LanCalls::default(),
        }
    }

    /// Our public key.
    pub fn public_key(&self) -> &PublicKey {
        self.device.public_key()
    }

    /// From now on this is the network: who is not in it has no session any more.
    pub fn set_network(&mut self, network: Network, now: Now) {
        let Network { own_ip, subnet, relay, members } = network;
        self.own_ip = own_ip;
        let is_first = self.locality.generation == 0;
        let has_moved = is_first || self.locality.relay != relay || self.locality.subnet != subnet;
        (self.locality.subnet, self.locality.relay) = (subnet, relay);
        if has_moved {
            (self.is_moving, self.watched) = (true, now.instant);
            // Which of them is the hub may be another one now.
            let list = std::mem::take(&mut self.locality.relays.list);
            self.set_relays(&[], now);
            self.peers.set_relay(&mut self.device, subnet, relay, now.instant);
            self.set_relays(&list, now);
            self.locality.begin_generation(now);
            self.locality.begin_nat(now.instant);
        }
        for known in &mut self.locality.relays.known {
            // Whoever registered a member's key as a relay's must not stand in its place.
            let key = known.listed.key.filter(|key| members.iter().any(|member| member.key == *key));
            let hub = known.hub.take_if(|_| key.is_some());
            hub.into_iter().for_each(|hub| _ = self.device.remove_peer(hub));
        }
        self.peers.set_members(&mut self.device, relay, members, now);
    }

    /// Another agent's offer, which came by the control plane.
    pub fn signal(&mut self, from: &PeerId, data: &str, now: Now) {
        let Some(bytes) = read_signal(data) else { return };
        let Some(Probe::Offer { offer, .. }) = Probe::parse(&bytes) else { return };
        let Agent { device, peers, locality, random, scratch, .. } = self;
        let Some(pair) = peers.with_id(from).filter(|pair| !pair.member.is_device) else { return };
        // What comes by a session is newer.
        if pair.offer.is_some_and(|known| known.generation >= offer.generation) {
            return;
        }
        let peer = pair.peer;
        let turn = &mut AgentTurn { device, locality, random, scratch, now, out: &mut Nowhere };
        pair.allowance += data.len();
        pair.on_offer(turn, offer);
        if self.device.can_send(peer, now.instant) {
            return;
        }
        match self.locality.relay {
            Some(_) => self.peers.want_session(&mut self.device, peer, now),
            // Nobody knew where to begin before.
            None => self.device.connect(peer, now),
        }
    }

    /// Offers for other agents that the control plane is to carry, since last asked.
    pub fn take_signals(&mut self) -> Vec<(PeerId, String)> {
        std::mem::take(&mut self.signals)
    }

    /// The mark that must be stored for the next [`AgentSettings::stamp_mark`], if it has moved since last asked.
    pub fn take_stamp_mark(&mut self) -> Option<u64> {
        self.device.take_stamp_mark()
    }

    /// The parts that a turn needs.
    fn turn<'a>(&'a mut self, now: Now, out: &'a mut dyn AgentOutput) -> (AgentTurn<'a>, &'a mut Peers) {
        let Agent { device, locality, random, scratch, peers, .. } = self;
        (AgentTurn { device, locality, random, scratch, now, out }, peers)
    }

    /// Takes a datagram. It is opened in place. [`Agent::poll`] is due after a batch of them.
    pub fn receive(&mut self, datagram: &mut [u8], path: Path, now: Now, out: &mut dyn AgentOutput) {
        self.receive_on(0, datagram, path, now, out);
    }

    /// Takes a datagram that came to an additional socket.
    pub fn receive_on(
        &mut self,
        socket: u16,
        datagram: &mut [u8],
        path: Path,
        now: Now,
        out: &mut dyn AgentOutput,
    ) {
        let from = Ends { path, socket };
        if !self.locality.is_unicast(path.remote.ip()) && !path.remote.ip().is_loopback() {
            // A tunnel within the tunnel: its packets would be carried to their own carrier.
            return;
        }
        if is_stun(datagram) {
            return self.locality.on_stun(datagram, path.remote, now.instant);
        }
        let initiation: Option<[u8; INITIATION_LENGTH]> = match Message::parse(datagram) {
            Some(Message::Initiation(message)) => Some(*message.bytes()),
            _ => None,
        };
        if let Some(message) = &initiation {
            let (mut turn, peers) = self.turn(now, out);
            if peers.answer_copy(&mut turn, message, from) {
                return;
            }
        }
        let is_expected =
            initiation.is_some() && (self.locality.is_relay(path) || self.peers.is_known(path.remote));
        let verdict = self.device.receive_from(datagram, path.remote, is_expected, now);
        if let ReceiveOutcome::Verdict(Verdict::Accepted(accepted)) = verdict {
            if let Some((message, pair)) = initiation.as_ref().zip(self.peers.pairs.get_mut(&accepted.peer)) {
                pair.on_initiation(message, now.instant);
            }
            self.accept(accepted, datagram, from, now, out);
        }
    }

    fn accept(
        &mut self,
        accepted: Accepted,
        datagram: &mut [u8],
        from: Ends,
        now: Now,
        out: &mut dyn AgentOutput,
    ) {
        let Accepted { peer, content, established, .. } = accepted;
        let path = from.path;
        if established && self.peers.is_hub(peer) && std::mem::take(&mut self.is_moving) {
            self.peers.on_hub(&mut self.device, &self.locality, now);
        }
        let (mut turn, peers) = self.turn(now, out);
        if let Some(pair) = peers.pairs.get_mut(&peer) {
            let is_data = matches!(content, Content::Packet { .. });
            // What answers an initiation is spent already.
            let is_asked = matches!(Message::parse(datagram), Some(Message::Initiation(_)));
            let spent = if is_asked { RESPONSE_LENGTH } else { 0 };
            let relay = pair.relay_path(turn.locality);
            pair.on_received(from, relay, datagram.len() - spent, is_data, now.instant);
            if established {
                pair.on_session(matches!(content, Content::Handshake), now.instant);
                let is_by_relay = relay.is_some_and(|relay| relay.remote == path.remote);
                let is_new = pair.path_mut(from, relay).is_none();
                if is_new && !is_by_relay && turn.locality.is_near(path.remote) {
                    pair.on_lan_session(&mut turn, from);
                }
            }
            if let Content::Probe(range) = &content
                && let Some(probe) = Probe::parse(&datagram[range.clone()])
            {
                pair.on_probe(&mut turn, from, probe);
            }
        }
        if let Content::Packet { range, inner } = content {
            self.take_packet(peer, inner, &datagram[range], now, out);
        }
    }

    /// Takes a packet that came from a member or through the hub.
    fn take_packet(
        &mut self,
        peer: PeerIndex,
        inner: InnerPacket,
        packet: &[u8],
        now: Now,
        out: &mut dyn AgentOutput,
    ) {
        let (IpAddr::V4(from), IpAddr::V4(to)) = (inner.source, inner.destination) else { return };
        // One with options is nobody's: by a source route it would ask to be passed on.
        if packet.first() != Some(&NO_OPTIONS) || from == self.own_ip {
            return;
        }
        let is_for_all = self.is_for_all(to);
        if !is_for_all && to != self.own_ip {
            return;
        }
        let by_hub = self.peers.is_hub(peer);
        // Whose packet the hub brings, its address says.
        let sender = self.device.route(from.into()).and_then(|peer| self.peers.pairs.get_mut(&peer));
        let is_agent = sender.as_ref().is_some_and(|pair| pair.is_agent);
        let may_come_twice = if by_hub { is_agent } else { is_for_all };
        if may_come_twice && !self.announcements.is_first(packet, by_hub, now.instant) {
            return;
        }
        if let Some(pair) = sender {
            pair.received += inner.length as u64;
        }
        out.deliver(packet);
    }

    /// Whether a packet to this address is for everybody.
    fn is_for_all(&self, to: Ipv4Addr) -> bool {
        to.is_multicast()
            || to == Ipv4Addr::BROADCAST
            || to == self.locality.subnet.broadcast()
            || is_broadcast_of_24(self.own_ip, to)
    }

    /// Takes a packet of `length` bytes from this machine, which lies in `buffer` behind [`HEADROOM`] bytes; as many behind
    /// it are used. It is sealed in place. [`Agent::poll`] is due after a batch of them. `None` if it goes nowhere.
    pub fn send_local(
        &mut self,
        buffer: &mut [u8],
        length: usize,
        now: Now,
        out: &mut dyn AgentOutput,
    ) -> Option<()> {
        let packet = buffer.get(HEADROOM..)?.get(..length)?;
        let inner = InnerPacket::parse(packet).filter(|inner| inner.source == self.own_ip)?;
        let IpAddr::V4(to) = inner.destination else { return None };
        let length = inner.length;
        if self.is_for_all(to) {
            self.broadcast(HEADROOM..HEADROOM + length, buffer, now, out);
            return self.send_to_hub(buffer, length, now, out);
        }
        let peer = self.device.route(to.into())?;
        if !self.device.can_send(peer, now.instant) {
            self.peers.want_session(&mut self.device, peer, now);
            return self.send_to_hub(buffer, length, now, out);
        }
        if self.peers.is_hub(peer) {
            return self.send_to_hub(buffer, length, now, out);
        }
        if let Some(mtu) = self.peers.pairs.get(&peer).and_then(Pair::small_mtu) {
            mtu::clamp(&mut buffer[HEADROOM..][..length], mtu);
        }
        let has_relay = self.locality.relay.is_some();
        if let Some(mtu) = self.peers.pairs.get(&peer).and_then(|pair| pair.shorter_mtu(length, has_relay)) {
            return self.send_too_long(peer, mtu, &buffer[HEADROOM..][..length], now, out);
        }
        let SendOutcome::Sealed { length, .. } = self.device.send(peer, buffer, length, now) else {
            return None;
        };
        self.peers.send_data(&self.locality, peer, &buffer[..length], now.instant, out);
        Some(())
    }

    /// Sends a packet by the hub. It is kept until there is a session with it.
    fn send_to_hub(
        &mut self,
        buffer: &mut [u8],
        length: usize,
        now: Now,
        out: &mut dyn AgentOutput,
    ) -> Option<()> {
        let hub = self.peers.hub()?;
        if let SendOutcome::Sealed { to, length } = self.device.send(hub, buffer, length, now) {
            out.send(Path::to(to), &buffer[..length]);
        }
        Some(())
    }

    /// Sends copies of the packet in `buffer` to all agents that we have a session with. The hub sends one to everybody: an
    /// agent takes whichever comes first.
    fn broadcast(&mut self, range: Range<usize>, buffer: &mut [u8], now: Now, out: &mut dyn AgentOutput) {
        let packet = &mut buffer[range];
        let length = packet.len();
        let is_udp = Ipv4::parse(packet).is_some_and(|packet| packet.protocol() == UDP);
        if !is_udp || length + KEEPALIVE_LENGTH > self.scratch.len() {
            return;
        }
        let mut last = None;
        while let Some(peer) = self.peers.next_agent(last) {
            last = Some(peer);
            if !self.device.can_send(peer, now.instant) {
                continue;
            }
            self.scratch[HEADROOM..][..length].copy_from_slice(packet);
            if let SendOutcome::Sealed { length, .. } = self.device.send(peer, &mut self.scratch, length, now)
            {
                self.peers.send_data(&self.locality, peer, &self.scratch[..length], now.instant, out);
            }
        }
    }

    /// Does what is due, also what datagrams and packets since have made due.
    pub fn poll(&mut self, now: Now, out: &mut dyn AgentOutput) {
        if self.locality.nat.take_move() {
            self.resume(now);
        }
        self.tell(now);
        self.watch_hub(now.instant);
        let (mut turn, peers) = self.turn(now, out);
        turn.locality.poll_nat(now.instant, turn.out);
        if let Some(is_news) = turn.locality.measure_relays(now.instant, turn.out) {
            peers.on_distances(&mut turn, is_news);
        }
        peers.poll(&mut turn);
        self.call_next(now, out);
        self.ask_hub(now);
        self.drain(now, out);
    }

    /// Tells others of us, when enough is known.
    fn tell(&mut self, now: Now) {
        let Locality { nat, judgement, .. } = &self.locality;
        if !nat.is_settled(now.instant) {
            return;
        }
        let NatView { kind, public, others, .. } = judgement.view;
        let known = (public, kind, others.map(|other| other.map(|other| other.ip())));
        if self.told.replace(known) != Some(known) {
            self.peers.offer_all(now.instant);
        }
        for pair in self.peers.pairs.values_mut().filter(|pair| pair.wants_signal) {
            pair.wants_signal = false;
            let (id, offer) = (
                self.random.next_u64() as u32,
                self.locality.offer(pair.first_number(), pair.distances(&self.locality)),
            );
            let mut buffer = [0; MAX_PROBE_LENGTH];
            let length = Probe::Offer { id, offer }.write(&mut buffer);
            self.signals.push((pair.member.peer_id.clone(), write_signal(&buffer[..length])));
        }
    }

    /// Sends what the device has to send.
    fn drain(&mut self, now: Now, out: &mut dyn AgentOutput) {
        let has_relay = self.locality.relay.is_some();
        while let Some(Outgoing { peer, to, length }) = self.device.poll(now, &mut self.scratch) {
            let datagram = &self.scratch[..length];
            let pair = peer.and_then(|peer| self.peers.pairs.get_mut(&peer));
            match (pair, Message::parse(datagram)) {
                (Some(pair), Some(Message::Initiation(_))) => {
                    pair.on_initiated(datagram, has_relay, now.instant);
                    if self.is_call(to) {
                        self.call(datagram, out);
                    } else {
                        let pair = peer.and_then(|peer| self.peers.pairs.get(&peer)).into_iter();
                        pair.flat_map(|pair| pair.handshake_paths(&self.locality, now.instant))
                            .for_each(|relay| out.send(relay, datagram));
                    }
                }
                (Some(pair), Some(Message::Response(_))) => {
                    pair.on_response(datagram);
                    out.send(Path::to(to), datagram);
                }
                (Some(pair), Some(Message::Transport(_))) => {
                    // A flow through the relay begins with the first message on it.
                    let ways = pair.handshake_paths(&self.locality, now.instant);
                    ways.for_each(|relay| out.send(relay, datagram));
                    let relay = pair.relay_path(&self.locality);
                    pair.send_beside(relay, datagram, now.instant, out);
                }
                _ => out.send(Path::to(to), datagram),
            }
        }
    }

    /// When [`Agent::poll`] is to be called next; `None` for never.
    #[expect(clippy::should_implement_trait, reason = "all that waits has a `next`")]
    pub fn next(&mut self) -> Option<Instant> {
        let nat = self.locality.relay.and_then(|_| self.locality.nat.next());
        let relays = [self.locality.relays.next(), Peers::hubs_due(&self.locality.relays)];
        [self.device.poll_timeout(), self.peers.next(), nat, self.next_watch(), self.next_call()]
            .into_iter()
            .chain(relays)
            .flatten()
            .min()
    }

    /// The members of the party, without us.
    pub fn members(&self, now: Now) -> impl Iterator<Item = MemberView<'_>> {
        self.peers.pairs.values().map(move |pair| pair.view(&self.device, &self.locality, now.instant))
    }

    /// How many of them data goes straight to.
    pub fn reached_straight(&self) -> usize {
        self.peers.pairs.values().filter(|pair| pair.is_straight()).count()
    }

    /// What is known of the NAT that we are behind.
    pub fn nat(&self) -> NatView {
        NatView { mapped: self.locality.mapping, ..self.locality.judgement.view }
    }
}

/// For what sends nothing.
struct Nowhere;

impl AgentOutput for Nowhere {
    fn send(&mut self, _to: Path, _datagram: &[u8]) {}

    fn deliver(&mut self, _packet: &[u8]) {}
}
