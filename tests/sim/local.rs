//! The machine that the relay runs on, as one more in the virtual LAN.

use crate::packets::{ipv4, ping, udp};
use crate::world::{HUB_IP, HubUse, SECOND, World};
use lanrage::figures::{DropReason, Traffic};
use lanrage::relay::limits::RelayLimits;
use lanrage::token_bucket::Rate;
use lanrage::wire::ip::{TCP, UDP, checksum};
use std::net::{Ipv4Addr, SocketAddr};

/// With two in one party and two in another, who have only the hub as their peer.
fn parties(seed: u64) -> (World, Vec<usize>, Vec<usize>) {
    let mut world = World::new(seed);
    world.relay.take_part();
    let (p, q) = (world.hub_party("p", 2), world.hub_party("q", 2));
    world.run(2 * SECOND);
    (world, p, q)
}

/// Sends `packet` to the hub whatever it says.
fn to_hub(world: &mut World, client: usize, packet: &[u8]) {
    let peer = world.hub_index(client);
    world.send_to_peer(client, peer, packet);
    world.run(SECOND);
}

fn ip(world: &World, client: usize) -> Ipv4Addr {
    world.clients[client].ip
}

#[test]
fn members_and_the_machine_talk_to_each_other() {
    let (mut world, p, q) = parties(700);
    for &member in p.iter().chain(&q) {
        let tcp = ipv4(ip(&world, member), HUB_IP, TCP, &[7; 20]);
        for packet in
            [udp(ip(&world, member), HUB_IP, b"let me in"), ping(ip(&world, member), HUB_IP, b""), tcp]
        {
            to_hub(&mut world, member, &packet);
            assert_eq!(world.local.pop().unwrap(), packet, "as it was sent");
        }
        assert!(world.clients[member].packets.is_empty(), "who answers pings is the machine");
        world.send_local(&udp(HUB_IP, ip(&world, member), b"welcome")).unwrap();
        world.run(SECOND);
        assert_eq!(world.clients[member].inbox, [(HUB_IP, b"welcome".to_vec())]);
        let stats = *world.relay.member_stats(&world.public_key(member)).unwrap();
        assert_eq!((stats.from.packets, stats.to.packets), (3, 1));
    }
    let stats = world.relay.stats();
    assert_eq!((stats.traffic(Traffic::Local).packets, stats.traffic(Traffic::Hub).packets), (12, 4));
    assert!(stats.drops().iter().all(|(_, count)| count == 0));
    // For hours, with nothing but keepalives, and then at once.
    world.run(7200 * SECOND);
    world.send_local(&udp(HUB_IP, ip(&world, p[0]), b"still here")).unwrap();
    world.run(SECOND);
    assert_eq!(world.clients[p[0]].inbox.len(), 2);
}

#[test]
fn without_the_option_nothing_reaches_the_machine() {
    let mut world = World::new(701);
    let members = world.hub_party("p", 2);
    world.run(2 * SECOND);
    for to in [HUB_IP, Ipv4Addr::BROADCAST] {
        let packet = udp(ip(&world, members[0]), to, b"anybody there?");
        to_hub(&mut world, members[0], &packet);
    }
    assert!(world.local.is_empty());
    assert_eq!(world.dropped(DropReason::InnerDestination), 1);
    assert_eq!(world.clients[members[1]].inbox.len(), 1);
}

