//! The daemon ends and comes back while people play.

use crate::blind::{all_pairs, introduce, party};
use crate::hub::use_hub;
use crate::lab::{Lab, Mapping, Nat};
use crate::player::Player;
use crate::server::Server;
use std::time::{Duration, Instant};

/// Pairs of players: the first is blind, the second at the hub, the third both. As no pair knows the others,
/// elimination is no use, and who may be the right one takes turns.
fn tables(lab: &Lab, server: &Server) -> (Vec<Player>, [Nat; 2]) {
    let nats = [lab.nat(20, Mapping::Symmetric), lab.nat(21, Mapping::Preserving)];
    let hosts =
        vec![nats[0].host(2), lab.host(10), nats[1].host(2), lab.host(11), lab.host(12), lab.host(13)];
    let players = party(server, hosts);
    introduce(&players[..2]);
    use_hub(server, &players[2..4]);
    introduce(&players[4..]);
    players[4..].iter().for_each(|player| player.add_hub(&server.hub_key, "10.66.0.1/32"));
    players.chunks(2).for_each(|pair| {
        all_pairs(pair);
    });
    (players, nats)
}

/// How long each pair is apart from now on, both talking all the time.
fn outages(players: &[Player], start: Instant) -> Vec<Duration> {
    let talks: Vec<_> = players.chunks(2).map(|pair| pair[0].talk(&pair[1])).collect();
    std::thread::scope(|scope| {
        let waits: Vec<_> = talks.into_iter().map(|talk| scope.spawn(move || talk.wait(start))).collect();
        waits.into_iter().map(|wait| wait.join().unwrap()).collect()
    })
}

#[test]
#[ignore = "needs root: network namespaces, wireguard-go"]
fn a_graceful_restart_is_hardly_felt() {
    let _alone = crate::alone();
    let lab = Lab::new();
    let mut server = Server::new(&lab);
    let (players, _nats) = tables(&lab, &server);
    let start = Instant::now();
    server.terminate();
    let stopped = start.elapsed();
    server.start();
    let outages = outages(&players, start);
    println!("SIGTERM and start: stopped after {stopped:?}; blind, hub, both are back after {outages:?}");
    assert!(outages.iter().all(|&outage| outage < Duration::from_secs(2)), "{outages:?}");
}

#[test]
#[ignore = "needs root: network namespaces, wireguard-go"]
fn a_crash_costs_what_wireguard_needs_to_notice() {
    let _alone = crate::alone();
    let lab = Lab::new();
    let mut server = Server::new(&lab);
    let (players, _nats) = tables(&lab, &server);
    let start = Instant::now();
    server.kill();
    // As after a power cut: with what was in memory.
    server.forget();
    server.start();
    let outages = outages(&players, start);
    println!("kill -9, nothing kept, and start: blind, hub, both are back after {outages:?}");
    assert!(outages.iter().all(|&outage| outage < Duration::from_secs(30)), "{outages:?}");
}

/// What is kept in memory is at most some seconds old, and all that a crash needs.
#[test]
#[ignore = "needs root: network namespaces, wireguard-go"]
fn a_crash_is_hardly_felt_either() {
    let _alone = crate::alone();
    let lab = Lab::new();
    let mut server = Server::new(&lab);
    let (players, _nats) = tables(&lab, &server);
    std::thread::sleep(Duration::from_secs(21));
    let start = Instant::now();
    server.kill();
    server.start();
    let outages = outages(&players, start);
    println!("kill -9 and start: blind, hub, both are back after {outages:?}");
    assert!(outages.iter().all(|&outage| outage < Duration::from_secs(2)), "{outages:?}");
}
