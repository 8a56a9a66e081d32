//! Agents in networks of their own kind: a NAT behind a NAT, one house, IPv6, smaller packets, no UDP.

use crate::agent_goals::talk_for;
use crate::agent_matrix::{Kind, is_direct, nat, pair, path, time_to_direct, world};
use crate::agents::Seat;
use crate::packets::{ipv4, udp};
use crate::world::{MILLISECOND, SECOND, World, relay_address};
use lanrage::agent::network::LocalAddress;
use lanrage::agent::view::{ConnectionState, PathKind};
use lanrage::relay::Port;
use std::net::SocketAddr;

fn gather(world: &mut World, players: [usize; 2]) -> [usize; 2] {
    world.gather("p", &players.map(Seat::Player));
    players
}

fn why(world: &World, player: usize) -> Option<String> {
    world.players[player].agent.members(world.clock()).next().unwrap().why_not_direct
}

#[test]
fn a_nat_behind_a_nat() {
    for inner in [Kind::FullCone, Kind::PortRestricted] {
        let mut world = world(1000);
        let (home, carrier) = (nat(&mut world, inner), nat(&mut world, Kind::PortRestricted));
        let home = home.unwrap();
        world.nats[home].outer = carrier;
        world.nats[home].address = [100, 64, 0, 9].into();
        let other = nat(&mut world, Kind::PortRestricted);
        let players = [world.player(Some(home)), world.player(other)];
        let players = gather(&mut world, players);
        let time = time_to_direct(&mut world, players, 5 * SECOND).expect("a direct path");
        println!("CGNAT over {inner:?} x PortRestricted: {} ms", time.as_millis());
    }
}

/// Two in one house go straight within it, whether its router sends back what is for itself or not.
#[test]
fn one_house() {
    for hairpin in [false, true] {
        let mut world = world(1010);
        let home = nat(&mut world, Kind::PortRestricted).unwrap();
        world.nats[home].hairpin = hairpin;
        let players = [world.player(Some(home)), world.player(Some(home))];
        let players = gather(&mut world, players);
        time_to_direct(&mut world, players, 5 * SECOND).expect("a direct path");
        world.run(5 * SECOND);
        assert_eq!(path(&world, players[0]), PathKind::Lan, "hairpin {hairpin}");
    }
}

/// Two houses with the same private addresses: what is at the other's address here is somebody else.
#[test]
fn two_houses_behind_one_carrier() {
    let mut world = world(1020);
    let carrier = nat(&mut world, Kind::FullCone).unwrap();
    world.nats[carrier].hairpin = true;
    let homes = [nat(&mut world, Kind::PortRestricted), nat(&mut world, Kind::PortRestricted)];
    for (place, home) in homes.iter().flatten().enumerate() {
        world.nats[*home].outer = Some(carrier);
        world.nats[*home].address = [100, 64, 0, 20 + place as u8].into();
    }
    let players = homes.map(|home| world.player(home));
    let players = gather(&mut world, players);
    time_to_direct(&mut world, players, 5 * SECOND).expect("by the carrier's hairpin");
    assert!(world.players_talk(players[0], players[1], SECOND));
}

#[test]
fn by_ipv6_where_nats_let_nobody_through() {
    let mut world = world(1030);
    let players = pair(&mut world, Kind::Random, Kind::Random);
    for (place, &player) in players.iter().enumerate() {
        let v6: SocketAddr = format!("[2001:db8:{place}::2]:40000").parse().unwrap();
        let v4 = world.players[player].local;
        world.players[player].second = Some(v6);
        let links = [(v4, 24), (v6, 64)].map(|(address, prefix)| LocalAddress { address, prefix });
        let now = world.clock();
        world.players[player].agent.set_links(&links, now);
    }
    let time = time_to_direct(&mut world, players, 5 * SECOND).expect("a direct path");
    println!("IPv6 beside two random NATs: {} ms", time.as_millis());
}

