//! A relay, clients and the network between them, in virtual time. Every run of a seed is the same, but for
//! keys and indices that WireGuard draws itself.

use crate::agent_relays::FarRelay;
use crate::agents::Player;
use crate::capture::{Capture, Record};
use crate::ledger::Ledger;
use crate::nat::{Behaviour, Nat};
use crate::packets::{read_udp, udp};
use lanrage::crypto::random::Seeded;
use lanrage::crypto::x25519::{PrivateKey, PublicKey};
use lanrage::datagram::Path;
use lanrage::figures::DropReason;
use lanrage::ids::{PartyId, PeerId};
use lanrage::relay::limits::RelayLimits;
use lanrage::relay::roster::JoinError;
use lanrage::relay::{Arrival, LOCAL_HEADROOM, Output, Port, Relay, RelaySettings};
use lanrage::subnet::Subnet;
use lanrage::time::{Instant, Now, UnixTime};
use lanrage::wireguard::allowed_ips::AllowedIp;
use lanrage::wireguard::constants::X25519_TYPICAL;
use lanrage::wireguard::device::{Device, DeviceSettings};
use lanrage::wireguard::peer::{PeerIndex, PeerSettings};
use lanrage::wireguard::verdict::{Accepted, Content, SendOutcome, Verdict};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

pub const SECOND: Duration = Duration::from_secs(1);
pub const MILLISECOND: Duration = Duration::from_millis(1);
/// 2027.
const EPOCH: i64 = 1_800_000_000_000_000;
const RELAY: [u8; 4] = [198, 51, 100, 1];
pub const HUB_IP: Ipv4Addr = Ipv4Addr::new(10, 66, 0, 1);

pub fn relay_address(port: Port) -> SocketAddr {
    SocketAddr::from((RELAY, if port == Port::Main { 51820 } else { 51821 }))
}

/// What the clocks on the walls say then.
pub fn date(instant: Instant) -> UnixTime {
    UnixTime::from_micros(EPOCH + (instant.as_nanos() / 1000) as i64)
}

pub fn party_id(name: &str) -> PartyId {
    PartyId::new(name).unwrap()
}

/// What every datagram meets on its way.
#[derive(Clone, Copy)]
pub struct Link {
    pub delay: Duration,
    /// Up to this is added, which reorders.
    pub jitter: Duration,
    /// Of a thousand datagrams.
    pub loss: u64,
    /// Of a thousand datagrams, those that begin a burst in which all get lost; each ends it with one in five.
    pub bursts: u64,
    /// The longest datagram, with its headers, that goes anywhere but to and from the relay.
    pub mtu: usize,
    /// The same to and from relays.
    pub relay_mtu: usize,
}

/// A stock client: it knows public keys, and the relay as everybody's endpoint.
pub struct Client {
    pub name: String,
    pub key: PrivateKey,
    pub device: Device,
    pub ip: Ipv4Addr,
    /// Its socket; behind a NAT nobody else sees that.
    local: SocketAddr,
    nat: Option<usize>,
    /// Payloads of whole UDP packets that its system would take, and where they say they come from.
    pub inbox: Vec<(Ipv4Addr, Vec<u8>)>,
    /// All packets that arrived.
    pub packets: Vec<Vec<u8>>,
    /// Its network is unplugged.
    pub offline: bool,
    /// As whom it was seen last.
    pub seen_as: Option<SocketAddr>,
}

pub struct Flight {
    pub from: SocketAddr,
    pub to: SocketAddr,
    /// Behind which NAT it is to be found; `None` if it is public.
    pub realm: Option<usize>,
    pub bytes: Vec<u8>,
}

