//! SIGHUP: new settings while people play.

use crate::client::{Client, create_body};
use crate::eventually;
use crate::player::{introduce, reach};
use crate::relay::party;
use crate::socket::Socket;
use crate::test_daemon::{Setup, TestDaemon};
use lanrage::wire::json::Value;
use rustix::process::Signal;
use std::time::{Duration, Instant};

/// How our relay presents itself: endpoint, region and capacity.
fn own_relay(client: &mut Client) -> (String, u64, String, u64) {
    let relays = client.get("/relays").is(200).json();
    let Some(Value::Array(relays)) = relays.get("relays") else { panic!("{relays:?}") };
    let text = |name: &str| relays[0].get(name).unwrap().as_str().unwrap().to_owned();
    let number = |name: &str| match relays[0].get(name) {
        Some(Value::Number(number)) => number.parse().unwrap(),
        other => panic!("{name} is {other:?}"),
    };
    (text("public_ip"), number("port"), text("region"), number("capacity"))
}

/// Writes the file, sends SIGHUP and waits until the log says something about it.
fn reload(daemon: &TestDaemon, file: &str, answer: &str) {
    let before = daemon.setup.log().len();
    daemon.setup.write_file(file);
    daemon.signal(Signal::HUP);
    eventually(answer, || daemon.setup.log()[before..].contains(answer));
}

#[test]
fn new_settings_come_in_and_nobody_notices() {
    let before = "region = \"old\"\npublic_endpoint = \"a.example:1\"\nmax_clients = 5\n\
                  admin_token = \"the-old-admin-token\"\n[limits]\nparties = 1000\n";
    let mut daemon = Setup::new(&[("limits.parties_joined", "7")]).with_file(before).start();
    let (mut ann, mut bob, mut a, mut b, id) = party(&daemon);
    introduce(&mut a, &mut b, daemon.relay);
    reach(&mut a, &mut b, "before");
    reach(&mut b, &mut a, "before, too");
    let mut socket = Socket::of(&bob, daemon.http);
    socket.hear("party_update");
    assert_eq!(own_relay(&mut ann), ("a.example".to_owned(), 1, "old".to_owned(), 5));
    let mut admin = daemon.client();
    admin.token = Some("the-old-admin-token".to_owned());
    admin.get("/status").is(200);
    let (sessions, pid) = (a.sessions + b.sessions, daemon.pid());

    let after = "region = \"new\"\npublic_endpoint = \"b.example:2\"\nmax_clients = 6\nlog = \"debug\"\n\
                 admin_token = \"the-new-admin-token\"\ntrusted_proxies = [\"127.0.0.1\"]\n\
                 subnet = \"10.77.0.0/16\"\nstate_dir = \"/nowhere\"\n\
                 [limits]\nparties_hosted = 1\nparties_joined = 1\nconnections_per_source = 9\n\
                 [rates]\ncreations = \"1/3\"\n[timeouts]\ntoken = 100\n";
    reload(&daemon, after, "restart to change: subnet");
    let log = daemon.setup.log();
    // The environment counts before the file, as at the start: state_dir and parties_joined are not new.
    let changed = "SIGHUP: changed public_endpoint, region, log, max_clients, admin_token, trusted_proxies, \
                   limits.parties, limits.parties_hosted, limits.connections_per_source, rates.creations, \
                   timeouts.token\n";
    assert!(log.contains(changed), "{log}");
    assert!(log.contains("restart to change: subnet\n"), "{log}");
    assert!(!log.contains("DEBUG"));

    assert_eq!(own_relay(&mut ann), ("b.example".to_owned(), 2, "new".to_owned(), 6));
    ann.ask("POST", "/parties", &create_body("another", "ann")).is(409);
    admin.get("/status").is(401);
    admin.token = Some("the-new-admin-token".to_owned());
    admin.get("/status").is(200);
    // A proxy on the loopback is a source like any other, and Ann's create was its first.
    let mut many = daemon.client();
    let statuses: Vec<u16> =
        (0..5).map(|n| many.ask("POST", &format!("/auth/register?peer_id=m{n}"), "").status).collect();
    assert_eq!(statuses, [200, 200, 429, 429, 429]);
    many.forwarded_for = Some("198.51.100.1");
    let life = many.ask("POST", "/auth/register?peer_id=short", "").is(200);
    assert!(!life.body.is_empty());
    eventually("it logs more", || daemon.setup.log().contains("DEBUG"));

    // One more than nine from one address takes the place of the one that is idle for longest.
    reload(&daemon, &after.replace("trusted_proxies = [\"127.0.0.1\"]\n", ""), "changed trusted_proxies\n");
    let mut crowd: Vec<Client> =
        (0..12).map(|_| Client::connect_from([127, 0, 0, 2].into(), daemon.http)).collect();
    let mut answered = || crowd.iter_mut().filter_map(|client| client.try_ask("GET", "/", "").ok()).count();
    answered();
    assert_eq!(answered(), 9);

    // Every connection, session and flow is the same as before.
    let signal = r#"{"to_peer_id":"bob","signal_data":{"offer":1}}"#;
    ann.ask("POST", &format!("/parties/{id}/signals"), signal).is(200);
    socket.hear("signal");
    reach(&mut a, &mut b, "after");
    reach(&mut b, &mut a, "after, too");
    assert_eq!(a.sessions + b.sessions, sessions, "they had to greet each other again");
    assert!(daemon.is_running() && daemon.pid() == pid);
    bob.heartbeat(&id, "bob").is(200);
}

