//! What a relay in another place still has to be told of parties. Only their names are kept: it is told how a party is when its
//! turn comes, so that one which changes often is told once. One page is under way at a time, and who was removed goes first.
//! A relay without room for all is told of those whose home it is, then of those whose spare it is, then of others.

use crate::control::Control;
use crate::control::approvals::FeedSize;
use crate::control::change::Change;
use crate::control::placement::Placement;
use crate::ids::{PartyId, RelayId};
use crate::sorted::SortedMap;
use crate::wire::roster::PartyRoster;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};

/// Members and parties of one page, beyond which no other party comes onto it: some 20 KB.
const PAGE: usize = 100;
/// So many parties are looked at for a page, whatever comes of it: a millisecond.
const LOOKED_AT: usize = 400;
/// This part of the room is not for parties that have their home and their spare elsewhere. Otherwise who comes and goes in a
/// full one would have one of them go and come each time.
const RESERVE: usize = 64;

/// Beyond this many, and twice those that it was told of, a relay that is away is not told of each one that has changed.
const BACKLOG: usize = 4096;

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

/// Parties for which a relay has no room, with so many members each.
#[derive(Default)]
struct PartiesLeftOut {
    parties: BTreeMap<PartyId, usize>,
    by_size: SortedMap<usize, BTreeSet<PartyId>>,
}

impl PartiesLeftOut {
    fn insert(&mut self, party: PartyId, members: usize) {
        self.by_size.or_default(members).insert(party.clone());
        self.parties.insert(party, members);
    }

    fn remove(&mut self, party: &PartyId) -> Option<usize> {
        let members = self.parties.remove(party)?;
        if let Some(alike) = self.by_size.get_mut(&members) {
            alike.remove(party);
        }
        Some(members)
    }

    /// The largest of those with so many members at most.
    fn largest_within(&self, room: usize) -> Option<&PartyId> {
        let mut fitting = self.by_size.iter().rev().filter(|(members, _)| **members <= room);
        fitting.find_map(|(_, parties)| parties.first())
    }
}

/// Parties whose turn comes by and by, whichever come again meanwhile.
#[derive(Default)]
struct PartiesInTurn {
    parties: BTreeSet<PartyId>,
    last: Option<PartyId>,
}

impl PartiesInTurn {
    fn pop(&mut self) -> Option<PartyId> {
        let start = self.last.as_ref().map_or(Unbounded, Excluded);
        let next = self.parties.range::<PartyId, _>((start, Unbounded)).next();
        let next = next.or_else(|| self.parties.first())?.clone();
        self.parties.remove(&next);
        self.last = Some(next.clone());
        Some(next)
    }
}

