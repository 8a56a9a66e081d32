//! Network namespaces: for tests that run as root.

use super::directory::unique;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

/// Runs a command and returns what it printed; it must succeed.
#[track_caller]
pub fn run(command: &str) -> String {
    feed(command, "")
}

/// Runs a command with this input and returns what it printed; it must succeed.
#[track_caller]
pub fn feed(command: &str, input: &str) -> String {
    let mut words = command.split_whitespace();
    let mut child = Command::new(words.next().unwrap())
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command}: {error}"));
    // A command that reads nothing may be gone by now.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {} {errors}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// A namespace, with the loopback interface up. All that is made in it goes with it.
#[derive(Debug)]
pub struct Namespace(String);

impl Namespace {
    pub fn new() -> Self {
        let namespace = Namespace(format!("lanrage-{}", unique()));
        run(&format!("ip netns add {}", namespace.0));
        namespace.ip("link set lo up");
        namespace
    }

    pub fn name(&self) -> &str {
        &self.0
    }

    /// `ip` in here.
    #[track_caller]
    pub fn ip(&self, arguments: &str) -> String {
        run(&format!("ip -n {} {arguments}", self.0))
    }

    /// Any command in here.
    #[track_caller]
    pub fn run(&self, command: &str) -> String {
        run(&format!("ip netns exec {} {command}", self.0))
    }

    /// A program that is to run in here. The process is the program itself, as `ip` gives way to it.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0, program]);
        command
    }

    /// Moves the calling thread into it.
    pub fn enter(&self) {
        enter(&File::open(format!("/run/netns/{}", self.0)).unwrap());
    }

    /// Does something on a thread that is in here; sockets stay when they leave.
    #[track_caller]
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                self.enter();
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

/// Where a process runs, and where it listens.
#[derive(Clone, Debug)]
pub struct Machine {
    /// `None` if it is this one.
    namespace: Option<Arc<Namespace>>,
    pub ip: Ipv4Addr,
}

impl Machine {
    /// This one, by its loopback.
    pub fn here() -> Self {
        Machine { namespace: None, ip: Ipv4Addr::LOCALHOST }
    }

    /// One of its own, that has this address.
    pub fn at(namespace: Arc<Namespace>, ip: Ipv4Addr) -> Self {
        Machine { namespace: Some(namespace), ip }
    }

    /// Does something there.
    #[track_caller]
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        match &self.namespace {
            Some(namespace) => namespace.inside(work),
            None => work(),
        }
    }

    /// Starts a program there.
    pub fn spawn(&self, command: &mut Command) -> Child {
        self.inside(|| command.spawn().unwrap())
    }
}

/// Moves the calling thread into the namespace that this file stands for.
pub fn enter(namespace: &File) {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
}
