//! Relays in other places: two processes, of which one knows no parties but those that it is told of.

use crate::client::Client;
use crate::eventually;
use crate::harness::daemon::{binary, settings};
use crate::harness::directory::Directory;
use crate::harness::far_relay::FarRelay;
use crate::player::{Player, gets_through, introduce, reach};
use crate::relay::party;
use crate::test_daemon::{Setup, TestDaemon};
use lanrage::crypto::x25519::{PrivateKey, PublicKey};
use lanrage::wire::json::{self, Value};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// A server that has the same ports after a restart.
fn server() -> TestDaemon {
    let http = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let relay = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    Setup::new(&[("http", &http.to_string()), ("relay", &relay.to_string())]).start()
}

/// What a command says to the owner.
fn owner(server: &TestDaemon, arguments: &[&str]) -> Output {
    let mut command = Command::new(binary());
    settings(&mut command, &server.setup.directory().state(), []);
    command.args(arguments).output().unwrap()
}

/// The relay in another place, as the owner sees it: its state, id and key.
fn seen(server: &TestDaemon) -> Option<(String, String, String)> {
    let answer = server.owner().get("/relay-approvals").is(200).json();
    let Some(Value::Array(relays)) = answer.get("relays") else { panic!("no relays") };
    let text = |name: &str| relays[0].get(name).and_then(Value::as_str).unwrap().to_owned();
    (!relays.is_empty()).then(|| (text("state"), text("relay_id"), text("public_key")))
}

fn is_listed(client: &mut Client, relay: &FarRelay) -> bool {
    let answer = client.get("/relays").is(200);
    answer.body.contains(&format!("\"port\":{},\"region\":\"Tokio\"", relay.address.port()))
}

/// Approves the relay that waits, by the command that the owner is shown. Gives its key.
fn approve(server: &TestDaemon) -> PublicKey {
    eventually("it waits", || seen(server).is_some_and(|(state, ..)| state == "waiting"));
    let (_, id, key) = seen(server).unwrap();
    let list = String::from_utf8(owner(server, &["relay", "list"]).stdout).unwrap();
    let shown = list.lines().find_map(|line| line.trim().strip_prefix("lanrage ")).expect("a command");
    let shown: Vec<&str> = shown.split(' ').collect();
    assert_eq!(shown[..3], ["relay", "approve", &id]);
    let approved = owner(server, &shown);
    assert!(approved.status.success(), "{}", String::from_utf8_lossy(&approved.stderr));
    PublicKey::decode(&key).unwrap()
}

/// A party at a relay in another place that was approved.
fn playing() -> (TestDaemon, FarRelay, Client, Player, Player, String) {
    let server = server();
    let (ann, _, mut a, mut b, id) = party(&server);
    let relay = FarRelay::start(server.http);
    approve(&server);
    introduce(&mut a, &mut b, relay.address);
    reach(&mut a, &mut b, "hello");
    reach(&mut b, &mut a, "hello yourself");
    (server, relay, ann, a, b, id)
}

/// How long a member that is kicked goes on getting something through.
fn kick(ann: &mut Client, id: &str, a: &mut Player, b: &mut Player) -> Duration {
    let start = Instant::now();
    ann.ask("DELETE", &format!("/parties/{id}/peers/bob"), "").is(200);
    let mut last = start;
    while start.elapsed() < Duration::from_secs(2) {
        a.send(b.ip, b"still there?");
        a.pump();
        if !b.pump().is_empty() {
            last = Instant::now();
        }
    }
    last - start
}

