//! Players with an agent, and the way from them through NATs, one behind another.

use crate::packets::{read_udp, udp};
use crate::world::{World, party_id, relay_address};
use lanrage::agent::network::{LocalAddress, Network, NetworkMember, RelayAddress};
use lanrage::agent::{Agent, AgentOutput, AgentSettings, HEADROOM};
use lanrage::crypto::x25519::{PrivateKey, PublicKey};
use lanrage::datagram::Path;
use lanrage::ids::PeerId;
use lanrage::relay::Port;
use lanrage::subnet::Subnet;
use lanrage::time::Instant;
use lanrage::wireguard::constants::X25519_TYPICAL;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// How long a signal takes by the control plane.
const SIGNAL_DELAY: Duration = Duration::from_millis(60);

/// One with an agent.
pub struct Player {
    pub id: PeerId,
    pub agent: Agent,
    pub ip: Ipv4Addr,
    pub local: SocketAddr,
    /// The NAT that it is right behind.
    pub realm: Option<usize>,
    /// Packets that were delivered.
    pub packets: Vec<Vec<u8>>,
    /// Payloads of UDP packets among them, from whom, and to where.
    pub inbox: Vec<(Ipv4Addr, Ipv4Addr, Vec<u8>)>,
    pub is_offline: bool,
    /// Datagrams that it sent.
    pub sent: u64,
    /// What the control plane is about to tell it: when, from whom, what.
    signals: Vec<(Instant, PeerId, String)>,
}

/// What comes out of an agent at once.
#[derive(Default)]
struct Emitted {
    sent: Vec<(Path, Vec<u8>)>,
    delivered: Vec<Vec<u8>>,
}

impl AgentOutput for Emitted {
    fn send(&mut self, to: Path, datagram: &[u8]) {
        self.sent.push((to, datagram.to_vec()));
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
            realm,
            packets: Vec::new(),
            inbox: Vec::new(),
            is_offline: false,
            sent: 0,
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
            Seat::App(client) => {
                let id = PeerId::new(&self.clients[client].name).unwrap();
                (id, self.public_key(client), self.clients[client].ip)
            }
        }
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
    ) -> Option<usize> {
        loop {
            let found = self.players.iter().position(|player| player.local == to && player.realm == realm);
            if found.is_some_and(|player| !self.players[player].is_offline) {
                return found;
            }
            let nat = self.nats.iter().position(|nat| nat.address == to.ip() && nat.outer == realm)?;
            to = self.nats[nat].inbound(to, from, self.now)?;
            realm = Some(nat);
        }
    }

    /// Sends a player's datagram on its way out.
    fn send_out(&mut self, player: usize, to: SocketAddr, bytes: &[u8]) {
        let Player { local: mut from, mut realm, is_offline, .. } = self.players[player];
        if is_offline {
            return;
        }
        self.players[player].sent += 1;
        while let Some(nat) = realm {
            let is_near = |other: &Player| other.realm == realm && other.local.ip() == to.ip();
            if self.players.iter().any(is_near)
                || self.nats.iter().any(|other| other.outer == realm && other.address == to.ip())
            {
                return self.fly_within(from, to, realm, bytes);
            }
            from = self.nats[nat].outbound(from, to, self.now);
            if self.nats[nat].address == to.ip() && !self.nats[nat].hairpin {
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
        for (path, bytes) in emitted.sent {
            self.send_out(player, path.remote, &bytes);
        }
        let (at, from) = (self.now + SIGNAL_DELAY, self.players[player].id.clone());
        for (to, text) in self.players[player].agent.take_signals() {
            if let Some(to) = self.players.iter_mut().find(|player| player.id == to && self.has_control_plane)
            {
                to.signals.push((at, from.clone(), text));
            }
        }
    }

    pub fn deliver_to_player(&mut self, player: usize, from: SocketAddr, mut bytes: Vec<u8>) {
        let (now, mut out) = (self.clock(), Emitted::default());
        self.players[player].agent.receive(&mut bytes, Path::to(from), now, &mut out);
        self.emit(player, out);
    }

    /// The system of a player sends a packet into the virtual LAN.
    pub fn player_sends(&mut self, player: usize, packet: &[u8]) {
        let mut buffer = [0; 2048];
        buffer[HEADROOM..][..packet.len()].copy_from_slice(packet);
        let (now, mut out) = (self.clock(), Emitted::default());
        self.players[player].agent.send_local(&mut buffer, packet.len(), now, &mut out);
        self.emit(player, out);
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
