//! Hosts, networks and NATs out of network namespaces. All that a lab makes is inside of them and goes with it.

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};

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

/// A number that no other lab or player on this machine has.
pub fn unique() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{}x{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A process that ends with its owner.
#[derive(Debug)]
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A namespace, with the loopback interface up.
#[derive(Debug)]
pub struct Namespace(String);

impl Namespace {
    fn new() -> Self {
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

    /// Sends every datagram that is for this UDP port twice from now on.
    pub fn stutter(&self, port: u16) {
        let rules = format!(
            "add table ip stutter\nadd chain ip stutter out {{ type filter hook output priority 0; }}\n\
             add rule ip stutter out udp dport {port} dup to ip daddr device \"eth0\"\n"
        );
        feed(&format!("ip netns exec {} nft -f -", self.0), &rules);
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

    /// Does something on a thread that is in here; sockets stay when they leave.
    #[track_caller]
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let file = std::fs::File::open(format!("/run/netns/{}", self.0)).unwrap();
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Connects an interface of this name to a bridge elsewhere.
    fn plug(&self, interface: &str, switch: &Namespace, bridge: &str) {
        let port = unique();
        self.ip(&format!("link add {interface} type veth peer name {port} netns {}", switch.0));
        switch.ip(&format!("link set {port} master {bridge} up"));
        self.ip(&format!("link set {interface} up"));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

/// The address of the public host with this number.
pub fn public_ip(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, number)
}

/// Its IPv6 address.
pub fn public_ip6(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number.into())
}

/// How a NAT chooses the port of a new mapping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mapping {
    /// The client's own, if that is free.
    Preserving,
    /// Any, another one for each destination.
    Symmetric,
}

/// A router with a NAT, and the network behind it.
#[derive(Debug)]
pub struct Nat(Namespace);

impl Nat {
    /// A host behind it.
    pub fn host(&self, number: u8) -> Rc<Namespace> {
        let host = Namespace::new();
        host.plug("eth0", &self.0, "lan");
        host.ip(&format!("addr add 198.51.100.{number}/24 dev eth0"));
        host.ip("route add default via 198.51.100.1");
        Rc::new(host)
    }

    /// Forgets its mappings, as after a restart, and makes new ones like this, on these ports only if told so.
    pub fn set(&self, mapping: Mapping, ports: Option<&str>) {
        let to = ports.map_or(String::new(), |ports| format!(" to :{ports}"));
        let how = match mapping {
            Mapping::Preserving => "",
            Mapping::Symmetric => " random,fully-random",
        };
        let rules = format!(
            "add table ip nat\nflush table ip nat\nadd chain ip nat out {{ type nat hook postrouting priority 100; }}\n\
             add rule ip nat out oifname \"eth0\" meta l4proto {{ tcp, udp }} masquerade{to}{how}\n\
             add rule ip nat out oifname \"eth0\" masquerade\n"
        );
        feed(&format!("ip netns exec {} nft -f -", self.0.0), &rules);
        self.0.run("conntrack -F");
    }
}

/// The internet: one network with public hosts.
#[derive(Debug)]
pub struct Lab(Namespace);

impl Lab {
    pub fn new() -> Self {
        let internet = Namespace::new();
        internet.ip("link add wan type bridge");
        internet.ip("link set wan up");
        Lab(internet)
    }

    /// A host with a public address.
    pub fn host(&self, number: u8) -> Rc<Namespace> {
        Rc::new(self.public(number))
    }

    /// A host without any network; even its loopback interface is down.
    pub fn unplugged(&self) -> Rc<Namespace> {
        let host = self.bare();
        host.ip("link set lo down");
        host
    }

    /// A host that is connected to nothing.
    pub fn bare(&self) -> Rc<Namespace> {
        Rc::new(Namespace::new())
    }

    /// Connects an interface of a host, without addresses.
    pub fn plug(&self, host: &Namespace, interface: &str) {
        host.plug(interface, &self.0, "wan");
    }

    /// Gives a host the public IPv4 address of this number.
    pub fn connect(&self, host: &Namespace, number: u8) {
        self.plug(host, "eth0");
        host.ip(&format!("addr add {}/24 dev eth0", public_ip(number)));
    }

    fn public(&self, number: u8) -> Namespace {
        let host = Namespace::new();
        self.connect(&host, number);
        host.ip(&format!("addr add {}/64 dev eth0 nodad", public_ip6(number)));
        host
    }

    /// A NAT with a public address.
    pub fn nat(&self, number: u8, mapping: Mapping) -> Nat {
        let router = self.public(number);
        router.inside(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap());
        router.ip("link add lan type bridge");
        router.ip("addr add 198.51.100.1/24 dev lan");
        router.ip("link set lan up");
        let nat = Nat(router);
        nat.set(mapping, None);
        nat
    }
}
