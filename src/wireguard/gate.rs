//! What a handshake message must pass before it costs curve arithmetic (paper 5.3): mac1, and then one of three.
//!
//! 1. It comes from where a peer is known to be: that has a part of the processor for itself.
//! 2. It carries the cookie of its source: that has its owners' share of what is there for strangers.
//! 3. It carries none, and little enough comes from its owners and from all such: else it is answered with a cookie,
//!    which costs no arithmetic. A false source spends nothing of who is really there, but this.

use crate::crypto::random;
use crate::crypto::x25519::PublicKey;
use crate::keyed_hash::KeyedState;
use crate::time::Instant;
use crate::wireguard::budget::{Budget, Lane, Purse};
use crate::wireguard::cookie::{Checker, Mac1Key};
use crate::wireguard::message::COOKIE_REPLY_LENGTH;
use std::net::SocketAddr;

/// The gate of one device.
pub(super) struct Gate {
    mac1_key: Mac1Key,
    checker: Checker,
    purse: Purse,
}

/// A handshake message.
#[derive(Clone, Copy)]
pub(super) struct Knock<'a> {
    /// All of it.
    pub message: &'a [u8],
    /// Its sender's index.
    pub sender: u32,
    /// Where it came from.
    pub source: SocketAddr,
    /// Whether a peer is known to be there, or was asked for it.
    pub is_expected: bool,
    /// How many X25519 computations it may cost.
    pub cost: u32,
}

/// Whom the arithmetic for a message is charged to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Payer {
    lane: Lane,
    source: SocketAddr,
}

/// What becomes of a handshake message.
#[derive(Debug)]
pub(super) enum GateDecision {
    /// It is worth the arithmetic, which is [charged](Gate::spend) as it is done.
    Admitted(Payer),
    /// It was not made for us.
    WrongMac1,
    /// Its sender must prove its address first, with the cookie in this answer.
    Challenge([u8; COOKIE_REPLY_LENGTH]),
    /// Its owners have had their share, or all strangers have.
    Limited,
}

impl Gate {
    /// The gate of the device with this public key.
    pub fn new(own: &PublicKey, budget: Budget, now: Instant) -> Self {
        let secret = || u64::from_le_bytes(random::bytes());
        Gate {
            mac1_key: Mac1Key::new(own),
            checker: Checker::new(own, now),
            purse: Purse::new(budget, KeyedState::new(secret(), secret())),
        }
    }

    /// The key of mac1 in messages to us.
    pub fn mac1_key(&self) -> &Mac1Key {
        &self.mac1_key
    }

    /// Judges a handshake message.
    pub fn admit(&mut self, knock: Knock<'_>, now: Instant) -> GateDecision {
        let Knock { message, sender, source, is_expected, cost } = knock;
        if !self.mac1_key.matches(message) {
            return GateDecision::WrongMac1;
        }
        let Gate { purse, checker, .. } = self;
        let mut affords = |lane| purse.affords(lane, source.ip(), cost, now);
        let admitted = |lane| GateDecision::Admitted(Payer { lane, source });
        if is_expected && affords(Lane::Expected) {
            return admitted(Lane::Expected);
        }
        if checker.proves_source(message, source, now) {
            return if affords(Lane::Proven) { admitted(Lane::Proven) } else { GateDecision::Limited };
        }
        if affords(Lane::Unproven) {
            return admitted(Lane::Unproven);
        }
        match checker.reply(sender, message, source, now) {
            Some(reply) => GateDecision::Challenge(reply),
            None => GateDecision::WrongMac1,
        }
    }

    /// Charges `count` X25519 computations.
    pub fn spend(&mut self, payer: Payer, count: u32, now: Instant) {
        self.purse.spend(payer.lane, payer.source.ip(), count, now);
    }

    /// All that were charged to anybody.
    pub fn spent(&self) -> u64 {
        self.purse.spent()
    }
}
