//! What must not work.

use crate::world::{HubUse, MILLISECOND, SECOND, World, relay_address};
use lanrage::crypto::x25519::PrivateKey;
use lanrage::figures::DropReason;
use lanrage::owners::SourceRates;
use lanrage::relay::Port;
use lanrage::relay::limits::RelayLimits;
use lanrage::token_bucket::Rate;
use lanrage::wireguard::constants::X25519_TYPICAL;
use lanrage::wireguard::cookie::Signer;
use lanrage::wireguard::device::{Device, DeviceSettings};
use lanrage::wireguard::message::{
    COOKIE_REPLY_LENGTH, INITIATION_LENGTH, KEEPALIVE_LENGTH, RESPONSE_LENGTH, transport_header,
};
use lanrage::wireguard::peer::PeerSettings;
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// An initiation with the member's mac1, as somebody sends it who knows its public key and nothing else.
pub fn initiation_for(world: &mut World, member: usize) -> [u8; INITIATION_LENGTH] {
    let mut message = [0; INITIATION_LENGTH];
    world.random.fill(&mut message);
    message[..4].copy_from_slice(&[1, 0, 0, 0]);
    let key = world.public_key(member);
    Signer::default().sign(&key, &mut message, world.now);
    message
}

/// A response for the member with this public key that echoes `index`.
pub fn response_for(world: &mut World, member: usize, index: u32) -> [u8; RESPONSE_LENGTH] {
    let mut message = [0; RESPONSE_LENGTH];
    world.random.fill(&mut message);
    message[..4].copy_from_slice(&[2, 0, 0, 0]);
    message[8..12].copy_from_slice(&index.to_le_bytes());
    let key = world.public_key(member);
    Signer::default().sign(&key, &mut message, world.now);
    message
}

fn cookie_reply(index: u32) -> [u8; COOKIE_REPLY_LENGTH] {
    let mut message = [7; COOKIE_REPLY_LENGTH];
    message[..4].copy_from_slice(&[3, 0, 0, 0]);
    message[4..8].copy_from_slice(&index.to_le_bytes());
    message
}

pub fn data(index: u32) -> [u8; 100] {
    let mut message = [9; 100];
    message[..16].copy_from_slice(&transport_header(index, 0));
    message
}

pub fn sender_index(message: &[u8]) -> u32 {
    u32::from_le_bytes(message[4..8].try_into().unwrap())
}

pub fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// What the relay sent since records were begun.
fn sent(world: &World) -> usize {
    world.records().iter().filter(|record| !record.to_relay).count()
}

/// Rule 1: only members' keys open the relay.
#[test]
fn strangers_get_nothing() {
    let mut world = World::new(40);
    let members = world.blind_party("p", 2);
    let stranger = world.stranger(None);
    world.add_peer(stranger, members[0]);
    world.add_peer(members[0], stranger);
    world.run(60 * SECOND);
    assert!(world.talk(members[0], members[1]));
    assert!(!world.talk(stranger, members[0]));
    assert_eq!(world.relay.flow_count(), 1);
    // The member's initiations to the stranger bear a key that is in no party; so do these.
    world.capture.start();
    let before = world.dropped(DropReason::NoMember);
    let forged = initiation_for(&mut world, stranger);
    assert_eq!(world.inject(address("192.0.2.200:1"), &forged), Err(DropReason::NoMember));
    assert_eq!((world.dropped(DropReason::NoMember), sent(&world)), (before + 1, 0));
    // One bit off is nobody's.
    let mut damaged = initiation_for(&mut world, members[0]);
    damaged[60] ^= 1;
    assert_eq!(world.inject(address("192.0.2.200:1"), &damaged), Err(DropReason::NoMember));
}

