//! No allocation per transport packet: neither where it is opened, nor where it is sealed, nor on the way
//! through a hub or the relay.
//!
//! Allocations are counted per thread, so that the test harness's own do not disturb.

#[path = "harness/allocations.rs"]
mod allocations;

use allocations::ALLOCATIONS;
use lanrage::agent::network::{LocalAddress, Network, NetworkMember};
use lanrage::agent::view::PathKind;
use lanrage::agent::{Agent, AgentOutput, AgentSettings};
use lanrage::crypto::x25519::PrivateKey;
use lanrage::datagram::Path;
use lanrage::figures::Traffic;
use lanrage::ids::{PartyId, PeerId};
use lanrage::relay::limits::RelayLimits;
use lanrage::relay::{Arrival, LOCAL_HEADROOM, Output, Port, Relay, RelaySettings};
use lanrage::subnet::Subnet;
use lanrage::time::{Instant, Now, UnixTime};
use lanrage::wire::ip::{TCP, checksum, transport_checksum};
use lanrage::wire::offload::{Coalescer, TAILROOM, buffer, split};
use lanrage::wireguard::allowed_ips::AllowedIp;
use lanrage::wireguard::constants::X25519_TYPICAL;
use lanrage::wireguard::device::{Device, DeviceSettings};
use lanrage::wireguard::peer::{PeerIndex, PeerSettings};
use lanrage::wireguard::verdict::{Accepted, Content, SendOutcome, Verdict};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

fn at(millis: u64) -> Now {
    let micros = 1_800_000_000_000_000 + millis as i64 * 1000;
    Now { instant: Instant::ZERO + Duration::from_millis(millis), unix: UnixTime::from_micros(micros) }
}

fn address(node: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, node as u8], 51820))
}

fn inner(node: usize) -> IpAddr {
    IpAddr::from([10, 66, 0, node as u8])
}

/// A hub_member, the hub, another hub_member.
struct Party {
    devices: [Device; 3],
}

impl Party {
    fn new() -> Self {
        let mut devices = [0, 1, 2].map(|node| {
            let private_key = PrivateKey::generate();
            Device::new(
                DeviceSettings {
                    private_key,
                    mtu: 1420,
                    stamp_mark: 0,
                    jitter_seed: node,
                    x25519: X25519_TYPICAL,
                },
                at(0).instant,
            )
        });
        for (node, other) in [(0, 1), (1, 0), (1, 2), (2, 1)] {
            let config = PeerSettings {
                endpoint: Some(address(other)),
                persistent_keepalive: Some(Duration::from_secs(25)),
                allowed_ips: vec![AllowedIp::host(inner(other))],
                ..PeerSettings::new(*devices[other].public_key())
            };
            devices[node].add_peer(config, at(0).instant).expect("a good key");
        }
        let mut party = Party { devices };
        // The hub speaks for its first member to the second.
        let index = party.index(2, 1);
        party.devices[2].allow(index, AllowedIp::host(inner(0)));
        party
    }

    fn index(&self, node: usize, other: usize) -> PeerIndex {
        self.devices[node].find_peer(self.devices[other].public_key()).expect("a peer")
    }

    /// Sends what the devices want to send until they want nothing more.
    fn settle(&mut self, now: Now) {
        let mut buffer = [0; 2048];
        loop {
            let mut quiet = true;
            for from in 0..3 {
                while let Some(outgoing) = self.devices[from].poll(now, &mut buffer) {
                    quiet = false;
                    let to = (0..3).find(|&node| address(node) == outgoing.to).expect("one of us");
                    self.devices[to].receive(&mut buffer[..outgoing.length], address(from), now);
                }
            }
            if quiet {
                return;
            }
        }
    }
}

fn packet(buffer: &mut [u8], length: usize) {
    let packet = &mut buffer[16..16 + length];
    packet.fill(0);
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&(length as u16).to_be_bytes());
    packet[12..16].copy_from_slice(&[10, 66, 0, 0]);
    packet[16..20].copy_from_slice(&[10, 66, 0, 2]);
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(black_box(Box::new(7)))), 1);
    assert_eq!(allocations(|| drop(black_box(Vec::<u8>::with_capacity(9)))), 1);
    assert_eq!(allocations(|| ()), 0);
}

