//! WebSocket sessions over real sockets.

use crate::client::{Client, join_body, text};
use crate::eventually;
use crate::socket::Socket;
use crate::test_daemon::{Setup, TestDaemon};
use std::time::{Duration, Instant};

/// How soon a change is everywhere, on a machine that is busy with other things.
const SOON: Duration = Duration::from_secs(1);

fn member(daemon: &TestDaemon, party: &str, peer: &str) -> (Client, Socket) {
    let mut client = daemon.client();
    client.register(peer).join(party, peer).is(200);
    let mut socket = Socket::of(&client, daemon.http);
    socket.hear("party_update");
    (client, socket)
}

#[test]
fn a_change_reaches_all_64_members_soon() {
    let settings = [("limits.sessions_per_source", "100"), ("limits.connections_per_source", "100")];
    let daemon = Setup::new(&settings).start();
    let mut host = daemon.client();
    let party = host.register("p0").create("LAN", "p0");
    let mut everybody = Vec::new();
    for number in 1..64 {
        everybody.push(member(&daemon, &party, &format!("p{number}")));
    }
    let mut host_socket = Socket::of(&host, daemon.http);
    host_socket.hear("party_update");
    daemon.client().register("late").join(&party, "late").is(409);
    everybody.push((host, host_socket));

    for round in 0..3 {
        let name = format!("round {round}");
        let body = join_body(&party, "p1").replace("\"Me\"", &format!("\"{name}\""));
        let start = Instant::now();
        everybody[0].0.ask("POST", &format!("/parties/{party}/join"), &body).is(200);
        for (number, (_, socket)) in everybody.iter_mut().enumerate() {
            // The one who changed is told by a whole update.
            if number == 0 {
                while text(&socket.hear("party_update"), &["party", "peers", "p1", "name"]) != name {}
            } else {
                while text(&socket.hear("peer_joined"), &["peer", "name"]) != name {}
            }
        }
        assert!(start.elapsed() < SOON, "it took {:?}", start.elapsed());
    }
    assert_eq!(daemon.metric("lanrage_websocket_sessions"), 64);
}

#[test]
fn membership_outlives_the_socket() {
    let mut daemon = TestDaemon::start();
    let mut host = daemon.client();
    let party = host.register("host").create("LAN", "host");
    let mut bob = Socket::open(daemon.http);
    bob.join(&party, "bob");
    bob.hear("party_update");
    drop(bob);
    eventually("the session ends", || daemon.metric("lanrage_websocket_sessions") == 0);
    host.get(&format!("/parties/{party}/peers/bob")).is(200);

    // A stock client that comes back says no more than this, also to a daemon that was started anew.
    let auth = r#"{"type":"auth","version":"1.0","client":"lanrage","peer_id":"bob"}"#;
    for _ in 0..2 {
        let mut bob = Socket::open(daemon.http);
        bob.say(auth);
        assert_eq!(text(&bob.hear("party_update"), &["party", "party_id"]), party);
        bob.say(&format!("{{\"type\":\"heartbeat\",\"party_id\":\"{party}\",\"peer_id\":\"bob\"}}"));
        drop(bob);
        assert!(daemon.terminate().0.success());
        daemon.restart();
    }
}

