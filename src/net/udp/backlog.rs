//! Datagrams that wait until the socket has room again. Small ones go first: a game's datagrams are small and
//! in a hurry, and cost those who wait behind them next to nothing.
//!
//! One may overtake long ones of its own session, at most as many as wait here: a quarter of the shortest replay
//! window among WireGuard's implementations (1024).

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

/// The longest datagram that is small, in bytes: games, voice, handshakes, acknowledgements.
pub const SMALL: usize = 512;
/// What may wait, in bytes, and how many datagrams: a tenth of a second at 10 Mbit/s, most of it bulk.
const SMALL_ROOM: usize = 32 * 1024;
const SMALL_COUNT: usize = 256;
const BULK_ROOM: usize = 128 * 1024;
const BULK_COUNT: usize = 256;
/// Small datagrams that may go before one run of bulk that waits must.
const STREAK: usize = 64;
/// Datagrams in a run of bulk, so that a small one does not wait long for its end.
const BULK_RUN: usize = 8;

/// What a datagram is sent with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Address {
    /// Where to.
    pub to: SocketAddr,
    /// Our address that it leaves from, if it is not for the kernel's routes to say.
    pub from: Option<IpAddr>,
    /// The byte of DSCP and ECN.
    pub class: u8,
}

/// The two queues.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Datagrams of at most [`SMALL`] bytes.
    Small,
    /// All others.
    Bulk,
}

/// Equal datagrams at the head of a queue, of which the last may be shorter.
pub struct Waiting {
    /// Where they are going.
    pub address: Address,
    /// Whose queue.
    pub kind: Kind,
    /// The length of each but the last, in bytes.
    pub segment: usize,
    /// How many there are.
    pub count: usize,
}

/// Datagrams in the order in which they are to be sent, within each kind. What there is no room for is refused.
pub struct Backlog {
    small: Ring,
    bulk: Ring,
    /// Small datagrams that went since bulk did, or had to wait for none.
    streak: usize,
}

impl Backlog {
    /// Without any. It has no memory before something waits for the first time, which is never for most.
    pub fn new() -> Self {
        Backlog {
            small: Ring::new(SMALL_ROOM, SMALL_COUNT),
            bulk: Ring::new(BULK_ROOM, BULK_COUNT),
            streak: 0,
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.small.entries.is_empty() && self.bulk.entries.is_empty()
    }

    /// Keeps a copy of `datagram`, if there is room.
    pub fn push(&mut self, address: Address, datagram: &[u8]) -> bool {
        let ring = if datagram.len() <= SMALL { &mut self.small } else { &mut self.bulk };
        ring.push(address, datagram)
    }

    /// What is to be sent next: at most `most` datagrams and, unless it is one, `bytes` bytes.
    pub fn next(&self, most: usize, bytes: usize) -> Option<Waiting> {
        let is_bulk_due = self.streak >= STREAK && !self.bulk.entries.is_empty();
        if self.small.entries.is_empty() || is_bulk_due {
            self.bulk.next(Kind::Bulk, most.min(BULK_RUN), bytes)
        } else {
            self.small.next(Kind::Small, most, bytes)
        }
    }

    /// The datagram number `place` of a queue.
    pub fn datagram(&self, kind: Kind, place: usize) -> &[u8] {
        self.ring(kind).datagram(place)
    }

    /// The first `count` datagrams of a queue need not wait any more.
    pub fn release(&mut self, kind: Kind, count: usize) {
        match kind {
            Kind::Small if !self.bulk.entries.is_empty() => self.streak += count,
            _ => self.streak = 0,
        }
        let ring = if kind == Kind::Small { &mut self.small } else { &mut self.bulk };
        ring.entries.drain(..count.min(ring.entries.len()));
    }

    fn ring(&self, kind: Kind) -> &Ring {
        match kind {
            Kind::Small => &self.small,
            Kind::Bulk => &self.bulk,
        }
    }
}

#[derive(Clone, Copy)]
struct Entry {
    address: Address,
    start: usize,
    length: usize,
}

/// A queue of datagrams in a buffer of fixed size, each in one piece. It allocates once, for the first of all.
struct Ring {
    bytes: Box<[u8]>,
    room: usize,
    entries: VecDeque<Entry>,
    most: usize,
}

impl Ring {
    fn new(room: usize, most: usize) -> Self {
        Ring { bytes: Box::default(), room, entries: VecDeque::new(), most }
    }

    /// Where `length` bytes are free.
    fn place(&self, length: usize) -> Option<usize> {
        let (Some(first), Some(last)) = (self.entries.front(), self.entries.back()) else {
            return (length <= self.room).then_some(0);
        };
        let end = last.start + last.length;
        if last.start < first.start {
            // It goes round: what is free lies in between.
            return (end + length < first.start).then_some(end);
        }
        if length <= self.room - end {
            Some(end)
        } else {
            // Never up to the first one, or else it could not be told whether it goes round.
            (length < first.start).then_some(0)
        }
    }

