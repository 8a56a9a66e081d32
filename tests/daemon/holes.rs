//! What the reference server lets anybody do, tried on the real binary.

use crate::client::{Answer, Client, connect_from, create_body, members, text};
use crate::eventually;
use crate::socket::Socket;
use crate::test_daemon::{Setup, TestDaemon};
use lanrage::control::proof;
use lanrage::crypto::x25519::{PrivateKey, PublicKey};
use lanrage::ids::PeerId;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

#[test]
fn nobody_gets_a_token_for_somebody_elses_peer() {
    let daemon = TestDaemon::start();
    let mut host = daemon.client();
    let party = host.register("host").create("LAN", "host");
    let mut bob = daemon.client();
    bob.register("bob").join(&party, "bob").is(200);

    let mut thief = daemon.client();
    for token in [None, Some("x".repeat(43)), bob.token.clone()] {
        thief.token = token;
        thief.ask("POST", "/auth/register?peer_id=host", "").is(409);
        thief.ask("POST", "/auth/register?peer_id=%68ost", "").is(409);
    }
    // Another spelling is another peer.
    thief.register("HOST");
    for thief in [&mut thief, &mut bob] {
        for path in [format!("/parties/{party}/peers/host"), format!("/parties/{party}")] {
            thief.ask("DELETE", &path, "").is(403);
        }
        thief.join(&party, "host").is(403);
        thief.heartbeat(&party, "host").is(403);
        thief.ask("POST", &format!("/parties/{party}/bans"), r#"{"peer_id":"host"}"#).is(403);
    }
    let there = host.get(&format!("/parties/{party}/peers")).is(200).json();
    assert_eq!(members(there.get("peers").unwrap()).len(), 2);
    host.heartbeat(&party, "host").is(200);
    // Its own token is good for another.
    host.register("host").heartbeat(&party, "host").is(200);
}

#[test]
fn a_relay_is_nobody_elses_to_overwrite() {
    let daemon = TestDaemon::start();
    let body = |id: &str, ip: &str, port: &str| {
        format!("{{\"relay_id\":\"{id}\",\"public_ip\":\"{ip}\",\"port\":{port},\"region\":\"eu\"}}")
    };
    let (mut owner, mut thief) = (daemon.client(), daemon.client());
    owner.register("owner").ask("POST", "/relays", &body("r", "203.0.113.9", "51820")).is(200);
    thief.register("thief").ask("POST", "/relays", &body("r", "203.0.113.66", "51820")).is(409);
    // The same peer id, registered by somebody else while it is in no party, is somebody else.
    thief.register("owner").ask("POST", "/relays", &body("r", "203.0.113.66", "51820")).is(409);
    for port in ["-999999", "0", "65536", "1e9", "-1", "\"-999999\"", "18446744073709551615"] {
        owner.ask("POST", "/relays", &body("r", "203.0.113.9", port)).is(422);
    }
    let long = "r".repeat(60_000);
    owner.ask("POST", "/relays", &body(&long, "203.0.113.9", "51820")).is(422);
    let own = thief.get("/relays/unknown").is(200).json();
    let own = format!("{own:?}");
    let start = own.find("lanrage-").unwrap();
    let own_id: String = own[start..].chars().take_while(|c| *c != '"').collect();
    owner.ask("POST", "/relays", &body(&own_id, "203.0.113.9", "51820")).is(409);
    let listed = thief.get("/relays/eu").is(200).body;
    assert!(listed.contains("203.0.113.9") && !listed.contains("203.0.113.66"), "{listed}");
    assert_eq!(listed.matches("relay_id").count(), 1, "{listed}");
}

#[test]
fn tokens_are_limited() {
    let daemon = Setup::new(&[("limits.tokens", "40")]).start();
    let mut client = daemon.client();
    let mut tokens = Vec::new();
    for _ in 0..100 {
        client.token = None;
        tokens.push(client.register("bob").token.clone());
    }
    assert_eq!(daemon.metric("lanrage_tokens"), 8);
    for (number, token) in tokens.into_iter().enumerate() {
        client.token = token;
        client.get("/relays").is(if number < 92 { 401 } else { 200 });
    }
    let mut member = daemon.client();
    let party = member.register("member").create("LAN", "member");
    for number in 0..50 {
        client.ask("POST", &format!("/auth/register?peer_id=p{number}"), "").is(200);
        assert!(daemon.metric("lanrage_tokens") <= 40);
    }
    // Those that nobody has used make room, those of members never.
    client.get("/relays").is(200);
    member.heartbeat(&party, "member").is(200);
    // When all of them are members', there is no room.
    let mut refused = 0;
    for number in 0..50 {
        let answer = client.ask("POST", &format!("/auth/register?peer_id=q{number}"), "");
        if answer.status == 200 {
            let mut guest = daemon.client();
            guest.token = Some(answer.text(&["token"]));
            guest.join(&party, &format!("q{number}")).is(200);
        } else {
            answer.is(503);
            refused += 1;
        }
    }
    assert_eq!((daemon.metric("lanrage_tokens"), refused), (40, 11));
}

#[test]
fn a_large_body_is_refused_before_it_is_sent() {
    let daemon = TestDaemon::start();
    let memory = daemon.memory();
    for (path, length) in [("/relays", "20000000"), ("/parties", "5000000"), ("/parties/x/join", "65537")] {
        for token in ["", "Authorization: Bearer nonsense\r\n"] {
            let start = Instant::now();
            let mut client = daemon.client();
            client
                .send(format!("POST {path} HTTP/1.1\r\nHost: x\r\n{token}Content-Length: {length}\r\n\r\n"));
            client.receive("POST").unwrap().is(413);
            assert!(start.elapsed() < Duration::from_secs(5));
        }
    }
    // One who sends all the same is cut off.
    let mut stream = connect_from([127, 0, 0, 1].into(), daemon.http);
    stream.write_all(b"POST /relays HTTP/1.1\r\nHost: x\r\nContent-Length: 20000000\r\n\r\n").unwrap();
    let piece = vec![b'x'; 100_000];
    let sent = (0..200).take_while(|_| stream.write_all(&piece).is_ok()).count();
    assert!(daemon.memory() < memory + 4096, "{} KiB before, {} after {sent}", memory, daemon.memory());
    daemon.client().get("/").is(200);
}

#[test]
fn nobody_else_can_read_the_state_and_no_token_is_in_it() {
    let admin_token = "a-secret-that-must-not-be-written";
    let settings = [("admin_token", admin_token), ("log", "trace")];
    let mut daemon = Setup::new(&settings).after("umask 000").start();
    let mut client = daemon.client();
    let mut tokens = vec![admin_token.to_owned()];
    let party = client.register("host").create("LAN", "host");
    tokens.extend(client.token.clone());
    tokens.extend(client.register("host").token.clone());
    let mut socket = Socket::of(&client, daemon.http);
    socket.hear("party_update");
    client.token = Some(admin_token.to_owned());
    client.get("/parties").is(200);
    // A token in a wrong place, and one that nobody has.
    client.get(&format!("/parties/{party}?token={}", tokens[1])).is(200);
    let backup = daemon.owner().get("/backup").is(200).body;
    drop(client);

    let directory = daemon.setup.directory();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory.state()), 0o700);
    assert_eq!(mode(&directory.state_file()), 0o600);
    assert_eq!(mode(&lanrage::daemon::socket_in(&directory.state())), 0o600);
    for entry in std::fs::read_dir(directory.state()).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()) & 0o077, 0);
    }
    assert!(daemon.terminate().0.success());
    let directory = daemon.setup.directory();
    let file = std::fs::read(directory.state_file()).unwrap();
    let log = std::fs::read(directory.log()).unwrap();
    let holds = |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
    assert!(holds(&file, &party) && holds(backup.as_bytes(), &party), "the state is somewhere else");
    assert_eq!(tokens.len(), 3);
    for token in tokens {
        assert!(!holds(&file, &token) && !holds(&log, &token) && !holds(backup.as_bytes(), &token));
        assert!(!holds(&log, &token[..16]));
    }
    assert!(!holds(&log, &party), "whoever knows a party's id may join it");
}

