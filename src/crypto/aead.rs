//! The one place that knows which implementation encrypts.
//!
//! Packets and handshakes: ChaCha20-Poly1305 (RFC 8439), by ring with the cargo feature of that name
//! (on by default), else by RustCrypto. Cookies: XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha), always by
//! RustCrypto. Everything happens in place and the tag stays apart, so a packet is opened and sealed again
//! over the same bytes. Nothing allocates.

use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{KeyInit, Tag, XChaCha20Poly1305, XNonce};

/// Length of a key in bytes.
pub const KEY_LENGTH: usize = 32;
/// Length of the tag in bytes: by how much sealed text is longer.
pub const TAG_LENGTH: usize = 16;
/// Length of XChaCha20-Poly1305's nonce in bytes.
pub const X_NONCE_LENGTH: usize = 24;

/// The tag does not belong to this key, nonce, text and additional data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Forged;

/// A ready ChaCha20-Poly1305 key; zeroed when dropped.
pub struct PacketKey(packets::Key);

impl PacketKey {
    /// Expands `key`.
    pub fn new(key: &[u8; KEY_LENGTH]) -> Self {
        PacketKey(packets::Key::new(key))
    }

    /// Encrypts `text` in place and gives its tag. The nonce is 32 zero bits and `counter`, little endian
    /// (paper 5.4.6); no counter may ever be used twice with one key.
    pub fn seal(&self, counter: u64, additional: &[u8], text: &mut [u8]) -> [u8; TAG_LENGTH] {
        self.0.seal(nonce(counter), additional, text)
    }

    /// Decrypts `text` in place if `tag` fits; if not, `text` holds nothing of use afterwards.
    pub fn open(
        &self,
        counter: u64,
        additional: &[u8],
        text: &mut [u8],
        tag: &[u8; TAG_LENGTH],
    ) -> Result<(), Forged> {
        self.0.open(nonce(counter), additional, text, tag)
    }
}

impl std::fmt::Debug for PacketKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PacketKey(..)")
    }
}

fn nonce(counter: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    nonce
}

#[cfg(feature = "ring")]
mod packets {
    use super::{Forged, KEY_LENGTH, TAG_LENGTH};
    use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, Tag, UnboundKey};
    use std::hint::black_box;

    pub struct Key(LessSafeKey);

    impl Key {
        pub fn new(key: &[u8; KEY_LENGTH]) -> Self {
            Key(expand(key))
        }

        pub fn seal(&self, nonce: [u8; 12], additional: &[u8], text: &mut [u8]) -> [u8; TAG_LENGTH] {
            let nonce = Nonce::assume_unique_for_key(nonce);
            let tag = self.0.seal_in_place_separate_tag(nonce, Aad::from(additional), text);
            let tag = tag.expect("a packet is shorter than 256 GiB");
            tag.as_ref().try_into().expect("the tag has 16 bytes")
        }

        pub fn open(
            &self,
            nonce: [u8; 12],
            additional: &[u8],
            text: &mut [u8],
            tag: &[u8; TAG_LENGTH],
        ) -> Result<(), Forged> {
            let nonce = Nonce::assume_unique_for_key(nonce);
            match self.0.open_in_place_separate_tag(nonce, Aad::from(additional), Tag::from(*tag), text, 0..)
            {
                Ok(_) => Ok(()),
                Err(_) => Err(Forged),
            }
        }

        /// Overwrites the key. ring has no way to do so; `black_box` keeps the store from being dropped as
        /// dead.
        pub fn wipe(&mut self) {
            self.0 = expand(&[0; KEY_LENGTH]);
            black_box(&self.0);
        }
    }

    impl Drop for Key {
        fn drop(&mut self) {
            self.wipe();
        }
    }

    fn expand(key: &[u8; KEY_LENGTH]) -> LessSafeKey {
        LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).expect("the key has 32 bytes"))
    }
}

#[cfg(not(feature = "ring"))]
mod packets {
    use super::{Forged, KEY_LENGTH, TAG_LENGTH};
    use chacha20poly1305::aead::AeadInOut;
    use chacha20poly1305::{ChaCha20Poly1305, KeyInit, Tag};

    /// Zeroes itself when dropped.
    pub struct Key(ChaCha20Poly1305);

