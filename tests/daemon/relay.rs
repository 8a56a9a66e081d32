//! The relay behind its real socket, and what of the control plane reaches it.

use crate::client::{Answer, Client};
use crate::eventually;
use crate::harness::directory::Directory;
use crate::player::{Player, gets_through, introduce, reach};
use crate::test_daemon::{Setup, TestDaemon};
use lanrage::crypto::x25519::{PrivateKey, PublicKey};
use lanrage::wire::json::Value;
use lanrage::wireguard::allowed_ips::AllowedIp;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

/// A daemon that has the same port after a restart.
pub fn daemon() -> TestDaemon {
    let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    Setup::new(&[("relay", &free.to_string())]).start()
}

fn player(answer: &Answer, key: PrivateKey) -> Player {
    Player::new(key, answer.text(&["network", "virtual_ip"]).parse().unwrap())
}

/// Alice hosts a party and Bob is in it: their connections to the API, their machines, and the party's id.
pub fn party(daemon: &TestDaemon) -> (Client, Client, Player, Player, String) {
    let (mut ann, mut bob) = (daemon.client(), daemon.client());
    let keys = [PrivateKey::generate(), PrivateKey::generate()];
    ann.register("ann");
    bob.register("bob");
    let created = ann.enrol("ann", &keys[0].public_key(), None).is(200);
    let id = created.text(&["party_id"]);
    let joined = bob.enrol("bob", &keys[1].public_key(), Some(&id)).is(200);
    let [first, second] = keys;
    let (a, b) = (player(&created, first), player(&joined, second));
    (ann, bob, a, b, id)
}

fn hub_key(client: &mut Client, party: &str) -> PublicKey {
    let answer = client.get(&format!("/parties/{party}")).is(200);
    PublicKey::decode(&answer.text(&["network", "relay", "public_key"])).unwrap()
}

/// How the daemon says that a member is reached.
fn path(daemon: &TestDaemon, peer: &str) -> String {
    let status = daemon.owner().get("/status").is(200).json();
    let Some(Value::Array(members)) = status.get("members") else { panic!("no members") };
    let text = |member: &Value, name: &str| member.get(name).and_then(Value::as_str).unwrap_or("").to_owned();
    members.iter().find(|member| text(member, "peer_id") == peer).map_or(String::new(), |m| text(m, "path"))
}

#[test]
fn two_members_talk_through_the_relay_until_one_is_kicked() {
    let daemon = daemon();
    let (mut ann, _bob, mut a, mut b, id) = party(&daemon);
    introduce(&mut a, &mut b, daemon.relay);
    reach(&mut a, &mut b, "hello");
    reach(&mut b, &mut a, "hello yourself");
    assert_eq!((path(&daemon, "ann"), path(&daemon, "bob")), ("blind".into(), "blind".into()));
    assert!(daemon.metric("lanrage_relay_flows") >= 1);
    let relays = ann.get("/relays").is(200).json();
    let Some(Value::Array(relays)) = relays.get("relays") else { panic!("no relays") };
    eventually("the load shows", || {
        let relays = ann.get("/relays").json();
        matches!(relays.get("relays"), Some(Value::Array(all)) if all[0].get("load") == Some(&Value::Number("2".into())))
    });
    assert_eq!(relays.len(), 1);

    ann.ask("DELETE", &format!("/parties/{id}/peers/bob"), "").is(200);
    assert!(!gets_through(&mut a, &mut b, "still there?", Duration::from_secs(1)));
    assert!(!gets_through(&mut b, &mut a, "let me in", Duration::from_secs(1)));
}

/// A key that was proven by playing is its player's also when he is away: somebody else who claims it draws nobody to
/// himself, and the player comes back under another name by playing on.
#[test]
fn a_key_is_its_player_s_and_a_handshake_shows_who_that_is() {
    let daemon = daemon();
    let (mut ann, mut bob, mut a, mut b, id) = party(&daemon);
    let hub = hub_key(&mut ann, &id);
    a.add_hub(hub, daemon.relay);
    b.add_hub(hub, daemon.relay);
    a.send(b.ip, b"knock");
    reach(&mut b, &mut a, "hello");
    let again = |ip: Ipv4Addr, key: &PrivateKey| {
        let mut player = Player::new(PrivateKey::from_bytes(*key.to_bytes()), ip);
        player.add_hub(hub, daemon.relay);
        player
    };
    bob.ask("DELETE", &format!("/parties/{id}/peers/bob"), "").is(200);
    let mut thief = Client::connect_from(Ipv4Addr::new(127, 0, 0, 9), daemon.http);
    thief.register("thief");
    let trap = thief.enrol("thief", &b.key.public_key(), None).is(200);
    assert!(trap.body.contains("warnings"), "{}", trap.body);
    assert_ne!(trap.text(&["network", "virtual_ip"]), b.ip.to_string());
    let mut idle = again(b.ip, &b.key);
    assert!(!gets_through(&mut idle, &mut a, "is anybody there?", Duration::from_secs(2)));
    assert_eq!(path(&daemon, "thief"), "");
    // He who has the private key is there, under whatever name.
    let mut robert = daemon.client();
    robert.register("robert");
    let joined = robert.enrol("robert", &b.key.public_key(), Some(&id)).is(200);
    assert!(joined.body.contains("warnings"), "{}", joined.body);
    let mut back = again(b.ip, &b.key);
    reach(&mut back, &mut a, "it is me");
    reach(&mut a, &mut back, "welcome back");
    let now = robert.get(&format!("/parties/{id}")).is(200);
    assert_eq!(now.text(&["network", "virtual_ip"]), b.ip.to_string(), "his address is his again");
    assert!(!now.body.contains("warnings"), "{}", now.body);
}

