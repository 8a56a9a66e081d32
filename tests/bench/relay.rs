//! What the relay costs beside what else could do its work: bare loops of system calls, coturn, the kernel's own
//! forwarding, and other WireGuard hubs. `cargo bench --bench relay` as root, with `-- --quick` for a glance, or with
//! the names of the parts that are wanted: `-- loops turn kernel latency hub handshakes encryption`.
//! `LANRAGE_BENCH_BINARY` names another build to measure, `LANRAGE_BORINGTUN` a boringtun-cli that is not in the path.
//! What is not installed is said in the table. The last part wants symbols: `CARGO_PROFILE_BENCH_STRIP=none`.
//!
//! Servers run one at a time on a core of their own, in a network namespace; this program, in another, sends
//! volleys and waits for them to arrive. CPU time is the kernel's own count of the server's threads. Ratios
//! are medians of pairs measured one right after the other; a missed budget is no error.

mod blind;
mod handshakes;
#[path = "../harness/mod.rs"]
mod harness;
mod hubs;
mod kernel;
mod latency;
mod network;
mod players;
#[allow(dead_code, reason = "shared with the other benchmark")]
mod process;
mod rivals;
mod share;
#[allow(dead_code, reason = "shared with the other benchmark")]
mod table;
mod turn;
mod volley;

use harness::client::Client;
use harness::directory::Directory;
use harness::player::Player;
use lanrage::crypto::x25519::PublicKey;
use network::Network;
use process::{Cores, Daemon};
use std::time::{Duration, Instant};
use table::Table;

const SETTINGS: &[(&str, &str)] = &[("http", "10.99.0.1:0"), ("relay", "10.99.0.1:0")];

/// How much is measured.
#[derive(Clone, Copy)]
struct Scale {
    rounds: usize,
    /// Of one measurement.
    span: Duration,
    /// Probes of latency.
    probes: usize,
}

const FULL: Scale = Scale { rounds: 9, span: Duration::from_millis(500), probes: 4000 };
const QUICK: Scale = Scale { rounds: 3, span: Duration::from_millis(200), probes: 500 };

/// What every part needs.
struct Stand {
    scale: Scale,
    cores: Cores,
    daemon: Daemon,
    table: Table,
    state: Directory,
    network: Network,
}

impl Stand {
    /// A fresh connection to the daemon's API, which closes those that say nothing for long: as the machine's owner, whose
    /// changes nobody counts.
    fn client(&self) -> Client {
        Client::unix(&self.state.join("control.sock"))
    }

    /// Makes a party of each two players.
    fn make_parties(&self, prefix: &str, players: &mut [Player]) -> PublicKey {
        players::make_parties(self.client(), self.daemon.http, prefix, players)
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [first, segment] = arguments.as_slice()
        && first == rivals::ECHO
    {
        rivals::serve_echo(segment.parse().expect("a size"));
        return;
    }
    if !rustix::process::geteuid().is_root() {
        println!("relay: needs root, to make network namespaces, and the `ip` command; nothing was measured");
        return;
    }
    // cargo adds --bench.
    let scale = if arguments.iter().any(|argument| argument == "--quick") { QUICK } else { FULL };
    let wanted: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let wants = |part: &str| wanted.is_empty() || wanted.iter().any(|name| *name == part);
    let begun = Instant::now();
    let cores = Cores::find();
    Cores::pin(cores.load);
    // In front of what else runs here; the servers inherit it.
    rustix::process::setpriority_process(None, -15).expect("a priority");
    let network = Network::new();
    let state = Directory::on_disk();
    let daemon = network.among_servers(|| Daemon::start(&state, SETTINGS, cores));
    let mut stand = Stand { scale, cores, daemon, table: Table::default(), state, network };
    if wants("loops") {
        blind::beside_loops(&mut stand);
    }
    if wants("turn") {
        blind::beside_turn(&mut stand);
    }
    if wants("kernel") {
        kernel::run(&mut stand);
    }
    if wants("latency") {
        latency::run(&mut stand);
    }
    if wants("hub") {
        hubs::run(&mut stand);
    }
    if wants("handshakes") {
        handshakes::run(&mut stand);
    }
    if wants("encryption") {
        hubs::encryption(&mut stand);
    }
    println!();
    stand.table.print();
    println!("\nTook {} s.", begun.elapsed().as_secs());
    stand.daemon.stop();
}
