//! The real binary, running.

use super::client::Client;
use super::process::Process;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

/// What is tested: the program that Cargo built, or another build of it in `LANRAGE_BIN`.
pub fn binary() -> PathBuf {
    std::env::var_os("LANRAGE_BIN").map_or_else(|| env!("CARGO_BIN_EXE_lanrage").into(), PathBuf::from)
}

/// Gives `command` an environment of its own: where the state is, any free ports, and these settings by key.
pub fn settings<'a>(command: &mut Command, state: &Path, more: impl IntoIterator<Item = (&'a str, &'a str)>) {
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("LANRAGE_STATE_DIR", state)
        .env("LANRAGE_HTTP", "127.0.0.1:0")
        .env("LANRAGE_RELAY", "127.0.0.1:0");
    for (key, value) in more {
        command.env(format!("LANRAGE_{}", key.replace('.', "_").to_uppercase()), value);
    }
}

/// Sends what `command` will log to the end of a file, and what it prints to us.
pub fn log_to(command: &mut Command, log: &Path) {
    let log = OpenOptions::new().create(true).append(true).open(log).unwrap();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
}

/// What a log says so far.
pub fn read_log(log: &Path) -> String {
    std::fs::read_to_string(log).unwrap_or_default()
}

/// A running daemon. If its test fails, its log is printed.
pub struct Daemon {
    process: Process,
    /// Kept, so that it has somewhere to print to.
    _output: BufReader<ChildStdout>,
    log: PathBuf,
    pub http: SocketAddr,
    pub relay: SocketAddr,
}

impl Daemon {
    /// Starts one, whose log goes to the end of a file, and waits until it listens.
    pub fn start(command: &mut Command, log: &Path) -> Self {
        log_to(command, log);
        Self::of(command.spawn().unwrap(), log)
    }

    /// Waits until one that was started listens.
    pub fn of(child: Child, log: &Path) -> Self {
        let mut process = Process(child);
        let mut output = BufReader::new(process.0.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let mut words = line.split_whitespace();
        assert_eq!(words.next(), Some("listening"), "{line:?} {}", read_log(log));
        let mut address = |name: &str| -> SocketAddr {
            words.next().and_then(|word| word.strip_prefix(name)).unwrap().parse().unwrap()
        };
        let (http, relay) = (address("http="), address("relay="));
        Daemon { process, _output: output, log: log.to_owned(), http, relay }
    }

    pub fn log(&self) -> String {
        read_log(&self.log)
    }

    /// A new connection from this machine.
    pub fn client(&self) -> Client {
        Client::connect(self.http)
    }
}

impl Deref for Daemon {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Daemon {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.process.kill();
            eprintln!("the daemon's log:\n{}", self.log());
        }
    }
}
