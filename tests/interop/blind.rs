//! Players who have each other as peers, and the relay as the endpoint of all.

use crate::harness::namespace::Namespace;
use crate::hub::wait_for_handshakes_to_age;
use crate::lab::{Lab, Mapping};
use crate::player::Player;
use crate::server::{HUB_IP, Server};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// One party, a player on each host.
pub fn party(server: &Server, hosts: Vec<Rc<Namespace>>) -> Vec<Player> {
    let mut players: Vec<Player> = Vec::new();
    for (number, host) in hosts.into_iter().enumerate() {
        let name = format!("p{number}");
        let member = match players.first() {
            None => server.create(&host, &name),
            Some(first) => server.join(&host, &name, &first.member.party),
        };
        players.push(Player::new(member, host));
    }
    players
}

/// Everybody gets everybody else as a peer.
pub fn introduce(players: &[Player]) {
    for player in players {
        for other in players.iter().filter(|other| other.member.ip != player.member.ip) {
            player.add(other);
        }
    }
}

/// Everybody pings everybody else; how long all of that took.
#[track_caller]
pub fn all_pairs(players: &[Player]) -> Duration {
    let start = Instant::now();
    for player in players {
        for other in players.iter().filter(|other| other.member.ip != player.member.ip) {
            player.ping(other.member.ip);
        }
    }
    start.elapsed()
}

#[test]
#[ignore = "needs root: network namespaces, wireguard-go"]
fn two_meet_blind() {
    let _alone = crate::alone();
    let lab = Lab::new();
    let server = Server::new(&lab);
    let players = party(&server, vec![lab.host(10), lab.host(11)]);
    introduce(&players);
    let first = players[0].ping(players[1].member.ip);
    let back = players[1].ping(players[0].member.ip);
    println!("two, blind: first ping after {first:?}, back {back:?}");
    // Initiations to somebody who has said nothing yet are lost; there is another one every 5 s.
    assert!(first < Duration::from_secs(11) && back < Duration::from_secs(1), "{first:?} {back:?}");
}

#[test]
#[ignore = "needs root: network namespaces, wireguard-go"]
fn five_meet_blind() {
    let _alone = crate::alone();
    let lab = Lab::new();
    let server = Server::new(&lab);
    let players = party(&server, (10..15).map(|number| lab.host(number)).collect());
    introduce(&players);
    println!("five, blind: all 20 directions after {:?}", all_pairs(&players));
    assert!(server.owner().metric("lanrage_relay_flows") >= 10);
}

/// A cone and a symmetric NAT: what can't be punched through is what the relay is for.
#[test]
#[ignore = "needs root: network namespaces, wireguard-go"]
fn players_behind_nats_meet_blind() {
    let _alone = crate::alone();
    let lab = Lab::new();
    let server = Server::new(&lab);
    let nats =
        [lab.nat(20, Mapping::Preserving), lab.nat(21, Mapping::Symmetric), lab.nat(22, Mapping::Symmetric)];
    // The last two are behind the same one.
    let hosts = vec![nats[0].host(2), nats[1].host(2), nats[2].host(2), nats[2].host(3)];
    let players = party(&server, hosts);
    introduce(&players);
    println!("four behind three NATs, blind: all 12 directions after {:?}", all_pairs(&players));
}

/// Without the hub as a peer, WireGuard itself must notice: after 15 s without an answer.
#[test]
#[ignore = "needs root: network namespaces, wireguard-go"]
fn a_rebinding_costs_what_wireguard_needs_to_notice() {
    let _alone = crate::alone();
    let lab = Lab::new();
    let server = Server::new(&lab);
    let nats = [lab.nat(20, Mapping::Symmetric), lab.nat(21, Mapping::Preserving)];
    let players = party(&server, vec![nats[0].host(2), nats[1].host(2)]);
    introduce(&players);
    all_pairs(&players);
    for (who, ports) in [(0, "20000-29999"), (1, "30000-39999")] {
        nats[who].set(Mapping::Symmetric, Some(ports));
        let outage = players[0].talk(&players[1]).wait(Instant::now());
        println!("rebinding of player {who}, blind: {outage:?}");
        assert!(outage < Duration::from_secs(22), "{outage:?}");
        assert!(players[1].ping(players[0].member.ip) < Duration::from_secs(1));
    }
}

/// Who says nothing is found by its keepalives, by all of which together it gives enough to be asked where it is.
#[test]
#[ignore = "needs root: network namespaces, wireguard-go"]
fn a_silent_player_that_moved_is_found() {
    let _alone = crate::alone();
    let lab = Lab::new();
    let server = Server::new(&lab);
    let nat = lab.nat(20, Mapping::Symmetric);
    let mut hosts = vec![nat.host(2)];
    hosts.extend((10..15).map(|number| lab.host(number)));
    let players = party(&server, hosts);
    introduce(&players);
    all_pairs(&players);
    // What WireGuard says after data without an answer of its own has been said.
    std::thread::sleep(Duration::from_secs(12));
    nat.set(Mapping::Symmetric, Some("20000-29999"));
    let silent = players[0].member.ip;
    let outage = players[1].reaches(silent, Duration::from_secs(60)).expect("it is found again");
    println!("rebinding of a silent player: {outage:?}");
    assert!(outage < Duration::from_secs(40), "{outage:?}: it would speak up by itself after two minutes");
}

/// With the hub as a peer, one packet to the hub is enough, or some words to anybody.
#[test]
#[ignore = "needs root: network namespaces, wireguard-go"]
fn a_hub_session_moves_blind_flows() {
    let _alone = crate::alone();
    let lab = Lab::new();
    let server = Server::new(&lab);
    let nat = lab.nat(20, Mapping::Symmetric);
    let players = party(&server, vec![nat.host(2), lab.host(10)]);
    introduce(&players);
    players.iter().for_each(|player| player.add_hub(&server.hub_key, "10.66.0.1/32"));
    all_pairs(&players);
    players.iter().for_each(|player| {
        player.ping(HUB_IP);
    });
    for ports in ["20000-29999", "30000-39999"] {
        wait_for_handshakes_to_age();
        nat.set(Mapping::Symmetric, Some(ports));
        let start = Instant::now();
        players[0].ping(HUB_IP);
        players[0].ping(players[1].member.ip);
        let outage = start.elapsed();
        println!("rebinding, after a word with the hub: {outage:?}");
        assert!(outage < Duration::from_secs(2), "{outage:?}");
    }
    wait_for_handshakes_to_age();
    nat.set(Mapping::Symmetric, Some("40000-49999"));
    let outage = players[0].talk(&players[1]).wait(Instant::now());
    println!("rebinding, with words to each other alone: {outage:?}");
    assert!(outage < Duration::from_secs(2), "{outage:?}");
}
