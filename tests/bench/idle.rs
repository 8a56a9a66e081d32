//! An agent with eight others that all do nothing.

use super::Scale;
use super::harness::namespace::Namespace;
use super::host::AgentHost;
use super::lab::Lab;
use super::server::Server;
use super::table::Table;
use std::time::{Duration, Instant};

const OTHERS: u8 = 8;
/// Memory that it may have, in MiB, and packets that it may send in a second.
const MEMORY: f64 = 4.0;
const PACKETS: f64 = 1.0;
/// How long it takes until nothing is tried any more.
const SETTLING: Duration = Duration::from_secs(40);

/// Datagrams and TCP segments that a machine has sent and received so far. Its kernel's own, such as those that ask for
/// neighbours, do not count.
fn packets(host: &Namespace) -> [f64; 2] {
    let (old, new) = (host.run("cat /proc/net/snmp"), host.run("cat /proc/net/snmp6"));
    let of = |protocol: &str, field: &str| {
        let mut lines = old.lines().filter_map(|line| line.strip_prefix(protocol)?.strip_prefix(": "));
        let (names, counts) = (lines.next().expect("names"), lines.next().expect("counts"));
        let place = names.split(' ').position(|name| name == field).expect("a field");
        counts.split(' ').nth(place).expect("a count").parse::<f64>().expect("a number")
    };
    let of_new = |name: &str| {
        let count = new.lines().find_map(|line| line.strip_prefix(name)).expect("a count");
        count.trim().parse::<f64>().expect("a number")
    };
    ["Out", "In"].map(|way| {
        let datagrams = format!("{way}Datagrams");
        of("Udp", &datagrams) + of("Tcp", &format!("{way}Segs")) + of_new(&format!("Udp6{datagrams}"))
    })
}

pub fn run(scale: Scale, table: &mut Table) {
    let lab = Lab::new();
    let _server = Server::new(&lab);
    let mut own = AgentHost::hosting(lab.host(10), "Alice");
    let others: Vec<AgentHost> = (0..OTHERS)
        .map(|number| AgentHost::joining(lab.host(11 + number), &own.party, &format!("Bob{number}")))
        .collect();
    for other in &others {
        other.ping(own.ip);
        super::eventually("the way is direct", || own.path(other.ip).starts_with("direct"));
    }
    std::thread::sleep(SETTLING);
    let host = own.host.clone();
    let process = own.process();
    let before = (packets(&host), process.sleeps(), process.cpu());
    let begun = Instant::now();
    std::thread::sleep(Duration::from_secs(scale.idle));
    let seconds = begun.elapsed().as_secs_f64();
    let after = (packets(&host), process.sleeps(), process.cpu());
    let [sent, received] = [0, 1].map(|way| (after.0[way] - before.0[way]) / seconds);
    let memory = process.memory() as f64 / 1024.0;
    table.budget(
        "at rest with 8 others: packets sent",
        format!("{sent:.2} a second ({received:.2} received)"),
        sent,
        PACKETS,
        " a second",
    );
    table.note(
        "at rest with 8 others: wake-ups",
        format!(
            "{:.2} a second ({:.0} us of CPU a second)",
            (after.1 - before.1) as f64 / seconds,
            (after.2 - before.2).as_secs_f64() * 1e6 / seconds
        ),
    );
    table.budget("at rest with 8 others: memory", format!("{memory:.1} MiB"), memory, MEMORY, " MiB");
}
