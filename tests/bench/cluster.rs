//! What several instances over PostgreSQL cost beside one on a file: `cargo bench --features cluster --bench cluster`, as root
//! or as the user postgres, with the names of the parts that are wanted: `-- fan-out heartbeats changes stalls failover
//! replica`. It takes three minutes, and leaves out what would begin later. `LANRAGE_BENCH_BINARY` names another build
//! to measure.
//!
//! PostgreSQL, the instances and what asks them share the machine, so a figure is worth something only beside the one of the
//! same run that it is compared with. Both PostgreSQL and redb wait for the same disk. A missed goal is no error.

#[allow(dead_code, reason = "shared with the other benchmarks")]
mod baseline;
mod changes;
#[allow(dead_code, reason = "shared with the other benchmarks")]
mod client;
#[allow(dead_code, reason = "shared with the tests of several instances")]
#[path = "../cluster/database.rs"]
mod database;
#[path = "../harness/mod.rs"]
mod harness;
#[allow(dead_code, reason = "shared with the other benchmarks")]
mod house;
mod instances;
mod pings;
#[allow(dead_code, reason = "shared with the other benchmarks")]
mod process;
#[allow(dead_code, reason = "shared with the other benchmarks")]
mod table;

use baseline::Baseline;
use changes::{Load, Pace};
use client::{Client, WebSocket};
use harness::PATIENCE;
use house::Peer;
use instances::{Instance, Realm};
use pings::Pings;
use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};
use table::{Samples, Table};

/// Instances that follow.
const FOLLOWERS: usize = 2;
/// Who goes and comes back, so that others are told. The same peer's changes are told once a second.
const GUESTS: usize = 75;
/// Clients that change something meanwhile.
const COMPANY: usize = 16;
/// Clients that change something when it is about how much.
const CLIENTS: usize = 64;
const SPAN: Duration = Duration::from_secs(4);
/// Parties of eight whose members heartbeat, over so many connections.
const BEATING: usize = 100;
const CONNECTIONS: usize = 32;
/// A follower tells the writer of heartbeats so often.
const DIGEST: Duration = Duration::from_secs(16);
/// Parties of eight that are made at once.
const STORM: usize = 640;
const REST: Duration = Duration::from_secs(3);
/// Times that the writer is ended, one way and the other.
const ENDS: usize = 3;
/// Parties of eight of which a replica is made, and how long making them may take.
const HOUSE: usize = 2500;
const FILLING: Duration = Duration::from_secs(50);
/// Replicas of it that are started one after the other.
const STARTS: usize = 3;
/// For how many peers it is calculated.
const MANY: f64 = 1e6;
/// No part begins later.
const END: Duration = Duration::from_secs(180);

fn main() {
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    raise_descriptors();
    let begun = Instant::now();
    let mut table = Table::default();
    let mut realm = Realm::start(FOLLOWERS);
    let file = Instance::on_file();
    let mut part = |name: &str, run: &mut dyn FnMut(&mut Realm, &mut Table)| {
        if !wanted.is_empty() && !wanted.iter().any(|one| one == name) {
            return;
        }
        if begun.elapsed() > END {
            return table.note(name, "left out: all before took too long");
        }
        run(&mut realm, &mut table);
        eprintln!("{name}: until {:.0} s", begun.elapsed().as_secs_f64());
    };
    // Memory of nobody's peers is part of it, so it comes first.
    part("replica", &mut |realm, table| replica(realm, table));
    part("fan-out", &mut |realm, table| fan_out(realm, table));
    part("heartbeats", &mut |realm, table| heartbeats(realm, &file, table));
    part("changes", &mut |realm, table| changes(realm, &file, table));
    part("stalls", &mut |realm, table| stalls(realm, &file, table));
    part("failover", &mut |realm, table| failover(realm, table));
    println!();
    table.print();
    println!("\nTook {} s.", begun.elapsed().as_secs());
}

fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("raising a soft limit");
}

/// A WebSocket of this peer.
fn session(http: SocketAddr, peer: &Peer) -> WebSocket {
    let mut session = Client::connect(http).upgrade();
    session.send(&format!("{{\"type\":\"auth\",\"token\":\"{}\"}}", peer.token));
    // The party as it is.
    session.receive();
    session
}