#[test]
fn half_a_head_holds_nothing_for_ever() {
    let daemon = Setup::new(&[("timeouts.head", "0.3"), ("timeouts.body", "0.3")]).start();
    // It listens before it has all that it needs; who is answered has found it complete.
    daemon.client().get("/").is(200);
    std::thread::sleep(Duration::from_millis(300));
    let before = daemon.descriptors();
    let halves = [
        "",
        "GET",
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nA",
        "POST /parties HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{",
    ];
    let start = Instant::now();
    let mut clients: Vec<Client> = halves
        .iter()
        .map(|half| {
            let client = daemon.client();
            client.send(half);
            client
        })
        .collect();
    for (half, client) in halves.iter().zip(&mut clients) {
        let said = String::from_utf8(client.rest()).unwrap();
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 408 "), "{half:?}: {said}");
    }
    assert!(start.elapsed() < Duration::from_secs(10));
    drop(clients);
    eventually("the descriptors are given back", || daemon.descriptors() <= before);
}

#[test]
fn ids_are_short_and_plain() {
    let daemon = TestDaemon::start();
    let mut client = daemon.client();
    let party = client.register("host").create("LAN", "host");
    let long = "x".repeat(65);
    for id in ["", "%00", "a%00b", "%20", "a%2Fb", "%C3%A9", "%zz", "..%2f", ".", "..", "-x", "_x", &long] {
        client.ask("POST", &format!("/auth/register?peer_id={id}"), "").is(422);
    }
    let (huge, escaped) = ("x".repeat(60_000), "\\u0000".repeat(10_000));
    client.ask("POST", &format!("/auth/register?peer_id={}", &huge[..7000]), "").is(422);
    let mut other = daemon.client();
    other.send(format!("POST /auth/register?peer_id={huge} HTTP/1.1\r\nHost: x\r\n\r\n"));
    other.receive("POST").unwrap().is(431);
    for id in ["", "\\u0000", "host\\u0000", &huge, &escaped, "a b", "é", "..", "-x", "_x"] {
        client.ask("POST", "/parties", &create_body("LAN", id)).is(422);
        client.join(&party, id).is(422);
        client.ask("POST", &format!("/parties/{party}/bans"), &format!("{{\"peer_id\":\"{id}\"}}")).is(422);
    }
    let mut socket = Socket::open(daemon.http);
    for id in ["", "\\u0000", "é", "..", "-x", "_x", &huge] {
        socket.join(&party, id);
        assert!(socket.hear_error().contains("String should"), "{id}");
        socket.join(id, "dave");
        assert!(socket.hear_error().contains("String should"), "{id}");
    }
    assert_eq!((daemon.metric("lanrage_parties"), daemon.metric("lanrage_peers")), (1, 1));
}