#[test]
fn packets_flow_without_allocating() {
    let mut party = Party::new();
    party.settle(at(0));
    let (to_hub, to_spoke) = (party.index(0, 1), party.index(1, 2));
    assert!(party.devices[0].can_send(to_hub, at(0).instant));
    assert!(party.devices[1].can_send(to_spoke, at(0).instant));
    let mut buffer = [0; 2048];
    let mut arrived = 0;
    let mut carry = |party: &mut Party, length: usize, now: Now| {
        packet(&mut buffer, length);
        let SendOutcome::Sealed { length: sealed, .. } =
            party.devices[0].send(to_hub, &mut buffer, length, now)
        else {
            panic!("no session")
        };
        let verdict = party.devices[1].receive(&mut buffer[..sealed], address(0), now);
        let Verdict::Accepted(Accepted { content: Content::Packet { inner, .. }, .. }) = verdict else {
            panic!("not opened")
        };
        let next = party.devices[1].route(inner.destination).expect("the other hub_member");
        let sent = party.devices[1].send(next, &mut buffer[..sealed], inner.length, now);
        let SendOutcome::Sealed { length: sealed, .. } = sent else { panic!("no session") };
        let verdict = party.devices[2].receive(&mut buffer[..sealed], address(1), now);
        assert!(matches!(verdict, Verdict::Accepted(Accepted { content: Content::Packet { .. }, .. })));
        arrived += 1;
        let waits = party.devices.each_mut().map(|device| device.poll_timeout());
        assert!(waits.iter().all(Option::is_some));
    };
    // 100 seconds, so that keepalives and their timers are part of it; only a new session may allocate.
    let counted = allocations(|| {
        for millis in (1..100_000).step_by(7) {
            carry(&mut party, 20 + (millis as usize * 13) % 1400, at(millis));
            if millis % 50 == 0 {
                party.settle(at(millis));
            }
        }
    });
    assert_eq!(counted, 0, "for {arrived} packets");
    assert!(arrived > 10_000);
}

#[test]
fn hostile_datagrams_do_not_allocate() {
    let mut party = Party::new();
    party.settle(at(0));
    let to_hub = party.index(0, 1);
    let mut buffer = [0; 2048];
    packet(&mut buffer, 100);
    let SendOutcome::Sealed { length, .. } = party.devices[0].send(to_hub, &mut buffer, 100, at(1)) else {
        panic!("no session")
    };
    let sealed = buffer;
    let counted = allocations(|| {
        for bit in 0..length * 8 {
            buffer = sealed;
            buffer[bit / 8] ^= 1 << (bit % 8);
            let verdict = party.devices[1].receive(&mut buffer[..length], address(9), at(1));
            assert!(matches!(verdict, Verdict::Dropped(_)), "{verdict:?}");
        }
    });
    assert_eq!(counted, 0);
}

/// A relay with two members that know each other, and two that know the hub.
struct Relayed {
    relay: Relay,
    devices: Vec<Device>,
}

fn relay_address() -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 1], 51820))
}

/// The nodes, and the relay's own machine.
struct Nodes<'a> {
    devices: &'a mut [Device],
    now: Now,
    arrived: usize,
    local: usize,
}

impl Output for Nodes<'_> {
    fn forward(&mut self, to: Path, received: &[u8], _: usize) {
        self.send(to, Port::Main, received);
    }

    fn send(&mut self, to: Path, _: Port, datagram: &[u8]) {
        let node = (0..4).find(|&node| address(node) == to.remote).expect("one of us");
        let mut copy = [0; 2048];
        copy[..datagram.len()].copy_from_slice(datagram);
        self.devices[node].receive(&mut copy[..datagram.len()], relay_address(), self.now);
        self.arrived += 1;
    }

    fn deliver(&mut self, _: &[u8]) -> bool {
        self.local += 1;
        true
    }
}

