//! Where a member may be (rule 4).

use crate::relay::bindings::Sighting;
use crate::relay::blind::Blind;
use crate::relay::books::Books;
use crate::relay::roster::MemberId;
use crate::time::Instant;
use crate::wireguard::message::INITIATION_LENGTH;
use std::net::SocketAddr;

/// Candidates for one member's address that are looked at.
const MAX_CANDIDATES: usize = 8;

impl Blind {
    /// Where `target` may be, best first, but not at `source`. If nobody is known to be it, then guesses: those that
    /// were not tried in vain, or if there are none of them, all.
    pub fn candidates(
        &self,
        books: &Books,
        target: MemberId,
        source: SocketAddr,
        now: Instant,
    ) -> Candidates {
        let mut candidates =
            Candidates { found: [source; MAX_CANDIDATES], count: 0, not: source, guessed: false };
        // It has moved, it seems: nothing came from where it was since.
        let moved = |sighting: &&Sighting| {
            let flow = self.flows.with_index(sighting.index);
            flow.is_some_and(|flow| flow.from == target && flow.last < sighting.at)
        };
        let sightings = books.bindings.sightings(target).iter().filter(moved);
        sightings.for_each(|sighting| candidates.add(sighting.address));
        let bound = books.bindings.addresses(target).filter(|&address| books.sources.contains(address));
        bound.for_each(|address| candidates.add(address));
        let parties = books.roster.get(target).map_or(&[][..], |member| member.parties());
        for &party in parties {
            let others = books.roster.members(party);
            books.sources.eliminated(party, target, others).for_each(|address| candidates.add(address));
        }
        if candidates.count == 0 {
            // Nobody certain: perhaps not all of the party know each other. Those who may be it take turns, and nobody
            // twice before all had theirs.
            candidates.guessed = true;
            let untried = |there| !books.sources.is_refuted(source, target, there);
            let ready = |there| untried(there) && books.sources.can_spare(there, INITIATION_LENGTH, now);
            let kinds: [&dyn Fn(SocketAddr) -> bool; 3] = [&ready, &untried, &|_| true];
            for fits in kinds {
                let possible = parties.iter().flat_map(|&party| {
                    books.sources.not_eliminated(party, target, books.roster.members(party))
                });
                possible.filter(|&there| fits(there)).for_each(|address| candidates.add(address));
                if candidates.count > 0 {
                    break;
                }
            }
        }
        candidates
    }
}

/// Addresses without repetition.
pub(super) struct Candidates {
    found: [SocketAddr; MAX_CANDIDATES],
    pub count: usize,
    not: SocketAddr,
    /// Whether nobody is known to be at any of them.
    pub guessed: bool,
}

impl Candidates {
    fn add(&mut self, address: SocketAddr) {
        if address != self.not && self.count < MAX_CANDIDATES && !self.found[..self.count].contains(&address)
        {
            self.found[self.count] = address;
            self.count += 1;
        }
    }

    /// All of them, beginning with the one whose turn it is.
    pub fn beginning_with(&self, turn: u8) -> impl Iterator<Item = SocketAddr> {
        (0..self.count).map(move |step| self.found[(usize::from(turn) + step) % self.count])
    }
}
