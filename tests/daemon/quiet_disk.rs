//! Flash wears out: peers that only say that they are alive cost no write.

use crate::client::Client;
use crate::test_daemon::Setup;
use std::time::{Duration, Instant};

const THREADS: usize = 8;
const PARTIES: usize = 16;
const PEERS: usize = 1000;

#[test]
fn a_thousand_peers_heartbeat_without_a_write() {
    let daemon = Setup::new(&[]).start();
    let address = daemon.http;
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            std::thread::spawn(move || {
                let mut client = Client::connect(address);
                let mut peers = Vec::new();
                for group in (thread..PARTIES).step_by(THREADS) {
                    let mut party = None;
                    for number in (group..PEERS).step_by(PARTIES) {
                        let peer = format!("p{number}");
                        client.token = None;
                        client.register(&peer);
                        match &party {
                            None => party = Some(client.create("LAN", &peer)),
                            Some(party) => {
                                client.join(party, &peer).is(200);
                            }
                        }
                        peers.push((party.clone().unwrap(), peer, client.token.clone()));
                    }
                }
                (client, peers)
            })
        })
        .collect();
    let mut crowds: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert_eq!(crowds.iter().map(|(_, peers)| peers.len()).sum::<usize>(), PEERS);
    assert_eq!(daemon.metric("lanrage_peers"), PEERS as u64);

    let file = daemon.setup.directory().state_file();
    let state = || {
        let modified = std::fs::metadata(&file).unwrap().modified().unwrap();
        (daemon.bytes_written(), daemon.metric("lanrage_store_commits_total"), modified)
    };
    let before = state();
    assert!(before.1 > 10, "there is no disk to be seen");
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_secs(3) || count < 2 * PEERS {
        for (client, peers) in &mut crowds {
            for (party, peer, token) in peers {
                client.token = token.clone();
                client.heartbeat(party, peer).is(200);
                count += 1;
            }
        }
    }
    assert_eq!(state(), before, "{count} heartbeats were written");

    // What is a change is written: the figures can move.
    let mut client = daemon.client();
    client.register("another");
    let after = state();
    assert!(after.1 > before.1 && after.2 > before.2, "{after:?} {before:?}");
}
