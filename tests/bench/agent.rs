//! What the agent costs beside other WireGuard programs, over their interfaces. `cargo bench --bench agent` as root, with
//! `-- --quick` for a glance, or with the names of the parts that are wanted: `-- streams latency idle`. `LANRAGE_BIN` names
//! another build to measure, `LANRAGE_WIREGUARD_GO` and `LANRAGE_BORINGTUN` programs that are not in the path. What is not
//! installed is said in the table.
//!
//! Two machines are network namespaces on a bridge, each held to a core of its own with all that runs there, so that every
//! program has as much of the processor. iperf3 sends from one to the other; CPU time is the kernel's own count of both
//! machines' WireGuard programs. Ratios are medians of rounds in which all were measured one right after the other; a missed
//! budget is no error.

#[path = "../harness/mod.rs"]
mod harness;
#[allow(dead_code, reason = "shared with the tests of the agent")]
#[path = "../agent/host.rs"]
mod host;
mod idle;
#[allow(dead_code, reason = "shared with the tests of the agent")]
#[path = "../interop/lab.rs"]
mod lab;
#[allow(dead_code, reason = "shared with the other benchmarks")]
mod process;
#[allow(dead_code, unused_imports, reason = "shared with the tests of the agent")]
#[path = "../interop/server.rs"]
mod server;
mod streams;
#[allow(dead_code, reason = "shared with the other benchmarks")]
mod table;
mod tunnels;

use harness::{client, eventually};
use process::Cores;
use std::time::Instant;
use table::Table;

/// How much is measured.
#[derive(Clone, Copy)]
struct Scale {
    rounds: usize,
    /// Of one measurement, in seconds.
    seconds: u32,
    /// Probes of latency.
    probes: usize,
    /// How long members are watched that do nothing, in seconds.
    idle: u64,
}

const FULL: Scale = Scale { rounds: 5, seconds: 3, probes: 3000, idle: 60 };
const QUICK: Scale = Scale { rounds: 1, seconds: 2, probes: 500, idle: 10 };

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if !rustix::process::geteuid().is_root() {
        println!("agent: needs root, to make network namespaces, and the `ip` command; nothing was measured");
        return;
    }
    // cargo adds --bench.
    let scale = if arguments.iter().any(|argument| argument == "--quick") { QUICK } else { FULL };
    let wanted: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let wants = |part: &str| wanted.is_empty() || wanted.iter().any(|name| *name == part);
    let begun = Instant::now();
    let cores = Cores::find();
    // In front of what else runs here; what is started inherits it.
    rustix::process::setpriority_process(None, -15).expect("a priority");
    let mut table = Table::default();
    if wants("streams") {
        streams::run(scale, cores, &mut table);
    }
    if wants("latency") {
        tunnels::latency(scale, cores, &mut table);
    }
    if wants("idle") {
        idle::run(scale, &mut table);
    }
    println!();
    table.print();
    println!("\nTook {} s.", begun.elapsed().as_secs());
}
