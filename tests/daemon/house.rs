//! The real binary, running.

use crate::client::Client;
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A directory of its own that goes with it.
#[derive(Debug)]
pub struct Directory(PathBuf);

impl Directory {
    pub fn new() -> Arc<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("lanrage-e2e-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Arc::new(Directory(path))
    }

    /// Where the daemon keeps its state; the daemon makes it.
    pub fn state(&self) -> PathBuf {
        self.0.join("state")
    }

    pub fn file(&self) -> PathBuf {
        lanrage::store::path_in(&self.state())
    }

    pub fn log(&self) -> PathBuf {
        self.0.join("log")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// How a daemon is started.
#[derive(Clone, Debug)]
pub struct Plan {
    directory: Arc<Directory>,
    state: PathBuf,
    settings: Vec<(String, String)>,
    environment: Vec<(&'static str, String)>,
    prelude: &'static str,
}

impl Plan {
    /// A new state directory, any free ports, and these settings by key.
    pub fn new(settings: &[(&str, &str)]) -> Self {
        let directory = Directory::new();
        let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let (settings, environment) = (settings.collect(), Vec::new());
        Plan { state: directory.state(), directory, settings, environment, prelude: "" }
    }

    /// With shell commands that come first, such as a limit.
    pub fn after(self, prelude: &'static str) -> Self {
        Plan { prelude, ..self }
    }

    /// With another variable in its environment.
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.environment.push((name, value.to_owned()));
        self
    }

    /// With its state elsewhere.
    pub fn in_state(self, state: &Path) -> Self {
        Plan { state: state.to_owned(), ..self }
    }

    /// With a settings file that says this.
    pub fn with_file(mut self, text: &str) -> Self {
        self.settings.push(("config".to_owned(), self.file().display().to_string()));
        self.write_file(text);
        self
    }

    /// The settings file.
    pub fn file(&self) -> PathBuf {
        self.directory.0.join("lanrage.toml")
    }

    pub fn write_file(&self, text: &str) {
        std::fs::write(self.file(), text).unwrap();
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new("sh");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.directory.log()).unwrap();
        command
            .args(["-c", &format!("{}\nexec \"$0\" serve", self.prelude)])
            .arg(binary())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("LANRAGE_STATE_DIR", &self.state)
            .env("LANRAGE_RUNTIME_DIR", self.directory.0.join("run"))
            .env("LANRAGE_HTTP", "127.0.0.1:0")
            .env("LANRAGE_RELAY", "127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        for (key, value) in &self.settings {
            command.env(format!("LANRAGE_{}", key.replace('.', "_").to_uppercase()), value);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts it and waits until it listens.
    pub fn start(self) -> House {
        let child = self.spawn();
        self.house_of(child)
    }

    /// Like [`Plan::start`], with its log going elsewhere.
    pub fn start_logging_to(self, log: impl Into<Stdio>) -> House {
        let child = self.command().stderr(log).spawn().unwrap();
        self.house_of(child)
    }

    /// Waits until a spawned one listens.
    pub fn house_of(self, mut child: Child) -> House {
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let mut words = line.split_whitespace();
        assert_eq!(words.next(), Some("listening"), "{line:?} {}", self.log());
        let mut address = |name: &str| -> SocketAddr {
            words.next().and_then(|word| word.strip_prefix(name)).unwrap().parse().unwrap()
        };
        let (http, relay) = (address("http="), address("relay="));
        House { plan: self, child, output, http, relay }
    }

    /// Starts it and waits for nothing.
    pub fn spawn(&self) -> Child {
        self.command().spawn().unwrap()
    }

    /// Starts one that is expected to give up, and returns how it ended and what it said.
    pub fn fail(self) -> (ExitStatus, String) {
        let before = self.log().len();
        let mut child = self.command().spawn().unwrap();
        let status = wait(&mut child);
        (status, self.log().split_off(before))
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.log()).unwrap_or_default()
    }

    pub fn directory(&self) -> &Directory {
        &self.directory
    }
}

/// What is tested: the program that Cargo built, or another build of it in `LANRAGE_BIN`.
pub fn binary() -> OsString {
    std::env::var_os("LANRAGE_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_lanrage").into())
}

fn wait(child: &mut Child) -> ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if start.elapsed() > crate::PATIENCE {
            let _ = child.kill();
            panic!("the daemon does not end");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A running daemon.
pub struct House {
    pub plan: Plan,
    child: Child,
    /// Kept, so that the daemon has somewhere to print to.
    #[allow(dead_code, reason = "only has to stay open")]
    output: BufReader<ChildStdout>,
    pub http: SocketAddr,
    pub relay: SocketAddr,
}

impl House {
    pub fn start() -> Self {
        Plan::new(&[]).start()
    }

    /// A new connection from 127.0.0.1.
    pub fn client(&self) -> Client {
        Client::connect(self.http)
    }

    /// A new connection over the Unix socket.
    pub fn owner(&self) -> Client {
        Client::unix(&lanrage::daemon::socket_in(&self.plan.state))
    }

    /// The value of a sample of `/metrics` that has no labels.
    pub fn metric(&self, name: &str) -> u64 {
        self.client().metric(name)
    }

    /// What a command of the program says to the owner.
    pub fn say(&self, command: &str) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_lanrage"))
            .arg(command)
            .env_clear()
            .env("LANRAGE_STATE_DIR", &self.plan.state)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// SIGTERM. Returns how it ended, and after how long.
    pub fn terminate(&mut self) -> (ExitStatus, Duration) {
        let start = Instant::now();
        self.signal(Signal::TERM);
        let status = wait(&mut self.child);
        (status, start.elapsed())
    }

    /// Starts it anew once it has ended. The ports are others then.
    pub fn restart(&mut self) {
        assert!(!self.is_running());
        *self = self.plan.clone().start();
    }

    fn proc(&self, name: &str) -> PathBuf {
        format!("/proc/{}/{name}", self.child.id()).into()
    }

    /// Threads it has now.
    pub fn threads(&self) -> u64 {
        self.number_in("status", "Threads")
    }

    /// Memory it has now, in KiB.
    pub fn memory(&self) -> u64 {
        self.number_in("status", "VmRSS")
    }

    /// Processor time that it has had so far.
    pub fn cpu(&self) -> Duration {
        let threads = std::fs::read_dir(self.proc("task")).unwrap();
        let nanos = |thread: std::fs::DirEntry| {
            let text = std::fs::read_to_string(thread.path().join("schedstat")).unwrap();
            text.split_whitespace().next().unwrap().parse::<u64>().unwrap()
        };
        Duration::from_nanos(threads.map(|thread| nanos(thread.unwrap())).sum())
    }

    /// Descriptors it has open now.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(self.proc("fd")).unwrap().count()
    }

    /// Bytes that it has caused to be written to any disk so far.
    pub fn bytes_written(&self) -> u64 {
        self.number_in("io", "write_bytes")
    }

    fn number_in(&self, file: &str, field: &str) -> u64 {
        let text = std::fs::read_to_string(self.proc(file)).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.plan.log());
        }
    }
}
