//! Players who have the hub as their only peer.

use crate::blind::{all_pairs, party};
use crate::harness::process::Process;
use crate::lab::{Lab, Mapping, stutter};
use crate::player::Player;
use crate::server::{HUB_IP, Server};
use lanrage::crypto::x25519::PrivateKey;
use lanrage::wire::json::{self, Value};
use std::net::Ipv4Addr;
use std::process::Stdio;
use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);
/// All of the virtual LAN.
pub const LAN: &str = "10.66.0.0/16";

/// Who has just made a handshake makes no other one for 5 s (paper 6.1), not even to prove another address.
pub fn wait_for_handshakes_to_age() {
    std::thread::sleep(Duration::from_millis(5500));
}

/// Everybody gets the hub as a peer, and has said a word to it.
pub fn use_hub(server: &Server, players: &[Player]) {
    for player in players {
        player.add_hub(&server.hub_key, LAN);
        player.ping(HUB_IP);
    }
}

#[test]
#[ignore = "needs root: network namespaces, wireguard-go"]
fn stock_clients_meet_at_the_hub() {
    let _alone = crate::alone();
    let lab = Lab::new();
    let server = Server::new(&lab);
    let nat = lab.nat(20, Mapping::Symmetric);
    let players = party(&server, vec![lab.host(10), nat.host(2), lab.host(11)]);
    players.iter().for_each(|player| player.add_hub(&server.hub_key, LAN));
    println!("hub: first ping after {:?}", players[0].ping(HUB_IP));
    players.iter().for_each(|player| {
        player.ping(HUB_IP);
    });
    println!("hub: all 6 directions after {:?}", all_pairs(&players));
    crate::eventually("everybody says when it shook hands", || {
        players.iter().all(|player| player.last_handshake(&server.hub_key) > 0)
    });

    // Another port, and another mapping: known by what it says next.
    wait_for_handshakes_to_age();
    players[0].set_port(40_000);
    let took = players[0].ping(players[2].member.ip);
    println!("hub: another port costs {took:?}");
    assert!(took < 2 * SECOND);
    nat.set(Mapping::Symmetric, Some("20000-29999"));
    let took = players[1].ping(players[2].member.ip);
    println!("hub: another mapping costs {took:?}");
    assert!(took < 2 * SECOND);
    all_pairs(&players);
}

/// Bits a second that arrived, and the percentage that was lost.
fn iperf(from: &Player, to: &Player, options: &[&str]) -> (f64, f64) {
    let (client, server) = (from.member.ip.to_string(), to.member.ip.to_string());
    let mut listening = to.host.command("iperf3");
    listening.args(["-s", "-B", &server]).stdout(Stdio::null()).stderr(Stdio::null());
    let _listening = Process(listening.spawn().unwrap());
    let mut report = Value::Null;
    crate::eventually("iperf3 measures", || {
        let mut measuring = from.host.command("iperf3");
        let output =
            measuring.args(["-J", "-t", "2", "-B", &client, "-c", &server]).args(options).output().unwrap();
        // With -J it may say that all is well when nobody listens yet.
        report = json::parse(&output.stdout).unwrap_or(Value::Null);
        output.status.success() && report.get("error").is_none()
    });
    let end = report.get("end").unwrap_or_else(|| panic!("{report:?}"));
    let number = |of: &Value, name: &str| match of.get(name) {
        Some(Value::Number(number)) => number.parse::<f64>().unwrap(),
        _ => 0.0,
    };
    let received = end.get("sum_received").or(end.get("sum")).unwrap_or_else(|| panic!("{report:?}"));
    (number(received, "bits_per_second"), number(received, "lost_percent"))
}

#[test]
#[ignore = "needs root: network namespaces, wireguard-go"]
fn the_hub_carries_bulk() {
    let _alone = crate::alone();
    let lab = Lab::new();
    let server = Server::new(&lab);
    let players = party(&server, vec![lab.host(10), lab.host(11)]);
    use_hub(&server, &players);
    for (name, options) in [("TCP", &[][..]), ("UDP", &["-u", "-b", "20M", "-l", "1200"])] {
        for direction in [&[][..], &["-R"]] {
            let (rate, lost) = iperf(&players[0], &players[1], &[options, direction].concat());
            println!("hub: {name} {direction:?}: {:.1} Mbit/s, {lost:.2}% lost", rate / 1e6);
            assert!(rate > 10e6 && lost < 5.0, "{name} {rate} {lost}");
        }
    }
}

