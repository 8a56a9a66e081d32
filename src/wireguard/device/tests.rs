//! Whole devices in virtual time, over a network that delays, loses and records.

use super::*;
use crate::crypto::random::Seeded;
use crate::crypto::x25519::computations;
use crate::time::UnixTime;
use crate::wireguard::budget::Lane;
use crate::wireguard::constants::{
    COOKIE_LIFETIME, REJECT_AFTER_MESSAGES, REKEY_AFTER_MESSAGES, REKEY_TIMEOUT, X25519_TYPICAL,
};
use crate::wireguard::cookie::Signer;
use crate::wireguard::message::{RESPONSE_LENGTH, Type, mac2};
use crate::wireguard::noise::PresharedKey;
use std::collections::BTreeMap;

const SECOND: Duration = Duration::from_secs(1);
/// The one-way delay of every link.
const DELAY: Duration = Duration::from_millis(20);

/// A router that has its time: 2027.
const EPOCH: i64 = 1_800_000_000_000_000;

struct Node {
    device: Device,
    address: SocketAddr,
    /// Added to the wall clock, in microseconds.
    clock_error: i64,
    /// Packets that arrived, and from whom.
    received: Vec<(PeerIndex, Vec<u8>)>,
    dropped: Vec<Reason>,
    rejected: Vec<Rejection>,
    polls: usize,
}

/// A datagram that was sent: when, by which node, and what.
#[derive(Clone, Debug)]
struct Record {
    at: Instant,
    from: usize,
    kind: Type,
    bytes: Vec<u8>,
}

struct Net {
    now: Instant,
    nodes: Vec<Node>,
    flight: BTreeMap<(Instant, u64), (SocketAddr, SocketAddr, Vec<u8>)>,
    sequence: u64,
    random: Seeded,
    /// Of a hundred datagrams.
    loss: u64,
    /// Nothing from here arrives.
    silenced: Option<usize>,
    records: Vec<Record>,
}

fn address(node: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, node as u8 + 1], 51820))
}

fn inner_ip(node: usize) -> [u8; 4] {
    [10, 66, 0, node as u8 + 1]
}

/// An IPv4 packet from one node to another, `length` bytes in all.
fn packet(from: usize, to: usize, length: usize, fill: u8) -> Vec<u8> {
    let mut packet = vec![fill; length];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&(length as u16).to_be_bytes());
    packet[12..16].copy_from_slice(&inner_ip(from));
    packet[16..20].copy_from_slice(&inner_ip(to));
    packet
}

fn device(seed: u64, stamp_mark: u64, now: Instant) -> Device {
    let mut key = [0; 32];
    Seeded::new(seed).fill(&mut key);
    let private_key = PrivateKey::from_bytes(key);
    Device::new(
        DeviceSettings { private_key, mtu: 1420, stamp_mark, jitter_seed: seed, x25519: X25519_TYPICAL },
        now,
    )
}

/// What `of` is told of `node`.
fn peer_config(of: &Net, node: usize) -> PeerSettings {
    PeerSettings {
        allowed_ips: vec![AllowedIp::host(IpAddr::from(inner_ip(node)))],
        endpoint: Some(address(node)),
        ..PeerSettings::new(*of.nodes[node].device.public_key())
    }
}

impl Net {
    /// `count` nodes that all know each other.
    fn new(seed: u64, count: usize) -> Self {
        let mut net = Net {
            now: Instant::ZERO + Duration::from_secs(1000),
            nodes: Vec::new(),
            flight: BTreeMap::new(),
            sequence: 0,
            random: Seeded::new(seed),
            loss: 0,
            silenced: None,
            records: Vec::new(),
        };
        for node in 0..count {
            let device = device(seed * 1000 + node as u64, 0, net.now);
            let address = address(node);
            net.nodes.push(Node {
                device,
                address,
                clock_error: 0,
                received: Vec::new(),
                dropped: Vec::new(),
                rejected: Vec::new(),
                polls: 0,
            });
        }
        for node in 0..count {
            for other in (0..count).filter(|&other| other != node) {
                let settings = peer_config(&net, other);
                net.nodes[node].device.add_peer(settings, net.now).unwrap();
            }
        }
        net
    }

    fn clock(&self, node: usize) -> Now {
        let micros = EPOCH + self.nodes[node].clock_error + (self.now.as_nanos() / 1000) as i64;
        Now { instant: self.now, unix: UnixTime::from_micros(micros) }
    }

    /// By which index `node` knows `other`.
    fn index(&self, node: usize, other: usize) -> PeerIndex {
        self.nodes[node].device.find_peer(self.nodes[other].device.public_key()).unwrap()
    }

    fn stats(&self, node: usize, other: usize) -> PeerStats {
        *self.nodes[node].device.stats(self.index(node, other)).unwrap()
    }

    /// Node 0 begins a handshake.
    fn connect(&mut self, index: PeerIndex) {
        let now = self.clock(0);
        self.nodes[0].device.connect(index, now);
    }

    fn transmit(&mut self, from: usize, to: SocketAddr, bytes: &[u8]) {
        let kind = Message::parse(bytes).expect("we only send messages").kind();
        self.records.push(Record { at: self.now, from, kind, bytes: bytes.to_vec() });
        if self.random.below(100) < self.loss || self.silenced == Some(from) {
            return;
        }
        self.sequence += 1;
        let flight = (self.nodes[from].address, to, bytes.to_vec());
        self.flight.insert((self.now + DELAY, self.sequence), flight);
    }

    fn pump(&mut self, node: usize) {
        let mut buffer = [0; 2048];
        let now = self.clock(node);
        while let Some(outgoing) = self.nodes[node].device.poll(now, &mut buffer) {
            self.transmit(node, outgoing.to, &buffer[..outgoing.length]);
        }
        self.nodes[node].polls += 1;
    }

    fn send_bytes(&mut self, from: usize, to: usize, packet: &[u8]) -> SendOutcome {
        let mut buffer = [0x77; 2048];
        buffer[16..16 + packet.len()].copy_from_slice(packet);
        let (now, index) = (self.clock(from), self.index(from, to));
        let sent = self.nodes[from].device.send(index, &mut buffer, packet.len(), now);
        if let SendOutcome::Sealed { to, length } = sent {
            self.transmit(from, to, &buffer[..length]);
        }
        self.pump(from);
        sent
    }

    fn send(&mut self, from: usize, to: usize) -> SendOutcome {
        self.send_bytes(from, to, &packet(from, to, 100, 0))
    }

    /// Hands `bytes` to a node as if they had come from `source`.
    fn deliver(&mut self, node: usize, source: SocketAddr, bytes: &[u8]) -> Verdict {
        let (mut bytes, now) = (bytes.to_vec(), self.clock(node));
        let verdict = self.nodes[node].device.receive(&mut bytes, source, now);
        match &verdict {
            Verdict::Accepted(Accepted { peer, content: Content::Packet { range, .. }, .. }) => {
                self.nodes[node].received.push((*peer, bytes[range.clone()].to_vec()));
            }
            Verdict::Accepted(Accepted { content: Content::Rejected(why), .. }) => {
                self.nodes[node].rejected.push(*why);
            }
            Verdict::Dropped(reason) => self.nodes[node].dropped.push(*reason),
            _ => {}
        }
        self.pump(node);
        verdict
    }

