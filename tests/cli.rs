//! The command line, as its users meet it: the real binary, real daemons, one state directory each.

mod harness;

use harness::client::Client;
use harness::daemon::{Daemon, binary};
use harness::directory::Directory;
use harness::process::Process;
use harness::{PATIENCE, eventually};
use lanrage::wire::json::{self, Value};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ADMIN: &str = "an-admin-token-for-tests";
/// RFC 7748, section 6.1.
const PRIVATE_KEY: &str = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
const PUBLIC_KEY: &str = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";

/// A directory to work in.
struct Scratch(Directory);

impl Scratch {
    fn new() -> Self {
        let directory = Directory::new();
        std::fs::write(directory.join("empty.toml"), "").unwrap();
        Scratch(directory)
    }

    fn path(&self, name: &str) -> String {
        self.0.text_path(name)
    }

    fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> String {
        std::fs::write(self.0.join(name), contents).unwrap();
        self.path(name)
    }

    /// A command of which nothing depends on this machine.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"LANRAGE_") {
                command.env_remove(name);
            }
        }
        command.env("LANRAGE_CONFIG", self.path("empty.toml")).env("HOME", &*self.0).current_dir(&*self.0);
        command.args(arguments).stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        Outcome::of(&mut self.command(arguments))
    }

    /// Runs a client command for the daemon that has its state in `state`.
    fn ask(&self, arguments: &[&str]) -> Outcome {
        Outcome::of(self.command(arguments).env("LANRAGE_STATE_DIR", self.path("state")))
    }

    /// The names in the directory that contain `part`.
    fn names(&self, part: &str) -> Vec<String> {
        self.0.names().into_iter().filter(|name| name.contains(part)).collect()
    }
}