#[test]
#[ignore = "needs root: network namespaces, wireguard-go"]
fn a_kick_cuts() {
    let _alone = crate::alone();
    let lab = Lab::new();
    let server = Server::new(&lab);
    let mut players = party(&server, (10..14).map(|number| lab.host(number)).collect());
    use_hub(&server, &players[..3]);
    // The last two, of whom one is kicked, talk blind as well.
    players[3].add_hub(&server.hub_key, "10.66.0.1/32");
    let (kicked, other) = (&players[2], &players[3]);
    kicked.add(other);
    other.add(kicked);
    kicked.ping(other.member.ip);
    all_pairs(&players[..3]);
    // What is going to fail works now, and within the same time.
    for ip in [HUB_IP, players[0].member.ip, players[3].member.ip] {
        assert!(kicked.reaches(ip, SECOND).is_some(), "{ip}");
    }
    let before = server.dropped("no_flow");

    let (party, name) = (players[0].member.party.clone(), players[2].member.name.clone());
    let start = Instant::now();
    players[0].member.client.ask("DELETE", &format!("/parties/{party}/peers/{name}"), "").is(200);
    let gone = &players[2];
    crate::eventually("the hub is silent", || gone.reaches(HUB_IP, SECOND).is_none());
    let cut = start.elapsed();
    println!("hub: silent {:?} after a kick", cut.saturating_sub(SECOND));
    assert!(cut < 2 * SECOND, "one second of it is spent on waiting for the answer");
    for ip in [players[0].member.ip, players[3].member.ip] {
        assert_eq!(gone.reaches(ip, SECOND), None);
    }
    assert_eq!(players[0].reaches(gone.member.ip, SECOND), None);
    assert!(players[0].reaches(players[1].member.ip, SECOND).is_some(), "others go on");
    all_pairs(&players[..2]);
    // What it says is nobody's: neither the hub's, nor a flow's.
    assert!(server.dropped("no_flow") >= before + 20, "{before} {}", server.dropped("no_flow"));
}

#[test]
#[ignore = "needs root: network namespaces, wireguard-go"]
fn strangers_and_other_parties_get_nothing() {
    let _alone = crate::alone();
    let lab = Lab::new();
    let server = Server::new(&lab);
    let players = party(&server, vec![lab.host(10), lab.host(11)]);
    let host = lab.host(12);
    let outsider = vec![Player::new(server.create(&host, "outsider"), host)];
    use_hub(&server, &players);
    use_hub(&server, &outsider);
    let ask = |player: &Player, ip: Ipv4Addr, reason: &str| {
        let before = server.dropped(reason);
        assert_eq!(player.reaches(ip, 2 * SECOND), None, "{reason}");
        let dropped = server.dropped(reason) - before;
        println!("hub: {dropped} dropped as {reason}");
        assert!(dropped > 0, "{reason}");
    };
    let gets = |player: &Player, ip: Ipv4Addr| assert!(player.reaches(ip, 2 * SECOND).is_some(), "{ip}");
    ask(&outsider[0], players[0].member.ip, "other_party");
    gets(&outsider[0], HUB_IP);
    ask(&players[0], Ipv4Addr::new(10, 66, 200, 200), "inner_destination");
    gets(&players[0], players[1].member.ip);

    // Who knows all there is to know, but has no member's key.
    let host = lab.host(13);
    let mut member = server.join(&host, "p2", &players[0].member.party);
    let right = std::mem::replace(&mut member.key, PrivateKey::generate());
    let mut stranger = Player::new(member, host);
    let hub = format!("peer {}", server.hub_key);
    stranger.add_hub(&server.hub_key, LAN);
    assert_eq!(stranger.reaches(HUB_IP, 7 * SECOND), None);
    assert!(server.dropped("hub_unknown_peer") > 0);
    // A member's key is known to everybody in its party, so its initiation is passed on; nobody answers it.
    stranger.wg(&format!("{hub} remove"));
    stranger.add(&players[0]);
    let wrong = std::mem::replace(&mut stranger.member.key, right.clone());
    players[0].add(&stranger);
    stranger.member.key = wrong;
    let stolen = players[0].member.ip;
    assert_eq!(stranger.reaches(stolen, 7 * SECOND), None);
    // With the right key both work within the same time.
    stranger.member.key = right;
    stranger.set_key();
    assert!(stranger.reaches(stolen, 7 * SECOND).is_some());
    stranger.wg(&format!("peer {} remove", players[0].member.public_key()));
    players[0].wg(&format!("peer {} remove", stranger.member.public_key()));
    stranger.add_hub(&server.hub_key, LAN);
    assert!(stranger.reaches(HUB_IP, 7 * SECOND).is_some());

    // Somebody else's address in one's own tunnel.
    let thief = &players[1];
    thief.change_ip(players[0].member.ip);
    ask(thief, HUB_IP, "inner_source");
    assert!(players[0].ping(HUB_IP) < SECOND);
    thief.change_ip(thief.member.ip);
    gets(thief, HUB_IP);
}