/// From the acknowledgement of a change until others hear of it, at other instances.
fn fan_out(realm: &Realm, table: &mut Table) {
    let all = realm.all();
    let peers = house::fill(all[0], "told", 1, all.len() + GUESTS);
    let (members, guests) = peers.split_at(all.len());
    let mut sessions: Vec<WebSocket> =
        all.iter().zip(members).map(|(http, peer)| session(*http, peer)).collect();
    let requests: Vec<_> =
        guests.iter().flat_map(|guest| [guest.leave(), guest.join(&guest.party)]).collect();
    for clients in [0, COMPANY] {
        let load = Load::start(&all, clients);
        let mut lines = Vec::new();
        for (index, name) in [(0, "the writer"), (1, "a follower")] {
            let mut client = Client::connect(all[index]);
            let (mut acknowledged, mut heard) = (Samples::new(), Samples::new());
            for request in &requests {
                let begun = Instant::now();
                client.ask(request);
                acknowledged.push(begun.elapsed().as_secs_f64() * 1000.0);
                let begun = Instant::now();
                for (other, session) in sessions.iter_mut().enumerate() {
                    session.receive();
                    if other != index {
                        heard.push(begun.elapsed().as_secs_f64() * 1000.0);
                    }
                }
            }
            lines.push((name, acknowledged, heard));
        }
        let rate = load.stop().rate;
        let when = if clients == 0 { "at rest".to_owned() } else { format!("among {rate:.0} a second") };
        for (name, acknowledged, heard) in lines {
            let (p50, p99) = (heard.median(), heard.quantile(0.99));
            table.budget(
                &format!("fan-out of a change at {name}, {when}: p99"),
                format!(
                    "{p99:.1} ms (p50 {p50:.1}) after its 200, which took {:.1} ms (p50)",
                    acknowledged.median()
                ),
                p99,
                100.0,
                " ms",
            );
        }
    }
}

/// Heartbeats a second, and what they cost.
fn beats(one: &Instance, peers: &[Peer]) -> (f64, f64) {
    let heartbeats: Vec<Vec<u8>> = peers.iter().map(Peer::heartbeat).collect();
    let mut clients = house::clients(one.http(), CONNECTIONS);
    // Connections are new to it.
    house::ask_all(&mut clients, &heartbeats, |_, _| {});
    let (begun, cpu, mut count) = (Instant::now(), one.daemon.cpu(), 0);
    while begun.elapsed() < SPAN {
        house::ask_all(&mut clients, &heartbeats, |_, _| count += 1);
    }
    let used = (one.daemon.cpu() - cpu).as_secs_f64() * 1e6 / f64::from(count);
    (f64::from(count) / begun.elapsed().as_secs_f64(), used)
}

fn heartbeats(realm: &Realm, file: &Instance, table: &mut Table) {
    let filed = house::fill(file.http(), "beats", BEATING, 8);
    let peers = house::fill(realm.writer.http(), "beats", BEATING, 8);
    // What was done is committed with it, and nothing of it follows.
    sleep(Duration::from_secs(1));
    let (begun, before) = (Instant::now(), realm.commit());
    let (own, own_cpu) = beats(file, &filed);
    for (name, one) in [("a follower", &realm.followers[0]), ("the writer", &realm.writer)] {
        let (rate, cpu) = beats(one, &peers);
        table.note(
            &format!("heartbeats at {name}"),
            format!(
                "{rate:.0} a second ({:.2} x redb's {own:.0}); CPU {cpu:.1} us each ({:.2} x redb's {own_cpu:.1})",
                rate / own,
                cpu / own_cpu
            ),
        );
    }
    sleep(DIGEST.saturating_sub(begun.elapsed()));
    let commits = realm.commit() - before;
    table.budget("commits meanwhile, digests included", commits.to_string(), commits as f64, 0.0, "");
}

fn changes(realm: &Realm, file: &Instance, table: &mut Table) {
    let all = realm.all();
    let places: [(&str, &[SocketAddr]); 3] =
        [("at the writer", &all[..1]), ("at a follower", &all[1..2]), ("at all three", &all)];
    for clients in [1, CLIENTS] {
        let of = if clients == 1 { "1 client".to_owned() } else { format!("{clients} clients") };
        let (commits, _) = file.commits();
        let own = Load::measure(&[file.http()], clients, SPAN);
        let commits = (file.commits().0 - commits) as f64 / SPAN.as_secs_f64();
        table.note(&format!("changes on redb, {of}"), pace(&own, commits));
        for (name, at) in places {
            if clients == 1 && at.len() > 1 {
                continue;
            }
            let before = realm.commit();
            let made = Load::measure(at, clients, SPAN);
            let commits = (realm.commit() - before) as f64 / SPAN.as_secs_f64();
            table.note(
                &format!("changes {name}, {of}"),
                format!("{} ({:.2} x redb)", pace(&made, commits), made.rate / own.rate),
            );
        }
    }
}

