//! NATs that rebind, relays that restart, responders under load.

use crate::capture::Record;
use crate::world::{HubUse, MILLISECOND, SECOND, World};
use lanrage::figures::DropReason;
use lanrage::relay::snapshot::{Restored, SnapshotError};
use std::net::SocketAddr;
use std::time::Duration;

const NOTHING: Restored = Restored { flows: 0, hub_members: 0 };
/// The two directions of one session.
const FLOWS: Restored = Restored { flows: 2, hub_members: 0 };

/// Two that talk, the first behind a symmetric NAT.
fn pair(seed: u64, hub: HubUse) -> World {
    let mut world = World::new(seed);
    let nat = world.symmetric();
    let members = [world.member("p", Some(nat)), world.member("p", None)];
    world.introduce_all(&members);
    members.iter().for_each(|&member| world.use_hub(member, hub));
    world.run(10 * SECOND);
    assert!(world.talk(0, 1));
    world
}

/// Both say something 20 times a second; for how long they can't hear each other.
fn outage(world: &mut World) -> Duration {
    world.time_to_talk(0, 1, 120 * SECOND).expect("they find each other again")
}

/// Without a hub session WireGuard itself must notice: 15 s without an answer.
#[test]
fn a_rebinding_costs_what_wireguard_needs_to_notice() {
    for address in [[203, 0, 113, 1], [203, 0, 113, 99]] {
        let mut world = pair(20, HubUse::None);
        world.nats[0].rebind(address.into());
        let outage = outage(&mut world);
        assert!(outage > 10 * SECOND && outage < 21 * SECOND, "{outage:?}");
    }
}

/// With the hub as a peer, one packet to the hub and a round trip are enough.
#[test]
fn a_hub_session_moves_the_flows() {
    let mut world = pair(21, HubUse::Extra);
    world.nats[0].rebind([203, 0, 113, 99].into());
    // Its next keepalive to the hub is some time off; anything else that it sends there does as well.
    let began = world.now;
    let ping = crate::packets::ping(world.clients[0].ip, crate::world::HUB_IP, b"here I am");
    world.send(0, &ping);
    let outage = outage(&mut world);
    assert!(outage < SECOND, "{outage:?}");
    // And what comes later still takes that way.
    world.run(300 * SECOND);
    assert!(world.talk(0, 1));
    assert!(world.now.since(began) > 300 * SECOND);
}

/// Flows move only to an address that answers: a member that writes a victim's on what it sends to the hub
/// brings that no more than it gives.
#[test]
fn flows_move_only_to_an_address_that_answers() {
    for (seed, packets) in [(22, 2), (28, 40)] {
        let mut world = pair(seed, HubUse::Extra);
        let victim = "192.0.2.200:9".parse().unwrap();
        let ping = crate::packets::ping(world.clients[0].ip, crate::world::HUB_IP, b"from elsewhere");
        for _ in 0..packets {
            let datagram = world.seal_for_hub(0, &ping);
            let _ = world.inject(victim, &datagram);
            world.say(1, 0, b"follow me there");
        }
        // The hub asks the victim again and again, as far as its credit goes.
        world.clients[0].offline = true;
        for _ in 0..100 {
            world.say(1, 0, b"follow me there");
            world.run(SECOND);
        }
        let account = world.ledger.account(victim);
        assert!(account.is_within(6), "{account:?}");
        world.clients[0].offline = false;
        let outage = outage(&mut world);
        assert!(outage < 30 * SECOND, "{outage:?}");
    }
}

