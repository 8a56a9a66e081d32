//! Floor 3: the player's side, sans-IO. Members of the party are peers of one WireGuard device. What is for a member goes
//! there by its session, else by the hub.
//!
//! The caller owns the one socket and the interface. It hands in datagrams and packets as they lie in its buffers, and calls
//! [`Agent::poll`] when [`Agent::next`] says so; what is to be sent or delivered comes out through [`AgentOutput`].

pub mod network;
pub mod session;
pub mod view;

mod broadcast;
mod pair;
mod peers;

use crate::agent::broadcast::Announcements;
use crate::agent::network::{LocalAddress, Network, SocketWish};
use crate::agent::peers::Peers;
use crate::agent::view::{MemberView, NatView};
use crate::crypto::random::Seeded;
use crate::crypto::x25519::{PrivateKey, PublicKey};
use crate::datagram::Path;
use crate::ids::PeerId;
use crate::subnet::Subnet;
use crate::time::{Instant, Now};
use crate::wire::ip::{IPV4_HEADER_LENGTH, Ipv4, UDP, is_broadcast_of_24};
use crate::wireguard::device::{Device, DeviceSettings, ReceiveOutcome};
use crate::wireguard::inner_packet::InnerPacket;
use crate::wireguard::message::{KEEPALIVE_LENGTH, TRANSPORT_HEADER_LENGTH};
use crate::wireguard::peer::PeerIndex;
use crate::wireguard::verdict::{Accepted, Content, Outgoing, SendOutcome, Verdict};
use std::net::{IpAddr, Ipv4Addr};
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
    subnet: Subnet,
    own_ip: Ipv4Addr,
    announcements: Announcements,
    random: Seeded,
    scratch: Box<[u8]>,
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
            subnet: Subnet::DEFAULT,
            own_ip: Ipv4Addr::UNSPECIFIED,
            announcements: Announcements::default(),
            random,
            scratch: vec![0; SCRATCH_LENGTH].into(),
        }
    }

    /// Our public key.
    pub fn public_key(&self) -> &PublicKey {
        self.device.public_key()
    }

    /// From now on this is the network: who is not in it has no session any more.
    pub fn set_network(&mut self, network: Network, now: Now) {
        (self.subnet, self.own_ip) = (network.subnet, network.own_ip);
        self.peers.set_network(&mut self.device, network, now);
    }

    /// Another agent's offer, which came by the control plane.
    pub fn signal(&mut self, from: &PeerId, data: &str, now: Now) {
        let _ = (from, data, now);
    }

    /// Offers for other agents that the control plane is to carry, since last asked.
    pub fn take_signals(&mut self) -> Vec<(PeerId, String)> {
        Vec::new()
    }

    /// These are this machine's addresses now, without its interface in the virtual LAN, and not on loopback.
    pub fn set_links(&mut self, links: &[LocalAddress], now: Now) {
        let _ = (links, now);
    }

    /// A router forwards this address of its own to us, or none does.
    pub fn set_mapping(&mut self, mapping: Option<std::net::SocketAddr>, now: Now) {
        let _ = (mapping, now);
    }

    /// This machine has slept: nothing is known of paths any more.
    pub fn resume(&mut self, now: Now) {
        let _ = now;
    }

    /// What is wanted of the socket, since last asked.
    pub fn wants_socket(&mut self) -> Option<SocketWish> {
        None
    }

    /// The mark that must be stored for the next [`AgentSettings::stamp_mark`], if it has moved since last asked.
    pub fn take_stamp_mark(&mut self) -> Option<u64> {
        self.device.take_stamp_mark()
    }

    /// Takes a datagram. It is opened in place.
    pub fn receive(&mut self, datagram: &mut [u8], path: Path, now: Now, out: &mut dyn AgentOutput) {
        let is_expected = self.peers.is_known(path.remote);
        let verdict = self.device.receive_from(datagram, path.remote, is_expected, now);
        if let ReceiveOutcome::Verdict(Verdict::Accepted(accepted)) = verdict {
            self.accept(accepted, datagram, out, now);
        }
        self.drain(now, out);
    }

    fn accept(&mut self, accepted: Accepted, datagram: &mut [u8], out: &mut dyn AgentOutput, now: Now) {
        let Accepted { peer, content, .. } = accepted;
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
        let may_come_twice = if by_hub { self.peers.is_agent(from) } else { is_for_all };
        if may_come_twice && !self.announcements.is_first(packet, by_hub, now.instant) {
            return;
        }
        self.peers.count_received(peer, from, inner.length);
        out.deliver(packet);
    }

    /// Whether a packet to this address is for everybody.
    fn is_for_all(&self, to: Ipv4Addr) -> bool {
        to.is_multicast()
            || to == Ipv4Addr::BROADCAST
            || to == self.subnet.broadcast()
            || is_broadcast_of_24(self.own_ip, to)
    }

    /// Takes a packet of `length` bytes from this machine, which lies in `buffer` behind [`HEADROOM`] bytes; as many behind
    /// it are used. It is sealed in place.
    pub fn send_local(&mut self, buffer: &mut [u8], length: usize, now: Now, out: &mut dyn AgentOutput) {
        self.route_local(buffer, length, now, out);
        self.drain(now, out);
    }

    fn route_local(
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
        let SendOutcome::Sealed { length, .. } = self.device.send(peer, buffer, length, now) else {
            return None;
        };
        self.peers.send_data(peer, &buffer[..length], now.instant, out);
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
        let mut place = None;
        while let Some(peer) = self.peers.next_agent(place) {
            place = Some(peer);
            if !self.device.can_send(peer, now.instant) {
                continue;
            }
            self.scratch[HEADROOM..][..length].copy_from_slice(packet);
            if let SendOutcome::Sealed { length, .. } =
                self.device.send(peer, &mut self.scratch, length, now)
            {
                self.peers.send_data(peer, &self.scratch[..length], now.instant, out);
            }
        }
    }

    /// Does what is due.
    pub fn poll(&mut self, now: Now, out: &mut dyn AgentOutput) {
        self.drain(now, out);
    }

    /// Sends what the device has to send.
    fn drain(&mut self, now: Now, out: &mut dyn AgentOutput) {
        while let Some(Outgoing { to, length, .. }) = self.device.poll(now, &mut self.scratch) {
            out.send(Path::to(to), &self.scratch[..length]);
        }
    }

    /// When [`Agent::poll`] is to be called next; `None` for never.
    pub fn next(&mut self) -> Option<Instant> {
        self.device.poll_timeout()
    }

    /// The members of the party, without us.
    pub fn members(&self, now: Now) -> impl Iterator<Item = MemberView<'_>> {
        self.peers.views(&self.device, now.instant)
    }

    /// What is known of the NAT that we are behind.
    pub fn nat(&self) -> NatView {
        NatView::default()
    }
}