/// Rule 1: a source has so many handshakes, and all unknown sources together cost so many trials of mac1. Known
/// sources do not need those.
#[test]
fn handshakes_are_limited_per_source_and_trials_for_all() {
    let few = SourceRates::widening(Rate::new(1, SECOND, 10), Rate::new(1000, SECOND, 1000));
    let limits = RelayLimits {
        mac1_trials: SourceRates::widening(Rate::new(100, SECOND, 300), Rate::new(100, SECOND, 300)),
        handshakes: SourceRates { site: Rate::new(1, SECOND, 10), ..few },
        handshakes_per_source: Rate::new(1, SECOND, 20),
        ..RelayLimits::default()
    };
    let mut world = World::with_limits(56, limits);
    let members = world.blind_party("p", 3);
    world.run(12 * SECOND);
    let stranger = world.stranger(None);
    let noise = initiation_for(&mut world, stranger);
    let taken = |world: &mut World, source: SocketAddr| {
        (0..50).filter(|_| world.inject(source, &noise) == Err(DropReason::NoMember)).count()
    };
    assert_eq!(taken(&mut world, address("192.0.2.200:1")), 10);
    assert_eq!(taken(&mut world, address("192.0.2.200:2")), 0, "the same address");
    let total: usize =
        (1..100).map(|host| taken(&mut world, SocketAddr::from(([198, 18, host, 1], 1)))).sum();
    assert_eq!(total, 90, "three trials each");
    // Nobody else has any left; but who is known to have to do with the party is looked up there.
    let forged = initiation_for(&mut world, members[0]);
    assert_eq!(world.inject(address("198.19.0.1:1"), &forged), Err(DropReason::HandshakeLimit));
    let home = world.clients[members[1]].seen_as.unwrap();
    assert_eq!(world.inject(home, &forged), Ok(()));
    let known = (0..50).filter(|_| world.inject(home, &forged) == Err(DropReason::Duplicate)).count();
    assert!((10..20).contains(&known), "{known}: its own share, of which it has used some");
}

/// Rules 2 and 3: neither a forged initiation nor a forged response, cookie reply or data moves anybody.
#[test]
fn forgeries_from_outside_teach_nothing() {
    let mut world = World::new(41);
    let members = world.blind_party("p", 2);
    world.run(10 * SECOND);
    let homes: BTreeSet<_> = members.iter().filter_map(|&member| world.clients[member].seen_as).collect();
    let elsewhere = address("192.0.2.200:9");
    world.capture.start();
    for round in 0..50 {
        let (one, other) = (members[round % 2], members[1 - round % 2]);
        let forged = initiation_for(&mut world, one);
        let _ = world.inject(elsewhere, &forged);
        // It guesses that the initiation went on, and answers itself from there.
        let response = response_for(&mut world, other, sender_index(&forged));
        assert_eq!(world.inject(elsewhere, &response), Err(DropReason::NoPending));
        assert_eq!(world.inject(elsewhere, &cookie_reply(sender_index(&forged))), Err(DropReason::NoPending));
        assert_eq!(world.inject(elsewhere, &data(sender_index(&forged))), Err(DropReason::NoFlow));
        world.run(100 * MILLISECOND);
    }
    let wrong = world.records().iter().find(|record| !record.to_relay && !homes.contains(&record.remote));
    assert!(wrong.is_none(), "{wrong:?}");
    assert_eq!(world.relay.flow_count(), 1);
    assert!(world.talk(members[0], members[1]));
}

/// Rule 3: an answer counts only from where the initiation was sent.
#[test]
fn an_answer_counts_only_from_where_it_was_asked() {
    let mut world = World::new(42);
    let members = world.blind_party("p", 2);
    world.run(10 * SECOND);
    world.clients[members[1]].offline = true;
    world.run(10 * SECOND);
    world.capture.start();
    let from = world.clients[members[0]].seen_as.unwrap();
    let forged = initiation_for(&mut world, members[1]);
    assert_eq!(world.inject(from, &forged), Ok(()));
    let asked = world.records().iter().find(|record| !record.to_relay).unwrap().remote;
    let response = response_for(&mut world, members[0], sender_index(&forged));
    let flows = world.relay.flow_count();
    assert_eq!(world.inject(address("192.0.2.200:9"), &response), Err(DropReason::NoPending));
    assert_eq!(world.inject(SocketAddr::new(asked.ip(), 1), &response), Err(DropReason::NoPending));
    assert_eq!(
        world.inject(address("192.0.2.200:9"), &cookie_reply(sender_index(&forged))),
        Err(DropReason::NoPending)
    );
    // From there, but for a member that shares no party with it, or for nobody.
    let outsider = world.member("q", None);
    let response = response_for(&mut world, outsider, sender_index(&forged));
    assert_eq!(world.inject(asked, &response), Err(DropReason::NoMember));
    assert_eq!(world.relay.flow_count(), flows);
    // Nor does it help to go on and on: that is over soon.
    let second = initiation_for(&mut world, members[1]);
    assert_eq!(world.inject(from, &second), Ok(()));
    for _ in 0..4 {
        let response = response_for(&mut world, outsider, sender_index(&second));
        assert_eq!(world.inject(asked, &response), Err(DropReason::NoMember));
    }
    let response = response_for(&mut world, members[0], sender_index(&second));
    assert_eq!(world.inject(asked, &response), Err(DropReason::Duplicate));
    // The real thing: it takes mac1 and the echoed index.
    let response = response_for(&mut world, members[0], sender_index(&forged));
    assert_eq!(world.inject(asked, &cookie_reply(sender_index(&forged))), Ok(()));
    assert_eq!(world.inject(asked, &cookie_reply(sender_index(&forged))), Err(DropReason::Duplicate));
    assert_eq!(world.inject(asked, &response), Ok(()));
    assert_eq!(world.relay.flow_count(), flows + 1);
    assert_eq!(world.inject(asked, &response), Err(DropReason::Duplicate), "once");
}