    /// Lets everything happen that is due before `end`.
    fn run_until(&mut self, end: Instant) {
        for node in 0..self.nodes.len() {
            self.pump(node);
        }
        loop {
            let arrival = self.flight.keys().next().map(|(at, _)| *at);
            let timers = self.nodes.iter_mut().filter_map(|node| node.device.poll_timeout()).min();
            let Some(next) = arrival.into_iter().chain(timers).min().filter(|&next| next < end) else {
                break;
            };
            self.now = self.now.max(next);
            if arrival == Some(next) {
                let (_, (source, to, bytes)) = self.flight.pop_first().unwrap();
                if let Some(node) = self.nodes.iter().position(|node| node.address == to) {
                    self.deliver(node, source, &bytes);
                }
            } else {
                for node in 0..self.nodes.len() {
                    if self.nodes[node].device.poll_timeout().is_some_and(|at| at <= self.now) {
                        self.pump(node);
                    }
                }
            }
        }
        self.now = end;
    }

    fn run(&mut self, span: Duration) {
        self.run_until(self.now + span);
    }

    fn sent(&self, node: usize, kind: Type) -> usize {
        self.records.iter().filter(|record| record.from == node && record.kind == kind).count()
    }

    /// What was sent since the records were last taken.
    fn take_records(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.records)
    }

    /// A session between 0 and 1, which 0 began.
    fn connected(seed: u64) -> Self {
        let mut net = Net::new(seed, 2);
        net.send(0, 1);
        net.run(SECOND / 2);
        assert_eq!(net.nodes[1].received.len(), 1);
        net
    }
}

/// When the records that `which` picks were sent.
fn times(net: &Net, which: impl Fn(&Record) -> bool) -> Vec<Instant> {
    net.records.iter().filter(|record| which(record)).map(|record| record.at).collect()
}

fn accepted_of(verdict: &Verdict) -> &Accepted {
    let Verdict::Accepted(accepted) = verdict else { panic!("{verdict:?}") };
    accepted
}

#[test]
fn a_packet_waits_for_its_session_and_then_packets_flow() {
    let mut net = Net::new(1, 2);
    let packets: Vec<_> = (0..3).map(|fill| packet(0, 1, 60 + usize::from(fill), fill)).collect();
    for packet in &packets {
        assert_eq!(net.send_bytes(0, 1, packet), SendOutcome::Staged);
    }
    net.run(SECOND);
    let from_0 = net.index(1, 0);
    let expected: Vec<_> = packets.into_iter().map(|packet| (from_0, packet)).collect();
    assert_eq!(net.nodes[1].received, expected, "all, in order, without padding");
    assert_eq!(net.sent(0, Type::Initiation), 1);
    assert_eq!(net.sent(1, Type::Response), 1);
    assert_eq!(
        net.sent(0, Type::Transport),
        3,
        "the first packet confirms the session, no keepalive is needed"
    );
    assert!(matches!(net.send(1, 0), SendOutcome::Sealed { .. }));
    net.run(SECOND);
    assert_eq!(net.nodes[0].received.len(), 1);

    let (ours, theirs) = (net.stats(0, 1), net.stats(1, 0));
    assert_eq!((ours.sent_packets, ours.received_packets), (4, 2));
    assert_eq!((theirs.sent_packets, theirs.received_packets), (2, 4));
    assert_eq!((ours.sent_bytes, ours.received_bytes), (theirs.received_bytes, theirs.sent_bytes));
    assert_eq!(theirs.received_bytes, (148 + (32 + 64) * 3) as u64);
    let start = Instant::ZERO + Duration::from_secs(1000);
    assert_eq!(ours.last_handshake, Some(start + DELAY * 2));
    assert_eq!(theirs.last_handshake, Some(start + DELAY * 3), "when the initiator has used it");
}

#[test]
fn verdicts_tell_who_and_whether_a_session_came_up() {
    let mut net = Net::new(2, 2);
    let (index_0, index_1) = (net.index(1, 0), net.index(0, 1));
    net.connect(index_1);
    net.pump(0);
    let initiation = net.take_records().remove(0).bytes;
    net.flight.clear();
    let verdict = net.deliver(1, address(0), &initiation);
    let expected = Accepted { peer: index_0, content: Content::Handshake, established: false, roamed: false };
    assert_eq!(verdict, Verdict::Accepted(expected));
    assert!(!net.nodes[1].device.can_send(index_0, net.now), "not before it is confirmed");
    assert_eq!(net.send(1, 0), SendOutcome::Staged, "nor is it sent on");
    let response = net.take_records().remove(0).bytes;
    let verdict = net.deliver(0, address(1), &response);
    let expected = Accepted { peer: index_1, content: Content::Handshake, established: true, roamed: false };
    assert_eq!(verdict, Verdict::Accepted(expected));
    let keepalive = net.take_records().remove(0).bytes;
    assert_eq!(keepalive.len(), KEEPALIVE_LENGTH);
    assert_eq!(net.stats(1, 0).round_trip, None);
    net.now += Duration::from_millis(30);
    let verdict = net.deliver(1, address(0), &keepalive);
    assert_eq!(net.stats(1, 0).round_trip, Some(Duration::from_millis(30)), "since the response");
    let expected = Accepted { peer: index_0, content: Content::Keepalive, established: true, roamed: false };
    assert_eq!(verdict, Verdict::Accepted(expected));
    net.run(SECOND);
    assert_eq!(net.nodes[0].received.len(), 1, "what was staged for the confirmation");
    assert_eq!(net.sent(1, Type::Initiation), 0);
}

