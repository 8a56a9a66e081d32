//! Two machines with a tunnel between them, by whichever program, and what a tunnel adds to the time that a datagram takes.

use super::Scale;
use super::harness::directory::unique;
use super::harness::namespace::{Namespace, feed};
use super::harness::process::Process;
use super::host::AgentHost;
use super::lab::{Lab, public_ip};
use super::process::{Cores, process_cpu};
use super::server::{Server, encode};
use super::table::{Samples, Table};
use lanrage::crypto::x25519::PrivateKey;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::Stdio;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// WireGuard in userspace, as others wrote it, and the variables that name a program which is not in the path.
pub const RIVALS: [(&str, &str); 2] =
    [("wireguard-go", "LANRAGE_WIREGUARD_GO"), ("boringtun-cli", "LANRAGE_BORINGTUN")];
/// The machines' public addresses.
const NUMBERS: [u8; 2] = [10, 11];
const PORT: u16 = 51_999;
/// What a datagram of a game may take longer.
const MOST_ADDED: f64 = 1.0;

/// Who carries the packets.
#[allow(dead_code, reason = "they run for as long as this lives")]
enum Carrier {
    Agents(Box<([AgentHost; 2], Server)>),
    Others(Vec<Process>),
    Nobody,
}

/// The machines, and how each is reached by the other.
pub struct Tunnel {
    carrier: Carrier,
    pub hosts: [Rc<Namespace>; 2],
    pub ips: [Ipv4Addr; 2],
    pids: Vec<u32>,
    /// The files of control sockets, which a killed process leaves.
    controls: Vec<String>,
    _lab: Lab,
}

impl Tunnel {
    /// None: the machines themselves.
    pub fn bare() -> Self {
        let lab = Lab::new();
        let hosts = NUMBERS.map(|number| lab.host(number));
        let ips = NUMBERS.map(public_ip);
        Tunnel { carrier: Carrier::Nobody, hosts, ips, pids: Vec::new(), controls: Vec::new(), _lab: lab }
    }

    /// By two agents. A `relayed` one finds no direct way.
    pub fn own(relayed: bool, cores: Cores) -> Self {
        let lab = Lab::new();
        let server = Server::new(&lab);
        let hosts = NUMBERS.map(|number| lab.host(number));
        if relayed {
            for (host, other) in hosts.iter().zip(NUMBERS.iter().rev()) {
                let rules = format!(
                    "add table inet closed\nadd chain inet closed in {{ type filter hook input priority 0; }}\n\
                     add rule inet closed in ip saddr {} drop\nadd rule inet closed in ip6 saddr 2001:db8::{other:x} drop\n",
                    public_ip(*other)
                );
                feed(&format!("ip netns exec {} nft -f -", host.name()), &rules);
            }
        }
        Cores::pin(cores.server);
        let mut first = AgentHost::hosting(hosts[0].clone(), "Alice");
        Cores::pin(cores.load);
        let mut second = AgentHost::joining(hosts[1].clone(), &first.party, "Bob");
        let begun = Instant::now();
        super::eventually("the way is chosen", || {
            first.ping(second.ip);
            let way = first.path(second.ip);
            if relayed { begun.elapsed().as_secs() > 3 && way == "relay" } else { way.starts_with("direct") }
        });
        let ips = [first.ip, second.ip];
        let pids = vec![first.process().pid(), second.process().pid()];
        let carrier = Carrier::Agents(Box::new(([first, second], server)));
        Tunnel { carrier, hosts, ips, pids, controls: Vec::new(), _lab: lab }
    }