#[test]
fn a_public_key_is_no_proof_and_the_private_one_is() {
    let mut daemon = TestDaemon::start();
    let mut host = daemon.client();
    let party = host.register("host").create("LAN", "host");
    let private = PrivateKey::generate();
    let join = |daemon: &TestDaemon, peer: &str, with: &str| {
        let mut client = daemon.client();
        client.register(peer);
        let key = private.public_key();
        let info = format!("{{\"peer_id\":\"{peer}\",\"name\":\"P\",\"public_key\":\"{key}\"}}");
        let body = format!("{{\"party_id\":\"x\",\"peer_info\":{info}{with}}}");
        let answer = client.ask("POST", &format!("/parties/{party}/join"), &body);
        (client, answer)
    };
    let prove = |daemon: &TestDaemon, peer: &str, key: &PrivateKey| {
        let asked = daemon.client().get(&format!("/auth/nonce?peer_id={peer}")).is(200);
        let hub = PublicKey::decode(&asked.text(&["public_key"])).unwrap();
        let nonce = asked.text(&["nonce"]);
        let proof = proof::prove(key, &hub, &PeerId::new(peer).unwrap(), &nonce).unwrap();
        format!(",\"nonce\":\"{nonce}\",\"proof\":\"{proof}\"")
    };
    let ip = |answer: &Answer| answer.text(&["network", "virtual_ip"]);
    let (mut bob, first) = join(&daemon, "bob", &prove(&daemon, "bob", &private));
    assert!(!first.is(200).body.contains("warnings"));
    let address = ip(&bob.get(&format!("/parties/{party}")));
    // With and without bob there, before and after a restart: the key is his, and so is its address.
    for round in 0..3 {
        let (mut thief, stolen) = join(&daemon, &format!("thief{round}"), "");
        assert_ne!(ip(&stolen.clone().is(200)), address);
        assert!(stolen.body.contains("\"warnings\":[\"another peer "), "{}", stolen.body);
        let wrong = prove(&daemon, "liar", &PrivateKey::generate());
        join(&daemon, "liar", &wrong).1.is(403);
        thief.ask("DELETE", &format!("/parties/{party}/peers/thief{round}"), "").is(200);
        match round {
            0 => drop(bob.ask("DELETE", &format!("/parties/{party}/peers/bob"), "").is(200)),
            _ => {
                daemon.kill();
                daemon.restart();
            }
        }
    }
    let (_, again) = join(&daemon, "robert", &prove(&daemon, "robert", &private));
    assert_eq!(ip(&again.clone().is(200)), address);
    assert!(!again.body.contains("warnings"));
}

