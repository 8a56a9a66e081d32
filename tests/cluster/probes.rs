//! Clients that register somebody new at each instance again and again, whatever becomes of the instances.

use crate::client::{Client, try_connect_from};
use crate::instances::Instances;
use crate::test_daemon::TestDaemon;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

/// How long a client waits for an answer: a stock client waits 10 s.
const PATIENCE: Duration = Duration::from_secs(10);

/// Somebody who was registered.
struct Registered {
    at: Instant,
    token: String,
}

/// What came of asking one instance.
pub struct Asked {
    address: SocketAddr,
    begun: Instant,
    ended: Instant,
    registered: Vec<Registered>,
    /// How often it said 503.
    pub refused: usize,
}

impl Asked {
    /// For how long at most nobody was registered there.
    pub fn longest_gap(&self) -> Duration {
        let times = self.registered.iter().map(|one| one.at);
        let starts = std::iter::once(self.begun).chain(times.clone());
        let ends = times.chain([self.ended]);
        starts.zip(ends).map(|(start, end)| end - start).max().unwrap_or_default()
    }

    /// Whether anybody was registered there after this.
    pub fn registered(&self) -> usize {
        self.registered.len()
    }
}

/// One client for each instance.
pub struct Probes {
    threads: Vec<JoinHandle<Asked>>,
    is_over: Arc<AtomicBool>,
}

impl Probes {
    /// They differ from others by a name.
    pub fn start(instances: &Instances, name: &str) -> Self {
        let is_over = Arc::<AtomicBool>::default();
        let addresses = instances.addresses().into_iter().enumerate();
        let threads = addresses.map(|(at, address)| {
            let (name, is_over) = (format!("{name}-{at}"), is_over.clone());
            std::thread::spawn(move || ask(address, &name, &is_over))
        });
        Probes { threads: threads.collect(), is_over }
    }

    /// What came of it, by instance.
    pub fn stop(self) -> Vec<Asked> {
        self.is_over.store(true, Ordering::Relaxed);
        self.threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    }
}

fn ask(address: SocketAddr, name: &str, is_over: &AtomicBool) -> Asked {
    let begun = Instant::now();
    let mut asked = Asked { address, begun, ended: begun, registered: Vec::new(), refused: 0 };
    let mut client = None;
    for number in 0.. {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        client = client.or_else(|| {
            try_connect_from(Ipv4Addr::UNSPECIFIED.into(), address, PATIENCE).ok().map(Client::over)
        });
        let path = format!("/auth/register?peer_id={name}-{number}");
        // An instance that is gone or hangs says nothing.
        match client.as_mut().map(|client| client.try_ask("POST", &path, "")) {
            Some(Ok(answer)) if answer.status == 200 => {
                asked.registered.push(Registered { at: Instant::now(), token: answer.text(&["token"]) })
            }
            Some(Ok(answer)) => {
                let answer = answer.is(503);
                assert!(answer.header("Retry-After").is_some(), "{}", answer.head);
                asked.refused += 1;
            }
            Some(Err(_)) | None => client = None,
        }
        sleep(Duration::from_millis(20));
    }
    asked.ended = Instant::now();
    asked
}

/// Every token that anybody was given is good there.
pub fn verify(asked: &[Asked], daemon: &TestDaemon) {
    let mut client = daemon.client();
    for one in asked {
        for Registered { token, .. } in &one.registered {
            client.token = Some(token.clone());
            let answer = client.get("/relays");
            assert_eq!(answer.status, 200, "a token of {} at {}: {}", one.address, daemon.http, answer.body);
        }
    }
}