/// Nor to one at which somebody else is.
#[test]
fn nobody_moves_to_another_member_s_address() {
    let mut world = World::new(31);
    let members = world.blind_party("p", 3);
    members.iter().for_each(|&member| world.use_hub(member, HubUse::Extra));
    world.run(12 * SECOND);
    let victim = world.clients[members[2]].seen_as.unwrap();
    let ping = crate::packets::ping(world.clients[members[0]].ip, crate::world::HUB_IP, b"from elsewhere");
    world.capture.start();
    for _ in 0..5 {
        let datagram = world.seal_for_hub(members[0], &ping);
        let _ = world.inject(victim, &datagram);
        world.say(members[1], members[0], b"follow me there, all of this");
        world.run(100 * MILLISECOND);
    }
    let is_data = |record: &&Record| !record.to_relay && record.remote == victim && record.bytes.len() > 32;
    let misled = world.records().iter().filter(is_data).filter(|record| record.bytes[0] == 4).count();
    assert_eq!(misled, 0);
}

/// The first data of a hub session proves nothing if it comes from elsewhere than where the hub's answer went.
#[test]
fn a_session_proves_only_where_its_answer_went() {
    let mut world = World::new(29);
    let members = [world.member("p", None), world.member("p", None)];
    world.use_hub(members[1], HubUse::Only);
    world.run(10 * SECOND);
    world.clients[members[0]].offline = true;
    world.use_hub(members[0], HubUse::Only);
    world.capture.start();
    let (here, victim) = ("192.0.2.199:9".parse().unwrap(), "192.0.2.200:9".parse().unwrap());
    // The handshake goes by way of an address at which the member is, its confirmation seems to come from another.
    let mut buffer = [0; 2048];
    let now = world.clock();
    let initiation = world.clients[members[0]].device.poll(now, &mut buffer).unwrap();
    world.inject(here, &buffer[..initiation.length]).unwrap();
    let answer = world.records().iter().find(|record| !record.to_relay && record.remote == here).unwrap();
    let mut answer = answer.bytes.clone();
    world.clients[members[0]].device.receive(&mut answer, initiation.to, now);
    let confirmation = world.clients[members[0]].device.poll(now, &mut buffer).unwrap();
    world.inject(victim, &buffer[..confirmation.length]).unwrap();
    for _ in 0..20 {
        world.say(members[1], members[0], b"a lot of data for somebody who did not ask for it");
        world.run(SECOND);
    }
    let account = world.ledger.account(victim);
    assert!(account.from > 0 && account.is_within(1), "{account:?}");
}

#[test]
fn a_graceful_restart_loses_nothing() {
    let mut world = pair(23, HubUse::Extra);
    for round in 0..20u8 {
        if round == 10 {
            let snapshot = world.relay.snapshot(world.clock());
            world.restart_relay();
            (0..2).for_each(|client| world.join("p", client).unwrap());
            let now = world.clock();
            assert_eq!(world.relay.restore(&snapshot, now), Ok(Restored { flows: 2, hub_members: 2 }));
        }
        world.say(0, 1, &[round]);
        world.say(1, 0, &[round]);
        world.run(100 * MILLISECOND);
    }
    for client in 0..2 {
        let heard = world.clients[client].inbox.iter().filter(|(_, word)| word.len() == 1).count();
        assert_eq!(heard, 20);
    }
}

/// The hub remembers which handshakes it has had, so that old ones do not come again after a restart.
#[test]
fn old_handshakes_are_not_replayed_after_a_restart() {
    let mut world = World::new(30);
    world.capture.start();
    let members = world.hub_party("p", 1);
    world.run(10 * SECOND);
    let old = world.records().iter().find(|record| record.to_relay && record.bytes[0] == 1).unwrap().clone();
    let snapshot = world.relay.snapshot(world.clock());
    for (restored, expected) in [(true, Err(DropReason::HubReplayed)), (false, Ok(()))] {
        world.restart_relay();
        world.join("p", members[0]).unwrap();
        let now = world.clock();
        if restored {
            assert_eq!(world.relay.restore(&snapshot, now), Ok(Restored { flows: 0, hub_members: 1 }));
        }
        assert_eq!(world.inject(old.remote, &old.bytes), expected);
    }
}

