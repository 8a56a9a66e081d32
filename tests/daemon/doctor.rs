//! `lanrage doctor` against the real daemon, and with a firewall that says what OpenWrt's would.

use crate::harness::daemon::binary;
use crate::test_daemon::{Setup, TestDaemon};
use lanrage::wire::json::{self, Value};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

fn lanrage(daemon: &TestDaemon, words: &[&str]) -> Output {
    let directory = daemon.setup.directory();
    let mut command = Command::new(binary());
    command
        .args(words)
        .env_clear()
        .env("LANRAGE_STATE_DIR", directory.state())
        .env("PATH", directory.join("bin"));
    command.output().unwrap()
}

/// A program called nft, and what it prints.
fn install_nft(daemon: &TestDaemon, rule: &str) {
    let bin = daemon.setup.directory().join("bin");
    fs::create_dir_all(&bin).unwrap();
    let script = format!(
        "#!/bin/sh\n[ \"$*\" = 'list chain inet fw4 input_wan' ] || exit 1\nexec /bin/echo 'chain input_wan {{ \n{rule}\n}}'\n"
    );
    fs::write(bin.join("nft"), script).unwrap();
    fs::set_permissions(bin.join("nft"), fs::Permissions::from_mode(0o755)).unwrap();
}

fn finding(output: &Output, topic: &str) -> (String, String) {
    let all = json::parse(&output.stdout).unwrap();
    let Some(Value::Array(found)) = all.get("findings") else { panic!("{all:?}") };
    let text = |one: &Value, name: &str| one.get(name).and_then(Value::as_str).unwrap().to_owned();
    let of =
        found.iter().find(|one| text(one, "topic") == topic).unwrap_or_else(|| panic!("{topic}: {all:?}"));
    (text(of, "verdict"), text(of, "text"))
}

#[test]
fn a_doctor_says_what_is_wrong_and_what_to_do() {
    let daemon = Setup::new(&[("public_endpoint", "192.168.1.2:51820")]).start();
    install_nft(&daemon, &format!("udp dport {} counter accept", daemon.relay.port()));
    let output = lanrage(&daemon, &["doctor", "--json"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let of = |topic| finding(&output, topic);
    assert_eq!(of("address"), ("wrong".into(), "192.168.1.2 can't be reached from the internet.".into()));
    assert_eq!((of("clock").0, of("disk").0, of("firewall").0), ("ok".into(), "ok".into(), "ok".into()));
    assert_eq!(of("reached").0, "unknown");
    // By people: a line for each, and one that says what to do.
    let output = lanrage(&daemon, &["doctor"]);
    assert_eq!((output.status.code(), output.stderr.len()), (Some(1), 0), "{output:?}");
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(
        shown.contains("address   wrong: 192.168.1.2") && shown.contains("forward the relay's UDP port"),
        "{shown}"
    );
}

#[test]
fn a_closed_firewall_is_wrong_and_one_that_is_not_there_is_not_checked() {
    let daemon = Setup::new(&[("public_endpoint", "203.0.113.7:51820")]).start();
    install_nft(&daemon, "udp dport 51821 accept");
    let output = lanrage(&daemon, &["doctor", "--json"]);
    assert_eq!((output.status.code(), finding(&output, "firewall").0), (Some(1), "wrong".into()));
    fs::remove_file(daemon.setup.directory().join("bin/nft")).unwrap();
    let output = lanrage(&daemon, &["doctor", "--json"]);
    let (verdict, text) = finding(&output, "firewall");
    assert!(verdict == "unknown" && text.contains("not checked"), "{text}");
    // What the daemon finds, `status` says, too.
    let status = String::from_utf8(lanrage(&daemon, &["status"]).stdout).unwrap();
    assert!(status.contains("Nobody from the internet has reached this machine"), "{status}");
}
