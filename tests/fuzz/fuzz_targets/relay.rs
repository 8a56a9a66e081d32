//! The whole relay, with a roster, in virtual time: members talk by real WireGuard while somebody else sends
//! noise, repeats and changes what passed, under any address. Nobody who never answered gets more bytes than
//! came from there, apart from what STUN may owe.

#![no_main]

mod house;
#[path = "../../requests/input.rs"]
mod input;

use house::{MEMBERS, Machine};
use input::Input;
use lanrage::relay::{Arrival, Port, Relay};
use lanrage::time::{Instant, Now};
use lanrage::wireguard::verdict::SendOutcome;
use libfuzzer_sys::fuzz_target;
use std::collections::VecDeque;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

const STRANGERS: usize = 4;
/// How much longer than its request a STUN answer may be.
const STUN_SURPLUS: usize = 44;

struct World {
    relay: Relay,
    /// Made when they first do something: it takes long.
    machines: [Option<Machine>; MEMBERS],
    now: Now,
    /// On their way to machines.
    wire: VecDeque<(SocketAddr, Vec<u8>)>,
    /// What passed, and from where.
    seen: Vec<(SocketAddr, Vec<u8>)>,
    /// Bytes from and to addresses where nobody listens.
    strangers: [(usize, usize); STRANGERS],
}

fn stranger(number: usize) -> SocketAddr {
    match number {
        0 => (Ipv4Addr::new(192, 0, 2, 1), 53).into(),
        1 => (Ipv4Addr::new(192, 0, 2, 1), 54).into(),
        2 => (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7), 9).into(),
        _ => (Ipv4Addr::new(198, 18, 0, 1).to_ipv6_mapped(), 7).into(),
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

impl World {
    fn new() -> Self {
        let now = house::start();
        World {
            relay: house::relay(now.instant),
            machines: [const { None }; MEMBERS],
            now,
            wire: VecDeque::new(),
            seen: Vec::new(),
            strangers: [(0, 0); STRANGERS],
        }
    }

    fn arrive(&mut self, source: SocketAddr, port: Port, datagram: &[u8]) {
        let World { relay, strangers, wire, now, .. } = self;
        let from = (0..STRANGERS).find(|&number| canonical(stranger(number)) == canonical(source));
        if let Some(from) = from {
            strangers[from].0 += datagram.len();
        }
        let mut bytes = datagram.to_vec();
        let mut out = |to: SocketAddr, _: Port, answer: &[u8]| {
            let known = (0..STRANGERS).find(|&number| canonical(stranger(number)) == canonical(to));
            match known {
                Some(known) if matches!(answer, [1, 1 | 0x11, ..]) => {
                    assert!(answer.len() <= datagram.len() + STUN_SURPLUS);
                    strangers[known].1 += answer.len().min(datagram.len());
                }
                Some(known) => strangers[known].1 += answer.len(),
                None => wire.push_back((to, answer.to_vec())),
            }
        };
        let _ = relay.receive(&mut bytes, Arrival::new(source, port, *now), &mut out);
        self.check();
    }

    fn check(&mut self) {
        for (from, to) in &self.strangers {
            assert!(to <= from, "{to} bytes for {from}");
        }
        let surplus = self.wire.len().saturating_sub(64);
        self.wire.drain(..surplus);
        let surplus = self.seen.len().saturating_sub(64);
        self.seen.drain(..surplus);
        assert!(self.relay.flow_count() <= 1000);
    }

    fn machine(&mut self, member: usize) -> &mut Machine {
        self.machines[member].get_or_insert_with(|| Machine::new(member, self.now.instant))
    }

    /// What a machine sends goes to the relay at once.
    fn say(&mut self, member: usize, datagram: &[u8]) {
        let source = self.machine(member).address;
        self.seen.push((source, datagram.to_vec()));
        self.arrive(source, Port::Main, datagram);
    }

    fn poll(&mut self) {
        let mut buffer = vec![0; 4096];
        for member in 0..MEMBERS {
            for _ in 0..16 {
                let Some(machine) = &mut self.machines[member] else { break };
                let Some(outgoing) = machine.device.poll(self.now, &mut buffer) else { break };
                self.say(member, &buffer[..outgoing.length]);
            }
        }
    }

    /// The relay's timers, and a machine's answers to what was on its way.
    fn deliver(&mut self, input: &mut Input<'_>) {
        let Some((to, mut datagram)) = self.wire.pop_front() else { return };
        input.mutate(&mut datagram);
        if let Some(machine) = self.machines.iter_mut().flatten().find(|machine| machine.address == to) {
            machine.device.receive(&mut datagram, house::relay_address(), self.now);
        }
    }

    fn pass(&mut self, span: Duration) {
        let until = self.now.instant + span;
        for _ in 0..64 {
            let due = self.relay.poll_timeout().unwrap_or(until).min(until);
            self.move_to(due);
            let World { relay, wire, strangers, now, .. } = self;
            let mut out = |to: SocketAddr, _: Port, bytes: &[u8]| {
                let known = (0..STRANGERS).find(|&number| canonical(stranger(number)) == canonical(to));
                match known {
                    Some(known) => strangers[known].1 += bytes.len(),
                    None => wire.push_back((to, bytes.to_vec())),
                }
            };
            relay.poll(*now, &mut out);
            if due >= until {
                break;
            }
        }
        self.move_to(until);
        self.check();
    }

    fn move_to(&mut self, instant: Instant) {
        let span = instant.since(self.now.instant);
        self.now = Now { instant: self.now.instant + span, unix: self.now.unix + span };
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let member = input.below(MEMBERS);
        match input.below(10) {
            0 => {
                let source = stranger(input.below(STRANGERS));
                let port = if input.below(4) == 0 { Port::Alternate } else { Port::Main };
                let datagram = input.bytes(2000);
                self.arrive(source, port, datagram);
            }
            1 | 2 => {
                let packet = input.bytes(1500);
                let mut buffer = vec![0; 4096];
                buffer[16..][..packet.len()].copy_from_slice(packet);
                let now = self.now;
                let machine = self.machine(member);
                let peer = machine.peers[input.below(machine.peers.len())];
                let sent = machine.device.send(peer, &mut buffer, packet.len(), now);
                if let SendOutcome::Sealed { length, .. } = sent {
                    self.say(member, &buffer[..length]);
                }
            }
            3 | 4 => {
                for _ in 0..1 + input.below(16) {
                    self.deliver(input);
                }
            }
            5 => self.pass(Duration::from_millis(u64::from(input.byte()).pow(2))),
            6 if !self.seen.is_empty() => {
                let (source, mut datagram) = self.seen[input.below(self.seen.len())].clone();
                input.mutate(&mut datagram);
                let source = match input.below(3) {
                    0 => source,
                    1 => self.machine(member).address,
                    _ => stranger(input.below(STRANGERS)),
                };
                self.arrive(source, Port::Main, &datagram);
            }
            7 => {
                self.relay.leave(&house::party(member), &house::peer(member), self.now.instant);
                if input.below(4) != 0 {
                    house::join(&mut self.relay, member, self.now.instant);
                }
            }
            8 => {
                let snapshot = self.relay.snapshot(self.now);
                self.relay = house::relay(self.now.instant);
                self.relay.restore(&snapshot, self.now).expect("our own snapshot");
            }
            _ => self.machine(member).address.set_port(1000 + u16::from(input.byte())),
        }
        self.poll();
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input::new(bytes);
    let mut world = World::new();
    for _ in 0..200 {
        if input.is_empty() {
            break;
        }
        world.step(&mut input);
    }
});