impl Relayed {
    fn new() -> Self {
        let config = RelaySettings {
            hub_key: PrivateKey::generate(),
            subnet: Subnet::DEFAULT,
            mtu: 1420,
            stamp_mark: 0,
            seed: 1,
            limits: RelayLimits::default(),
        };
        let mut relay = Relay::new(config, at(0).instant);
        let mut devices: Vec<_> = (0..4)
            .map(|node| {
                let private_key = PrivateKey::generate();
                let config = DeviceSettings {
                    private_key,
                    mtu: 1420,
                    stamp_mark: 0,
                    jitter_seed: node,
                    x25519: X25519_TYPICAL,
                };
                Device::new(config, at(0).instant)
            })
            .collect();
        let party = PartyId::new("p").expect("an id");
        for (node, device) in devices.iter().enumerate() {
            let peer = PeerId::new(&format!("{node}")).expect("an id");
            let ip = Ipv4Addr::new(10, 66, 0, node as u8 + 2);
            relay.join(&party, &peer, *device.public_key(), ip, at(0).instant).expect("room");
            relay.set_origin(device.public_key(), Some(address(node).ip()));
        }
        let keys: Vec<_> = devices.iter().map(|device| *device.public_key()).collect();
        let hub = *relay.hub_key();
        for (node, key, prefix) in [
            (0, keys[1], AllowedIp::host(inner(3))),
            (1, keys[0], AllowedIp::host(inner(2))),
            (2, hub, AllowedIp::new(inner(0), 16).expect("a prefix")),
            (3, hub, AllowedIp::new(inner(0), 16).expect("a prefix")),
        ] {
            let config = PeerSettings {
                endpoint: Some(relay_address()),
                persistent_keepalive: Some(Duration::from_secs(25)),
                allowed_ips: vec![prefix],
                ..PeerSettings::new(key)
            };
            devices[node].add_peer(config, at(0).instant).expect("a good key");
        }
        Relayed { relay, devices }
    }

    /// Hands a datagram from a node to the relay and what comes of it to the nodes; how many they got.
    fn carry(&mut self, from: usize, datagram: &mut [u8], now: Now) -> usize {
        let Relayed { relay, devices } = self;
        let mut out = Nodes { devices, now, arrived: 0, local: 0 };
        let _ = relay.receive(datagram, Arrival::new(address(from), Port::Main, now), &mut out);
        relay.poll(now, &mut out);
        out.arrived + out.local
    }

    /// The same for a packet of the relay's own machine.
    fn carry_local(&mut self, buffer: &mut [u8], length: usize, now: Now) -> usize {
        let Relayed { relay, devices } = self;
        let mut out = Nodes { devices, now, arrived: 0, local: 0 };
        let _ = relay.send_local(buffer, length, now, &mut out);
        out.arrived
    }

    fn settle(&mut self, now: Now) {
        let mut buffer = [0; 2048];
        let Relayed { relay, devices } = self;
        relay.poll(now, &mut Nodes { devices, now, arrived: 0, local: 0 });
        for _ in 0..10 {
            for from in 0..4 {
                while let Some(outgoing) = self.devices[from].poll(now, &mut buffer) {
                    self.carry(from, &mut buffer[..outgoing.length], now);
                }
            }
        }
    }
}

/// Datagrams of all kinds that mean nothing.
fn make_noise(world: &mut Relayed, now: Now) {
    for (kind, length) in [(1, 148), (2, 92), (3, 64), (4, 100), (9, 77)] {
        let mut noise = [7; 148];
        noise[..4].copy_from_slice(&[kind, 0, 0, 0]);
        world.carry(3, &mut noise[..length], now);
    }
}