/// The device as responder and as initiator, with an independent implementation at the other end.
#[test]
fn speaks_with_snow_in_both_roles() {
    for psk in [[0; 32], [9; 32]] {
        let mut net = Net::new(3, 1);
        let theirs = PrivateKey::generate();
        let (their_bytes, their_address) = (theirs.to_bytes(), address(7));
        let settings = PeerSettings {
            preshared_key: PresharedKey::new(psk),
            endpoint: Some(their_address),
            allowed_ips: vec![AllowedIp::host(IpAddr::from(inner_ip(7)))],
            ..PeerSettings::new(theirs.public_key())
        };
        let index = net.nodes[0].device.add_peer(settings, net.now).unwrap();
        let our_key = *net.nodes[0].device.public_key();
        let builder = || {
            snow::Builder::new("Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s".parse().unwrap())
                .local_private_key(&*their_bytes)
                .unwrap()
                .prologue(b"WireGuard v1 zx2c4 Jason@zx2c4.com")
                .unwrap()
                .psk(2, &psk)
                .unwrap()
        };
        let mut buffer = [0; 2048];

        let mut snow = builder().remote_public_key(our_key.as_bytes()).unwrap().build_initiator().unwrap();
        let mut initiation = [0; INITIATION_LENGTH];
        initiation[..8].copy_from_slice(&[1, 0, 0, 0, 1, 2, 3, 4]);
        assert_eq!(snow.write_message(&[0x40; 12], &mut initiation[8..116]).unwrap(), 108);
        assert_eq!(net.deliver(0, their_address, &initiation), Verdict::Dropped(Reason::WrongMac1));
        Signer::default().sign(&our_key, &mut initiation, net.now);
        assert_eq!(accepted_of(&net.deliver(0, their_address, &initiation)).peer, index);
        let response = net.take_records().remove(0).bytes;
        assert!(Mac1Key::new(&theirs.public_key()).matches(&response));
        let Some(Message::Response(message)) = Message::parse(&response) else { panic!() };
        assert_eq!(message.receiver(), 0x0403_0201);
        snow.read_message(&response[12..60], &mut buffer).unwrap();
        let snow = snow.into_stateless_transport_mode().unwrap();
        let mut sealed = [0; 16 + 64 + 16];
        sealed[0] = 4;
        sealed[4..8].copy_from_slice(&message.sender().to_le_bytes());
        let mut text = packet(7, 0, 61, 5);
        text.resize(64, 0);
        snow.write_message(0, &text, &mut sealed[16..]).unwrap();
        assert!(accepted_of(&net.deliver(0, their_address, &sealed)).established);
        assert_eq!(net.nodes[0].received, [(index, packet(7, 0, 61, 5))]);
        buffer.fill(0x77);
        buffer[16..116].copy_from_slice(&packet(0, 7, 100, 6));
        let now = net.clock(0);
        let sent = net.nodes[0].device.send(index, &mut buffer, 100, now);
        assert_eq!(sent, SendOutcome::Sealed { to: their_address, length: 16 + 112 + 16 });
        let mut text = [0; 200];
        assert_eq!(snow.read_message(0, &buffer[16..144], &mut text).unwrap(), 112);
        assert_eq!(text[..100], packet(0, 7, 100, 6));
        assert_eq!(text[100..112], [0; 12], "padding is zero");

        net.run(REKEY_TIMEOUT);
        net.take_records();
        net.connect(index);
        net.pump(0);
        let initiation = net.take_records().remove(0).bytes;
        assert!(Mac1Key::new(&theirs.public_key()).matches(&initiation));
        let mut snow = builder().build_responder().unwrap();
        assert_eq!(snow.read_message(&initiation[8..116], &mut buffer).unwrap(), 12);
        assert_eq!(snow.get_remote_static().unwrap(), our_key.as_bytes());
        let mut response = [0; RESPONSE_LENGTH];
        response[..8].copy_from_slice(&[2, 0, 0, 0, 5, 6, 7, 8]);
        response[8..12].copy_from_slice(&initiation[4..8]);
        snow.write_message(&[], &mut response[12..60]).unwrap();
        Signer::default().sign(&our_key, &mut response, net.now);
        assert!(accepted_of(&net.deliver(0, their_address, &response)).established);
        let keepalive = net.take_records().remove(0).bytes;
        assert_eq!(keepalive[..16], [4, 0, 0, 0, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0]);
        let snow = snow.into_stateless_transport_mode().unwrap();
        assert_eq!(snow.read_message(0, &keepalive[16..], &mut text).unwrap(), 0);
    }
}

#[test]
fn the_endpoint_moves_with_authentic_new_messages_alone() {
    let mut net = Net::connected(4);
    let elsewhere = address(99);
    net.take_records();
    net.send(0, 1);
    let genuine = net.take_records().remove(0).bytes;
    net.flight.clear();
    let mut forged = genuine.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(net.deliver(1, elsewhere, &forged), Verdict::Dropped(Reason::Forged));
    assert_eq!(net.stats(1, 0).endpoint, Some(address(0)));
    assert!(!accepted_of(&net.deliver(1, address(0), &genuine)).roamed);
    assert_eq!(net.deliver(1, elsewhere, &genuine), Verdict::Dropped(Reason::Replayed));
    assert_eq!(net.stats(1, 0).endpoint, Some(address(0)));
    net.take_records();
    net.send(0, 1);
    let genuine = net.take_records().remove(0).bytes;
    assert!(accepted_of(&net.deliver(1, elsewhere, &genuine)).roamed);
    assert_eq!(net.stats(1, 0).endpoint, Some(elsewhere));
    let now = net.clock(1);
    let index = net.index(1, 0);
    let mut buffer = [0; 200];
    let sent = net.nodes[1].device.send(index, &mut buffer, 20, now);
    assert_eq!(sent, SendOutcome::Sealed { to: elsewhere, length: 64 });
}

#[test]
fn an_initiation_counts_once_whatever_its_source() {
    let mut net = Net::connected(5);
    let initiation = net.records.iter().find(|record| record.kind == Type::Initiation).unwrap().bytes.clone();
    net.run(SECOND);
    let before = net.stats(1, 0);
    assert_eq!(net.deliver(1, address(99), &initiation), Verdict::Dropped(Reason::Replayed));
    assert_eq!(net.stats(1, 0), before);
    // The way out for a peer whose clock was in the future, which also is why nobody else may take it.
    let index = net.index(1, 0);
    assert!(net.nodes[1].device.greatest_timestamp(index).is_some());
    net.nodes[1].device.set_greatest_timestamp(index, None);
    assert!(accepted_of(&net.deliver(1, address(0), &initiation)).peer == index);
    assert_eq!(net.deliver(1, address(0), &initiation), Verdict::Dropped(Reason::Replayed));
}

#[test]
fn initiations_of_one_peer_are_20_ms_apart() {
    let mut net = Net::new(6, 2);
    let index = net.index(0, 1);
    let mut initiations = Vec::new();
    for _ in 0..3 {
        net.connect(index);
        net.run(REKEY_TIMEOUT + SECOND);
        initiations.push(net.take_records().into_iter().find(|r| r.kind == Type::Initiation).unwrap().bytes);
    }
    // To a device that has not seen them yet.
    let mut net_1 = Net::new(6, 2);
    net_1.run(SECOND);
    assert!(matches!(net_1.deliver(1, address(0), &initiations[0]), Verdict::Accepted(_)));
    net_1.now += INITIATION_INTERVAL - Duration::from_nanos(1);
    assert_eq!(net_1.deliver(1, address(0), &initiations[1]), Verdict::Dropped(Reason::Limited));
    net_1.now += Duration::from_nanos(1);
    assert!(matches!(net_1.deliver(1, address(0), &initiations[1]), Verdict::Accepted(_)));
}

/// Handshake messages of nobody's that are read before their senders must prove their addresses.
fn without_limit() -> usize {
    let rates = *Budget::new(X25519_TYPICAL).rates(Lane::Unproven);
    (rates.total.burst - INITIATION_COST + 1) as usize
}

/// Fifty more than that.
fn overload(net: &mut Net, node: usize) -> Vec<Verdict> {
    flood(net, node, without_limit() + 50)
}