/// What one relay has been told, and has not.
pub struct RelayFeed {
    name: String,
    relay: RelayId,
    /// How many members the relay takes.
    room: usize,
    number: u64,
    /// Those on the page that is under way.
    under_way: Option<Vec<PartyId>>,
    /// It may have been told of these, and is to be told if they are none of its any more.
    unsure: BTreeSet<PartyId>,
    /// Those that somebody was removed from.
    urgent: PartiesInTurn,
    changed: PartiesInTurn,
    /// By what the relay is to them.
    left_out: [PartiesLeftOut; Placement::COUNT],
    told: [ToldParties; Placement::COUNT],
    /// Whether the relay may be something else to them by now, and those of which that is still to be seen.
    is_misplaced: bool,
    misplaced: Vec<PartyId>,
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
            unsure: BTreeSet::new(),
            urgent: PartiesInTurn::default(),
            changed: PartiesInTurn {
                parties: control.parties().map(|party| party.id.clone()).collect(),
                last: None,
            },
            left_out: Default::default(),
            told: Default::default(),
            is_misplaced: false,
            misplaced: Vec::new(),
            is_whole: false,
        }
    }

    /// Names it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether a relay that has taken in all of the feed of this name can go on with this one.
    pub fn continues(&self, known: Option<&str>, room: u32) -> bool {
        known == Some(&*self.name) && room as usize == self.room
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
        self.left_out.iter().any(|left_out| left_out.parties.contains_key(party))
    }

    /// Whether so much is to be told that it is better to begin anew.
    pub fn is_too_far_behind(&self) -> bool {
        let told: usize = self.told.iter().map(|told| told.parties.len()).sum();
        self.urgent.parties.len() + self.changed.parties.len() + self.unsure.len() > BACKLOG + 2 * told
    }

    /// Something has happened.
    pub fn note(&mut self, change: &Change) {
        match change {
            Change::MemberJoined(party, _)
            | Change::MemberChanged(party, _)
            | Change::MemberMoved(party, _) => drop(self.changed.parties.insert(party.clone())),
            Change::MemberLeft { party, .. } => drop(self.urgent.parties.insert(party.clone())),
            Change::PartyRenamed { from, party, .. } => {
                // The new one first, so that nobody's sessions end; it has the room that the old one had.
                if self.told.iter_mut().any(|told| told.remove(from).is_some()) {
                    self.unsure.insert(from.clone());
                }
                self.urgent.parties.insert(party.clone());
                self.changed.parties.insert(from.clone());
            }
            _ => {}
        }
    }

    /// Relays came or went, and with them parties found another home. Without room for all, this one looks at each again.
    pub fn reconsider(&mut self) {
        self.is_misplaced = true;
    }

    /// Whether each of its parties is to be looked at again, as there is no room for all.
    fn is_to_be_placed(&self) -> bool {
        self.is_misplaced && self.left_out.iter().any(|left_out| !left_out.parties.is_empty())
    }

    /// Whether all are where they belong, as far as that matters.
    fn is_placed(&self) -> bool {
        self.misplaced.is_empty() && !self.is_to_be_placed()
    }

    /// Looks at some of those to which the relay may be something else by now.
    fn place(&mut self, control: &Control) {
        if self.is_to_be_placed() {
            let told = self.told.iter().flat_map(|told| told.parties.keys());
            let left_out = self.left_out.iter().flat_map(|left_out| left_out.parties.keys());
            self.misplaced = told.chain(left_out).cloned().collect();
            self.is_misplaced = false;
        }
        for party in self.misplaced.split_off(self.misplaced.len().saturating_sub(LOOKED_AT)) {
            let placement = control.placement(&party, &self.relay) as usize;
            if let Some(members) = self.told.iter_mut().find_map(|told| told.remove(&party)) {
                self.told[placement].insert(party, members);
            } else if let Some(members) = self.left_out.iter_mut().find_map(|out| out.remove(&party)) {
                self.left_out[placement].insert(party, members);
            }
        }
    }

    /// The room that there is for one more party.
    fn room_for(&self, placement: usize) -> usize {
        let taken: usize = self.told[..=placement].iter().map(|told| told.members).sum();
        let reserve = if placement == Placement::Other as usize { self.room / RESERVE } else { 0 };
        self.room.saturating_sub(taken + reserve)
    }

    /// The next one of those left out that there is room for.
    fn fitting(&self) -> Option<PartyId> {
        let mut all = self.left_out.iter().enumerate().filter(|_| self.is_placed());
        all.find_map(|(placement, left_out)| left_out.largest_within(self.room_for(placement)).cloned())
    }

    /// The next one to look at, for a page with so much on it. Half of each is for those that nobody was removed from: parties
    /// that somebody leaves all the time keep nobody waiting.
    fn next(&mut self, weight: usize) -> Option<PartyId> {
        let (first, then) = match weight < PAGE / 2 {
            true => (&mut self.urgent, &mut self.changed),
            false => (&mut self.changed, &mut self.urgent),
        };
        first.pop().or_else(|| then.pop()).or_else(|| self.fitting())
    }

    /// The next page, unless one is under way or there is nothing to tell: its number, parties as they are now, and whether
    /// the relay knows everything with it.
    pub fn page(&mut self, control: &Control) -> Option<(u64, Vec<PartyRoster>, bool)> {
        if self.under_way.is_some() {
            return None;
        }
        self.place(control);
        let (mut names, mut parties, mut weight, mut looked_at) = (Vec::new(), Vec::new(), 0, 0);
        while weight < PAGE
            && looked_at < LOOKED_AT
            && let Some(name) = self.next(weight)
        {
            looked_at += 1;
            self.changed.parties.remove(&name);
            let (size, placement) = (control.roster_size(&name), control.placement(&name, &self.relay));
            let was_told = self.told.iter_mut().any(|told| told.remove(&name).is_some());
            let may_be_there = self.unsure.remove(&name) || was_told;
            for left_out in &mut self.left_out {
                left_out.remove(&name);
            }
            let is_told = size > 0 && self.make_room(size, placement, was_told, control, &mut names);
            // Those that went for it go first.
            for gone in &names[parties.len()..] {
                parties.push(control.gone_roster(gone));
                weight += 1;
            }
            match is_told {
                true => self.told[placement as usize].insert(name.clone(), size),
                false if size > 0 => self.left_out[placement as usize].insert(name.clone(), size),
                false => {}
            }
            if is_told || may_be_there {
                let party = if is_told { control.party_roster(&name) } else { control.gone_roster(&name) };
                weight += party.members.len() + 1;
                parties.push(party);
                names.push(name);
            }
        }
        let is_through =
            self.urgent.parties.is_empty() && self.changed.parties.is_empty() && self.fitting().is_none();
        let ends = self.is_placed() && is_through;
        // An empty one is answered, and what is left comes then.
        if parties.is_empty() && self.is_whole && ends {
            return None;
        }
        self.is_whole |= ends;
        self.number += 1;
        self.under_way = Some(names);
        Some((self.number, parties, ends))
    }

    /// Has parties to which the relay is less make room for so many members, and notes them as `gone`. Whether there is room.
    fn make_room(
        &mut self,
        count: usize,
        placement: Placement,
        was_told: bool,
        control: &Control,
        gone: &mut Vec<PartyId>,
    ) -> bool {
        let (own, reserve) = (placement as usize, self.room / RESERVE);
        let is_other = placement == Placement::Other;
        let room = self.room_for(own) + if was_told && is_other { reserve } else { 0 };
        if count > room {
            return false;
        }
        while self.members() + count > self.room {
            let mut lesser = (own + 1..Placement::COUNT).rev();
            let Some((at, (name, members))) = lesser.find_map(|at| Some((at, self.told[at].pop()?))) else {
                return false;
            };
            // It may be more to it by now than when it was told.
            match control.placement(&name, &self.relay) as usize {
                now if now < at => self.told[now].insert(name, members),
                now => {
                    self.left_out[now].insert(name.clone(), members);
                    gone.push(name);
                }
            }
        }
        true
    }

    /// The relay has taken in a page.
    pub fn taken(&mut self, number: u64) {
        if number == self.number {
            self.under_way = None;
        }
    }

    /// The connection is gone, and with it perhaps what was under way.
    pub fn interrupt(&mut self) {
        let lost = self.under_way.take().unwrap_or_default();
        self.unsure.extend(lost.iter().cloned());
        self.urgent.parties.extend(lost);
    }
}
