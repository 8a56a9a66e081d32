//! The README's commands for a party, word for word but for the daemon's port, which is a free one here.

use crate::client::members;
use crate::eventually;
use crate::harness::daemon::binary;
use crate::paste::{Home, READY, Terminal, block};
use crate::test_daemon::{Setup, TestDaemon};
use lanrage::crypto::x25519::PrivateKey;
use lanrage::wire::json::Value;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;
use std::time::Duration;

/// All that the script asks of busybox, besides its shell.
const APPLETS: [&str; 4] = ["cat", "grep", "mkdir", "sed"];

/// The block, for this daemon.
fn for_daemon(daemon: &TestDaemon, part: &str) -> String {
    let (usual, block) = ("http://127.0.0.1:8667", block(part));
    assert_eq!(block.matches(usual).count(), 1, "{block}");
    // Where somebody types, bash takes these for its history and for completion.
    assert!(!block.contains('\t') && block.split('!').skip(1).all(|rest| rest.starts_with(' ')), "{block}");
    block.replace(usual, &format!("http://{}", daemon.http))
}

fn home() -> Home {
    let home = Home::new(&binary());
    // A heartbeat is every 30 s, and nobody waits for that here.
    let sleep = home.path("bin/sleep");
    std::fs::write(&sleep, "#!/bin/sh\n[ \"$1\" = 30 ] && exec /bin/sleep 0.2\n").unwrap();
    std::fs::set_permissions(&sleep, PermissionsExt::from_mode(0o755)).unwrap();
    home
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

/// What an app's file has to say, but for the private key, which is the second answer.
#[track_caller]
fn check_file(home: &Home, who: &str, ip: &str, hub: &str) -> String {
    let conf = home.read(&format!("party/{who}.conf"));
    let key = conf.lines().nth(1).unwrap().strip_prefix("PrivateKey = ").unwrap();
    let expected = format!(
        "[Interface]\nPrivateKey = {key}\nAddress = {ip}/16\n\n[Peer]\nPublicKey = {hub}\n\
         Endpoint = home.example.org:51820\nAllowedIPs = 10.66.0.0/16, 255.255.255.255/32, 224.0.0.0/4\n\
         PersistentKeepalive = 25\n"
    );
    assert_eq!(conf, expected);
    key.to_owned()
}

#[test]
#[ignore = "needs curl"]
fn the_readme_makes_a_party() {
    let settings =
        [("public_endpoint", "home.example.org:51820"), ("timeouts.peer", "3"), ("timeouts.sweep", "1")];
    let daemon = Setup::new(&settings).start();
    let home = home();
    let hub = daemon.owner().get("/status").is(200).text(&["relay", "public_key"]);
    let mut shell = terminal(&home);
    shell.paste(&for_daemon(&daemon, "party.sh"));
    let printed = shell.until(READY);
    let line = |who: &str, ip: &str| {
        format!("{who} is {ip}: {}\n", home.path(&format!("party/{who}.conf")).display())
    };
    let expected = line("alice", "10.66.0.2") + &line("bob", "10.66.0.3");
    assert!(printed.starts_with(&expected), "{printed}");
    let keys = [check_file(&home, "alice", "10.66.0.2", &hub), check_file(&home, "bob", "10.66.0.3", &hub)];
    let public = |key: &String| PrivateKey::decode(key).unwrap().public_key().encode();
    let expected = vec![("alice".to_owned(), public(&keys[0])), ("bob".to_owned(), public(&keys[1]))];
    assert_eq!(peers(&daemon), expected);
    for file in ["alice.key", "bob.key", "alice.token", "bob.conf"] {
        let mode = std::fs::metadata(home.path("party").join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }

    // Nobody has connected yet: they are waited for, for as long as it runs.
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(peers(&daemon), expected);
    let id = parties(&daemon);
    drop(shell);

    // Another friend, and nothing is new for the others.
    let mut shell = terminal(&home);
    shell.paste("cd ~/party && sh party.sh alice bob carol");
    let printed = shell.until(READY);
    assert!(printed.contains(&line("carol", "10.66.0.4")), "{printed}");
    assert_eq!((parties(&daemon), peers(&daemon).len()), (id.clone(), 3));
    drop(shell);

    // Everybody was away for too long: another party, the same files.
    eventually("the party ends", || parties(&daemon).is_empty());
    let mut shell = terminal(&home);
    shell.paste("cd ~/party && sh party.sh alice bob");
    shell.until(READY);
    assert_ne!(parties(&daemon), id);
    assert_eq!(peers(&daemon), expected);
    let again = [check_file(&home, "alice", "10.66.0.2", &hub), check_file(&home, "bob", "10.66.0.3", &hub)];
    assert_eq!(again, keys);
}

#[test]
#[ignore = "needs curl"]
fn what_the_script_cannot_do_it_says() {
    let mut daemon = TestDaemon::start();
    let home = home();
    let mut shell = terminal(&home);
    shell.paste(&for_daemon(&daemon, "party.sh"));
    shell.until(READY);
    drop(shell);
    let before = std::fs::read_dir(home.path("party")).unwrap().count();
    let run = |who: &str| {
        let mut shell = terminal(&home);
        shell.paste(&format!("cd ~/party; sh party.sh {who}; echo status $?"));
        shell.end()
    };
    for name in ["'alice smith'", "../eve", "J\u{f6}rg", "''", "'*'", "-n", ".hidden"] {
        let printed = run(name);
        assert!(printed.contains("letters") && printed.ends_with("status 1\n"), "{name}: {printed}");
    }
    assert_eq!(run(""), "sh party.sh NAME...\nstatus 1\n");
    let long = "x".repeat(65);
    let printed = run(&long);
    assert!(printed.contains("peer_id") && printed.ends_with("status 1\n"), "{printed}");
    for file in ["key", "token"] {
        std::fs::remove_file(home.path(&format!("party/{long}.{file}"))).unwrap();
    }
    assert_eq!(std::fs::read_dir(home.path("party")).unwrap().count(), before);

    // Somebody else's name, or the file with the token is lost.
    std::fs::remove_file(home.path("party/bob.token")).unwrap();
    let printed = run("alice bob");
    assert!(printed.contains("bob: {\"detail\":\"") && printed.ends_with("status 1\n"), "{printed}");

    daemon.terminate();
    let printed = run("alice");
    assert!(printed.contains("lanrage status") && printed.ends_with("status 1\n"), "{printed}");
}

/// With the shell and the tools of a router, and no others.
#[test]
#[ignore = "needs curl and busybox"]
fn a_router_can_run_the_script() {
    let daemon = TestDaemon::start();
    let home = home();
    let find = |program: &str| {
        let path = std::env::var_os("PATH").unwrap();
        std::env::split_paths(&path)
            .map(|directory| directory.join(program))
            .find(|file| file.exists())
            .unwrap()
    };
    let busybox = find("busybox");
    for applet in APPLETS.into_iter().chain(["sh"]) {
        symlink(&busybox, home.path(&format!("bin/{applet}"))).unwrap();
    }
    symlink(find("curl"), home.path("bin/curl")).unwrap();
    let mut shell = Command::new(home.path("bin/sh"));
    shell.arg("-s");
    let mut shell = home.terminal(shell, "");
    shell.paste(&for_daemon(&daemon, "party.sh"));
    let printed = shell.until(READY);
    assert_eq!(printed.lines().count(), 3, "{printed}");
    assert_eq!(peers(&daemon).len(), 2);
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