fn pace(pace: &Pace, commits: f64) -> String {
    let Pace { rate, latencies } = pace;
    format!(
        "{rate:.0} a second in {commits:.0} commits, p50 {:.1} ms, p99 {:.1} ms",
        latencies.median(),
        latencies.quantile(0.99)
    )
}

/// How long instances answer nothing, at rest and while very many peers come at once.
fn stalls(realm: &Realm, file: &Instance, table: &mut Table) {
    let baseline = Baseline::start(None);
    let asked = [
        ("a follower", realm.followers[0].http()),
        ("the writer", realm.writer.http()),
        ("a bare loop", baseline.address),
    ];
    let follower = &realm.followers[0].daemon;
    let watch = |during: &mut dyn FnMut()| {
        let (cpu, pings) = (follower.cpu(), asked.map(|(_, http)| Pings::start(http)));
        during();
        let pings = pings.map(Pings::stop);
        ((follower.cpu() - cpu).as_secs_f64() * 1e6, pings)
    };
    let (rest_cpu, rest) = watch(&mut || sleep(REST));
    let (mut rate, before, (_, rows)) = (0.0, realm.commit(), realm.writer.commits());
    let (storm_cpu, storm) = watch(&mut || {
        let begun = Instant::now();
        house::fill(realm.writer.http(), "storm", STORM, 8);
        rate = (2 * 8 * STORM) as f64 / begun.elapsed().as_secs_f64();
        // Those that follow may not be done yet.
        sleep(Duration::from_millis(300));
    });
    let (commits, rows) = (realm.commit() - before, realm.writer.commits().1 - rows);
    let pings = Pings::start(file.http());
    let begun = Instant::now();
    house::fill(file.http(), "storm", STORM, 8);
    let own_rate = (2 * 8 * STORM) as f64 / begun.elapsed().as_secs_f64();
    let own = pings.stop();
    table.note(
        &format!("a storm of {} changes at the writer", 2 * 8 * STORM),
        format!("{rate:.0} a second in {commits} commits ({:.2} x redb's {own_rate:.0})", rate / own_rate),
    );
    let largest = "select coalesce(max(json_array_length(entry::json->'rows')), 0) from lanrage.log where realm = 'default'";
    let largest = realm.number(largest);
    table.note("rows in the largest commit", largest.to_string());
    // Without what the questions cost that are asked to see it.
    let each = (storm_cpu - rest_cpu * storm[0].len() as f64 / rest[0].len() as f64) / rows as f64;
    table.note(
        "a follower's CPU for a row of the storm",
        format!("{each:.1} us; for the largest commit, calculated: {:.1} ms", each * largest as f64 / 1e3),
    );
    let longest = |samples: &Samples| {
        format!(
            "{:.1} ms (p99 {:.1}, p50 {:.2})",
            samples.quantile(1.0),
            samples.quantile(0.99),
            samples.median()
        )
    };
    for (((name, _), rest), storm) in asked.iter().zip(&rest).zip(&storm) {
        table.note(&format!("longest wait for GET / at {name}, at rest"), longest(rest));
        table.note(&format!("longest wait for GET / at {name}, in the storm"), longest(storm));
    }
    table.note("longest wait for GET / on redb, in its storm", longest(&own));
}

/// Until a change is acknowledged at an instance, whatever goes wrong before.
fn until_changed(http: SocketAddr, name: &str, begun: Instant) -> Duration {
    let path = format!("/auth/register?peer_id={name}");
    loop {
        let mut client = harness::client::Client::connect(http);
        if client.try_ask("POST", &path, "").is_ok_and(|answer| answer.status == 200) {
            return begun.elapsed();
        }
        assert!(begun.elapsed() < PATIENCE, "nobody writes");
        sleep(Duration::from_millis(10));
    }
}