    impl Key {
        pub fn new(key: &[u8; KEY_LENGTH]) -> Self {
            Key(ChaCha20Poly1305::new(key.into()))
        }

        pub fn seal(&self, nonce: [u8; 12], additional: &[u8], text: &mut [u8]) -> [u8; TAG_LENGTH] {
            let tag = self.0.encrypt_inout_detached(&nonce.into(), additional, text.into());
            tag.expect("a packet is shorter than 256 GiB").into()
        }

        pub fn open(
            &self,
            nonce: [u8; 12],
            additional: &[u8],
            text: &mut [u8],
            tag: &[u8; TAG_LENGTH],
        ) -> Result<(), Forged> {
            let tag = Tag::from(*tag);
            self.0.decrypt_inout_detached(&nonce.into(), additional, text.into(), &tag).map_err(|_| Forged)
        }
    }
}

/// `Xaead`: encrypts `text` in place with XChaCha20-Poly1305 and gives its tag. A random nonce is safe.
pub fn x_seal(
    key: &[u8; KEY_LENGTH],
    nonce: &[u8; X_NONCE_LENGTH],
    additional: &[u8],
    text: &mut [u8],
) -> [u8; TAG_LENGTH] {
    let tag = XChaCha20Poly1305::new(key.into()).encrypt_inout_detached(
        &XNonce::from(*nonce),
        additional,
        text.into(),
    );
    tag.expect("a cookie is shorter than 256 GiB").into()
}

