//! Where a member may be (rule 4).

use crate::relay::blind::Blind;
use crate::relay::roster::MemberId;
use crate::relay::rules::Rule;
use crate::relay::state::RelayState;
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
        state: &RelayState,
        target: MemberId,
        source: SocketAddr,
        now: Instant,
    ) -> Candidates {
        let RelayState { roster, sources, .. } = state;
        let mut candidates =
            Candidates { found: [source; MAX_CANDIDATES], count: 0, not: source, guessed: false };
        let Some(member) = roster.get(target) else { return candidates };
        if let Some(presence) = member.state.presence() {
            let asker = sources.member(source);
            let known = presence.endpoints.known(asker).map(|path| path.remote);
            let known = known.skip(usize::from(!Rule::HubFirst.holds() && presence.endpoints.hub.is_some()));
            let mut known = known.filter(|&address| sources.contains(address));
            known.by_ref().take(1).for_each(|address| candidates.add(address));
            let sightings = presence.endpoints.sightings(presence.heard);
            sightings.for_each(|address| candidates.add(address));
            known.for_each(|address| candidates.add(address));
        }
        // Any sender can show that it is not this member, by sending an initiation to it. That it is this member only
        // its address can show: the one from which that member speaks to the control plane.
        let is_evident = |address: &SocketAddr| member.is_from(address.ip()) || !Rule::Evidence.holds();
        for &party in member.parties() {
            let eliminated = sources.eliminated(party, target, roster.members(party)).filter(is_evident);
            eliminated.for_each(|address| candidates.add(address));
        }
        if candidates.count == 0 {
            // Nobody certain: perhaps not all of the party know each other. Those who may be it take turns, and nobody
            // twice before all had theirs.
            candidates.guessed = true;
            let untried = |there| !sources.is_refuted(source, target, there);
            let ready = |there| untried(there) && sources.can_spare(there, INITIATION_LENGTH, now);
            let kinds: [&dyn Fn(SocketAddr) -> bool; 3] = [&ready, &untried, &|_| true];
            for fits in kinds {
                let possible = member
                    .parties()
                    .iter()
                    .flat_map(|&party| sources.not_eliminated(party, target, roster.members(party)));
                let possible = possible.filter(is_evident).filter(|&there| fits(there));
                possible.for_each(|address| candidates.add(address));
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