pub struct World {
    pub now: Instant,
    pub random: Seeded,
    pub relay: Relay,
    hub_key: PrivateKey,
    limits: RelayLimits,
    pub clients: Vec<Client>,
    /// Between which addresses nothing gets through, from the first to the second.
    pub holes: Vec<(IpAddr, IpAddr)>,
    is_in_burst: bool,
    /// Whether signals between them arrive.
    pub has_control_plane: bool,
    /// Whether the relay's second port is open.
    pub has_second_port: bool,
    /// Those with an agent.
    pub players: Vec<Player>,
    pub nats: Vec<Nat>,
    flight: BTreeMap<(Instant, u64), Flight>,
    sequence: u64,
    pub link: Link,
    pub ledger: Ledger,
    /// Which address of the relay's everybody at an address speaks to, where there are several: what goes there has to
    /// come from it.
    pub locals: BTreeMap<IpAddr, IpAddr>,
    pub capture: Capture,
    /// Relays in other places, and how long datagrams take between two addresses where it is not as usual.
    pub far_relays: Vec<FarRelay>,
    pub distances: Vec<(IpAddr, IpAddr, Duration)>,
    /// Packets that the relay's own machine was handed.
    pub local: Vec<Vec<u8>>,
    /// Whether it takes them.
    pub local_is_up: bool,
}

/// How a client uses the hub.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum HubUse {
    /// Not at all.
    None,
    /// As one more peer, for its own address.
    Extra,
    /// As its only peer, for the whole virtual LAN.
    Only,
}

impl World {
    pub fn new(seed: u64) -> Self {
        Self::with_limits(seed, RelayLimits::default())
    }

    pub fn with_limits(seed: u64, limits: RelayLimits) -> Self {
        let mut random = Seeded::new(seed);
        let mut key = [0; 32];
        random.fill(&mut key);
        let hub_key = PrivateKey::from_bytes(key);
        let now = Instant::ZERO + 1000 * SECOND;
        World {
            now,
            relay: relay(&hub_key, limits, random.next_u64(), now),
            hub_key,
            limits,
            random,
            clients: Vec::new(),
            holes: Vec::new(),
            is_in_burst: false,
            has_control_plane: true,
            has_second_port: true,
            players: Vec::new(),
            nats: Vec::new(),
            flight: BTreeMap::new(),
            sequence: 0,
            link: Link {
                delay: 20 * MILLISECOND,
                jitter: Duration::ZERO,
                loss: 0,
                bursts: 0,
                mtu: 1500,
                relay_mtu: 1500,
            },
            ledger: Ledger::default(),
            locals: BTreeMap::new(),
            capture: Capture::new(now),
            far_relays: Vec::new(),
            distances: Vec::new(),
            local: Vec::new(),
            local_is_up: true,
        }
    }

    /// The relay starts anew and has forgotten everything but its key. Its members must be told it again.
    pub fn restart_relay(&mut self) {
        self.relay = relay(&self.hub_key, self.limits, self.random.next_u64(), self.now);
    }

    /// Another relay takes its place, of which nobody knows.
    pub fn replace_relay(&mut self) {
        let mut key = [0; 32];
        self.random.fill(&mut key);
        self.hub_key = PrivateKey::from_bytes(key);
        self.restart_relay();
    }

    pub fn clock(&self) -> Now {
        Now { instant: self.now, unix: date(self.now) }
    }

    pub fn nat(&mut self, mapping: Behaviour, filtering: Behaviour) -> usize {
        let address = IpAddr::from([203, 0, 113, self.nats.len() as u8 + 1]);
        self.nats.push(Nat::new(address, mapping, filtering));
        self.nats.len() - 1
    }

    pub fn symmetric(&mut self) -> usize {
        self.nat(Behaviour::AddressAndPortDependent, Behaviour::AddressAndPortDependent)
    }

    /// A client that nobody knows yet.
    pub fn stranger(&mut self, nat: Option<usize>) -> usize {
        let number = self.clients.len();
        let mut key = [0; 32];
        self.random.fill(&mut key);
        let key = PrivateKey::from_bytes(key);
        let config = DeviceSettings {
            private_key: key.clone(),
            mtu: 1420,
            stamp_mark: 0,
            jitter_seed: self.random.next_u64(),
            x25519: X25519_TYPICAL,
        };
        let host = (number as u16 + 2).to_be_bytes();
        let local = match nat {
            None => SocketAddr::from(([192, 0, host[0], host[1]], 51820)),
            Some(_) => SocketAddr::from(([192, 168, host[0], host[1]], 51820)),
        };
        self.clients.push(Client {
            name: format!("client{number}"),
            device: Device::new(config, self.now),
            key,
            ip: Ipv4Addr::new(10, 66, host[0], host[1]),
            local,
            nat,
            inbox: Vec::new(),
            packets: Vec::new(),
            offline: false,
            seen_as: None,
        });
        number
    }

