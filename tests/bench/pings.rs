//! How long a process answers nothing: it is asked for next to nothing a thousand times a second.

use super::client::{Client, request};
use super::table::Samples;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_millis(1);
/// No longer than this, whatever becomes of who started it.
const LONGEST: Duration = Duration::from_secs(60);

/// One that asks.
pub struct Pings {
    stop: Arc<AtomicBool>,
    asking: JoinHandle<Samples>,
}

impl Pings {
    pub fn start(address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let asking = std::thread::spawn(move || {
            let (mut client, ping) = (Client::connect(address), request("GET", "/", None, ""));
            let (begun, mut took) = (Instant::now(), Samples::new());
            let mut due = Instant::now();
            while !stopped.load(Ordering::Relaxed) && begun.elapsed() < LONGEST {
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                let asked = Instant::now();
                client.ask(&ping);
                took.push(asked.elapsed().as_secs_f64() * 1000.0);
                // Those that could not be asked in time are left out.
                due = (due + EVERY).max(Instant::now());
            }
            took
        });
        Pings { stop, asking }
    }

    /// How long the answers took, in ms.
    pub fn stop(self) -> Samples {
        self.stop.store(true, Ordering::Relaxed);
        self.asking.join().expect("every answer came")
    }
}
