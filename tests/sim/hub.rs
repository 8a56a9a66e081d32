//! Clients whose only peer is the hub.

use crate::packets::{ping, read_udp, udp};
use crate::world::{HUB_IP, HubUse, MILLISECOND, SECOND, World, relay_address};
use lanrage::figures::{DropReason, Reach, Traffic};
use lanrage::relay::Port;
use lanrage::relay::limits::RelayLimits;
use lanrage::relay::roster::JoinError;
use lanrage::wire::ip::checksum;
use lanrage::wireguard::allowed_ips::AllowedIp;
use lanrage::wireguard::noise::PresharedKey;
use lanrage::wireguard::peer::PeerSettings;
use std::net::Ipv4Addr;

fn hub_party(seed: u64, count: usize) -> (World, Vec<usize>) {
    let mut world = World::new(seed);
    let members = world.hub_party("p", count);
    world.run(2 * SECOND);
    (world, members)
}

/// Sends `packet` to the hub whatever it says.
fn to_hub(world: &mut World, client: usize, packet: &[u8]) {
    let peer = world.hub_index(client);
    world.send_to_peer(client, peer, packet);
    world.run(SECOND);
}

#[test]
fn members_talk_through_the_hub() {
    let (mut world, members) = hub_party(60, 4);
    for (place, &one) in members.iter().enumerate() {
        for &other in &members[place + 1..] {
            assert!(world.talk(one, other));
        }
    }
    let stats = *world.relay.member_stats(&world.public_key(members[0])).unwrap();
    assert_eq!((stats.reach, stats.from.packets, stats.to.packets), (Reach::Hub, 3, 3));
    assert_eq!(world.relay.flow_count(), 0);
    // For hours, with nothing but keepalives.
    world.run(7200 * SECOND);
    assert!(world.talk(members[0], members[3]));
    assert_eq!(world.dropped(DropReason::Unproven), 0, "nobody is forgotten while it is there");
    // Through a rebinding, at once.
    let nat = world.symmetric();
    let roamer = world.member("p", Some(nat));
    world.use_hub(roamer, HubUse::Only);
    world.run(10 * SECOND);
    assert!(world.talk(roamer, members[0]));
    world.nats[nat].rebind([203, 0, 113, 77].into());
    let outage = world.time_to_talk(roamer, members[0], 60 * SECOND).unwrap();
    assert!(outage < SECOND, "{outage:?}");
}

#[test]
fn the_hub_answers_pings() {
    let (mut world, members) = hub_party(61, 1);
    let request = ping(world.clients[members[0]].ip, HUB_IP, b"abcdefg");
    to_hub(&mut world, members[0], &request);
    let reply = world.clients[members[0]].packets.pop().unwrap();
    assert_eq!(reply[12..16], HUB_IP.octets());
    assert_eq!((reply[20], &reply[28..]), (0, &b"abcdefg"[..]));
    assert_eq!((checksum(&reply[..20]), checksum(&reply[20..])), (0, 0));
    // A large one in two fragments, of which each is answered by itself.
    let client = members[0];
    let whole = ping(world.clients[client].ip, HUB_IP, &[7; 1500]);
    for (start, end, flags) in [(20, 20 + 1376, [0x20, 0]), (20 + 1376, whole.len(), [0, 172])] {
        let mut fragment = [&whole[..20], &whole[start..end]].concat();
        let length = fragment.len() as u16;
        fragment[2..4].copy_from_slice(&length.to_be_bytes());
        fragment[6..8].copy_from_slice(&flags);
        fragment[10..12].fill(0);
        let sum = checksum(&fragment[..20]);
        fragment[10..12].copy_from_slice(&sum.to_be_bytes());
        to_hub(&mut world, client, &fragment);
    }
    let reply: Vec<u8> =
        world.clients[client].packets.drain(..).flat_map(|packet| packet[20..].to_vec()).collect();
    assert_eq!((reply.len(), reply[0], checksum(&reply)), (1508, 0, 0));
    // Anything else for the hub itself is nobody's.
    let other = udp(world.clients[members[0]].ip, HUB_IP, b"?");
    to_hub(&mut world, members[0], &other);
    assert_eq!(world.dropped(DropReason::InnerDestination), 1);
}

