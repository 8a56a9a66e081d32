//! Datagrams that came as one are handled as if each had come by itself.

use crate::world::{MILLISECOND, SECOND, World};
use lanrage::figures::{DropReason, Drops, Traffic, Volume};
use lanrage::relay::limits::RelayLimits;
use lanrage::relay::{Arrival, Port};
use lanrage::token_bucket::Rate;
use std::net::SocketAddr;

/// Of each datagram but the last, in bytes.
const SEGMENT: usize = 200;

/// A pair of members, each in a world like the other's: where one of them is, and data it has sent.
fn pair(world: &mut World, name: &str) -> (SocketAddr, Vec<u8>) {
    world.capture.start();
    let members = world.blind_party(name, 2);
    world.run(8 * SECOND);
    world.say(members[0], members[1], b"x");
    world.say(members[1], members[0], b"x");
    world.run(10 * SECOND);
    let at = world.clients[members[0]].seen_as.expect("it has been heard of");
    let sent = world.records().iter().rev().find(|record| {
        record.to_relay && record.remote == at && record.bytes[0] == 4 && record.bytes.len() > 32
    });
    let mut data = sent.expect("data").bytes.clone();
    data.resize(SEGMENT, 0);
    (at, data)
}

/// `pattern` says what lies one behind the other: data, data of nobody's session, what is no WireGuard; in small
/// letters the same, but shorter.
fn run(data: &[u8], pattern: &str) -> Vec<u8> {
    let mut run = Vec::new();
    for letter in pattern.chars() {
        let mut datagram = data.to_vec();
        match letter.to_ascii_uppercase() {
            'D' => (),
            'N' => datagram[4] ^= 1,
            _ => datagram[0] = 9,
        }
        datagram.truncate(if letter.is_lowercase() { 90 } else { SEGMENT });
        run.extend(datagram);
    }
    run
}

/// What the relay sends and counts while it takes `run`, and how often it had to be asked.
fn take(
    world: &mut World,
    at: SocketAddr,
    mut run: Vec<u8>,
    together: bool,
) -> (Vec<usize>, [Volume; 3], Drops, usize) {
    let before = world.relay.stats().clone();
    let (now, mut sent, mut calls) = (world.clock(), Vec::new(), 0);
    let mut rest = &mut run[..];
    let mut out = |_: SocketAddr, _: Port, bytes: &[u8]| sent.push(bytes.len());
    while !rest.is_empty() {
        calls += 1;
        let length = if together {
            world.relay.receive_run(rest, SEGMENT, Arrival::new(at, Port::Main, now), &mut out)
        } else {
            let length = SEGMENT.min(rest.len());
            let _ = world.relay.receive(&mut rest[..length], Arrival::new(at, Port::Main, now), &mut out);
            length
        };
        rest = &mut rest[length..];
    }
    let stats = world.relay.stats();
    let counted = [Traffic::Received, Traffic::Sent, Traffic::Blind].map(|kind| {
        let (now, before) = (stats.traffic(kind), before.traffic(kind));
        Volume { packets: now.packets - before.packets, bytes: now.bytes - before.bytes }
    });
    (sent, counted, stats.drops().clone(), calls)
}

fn compare(limits: RelayLimits, pattern: &str, most_calls: usize) -> usize {
    let results = [false, true].map(|together| {
        let mut world = World::with_limits(3, limits);
        let (at, data) = pair(&mut world, "p");
        take(&mut world, at, run(&data, pattern), together)
    });
    let [(sent, counted, drops, calls), (sent_together, counted_together, drops_together, calls_together)] =
        results;
    assert_eq!(sent, sent_together, "{pattern}");
    assert_eq!(counted, counted_together, "{pattern}");
    for reason in DropReason::ALL {
        assert_eq!(drops.of(reason), drops_together.of(reason), "{pattern}: {reason:?}");
    }
    assert_eq!(calls, pattern.len());
    assert!(calls_together <= most_calls, "{pattern}: {calls_together} calls");
    sent.len()
}

#[test]
fn a_run_is_as_good_as_its_datagrams() {
    let limits = RelayLimits::default();
    assert_eq!(compare(limits, "DDDDDDDDDDDDDDDDDDDd", 1), 20);
    assert_eq!(compare(limits, "DDDNDDDDXDDd", 5), 10);
    assert_eq!(compare(limits, "NNDDDx", 4), 3);
    assert_eq!(compare(limits, "D", 1), 1);
    assert_eq!(compare(limits, "d", 1), 1);
}

#[test]
fn a_run_costs_the_buckets_what_its_datagrams_cost() {
    let small = Rate::new(1000, SECOND, 3000);
    for limits in [
        RelayLimits { address_bytes: small, ..RelayLimits::default() },
        RelayLimits { member_bytes: small, ..RelayLimits::default() },
        RelayLimits { party_bytes: small, ..RelayLimits::default() },
    ] {
        // 3000 bytes are 15 datagrams; as a whole the run does not fit.
        assert_eq!(compare(limits, "DDDDDDDDDDDDDDDDDDDD", 20), 15);
        assert_eq!(compare(limits, "DDDDDDDDDDDDDDD", 1), 15);
    }
}

/// Until its initiator has said something, nobody has shown that a session's data is wanted there.
#[test]
fn a_run_proves_no_more_than_a_datagram() {
    let mut world = World::new(5);
    world.capture.start();
    world.blind_party("p", 2);
    let begun = world.now;
    while world.relay.flow_count() == 0 {
        world.run(MILLISECOND);
        assert!(world.now < begun + 20 * SECOND, "no session");
    }
    let answer = world.records().iter().find(|record| record.to_relay && record.bytes[0] == 2);
    let answer = answer.expect("the answer to an initiation").clone();
    let mut data = vec![0; SEGMENT];
    data[0] = 4;
    data[4..8].copy_from_slice(&answer.bytes[8..12]);
    let (sent, _, drops, calls) = take(&mut world, answer.remote, run(&data, "DDDDD"), true);
    assert_eq!((sent.len(), drops.of(DropReason::Unproven), calls), (0, 5, 5));
}
