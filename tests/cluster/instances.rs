//! Instances that serve at the same time: to who asks, it is one server.

mod doors;
mod heartbeats;
mod owner;
mod relays;
mod removals;
mod signals;
mod sockets;
mod strangers;
mod writes;

use crate::client::{Answer, Client};
use crate::database::{Database, free_port, instance};
use crate::harness::namespace::Machine;
use crate::socket::Socket;
use crate::test_daemon::{Setup, TestDaemon};
use crate::{PATIENCE, eventually};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// How soon a change is everywhere.
pub const SOON: Duration = Duration::from_secs(1);

/// All clients here are at one address.
pub const ROOMY: [(&str, &str); 2] =
    [("limits.connections_per_source", "200"), ("limits.sessions_per_source", "200")];

/// How one instance over this database is started, and what it is called.
pub fn setup(url: &str, more: &[(&str, &str)]) -> (Setup, String) {
    setup_on(&Machine::here(), url, more)
}

/// The same on this machine.
pub fn setup_on(machine: &Machine, url: &str, more: &[(&str, &str)]) -> (Setup, String) {
    // Where it listens stays the same, however often it begins again.
    let (http, relay) = (format!("{}:{}", machine.ip, free_port()), format!("{}:0", machine.ip));
    let name = instance();
    let own = [("store", url), ("instance", &name), ("http", &http), ("relay", &relay), ("log", "debug")];
    let mut setup = Setup::new(&[&own, more].concat());
    setup.machine = machine.clone();
    (setup, name)
}

/// A figure of `/metrics`, if it answers.
pub fn figure(daemon: &TestDaemon, name: &str) -> Option<f64> {
    // Where a proxy on this machine is trusted, nobody is local over the loopback.
    let path = lanrage::daemon::socket_in(&daemon.setup.directory().state());
    let stream = TcpStream::from(OwnedFd::from(UnixStream::connect(path).ok()?));
    stream.set_read_timeout(Some(SOON)).ok()?;
    let answer = Client::over(stream).try_ask("GET", "/metrics", "").ok()?;
    answer.body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?.parse().ok()
}

/// Whether this instance writes now.
pub fn writes(daemon: &TestDaemon) -> bool {
    figure(daemon, "lanrage_instance_writes") == Some(1.0)
}

/// Starts an instance, and waits until it writes.
pub fn writer(setup: Setup) -> TestDaemon {
    let daemon = setup.start();
    eventually("it writes", || writes(&daemon));
    daemon
}

/// Starts an instance, and waits until it follows another one.
pub fn follower(setup: Setup) -> TestDaemon {
    let before = setup.log().len();
    let daemon = setup.start();
    eventually("it follows", || {
        daemon.log()[before..].contains("following: realm \"default\" is written by")
    });
    assert!(!writes(&daemon), "{}", daemon.log());
    daemon
}

/// Several instances over one database. The first one wrote first.
pub struct Instances {
    pub all: Vec<TestDaemon>,
    pub names: Vec<String>,
    pub database: Database,
}

impl Instances {
    /// Three.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// Three with these settings.
    pub fn with(more: &[(&str, &str)]) -> Self {
        let database = Database::start();
        Self::over(&database.url(), more, database)
    }

    /// Three over a database that is reached there.
    pub fn over(url: &str, more: &[(&str, &str)], database: Database) -> Self {
        Self::of((0..3).map(|_| setup(url, &[&ROOMY, more].concat())), database)
    }

    /// These, as [`setup`] gives them.
    pub fn of(setups: impl Iterator<Item = (Setup, String)>, database: Database) -> Self {
        let (setups, names): (Vec<_>, Vec<_>) = setups.unzip();
        let mut setups = setups.into_iter();
        let mut all: Vec<TestDaemon> = setups.next().map(writer).into_iter().collect();
        all.extend(setups.map(follower));
        Instances { all, names, database }
    }