#[test]
fn nobody_speaks_for_others() {
    let (mut world, members) = hub_party(62, 3);
    let forged = udp(world.clients[members[1]].ip, world.clients[members[2]].ip, b"I am not");
    to_hub(&mut world, members[0], &forged);
    let forged = udp(HUB_IP, world.clients[members[2]].ip, b"I am not");
    to_hub(&mut world, members[0], &forged);
    let forged = udp(world.clients[members[1]].ip, Ipv4Addr::BROADCAST, b"I am not");
    to_hub(&mut world, members[0], &forged);
    assert_eq!(world.dropped(DropReason::InnerSource), 3);
    assert!(world.clients.iter().all(|client| client.packets.is_empty()));
    to_hub(&mut world, members[0], &[0x45; 10]);
    assert_eq!(world.dropped(DropReason::HubMalformed), 1);
}

#[test]
fn nothing_crosses_parties() {
    let (mut world, members) = hub_party(63, 2);
    let others = world.hub_party("q", 2);
    world.run(2 * SECOND);
    assert!(world.talk(members[0], members[1]) && world.talk(others[0], others[1]));
    world.say(members[0], others[0], b"hello?");
    world.run(SECOND);
    assert_eq!(world.dropped(DropReason::OtherParty), 1);
    let nobody = udp(world.clients[members[0]].ip, Ipv4Addr::new(10, 66, 99, 99), b"hello?");
    to_hub(&mut world, members[0], &nobody);
    let outside = udp(world.clients[members[0]].ip, Ipv4Addr::new(192, 0, 2, 1), b"hello?");
    to_hub(&mut world, members[0], &outside);
    let itself = udp(world.clients[members[0]].ip, world.clients[members[0]].ip, b"hello?");
    to_hub(&mut world, members[0], &itself);
    assert_eq!(world.dropped(DropReason::InnerDestination), 3);
    assert!(!world.clients.iter().any(|client| client.inbox.iter().any(|(_, word)| word == b"hello?")));
    // Until they share one.
    world.join("q", members[0]).unwrap();
    assert!(world.talk(members[0], others[0]));
    assert!(!world.talk(members[1], others[0]));
    world.leave("q", members[0]);
    assert!(!world.talk(members[0], others[0]));
}

#[test]
fn a_key_in_no_party_gets_no_session() {
    let (mut world, members) = hub_party(64, 1);
    let stranger = world.stranger(None);
    world.use_hub(stranger, HubUse::Only);
    world.run(20 * SECOND);
    assert!(world.dropped(DropReason::HubUnknownPeer) >= 3);
    assert!(!world.talk(stranger, members[0]));
    assert_eq!(world.ledger.account(world.clients[stranger].seen_as.unwrap()).to, 0);
    world.join("p", stranger).unwrap();
    world.run(10 * SECOND);
    assert!(world.talk(stranger, members[0]));
    world.leave("p", stranger);
    world.say(members[0], stranger, b"still there?");
    world.say(stranger, members[0], b"still here");
    world.run(200 * SECOND);
    for client in [stranger, members[0]] {
        assert!(!world.clients[client].inbox.iter().any(|(_, word)| word.starts_with(b"still")));
    }
}

/// The hub can't see a pre-shared key, but that nothing comes of its answers.
#[test]
fn an_app_with_a_preshared_key_for_the_hub_is_noticed() {
    let (mut world, members) = hub_party(67, 2);
    let keyed = world.member("p", None);
    let key = *world.relay.hub_key();
    let allowed_ips = vec![AllowedIp::new(Ipv4Addr::new(10, 66, 0, 0).into(), 16).unwrap()];
    let config = PeerSettings {
        endpoint: Some(relay_address(Port::Main)),
        persistent_keepalive: Some(25 * SECOND),
        preshared_key: PresharedKey::new([7; 32]),
        allowed_ips,
        ..PeerSettings::new(key)
    };
    let now = world.clock();
    world.clients[keyed].device.add_peer(config, now.instant).unwrap();
    world.run(60 * SECOND);
    assert!(world.dropped(DropReason::HubUnconfirmed) >= 5);
    assert!(world.talk(members[0], members[1]) && !world.talk(keyed, members[0]));
    // Who is well is never taken for one, through all its handshakes.
    let (mut world, members) = hub_party(68, 2);
    world.run(3600 * SECOND);
    assert!(world.talk(members[0], members[1]));
    assert_eq!(world.dropped(DropReason::HubUnconfirmed), 0);
}

