//! A disk without room.

use crate::client::{Client, members};
use crate::eventually;
use crate::harness::directory::Directory;
use crate::inside::Inside;
use crate::sim_disk::SimDisk;
use crate::socket::Socket;
use crate::test_daemon::Setup;
use std::path::Path;
use std::process::Command;

/// What goes on while nothing can be written, and what does not.
fn check_full(host: &mut Client, party: &str) {
    let path = format!("/parties/{party}");
    for (method, path, body) in [
        ("POST", "/parties".to_owned(), crate::client::create_body("another", "host")),
        ("POST", "/auth/register?peer_id=new".to_owned(), String::new()),
        ("POST", format!("{path}/bans"), r#"{"peer_id":"bob"}"#.to_owned()),
        ("DELETE", format!("{path}/peers/bob"), String::new()),
        ("DELETE", path.clone(), String::new()),
    ] {
        let answer = host.ask(method, &path, &body).is(503);
        assert!(answer.detail().starts_with("storage full"), "{}", answer.body);
        assert!(answer.header("Retry-After").is_some());
    }
    for method in ["GET", "HEAD"] {
        host.ask(method, &path, "").is(200);
        host.ask(method, "/", "").is(200);
    }
    host.heartbeat(party, "host").is(200);
    let signal = r#"{"to_peer_id":"bob","signal_data":1}"#;
    host.ask("POST", &format!("{path}/signals"), signal).is(200);
    assert_eq!(host.metric("lanrage_store_failing"), 1);
}

#[test]
fn changes_wait_and_all_else_goes_on() {
    let disk = SimDisk::default();
    let inside = Inside::start(&disk);
    let (mut host, mut bob) = (inside.client(), inside.client());
    let party = host.register("host").create("LAN", "host");
    let address = bob.register("bob").join(&party, "bob").is(200).text(&["network", "virtual_ip"]);
    let mut socket = Socket::of(&host, inside.http);
    socket.hear("party_update");

    disk.set_room(Some(0));
    // The first one finds out.
    let answer = host.ask("POST", "/auth/register?peer_id=first", "").is(503);
    assert!(answer.detail().starts_with("storage full"), "{}", answer.body);
    check_full(&mut host, &party);
    socket.say(&format!("{{\"type\":\"leave_party\",\"party_id\":\"{party}\",\"peer_id\":\"host\"}}"));
    assert!(socket.hear_error().starts_with("storage full"));

    disk.set_room(None);
    eventually("it recovers", || host.ask("POST", "/auth/register?peer_id=new", "").status == 200);
    assert_eq!(host.metric("lanrage_store_failing"), 0);
    let carol = inside.client().register("carol").join(&party, "carol").is(200);
    let carol = carol.text(&["network", "virtual_ip"]);
    drop(socket);
    inside.stop().unwrap();

    let inside = Inside::start(&disk);
    let mut again = inside.client();
    again.token = host.token.clone();
    let found = again.get(&format!("/parties/{party}")).is(200);
    assert_eq!(found.text(&["network", "peers", "bob"]), address);
    assert_eq!(found.text(&["network", "peers", "carol"]), carol);
    again.token = bob.token.clone();
    again.heartbeat(&party, "bob").is(200);
    inside.stop().unwrap();
}

/// A daemon that is started on a full disk serves what it has.
#[test]
fn it_starts_without_room() {
    let disk = SimDisk::default();
    let inside = Inside::start(&disk);
    let mut host = inside.client();
    let party = host.register("host").create("LAN", "host");
    let token = host.token.clone();
    // Not stopped in good order: there is nothing to be tidied up at the start.
    let image = disk.after_power_cut(|| true);
    inside.stop().unwrap();

    image.set_room(Some(0));
    let inside = Inside::start(&image);
    let mut host = inside.client();
    host.token = token;
    host.get(&format!("/parties/{party}")).is(200);
    host.heartbeat(&party, "host").is(200);
    host.ask("POST", "/auth/register?peer_id=new", "").is(503);
    image.set_room(None);
    eventually("it recovers", || host.ask("POST", "/auth/register?peer_id=new", "").status == 200);
    inside.stop().unwrap();
}

const MOUNT: &str = "LANRAGE_TEST_SMALL_TMPFS";

#[test]
#[ignore = "needs root, to mount a small tmpfs in a mount namespace of its own"]
fn a_full_file_system_loses_nothing_and_recovers() {
    if let Some(mount) = std::env::var_os(MOUNT) {
        return on_small_tmpfs(mount.as_ref());
    }
    let directory = Directory::new();
    std::fs::create_dir_all(directory.state()).unwrap();
    let script = format!("mount -t tmpfs -o size=3m,mode=0700 tmpfs \"${MOUNT}\" && exec \"$0\" \"$@\"");
    let name = "full_disk::a_full_file_system_loses_nothing_and_recovers";
    let status = Command::new("unshare")
        .args(["-m", "sh", "-c", &script])
        .arg(std::env::current_exe().unwrap())
        .args([name, "--exact", "--ignored", "--nocapture"])
        .env(MOUNT, directory.state())
        .status()
        .unwrap();
    assert!(status.success());
}

fn on_small_tmpfs(mount: &Path) {
    let setup = Setup::new(&[("limits.parties_hosted", "4000"), ("limits.parties_joined", "4000")]);
    let mut daemon = setup.in_state(mount).start();
    let ballast = mount.join("ballast");
    std::fs::write(&ballast, vec![1; 1 << 20]).unwrap();
    let mut host = daemon.client();
    let party = host.register("host").create("LAN", "host");
    daemon.client().register("bob").join(&party, "bob").is(200);
    let mut made = vec![party.clone()];
    loop {
        let name = format!("{:0>100}", made.len());
        let answer = host.ask("POST", "/parties", &crate::client::create_body(&name, "host"));
        if answer.status == 503 {
            assert!(answer.detail().starts_with("storage full"), "{}", answer.body);
            break;
        }
        made.push(answer.is(200).text(&["party_id"]));
        assert!(made.len() < 3900, "three megabytes never fill up");
    }
    check_full(&mut host, &party);
    std::fs::remove_file(&ballast).unwrap();
    eventually("it recovers", || host.ask("POST", "/auth/register?peer_id=new", "").status == 200);
    daemon.kill();
    daemon.restart();
    let mut owner = daemon.owner();
    for party in &made {
        owner.get(&format!("/parties/{party}")).is(200);
    }
    let peers = owner.get(&format!("/parties/{party}/peers")).is(200).json();
    assert_eq!(members(peers.get("peers").unwrap()).len(), 2);
    println!("full after {} parties", made.len());
}
