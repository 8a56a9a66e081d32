//! Initiations that were forwarded and wait for their answer (rules 2, 3 and 6).

use crate::datagram::Path;
use crate::keyed_hash::KeyedState;
use crate::owners::Holdings;
use crate::owners::table::{Merit, OwnedEntry, OwnedTable};
use crate::relay::flow_key::FlowKey;
use crate::relay::limits::{PENDING_LIFETIME, RelayLimits};
use crate::relay::roster::{MemberId, Roster};
#[cfg(test)]
use crate::relay::search::fingerprint::Fingerprint;
use crate::slots::Handle;
use crate::time::Instant;
use crate::wireguard::message::INITIATION_LENGTH;
use std::collections::HashMap;
use std::net::SocketAddr;

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
    ephemeral: Ephemeral,
}

/// The beginning of the ephemeral key in an initiation (paper 5.4.2): no two handshakes have the same.
type Ephemeral = [u8; 8];

fn ephemeral(message: &[u8; INITIATION_LENGTH]) -> Ephemeral {
    *message[8..].first_chunk().expect("an initiation is longer")
}

/// All of them, by where they were sent and their sender's index: that is what an answer comes with.
pub struct PendingTable {
    table: OwnedTable<FlowKey, Pending>,
    /// Where each handshake is, as far as it is unanswered.
    by_ephemeral: HashMap<Ephemeral, FlowKey, KeyedState>,
}

impl PendingTable {
    /// None yet.
    pub fn new(hasher: KeyedState, seed: u64) -> Self {
        PendingTable { table: OwnedTable::new(hasher, seed), by_ephemeral: HashMap::with_hasher(hasher) }
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
    pub fn insert(
        &mut self,
        limits: &RelayLimits,
        key: FlowKey,
        initiator: Path,
        target: MemberId,
        message: &[u8; INITIATION_LENGTH],
        now: Instant,
    ) {
        if let Some(older) = self.table.find(&key) {
            self.remove(older);
        }
        while self.table.len() >= limits.pending.max(1) {
            let merit = |pending: &Pending| Some(Merit { is_confirmed: false, since: pending.at });
            let Some(victim) = self.table.victim(merit) else { break };
            self.remove(victim);
        }
        let (progress, ephemeral) = (Progress::Sent { misfits: 0 }, ephemeral(message));
        let pending = Pending { initiator, target, progress, at: now, ephemeral };
        self.table.insert(key, initiator.remote.ip(), pending);
        self.by_ephemeral.insert(ephemeral, key);
    }

    fn remove(&mut self, handle: Handle<OwnedEntry<FlowKey, Pending>>) {
        if let Some((key, pending)) = self.table.remove(handle)
            && self.by_ephemeral.get(&pending.ephemeral) == Some(&key)
        {
            self.by_ephemeral.remove(&pending.ephemeral);
        }
    }

    /// Whether this initiation, whatever index it bears now, came from another address than `source` and was forwarded
    /// just before.
    pub fn is_repeated(
        &mut self,
        message: &[u8; INITIATION_LENGTH],
        source: SocketAddr,
        now: Instant,
    ) -> bool {
        let Some(&key) = self.by_ephemeral.get(&ephemeral(message)) else { return false };
        self.get_mut(&key, now).is_some_and(|pending| pending.initiator.remote != source)
    }

    /// Forgets all that are too old or to members that are gone.
    pub fn sweep(&mut self, roster: &Roster, now: Instant) {
        let keep = |_: &FlowKey, pending: &Pending| {
            now.since(pending.at) < PENDING_LIFETIME && roster.get(pending.target).is_some()
        };
        let by_ephemeral = &mut self.by_ephemeral;
        self.table.retain(keep, |key, pending| {
            if by_ephemeral.get(&pending.ephemeral) == Some(&key) {
                by_ephemeral.remove(&pending.ephemeral);
            }
        });
    }

    /// What tells one state of them from another.
    #[cfg(test)]
    pub fn describe(&self, to: &mut Fingerprint) {
        let mut all: Vec<_> = self.table.iter().map(|(_, key, pending)| (key, pending)).collect();
        all.sort_unstable_by_key(|(key, _)| (key.address(), key.index()));
        for (key, &Pending { initiator, target, progress, at, .. }) in all {
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

    #[test]
    fn is_bounded_and_who_fills_it_makes_room() {
        let (roster, members) = some_roster(2);
        let now = Instant::from_nanos(5_000_000_000);
        let mut table = PendingTable::new(KeyedState::new(1, 2), 3);
        let limits = RelayLimits { pending: 5, ..RelayLimits::default() };
        let path = |host: u8| Path::to(SocketAddr::from(([192, 0, host, 1], 1)));
        let key = |index| FlowKey::new(path(0).remote, index);
        let message = |number: u32| [number as u8 + 1; INITIATION_LENGTH];
        table.insert(&limits, key(0), path(1), members[0], &message(0), now);
        for index in 1..50 {
            table.insert(&limits, key(index), path(2), members[1], &message(index), now);
        }
        assert!(table.get_mut(&key(0), now).is_some(), "the honest one's is still there");
        assert_eq!(table.held().total(), 5);
        table.insert(&limits, key(0), path(1), members[0], &message(0), now);
        assert_eq!(table.held().total(), 5, "the same key again");
        // The same from another address is not forwarded once more, whatever index is written on it.
        let mut again = message(0);
        again[4..8].fill(7);
        assert!(table.is_repeated(&again, path(9).remote, now));
        assert!(!table.is_repeated(&message(0), path(1).remote, now), "its sender may");
        assert!(!table.is_repeated(&message(200), path(9).remote, now));
        let late = now + PENDING_LIFETIME;
        assert!(!table.is_repeated(&again, path(9).remote, late));
        assert!(table.get_mut(&key(0), late).is_none());
        table.sweep(&roster, late);
        assert!(table.is_empty() && table.by_ephemeral.is_empty());
    }
}
