//! What a handshake message must pass before it costs curve arithmetic (paper 5.3): mac1, and under load a
//! cookie and its source's limit.

use crate::crypto::x25519::PublicKey;
use crate::time::Instant;
use crate::wireguard::cookie::{Checker, Mac1Key};
use crate::wireguard::message::COOKIE_REPLY_LENGTH;
use crate::wireguard::source_limit::{LoadMeter, SourceLimit};
use std::net::SocketAddr;

/// The gate of one device.
pub(super) struct Gate {
    mac1_key: Mac1Key,
    checker: Checker,
    load: LoadMeter,
    limit: SourceLimit,
}

/// What becomes of a handshake message.
#[derive(Debug)]
pub(super) enum Admission {
    /// It is worth the arithmetic.
    Admitted,
    /// It was not made for us.
    WrongMac1,
    /// Its sender must prove its address first, with the cookie in this answer.
    Challenge([u8; COOKIE_REPLY_LENGTH]),
    /// Its source has had its share.
    Limited,
}

impl Gate {
    /// The gate of the device with this public key.
    pub fn new(own: &PublicKey, now: Instant) -> Self {
        Gate {
            mac1_key: Mac1Key::new(own),
            checker: Checker::new(own, now),
            load: LoadMeter::default(),
            limit: SourceLimit::default(),
        }
    }

    /// The key of mac1 in messages to us.
    pub fn mac1_key(&self) -> &Mac1Key {
        &self.mac1_key
    }

    /// Judges a handshake message from `source` that says its sender's index is `sender`.
    pub fn admit(&mut self, message: &[u8], sender: u32, source: SocketAddr, now: Instant) -> Admission {
        if !self.mac1_key.matches(message) {
            return Admission::WrongMac1;
        }
        if !self.load.count(now) {
            return Admission::Admitted;
        }
        if !self.checker.proves_source(message, source, now) {
            return match self.checker.reply(sender, message, source, now) {
                Some(reply) => Admission::Challenge(reply),
                None => Admission::WrongMac1,
            };
        }
        if self.limit.allow(source, now) { Admission::Admitted } else { Admission::Limited }
    }
}