/// Rule 9: an initiation can be answered for ten seconds.
#[test]
fn pending_initiations_expire() {
    let mut world = World::new(43);
    let members = world.blind_party("p", 2);
    world.run(10 * SECOND);
    let homes: Vec<_> = members.iter().map(|&member| world.clients[member].seen_as.unwrap()).collect();
    world.clients.iter_mut().for_each(|client| client.offline = true);
    for (wait, expected) in [(9, Ok(())), (10, Err(DropReason::NoPending))] {
        let forged = initiation_for(&mut world, members[1]);
        assert_eq!(world.inject(homes[0], &forged), Ok(()));
        world.run(wait * SECOND);
        let response = response_for(&mut world, members[0], sender_index(&forged));
        assert_eq!(world.inject(homes[1], &response), expected);
    }
}

/// Rule 5: data goes by source address and index, and by nothing less.
#[test]
fn data_from_elsewhere_goes_nowhere() {
    let mut world = World::new(44);
    let members = world.blind_party("p", 2);
    world.run(10 * SECOND);
    world.capture.start();
    assert!(world.talk(members[0], members[1]));
    let from = world.clients[members[0]].seen_as.unwrap();
    let real = world.records().iter().find(|r| r.to_relay && r.remote == from && r.bytes[0] == 4).unwrap();
    let real = real.bytes.clone();
    let before = sent(&world);
    for spoofed in [address("192.0.2.200:9"), SocketAddr::new(from.ip(), 9)] {
        assert_eq!(world.inject(spoofed, &real), Err(DropReason::NoFlow));
    }
    assert_eq!(world.inject(from, &cookie_reply(sender_index(&real))), Err(DropReason::NoPending), "rule 6");
    let mut other_index = real.clone();
    other_index[4] ^= 1;
    assert_eq!(world.inject(from, &other_index), Err(DropReason::NoFlow));
    assert_eq!(sent(&world), before);
    let SocketAddr::V4(v4) = from else { panic!() };
    let mapped = SocketAddr::from((v4.ip().to_ipv6_mapped(), v4.port()));
    assert_eq!(world.inject(mapped, &real), Ok(()), "another spelling of the same address");
    assert_eq!(world.inject(from, &real), Ok(()), "a replay is the receiver's to see");
}

