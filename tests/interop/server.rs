//! The real daemon, on a host of its own.

pub use crate::harness::player::HUB_IP;

use crate::client::{self, Client};
use crate::harness::daemon::{Daemon, binary, log_to, read_log, settings};
use crate::harness::directory::Directory;
use crate::harness::namespace::Namespace;
use crate::lab::{Lab, public_ip};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lanrage::crypto::x25519::PrivateKey;
use lanrage::wire::json::Value;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

/// Where everybody finds it.
pub const RELAY: &str = "192.0.2.1:51820";
const HTTP_PORT: u16 = 8667;

/// The daemon.
pub struct Server {
    pub host: Rc<Namespace>,
    directory: Directory,
    /// In memory, as it should be.
    runtime: PathBuf,
    daemon: Option<Daemon>,
    pub hub_key: String,
    /// Variables of its environment besides the usual ones.
    pub settings: Vec<(&'static str, &'static str)>,
}

/// Somebody in a party.
pub struct Member {
    pub name: String,
    pub party: String,
    pub key: PrivateKey,
    pub ip: Ipv4Addr,
    pub client: Client,
}

impl Member {
    pub fn public_key(&self) -> String {
        self.key.public_key().encode()
    }
}

impl Server {
    /// Starts it at 192.0.2.1.
    pub fn new(lab: &Lab) -> Self {
        Self::on(lab.host(1))
    }

    /// Starts it on a host, whatever that has.
    pub fn on(host: Rc<Namespace>) -> Self {
        let mut server = Self::asleep(host);
        server.start();
        server.learn_hub_key();
        server
    }

    /// Does not start it.
    pub fn asleep(host: Rc<Namespace>) -> Self {
        let directory = Directory::new();
        let runtime = Path::new("/dev/shm").join(directory.file_name().unwrap());
        Server { host, directory, runtime, daemon: None, hub_key: String::new(), settings: Vec::new() }
    }

    pub fn learn_hub_key(&mut self) {
        crate::eventually("it serves", || lanrage::daemon::socket_in(&self.directory.state()).exists());
        self.hub_key = self.owner().get("/status").is(200).text(&["relay", "public_key"]);
    }

    /// What it has on disk, and in memory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// How it is started, by way of this program; what it prints is for the caller.
    pub fn command(&self, by: &[&str]) -> Command {
        let program = binary();
        let words = [by, &[program.to_str().unwrap(), "serve"]].concat();
        let mut command = self.host.command(words[0]);
        command.args(&words[1..]);
        settings(&mut command, &self.directory.state(), []);
        command
            .env("LANRAGE_RUNTIME_DIR", &self.runtime)
            .env("LANRAGE_HTTP", format!("0.0.0.0:{HTTP_PORT}"))
            .env("LANRAGE_RELAY", "[::]:51820")
            .envs(self.settings.iter().copied());
        log_to(&mut command, &self.directory.log());
        command
    }

    pub fn start(&mut self) {
        self.start_by(&[]);
    }

    /// Starts it by way of a program.
    pub fn start_by(&mut self, program: &[&str]) {
        let child = self.command(program).spawn().unwrap();
        self.daemon = Some(Daemon::of(child, &self.directory.log()));
    }

    /// As it runs.
    pub fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().unwrap()
    }

    pub fn log(&self) -> String {
        read_log(&self.directory.log())
    }

    /// SIGTERM, and waits for the end.
    pub fn terminate(&mut self) {
        assert!(self.daemon.take().unwrap().terminate().0.success());
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.daemon = None;
    }

    /// Loses what was in memory.
    pub fn forget(&self) {
        let _ = std::fs::remove_dir_all(&self.runtime);
    }

    /// A client of the owner's.
    pub fn owner(&self) -> Client {
        Client::unix(&lanrage::daemon::socket_in(&self.directory.state()))
    }

    /// How many packets were dropped for this reason so far.
    pub fn dropped(&self, reason: &str) -> u64 {
        let metrics = self.owner().get("/metrics").is(200).body;
        let sample = format!("lanrage_relay_drops_total{{reason=\"{reason}\"}} ");
        metrics.lines().find_map(|line| line.strip_prefix(&sample)).map_or(0, |count| count.parse().unwrap())
    }

    /// What the relay says of a member.
    pub fn member(&self, name: &str) -> Value {
        let status = self.owner().get("/status").is(200).json();
        let Some(Value::Array(members)) = status.get("members") else { panic!("{status:?}") };
        let named = |member: &&Value| member.get("peer_id").and_then(Value::as_str) == Some(name);
        members.iter().find(named).unwrap_or_else(|| panic!("no {name} in {members:?}")).clone()
    }

    /// Makes a party, from this host.
    pub fn create(&self, host: &Namespace, name: &str) -> Member {
        self.enrol(host, name, None)
    }

    /// Joins a party, from this host.
    pub fn join(&self, host: &Namespace, name: &str, party: &str) -> Member {
        self.enrol(host, name, Some(party))
    }

    fn enrol(&self, host: &Namespace, name: &str, party: Option<&str>) -> Member {
        let address = SocketAddr::new(public_ip(1).into(), HTTP_PORT);
        let stream = host.inside(|| client::connect_from(Ipv4Addr::UNSPECIFIED, address));
        let mut client = Client::over(stream);
        client.register(name);
        let key = PrivateKey::generate();
        let answer = client.enrol(name, &key.public_key(), party).is(200);
        assert_eq!(answer.text(&["network", "relay", "endpoint"]), RELAY);
        assert_eq!(answer.text(&["network", "relay", "public_key"]), self.hub_key);
        let ip = answer.text(&["network", "virtual_ip"]).parse().unwrap();
        let party = party.map_or_else(|| answer.text(&["party_id"]), str::to_owned);
        Member { name: name.to_owned(), party, key, ip, client }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            if self.daemon.is_some() {
                let status = self.owner().try_ask("GET", "/status", "");
                eprintln!("{}", status.map(|answer| answer.body).unwrap_or_default());
            } else {
                eprintln!("the daemon's log:\n{}", self.log());
            }
        }
        self.daemon = None;
        let _ = std::fs::remove_dir_all(&self.runtime);
    }
}

/// A private key as `wg` reads it.
pub fn encode(key: &PrivateKey) -> String {
    STANDARD.encode(*key.to_bytes())
}
