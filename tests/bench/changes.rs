//! Clients that change things one after the other, each over a connection of its own: they register a peer, and make a
//! party with it or bring it into the one that they made.

use super::client::{Client, request, text_member};
use super::harness::directory::unique;
use super::house::Peer;
use super::table::Samples;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Peers in a party.
const SIZE: usize = 8;
/// No load lasts longer, whatever becomes of who started it.
const LONGEST: Duration = Duration::from_secs(30);

/// Clients at work.
pub struct Load {
    stop: Arc<AtomicBool>,
    begun: Instant,
    clients: Vec<JoinHandle<Samples>>,
}

/// What they got done.
pub struct Pace {
    /// Changes a second.
    pub rate: f64,
    /// How long each took until it was acknowledged, in ms.
    pub latencies: Samples,
}

impl Load {
    /// So many clients, spread over these instances.
    pub fn start(at: &[SocketAddr], clients: usize) -> Self {
        let (stop, begun) = (Arc::new(AtomicBool::new(false)), Instant::now());
        let start = |index: usize| {
            let (address, stop) = (at[index % at.len()], stop.clone());
            std::thread::spawn(move || {
                let mut latencies = Samples::new();
                let (mut client, mut party) = (Client::connect(address), String::new());
                let name = unique();
                let is_over = || stop.load(Ordering::Relaxed) || begun.elapsed() > LONGEST;
                let mut number = 0;
                while !is_over() {
                    let id = format!("{name}-{number}");
                    let register = request("POST", &format!("/auth/register?peer_id={id}"), None, "");
                    let body = timed(&mut client, &register, &mut latencies);
                    let peer = Peer { id, token: text_member(&body, "token"), party: String::new() };
                    if is_over() {
                        break;
                    }
                    if number % SIZE == 0 {
                        let body = timed(&mut client, &peer.create(), &mut latencies);
                        party = text_member(&body, "party_id");
                    } else {
                        timed(&mut client, &peer.join(&party), &mut latencies);
                    }
                    number += 1;
                }
                latencies
            })
        };
        let clients = (0..clients).map(start).collect();
        Load { stop, begun, clients }
    }

    /// Has them end, and says what they did.
    pub fn stop(self) -> Pace {
        self.stop.store(true, Ordering::Relaxed);
        let mut latencies = Samples::new();
        for client in self.clients {
            client
                .join()
                .expect("a client that got its answers")
                .iter()
                .for_each(|took| latencies.push(took));
        }
        Pace { rate: latencies.len() as f64 / self.begun.elapsed().as_secs_f64(), latencies }
    }

    /// What so many get done in such a time.
    pub fn measure(at: &[SocketAddr], clients: usize, span: Duration) -> Pace {
        let load = Self::start(at, clients);
        std::thread::sleep(span);
        load.stop()
    }
}

fn timed(client: &mut Client, request: &[u8], latencies: &mut Samples) -> Vec<u8> {
    let begun = Instant::now();
    let body = client.ask(request).to_vec();
    latencies.push(begun.elapsed().as_secs_f64() * 1000.0);
    body
}
