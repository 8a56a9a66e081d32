//! What a malicious member can't do with an agent.

use crate::agent_matrix::{Kind, is_direct, pair, time_to_direct, world};
use crate::agents::Seat;
use crate::packets::udp;
use crate::world::{HubUse, MILLISECOND, SECOND, World, relay_address};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lanrage::relay::Port;
use lanrage::wire::nat_type::NatType;
use lanrage::wire::probe::{Candidate, CandidateKind, MAX_CANDIDATES, MAX_RELAYS, Offer, Probe};
use std::net::{Ipv4Addr, SocketAddr};

/// An agent, and a member that does what it wants.
fn with_rogue(seed: u64) -> (World, usize, usize) {
    let mut world = world(seed);
    let (player, rogue) = (world.player(None), world.member("p", None));
    world.use_hub(rogue, HubUse::Extra);
    world.gather("p", &[Seat::Player(player), Seat::Rogue(rogue)]);
    world.meet(rogue, player);
    world.run(SECOND);
    (world, player, rogue)
}

fn offer(generation: u32, addresses: &[SocketAddr]) -> Probe {
    let mut candidates = [None; MAX_CANDIDATES];
    for (place, &address) in addresses.iter().enumerate() {
        candidates[place] = Some(Candidate { kind: CandidateKind::Public, address });
    }
    let (nat, port_step) = (NatType::Symmetric, 1);
    Probe::Offer {
        id: 1,
        offer: Offer { generation, nat, port_step, candidates, chooses: false, relays: [None; MAX_RELAYS] },
    }
}

/// Where nobody asked for anything.
fn victims() -> Vec<SocketAddr> {
    (1..=8).map(|port| SocketAddr::from(([198, 18, 0, 1], port))).collect()
}

fn sent_to(world: &World, player: usize, addresses: &[SocketAddr]) -> u64 {
    addresses.iter().filter_map(|address| world.players[player].sent_to.get(address)).sum()
}

#[test]
fn a_third_party_gets_no_more_than_the_member_gave() {
    // By its session.
    let (mut world, player, rogue) = with_rogue(1100);
    for generation in 1..200 {
        world.rogue_probes(rogue, player, &offer(generation, &victims()));
        world.run(100 * MILLISECOND);
    }
    world.run(30 * SECOND);
    let (gave, got) = (world.rogue_gave(rogue, player), sent_to(&world, player, &victims()));
    println!("{got} bytes to third parties for {gave} from a member, by its session");
    assert!(got > 0 && got <= gave);
    // By the control plane.
    let (mut world, player, rogue) = with_rogue(1101);
    world.clients[rogue].offline = true;
    let (mut gave, now) = (world.rogue_gave(rogue, player), world.clock());
    let id = lanrage::ids::PeerId::new(&world.clients[rogue].name).unwrap();
    for generation in 1..200 {
        let mut buffer = [0; 512];
        let length = offer(generation, &victims()).write(&mut buffer);
        let text = format!("{{\"lanrage_offer\":\"{}\"}}", STANDARD.encode(&buffer[..length]));
        gave += text.len() as u64;
        world.players[player].agent.signal(&id, &text, now);
        world.player_says(player, Seat::Rogue(rogue), b"hello?");
        world.run(100 * MILLISECOND);
    }
    world.run(30 * SECOND);
    let got = sent_to(&world, player, &victims());
    println!("{got} bytes to third parties for {gave} from a member, by the control plane");
    assert!(got > 0 && got <= gave);
}

#[test]
fn what_must_not_be_tried_is_not() {
    let (mut world, player, rogue) = with_rogue(1110);
    let relay = relay_address(Port::Main);
    let own = world.players[player].local;
    let bad: Vec<SocketAddr> = [
        "10.66.0.7:5",
        "127.0.0.1:51820",
        "224.0.0.251:5353",
        "0.0.0.0:9",
        "192.168.1.1:53",
        "255.255.255.255:9",
    ]
    .iter()
    .map(|text| text.parse().unwrap())
    .chain([own])
    .collect();
    world.rogue_probes(rogue, player, &offer(1, &bad));
    world.run(30 * SECOND);
    assert_eq!(sent_to(&world, player, &bad), 0);
    // The relay as a member's address would get every probe twice.
    let mut spans = [0; 2];
    for (generation, addresses) in [(2, &[][..]), (3, &[relay][..])] {
        let before = sent_to(&world, player, &[relay]);
        world.rogue_probes(rogue, player, &offer(generation, addresses));
        world.run(60 * SECOND);
        spans[generation as usize - 2] = sent_to(&world, player, &[relay]) - before;
    }
    assert!(spans[1] <= spans[0], "{spans:?}");
}

