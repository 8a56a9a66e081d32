//! What proves an endpoint (rules 3, 4 and 8), and what does not.

use crate::attacks::{address, data, initiation_for, response_for, sender_index};
use crate::capture::Record;
use crate::world::{HubUse, MILLISECOND, SECOND, World};
use lanrage::datagram::Path;
use lanrage::figures::{Figure, Reach};
use lanrage::relay::{Arrival, Port};
use std::net::SocketAddr;
use std::time::Duration;

/// How long the two hear nothing of each other at most, who talk all the time for `span`; meanwhile `attack` happens.
fn longest_silence(
    world: &mut World,
    [one, other]: [usize; 2],
    span: Duration,
    mut attack: impl FnMut(&mut World),
) -> Duration {
    let (end, mut heard, mut longest) = (world.now + span, world.now, Duration::ZERO);
    while world.now < end {
        let word = world.random.next_u64().to_le_bytes();
        world.clients.iter_mut().for_each(|client| client.inbox.clear());
        world.say(one, other, &word);
        world.say(other, one, &word);
        attack(world);
        world.run(100 * MILLISECOND);
        let hears = |to: usize, from: usize| {
            let ip = world.clients[from].ip;
            world.clients[to].inbox.iter().any(|(source, _)| *source == ip)
        };
        if hears(one, other) && hears(other, one) {
            heard = world.now;
        }
        longest = longest.max(world.now.since(heard));
    }
    longest
}

fn new_records(world: &mut World) -> Vec<Record> {
    world.capture.start()
}

/// A member sends false data with the indices of flows to it, from another address of its own, as if the other end had
/// moved there; and answers what then comes there with all that it can forge. Two others' game goes on.
#[test]
fn a_mate_s_lies_end_no_game() {
    for how in [HubUse::None, HubUse::Extra] {
        let mut world = World::new(811);
        let members = world.blind_party("p", 3);
        members.iter().for_each(|&member| world.use_hub(member, how));
        let [one, other, liar] = [members[0], members[1], members[2]];
        world.capture.start();
        world.run(12 * SECOND);
        let lair = address("192.0.2.201:5");
        let homes = [one, other].map(|member| world.clients[member].seen_as.unwrap());
        let (liar_at, mut indices, mut asked) = (world.clients[liar].seen_as.unwrap(), Vec::new(), 0);
        let longest = longest_silence(&mut world, [one, other], 300 * SECOND, |world| {
            for record in new_records(world) {
                // Data that came to the liar bears indices of the others' flows to it.
                if !record.to_relay && record.remote == liar_at && record.bytes[0] == 4 {
                    indices.push(sender_index(&record.bytes));
                }
                if !record.to_relay && record.remote == lair && record.bytes[0] == 1 {
                    asked += 1;
                    for member in [one, other] {
                        let lie = response_for(world, member, sender_index(&record.bytes));
                        let _ = world.inject(lair, &lie);
                    }
                }
            }
            for &index in indices.iter().rev().take(4) {
                let _ = world.inject(lair, &data(index));
            }
        });
        assert!(longest < SECOND, "{longest:?}, asked {asked} times");
        assert!(indices.len() > 2 && homes.iter().all(|home| *home != lair));
    }
}

/// Somebody in no party who knows two public keys and sends initiations for them, faster than anybody: as one who knows
/// both, and as two who each know the other one. The two find each other all the same.
#[test]
fn a_stranger_can_t_keep_two_apart() {
    for (seed, lairs) in (820..826).flat_map(|seed| [(seed, [7, 7]), (seed, [7, 8])]) {
        let mut world = World::new(seed);
        let nat = world.symmetric();
        let members = [world.member("p", Some(nat)), world.member("p", None)];
        let lairs = lairs.map(|port| SocketAddr::from(([203, 0, 113, 200], port)));
        let knock = |world: &mut World| {
            for (member, lair) in members.into_iter().zip(lairs) {
                let forged = initiation_for(world, member);
                let _ = world.inject(lair, &forged);
            }
        };
        for _ in 0..40 {
            knock(&mut world);
            world.run(50 * MILLISECOND);
        }
        world.introduce(members[0], members[1]);
        let began = world.now;
        let met = loop {
            knock(&mut world);
            if let Some(span) = world.time_to_talk(members[0], members[1], 50 * MILLISECOND) {
                break world.now.since(began).max(span);
            }
            assert!(world.now.since(began) < 60 * SECOND, "never");
        };
        assert!(met < 6 * SECOND, "{met:?}: at WireGuard's first retry at the latest");
        assert!(lairs.iter().all(|lair| world.ledger.account(*lair).to == 0), "and he hears nothing");
    }
}

/// One forged initiation for a member's key tells a stranger nothing: not that the member is there, nor whom it calls.
#[test]
fn who_knocks_learns_nothing() {
    let mut world = World::new(830);
    let [one, other] = [world.member("p", None), world.member("p", None)];
    let lair = address("203.0.113.200:7");
    let forged = initiation_for(&mut world, one);
    let _ = world.inject(lair, &forged);
    world.add_peer(one, other);
    world.run(90 * SECOND);
    assert_eq!(world.ledger.account(lair).to, 0);
    // Who does speak to the control plane from there may be the one.
    world.set_origin(other, lair.ip());
    let _ = world.inject(lair, &forged);
    world.run(40 * SECOND);
    assert_eq!(world.ledger.account(lair).to, 148, "as much as came from there");
}