/// Rule 5: an index that is in use ends the handshake, and hurts nobody's session.
#[test]
fn clashing_indices_end_the_handshake() {
    let mut world = World::new(45);
    let members = world.blind_party("p", 3);
    world.run(12 * SECOND);
    let homes: Vec<_> = members.iter().map(|&member| world.clients[member].seen_as.unwrap()).collect();
    // Two initiators with the same index, to the same responder.
    let first = initiation_for(&mut world, members[0]);
    assert_eq!(world.inject(homes[1], &first), Ok(()));
    let mut alike = initiation_for(&mut world, members[0]);
    alike[4..8].copy_from_slice(&first[4..8]);
    Signer::default().sign(&world.public_key(members[0]), &mut alike, world.now);
    assert_eq!(world.inject(homes[2], &alike), Err(DropReason::IndexClash));
    assert_eq!(world.inject(homes[2], &first), Err(DropReason::Duplicate), "nobody passes it on");
    assert_eq!(world.inject(homes[1], &first), Err(DropReason::Duplicate), "one in, one out");
    let SocketAddr::V4(v4) = homes[1] else { panic!() };
    let mapped = SocketAddr::from((v4.ip().to_ipv6_mapped(), v4.port()));
    assert_eq!(world.inject(mapped, &first), Err(DropReason::Duplicate), "the same address");
    // The responder chooses an index that it has told the same initiator before.
    let response = response_for(&mut world, members[1], sender_index(&first));
    assert_eq!(world.inject(homes[0], &response), Ok(()));
    let second = initiation_for(&mut world, members[0]);
    assert_eq!(world.inject(homes[1], &second), Ok(()));
    let mut clash = response_for(&mut world, members[1], sender_index(&second));
    clash[4..8].copy_from_slice(&response[4..8]);
    Signer::default().sign(&world.public_key(members[1]), &mut clash, world.now);
    assert_eq!(world.inject(homes[0], &clash), Err(DropReason::IndexClash));
    // An initiator chooses the index of a session that it has with the same responder.
    world.run(10 * SECOND);
    let mut third = initiation_for(&mut world, members[0]);
    third[4..8].copy_from_slice(&first[4..8]);
    Signer::default().sign(&world.public_key(members[0]), &mut third, world.now);
    assert_eq!(world.inject(homes[1], &third), Err(DropReason::IndexClash));
    for (one, other) in [(0, 1), (0, 2), (1, 2)] {
        assert!(world.talk(members[one], members[other]));
    }
}

/// Rule 5: an index of the hub's is in use, too: data to it would never come to the flow.
#[test]
fn an_index_of_the_hub_s_ends_the_handshake() {
    let mut world = World::new(57);
    world.capture.start();
    let hub_members = world.hub_party("q", 1);
    let members = world.blind_party("p", 2);
    world.run(12 * SECOND);
    let hub_member = world.clients[hub_members[0]].seen_as.unwrap();
    let to_hub =
        world.records().iter().find(|r| r.to_relay && r.remote == hub_member && r.bytes[0] == 4).unwrap();
    let index = sender_index(&to_hub.bytes);
    let homes: Vec<_> = members.iter().map(|&member| world.clients[member].seen_as.unwrap()).collect();
    let forged = initiation_for(&mut world, members[1]);
    assert_eq!(world.inject(homes[0], &forged), Ok(()));
    let mut response = response_for(&mut world, members[0], sender_index(&forged));
    response[4..8].copy_from_slice(&index.to_le_bytes());
    Signer::default().sign(&world.public_key(members[0]), &mut response, world.now);
    assert_eq!(world.inject(homes[1], &response), Err(DropReason::IndexClash));
}

/// Rule 7: what goes out is what came in.
#[test]
fn nothing_is_rewritten() {
    let mut world = World::new(46);
    world.capture.start();
    let members = world.blind_party("p", 4);
    world.run(10 * SECOND);
    for (one, other) in [(0, 1), (2, 3)] {
        assert!(world.talk(members[one], members[other]));
    }
    let came: BTreeSet<_> =
        world.records().iter().filter(|record| record.to_relay).map(|record| &record.bytes).collect();
    let went: Vec<_> = world.records().iter().filter(|record| !record.to_relay).collect();
    assert!(went.len() >= 20, "{}", went.len());
    assert!(went.iter().all(|record| came.contains(&record.bytes)));
    for kind in [1, 2, 4] {
        assert!(went.iter().any(|record| record.bytes[0] == kind));
    }
    // Rule 4: and at most once.
    let distinct: BTreeSet<_> = went.iter().map(|record| &record.bytes).collect();
    assert_eq!(distinct.len(), went.len());
}

/// Rule 8: a member who writes a victim's address on its initiations, and answers them itself with another
/// key, gets the victim no more than it gave. The ledger watches.
#[test]
fn a_member_can_t_amplify_towards_a_victim() {
    let mut world = World::new(47);
    let members = world.blind_party("p", 4);
    world.run(12 * SECOND);
    let victim = address("192.0.2.222:7");
    let accomplice = world.clients[members[0]].seen_as.unwrap();
    for round in 0..200 {
        // An initiation to the accomplice, from the victim it says.
        let forged = initiation_for(&mut world, members[0]);
        let _ = world.inject(victim, &forged);
        let index = sender_index(&forged);
        // The accomplice answers with everything there is.
        let _ = world.inject(accomplice, &cookie_reply(index));
        let response = response_for(&mut world, members[1 + round % 3], index);
        let _ = world.inject(accomplice, &response);
        let _ = world.inject(accomplice, &cookie_reply(index));
        for _ in 0..5 {
            let _ = world.inject(accomplice, &data(index));
        }
        // And others' initiations may now go there.
        world.run(50 * MILLISECOND);
    }
    let account = world.ledger.account(victim);
    assert!(account.from > 1000 && account.to > 0, "{account:?}");
    assert!(account.to <= account.from);
    assert!(world.dropped(DropReason::Unproven) > 0);
}