/// The machine may pass on whatever it gets, so it must get nothing that is not for itself.
#[test]
fn only_what_is_for_the_machine_enters_it() {
    let (mut world, p, q) = parties(702);
    let own = ip(&world, p[0]);
    for to in [
        ip(&world, q[0]),
        Ipv4Addr::new(10, 66, 0, 0),
        Ipv4Addr::new(10, 66, 77, 77),
        Ipv4Addr::new(192, 168, 1, 1),
        Ipv4Addr::new(8, 8, 8, 8),
        Ipv4Addr::LOCALHOST,
        Ipv4Addr::UNSPECIFIED,
        own,
    ] {
        to_hub(&mut world, p[0], &udp(own, to, b"let me through"));
    }
    assert_eq!(world.dropped(DropReason::OtherParty), 1);
    assert_eq!(world.dropped(DropReason::InnerDestination), 7);
    for from in
        [ip(&world, p[1]), ip(&world, q[0]), HUB_IP, Ipv4Addr::LOCALHOST, Ipv4Addr::new(192, 168, 1, 1)]
    {
        to_hub(&mut world, p[0], &udp(from, HUB_IP, b"I am not"));
    }
    assert_eq!(world.dropped(DropReason::InnerSource), 5);
    // A source route: first to the machine, and from there to another party.
    let mut routed =
        ipv4(own, HUB_IP, UDP, &[&[131, 7, 4][..], &ip(&world, q[0]).octets(), &[0], &[7; 12]].concat());
    routed[0] = 0x47;
    routed[10..12].fill(0);
    let sum = checksum(&routed[..28]);
    routed[10..12].copy_from_slice(&sum.to_be_bytes());
    to_hub(&mut world, p[0], &routed);
    assert_eq!(world.dropped(DropReason::InnerDestination), 8);
    routed[16..20].copy_from_slice(&Ipv4Addr::BROADCAST.octets());
    to_hub(&mut world, p[0], &routed);
    assert!(world.local.is_empty(), "{:?}", world.local);
    to_hub(&mut world, p[0], &udp(own, HUB_IP, b"this one"));
    assert_eq!(world.local.len(), 1);
}

#[test]
fn the_machine_speaks_for_itself_and_to_members_alone() {
    let (mut world, p, _) = parties(703);
    let blind = world.member("p", None);
    world.run(SECOND);
    let to = ip(&world, p[0]);
    for from in [ip(&world, p[1]), Ipv4Addr::new(192, 168, 1, 1), to, Ipv4Addr::UNSPECIFIED] {
        assert_eq!(world.send_local(&udp(from, to, b"I am not")), Err(DropReason::LocalSource));
    }
    let mut six = [0; 60];
    six[0] = 0x60;
    let whole = udp(HUB_IP, to, b"whole");
    for bytes in [&six[..], &whole[..whole.len() - 1], &whole[..19], &[], &[0x45; 1]] {
        assert_eq!(world.send_local(bytes), Err(DropReason::LocalSource));
    }
    for to in [ip(&world, blind), HUB_IP, Ipv4Addr::new(10, 66, 77, 77), Ipv4Addr::new(8, 8, 8, 8)] {
        assert_eq!(world.send_local(&udp(HUB_IP, to, b"hello?")), Err(DropReason::InnerDestination));
    }
    world.run(SECOND);
    assert!(world.clients.iter().all(|client| client.packets.is_empty()));
    assert_eq!(world.send_local(&whole), Ok(()));
    // A kick counts here as well, in both directions.
    world.leave("p", p[0]);
    assert_eq!(world.send_local(&whole), Err(DropReason::InnerDestination));
    let packet = udp(to, HUB_IP, b"still in?");
    to_hub(&mut world, p[0], &packet);
    assert!(world.local.is_empty());
    assert_eq!(world.clients[p[0]].inbox.len(), 1, "what was on its way");
}

