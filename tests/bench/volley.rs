//! Volleys of datagrams, and what somebody pays for each of them.

use super::players::{Lane, socket};
use super::table::{Samples, Table};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Pairs of players, each in a party of its own.
pub const LANES: usize = 8;
/// What one member may send, with a margin, in bytes per second: the relay drops what is more.
pub const LANE_RATE: f64 = 20e6;
/// Datagrams in a burst.
pub const BURST: usize = 32;
/// Of a pair that counts, from 0 to 1.
const MOST_LOST: f64 = 0.02;
/// A volley is over when nothing has arrived for this long.
pub const LOST: Duration = Duration::from_millis(100);
/// Memory that waiting datagrams may take in a server's socket, in bytes: what kernels give by default, with
/// a margin. And what one takes there at the most besides its own bytes.
const BACKLOG: usize = 190_000;
const BOOKKEEPING: usize = 900;
/// How long somebody rests who does not look all the time whether a volley has arrived.
const NAP: Duration = Duration::from_millis(1);

/// How datagrams come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Style {
    /// Runs of datagrams, as a sender with GSO makes them.
    Bursts,
    /// A stream in which each is sent by itself.
    Singles,
    /// One, and the next when it has arrived.
    Alone,
}

impl Style {
    pub fn name(self) -> &'static str {
        match self {
            Style::Bursts => "bursts",
            Style::Singles => "singles",
            Style::Alone => "one at a time",
        }
    }
}

/// How who sends waits until all has arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Waiting {
    /// Looks without a pause.
    Awake,
    /// Sleeps in between: then its own CPU time is that of sending and receiving, and nothing else.
    Napping,
}

/// Lanes to a server that sends back what it gets.
pub fn echo_lanes(server: SocketAddr, size: usize) -> Vec<Lane> {
    let lanes = (0..LANES).map(|lane| {
        let socket = socket(2 * lane);
        Lane::new(socket.try_clone().expect("a socket"), socket, server, &vec![7; size], BURST)
    });
    lanes.collect()
}

/// What one measurement gave.
pub struct Cost {
    /// CPU time for each datagram that arrived, in nanoseconds.
    pub nanos: f64,
    /// How many of those sent did not arrive, from 0 to 1.
    pub lost: f64,
}

/// Sends volleys for `span`.
pub fn measure(
    lanes: &mut [Lane],
    style: Style,
    waiting: Waiting,
    span: Duration,
    cpu: impl Fn() -> u64,
) -> Cost {
    let mut buffer = vec![0; 65_536];
    lanes.iter().for_each(|lane| {
        lane.arrived(&mut buffer);
    });
    let (mut sent, mut arrived) = (0, 0);
    // Begins anew after the first volley, which wakes everybody up.
    let (mut before, mut begun, mut is_first) = (cpu(), Instant::now(), true);
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
            if waiting == Waiting::Napping {
                std::thread::sleep(NAP);
            }
            let more: usize = lanes.iter().map(|lane| lane.arrived(&mut buffer)).sum();
            if more > 0 {
                (here, last) = (here + more, Instant::now());
            }
        }
        arrived += here;
        if std::mem::take(&mut is_first) {
            (sent, arrived) = (0, 0);
            (before, begun) = (cpu(), Instant::now());
        }
        if style != Style::Alone {
            std::thread::sleep(pause.saturating_sub(volley.elapsed()));
        }
    }
    let used = cpu() - before;
    Cost {
        nanos: used as f64 / (arrived as f64).max(1.0),
        lost: (sent - arrived.min(sent)) as f64 / (sent as f64).max(1.0),
    }
}

/// The median of nanoseconds, as microseconds.
pub fn micros(samples: &Samples) -> String {
    format!("{:.2} us", samples.median() / 1000.0)
}

/// Samples of two servers and of their ratio.
#[derive(Default)]
pub struct Pairing {
    own: Samples,
    other: Samples,
    ratio: Samples,
    lost: Samples,
    left_out: usize,
}

impl Pairing {
    /// Takes a pair, unless much was lost: what it cost to lose datagrams is no price of those that arrived.
    pub fn push(&mut self, own: &Cost, other: &Cost) {
        let lost = own.lost.max(other.lost);
        self.lost.push(lost);
        if lost > MOST_LOST {
            self.left_out += 1;
            return;
        }
        self.own.push(own.nanos);
        self.other.push(other.nanos);
        self.ratio.push(own.nanos / other.nanos);
    }

    fn text(&self) -> String {
        let lost = self.lost.quantile(1.0) * 100.0;
        let loss = match self.left_out {
            0 if lost < 0.1 => String::new(),
            0 => format!(", up to {lost:.1}% lost"),
            count => format!(", {count} pairs left out with up to {lost:.0}% lost"),
        };
        format!("{:.2} x ({} to {}{loss})", self.ratio.median(), micros(&self.own), micros(&self.other))
    }

    /// A line of the table, with a budget for the ratio if there is one.
    pub fn tell(&self, table: &mut Table, what: &str, budget: Option<f64>) {
        match budget {
            _ if self.ratio.len() == 0 => table.note(what, "not measured: too much was lost in every pair"),
            Some(budget) => table.budget(what, self.text(), self.ratio.median(), budget, " x"),
            None => table.note(what, self.text()),
        }
    }
}