/// Nor does anybody get data that it has not asked for, proven or not: a responder's waits for the initiator's.
#[test]
fn no_data_comes_before_the_initiator_s() {
    let mut world = World::new(78);
    let members = world.blind_party("p", 3);
    world.run(12 * SECOND);
    let homes: Vec<_> = members.iter().map(|&member| world.clients[member].seen_as.unwrap()).collect();
    // The first and the third want the second to be flooded.
    let forged = initiation_for(&mut world, members[0]);
    assert_eq!(world.inject(homes[1], &forged), Ok(()));
    let response = response_for(&mut world, members[2], sender_index(&forged));
    assert_eq!(world.inject(homes[0], &response), Ok(()));
    let flood = data(sender_index(&forged));
    assert_eq!(world.inject(homes[0], &flood), Err(DropReason::Unproven));
    assert_eq!(world.inject(homes[1], &data(sender_index(&response))), Ok(()));
    assert_eq!(world.inject(homes[0], &flood), Ok(()), "now it takes part");
}

/// The same with a source that can only be the one by elimination.
#[test]
fn elimination_can_t_amplify() {
    let mut world = World::new(48);
    let members: Vec<_> = (0..4).map(|_| world.member("p", None)).collect();
    let victim = address("192.0.2.222:7");
    world.set_origin(members[0], victim.ip());
    for target in [1, 2, 3] {
        let forged = initiation_for(&mut world, members[target]);
        let _ = world.inject(victim, &forged);
    }
    // The victim can only be the first. Everybody asks for the first, for a long time.
    for asking in [1, 2, 3] {
        world.add_peer(members[asking], members[0]);
    }
    world.run(200 * SECOND);
    let account = world.ledger.account(victim);
    assert_eq!(account.from, 3 * 148);
    assert!(account.to > 0 && account.to <= account.from, "{account:?}");
}

/// Where the relay sends initiations from `source` to `member`, one after the other.
fn destinations(world: &mut World, source: SocketAddr, member: usize, count: usize) -> Vec<SocketAddr> {
    (0..count)
        .map(|_| {
            world.capture.start();
            let forged = initiation_for(world, member);
            assert_eq!(world.inject(source, &forged), Ok(()));
            let sent: Vec<_> = world.records().iter().filter(|record| !record.to_relay).collect();
            assert_eq!(sent.len(), 1, "one in, one out");
            sent[0].remote
        })
        .collect()
}

/// Rule 4: candidates take turns, one per retry; one that can't be sent to yet is passed over.
#[test]
fn candidates_take_turns() {
    let mut world = World::new(59);
    let members = world.blind_party("p", 3);
    world.run(12 * SECOND);
    let homes: Vec<_> = members.iter().map(|&member| world.clients[member].seen_as.unwrap()).collect();
    // The third says that the second is at a made-up address: that is not proven, and has no credit.
    let made_up = address("192.0.2.201:5");
    let forged = initiation_for(&mut world, members[2]);
    assert_eq!(world.inject(made_up, &forged), Ok(()));
    let lie = response_for(&mut world, members[1], sender_index(&forged));
    assert_eq!(world.inject(homes[2], &lie), Ok(()));
    assert_eq!(destinations(&mut world, homes[0], members[1], 2), [homes[1]; 2]);
    // With data it proves that somebody is there; let us say that is so.
    world.ledger.reached(made_up);
    world.ledger.sends(made_up);
    assert_eq!(world.inject(made_up, &data(sender_index(&lie))), Ok(()));
    let to = destinations(&mut world, homes[2], members[1], 4);
    assert_eq!(to, [made_up, homes[1], made_up, homes[1]]);
}