#[test]
fn the_relay_forwards_without_allocating() {
    let mut world = Relayed::new();
    for millis in (0..20_000).step_by(100) {
        world.settle(at(millis));
    }
    let mut buffer = [0; 2048];
    let mut send = |world: &mut Relayed, from: usize, to: [u8; 4], length: usize, now: Now| {
        let packet = &mut buffer[16..16 + length];
        packet.fill(0);
        packet[0] = 0x45;
        packet[2..4].copy_from_slice(&(length as u16).to_be_bytes());
        packet[9] = 17;
        packet[12..16].copy_from_slice(&[10, 66, 0, from as u8 + 2]);
        packet[16..20].copy_from_slice(&to);
        let peer = world.devices[from].route(to.into()).expect("a peer");
        let SendOutcome::Sealed { length, .. } = world.devices[from].send(peer, &mut buffer, length, now)
        else {
            panic!("no session")
        };
        world.carry(from, &mut buffer[..length], now)
    };
    let mut arrived = 0;
    // What strangers' tokens are counted in comes with the first stranger, once.
    make_noise(&mut world, at(20_000));
    // 80 s: keepalives and sweeps, but no new session, are part of it.
    let counted = allocations(|| {
        for millis in (20_000..100_000).step_by(10) {
            let (now, length) = (at(millis), 40 + (millis as usize * 13) % 1300);
            arrived += send(&mut world, 0, [10, 66, 0, 3], length, now);
            arrived += send(&mut world, 1, [10, 66, 0, 2], length, now);
            arrived += send(&mut world, 2, [10, 66, 0, 5], length, now);
            if millis % 1000 == 0 {
                arrived += send(&mut world, 3, [10, 66, 255, 255], length, now);
            }
            if millis % 50 == 0 {
                world.settle(now);
            }
            make_noise(&mut world, now);
        }
    });
    assert!(arrived >= 3 * 8000, "{arrived}");
    assert_eq!(world.relay.stats().traffic(Traffic::Broadcast).packets, 80);
    assert_eq!(counted, 0, "for {arrived} packets");
}

#[test]
fn the_relays_own_machine_takes_part_without_allocating() {
    let mut world = Relayed::new();
    world.relay.take_part();
    for millis in (0..20_000).step_by(100) {
        world.settle(at(millis));
    }
    let mut buffer = [0; 2048];
    let mut lay = |from: u8, to: [u8; 4], length: usize| {
        let packet = &mut buffer[LOCAL_HEADROOM..][..length];
        packet.fill(0);
        packet[0] = 0x45;
        packet[2..4].copy_from_slice(&(length as u16).to_be_bytes());
        packet[9] = 17;
        packet[12..16].copy_from_slice(&[10, 66, 0, from]);
        packet[16..20].copy_from_slice(&to);
        buffer
    };
    let (mut came, mut went) = (0, 0);
    let counted = allocations(|| {
        for millis in (20_000..100_000).step_by(10) {
            let (now, length) = (at(millis), 40 + (millis as usize * 13) % 1300);
            for to in [[10, 66, 0, 1], [10, 66, 255, 255]] {
                if to[2] == 0 || millis % 1000 == 0 {
                    let mut packet = lay(4, to, length);
                    let peer = world.devices[2].route(to.into()).expect("the hub");
                    let sent = world.devices[2].send(peer, &mut packet, length, now);
                    let SendOutcome::Sealed { length, .. } = sent else { panic!("no session") };
                    came += world.carry(2, &mut packet[..length], now);
                }
            }
            went += world.carry_local(&mut lay(1, [10, 66, 0, 5], length), length, now);
            went += world.carry_local(&mut lay(9, [10, 66, 0, 5], length), length, now);
            if millis % 1000 == 0 {
                went += world.carry_local(&mut lay(1, [10, 66, 255, 255], length), length, now);
            }
            if millis % 50 == 0 {
                world.settle(now);
            }
        }
    });
    // Of a broadcast the other member at the hub gets a copy, too.
    assert!((8000 + 2 * 80..8400).contains(&came), "{came}");
    assert!((8000 + 2 * 80..8400).contains(&went), "{went}");
    assert_eq!(counted, 0, "for {came} and {went} packets");
}

/// What two agents send each other, straight, in order; no more than a few at once.
struct Straight {
    waiting: Box<[[u8; 2048]; 64]>,
    lengths: [usize; 64],
    to: [SocketAddr; 64],
    count: usize,
    delivered: usize,
}

impl AgentOutput for Straight {
    fn send(&mut self, to: Path, datagram: &[u8]) {
        self.waiting[self.count][..datagram.len()].copy_from_slice(datagram);
        (self.lengths[self.count], self.to[self.count]) = (datagram.len(), to.remote);
        self.count += 1;
    }

    fn deliver(&mut self, _packet: &[u8]) {
        self.delivered += 1;
    }
}

