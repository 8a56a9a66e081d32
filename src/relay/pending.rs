//! Initiations that were forwarded and wait for their answer (rules 2, 3 and 6).

use crate::keyed_hash::KeyedState;
use crate::relay::flow_key::FlowKey;
use crate::relay::limits::{Limits, PENDING_LIFETIME};
use crate::relay::roster::MemberId;
use crate::time::Instant;
use std::collections::HashMap;
use std::net::SocketAddr;

/// A forwarded initiation.
#[derive(Clone, Copy, Debug)]
pub struct Pending {
    /// Where it came from.
    pub initiator: SocketAddr,
    /// Whose mac1 it bears.
    pub target: MemberId,
    /// Whether a cookie reply to it was forwarded.
    pub challenged: bool,
    /// Answers whose mac1 fitted nobody.
    pub misfits: u8,
    at: Instant,
}

/// All of them, by where they were sent and their sender's index: that is what an answer comes with.
pub struct PendingTable {
    map: HashMap<FlowKey, Pending, KeyedState>,
    /// How many there are to each member, by slot.
    counts: Vec<u32>,
}

impl PendingTable {
    /// None yet.
    pub fn new(hasher: KeyedState) -> Self {
        PendingTable { map: HashMap::with_hasher(hasher), counts: Vec::new() }
    }

    /// Makes room for members with slots below `count`.
    pub fn reserve(&mut self, count: usize) {
        if self.counts.len() < count {
            self.counts.resize(count, 0);
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Whether there is room for one more to `target`, from a member or a stranger.
    pub fn has_room(&self, target: MemberId, is_stranger: bool, limits: &Limits) -> bool {
        let [all, each] =
            [limits.pending, limits.pending_per_member].map(|room| Limits::share(room, is_stranger));
        self.map.len() < all && self.counts.get(target.slot()).is_some_and(|&count| (count as usize) < each)
    }

    /// The one that was sent to where the key says, if it may still be answered.
    pub fn get_mut(&mut self, key: &FlowKey, now: Instant) -> Option<&mut Pending> {
        self.map.get_mut(key).filter(|pending| now.since(pending.at) < PENDING_LIFETIME)
    }

    /// Adds one.
    pub fn insert(&mut self, key: FlowKey, initiator: SocketAddr, target: MemberId, now: Instant) {
        self.remove(&key);
        if let Some(count) = self.counts.get_mut(target.slot()) {
            *count += 1;
        }
        self.map.insert(key, Pending { initiator, target, challenged: false, misfits: 0, at: now });
    }

    /// Removes one.
    pub fn remove(&mut self, key: &FlowKey) {
        if let Some(pending) = self.map.remove(key) {
            uncount(&mut self.counts, pending.target);
        }
    }

    /// Forgets all that `keep` denies or that are too old.
    pub fn sweep(&mut self, now: Instant, keep: impl Fn(&Pending) -> bool) {
        let counts = &mut self.counts;
        self.map.retain(|_, pending| {
            let keep = now.since(pending.at) < PENDING_LIFETIME && keep(pending);
            if !keep {
                uncount(counts, pending.target);
            }
            keep
        });
    }
}

fn uncount(counts: &mut [u32], target: MemberId) {
    if let Some(count) = counts.get_mut(target.slot()) {
        *count = count.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::roster::some_members;

    #[test]
    fn is_bounded_in_all_and_per_member() {
        let members = some_members(2);
        let now = Instant::from_nanos(5_000_000_000);
        let mut table = PendingTable::new(KeyedState::new(1, 2));
        let limits = Limits { pending: 5, pending_per_member: 3, ..Limits::default() };
        let here = SocketAddr::from(([192, 0, 2, 1], 1));
        assert!(!table.has_room(members[0], false, &limits), "not for members it was not told of");
        table.reserve(2);
        table.insert(FlowKey::new(here, 0), here, members[0], now);
        assert!(!table.has_room(members[0], true, &limits), "strangers may have half of it");
        for index in 0..3 {
            assert!(table.has_room(members[0], false, &limits));
            table.insert(FlowKey::new(here, index), here, members[0], now);
        }
        table.insert(FlowKey::new(here, 2), here, members[0], now);
        assert!(!table.has_room(members[0], false, &limits) && table.has_room(members[1], false, &limits));
        for index in 3..5 {
            table.insert(FlowKey::new(here, index), here, members[1], now);
        }
        assert!(!table.has_room(members[1], false, &limits));
        table.remove(&FlowKey::new(here, 0));
        table.remove(&FlowKey::new(here, 0));
        assert!(table.has_room(members[0], false, &limits) && table.has_room(members[1], false, &limits));
        assert!(table.get_mut(&FlowKey::new(here, 1), now).is_some());
        table.sweep(now, |pending| pending.target == members[1]);
        assert!(table.get_mut(&FlowKey::new(here, 1), now).is_none());
        let late = now + PENDING_LIFETIME;
        assert!(table.get_mut(&FlowKey::new(here, 3), late).is_none());
        table.sweep(late, |_| true);
        assert!(table.is_empty());
    }
}
