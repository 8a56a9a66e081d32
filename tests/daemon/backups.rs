//! A backup that a page downloads, and one that it sends back, against the real binary.

use crate::client::{Client, text};
use crate::eventually;
use crate::harness::directory::Directory;
use crate::player::Player;
use crate::test_daemon::{Setup, TestDaemon};
use lanrage::crypto::x25519::{PrivateKey, PublicKey};
use lanrage::daemon::settings::Settings;
use lanrage::daemon::{Daemon, Ending, now, socket_in};
use lanrage::time::Now;
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A page as `lanrage ui` opens it.
fn page(mut owner: Client, mut client: Client) -> Client {
    let setup = owner.ask("POST", "/ui/setups", "").is(200).text(&["setup"]);
    let token =
        client.ask("POST", "/ui/sessions", &format!("{{\"setup\":\"{setup}\"}}")).is(200).text(&["token"]);
    client.with_token(&token)
}

fn page_of(daemon: &TestDaemon) -> Client {
    page(daemon.owner(), daemon.client())
}

/// One whose ports are the same after a restart.
fn with_ports() -> Setup {
    let http = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let relay = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    Setup::new(&[("http", &http), ("relay", &relay), ("log", "info")])
}

fn names(state: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(state)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn devices(client: &mut Client, party: &str) -> String {
    client.get(&format!("/parties/{party}/devices")).is(200).body
}

fn hub_key(client: &mut Client) -> String {
    client.get("/status").is(200).text(&["relay", "public_key"])
}

/// How much later it is by the daemon's clock.
static LATER: AtomicU64 = AtomicU64::new(0);

fn clock() -> Now {
    let (later, now) = (Duration::from_secs(LATER.load(Ordering::Relaxed)), now());
    Now { instant: now.instant + later, unix: now.unix + later }
}

#[test]
fn a_backup_is_for_a_page_that_was_opened_just_now() {
    let directory = Directory::new();
    let state = directory.state();
    let (end, ended) = smol::channel::bounded::<()>(1);
    let (tell, told) = std::sync::mpsc::channel();
    let thread = std::thread::spawn({
        let state = state.clone();
        move || {
            let mut config = Settings { state_dir: state, ..Settings::default() };
            for (key, value) in [("http", "127.0.0.1:0"), ("relay", "127.0.0.1:0")] {
                config.set(key, value, "test").unwrap();
            }
            let daemon = Daemon::open(config).unwrap().by_clock(clock);
            tell.send(daemon.addresses().http).unwrap();
            daemon.run(async move { _ = ended.recv().await }).unwrap()
        }
    });
    let http = told.recv().unwrap();
    let owner = || Client::unix(&socket_in(&state));
    let mut page_session = page(owner(), Client::connect(http));

    let backup = page_session.get("/backup").is(200);
    assert_eq!(backup.header("Content-Disposition"), Some("attachment; filename=\"lanrage.backup\""));
    assert_eq!(backup.header("Cache-Control"), Some("no-store"));
    assert!(
        backup.body.starts_with("{\"secret\":\"Keep this file like a password."),
        "{}",
        &backup.body[..90]
    );
    assert!(backup.body.contains("\"hub_private_key\",\"value\":\"") && backup.body.ends_with("}\n"));
    // Who looks at it without secrets is no news. One at a time: the first is over a moment after its last byte.
    let mut redacted = page_session.get("/backup?secrets=redacted");
    eventually("it is the second one's turn", || {
        if redacted.status == 503 {
            redacted = page_session.get("/backup?secrets=redacted");
        }
        redacted.status != 503
    });
    let redacted = redacted.is(200);
    assert!(
        redacted.body.contains("\"hub_private_key\",\"value\":null") && !redacted.body.contains("password")
    );
    let events = owner().get("/events").is(200).body;
    assert_eq!(
        events.matches("\"kind\":\"backup\",\"from\":\"127.0.0.1\",\"text\":\"A backup, with").count(),
        1,
        "{events}"
    );
    // A page of another origin gets nothing, whatever it knows.
    let token = page_session.token.clone().unwrap();
    let asked = |method: &str, path: &str, more: &str| {
        let mut client = Client::connect(http);
        let host = http.to_string();
        client.send(format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n{more}\r\n"
        ));
        client.answer()
    };
    for (method, path) in [("GET", "/backup"), ("POST", "/restore")] {
        assert!(
            asked(method, path, "Origin: http://evil.example\r\n")
                .is(403)
                .detail()
                .contains("another origin")
        );
        let rebound = format!(
            "{method} {path} HTTP/1.1\r\nHost: evil.example\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        let mut client = Client::connect(http);
        client.send(rebound);
        client.answer().is(403);
    }
    asked("GET", "/backup", &format!("Origin: http://{http}\r\n")).is(200);

    LATER.store(601, Ordering::Relaxed);
    let mut page_session = Client::connect(http).with_token_of(&page_session);
    assert!(page_session.get("/backup").is(403).detail().contains("`lanrage ui`"));
    page_session.get("/backup?secrets=redacted").is(200);
    // Before a byte of the body is taken, for which nobody waits.
    let refused = asked("POST", "/restore", "Content-Length: 1000000\r\n");
    assert!(refused.is(403).detail().contains("`lanrage ui`"));
    page(owner(), Client::connect(http)).get("/backup").is(200);
    end.close();
    assert_eq!(thread.join().unwrap(), Ending::Stopped);
}

#[test]
fn another_machine_goes_on_with_a_backup() {
    let home = TestDaemon::start();
    let party = r#"{"name":"Friday games","access":"invite","permanent":true}"#;
    let party = home.owner().ask("POST", "/parties", party).is(200).text(&["party_id"]);
    let key = PrivateKey::generate();
    let device = format!("{{\"name\":\"Phone\",\"public_key\":\"{}\"}}", key.public_key().encode());
    let device = home.owner().ask("POST", &format!("/parties/{party}/devices"), &device).is(200).json();
    let backup = page_of(&home).get("/backup").is(200).body;
    assert!(
        home.log().contains("INFO a backup, with the hub's private key, was given to 127.0.0.1\n"),
        "{}",
        home.log()
    );

    let mut there = with_ports().start();
    there.owner().ask("POST", "/parties", r#"{"name":"Another"}"#).is(200);
    let state = there.setup.directory().state();
    let before = hub_key(&mut there.owner());
    let mut session = page_of(&there);
    let answer = session.ask("POST", "/restore", &backup).is(200);
    assert_eq!(answer.text(&["status"]), "restarting");
    let hub = hub_key(&mut home.owner());
    assert_ne!(hub, before);
    let is_there = |there: &TestDaemon| {
        let asked = std::panic::catch_unwind(|| there.owner().try_ask("GET", "/status", ""));
        asked.is_ok_and(|answer| answer.is_ok_and(|answer| answer.text(&["relay", "public_key"]) == hub))
    };
    eventually("it has started anew", || is_there(&there));
    assert_eq!(devices(&mut there.owner(), &party), devices(&mut home.owner(), &party));
    assert!(!there.owner().get("/parties").is(200).body.contains("Another"));
    // Whoever was at the page has to be let in anew.
    there.client().with_token_of(&session).get("/overview").is(401);
    // The device's file has this key and address, and these are good.
    let hub_ip: std::net::Ipv4Addr = text(&device, &["virtual_ip"]).parse().unwrap();
    let mut phone = Player::new(key, hub_ip);
    phone.greet_hub(PublicKey::decode(&hub).unwrap(), there.relay);
    eventually("the device is at the hub", || {
        phone.pump();
        phone.sessions > 0
    });
    // What was there is kept, and nothing else is left.
    let files = names(&state);
    assert_eq!(files.len(), 3, "{files:?}");
    assert!(files[0] == "control.sock" && files[1] == "lanrage.redb", "{files:?}");
    assert!(files[2].starts_with("lanrage.redb.replaced-"), "{files:?}");
    assert!(
        there.log().contains("the state is that of a backup from 127.0.0.1 now; what was there is in "),
        "{}",
        there.log()
    );
    // It is the same process, which ends as before.
    assert!(there.terminate().0.success());
    there.restart();
    assert_eq!(hub_key(&mut there.owner()), hub);
}

#[test]
fn what_is_no_backup_changes_nothing() {
    let daemon = TestDaemon::start();
    let party = daemon.owner().ask("POST", "/parties", r#"{"name":"LAN"}"#).is(200).text(&["party_id"]);
    let state = daemon.setup.directory().state();
    let whole = daemon.owner().get("/backup").is(200).body;
    let redacted = daemon.owner().get("/backup?secrets=redacted").is(200).body;
    let newer = "{\"table\":\"meta\",\"key\":\"schema_version\",\"value\":99}\n{\"rows\":1}\n";
    for (body, said) in [
        ("", "it is not whole"),
        ("no backup", "can't be used"),
        (&whole[..whole.len() - 3], "its last line is missing"),
        (&whole[whole.find('\n').unwrap() + 1..whole.len() - 13], "can't be used"),
        (&redacted, "without secrets"),
        (newer, "use a newer lanrage"),
    ] {
        let detail = page_of(&daemon).ask("POST", "/restore", body).is(400).detail();
        assert!(
            detail.starts_with("This backup can't be used: ") && detail.contains(said),
            "{said}: {detail}"
        );
    }
    let session = page_of(&daemon);
    let head = |more: &str| {
        let token = session.token.as_deref().unwrap();
        format!("POST /restore HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n{more}\r\n")
    };
    for (more, status) in [("Transfer-Encoding: chunked\r\n", 411), ("Content-Length: 67108865\r\n", 413)] {
        let mut client = daemon.client();
        client.send(head(more));
        client.answer().is(status);
        assert!(client.is_ended());
    }
    // One that comes is the only one, and is of no account if it breaks off.
    let mut first = daemon.client();
    first.send(head("Content-Length: 100000\r\nExpect: 100-continue\r\n"));
    first.answer().is(100);
    eventually("it has begun", || names(&state).iter().any(|name| name.ends_with(".uploaded")));
    assert!(page_of(&daemon).ask("POST", "/restore", &whole).is(503).detail().starts_with("another backup"));
    page_of(&daemon).get("/backup").is(503);
    drop(first);
    eventually("it is forgotten", || names(&state).len() == 2);
    // However long it is, it does not fill the memory.
    let memory = daemon.memory();
    let long = "{\"table\":\"relays\"".repeat(40 << 20 >> 18) + "\n";
    let long = long.repeat((40 << 20) / long.len());
    eventually("its turn", || page_of(&daemon).ask("POST", "/restore", &long).status == 400);
    assert!(
        daemon.status("VmHWM") < memory + 8192,
        "{memory} KiB before, {} at most",
        daemon.status("VmHWM")
    );
    daemon.owner().get(&format!("/parties/{party}")).is(200);
    assert_eq!(names(&state), ["control.sock", "lanrage.redb"]);
}