#[test]
fn a_relay_is_given_nothing_before_it_is_approved_and_then_carries_a_party_until_somebody_is_kicked() {
    let server = server();
    let (mut ann, _bob, mut a, mut b, id) = party(&server);
    let relay = FarRelay::start(server.http);
    eventually("it waits", || seen(&server).is_some_and(|(state, ..)| state == "waiting"));
    let (_, name, key) = seen(&server).unwrap();
    relay.logs(&format!("the key is {key}"));
    assert_eq!(relay.directory.state().metadata().unwrap().mode() & 0o777, 0o700);
    introduce(&mut a, &mut b, relay.address);
    assert!(!gets_through(&mut a, &mut b, "anybody?", Duration::from_millis(700)));
    assert!(!is_listed(&mut ann, &relay));
    for (id, key) in [(&*name, "AAAAAAAAAAAA"), ("lanrage-00000000", &key[..12]), (&name, &key[..11])] {
        let refused = owner(&server, &["relay", "approve", id, key]);
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(
            refused.status.code() == Some(1) && text.contains("`lanrage relay list`"),
            "{id} {key}: {text}"
        );
    }

    let hub = approve(&server);
    relay.logs("approved");
    eventually("players are told", || is_listed(&mut ann, &relay));
    let list = String::from_utf8(owner(&server, &["relay", "list"]).stdout).unwrap();
    assert!(list.contains("connected") && list.contains(&key), "{list}");
    reach(&mut a, &mut b, "hello");
    // The hub is another one than the server's.
    a.add_peer(
        hub,
        relay.address,
        lanrage::wireguard::allowed_ips::AllowedIp::host(crate::player::HUB_IP.into()),
    );
    eventually("the hub answers", || {
        a.send(crate::player::HUB_IP, b"here I am");
        a.pump();
        a.sessions >= 2
    });
    let took = kick(&mut ann, &id, &mut a, &mut b);
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn an_approval_that_is_taken_back_ends_everything_at_that_relay() {
    let (server, relay, mut ann, mut a, mut b, _) = playing();
    let (_, id, _) = seen(&server).unwrap();
    assert!(owner(&server, &["relay", "revoke", &id]).status.success());
    eventually("it ends", || !gets_through(&mut a, &mut b, "still there?", Duration::from_millis(200)));
    assert!(!is_listed(&mut ann, &relay));
    // It would like to be approved again.
    eventually("it waits", || seen(&server).is_some_and(|(state, ..)| state == "waiting"));
}

#[test]
fn a_relay_that_has_lost_its_server_plays_on_and_hears_later_what_it_missed() {
    let (mut server, mut relay, _, mut a, mut b, id) = playing();
    server.kill();
    relay.logs("the control server is away");
    reach(&mut a, &mut b, "still here");
    // Also over a restart of its own: neither the players nor their flows are lost.
    relay.process.terminate();
    relay.restart();
    relay.logs("took over 1 parties");
    reach(&mut a, &mut b, "and here again");
    // Its approval outlasts the server.
    server.restart();
    eventually("it is back", || seen(&server).is_some_and(|(state, ..)| state == "connected"));
    server.owner().ask("DELETE", &format!("/parties/{id}/peers/bob"), "").is(200);
    eventually("he is out", || !gets_through(&mut a, &mut b, "you?", Duration::from_millis(200)));
}

#[test]
fn what_happened_while_a_relay_was_away_reaches_it_when_it_comes_back() {
    let (server, mut relay, mut ann, mut a, mut b, id) = playing();
    relay.process.kill();
    ann.ask("DELETE", &format!("/parties/{id}/peers/bob"), "").is(200);
    relay.restart();
    eventually("it is back", || seen(&server).is_some_and(|(state, ..)| state == "connected"));
    eventually("he is out", || !gets_through(&mut a, &mut b, "you?", Duration::from_millis(200)));
}

/// What an app gets: the address and the key of its hub, its private key and its own address.
fn device(server: &TestDaemon, party: &str, name: &str) -> (SocketAddr, PublicKey, Player) {
    let key = PrivateKey::generate();
    let body = format!("{{\"name\":\"{name}\",\"public_key\":\"{}\"}}", key.public_key().encode());
    let added = server.owner().ask("POST", &format!("/parties/{party}/devices"), &body).is(200);
    let hub = PublicKey::decode(&added.text(&["config", "peer", "public_key"])).unwrap();
    let player = Player::new(key, added.text(&["virtual_ip"]).parse().unwrap());
    (added.text(&["config", "peer", "endpoint"]).parse().unwrap(), hub, player)
}

#[test]
fn a_party_at_a_relay_in_another_place_has_its_apps_meet_there_and_they_are_online() {
    let server = server();
    let relay = FarRelay::start(server.http);
    let hub = approve(&server);
    let (_, id, _) = seen(&server).unwrap();
    let unknown = owner(&server, &["party", "create", "Friday", "--relay", "lanrage-00000000"]);
    assert!(unknown.status.code() == Some(1), "{unknown:?}");
    let made = owner(&server, &["party", "create", "Friday", "--relay", &id, "--json"]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let made = json::parse(&made.stdout).unwrap();
    let party = made.get("party_id").and_then(Value::as_str).unwrap();
    let (at, key, mut a) = device(&server, party, "ann");
    let (_, _, mut b) = device(&server, party, "bob");
    assert_eq!((at, key), (relay.address, hub));
    a.add_hub(hub, at);
    b.add_hub(hub, at);
    a.send(b.ip, b"knock");
    reach(&mut b, &mut a, "hello");
    reach(&mut a, &mut b, "hello yourself");
    // Handshakes there count as signs of life here.
    eventually("both are online", || {
        let overview = server.owner().get("/overview").is(200).body;
        overview.matches("\"is_online\":true").count() == 2
    });
}

#[test]
fn mistakes_are_named() {
    let server = server();
    let relay = |arguments: &[&str]| {
        let mut command = Command::new(binary());
        settings(&mut command, &Directory::new().state(), []);
        let output = command.arg("relay").args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for (arguments, code, text) in [
        (&[][..], 2, "--control URL is missing"),
        (&["--control", "https://x"], 2, "no TLS"),
        (&["--control", "http://x", "--control-key", "x"], 2, "--control-key"),
        (&["frobnicate"], 2, "no command `lanrage relay frobnicate`"),
    ] {
        let (status, said) = relay(arguments);
        assert!(status == Some(code) && said.contains(text), "{arguments:?}: {said}");
    }
    // The state of a server is none of a relay's.
    let mut server = server;
    let (_ann, _bob, ..) = party(&server);
    server.terminate();
    let mut command = Command::new(binary());
    settings(&mut command, &server.setup.directory().state(), []);
    let output = command.args(["relay", "--control", "http://127.0.0.1:1"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("--state-dir of its own"), "{said}");
}
