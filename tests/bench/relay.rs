//! What the relay costs beside what else could do its work: bare loops of system calls and other WireGuard
//! hubs. `cargo bench --bench relay` as root, with `-- --quick` for a glance, or with the names of the parts
//! that are wanted: `-- blind hub latency`. `LANRAGE_BENCH_BINARY` names another build to measure.
//!
//! Servers run one at a time on a core of their own, in a network namespace; this program, in another, sends
//! volleys and waits for them to arrive. CPU time is the kernel's own count of the server's threads. Ratios
//! are medians of pairs measured one right after the other; a missed budget is no error.

#[allow(dead_code, reason = "shared with the other benchmark")]
mod client;
mod network;
mod players;
#[allow(dead_code, reason = "shared with the other benchmark")]
mod process;
mod rivals;
#[allow(dead_code, reason = "shared with the other benchmark")]
mod table;

use client::Client;
use lanrage::crypto::x25519::PrivateKey;
use network::{Network, PLAYERS};
use players::{Lane, Player, make_parties, settle, socket};
use process::{Cores, Daemon, StateDir};
use rivals::Rival;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};
use table::{Samples, Table};

/// Pairs of players, each in a party of its own.
const LANES: usize = 8;
/// What one member may send, with a margin, in bytes per second: the relay drops what is more.
const LANE_RATE: f64 = 20e6;
/// Datagrams in a burst.
const BURST: usize = 32;
/// Memory that waiting datagrams may take in a server's socket, in bytes: what kernels give by default, with
/// a margin. And what one takes there at the most besides its own bytes.
const BACKLOG: usize = 190_000;
const BOOKKEEPING: usize = 900;
/// Datagrams of others that are under way while latency is measured in a busy relay.
const LOAD: usize = 64;
/// A volley is over when nothing has arrived for this long.
const LOST: Duration = Duration::from_millis(20);
const SETTINGS: &[(&str, &str)] = &[("LANRAGE_RELAY", "10.99.0.1:0")];

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

/// How datagrams come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Style {
    /// Runs of datagrams, as a sender with GSO makes them.
    Bursts,
    /// A stream in which each is sent by itself.
    Singles,
    /// One, and the next when it has arrived.
    Alone,
}

impl Style {
    fn name(self) -> &'static str {
        match self {
            Style::Bursts => "bursts",
            Style::Singles => "singles",
            Style::Alone => "one at a time",
        }
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
    let state = StateDir::new("relay");
    let daemon = network.among_servers(|| Daemon::start(state.path(), SETTINGS, cores));
    let mut client = network.among_servers(|| Client::connect(daemon.http));
    let mut table = Table::default();
    if wants("blind") || wants("latency") {
        let mut pairs = blind_pairs(&mut client, daemon.relay);
        if wants("blind") {
            blind(scale, &network, cores, &daemon, &mut pairs, &mut table);
        }
        if wants("latency") {
            latency(scale, &network, cores, &daemon, &mut pairs, &mut table);
        }
    }
    if wants("hub") {
        hub(scale, &network, cores, &daemon, &mut client, &mut table);
    }
    println!("relay: coturn is not measured here");
    println!();
    table.print();
    println!("\nTook {} s.", begun.elapsed().as_secs());
    daemon.stop();
}

/// Players of which each two have a session with each other through the relay.
fn blind_pairs(client: &mut Client, relay: SocketAddr) -> Vec<Player> {
    let mut players: Vec<Player> =
        (0..2 * LANES).map(|number| Player::new(number, Ipv4Addr::UNSPECIFIED)).collect();
    make_parties(client, "blind", &mut players);
    for pair in players.chunks_mut(2) {
        let keys = [pair[1].key, pair[0].key];
        for (player, key) in pair.iter_mut().zip(keys) {
            player.reach(key, relay);
        }
    }
    settle(&mut players);
    players
}

