//! From sending to arriving, with both halves of the wire: a server that has nothing else to do, and one that is busy
//! with others.

use super::Stand;
use super::blind;
use super::players::{Lane, Player};
use super::process::process_cpu;
use super::rivals::Rival;
use super::table::Samples;
use super::volley::{BURST, LANE_RATE, LOST, Style, echo_lanes};
use std::time::{Duration, Instant};

/// Datagrams of others that are under way.
const LOAD: usize = 64;
/// What the relay may add in 99 of 100 cases while others keep it busy, in milliseconds.
const MOST_ADDED: f64 = 1.0;

/// The relay beside a bare loop.
pub fn run(stand: &mut Stand, players: &mut [Player]) {
    let (probes, daemon) = (stand.scale.probes, stand.daemon.id());
    let plain = stand.network.among_servers(|| Rival::echo(0, stand.cores));
    for size in [100, 1420] {
        let mut own = blind::lanes(players, stand.daemon.relay, size);
        let mut theirs = echo_lanes(plain.address, size);
        let (bare, _) = probe(probes, &mut theirs, None, || plain.cpu());
        let (idle, _) = probe(probes, &mut own, None, || process_cpu(daemon));
        let text = format!("{} (a bare loop {})", text(&idle), text(&bare));
        stand.table.note(&format!("latency, {size} B, idle"), text);
        for style in [Style::Singles, Style::Bursts] {
            let (bare_busy, bare_share) = probe(probes, &mut theirs, Some(style), || plain.cpu());
            let (busy, share) = probe(probes, &mut own, Some(style), || process_cpu(daemon));
            let added = (busy.quantile(0.99) - bare.median()) / 1e6;
            let told = format!(
                "{added:.2} ms ({} at {:.0}% of a core; a bare loop {} at {:.0}%)",
                self::text(&busy),
                share * 100.0,
                self::text(&bare_busy),
                bare_share * 100.0
            );
            let what = format!(
                "latency, {size} B, busy with others' {}: p99 added to a bare loop, idle",
                style.name()
            );
            stand.table.budget(&what, told, added, MOST_ADDED, " ms");
        }
    }
}

fn text(samples: &Samples) -> String {
    let at = |part: f64| samples.quantile(part) / 1000.0;
    format!("p50 {:.0} us, p99 {:.0} us", at(0.5), at(0.99))
}

/// The others' datagrams: as many as are allowed are always under way.
struct Load<'a> {
    lanes: &'a mut [Lane],
    style: Style,
    under_way: usize,
    next: usize,
    sent: f64,
    begun: Instant,
    last_arrival: Instant,
}

impl Load<'_> {
    /// Takes what has arrived, and sends up to `most` volleys: single datagrams, or half of all that may be under way
    /// at once.
    fn keep_up(&mut self, buffer: &mut [u8], most: usize) {
        let arrived: usize = self.lanes.iter().map(|lane| lane.arrived(buffer)).sum();
        self.under_way = self.under_way.saturating_sub(arrived);
        if arrived > 0 {
            self.last_arrival = Instant::now();
        } else if self.last_arrival.elapsed() > LOST {
            self.under_way = 0;
        }
        let each = if self.style == Style::Bursts { BURST } else { 1 };
        for _ in 0..most {
            let allowed = LANE_RATE * self.lanes.len() as f64 * self.begun.elapsed().as_secs_f64();
            if self.under_way + each > LOAD || self.sent > allowed {
                return;
            }
            let lane = &mut self.lanes[self.next];
            match self.style {
                Style::Bursts => lane.send_burst(each),
                Style::Singles | Style::Alone => lane.send_one(0),
            }
            self.sent += (each * lane.size) as f64;
            self.next = (self.next + 1) % self.lanes.len();
            self.under_way += each;
        }
    }
}

/// Latencies of single datagrams of the first lane in nanoseconds, while the others send in this style, and how much of
/// a core the server used.
fn probe(probes: usize, lanes: &mut [Lane], others: Option<Style>, cpu: impl Fn() -> u64) -> (Samples, f64) {
    let mut buffer = vec![0; 65_536];
    let [probe, lanes @ ..] = lanes else { return (Samples::default(), 0.0) };
    probe.arrived(&mut buffer);
    let mut samples = Samples::default();
    let (before, begun) = (cpu(), Instant::now());
    let mut load = others.map(|style| Load {
        lanes,
        style,
        under_way: 0,
        next: 0,
        sent: 0.0,
        begun,
        last_arrival: begun,
    });
    for _ in 0..probes {
        match &mut load {
            Some(load) => load.keep_up(&mut buffer, LOAD),
            None => std::thread::sleep(Duration::from_micros(200)),
        }
        let sent = Instant::now();
        probe.send_one(0);
        while probe.arrived(&mut buffer) == 0 && sent.elapsed() < LOST {
            // One at a time, so that the arrival is not noticed late.
            if let Some(load) = &mut load {
                load.keep_up(&mut buffer, 1);
            }
        }
        samples.push(sent.elapsed().as_nanos() as f64);
    }
    let busy = (cpu() - before) as f64 / begun.elapsed().as_nanos() as f64;
    (samples, busy)
}
