//! What forwarding costs without the system calls around it. Run with
//! `cargo test --release --test sim -- --ignored --nocapture measure`.

use crate::packets::udp;
use crate::world::{SECOND, World, relay_address};
use lanrage::relay::limits::RelayLimits;
use lanrage::relay::{Arrival, Port, Relay};
use lanrage::time::{Instant, Now};
use lanrage::token_bucket::Rate;
use lanrage::wireguard::verdict::SendOutcome;
use std::hint::black_box;
use std::net::SocketAddr;
use std::time::Duration;

/// Nobody reaches these.
fn generous() -> RelayLimits {
    let rate = Rate { interval: Duration::from_nanos(1), burst: u32::MAX };
    RelayLimits { address_bytes: rate, member_bytes: rate, party_bytes: rate, ..RelayLimits::default() }
}

/// The time this thread has spent on a processor: other programs do not count.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    Duration::from_nanos(text.split(' ').next().and_then(|nanos| nanos.parse().ok()).expect("nanoseconds"))
}

fn time(work: impl FnOnce()) -> Duration {
    let began = processor_time();
    work();
    processor_time() - began
}

fn receive(relay: &mut Relay, datagram: &mut [u8], source: SocketAddr, now: Now) -> usize {
    let mut sent = 0;
    let mut out = |_: SocketAddr, _: Port, bytes: &[u8]| sent += black_box(bytes).len();
    relay.receive(datagram, Arrival::new(source, Port::Main, now), &mut out).expect("forwarded");
    sent
}

#[test]
#[ignore = "measures"]
fn measure_blind_forwarding() {
    for pairs in [1, 50, 500] {
        let mut world = World::with_limits(1, generous());
        world.capture.start();
        for pair in 0..pairs {
            world.blind_party(&format!("p{pair}"), 2);
        }
        world.run(8 * SECOND);
        for pair in 0..pairs {
            world.say(2 * pair, 2 * pair + 1, b"x");
            world.say(2 * pair + 1, 2 * pair, b"x");
        }
        world.run(SECOND);
        let mut data: Vec<_> =
            world.records().iter().filter(|r| r.to_relay && r.bytes[0] == 4).cloned().collect();
        data.iter_mut().for_each(|record| record.bytes.resize(1452, 0));
        let now = world.clock();
        let rounds = 2_000_000 / data.len();
        let mut forwarded = 0;
        let span = time(|| {
            for _ in 0..rounds {
                for record in &mut data {
                    forwarded += receive(&mut world.relay, &mut record.bytes, record.remote, now);
                }
            }
        });
        let count = rounds * data.len();
        assert_eq!(forwarded, count * 1452);
        println!("blind, {pairs} pairs: {:.1} ns a packet", span.as_nanos() as f64 / count as f64);
    }
}

#[test]
#[ignore = "measures"]
fn measure_hub_forwarding() {
    for length in [100, 1420] {
        let mut world = World::with_limits(1, generous());
        let members = world.hub_party("p", 2);
        world.run(2 * SECOND);
        let packet = udp(world.clients[members[0]].ip, world.clients[members[1]].ip, &vec![0; length - 28]);
        let peer = world.clients[members[0]].device.find_peer(world.relay.hub_key()).unwrap();
        let source = world.clients[members[0]].seen_as.unwrap();
        let now = world.clock();
        let count = 100_000;
        let mut datagrams = Vec::with_capacity(count);
        let sealing = time(|| {
            for _ in 0..count {
                let mut buffer = vec![0; length + 48];
                buffer[16..16 + length].copy_from_slice(&packet);
                let sent = world.clients[members[0]].device.send(peer, &mut buffer, length, now);
                let SendOutcome::Sealed { to, length } = sent else { panic!("no session") };
                assert_eq!(to, relay_address(Port::Main));
                buffer.truncate(length);
                datagrams.push(buffer);
            }
        });
        let span = time(|| {
            for datagram in &mut datagrams {
                receive(&mut world.relay, datagram, source, now);
            }
        });
        let nanos = |span: Duration| span.as_nanos() as f64 / count as f64;
        println!("hub, {length} B: {:.0} ns a packet; sealing one: {:.0} ns", nanos(span), nanos(sealing));
    }
}

/// What a datagram that nobody wants costs.
#[test]
#[ignore = "measures"]
fn measure_noise() {
    let mut world = World::new(1);
    for party in 0..100 {
        for _ in 0..8 {
            world.member(&format!("p{party}"), None);
        }
    }
    let mut noise = [7; 148];
    let count = 200_000u32;
    for kind in [0u8, 1, 2, 3, 4] {
        let length = [100, 148, 92, 64, 100][usize::from(kind)];
        noise[..4].copy_from_slice(&[kind, 0, 0, 0]);
        let span = time(|| {
            for round in 0..count {
                let now = Now {
                    instant: Instant::from_nanos(world.now.as_nanos() + u64::from(round) * 10_000),
                    ..world.clock()
                };
                let source = SocketAddr::from((round.wrapping_mul(2_654_435_761).to_be_bytes(), 9));
                let mut out = |_: SocketAddr, _: Port, _: &[u8]| ();
                let _ = world.relay.receive(
                    &mut noise[..length],
                    Arrival::new(source, Port::Main, now),
                    &mut out,
                );
            }
        });
        println!("noise of type {kind}: {:.0} ns", span.as_nanos() as f64 / f64::from(count));
    }
}