#[test]
fn a_broadcast_reaches_the_machine_as_everybody_else() {
    let (mut world, p, q) = parties(704);
    for to in [Ipv4Addr::BROADCAST, Ipv4Addr::new(10, 66, 255, 255), Ipv4Addr::new(224, 0, 2, 60)] {
        let from = ip(&world, p[0]);
        to_hub(&mut world, p[0], &udp(from, to, b"a game?"));
        assert_eq!(world.local.pop().unwrap(), udp(from, HUB_IP, b"a game?"));
    }
    assert!(world.local.is_empty());
    assert_eq!(world.clients[p[1]].inbox.len(), 3);
    // What the machine announces is for all parties: it is in each.
    for (round, to) in [Ipv4Addr::new(10, 66, 255, 255), Ipv4Addr::new(224, 0, 2, 60)].into_iter().enumerate()
    {
        world.send_local(&udp(HUB_IP, to, b"a game!")).unwrap();
        world.run(SECOND);
        for &member in p.iter().chain(&q) {
            let heard = world.clients[member].inbox.iter().filter(|(_, word)| word == b"a game!");
            assert_eq!(heard.count(), round + 1);
        }
    }
    assert!(world.local.is_empty(), "not to itself");
    let to = Ipv4Addr::BROADCAST;
    assert_eq!(world.send_local(&ping(HUB_IP, to, b"")), Err(DropReason::InnerDestination), "UDP alone");
}

#[test]
fn broadcasts_of_the_machine_have_a_share() {
    let limits = RelayLimits {
        local_broadcasts: Rate::new(1, SECOND, 3),
        local_copies: Rate::new(1, SECOND, 7),
        ..RelayLimits::default()
    };
    let mut world = World::with_limits(705, limits);
    world.relay.take_part();
    let members = world.hub_party("p", 3);
    world.run(2 * SECOND);
    let packet = udp(HUB_IP, Ipv4Addr::BROADCAST, b"a game!");
    let results: Vec<_> = (0..4).map(|_| world.send_local(&packet)).collect();
    let over = Err(DropReason::BroadcastLimit);
    assert_eq!(results, [Ok(()), Ok(()), over, over]);
    world.run(SECOND);
    let heard: usize = members.iter().map(|&member| world.clients[member].inbox.len()).sum();
    assert_eq!(heard, 7);
}

#[test]
fn what_the_machine_does_not_take_is_counted_and_disturbs_nobody() {
    let (mut world, p, _) = parties(706);
    world.local_is_up = false;
    for to in [HUB_IP, Ipv4Addr::BROADCAST] {
        let packet = udp(ip(&world, p[0]), to, b"let me in");
        to_hub(&mut world, p[0], &packet);
    }
    assert_eq!(world.dropped(DropReason::LocalRefused), 2);
    assert_eq!(world.clients[p[1]].inbox.len(), 1, "the broadcast");
    assert!(world.talk(p[0], p[1]));
    world.local_is_up = true;
    let packet = udp(ip(&world, p[0]), HUB_IP, b"let me in");
    to_hub(&mut world, p[0], &packet);
    assert_eq!(world.local, [packet]);
}

#[test]
fn the_machine_has_a_share_of_a_partys_bytes() {
    let limits = RelayLimits { party_bytes: Rate::new(1000, SECOND, 5000), ..RelayLimits::default() };
    let mut world = World::with_limits(707, limits);
    world.relay.take_part();
    let members = world.hub_party("p", 1);
    world.run(2 * SECOND);
    let packet = udp(HUB_IP, ip(&world, members[0]), &[7; 972]);
    let sent = (0..20).filter(|_| world.send_local(&packet).is_ok()).count();
    assert_eq!((sent, world.dropped(DropReason::DataLimit)), (5, 15));
}

/// Rule 8 holds for the machine's packets, too: a member's address must be proven.
#[test]
fn a_member_that_went_silent_is_sent_nothing_until_it_is_back() {
    let (mut world, p, _) = parties(708);
    world.clients[p[0]].offline = true;
    world.run(400 * SECOND);
    let packet = udp(HUB_IP, ip(&world, p[0]), &[7; 1000]);
    let before = world.relay.stats().traffic(Traffic::Sent).bytes;
    for _ in 0..100 {
        let _ = world.send_local(&packet);
    }
    assert!(world.relay.stats().traffic(Traffic::Sent).bytes - before <= 148, "a handshake at most");
    world.clients[p[0]].offline = false;
    world.run(60 * SECOND);
    world.clients[p[0]].inbox.clear();
    assert_eq!(world.send_local(&packet), Ok(()));
    world.run(SECOND);
    assert_eq!(world.clients[p[0]].inbox.len(), 1);
}

