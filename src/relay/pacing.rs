//! Initiations that wait for their turn (rule 8).

use crate::relay::roster::MemberId;
use crate::time::Instant;
use crate::wireguard::message::INITIATION_LENGTH;
use std::net::SocketAddr;

/// An initiation on its way.
#[derive(Clone, Copy)]
pub struct Paced {
    /// When it is to go.
    pub due: Instant,
    /// Where it came from.
    pub from: SocketAddr,
    /// Where it goes.
    pub to: SocketAddr,
    /// Whose mac1 it bears.
    pub target: MemberId,
    /// The message.
    pub bytes: [u8; INITIATION_LENGTH],
}

/// A few hundred of them at most; searched from end to end, but only when something is due or new.
#[derive(Default)]
pub struct Pacer {
    waiting: Vec<Paced>,
    next: Option<Instant>,
}

impl Pacer {
    /// Adds one, unless there are `cap`. An older one from the same source to the same address is replaced in
    /// its place: it has been given up.
    pub fn push(&mut self, paced: Paced, cap: usize) -> bool {
        let same =
            |other: &&mut Paced| (other.from, other.to, other.target) == (paced.from, paced.to, paced.target);
        if let Some(older) = self.waiting.iter_mut().find(same) {
            let due = older.due;
            *older = Paced { due, ..paced };
            return true;
        }
        if self.waiting.len() >= cap {
            return false;
        }
        self.next = Some(self.next.map_or(paced.due, |next| next.min(paced.due)));
        self.waiting.push(paced);
        true
    }

    /// When one is due.
    pub fn next(&self) -> Option<Instant> {
        self.next
    }

    /// One that is due, the longest due first.
    pub fn pop(&mut self, now: Instant) -> Option<Paced> {
        self.next.filter(|&next| next <= now)?;
        let first = (0..self.waiting.len()).min_by_key(|&place| self.waiting[place].due)?;
        let paced = self.waiting.swap_remove(first);
        self.next = self.waiting.iter().map(|paced| paced.due).min();
        Some(paced)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::roster::some_members;

    #[test]
    fn goes_in_order_of_turns_and_keeps_the_newest_of_a_source() {
        let members = some_members(2);
        let mut pacer = Pacer::default();
        let paced = |due: u64, from: u16, target: usize, fill: u8| Paced {
            due: Instant::from_nanos(due),
            from: SocketAddr::from(([192, 0, 2, 1], from)),
            to: SocketAddr::from(([192, 0, 2, 2], 1)),
            target: members[target],
            bytes: [fill; INITIATION_LENGTH],
        };
        assert!(pacer.push(paced(30, 1, 0, 1), 3) && pacer.push(paced(10, 2, 0, 2), 3));
        assert!(pacer.push(paced(20, 1, 1, 3), 3));
        assert!(!pacer.push(paced(5, 3, 0, 4), 3), "full");
        assert!(pacer.push(paced(40, 1, 0, 5), 3), "instead of the first");
        assert_eq!(pacer.next(), Some(Instant::from_nanos(10)));
        assert!(pacer.pop(Instant::from_nanos(9)).is_none());
        let order: Vec<_> =
            std::iter::from_fn(|| pacer.pop(Instant::from_nanos(30))).map(|paced| paced.bytes[0]).collect();
        assert_eq!(order, [2, 3, 5]);
        assert_eq!(pacer.next(), None);
    }
}
