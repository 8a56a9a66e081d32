//! X25519 (RFC 7748): keys, their spelling in base64, and the function itself.

use crate::crypto::random;
use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, X25519_BASEPOINT};
use curve25519_dalek::edwards::EdwardsBasepointTable;
use curve25519_dalek::traits::BasepointTable;
use std::fmt;
use std::sync::OnceLock;
use x25519_dalek::StaticSecret;
use zeroize::Zeroizing;

/// Length of keys and shared secrets in bytes.
pub const KEY_LENGTH: usize = 32;
/// Length of a key in padded base64, in characters.
pub const TEXT_LENGTH: usize = 44;

/// p = 2^255 - 19, little endian.
const PRIME: [u8; KEY_LENGTH] = {
    let mut prime = [0xff; KEY_LENGTH];
    prime[0] = 0xed;
    prime[31] = 0x7f;
    prime
};

/// The canonical u-coordinates of the points of small order, on the curve and on its twist (0; 1 and
/// p - 1; the two of order 8).
const LOW_ORDER: [[u8; KEY_LENGTH]; 5] = [
    [0; KEY_LENGTH],
    {
        let mut one = [0; KEY_LENGTH];
        one[0] = 1;
        one
    },
    {
        let mut minus_one = PRIME;
        minus_one[0] = 0xec;
        minus_one
    },
    [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda,
        0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
    ],
    [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b, 0x04,
        0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57,
    ],
];

/// A public key: a u-coordinate, little endian, as it is on the wire.
///
/// Equality is of the bytes. Two spellings of one point ([`PublicKey::canonical`]) are different keys to
/// the handshake, which hashes the bytes, but the same key to whoever bans it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; KEY_LENGTH]);

impl PublicKey {
    /// The key with these bytes, whatever they are.
    pub const fn from_bytes(bytes: [u8; KEY_LENGTH]) -> Self {
        PublicKey(bytes)
    }

    /// The 32 bytes as they are on the wire.
    pub const fn as_bytes(&self) -> &[u8; KEY_LENGTH] {
        &self.0
    }

    /// The one spelling of this point: bit 255 cleared, as X25519 ignores it, and reduced modulo
    /// 2^255 - 19.
    pub fn canonical(self) -> Self {
        let mut bytes = self.0;
        bytes[31] &= 0x7f;
        // Only the 19 numbers from p up to 2^255 - 1 are not reduced; they differ in the lowest byte alone.
        if bytes[0] >= PRIME[0] && bytes[1..] == PRIME[1..] {
            let rest = bytes[0] - PRIME[0];
            bytes = [0; KEY_LENGTH];
            bytes[0] = rest;
        }
        PublicKey(bytes)
    }

    /// Whether every private key gives the all-zero secret with this point, in any spelling.
    pub fn is_low_order(&self) -> bool {
        LOW_ORDER.contains(&self.canonical().0)
    }

    /// The canonical key that `text` spells: base64 of 32 bytes, standard or URL-safe alphabet, padded or
    /// not, whatever its two trailing bits. Being lenient here keeps a banned key from coming back in
    /// another spelling. `None` if `text` is anything else. The key may be of low order.
    pub fn decode(text: &str) -> Option<Self> {
        let mut bytes = Zeroizing::new([0; KEY_LENGTH]);
        decode_base64(text, &mut bytes)?;
        Some(PublicKey(*bytes).canonical())
    }

    /// Standard base64 with padding, 44 characters.
    pub fn encode(&self) -> String {
        STANDARD.encode(self.0)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.encode())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Multiples of the base point, 30 KB of them. They are computed where they are needed and not in the binary, because
/// nothing makes them smaller there.
static MULTIPLES: OnceLock<Box<EdwardsBasepointTable>> = OnceLock::new();

/// Gets ready to compute many public keys, each in a third of the time from now on. That takes as long as some
/// twenty of them otherwise would.
pub fn prepare_public_keys() {
    MULTIPLES.get_or_init(|| Box::new(EdwardsBasepointTable::create(&ED25519_BASEPOINT_POINT)));
}

/// A private key; zeroed when dropped, and never printed.
#[derive(Clone)]
pub struct PrivateKey(StaticSecret);

impl PrivateKey {
    /// A new random key, clamped as `wg genkey` does.
    pub fn generate() -> Self {
        let mut bytes = Zeroizing::new([0; KEY_LENGTH]);
        random::fill(&mut *bytes);
        bytes[0] &= 248;
        bytes[31] = bytes[31] & 127 | 64;
        Self::from_bytes(*bytes)
    }

    /// The key with these bytes; it is clamped in use, not here.
    pub fn from_bytes(bytes: [u8; KEY_LENGTH]) -> Self {
        let bytes = Zeroizing::new(bytes);
        PrivateKey(StaticSecret::from(*bytes))
    }

    /// The 32 bytes, in a box that zeroes them when dropped.
    pub fn to_bytes(&self) -> Zeroizing<[u8; KEY_LENGTH]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The key that `text` spells, as lenient as [`PublicKey::decode`] but with its bytes left as they are.
    pub fn decode(text: &str) -> Option<Self> {
        let mut bytes = Zeroizing::new([0; KEY_LENGTH]);
        decode_base64(text, &mut bytes)?;
        Some(Self::from_bytes(*bytes))
    }