fn failover(realm: &mut Realm, table: &mut Table) {
    for (name, is_killed) in [("kill -9 of the writer", true), ("the writer stopped in good order", false)] {
        let mut took = Samples::new();
        for round in 0..ENDS {
            // From here on is measured, so that what the writer does on its way out counts.
            let begun = Instant::now();
            if is_killed {
                realm.writer.daemon.kill();
            } else {
                realm.writer.daemon.terminate();
            }
            let asking: Vec<_> = realm
                .followers
                .iter()
                .map(|one| {
                    let (http, name) =
                        (one.http(), format!("after-{is_killed}-{round}-{}", one.http().port()));
                    std::thread::spawn(move || until_changed(http, &name, begun))
                })
                .collect();
            for asking in asking {
                took.push(asking.join().expect("it was answered").as_secs_f64());
            }
            realm.succeed();
        }
        let longest = took.quantile(1.0);
        table.budget(
            &format!("{name}: until a change is acknowledged"),
            format!(
                "{longest:.2} s at most, {:.2} s at least ({ENDS} times, at each of the {FOLLOWERS} others)",
                took.quantile(0.0)
            ),
            longest,
            5.0,
            " s",
        );
    }
}

/// What peers cost an instance that follows, and its start.
fn replica(realm: &Realm, table: &mut Table) {
    let settled = |one: &Instance| {
        // The door goes on looking for time-outs for up to a second after the last connection.
        sleep(Duration::from_millis(1500));
        one.memory()
    };
    let empty = Instance::of(&realm.database, "default");
    let (bare, bare_start) = (settled(&empty), empty.started_in.as_secs_f64());
    let (empty_most, bare_cpu) = (empty.most_memory(), empty.start_cpu.as_secs_f64());
    empty.stop();
    let file = Instance::on_file();
    let own_bare = settled(&file);
    let (begun, mut parties) = (Instant::now(), 0);
    while parties < HOUSE && begun.elapsed() < FILLING {
        let more = (HOUSE - parties).min(100);
        house::fill(file.http(), &format!("house-{parties}"), more, 8);
        parties += more;
    }
    let peers = (8 * parties) as f64;
    let filled = begun.elapsed().as_secs_f64();
    table.note(
        "peers of the house",
        format!("{peers} in parties of 8, made through redb's API in {filled:.1} s"),
    );
    // What was made by requests has left more behind than what is read at the start.
    let file = Instance::on_file_in(file.stop());
    let (own, own_start) = (settled(&file), file.started_in.as_secs_f64());
    let directory = file.stop();
    let imported = realm.import("house", &directory.state_file()).as_secs_f64();
    table.note("lanrage db import of them", format!("{imported:.1} s"));
    let writer = Instance::of(&realm.database, "house");
    let mut follower = Instance::of(&realm.database, "house");
    let (mut start, mut start_cpu) = (follower.started_in, follower.start_cpu);
    for _ in 1..STARTS {
        follower.stop();
        follower = Instance::of(&realm.database, "house");
        // What else the machine does comes on top: the best is the one that is ours.
        (start, start_cpu) = (start.min(follower.started_in), start_cpu.min(follower.start_cpu));
    }
    let (one, start, start_cpu) = (settled(&follower), start.as_secs_f64(), start_cpu.as_secs_f64());
    let each = |all: f64, bare: f64| (all - bare) / peers;
    let (cost, own_cost) = (each(one, bare), each(own, own_bare));
    let most = each(follower.most_memory(), empty_most);
    table.budget(
        "memory of a replica for a peer",
        format!(
            "{cost:.0} B ({:.2} x redb's {own_cost:.0}; a writer's {:.0})",
            cost / own_cost,
            each(settled(&writer), bare)
        ),
        cost,
        1100.0,
        " B",
    );
    table.note(
        "memory of a replica for 10^6 peers, calculated",
        format!("{:.2} GB, while it starts {:.2} GB", (bare + cost * MANY) / 1e9, (bare + most * MANY) / 1e9),
    );
    table.note(
        "start of a replica with them, until it answers",
        format!(
            "{start:.2} s at best ({:.2} x redb's {own_start:.2}; {bare_start:.2} without them; CPU {start_cpu:.2} s)",
            start / own_start
        ),
    );
    let (many, many_cpu) = (bare_start + each(start, bare_start) * MANY, each(start_cpu, bare_cpu) * MANY);
    table.budget(
        "start of a replica for 10^6 peers, calculated",
        format!("{many:.1} s, of CPU {many_cpu:.1} s"),
        many,
        30.0,
        " s",
    );
    follower.stop();
    writer.stop();
}