/// Rule 4: who can only be the one is asked before those who only may be.
#[test]
fn who_is_left_over_comes_before_who_may_be() {
    let mut world = World::new(74);
    let members: Vec<_> = (0..4).map(|_| world.member("p", None)).collect();
    let (certain, possible) = (address("192.0.2.201:1"), address("192.0.2.201:2"));
    world.set_origin(members[0], certain.ip());
    for (source, targets) in [(certain, &[1, 2, 3][..]), (possible, &[1])] {
        for &target in targets {
            let forged = initiation_for(&mut world, members[target]);
            let _ = world.inject(source, &forged);
        }
    }
    let asking = address("192.0.2.203:1");
    world.set_origin(members[1], asking.ip());
    assert_eq!(destinations(&mut world, asking, members[0], 2), [certain; 2]);
}

/// Rule 8: what exceeds a destination's share waits for its turn and is not lost.
#[test]
fn initiations_wait_for_their_turn() {
    let mut world = World::new(75);
    let members: Vec<_> = (0..40).map(|_| world.member("p", None)).collect();
    members[1..].iter().for_each(|&other| world.introduce(members[0], other));
    world.run(30 * SECOND);
    world.clients.iter_mut().for_each(|client| client.offline = true);
    world.run(10 * SECOND);
    world.capture.start();
    let before = world.dropped(DropReason::Paced);
    for &other in &members[1..] {
        let forged = initiation_for(&mut world, members[0]);
        let home = world.clients[other].seen_as.unwrap();
        assert_eq!(world.inject(home, &forged), Ok(()));
    }
    assert_eq!(sent(&world), 5, "the burst");
    world.run(4 * SECOND);
    let home = world.clients[members[0]].seen_as.unwrap();
    let forwarded = world.records().iter().filter(|r| !r.to_relay && r.remote == home && r.bytes[0] == 1);
    assert_eq!((forwarded.count(), world.dropped(DropReason::Paced)), (39, before));
}

/// Rule 4: the hub session's address comes before what flows have shown.
#[test]
fn the_hub_session_s_address_is_the_best() {
    let mut world = World::new(58);
    let members = world.blind_party("p", 3);
    members.iter().for_each(|&member| world.use_hub(member, HubUse::Extra));
    world.run(12 * SECOND);
    let home = world.clients[members[1]].seen_as.unwrap();
    let liar = world.clients[members[2]].seen_as.unwrap();
    let forged = initiation_for(&mut world, members[2]);
    assert_eq!(world.inject(address("192.0.2.201:5"), &forged), Ok(()));
    let lie = response_for(&mut world, members[1], sender_index(&forged));
    assert_eq!(world.inject(liar, &lie), Ok(()), "now the newest flow says that one is elsewhere");
    world.capture.start();
    let forged = initiation_for(&mut world, members[1]);
    assert_eq!(world.inject(world.clients[members[0]].seen_as.unwrap(), &forged), Ok(()));
    let to: Vec<_> = world.records().iter().filter(|r| !r.to_relay).map(|r| r.remote).collect();
    assert_eq!(to, [home]);
}

/// A liar among the members, who says that another one is at its own address, delays but does not cut.
#[test]
fn a_lying_member_can_t_cut_others_off() {
    let mut world = World::new(49);
    let members = world.blind_party("p", 3);
    world.run(12 * SECOND);
    let liar = world.clients[members[2]].seen_as.unwrap();
    let lie = |world: &mut World| {
        for _ in 0..5 {
            let forged = initiation_for(world, members[2]);
            let _ = world.inject(address("192.0.2.201:5"), &forged);
            let response = response_for(world, members[0], sender_index(&forged));
            let _ = world.inject(liar, &response);
        }
    };
    lie(&mut world);
    // The sessions end and the one that was lied about does nothing for a new one.
    world.clients[members[1]].offline = true;
    world.run(30 * SECOND);
    lie(&mut world);
    world.clients[members[1]].offline = false;
    let found = world.time_to_talk(members[1], members[0], 60 * SECOND);
    assert!(found.is_some_and(|span| span < 40 * SECOND), "{found:?}");
}

