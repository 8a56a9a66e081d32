//! Members that had a session with the hub before a restart. Its keys are gone, but not where they were: the hub
//! asks each for a new one before they notice, one after the other, those first that were heard of last.
//!
//! That an address was proven before is worth [`GREETINGS`] initiations there, and no more: somebody else may be
//! at it by now. Who answers has proven it anew.

use crate::relay::books::Books;
use crate::relay::hub::Hub;
use crate::relay::limits::{GREETING_INTERVAL, GREETINGS, IDLE_LIFETIME};
use crate::relay::roster::MemberId;
use crate::time::{Instant, Now};
use crate::wireguard::peer::PeerIndex;
use crate::wireguard::timestamp::Timestamp;
use std::cmp::Reverse;
use std::collections::VecDeque;
use std::net::SocketAddr;

/// What is handed over of a member's session with the hub.
pub(super) struct Former {
    pub member: MemberId,
    /// The greatest timestamp that it has sent, so that its old handshakes can't be replayed.
    pub timestamp: Timestamp,
    /// Where it was, if that was proven, and when it was last heard of.
    pub place: Option<(SocketAddr, Instant)>,
}

/// A member that is asked for a new session.
pub(super) struct Greeting {
    to: SocketAddr,
    /// When it was last heard of, before the restart.
    heard: Instant,
    /// How many initiations may still go there.
    left: u8,
}

/// Who is to be asked next.
#[derive(Default)]
pub(super) struct Greetings {
    queue: VecDeque<PeerIndex>,
    due: Instant,
}

impl Greetings {
    /// When [`Hub::greet`] has something to do.
    pub fn next(&self) -> Option<Instant> {
        (!self.queue.is_empty()).then_some(self.due)
    }
}

impl Hub {
    /// What is to be handed over to the next daemon.
    pub fn formers(&self) -> impl Iterator<Item = Former> {
        self.spokes.iter().map(|(&peer, spoke)| {
            let heard = self.device.stats(peer).and_then(|stats| stats.last_received);
            let waiting = || spoke.greeting.as_ref().map(|greeting| (greeting.to, greeting.heard));
            Former {
                member: spoke.member,
                timestamp: self.device.greatest_timestamp(peer).unwrap_or_default(),
                place: spoke.proven_at.zip(heard).or_else(waiting),
            }
        })
    }

    /// Takes over what the daemon before knew; how many members are going to be greeted.
    pub fn take_over(&mut self, books: &mut Books, formers: Vec<Former>, now: Instant) -> usize {
        let mut greeted = Vec::new();
        for Former { member, timestamp, place } in formers {
            let Some(key) = books.roster.get(member).map(|member| member.key) else { continue };
            let Some(peer) = self.peer_of(member).or_else(|| self.adopt(books, &key, now)) else { continue };
            if self.device.greatest_timestamp(peer).is_none_or(|known| known < timestamp) {
                self.device.set_greatest_timestamp(peer, Some(timestamp));
            }
            let Some((to, heard)) = place.filter(|&(_, heard)| now.since(heard) < IDLE_LIFETIME) else {
                continue;
            };
            let known = books.sources.contains(to) || books.sources.note(to, &books.limits, heard);
            if let Some(spoke) = self.spokes.get_mut(&peer)
                && known
                && spoke.proven_at.is_none()
                && spoke.greeting.is_none()
            {
                spoke.greeting = Some(Greeting { to, heard, left: GREETINGS });
                self.device.set_endpoint(peer, to, now);
                greeted.push((Reverse(heard), peer));
            }
        }
        greeted.sort_unstable();
        self.greetings.queue.extend(greeted.iter().map(|&(_, peer)| peer));
        self.greetings.due = now;
        greeted.len()
    }

    /// Asks the next one for a session, if its turn has come.
    pub fn greet(&mut self, now: Now) {
        if self.greetings.due > now.instant {
            return;
        }
        while let Some(peer) = self.greetings.queue.pop_front() {
            let waits = self.spokes.get(&peer).is_some_and(|spoke| spoke.greeting.is_some());
            if waits && !self.device.can_send(peer, now.instant) {
                self.device.connect(peer, now);
                self.greetings.due = now.instant + GREETING_INTERVAL;
                return;
            }
        }
    }

    /// Whether an initiation to the peer at `to` is one of those that a former session is worth.
    pub fn is_greeting(&mut self, peer: PeerIndex, to: SocketAddr) -> bool {
        let greeting = self.spokes.get_mut(&peer).and_then(|spoke| spoke.greeting.as_mut());
        greeting.filter(|greeting| greeting.to == to && greeting.left > 0).map(|it| it.left -= 1).is_some()
    }
}

impl Greeting {
    /// Whether it is too long ago that the member was heard of.
    pub fn is_over(&self, now: Instant) -> bool {
        now.since(self.heard) >= IDLE_LIFETIME
    }
}