/// Undoes [`x_seal`] in place if `tag` fits; if not, `text` holds nothing of use afterwards.
pub fn x_open(
    key: &[u8; KEY_LENGTH],
    nonce: &[u8; X_NONCE_LENGTH],
    additional: &[u8],
    text: &mut [u8],
    tag: &[u8; TAG_LENGTH],
) -> Result<(), Forged> {
    XChaCha20Poly1305::new(key.into())
        .decrypt_inout_detached(&XNonce::from(*nonce), additional, text.into(), &Tag::from(*tag))
        .map_err(|_| Forged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::hex;
    use crate::crypto::random::Seeded;
    use chacha20poly1305::ChaCha20Poly1305;

    /// RFC 8439 appendix A.5, whose nonce begins with 32 zero bits as ours do.
    #[test]
    fn rfc_8439_appendix_a_5() {
        let key =
            PacketKey::new(&hex::array("1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0"));
        let counter = u64::from_le_bytes(hex::array("0102030405060708"));
        let additional = hex::bytes("f33388860000000000004e91");
        let sealed = hex::bytes(
            "64a0861575861af460f062c79be643bd 5e805cfd345cf389f108670ac76c8cb2
             4c6cfc18755d43eea09ee94e382d26b0 bdb7b73c321b0100d4f03b7f355894cf
             332f830e710b97ce98c8a84abd0b9481 14ad176e008d33bd60f982b1ff37c855
             9797a06ef4f0ef61c186324e2b350638 3606907b6a7c02b0f9f6157b53c867e4
             b9166c767b804d46a59b5216cde7a4e9 9040c5a40433225ee282a1b0a06c523e
             af4534d7f83fa1155b0047718cbc546a 0d072b04b3564eea1b422273f548271a
             0bb2316053fa76991955ebd63159434e cebb4e466dae5a1073a6727627097a10
             49e617d91d361094fa68f0ff77987130 305beaba2eda04df997b714d6c6f2c29
             a6ad5cb4022b02709b",
        );
        let tag = hex::array("eead9d67890cbb22392336fea1851f38");
        let mut text = sealed.clone();
        assert_eq!(key.open(counter, &additional, &mut text, &tag), Ok(()));
        assert!(text.starts_with(b"Internet-Drafts are draft documents valid for a maximum of six months"));
        assert_eq!(key.seal(counter, &additional, &mut text), tag);
        assert_eq!(text, sealed);
    }

    /// draft-irtf-cfrg-xchacha-03, appendix A.3.1.
    #[test]
    fn xchacha_draft_appendix_a_3_1() {
        let key = std::array::from_fn(|i| 0x80 + i as u8);
        let nonce = std::array::from_fn(|i| 0x40 + i as u8);
        let additional = hex::bytes("50515253c0c1c2c3c4c5c6c7");
        let plain = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for \
                      the future, sunscreen would be it.";
        let mut text = plain.to_vec();
        let tag = x_seal(&key, &nonce, &additional, &mut text);
        let sealed = hex::bytes(
            "bd6d179d3e83d43b9576579493c0e939 572a1700252bfaccbed2902c21396cbb
             731c7f1b0b4aa6440bf3a82f4eda7e39 ae64c6708c54c216cb96b72e1213b452
             2f8c9ba40db5d945b11b69b982c1bb9e 3f3fac2bc369488f76b2383565d3fff9
             21f9664c97637da9768812f615c68b13 b52e",
        );
        assert_eq!(text, sealed);
        assert_eq!(tag, hex::array("c0875924c1c7987947deafd8780acf49"));
        assert_eq!(x_open(&key, &nonce, &additional, &mut text, &tag), Ok(()));
        assert_eq!(text, plain);
        let mut forged = sealed.clone();
        forged[3] ^= 1;
        assert_eq!(x_open(&key, &nonce, &additional, &mut forged, &tag), Err(Forged));
        let mut other = sealed;
        assert_eq!(x_open(&key, &nonce, b"", &mut other, &tag), Err(Forged));
    }

    /// Whatever encrypts packets agrees with RustCrypto, at every length around the block size.
    #[test]
    fn packets_agree_with_the_other_implementation() {
        let mut random = Seeded::new(3);
        for length in (0..=260).chain([1280, 1420, 1500, 9000, 65535]) {
            let (mut key, mut plain, mut additional) = ([0; 32], vec![0; length], vec![0; length % 37]);
            random.fill(&mut key);
            random.fill(&mut plain);
            random.fill(&mut additional);
            let counter = random.next_u64();
            let mut text = plain.clone();
            let packet_key = PacketKey::new(&key);
            let tag = packet_key.seal(counter, &additional, &mut text);
            let mut expected = plain.clone();
            let expected_tag = ChaCha20Poly1305::new(&key.into())
                .encrypt_inout_detached(&nonce(counter).into(), &additional, expected.as_mut_slice().into())
                .unwrap();
            assert_eq!((text.as_slice(), tag.as_slice()), (expected.as_slice(), expected_tag.as_slice()));
            assert_eq!(packet_key.open(counter, &additional, &mut text, &tag), Ok(()));
            assert_eq!(text, plain);
        }
    }

    #[test]
    fn any_changed_bit_is_a_forgery() {
        let key = PacketKey::new(&[7; 32]);
        let mut sealed = *b"in the receive buffer";
        let tag = key.seal(u64::MAX, b"head", &mut sealed);
        for bit in 0..sealed.len() * 8 {
            let mut text = sealed;
            text[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(key.open(u64::MAX, b"head", &mut text, &tag), Err(Forged));
        }
        for bit in 0..128 {
            let mut wrong = tag;
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(key.open(u64::MAX, b"head", &mut sealed.clone(), &wrong), Err(Forged));
        }
        assert_eq!(key.open(u64::MAX, b"heat", &mut sealed.clone(), &tag), Err(Forged));
        assert_eq!(key.open(u64::MAX - 1, b"head", &mut sealed.clone(), &tag), Err(Forged));
        assert_eq!(PacketKey::new(&[8; 32]).open(u64::MAX, b"head", &mut sealed.clone(), &tag), Err(Forged));
        assert_eq!(key.open(u64::MAX, b"head", &mut sealed, &tag), Ok(()));
        assert_eq!(&sealed, b"in the receive buffer");
    }

    /// A matter of cargo features, so the compiler may check it.
    #[test]
    fn the_other_implementation_zeroes_its_keys() {
        fn zeroed<T: zeroize::ZeroizeOnDrop>() {}
        zeroed::<ChaCha20Poly1305>();
        zeroed::<XChaCha20Poly1305>();
    }

    #[cfg(feature = "ring")]
    #[test]
    fn a_wiped_key_is_the_zero_key() {
        let mut key = PacketKey::new(&[7; 32]);
        key.0.wipe();
        assert_eq!(key.seal(1, b"", &mut [1]), PacketKey::new(&[0; 32]).seal(1, b"", &mut [1]));
        assert_eq!(format!("{key:?}"), "PacketKey(..)");
    }
}