/// A kick cuts within one packet, flows and hub.
#[test]
fn a_kick_cuts_at_once() {
    let mut world = World::new(50);
    let members = world.blind_party("p", 3);
    members.iter().for_each(|&member| world.use_hub(member, HubUse::Extra));
    world.run(12 * SECOND);
    assert!(world.talk(members[0], members[2]) && world.talk(members[1], members[2]));
    world.leave("p", members[2]);
    let kicked = world.clients[members[2]].seen_as.unwrap();
    world.capture.start();
    for round in 0..400u32 {
        for other in [0, 1] {
            world.say(members[2], members[other], &round.to_le_bytes());
            world.say(members[other], members[2], &round.to_le_bytes());
        }
        world.run(500 * MILLISECOND);
    }
    // Its initiations still name members, so they may pass; no answer comes back, and no data at all.
    let to_kicked = world.records().iter().filter(|r| !r.to_relay && r.remote == kicked).count();
    assert_eq!(to_kicked, 0);
    let data = world.records().iter().filter(|r| !r.to_relay && r.bytes[0] == 4);
    assert!(data.clone().count() > 0 && world.talk(members[0], members[1]));
    world.join("p", members[2]).unwrap();
    world.run(120 * SECOND);
    assert!(world.talk(members[0], members[2]), "welcome back");
}

/// Who comes in the place of one who is gone does not inherit its addresses.
#[test]
fn addresses_go_with_their_member() {
    let mut world = World::new(77);
    let members = world.blind_party("p", 3);
    members.iter().for_each(|&member| world.use_hub(member, HubUse::Extra));
    world.run(12 * SECOND);
    let home = world.clients[members[0]].seen_as.unwrap();
    world.leave("p", members[2]);
    let next = world.member("p", None);
    let forged = initiation_for(&mut world, next);
    assert_eq!(world.inject(home, &forged), Err(DropReason::NoAddress));
}

/// Who leaves one of two shared parties keeps the other.
#[test]
fn leaving_one_party_keeps_the_other() {
    let mut world = World::new(51);
    let members = world.blind_party("p", 2);
    members.iter().for_each(|&member| world.join("q", member).unwrap());
    world.run(10 * SECOND);
    world.leave("p", members[0]);
    assert!(world.talk(members[0], members[1]));
    world.leave("q", members[0]);
    assert!(!world.talk(members[0], members[1]));
}

/// A member's destination gets no more initiations than its kernel allows our address, however many ask.
#[test]
fn initiations_are_paced_per_destination() {
    let mut world = World::new(52);
    world.capture.start();
    let members: Vec<_> = (0..40).map(|_| world.member("p", None)).collect();
    let popular = members[0];
    for &other in &members[1..] {
        world.introduce(popular, other);
    }
    world.run(15 * SECOND);
    world.clients.iter_mut().for_each(|client| client.offline = true);
    world.run(100 * SECOND);
    world.clients.iter_mut().for_each(|client| client.offline = false);
    let home = world.clients[popular].seen_as.unwrap();
    world.run(60 * SECOND);
    let times: Vec<_> = world
        .records()
        .iter()
        .filter(|record| !record.to_relay && record.remote == home && record.bytes[0] == 1)
        .map(|record| record.at)
        .collect();
    assert!(times.len() > 60, "{}", times.len());
    for (place, &at) in times.iter().enumerate() {
        let within = times[place..].iter().filter(|&&other| other.since(at) < SECOND).count();
        assert!(within <= 25, "{within} in a second: the kernel allows 20 and a burst of 5");
    }
    for &other in &members[1..] {
        assert!(world.talk(popular, other));
    }
}

/// Strangers' noise costs honest members nothing.
#[test]
fn a_flood_of_random_bytes_costs_members_nothing() {
    let mut world = World::new(53);
    let mut members = world.blind_party("p", 3);
    members.extend(world.hub_party("q", 2));
    world.run(12 * SECOND);
    world.clients.iter_mut().for_each(|client| client.inbox.clear());
    for round in 0..400u32 {
        for (from, to) in [(0, 1), (1, 2), (2, 0), (3, 4), (4, 3)] {
            world.say(members[from], members[to], &round.to_le_bytes());
        }
        for _ in 0..100 {
            let mut noise = vec![0; world.random.below(1500) as usize];
            world.random.fill(&mut noise);
            let kind = world.random.below(6) as u8;
            if noise.len() >= 4 && kind > 0 {
                let length =
                    [0, INITIATION_LENGTH, RESPONSE_LENGTH, COOKIE_REPLY_LENGTH, KEEPALIVE_LENGTH, 200];
                noise.resize(length[usize::from(kind)], 7);
                noise[..4].copy_from_slice(&[kind.min(4), 0, 0, 0]);
            }
            let source = (world.random.next_u64() as u32).to_be_bytes();
            let source = SocketAddr::from((source, world.random.next_u64() as u16));
            assert!(world.inject(source, &noise).is_err());
        }
        world.run(20 * MILLISECOND);
    }
    world.run(SECOND);
    for &member in &members {
        assert_eq!(world.clients[member].inbox.len(), 400);
    }
}