#[test]
fn a_cold_restart_costs_what_wireguard_needs_to_notice() {
    let mut world = pair(24, HubUse::None);
    world.restart_relay();
    (0..2).for_each(|client| world.join("p", client).unwrap());
    let outage = outage(&mut world);
    assert!(outage < 22 * SECOND, "{outage:?}");
}

#[test]
fn snapshots_are_checked() {
    let mut world = pair(25, HubUse::None);
    let good = world.relay.snapshot(world.clock());
    let later = |world: &World, span: Duration| {
        let mut now = world.clock();
        now.unix = now.unix + span;
        now
    };
    let fresh = |world: &mut World| {
        world.restart_relay();
        (0..2).for_each(|client| world.join("p", client).unwrap());
    };
    fresh(&mut world);
    let now = world.clock();
    for length in 0..good.len() {
        assert_eq!(world.relay.restore(&good[..length], now), Err(SnapshotError::Damaged));
    }
    for byte in 0..good.len() {
        let mut bad = good.clone();
        bad[byte] ^= 1 << (byte % 8);
        assert_eq!(world.relay.restore(&bad, now), Err(SnapshotError::Damaged), "{byte}");
    }
    let old = later(&world, 240 * SECOND);
    assert_eq!(world.relay.restore(&good, old), Err(SnapshotError::Old));
    let mut before = now;
    before.unix = now.unix.shifted(-1);
    assert_eq!(world.relay.restore(&good, before), Err(SnapshotError::Old));
    assert_eq!(world.relay.restore(&good, later(&world, 200 * SECOND)), Ok(FLOWS));
    assert_eq!(world.relay.restore(&good, now), Ok(NOTHING), "they are there already");
    // Another relay's snapshot is worth nothing.
    let mut other = World::new(26);
    let now = other.clock();
    assert_eq!(other.relay.restore(&good, now), Err(SnapshotError::Damaged));
    // Who is no member any more gets nothing back.
    fresh(&mut world);
    world.leave("p", 1);
    let now = world.clock();
    assert_eq!(world.relay.restore(&good, now), Ok(NOTHING));
}

/// A responder that gets too many handshakes asks for cookies (rule 6), which reach the right one.
#[test]
fn a_responder_under_load_sends_cookies() {
    let mut world = World::new(27);
    let members = world.blind_party("p", 3);
    world.run(10 * SECOND);
    let busy = members[0];
    // It begins no handshakes itself: answers to those are expected, and need no cookie.
    world.stop_keepalives(busy);
    world.clients.iter_mut().for_each(|client| client.offline = true);
    world.run(200 * SECOND);
    // Somebody keeps it busy, not by way of the relay.
    let noise = crate::attacks::initiation_for(&mut world, busy);
    let mut networks = 0_u16;
    let mut keep_busy = |world: &mut World, count: usize| {
        let now = world.clock();
        for _ in 0..count {
            networks = networks.wrapping_add(1);
            let [high, low] = networks.to_be_bytes();
            let elsewhere = SocketAddr::from(([198, high, low, 250], 1));
            world.clients[busy].device.receive(&mut noise.clone(), elsewhere, now);
        }
    };
    keep_busy(&mut world, 500);
    world.capture.start();
    world.clients.iter_mut().for_each(|client| client.offline = false);
    for _ in 0..10_000 {
        keep_busy(&mut world, 1);
        world.run(2 * MILLISECOND);
    }
    let home = world.clients[busy].seen_as.unwrap();
    let is_cookie = |record: &&Record| record.bytes[0] == 3 && record.bytes.len() == 64;
    let cookies = world.records().iter().filter(|r| r.to_relay && r.remote == home).filter(is_cookie);
    let passed = world.records().iter().filter(|r| !r.to_relay && r.remote != home).filter(is_cookie);
    assert!(cookies.count() > 0 && passed.count() > 0);
    for &other in &members[1..] {
        assert!(world.talk(busy, other));
    }
}