/// A member may write somebody else's address on what it sends, and ask the machine for much.
#[test]
fn nobody_is_flooded_by_the_machine_at_an_address_that_is_not_proven() {
    let (mut world, p, _) = parties(711);
    let victim: SocketAddr = "192.0.2.200:9".parse().unwrap();
    let packet = udp(ip(&world, p[0]), HUB_IP, b"send me all you have");
    let datagram = world.seal_for_hub(p[0], &packet);
    assert_eq!(world.inject(victim, &datagram), Ok(()));
    assert_eq!(world.local, [packet]);
    let answer = udp(HUB_IP, ip(&world, p[0]), &[7; 1000]);
    for _ in 0..20 {
        assert_eq!(world.send_local(&answer), Err(DropReason::Unproven));
    }
    assert!(world.ledger.account(victim).is_within(1), "one initiation asks whether it is there");
}

/// A member's address within the virtual LAN is not where it is: what went there would come back, to go there again.
#[test]
fn no_tunnel_leads_through_itself() {
    let (mut world, p, _) = parties(710);
    let inside = |world: &World, member| SocketAddr::from((ip(world, member), 51820));
    let packet = udp(ip(&world, p[0]), HUB_IP, b"by way of another one");
    for carrier in [p[0], p[1]] {
        let datagram = world.seal_for_hub(p[0], &packet);
        let from = inside(&world, carrier);
        assert_eq!(world.inject(from, &datagram), Err(DropReason::LocalSource));
    }
    assert!(world.local.is_empty());
    let datagram = world.seal_for_hub(p[0], &packet);
    let home = world.clients[p[0]].seen_as.unwrap();
    assert_eq!(world.inject(home, &datagram), Ok(()));
    assert_eq!(world.local, [packet]);
}

/// Whatever members and the machine put on the wire: what enters is from a member's own address to the machine's,
/// and what arrives at members under the machine's address came from it.
#[test]
fn random_packets_never_enter_by_mistake() {
    let (mut world, p, q) = parties(709);
    let blind = world.member("q", None);
    world.use_hub(blind, HubUse::Extra);
    world.run(2 * SECOND);
    let all: Vec<usize> = p.iter().chain(&q).copied().chain([blind]).collect();
    let mut addresses: Vec<Ipv4Addr> = all.iter().map(|&client| ip(&world, client)).collect();
    addresses.extend([
        HUB_IP,
        Ipv4Addr::BROADCAST,
        Ipv4Addr::new(224, 0, 0, 251),
        Ipv4Addr::new(192, 168, 1, 1),
    ]);
    let (mut entered, mut left) = (0, 0);
    for _ in 0..3000 {
        let mut pick = || addresses[world.random.below(addresses.len() as u64) as usize];
        let (from, to) = (pick(), pick());
        let mut packet = udp(from, to, b"0123456789");
        if world.random.below(3) == 0 {
            let place = world.random.below(packet.len() as u64) as usize;
            packet[place] = world.random.below(256) as u8;
        }
        let sender = all[world.random.below(all.len() as u64) as usize];
        let peer = world.hub_index(sender);
        world.send_to_peer(sender, peer, &packet);
        left += usize::from(world.send_local(&packet).is_ok());
        world.run(SECOND / 4);
        for packet in std::mem::take(&mut world.local) {
            assert_eq!((packet[0], &packet[16..20]), (0x45, &HUB_IP.octets()[..]), "{packet:?}");
            assert_eq!(packet[12..16], ip(&world, sender).octets());
            entered += 1;
        }
    }
    assert!(entered > 100 && left > 100, "{entered} {left}");
}
