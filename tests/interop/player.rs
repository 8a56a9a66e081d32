//! A member's machine, with a WireGuard that is not ours.

use crate::harness::directory::unique;
use crate::harness::namespace::{Namespace, feed, run};
use crate::harness::process::Process;
use crate::server::{HUB_IP, Member, RELAY, encode};
use std::cell::RefCell;
use std::collections::HashSet;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::Stdio;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Whose WireGuard runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Program {
    WireguardGo,
    Boringtun,
}

/// What a player's interface is.
pub struct Player {
    pub member: Member,
    pub host: Rc<Namespace>,
    program: Program,
    interface: String,
    /// The keys of its peers.
    peers: RefCell<HashSet<String>>,
    _process: Process,
}

impl Player {
    /// Brings up the interface, without peers.
    pub fn new(member: Member, host: Rc<Namespace>) -> Self {
        let interface = format!("lr{}", unique());
        let second = member.name.bytes().last().is_some_and(|last| last % 2 == 1);
        let boringtun = std::env::var("LANRAGE_BORINGTUN").ok().filter(|_| second);
        let mut command = host.command(boringtun.as_deref().unwrap_or("wireguard-go"));
        command.args(["-f", &interface]);
        let program = if boringtun.is_some() {
            // By itself it connects a socket to each peer's endpoint and takes everything that comes by it for
            // that peer's. Blind peers all have the relay as endpoint: all but one would go unheard.
            command.args(["--disable-drop-privileges", "--disable-connected-udp", "--verbosity", "error"]);
            Program::Boringtun
        } else {
            Program::WireguardGo
        };
        let child = command
            .env("LOG_LEVEL", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let process = Process(child);
        let socket = format!("/var/run/wireguard/{interface}.sock");
        crate::eventually("WireGuard runs", || Path::new(&socket).exists());
        crate::eventually("the interface is there", || {
            host.command("ip").args(["link", "show", &interface]).output().unwrap().status.success()
        });
        let peers = RefCell::default();
        let player = Player { member, host, program, interface, peers, _process: process };
        player.set_key();
        let Player { host, interface, member, .. } = &player;
        host.ip(&format!("addr add {}/16 dev {interface}", member.ip));
        host.ip(&format!("link set {interface} mtu 1420 up"));
        player
    }

    /// Uses the member's private key, if that has changed.
    pub fn set_key(&self) {
        self.wg_with("private-key /dev/stdin", &encode(&self.member.key));
    }

    fn wg_with(&self, settings: &str, input: &str) {
        feed(&format!("ip netns exec {} wg set {} {settings}", self.host.name(), self.interface), input);
    }

    /// `wg set` on its interface.
    pub fn wg(&self, settings: &str) {
        self.wg_with(settings, "");
    }

    /// Adds the hub, for these addresses, or changes them.
    pub fn add_hub(&self, key: &str, allowed: &str) {
        self.add_peer(key, HUB_IP, allowed);
    }

    /// Adds another player, by way of the relay.
    pub fn add(&self, other: &Player) {
        let ip = other.member.ip;
        self.add_peer(&other.member.public_key(), ip, &format!("{ip}/32"));
    }

    /// Adds whoever has this key, by way of the relay.
    pub fn add_peer(&self, key: &str, ip: Ipv4Addr, allowed: &str) {
        let is_new = self.peers.borrow_mut().insert(key.to_owned());
        if self.program == Program::Boringtun && !is_new {
            // It can't change a peer: asked to, it panics.
            self.wg(&format!("peer {key} remove"));
        }
        self.wg(&format!("peer {key} endpoint {RELAY} persistent-keepalive 25 allowed-ips {allowed}"));
        if self.program == Program::Boringtun {
            // Others say a keepalive at once, it does so after 25 s. Nobody finds who never said a word.
            self.send_something(ip);
        }
    }

    /// Sends a datagram that nobody waits for.
    fn send_something(&self, ip: Ipv4Addr) {
        self.host.inside(|| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
            socket.send_to(b"hello", (ip, 9)).unwrap();
        });
    }

    /// Tries, ten times a second, until there is an answer; how long that took, if it came in time.
    pub fn reaches(&self, ip: Ipv4Addr, within: Duration) -> Option<Duration> {
        let start = Instant::now();
        let mut ping = self.host.command("ping");
        let seconds = within.as_secs().max(1).to_string();
        ping.args(["-n", "-q", "-i", "0.1", "-c", "1", "-w", &seconds, &ip.to_string()]);
        let answered = ping.output().unwrap().status.success();
        answered.then(|| start.elapsed())
    }

    /// Tries until there is an answer.
    #[track_caller]
    pub fn ping(&self, ip: Ipv4Addr) -> Duration {
        self.reaches(ip, crate::PATIENCE)
            .unwrap_or_else(|| panic!("{} gets no answer from {ip}:\n{}", self.member.name, self.show()))
    }

    /// Both try, twenty times a second, until each has an answer.
    pub fn talk(&self, other: &Player) -> Talk {
        let try_out = |from: &Player, to: &Player| {
            let mut ping = from.host.command("ping");
            let seconds = crate::PATIENCE.as_secs().to_string();
            ping.args(["-n", "-q", "-i", "0.05", "-c", "1", "-w", &seconds, &to.member.ip.to_string()]);
            Process(ping.stdout(Stdio::null()).spawn().unwrap())
        };
        Talk([try_out(self, other), try_out(other, self)])
    }

    fn show(&self) -> String {
        run(&format!("ip netns exec {} wg show {}", self.host.name(), self.interface))
    }

    /// Sends what is for these addresses into the tunnel.
    pub fn route(&self, addresses: &str) {
        self.host.ip(&format!("route add {addresses} dev {}", self.interface));
    }

    /// Gives the interface this address instead of its own.
    pub fn change_ip(&self, ip: Ipv4Addr) {
        self.host.ip(&format!("addr flush dev {}", self.interface));
        self.host.ip(&format!("addr add {ip}/16 dev {}", self.interface));
    }

    /// The UDP port that its WireGuard uses from now on.
    pub fn set_port(&self, port: u16) {
        self.wg(&format!("listen-port {port}"));
    }

    /// When its last handshake with the hub or another player was, in seconds since 1970; 0 if none was, or, with
    /// boringtun, if it was less than a second ago.
    pub fn last_handshake(&self, key: &str) -> u64 {
        let command =
            format!("ip netns exec {} wg show {} latest-handshakes", self.host.name(), self.interface);
        let lines = run(&command);
        let line = lines.lines().find_map(|line| line.strip_prefix(key));
        let number = line.map_or(0, |number| number.trim().parse().unwrap());
        match self.program {
            // It says how long ago that was.
            Program::Boringtun if number > 0 => {
                SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() - number
            }
            _ => number,
        }
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(format!("/var/run/wireguard/{}.sock", self.interface));
    }
}

/// Two who try to talk.
pub struct Talk([Process; 2]);

impl Talk {
    /// How long after `start` both have an answer.
    #[track_caller]
    pub fn wait(self, start: Instant) -> Duration {
        let mut ended = [None; 2];
        let Talk(mut tries) = self;
        crate::eventually("both get an answer", || {
            for (process, end) in tries.iter_mut().zip(&mut ended) {
                if end.is_none()
                    && let Some(status) = process.0.try_wait().unwrap()
                {
                    assert!(status.success(), "no answer came");
                    *end = Some(start.elapsed());
                }
            }
            ended.iter().all(Option::is_some)
        });
        ended.into_iter().flatten().max().unwrap()
    }
}
