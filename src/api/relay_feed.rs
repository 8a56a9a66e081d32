//! What a relay in another place still has to be told of parties. Only their names are kept: it is told how a party is when its
//! turn comes, so that one which changes often is told once. One page is under way at a time, and who was removed goes first.
//! A relay without room for all is told of those whose home it is, then of those whose spare it is, then of others.

use crate::control::Control;
use crate::control::approvals::FeedSize;
use crate::control::change::Change;
use crate::control::placement::Placement;
use crate::ids::{PartyId, RelayId};
use crate::wire::roster::PartyRoster;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};

/// Members and parties of one page, beyond which no other party comes onto it: some 20 KB.
const PAGE: usize = 100;
/// Of the parties of one placement so many are tried again when there is more room.
const TRIED_AGAIN: usize = 16;

/// Parties that a relay was told of, with so many members each.
#[derive(Default)]
struct ToldParties {
    parties: BTreeMap<PartyId, usize>,
    members: usize,
}

impl ToldParties {
    fn insert(&mut self, party: PartyId, members: usize) {
        self.members += members;
        self.parties.insert(party, members);
    }

    fn remove(&mut self, party: &PartyId) -> Option<usize> {
        let members = self.parties.remove(party)?;
        self.members -= members;
        Some(members)
    }

    fn pop(&mut self) -> Option<(PartyId, usize)> {
        let (party, members) = self.parties.pop_first()?;
        self.members -= members;
        Some((party, members))
    }
}

/// Parties for which a relay has no room.
#[derive(Default)]
struct PartiesLeftOut {
    parties: BTreeSet<PartyId>,
    /// The one that was tried again last.
    last: Option<PartyId>,
}

impl PartiesLeftOut {
    /// Those whose turn it is to be tried again.
    fn next(&mut self) -> Vec<PartyId> {
        let start = self.last.as_ref().map_or(Unbounded, Excluded);
        let after = self.parties.range::<PartyId, _>((start, Unbounded));
        let others = self.last.iter().flat_map(|last| self.parties.range::<PartyId, _>(..=last));
        let next: Vec<_> = after.chain(others).take(TRIED_AGAIN).cloned().collect();
        self.last = next.last().cloned();
        next
    }
}

/// What one relay has been told, and has not.
pub struct RelayFeed {
    /// Names it: who has taken in all of it can go on with it.
    pub name: String,
    relay: RelayId,
    /// How many members the relay takes.
    room: usize,
    number: u64,
    /// Those on the page that is under way.
    under_way: Option<Vec<PartyId>>,
    /// Those that somebody was removed from.
    urgent: BTreeSet<PartyId>,
    changed: BTreeSet<PartyId>,
    /// By what the relay is to them.
    left_out: [PartiesLeftOut; Placement::COUNT],
    told: [ToldParties; Placement::COUNT],
    /// Whether everything was told once.
    is_whole: bool,
}

impl RelayFeed {
    /// For a relay that has been told nothing.
    pub fn new(name: String, relay: RelayId, room: u32, control: &Control) -> Self {
        RelayFeed {
            name,
            relay,
            room: room as usize,
            number: 0,
            under_way: None,
            urgent: BTreeSet::new(),
            changed: control.parties().map(|party| party.id.clone()).collect(),
            left_out: Default::default(),
            told: Default::default(),
            is_whole: false,
        }
    }

    /// How much the relay was told.
    pub fn size(&self) -> FeedSize {
        let parties = self.told.iter().map(|told| told.parties.len()).sum();
        let left_out = self.left_out.iter().map(|left_out| left_out.parties.len()).sum();
        let [parties, members, left_out] =
            [parties, self.members(), left_out].map(|count: usize| u32::try_from(count).unwrap_or(u32::MAX));
        FeedSize { parties, members, left_out }
    }

    fn members(&self) -> usize {
        self.told.iter().map(|told| told.members).sum()
    }

    /// Whether the relay was told of a party.
    pub fn has(&self, party: &PartyId) -> bool {
        self.told.iter().any(|told| told.parties.contains_key(party))
    }

