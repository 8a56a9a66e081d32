//! What a relay in another place still has to be told of parties. Only their names are kept: it is told how a party is when its
//! turn comes, so that one which changes often is told once. One page is under way at a time, and who was removed goes first.

use crate::control::Control;
use crate::control::approvals::FeedSize;
use crate::control::change::Change;
use crate::ids::PartyId;
use crate::wire::roster::PartyRoster;
use std::collections::{BTreeMap, BTreeSet};

/// Members and parties of one page, beyond which no other party comes onto it: some 20 KB.
const PAGE: usize = 100;

/// What one relay has been told, and has not.
pub struct RelayFeed {
    /// Names it: who has taken in all of it can go on with it.
    pub name: String,
    /// How many members the relay takes.
    room: usize,
    number: u64,
    /// Those on the page that is under way.
    under_way: Option<Vec<PartyId>>,
    /// Those that somebody was removed from.
    urgent: BTreeSet<PartyId>,
    changed: BTreeSet<PartyId>,
    /// For these there is no room.
    left_out: BTreeSet<PartyId>,
    /// With so many members each.
    told: BTreeMap<PartyId, usize>,
    members: usize,
    /// Whether everything was told once.
    is_whole: bool,
}

impl RelayFeed {
    /// For a relay that has been told nothing.
    pub fn new(name: String, room: u32, control: &Control) -> Self {
        RelayFeed {
            name,
            room: room as usize,
            number: 0,
            under_way: None,
            urgent: BTreeSet::new(),
            changed: control.parties().map(|party| party.id.clone()).collect(),
            left_out: BTreeSet::new(),
            told: BTreeMap::new(),
            members: 0,
            is_whole: false,
        }
    }

    /// How much the relay was told.
    pub fn size(&self) -> FeedSize {
        let [parties, members, left_out] = [self.told.len(), self.members, self.left_out.len()]
            .map(|count| u32::try_from(count).unwrap_or(u32::MAX));
        FeedSize { parties, members, left_out }
    }

    /// Whether the relay was told of a party.
    pub fn has(&self, party: &PartyId) -> bool {
        self.told.contains_key(party)
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
            let mut party = control.party_roster(&name);
            let before = self.told.get(&name).copied();
            let others = self.members - before.unwrap_or(0);
            self.left_out.remove(&name);
            if others + party.members.len() > self.room {
                party.members.clear();
                self.left_out.insert(name.clone());
            }
            let count = party.members.len();
            if before.is_none() && count == 0 {
                continue;
            }
            match count {
                0 => self.told.remove(&name),
                _ => self.told.insert(name.clone(), count),
            };
            let has_more_room = others + count < self.members;
            self.members = others + count;
            if has_more_room {
                let waiting = self.left_out.iter().filter(|other| **other != name);
                self.changed.extend(waiting.cloned());
            }
            weight += count + 1;
            parties.push(party);
            names.push(name);
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
