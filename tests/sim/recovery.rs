//! How soon members find each other again when the relay was away, or one of them has moved unheard.

use crate::world::{HubUse, MILLISECOND, SECOND, World};
use lanrage::relay::limits::{GREETING_INTERVAL, GREETINGS};
use lanrage::relay::snapshot::Restored;
use lanrage::wireguard::message::INITIATION_LENGTH;
use std::net::SocketAddr;

/// The relay stops in good order and comes back, with `members` of one party.
fn restart(world: &mut World, members: &[usize]) -> Restored {
    let snapshot = world.relay.snapshot(world.clock());
    world.restart_relay();
    members.iter().for_each(|&member| world.join("p", member).unwrap());
    let now = world.clock();
    world.relay.restore(&snapshot, now).unwrap()
}

/// Where the relay has sent initiations since records were begun, and when.
fn initiations(world: &World) -> Vec<(lanrage::time::Instant, SocketAddr)> {
    let sent = world.records().iter().filter(|record| !record.to_relay && record.bytes[0] == 1);
    sent.map(|record| (record.at, record.remote)).collect()
}

/// Rule 9: the hub asks its members for new sessions, so that a graceful restart costs them a round trip.
#[test]
fn hub_members_come_back_at_once_after_a_graceful_restart() {
    for how in [HubUse::Only, HubUse::Extra] {
        let mut world = World::new(200);
        let nat = world.symmetric();
        let members = [world.member("p", Some(nat)), world.member("p", None)];
        if how == HubUse::Extra {
            world.introduce_all(&members);
        }
        members.iter().for_each(|&member| world.use_hub(member, how));
        world.run(40 * SECOND);
        assert!(world.talk(0, 1));
        // Twice, and the second time before anybody could answer the first.
        for _ in 0..2 {
            assert_eq!(restart(&mut world, &members).spokes, 2);
        }
        let outage = world.time_to_talk(0, 1, 60 * SECOND).unwrap();
        assert!(outage < 300 * MILLISECOND, "{outage:?}");
        world.run(600 * SECOND);
        assert!(world.talk(0, 1));
    }
}

/// A whole party, one after the other.
#[test]
fn a_hundred_hub_members_are_back_within_a_second_or_so() {
    let mut world = World::new(201);
    let members = world.hub_party("p", 100);
    world.run(10 * SECOND);
    world.records = Some(Vec::new());
    // Who was heard of last is asked first: that is who plays.
    assert!(world.talk(members[98], members[99]));
    assert_eq!(restart(&mut world, &members).spokes, 100);
    world.records = Some(Vec::new());
    let outage = world.time_to_talk(members[98], members[99], 60 * SECOND).unwrap();
    assert!(outage < 300 * MILLISECOND, "{outage:?}");
    world.run(1500 * MILLISECOND);
    let asked = initiations(&world);
    assert_eq!(asked.len(), 100);
    for pair in asked.windows(2) {
        assert!(pair[1].0.since(pair[0].0) >= GREETING_INTERVAL, "not all at the same instant");
    }
    for pair in members.chunks(2) {
        assert!(world.talk(pair[0], pair[1]));
    }
}

/// Where a member was before the restart, somebody else may be now, or nobody: that costs three initiations.
#[test]
fn an_address_of_before_a_restart_gets_little() {
    let mut world = World::new(202);
    let members = world.hub_party("p", 2);
    world.run(10 * SECOND);
    assert!(world.talk(members[0], members[1]));
    let gone = world.clients[members[0]].seen_as.unwrap();
    world.clients[members[0]].offline = true;
    assert_eq!(restart(&mut world, &members).spokes, 2);
    world.records = Some(Vec::new());
    for _ in 0..300 {
        world.say(members[1], members[0], b"where are you?");
        world.run(SECOND);
    }
    let to: Vec<_> = world.records().iter().filter(|r| !r.to_relay && r.remote == gone).collect();
    assert_eq!(to.len(), usize::from(GREETINGS));
    assert!(to.iter().all(|record| record.bytes.len() == INITIATION_LENGTH));
    // One that comes back is served like any other, from elsewhere, too.
    world.clients[members[0]].offline = false;
    let outage = world.time_to_talk(members[0], members[1], 60 * SECOND).unwrap();
    assert!(outage < 22 * SECOND, "{outage:?}");
    // Who was away for too long before is not looked for at all.
    world.clients[members[0]].offline = true;
    world.run(245 * SECOND);
    assert_eq!(restart(&mut world, &members).spokes, 1);
}

/// A member that was removed while the relay was down is not greeted.
#[test]
fn who_is_no_member_any_more_is_not_greeted() {
    let mut world = World::new(203);
    let members = world.hub_party("p", 3);
    world.run(10 * SECOND);
    let gone = world.clients[members[2]].seen_as.unwrap();
    assert_eq!(restart(&mut world, &members[..2]).spokes, 2);
    world.records = Some(Vec::new());
    world.run(30 * SECOND);
    assert!(initiations(&world).iter().all(|&(_, to)| to != gone));
}
