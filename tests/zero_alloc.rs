//! No allocation per transport packet: neither where it is opened, nor where it is sealed, nor on the way
//! through a hub.
//!
//! Allocations are counted per thread, so that the test harness's own do not disturb.

use lanrage::crypto::x25519::PrivateKey;
use lanrage::time::{Instant, Now, UnixTime};
use lanrage::wireguard::allowed_ips::Prefix;
use lanrage::wireguard::device::{Config, Device};
use lanrage::wireguard::peer::{PeerConfig, PeerIndex};
use lanrage::wireguard::verdict::{Accepted, Content, Sent, Verdict};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // The counter is gone while a thread ends; nobody looks at it then.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

#[allow(unsafe_code)]
// SAFETY: every call goes to the system's allocator as it came; counting touches a thread-local number that
// needs no allocation and no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps `GlobalAlloc::alloc`'s promises, which are the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from the system's allocator with this layout, by way of us.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as for `dealloc`, and the caller promises that `size` is valid.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

fn at(millis: u64) -> Now {
    let micros = 1_800_000_000_000_000 + millis as i64 * 1000;
    Now { instant: Instant::ZERO + Duration::from_millis(millis), unix: UnixTime::from_micros(micros) }
}

fn address(node: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, node as u8], 51820))
}

fn inner(node: usize) -> IpAddr {
    IpAddr::from([10, 66, 0, node as u8])
}

/// A spoke, the hub, another spoke.
struct Party {
    devices: [Device; 3],
}

impl Party {
    fn new() -> Self {
        let mut devices = [0, 1, 2].map(|node| {
            let private_key = PrivateKey::generate();
            Device::new(Config { private_key, mtu: 1420, stamp_mark: 0, jitter_seed: node }, at(0).instant)
        });
        for (node, other) in [(0, 1), (1, 0), (1, 2), (2, 1)] {
            let config = PeerConfig {
                endpoint: Some(address(other)),
                persistent_keepalive: Some(Duration::from_secs(25)),
                allowed_ips: vec![Prefix::host(inner(other))],
                ..PeerConfig::new(*devices[other].public_key())
            };
            devices[node].add_peer(config, at(0).instant).expect("a good key");
        }
        let mut party = Party { devices };
        // The hub speaks for the first spoke to the second.
        let index = party.index(2, 1);
        party.devices[2].allow(index, Prefix::host(inner(0)));
        party
    }

    fn index(&self, node: usize, other: usize) -> PeerIndex {
        self.devices[node].find_peer(self.devices[other].public_key()).expect("a peer")
    }

    /// Sends what the devices want to send until they want nothing more.
    fn settle(&mut self, now: Now) {
        let mut buffer = [0; 2048];
        loop {
            let mut quiet = true;
            for from in 0..3 {
                while let Some(outgoing) = self.devices[from].poll(now, &mut buffer) {
                    quiet = false;
                    let to = (0..3).find(|&node| address(node) == outgoing.to).expect("one of us");
                    self.devices[to].receive(&mut buffer[..outgoing.length], address(from), now);
                }
            }
            if quiet {
                return;
            }
        }
    }
}

fn packet(buffer: &mut [u8], length: usize) {
    let packet = &mut buffer[16..16 + length];
    packet.fill(0);
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&(length as u16).to_be_bytes());
    packet[12..16].copy_from_slice(&[10, 66, 0, 0]);
    packet[16..20].copy_from_slice(&[10, 66, 0, 2]);
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(black_box(Box::new(7)))), 1);
    assert_eq!(allocations(|| drop(black_box(Vec::<u8>::with_capacity(9)))), 1);
    assert_eq!(allocations(|| ()), 0);
}

#[test]
fn packets_flow_without_allocating() {
    let mut party = Party::new();
    party.settle(at(0));
    let (to_hub, to_spoke) = (party.index(0, 1), party.index(1, 2));
    assert!(party.devices[0].can_send(to_hub, at(0).instant));
    assert!(party.devices[1].can_send(to_spoke, at(0).instant));
    let mut buffer = [0; 2048];
    let mut arrived = 0;
    let mut carry = |party: &mut Party, length: usize, now: Now| {
        packet(&mut buffer, length);
        let Sent::Sealed { length: sealed, .. } = party.devices[0].send(to_hub, &mut buffer, length, now)
        else {
            panic!("no session")
        };
        let verdict = party.devices[1].receive(&mut buffer[..sealed], address(0), now);
        let Verdict::Accepted(Accepted { content: Content::Packet { inner, .. }, .. }) = verdict else {
            panic!("not opened")
        };
        let next = party.devices[1].route(inner.destination).expect("the other spoke");
        let sent = party.devices[1].send(next, &mut buffer[..sealed], inner.length, now);
        let Sent::Sealed { length: sealed, .. } = sent else { panic!("no session") };
        let verdict = party.devices[2].receive(&mut buffer[..sealed], address(1), now);
        assert!(matches!(verdict, Verdict::Accepted(Accepted { content: Content::Packet { .. }, .. })));
        arrived += 1;
        let waits = party.devices.each_mut().map(|device| device.poll_timeout());
        assert!(waits.iter().all(Option::is_some));
    };
    // 100 seconds, so that keepalives and their timers are part of it; only a new session may allocate.
    let counted = allocations(|| {
        for millis in (1..100_000).step_by(7) {
            carry(&mut party, 20 + (millis as usize * 13) % 1400, at(millis));
            if millis % 50 == 0 {
                party.settle(at(millis));
            }
        }
    });
    assert_eq!(counted, 0, "for {arrived} packets");
    assert!(arrived > 10_000);
}

#[test]
fn hostile_datagrams_do_not_allocate() {
    let mut party = Party::new();
    party.settle(at(0));
    let to_hub = party.index(0, 1);
    let mut buffer = [0; 2048];
    packet(&mut buffer, 100);
    let Sent::Sealed { length, .. } = party.devices[0].send(to_hub, &mut buffer, 100, at(1)) else {
        panic!("no session")
    };
    let sealed = buffer;
    let counted = allocations(|| {
        for bit in 0..length * 8 {
            buffer = sealed;
            buffer[bit / 8] ^= 1 << (bit % 8);
            let verdict = party.devices[1].receive(&mut buffer[..length], address(9), at(1));
            assert!(matches!(verdict, Verdict::Dropped(_)), "{verdict:?}");
        }
    });
    assert_eq!(counted, 0);
}