#[test]
fn a_slow_reader_is_cut_and_delays_nobody() {
    let daemon = TestDaemon::start();
    let mut host = daemon.client();
    let party = host.register("host").create("LAN", "host");
    let (_slow, mut deaf) = member(&daemon, &party, "slow");
    let (_bob, mut bob) = member(&daemon, &party, "bob");
    assert_eq!(daemon.metric("lanrage_websocket_sessions"), 2);

    let large = format!("{{\"to_peer_id\":\"slow\",\"signal_data\":\"{}\"}}", "x".repeat(15_000));
    let path = format!("/parties/{party}/signals");
    let (start, mut sent) = (Instant::now(), 0);
    let (memory, mut most) = (daemon.memory(), 0);
    while daemon.metric("lanrage_websocket_sessions") == 2 {
        for _ in 0..20 {
            sent += 1;
            // Once it is cut the signals wait for it, up to a limit.
            let status = host.ask("POST", &path, &large).status;
            assert!(matches!(status, 200 | 409), "{status}");
        }
        let asked = Instant::now();
        host.ask("POST", &path, r#"{"to_peer_id":"bob","signal_data":{}}"#).is(200);
        bob.hear("signal");
        assert!(asked.elapsed() < SOON, "bob waited for {:?}", asked.elapsed());
        most = most.max(daemon.memory());
        assert!(start.elapsed() < crate::PATIENCE, "{sent} signals and it is not cut");
    }
    assert!(most < memory + 8 * 1024, "{most} KiB, {memory} before");
    deaf.wait_for_end();
    // Cut, and still a member.
    host.get(&format!("/parties/{party}/peers/slow")).is(200);
}

#[test]
fn a_kick_reaches_the_kicked() {
    let daemon = TestDaemon::start();
    let mut host = daemon.client();
    let party = host.register("host").create("LAN", "host");
    let (_carol, mut carol) = member(&daemon, &party, "carol");
    let kicks = [("DELETE", "peers/bob", ""), ("POST", "bans", r#"{"peer_id":"bob"}"#)];
    for (method, path, body) in kicks {
        let (mut client, mut bob) = member(&daemon, &party, "bob");
        let start = Instant::now();
        host.ask(method, &format!("/parties/{party}/{path}"), body).is(200);
        assert_eq!(text(&bob.hear("peer_left"), &["peer_id"]), "bob");
        assert!(bob.hear_error().contains("removed"));
        assert_eq!(text(&carol.hear("peer_left"), &["peer_id"]), "bob");
        assert!(start.elapsed() < SOON, "it took {:?}", start.elapsed());
        client.heartbeat(&party, "bob").is(404);
        // It hears nothing of the party any more: its socket is cut.
        host.join(&party, "host").is(200);
        let signal = r#"{"to_peer_id":"carol","signal_data":{}}"#;
        host.ask("POST", &format!("/parties/{party}/signals"), signal).is(200);
        carol.hear("signal");
        assert!(bob.try_hear(SOON).is_err());
    }
    // The second was a ban.
    let mut bob = daemon.client();
    bob.register("bob").join(&party, "bob").is(403);
    let mut socket = Socket::of(&bob, daemon.http);
    socket.join(&party, "bob");
    assert!(socket.hear_error().contains("banned"));

    // The end of the party reaches all.
    host.ask("DELETE", &format!("/parties/{party}"), "").is(200);
    assert_eq!(text(&carol.hear("peer_left"), &["peer_id"]), "host");
    let update = carol.hear("party_update");
    let peers = update.get("party").and_then(|party| party.get("peers")).unwrap();
    assert!(crate::client::members(peers).is_empty());
}

/// 64 sessions whose clocks all differ, of a host that bans and unbans as fast as he can.
#[test]
fn bans_without_end_cost_little_and_somebody_elses_game_goes_on() {
    let settings = [("limits.sessions_per_source", "100"), ("limits.connections_per_source", "100")];
    let daemon = Setup::new(&settings).start();
    let mut host = daemon.client();
    let party = host.register("p0").create("LAN", "p0");
    let long = "x".repeat(90);
    let mut sockets: Vec<Socket> = Vec::new();
    for number in 0..64 {
        let peer = format!("p{number}");
        let mut client = daemon.client();
        client.token.clone_from(&host.token);
        if number > 0 {
            client.register(&peer);
        }
        let clock = format!("2026-10-{:02}T{:02}:00:00", 1 + number / 3, number % 3 * 7);
        let body =
            join_body(&party, &peer).replace("2026-11-05T12:00:00.123456", &clock).replace("Me", &long);
        client.ask("POST", &format!("/parties/{party}/join"), &body).is(200);
        let mut socket = Socket::of(&client, daemon.http);
        socket.hear("party_update");
        sockets.push(socket);
    }
    let mut honest = daemon.client();
    let other = honest.register("ann").create("other", "ann");
    std::thread::sleep(Duration::from_secs(4));
    for socket in &mut sockets {
        while socket.try_hear(Duration::from_millis(1)).unwrap().is_some() {}
    }

    let (deliveries, memory) = (daemon.metric("lanrage_websocket_deliveries_total"), daemon.memory());
    let (start, span) = (Instant::now(), Duration::from_secs(4));
    let attack = std::thread::spawn({
        let party = party.clone();
        move || {
            let mut count = 0;
            while start.elapsed() < span {
                host.ask("POST", &format!("/parties/{party}/bans"), r#"{"peer_id":"eve"}"#).is(200);
                host.ask("DELETE", &format!("/parties/{party}/bans?peer_id=eve"), "").is(200);
                count += 2;
            }
            (host, count)
        }
    });
    let mut waits = Vec::new();
    while !attack.is_finished() {
        let asked = Instant::now();
        honest.heartbeat(&other, "ann").is(200);
        waits.push(asked.elapsed());
        std::thread::sleep(Duration::from_millis(10));
    }
    let (mut host, count) = attack.join().unwrap();
    waits.sort();
    let p99 = waits[waits.len() * 99 / 100];
    let told = daemon.metric("lanrage_websocket_deliveries_total") - deliveries;
    println!("{count} bans and unbans, {told} updates told; heartbeats of another: p99 {p99:?}");
    assert!(count > 50, "{count} bans and unbans");
    // Three at once, and one in each second.
    assert!(told <= 64 * (3 + 5), "{told} updates told for {count}");
    assert!(daemon.memory() < memory + 16 * 1024, "{memory} KiB before, {} now", daemon.memory());
    assert!(p99 < Duration::from_millis(500), "{p99:?}");
    // Nobody was cut, and everybody hears of what comes last.
    host.join(&party, "p0").is(200);
    for (number, socket) in sockets.iter_mut().enumerate().skip(1) {
        let name = |message: &lanrage::wire::json::Value| match text(message, &["type"]).as_str() {
            "party_update" => text(message, &["party", "peers", "p0", "name"]),
            _ => text(message, &["peer", "name"]),
        };
        let until = Instant::now() + crate::PATIENCE;
        while socket.try_hear(Duration::from_secs(1)).unwrap().is_none_or(|message| name(&message) != "Me") {
            assert!(Instant::now() < until, "p{number} does not hear of it");
        }
    }
}
