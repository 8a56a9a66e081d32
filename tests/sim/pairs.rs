//! Stock clients find each other through blind flows, whatever is between them.

use crate::nat::Behaviour;
use crate::world::{Link, MILLISECOND, SECOND, World};
use lanrage::figures::{DropReason, Figure, Reach};
use std::time::Duration;

fn all_pairs_talk(world: &mut World, members: &[usize]) {
    for (place, &one) in members.iter().enumerate() {
        for &other in &members[place + 1..] {
            assert!(world.talk(one, other), "{one} and {other}");
        }
    }
}

#[test]
fn two_members() {
    let mut world = World::new(1);
    let members = world.blind_party("p", 2);
    assert!(world.time_to_talk(members[0], members[1], 10 * SECOND).unwrap() < 6 * SECOND);
    all_pairs_talk(&mut world, &members);
    assert_eq!(world.relay.stats().dropped(DropReason::NoFlow), 0);
}

#[test]
fn five_members() {
    let mut world = World::new(2);
    let members = world.blind_party("p", 5);
    world.run(12 * SECOND);
    all_pairs_talk(&mut world, &members);
}

/// Nobody says anything: persistent keepalives alone bring all sessions up and keep them.
#[test]
fn silent_members_for_an_hour() {
    let mut world = World::new(3);
    let members = world.blind_party("p", 3);
    world.run(3600 * SECOND);
    assert!(world.relay.flow_count() < 3 * 4, "{} sessions", world.relay.flow_count());
    all_pairs_talk(&mut world, &members);
    // When all have gone, nothing is left of them.
    world.clients.iter_mut().for_each(|client| client.offline = true);
    assert_eq!(world.relay.member_stats(&world.public_key(members[0])).unwrap().reach, Reach::Blind);
    world.run(600 * SECOND);
    assert_eq!(world.relay.flow_count(), 0);
    assert_eq!(world.relay.poll_timeout(), None, "and nothing wakes anybody");
    let stats = *world.relay.member_stats(&world.public_key(members[0])).unwrap();
    assert_eq!(stats.reach, Reach::None);
    assert!(stats.last_handshake.is_some());
}

#[test]
fn four_behind_one_symmetric_nat_and_one_outside() {
    let mut world = World::new(4);
    let nat = world.symmetric();
    let mut members: Vec<_> = (0..4).map(|_| world.member("p", Some(nat))).collect();
    members.push(world.member("p", None));
    world.introduce_all(&members);
    world.run(12 * SECOND);
    all_pairs_talk(&mut world, &members);
}

#[test]
fn every_pair_of_nats() {
    use Behaviour::*;
    let kinds = [EndpointIndependent, AddressDependent, AddressAndPortDependent];
    let mut seed = 100;
    for one in kinds.iter().flat_map(|&mapping| kinds.map(|filtering| (mapping, filtering))) {
        let other = (AddressAndPortDependent, AddressAndPortDependent);
        seed += 1;
        let mut world = World::new(seed);
        let (one, other) = (world.nat(one.0, one.1), world.nat(other.0, other.1));
        let members = [world.member("p", Some(one)), world.member("p", Some(other))];
        world.introduce_all(&members);
        world.run(8 * SECOND);
        assert!(world.talk(0, 1), "{seed}");
    }
}

/// A bad link: 5% loss each way, and jitter that reorders.
#[test]
fn over_a_bad_link() {
    let mut world = World::new(5);
    world.link = Link { delay: 80 * MILLISECOND, jitter: 60 * MILLISECOND, loss: 50, ..world.link };
    let members = world.blind_party("p", 4);
    world.run(60 * SECOND);
    let mut heard = 0;
    for round in 0..1200u32 {
        for (from, to) in [(0, 1), (2, 3)] {
            world.say(members[from], members[to], &round.to_le_bytes());
        }
        world.run(Duration::from_millis(250));
    }
    for to in [1, 3] {
        heard += world.clients[members[to]].inbox.len();
    }
    // 0.95 squared of 2400 is 2166; a session that died for a rekey would cost dozens.
    assert!(heard > 2100, "{heard}");
}

/// Elimination (rule 4): who asked for all others can only be the one that is asked for now.
#[test]
fn a_source_that_asked_for_all_others_is_the_one() {
    let mut world = World::new(6);
    let members: Vec<_> = (0..3).map(|_| world.member("p", None)).collect();
    let [a, b, c] = members[..] else { panic!() };
    // These two ask for everybody but themselves, and once. What they ask for goes nowhere: nobody is known.
    for (from, to) in [(a, b), (a, c), (b, a), (b, c)] {
        world.add_peer(from, to);
        world.clients[from].offline = true;
    }
    world.capture.start();
    world.clients[a].offline = false;
    world.run(3 * SECOND);
    assert!(world.records().iter().all(|record| record.to_relay));
    world.clients[b].offline = false;
    world.say(b, a, b"hello");
    world.run(6 * SECOND);
    let to_a = world.clients[a].seen_as.unwrap();
    let first = world.records().iter().find(|record| !record.to_relay).unwrap();
    assert_eq!((first.remote, first.bytes[0]), (to_a, 1), "a is found");
    assert!(world.talk(a, b));
}

/// A third member whom the others do not know yet must not keep them apart.
#[test]
fn members_that_do_not_know_everybody_find_each_other() {
    let mut world = World::new(16);
    let members: Vec<_> = (0..4).map(|_| world.member("p", None)).collect();
    world.introduce(members[0], members[1]);
    world.introduce(members[2], members[0]);
    world.run(30 * SECOND);
    assert!(world.talk(members[0], members[1]));
    assert!(world.talk(members[0], members[2]));
}

/// Sessions are renewed every two minutes, and nothing is lost by it.
#[test]
fn rekeying_loses_nothing() {
    let mut world = World::new(7);
    let members = world.blind_party("p", 2);
    world.run(10 * SECOND);
    let rounds = 6000u32;
    for round in 0..rounds {
        world.say(members[0], members[1], &round.to_le_bytes());
        world.say(members[1], members[0], &round.to_le_bytes());
        world.run(100 * MILLISECOND);
    }
    world.run(SECOND);
    for member in members {
        assert_eq!(world.clients[member].inbox.len(), rounds as usize);
    }
    assert!(world.relay.stats().values.of(Figure::Handshakes) >= 5);
}

/// The members of two parties, one of them in both.
#[test]
fn a_member_of_two_parties_reaches_both() {
    let mut world = World::new(8);
    let (a, b, c) = (world.member("p", None), world.member("p", None), world.member("q", None));
    world.join("q", b).unwrap();
    world.introduce(a, b);
    world.introduce(b, c);
    world.introduce(a, c);
    world.run(60 * SECOND);
    assert!(world.talk(a, b) && world.talk(b, c));
    assert!(!world.talk(a, c), "nothing crosses parties");
}