    /// Whether the relay has no room for a party.
    pub fn leaves_out(&self, party: &PartyId) -> bool {
        self.left_out.iter().any(|left_out| left_out.parties.contains(party))
    }

    /// Something has happened.
    pub fn note(&mut self, change: &Change) {
        match change {
            Change::MemberJoined(party, _)
            | Change::MemberChanged(party, _)
            | Change::MemberMoved(party, _) => drop(self.changed.insert(party.clone())),
            Change::MemberLeft { party, .. } => drop(self.urgent.insert(party.clone())),
            Change::PartyRenamed { from, party, .. } => {
                // The new one first, so that nobody's sessions end.
                self.urgent.insert(party.clone());
                self.changed.insert(from.clone());
            }
            _ => {}
        }
    }

    /// Relays came or went, and with them parties found another home: without room for all, this one looks at each again.
    pub fn reconsider(&mut self, control: &Control) {
        if self.left_out.iter().any(|left_out| !left_out.parties.is_empty()) {
            self.changed.extend(control.parties().map(|party| party.id.clone()));
        }
    }

    /// The next page, unless one is under way or there is nothing to tell: its number, parties as they are now, and whether
    /// the relay knows everything with it.
    pub fn page(&mut self, control: &Control) -> Option<(u64, Vec<PartyRoster>, bool)> {
        if self.under_way.is_some() {
            return None;
        }
        let (mut names, mut parties, mut weight) = (Vec::new(), Vec::new(), 0);
        while weight < PAGE
            && let Some(name) = self.urgent.pop_first().or_else(|| self.changed.pop_first())
        {
            self.changed.remove(&name);
            let members = self.members();
            let mut party = control.party_roster(&name);
            let placement = control.placement(&name, &self.relay);
            let before = self.told.iter_mut().find_map(|told| told.remove(&name));
            for left_out in &mut self.left_out {
                left_out.parties.remove(&name);
            }
            let (has_room, gone) = self.make_room(party.members.len(), placement, control);
            for gone in gone {
                parties.push(PartyRoster { members: Vec::new(), ..control.party_roster(&gone) });
                names.push(gone);
                weight += 1;
            }
            if !has_room {
                party.members.clear();
                self.left_out[placement as usize].parties.insert(name.clone());
            }
            let count = party.members.len();
            if count > 0 {
                self.told[placement as usize].insert(name.clone(), count);
            }
            if count > 0 || before.is_some() {
                weight += count + 1;
                parties.push(party);
                names.push(name);
            }
            if self.members() < members {
                self.changed.extend(self.left_out.iter_mut().flat_map(PartiesLeftOut::next));
            }
        }
        let ends = self.urgent.is_empty() && self.changed.is_empty();
        if parties.is_empty() && self.is_whole {
            return None;
        }
        self.is_whole |= ends;
        self.number += 1;
        self.under_way = Some(names);
        Some((self.number, parties, ends))
    }

    /// Has parties to which the relay is less make room for so many members. Whether there is room then, and which ones went.
    fn make_room(&mut self, count: usize, placement: Placement, control: &Control) -> (bool, Vec<PartyId>) {
        let mut gone = Vec::new();
        let lesser = placement as usize + 1..Placement::COUNT;
        let stay: usize = self.told[..lesser.start].iter().map(|told| told.members).sum();
        if stay + count > self.room {
            return (false, gone);
        }
        while self.members() + count > self.room {
            let found = lesser.clone().rev().find_map(|at| Some((at, self.told[at].pop()?)));
            let Some((at, (name, members))) = found else { return (false, gone) };
            // It may be more to it by now than when it was told.
            match control.placement(&name, &self.relay) as usize {
                now if now < at => self.told[now].insert(name, members),
                now => {
                    self.left_out[now].parties.insert(name.clone());
                    gone.push(name);
                }
            }
        }
        (true, gone)
    }

    /// The relay has taken in a page.
    pub fn taken(&mut self, number: u64) {
        if number == self.number {
            self.under_way = None;
        }
    }

    /// The connection is gone, and with it perhaps what was under way.
    pub fn interrupt(&mut self) {
        self.urgent.extend(self.under_way.take().into_iter().flatten());
    }
}