    /// Standard base64 with padding, 44 characters, in a box that zeroes them when dropped.
    pub fn encode(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(*self.to_bytes()))
    }

    /// The public key that belongs to this one.
    pub fn public_key(&self) -> PublicKey {
        #[cfg(test)]
        computations::count();
        let private = self.to_bytes();
        let public = match MULTIPLES.get() {
            Some(multiples) => multiples.mul_base_clamped(*private).to_montgomery(),
            None => X25519_BASEPOINT.mul_clamped(*private),
        };
        PublicKey(public.to_bytes())
    }

    /// `DH(private, public)`; `None` if it comes out as zero, because `public` is a point of low order.
    pub fn diffie_hellman(&self, public: &PublicKey) -> Option<SharedSecret> {
        #[cfg(test)]
        computations::count();
        let secret = self.0.diffie_hellman(&x25519_dalek::PublicKey::from(public.0));
        secret.was_contributory().then_some(SharedSecret(secret))
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

/// What two key pairs share; zeroed when dropped, and never printed.
pub struct SharedSecret(x25519_dalek::SharedSecret);

impl SharedSecret {
    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; KEY_LENGTH] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedSecret(..)")
    }
}

/// How many computations a test has cost: what is charged for them must be what was done.
#[cfg(test)]
pub mod computations {
    use std::cell::Cell;

    thread_local! {
        static DONE: Cell<u64> = const { Cell::new(0) };
    }

    pub(super) fn count() {
        DONE.set(DONE.get() + 1);
    }

    /// How many this thread has done.
    pub fn done() -> u64 {
        DONE.get()
    }
}

/// Both alphabets, padding or none, trailing bits ignored.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

