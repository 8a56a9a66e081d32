//! Initiations that wait for their turn (rule 8).

use crate::datagram::Path;
use crate::keyed_hash::KeyedState;
use crate::owners::Holdings;
use crate::relay::roster::MemberId;
#[cfg(test)]
use crate::relay::search::fingerprint::Fingerprint;
use crate::time::Instant;
use crate::wireguard::message::INITIATION_LENGTH;
use std::net::SocketAddr;

/// An initiation on its way.
#[derive(Clone, Copy)]
pub struct Paced {
    /// When it is to go.
    pub due: Instant,
    /// Where it came from, and to which address of ours.
    pub from: Path,
    /// Where it goes.
    pub to: SocketAddr,
    /// Whose mac1 it bears.
    pub target: MemberId,
    /// The message.
    pub bytes: [u8; INITIATION_LENGTH],
}

/// A few hundred of them at most; searched from end to end, but only when something is due or new.
pub struct Pacer {
    waiting: Vec<Paced>,
    held: Holdings,
    next: Option<Instant>,
}

impl Pacer {
    /// Nothing waits.
    pub fn new(hasher: KeyedState) -> Self {
        Pacer { waiting: Vec::new(), held: Holdings::new(hasher), next: None }
    }

    /// Adds one. An older one from the same source to the same address is replaced in its index: it has been given up.
    /// If there are `cap`, the one of whoever has most of them that is due first goes.
    pub fn push(&mut self, paced: Paced, cap: usize) {
        let same = |other: &&mut Paced| {
            (other.from.remote, other.to, other.target) == (paced.from.remote, paced.to, paced.target)
        };
        if let Some(older) = self.waiting.iter_mut().find(same) {
            let due = older.due;
            *older = Paced { due, ..paced };
            return;
        }
        while self.waiting.len() >= cap.max(1) {
            let waiting = self.waiting.iter().enumerate();
            let waiting = waiting.map(|(index, paced)| (index, paced.from.remote.ip(), paced.due));
            let Some(index) = self.held.victim(waiting) else { break };
            self.remove(index);
        }
        self.next = Some(self.next.map_or(paced.due, |next| next.min(paced.due)));
        self.held.add(paced.from.remote.ip(), 1);
        self.waiting.push(paced);
    }

    fn remove(&mut self, index: usize) -> Paced {
        let paced = self.waiting.swap_remove(index);
        self.held.remove(paced.from.remote.ip(), 1);
        self.next = self.waiting.iter().map(|paced| paced.due).min();
        paced
    }

    /// What tells one state of it from another.
    #[cfg(test)]
    pub fn describe(&self, to: &mut Fingerprint) {
        let mut all: Vec<_> = self.waiting.iter().collect();
        all.sort_unstable_by_key(|paced| (paced.due, paced.from.remote));
        for paced in all {
            to.address(paced.from.remote)
                .address(paced.to)
                .number(paced.target.slot().into())
                .left(paced.due);
        }
    }

    /// Who holds how many.
    pub fn held(&self) -> &Holdings {
        &self.held
    }

    /// When one is due.
    pub fn next(&self) -> Option<Instant> {
        self.next
    }

    /// One that is due, the longest due first.
    pub fn pop(&mut self, now: Instant) -> Option<Paced> {
        self.next.filter(|&next| next <= now)?;
        let first = (0..self.waiting.len()).min_by_key(|&index| self.waiting[index].due)?;
        Some(self.remove(first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::roster::some_members;

    #[test]
    fn goes_in_order_of_turns_and_keeps_the_newest_of_a_source() {
        let members = some_members(2);
        let mut pacer = Pacer::new(KeyedState::new(7, 9));
        let paced = |due: u64, from: u16, target: usize, fill: u8| Paced {
            due: Instant::from_nanos(due),
            from: Path::to(SocketAddr::from(([192, 0, from as u8, 1], from))),
            to: SocketAddr::from(([192, 0, 2, 2], 1)),
            target: members[target],
            bytes: [fill; INITIATION_LENGTH],
        };
        for one in [paced(30, 1, 0, 1), paced(10, 2, 0, 2), paced(20, 1, 1, 3)] {
            pacer.push(one, 3);
        }
        pacer.push(paced(40, 1, 0, 5), 3);
        assert_eq!(pacer.next(), Some(Instant::from_nanos(10)));
        assert!(pacer.pop(Instant::from_nanos(9)).is_none());
        let order: Vec<_> =
            std::iter::from_fn(|| pacer.pop(Instant::from_nanos(30))).map(|paced| paced.bytes[0]).collect();
        assert_eq!(order, [2, 3, 5], "the last one instead of the first");
        assert_eq!(pacer.next(), None);
        for from in 1..9 {
            pacer.push(paced(50, from % 2, 0, from as u8), 2);
            pacer.push(paced(60 + u64::from(from), 3, usize::from(from % 2), 0), 2);
        }
        assert!(pacer.waiting.len() == 2 && pacer.held.total() == 2, "who has most makes room");
    }
}
