//! Which of many peers has something to do first.
//!
//! Timers move with every packet, nearly always to later. So a peer's entry in the queue is only a time
//! before which it need not be looked at: moving a deadline back costs nothing, and nothing allocates while
//! packets flow.

use crate::time::Instant;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A queue of peers, by slot.
#[derive(Debug, Default)]
pub struct Schedule {
    queue: BinaryHeap<Reverse<(Instant, u32)>>,
    /// When each slot is to be looked at; entries in the queue that say otherwise are stale.
    planned: Vec<Option<Instant>>,
}

/// Room in the queue per slot: one valid entry and some stale ones.
const ENTRIES_PER_SLOT: usize = 4;

impl Schedule {
    /// Makes room for the slots below `count`.
    pub fn reserve(&mut self, count: usize) {
        if self.planned.len() < count {
            self.planned.resize(count, None);
        }
        let room = self.planned.len() * ENTRIES_PER_SLOT;
        self.queue.reserve(room.saturating_sub(self.queue.len()));
    }

    /// Plans to look at `slot` at `deadline` at the latest. The slot must be [reserved](Schedule::reserve).
    pub fn plan(&mut self, slot: u32, deadline: Option<Instant>) {
        let Some(deadline) = deadline else { return };
        let planned = &mut self.planned[slot as usize];
        if planned.is_some_and(|planned| planned <= deadline) {
            return;
        }
        *planned = Some(deadline);
        if self.queue.len() >= self.planned.len() * ENTRIES_PER_SLOT {
            // As many stale entries as can be: begin anew with the valid ones, in the memory we have.
            self.queue.clear();
            let valid = self.planned.iter().enumerate();
            self.queue.extend(valid.filter_map(|(slot, at)| at.map(|at| Reverse((at, slot as u32)))));
        } else {
            self.queue.push(Reverse((deadline, slot)));
        }
    }

    /// Forgets `slot`.
    pub fn forget(&mut self, slot: u32) {
        self.planned[slot as usize] = None;
    }

    /// A slot that is to be looked at now; it must be planned again afterwards.
    pub fn pop(&mut self, now: Instant) -> Option<u32> {
        let (at, slot) = self.first()?;
        if at > now {
            return None;
        }
        self.queue.pop();
        self.planned[slot as usize] = None;
        Some(slot)
    }

    /// When [`Schedule::pop`] gives something.
    pub fn next(&mut self) -> Option<Instant> {
        self.first().map(|(at, _)| at)
    }

    fn first(&mut self) -> Option<(Instant, u32)> {
        while let Some(&Reverse((at, slot))) = self.queue.peek() {
            if self.planned[slot as usize] == Some(at) {
                return Some((at, slot));
            }
            self.queue.pop();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::random::Seeded;
    use std::collections::BTreeMap;

    /// Against the obvious implementation, a map of deadlines: no slot is looked at late, none is lost, and
    /// the queue stays as short as it was reserved.
    #[test]
    fn no_deadline_is_missed() {
        let mut random = Seeded::new(9);
        let mut schedule = Schedule::default();
        schedule.reserve(20);
        let mut real = BTreeMap::<u32, Instant>::new();
        let mut now = Instant::ZERO;
        let (mut popped, capacity) = (0, schedule.queue.capacity());
        for _ in 0..50_000 {
            now = Instant::from_nanos(now.as_nanos() + random.below(10));
            let slot = random.below(20) as u32;
            match random.below(8) {
                0 => {
                    real.remove(&slot);
                    schedule.forget(slot);
                }
                _ => {
                    let deadline = Instant::from_nanos(now.as_nanos() + 1 + random.below(1000));
                    real.insert(slot, deadline);
                    schedule.plan(slot, Some(deadline));
                }
            }
            let first = real.values().min();
            assert!(first.is_none_or(|&first| schedule.next().is_some_and(|next| next <= first)));
            while let Some(slot) = schedule.pop(now) {
                popped += 1;
                real.retain(|&other, deadline| other != slot || *deadline > now);
                schedule.plan(slot, real.get(&slot).copied());
            }
            assert!(real.values().all(|&deadline| deadline > now), "a deadline was missed");
            assert!(schedule.queue.len() <= 20 * ENTRIES_PER_SLOT);
        }
        assert!(popped > 1000);
        assert_eq!(schedule.queue.capacity(), capacity);
    }

    #[test]
    fn nothing_planned_is_nothing_to_wait_for() {
        let mut schedule = Schedule::default();
        assert_eq!(schedule.next(), None);
        schedule.reserve(2);
        schedule.plan(1, None);
        assert_eq!(schedule.next(), None);
        schedule.plan(1, Some(Instant::from_nanos(7)));
        schedule.plan(1, Some(Instant::from_nanos(9)));
        assert_eq!(schedule.next(), Some(Instant::from_nanos(7)));
        schedule.forget(1);
        assert_eq!(schedule.pop(Instant::from_nanos(100)), None);
    }
}
