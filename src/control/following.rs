//! An instance that does not decide: what it hears of members and relays is told to the one that does, in digests.

use super::approvals::{Approvals, FeedSize};
use super::party::Member;
use super::relays::RelayInfo;
use super::tokens::TokenHash;
use super::{Control, PartyId, PeerId};
use crate::crypto::x25519::PublicKey;
use crate::keyed_hash::KeyedState;
use crate::time::{Instant, Now};
use std::collections::HashSet;
use std::net::IpAddr;
use zeroize::Zeroizing;

/// Beyond so many relays that wait to be told of, those are passed over that are not known any more.
const RELAYS: usize = 32;
/// Relays that go into one digest.
const RELAYS_AT_A_TIME: usize = 16;
/// A relay counts as so many other things: it has a place with a name.
pub const RELAY_WEIGHT: usize = 4;

/// A relay in another place, as an instance that does not decide has heard of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeardRelay {
    /// What it says of itself.
    pub info: RelayInfo,
    /// Its key, from which its id comes.
    pub key: PublicKey,
    /// From where it says so, if it waits for its approval.
    pub payer: Option<IpAddr>,
    /// How much it was told.
    pub told: FeedSize,
}

/// Signs of life, for the instance that decides who is gone.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Digest {
    /// Members that were heard of, and where they asked from.
    pub beats: Vec<(PartyId, PeerId, Option<IpAddr>)>,
    /// Handshakes at the hub: with which key, and from where.
    pub handshakes: Vec<(PublicKey, IpAddr)>,
    /// Tokens that were used in the second half of their lives.
    pub tokens: Vec<TokenHash>,
    /// Relays in other places that are there.
    pub relays: Vec<HeardRelay>,
}

impl Digest {
    /// How many things it tells.
    pub fn len(&self) -> usize {
        self.beats.len() + self.handshakes.len() + self.tokens.len() + self.relays.len() * RELAY_WEIGHT
    }

    /// Whether it tells nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What was heard since the last digest.
pub(super) struct Following {
    /// Who was heard of after this is in the list.
    since: Instant,
    beats: Vec<(PartyId, PeerId)>,
    handshakes: HashSet<(PublicKey, IpAddr), KeyedState>,
    pub(super) tokens: Vec<TokenHash>,
    relays: Vec<PublicKey>,
    /// Whether somebody waits for it: a handshake changes what a key is worth, or a relay has come.
    is_urgent: bool,
}

impl Following {
    fn new(now: Instant) -> Self {
        Following {
            since: now,
            beats: Vec::new(),
            handshakes: HashSet::with_hasher(KeyedState::random()),
            tokens: Vec::new(),
            relays: Vec::new(),
            is_urgent: false,
        }
    }

    /// Notes that `member` is heard of, before it is.
    pub(super) fn note_beat(&mut self, party: &PartyId, member: &Member) {
        if member.heard <= self.since {
            self.beats.push((party.clone(), member.info.peer_id.clone()));
        }
    }

    pub(super) fn note_handshake(&mut self, key: PublicKey, from: IpAddr, is_urgent: bool) {
        self.handshakes.insert((key, from));
        self.is_urgent |= is_urgent;
    }

    fn note_relay(&mut self, key: &PublicKey, approvals: &Approvals, is_urgent: bool) {
        self.is_urgent |= is_urgent;
        if !self.relays.contains(key) {
            if self.relays.len() >= RELAYS {
                self.relays.retain(|key| approvals.knows(key));
            }
            self.relays.push(*key);
        }
    }
}

impl Control {
    /// A key that every instance of a realm has, and nobody else.
    pub fn instance_key(&self) -> Zeroizing<[u8; 32]> {
        self.prover.instance_key()
    }

    /// Whether another instance decides.
    pub fn is_following(&self) -> bool {
        self.following.is_some()
    }

    /// Leaves it to another instance to decide, from now on: nothing ends here but by [`Control::adopt`].
    pub fn follow(&mut self, now: Now) {
        self.following = Some(Box::new(Following::new(now.instant)));
    }

    /// Decides from now on. As after a start, everybody has the whole of a time-out: what others heard of them is
    /// not known here.
    pub fn lead(&mut self, now: Now) {
        self.following = None;
        (self.swept, self.round) = (now.instant, None);
        for member in self.parties.values_mut().flat_map(|party| party.members.values_mut()) {
            (member.seen, member.heard) = (now.instant, now.instant);
        }
        self.relays.note_all(now.instant);
        self.approvals.note_all(now.instant);
        self.tokens.renew_all(self.settings.lifetimes.token, now.instant);
    }

    /// Whether something was heard that the instance that decides has to know at once.
    pub fn is_digest_urgent(&self) -> bool {
        self.following.as_ref().is_some_and(|following| following.is_urgent)
    }

    /// Has the instance that decides told of the relay with this key, if that is another one.
    pub fn tell_of_relay(&mut self, key: &PublicKey, is_urgent: bool) {
        if let Some(following) = &mut self.following {
            following.note_relay(key, &self.approvals, is_urgent);
        }
    }

    /// Takes up to `most` of what was heard since the last digest.
    pub fn take_digest(&mut self, most: usize, now: Now) -> Digest {
        let Some(following) = &mut self.following else { return Digest::default() };
        let relays = following.relays.len().min(RELAYS_AT_A_TIME).min(most / RELAY_WEIGHT);
        let relays = following.relays.drain(..relays);
        let relays = relays.filter_map(|key| self.approvals.heard_relay(&key)).collect();
        let mut digest = Digest { relays, ..Digest::default() };
        let rest = most - digest.len();
        digest.handshakes = following.handshakes.extract_if(|_| true).take(rest).collect();
        following.is_urgent &= !following.handshakes.is_empty() || !following.relays.is_empty();
        let rest = following.tokens.len().saturating_sub(most - digest.len());
        digest.tokens = following.tokens.split_off(rest);
        // Who was heard of first is told of first. Nobody is in the list twice before it was told as a whole.
        let count = following.beats.len().min(most - digest.len());
        let parties = &self.parties;
        let beats: Vec<_> = following.beats.drain(..count).collect();
        if following.beats.is_empty() {
            following.since = now.instant;
        }
        let beats = beats.into_iter();
        digest.beats.extend(beats.filter_map(|(party, peer)| {
            let origin = parties.get(&party)?.members.get(&peer)?.origin;
            Some((party, peer, origin))
        }));
        digest
    }

    /// Takes in what another instance has heard.
    pub fn hear(&mut self, digest: &Digest, now: Now) {
        for (party, peer, origin) in &digest.beats {
            // Who is gone by now is told so by its own instance.
            let _ = self.heartbeat(party.as_str(), peer, *origin, now);
        }
        for (key, from) in &digest.handshakes {
            self.handshake(key, *from, now);
        }
        for hash in &digest.tokens {
            self.extend_token(*hash, now.instant);
        }
        for relay in &digest.relays {
            self.relay_heard_elsewhere(relay, now.instant);
        }
    }
}
