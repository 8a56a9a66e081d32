//! Datagrams between members beside the same ones forwarded by the kernel: DNAT and masquerade, as a router's
//! port forwarding does it.
//!
//! The kernel forwards while it handles the interrupt of whoever sent, and no process of its own pays for that.
//! So both are measured as what everybody pays together: who sends and receives, the server, and the kernel's
//! threads for interrupts; the sender, and with it the interrupts, are pinned to a core, and sleep in place of
//! looking out. What sending over the same wire costs without anybody in between is taken off. (The whole
//! machine's figures in /proc/stat have everything that others do in them.)

use super::Stand;
use super::blind;
use super::harness::process::thread_cpu;
use super::network::{Network, SERVER, forward};
use super::players::{Lane, roomy, socket};
use super::process::process_cpu;
use super::table::Samples;
use super::volley::{BURST, LANES, Style, Waiting, measure, micros};
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Command, Stdio};

const FIRST_PORT: u16 = 40_000;

/// Rules that forward a port to each lane's second player; gone when this is dropped.
struct Forwarder<'a>(&'a Network);

impl<'a> Forwarder<'a> {
    /// `None` if there is no `nft`, or no NAT in this kernel.
    fn start(network: &'a Network, lanes: &[Lane]) -> Option<Self> {
        let mut rules = "add table ip bench\n\
            add chain ip bench in { type nat hook prerouting priority -100; }\n\
            add chain ip bench out { type nat hook postrouting priority 100; }\n\
            add rule ip bench out meta l4proto udp masquerade\n"
            .to_owned();
        for lane in lanes {
            let (port, to) = (lane.server.port(), lane.to.local_addr().expect("an address"));
            writeln!(rules, "add rule ip bench in udp dport {port} dnat to {to}").expect("room");
        }
        network.among_servers(|| {
            forward("wire");
            nft(&rules)
        })?;
        Some(Forwarder(network))
    }
}

impl Drop for Forwarder<'_> {
    fn drop(&mut self) {
        // What stays goes with the namespace.
        let _ = self.0.among_servers(|| nft("delete table ip bench\n"));
    }
}

fn nft(rules: &str) -> Option<()> {
    let mut child = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().ok()?;
    child.stdin.take()?.write_all(rules.as_bytes()).ok()?;
    child.wait().ok()?.success().then_some(())
}

/// Lanes to `server` for the first of two players, who sends datagrams of `size` bytes to the socket `to`.
fn lanes(
    size: usize,
    to: impl Fn(usize) -> UdpSocket,
    server: impl Fn(usize, &UdpSocket) -> SocketAddr,
) -> Vec<Lane> {
    let lanes = (0..LANES).map(|number| {
        let to = to(number);
        let server = server(number, &to);
        Lane::new(socket(2 * number), to, server, &vec![7; size], BURST)
    });
    lanes.collect()
}

/// The kernel's threads that take over interrupts when there are many.
fn interrupt_threads() -> Vec<PathBuf> {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    let tasks = entries.map(|entry| entry.path()).filter(|task| {
        std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name.starts_with("ksoftirqd/"))
    });
    tasks.collect()
}

/// Datagrams from member to member.
pub fn run(stand: &mut Stand) {
    let players = &mut blind::pairs(stand, "kernel");
    let daemon = stand.daemon.pid();
    let interrupts = interrupt_threads();
    let everybody = |servers: u64| {
        let threads: u64 = interrupts.iter().map(|task| thread_cpu(task).as_nanos() as u64).sum();
        process_cpu(std::process::id()) + threads + servers
    };
    for size in [100, 1420] {
        let mut own = blind::lanes(players, stand.daemon.relay, size);
        let there = |_| {
            let socket = stand.network.among_servers(|| UdpSocket::bind((SERVER, 0)).expect("a socket"));
            roomy(&socket);
            socket
        };
        let mut wire = lanes(size, there, |_, to| to.local_addr().expect("an address"));
        let mut theirs = lanes(
            size,
            |number| socket(2 * number + 1),
            |number, _| SocketAddr::from((SERVER, FIRST_PORT + number as u16)),
        );
        let mut lines = Vec::new();
        {
            let Some(_forwarder) = Forwarder::start(&stand.network, &theirs) else {
                stand
                    .table
                    .missing("blind: CPU against the kernel's forwarding", "nft, or a kernel with NAT");
                return;
            };
            for style in [Style::Bursts, Style::Singles] {
                let [mut added_by_relay, mut added_by_kernel, mut bare] = [const { Samples::new() }; 3];
                let mut lost: f64 = 0.0;
                for _ in 0..stand.scale.rounds {
                    let span = stand.scale.span;
                    let nothing = measure(&mut wire, style, Waiting::Napping, span, || everybody(0));
                    let relay =
                        measure(&mut own, style, Waiting::Napping, span, || everybody(process_cpu(daemon)));
                    let kernel = measure(&mut theirs, style, Waiting::Napping, span, || everybody(0));
                    bare.push(nothing.nanos);
                    added_by_relay.push(relay.nanos - nothing.nanos);
                    added_by_kernel.push(kernel.nanos - nothing.nanos);
                    lost = lost.max(relay.lost).max(kernel.lost);
                }
                let lost =
                    if lost > 0.001 { format!(", up to {:.1}% lost", lost * 100.0) } else { String::new() };
                // A run of datagrams that stays one packet costs the kernel next to nothing.
                let ratio = match added_by_kernel.median() > bare.median() / 10.0 {
                    true => format!("{:.2} x", added_by_relay.median() / added_by_kernel.median()),
                    false => "beyond telling".to_owned(),
                };
                let text = format!(
                    "{ratio} ({} to {}, beside {} for sending and receiving{lost})",
                    micros(&added_by_relay),
                    micros(&added_by_kernel),
                    micros(&bare)
                );
                let style = style.name();
                lines.push((
                    format!("blind, {size} B, {style}: everybody's CPU against the kernel's forwarding"),
                    text,
                ));
            }
        }
        lines.into_iter().for_each(|(what, text)| stand.table.note(&what, text));
    }
}