/// Handshake messages with a valid mac1 from nobody we know, each from another network: what a flooder who knows our
/// key can send.
fn flood(net: &mut Net, node: usize, count: usize) -> Vec<Verdict> {
    let key = *net.nodes[node].device.public_key();
    let mut message = [0; INITIATION_LENGTH];
    (0..count)
        .map(|number| {
            net.random.fill(&mut message);
            message[..4].copy_from_slice(&[1, 0, 0, 0]);
            Signer::default().sign(&key, &mut message, net.now);
            let mut bytes = message;
            let source = SocketAddr::from(([203, (number >> 8) as u8, number as u8, 1], 1 + number as u16));
            let now = net.clock(node);
            net.nodes[node].device.receive(&mut bytes, source, now)
        })
        .collect()
}

#[test]
fn under_load_a_peer_proves_its_address_and_gets_through() {
    let mut net = Net::new(7, 3);
    let burst = without_limit();
    let verdicts = overload(&mut net, 1);
    assert!(verdicts[..burst].iter().all(|verdict| *verdict == Verdict::Dropped(Reason::Forged)));
    assert!(verdicts[burst..].iter().all(|verdict| *verdict == Verdict::Challenged));
    net.pump(1);
    assert_eq!(net.sent(1, Type::CookieReply), 50);
    assert!(net.take_records().iter().all(|record| record.bytes.len() < INITIATION_LENGTH));
    net.flight.clear();

    assert_eq!(net.send(0, 1), SendOutcome::Staged);
    net.flight.clear();
    let initiation = net.records[0].bytes.clone();
    assert_eq!(net.deliver(1, address(0), &initiation), Verdict::Challenged);
    net.run(SECOND / 2);
    assert_eq!(net.sent(1, Type::CookieReply), 1);
    assert_eq!(net.sent(1, Type::Response), 0);
    // The flood goes on until the retry, and beyond.
    let end = net.now + Duration::from_secs(8);
    while net.now < end {
        flood(&mut net, 1, 30);
        net.run(SECOND / 10);
    }
    assert_eq!(net.nodes[1].received.len(), 1, "the retry carried the cookie");
    let retry = net
        .records
        .iter()
        .rfind(|record| record.from == 0 && record.kind == Type::Initiation)
        .unwrap()
        .clone();
    assert_ne!(mac2(&retry.bytes).unwrap(), &[0; 16]);
    // The same message from another port, or another address, proves nothing.
    for elsewhere in [SocketAddr::from(([192, 0, 2, 1], 51821)), address(98)] {
        overload(&mut net, 1);
        assert_eq!(net.deliver(1, elsewhere, &retry.bytes), Verdict::Challenged);
    }
    // Nobody is limited for somebody else's flood: a third one gets through the same way.
    assert_eq!(net.send(2, 1), SendOutcome::Staged);
    let end = net.now + Duration::from_secs(8);
    while net.now < end {
        flood(&mut net, 1, 30);
        net.run(SECOND / 10);
    }
    assert_eq!(net.nodes[1].received.len(), 2);
}

#[test]
fn a_proven_source_has_its_share_under_load_and_no_more() {
    let mut net = Net::new(8, 2);
    let key = *net.nodes[1].device.public_key();
    let rates = *Budget::new(X25519_TYPICAL).rates(Lane::Proven);
    overload(&mut net, 1);
    net.pump(1);
    for source in [address(0), address(70)] {
        let mut signer = Signer::default();
        let mut message = [0; INITIATION_LENGTH];
        message[0] = 1;
        signer.sign(&key, &mut message, net.now);
        assert_eq!(net.deliver(1, source, &message), Verdict::Challenged);
        let reply = net.records.last().unwrap().bytes.clone();
        let Some(Message::CookieReply(reply)) = Message::parse(&reply) else { panic!() };
        assert!(signer.take_cookie(&key, reply, net.now));
        signer.sign(&key, &mut message, net.now);
        let share = (rates.subscriber.burst - INITIATION_COST + 1) as usize;
        let verdicts: Vec<_> = (0..share + 5).map(|_| net.deliver(1, source, &message)).collect();
        assert!(verdicts[..share].iter().all(|verdict| *verdict == Verdict::Dropped(Reason::Forged)));
        assert!(verdicts[share..].iter().all(|verdict| *verdict == Verdict::Dropped(Reason::Limited)));
    }
}

/// A peer that is known to be where its initiation comes from doesn't stand behind strangers; if somebody else says to
/// be there so often that this share is spent, it proves its address like anybody.
#[test]
fn who_is_expected_has_a_share_of_its_own() {
    let mut net = Net::new(32, 2);
    assert_eq!(net.send(0, 1), SendOutcome::Staged);
    let genuine = net.take_records().remove(0).bytes;
    net.flight.clear();
    overload(&mut net, 1);
    let now = net.clock(1);
    let mut receive = |bytes: &[u8], is_expected| match net.nodes[1].device.receive_from(
        &mut bytes.to_vec(),
        address(0),
        is_expected,
        now,
    ) {
        ReceiveOutcome::Verdict(verdict) => verdict,
        ReceiveOutcome::Unknown(_) => panic!("it is known"),
    };
    assert_eq!(receive(&genuine, false), Verdict::Challenged);
    assert!(matches!(receive(&genuine, true), Verdict::Accepted(_)));
    let read = (0..100).filter(|_| receive(&genuine, true) == Verdict::Dropped(Reason::Replayed)).count();
    let burst = Budget::new(X25519_TYPICAL).rates(Lane::Expected).subscriber.burst;
    // The genuine one cost all five; each of these needs as many, and costs one.
    assert_eq!(read, (burst - 2 * INITIATION_COST + 1) as usize);
    assert_eq!(receive(&genuine, true), Verdict::Challenged);
}

/// What handshake messages are charged for is what they cost: one computation, if nobody has the key in it.
#[test]
fn every_computation_is_charged_and_an_unknown_key_costs_one() {
    let mut net = Net::new(33, 2);
    let (known, unknown) = (net.index(1, 0), address(0));
    let cost = |net: &mut Net, expected: u64, act: &mut dyn FnMut(&mut Net)| {
        let (done, charged) = (computations::done(), net.nodes[1].device.x25519_count());
        act(net);
        assert_eq!(computations::done() - done, expected);
        assert_eq!(net.nodes[1].device.x25519_count() - charged, expected);
    };
    net.send(0, 1);
    let initiation = net.take_records().remove(0).bytes;
    net.flight.clear();
    net.nodes[1].device.remove_peer(known);
    cost(&mut net, 1, &mut |net| {
        assert_eq!(net.deliver(1, unknown, &initiation), Verdict::Dropped(Reason::UnknownPeer));
    });
    // Who is made a peer when its key is read goes on without being read again: the DH of both static keys, our
    // ephemeral key, and two with that.
    let settings = peer_config(&net, 0);
    cost(&mut net, 1 + 4, &mut |net| {
        let now = net.clock(1);
        let device = &mut net.nodes[1].device;
        let ReceiveOutcome::Unknown(stranger) =
            device.receive_from(&mut initiation.clone(), unknown, false, now)
        else {
            panic!()
        };
        assert_eq!(stranger.public_key(), &settings.public_key);
        device.add_peer(settings.clone(), now.instant).unwrap();
        assert!(matches!(device.accept(stranger, now.instant), Verdict::Accepted(_)));
    });
    cost(&mut net, 1, &mut |net| {
        assert_eq!(net.deliver(1, address(0), &initiation), Verdict::Dropped(Reason::Replayed));
    });
    net.pump(1);
    net.run(SECOND);
    net.run(REKEY_TIMEOUT * 2);
    let forged = {
        let mut forged = initiation.clone();
        forged[100] ^= 1;
        let key = *net.nodes[1].device.public_key();
        Signer::default().sign(&key, &mut forged, net.now);
        forged
    };
    cost(&mut net, 1, &mut |net| {
        assert_eq!(net.deliver(1, address(0), &forged), Verdict::Dropped(Reason::Forged));
    });
    // An answer costs two, and only while it is waited for.
    let index = net.index(1, 0);
    let now = net.clock(1);
    net.nodes[1].device.connect(index, now);
    net.take_records();
    net.pump(1);
    net.run(DELAY + DELAY / 2);
    let response = net.records.iter().find(|record| record.kind == Type::Response).unwrap().bytes.clone();
    cost(&mut net, 2, &mut |net| {
        assert!(matches!(net.deliver(1, address(0), &response), Verdict::Accepted(_)));
    });
    cost(&mut net, 0, &mut |net| {
        assert_eq!(net.deliver(1, address(0), &response), Verdict::Dropped(Reason::Forged));
    });
}

