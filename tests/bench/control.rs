//! What the control plane costs: CPU per request, latency, memory, disk. `cargo bench --bench control`, with
//! `-- --quick` for a glance, or with the names of the parts that are wanted: `-- idle requests joins house
//! sessions`. Prints a table with the budgets beside the figures; missing one is no error. With `--budgets` it
//! prints only these, for `.ci/budgets`. `LANRAGE_BENCH_BINARY` names another build to measure.
//!
//! The daemon is the real one, as a process on a core of its own. CPU time is the kernel's own count in
//! nanoseconds, so it holds on a busy machine too; wall-clock figures want a quiet one.

mod baseline;
mod client;
#[path = "../harness/mod.rs"]
mod harness;
mod house;
#[allow(dead_code, reason = "shared with the relay's benchmark")]
mod network;
#[allow(dead_code, reason = "shared with the relay's benchmark")]
mod players;
#[allow(dead_code, reason = "shared with the relay's benchmark")]
mod process;
#[allow(dead_code, reason = "shared with the relay's benchmark")]
mod table;

use baseline::Baseline;
use client::{Client, WebSocket, request};
use harness::directory::Directory;
use harness::player::Player;
use house::Peer;
use lanrage::crypto::x25519::PrivateKey;
use process::{Cores, Daemon, binary};
use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};
use table::{Samples, Table};

/// Peers in a party.
const SIZE: usize = 8;
/// Connections that heartbeats of a full house come over.
const CONNECTIONS: usize = 32;
/// Pairs that have a session through the relay while the house is full.
const FLOWS: usize = 100;
/// A stock client's heartbeat.
const HEARTBEAT_INTERVAL: f64 = 30.0;

/// Everything comes from one address here.
const SETTINGS: &[(&str, &str)] = &[("limits.connections", "512"), ("limits.connections_per_source", "512")];

/// How much is measured.
struct Scale {
    parties: usize,
    rounds: usize,
    /// Requests in a round.
    requests: usize,
    /// Parties that are filled one join at a time.
    joined: usize,
    /// How long heartbeats come at each rate.
    span: Duration,
    starts: usize,
    idle: Duration,
    /// Members that are told of a change.
    audiences: [usize; 2],
    changes: usize,
}

const FULL: Scale = Scale {
    parties: 1000,
    rounds: 9,
    requests: 2000,
    joined: 20,
    span: Duration::from_secs(8),
    starts: 9,
    idle: Duration::from_secs(5),
    audiences: [8, 1000],
    changes: 40,
};

const QUICK: Scale = Scale {
    parties: 1000,
    rounds: 3,
    requests: 500,
    joined: 4,
    span: Duration::from_secs(1),
    starts: 3,
    idle: Duration::from_secs(2),
    audiences: [8, 200],
    changes: 10,
};

fn main() {
    // cargo adds --bench.
    let given = |flag: &str| std::env::args().any(|argument| argument == flag);
    let quick = given("--quick");
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let wants = |part: &str| wanted.is_empty() || wanted.iter().any(|name| name == part);
    let scale = if quick { QUICK } else { FULL };
    let cores = Cores::find();
    Cores::pin(cores.load);
    raise_descriptors();
    let begun = Instant::now();
    let mut table = Table::default();

    let size = fs::metadata(binary()).expect("the binary").len() as f64 / 1e6;
    table.budget("binary, as built here", format!("{size:.2} MB"), size, 1.5, " MB");
    if wants("idle") {
        idle(&scale, cores, &mut table);
    }
    if wants("requests") {
        requests(&scale, cores, &mut table);
    }
    if wants("joins") {
        joins(&scale, cores, &mut table);
    }
    if wants("house") {
        full_house(&scale, cores, &mut table);
    }
    if wants("sessions") {
        for members in scale.audiences {
            fan_out(members, scale.changes, cores, &mut table);
        }
    }
    if given("--budgets") {
        return table.print_budgets();
    }
    println!();
    table.print();
    println!("\nTook {} s.", begun.elapsed().as_secs());
}

/// A thousand WebSockets need descriptors at both ends.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("raising a soft limit");
}

