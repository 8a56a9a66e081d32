//! Handshakes go by the relay first, which so learns the flow that data falls back to. When it is silent, or there is none, the
//! same initiation goes to where the member may be. Whichever copy comes first is answered, and so are the others.

use crate::agent::ends::Ends;
use crate::agent::handshake::{CachedAnswer, PendingInitiation};
use crate::agent::pair::Pair;
use crate::agent::turn::AgentTurn;
use crate::time::Instant;
use crate::wireguard::message::INITIATION_LENGTH;
use std::time::Duration;

/// When copies are sent, from when the relay has had its chance.
const COPIES: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(50),
    Duration::from_millis(150),
    Duration::from_millis(300),
    Duration::from_millis(500),
];
/// The relay's chance.
const RELAY_FIRST: Duration = Duration::from_secs(1);
/// An answer is kept for copies of what it answers for so long.
const ANSWER_LIFETIME: Duration = Duration::from_secs(10);

impl Pair {
    /// An initiation of ours is sent by the relay, if there is one.
    pub(super) fn on_initiated(&mut self, message: &[u8], has_relay: bool, now: Instant) {
        let Ok(bytes) = message.try_into() else { return };
        self.initiation = Some(Box::new(PendingInitiation { bytes, at: now, copies: 0 }));
        self.initiation_due(has_relay).into_iter().for_each(|due| self.plan(due));
    }

    /// When the next copy is due.
    pub(super) fn initiation_due(&self, has_relay: bool) -> Option<Instant> {
        let pending = self.initiation.as_ref().filter(|_| !self.straight.is_empty())?;
        let begin = pending.at + if has_relay { RELAY_FIRST } else { Duration::ZERO };
        Some(begin + *COPIES.get(pending.copies)?)
    }

    pub(super) fn send_initiation(&mut self, turn: &mut AgentTurn<'_>) {
        let due = self.initiation_due(turn.locality.relay.is_some());
        if due.is_none_or(|due| due > turn.now.instant) {
            return;
        }
        let Some(pending) = &mut self.initiation else { return };
        pending.copies += 1;
        for path in &self.straight {
            let cost = if path.heard.is_some() { 0 } else { INITIATION_LENGTH };
            if self.allowance >= cost {
                self.allowance -= cost;
                path.ends().send(&pending.bytes, turn.out);
            }
        }
    }

    /// The member's initiation was good.
    pub(super) fn on_initiation(&mut self, message: &[u8; INITIATION_LENGTH], now: Instant) {
        self.answer = Some(Box::new(CachedAnswer { initiation: *message, response: None, at: now }));
    }

    /// It is being answered.
    pub(super) fn on_response(&mut self, message: &[u8]) {
        if let Some(answer) = &mut self.answer {
            answer.response = message.try_into().ok();
        }
    }

    /// Answers a copy of the last initiation, which is shorter than that; whether it was one.
    pub(super) fn answer_copy(&mut self, turn: &mut AgentTurn<'_>, message: &[u8], from: Ends) -> bool {
        let now = turn.now.instant;
        self.answer.take_if(|answer| now.since(answer.at) >= ANSWER_LIFETIME);
        let Some(answer) = self.answer.as_deref().filter(|answer| answer.initiation == message) else {
            return false;
        };
        if let Some(response) = &answer.response {
            from.send(response, turn.out);
        }
        true
    }
}
