//! Which relay in another place is a party's home, and which one its spare, for relays that have no room for every party: first
//! the one that its members are sent to, then by the highest random weight (rendezvous hashing; Thaler and Ravishankar). Every
//! instance comes to the same, and where a relay comes or goes, only the parties that it had get another one.

use super::Control;
use super::approvals::ApprovedRelay;
use crate::crypto::blake2s;
use crate::ids::{PartyId, RelayId};
use std::cmp::Reverse;

/// What a relay is to a party, best first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Placement {
    /// It serves this party before all others.
    Home,
    /// It is there for when the home is not.
    Spare,
    /// It serves this party if it has room to spare.
    Other,
}

impl Placement {
    /// How many there are.
    pub const COUNT: usize = 3;
}

/// A number for a name, the same everywhere.
pub(super) fn mark(name: &str) -> u64 {
    let hash = blake2s::hash(&[b"lanrage v1 placement", name.as_bytes()]);
    u64::from_le_bytes(hash[..8].try_into().expect("eight bytes"))
}

/// The weight of a relay for a party, by the marks of both: the finisher of SplitMix64, of which each bit of the input changes
/// half of the output's.
fn weight(party: u64, relay: u64) -> u64 {
    let mixed = (party ^ relay).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// How good a relay is for a party with this mark whose members are sent to `home`; the best one has most.
type RelayRank<'a> = (bool, u64, Reverse<&'a RelayId>);

fn rank<'a>(relay: &'a ApprovedRelay, party: u64, home: Option<&RelayId>) -> RelayRank<'a> {
    let id = &relay.info.relay_id;
    (home == Some(id), weight(party, relay.mark), Reverse(id))
}

impl Control {
    /// The approved relays, the party's home first.
    pub fn placements(&self, party: &PartyId) -> Vec<&ApprovedRelay> {
        let (mark, home) = self.mark_and_home(party);
        let mut relays: Vec<_> = self.approvals.approved().collect();
        relays.sort_by_key(|relay| Reverse(rank(relay, mark, home)));
        relays
    }

    /// What an approved relay is to a party. Looks at all that are approved.
    pub fn placement(&self, party: &PartyId, relay: &RelayId) -> Placement {
        let (mark, home) = self.mark_and_home(party);
        let Some(relay) = self.approvals.get(relay.as_str()) else { return Placement::Other };
        let own = rank(relay, mark, home);
        match self.approvals.approved().filter(|other| rank(other, mark, home) > own).count() {
            0 => Placement::Home,
            1 => Placement::Spare,
            _ => Placement::Other,
        }
    }

    fn mark_and_home(&self, party: &PartyId) -> (u64, Option<&RelayId>) {
        let home = self.parties.get(party).and_then(|party| party.relay.as_ref());
        (mark(party.as_str()), home)
    }
}