/// A path that carries smaller packets only is used for those; longer ones go by the relay.
#[test]
fn a_path_with_smaller_packets() {
    let mut world = world(1040);
    world.link.mtu = 1420;
    let players = pair(&mut world, Kind::FullCone, Kind::PortRestricted);
    time_to_direct(&mut world, players, 10 * SECOND).expect("a direct path");
    let [ip, other] = players.map(|player| world.players[player].ip);
    for length in [1, 500, 1300, 1350, 1392] {
        world.player_sends(players[0], &udp(ip, other, &vec![7; length]));
        world.run(200 * MILLISECOND);
        assert_eq!(world.heard(players[1], ip, &vec![7; length]), 1, "{length}");
    }
    assert!(is_direct(&world, players[0]));
}

/// Where no path carries long packets, neither the straight one nor the relay's: what is longer arrives in fragments, who wants
/// none is told, and TCP begins with segments that fit.
#[test]
fn smaller_packets_everywhere() {
    for has_direct in [true, false] {
        let mut world = world(1045);
        (world.link.mtu, world.link.relay_mtu) = (1420, 1400);
        let players = pair(&mut world, Kind::FullCone, Kind::PortRestricted);
        if !has_direct {
            let [one, other] = players.map(|player| world.player_public_ip(player));
            world.holes.extend([(one, other), (other, one)]);
        }
        time_to_direct(&mut world, players, 10 * SECOND);
        assert_eq!(is_direct(&world, players[0]), has_direct);
        talk_for(&mut world, players, 5 * SECOND);
        world.run(SECOND);
        let [ip, other] = players.map(|player| world.players[player].ip);
        for length in [1300, 1330, 1350, 1392] {
            let packet = udp(ip, other, &vec![7; length]);
            world.players[players[1]].packets.clear();
            world.player_sends(players[0], &packet);
            world.run(200 * MILLISECOND);
            let mut content = vec![0; packet.len() - 20];
            let mut count = 0;
            for part in &world.players[players[1]].packets {
                let at = usize::from(u16::from_be_bytes([part[6], part[7]]) & 0x1fff) * 8;
                content[at..][..part.len() - 20].copy_from_slice(&part[20..]);
                count += part.len() - 20;
            }
            assert_eq!(count, content.len(), "{length}, direct {has_direct}");
            assert_eq!(content, packet[20..], "{length}");
        }
        // A packet that must stay whole.
        let mut packet = udp(ip, other, &[7; 1392]);
        packet[6] |= 0x40;
        world.players[players[0]].packets.clear();
        world.player_sends(players[0], &packet);
        let told = world.players[players[0]].packets.pop().expect("an answer");
        assert_eq!((told[9], &told[20..22]), (1, &[3, 4][..]));
        let mtu = usize::from(u16::from_be_bytes([told[26], told[27]]));
        assert!((1200..1372).contains(&mtu), "{mtu}");
        // As long as it says gets through.
        let packet = udp(ip, other, &vec![7; mtu - 28]);
        world.player_sends(players[0], &packet);
        world.run(200 * MILLISECOND);
        assert_eq!(world.heard(players[1], ip, &vec![7; mtu - 28]), 1);
        // A connection that begins.
        let mut syn = vec![0; 24];
        (syn[12], syn[13]) = (6 << 4, 2);
        syn[20..].copy_from_slice(&[2, 4, 5, 180]);
        world.player_sends(players[0], &ipv4(ip, other, 6, &syn));
        world.run(200 * MILLISECOND);
        let arrived = world.players[players[1]].packets.pop().unwrap();
        assert_eq!(usize::from(u16::from_be_bytes([arrived[42], arrived[43]])), mtu - 40);
    }
}

/// UDP reaches the relay only: that says so, and the game goes on.
#[test]
fn nothing_gets_through_but_by_the_relay() {
    let mut world = world(1050);
    let players = pair(&mut world, Kind::FullCone, Kind::FullCone);
    let [one, other] = players.map(|player| world.player_public_ip(player));
    world.holes.extend([(one, other), (other, one)]);
    assert_eq!(time_to_direct(&mut world, players, 20 * SECOND), None);
    assert!(world.players_talk(players[0], players[1], SECOND));
    assert_eq!(why(&world, players[0]).unwrap(), "player1 did not answer at any of its addresses");
    // Once something gets through it is found, without anybody's doing, while there is traffic.
    world.holes.clear();
    let time = time_to_direct(&mut world, players, 80 * SECOND).expect("it is tried again");
    println!("a way that opens is found after {} s", time.as_secs());
}