fn decode_base64(text: &str, bytes: &mut [u8; KEY_LENGTH]) -> Option<()> {
    let mut standard = Zeroizing::new([0; TEXT_LENGTH]);
    let standard = standard.get_mut(..text.len())?;
    for (to, from) in standard.iter_mut().zip(text.bytes()) {
        *to = match from {
            b'-' => b'+',
            b'_' => b'/',
            other => other,
        };
    }
    // The decoder wants room for its estimate, which is a byte more than 44 characters can hold.
    let mut decoded = Zeroizing::new([0; KEY_LENGTH + 1]);
    let length = LENIENT.decode_slice(standard, &mut *decoded).ok()?;
    (length == KEY_LENGTH).then(|| bytes.copy_from_slice(&decoded[..KEY_LENGTH]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::hex;
    use crate::crypto::random::Seeded;

    fn dh(private: [u8; 32], public: [u8; 32]) -> Option<[u8; 32]> {
        PrivateKey::from_bytes(private)
            .diffie_hellman(&PublicKey::from_bytes(public))
            .map(|secret| *secret.as_bytes())
    }

    #[test]
    fn rfc_7748_section_5_2() {
        for (scalar, point, expected) in [
            (
                "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
                "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
                "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
            ),
            (
                "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
                "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
                "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
            ),
        ] {
            assert_eq!(dh(hex::array(scalar), hex::array(point)), Some(hex::array(expected)));
        }
        let mut nine = [0; 32];
        nine[0] = 9;
        let (mut scalar, mut point) = (nine, nine);
        for round in 1..=1000 {
            let result = dh(scalar, point).expect("never zero");
            (scalar, point) = (result, scalar);
            if round == 1 {
                let once = "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079";
                assert_eq!(scalar, hex::array(once));
            }
        }
        let thousand = "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51";
        assert_eq!(scalar, hex::array(thousand));
    }

    #[test]
    fn rfc_7748_section_6_1() {
        let alice = PrivateKey::from_bytes(hex::array(
            "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
        ));
        let bob = PrivateKey::from_bytes(hex::array(
            "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
        ));
        let alice_public = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a";
        let bob_public = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f";
        assert_eq!(alice.public_key().as_bytes(), &hex::array(alice_public));
        assert_eq!(bob.public_key().as_bytes(), &hex::array(bob_public));
        let shared = hex::array("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
        assert_eq!(alice.diffie_hellman(&bob.public_key()).unwrap().as_bytes(), &shared);
        assert_eq!(bob.diffie_hellman(&alice.public_key()).unwrap().as_bytes(), &shared);
    }

    #[test]
    fn prepared_or_not_a_public_key_is_the_same() {
        let mut nine = [0; KEY_LENGTH];
        nine[0] = 9;
        let mut random = Seeded::new(25519);
        for round in 0..200 {
            if round == 100 {
                prepare_public_keys();
            }
            // Clamped or not.
            let private: [u8; KEY_LENGTH] = std::array::from_fn(|_| random.next_u64() as u8);
            assert_eq!(Some(*PrivateKey::from_bytes(private).public_key().as_bytes()), dh(private, nine));
        }
    }

    /// Every spelling of a low-order point: with and without bit 255, reduced or not.
    fn low_order_spellings() -> Vec<[u8; 32]> {
        let mut spellings: Vec<[u8; 32]> = LOW_ORDER.to_vec();
        for above in [0, 1] {
            let mut unreduced = PRIME;
            unreduced[0] += above;
            spellings.push(unreduced);
        }
        for mut high in spellings.clone() {
            high[31] |= 0x80;
            spellings.push(high);
        }
        spellings
    }

    #[test]
    fn low_order_points_are_refused_in_every_spelling() {
        for spelling in low_order_spellings() {
            assert!(PublicKey::from_bytes(spelling).is_low_order(), "{spelling:02x?}");
            for _ in 0..4 {
                assert!(PrivateKey::generate().diffie_hellman(&PublicKey(spelling)).is_none());
            }
        }
        assert_eq!(low_order_spellings().len(), 14);
        for _ in 0..16 {
            assert!(!PrivateKey::generate().public_key().is_low_order());
        }
    }

    #[test]
    fn a_point_has_one_canonical_spelling() {
        let private = PrivateKey::generate();
        // 2 to 18 above p, with and without bit 255: spellings of small numbers.
        for above in 0..19u8 {
            for high in [0, 0x80] {
                let mut spelling = PRIME;
                spelling[0] += above;
                spelling[31] |= high;
                let canonical = PublicKey(spelling).canonical();
                let mut small = [0; 32];
                small[0] = above;
                assert_eq!(canonical.0, small);
                let secrets = [PublicKey(spelling), canonical]
                    .map(|key| private.diffie_hellman(&key).map(|secret| *secret.as_bytes()));
                assert_eq!(secrets[0], secrets[1]);
            }
        }
        let mut below = PRIME;
        below[0] -= 1;
        assert_eq!(PublicKey(below).canonical().0, below);
        let key = private.public_key();
        assert_eq!(key.canonical(), key);
        let mut high = key;
        high.0[31] |= 0x80;
        assert_ne!(high, key);
        assert_eq!(high.canonical(), key);
    }

    #[test]
    fn base64_in_every_spelling_gives_one_key() {
        let mut bytes = [0xfb; 32];
        bytes[31] = 0x7f;
        let key = PublicKey(bytes);
        let text = key.encode();
        assert_eq!(text, "+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+38=");
        assert_eq!(key.to_string(), text);
        let url_safe = text.replace('+', "-").replace('/', "_");
        let mixed = text.replacen('+', "-", 3);
        for spelling in [&text, &url_safe, &mixed] {
            assert_eq!(PublicKey::decode(spelling), Some(key));
            assert_eq!(PublicKey::decode(spelling.trim_end_matches('=')), Some(key));
            // The last character carries two bits that belong to no byte.
            for last in ["9", "-", "_", "+", "/"] {
                let trailing = spelling.replace("8=", last);
                assert_eq!(PublicKey::decode(&trailing), Some(key), "{trailing}");
            }
        }
        let mut high = bytes;
        high[31] |= 0x80;
        assert_eq!(PublicKey::decode(&PublicKey(high).encode()), Some(key));
        let longer = format!("{}=", text);
        for bad in [
            "",
            "=",
            "a",
            &text[..42],
            &text[1..],
            &text.replace('8', " "),
            &longer,
            &text.replace("38=", "é"),
        ] {
            assert_eq!(PublicKey::decode(bad), None, "{bad:?}");
        }
        assert_eq!(PublicKey::decode(&"A".repeat(44)), None, "33 bytes");
        assert_eq!(PublicKey::decode(&"A".repeat(1000)), None);
    }

    #[test]
    fn decoding_never_panics_and_inverts_encoding() {
        let mut random = Seeded::new(7);
        for _ in 0..2000 {
            let mut bytes = [0; 32];
            random.fill(&mut bytes);
            let private = PrivateKey::from_bytes(bytes);
            assert_eq!(*PrivateKey::decode(&private.encode()).expect("its own spelling").to_bytes(), bytes);
            let key = PublicKey(bytes);
            assert_eq!(PublicKey::decode(&key.encode()), Some(key.canonical()));
            let mut text: Vec<u8> = key.encode().into_bytes();
            let at = random.below(44) as usize;
            text[at] = random.below(128) as u8;
            text.truncate(random.below(46) as usize);
            // Whatever it says, it says it about 32 bytes.
            PublicKey::decode(std::str::from_utf8(&text).unwrap());
        }
    }

    /// A matter of cargo features, so the compiler may check it.
    #[test]
    fn secrets_are_zeroed_on_drop() {
        fn zeroed<T: zeroize::ZeroizeOnDrop>() {}
        zeroed::<StaticSecret>();
        zeroed::<x25519_dalek::SharedSecret>();
    }

    #[test]
    fn private_keys_are_not_printed_and_generated_ones_are_clamped() {
        let key = PrivateKey::generate();
        assert_eq!(format!("{key:?}"), "PrivateKey(..)");
        assert_eq!(key.to_bytes()[0] & 7, 0);
        assert_eq!(key.to_bytes()[31] & 0xc0, 0x40);
        assert_ne!(*key.to_bytes(), *PrivateKey::generate().to_bytes());
    }
}
