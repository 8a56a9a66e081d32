//! Players who have each other as peers, and the relay as the endpoint of all.

use crate::lab::{Lab, Mapping, Namespace};
use crate::player::Player;
use crate::server::Server;
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
    assert!(back < Duration::from_secs(1));
}
