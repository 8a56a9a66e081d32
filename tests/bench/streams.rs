//! Bulk through a tunnel: what a byte costs, and how many there are in a second.

use super::Scale;
use super::harness::process::Process;
use super::process::Cores;
use super::table::{Samples, Table};
use super::tunnels::{RIVALS, Tunnel};
use lanrage::wire::json::{Value, parse};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Of wireguard-go's CPU time for a byte.
const BUDGET: f64 = 0.5;
const PORT: &str = "5201";
/// How long iperf3 may take to begin and to end.
const GRACE: Duration = Duration::from_secs(20);

/// What is sent.
#[derive(Clone, Copy)]
struct Load {
    name: &'static str,
    streams: &'static str,
    /// Datagrams of a length that fits, at a rate that every program can carry, or as fast as they go.
    rate: Option<&'static str>,
    has_budget: bool,
}

const LOADS: [Load; 5] = [
    Load { name: "TCP, 1 stream", streams: "1", rate: None, has_budget: true },
    Load { name: "TCP, 4 streams", streams: "4", rate: None, has_budget: true },
    Load { name: "UDP, 1 stream at 200 Mbit/s", streams: "1", rate: Some("200M"), has_budget: true },
    Load { name: "UDP, 4 streams at 50 Mbit/s", streams: "4", rate: Some("50M"), has_budget: true },
    Load { name: "UDP, 1 stream as fast as it goes", streams: "1", rate: Some("0"), has_budget: false },
];

/// Who carries it. The first is this project's.
struct Contender {
    name: &'static str,
    tunnel: Option<Tunnel>,
    /// Of each load: nanoseconds of CPU time for a byte at both ends and at each, megabits in a second, and the part lost.
    costs: Vec<[Samples; 5]>,
}

/// What one measurement gave.
struct Measured {
    bytes: f64,
    seconds: f64,
    lost: f64,
}

fn number(value: &Value, path: &[&str]) -> Option<f64> {
    match path.iter().try_fold(value, |value, name| value.get(name))? {
        Value::Number(number) => number.parse().ok(),
        _ => None,
    }
}

/// Sends for so long. `None` if too little came of it.
fn send(tunnel: &Tunnel, load: Load, scale: Scale, cores: Cores) -> Option<Measured> {
    Cores::pin(cores.load);
    let mut server = tunnel.hosts[1].command("iperf3");
    let server =
        server.args(["-s", "-1", "-p", PORT]).stdin(Stdio::null()).stdout(Stdio::null()).spawn().ok()?;
    let _server = Process(server);
    Cores::pin(cores.server);
    // It listens soon.
    std::thread::sleep(Duration::from_millis(300));
    let mut client = tunnel.hosts[0].command("iperf3");
    client.args(["-c", &tunnel.ips[1].to_string(), "-p", PORT, "-J", "-P", load.streams, "-t"]);
    client.arg(scale.seconds.to_string());
    if let Some(rate) = load.rate {
        client.args(["-u", "-l", "1300", "-b", rate]);
    }
    let client = client.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
    let mut client = Process(client);
    let output = std::thread::scope(|scope| {
        let mut pipe = client.0.stdout.take()?;
        let reading = scope.spawn(move || {
            let mut text = Vec::new();
            std::io::Read::read_to_end(&mut pipe, &mut text).map(|_| text)
        });
        let begun = Instant::now();
        while client.is_running() && begun.elapsed() < Duration::from_secs(scale.seconds.into()) + GRACE {
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = client.0.kill();
        reading.join().ok()?.ok()
    })?;
    let report = parse(&output).ok()?;
    let received = |name| number(&report, &["end", "sum_received", name]);
    let (bytes, seconds) = (received("bytes")?, received("seconds")?);
    let lost = received("lost_percent").unwrap_or(0.0);
    (bytes > 0.0 && seconds > 0.0).then_some(Measured { bytes, seconds, lost })
}

impl Contender {
    fn new(name: &'static str, tunnel: Option<Tunnel>) -> Self {
        Contender { name, tunnel, costs: LOADS.map(|_| Default::default()).into() }
    }

    fn measure(&mut self, scale: Scale, cores: Cores) {
        let Some(tunnel) = &self.tunnel else { return };
        for (load, costs) in LOADS.into_iter().zip(&mut self.costs) {
            let before = tunnel.cpu();
            let Some(Measured { bytes, seconds, lost }) = send(tunnel, load, scale, cores) else { continue };
            let after = tunnel.cpu();
            let [sender, receiver] = [0, 1].map(|end| (after[end] - before[end]) as f64 / bytes);
            let figures = [sender + receiver, sender, receiver, bytes * 8.0 / seconds / 1e6, lost];
            costs.iter_mut().zip(figures).for_each(|(samples, figure)| samples.push(figure));
        }
    }
}

/// All of them, in turns.
pub fn run(scale: Scale, cores: Cores, table: &mut Table) {
    let mut all = vec![Contender::new("agents", Some(Tunnel::own(false, cores)))];
    all.extend(RIVALS.map(|(name, variable)| Contender::new(name, Tunnel::by(name, variable, cores))));
    for _ in 0..scale.rounds {
        all.iter_mut().for_each(|contender| contender.measure(scale, cores));
    }
    for (number, load) in LOADS.into_iter().enumerate() {
        for contender in &all {
            let what = format!("{}: {}", load.name, contender.name);
            let [cost, sender, receiver, rate, lost] = &contender.costs[number];
            if contender.tunnel.is_none() {
                table.missing(&what, "such program");
                continue;
            }
            if cost.len() == 0 {
                table.note(&what, "not measured: too little arrived");
                continue;
            }
            let lost =
                if load.rate.is_some() { format!(", {:.1}% lost", lost.median()) } else { String::new() };
            let text = format!(
                "{:.2} ns of CPU a byte ({:.2} to send, {:.2} to receive), {:.0} Mbit/s{lost}",
                cost.median(),
                sender.median(),
                receiver.median(),
                rate.median()
            );
            table.note(&what, text);
        }
        let [own, others @ ..] = all.as_slice() else { continue };
        for other in others.iter().filter(|other| other.costs[number][0].len() > 0) {
            let mut ratio = Samples::new();
            let pairs = own.costs[number][0].iter().zip(other.costs[number][0].iter());
            pairs.for_each(|(own, other)| ratio.push(own / other));
            let what = format!("{}: CPU a byte beside {}", load.name, other.name);
            let text = format!("{:.2} x", ratio.median());
            if load.has_budget && other.name == RIVALS[0].0 {
                table.budget(&what, text, ratio.median(), BUDGET, " x");
            } else {
                table.note(&what, text);
            }
        }
    }
}