#[test]
fn two_members_talk_through_the_hub_until_one_is_kicked() {
    let daemon = daemon();
    let (mut ann, _bob, mut a, mut b, id) = party(&daemon);
    let hub = hub_key(&mut ann, &id);
    for player in [&mut a, &mut b] {
        player.greet_hub(hub, daemon.relay);
    }
    reach(&mut a, &mut b, "hello");
    reach(&mut b, &mut a, "hello yourself");
    assert_eq!((path(&daemon, "ann"), path(&daemon, "bob")), ("hub".into(), "hub".into()));
    ann.ask("DELETE", &format!("/parties/{id}/peers/bob"), "").is(200);
    assert!(!gets_through(&mut a, &mut b, "still there?", Duration::from_secs(1)));
}

/// A WireGuard app sends no heartbeats, its handshakes show that it is there.
#[test]
fn a_handshake_is_a_sign_of_life() {
    let daemon = Setup::new(&[("timeouts.peer", "6"), ("timeouts.sweep", "0.5")]).start();
    let joined = Instant::now();
    let (mut ann, _bob, _a, mut b, id) = party(&daemon);
    let is_there = |ann: &mut Client| {
        ann.ask("POST", &format!("/parties/{id}/peers/ann/heartbeat"), "").is(200);
        std::thread::sleep(Duration::from_millis(200));
        ann.get(&format!("/parties/{id}")).is(200).body.contains("\"bob\"")
    };
    while joined.elapsed() < Duration::from_secs(4) {
        assert!(is_there(&mut ann));
    }
    let hub = hub_key(&mut ann, &id);
    b.greet_hub(hub, daemon.relay);
    eventually("the hub hears of it", || {
        b.pump();
        path(&daemon, "bob") == "hub"
    });
    let heard = Instant::now();
    while heard.elapsed() < Duration::from_secs(4) {
        assert!(is_there(&mut ann), "for {:?}", joined.elapsed());
    }
    assert!(joined.elapsed() > Duration::from_secs(7), "this shows nothing yet");
    eventually("bob is gone", || !is_there(&mut ann));
}

/// What the daemon tells of a member, in all three places.
#[test]
fn an_owner_sees_what_each_member_does() {
    let daemon = daemon();
    let (mut ann, _bob, mut a, mut b, id) = party(&daemon);
    let hub = hub_key(&mut ann, &id);
    for player in [&mut a, &mut b] {
        player.greet_hub(hub, daemon.relay);
    }
    // What waits until a session is up is not counted: once more when both are.
    for _ in 0..2 {
        reach(&mut a, &mut b, "hello");
        reach(&mut b, &mut a, "hello yourself");
    }
    let (own, three) = (a.ip, 3);
    a.ip = Ipv4Addr::new(10, 66, 9, 9);
    (0..three).for_each(|_| a.send(b.ip, b"from somebody else"));
    a.ip = own;
    let dropped = "lanrage_relay_member_drops_total{peer=\"ann\",reason=\"inner_source\"}";
    eventually("they are dropped", || {
        daemon.metric("lanrage_relay_drops_total{reason=\"inner_source\"}") == three
    });
    assert_eq!(daemon.metric(dropped), three);

    let status = daemon.owner().get("/status").is(200).json();
    let Some(Value::Array(members)) = status.get("members") else { panic!("{status:?}") };
    let named = |member: &&Value| member.get("peer_id").and_then(Value::as_str) == Some("ann");
    let shown = members.iter().find(named).unwrap();
    let number = |path: &[&str]| match path.iter().try_fold(shown, |value, name| value.get(name)) {
        Some(Value::Number(number)) => number.parse::<u64>().unwrap(),
        other => panic!("{path:?} is {other:?} in {shown:?}"),
    };
    assert_eq!(shown.get("path").and_then(Value::as_str), Some("hub"));
    assert_eq!(daemon.metric("lanrage_relay_member_path{peer=\"ann\",path=\"hub\"}"), 1);
    assert!(number(&["handshake_seconds"]) <= 60);
    assert!(daemon.metric("lanrage_relay_member_handshake_age_seconds{peer=\"ann\"}") <= 60);
    assert_eq!(number(&["drops", "inner_source"]), three);
    // The hub itself has no such port, and other reasons did not happen.
    assert_eq!(number(&["drops", "inner_destination"]), 1);
    assert_eq!(shown.get("drops").map(|drops| crate::client::members(drops).len()), Some(2), "{shown:?}");
    for direction in ["from", "to"] {
        for unit in ["packets", "bytes"] {
            let label =
                format!("lanrage_relay_member_{unit}_total{{peer=\"ann\",direction=\"{direction}\"}}");
            let known = number(&[direction, unit]);
            assert!(known > 0 && daemon.metric(&label) >= known, "{label}");
        }
    }
    let said = daemon.say("status");
    let line = said.lines().find(|line| line.starts_with("ann ")).unwrap_or_else(|| panic!("{said}"));
    assert!(line.contains(" hub ") && line.contains(" ago ") && line.contains(" packet"), "{line}");
    assert!(line.contains(" 3 inner source"), "{line}");
}

