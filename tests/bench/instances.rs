//! Three instances of one realm over a PostgreSQL that waits for its disk, and one on a file beside them.

use super::database::{Database, free_port, instance};
use super::harness::daemon::{self, Daemon};
use super::harness::directory::Directory;
use super::harness::eventually;
use super::process::binary;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Everybody is on this machine, and nobody goes before the end.
const SETTINGS: &[(&str, &str)] = &[
    ("subnet", "10.96.0.0/11"),
    ("limits.connections", "2048"),
    ("limits.connections_per_source", "2048"),
    ("limits.parties", "100000"),
    ("limits.peers_per_party", "256"),
    ("limits.tokens", "400000"),
    ("limits.addresses_remembered", "400000"),
    ("timeouts.peer", "3600"),
    ("log", "warn"),
];

/// A process, and where its state or its sockets are.
pub struct Instance {
    pub daemon: Daemon,
    pub directory: Directory,
    /// From before it is started until it answers.
    pub started_in: Duration,
    /// Processor time that it has had by then.
    pub start_cpu: Duration,
}

impl Instance {
    /// On a file of its own.
    pub fn on_file() -> Self {
        Self::start(Directory::new(), &[])
    }

    /// On the file that is in this directory.
    pub fn on_file_in(directory: Directory) -> Self {
        Self::start(directory, &[])
    }

    /// Of a realm in a database.
    pub fn of(database: &Database, realm: &str) -> Self {
        let (url, http) = (database.url(), format!("127.0.0.1:{}", free_port()));
        let more = [("store", &*url), ("realm", realm), ("instance", &instance()), ("http", &http)];
        Self::start(Directory::new(), &more)
    }

    fn start(directory: Directory, more: &[(&str, &str)]) -> Self {
        let mut command = Command::new(binary());
        command.arg("serve");
        daemon::settings(&mut command, &directory.state(), SETTINGS.iter().chain(more).copied());
        let begun = Instant::now();
        let daemon = Daemon::start(&mut command, &directory.log());
        daemon.client().get("/").is(200);
        let started_in = begun.elapsed();
        let start_cpu = daemon.cpu();
        Instance { daemon, directory, started_in, start_cpu }
    }

    /// Stops it in good order. Where its state is stays.
    pub fn stop(mut self) -> Directory {
        self.daemon.terminate();
        self.directory
    }

    pub fn http(&self) -> SocketAddr {
        self.daemon.http
    }

    /// Commits so far, and rows in them.
    pub fn commits(&self) -> (u64, u64) {
        let mut client = self.daemon.client();
        (client.metric("lanrage_store_commits_total"), client.metric("lanrage_store_rows_total"))
    }

    /// Memory that is its own and no file's, in bytes.
    pub fn memory(&self) -> f64 {
        self.daemon.status("RssAnon") as f64 * 1024.0
    }

    /// The most memory that it has had so far, in bytes.
    pub fn most_memory(&self) -> f64 {
        self.daemon.status("VmHWM") as f64 * 1024.0
    }
}

/// A database and the instances of its realm.
pub struct Realm {
    pub database: Database,
    pub writer: Instance,
    pub followers: Vec<Instance>,
}

impl Realm {
    /// With so many that follow.
    pub fn start(followers: usize) -> Self {
        let database = Database::with(&["fsync=on", "shared_buffers=128MB"]);
        let writer = Instance::of(&database, "default");
        let followers = (0..followers).map(|_| Instance::of(&database, "default")).collect();
        Realm { database, writer, followers }
    }

    /// All of them, the writer first.
    pub fn all(&self) -> Vec<SocketAddr> {
        std::iter::once(&self.writer).chain(&self.followers).map(Instance::http).collect()
    }

    /// The number of the last commit.
    pub fn commit(&self) -> u64 {
        self.number("select seq from lanrage.realm where name = 'default'")
    }

    /// A number that is asked of the database.
    pub fn number(&self, statement: &str) -> u64 {
        self.database.query(statement).expect("an answer").parse().expect("a number")
    }

    /// One that followed writes by now, and a new one follows.
    pub fn succeed(&mut self) {
        let mut next = None;
        eventually("another one writes", || {
            let url = self.database.query("select url from lanrage.realm where name = 'default'");
            let is_it = |one: &Instance| url == Some(format!("http://{}", one.http()));
            next = self.followers.iter().position(is_it);
            next.is_some()
        });
        self.writer = self.followers.swap_remove(next.expect("it was just found"));
        self.followers.push(Instance::of(&self.database, "default"));
    }

    /// Has another realm be as a file is; how long that took.
    pub fn import(&self, realm: &str, file: &Path) -> Duration {
        let begun = Instant::now();
        let status = Command::new(binary())
            .args(["db", "import", "--store", &self.database.url(), "--realm", realm])
            .arg(file)
            .env_clear()
            .stdout(Stdio::null())
            .status()
            .expect("the program runs");
        assert!(status.success(), "the import failed");
        begun.elapsed()
    }
}
