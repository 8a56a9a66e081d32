//! Removes what gave no sign of life for too long, and what has come to its end. That is a round through the whole
//! state, in slices: with a million members it would take half a second at once, and packets of games wait as long.

use super::change::{Change, Departure};
use super::tokens::TokenHash;
use super::{Control, PartyId, PeerId};
use crate::crypto::x25519::PublicKey;
use crate::time::{Instant, Now};
use std::ops::Range;
use std::time::Duration;

/// Parties and members that a slice looks at, and as many tokens.
const SLICE: usize = 4096;
/// What comes to its end costs so many times what a look does.
const COST_OF_END: usize = 32;
/// Between two slices.
const PAUSE: Duration = Duration::from_millis(100);

/// How far a round has come: what is left are the parties and tokens with smaller numbers. It goes down, because the
/// last one takes the number of one that is removed, and that has had its turn.
pub(super) struct SweepRound {
    parties: usize,
    tokens: usize,
    due: Instant,
}

impl Control {
    /// When [`Control::sweep`] has something to do next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if let Some(round) = &self.round {
            return Some(round.due);
        }
        let idle = self.parties.is_empty()
            && self.tokens.is_empty()
            && self.relays.iter().next().is_none()
            && self.approvals.is_settled();
        (!idle).then_some(self.swept + self.settings.lifetimes.sweep)
    }

    /// Takes handshakes for signs of life: a member with a WireGuard app and nothing else gives no others. `at`
    /// says when a session of the member with a key last came up; it is asked about those alone who have been
    /// silent for long, of whom the next [`Control::sweep`] will look at.
    pub fn note_handshakes(&mut self, at: impl Fn(&PublicKey) -> Option<Instant>, now: Now) {
        let slice = self.next_slice(SLICE);
        self.note_handshakes_in(slice, at, now);
    }

    pub(super) fn note_handshakes_in(
        &mut self,
        slice: Range<usize>,
        at: impl Fn(&PublicKey) -> Option<Instant>,
        now: Now,
    ) {
        let silence = self.settings.lifetimes.peer / 2;
        for number in slice {
            let Some((_, party)) = self.parties.at_mut(number) else { continue };
            for member in party.members.values_mut().filter(|member| member.seen + silence <= now.instant) {
                // Of several with one key it is not known whose the session is.
                let is_its_own = self.addresses.waiting(&member.address_name).is_empty();
                let key = member.relay_key().filter(|_| is_its_own);
                if let Some(heard) = key.and_then(|key| at(&key)) {
                    member.seen = member.seen.max(heard);
                }
            }
        }
    }

    /// Removes what gave no sign of life for too long or has come to its end, unless that is for another instance to
    /// decide: one slice of it, which is all there is in a state of up to 4096 parties, members or tokens.
    ///
    /// All is looked at once in [`Lifetimes::sweep`](super::limits::Lifetimes::sweep), if there are some two million, and
    /// less often if there are more: a slice of 4096 every 100 ms. If more than 128 of one slice come to their end, it takes
    /// 100 ms for each 128. A party that gets another id in the middle of a round may have its turn in the next one.
    pub fn sweep(&mut self, now: Now) {
        self.sweep_slice(SLICE, now);
    }

    pub(super) fn sweep_slice(&mut self, most: usize, now: Now) {
        let slice = self.next_slice(most);
        let mut round = self.round.take().unwrap_or_else(|| self.begin_round(now));
        round.parties = slice.end;
        if self.following.is_some() {
            (round.parties, round.tokens) = (slice.start, 0);
        } else {
            let mut ends = most.div_ceil(COST_OF_END);
            while round.parties > slice.start && self.sweep_party(round.parties - 1, &mut ends, now) {
                round.parties -= 1;
            }
            let last = round.tokens.min(self.tokens.len());
            round.tokens = last;
            while round.tokens > last.saturating_sub(most) && ends > 0 {
                round.tokens -= 1;
                if let Some(hash) = self.tokens.forgettable(round.tokens, now.instant) {
                    self.revoke(hash);
                    ends -= 1;
                }
            }
        }
        round.due = now.instant + PAUSE;
        self.round = (round.parties > 0 || round.tokens > 0).then_some(round);
    }

    /// The numbers of the parties that have their turn: one at least.
    pub(super) fn next_slice(&self, most: usize) -> Range<usize> {
        let all = self.parties.len();
        let end = self.round.as_ref().map_or(all, |round| round.parties.min(all));
        let (mut first, mut count) = (end, 0);
        while first > 0 && count < most {
            first -= 1;
            count += self.parties.at(first).map_or(0, |(_, party)| 1 + party.members.len());
        }
        first..end
    }

    /// What there are few of has its turn at once.
    fn begin_round(&mut self, now: Now) -> SweepRound {
        self.swept = now.instant;
        self.approvals.expire(self.settings.lifetimes.relay, now.instant);
        if self.following.is_none() {
            for id in self.relays.expire(self.settings.lifetimes.relay, now.instant) {
                self.changes.push(Change::RelayExpired(id));
            }
        }
        SweepRound { parties: self.parties.len(), tokens: self.tokens.len(), due: now.instant }
    }

    pub(super) fn revoke(&mut self, hash: TokenHash) {
        self.tokens.revoke(&hash);
        self.changes.push(Change::TokenRevoked(hash));
    }

    /// Looks at a party and its members. `ends` is how many may still come to their end in this slice; returns
    /// whether those were enough.
    fn sweep_party(&mut self, number: usize, ends: &mut usize, now: Now) -> bool {
        let Some((id, party)) = self.parties.at(number) else { return true };
        if party.ends.as_ref().is_some_and(|end| end.is_over(now)) {
            if *ends == 0 {
                return false;
            }
            *ends = ends.saturating_sub(1 + party.members.len());
            self.remove_party(&id.clone());
            return true;
        }
        self.note_ends(number, now);
        let Some((id, gone)) = self.gone_from(number, now) else {
            self.mend_party(number);
            return true;
        };
        let is_all = gone.len() <= *ends;
        for (peer, why) in gone.into_iter().take(*ends) {
            self.remove_member(&id, &peer, why);
            *ends -= 1;
        }
        if is_all {
            self.mend_party(number);
        }
        is_all
    }

    /// Whose time in a party is over: devices first, then those who fell silent, and the host last.
    fn gone_from(&self, number: usize, now: Now) -> Option<(PartyId, Vec<(PeerId, Departure)>)> {
        let life = self.settings.lifetimes.peer;
        let (id, party) = self.parties.at(number)?;
        let mut gone: Vec<(PeerId, Departure)> = Vec::new();
        for (peer, member) in &party.members {
            let why = match member.device() {
                Some(device) => device.expires.filter(|end| end.is_over(now)).map(|_| Departure::Expired),
                None => {
                    let is_stale = member.seen + life <= now.instant;
                    let stays = is_stale && party.permanent && party.is_hosted_by(peer.as_str());
                    (is_stale && !stays).then_some(Departure::Stale)
                }
            };
            gone.extend(why.map(|why| (peer.clone(), why)));
        }
        gone.sort_by_key(|(peer, why)| (*why == Departure::Stale, party.is_hosted_by(peer.as_str())));
        (!gone.is_empty()).then(|| (id.clone(), gone))
    }
}
