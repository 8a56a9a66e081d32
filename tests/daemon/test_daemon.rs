//! The real binary, running.

use crate::client::Client;
use crate::harness::daemon::{Daemon, binary, log_to, read_log, settings};
use crate::harness::directory::Directory;
use crate::harness::namespace::Machine;
use crate::harness::process::Process;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;

/// How a daemon is started.
#[derive(Clone, Debug)]
pub struct Setup {
    directory: Arc<Directory>,
    state: PathBuf,
    settings: Vec<(String, String)>,
    environment: Vec<(&'static str, String)>,
    prelude: &'static str,
    program: PathBuf,
    /// Where it runs. What it listens at is up to the settings.
    pub machine: Machine,
}

impl Setup {
    /// A new state directory, any free ports, and these settings by key.
    pub fn new(settings: &[(&str, &str)]) -> Self {
        let directory = Arc::new(Directory::new());
        let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let (settings, environment) = (settings.collect(), Vec::new());
        let (program, machine) = (binary(), Machine::here());
        Setup { state: directory.state(), directory, settings, environment, prelude: "", program, machine }
    }

    /// Of another program.
    pub fn of(self, program: PathBuf) -> Self {
        Setup { program, ..self }
    }

    /// With shell commands that come first, such as a limit.
    pub fn after(self, prelude: &'static str) -> Self {
        Setup { prelude, ..self }
    }

    /// With another variable in its environment.
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.environment.push((name, value.to_owned()));
        self
    }

    /// With its state elsewhere.
    pub fn in_state(self, state: &Path) -> Self {
        Setup { state: state.to_owned(), ..self }
    }

    /// With a settings file that says this.
    pub fn with_file(mut self, text: &str) -> Self {
        self.settings.push(("config".to_owned(), self.file().display().to_string()));
        self.write_file(text);
        self
    }

    /// The settings file.
    pub fn file(&self) -> PathBuf {
        self.directory.join("lanrage.toml")
    }

    pub fn write_file(&self, text: &str) {
        std::fs::write(self.file(), text).unwrap();
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{}\nexec \"$0\" serve", self.prelude)]).arg(&self.program);
        let more = self.settings.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        settings(&mut command, &self.state, more);
        command.env("LANRAGE_RUNTIME_DIR", self.directory.join("run")).envs(self.environment.iter().cloned());
        log_to(&mut command, &self.directory.log());
        command
    }

    /// Starts it and waits until it listens.
    pub fn start(self) -> TestDaemon {
        let child = self.spawn();
        self.daemon_of(child)
    }

    /// Like [`Setup::start`], with its log going elsewhere.
    pub fn start_logging_to(self, log: impl Into<Stdio>) -> TestDaemon {
        let child = self.machine.spawn(self.command().stderr(log));
        self.daemon_of(child)
    }

    /// Waits until a spawned one listens.
    pub fn daemon_of(self, child: Child) -> TestDaemon {
        let daemon = Daemon::of(child, &self.directory.log());
        TestDaemon { setup: self, daemon }
    }

    /// Starts it and waits for nothing.
    pub fn spawn(&self) -> Child {
        self.machine.spawn(&mut self.command())
    }

    /// Starts one that is expected to give up, and returns how it ended and what it said.
    pub fn fail(self) -> (ExitStatus, String) {
        let before = self.log().len();
        let status = Process(self.spawn()).wait();
        (status, self.log().split_off(before))
    }

    pub fn log(&self) -> String {
        read_log(&self.directory.log())
    }

    pub fn directory(&self) -> &Directory {
        &self.directory
    }
}

/// A running daemon, and how it was started.
pub struct TestDaemon {
    daemon: Daemon,
    pub setup: Setup,
}

impl TestDaemon {
    pub fn start() -> Self {
        Setup::new(&[]).start()
    }

    /// A new connection over the Unix socket.
    pub fn owner(&self) -> Client {
        Client::unix(&lanrage::daemon::socket_in(&self.setup.state))
    }

    /// The value of a sample of `/metrics` that has no labels.
    pub fn metric(&self, name: &str) -> u64 {
        // Where a proxy on this machine is trusted, nobody is local over the loopback; some tests delete the socket.
        let is_there = lanrage::daemon::socket_in(&self.setup.state).exists();
        let mut client = if is_there { self.owner() } else { self.client() };
        client.metric(name)
    }

    /// What a command of the program says to the owner.
    pub fn say(&self, command: &str) -> String {
        let output = Command::new(binary())
            .args(command.split_whitespace())
            .env_clear()
            .env("LANRAGE_STATE_DIR", &self.setup.state)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Starts it anew once it has ended. The ports are others then.
    pub fn restart(&mut self) {
        assert!(!self.is_running());
        *self = self.setup.clone().start();
    }
}

impl Deref for TestDaemon {
    type Target = Daemon;

    fn deref(&self) -> &Daemon {
        &self.daemon
    }
}

impl DerefMut for TestDaemon {
    fn deref_mut(&mut self) -> &mut Daemon {
        &mut self.daemon
    }
}
