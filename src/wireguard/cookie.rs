//! mac1, mac2 and cookies (paper 5.3, 5.4.4, 5.4.7): what a handshake message must carry before it is worth
//! any curve arithmetic.

use crate::crypto::aead::{TAG_LENGTH, x_open, x_seal};
use crate::crypto::blake2s::{hash, mac};
use crate::crypto::x25519::PublicKey;
use crate::crypto::{constant_time, random};
use crate::time::Instant;
use crate::wireguard::constants::{COOKIE_LIFETIME, LABEL_COOKIE, LABEL_MAC1};
use crate::wireguard::message::{
    COOKIE_REPLY_LENGTH, CookieReply, INITIATION_LENGTH, MAC_LENGTH, RESPONSE_LENGTH, Type, mac1, mac2,
};
use std::net::{IpAddr, SocketAddr};
use zeroize::Zeroizing;

/// What is kept of a source's address and port in its cookie.
type Cookie = Zeroizing<[u8; MAC_LENGTH]>;

/// The key of mac1 for messages to one recipient: `Hash(Label-Mac1 || public key)`. It is no secret, but
/// whoever does not know the recipient's public key does not have it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mac1Key([u8; 32]);

impl Mac1Key {
    /// The key for messages to `recipient`.
    pub fn new(recipient: &PublicKey) -> Self {
        Mac1Key(hash(&[LABEL_MAC1, recipient.as_bytes()]))
    }

    /// Whether `message` is as long as a handshake message, and its mac1 was made for this recipient. A
    /// response is made for the initiator.
    pub fn matches(&self, message: &[u8]) -> bool {
        let covered = match message.len() {
            length @ (INITIATION_LENGTH | RESPONSE_LENGTH) => &message[..length - 2 * MAC_LENGTH],
            _ => return false,
        };
        mac1(message).is_some_and(|given| constant_time::eq(given, &mac(&self.0, &[covered])))
    }
}

/// `Hash(Label-Cookie || public key)`, the key that cookie replies of that responder are sealed with.
fn cookie_key(responder: &PublicKey) -> [u8; 32] {
    hash(&[LABEL_COOKIE, responder.as_bytes()])
}

/// The responder's side: gives out cookies and recognises them.
pub struct Checker {
    cookie_key: [u8; 32],
    /// Keyed with this, an address becomes a cookie; a new one every [`COOKIE_LIFETIME`].
    secret: Zeroizing<[u8; 32]>,
    secret_until: Instant,
}

impl Checker {
    /// For the responder with this public key.
    pub fn new(own: &PublicKey, now: Instant) -> Self {
        Checker {
            cookie_key: cookie_key(own),
            secret: Zeroizing::new(random::bytes()),
            secret_until: now + COOKIE_LIFETIME,
        }
    }

    /// The cookie of `source`: of its address and its port, as many players may share an address.
    fn cookie(&mut self, source: SocketAddr, now: Instant) -> Cookie {
        if now >= self.secret_until {
            random::fill(&mut *self.secret);
            self.secret_until = now + COOKIE_LIFETIME;
        }
        let port = source.port().to_be_bytes();
        Zeroizing::new(match source.ip().to_canonical() {
            IpAddr::V4(address) => mac(&*self.secret, &[&address.octets(), &port]),
            IpAddr::V6(address) => mac(&*self.secret, &[&address.octets(), &port]),
        })
    }

    /// Whether the mac2 of a handshake message shows that its sender receives what we send to `source`.
    pub fn proves_source(&mut self, message: &[u8], source: SocketAddr, now: Instant) -> bool {
        let Some(covered) = message.len().checked_sub(MAC_LENGTH) else { return false };
        let expected = mac(&*self.cookie(source, now), &[&message[..covered]]);
        mac2(message).is_some_and(|given| constant_time::eq(given, &expected))
    }

