//! The README's commands for a party, word for word but for the daemon's port, which is a free one here.

use crate::client::members;
use crate::harness::daemon::binary;
use crate::paste::{Home, Terminal, block};
use crate::test_daemon::{Setup, TestDaemon};
use lanrage::crypto::x25519::PrivateKey;
use lanrage::wire::json::Value;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

/// The block, for this daemon.
fn for_daemon(daemon: &TestDaemon, part: &str) -> String {
    let (usual, block) = ("http://127.0.0.1:8667", block(part));
    assert_eq!(block.matches(usual).count(), 1, "{block}");
    // Where somebody types, bash takes these for its history and for completion.
    assert!(!block.contains('\t') && block.split('!').skip(1).all(|rest| rest.starts_with(' ')), "{block}");
    block.replace(usual, &format!("http://{}", daemon.http))
}

fn home() -> Home {
    Home::new(&binary())
}

fn terminal(home: &Home) -> Terminal {
    home.terminal(Command::new("sh"), &std::env::var("PATH").unwrap())
}

/// The parties' ids.
fn parties(daemon: &TestDaemon) -> Vec<String> {
    let answer = daemon.owner().get("/parties").is(200).json();
    let Some(Value::Array(parties)) = answer.get("parties") else { panic!("{answer:?}") };
    parties.iter().map(|party| party.get("party_id").unwrap().as_str().unwrap().to_owned()).collect()
}

/// The members of the only party: names and public keys.
fn peers(daemon: &TestDaemon) -> Vec<(String, String)> {
    let ids = parties(daemon);
    let [id] = &ids[..] else { panic!("{ids:?}") };
    let answer = daemon.owner().get(&format!("/parties/{id}")).is(200).json();
    let peers = members(answer.get("party").unwrap().get("peers").unwrap());
    let key = |peer: &Value| peer.get("public_key").unwrap().as_str().unwrap().to_owned();
    let mut peers: Vec<_> = peers.iter().map(|(id, peer)| (id.clone(), key(peer))).collect();
    peers.sort();
    peers
}

/// What an app's file has to say; its private key.
#[track_caller]
fn check_file(conf: &str, ip: &str, hub: &str) -> String {
    let key = conf.lines().nth(1).unwrap().strip_prefix("PrivateKey = ").unwrap();
    let expected = format!(
        "[Interface]\nPrivateKey = {key}\nAddress = {ip}/16\n\n[Peer]\nPublicKey = {hub}\n\
         AllowedIPs = 10.66.0.0/16, 255.255.255.255/32, 224.0.0.0/4\nEndpoint = home.example.org:51820\n\
         PersistentKeepalive = 25\n"
    );
    assert_eq!(conf.trim_end(), expected.trim_end());
    key.to_owned()
}

#[test]
fn the_readme_makes_a_party() {
    let settings =
        [("public_endpoint", "home.example.org:51820"), ("timeouts.peer", "1"), ("timeouts.sweep", "1")];
    let daemon = Setup::new(&settings).start();
    let home = home();
    let hub = daemon.owner().get("/status").is(200).text(&["relay", "public_key"]);
    let mut shell = terminal(&home);
    shell.paste(&format!("export LANRAGE_STATE_DIR={}", daemon.setup.directory().state().display()));
    shell.paste(block("lanrage party create Friday"));
    let printed = shell.end();
    // Alice's file is written. Bob has no terminal that shows a picture here: he sees what would be in it.
    let alice = home.read("alice.conf");
    let bob = printed.split_once("[Interface]\n").map(|(_, rest)| format!("[Interface]\n{rest}")).unwrap();
    let keys = [check_file(&alice, "10.66.0.2", &hub), check_file(bob.trim_end(), "10.66.0.3", &hub)];
    let mode = std::fs::metadata(home.path("alice.conf")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    // Nobody has connected yet, and nobody speaks for them: they stay all the same.
    std::thread::sleep(Duration::from_secs(4));
    let public = |key: &String| PrivateKey::decode(key).unwrap().public_key().encode();
    let mut members: Vec<_> = peers(&daemon).into_iter().map(|(_, key)| key).collect();
    members.sort();
    let mut expected: Vec<_> = keys.iter().map(public).collect();
    expected.sort();
    assert_eq!(members, expected);
}

#[test]
#[ignore = "needs curl"]
fn the_session_with_curl_goes_as_it_says() {
    let daemon = TestDaemon::start();
    let mut shell = terminal(&home());
    shell.paste(&for_daemon(&daemon, "# Two players register"));
    let printed = shell.end();
    let answers: Vec<_> = printed.lines().collect();
    let [joined, party, heartbeat, kicked, left] = &answers[..] else { panic!("{printed}") };
    assert!(joined.contains("\"peers\":{\"alice\":\"10.66.0.2\""), "{joined}");
    assert!(joined.contains("\"virtual_ip\":\"10.66.0.3\""), "{joined}");
    assert!(party.contains("\"Friday night\"") && party.contains("\"bob\""), "{party}");
    for answer in [heartbeat, kicked, left] {
        assert!(answer.starts_with('{') && !answer.contains("detail"), "{answer}");
    }
    assert!(parties(&daemon).is_empty());
}