/// Carries all that waits, until nothing does.
fn carry(agents: &mut [Agent; 2], wire: &mut Straight, now: Now) {
    agents.iter_mut().for_each(|agent| agent.poll(now, wire));
    let mut place = 0;
    while place < wire.count {
        let mut datagram = wire.waiting[place];
        let (to, length) = (wire.to[place], wire.lengths[place]);
        place += 1;
        if let Some(node) = (0..2).find(|&node| address(node + 1) == to) {
            agents[node].receive(&mut datagram[..length], Path::to(address(2 - node)), now, wire);
            agents[node].poll(now, wire);
        }
        if place == wire.count {
            (place, wire.count) = (0, 0);
        }
    }
}

#[test]
fn agents_play_without_allocating() {
    let mut agents = [1, 2].map(|seed| {
        let key = PrivateKey::generate();
        let settings = AgentSettings { key, stamp_mark: 0, mtu: 1420, seed, x25519: X25519_TYPICAL };
        Agent::new(settings, at(0).instant)
    });
    let ids = ["one", "other"].map(|id| PeerId::new(id).expect("an id"));
    let ip = |node: usize| Ipv4Addr::new(10, 66, 0, node as u8 + 2);
    for node in 0..2 {
        let key = *agents[1 - node].public_key();
        let member = NetworkMember {
            peer_id: ids[1 - node].clone(),
            name: "friend".into(),
            key,
            ip: ip(1 - node),
            is_device: false,
        };
        agents[node].set_links(&[LocalAddress { address: address(node + 1), prefix: 24 }], at(0));
        let network =
            Network { own_ip: ip(node), subnet: Subnet::DEFAULT, relay: None, members: vec![member] };
        agents[node].set_network(network, at(0));
    }
    let mut wire = Straight {
        waiting: Box::new([[0; 2048]; 64]),
        lengths: [0; 64],
        to: [address(1); 64],
        count: 0,
        delivered: 0,
    };
    for millis in (0..20_000).step_by(50) {
        carry(&mut agents, &mut wire, at(millis));
        for node in 0..2 {
            for (_, text) in agents[node].take_signals() {
                agents[1 - node].signal(&ids[node], &text, at(millis));
            }
        }
    }
    let is_direct = |agent: &Agent| agent.members(at(20_000)).all(|member| member.path == PathKind::Lan);
    assert!(agents.iter().all(is_direct));
    let mut buffer = [0; 2048];
    let counted = allocations(|| {
        for millis in (20_000..100_000).step_by(10) {
            for (node, agent) in agents.iter_mut().enumerate() {
                let length = 40 + (millis as usize * 13) % 1300;
                packet(&mut buffer, length);
                buffer[28..32].copy_from_slice(&ip(node).octets());
                buffer[32..36].copy_from_slice(&ip(1 - node).octets());
                agent.send_local(&mut buffer, length, at(millis), &mut wire);
                agent.poll(at(millis), &mut wire);
            }
            carry(&mut agents, &mut wire, at(millis));
        }
    });
    assert_eq!(wire.delivered, 16_000);
    assert_eq!(counted, 0);
}

#[test]
fn joining_and_cutting_packets_allocates_nothing() {
    let (mut coalescer, mut room) = (Coalescer::new(true), buffer());
    let mut packet = [0; 1240];
    (packet[0], packet[6], packet[9]) = (0x45, 0x40, TCP);
    packet[2..4].copy_from_slice(&1240u16.to_be_bytes());
    (packet[32], packet[33]) = (5 << 4, 16);
    let sum = checksum(&packet[..20]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    let (mut long, mut short) = (0, 0);
    let count = allocations(|| {
        for number in 0..200u32 {
            packet[24..28].copy_from_slice(&(number * 1200).to_be_bytes());
            packet[36..38].fill(0);
            let nowhere = Ipv4Addr::UNSPECIFIED;
            let sum = transport_checksum(nowhere, nowhere, TCP, &packet[20..]);
            packet[36..38].copy_from_slice(&sum.to_be_bytes());
            coalescer.push(&packet, &mut |header, packet| {
                long += 1;
                room[TAILROOM..][..packet.len()].copy_from_slice(packet);
                short += split(header, &mut room, TAILROOM, packet.len(), &mut |_, length| {
                    assert_eq!(length, 1240)
                });
                true
            });
        }
    });
    assert_eq!(count, 0);
    assert!((3..=4).contains(&long) && short > 150, "{long} {short}");
}