#[test]
fn cookies_are_taken_from_the_peer_alone() {
    let mut net = Net::new(9, 2);
    overload(&mut net, 1);
    net.send(0, 1);
    let initiation = net.records.last().unwrap().bytes.clone();
    net.flight.clear();
    assert_eq!(net.deliver(1, address(0), &initiation), Verdict::Challenged);
    let reply = net.records.last().unwrap().bytes.clone();
    net.flight.clear();
    let mut forged = reply.clone();
    forged[40] ^= 1;
    assert_eq!(net.deliver(0, address(1), &forged), Verdict::Dropped(Reason::Forged));
    let mut unknown = reply.clone();
    unknown[4] ^= 1;
    assert_eq!(net.deliver(0, address(1), &unknown), Verdict::Dropped(Reason::UnknownIndex));
    let index = net.index(0, 1);
    assert_eq!(net.deliver(0, address(1), &reply), Verdict::CookieTaken(index));
    assert_eq!(net.deliver(0, address(1), &reply), Verdict::Dropped(Reason::Forged), "once per message");
    assert!(net.flight.is_empty(), "a cookie is used by the next retry, not at once");
}

#[test]
fn a_busy_session_is_renewed_every_120_seconds_for_24_hours() {
    let mut net = Net::connected(10);
    let steps = 24 * 3600 / 2;
    for number in 0..steps {
        net.send(0, 1);
        if number % 3 == 0 {
            net.send(1, 0);
        }
        net.run(SECOND * 2);
    }
    assert_eq!(net.nodes[1].received.len(), steps + 1, "not one packet is lost over all renewals");
    assert_eq!(net.nodes[0].received.len(), steps.div_ceil(3));
    let initiations = times(&net, |record| record.kind == Type::Initiation);
    for pair in initiations.windows(2) {
        let gap = pair[1].since(pair[0]);
        assert!((120..=123).contains(&gap.as_secs()), "{gap:?}");
    }
    assert!((700..=720).contains(&initiations.len()), "{}", initiations.len());
    assert_eq!(net.sent(1, Type::Initiation), 0, "the responder leaves it to the initiator");
    let keepalives = times(&net, |record| record.bytes.len() == KEEPALIVE_LENGTH);
    assert_eq!(keepalives.len(), initiations.len() - 1, "data answers data; only new sessions are confirmed");
    assert!(net.nodes.iter().all(|node| node.dropped.is_empty()));
    assert!(net.nodes.iter().all(|node| node.device.sessions.indices.len() <= 4));
    assert!(net.nodes[0].device.sessions.stamps.take_mark().is_some());
}

#[test]
fn a_listener_answers_with_keepalives_every_10_seconds() {
    let mut net = Net::connected(11);
    for _ in 0..3600 {
        net.send(1, 0);
        net.run(SECOND);
    }
    assert_eq!(net.nodes[0].received.len(), 3600);
    assert_eq!(net.sent(1, Type::Initiation), 0, "the keepalives show that the session works");
    let keepalives = times(&net, |record| record.from == 0 && record.bytes.len() == KEEPALIVE_LENGTH);
    let ten = Duration::from_secs(10);
    let short = keepalives.windows(2).filter(|pair| pair[1].since(pair[0]) < ten).count();
    assert_eq!(short, net.sent(0, Type::Initiation) - 1, "one that confirms each new session");
    let regular = keepalives.windows(2).filter(|pair| pair[1].since(pair[0]) <= ten + SECOND).count();
    assert!(regular > 250, "{regular}");
}

#[test]
fn one_that_only_hears_keepalives_renews_in_time() {
    let mut net = Net::connected(32);
    let created = net.stats(0, 1).last_handshake.unwrap();
    let index = net.index(1, 0);
    net.nodes[1].device.set_persistent_keepalive(index, Some(Duration::from_secs(5)), net.now);
    net.take_records();
    net.run(Duration::from_secs(24 * 3600));
    let initiations = times(&net, |record| record.kind == Type::Initiation);
    let age = initiations[0].since(created);
    assert!((165..170).contains(&age.as_secs()), "as late as still is safe: {age:?}");
    assert!(initiations.windows(2).all(|pair| (165..170).contains(&pair[1].since(pair[0]).as_secs())));
    assert_eq!(net.sent(1, Type::Initiation), 0);
    assert!(net.nodes.iter().all(|node| node.dropped.is_empty()));
}

#[test]
fn an_idle_session_is_silent_for_24_hours_and_its_keys_go() {
    let mut net = Net::connected(12);
    net.run(Duration::from_secs(11));
    let index = net.records.iter().find(|record| record.kind == Type::Response).unwrap().bytes[4..8].to_vec();
    let index = u32::from_le_bytes(index.try_into().unwrap());
    net.take_records();
    assert!(net.nodes[1].device.owns_index(index));
    net.run(Duration::from_secs(520));
    assert!(net.nodes[1].device.owns_index(index));
    net.run(Duration::from_secs(20));
    assert!(!net.nodes[1].device.owns_index(index), "540 s after it began");
    assert!(net.nodes.iter().all(|node| node.device.sessions.indices.len() == 0));
    net.run(Duration::from_secs(24 * 3600));
    assert_eq!(net.take_records().len(), 0);
    assert!(net.nodes.iter_mut().all(|node| node.device.poll_timeout().is_none()));
    assert_eq!(net.send(1, 0), SendOutcome::Staged);
    net.run(SECOND);
    assert_eq!(net.nodes[0].received.len(), 1, "and yet it comes back at once");
}