/// How a command ended.
#[derive(Debug)]
struct Outcome {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Outcome {
    fn of(command: &mut Command) -> Self {
        Self::from_child(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    fn from_child(child: Child) -> Self {
        let output = child.wait_with_output().unwrap();
        Outcome {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Standard output of a command that went well.
    #[track_caller]
    fn good(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (Some(0), ""), "{self:?}");
        self.out
    }

    /// One line of JSON from a command that went well.
    #[track_caller]
    fn json(self) -> Value {
        let out = self.good();
        assert_eq!(out.matches('\n').count(), 1, "{out}");
        json::parse(out.as_bytes()).unwrap()
    }

    /// What a command said that ended with `code` and printed nothing else.
    #[track_caller]
    fn bad(self, code: i32) -> String {
        assert_eq!((self.code, self.out.as_str()), (Some(code), ""), "{self:?}");
        assert!(self.err.starts_with("lanrage: ") && self.err.ends_with('\n'), "{}", self.err);
        self.err
    }
}

fn start(scratch: &Scratch) -> Daemon {
    start_in(scratch, "state", &[])
}

fn start_in(scratch: &Scratch, state: &str, more: &[&str]) -> Daemon {
    let mut command = scratch.command(&["serve", "--http", "127.0.0.1:0", "--relay", "127.0.0.1:0"]);
    command.args(["--admin-token", ADMIN, "--state-dir", &scratch.path(state)]).args(more);
    Daemon::start(&mut command, &scratch.0.join(format!("{state}.log")))
}

fn register(daemon: &Daemon, peer: &str) -> Client {
    let mut client = daemon.client();
    client.register(peer);
    client
}

fn create_party(client: &mut Client, peer: &str, name: &str) -> String {
    let body = format!("{{\"name\":\"{name}\",\"host_peer_info\":{}}}", info(peer, PUBLIC_KEY));
    client.ask("POST", "/parties", &body).is(200).text(&["party_id"])
}

fn join(client: &mut Client, party: &str, peer: &str) {
    let body = format!("{{\"party_id\":\"{party}\",\"peer_info\":{}}}", info(peer, "not a key"));
    client.ask("POST", &format!("/parties/{party}/join"), &body).is(200);
}

fn info(peer: &str, key: &str) -> String {
    format!(
        "{{\"peer_id\":\"{peer}\",\"name\":\"{peer}'s PC\",\"public_key\":\"{key}\",\"nat_type\":\"symmetric\",\
         \"public_ip\":\"203.0.113.9\",\"public_port\":4711,\"local_ip\":\"unknown\",\"local_port\":0,\
         \"last_seen\":\"2026-01-01T00:00:00\"}}"
    )
}

fn text(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or_else(|| panic!("{name} in {value:?}")).to_owned()
}

fn number(value: &Value, name: &str) -> u64 {
    match value.get(name) {
        Some(Value::Number(text)) => text.parse().unwrap(),
        other => panic!("{name}: {other:?}"),
    }
}

/// The words of a line of output.
fn words<'a>(out: &'a str, start: &str) -> Vec<&'a str> {
    let line = out.lines().find(|line| line.starts_with(start));
    line.unwrap_or_else(|| panic!("{start} in {out}")).split_whitespace().collect()
}

#[test]
fn help_and_version() {
    let scratch = Scratch::new();
    assert_eq!(scratch.run(&["--version"]).good(), "lanrage 0.1.0\n");
    assert_eq!(scratch.run(&["-V"]).good(), "lanrage 0.1.0\n");
    let overview = scratch.run(&["--help"]).good();
    assert_eq!(scratch.run(&["help"]).good(), overview);
    let alone = scratch.run(&[]);
    assert_eq!((alone.code, alone.out.as_str()), (Some(2), ""));
    assert!(alone.err.contains(&overview), "{}", alone.err);
    let commands: Vec<Vec<&str>> = overview
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .map(|line| {
            let synopsis = line.trim_start().split("  ").next().unwrap();
            synopsis.split(' ').take_while(|word| word.chars().all(|c| c.is_ascii_lowercase())).collect()
        })
        .collect();
    assert_eq!(commands.len(), 38, "{overview}");
    for mut command in commands {
        let help = scratch.run(&[&["help"], &command[..]].concat()).good();
        assert!(help.contains(&format!("Usage: lanrage {}", command.join(" "))), "{help}");
        command.push("--help");
        assert_eq!(scratch.run(&command).good(), help);
    }
    let group = scratch.run(&["peer", "--help"]).good();
    assert!(group.contains("peer unban PARTY [PEER]") && !group.contains("relay"), "{group}");
    let serve = scratch.run(&["serve", "-h"]).good();
    assert!(serve.contains("LANRAGE_LIMITS_PARTIES=100") && serve.contains("[0.0.0.0:51820]"), "{serve}");
}

#[test]
fn mistakes_exit_with_2_and_say_what_may_be_meant() {
    let scratch = Scratch::new();
    for (arguments, expected) in [
        (&["stauts"][..], "did you mean `lanrage status`?"),
        (&["party", "shwo", "P"], "did you mean `lanrage party show`?"),
        (&["party", "frobnicate"], "see `lanrage party --help`"),
        (&["party"], "see `lanrage party --help`"),
        (&["serve", "--htp", "x"], "did you mean --http?"),
        (&["serve", "--http"], "--http needs a value"),
        (&["serve", "--http", "8667"], "--http: http = \"8667\" can't be used: expected an address and port"),
        (&["serve", "--rates-requests", "1"], "how many per 1 s"),
        (&["serve", "extra"], "\"extra\" is one argument too many"),
        (&["peer", "kick", "P"], "PEER is missing"),
        (&["peer", "ban", "P"], "a PEER, or --key"),
        (&["backup"], "FILE is missing"),
        (&["join", "http://router.lan:8667"], "PARTY is missing"),
        (&["join", "http://router.lan:8667/join#"], "the link is incomplete"),
        (&["join", "https://router.lan", "abc"], "no TLS"),
        (&["join", "http://router.lan", "../abc"], "PARTY is no party's id"),
        (&["host", "http://router.lan"], "NAME is missing"),
        (&["join", "--interface", "a/b"], "--interface is no name"),
        (&["backup", "-"], "needs a file"),
        (&["status", "--state-dir="], "state_dir = \"\" can't be used: expected a directory"),
        (&["status", "--config", "/nonexistent.toml"], "can't read the settings file /nonexistent.toml"),
        (&["serve", "--config", "/nonexistent.toml"], "correct --config"),
    ] {
        let err = scratch.run(arguments).bad(2);
        assert!(err.contains(expected), "{arguments:?}: {err}");
    }
    let secret = scratch.run(&["serve", "--admin-token", "hunter2"]).bad(2);
    assert!(!secret.contains("hunter2"), "{secret}");
    let escape = scratch.run(&["\u{1b}[31m"]).bad(2);
    assert!(!escape.contains('\u{1b}'), "{escape:?}");
}

#[test]
fn keys_are_those_of_wireguard() {
    let scratch = Scratch::new();
    let pubkey = |arguments: &[&str], input: &str| {
        let mut command = scratch.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // It may have read enough before everything is written.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        Outcome::from_child(child)
    };
    assert_eq!(pubkey(&["pubkey"], &format!("{PRIVATE_KEY}\n")).good(), format!("{PUBLIC_KEY}\n"));
    assert_eq!(text(&pubkey(&["pubkey", "--json"], PRIVATE_KEY).json(), "public_key"), PUBLIC_KEY);
    for bad in ["", "\n", "short", &PRIVATE_KEY[1..], &"A".repeat(100_000)] {
        let err = pubkey(&["pubkey"], bad).bad(1);
        assert!(err.contains("lanrage genkey"), "{err}");
    }
    let (first, second) = (scratch.run(&["genkey"]).good(), scratch.run(&["genkey"]).good());
    assert_ne!(first, second);
    assert_eq!((first.len(), first.ends_with("=\n")), (45, true));
    let both = scratch.run(&["genkey", "--json"]).json();
    assert_eq!(pubkey(&["pubkey"], &text(&both, "private_key")).good().trim(), text(&both, "public_key"));

    let file = std::fs::File::create(scratch.0.join("key")).unwrap();
    file.set_permissions(std::fs::Permissions::from_mode(0o644)).unwrap();
    let child = scratch.command(&["genkey"]).stdout(file).stderr(Stdio::piped()).spawn().unwrap();
    let outcome = Outcome::from_child(child);
    assert!(outcome.code == Some(0) && outcome.err.contains("warning"), "{outcome:?}");
}

#[test]
fn a_flag_beats_the_environment_beats_the_file_beats_the_default() {
    let scratch = Scratch::new();
    let file = scratch.write(
        "a.toml",
        "region = \"file\"\nmax_clients = 7\nsubnet = \"10.1.0.0/16\"\n[limits]\nparties = 9\n",
    );
    let other = scratch.write("b.toml", "region = \"other\"\n");
    let mut command = scratch.command(&["serve", "--print-config", "--region", "flag"]);
    command.env("LANRAGE_CONFIG", &file).env("LANRAGE_REGION", "env").env("LANRAGE_MAX_CLIENTS", "8");
    let out = Outcome::of(&mut command).good();
    for line in [
        "region = \"flag\"",
        "max_clients = 8",
        "subnet = \"10.1.0.0/16\"",
        "parties = 9",
        "http = \"0.0.0.0:8667\"",
        "[limits]",
        "requests = \"50/200\"",
    ] {
        assert!(out.lines().any(|found| found == line), "{line} in {out}");
    }
    // What was printed means the same when it is read.
    let printed = scratch.write("printed.toml", &out);
    assert_eq!(scratch.run(&["serve", "--print-config", "--config", &printed]).good(), out);
    // --config names another file than the environment does.
    let mut command = scratch.command(&["serve", "--print-config", "--config", &other]);
    let out = Outcome::of(command.env("LANRAGE_CONFIG", &file)).good();
    assert!(out.contains("region = \"other\"") && out.contains("max_clients = 100"), "{out}");

    let mut command = scratch.command(&["serve"]);
    let err = Outcome::of(command.env("LANRAGE_SUBNET", "10.66.0.1/16")).bad(2);
    assert!(err.contains("LANRAGE_SUBNET: subnet = \"10.66.0.1/16\" can't be used: expected"), "{err}");
    let bad = scratch.write("bad.toml", "\n[limits]\nparties = 0\n");
    let err = scratch.run(&["serve", "--config", &bad]).bad(2);
    assert!(
        err.contains("bad.toml, line 3: limits.parties = \"0\" can't be used: expected a whole"),
        "{err}"
    );
}

#[test]
fn a_machine_is_measured_in_a_few_seconds() {
    let scratch = Scratch::new();
    let begun = Instant::now();
    let figures = scratch.run(&["bench", "--json"]).json();
    assert!(begun.elapsed() < PATIENCE);
    for name in ["seal_small_ns", "open_large_ns", "handshake_ns", "blind_small_ns", "udp_hub_large_ns"] {
        assert!(number(&figures, name) > 0, "{name}: {figures:?}");
    }
    // What costs more work takes more time, on any machine.
    for (cheap, dear) in [("seal_small_ns", "seal_large_ns"), ("blind_large_ns", "hub_large_ns")] {
        assert!(number(&figures, cheap) < number(&figures, dear), "{figures:?}");
    }
    for name in ["players", "blind_mbit_per_second", "hub_mbit_per_second", "handshakes_per_second"] {
        assert!(number(&figures, name) > 0, "{name}: {figures:?}");
    }
    for name in ["x25519_per_second", "strangers_handshakes_per_second", "mac1_trials_per_second"] {
        assert!(number(&figures, name) > 0, "{name}: {figures:?}");
    }
    // A quarter of a core, five computations a handshake: rounded down twice.
    let (strangers, all) = ("strangers_handshakes_per_second", "x25519_per_second");
    let expected = number(&figures, all) / 20;
    assert!((expected - 2..=expected + 2).contains(&number(&figures, strangers)), "{figures:?}");
}

#[test]
fn clients_find_the_daemon_by_flag_environment_and_file() {
    let scratch = Scratch::new();
    let daemon = start_in(&scratch, "there", &["--region", "moon"]);
    let (there, elsewhere) = (scratch.path("there"), scratch.path("elsewhere"));
    let file = scratch.write("where.toml", format!("state_dir = \"{there}\"\n"));
    let region = |command: &mut Command| text(Outcome::of(command).json().get("relay").unwrap(), "region");
    assert_eq!(region(&mut scratch.command(&["status", "--json", "--config", &file])), "moon");
    assert_eq!(region(scratch.command(&["status", "--json"]).env("LANRAGE_CONFIG", &file)), "moon");
    assert_eq!(region(scratch.command(&["status", "--json"]).env("LANRAGE_STATE_DIR", &there)), "moon");
    let mut command = scratch.command(&["status", "--json", "--state-dir", &there]);
    assert_eq!(region(command.env("LANRAGE_STATE_DIR", &elsewhere)), "moon");
    let mut command = scratch.command(&["status", "--config", &file]);
    let err = Outcome::of(command.env("LANRAGE_STATE_DIR", &elsewhere)).bad(1);
    assert!(err.contains("elsewhere/control.sock"), "{err}");
    drop(daemon);
}

#[test]
fn what_the_owner_sees_and_does() {
    let scratch = Scratch::new();
    let daemon = start_in(&scratch, "state", &["--public-endpoint", "home.example.org:51820"]);
    assert_eq!(
        scratch.ask(&["party", "list"]).good(),
        "There are no parties: `lanrage party create NAME` makes one.\n"
    );
    let (mut alice, mut bob) = (register(&daemon, "alice"), register(&daemon, "bob"));
    // The name turns the direction of writing round: it must not do so in a terminal.
    let party = create_party(&mut alice, "alice", "LAN \u{202e}night");
    join(&mut bob, &party, "bob");

    let status = scratch.ask(&["status"]).good();
    assert_eq!(words(&status, "lanrage"), ["lanrage", "0.1.0"]);
    assert_eq!(words(&status, "HTTP"), ["HTTP", &daemon.http.to_string()]);
    assert_eq!(words(&status, "relay "), ["relay", &daemon.relay.to_string(), "(UDP)"]);
    assert_eq!(words(&status, "state"), ["state", &scratch.path("state")]);
    assert_eq!(words(&status, "parties"), ["parties", "1"]);
    assert_eq!(words(&status, "peers"), ["peers", "2"]);
    assert_eq!(words(&status, "tokens"), ["tokens", "2"]);
    assert_eq!(words(&status, "sessions"), ["sessions", "0"]);
    assert_eq!(words(&status, "store")[..2], ["store", "ok,"]);
    let json = scratch.ask(&["status", "--json"]).json();
    assert_eq!((text(&json, "http"), number(&json, "peers")), (daemon.http.to_string(), 2));
    assert_eq!(words(&status, "hub key")[2], text(json.get("relay").unwrap(), "public_key"));

    let list = scratch.ask(&["party", "list"]).good();
    assert_eq!(words(&list, "PARTY"), ["PARTY", "NAME", "HOST", "PEERS", "CREATED"]);
    assert_eq!(words(&list, &party)[1..5], ["LAN", "\\u{202e}night", "alice", "2"]);
    let same = daemon.client().with_token(ADMIN).get("/parties").is(200).body;
    assert_eq!(scratch.ask(&["party", "list", "--json"]).good(), same.clone() + "\n");
    // Dates that no stock client reads say that they are in UTC.
    let listed = json::parse(same.as_bytes()).unwrap();
    let Some(Value::Array(listed)) = listed.get("parties") else { panic!("{same}") };
    assert!(text(&listed[0], "created_at").ends_with('Z'), "{same}");
    assert_eq!(words(&list, &party)[7..], ["UTC"]);

    let show = scratch.ask(&["party", "show", &party]).good();
    assert_eq!(words(&show, "host"), ["host", "alice"]);
    let line = words(&show, "alice (host)");
    assert_eq!(line[..7], ["alice", "(host)", "alice's", "PC", "10.66.0.2", "symmetric", "203.0.113.9:4711"]);
    assert!(show.contains("just now") || show.contains(" s ago"), "{show}");
    assert_eq!(words(&show, "bob")[3], "10.66.0.3");
    let json = scratch.ask(&["party", "show", &party, "--json"]).json();
    assert_eq!(text(json.get("party").unwrap(), "host_id"), "alice");
    let err = scratch.ask(&["party", "show", "a/b c"]).bad(1);
    assert_eq!(err, "lanrage: there is no party a/b c: `lanrage party list` shows all\n");

    let relays = scratch.ask(&["relay", "list"]).good();
    assert_eq!(words(&relays, "lanrage-")[1], "unknown");
    let json = scratch.ask(&["relay", "list", "--json"]).json();
    assert!(matches!(json.get("relays"), Some(Value::Array(relays)) if relays.len() == 1));

    let kicked = scratch.ask(&["peer", "kick", &party, "bob"]).good();
    assert_eq!(kicked, format!("Peer bob was removed from party {party}.\n"));
    let err = scratch.ask(&["peer", "kick", &party, "bob"]).bad(1);
    assert!(err.contains("Peer bob not in party") && err.contains("lanrage party show"), "{err}");
    join(&mut bob, &party, "bob");
    assert_eq!(text(&scratch.ask(&["peer", "kick", "--json", &party, "bob"]).json(), "status"), "kicked");

    let none = scratch.ask(&["peer", "bans", &party]).good();
    assert_eq!(none, format!("Nobody is banned from party {party}.\n"));
    assert!(scratch.ask(&["peer", "ban", &party, "bob"]).good().contains("peer bob"));
    let url_safe = PUBLIC_KEY.replace('/', "_");
    let banned = scratch.ask(&["peer", "ban", &party, "--key", &url_safe.replace("hSD", "iSD"), "--json"]);
    assert_eq!(text(&banned.json(), "status"), "banned");
    let bans = scratch.ask(&["peer", "bans", &party]).good();
    assert_eq!(words(&bans, "bob"), ["bob", "-"]);
    assert_eq!(words(&bans, "- "), ["-", &PUBLIC_KEY.replace("hSD", "iSD")]);
    let json = scratch.ask(&["peer", "bans", &party, "--json"]).json();
    assert!(matches!(json.get("bans"), Some(Value::Array(bans)) if bans.len() == 2), "{json:?}");
    let err = scratch.ask(&["peer", "ban", &party, "alice"]).bad(1);
    assert!(err.contains("host"), "{err}");
    let err = scratch.ask(&["peer", "ban", &party, "--key", "nonsense"]).bad(1);
    assert!(err.contains("public key: not a WireGuard key") && !err.contains("body"), "{err}");
    let key = PUBLIC_KEY.replace("hSD", "iSD");
    assert!(scratch.ask(&["peer", "unban", &party, "--key", &key]).good().contains(&key));
    assert_eq!(text(&scratch.ask(&["peer", "unban", &party, "bob", "--json"]).json(), "status"), "unbanned");
    let err = scratch.ask(&["peer", "unban", &party, "bob"]).bad(1);
    assert!(err.contains("lanrage peer bans"), "{err}");

    let deleted = scratch.ask(&["party", "delete", &party]).good();
    assert_eq!(deleted, format!("Party {party} has ended.\n"));
    let second = create_party(&mut alice, "alice", "again");
    let removed = scratch.ask(&["peer", "kick", &second, "alice"]).good();
    assert!(removed.contains(&format!("party {second} has ended")), "{removed}");
    let third = create_party(&mut alice, "alice", "and again");
    let json = scratch.ask(&["party", "delete", &third, "--json"]).json();
    assert_eq!(text(&json, "status"), "party_deleted");
    assert_eq!(
        scratch.ask(&["party", "list"]).good(),
        "There are no parties: `lanrage party create NAME` makes one.\n"
    );

    let [alice, bob] = [alice, bob].map(|client| client.token.unwrap());
    let log = daemon.log();
    assert!(log.lines().all(|line| line.starts_with("INFO ")), "{log}");
    for secret in [ADMIN, &alice, &bob, &party] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
}

#[test]
fn without_a_daemon_every_client_says_how_to_start_one() {
    let scratch = Scratch::new();
    for arguments in [
        &["status"][..],
        &["party", "list"],
        &["party", "show", "P"],
        &["party", "delete", "P"],
        &["peer", "kick", "P", "Q"],
        &["peer", "ban", "P", "Q"],
        &["peer", "unban", "P", "Q"],
        &["peer", "bans", "P"],
        &["relay", "list"],
        &["backup", "copy"],
        &["db", "dump"],
    ] {
        let err = scratch.ask(arguments).bad(1);
        assert!(err.contains("is not running") && err.contains("`lanrage serve`"), "{arguments:?}: {err}");
        assert!(err.contains("--state-dir"), "{err}");
    }
    let err = scratch.ask(&["db", "check"]).bad(1);
    assert!(err.contains("there is no file") && err.contains("lanrage.redb"), "{err}");
    assert_eq!(scratch.names("copy"), [""; 0]);
    assert!(!scratch.0.join("state").exists(), "asking must not make a state directory");
}

#[test]
fn a_daemon_that_cannot_start_says_why() {
    let scratch = Scratch::new();
    let daemon = start(&scratch);
    let any = ["--http", "127.0.0.1:0", "--relay", "127.0.0.1:0"];
    // The log comes the same way as what the command says.
    let serve = |state: &str, more: &[&str]| {
        let state = scratch.path(state);
        scratch.run(&[&["serve", "--log", "warn", "--state-dir", &state], more].concat()).bad(1)
    };
    let err = serve("state", &any);
    assert!(err.contains("is in use: another lanrage is running"), "{err}");
    // The first one is not disturbed.
    scratch.ask(&["status"]).good();
    let (http, relay) = (daemon.http.to_string(), daemon.relay.to_string());
    let err = serve("second", &["--http", &http, "--relay", "127.0.0.1:0"]);
    assert!(err.contains(&format!("port {} is already in use", daemon.http.port())), "{err}");
    let err = serve("second", &["--http", "127.0.0.1:0", "--relay", &relay]);
    assert!(err.contains(&format!("UDP port {} is already in use", daemon.relay.port())), "{err}");
    let err = serve("second", &["--http", "192.0.2.1:0", "--relay", "127.0.0.1:0"]);
    assert!(err.contains("no address 192.0.2.1"), "{err}");
    // Whoever runs this: there is no device, it can't be opened, or this is no interface of its kind.
    let err = serve("second", &[&any[..], &["--tun", "yes", "--interface", "lo"]].concat());
    assert!(err.contains("lanrage: tun: "), "{err}");
    scratch.write("file", "");
    let err = serve("file", &any);
    assert!(err.contains("cannot use"), "{err}");
    let err = serve(&"long".repeat(40), &any);
    assert!(err.contains("choose a shorter --state-dir"), "{err}");
}

#[test]
fn it_stops_in_time_and_a_restart_finds_everything() {
    let scratch = Scratch::new();
    let mut daemon = start(&scratch);
    let mode = |name: &str| std::fs::metadata(scratch.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        (mode("state"), mode("state/lanrage.redb"), mode("state/control.sock")),
        (0o700, 0o600, 0o600)
    );
    let mut alice = register(&daemon, "alice");
    let party = create_party(&mut alice, "alice", "LAN");
    let hub = |scratch: &Scratch| {
        text(scratch.ask(&["status", "--json"]).json().get("relay").unwrap(), "public_key")
    };
    let (before, key) = (scratch.ask(&["party", "list", "--json"]).good(), hub(&scratch));
    // An idle connection must not hold it up.
    let idle = TcpStream::connect(daemon.http).unwrap();
    let (status, took) = daemon.terminate();
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(2), "{took:?}");
    drop(idle);
    assert!(!scratch.0.join("state/control.sock").exists());