#[test]
fn who_is_in_no_party_gets_nothing() {
    let daemon = daemon();
    let (_ann, _bob, mut a, b, _) = party(&daemon);
    let mut eve = Player::new(PrivateKey::generate(), Ipv4Addr::new(10, 66, 9, 9));
    eve.add_peer(a.key.public_key(), daemon.relay, AllowedIp::host(IpAddr::V4(a.ip)));
    a.add_peer(eve.key.public_key(), daemon.relay, AllowedIp::host(IpAddr::V4(eve.ip)));
    assert!(!gets_through(&mut a, &mut eve, "anybody?", Duration::from_secs(1)));
    assert!(daemon.metric("lanrage_relay_drops_total{reason=\"no_member\"}") > 0);
    drop(b);
}

#[test]
fn a_restart_in_good_order_does_not_interrupt_a_game() {
    let mut daemon = daemon();
    let (_ann, _bob, mut a, mut b, _) = party(&daemon);
    introduce(&mut a, &mut b, daemon.relay);
    reach(&mut a, &mut b, "before");
    reach(&mut b, &mut a, "before, too");
    let sessions = a.sessions + b.sessions;
    daemon.terminate();
    daemon.restart();
    let start = Instant::now();
    reach(&mut a, &mut b, "after");
    reach(&mut b, &mut a, "after, too");
    let took = start.elapsed();
    assert_eq!(a.sessions + b.sessions, sessions, "they had to greet each other again");
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn two_daemons_in_one_runtime_directory_keep_their_games_over_restarts() {
    let shared = Directory::new();
    let runtime = shared.state().display().to_string();
    let mut games: Vec<_> = (0..2)
        .map(|_| {
            let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
            let daemon = Setup::new(&[("relay", &free), ("runtime_dir", &runtime)]).start();
            let (_ann, _bob, mut a, mut b, _) = party(&daemon);
            introduce(&mut a, &mut b, daemon.relay);
            reach(&mut a, &mut b, "before");
            reach(&mut b, &mut a, "before, too");
            (daemon, a, b)
        })
        .collect();
    for (daemon, ..) in &mut games {
        assert_eq!(daemon.terminate().0.code(), Some(0));
    }
    for (daemon, a, b) in &mut games {
        let sessions = a.sessions + b.sessions;
        daemon.restart();
        reach(a, b, "after");
        reach(b, a, "after, too");
        assert_eq!(a.sessions + b.sessions, sessions, "they had to greet each other again");
        assert!(daemon.setup.log().contains("took over 2 flows"), "{}", daemon.setup.log());
    }
}

/// The hub's keys are gone with it; it asks its members for new sessions before they notice.
#[test]
fn a_restart_in_good_order_does_not_interrupt_a_game_at_the_hub() {
    let mut daemon = daemon();
    let (mut ann, _bob, mut a, mut b, id) = party(&daemon);
    let hub = hub_key(&mut ann, &id);
    for player in [&mut a, &mut b] {
        player.greet_hub(hub, daemon.relay);
    }
    reach(&mut a, &mut b, "before");
    reach(&mut b, &mut a, "before, too");
    daemon.terminate();
    daemon.restart();
    let start = Instant::now();
    reach(&mut a, &mut b, "after");
    reach(&mut b, &mut a, "after, too");
    let took = start.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}: they would notice by themselves after 15 s");
}

#[test]
fn the_log_says_what_becomes_of_each_datagram() {
    let daemon = Setup::new(&[("log", "trace")]).start();
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    stranger.send_to(b"nothing that is known", daemon.relay).unwrap();
    let from = stranger.local_addr().unwrap();
    let lines = [
        format!("received: unknown, 21 bytes, from {from} (no known member)"),
        format!("dropped (unknown): from {from} (no known member)"),
    ];
    eventually("both lines are there", || lines.iter().all(|line| daemon.setup.log().contains(line)));
}
