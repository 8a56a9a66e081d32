//! Players with an agent, and the way from them through NATs, one behind another.

use crate::packets::{read_udp, udp};
use crate::world::{SECOND, World, party_id, relay_address};
use lanrage::agent::lan::LAN_PORT;
use lanrage::agent::network::{LocalAddress, Network, NetworkMember, RelayAddress, SocketWish};
use lanrage::agent::{Agent, AgentOutput, AgentSettings, HEADROOM};
use lanrage::crypto::x25519::{PrivateKey, PublicKey};
use lanrage::datagram::Path;
use lanrage::ids::PeerId;
use lanrage::relay::Port;
use lanrage::subnet::Subnet;
use lanrage::time::Instant;
use lanrage::wire::probe::{MAX_PROBE_LENGTH, Probe};
use lanrage::wireguard::allowed_ips::AllowedIp;
use lanrage::wireguard::constants::X25519_TYPICAL;
use lanrage::wireguard::peer::{PeerIndex, PeerSettings};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Additional sockets have the ports behind this one.
const EXTRA_PORTS: u16 = 45_000;

/// What comes to the port for calls on the LAN comes to a socket of this number.
const CALLS: u16 = u16::MAX;

/// How long a signal takes by the control plane.
const SIGNAL_DELAY: Duration = Duration::from_millis(60);

/// One with an agent.
pub struct Player {
    pub id: PeerId,
    pub agent: Agent,
    pub ip: Ipv4Addr,
    pub local: SocketAddr,
    /// Its public IPv6 address, if it has one.
    pub second: Option<SocketAddr>,
    /// The NAT that it is right behind.
    pub realm: Option<usize>,
    /// Packets that were delivered.
    pub packets: Vec<Vec<u8>>,
    /// Payloads of UDP packets among them, from whom, and to where.
    pub inbox: Vec<(Ipv4Addr, Ipv4Addr, Vec<u8>)>,
    pub is_offline: bool,
    /// Additional sockets that are open.
    pub extra: Vec<u16>,
    pub rebinds: u32,
    /// Calls on the LAN that it sent.
    pub calls: u32,
    /// Short probes that it sent anywhere but to the relay.
    pub strays: u64,
    /// Datagrams that it sent, and bytes to each address.
    pub sent: u64,
    pub sent_to: BTreeMap<SocketAddr, u64>,
    /// What the control plane is about to tell it: when, from whom, what.
    signals: Vec<(Instant, PeerId, String)>,
}

/// What comes out of an agent at once.
#[derive(Default)]
struct Emitted {
    /// By which socket, whereto, what.
    sent: Vec<(u16, Path, Vec<u8>)>,
    delivered: Vec<Vec<u8>>,
}

impl AgentOutput for Emitted {
    fn send(&mut self, to: Path, datagram: &[u8]) {
        self.send_from(0, to, datagram);
    }

    fn send_from(&mut self, socket: u16, to: Path, datagram: &[u8]) {
        self.sent.push((socket, to, datagram.to_vec()));
    }

    fn deliver(&mut self, packet: &[u8]) {
        self.delivered.push(packet.to_vec());
    }
}

/// Somebody in a party: a player with an agent, or a client with an app.
#[derive(Clone, Copy)]
pub enum Seat {
    Player(usize),
    App(usize),
    /// A client that looks like one with an agent.
    Rogue(usize),
}

impl World {
    /// A player who is in no party yet.
    pub fn player(&mut self, realm: Option<usize>) -> usize {
        let number = self.players.len();
        let mut key = [0; 32];
        self.random.fill(&mut key);
        let settings = AgentSettings {
            key: PrivateKey::from_bytes(key),
            stamp_mark: 0,
            mtu: 1420,
            seed: self.random.next_u64(),
            x25519: X25519_TYPICAL,
        };
        let local = match realm {
            None => SocketAddr::from(([192, 1, 0, number as u8 + 2], 40_000)),
            Some(_) => SocketAddr::from(([192, 168, 1, number as u8 + 2], 40_000)),
        };
        let now = self.clock();
        let mut agent = Agent::new(settings, now.instant);
        agent.set_links(&[LocalAddress { address: local, prefix: 24 }], now);
        self.players.push(Player {
            id: PeerId::new(&format!("player{number}")).unwrap(),
            agent,
            ip: Ipv4Addr::new(10, 66, 1, number as u8 + 2),
            local,
            second: None,
            realm,
            packets: Vec::new(),
            inbox: Vec::new(),
            is_offline: false,
            extra: Vec::new(),
            rebinds: 0,
            calls: 0,
            strays: 0,
            sent: 0,
            sent_to: BTreeMap::new(),
            signals: Vec::new(),
        });
        number
    }