    /// A client that is in a party.
    pub fn member(&mut self, party: &str, nat: Option<usize>) -> usize {
        let client = self.stranger(nat);
        self.join(party, client).unwrap();
        client
    }

    pub fn public_key(&self, client: usize) -> PublicKey {
        *self.clients[client].device.public_key()
    }

    pub fn join(&mut self, party: &str, client: usize) -> Result<(), JoinError> {
        let Client { name, ip, .. } = &self.clients[client];
        let (peer, ip, key) = (PeerId::new(name).unwrap(), *ip, self.public_key(client));
        self.relay.join(&party_id(party), &peer, key, ip, self.now)?;
        // It speaks to the control plane from where it is.
        let origin = self.public_ip(client);
        self.relay.set_origin(&key, Some(origin));
        Ok(())
    }

    /// A client speaks to the control plane from somewhere else than it plays.
    pub fn set_origin(&mut self, client: usize, origin: IpAddr) {
        let key = self.public_key(client);
        self.relay.set_origin(&key, Some(origin));
    }

    /// The address under which a client is seen.
    pub fn public_ip(&self, client: usize) -> IpAddr {
        let Client { local, nat, .. } = &self.clients[client];
        nat.map_or(local.ip(), |nat| self.nats[nat].address)
    }

    pub fn leave(&mut self, party: &str, client: usize) {
        let peer = PeerId::new(&self.clients[client].name).unwrap();
        self.relay.leave(&party_id(party), &peer, self.now);
    }

    /// Adds `other` to the client's peers, as an app would: with keepalive, at the relay.
    pub fn add_peer(&mut self, client: usize, other: usize) {
        let (key, ip) = (self.public_key(other), self.clients[other].ip);
        self.add_key(client, key, AllowedIp::host(ip.into()));
    }

    fn add_key(&mut self, client: usize, key: PublicKey, prefix: AllowedIp) {
        let config = PeerSettings {
            endpoint: Some(relay_address(Port::Main)),
            persistent_keepalive: Some(25 * SECOND),
            allowed_ips: vec![prefix],
            ..PeerSettings::new(key)
        };
        self.clients[client].device.add_peer(config, self.now).unwrap();
    }

    pub fn introduce(&mut self, one: usize, other: usize) {
        self.add_peer(one, other);
        self.add_peer(other, one);
    }

    /// Introduces all of them to each other.
    pub fn introduce_all(&mut self, clients: &[usize]) {
        for (place, &one) in clients.iter().enumerate() {
            clients[place + 1..].iter().for_each(|&other| self.introduce(one, other));
        }
    }

    pub fn use_hub(&mut self, client: usize, how: HubUse) {
        let key = *self.relay.hub_key();
        match how {
            HubUse::None => (),
            HubUse::Extra => self.add_key(client, key, AllowedIp::host(HUB_IP.into())),
            HubUse::Only => {
                let all = AllowedIp::new(Ipv4Addr::new(10, 66, 0, 0).into(), 16).unwrap();
                self.add_key(client, key, all);
            }
        }
    }

    /// A party of `count` public clients that know each other.
    pub fn blind_party(&mut self, name: &str, count: usize) -> Vec<usize> {
        let members: Vec<_> = (0..count).map(|_| self.member(name, None)).collect();
        self.introduce_all(&members);
        members
    }

    /// A party of `count` public clients that only know the hub.
    pub fn hub_party(&mut self, name: &str, count: usize) -> Vec<usize> {
        let members: Vec<_> = (0..count).map(|_| self.member(name, None)).collect();
        members.iter().for_each(|&member| self.use_hub(member, HubUse::Only));
        members
    }

    fn fly(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        self.fly_within(from, to, None, bytes);
    }

