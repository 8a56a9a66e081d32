//! Who costs much pays himself: what strangers and members do to fill the relay's tables costs others nothing.

use crate::attacks::{data, initiation_for, response_for, sender_index};
use crate::packets::ping;
use crate::world::{HUB_IP, HubUse, MILLISECOND, SECOND, World};
use lanrage::figures::{DropReason, Traffic};
use lanrage::relay::limits::RelayLimits;
use std::net::{Ipv4Addr, SocketAddr};

/// How many of `count` pairs that come now, each from a network of its own, meet within three attempts of WireGuard's.
fn newcomers(world: &mut World, count: usize, mut attack: impl FnMut(&mut World)) -> usize {
    let pairs: Vec<_> = (0..count)
        .map(|place| {
            let party = format!("newcomers{place}");
            let nats = [0, 1].map(|end| {
                let nat = world.symmetric();
                world.nats[nat].rebind(Ipv4Addr::new(100, 64 + end, place as u8, 1).into());
                nat
            });
            let [one, other] = nats.map(|nat| world.member(&party, Some(nat)));
            world.introduce(one, other);
            [one, other]
        })
        .collect();
    for _ in 0..11 {
        attack(world);
        world.run(SECOND);
    }
    pairs.iter().filter(|&&[one, other]| world.talk(one, other)).count()
}

/// One member with one session sends keepalives from thousands of other ports.
#[test]
fn one_member_s_ports_fill_no_table() {
    let limits = RelayLimits { sources: 512, ..RelayLimits::default() };
    let mut world = World::with_limits(911, limits);
    let members = world.hub_party("p", 2);
    world.run(10 * SECOND);
    assert!(world.talk(members[0], members[1]));
    let packet = ping(world.clients[members[0]].ip, HUB_IP, b"from elsewhere");
    for port in 1..=2000 {
        let datagram = world.seal_for_hub(members[0], &packet);
        let _ = world.inject(SocketAddr::new([192, 0, 2, 99].into(), port), &datagram);
    }
    assert_eq!(newcomers(&mut world, 10, |_| ()), 10);
}

/// Strangers who know public keys, from one network: initiations, and answers to them from the same people.
#[test]
fn a_network_s_initiations_leave_room_for_newcomers() {
    let limits = RelayLimits { sources: 256, pending: 256, paced: 64, flows: 256, ..RelayLimits::default() };
    let mut world = World::with_limits(912, limits);
    let members = world.blind_party("p", 6);
    world.run(10 * SECOND);
    let mut round = 0u32;
    let met = newcomers(&mut world, 10, |world| {
        for _ in 0..400 {
            round += 1;
            let source = SocketAddr::from(([198, 51, 100, round as u8], 1000 + (round >> 8) as u16));
            let forged = initiation_for(world, members[round as usize % 6]);
            let _ = world.inject(source, &forged);
        }
    });
    assert_eq!(met, 10);
    for (one, other) in [(0, 1), (2, 3), (4, 5)] {
        assert!(world.talk(members[one], members[other]), "who played goes on");
    }
}

/// Somebody with the keys of many members makes sessions between his own addresses, by mac1 alone, as many as there is
/// room for. A game that runs renews its session all the same.
#[test]
fn sessions_of_one_who_plays_with_himself_end_no_game() {
    let limits = RelayLimits { flows: 128, ..RelayLimits::default() };
    let mut world = World::with_limits(913, limits);
    let players = world.blind_party("p", 2);
    let puppets: Vec<_> = (0..34).map(|_| world.member("q", None)).collect();
    for &puppet in &puppets {
        world.set_origin(puppet, [192, 0, 2, 66].into());
    }
    world.run(10 * SECOND);
    let at = |place: usize| SocketAddr::from(([192, 0, 2, 66], 2000 + place as u16));
    // Each is found where he is: by elimination, from where he speaks to the control plane.
    let mut made = 0;
    for round in 0..200 {
        for place in 0..34 {
            let mate = (place + 1 + round) % 34;
            if mate == place {
                continue;
            }
            world.capture.start();
            let forged = initiation_for(&mut world, puppets[mate]);
            let _ = world.inject(at(place), &forged);
            let sent = world.records().iter().find(|record| !record.to_relay).map(|record| record.remote);
            let Some(to) = sent else { continue };
            world.ledger.reached(to);
            world.ledger.sends(to);
            let answer = response_for(&mut world, puppets[place], sender_index(&forged));
            let _ = world.inject(to, &answer);
            if world.inject(at(place), &data(sender_index(&answer))).is_ok() {
                made += 1;
            }
        }
        world.run(SECOND);
    }
    assert!(made > 64, "{made} sessions: the table was full");
    assert!(world.relay.flow_count() <= 64);
    // Their sessions were renewed meanwhile, at 120 s.
    assert!(world.talk(players[0], players[1]) || world.talk(players[0], players[1]));
}