    let mut daemon = start(&scratch);
    assert_eq!((scratch.ask(&["party", "list", "--json"]).good(), hub(&scratch)), (before.clone(), key));
    daemon.client().with_token_of(&alice).heartbeat(&party, "alice").is(200);
    assert_eq!(daemon.end_by(Signal::INT).0.code(), Some(0));

    // After a crash the socket of the dead daemon is in the way of nobody.
    let mut daemon = start(&scratch);
    assert_eq!(daemon.end_by(Signal::KILL).0.code(), None);
    assert!(scratch.0.join("state/control.sock").exists());
    assert!(scratch.ask(&["status"]).bad(1).contains("is not running"));
    assert!(scratch.ask(&["db", "check"]).good().contains("good"));
    let _daemon = start(&scratch);
    assert_eq!(scratch.ask(&["party", "list", "--json"]).good(), before);
}

#[test]
fn a_closed_output_does_not_stop_the_daemon() {
    let scratch = Scratch::new();
    let state = scratch.path("state");
    let mut command = scratch.command(&["serve", "--http", "127.0.0.1:0", "--relay", "127.0.0.1:0"]);
    command.args(["--state-dir", &state, "--log", "trace"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop((child.stdout.take(), child.stderr.take()));
    let mut daemon = Process(child);
    eventually("it answers", || scratch.ask(&["status"]).code == Some(0));
    let json = scratch.ask(&["status", "--json"]).json();
    let mut client = Client::connect(text(&json, "http").parse().unwrap());
    create_party(client.register("alice"), "alice", "something to log");
    assert_eq!(daemon.terminate().0.code(), Some(0));
}

/// Registers many peers, which makes a dump longer than a pipe holds.
fn fill(daemon: &Daemon) {
    std::thread::scope(|scope| {
        for thread in 0..8 {
            scope.spawn(move || {
                for count in 0..90 {
                    register(daemon, &format!("{thread}-{count}-{}", "x".repeat(50)));
                }
            });
        }
    });
}

#[test]
fn a_backup_of_a_running_daemon_is_whole_and_can_be_started_from() {
    let scratch = Scratch::new();
    let mut daemon = start(&scratch);
    let mut alice = register(&daemon, "alice");
    let party = create_party(&mut alice, "alice", "LAN");
    fill(&daemon);
    let copy = scratch.path("copy.redb");
    let json = scratch.ask(&["backup", &copy, "--json"]).json();
    let length = std::fs::metadata(&copy).unwrap().len();
    assert_eq!((text(&json, "file"), number(&json, "bytes")), (copy.clone(), length));
    // 721 tokens, a party, a member, an address, the hub's key and the schema version.
    assert_eq!(number(&json, "rows"), 726);
    assert_eq!(std::fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);

    let report = scratch.run(&["db", "check", &copy]).good();
    assert_eq!(words(&report, "result"), ["result", "good"]);
    let json = scratch.run(&["db", "check", &copy, "--json"]).json();
    assert_eq!(json.get("good"), Some(&Value::Bool(true)));
    assert_eq!(number(json.get("rows").unwrap(), "tokens"), 721);

    let err = scratch.ask(&["backup", &copy]).bad(1);
    assert!(err.contains("exists") && err.contains("--force"), "{err}");
    let said = scratch.ask(&["backup", &copy, "--force"]).good();
    assert!(said.starts_with("Wrote 726 rows (") && said.contains("kB) to "), "{said}");
    let err = scratch.ask(&["backup", &scratch.path("state/lanrage.redb"), "--force"]).bad(1);
    assert!(err.contains("choose another file"), "{err}");
    let err = scratch.ask(&["backup", &scratch.path("state")]).bad(1);
    assert!(err.contains("is a directory"), "{err}");
    let err = scratch.ask(&["backup", &scratch.path("nowhere/copy")]).bad(1);
    assert!(err.contains("its directory does not exist"), "{err}");

    // Without the daemon it is the same.
    let list = scratch.ask(&["party", "list", "--json"]).good();
    assert_eq!(daemon.terminate().0.code(), Some(0));
    let json = scratch.ask(&["backup", &scratch.path("offline"), "--json"]).json();
    // And that the daemon was stopped.
    assert_eq!(number(&json, "rows"), 727);
    scratch.run(&["db", "check", &scratch.path("offline")]).good();
    assert_eq!(scratch.names("partial"), [""; 0]);

    let state = scratch.path("restored");
    scratch.run(&["restore", &copy, "--state-dir", &state]).good();
    let restored = start_in(&scratch, "restored", &[]);
    assert_eq!(scratch.run(&["party", "list", "--json", "--state-dir", &state]).good(), list);
    restored.client().with_token_of(&alice).heartbeat(&party, "alice").is(200);
    assert!(!restored.log().contains("ERROR"), "{}", restored.log());
}

#[test]
fn a_broken_off_backup_leaves_nothing() {
    use std::os::unix::net::UnixListener;
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.path("state")).unwrap();
    let row = r#"{"table":"meta","key":"schema_version","value":1}"#;
    let whole = format!("{row}\n{{\"rows\":1}}\n");
    let answers = [
        // The end of the body, the last line, an honest answer.
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{row}\n\r\n", row.len() + 1),
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{row}\n", row.len() + 1),
        "HTTP/1.1 503 Busy\r\nContent-Length: 17\r\n\r\n{\"detail\":\"busy\"}".to_owned(),
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{whole}", whole.len()),
    ];
    let listener = UnixListener::bind(scratch.path("state/control.sock")).unwrap();
    let server = std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.extend_from_slice(&byte);
            }
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    for expected in ["it ended too early", "the dump is incomplete", "busy"] {
        let err = scratch.ask(&["backup", "copy"]).bad(1);
        assert!(err.contains(expected), "{expected}: {err}");
        assert_eq!(scratch.names("copy"), [""; 0]);
    }
    assert!(scratch.ask(&["backup", "copy"]).good().starts_with("Wrote 1 row ("));
    assert_eq!(scratch.names("copy"), ["copy"]);
    server.join().unwrap();
}

#[test]
fn an_interrupted_backup_leaves_nothing() {
    use std::os::unix::net::UnixListener;
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.path("state")).unwrap();
    let listener = UnixListener::bind(scratch.path("state/control.sock")).unwrap();
    let mut command = scratch.command(&["backup", "copy"]);
    command.env("LANRAGE_STATE_DIR", scratch.path("state")).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    eventually("the copy is begun", || !scratch.names("copy.partial").is_empty());
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    // The daemon says nothing more, and the connection stays open.
    let start = Instant::now();
    let err = Outcome::from_child(child).bad(1);
    assert!(err.contains("interrupted"), "{err}");
    assert!(start.elapsed() < Duration::from_secs(10), "it waits for the daemon");
    drop(stream);
    assert_eq!(scratch.names("copy"), [""; 0]);
}