/// One lane for each pair. What is in a blind datagram is nobody's business on the way, so one is repeated.
fn blind_lanes(players: &mut [Player], relay: SocketAddr, size: usize) -> Vec<Lane> {
    let lanes = players.chunks_mut(2).map(|pair| {
        let to = pair[1].ip;
        let mut datagram = [0; 2048];
        pair[0].seal(to, 20, &mut datagram);
        let clone = |player: &Player| player.socket.try_clone().expect("a socket");
        Lane::new(clone(&pair[0]), clone(&pair[1]), relay, &datagram[..size], BURST)
    });
    lanes.collect()
}

fn echo_lanes(server: SocketAddr, size: usize) -> Vec<Lane> {
    let lanes = (0..LANES).map(|lane| {
        let socket = socket(2 * lane);
        Lane::new(socket.try_clone().expect("a socket"), socket, server, &vec![7; size], BURST)
    });
    lanes.collect()
}

/// What one measurement gave.
struct Cost {
    /// CPU time for each datagram that arrived, in nanoseconds.
    nanos: f64,
    /// How many of those sent did not arrive, from 0 to 1.
    lost: f64,
}

/// Sends volleys for `span`.
fn measure(lanes: &mut [Lane], style: Style, span: Duration, cpu: impl Fn() -> u64) -> Cost {
    let mut buffer = vec![0; 65_536];
    lanes.iter().for_each(|lane| {
        lane.arrived(&mut buffer);
    });
    let (mut sent, mut arrived) = (0, 0);
    let before = cpu();
    let begun = Instant::now();
    let room = BACKLOG / (lanes[0].size + BOOKKEEPING);
    let each = match style {
        Style::Bursts => BURST,
        Style::Singles => (room / LANES).clamp(1, BURST),
        Style::Alone => 1,
    };
    let taking_part = if style == Style::Alone { 1 } else { (room / each).min(lanes.len()) };
    let count = each * taking_part;
    let pause = Duration::from_secs_f64((each * lanes[0].size) as f64 / LANE_RATE);
    while begun.elapsed() < span {
        let volley = Instant::now();
        lanes.rotate_left(taking_part % LANES);
        let senders = &mut lanes[..taking_part];
        senders.iter_mut().for_each(|lane| lane.refresh(each));
        if style == Style::Bursts {
            senders.iter_mut().for_each(|lane| lane.send_burst(each));
        } else {
            for index in 0..each {
                senders.iter_mut().for_each(|lane| lane.send_one(index));
            }
        }
        sent += count;
        let mut here = 0;
        let mut last = Instant::now();
        while here < count && last.elapsed() < LOST {
            let more: usize = lanes.iter().map(|lane| lane.arrived(&mut buffer)).sum();
            if more > 0 {
                (here, last) = (here + more, Instant::now());
            }
        }
        arrived += here;
        if style != Style::Alone {
            std::thread::sleep(pause.saturating_sub(volley.elapsed()));
        }
    }
    let used = cpu() - before;
    Cost {
        nanos: used as f64 / (arrived as f64).max(1.0),
        lost: (sent - arrived.min(sent)) as f64 / sent as f64,
    }
}

fn micros(samples: &Samples) -> String {
    format!("{:.2} us", samples.median() / 1000.0)
}

/// Samples of two servers and of their ratio.
#[derive(Default)]
struct Pairing {
    own: Samples,
    other: Samples,
    ratio: Samples,
    lost: Samples,
}

impl Pairing {
    fn push(&mut self, own: &Cost, other: &Cost) {
        self.own.push(own.nanos);
        self.other.push(other.nanos);
        self.ratio.push(own.nanos / other.nanos);
        self.lost.push(own.lost.max(other.lost));
    }

    fn text(&self) -> String {
        let lost = self.lost.quantile(1.0);
        let lost = if lost > 0.001 { format!(", up to {:.1}% lost", lost * 100.0) } else { String::new() };
        format!("{:.2} x ({} to {}{lost})", self.ratio.median(), micros(&self.own), micros(&self.other))
    }
}

