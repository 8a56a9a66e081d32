//! Handshakes with the hub take turns with packets. One costs as much as hundreds of packets, and strangers may ask for
//! many at once: so each [`SLICE`] has room for a few, and the others wait.

use crate::datagram::Path;
use crate::keyed_hash::KeyedState;
use crate::owners::Holdings;
use crate::time::Instant;
use crate::wireguard::message::INITIATION_LENGTH;
use std::time::Duration;

/// What packets may wait for handshakes. One is taken in any case.
const SLICE: Duration = Duration::from_millis(1);
/// How many may wait, at 200 bytes each. One that finds no room comes again in five seconds.
const ROOM: usize = 64;

/// An initiation for the hub that waits.
#[derive(Clone, Copy)]
pub struct PostponedInitiation {
    /// Where it came from, and to which address of ours.
    pub path: Path,
    /// The message.
    pub bytes: [u8; INITIATION_LENGTH],
    /// Whether a member may be there: it does not stand behind strangers.
    pub is_expected: bool,
    /// By when it came.
    number: u64,
}

/// Those that wait, and how much of the present slice is left.
pub struct Postponed {
    waiting: Vec<PostponedInitiation>,
    held: Holdings,
    numbered: u64,
    /// X25519 computations that fit a slice.
    per_slice: u64,
    /// When the present slice began, and how many computations had been done by then.
    began: Instant,
    done: u64,
}

impl Postponed {
    /// Nothing waits. One X25519 computation takes `x25519`.
    pub fn new(x25519: Duration, hasher: KeyedState, now: Instant) -> Self {
        let per_slice = SLICE.as_nanos() / x25519.as_nanos().max(1);
        Postponed {
            waiting: Vec::with_capacity(ROOM + 1),
            held: Holdings::with_capacity(ROOM + 1, hasher),
            numbered: 0,
            per_slice: u64::try_from(per_slice).unwrap_or(u64::MAX).max(1),
            began: now,
            done: 0,
        }
    }

    /// Whether the slice at `now` has room for one more that would not overtake any, `done` computations after the
    /// start of the relay.
    pub fn has_room(&mut self, done: u64, now: Instant) -> bool {
        self.waiting.is_empty() && self.is_left(done, now)
    }

    fn is_left(&mut self, done: u64, now: Instant) -> bool {
        if now.since(self.began) >= SLICE {
            (self.began, self.done) = (now, done);
        }
        done - self.done < self.per_slice
    }

    /// Keeps one. If as many wait as may, one goes that is not expected, or else one that is: the oldest of whoever has
    /// most.
    pub fn push(&mut self, path: Path, bytes: [u8; INITIATION_LENGTH], is_expected: bool) -> Option<Path> {
        self.held.add(path.remote.ip(), 1);
        self.waiting.push(PostponedInitiation { path, bytes, is_expected, number: self.numbered });
        self.numbered += 1;
        if self.waiting.len() <= ROOM {
            return None;
        }
        let is_stranger = |one: &PostponedInitiation| !one.is_expected;
        let has_strangers = self.waiting.iter().any(is_stranger);
        let waiting = self.waiting.iter().enumerate().filter(|(_, one)| is_stranger(one) == has_strangers);
        let victim = self.held.victim(waiting.map(|(index, one)| (index, one.path.remote.ip(), one.number)));
        victim.map(|index| self.remove(index).path)
    }

    fn remove(&mut self, index: usize) -> PostponedInitiation {
        let one = self.waiting.swap_remove(index);
        self.held.remove(one.path.remote.ip(), 1);
        one
    }

    /// The next one, if the slice at `now` has room for it.
    pub fn pop(&mut self, done: u64, now: Instant) -> Option<PostponedInitiation> {
        let first = |&index: &usize| (!self.waiting[index].is_expected, self.waiting[index].number);
        let first = (0..self.waiting.len()).min_by_key(first)?;
        self.is_left(done, now).then(|| self.remove(first))
    }

    /// When the next slice begins, if anything waits for it.
    pub fn next(&self) -> Option<Instant> {
        (!self.waiting.is_empty()).then(|| self.began + SLICE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: [u8; INITIATION_LENGTH] = [1; INITIATION_LENGTH];

    fn from(ip: [u8; 4], port: u16) -> Path {
        Path::to((ip, port).into())
    }

    fn at(micros: u64) -> Instant {
        Instant::ZERO + Duration::from_micros(micros)
    }

    fn postponed() -> Postponed {
        Postponed::new(Duration::from_micros(300), KeyedState::new(7, 9), at(0))
    }

    #[test]
    fn a_slice_has_room_for_a_few() {
        let mut postponed = postponed();
        assert!(postponed.has_room(0, at(10)) && postponed.has_room(2, at(10)));
        assert!(!postponed.has_room(3, at(999)), "three of 300 us are all");
        assert!(postponed.has_room(3, at(1000)));
        // One that costs more than all of it is taken.
        assert!(!postponed.has_room(8, at(1999)) && postponed.next().is_none());
        postponed.push(from([192, 0, 2, 1], 1), BYTES, false);
        assert_eq!(postponed.next(), Some(at(2000)));
        assert!(postponed.pop(8, at(1999)).is_none());
        assert!(!postponed.has_room(8, at(2000)), "nobody overtakes who waits");
        assert!(postponed.pop(8, at(2000)).is_some() && postponed.has_room(8, at(2000)));
    }

    #[test]
    fn who_is_expected_does_not_stand_behind_strangers() {
        let mut postponed = postponed();
        let ports = |postponed: &mut Postponed| -> Vec<u16> {
            std::iter::from_fn(|| postponed.pop(0, at(0))).map(|one| one.path.remote.port()).collect()
        };
        for (port, is_expected) in [(1, false), (2, true), (3, false), (4, true)] {
            postponed.push(from([192, 0, 2, 1], port), BYTES, is_expected);
        }
        assert_eq!(ports(&mut postponed), [2, 4, 1, 3]);
        // Nor do strangers take their room.
        for port in 0..1000 {
            postponed.push(from([203, 0, 113, 1], port), BYTES, false);
            postponed.push(from([192, 0, 2, 1], 2000 + port), BYTES, port < 10);
        }
        assert_eq!(
            ports(&mut postponed)[..11],
            [2000, 2001, 2002, 2003, 2004, 2005, 2006, 2007, 2008, 2009, 968]
        );
        for port in 0..100 {
            let refused = postponed.push(from([192, 0, 2, 1], port), BYTES, true);
            let oldest = usize::from(port).checked_sub(ROOM).map(|oldest| oldest as u16);
            assert_eq!(refused.map(|path| path.remote.port()), oldest, "with nobody else there");
        }
        let stranger = from([203, 0, 113, 1], 1);
        assert_eq!(postponed.push(stranger, BYTES, false), Some(stranger));
    }

    #[test]
    fn who_has_most_makes_room() {
        let mut postponed = postponed();
        assert_eq!(postponed.push(from([192, 0, 2, 1], 1), BYTES, false), None);
        for host in 0..200 {
            let refused = postponed.push(from([203, 0, 113, host], 1), BYTES, false);
            let oldest = usize::from(host + 1).checked_sub(ROOM).map(|oldest| [203, 0, 113, oldest as u8]);
            assert_eq!(refused, oldest.map(|ip| from(ip, 1)));
        }
        assert_eq!(postponed.pop(0, at(0)).map(|one| one.path), Some(from([192, 0, 2, 1], 1)));
        assert_eq!((postponed.waiting.len(), postponed.held.total()), (ROOM - 1, ROOM - 1));
    }
}