/// What comes twice is the same packet: it is taken once.
#[test]
#[ignore = "needs root: network namespaces, wireguard-go"]
fn replayed_packets_are_dropped() {
    let _alone = crate::alone();
    let lab = Lab::new();
    let server = Server::new(&lab);
    let players = party(&server, vec![lab.host(10), lab.host(11)]);
    use_hub(&server, &players);
    let ping = || players[0].host.run(&format!("ping -n -i 0.02 -c 50 {}", players[1].member.ip));
    let all = "50 packets transmitted, 50 received, 0% packet loss";
    assert!(ping().contains(all));
    assert_eq!(server.dropped("hub_replayed"), 0);
    stutter(&players[0].host, 51820);
    let seen = ping();
    assert!(seen.contains(all), "neither less nor a duplicate: {seen}");
    let dropped = server.dropped("hub_replayed");
    println!("hub: {dropped} dropped as hub_replayed");
    assert!(dropped >= 50, "{dropped}");
}

/// Keys are made anew every two minutes and end after three: nobody should feel it, blind or at the hub.
#[test]
#[ignore = "needs root and minutes: network namespaces, wireguard-go"]
fn new_keys_are_not_felt() {
    let lab = Lab::new();
    let server = Server::new(&lab);
    let players = party(&server, (10..14).map(|number| lab.host(number)).collect());
    let (blind, hub) = players.split_at(2);
    crate::blind::introduce(blind);
    use_hub(&server, hub);
    all_pairs(blind);
    all_pairs(hub);
    let whom = [
        blind[1].member.public_key(),
        blind[0].member.public_key(),
        server.hub_key.clone(),
        server.hub_key.clone(),
    ];
    let handshakes = || -> Vec<u64> {
        players.iter().zip(&whom).map(|(player, key)| player.last_handshake(key)).collect()
    };
    crate::eventually("everybody says when it shook hands", || handshakes().iter().all(|&time| time > 0));
    let first = handshakes();
    let runs: Vec<_> = [blind, hub]
        .iter()
        .map(|pair| {
            let mut ping = pair[0].host.command("ping");
            ping.args(["-n", "-q", "-i", "0.2", "-c", "1000", &pair[1].member.ip.to_string()]);
            ping.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for (run, kind) in runs.into_iter().zip(["blind", "hub"]) {
        let text = String::from_utf8(run.wait_with_output().unwrap().stdout).unwrap();
        let received = text.split(", ").nth(1).and_then(|part| part.split(' ').next()).unwrap();
        println!("{kind}: of 1000 pings in 200 s {received} came back");
        assert!(received.parse::<u32>().unwrap() >= 998, "{kind}: {text}");
    }
    let last = handshakes();
    assert!(first.iter().zip(&last).all(|(first, last)| *last >= first + 100), "{first:?} {last:?}");
}