    /// By another program. `None` if there is no such.
    pub fn by(program: &str, variable: &str, cores: Cores) -> Option<Self> {
        let mut tunnel = Tunnel::bare();
        let keys = [PrivateKey::generate(), PrivateKey::generate()];
        let path = std::env::var(variable).unwrap_or_else(|_| program.to_owned());
        tunnel.ips = [Ipv4Addr::new(10, 66, 0, 2), Ipv4Addr::new(10, 66, 0, 3)];
        let mut processes = Vec::new();
        for (own, core) in [cores.server, cores.load].into_iter().enumerate() {
            let (host, name) = (&tunnel.hosts[own], format!("lr{}", unique()));
            let mut command = host.command(&path);
            command
                .args(["-f", &name])
                .env("LOG_LEVEL", "error")
                .env("WG_THREADS", "1")
                .env("WG_SUDO", "true");
            Cores::pin(core);
            let child =
                command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
            let mut process = Process(child);
            let control = format!("/var/run/wireguard/{name}.sock");
            let begun = Instant::now();
            while !Path::new(&control).exists() {
                // `ip` says that there is no such program by ending.
                if !process.is_running() || begun.elapsed() > super::harness::PATIENCE {
                    return None;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            tunnel.controls.push(control);
            tunnel.pids.push(process.pid());
            processes.push(process);
            let wg = |settings: &str, input: &str| {
                feed(&format!("ip netns exec {} wg set {name} {settings}", host.name()), input)
            };
            wg(&format!("listen-port {PORT} private-key /dev/stdin"), &encode(&keys[own]));
            let other = 1 - own;
            let (key, ip) = (keys[other].public_key().encode(), tunnel.ips[other]);
            wg(&format!("peer {key} endpoint {}:{PORT} allowed-ips {ip}/32", public_ip(NUMBERS[other])), "");
            host.ip(&format!("addr add {}/16 dev {name}", tunnel.ips[own]));
            host.ip(&format!("link set {name} mtu 1420 up"));
        }
        tunnel.carrier = Carrier::Others(processes);
        super::eventually("an answer through the tunnel", || {
            let mut ping = tunnel.hosts[0].command("ping");
            ping.args(["-n", "-c", "1", "-W", "1", &tunnel.ips[1].to_string()]).stdout(Stdio::null());
            ping.status().is_ok_and(|status| status.success())
        });
        Some(tunnel)
    }

    /// The CPU time in nanoseconds that both ends have used.
    pub fn cpu(&self) -> [u64; 2] {
        let cpu = |end: usize| self.pids.get(end).map_or(0, |pid| process_cpu(*pid));
        [cpu(0), cpu(1)]
    }

    /// Round trips of small datagrams, one after the other, in milliseconds.
    fn round_trips(&self, count: usize, cores: Cores) -> Samples {
        let wait = Some(Duration::from_millis(100));
        let socket = |end: usize| {
            self.hosts[end].inside(|| {
                let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT + 1)).expect("a socket");
                socket.set_read_timeout(wait).expect("a time-out");
                socket
            })
        };
        let (here, there) = (socket(0), socket(1));
        let is_over = AtomicBool::new(false);
        let mut samples = Samples::new();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                Cores::pin(cores.load);
                let mut buffer = [0; 2048];
                while !is_over.load(Ordering::Relaxed) {
                    if let Ok((length, from)) = there.recv_from(&mut buffer) {
                        let _ = there.send_to(&buffer[..length], from);
                    }
                }
            });
            Cores::pin(cores.server);
            let mut buffer = [0; 2048];
            for probe in 0..count as u32 {
                let begun = Instant::now();
                buffer[..4].copy_from_slice(&probe.to_be_bytes());
                here.send_to(&buffer[..100], (self.ips[1], PORT + 1)).expect("sent");
                while let Ok(length) = here.recv(&mut buffer) {
                    if length == 100 && buffer[..4] == probe.to_be_bytes() {
                        samples.push(begun.elapsed().as_secs_f64() * 1e3);
                        break;
                    }
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            is_over.store(true, Ordering::Relaxed);
        });
        samples
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        for control in &self.controls {
            let _ = std::fs::remove_file(control);
        }
    }
}

/// What each adds to a round trip: in turns, as others have much to do here at times.
pub fn latency(scale: Scale, cores: Cores, table: &mut Table) {
    let mut all = vec![
        ("no tunnel", Some(Tunnel::bare())),
        ("agents, direct", Some(Tunnel::own(false, cores))),
        ("agents, by the relay", Some(Tunnel::own(true, cores))),
    ];
    all.extend(RIVALS.map(|(program, variable)| (program, Tunnel::by(program, variable, cores))));
    // The median, the 99th percentile, and how much more that is than without a tunnel.
    let mut figures = vec![[(); 3].map(|()| Samples::new()); all.len()];
    let mut lost = vec![0; all.len()];
    let probes = scale.probes / scale.rounds;
    for _ in 0..scale.rounds {
        let mut bare = f64::NAN;
        for (number, (_, tunnel)) in all.iter().enumerate() {
            let Some(tunnel) = tunnel else { continue };
            let samples = tunnel.round_trips(probes, cores);
            let worst = samples.quantile(0.99);
            bare = if number == 0 { worst } else { bare };
            let [median, p99, added] = &mut figures[number];
            median.push(samples.median());
            p99.push(worst);
            added.push(worst - bare);
            lost[number] += probes - samples.len();
        }
    }
    for (number, (name, tunnel)) in all.iter().enumerate() {
        let what = format!("round trip of 100 B, {name}: added at p99");
        let [median, p99, added] = figures[number].each_ref().map(Samples::median);
        let text = format!("{added:.2} ms (p50 {median:.3}, p99 {p99:.3}, {} lost)", lost[number]);
        match tunnel {
            None => table.missing(&what, "such program"),
            Some(Tunnel { carrier: Carrier::Agents(..), .. }) => {
                table.budget(&what, text, added, MOST_ADDED, " ms");
            }
            Some(_) => table.note(&what, text),
        }
    }
}