#[test]
fn replays_are_dropped() {
    let (mut world, members) = hub_party(65, 2);
    world.capture.start();
    world.say(members[0], members[1], b"once");
    world.run(SECOND);
    let home = world.clients[members[0]].seen_as.unwrap();
    let came: Vec<_> = world.records().iter().filter(|r| r.to_relay && r.remote == home).cloned().collect();
    assert!(!came.is_empty());
    for record in &came {
        assert_eq!(world.inject(home, &record.bytes), Err(DropReason::HubReplayed));
        assert_eq!(
            world.inject("192.0.2.200:1".parse().unwrap(), &record.bytes),
            Err(DropReason::HubReplayed)
        );
    }
    world.run(SECOND);
    let heard = world.clients[members[1]].inbox.iter().filter(|(_, word)| word == b"once").count();
    assert_eq!(heard, 1);
}

#[test]
fn an_address_may_change() {
    let (mut world, members) = hub_party(66, 2);
    assert!(world.talk(members[0], members[1]));
    let old = world.clients[members[0]].ip;
    world.clients[members[0]].ip = Ipv4Addr::new(10, 66, 7, 7);
    world.join("p", members[0]).unwrap();
    assert!(world.talk(members[0], members[1]));
    let forged = udp(old, world.clients[members[1]].ip, b"from the old one");
    to_hub(&mut world, members[0], &forged);
    assert_eq!(world.dropped(DropReason::InnerSource), 1);
}

#[test]
fn a_peer_with_another_key_is_somebody_else() {
    let (mut world, members) = hub_party(67, 3);
    let newer = world.stranger(None);
    world.clients[newer].name = world.clients[members[2]].name.clone();
    world.clients[newer].ip = Ipv4Addr::new(10, 66, 8, 8);
    world.use_hub(newer, HubUse::Only);
    world.join("p", newer).unwrap();
    world.run(2 * SECOND);
    assert_eq!(world.relay.member_count(), 3);
    assert!(world.talk(newer, members[0]));
    assert!(!world.talk(members[2], members[0]), "the old key is out");
}

#[test]
fn a_hundred_members_and_one_more() {
    let limits = RelayLimits { members_per_party: 100, ..RelayLimits::default() };
    let mut world = World::with_limits(68, limits);
    let members = world.hub_party("p", 100);
    let late = world.stranger(None);
    assert_eq!(world.join("p", late), Err(JoinError::PartyFull));
    world.use_hub(late, HubUse::Only);
    world.run(10 * SECOND);
    let packet = udp(world.clients[members[0]].ip, Ipv4Addr::BROADCAST, b"who is there?");
    to_hub(&mut world, members[0], &packet);
    for &member in &members[1..] {
        assert_eq!(world.clients[member].inbox.len(), 1);
        world.say(member, members[0], b"I am");
    }
    world.run(SECOND);
    assert_eq!(world.clients[members[0]].inbox.len(), 99);
    assert!(world.clients[late].packets.is_empty());
    world.leave("p", members[1]);
    world.join("p", late).unwrap();
    world.run(10 * SECOND);
    assert!(world.talk(late, members[0]));
}

/// Discovery as games do it: a broadcast, and answers straight to its sender.
#[test]
fn a_broadcast_finds_the_party_and_nobody_else() {
    let (mut world, members) = hub_party(69, 4);
    let others = world.hub_party("q", 2);
    // One more is in both, and one is away.
    let both = world.member("p", None);
    world.join("q", both).unwrap();
    world.use_hub(both, HubUse::Only);
    world.run(2 * SECOND);
    world.clients[members[3]].offline = true;
    for (round, destination) in
        [[255, 255, 255, 255], [10, 66, 255, 255], [10, 66, 0, 255], [239, 255, 255, 250], [224, 0, 0, 251]]
            .iter()
            .enumerate()
    {
        let asking = world.clients[members[0]].ip;
        let packet = udp(asking, Ipv4Addr::from(*destination), b"any games?");
        to_hub(&mut world, members[0], &packet);
        for &member in &[members[1], members[2], both] {
            assert_eq!(world.clients[member].inbox.pop(), Some((asking, b"any games?".to_vec())), "{round}");
            world.say(member, members[0], b"here");
        }
        world.run(SECOND);
        assert_eq!(std::mem::take(&mut world.clients[members[0]].inbox).len(), 3);
    }
    assert!(others.iter().all(|&other| world.clients[other].packets.is_empty()));
    // From the one in both parties it reaches all, each once.
    let packet = udp(world.clients[both].ip, Ipv4Addr::BROADCAST, b"hi all");
    to_hub(&mut world, both, &packet);
    for &member in members[..3].iter().chain(&others) {
        let heard = world.clients[member].inbox.iter().filter(|(_, word)| word == b"hi all").count();
        assert_eq!(heard, 1);
    }
    assert!(world.clients[both].packets.iter().all(|packet| read_udp(packet).is_some()));
    assert_eq!(
        world.relay.stats().traffic(Traffic::Broadcast).packets,
        5 * 4 + 6,
        "the one who is away has a session still"
    );
}