    fn push(&mut self, address: Address, datagram: &[u8]) -> bool {
        let Some(start) = self.place(datagram.len()).filter(|_| self.entries.len() < self.most) else {
            return false;
        };
        if self.bytes.is_empty() {
            self.bytes = vec![0; self.room].into();
            self.entries.reserve_exact(self.most);
        }
        self.bytes[start..start + datagram.len()].copy_from_slice(datagram);
        self.entries.push_back(Entry { address, start, length: datagram.len() });
        true
    }

    fn next(&self, kind: Kind, most: usize, bytes: usize) -> Option<Waiting> {
        let &Entry { address, length: segment, .. } = self.entries.front()?;
        let most = most.min(bytes / segment.max(1));
        let mut count = 1;
        let mut last = segment;
        for entry in self.entries.iter().take(most).skip(1) {
            if entry.address != address || last < segment || !(1..=segment).contains(&entry.length) {
                break;
            }
            (count, last) = (count + 1, entry.length);
        }
        Some(Waiting { address, kind, segment, count })
    }

    fn datagram(&self, place: usize) -> &[u8] {
        self.entries.get(place).map_or(&[], |entry| &self.bytes[entry.start..][..entry.length])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::random::Seeded;
    use std::net::Ipv4Addr;

    fn address(port: u16) -> Address {
        Address { to: (Ipv4Addr::LOCALHOST, port).into(), from: None, class: 0 }
    }

    /// Against the obvious implementation: what comes out is what went in, in order, in one piece, and no room
    /// is lost for good.
    #[test]
    fn a_ring_keeps_order_and_bytes() {
        let mut random = Seeded::new(7);
        let (mut ring, mut model) = (Ring::new(1000, 20), VecDeque::new());
        let mut refused = 0;
        for round in 0..20_000u32 {
            let length = (random.next_u64() % 300) as usize;
            let datagram = vec![round as u8; length];
            if ring.push(address(1), &datagram) {
                model.push_back(datagram);
            } else {
                refused += 1;
                assert!(!model.is_empty(), "there is room for any while there are none");
            }
            assert!(model.len() <= 20 && model.iter().map(Vec::len).sum::<usize>() <= 1000);
            assert_eq!(model.len(), ring.entries.len());
            for (place, datagram) in model.iter().enumerate() {
                assert_eq!(ring.datagram(place), datagram);
            }
            if random.next_u64().is_multiple_of(2) {
                let count = (random.next_u64() % 4) as usize;
                ring.entries.drain(..count.min(ring.entries.len()));
                model.drain(..count.min(model.len()));
            }
        }
        assert!(refused > 1000 && refused < 19_000, "{refused}");
        assert!(!ring.push(address(1), &[0; 1001]));
    }

    #[test]
    fn small_ones_go_first_but_not_for_ever() {
        let mut backlog = Backlog::new();
        for _ in 0..50 {
            assert!(backlog.push(address(1), &[1; 1000]));
        }
        let mut order = String::new();
        for _ in 0..3 * STREAK {
            assert!(backlog.push(address(2), &[2; 100]));
            let next = backlog.next(64, 9000).unwrap();
            order.push(if next.kind == Kind::Small { 's' } else { 'b' });
            backlog.release(next.kind, next.count);
        }
        let small = "s".repeat(STREAK);
        assert!(order.starts_with(&format!("{small}b{}", &small[..10])), "{order}");
        // The bulk that waits goes in short runs.
        while backlog.next(64, 9000).is_some_and(|next| next.kind == Kind::Small) {
            backlog.release(Kind::Small, 1);
        }
        assert!(backlog.next(64, 9000).is_some_and(|next| next.count == BULK_RUN));
    }

    #[test]
    fn runs_are_of_one_destination_and_length() {
        let mut backlog = Backlog::new();
        for (port, length) in [(1, 100), (1, 100), (1, 40), (1, 100), (2, 100), (2, 0), (2, 0), (2, 30)] {
            assert!(backlog.push(address(port), &vec![port as u8; length]));
        }
        let mut runs = Vec::new();
        while let Some(next) = backlog.next(64, 9000) {
            runs.push((next.address.to.port(), next.segment, next.count));
            backlog.release(next.kind, next.count);
        }
        assert_eq!(runs, [(1, 100, 3), (1, 100, 1), (2, 100, 1), (2, 0, 1), (2, 0, 1), (2, 30, 1)]);
        assert!(backlog.is_empty());
    }
}