/// An outsider who knows a member's public key floods it with initiations from made-up addresses: the tables
/// stay within their bounds, and sessions go on.
#[test]
fn a_flood_of_initiations_fills_nothing() {
    let limits = RelayLimits { sources: 300, pending: 200, paced: 50, ..RelayLimits::default() };
    let mut world = World::with_limits(54, limits);
    let members = world.blind_party("p", 3);
    world.run(12 * SECOND);
    world.clients.iter_mut().for_each(|client| client.inbox.clear());
    for round in 0..200u32 {
        world.say(members[0], members[1], &round.to_le_bytes());
        for _ in 0..20 {
            let forged = initiation_for(&mut world, members[0]);
            let source = (world.random.next_u64() as u32).to_be_bytes();
            let _ = world.inject(SocketAddr::from((source, 5)), &forged);
        }
        world.run(20 * MILLISECOND);
    }
    world.run(SECOND);
    assert_eq!(world.clients[members[1]].inbox.len(), 200);
    assert!(world.dropped(DropReason::Paced) > 0);
    world.run(300 * SECOND);
    assert!(world.talk(members[0], members[1]) && world.talk(members[0], members[2]));
}

/// The same for so long that sessions have to be renewed: members' own initiations find their way through it.
#[test]
fn a_flood_of_initiations_leaves_room_for_members() {
    let limits = RelayLimits { sources: 600, pending: 300, paced: 100, ..RelayLimits::default() };
    let mut world = World::with_limits(77, limits);
    let members = world.blind_party("p", 2);
    world.run(12 * SECOND);
    world.clients.iter_mut().for_each(|client| client.inbox.clear());
    for round in 0..30_000u32 {
        if round % 10 == 0 {
            world.say(members[0], members[1], &round.to_le_bytes());
        }
        for target in [0, 1, 0, 1] {
            let forged = initiation_for(&mut world, members[target]);
            let source = (world.random.next_u64() as u32).to_be_bytes();
            let _ = world.inject(SocketAddr::from((source, 5)), &forged);
        }
        world.run(10 * MILLISECOND);
    }
    let heard = world.clients[members[1]].inbox.len();
    assert!(heard >= 2990, "{heard} of 3000");
}

/// The forward table is bounded, in all and per responder, and what is in it goes on.
#[test]
fn flows_are_bounded() {
    for limits in [
        RelayLimits { flows: 6, ..RelayLimits::default() },
        RelayLimits { flows_per_member: 4, ..RelayLimits::default() },
    ] {
        let mut world = World::with_limits(76, limits);
        let members = world.blind_party("p", 6);
        world.run(20 * SECOND);
        assert!(world.relay.flow_count() * 2 <= limits.flows.min(6 * limits.flows_per_member));
        let talking = (0..6).flat_map(|one| (0..one).map(move |other| (one, other)));
        let pairs = talking.filter(|&(one, other)| world.talk(members[one], members[other])).count();
        assert!(pairs >= 3, "{pairs}");
    }
}

/// A key that two use, in one party and with the hub: nobody else suffers.
#[test]
fn a_cloned_key_hurts_its_owner_only() {
    let mut world = World::new(55);
    let members = world.blind_party("p", 3);
    world.run(12 * SECOND);
    let private_key = PrivateKey::from_bytes(*world.clients[members[0]].key.to_bytes());
    let config =
        DeviceSettings { private_key, mtu: 1420, stamp_mark: 0, jitter_seed: 1, x25519: X25519_TYPICAL };
    let mut clone = Device::new(config, world.now);
    for other in [1, 2] {
        let peer = PeerSettings {
            endpoint: Some(relay_address(Port::Main)),
            persistent_keepalive: Some(25 * SECOND),
            ..PeerSettings::new(world.public_key(members[other]))
        };
        clone.add_peer(peer, world.now).unwrap();
    }
    for _ in 0..60 {
        let mut buffer = [0; 2048];
        let now = world.clock();
        while let Some(outgoing) = clone.poll(now, &mut buffer) {
            let _ = world.inject(address("192.0.2.230:1"), &buffer[..outgoing.length]);
        }
        world.run(SECOND);
        assert!(world.talk(members[1], members[2]));
    }
}