/// Rule 3: a response is an offer. It teaches nothing until the initiator's data shows that it was the responder's.
#[test]
fn an_answer_alone_is_not_shown() {
    let mut world = World::new(840);
    let members = world.blind_party("p", 2);
    world.run(12 * SECOND);
    let homes = [0, 1].map(|place: usize| world.clients[members[place]].seen_as.unwrap());
    let third = world.member("p", None);
    let there: SocketAddr = SocketAddr::new(world.public_ip(third), 9);
    let handshakes = world.relay.stats().values.of(Figure::Handshakes);
    let forged = initiation_for(&mut world, members[0]);
    assert_eq!(world.inject(there, &forged), Ok(()));
    let response = response_for(&mut world, third, sender_index(&forged));
    assert_eq!(world.inject(homes[0], &response), Ok(()));
    let stats = *world.relay.member_stats(&world.public_key(third)).unwrap();
    assert_eq!((stats.reach, stats.last_handshake), (Reach::None, None));
    assert_eq!(world.relay.stats().values.of(Figure::Handshakes), handshakes);
    assert!(world.relay.snapshot(world.clock()).len() < 600, "it outlives no restart");
    world.ledger.reached(there);
    world.ledger.sends(there);
    assert_eq!(world.inject(there, &data(sender_index(&response))), Ok(()));
    let stats = *world.relay.member_stats(&world.public_key(third)).unwrap();
    assert_eq!((stats.reach, stats.last_handshake), (Reach::Blind, Some(world.now)));
    assert_eq!(world.relay.stats().values.of(Figure::Handshakes), handshakes + 1);
}

/// From one network to another and back, soon after a handshake: each time the member is found at once.
#[test]
fn there_and_back_again_within_seconds() {
    for how in [HubUse::Only, HubUse::Extra] {
        for seed in 850..860 {
            let mut world = World::new(seed);
            let (wifi, mobile) = ([203, 0, 113, 50].into(), [198, 18, 0, 50].into());
            let nat = world.symmetric();
            world.nats[nat].rebind(wifi);
            let members = [world.member("p", Some(nat)), world.member("p", None)];
            if how == HubUse::Extra {
                world.introduce_all(&members);
            }
            members.iter().for_each(|&member| world.use_hub(member, how));
            // A handshake has just been made.
            world.run(MILLISECOND * 300);
            assert!(world.time_to_talk(0, 1, SECOND).is_some());
            for (move_to, after) in [(mobile, 1500), (wifi, 900), (mobile, 900)] {
                world.run(MILLISECOND * after);
                world.nats[nat].rebind(move_to);
                let deaf = world.time_to_talk(0, 1, 20 * SECOND).expect("it is found again");
                assert!(deaf <= 300 * MILLISECOND, "seed {seed}, to {move_to}: {deaf:?}");
            }
        }
    }
}

/// What the relay sends leaves from the address of ours that its receiver speaks to: with a session, with a flow, also
/// after a restart, and whatever somebody writes on a datagram.
#[test]
fn answers_leave_from_where_they_are_expected() {
    for how in [HubUse::None, HubUse::Only] {
        let mut world = World::new(860);
        let members: Vec<_> = (0..4).map(|_| world.member("p", None)).collect();
        for (number, &member) in (1..).zip(&members) {
            let local = SocketAddr::from(([198, 51, 100, number % 3], 1)).ip();
            world.locals.insert(world.public_ip(member), local);
        }
        if how == HubUse::None {
            world.introduce_all(&members);
        }
        members.iter().for_each(|&member| world.use_hub(member, how));
        world.run(30 * SECOND);
        let all_talk = |world: &mut World| {
            for (one, other) in [(0, 1), (1, 2), (2, 3), (3, 0)] {
                assert!(world.talk(members[one], members[other]));
            }
        };
        all_talk(&mut world);
        // Somebody writes a member's address on what he sends to another address of ours.
        for (place, &member) in members.iter().enumerate() {
            let remote = world.clients[member].seen_as.unwrap();
            let path = Path { remote, local: Some([203, 0, 113, 1].into()) };
            let arrival = Arrival { path, port: Port::Main, now: world.clock() };
            let forged = initiation_for(&mut world, members[(place + 1) % 4]);
            for mut bytes in [forged.to_vec(), data(77).to_vec()] {
                let mut answered = 0;
                let mut out = |_: SocketAddr, _: Port, _: &[u8]| answered += 1;
                let _ = world.relay.receive(&mut bytes, arrival, &mut out);
            }
        }
        all_talk(&mut world);
        let snapshot = world.relay.snapshot(world.clock());
        world.restart_relay();
        members.iter().for_each(|&member| world.join("p", member).unwrap());
        let now = world.clock();
        world.relay.restore(&snapshot, now).unwrap();
        world.run(2 * SECOND);
        all_talk(&mut world);
        world.run(200 * SECOND);
        all_talk(&mut world);
    }
}
