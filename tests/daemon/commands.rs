//! What an owner types to let friends in, and what comes of it.

use crate::harness::daemon::binary;
use crate::test_daemon::{Setup, TestDaemon};
use lanrage::wire::json::{self, Value};
use std::process::Command;

/// What a command prints: on standard output if it works, on standard error if not.
fn run(daemon: &TestDaemon, words: &[&str]) -> Result<String, String> {
    let mut command = Command::new(binary());
    command.args(words).env_clear().env("LANRAGE_STATE_DIR", daemon.setup.directory().state());
    let output = command.current_dir(&**daemon.setup.directory()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// The first word of the row of a table that has `word` in it.
fn first_of(table: &str, word: &str) -> String {
    let row = table.lines().find(|line| line.contains(word)).unwrap_or_else(|| panic!("{word}: {table}"));
    row.split_whitespace().next().unwrap().to_owned()
}

#[test]
fn an_owner_lets_friends_in_and_out_by_commands() {
    let daemon = Setup::new(&[("public_endpoint", "home.example.org:51820")]).start();
    let say = |words: &[&str]| run(&daemon, words).unwrap_or_else(|error| panic!("{words:?}: {error}"));
    let fail = |words: &[&str]| run(&daemon, words).unwrap_err();

    // A party has a name, a password that is made for it, and an end that can be taken back.
    let made = say(&["party", "create", "Friday games", "--password", "--ends", "6h"]);
    let password = made.lines().find_map(|line| line.strip_prefix("Its password, shown once: ")).unwrap();
    assert_eq!(password.split('-').map(str::len).collect::<Vec<_>>(), [4; 4]);
    assert!(made.contains("lanrage device add 'Friday games' NAME"), "{made}");
    say(&["party", "set", "Friday games", "--ends", "never", "--invite-only", "--name", "Friday"]);
    let overview = daemon.owner().get("/overview").is(200).json();
    let overview = format!("{overview:?}");
    assert!(
        overview.contains("invite") && overview.contains("Friday") && !overview.contains(password),
        "{overview}"
    );
    // A script is told the password, too; the daemon shows everything but that.
    let made = json::parse(say(&["party", "create", "Chess", "--password", "--json"]).as_bytes()).unwrap();
    let changed = json::parse(say(&["party", "set", "Chess", "--password", "--json"]).as_bytes()).unwrap();
    for answer in [&made, &changed] {
        assert_eq!(answer.get("password").and_then(Value::as_str).map(str::len), Some(19), "{answer:?}");
    }
    let shown = say(&["overview", "--json"]);
    assert_eq!(
        json::parse(shown.as_bytes()).unwrap().get("version"),
        Some(&Value::String(env!("CARGO_PKG_VERSION").into()))
    );
    assert!(shown.contains("\"members\":[]") && !shown.contains("\"password\":\""), "{shown}");
    let shown = say(&["overview"]);
    assert!(shown.contains("home.example.org:51820") && shown.contains("Chess ("), "{shown}");
    say(&["party", "delete", "Chess"]);
    assert!(fail(&["party", "set", "Friday", "--open", "--public"]).contains("choose one"));
    assert!(fail(&["party", "set", "Friday"]).contains("say what to change"));
    assert!(fail(&["party", "create", "x", "--ends", "6"]).contains("such as 30m"));
    assert!(fail(&["device", "add", "Saturday", "bob"]).contains("there is no party Saturday"));

    // A file that can't be written makes no device, one that can is for its owner.
    assert!(
        fail(&["device", "add", "Friday", "bob", "--conf", "no/bob.conf"])
            .contains("its directory does not exist")
    );
    assert!(
        fail(&["device", "add", "Friday", "bob", "--conf", "a name too long.conf"])
            .contains("1 to 15 letters")
    );
    assert!(say(&["device", "list", "Friday"]).contains("There are no devices"));
    say(&["device", "add", "Friday", "bob", "--conf", "bob.conf"]);
    assert!(fail(&["device", "add", "Friday", "carl", "--conf", "bob.conf"]).contains("--force"));
    // The app's own key: the file has no private one.
    let public = lanrage::crypto::x25519::PrivateKey::generate().public_key().encode();
    let shown = say(&["device", "add", "Friday", "carl", "--key", &public, "--expires", "2h"]);
    assert!(
        shown.contains("[Interface]\nAddress = 10.66.0.3/16\n") && !shown.contains("PrivateKey"),
        "{shown}"
    );
    assert!(fail(&["device", "add", "Friday", "dora", "--key", "AAAA"]).contains("44 characters"));
    let devices = say(&["device", "list", "Friday"]);
    assert!(
        devices.contains("10.66.0.2") && devices.contains("in 1 h 59 min") || devices.contains("in 2 h"),
        "{devices}"
    );
    say(&["device", "remove", "Friday", "carl"]);
    say(&["device", "remove", "Friday", &first_of(&devices, "bob")]);
    assert!(fail(&["device", "remove", "Friday", "bob"]).contains("there is no device bob"));

    let invite = say(&["invite", "create", "Friday", "--uses", "3", "--expires", "2d"]);
    assert!(invite.contains("/join#") && invite.contains("3 friends"), "{invite}");
    let code = say(&["invite", "create", "Friday", "--code"]);
    assert!(code.lines().any(|line| line.trim().len() == 8), "{code}");
    assert!(fail(&["invite", "create", "Friday", "--uses", "0"]).contains("--uses wants"));
    let invites = say(&["invite", "list", "Friday"]);
    assert!(invites.contains("3 of 3"), "{invites}");
    say(&["invite", "revoke", "Friday", &first_of(&invites, "3 of 3")]);
    assert!(!say(&["invite", "list", "Friday"]).contains("3 of 3"));

    let link = say(&["ui"]);
    assert!(link.contains("/ui/#"), "{link}");
    let events = say(&["events"]);
    for expected in ["Friday games was made", "bob", "carl"] {
        assert!(events.contains(expected), "{expected}: {events}");
    }
    say(&["party", "delete", "Friday"]);
    assert!(say(&["party", "list"]).contains("lanrage party create"));
    // What is secret is in no log.
    assert!(!daemon.log().contains(password), "{}", daemon.log());
}