    /// Which one writes now.
    pub fn writer(&self) -> usize {
        let mut found = None;
        eventually("one writes", || {
            found = self.all.iter().position(writes);
            found.is_some()
        });
        found.unwrap()
    }

    /// Those that do not.
    pub fn followers(&self) -> Vec<usize> {
        let writer = self.writer();
        (0..self.all.len()).filter(|at| *at != writer).collect()
    }

    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.all.iter().map(|daemon| daemon.http).collect()
    }

    pub fn client(&self, at: usize) -> Client {
        self.all[at].client()
    }

    /// A client on the machine of an instance.
    pub fn client_beside(&self, at: usize) -> Client {
        self.all[at].setup.machine.inside(|| self.client(at))
    }

    /// A session at an instance, for the peer whose token that is.
    pub fn session(&self, at: usize, client: &Client) -> Socket {
        Socket::of(client, self.all[at].http)
    }

    /// A client that asks each time another instance.
    pub fn passed_on(&self) -> PassedOn {
        PassedOn { clients: (0..self.all.len()).map(|at| self.client(at)).collect(), turn: 0 }
    }

    /// The number of the last commit.
    pub fn commits(&self) -> u64 {
        self.database.query("select seq from lanrage.realm").unwrap().parse().unwrap()
    }

    /// Waits until all have all commits, and says how long that took.
    pub fn settle(&self) -> Duration {
        self.settle_at(&[0, 1, 2])
    }

    /// Waits until these have all commits, and says how long that took.
    pub fn settle_at(&self, of: &[usize]) -> Duration {
        let commits = self.commits() as f64;
        let commits_of = |at: &usize| figure(&self.all[*at], "lanrage_realm_commits");
        eventually("all have all commits", || {
            of.iter().all(|at| commits_of(at).is_some_and(|seen| seen >= commits))
        })
    }
}

/// A client behind a proxy that passes each request on to the next instance.
pub struct PassedOn {
    clients: Vec<Client>,
    turn: usize,
}

impl PassedOn {
    /// The connection whose turn it is.
    pub fn next(&mut self) -> &mut Client {
        self.turn = (self.turn + 1) % self.clients.len();
        &mut self.clients[self.turn]
    }

    #[track_caller]
    pub fn ask(&mut self, method: &str, path: &str, body: &str) -> Answer {
        self.next().ask(method, path, body)
    }

    /// Registers, and uses the token from now on.
    #[track_caller]
    pub fn register(&mut self, peer: &str) {
        let token = self.next().register(peer).token.clone();
        self.clients.iter_mut().for_each(|client| client.token.clone_from(&token));
    }
}

/// Every pair of instances, with each itself, too.
pub fn pairs() -> impl Iterator<Item = (usize, usize)> {
    (0..9).map(|number| (number / 3, number % 3))
}

/// Times that something took.
#[derive(Clone, Default)]
pub struct Times(Vec<Duration>);

impl Times {
    pub fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// Adds how long it takes from `start` until something is so.
    #[track_caller]
    pub fn add_until(&mut self, what: &str, start: Instant, mut is_so: impl FnMut() -> bool) {
        while !is_so() {
            assert!(start.elapsed() < PATIENCE, "{what}");
            std::thread::sleep(Duration::from_millis(1));
        }
        self.add(start.elapsed());
    }

    pub fn extend(&mut self, other: Times) {
        self.0.extend(other.0);
    }

    /// Prints them, and gives what all but one in a hundred took at most.
    pub fn show(&mut self, what: &str) -> Duration {
        self.0.sort();
        let quantile = |hundredths| self.0[(self.0.len() - 1) * hundredths / 100];
        let (p50, p99, most) = (quantile(50), quantile(99), quantile(100));
        println!("{what}: {} times, p50 {p50:.1?}, p99 {p99:.1?}, at most {most:.1?}", self.0.len());
        p99
    }
}