    pub fn fly_within(&mut self, from: SocketAddr, to: SocketAddr, realm: Option<usize>, bytes: &[u8]) {
        if self.random.below(1000) < self.link.loss || self.holes.contains(&(from.ip(), to.ip())) {
            return;
        }
        if self.link.bursts > 0 {
            let turn = if self.is_in_burst { 200 } else { self.link.bursts };
            self.is_in_burst ^= self.random.below(1000) < turn;
            if self.is_in_burst {
                return;
            }
        }
        let is_relay = |ip| ip == relay_address(Port::Main).ip() || self.far_relay_at(ip).is_some();
        let is_relayed = is_relay(from.ip()) || is_relay(to.ip());
        if bytes.len() + 28 > if is_relayed { self.link.relay_mtu } else { self.link.mtu } {
            return;
        }
        let jitter = Duration::from_nanos(self.random.below(self.link.jitter.as_nanos() as u64 + 1));
        self.sequence += 1;
        let at = self.now + self.distance(from.ip(), to.ip()) + jitter;
        self.flight.insert((at, self.sequence), Flight { from, to, realm, bytes: bytes.to_vec() });
    }

    /// A real host sends a datagram.
    pub fn transmit(&mut self, client: usize, to: SocketAddr, bytes: &[u8]) {
        let Client { local, nat, offline, .. } = self.clients[client];
        if offline {
            return;
        }
        let from = nat.map_or(local, |nat| self.nats[nat].outbound(local, to, self.now));
        self.clients[client].seen_as = Some(from);
        self.ledger.sends(from);
        self.fly(from, to, bytes);
    }

    /// Somebody writes `from` on a datagram to the relay, whether that is true or not; it arrives at once.
    pub fn inject(&mut self, from: SocketAddr, bytes: &[u8]) -> Result<(), DropReason> {
        self.arrive_at_relay(from, Port::Main, bytes.to_vec())
    }

    fn arrive_at_relay(
        &mut self,
        from: SocketAddr,
        port: Port,
        mut bytes: Vec<u8>,
    ) -> Result<(), DropReason> {
        self.ledger.arrived(from, &bytes);
        let relay = relay_address(port);
        self.capture.push(Record { at: self.now, remote: from, relay, to_relay: true, bytes: bytes.clone() });
        let now = self.clock();
        let mut out = Exit { local_is_up: self.local_is_up, ..Exit::default() };
        let path = Path { remote: from, local: self.locals.get(&from.ip()).copied() };
        let result = self.relay.receive(&mut bytes, Arrival { path, port, now }, &mut out);
        self.local.append(&mut out.local);
        self.leave_relay(out.sent);
        self.pump_relay();
        result
    }

    fn leave_relay(&mut self, sent: Vec<(Path, Port, Vec<u8>)>) {
        for (Path { remote: to, local }, port, bytes) in sent {
            let known = self.locals.get(&to.ip());
            assert_eq!(local, known.copied(), "to {to}, type {}", bytes[0]);
            // STUN has a budget of its own, which its own tests are about.
            if !lanrage::wire::stun::is_stun(&bytes) {
                self.ledger.sent(to, &bytes);
            }
            let relay = relay_address(port);
            self.capture.push(Record {
                at: self.now,
                remote: to,
                relay,
                to_relay: false,
                bytes: bytes.clone(),
            });
            self.fly(relay_address(port), to, &bytes);
        }
    }

    fn pump_relay(&mut self) {
        let now = self.clock();
        let mut out = Exit::default();
        self.relay.poll(now, &mut out);
        self.leave_relay(out.sent);
    }

    /// The relay's own machine sends a packet into the virtual LAN.
    pub fn send_local(&mut self, packet: &[u8]) -> Result<(), DropReason> {
        let mut buffer = [0; 2048];
        buffer[LOCAL_HEADROOM..][..packet.len()].copy_from_slice(packet);
        let (now, mut out) = (self.clock(), Exit::default());
        let result = self.relay.send_local(&mut buffer, packet.len(), now, &mut out);
        self.leave_relay(out.sent);
        self.pump_relay();
        result
    }

    fn pump(&mut self, client: usize) {
        let mut buffer = [0; 2048];
        let now = self.clock();
        while let Some(outgoing) = self.clients[client].device.poll(now, &mut buffer) {
            self.transmit(client, outgoing.to, &buffer[..outgoing.length]);
        }
    }