/// Junk that has nobody's mac1, from one who is a member of many parties: each trial of a key is his to pay.
#[test]
fn trials_of_mac1_are_paid_by_who_causes_them() {
    let mut world = World::new(914);
    let parties = 32;
    let busy = world.stranger(None);
    for number in 0..parties {
        let party = format!("p{number}");
        world.join(&party, busy).unwrap();
        let mates: Vec<_> = (0..20).map(|_| world.member(&party, None)).collect();
        world.introduce(busy, mates[0]);
    }
    world.run(10 * SECOND);
    let home = world.clients[busy].seen_as.unwrap();
    let junk = |world: &mut World| {
        let mut message = [0; 148];
        world.random.fill(&mut message);
        message[..4].copy_from_slice(&[1, 0, 0, 0]);
        message
    };
    let (mut tried, mut refused) = (0, 0);
    for _ in 0..1000 {
        for port in 0..2 {
            let message = junk(&mut world);
            match world.inject(SocketAddr::new(home.ip(), home.port() + port), &message) {
                Err(DropReason::NoMember) => tried += 1,
                Err(DropReason::HandshakeLimit) => refused += 1,
                other => panic!("{other:?}"),
            }
        }
        world.run(10 * MILLISECOND);
    }
    // 336 keys a try, of sixteen parties, of which one subscriber has 4000 a second and twice as many at once; then
    // all.
    assert!(tried <= 2 * (8000 + 10 * 4000) / 336 && refused > 1500, "{tried} tried, {refused} refused");
    assert_eq!(newcomers(&mut world, 5, |_| ()), 5);
}

/// A broadcast is copied to a whole party; its sender pays for every copy, and a house's line is not filled.
#[test]
fn broadcasts_leave_the_line_free() {
    let mut world = World::new(915);
    let members = world.hub_party("p", 48);
    world.run(10 * SECOND);
    let sent = world.relay.stats().traffic(Traffic::Broadcast).bytes;
    let everybody = Ipv4Addr::new(10, 66, 255, 255);
    let packet = crate::packets::udp(world.clients[members[0]].ip, everybody, &[7; 1300]);
    let mut given = 0;
    for _ in 0..100 {
        for _ in 0..10 {
            given += packet.len() as u64;
            world.send(members[0], &packet);
        }
        world.run(100 * MILLISECOND);
    }
    let copied = world.relay.stats().traffic(Traffic::Broadcast).bytes - sent;
    assert!(
        given > 1_000_000 && copied > 1_000_000 && copied <= (1 << 18) + 500_000 * 10,
        "{copied} bytes of copies for {given}"
    );
    assert!(world.talk(members[1], members[2]));
}

/// What a stranger may cost at most is the same for a whole IPv6 /48 as for one address.
#[test]
fn a_network_of_many_addresses_is_one_owner() {
    let mut world = World::new(916);
    let members = world.blind_party("p", 2);
    world.run(10 * SECOND);
    let mut round = 0u16;
    let met = newcomers(&mut world, 10, |world| {
        for _ in 0..500 {
            round = round.wrapping_add(1);
            let source = SocketAddr::from(([0x2001, 0xdb8, 7, round, 0, 0, 0, 1], 9));
            let forged = initiation_for(world, members[usize::from(round % 2)]);
            let _ = world.inject(source, &forged);
        }
    });
    assert_eq!(met, 10);
    assert!(world.talk(members[0], members[1]));
    world.use_hub(members[0], HubUse::Extra);
    world.run(6 * SECOND);
    assert!(world.time_to_talk(members[0], members[1], SECOND).is_some(), "and the hub has time for members");
}
