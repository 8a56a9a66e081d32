//! Debian's PostgreSQL, in a directory of its own, on a Unix socket and a port of the loopback or of another machine.

use crate::harness::directory::{Directory, unique};
use crate::harness::namespace::Machine;
use crate::harness::process::Process;
use crate::harness::{PATIENCE, eventually};
use rustix::process::Signal;
use std::fs::OpenOptions;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";

/// A free port of the loopback that nobody else asks for meanwhile: none of those that connections of clients get, of
/// which there are many, and the next one each time.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let next = std::process::id().wrapping_mul(97).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 16_000 + (next % 16_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A database server.
pub struct Database {
    directory: Directory,
    machine: Machine,
    pub port: u16,
    options: Vec<String>,
    process: Option<Process>,
}

impl Database {
    /// A new, empty one that runs.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// With more options, each `NAME=VALUE`.
    pub fn with(options: &[&str]) -> Self {
        Self::on(&Machine::here(), options)
    }

    /// On this machine. Whoever is in its network is let in.
    pub fn on(machine: &Machine, options: &[&str]) -> Self {
        let mut database = Self::somewhere(machine, options);
        let data = database.data();
        run(program("initdb")
            .args(["--auth=trust", "--no-sync", "--no-instructions", "-E", "UTF8", "--locale=C", "-D"])
            .arg(&data));
        let mut rules = OpenOptions::new().append(true).open(data.join("pg_hba.conf")).unwrap();
        rules.write_all(b"host all all samenet trust\n").unwrap();
        database.begin();
        database
    }

    /// One that follows this one, and can take its place.
    pub fn standby(&self) -> Self {
        let mut standby = Self::somewhere(&Machine::here(), &[]);
        let source = format!("host=127.0.0.1 port={} user=postgres application_name=standby", self.port);
        run(program("pg_basebackup")
            .args(["--checkpoint=fast", "--no-sync", "-R", "-d", &source, "-D"])
            .arg(standby.data()));
        standby.begin();
        standby
    }

    fn somewhere(machine: &Machine, options: &[&str]) -> Self {
        let directory = Directory::new();
        own(&directory);
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        Database { directory, machine: machine.clone(), port: free_port(), options, process: None }
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// Starts it, and waits until it takes connections.
    pub fn begin(&mut self) {
        let (directory, address) = (self.directory.display().to_string(), self.machine.ip.to_string());
        let mut command = program("postgres");
        command.arg("-D").arg(self.data()).args(["-h", &address, "-k", &directory]);
        command.args(["-p", &self.port.to_string()]);
        // Processes are killed here, and no power cut: what the kernel has is safe.
        for option in ["fsync=off", "shared_buffers=16MB", "max_connections=40"] {
            command.args(["-c", option]);
        }
        for option in &self.options {
            command.args(["-c", option]);
        }
        let log = OpenOptions::new().create(true).append(true).open(self.directory.join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.process = Some(Process(self.machine.spawn(&mut command)));
        eventually("the database starts", || self.query("select 1").is_some());
    }

    /// Starts it again, without options.
    pub fn begin_plainly(&mut self) {
        self.options.clear();
        self.begin();
    }

    /// Ends it as an administrator does who has no time: connections are cut off.
    pub fn stop(&mut self) {
        let mut process = self.process.take().unwrap();
        let (_, took) = process.end_by(Signal::INT);
        assert!(took < PATIENCE);
    }

    /// kill -9 of all its processes.
    pub fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        let children =
            std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", process.pid())).unwrap();
        process.kill();
        for child in children.split_whitespace() {
            let child = rustix::process::Pid::from_raw(child.parse().unwrap()).unwrap();
            // Some end by themselves when the first one is gone.
            let _ = rustix::process::kill_process(child, Signal::KILL);
        }
    }

    /// What one statement answers, if it does. It is asked over the Unix socket, wherever the server is.
    pub fn query(&self, text: &str) -> Option<String> {
        let output = program("psql")
            .arg("-h")
            .arg(&*self.directory)
            .args(["-p", &self.port.to_string(), "-U", "postgres", "-qAtX", "-c", text])
            .output()
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        output.status.success().then(|| said.trim().to_owned())
    }

    /// Its URL over TCP.
    pub fn url(&self) -> String {
        format!("postgres://postgres@{}:{}/postgres", self.machine.ip, self.port)
    }

    /// Its URL over the Unix socket.
    pub fn socket_url(&self) -> String {
        format!("postgres:///postgres?host={}&port={}&user=postgres", self.directory.display(), self.port)
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // At once, without waiting for anybody.
            let _ = process.end_by(Signal::QUIT);
        }
        if std::thread::panicking() {
            eprintln!("the log of the database at {}:\n{}", self.port, self.log());
        }
    }
}

/// A program of PostgreSQL, which does not run as root.
fn program(name: &str) -> Command {
    let mut command = Command::new(Path::new(PROGRAMS).join(name));
    if let Some((user, group)) = owner() {
        command.uid(user).gid(group);
    }
    command.env_clear().env("PATH", PROGRAMS).env("LC_ALL", "C").current_dir("/");
    command
}

/// Whom PostgreSQL runs as, if this is root.
fn owner() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let line = users.lines().find_map(|line| line.strip_prefix("postgres:x:")).expect("the user postgres");
    let mut ids = line.split(':').map(|id| id.parse().unwrap_or_default());
    Some((ids.next()?, ids.next()?))
}

fn own(directory: &Path) {
    if let Some((user, group)) = owner() {
        std::os::unix::fs::chown(directory, Some(user), Some(group)).unwrap();
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A name that no other instance has.
pub fn instance() -> String {
    format!("i{}", unique())
}