fn blind(
    scale: Scale,
    network: &Network,
    cores: Cores,
    daemon: &Daemon,
    players: &mut [Player],
    table: &mut Table,
) {
    let daemon_cpu = || process::process_cpu(daemon.id());
    for size in [100, 1420] {
        let plain = network.among_servers(|| Rival::echo(0, cores));
        let grouped = network.among_servers(|| Rival::echo(size, cores));
        let mut own = blind_lanes(players, daemon.relay, size);
        let mut plain_lanes = echo_lanes(plain.address, size);
        let mut grouped_lanes = echo_lanes(grouped.address, size);
        for style in [Style::Bursts, Style::Singles, Style::Alone] {
            let (mut by_plain, mut by_grouped) = (Pairing::default(), Pairing::default());
            for _ in 0..scale.rounds {
                let mine = measure(&mut own, style, scale.span, daemon_cpu);
                by_plain.push(&mine, &measure(&mut plain_lanes, style, scale.span, || plain.cpu()));
                if style == Style::Bursts {
                    let other = measure(&mut grouped_lanes, style, scale.span, || grouped.cpu());
                    by_grouped.push(&mine, &other);
                }
            }
            let what = format!("blind, {size} B, {}", style.name());
            let name = format!("{what}: CPU against recv_from/send_to");
            match (style, size) {
                (Style::Bursts, _) => {
                    let name_grouped = format!("{what}: CPU against a bare GRO and GSO loop");
                    table.budget(&name_grouped, by_grouped.text(), by_grouped.ratio.median(), 1.3, " x");
                    table.note(&name, by_plain.text());
                }
                (Style::Singles, 100) => {
                    table.budget(&name, by_plain.text(), by_plain.ratio.median(), 1.15, " x");
                }
                _ => table.note(&name, by_plain.text()),
            }
        }
    }
}

/// Players with a session with a hub, and a lane for each two.
fn hub_lanes(mut players: Vec<Player>, server: SocketAddr, length: usize) -> Vec<Lane> {
    settle(&mut players);
    let mut lanes = Vec::new();
    let mut players = players.into_iter();
    while let (Some(mut from), Some(to)) = (players.next(), players.next()) {
        let mut datagram = [0; 2048];
        let size = from.seal(to.ip, length, &mut datagram);
        let sockets = (from.socket.try_clone().expect("a socket"), to.socket);
        let mut lane = Lane::new(sockets.0, sockets.1, server, &datagram[..size], BURST);
        lane.sealer = Some((from, to.ip, length));
        lanes.push(lane);
    }
    lanes
}

fn hub(
    scale: Scale,
    network: &Network,
    cores: Cores,
    daemon: &Daemon,
    client: &mut Client,
    table: &mut Table,
) {
    let daemon_cpu = || process::process_cpu(daemon.id());
    for (length, programs) in [100, 1420]
        .into_iter()
        .flat_map(|length| [(length, ("wireguard-go", 1.0 / 4.0)), (length, ("boringtun-cli", 1.0 / 3.0))])
    {
        let (program, budget) = programs;
        let first = PLAYERS / 2;
        let key = PrivateKey::generate();
        let mut theirs: Vec<Player> = (0..2 * LANES)
            .map(|number| Player::new(first + number, Ipv4Addr::new(10, 66, 1, number as u8 + 1)))
            .collect();
        let peers: Vec<_> = theirs.iter().map(|player| (player.key, player.ip)).collect();
        let rival = network.among_servers(|| Rival::hub(program, "lanrage-rival", &key, &peers, cores));
        let Some(rival) = rival else {
            println!("relay: there is no {program} here; not measured");
            continue;
        };
        for player in &mut theirs {
            player.reach(key.public_key(), rival.address);
        }
        let mut their_lanes = hub_lanes(theirs, rival.address, length);

        let mut ours: Vec<Player> =
            (0..2 * LANES).map(|number| Player::new(number, Ipv4Addr::UNSPECIFIED)).collect();
        let hub = make_parties(client, &format!("hub-{program}-{length}"), &mut ours);
        for player in &mut ours {
            player.reach(hub, daemon.relay);
        }
        let mut own = hub_lanes(ours, daemon.relay, length);
        for style in [Style::Bursts, Style::Singles] {
            let mut pairing = Pairing::default();
            for _ in 0..scale.rounds {
                let mine = measure(&mut own, style, scale.span, daemon_cpu);
                pairing.push(&mine, &measure(&mut their_lanes, style, scale.span, || rival.cpu()));
            }
            let name = format!("hub, {length} B, {}: CPU against {program}", style.name());
            table.budget(&name, pairing.text(), pairing.ratio.median(), budget, " x");
        }
    }
}