    fn seat(&self, seat: Seat) -> (PeerId, PublicKey, Ipv4Addr) {
        match seat {
            Seat::Player(player) => {
                let player = &self.players[player];
                (player.id.clone(), *player.agent.public_key(), player.ip)
            }
            Seat::App(client) | Seat::Rogue(client) => {
                let id = PeerId::new(&self.clients[client].name).unwrap();
                (id, self.public_key(client), self.clients[client].ip)
            }
        }
    }

    /// A client takes a player for one more peer at the relay.
    pub fn meet(&mut self, client: usize, player: usize) {
        let config = PeerSettings {
            endpoint: Some(relay_address(Port::Main)),
            persistent_keepalive: Some(25 * SECOND),
            allowed_ips: vec![AllowedIp::host(self.players[player].ip.into())],
            ..PeerSettings::new(*self.players[player].agent.public_key())
        };
        self.clients[client].device.add_peer(config, self.now).unwrap();
    }

    /// By which index a client knows a player.
    pub fn index_of(&self, client: usize, player: usize) -> PeerIndex {
        let key = self.players[player].agent.public_key();
        self.clients[client].device.find_peer(key).unwrap()
    }

    /// A client says something in the agents' own protocol to a player.
    pub fn rogue_bytes(&mut self, client: usize, player: usize, bytes: &[u8]) {
        let mut buffer = [0; 2048];
        buffer[HEADROOM..][..bytes.len()].copy_from_slice(bytes);
        let (now, peer) = (self.clock(), self.index_of(client, player));
        let sealed = self.clients[client].device.seal_probe(peer, &mut buffer, bytes.len(), now);
        self.transmit(client, relay_address(Port::Main), &buffer[..sealed.expect("a session")]);
    }

    /// The datagram that carries a client's probe for a player, which nobody sends.
    pub fn seal_for_player(&mut self, client: usize, player: usize, probe: &Probe) -> Vec<u8> {
        let mut buffer = [0; 2048];
        let length = probe.write(&mut buffer[HEADROOM..]);
        let (now, peer) = (self.clock(), self.index_of(client, player));
        let sealed = self.clients[client].device.seal_probe(peer, &mut buffer, length, now);
        buffer[..sealed.expect("a session")].to_vec()
    }

    pub fn rogue_probes(&mut self, client: usize, player: usize, probe: &Probe) {
        let mut buffer = [0; MAX_PROBE_LENGTH];
        let length = probe.write(&mut buffer);
        self.rogue_bytes(client, player, &buffer[..length]);
    }

    /// Bytes that a client has sent to a player.
    pub fn rogue_gave(&self, client: usize, player: usize) -> u64 {
        self.clients[client].device.stats(self.index_of(client, player)).unwrap().sent_bytes
    }

    /// The address under which a player is seen.
    pub fn player_public_ip(&self, player: usize) -> IpAddr {
        let (mut ip, mut realm) = (self.players[player].local.ip(), self.players[player].realm);
        while let Some(nat) = realm {
            (ip, realm) = (self.nats[nat].address, self.nats[nat].outer);
        }
        ip
    }

