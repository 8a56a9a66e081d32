//! A machine with an agent.

use crate::harness::daemon::{binary, log_to, read_log, settings};
use crate::harness::directory::Directory;
use crate::harness::namespace::Namespace;
use crate::harness::process::Process;
use lanrage::wire::json::{Value, parse};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, UdpSocket};
use std::process::{Child, ChildStdout, Command, Output};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Where everybody finds the server.
pub const URL: &str = "http://192.0.2.1:8667";
pub const INTERFACE: &str = "lanrage0";

/// The machine, and what its agent keeps.
pub struct AgentHost {
    pub host: Rc<Namespace>,
    pub directory: Directory,
    process: Option<(Process, BufReader<ChildStdout>)>,
    pub party: String,
    pub ip: Ipv4Addr,
}

impl AgentHost {
    /// Without a running agent.
    pub fn asleep(host: Rc<Namespace>) -> Self {
        let directory = Directory::new();
        AgentHost { host, directory, process: None, party: String::new(), ip: Ipv4Addr::UNSPECIFIED }
    }

    /// One that makes a party.
    pub fn hosting(host: Rc<Namespace>, name: &str) -> Self {
        let mut agent = Self::asleep(host);
        agent.start(&["host", URL, "Friday", "--name", name]);
        agent
    }

    /// One that joins a party.
    pub fn joining(host: Rc<Namespace>, party: &str, name: &str) -> Self {
        let mut agent = Self::asleep(host);
        agent.start(&["join", URL, party, "--name", name]);
        agent
    }

    /// `lanrage` on this machine.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.host.command(binary().to_str().unwrap());
        settings(&mut command, &self.directory.state(), []);
        command.args(arguments);
        command
    }

    pub fn spawn(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        log_to(&mut command, &self.directory.log());
        command.spawn().unwrap()
    }

    /// Starts the agent, and waits until it is in a party.
    pub fn start(&mut self, arguments: &[&str]) {
        let mut process = Process(self.spawn(arguments));
        let mut output = BufReader::new(process.0.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert!(line.starts_with("joined "), "{line:?} {}", self.log());
        let word = |name: &str| line.split(' ').find_map(|word| word.strip_prefix(name)).unwrap().to_owned();
        self.party = word("party=");
        self.ip = word("ip=").parse().unwrap();
        self.process = Some((process, output));
    }

    /// What it says next on its standard output that begins so.
    pub fn says(&mut self, beginning: &str) -> String {
        let (_, output) = self.process.as_mut().unwrap();
        let mut lines = output.lines().map(Result::unwrap);
        lines.find(|line| line.starts_with(beginning)).unwrap()
    }

    pub fn log(&self) -> String {
        read_log(&self.directory.log())
    }

    pub fn process(&mut self) -> &mut Process {
        &mut self.process.as_mut().unwrap().0
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.process().kill();
        self.process = None;
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// What a command says with `--json`.
    pub fn json(&self, command: &str) -> Value {
        let output = self.run(&[command, "--json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        parse(&output.stdout).unwrap()
    }

    /// What it says of a member.
    pub fn member(&self, ip: Ipv4Addr) -> Option<Value> {
        let peers = self.json("peers");
        let Some(Value::Array(members)) = peers.get("members") else { panic!("{peers:?}") };
        let ip = ip.to_string();
        members.iter().find(|member| member.get("ip").and_then(Value::as_str) == Some(&ip)).cloned()
    }

    /// A text that it says of a member; empty if there is none.
    fn text(&self, ip: Ipv4Addr, name: &str) -> String {
        let member = self.member(ip);
        let text = member.as_ref().and_then(|member| member.get(name)?.as_str());
        text.unwrap_or_default().to_owned()
    }

    /// How data gets to a member.
    pub fn path(&self, ip: Ipv4Addr) -> String {
        self.text(ip, "path")
    }

    /// Why that is not straight.
    pub fn why_not_direct(&self, ip: Ipv4Addr) -> String {
        self.text(ip, "why_not_direct")
    }

    /// Tries until there is an answer; how long that took.
    #[track_caller]
    pub fn ping(&self, ip: Ipv4Addr) -> Duration {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(20) {
            let mut ping = self.host.command("ping");
            let output = ping.args(["-n", "-c", "1", "-W", "1", &ip.to_string()]).output().unwrap();
            if output.status.success() {
                return start.elapsed();
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("no answer from {ip}: {}", self.log());
    }

    /// A socket on this machine that may broadcast.
    pub fn game(&self, port: u16) -> UdpSocket {
        self.host.inside(|| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
            socket.set_broadcast(true).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            socket
        })
    }

    /// Whether the interface is there.
    pub fn has_interface(&self) -> bool {
        self.host.command("ip").args(["link", "show", INTERFACE]).output().unwrap().status.success()
    }
}

impl Drop for AgentHost {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the agent's log:\n{}", self.log());
        }
    }
}
