//! A disk that takes half a second for a sync, as the flash of a router does.

use crate::inside::Inside;
use crate::sim_disk::SimDisk;
use crate::socket::Socket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const SYNC: Duration = Duration::from_millis(500);
/// What must not wait for the disk takes far less than a sync.
const QUICK: Duration = Duration::from_millis(200);
const PEERS: usize = 40;

/// The longest of what `ask` takes again and again, until `done`.
fn slowest(done: &AtomicBool, mut ask: impl FnMut()) -> (Duration, usize) {
    let (mut longest, mut count) = (Duration::ZERO, 0);
    while !done.load(Ordering::Relaxed) {
        let start = Instant::now();
        ask();
        longest = longest.max(start.elapsed());
        count += 1;
        std::thread::sleep(Duration::from_millis(3));
    }
    (longest, count)
}

#[test]
fn reads_and_heartbeats_do_not_wait_for_it_and_mutations_share_it() {
    let disk = SimDisk::default();
    let inside = Inside::start(&disk);
    let mut host = inside.client();
    let party = host.register("host").create("LAN", "host");
    let guests: Vec<_> = (0..PEERS)
        .map(|number| {
            let mut client = inside.client();
            client.register(&format!("p{number}"));
            (format!("p{number}"), client)
        })
        .collect();
    disk.set_sync_delay(SYNC);
    let commits = host.metric("lanrage_store_commits_total");

    let done = Arc::new(AtomicBool::new(false));
    let watched = |method: &'static str, path: String| {
        let (done, mut client) = (done.clone(), inside.client());
        client.token = host.token.clone();
        std::thread::spawn(move || {
            slowest(&done, || {
                client.ask(method, &path, "").is(200);
            })
        })
    };
    let watchers = [
        watched("GET", format!("/parties/{party}")),
        watched("HEAD", format!("/parties/{party}")),
        watched("POST", format!("/parties/{party}/peers/host/heartbeat")),
        watched("GET", "/metrics".to_owned()),
    ];
    std::thread::sleep(Duration::from_millis(50));

    let start = Instant::now();
    let joins: Vec<_> = guests
        .into_iter()
        .map(|(peer, mut client)| {
            let party = party.clone();
            std::thread::spawn(move || {
                let start = Instant::now();
                client.join(&party, &peer).is(200);
                start.elapsed()
            })
        })
        .collect();
    let took: Vec<Duration> = joins.into_iter().map(|join| join.join().unwrap()).collect();
    let whole = start.elapsed();
    done.store(true, Ordering::Relaxed);
    for watcher in watchers {
        let (longest, count) = watcher.join().unwrap();
        assert!(longest < QUICK, "one of {count} waited for {longest:?}");
        assert!(count > 20, "only {count} were asked");
    }
    assert!(took.iter().all(|took| *took >= SYNC), "acknowledged before the sync: {took:?}");
    assert!(whole < 6 * SYNC, "{PEERS} joins took {whole:?}");
    let commits = host.metric("lanrage_store_commits_total") - commits;
    assert!((1..=4).contains(&commits), "{PEERS} joins took {commits} commits");
    disk.set_sync_delay(Duration::ZERO);
    inside.stop().unwrap();
}

/// A member hears of a change over its own socket no sooner than it is safe, and others' talk does not wait.
#[test]
fn signals_do_not_wait_for_it() {
    let disk = SimDisk::default();
    let inside = Inside::start(&disk);
    let (mut host, mut bob) = (inside.client(), inside.client());
    let party = host.register("host").create("LAN", "host");
    bob.register("bob").join(&party, "bob").is(200);
    let mut socket = Socket::of(&bob, inside.http);
    socket.hear("party_update");
    disk.set_sync_delay(SYNC);
    let mut other = inside.client();
    let waiting = std::thread::spawn(move || other.register("carol").create("another", "carol"));
    std::thread::sleep(Duration::from_millis(50));
    for _ in 0..20 {
        let start = Instant::now();
        let signal = r#"{"to_peer_id":"bob","signal_data":{"offer":1}}"#;
        host.ask("POST", &format!("/parties/{party}/signals"), signal).is(200);
        socket.hear("signal");
        assert!(start.elapsed() < QUICK, "it took {:?}", start.elapsed());
    }
    assert!(!waiting.is_finished(), "nothing waited for the disk meanwhile");
    waiting.join().unwrap();
    disk.set_sync_delay(Duration::ZERO);
    inside.stop().unwrap();
}