    fn arrive(&mut self, Flight { from, to, realm, bytes }: Flight) {
        if let Some(player) = self.player_at(from, to, realm) {
            self.ledger.reached(to);
            self.deliver_to_player(player, from, bytes);
            return;
        }
        for port in [Port::Main, Port::Alternate] {
            if to == relay_address(port) {
                if port == Port::Alternate && !self.has_second_port {
                    return;
                }
                let _ = self.arrive_at_relay(from, port, bytes);
                return;
            }
        }
        if let Some(relay) = self.far_relay_at(to.ip()) {
            return self.arrive_at_far_relay(relay, from, to.port(), bytes);
        }
        let nat = self.nats.iter().position(|nat| nat.address == to.ip());
        let inside = match nat {
            Some(nat) => self.nats[nat].inbound(to, from, self.now),
            None => Some(to),
        };
        let found = self
            .clients
            .iter()
            .position(|client| Some(client.local) == inside && client.nat == nat && !client.offline);
        if let Some(client) = found {
            self.ledger.reached(to);
            self.deliver(client, from, bytes);
        }
    }

    fn deliver(&mut self, client: usize, from: SocketAddr, mut bytes: Vec<u8>) {
        let now = self.clock();
        if lanrage::wire::stun::is_stun(&bytes) {
            self.clients[client].packets.push(bytes);
            return;
        }
        let Client { device, inbox, packets, ip, .. } = &mut self.clients[client];
        let verdict = device.receive(&mut bytes, from, now);
        if let Verdict::Accepted(Accepted { content: Content::Packet { range, .. }, .. }) = verdict {
            let packet = &bytes[range];
            packets.push(packet.to_vec());
            if let Some((source, destination, payload)) = read_udp(packet)
                && destination == *ip
            {
                inbox.push((source, payload.to_vec()));
            }
        }
        self.pump(client);
    }

    /// A client's system sends a packet into the virtual LAN.
    pub fn send(&mut self, client: usize, packet: &[u8]) -> Option<SendOutcome> {
        let destination = Ipv4Addr::new(packet[16], packet[17], packet[18], packet[19]);
        let next = self.clients[client].device.route(destination.into())?;
        Some(self.send_to_peer(client, next, packet))
    }

    pub fn send_to_peer(&mut self, client: usize, peer: PeerIndex, packet: &[u8]) -> SendOutcome {
        let mut buffer = [0; 2048];
        buffer[16..16 + packet.len()].copy_from_slice(packet);
        let now = self.clock();
        let sent = self.clients[client].device.send(peer, &mut buffer, packet.len(), now);
        if let SendOutcome::Sealed { to, length } = sent {
            self.transmit(client, to, &buffer[..length]);
        }
        self.pump(client);
        sent
    }

    /// By which index a client knows the hub.
    pub fn hub_index(&self, client: usize) -> PeerIndex {
        self.clients[client].device.find_peer(self.relay.hub_key()).unwrap()
    }

    /// The datagram to the hub that carries `packet`, which nobody sends.
    pub fn seal_for_hub(&mut self, client: usize, packet: &[u8]) -> Vec<u8> {
        let mut buffer = [0; 2048];
        buffer[16..16 + packet.len()].copy_from_slice(packet);
        let (now, peer) = (self.clock(), self.hub_index(client));
        let device = &mut self.clients[client].device;
        let SendOutcome::Sealed { length, .. } = device.send(peer, &mut buffer, packet.len(), now) else {
            panic!("no session")
        };
        buffer[..length].to_vec()
    }

    /// `from` says `word` to `to`, by UDP.
    pub fn say(&mut self, from: usize, to: usize, word: &[u8]) {
        let packet = udp(self.clients[from].ip, self.clients[to].ip, word);
        self.send(from, &packet);
    }