#[test]
fn dumps_tell_no_secrets_and_end_quietly() {
    let scratch = Scratch::new();
    let mut daemon = start(&scratch);
    fill(&daemon);
    let running = scratch.ask(&["db", "dump"]).good();
    let copy = scratch.path("copy");
    scratch.ask(&["backup", &copy]).good();
    let from_copy = scratch.run(&["db", "dump", &copy, "--json"]).good();
    assert_eq!(from_copy, running);
    for line in running.lines() {
        json::parse(line.as_bytes()).unwrap();
    }
    assert!(running.contains("{\"table\":\"meta\",\"key\":\"hub_private_key\",\"value\":null}\n"));
    let mut stream = TcpStream::connect(daemon.http).unwrap();
    let ask =
        format!("GET /backup?secrets=x HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {ADMIN}\r\n\r\n");
    stream.write_all(ask.as_bytes()).unwrap();
    let mut status = String::new();
    BufReader::new(stream).read_line(&mut status).unwrap();
    assert!(status.contains(" 422 "), "{status}");
    assert!(running.ends_with("{\"rows\":722}\n"), "{}", &running[running.len() - 40..]);

    let head = |arguments: &[&str]| {
        let mut command = scratch.command(arguments);
        command.env("LANRAGE_STATE_DIR", scratch.path("state"));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::with_capacity(16, child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let outcome = Outcome::from_child(child);
        assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{outcome:?}");
        assert!(line.starts_with("{\"table\""), "{line}");
    };
    assert!(running.len() > 100_000, "a pipe holds 64 KiB: {}", running.len());
    head(&["db", "dump"]);
    head(&["db", "dump", &copy]);
    // The daemon gives up a dump that nobody reads, and makes the next one.
    eventually("another dump", || scratch.ask(&["db", "dump"]).code == Some(0));
    assert_eq!(daemon.terminate().0.code(), Some(0));
    let stopped = scratch.ask(&["db", "dump"]).good();
    assert!(stopped.contains("hub_private_key\",\"value\":null") && stopped.contains("stopped_at"));

    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let child = scratch.command(&["db", "dump", &copy]).stdout(full).stderr(Stdio::piped()).spawn().unwrap();
    let err = Outcome::from_child(child).bad(1);
    assert!(err.contains("No space left"), "{err}");
}

#[test]
fn check_tells_good_files_from_bad_ones() {
    let scratch = Scratch::new();
    let mut daemon = start(&scratch);
    let err = scratch.ask(&["db", "check"]).bad(1);
    assert!(err.contains("in use by a running lanrage") && err.contains("`lanrage backup COPY`"), "{err}");
    let file = scratch.path("state/lanrage.redb");
    let busy = scratch.run(&["db", "check", "--json", &file]);
    assert_eq!(busy.code, Some(1));
    assert_eq!(json::parse(busy.out.as_bytes()).unwrap().get("good"), Some(&Value::Bool(false)));
    let err = scratch.ask(&["db", "dump", &file]).bad(1);
    assert!(err.contains("in use by a running lanrage"), "{err}");
    fill(&daemon);
    // What is made of a backup is compact, so that damage does not hit free space only.
    let copy = scratch.path("copy");
    scratch.ask(&["backup", &copy]).good();
    scratch.run(&["restore", &copy, "--state-dir", &scratch.path("compact")]).good();
    assert_eq!(daemon.terminate().0.code(), Some(0));
    assert_eq!(words(&scratch.ask(&["db", "check"]).good(), "closed")[4], "yes");

    let damage = |file: &str, name| {
        let mut bytes = std::fs::read(file).unwrap();
        let quarter = bytes.len() / 4;
        for byte in &mut bytes[quarter..3 * quarter] {
            *byte ^= 0x55;
        }
        (scratch.write(name, &bytes), bytes)
    };
    let (damaged, bytes) = damage(&scratch.path("compact/lanrage.redb"), "damaged");
    let (damaged_copy, _) = damage(&copy, "damaged-copy");
    let text_file = scratch.write("text", "hello\n");
    for bad in [&damaged, &damaged_copy, &text_file] {
        let outcome = scratch.run(&["db", "check", "--json", bad]);
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
        let json = json::parse(outcome.out.as_bytes()).unwrap();
        assert_eq!((json.get("good"), text(&json, "file")), (Some(&Value::Bool(false)), (*bad).clone()));
        assert!(outcome.err.contains("backup"), "{outcome:?}");
        assert_eq!(scratch.run(&["db", "check", bad]).code, Some(1));
        assert_eq!(scratch.run(&["db", "dump", bad]).code, Some(1));
    }
    assert_eq!(std::fs::read(Path::new(&damaged)).unwrap(), bytes, "nothing is changed");
}

/// Words as another user, who may read the program and what is in the directory.
fn as_stranger(command: &mut Command) -> &mut Command {
    use std::os::unix::process::CommandExt;
    command.uid(65_534).gid(65_534)
}

#[test]
fn a_slip_is_never_taken_for_a_command_that_takes_something_away() {
    let scratch = Scratch::new();
    for arguments in [&["party", "delte", "P"][..], &["party", "del"], &["peer", "kik"], &["peer", "bam"]] {
        let err = scratch.run(arguments).bad(2);
        let meant = err.split_once("did you mean").map_or("", |(_, meant)| meant);
        assert!(["delete", "kick", "ban`", "remove"].iter().all(|word| !meant.contains(word)), "{err}");
    }
}

#[test]
fn the_endpoint_that_friends_use_is_told_and_one_that_they_do_not_reach_is_warned_of() {
    let scratch = Scratch::new();
    for (state, endpoint, warning, shown) in [
        ("unset", None, Some("public_endpoint is not set"), "nothing yet: set public_endpoint"),
        (
            "private",
            Some("192.168.1.2:51820"),
            Some("public_endpoint is 192.168.1.2"),
            "192.168.1.2:51820, which",
        ),
        ("public", Some("home.example.org:7"), None, "home.example.org:7"),
    ] {
        let more = endpoint.map(|endpoint| ["--public-endpoint", endpoint]);
        let daemon = start_in(&scratch, state, more.as_ref().map_or(&[], |more| &more[..]));
        let state = scratch.path(state);
        let out = scratch.run(&["status", "--state-dir", &state]).good();
        // It answers only after that.
        let log = daemon.log();
        let said = log.lines().find(|line| line.starts_with("WARN") && line.contains("public_endpoint"));
        assert_eq!(said.is_some(), warning.is_some(), "{log}");
        assert!(said.unwrap_or_default().contains(warning.unwrap_or_default()), "{log}");
        assert!(words(&out, "friends use").join(" ").contains(shown), "{out}");
        let json = scratch.run(&["status", "--json", "--state-dir", &state]).json();
        let told = json.get("relay").unwrap().get("endpoint").and_then(Value::as_str);
        assert_eq!(told, endpoint);
    }
}

#[test]
fn a_broken_settings_file_hides_no_daemon_and_makes_a_reload_fail() {
    let scratch = Scratch::new();
    let daemon = start_in(&scratch, "there", &[]);
    let there = scratch.path("there");
    let file =
        scratch.write("broken.toml", format!("# mine\nstate_dir = \"{there}\"\nhttp = 0.0.0.0:8667\n"));
    let outcome = scratch.run(&["status", "--config", &file]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.out.contains("up for") && outcome.err.contains("line 3"), "{outcome:?}");
    // What the unit asks before it sends SIGHUP.
    let err = scratch.run(&["serve", "--print-config", "--config", &file]).bad(2);
    assert!(err.contains("line 3") && err.contains("an address needs quotes"), "{err}");
    let unit = include_str!("../systemd/lanrage.service");
    let (check, signal) = (unit.find("lanrage serve --print-config"), unit.find("/bin/kill -HUP"));
    assert!(check.is_some() && check < signal);
    drop(daemon);
}

#[test]
#[ignore = "needs root"]
fn who_may_not_ask_is_told_so_and_may_have_a_daemon_of_their_own() {
    let scratch = Scratch::new();
    let daemon = start(&scratch);
    let open = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(&*scratch.0, open).unwrap();
    // Where the program lies may be closed to others.
    let program = scratch.path("lanrage");
    std::fs::copy(binary(), &program).unwrap();
    let stranger = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.env_clear().env("HOME", &*scratch.0).current_dir(&*scratch.0);
        command.args(arguments).stdin(Stdio::null());
        as_stranger(&mut command);
        command
    };
    let err = Outcome::of(&mut stranger(&["status", "--state-dir", &scratch.path("state")])).bad(1);
    assert!(err.contains("you may not ask the daemon") && err.contains("sudo"), "{err}");
    let any = ["serve", "--http", "127.0.0.1:0", "--relay", "127.0.0.1:0"];
    let own = Daemon::start(&mut stranger(&any), &scratch.0.join("own.log"));
    Outcome::of(&mut stranger(&["status"])).good();
    scratch.ask(&["status"]).good();
    drop((own, daemon));
}

