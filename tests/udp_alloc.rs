//! No allocation per datagram in the relay's sockets, in either direction, with runs and without.
//!
//! Allocations are counted per thread, so that the test harness's own do not disturb.

#[path = "harness/allocations.rs"]
mod allocations;

use allocations::ALLOCATIONS;
use lanrage::net::udp::{Inbox, RelaySocket, SendQueue};
use lanrage::time::Instant;
use std::net::UdpSocket;
use std::time::Duration;

/// Echoes `datagrams` datagrams that have arrived, each once from where it lies and once from a copy, and
/// returns how often memory was allocated for that.
fn echo(socket: &RelaySocket, inbox: &mut Inbox, outbox: &mut SendQueue, datagrams: usize) -> u64 {
    let (mut taken, mut allocations) = (0, 0);
    while taken < datagrams {
        smol::block_on(socket.readable()).unwrap();
        let before = ALLOCATIONS.get();
        let turn = socket.turn(inbox, outbox, Instant::ZERO, |datagram, meta, out| {
            out.forward(meta.path, datagram.len(), datagram.len());
            out.send(meta.path, &[0; 100]);
        });
        allocations += ALLOCATIONS.get() - before;
        taken += turn.unwrap();
    }
    allocations
}

#[test]
fn no_datagram_is_paid_for_with_memory() {
    let socket = RelaySocket::bind("0.0.0.0:0".parse().unwrap()).unwrap().with_senders();
    let (mut inbox, mut outbox) = (Inbox::default(), socket.outbox());
    let port = socket.address().port();
    let clients = ["127.0.0.1", "127.0.0.2"].map(|ip| {
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect((ip, port)).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        client
    });
    let (mut answer, mut allocations) = ([0; 2048], 0);
    for round in 0..20 {
        if round == 10 {
            outbox.disable_gso();
        }
        for client in &clients {
            for length in [100, 100, 100, 60, 1400, 1400, 0, 1] {
                client.send(&[round; 1400][..length]).unwrap();
            }
        }
        let allocated = echo(&socket, &mut inbox, &mut outbox, 16);
        allocations += allocated;
        for client in &clients {
            (0..16).for_each(|_| assert!(client.recv(&mut answer).is_ok()));
        }
    }
    assert_eq!((allocations, outbox.sent().sent), (0, 20 * 32));
    assert!(ALLOCATIONS.get() > 0, "the counter does not count");
}