#[test]
fn no_udp_at_all() {
    let mut world = world(1060);
    let relay = relay_address(Port::Main).ip();
    let players = pair(&mut world, Kind::FullCone, Kind::FullCone);
    let [own, other] = players.map(|player| world.player_public_ip(player));
    world.holes.extend([(own, relay), (own, other)]);
    world.run(30 * SECOND);
    let now = world.clock();
    let member = world.players[players[0]].agent.members(now).next().unwrap();
    assert_eq!(member.state, ConnectionState::Connecting);
    assert_eq!(member.why_not_direct.unwrap(), "there is no session with player1 yet");
    // Perhaps it is the socket.
    world.run(300 * SECOND);
    let rebinds = world.players[players[0]].rebinds;
    assert!((2..=4).contains(&rebinds), "{rebinds}");
    assert_eq!(world.players[players[1]].rebinds, 0);
    world.holes.clear();
    time_to_direct(&mut world, players, 30 * SECOND).expect("a direct path");
}

/// The relay starts anew and has forgotten everything: who plays through it notices, and soon plays on.
#[test]
fn the_relay_forgets_and_is_told_again() {
    for seed in 0..10 {
        let mut world = world(1080 + seed);
        let players = pair(&mut world, Kind::Random, Kind::Random);
        assert_eq!(time_to_direct(&mut world, players, 60 * SECOND), None);
        world.restart_relay();
        world.gather("p", &players.map(Seat::Player));
        let began = world.now;
        while !world.players_talk(players[0], players[1], 100 * MILLISECOND) {
            assert!(world.now.since(began) < 8 * SECOND, "{:?}", world.now.since(began));
        }
        println!(
            "the relay forgets, and traffic flows again after {} ms",
            world.now.since(began).as_millis()
        );
    }
}

/// The control plane names another relay: sessions go on, by flows that the new one knows.
#[test]
fn another_relay() {
    for seed in 0..10 {
        let mut world = world(1090 + seed);
        let players = pair(&mut world, Kind::Random, Kind::Random);
        assert_eq!(time_to_direct(&mut world, players, 30 * SECOND), None);
        world.replace_relay();
        world.gather("p", &players.map(Seat::Player));
        let began = world.now;
        while !world.players_talk(players[0], players[1], 100 * MILLISECOND) {
            assert!(world.now.since(began) < 2 * SECOND, "{:?}", world.now.since(began));
        }
        println!("another relay, and traffic flows again after {} ms", world.now.since(began).as_millis());
    }
}

/// The relay is out of reach for one of them from the beginning on; they find each other by the control plane.
#[test]
fn without_the_relay() {
    let mut world = world(1065);
    let relay = relay_address(Port::Main).ip();
    let players = pair(&mut world, Kind::Open, Kind::Restricted);
    let own = world.player_public_ip(players[0]);
    world.holes.push((own, relay));
    let time = time_to_direct(&mut world, players, 10 * SECOND).expect("a direct path");
    println!("direct without a relay after {} ms", time.as_millis());
    assert!(world.players_talk(players[0], players[1], SECOND));
}

/// The relay is gone: those who go straight play on, also through new sessions.
#[test]
fn the_relay_dies_and_the_game_goes_on() {
    let mut world = world(1070);
    let players = pair(&mut world, Kind::FullCone, Kind::PortRestricted);
    time_to_direct(&mut world, players, 5 * SECOND).expect("a direct path");
    let relay = relay_address(Port::Main).ip();
    for player in players {
        let own = world.player_public_ip(player);
        world.holes.extend([(own, relay), (relay, own)]);
    }
    for _ in 0..400 {
        assert!(world.players_talk(players[0], players[1], SECOND), "at {:?}", world.now);
    }
    assert!(is_direct(&world, players[0]));
}