    /// The control plane tells relay and agents who is in the party.
    pub fn gather(&mut self, party: &str, seats: &[Seat]) {
        for &seat in seats {
            if let Seat::Player(player) = seat {
                let (peer, key, ip) = self.seat(seat);
                self.relay.join(&party_id(party), &peer, key, ip, self.now).unwrap();
                let origin = self.player_public_ip(player);
                self.relay.set_origin(&key, Some(origin));
                for far in self.far_relays.iter_mut().filter(|far| far.knows_roster) {
                    far.relay.join(&party_id(party), &peer, key, ip, self.now).unwrap();
                    far.relay.set_origin(&key, Some(origin));
                }
            }
        }
        let members: Vec<_> = seats
            .iter()
            .map(|&seat| {
                let (peer_id, key, ip) = self.seat(seat);
                let is_device = matches!(seat, Seat::App(_));
                NetworkMember { name: peer_id.as_str().into(), peer_id, key, ip, is_device }
            })
            .collect();
        let relay = RelayAddress {
            endpoint: relay_address(Port::Main),
            stun_port: Some(relay_address(Port::Alternate).port()),
            key: *self.relay.hub_key(),
        };
        let now = self.clock();
        for &seat in seats {
            let Seat::Player(player) = seat else { continue };
            let own = &mut self.players[player];
            let others = members.iter().filter(|member| member.peer_id != own.id).cloned().collect();
            let network =
                Network { own_ip: own.ip, subnet: Subnet::DEFAULT, relay: Some(relay), members: others };
            own.agent.set_network(network, now);
        }
    }

    /// The player for whom what is in flight is.
    pub fn player_at(
        &mut self,
        from: SocketAddr,
        mut to: SocketAddr,
        mut realm: Option<usize>,
    ) -> Option<(usize, u16)> {
        let is_called = |player: &Player| player.local.ip() == to.ip() && player.realm == realm;
        if to.port() == LAN_PORT {
            let player = self.players.iter().position(is_called)?;
            return (!self.players[player].is_offline).then_some((player, CALLS));
        }
        loop {
            let found = self.players.iter().position(|player| {
                let is_extra = player.local.ip() == to.ip()
                    && player.extra.contains(&to.port().wrapping_sub(EXTRA_PORTS));
                (player.local == to || is_extra) && player.realm == realm
                    || player.second == Some(to) && realm.is_none()
            });
            if let Some(player) = found.filter(|&player| !self.players[player].is_offline) {
                let socket = if to.is_ipv6() || to == self.players[player].local {
                    0
                } else {
                    to.port() - EXTRA_PORTS
                };
                return Some((player, socket));
            }
            let nat = self.nats.iter().position(|nat| nat.has(to.ip()) && nat.outer == realm)?;
            to = self.nats[nat].inbound(to, from, self.now)?;
            realm = Some(nat);
        }
    }

    /// Sends a player's datagram on its way out.
    fn send_out(&mut self, player: usize, socket: u16, to: SocketAddr, bytes: &[u8]) {
        let Player { local: mut from, mut realm, is_offline, .. } = self.players[player];
        if socket > 0 {
            from.set_port(EXTRA_PORTS + socket);
        }
        if is_offline {
            return;
        }
        self.players[player].sent += 1;
        if to.port() == LAN_PORT {
            let Some(realm) = realm else { return };
            self.players[player].calls += 1;
            let others =
                self.players.iter().filter(|other| other.realm == Some(realm) && other.local != from);
            let there: Vec<_> = others.map(|other| SocketAddr::new(other.local.ip(), LAN_PORT)).collect();
            there.into_iter().for_each(|to| self.fly_within(from, to, Some(realm), bytes));
            return;
        }
        let is_stray = bytes.len() == 64 && to.ip() != relay_address(Port::Main).ip();
        self.players[player].strays += u64::from(is_stray);
        *self.players[player].sent_to.entry(to).or_default() += bytes.len() as u64;
        if to.is_ipv6() {
            let Some(second) = self.players[player].second else { return };
            (from, realm) = (second, None);
        }
        while let Some(nat) = realm {
            let is_near = |other: &Player| other.realm == realm && other.local.ip() == to.ip();
            if self.players.iter().any(is_near)
                || self.nats.iter().any(|other| other.outer == realm && other.has(to.ip()))
            {
                return self.fly_within(from, to, realm, bytes);
            }
            from = self.nats[nat].outbound(from, to, self.now);
            if self.nats[nat].has(to.ip()) && !self.nats[nat].hairpin {
                return;
            }
            realm = self.nats[nat].outer;
        }
        self.ledger.sends(from);
        self.fly_within(from, to, None, bytes);
    }

