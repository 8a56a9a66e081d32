//! The README's way from nothing to two friends in a party, with the files that it gives them.

use crate::harness::daemon::binary;
use crate::harness::directory::unique;
use crate::harness::namespace::Namespace;
use crate::lab::{Lab, Mapping};
use crate::paste::{Home, block};
use crate::server::{HUB_IP, RELAY, Server};
use lanrage::wire::json::Value;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

const ALICE: Ipv4Addr = Ipv4Addr::new(10, 66, 0, 2);
const BOB: Ipv4Addr = Ipv4Addr::new(10, 66, 0, 3);
/// Without a sign of life, after which a member that has to give one is gone.
const AWAY: Duration = Duration::from_secs(10);

/// A friend's machine with a WireGuard app, switched on.
struct Friend {
    host: Rc<Namespace>,
    /// Under a name of its own: it becomes the interface's.
    file: PathBuf,
}

impl Friend {
    fn connect(host: Rc<Namespace>, conf: &str) -> Self {
        let file = std::env::temp_dir().join(format!("lr{}.conf", unique()));
        std::fs::write(&file, conf).unwrap();
        let friend = Friend { host, file };
        friend.switch("up");
        friend
    }

    fn switch(&self, way: &str) {
        self.host.run(&format!("wg-quick {way} {}", self.file.display()));
    }

    #[track_caller]
    fn ping(&self, ip: Ipv4Addr) {
        self.host.run(&format!("ping -n -q -i 0.2 -c 1 -w 30 {ip}"));
    }
}

impl Drop for Friend {
    fn drop(&mut self) {
        let down = ["netns", "exec", self.host.name(), "wg-quick", "down"];
        let _ = Command::new("ip").args(down).arg(&self.file).output();
        let _ = std::fs::remove_file(&self.file);
    }
}

#[test]
#[ignore = "needs root and minutes: network namespaces, wireguard-go, curl"]
fn two_friends_play_with_the_files_of_the_readme() {
    let lab = Lab::new();
    let mut server = Server::asleep(lab.host(1));
    let away = AWAY.as_secs().to_string().leak();
    server.settings = vec![
        ("LANRAGE_PUBLIC_ENDPOINT", RELAY),
        ("LANRAGE_TIMEOUTS_PEER", away),
        ("LANRAGE_TIMEOUTS_SWEEP", "1"),
    ];
    server.start();
    let home = Home::new(&binary());
    let path = std::env::var("PATH").unwrap();
    let mut terminal = home.terminal(server.host.command("sh"), &path);
    terminal.paste(&format!("export LANRAGE_STATE_DIR={}", server.directory().join("state").display()));
    terminal.paste(block("lanrage party create Friday"));
    // Bob has a PC, and Carol never connects.
    terminal.paste("lanrage device add Friday carol --conf carol.conf");
    let printed = terminal.end();
    let bob = printed.split_once("[Interface]\n").unwrap().1.split_once("carol is in").unwrap().0;
    let bob = format!("[Interface]\n{bob}");

    let nat = lab.nat(20, Mapping::Symmetric);
    let alice = Friend::connect(lab.host(10), &home.read("alice.conf"));
    let bob = Friend::connect(nat.host(2), &bob);
    alice.ping(HUB_IP);
    bob.ping(HUB_IP);
    alice.ping(BOB);
    bob.ping(ALICE);
    let status = server.owner().get("/status").is(200).json();
    let Some(Value::Array(connected)) = status.get("members") else { panic!("{status:?}") };
    let paths: Vec<_> = connected.iter().map(|member| member.get("path").and_then(Value::as_str)).collect();
    assert_eq!(paths, [Some("hub"); 2], "{connected:?}");

    // Nobody has to keep anything running, and nobody who was invited is forgotten.
    let members = || server.owner().metric("lanrage_peers");
    std::thread::sleep(AWAY + Duration::from_secs(10));
    assert_eq!(members(), 3);
    alice.ping(BOB);
    bob.ping(ALICE);
}