/// From sending to arriving, with both halves of the wire: the relay alone, and busy with others.
fn latency(
    scale: Scale,
    network: &Network,
    cores: Cores,
    daemon: &Daemon,
    players: &mut [Player],
    table: &mut Table,
) {
    let plain = network.among_servers(|| Rival::echo(0, cores));
    let mut own = blind_lanes(players, daemon.relay, 100);
    let mut theirs = echo_lanes(plain.address, 100);
    let daemon_cpu = || process::process_cpu(daemon.id());
    let text = |samples: &Samples| {
        format!("p50 {}, p99 {}", micros(samples), format_args!("{:.2} us", samples.quantile(0.99) / 1000.0))
    };
    let (bare, _) = probe(scale, &mut theirs, 0, || plain.cpu());
    table.note("latency, 100 B, by a bare loop, idle", text(&bare));
    let (idle, _) = probe(scale, &mut own, 0, daemon_cpu);
    table.note("latency, 100 B, by the relay, idle", text(&idle));
    let (bare_busy, busy) = probe(scale, &mut theirs, LOAD, || plain.cpu());
    let line = format!("{}, {:.0}% of a core", text(&bare_busy), busy * 100.0);
    table.note(&format!("latency, 100 B, by a bare loop, {LOAD} of others under way"), line);
    let (relay_busy, busy) = probe(scale, &mut own, LOAD, daemon_cpu);
    let added = (relay_busy.quantile(0.99) - bare.median()) / 1e6;
    let line = format!("{}, {:.0}% of a core", text(&relay_busy), busy * 100.0);
    let name = format!("latency, 100 B, by the relay, {LOAD} of others under way: p99 added");
    table.budget(&name, format!("{added:.2} ms ({line})"), added, 1.0, " ms");
}

/// Latencies of single datagrams of the first lane in nanoseconds, while the others keep `load` under way,
/// and how much of a core the server used.
fn probe(scale: Scale, lanes: &mut [Lane], load: usize, cpu: impl Fn() -> u64) -> (Samples, f64) {
    let mut buffer = vec![0; 65_536];
    let [probe, others @ ..] = lanes else { return (Samples::default(), 0.0) };
    probe.arrived(&mut buffer);
    let (mut under_way, mut next) = (0, 0);
    let mut samples = Samples::default();
    let (before, begun) = (cpu(), Instant::now());
    for _ in 0..scale.probes {
        let mut keep_busy = |buffer: &mut [u8], most: usize| {
            let arrived: usize = others.iter().map(|lane| lane.arrived(buffer)).sum();
            under_way = usize::saturating_sub(under_way, arrived);
            for _ in 0..most.min(load - under_way.min(load)) {
                others[next].send_one(0);
                next = (next + 1) % others.len();
                under_way += 1;
            }
        };
        keep_busy(&mut buffer, load);
        let sent = Instant::now();
        probe.send_one(0);
        let mut lost = false;
        while probe.arrived(&mut buffer) == 0 && !lost {
            // One at a time, so that the arrival is not noticed late.
            if load > 0 {
                keep_busy(&mut buffer, 1);
            }
            lost = sent.elapsed() > LOST;
        }
        samples.push(sent.elapsed().as_nanos() as f64);
        if lost {
            under_way = 0;
        }
        if load == 0 {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    let busy = (cpu() - before) as f64 / begun.elapsed().as_nanos() as f64;
    (samples, busy)
}