    fn emit(&mut self, player: usize, emitted: Emitted) {
        for packet in emitted.delivered {
            if let Some((source, destination, payload)) = read_udp(&packet) {
                self.players[player].inbox.push((source, destination, payload.to_vec()));
            }
            self.players[player].packets.push(packet);
        }
        for (socket, path, bytes) in emitted.sent {
            self.send_out(player, socket, path.remote, &bytes);
        }
        let (now, own) = (self.clock(), &mut self.players[player]);
        match own.agent.wants_socket() {
            Some(SocketWish::Extra { count }) => {
                own.extra = (1..=count as u16).collect();
                own.agent.set_extra_sockets(count as u16, now);
            }
            Some(SocketWish::Keep { socket }) => own.extra.retain(|&open| Some(open) == socket),
            Some(SocketWish::Rebind) => own.rebinds += 1,
            None => {}
        }
        let (at, from) = (self.now + SIGNAL_DELAY, self.players[player].id.clone());
        for (to, text) in self.players[player].agent.take_signals() {
            if let Some(to) = self.players.iter_mut().find(|player| player.id == to && self.has_control_plane)
            {
                to.signals.push((at, from.clone(), text));
            }
        }
    }

    pub fn deliver_to_player(
        &mut self,
        (player, socket): (usize, u16),
        from: SocketAddr,
        mut bytes: Vec<u8>,
    ) {
        let (now, mut out) = (self.clock(), Emitted::default());
        let agent = &mut self.players[player].agent;
        match socket {
            CALLS => agent.receive_call(&mut bytes, from, now, &mut out),
            _ => agent.receive_on(socket, &mut bytes, Path::to(from), now, &mut out),
        }
        agent.poll(now, &mut out);
        self.emit(player, out);
    }

    /// The system of a player sends a packet into the virtual LAN.
    pub fn player_sends(&mut self, player: usize, packet: &[u8]) {
        let mut buffer = [0; 2048];
        buffer[HEADROOM..][..packet.len()].copy_from_slice(packet);
        let (now, mut out) = (self.clock(), Emitted::default());
        let agent = &mut self.players[player].agent;
        agent.send_local(&mut buffer, packet.len(), now, &mut out);
        agent.poll(now, &mut out);
        self.emit(player, out);
    }

    /// A player says that it leaves, and is gone.
    pub fn player_leaves(&mut self, player: usize) {
        let (now, mut out) = (self.clock(), Emitted::default());
        self.players[player].agent.leave(now, &mut out);
        self.emit(player, out);
        self.players[player].is_offline = true;
    }

    pub fn next_of_players(&mut self) -> Option<Instant> {
        let next = |player: &mut Player| {
            let signal = player.signals.iter().map(|(at, ..)| *at);
            player.agent.next().into_iter().chain(signal).min()
        };
        self.players.iter_mut().filter_map(next).min()
    }

    /// Polls those players whose time has come, or all.
    pub fn poll_players(&mut self, all: bool) {
        for player in 0..self.players.len() {
            let now = self.clock();
            let own = &mut self.players[player];
            for (_, from, text) in own.signals.extract_if(.., |(at, ..)| *at <= now.instant) {
                own.agent.signal(&from, &text, now);
            }
            if all || self.players[player].agent.next().is_some_and(|at| at <= self.now) {
                let (now, mut out) = (self.clock(), Emitted::default());
                self.players[player].agent.poll(now, &mut out);
                self.emit(player, out);
            }
        }
    }

    /// `from` says `word` to `to`, by UDP.
    pub fn player_says(&mut self, from: usize, to: Seat, word: &[u8]) {
        let to = self.seat(to).2;
        let packet = udp(self.players[from].ip, to, word);
        self.player_sends(from, &packet);
    }

    /// How often `player` has heard `word` from `ip`.
    pub fn heard(&self, player: usize, ip: Ipv4Addr, word: &[u8]) -> usize {
        let inbox = self.players[player].inbox.iter();
        inbox.filter(|(source, _, heard)| *source == ip && heard == word).count()
    }

    /// Whether what both say now is heard within `span`.
    pub fn players_talk(&mut self, one: usize, other: usize, span: Duration) -> bool {
        let word = self.random.next_u64().to_le_bytes();
        self.player_says(one, Seat::Player(other), &word);
        self.player_says(other, Seat::Player(one), &word);
        self.run(span);
        let (ip, other_ip) = (self.players[one].ip, self.players[other].ip);
        self.heard(other, ip, &word) == 1 && self.heard(one, other_ip, &word) == 1
    }
}