#[test]
fn persistent_keepalives_keep_the_path_open_for_24_hours() {
    let mut net = Net::new(13, 2);
    let index = net.index(0, 1);
    let interval = Duration::from_secs(25);
    net.nodes[0].device.set_persistent_keepalive(index, Some(interval), net.now);
    net.run(Duration::from_secs(24 * 3600));
    let sent = times(&net, |record| record.from == 0);
    let longest = sent.windows(2).map(|pair| pair[1].since(pair[0])).max().unwrap();
    assert_eq!(longest, interval);
    assert!(net.stats(1, 0).last_received.unwrap() + interval + DELAY >= net.now);
    // A waking for each keepalive, each handshake step and a few stale plans: no busy loop.
    assert!(net.nodes[0].polls < 24 * 3600 / 25 * 4, "{}", net.nodes[0].polls);
    let polls = net.nodes[0].polls;
    net.nodes[0].device.set_persistent_keepalive(index, Some(Duration::ZERO), net.now);
    net.run(Duration::from_secs(3600));
    assert!(net.nodes[0].polls < polls + 20, "zero is never");
}

#[test]
fn data_is_acknowledged_after_10_seconds_and_missed_after_15() {
    let mut net = Net::connected(14);
    net.run(Duration::from_secs(20));
    net.take_records();
    let start = net.now;
    net.send(0, 1);
    net.run(Duration::from_secs(14));
    let records = net.take_records();
    assert_eq!(records.len(), 2);
    assert_eq!((records[1].from, records[1].bytes.len()), (1, KEEPALIVE_LENGTH));
    assert_eq!(records[1].at.since(start), DELAY + Duration::from_secs(10));
    net.run(Duration::from_secs(30));
    assert!(net.take_records().is_empty(), "neither a keepalive nor its absence is answered");

    net.silenced = Some(1);
    let start = net.now;
    net.send(0, 1);
    net.run(Duration::from_secs(16));
    let records = net.take_records();
    let initiation = records.iter().find(|record| record.kind == Type::Initiation).unwrap();
    assert_eq!(initiation.from, 0);
    let waited = initiation.at.since(start);
    assert!(waited > Duration::from_secs(15) && waited < Duration::from_millis(15_333), "{waited:?}");
}

#[test]
fn a_handshake_is_retried_every_5_seconds_and_given_up_after_90() {
    let mut net = Net::new(15, 2);
    net.silenced = Some(1);
    let start = net.now;
    assert_eq!(net.send(0, 1), SendOutcome::Staged);
    net.run(Duration::from_secs(3600));
    let records = net.take_records();
    let initiations: Vec<_> =
        records.iter().filter(|record| record.from == 0).map(|record| record.at).collect();
    let mut gaps: Vec<_> = initiations.windows(2).map(|pair| pair[1].since(pair[0])).collect();
    assert!(gaps.iter().all(|gap| (5000..5333).contains(&gap.as_millis())), "{gaps:?}");
    gaps.sort();
    gaps.dedup();
    assert!(gaps.len() > 10, "jitter: {gaps:?}");
    let span = initiations.last().unwrap().since(start);
    assert!(span > Duration::from_secs(80) && span < Duration::from_secs(90), "{span:?}");
    assert!((17..=18).contains(&initiations.len()), "{}", initiations.len());
    assert_eq!(net.nodes[0].device.sessions.indices.len(), 0);
    assert_eq!(net.nodes[0].device.sessions.staged_bytes, 0);
    // What was given up is not sent later; what is sent then, is.
    net.silenced = None;
    net.send_bytes(0, 1, &packet(0, 1, 50, 9));
    net.run(SECOND);
    let received: Vec<_> = net.nodes[1].received.iter().map(|(_, packet)| packet.len()).collect();
    assert_eq!(received, [50]);
}

#[test]
fn traffic_extends_the_90_seconds() {
    let mut net = Net::new(16, 2);
    net.silenced = Some(1);
    for _ in 0..200 {
        net.send(0, 1);
        net.run(SECOND);
    }
    net.silenced = None;
    net.run(Duration::from_secs(6));
    assert_eq!(net.nodes[1].received.len(), crate::wireguard::constants::MAX_STAGED);
}

#[test]
fn nothing_is_sent_or_opened_after_180_seconds() {
    let mut net = Net::connected(17);
    let start = net.now - SECOND / 2 + DELAY * 2;
    net.take_records();
    net.send(0, 1);
    let late = net.take_records().remove(0).bytes;
    net.flight.clear();
    // Nothing arrives any more, so no new session comes up.
    net.loss = 100;
    net.run_until(start + Duration::from_millis(179_999));
    assert!(matches!(net.send(0, 1), SendOutcome::Sealed { .. }));
    net.run_until(start + Duration::from_secs(180));
    assert_eq!(net.send(0, 1), SendOutcome::Staged);
    assert_eq!(net.deliver(1, address(0), &late), Verdict::Dropped(Reason::Expired));
    net.loss = 0;
    net.run(Duration::from_secs(10));
    assert!(net.nodes[1].received.len() >= 2, "a new session carries what waited");
}

#[test]
fn a_worn_key_is_renewed_and_a_spent_one_refused() {
    for (count, sealed) in [(REKEY_AFTER_MESSAGES + 1, true), (REJECT_AFTER_MESSAGES, false)] {
        let mut net = Net::connected(18);
        net.run(Duration::from_secs(6));
        net.take_records();
        let index = net.index(0, 1);
        let peer = net.nodes[0].device.peers.get_mut(index).unwrap();
        peer.keypairs.current.as_deref_mut().unwrap().skip_to(count);
        assert_eq!(matches!(net.send(0, 1), SendOutcome::Sealed { .. }), sealed);
        net.run(SECOND);
        assert_eq!(net.sent(0, Type::Initiation), 1);
        assert_eq!(net.nodes[1].received.len(), 2);
        net.send(0, 1);
        net.run(SECOND);
        assert_eq!(net.sent(0, Type::Initiation), 1, "the new key is fresh");
        assert_eq!(net.nodes[1].received.len(), 3);
    }
}

#[test]
fn both_initiate_at_once_and_lose_nothing() {
    for seed in 100..120 {
        let mut net = Net::new(seed, 2);
        assert_eq!(net.send(0, 1), SendOutcome::Staged);
        assert_eq!(net.send(1, 0), SendOutcome::Staged);
        net.run(SECOND);
        for _ in 0..300 {
            assert!(matches!(net.send(0, 1), SendOutcome::Sealed { .. }));
            assert!(matches!(net.send(1, 0), SendOutcome::Sealed { .. }));
            net.run(SECOND);
        }
        assert_eq!((net.nodes[0].received.len(), net.nodes[1].received.len()), (301, 301));
        let initiations = net.sent(0, Type::Initiation) + net.sent(1, Type::Initiation);
        assert!(initiations <= 8, "{initiations}");
    }
}

#[test]
fn gets_through_heavy_loss() {
    let mut net = Net::new(19, 3);
    net.loss = 30;
    let mut sent = 0;
    for _ in 0..3600 {
        net.send(0, 1);
        net.send(1, 2);
        net.send(2, 0);
        sent += 1;
        net.run(SECOND);
    }
    for node in &net.nodes {
        let received = node.received.len();
        assert!(received > sent / 2, "{received} of {sent}");
        assert!(node.device.sessions.indices.len() <= 8, "two peers, four indices each");
        assert!(node.device.sessions.outbox.is_empty());
    }
}