/// Not what would make everybody answer at once, nor what is no discovery.
#[test]
fn only_udp_is_broadcast() {
    let (mut world, members) = hub_party(70, 3);
    let packet = ping(world.clients[members[0]].ip, Ipv4Addr::BROADCAST, b"");
    to_hub(&mut world, members[0], &packet);
    assert_eq!(world.dropped(DropReason::InnerDestination), 1);
    assert!(world.clients.iter().all(|client| client.packets.is_empty()));
}

#[test]
fn broadcasts_are_capped() {
    let (mut world, members) = hub_party(71, 10);
    let packet = udp(world.clients[members[0]].ip, Ipv4Addr::BROADCAST, b"!");
    let mut others = 0;
    for round in 0..1000u32 {
        let peer = world.hub_index(members[0]);
        world.send_to_peer(members[0], peer, &packet);
        if round % 100 == 0 {
            world.say(members[1], members[2], b"on and on");
            others += 1;
        }
        world.run(MILLISECOND);
    }
    world.run(SECOND);
    let heard = world.clients[members[3]].inbox.len();
    assert!((60..=95).contains(&heard), "{heard}: 60 at once and 30 a second");
    assert!(world.dropped(DropReason::BroadcastLimit) > 900);
    let calm = world.clients[members[2]].inbox.iter().filter(|(_, word)| word == b"on and on").count();
    assert_eq!(calm, others);
    // A party's copies are capped, too, whoever sends them.
    let limits = RelayLimits {
        broadcast_copies_per_party: lanrage::token_bucket::Rate::new(1, SECOND, 6),
        ..RelayLimits::default()
    };
    let mut world = World::with_limits(72, limits);
    let members = world.hub_party("p", 5);
    world.run(2 * SECOND);
    for &member in &members {
        let packet = udp(world.clients[member].ip, Ipv4Addr::BROADCAST, b"!");
        let peer = world.hub_index(member);
        world.send_to_peer(member, peer, &packet);
    }
    world.run(500 * MILLISECOND);
    assert_eq!(world.relay.stats().traffic(Traffic::Broadcast).packets, 6);
}

/// A member whose rate is used up does not slow down another one.
#[test]
fn members_have_their_own_share() {
    let limits = RelayLimits {
        member_bytes: lanrage::token_bucket::Rate::new(10_000, SECOND, 10_000),
        ..RelayLimits::default()
    };
    let mut world = World::with_limits(73, limits);
    let mut members = world.hub_party("p", 2);
    members.extend(world.blind_party("q", 2));
    world.run(10 * SECOND);
    for round in 0..200u32 {
        for (from, to) in [(0, 1), (2, 3)] {
            let big = [round as u8; 1000];
            let packet = udp(world.clients[members[from]].ip, world.clients[members[to]].ip, &big);
            world.send(members[from], &packet);
            world.say(members[to], members[from], &round.to_le_bytes());
        }
        world.run(10 * MILLISECOND);
    }
    world.run(SECOND);
    for (from, to) in [(0, 1), (2, 3)] {
        let bulk = world.clients[members[to]].inbox.len();
        assert!((20..=35).contains(&bulk), "{bulk}: 10 kB at once, 20 kB in two seconds");
        assert_eq!(world.clients[members[from]].inbox.len(), 200);
    }
    assert!(world.dropped(DropReason::DataLimit) > 300);
}
