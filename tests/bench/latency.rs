//! From sending to arriving, with both halves of the wire: a server that has nothing else to do, and one that is busy
//! with others.

use super::Stand;
use super::blind;
use super::players::Lane;
use super::process::process_cpu;
use super::rivals::Rival;
use super::table::Samples;
use super::volley::{BURST, LANE_RATE, LOST, Style, echo_lanes};
use std::time::{Duration, Instant};

/// Datagrams of others that are under way.
const LOAD: usize = 64;
/// Of one round of probes, on a machine that has no time for them.
const LONGEST: Duration = Duration::from_secs(1);
/// What the relay may add in 99 of 100 cases while others keep it busy, in milliseconds.
const MOST_ADDED: f64 = 1.0;

/// What rounds of probes gave: each the median over the rounds, so that a round in which the machine stuttered does not
/// count.
struct Latencies {
    median: Samples,
    high: Samples,
    share: Samples,
}

impl Latencies {
    const fn new() -> Self {
        Latencies { median: Samples::new(), high: Samples::new(), share: Samples::new() }
    }

    fn push(&mut self, (samples, share): (Samples, f64)) {
        self.median.push(samples.median());
        self.high.push(samples.quantile(0.99));
        self.share.push(share * 100.0);
    }

    fn text(&self) -> String {
        let [median, high] = [&self.median, &self.high].map(|samples| samples.median() / 1000.0);
        format!("p50 {median:.0} us, p99 {high:.0} us at {:.0}% of a core", self.share.median())
    }
}

/// The relay beside a bare loop.
pub fn run(stand: &mut Stand) {
    let players = &mut blind::pairs(stand, "latency");
    let (daemon, rounds) = (stand.daemon.pid(), stand.scale.rounds);
    let probes = stand.scale.probes / rounds;
    let plain = stand.network.among_servers(|| Rival::echo(0, stand.cores));
    for size in [100, 1420] {
        let mut own = blind::lanes(players, stand.daemon.relay, size);
        let mut theirs = echo_lanes(plain.address, size);
        for others in [None, Some(Style::Singles), Some(Style::Bursts)] {
            let [mut relay, mut bare, mut bare_idle] = [const { Latencies::new() }; 3];
            for _ in 0..rounds {
                bare_idle.push(probe(probes, &mut theirs, None, || plain.cpu()));
                bare.push(probe(probes, &mut theirs, others, || plain.cpu()));
                relay.push(probe(probes, &mut own, others, || process_cpu(daemon)));
            }
            let what = match others {
                None => format!("latency, {size} B, idle"),
                Some(style) => format!("latency, {size} B, busy with others' {}", style.name()),
            };
            let added = (relay.high.median() - bare_idle.median.median()) / 1e6;
            let text = format!("p99 added {added:.2} ms ({}; a bare loop {})", relay.text(), bare.text());
            if bare.high.median() / 1e6 > MOST_ADDED {
                stand.table.note(&what, format!("{text}; this machine is too busy to tell"));
            } else {
                stand.table.budget(&what, text, added, MOST_ADDED, " ms");
            }
        }
    }
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
    while samples.len() < probes && begun.elapsed() < LONGEST {
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