    /// Lets everything happen that is due within `span`.
    pub fn run(&mut self, span: Duration) {
        let end = self.now + span;
        for client in 0..self.clients.len() {
            self.pump(client);
        }
        self.poll_players(true);
        loop {
            let arrival = self.flight.keys().next().map(|(at, _)| *at);
            let timers = self.clients.iter_mut().filter_map(|client| client.device.poll_timeout()).min();
            let relay = self.relay.poll_timeout();
            let players = self.next_of_players();
            let far = self.next_of_far_relays();
            let next = [arrival, timers, relay, players, far].into_iter().flatten().min();
            let Some(next) = next.filter(|&next| next < end) else { break };
            self.now = self.now.max(next);
            if arrival.is_some_and(|arrival| arrival <= self.now) {
                let (_, flight) = self.flight.pop_first().unwrap();
                self.arrive(flight);
            } else if relay.is_some_and(|relay| relay <= self.now) {
                self.pump_relay();
            } else if far.is_some_and(|at| at <= self.now) {
                self.pump_far_relays();
            } else if players.is_some_and(|at| at <= self.now) {
                self.poll_players(false);
            } else {
                for client in 0..self.clients.len() {
                    if self.clients[client].device.poll_timeout().is_some_and(|at| at <= self.now) {
                        self.pump(client);
                    }
                }
            }
        }
        self.now = end;
    }

    /// Whether what each says now reaches the other within a second.
    pub fn talk(&mut self, one: usize, other: usize) -> bool {
        let word = self.random.next_u64().to_le_bytes();
        self.say(one, other, &word);
        self.say(other, one, &word);
        self.run(SECOND);
        [(one, other), (other, one)].iter().all(|&(from, to)| {
            let heard = (self.clients[from].ip, word.to_vec());
            self.clients[to].inbox.contains(&heard)
        })
    }

    /// The first moment from now on, within `limit`, at which both hear each other, who talk all the time.
    pub fn time_to_talk(&mut self, one: usize, other: usize, limit: Duration) -> Option<Duration> {
        let began = self.now;
        while self.now.since(began) < limit {
            let word = self.random.next_u64().to_le_bytes();
            self.say(one, other, &word);
            self.say(other, one, &word);
            self.run(50 * MILLISECOND);
            let hears = |to: usize, from: usize| {
                let ip = self.clients[from].ip;
                self.clients[to].inbox.iter().any(|(source, heard)| *source == ip && heard == &word)
            };
            if hears(one, other) && hears(other, one) {
                return Some(self.now.since(began));
            }
        }
        None
    }

    /// The first moment from now on, within `limit`, at which `to`, who says nothing, hears `from`, who talks all the
    /// time.
    pub fn time_to_be_heard(&mut self, from: usize, to: usize, limit: Duration) -> Option<Duration> {
        let (began, ip) = (self.now, self.clients[from].ip);
        self.clients[to].inbox.clear();
        while self.now.since(began) < limit {
            self.say(from, to, b"are you there?");
            self.run(50 * MILLISECOND);
            if self.clients[to].inbox.iter().any(|(source, _)| *source == ip) {
                return Some(self.now.since(began));
            }
        }
        None
    }

    /// The client's peers are told nothing any more when it has nothing to say.
    pub fn stop_keepalives(&mut self, client: usize) {
        let device = &mut self.clients[client].device;
        let peers: Vec<_> = device.peers().map(|(peer, _)| peer).collect();
        peers.into_iter().for_each(|peer| device.set_persistent_keepalive(peer, None, self.now));
    }

    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.relay.stats().dropped(reason)
    }

    /// What has passed the relay since somebody wanted to know.
    pub fn records(&self) -> &[Record] {
        self.capture.records()
    }
}

pub fn relay(hub_key: &PrivateKey, limits: RelayLimits, seed: u64, now: Instant) -> Relay {
    let config = RelaySettings {
        hub_key: hub_key.clone(),
        subnet: Subnet::DEFAULT,
        mtu: 1420,
        stamp_mark: 0,
        seed,
        limits,
    };
    Relay::new(config, now)
}

/// What comes out of the relay at once.
#[derive(Default)]
pub struct Exit {
    pub sent: Vec<(Path, Port, Vec<u8>)>,
    local: Vec<Vec<u8>>,
    local_is_up: bool,
}

impl Output for Exit {
    fn forward(&mut self, to: Path, received: &[u8], segment: usize) {
        received.chunks(segment).for_each(|datagram| self.send(to, Port::Main, datagram));
    }

    fn send(&mut self, to: Path, from: Port, datagram: &[u8]) {
        self.sent.push((to, from, datagram.to_vec()));
    }

    fn deliver(&mut self, packet: &[u8]) -> bool {
        if self.local_is_up {
            self.local.push(packet.to_vec());
        }
        self.local_is_up
    }
}