#[test]
fn a_router_that_restarts_in_1970_is_let_in_again() {
    let mut net = Net::connected(20);
    let mut mark = net.nodes[0].device.take_stamp_mark().expect("a first mark");
    for restart in 0..5 {
        net.run(Duration::from_secs(600));
        let fresh = device(20_000, mark, net.now);
        assert_eq!(fresh.public_key(), net.nodes[0].device.public_key());
        net.nodes[0].device = fresh;
        net.nodes[0].clock_error = [-EPOCH, 0, -EPOCH, -EPOCH, i64::MAX / 2][restart];
        let settings = peer_config(&net, 1);
        net.nodes[0].device.add_peer(settings, net.now).unwrap();
        let before = net.nodes[1].received.len();
        net.send(0, 1);
        net.run(SECOND);
        assert_eq!(net.nodes[1].received.len(), before + 1, "restart {restart}");
        mark = net.nodes[0].device.take_stamp_mark().unwrap_or(mark);
        net.run(Duration::from_secs(300));
        // A jump of the clock while running.
        net.nodes[0].clock_error = 0;
        net.send(0, 1);
        net.run(SECOND);
        assert_eq!(net.nodes[1].received.len(), before + 2);
        mark = net.nodes[0].device.take_stamp_mark().unwrap_or(mark);
    }
    // Without the mark it would be shut out.
    net.run(Duration::from_secs(600));
    net.nodes[0].device = device(20_000, 0, net.now);
    let settings = peer_config(&net, 1);
    net.nodes[0].device.add_peer(settings, net.now).unwrap();
    let before = net.nodes[1].received.len();
    net.send(0, 1);
    net.run(SECOND);
    assert_eq!(net.nodes[1].received.len(), before);
}

#[test]
fn preshared_keys_must_agree() {
    for (theirs, arrives) in [([5; 32], 1), ([6; 32], 0), ([0; 32], 0)] {
        let mut net = Net::new(21, 2);
        for (node, preshared_key) in [(0, [5; 32]), (1, theirs)] {
            let index = net.index(node, 1 - node);
            assert!(net.nodes[node].device.remove_peer(index));
            let settings = PeerSettings {
                preshared_key: PresharedKey::new(preshared_key),
                ..peer_config(&net, 1 - node)
            };
            net.nodes[node].device.add_peer(settings, net.now).unwrap();
        }
        net.send(0, 1);
        net.run(SECOND);
        assert_eq!(net.nodes[1].received.len(), arrives);
    }
}

#[test]
fn the_inner_source_must_be_the_peers_own() {
    let mut net = Net::new(22, 3);
    net.send(0, 1);
    net.run(SECOND);
    for (bytes, reason) in [
        (packet(2, 1, 100, 0), Rejection::Source),
        (packet(1, 1, 100, 0), Rejection::Source),
        (packet(50, 1, 100, 0), Rejection::Source),
        (vec![0x45; 19], Rejection::Malformed),
        (vec![0x10; 100], Rejection::Malformed),
        ([&[0x45, 0, 2, 0], &packet(0, 1, 96, 0)[4..]].concat(), Rejection::Malformed),
    ] {
        net.send_bytes(0, 1, &bytes);
        net.run(SECOND);
        assert_eq!(net.nodes[1].rejected.pop(), Some(reason));
        assert_eq!(net.nodes[1].received.len(), 1);
    }
    // A prefix is one peer's; another one's claim moves it.
    let (index_0, index_2) = (net.index(1, 0), net.index(1, 2));
    let address = IpAddr::from(inner_ip(0));
    assert_eq!(net.nodes[1].device.route(address), Some(index_0));
    net.nodes[1].device.allow(index_2, AllowedIp::host(address));
    assert_eq!(net.nodes[1].device.route(address), Some(index_2));
    net.send(0, 1);
    net.run(SECOND);
    assert_eq!(net.nodes[1].rejected.pop(), Some(Rejection::Source));
    net.nodes[1].device.disallow(AllowedIp::host(address));
    assert_eq!(net.nodes[1].device.route(address), None);
}

#[test]
fn a_removed_peer_leaves_nothing_behind() {
    let mut net = Net::connected(23);
    let index = net.index(1, 0);
    net.take_records();
    net.send(0, 1);
    let late = net.take_records().remove(0).bytes;
    assert!(net.nodes[1].device.remove_peer(index));
    assert!(!net.nodes[1].device.remove_peer(index));
    assert_eq!(net.deliver(1, address(0), &late), Verdict::Dropped(Reason::UnknownIndex));
    assert_eq!(net.nodes[1].device.route(IpAddr::from(inner_ip(0))), None);
    assert_eq!(net.nodes[1].device.sessions.indices.len(), 0);
    assert_eq!(net.nodes[1].device.peers().count(), 0);
    assert_eq!(net.nodes[1].device.poll_timeout(), None);
    assert!(net.nodes[1].device.stats(index).is_none());
    let now = net.clock(1);
    assert_eq!(net.nodes[1].device.send(index, &mut [0; 100], 20, now), SendOutcome::Dropped);
    net.run(Duration::from_secs(20));
    assert!(net.nodes[1].dropped.contains(&Reason::UnknownPeer), "its initiations are of no use");
    // Added again it is another peer, and the old name stays dead.
    let settings = peer_config(&net, 0);
    let again = net.nodes[1].device.add_peer(settings, net.now).unwrap();
    assert_ne!(again, index);
    net.run(Duration::from_secs(6));
    net.send(0, 1);
    net.run(SECOND);
    assert!(net.nodes[1].received.iter().any(|(peer, _)| *peer == again));
}

#[test]
fn packets_waiting_for_a_removed_peer_are_freed() {
    let mut net = Net::new(24, 2);
    net.send(0, 1);
    assert!(net.nodes[0].device.sessions.staged_bytes > 0);
    let index = net.index(0, 1);
    net.nodes[0].device.remove_peer(index);
    assert_eq!(net.nodes[0].device.sessions.staged_bytes, 0);
    net.run(SECOND);
    assert!(net.nodes[1].received.is_empty());
}

#[test]
fn keys_that_can_be_no_peers_are_refused() {
    let mut net = Net::new(25, 2);
    let now = net.now;
    let ours = *net.nodes[0].device.public_key();
    let theirs = *net.nodes[1].device.public_key();
    let mut add = |bytes: [u8; 32]| {
        net.nodes[0].device.add_peer(PeerSettings::new(PublicKey::from_bytes(bytes)), now).map(|_| ())
    };
    let mut one = [0; 32];
    one[0] = 1;
    assert_eq!(add([0; 32]), Err(AddPeerError::LowOrder));
    assert_eq!(add(one), Err(AddPeerError::LowOrder));
    assert_eq!(add(*ours.as_bytes()), Err(AddPeerError::Ourselves));
    assert_eq!(add(*theirs.as_bytes()), Err(AddPeerError::Exists));
    let mut high = *theirs.as_bytes();
    high[31] |= 0x80;
    assert_eq!(add(high), Err(AddPeerError::NotCanonical));
    let mut fresh = [7; 32];
    fresh[31] = 0x17;
    assert_eq!(add(fresh), Ok(()));
}