    /// The answer to a handshake message from `sender`, an index, that must come again with a cookie.
    /// Shorter than what it answers.
    pub fn reply(
        &mut self,
        sender: u32,
        answered: &[u8],
        source: SocketAddr,
        now: Instant,
    ) -> Option<[u8; COOKIE_REPLY_LENGTH]> {
        let mut cookie = self.cookie(source, now);
        let nonce = random::bytes();
        let tag = x_seal(&self.cookie_key, &nonce, mac1(answered)?, &mut *cookie);
        let mut reply = [0; COOKIE_REPLY_LENGTH];
        reply[0] = Type::CookieReply as u8;
        reply[4..8].copy_from_slice(&sender.to_le_bytes());
        reply[8..32].copy_from_slice(&nonce);
        reply[32..48].copy_from_slice(&*cookie);
        reply[48..].copy_from_slice(&tag);
        Some(reply)
    }
}

/// The other side: signs what we send to one peer, with its cookie if it gave us one.
#[derive(Default)]
pub struct Signer {
    /// mac1 of the last message, until a cookie reply to it comes.
    last_mac1: Option<[u8; MAC_LENGTH]>,
    cookie: Option<(Cookie, Instant)>,
}

impl Signer {
    /// Fills in mac1 and mac2, the last 32 bytes of a handshake message to `peer`.
    ///
    /// # Panics
    /// If there are not as many.
    pub fn sign(&mut self, peer: &PublicKey, message: &mut [u8], now: Instant) {
        let at = message.len().checked_sub(2 * MAC_LENGTH).expect("a handshake message ends with two MACs");
        let (covered, macs) = message.split_at_mut(at);
        let first = mac(&Mac1Key::new(peer).0, &[covered]);
        macs[..MAC_LENGTH].copy_from_slice(&first);
        self.last_mac1 = Some(first);
        self.cookie.take_if(|(_, received)| now.since(*received) >= COOKIE_LIFETIME);
        let second = match &self.cookie {
            Some((cookie, _)) => mac(&**cookie, &[covered, &first]),
            None => [0; MAC_LENGTH],
        };
        macs[MAC_LENGTH..].copy_from_slice(&second);
    }

