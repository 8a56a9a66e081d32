//! The hub beside other programs' WireGuard interfaces that forward between their peers, and where its time goes.

use super::Stand;
use super::harness::player::Player;
use super::network::PLAYERS;
use super::players::{Lane, member, reach, seal, settle};
use super::process::process_cpu;
use super::rivals::{Rival, WIREGUARDS};
use super::share::Profile;
use super::volley::{BURST, LANES, Pairing, Style, Waiting, measure};
use lanrage::crypto::x25519::PrivateKey;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// What the hub may cost beside each of them, with bursts and with single packets.
const BUDGETS: [[f64; 2]; WIREGUARDS.len()] = [[1.0 / 4.0, 1.0 / 3.0], [1.0 / 3.0, 0.6]];

/// What sealing adds to a packet, in bytes.
const OVERHEAD: usize = 32;
/// How long the hub is watched for that.
const SAMPLED: Duration = Duration::from_secs(4);

/// Players with a session with a hub, and a lane for each two.
fn lanes(mut players: Vec<Player>, server: SocketAddr, length: usize) -> Vec<Lane> {
    settle(&mut players);
    let mut lanes = Vec::new();
    let mut players = players.into_iter();
    while let (Some(mut from), Some(to)) = (players.next(), players.next()) {
        let mut datagram = [0; 2048];
        let size = seal(&mut from, to.ip, length, &mut datagram);
        let sockets = (from.socket.try_clone().expect("a socket"), to.socket);
        let mut lane = Lane::new(sockets.0, sockets.1, server, &datagram[..size], BURST);
        lane.sealer = Some((from, to.ip, length));
        lanes.push(lane);
    }
    lanes
}

fn own_lanes(stand: &mut Stand, name: &str, length: usize) -> Vec<Lane> {
    let mut players: Vec<Player> =
        (0..2 * LANES).map(|number| member(number, Ipv4Addr::UNSPECIFIED)).collect();
    let hub = stand.make_parties(name, &mut players);
    for player in &mut players {
        reach(player, hub, stand.daemon.relay);
    }
    lanes(players, stand.daemon.relay, length)
}

fn lanes_of_rival(stand: &Stand, program: &str, length: usize) -> Option<(Rival, Vec<Lane>)> {
    let first = PLAYERS / 2;
    let key = PrivateKey::generate();
    let mut players: Vec<Player> = (0..2 * LANES)
        .map(|number| member(first + number, Ipv4Addr::new(10, 66, 1, number as u8 + 1)))
        .collect();
    let peers: Vec<_> = players.iter().map(|player| (player.key.public_key(), player.ip)).collect();
    let rival = stand.network.among_servers(|| Rival::hub(program, &key, &peers, stand.cores))?;
    for player in &mut players {
        reach(player, key.public_key(), rival.address);
    }
    let mut lanes = lanes(players, rival.address, length);
    if program == "boringtun-cli" {
        // It does not pad what it seals.
        lanes.iter_mut().for_each(|lane| lane.arriving = length + OVERHEAD);
    }
    Some((rival, lanes))
}

/// Packets from member to member.
pub fn run(stand: &mut Stand) {
    let (scale, daemon) = (stand.scale, stand.daemon.pid());
    for (program, budgets) in WIREGUARDS.into_iter().zip(BUDGETS) {
        for length in [100, 1420] {
            let Some((rival, mut theirs)) = lanes_of_rival(stand, program, length) else {
                stand.table.missing(&format!("hub: CPU against {program}"), program);
                break;
            };
            let mut own = own_lanes(stand, &format!("hub-{program}-{length}"), length);
            for (style, budget) in [Style::Bursts, Style::Singles].into_iter().zip(budgets) {
                let mut pairing = Pairing::default();
                for _ in 0..scale.rounds {
                    let mine = measure(&mut own, style, Waiting::Awake, scale.span, || process_cpu(daemon));
                    let other = measure(&mut theirs, style, Waiting::Awake, scale.span, || rival.cpu());
                    pairing.push(&mine, &other);
                }
                let name = format!("hub, {length} B, {}: CPU against {program}", style.name());
                pairing.tell(&mut stand.table, &name, Some(budget));
            }
        }
    }
}

/// How much of the hub's time is encryption: its own time, without that of the kernel.
pub fn encryption(stand: &mut Stand) {
    let daemon = stand.daemon.pid();
    for length in [100, 1420] {
        let mut own = own_lanes(stand, &format!("hub-share-{length}"), length);
        for style in [Style::Bursts, Style::Singles] {
            let what = format!("hub, {length} B, {}: part of its own time in the AEAD", style.name());
            let profile = Profile::start(daemon, &stand.state);
            measure(&mut own, style, Waiting::Awake, SAMPLED, || 0);
            match profile.and_then(Profile::share_of_aead) {
                Err(lack) => return stand.table.missing(&what, lack),
                Ok(share) => {
                    stand.table.note(&what, format!("{:.0}%", share * 100.0));
                }
            }
        }
    }
}