#[test]
fn a_backup_is_gone_back_to_and_what_was_there_is_kept() {
    let scratch = Scratch::new();
    let mut daemon = start(&scratch);
    scratch.ask(&["party", "create", "Friday"]).good();
    scratch.ask(&["device", "add", "Friday", "Bob", "--qr"]).good();
    let devices = scratch.ask(&["device", "list", "Friday"]).good();
    let copy = scratch.path("copy.redb");
    let said = scratch.ask(&["backup", &copy]).good();
    assert!(said.contains("as secret as a password"), "{said}");
    scratch.ask(&["party", "delete", "Friday"]).good();
    let hub = scratch.ask(&["status"]).good();
    let hub = hub.lines().find(|line| line.starts_with("hub key")).unwrap().to_owned();

    // Not under a daemon that runs, not of something else, and not of nothing.
    let err = scratch.ask(&["restore", &copy]).bad(1);
    assert!(err.contains("is in use: stop lanrage first"), "{err}");
    assert_eq!(daemon.terminate().0.code(), Some(0));
    let state = scratch.path("state/lanrage.redb");
    let before = std::fs::read(&state).unwrap();
    let other = scratch.path("other");
    std::fs::write(&other, "no backup").unwrap();
    // A file that was cut off, and one with a row too few.
    let whole = std::fs::read_to_string(&copy).unwrap();
    assert!(whole.starts_with("{\"secret\":\"Keep this file like a password."), "{}", &whole[..80]);
    let cut = scratch.write("cut", &whole[..whole.len() - 2]);
    let fewer: Vec<&str> = whole.lines().filter(|line| !line.contains("schema_version")).collect();
    let fewer = scratch.write("fewer", fewer.join("\n") + "\n");
    for file in [&cut, &fewer] {
        assert!(scratch.ask(&["restore", file]).bad(1).contains("choose another backup"), "{file}");
    }
    for (file, said) in [(&other, "choose another backup"), (&state, "the state itself")] {
        let err = scratch.ask(&["restore", file]).bad(1);
        assert!(err.contains(said), "{file}: {err}");
    }
    assert!(scratch.ask(&["restore", &scratch.path("none")]).bad(1).contains("there is no file"));
    assert!(std::fs::read(&state).unwrap() == before, "nothing was changed");

    let said = scratch.ask(&["restore", &copy]).good();
    let kept = said.split_whitespace().find(|word| word.contains("lanrage.redb.replaced-")).unwrap();
    assert!(std::fs::read(kept.trim_end_matches('.')).unwrap() == before);
    let _daemon = start(&scratch);
    assert!(scratch.ask(&["party", "list"]).good().contains("Friday"));
    assert!(scratch.ask(&["status"]).good().contains(&hub), "{hub}");

    // On another machine, too: the hub's key and all addresses come along, so that players' files stay good.
    let elsewhere = Scratch::new();
    elsewhere.ask(&["restore", &copy]).good();
    let mut there = start(&elsewhere);
    assert!(elsewhere.ask(&["status"]).good().contains(&hub), "{hub}");
    assert_eq!(elsewhere.ask(&["device", "list", "Friday"]).good(), devices);
    assert_eq!(there.terminate().0.code(), Some(0));

    // Backups of older versions have no first line, or are states.
    let older = scratch.write("older", whole.split_once('\n').unwrap().1);
    for file in [older, elsewhere.path("state/lanrage.redb")] {
        let third = Scratch::new();
        third.ask(&["restore", &file]).good();
        assert_eq!(std::fs::read_dir(third.path("state")).unwrap().count(), 1, "{file}");
        let _third = start(&third);
        assert_eq!(third.ask(&["device", "list", "Friday"]).good(), devices, "{file}");
    }
}

