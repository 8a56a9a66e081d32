//! Datagrams between members, unread, beside the barest loops there are and a TURN server.

use super::Stand;
use super::harness::player::{Player, UDP_HEADERS};
use super::players::{Lane, member, reach, seal, settle};
use super::process::process_cpu;
use super::rivals::Rival;
use super::turn::{self, Clients};
use super::volley::{BURST, LANES, Pairing, Style, Waiting, echo_lanes, measure};
use std::net::{Ipv4Addr, SocketAddr};

/// Players of which each two have a session with each other through the relay, for the part `name`: sessions last three
/// minutes.
pub fn pairs(stand: &mut Stand, name: &str) -> Vec<Player> {
    let mut players: Vec<Player> =
        (0..2 * LANES).map(|number| member(number, Ipv4Addr::UNSPECIFIED)).collect();
    stand.make_parties(name, &mut players);
    for pair in players.chunks_mut(2) {
        let keys = [pair[1].key.public_key(), pair[0].key.public_key()];
        for (player, key) in pair.iter_mut().zip(keys) {
            reach(player, key, stand.daemon.relay);
        }
    }
    settle(&mut players);
    players
}

/// One lane for each pair. What is in a blind datagram is nobody's business on the way, so one is repeated.
pub fn lanes(players: &mut [Player], relay: SocketAddr, size: usize) -> Vec<Lane> {
    let lanes = players.chunks_mut(2).map(|pair| {
        let to = pair[1].ip;
        let mut datagram = [0; 2048];
        seal(&mut pair[0], to, UDP_HEADERS, &mut datagram);
        let clone = |player: &Player| player.socket.try_clone().expect("a socket");
        Lane::new(clone(&pair[0]), clone(&pair[1]), relay, &datagram[..size], BURST)
    });
    lanes.collect()
}

/// Beside loops of system calls.
pub fn beside_loops(stand: &mut Stand) {
    let players = &mut pairs(stand, "loops");
    let (scale, daemon) = (stand.scale, stand.daemon.pid());
    for size in [100, 1420] {
        let plain = stand.network.among_servers(|| Rival::echo(0, stand.cores));
        let grouped = stand.network.among_servers(|| Rival::echo(size, stand.cores));
        let mut own = lanes(players, stand.daemon.relay, size);
        let mut plain_lanes = echo_lanes(plain.address, size);
        let mut grouped_lanes = echo_lanes(grouped.address, size);
        for style in [Style::Bursts, Style::Singles, Style::Alone] {
            let (mut by_plain, mut by_grouped) = (Pairing::default(), Pairing::default());
            for _ in 0..scale.rounds {
                let mine = measure(&mut own, style, Waiting::Awake, scale.span, || process_cpu(daemon));
                let theirs = measure(&mut plain_lanes, style, Waiting::Awake, scale.span, || plain.cpu());
                by_plain.push(&mine, &theirs);
                if style == Style::Bursts {
                    let theirs =
                        measure(&mut grouped_lanes, style, Waiting::Awake, scale.span, || grouped.cpu());
                    by_grouped.push(&mine, &theirs);
                }
            }
            let what = format!("blind, {size} B, {}", style.name());
            if style == Style::Bursts {
                let name = format!("{what}: CPU against a bare GRO and GSO loop");
                by_grouped.tell(&mut stand.table, &name, Some(1.3));
            }
            let budget = (style == Style::Singles && size == 100).then_some(1.15);
            by_plain.tell(&mut stand.table, &format!("{what}: CPU against recv_from/send_to"), budget);
        }
    }
}

/// Beside coturn, with channels in place of indications. The datagrams are the same, but for the four bytes of a
/// channel's header.
pub fn beside_turn(stand: &mut Stand) {
    let players = &mut pairs(stand, "turn");
    let Some(coturn) = stand.network.among_servers(|| turn::start(stand.cores)) else {
        stand.table.missing("blind: CPU against coturn", "turnserver, of Debian's package coturn");
        return;
    };
    let (scale, daemon) = (stand.scale, stand.daemon.pid());
    for size in [100, 1420] {
        let mut own = lanes(players, stand.daemon.relay, size);
        let mut by_one = turn::lanes(coturn.address, Clients::One, size);
        let mut by_both = turn::lanes(coturn.address, Clients::Both, size);
        for style in [Style::Bursts, Style::Singles, Style::Alone] {
            let [mut to_one, mut to_both] = [Pairing::default(), Pairing::default()];
            for _ in 0..scale.rounds {
                let mine = measure(&mut own, style, Waiting::Awake, scale.span, || process_cpu(daemon));
                for (theirs, pairing) in [(&mut by_one, &mut to_one), (&mut by_both, &mut to_both)] {
                    let other = measure(theirs, style, Waiting::Awake, scale.span, || coturn.cpu());
                    pairing.push(&mine, &other);
                }
            }
            let what = format!("blind, {size} B, {}: CPU against coturn", style.name());
            to_one.tell(&mut stand.table, &format!("{what}, one of two its client"), None);
            to_both.tell(&mut stand.table, &format!("{what}, both its clients"), None);
        }
    }
}