#[test]
fn a_websocket_that_claimed_a_free_id_is_nobody_once_that_is_taken() {
    let daemon = TestDaemon::start();
    let mut host = daemon.client();
    let party = host.register("host").create("LAN", "host");
    let mut thief = Socket::open_from([127, 0, 0, 2].into(), daemon.http);
    thief.say(r#"{"type":"auth","version":"1.0","client":"lanrage","peer_id":"bob"}"#);
    let mut bob = daemon.client();
    bob.register("bob").join(&party, "bob").is(200);
    let mut ear = Socket::of(&host, daemon.http);
    ear.hear("party_update");
    let signal = r#""to_peer_id":"host","signal_data":"from bob""#;
    thief.say(&format!("{{\"type\":\"signal\",\"party_id\":\"{party}\",{signal}}}"));
    assert!(thief.hear_error().contains("member"));
    bob.ask("POST", &format!("/parties/{party}/signals"), r#"{"to_peer_id":"host","signal_data":"really"}"#)
        .is(200);
    assert_eq!(text(&ear.hear("signal"), &["signal_data"]), "really");
}

#[test]
fn a_websocket_without_a_token_is_nobody_elses_peer() {
    let daemon = TestDaemon::start();
    let mut host = daemon.client();
    let party = host.register("host").create("LAN", "host");
    let mut bob = Socket::open(daemon.http);
    bob.join(&party, "bob");
    bob.hear("party_update");

    // bob came without a token, from 127.0.0.1; host came with one.
    let mut thief = Socket::open_from([127, 0, 0, 2].into(), daemon.http);
    for victim in ["bob", "host"] {
        thief.say(&format!(
            "{{\"type\":\"auth\",\"version\":\"1.0\",\"client\":\"lanrage\",\"peer_id\":\"{victim}\"}}"
        ));
        assert!(thief.hear_error().contains("in use"));
        thief.join(&party, victim);
        assert!(thief.hear_error().contains("in use"));
        for kind in ["leave_party", "heartbeat"] {
            thief.say(&format!("{{\"type\":\"{kind}\",\"party_id\":\"{party}\",\"peer_id\":\"{victim}\"}}"));
            assert!(thief.hear_error().contains("in use"));
        }
    }
    thief.say(&format!(
        "{{\"type\":\"signal\",\"party_id\":\"{party}\",\"to_peer_id\":\"bob\",\"signal_data\":1}}"
    ));
    assert!(thief.hear_error().contains("member"));
    // From where the host is, but without its token.
    let mut neighbour = Socket::open(daemon.http);
    neighbour.say(r#"{"type":"auth","version":"1.0","client":"lanrage","peer_id":"host"}"#);
    assert!(neighbour.hear_error().contains("in use"));
    neighbour
        .say(r#"{"type":"auth","version":"1.0","client":"lanrage","peer_id":"host","token":"nonsense"}"#);
    assert!(neighbour.hear_error().contains("token"));

    let there = host.get(&format!("/parties/{party}/peers")).is(200).json();
    let ids: Vec<&str> = members(there.get("peers").unwrap()).iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(ids, ["bob", "host"]);
    // Nothing of the party reached the thief.
    let heard = thief.try_hear(Duration::from_millis(200)).unwrap();
    assert_eq!(heard, None);
}