#[test]
fn a_file_that_is_wrong_changes_nothing() {
    let daemon = Setup::new(&[]).with_file("region = \"old\"\n").start();
    let mut ann = daemon.client();
    ann.register("ann");
    let path = daemon.setup.file().display().to_string();
    for (file, error) in [
        ("region = \"new\"\nhtttp = 1\n", "line 2: there is no setting \"htttp\""),
        (
            "region = \"new\"\nmax_clients = 0\n",
            "line 2: max_clients = \"0\" can't be used: expected a whole",
        ),
        ("region = \"new\"\n[limits\n", "line 2: no valid TOML: "),
    ] {
        reload(&daemon, file, &format!("the settings stay as they are: {path}, {error}"));
        assert_eq!(own_relay(&mut ann).2, "old");
    }
    std::fs::remove_file(daemon.setup.file()).unwrap();
    daemon.signal(Signal::HUP);
    eventually("it says so", || daemon.setup.log().contains(&format!("can't read the settings file {path}")));
    // A pipe would hold up the whole daemon until somebody writes to it.
    let made = std::process::Command::new("mkfifo").arg(daemon.setup.file()).status().unwrap();
    assert!(made.success());
    daemon.signal(Signal::HUP);
    eventually("it does not wait", || daemon.setup.log().contains("is not a regular file"));
    assert_eq!(own_relay(&mut ann).2, "old");
    std::fs::remove_file(daemon.setup.file()).unwrap();
    reload(&daemon, "region = \"new\"\n", "SIGHUP: changed region\n");
    assert_eq!(own_relay(&mut ann).2, "new");
}

#[test]
fn shorter_time_outs_count_for_who_is_there() {
    let daemon = Setup::new(&[]).with_file("").start();
    let mut ann = daemon.client();
    ann.register("ann").create("LAN", "ann");
    reload(
        &daemon,
        "[timeouts]\npeer = 0.5\nsweep = 0.2\n",
        "SIGHUP: changed timeouts.peer, timeouts.sweep\n",
    );
    // With the old ones it would be five minutes.
    eventually("she is gone", || daemon.metric("lanrage_peers") == 0);
}

#[test]
fn many_at_once_are_one_and_say_little() {
    let daemon = Setup::new(&[("log", "debug")]).with_file("subnet = \"10.77.0.0/16\"\n").start();
    daemon.setup.write_file("subnet = \"10.78.0.0/16\"\n");
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(2500) {
        daemon.signal(Signal::HUP);
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_millis(1500));
    let log = daemon.setup.log();
    let reloads = log.matches("SIGHUP: no setting has changed").count();
    let most = start.elapsed().as_secs() as usize + 1;
    assert!((2..=most).contains(&reloads), "{reloads} in {:?}:\n{log}", start.elapsed());
    assert_eq!(log.matches("restart to change: subnet").count(), 1, "{log}");
    daemon.client().get("/").is(200);
}