#[test]
fn a_party_gets_another_name_whatever_it_looks_like() {
    let scratch = Scratch::new();
    let _daemon = start(&scratch);
    scratch.ask(&["party", "create", "Friday"]).good();
    assert_eq!(
        scratch.ask(&["party", "rename", "Friday", "--", "--json"]).good(),
        "Its name is --json now.\n"
    );
    assert!(scratch.ask(&["party", "list"]).good().contains("--json"));
    scratch.ask(&["party", "rename", "--json", "--", "--json", "Saturday"]).good();
    let err = scratch.ask(&["party", "rename", "Friday", "Sunday"]).bad(1);
    assert!(err.contains("Friday"), "{err}");
    assert!(scratch.ask(&["party", "list"]).good().contains("Saturday"));
}

#[test]
#[ignore = "needs root"]
fn a_restored_file_keeps_its_owner() {
    let scratch = Scratch::new();
    let mut daemon = start(&scratch);
    let copy = scratch.path("copy.redb");
    scratch.ask(&["backup", &copy]).good();
    assert_eq!(daemon.terminate().0.code(), Some(0));
    let state = scratch.path("state/lanrage.redb");
    std::os::unix::fs::chown(&state, Some(65_534), None).unwrap();
    scratch.ask(&["restore", &copy]).good();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(&state).unwrap()), 65_534);
    assert_eq!(std::fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn the_man_page_opens_no_more_ports_than_the_readme() {
    let man = include_str!("../systemd/lanrage.8");
    let forward = man.lines().find(|line| line.contains("forward it in the router")).unwrap();
    assert!(forward.contains("UDP port 51820") && !man.contains("forward these two"), "{forward}");
    let only = man.split_once("TCP port 8667").unwrap().1;
    assert!(only.starts_with(" they need only for"), "{only}");
}

/// A service of systemd has a made-up user, a home that is none and directories of its own.
#[test]
fn a_service_keeps_its_state_where_systemd_says() {
    let scratch = Scratch::new();
    let mut command = scratch.command(&["serve", "--print-config"]);
    command.env("STATE_DIRECTORY", "/srv/state").env("RUNTIME_DIRECTORY", "/srv/run").env("HOME", "/");
    let out = Outcome::of(&mut command).good();
    assert!(out.contains("\nstate_dir = \"/srv/state\"\n"), "{out}");
    assert!(out.contains("\nruntime_dir = \"/srv/run\"\n"), "{out}");
}
