//! Initiations that were forwarded and wait for their answer (rules 2, 3 and 6).

use crate::datagram::Path;
use crate::keyed_hash::KeyedState;
use crate::owners::Holdings;
use crate::owners::table::{Merit, Table};
use crate::relay::flow_key::FlowKey;
use crate::relay::limits::{Limits, PENDING_LIFETIME};
use crate::relay::roster::{MemberId, Roster};
#[cfg(test)]
use crate::relay::search::fingerprint::Fingerprint;
use crate::time::Instant;

/// What has become of a forwarded initiation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// Nothing came back; or so many answers whose mac1 fitted nobody.
    Sent {
        /// How many.
        misfits: u8,
    },
    /// A cookie reply was forwarded.
    Challenged,
    /// An answer was forwarded. Another one would be a duplicate, or not the responder's.
    Answered,
}

/// A forwarded initiation.
#[derive(Clone, Copy, Debug)]
pub struct Pending {
    /// Where it came from, and to which address of ours.
    pub initiator: Path,
    /// Whose mac1 it bears.
    pub target: MemberId,
    /// What has become of it.
    pub progress: Progress,
    at: Instant,
}

/// All of them, by where they were sent and their sender's index: that is what an answer comes with.
pub struct PendingTable {
    table: Table<FlowKey, Pending>,
}

impl PendingTable {
    /// None yet.
    pub fn new(hasher: KeyedState, seed: u64) -> Self {
        PendingTable { table: Table::new(hasher, seed) }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// The one that was sent to where the key says, if it may still be answered.
    pub fn get_mut(&mut self, key: &FlowKey, now: Instant) -> Option<&mut Pending> {
        self.table.with_key_mut(key).filter(|pending| now.since(pending.at) < PENDING_LIFETIME)
    }

    /// Adds one. If there is no room, the oldest of whoever holds most goes.
    pub fn insert(&mut self, limits: &Limits, key: FlowKey, initiator: Path, target: MemberId, now: Instant) {
        if let Some(older) = self.table.find(&key) {
            self.table.remove(older);
        }
        while self.table.len() >= limits.pending.max(1) {
            let merit = |pending: &Pending| Some(Merit { is_confirmed: false, since: pending.at });
            let Some(victim) = self.table.victim(merit) else { break };
            self.table.remove(victim);
        }
        let pending = Pending { initiator, target, progress: Progress::Sent { misfits: 0 }, at: now };
        self.table.insert(key, initiator.remote.ip(), pending);
    }

    /// Forgets all that are too old or to members that are gone.
    pub fn sweep(&mut self, roster: &Roster, now: Instant) {
        let keep = |_: &FlowKey, pending: &Pending| {
            now.since(pending.at) < PENDING_LIFETIME && roster.get(pending.target).is_some()
        };
        self.table.retain(keep, |_, _| ());
    }

    /// What tells one state of them from another.
    #[cfg(test)]
    pub fn describe(&self, to: &mut Fingerprint) {
        let mut all: Vec<_> = self.table.iter().map(|(_, key, pending)| (key, pending)).collect();
        all.sort_unstable_by_key(|(key, _)| (key.address(), key.index()));
        for (key, &Pending { initiator, target, progress, at }) in all {
            let progress = match progress {
                Progress::Sent { misfits } => misfits.into(),
                Progress::Challenged => 100,
                Progress::Answered => 101,
            };
            to.address(key.address()).index(key.index()).address(initiator.remote);
            to.number(target.slot().into()).number(progress).age(at);
        }
    }

    /// How many there are, and who holds them.
    pub fn held(&self) -> &Holdings {
        self.table.held()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::roster::some_roster;
    use std::net::SocketAddr;

    #[test]
    fn is_bounded_and_who_fills_it_makes_room() {
        let (roster, members) = some_roster(2);
        let now = Instant::from_nanos(5_000_000_000);
        let mut table = PendingTable::new(KeyedState::new(1, 2), 3);
        let limits = Limits { pending: 5, ..Limits::default() };
        let path = |host: u8| Path::to(SocketAddr::from(([192, 0, host, 1], 1)));
        let key = |index| FlowKey::new(path(0).remote, index);
        table.insert(&limits, key(0), path(1), members[0], now);
        for index in 1..50 {
            table.insert(&limits, key(index), path(2), members[1], now);
        }
        assert!(table.get_mut(&key(0), now).is_some(), "the honest one's is still there");
        assert_eq!(table.held().total(), 5);
        table.insert(&limits, key(0), path(1), members[0], now);
        assert_eq!(table.held().total(), 5, "the same key again");
        let late = now + PENDING_LIFETIME;
        assert!(table.get_mut(&key(0), late).is_none());
        table.sweep(&roster, late);
        assert!(table.is_empty());
    }
}