fn micros(nanos: u64, count: usize) -> f64 {
    nanos as f64 / 1000.0 / count as f64
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

fn memory_line(daemon: &Daemon) -> (f64, String) {
    let (all, own) = daemon.memory();
    (mib(all), format!("{:.1} MiB (own {:.1})", mib(all), mib(own)))
}

fn idle(scale: &Scale, cores: Cores, table: &mut Table) {
    let state = Directory::on_disk();
    let daemon = Daemon::start(&state, SETTINGS, cores);
    Client::connect(daemon.http).ask(&request("GET", "/", None, ""));
    // The door goes on looking for time-outs for up to a second after the last connection.
    std::thread::sleep(Duration::from_millis(1500));
    let (value, line) = memory_line(&daemon);
    table.budget("memory at rest", line, value, 3.0, " MiB");
    let threads = daemon.threads();
    table.budget("threads at rest", threads.to_string(), threads as f64, 3.0, "");
    let (sleeps, cpu) = (daemon.sleeps(), daemon.cpu());
    std::thread::sleep(scale.idle);
    let used = daemon.cpu().since(cpu);
    table.note(
        &format!("wake-ups at rest in {} s", scale.idle.as_secs()),
        format!("{} ({} us of CPU)", daemon.sleeps() - sleeps, (used.main + used.store) / 1000),
    );
    daemon.stop();
}

/// CPU per request, one after the other over one connection, in turn with the baseline.
fn requests(scale: &Scale, cores: Cores, table: &mut Table) {
    let state = Directory::on_disk();
    let daemon = Daemon::start(&state, SETTINGS, cores);
    let peers = house::fill(daemon.http, "peer", 1, SIZE);
    let kinds = [
        ("GET /", request("GET", "/", None, "")),
        ("heartbeat", peers[1].heartbeat()),
        ("GET peers, 8 of them", peers[1].read_peers()),
    ];
    let baseline = Baseline::start(cores);
    let mut bare = Client::connect(baseline.address);
    let mut client = Client::connect(daemon.http);
    let mut bare_costs = Samples::default();
    let mut costs = kinds.each_ref().map(|_| (Samples::default(), Samples::default()));
    // The first round is for the caches.
    for round in 0..=scale.rounds {
        let before = baseline.cpu();
        for _ in 0..scale.requests {
            bare.ask(&kinds[0].1);
        }
        let bare_cost = micros(baseline.cpu() - before, scale.requests);
        if round > 0 {
            bare_costs.push(bare_cost);
        }
        for ((_, request), (cost, ratio)) in kinds.iter().zip(&mut costs) {
            let before = daemon.cpu();
            for _ in 0..scale.requests {
                client.ask(request);
            }
            let used = micros(daemon.cpu().since(before).main, scale.requests);
            if round > 0 {
                cost.push(used);
                ratio.push(used / bare_cost);
            }
        }
    }
    table.note("a bare wait, read, write: CPU", format!("{:.1} us", bare_costs.median()));
    for ((name, _), (cost, ratio)) in kinds.iter().zip(&costs) {
        let (cost, ratio) = (cost.median(), ratio.median());
        let measured = format!("{cost:.1} us ({ratio:.1} x bare)");
        match *name {
            "heartbeat" => table.budget(&format!("{name}: CPU"), measured, cost, 110.0, " us"),
            _ => table.note(&format!("{name}: CPU"), measured),
        }
    }
    let mut clients = house::clients(daemon.http, CONNECTIONS);
    let heartbeats = vec![peers[1].heartbeat(); scale.requests];
    let mut cost = Samples::default();
    for _ in 0..scale.rounds {
        let before = daemon.cpu();
        house::ask_all(&mut clients, &heartbeats, |_, _| {});
        cost.push(micros(daemon.cpu().since(before).main, scale.requests));
    }
    table.note(&format!("heartbeat, {CONNECTIONS} at once: CPU"), format!("{:.1} us", cost.median()));
    drop((client, clients));
    daemon.stop();
}

/// Joins, each with a commit of its own, and then many that share one.
fn joins(scale: &Scale, cores: Cores, table: &mut Table) {
    let state = Directory::on_disk();
    let daemon = Daemon::start(&state, SETTINGS, cores);
    let mut clients = house::clients(daemon.http, CONNECTIONS);
    for (prefix, at_once) in [("one", 1), ("many", CONNECTIONS)] {
        let clients = &mut clients[..at_once];
        let mut peers = house::register(clients, prefix, scale.joined * SIZE);
        let creates: Vec<Vec<u8>> = peers.iter().step_by(SIZE).map(Peer::create).collect();
        let mut parties = Vec::new();
        house::ask_all(clients, &creates, |_, body| parties.push(client::text_member(body, "party_id")));
        for (index, peer) in peers.iter_mut().enumerate() {
            peer.party = parties[index / SIZE].clone();
        }
        let guests = peers.iter().enumerate().filter(|(index, _)| index % SIZE != 0);
        let requests: Vec<Vec<u8>> = guests.map(|(_, peer)| peer.join(&peer.party)).collect();
        let (cpu, written) = (daemon.cpu(), daemon.bytes_written());
        let mut took = Samples::default();
        for chunk in requests.chunks(at_once) {
            let begun = Instant::now();
            house::ask_all(clients, chunk, |_, _| {});
            took.push(begun.elapsed().as_secs_f64() * 1000.0);
        }
        let (used, count) = (daemon.cpu().since(cpu), requests.len());
        let written = (daemon.bytes_written() - written) as f64 / 1024.0 / count as f64;
        let name = if at_once == 1 { "join".to_owned() } else { format!("join, {at_once} at once") };
        table.note(
            &format!("{name}: CPU"),
            format!("{:.0} us + commit {:.0} us", micros(used.main, count), micros(used.store, count)),
        );
        table.note(
            &format!("{name}: until durable, p50; written"),
            format!("{:.1} ms; {written:.0} KiB each", took.median()),
        );
    }
    drop(clients);
    daemon.stop();
}

/// Many parties: memory, start, and heartbeats at the rate at which they come.
fn full_house(scale: &Scale, cores: Cores, table: &mut Table) {
    let state = Directory::on_disk();
    let house = format!("{} parties of {SIZE}", scale.parties);
    let daemon = Daemon::start(&state, SETTINGS, cores);
    let peers = house::fill(daemon.http, "peer", scale.parties, SIZE);
    let players = flows(&daemon, FLOWS);
    std::thread::sleep(Duration::from_millis(1500));
    let (value, line) = memory_line(&daemon);
    table.budget(&format!("memory, {house} just made, {FLOWS} flows"), line, value, 16.0, " MiB");
    drop(players);
    daemon.stop();

    let (mut starts, mut start_cpu) = (Samples::default(), Samples::default());
    for _ in 0..scale.starts {
        let begun = Instant::now();
        let daemon = Daemon::start(&state, SETTINGS, cores);
        Client::connect(daemon.http).ask(&request("GET", "/", None, ""));
        starts.push(begun.elapsed().as_secs_f64() * 1000.0);
        start_cpu.push(daemon.cpu_with_children());
        daemon.stop();
    }
    // What else the machine does comes on top: the best is the one that is ours.
    let (best, median) = (starts.quantile(0.0), starts.median());
    let measured = format!("{best:.0} ms at best (median {median:.0})");
    table.budget(&format!("start to first answer, {house}"), measured, best, 100.0, " ms");
    let cpu = start_cpu.quantile(0.0);
    table.budget("start to first answer: CPU", format!("{cpu:.0} ms at best"), cpu, 100.0, " ms");

    let daemon = Daemon::start(&state, SETTINGS, cores);
    let heartbeats: Vec<Vec<u8>> = peers.iter().map(Peer::heartbeat).collect();
    let mut clients = house::clients(daemon.http, CONNECTIONS);
    house::ask_all(&mut clients, &heartbeats, |_, _| {});
    let (value, line) = memory_line(&daemon);
    table.budget(&format!("memory, {house} after a restart"), line, value, 16.0, " MiB");
    let (written, files) = (daemon.bytes_written(), files_in(&state));
    let natural = peers.len() as f64 / HEARTBEAT_INTERVAL;
    let baseline = Baseline::start(cores);
    let mut bare = [Client::connect(baseline.address)];
    for rate in [natural, 10.0 * natural] {
        // Requests that come one by one cost more than those in a row, bare ones too.
        let (before, span) = (baseline.cpu(), scale.span / 4);
        let bare_latencies = at_rate(&mut bare, &heartbeats, rate, span);
        let bare_cost = micros(baseline.cpu() - before, bare_latencies.len());
        let before = daemon.cpu();
        let latencies = at_rate(&mut clients, &heartbeats, rate, scale.span);
        let (p50, p99) = (latencies.quantile(0.5), latencies.quantile(0.99));
        let used = daemon.cpu().since(before);
        let cost = micros(used.main, latencies.len());
        table.note(
            &format!("heartbeats, {rate:.0} a second: CPU"),
            format!("{cost:.1} us ({:.1} x bare)", cost / bare_cost),
        );
        table.budget(
            &format!("heartbeats, {rate:.0} a second: p99"),
            format!("{p99:.2} ms (p50 {p50:.2}; bare {:.2} ms)", bare_latencies.quantile(0.99)),
            p99,
            10.0,
            " ms",
        );
    }
    let written = daemon.bytes_written() - written;
    table.budget("written to disk meanwhile", format!("{written} B"), written as f64, 0.0, " B");
    let now = files_in(&state);
    let changed = now.iter().filter(|file| !files.contains(file)).count() + files.len().abs_diff(now.len());
    table.budget("files changed meanwhile", changed.to_string(), changed as f64, 0.0, "");
    drop(clients);
    daemon.stop();
}

/// Every file in a directory, with its length and when it was last written.
fn files_in(directory: &Path) -> Vec<(std::ffi::OsString, u64, SystemTime)> {
    let entries = fs::read_dir(directory).expect("the state directory");
    let mut files: Vec<_> = entries
        .map(|entry| {
            let entry = entry.expect("a file");
            let metadata = entry.metadata().expect("its metadata");
            (entry.file_name(), metadata.len(), metadata.modified().expect("a time"))
        })
        .collect();
    files.sort();
    files
}

/// Parties of two who have a session with each other that the relay can't read.
fn flows(daemon: &Daemon, count: usize) -> Vec<Player> {
    let mut players: Vec<Player> = (0..2 * count)
        .map(|number| {
            // To the relay's limits for sources they are as many as they would be in the world.
            let home = Ipv4Addr::new(127, 1, (number / 250) as u8, (number % 250) as u8 + 1);
            let socket = UdpSocket::bind((home, 0)).expect("a socket");
            socket.set_nonblocking(true).expect("a socket that does not block");
            Player::over(socket, PrivateKey::generate(), Ipv4Addr::UNSPECIFIED)
        })
        .collect();
    players::make_parties(daemon.client(), daemon.http, "flow", &mut players);
    for pair in players.chunks_mut(2) {
        let [one, other] = &mut *pair else { unreachable!("they come in pairs") };
        players::reach(one, other.key.public_key(), daemon.relay);
        players::reach(other, one.key.public_key(), daemon.relay);
        // One pair after the other: the relay has a limit for strangers who all come at once.
        players::settle(pair);
    }
    assert_eq!(daemon.client().metric("lanrage_relay_flows"), count as u64, "flows through the relay");
    players
}

/// Sends `requests` again and again at `rate` a second. The latencies in ms, each from when the request was
/// due, so that one that is held up counts for those behind it too.
fn at_rate(clients: &mut [Client], requests: &[Vec<u8>], rate: f64, span: Duration) -> Samples {
    let mut latencies = Samples::default();
    let begun = Instant::now();
    for (index, request) in requests.iter().cycle().enumerate() {
        let due = Duration::from_secs_f64(index as f64 / rate);
        if due >= span || begun.elapsed() > 2 * span {
            break;
        }
        // Sleeping is not exact enough, so the end of it is spent spinning.
        if let Some(early) = due.checked_sub(begun.elapsed() + Duration::from_micros(200)) {
            std::thread::sleep(early);
        }
        while begun.elapsed() < due {
            std::hint::spin_loop();
        }
        let count = clients.len();
        clients[index % count].ask(request);
        latencies.push((begun.elapsed() - due).as_secs_f64() * 1000.0);
    }
    latencies
}

/// One party whose members all have a WebSocket, and members without one that leave.
fn fan_out(members: usize, changes: usize, cores: Cores, table: &mut Table) {
    let state = Directory::on_disk();
    let settings = [
        ("limits.peers_per_party", "4096"),
        ("limits.sessions", "2048"),
        ("limits.sessions_per_source", "2048"),
    ];
    let daemon = Daemon::start(&state, &[SETTINGS, &settings].concat(), cores);
    let peers = house::fill(daemon.http, "peer", 1, members + changes);
    let mut sessions: Vec<WebSocket> = Vec::with_capacity(members);
    for peer in &peers[..members] {
        let mut session = Client::connect(daemon.http).upgrade();
        session.send(&format!("{{\"type\":\"auth\",\"token\":\"{}\"}}", peer.token));
        // The party as it is.
        session.receive();
        sessions.push(session);
    }
    let mut client = Client::connect(daemon.http);
    let (mut cost, mut last) = (Samples::default(), Samples::default());
    for peer in &peers[members..] {
        let (before, begun) = (daemon.cpu(), Instant::now());
        client.send(&peer.leave());
        sessions.iter_mut().for_each(|session| assert!(session.receive() < 200, "a short message"));
        last.push(begun.elapsed().as_secs_f64() * 1000.0);
        client.receive();
        cost.push(micros(daemon.cpu().since(before).main, members));
    }
    table.note(
        &format!("a change told to {members} members: CPU each"),
        format!("{:.1} us (the last after {:.1} ms)", cost.median(), last.median()),
    );
    let (_, line) = memory_line(&daemon);
    table.note(&format!("memory with {members} WebSockets"), line);
    drop((client, sessions));
    daemon.stop();
}