    /// Takes the cookie from `peer`'s reply to the message we signed last, once; `false` if it is anything else.
    pub fn take_cookie(&mut self, peer: &PublicKey, reply: CookieReply<'_>, now: Instant) -> bool {
        let Some(answered) = &self.last_mac1 else { return false };
        let (sealed, tag) = reply.sealed_cookie().split_last_chunk::<TAG_LENGTH>().expect("32 bytes");
        let mut cookie = Zeroizing::new([0; MAC_LENGTH]);
        cookie.copy_from_slice(sealed);
        if x_open(&cookie_key(peer), reply.nonce(), answered, &mut *cookie, tag).is_err() {
            return false;
        }
        self.last_mac1 = None;
        self.cookie = Some((cookie, now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::random::Seeded;
    use crate::wireguard::message::Message;
    use std::time::Duration;

    const START: Instant = Instant::from_nanos(5_000_000_000);

    fn public(seed: u64) -> PublicKey {
        let mut bytes = [0; 32];
        Seeded::new(seed).fill(&mut bytes);
        PublicKey::from_bytes(bytes)
    }

    fn source(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn parse_reply(reply: &[u8]) -> CookieReply<'_> {
        let Some(Message::CookieReply(reply)) = Message::parse(reply) else { panic!() };
        reply
    }

    fn initiation() -> [u8; INITIATION_LENGTH] {
        let mut message = [0; INITIATION_LENGTH];
        Seeded::new(8).fill(&mut message);
        message[..8].copy_from_slice(&[1, 0, 0, 0, 9, 0, 0, 0]);
        message
    }

    #[test]
    fn mac1_names_the_recipient() {
        let (alice, bob) = (Mac1Key::new(&public(1)), Mac1Key::new(&public(2)));
        for length in [INITIATION_LENGTH, RESPONSE_LENGTH] {
            let mut message = initiation()[..length].to_vec();
            assert!(!alice.matches(&message));
            Signer::default().sign(&public(1), &mut message, START);
            assert!(alice.matches(&message));
            assert!(!bob.matches(&message));
            for bit in 0..(length - MAC_LENGTH) * 8 {
                message[bit / 8] ^= 1 << (bit % 8);
                assert!(!alice.matches(&message), "{bit}");
                message[bit / 8] ^= 1 << (bit % 8);
            }
            // mac2 is none of its business.
            *message.last_mut().unwrap() ^= 1;
            assert!(alice.matches(&message));
            for shorter in 0..length {
                assert!(!alice.matches(&message[..shorter]));
            }
        }
    }

    #[test]
    fn a_cookie_proves_address_and_port() {
        let here = source("192.0.2.1:1000");
        let mut checker = Checker::new(&public(1), START);
        let mut signer = Signer::default();
        let mut message = initiation();
        signer.sign(&public(1), &mut message, START);
        assert_eq!(message[132..], [0; 16], "no cookie, no mac2");
        assert!(!checker.proves_source(&message, here, START));
        let reply = checker.reply(9, &message, here, START).unwrap();
        assert_eq!(parse_reply(&reply).receiver(), 9);
        assert!(signer.take_cookie(&public(1), parse_reply(&reply), START));
        signer.sign(&public(1), &mut message, START);
        assert!(checker.proves_source(&message, here, START));
        assert!(
            checker.proves_source(&message, source("[::ffff:192.0.2.1]:1000"), START),
            "the same address"
        );
        for elsewhere in ["192.0.2.1:1001", "192.0.2.2:1000", "[2001:db8::1]:1000"] {
            assert!(!checker.proves_source(&message, source(elsewhere), START), "{elsewhere}");
        }
        for bit in 0..INITIATION_LENGTH * 8 {
            message[bit / 8] ^= 1 << (bit % 8);
            assert!(!checker.proves_source(&message, here, START), "{bit}");
            message[bit / 8] ^= 1 << (bit % 8);
        }
        // Only this responder's cookies count.
        let mut other = Checker::new(&public(1), START);
        assert!(!other.proves_source(&message, here, START));
        for length in 0..MAC_LENGTH {
            assert!(!checker.proves_source(&message[..length], here, START));
        }
    }

    #[test]
    fn cookies_age_on_both_sides() {
        let here = source("[2001:db8::1]:1000");
        let mut checker = Checker::new(&public(1), START);
        let mut signer = Signer::default();
        let mut message = initiation();
        let early = START + Duration::from_secs(60);
        signer.sign(&public(1), &mut message, early);
        let reply = checker.reply(9, &message, here, early).unwrap();
        assert!(signer.take_cookie(&public(1), parse_reply(&reply), early));
        let last = START + COOKIE_LIFETIME - Duration::from_nanos(1);
        signer.sign(&public(1), &mut message, last);
        assert!(checker.proves_source(&message, here, last));
        assert!(!checker.proves_source(&message, here, START + COOKIE_LIFETIME), "the secret has changed");
        signer.sign(&public(1), &mut message, early + COOKIE_LIFETIME - Duration::from_nanos(1));
        assert_ne!(message[132..], [0; 16]);
        signer.sign(&public(1), &mut message, early + COOKIE_LIFETIME);
        assert_eq!(message[132..], [0; 16], "the cookie is too old to be worth sending");
    }

    #[test]
    fn a_reply_counts_once_and_only_for_the_message_it_answers() {
        let here = source("192.0.2.1:1000");
        let mut checker = Checker::new(&public(1), START);
        let mut signer = Signer::default();
        let mut message = initiation();
        let stray = checker.reply(9, &message, here, START).unwrap();
        assert!(!signer.take_cookie(&public(1), parse_reply(&stray), START), "nothing was sent");
        signer.sign(&public(1), &mut message, START);
        assert!(!signer.take_cookie(&public(1), parse_reply(&stray), START), "for another mac1");
        let reply = checker.reply(9, &message, here, START).unwrap();
        for bit in 8 * 8..COOKIE_REPLY_LENGTH * 8 {
            let mut forged = reply;
            forged[bit / 8] ^= 1 << (bit % 8);
            assert!(!signer.take_cookie(&public(1), parse_reply(&forged), START), "{bit}");
        }
        let mut impostor = Checker::new(&public(2), START);
        let forged = impostor.reply(9, &message, here, START).unwrap();
        assert!(!signer.take_cookie(&public(1), parse_reply(&forged), START));
        assert!(signer.take_cookie(&public(1), parse_reply(&reply), START));
        assert!(!signer.take_cookie(&public(1), parse_reply(&reply), START), "once");
        assert!(checker.reply(9, &message[..20], here, START).is_none());
    }
}