#[test]
fn without_an_endpoint_a_packet_is_dropped_until_the_peer_is_heard_of() {
    let mut net = Net::new(26, 2);
    let index = net.index(0, 1);
    net.nodes[0].device.remove_peer(index);
    let settings = PeerSettings {
        endpoint: None,
        persistent_keepalive: Some(Duration::from_secs(25)),
        ..peer_config(&net, 1)
    };
    let index = net.nodes[0].device.add_peer(settings, net.now).unwrap();
    assert_eq!(net.send(0, 1), SendOutcome::Dropped);
    net.run(Duration::from_secs(100));
    assert!(net.take_records().is_empty());
    net.nodes[0].device.set_endpoint(index, address(1), net.now);
    net.run(SECOND);
    assert!(net.nodes[0].device.can_send(index, net.now), "the keepalive was due at once");
}

#[test]
fn padding_hides_lengths_but_fits_the_mtu_and_the_buffer() {
    let net = Net::connected(27);
    let mut device = net.nodes.into_iter().next().unwrap().device;
    for (length, sealed) in [
        (0, 32),
        (1, 48),
        (16, 48),
        (17, 64),
        (1408, 1440),
        (1409, 1452),
        (1420, 1452),
        (1421, 1453),
        (9000, 9032),
    ] {
        assert_eq!(device.sealed_length(length), sealed, "{length}");
    }
    let index = device.peers().next().unwrap().0;
    let now = Now { instant: net.now, unix: UnixTime::from_micros(EPOCH) };
    // Exactly as much room as an unpadded datagram had, as in a batch of coalesced ones.
    for room in 20 + 32..20 + 32 + 20 {
        let mut buffer = vec![0; room];
        let SendOutcome::Sealed { length, .. } = device.send(index, &mut buffer, 20, now) else { panic!() };
        assert_eq!(length, room.min(64));
    }
    for room in 0..20 + 32 {
        assert_eq!(device.send(index, &mut vec![0; room], 20, now), SendOutcome::Dropped);
    }
    assert_eq!(device.send(index, &mut [0; 100], usize::MAX, now), SendOutcome::Dropped);
}

/// Everything hostile at once: whatever bytes arrive, from wherever, nothing but the genuine, new message is
/// accepted, nothing panics, and the session goes on.
#[test]
fn no_datagram_but_the_genuine_one_is_accepted() {
    let mut net = Net::new(28, 2);
    net.send(0, 1);
    net.run(SECOND);
    net.send(0, 1);
    overload(&mut net, 1);
    net.deliver(1, address(0), &net.records[0].bytes.clone());
    let samples: Vec<Vec<u8>> = [Type::Initiation, Type::Response, Type::CookieReply, Type::Transport]
        .into_iter()
        .map(|kind| net.records.iter().find(|record| record.kind == kind).unwrap().bytes.clone())
        .collect();
    net.run(Duration::from_secs(20));
    let mut random = Seeded::new(29);
    let mut accepted = 0;
    let mut try_bytes = |net: &mut Net, node: usize, bytes: &[u8]| {
        let source = address(40 + node);
        if let Verdict::Accepted(_) | Verdict::CookieTaken(_) = net.deliver(node, source, bytes) {
            accepted += 1;
        }
    };
    for sample in &samples {
        for length in 0..=sample.len() {
            try_bytes(&mut net, 0, &sample[..length]);
            try_bytes(&mut net, 1, &sample[..length]);
        }
        for _ in 0..2000 {
            let mut mutant = sample.clone();
            for _ in 0..1 + random.below(4) {
                let at = random.below(mutant.len() as u64) as usize;
                mutant[at] ^= 1 << random.below(8);
            }
            if random.below(4) == 0 {
                mutant.resize(random.below(200) as usize, 0);
            }
            try_bytes(&mut net, random.below(2) as usize, &mutant);
        }
    }
    for _ in 0..5000 {
        let mut bytes = vec![0; random.below(300) as usize];
        random.fill(&mut bytes);
        if let Some(head) = bytes.get_mut(..4).filter(|_| random.below(4) > 0) {
            head.copy_from_slice(&[1 + random.below(4) as u8, 0, 0, 0]);
        }
        try_bytes(&mut net, random.below(2) as usize, &bytes);
    }
    for size in [1 << 16, 1 << 20] {
        let mut huge = vec![0; size];
        huge[0] = 4;
        let known = net.records.iter().rfind(|record| record.from == 1).unwrap().bytes[4..8].to_vec();
        huge[4..8].copy_from_slice(&known);
        try_bytes(&mut net, 0, &huge);
    }
    assert_eq!(accepted, 0);
    assert_eq!(net.stats(0, 1).endpoint, Some(address(1)));
    assert_eq!(net.stats(1, 0).endpoint, Some(address(0)));
    net.flight.clear();
    let before = net.nodes[1].received.len();
    net.send(0, 1);
    net.run(SECOND);
    assert_eq!(net.nodes[1].received.len(), before + 1);
}

#[test]
fn a_hub_opens_and_seals_over_the_same_bytes() {
    let mut net = Net::new(30, 3);
    for hub_member in [0, 2] {
        net.send(hub_member, 1);
    }
    net.run(SECOND);
    net.take_records();
    let text = packet(0, 2, 333, 7);
    net.send_bytes(0, 1, &text);
    let mut datagram = net.take_records().remove(0).bytes;
    net.flight.clear();
    let now = net.clock(1);
    let hub = &mut net.nodes[1].device;
    let verdict = hub.receive(&mut datagram, address(0), now);
    let Content::Packet { range, inner } = accepted_of(&verdict).content.clone() else { panic!() };
    assert_eq!((range.start, range.len()), (TRANSPORT_HEADER_LENGTH, 333));
    let to = hub.route(inner.destination).unwrap();
    let before = datagram.len();
    let SendOutcome::Sealed { to, length } = hub.send(to, &mut datagram, inner.length, now) else { panic!() };
    assert_eq!((to, length), (address(2), before));
    // 2 takes packets from the hub that are the hub's own only; let it be a hub that speaks for 0.
    let index = net.index(2, 1);
    net.nodes[2].device.allow(index, AllowedIp::host(inner.source));
    net.deliver(2, address(1), &datagram[..length]);
    assert_eq!(net.nodes[2].received.last(), Some(&(index, text)));
}

#[test]
fn a_cookie_is_forgotten_after_its_time() {
    let mut net = Net::new(31, 2);
    overload(&mut net, 1);
    net.send(0, 1);
    net.flight.clear();
    let initiation = net.records.last().unwrap().bytes.clone();
    assert_eq!(net.deliver(1, address(0), &initiation), Verdict::Challenged);
    net.run(SECOND / 2);
    net.silenced = Some(1);
    net.run(COOKIE_LIFETIME / 2);
    let retries: Vec<_> = net.take_records().into_iter().filter(|r| r.from == 0).collect();
    assert!(retries[1..].iter().all(|record| mac2(&record.bytes).unwrap() != &[0; 16]));
    net.send(0, 1);
    net.run(COOKIE_LIFETIME);
    assert_eq!(mac2(&net.take_records().last().unwrap().bytes).unwrap(), &[0; 16]);
}