#[test]
fn a_member_speaks_for_itself_and_to_the_agent_alone() {
    let (mut world, player, rogue) = with_rogue(1120);
    let (ip, own) = (world.players[player].ip, world.clients[rogue].ip);
    let peer = world.index_of(rogue, player);
    for (source, destination) in [
        (own, Ipv4Addr::new(192, 168, 1, 1)),
        (own, Ipv4Addr::new(10, 66, 0, 77)),
        (Ipv4Addr::new(10, 66, 0, 1), ip),
        (ip, ip),
        (Ipv4Addr::new(10, 66, 0, 77), ip),
        (own, ip),
    ] {
        world.send_to_peer(rogue, peer, &udp(source, destination, b"word"));
        world.run(100 * MILLISECOND);
    }
    let words: Vec<_> = world.players[player].inbox.iter().map(|(from, to, _)| (*from, *to)).collect();
    assert_eq!(words, [(own, ip)]);
}

/// Whatever it says in the agents' own protocol, it neither brings the agent down nor its paths away from the relay.
#[test]
fn nonsense_in_probes_is_survived() {
    let (mut world, player, rogue) = with_rogue(1130);
    for _ in 0..2000 {
        let mut bytes = vec![0; world.random.below(300) as usize + 8];
        let mut random = world.random.clone();
        random.fill(&mut bytes);
        world.random = random;
        (bytes[0], bytes[1], bytes[3]) = (1, bytes[1] % 8, bytes[3] % 10);
        world.rogue_bytes(rogue, player, &bytes);
        world.run(10 * MILLISECOND);
    }
    let peer = world.index_of(rogue, player);
    let (ip, own) = (world.players[player].ip, world.clients[rogue].ip);
    world.send_to_peer(rogue, peer, &udp(own, ip, b"still there"));
    world.run(SECOND);
    assert_eq!(world.heard(player, own, b"still there"), 1);
    world.player_says(player, Seat::Rogue(rogue), b"yes");
    world.run(SECOND);
    assert!(world.clients[rogue].inbox.contains(&(ip, b"yes".to_vec())));
}

/// Whatever strangers send, they get no more for it, and those who play don't notice.
#[test]
fn noise_of_strangers() {
    let mut world = world(1150);
    let players = pair(&mut world, Kind::Open, Kind::Open);
    time_to_direct(&mut world, players, 5 * SECOND).expect("a direct path");
    let (home, relay) = (world.players[players[0]].local, relay_address(Port::Main));
    let stranger = SocketAddr::from(([198, 18, 0, 3], 3));
    let (mut gave, before) = (0, world.players[players[0]].sent);
    for round in 0..3000 {
        let mut bytes = vec![0; world.random.below(200) as usize];
        let mut random = world.random.clone();
        random.fill(&mut bytes);
        world.random = random;
        if round % 2 == 0 && bytes.len() > 20 {
            let head = match round % 10 {
                8 => [1, 1, 0, 12, 0x21, 0x12, 0xa4, 0x42],
                kind => [1 + kind as u8 / 2, 0, 0, 0, 1, 2, 3, 4],
            };
            bytes[..8].copy_from_slice(&head);
        }
        gave += bytes.len() as u64;
        // Some write the relay's address on it.
        world.fly_within(if round % 3 == 0 { relay } else { stranger }, home, None, &bytes);
        world.run(MILLISECOND);
    }
    world.run(SECOND);
    assert!(sent_to(&world, players[0], &[stranger]) <= gave);
    assert!(world.players[players[0]].sent - before < 100);
    assert!(is_direct(&world, players[0]) && world.players_talk(players[0], players[1], SECOND));
}

/// A member may write another's address on what it sends straight.
#[test]
fn a_third_party_whose_address_is_forged_gets_no_more_either() {
    let (mut world, player, rogue) = with_rogue(1140);
    let victim = SocketAddr::from(([198, 18, 0, 9], 9));
    let home = world.players[player].local;
    world.rogue_probes(rogue, player, &offer(1, &[]));
    for id in 0..500 {
        let sealed = world.seal_for_player(rogue, player, &Probe::Ping { id });
        world.fly_within(victim, home, None, &sealed);
        world.run(50 * MILLISECOND);
    }
    world.run(30 * SECOND);
    let (gave, got) = (world.rogue_gave(rogue, player), sent_to(&world, player, &[victim]));
    println!("{got} bytes to a forged address for {gave} from a member");
    assert!(got > 10_000 && got <= gave);
}
