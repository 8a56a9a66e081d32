//! BLAKE2s (RFC 7693) in the forms that the WireGuard paper names in section 5.4.
//!
//! Input is given in parts, which count as their concatenation.

use blake2::digest::consts::{U16, U32};
use blake2::digest::{FixedOutput, KeyInit, Update};
use blake2::{Blake2s256, Blake2sMac};
use zeroize::{Zeroize, Zeroizing};

/// Length of a hash in bytes.
pub const HASH_LENGTH: usize = 32;
/// Length of what [`mac`] gives, in bytes.
pub const MAC_LENGTH: usize = 16;
/// The block that HMAC pads its key to, in bytes.
const BLOCK_LENGTH: usize = 64;

/// Key material that is zeroed when dropped.
pub type Secret = Zeroizing<[u8; HASH_LENGTH]>;

/// `Hash(input)`: BLAKE2s-256.
pub fn hash(parts: &[&[u8]]) -> [u8; HASH_LENGTH] {
    let mut state = Blake2s256::default();
    parts.iter().for_each(|part| state.update(part));
    state.finalize_fixed().into()
}

/// `Mac(key, input)`: BLAKE2s-128 keyed with 1 to 32 bytes; panics on any other length.
pub fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; MAC_LENGTH] {
    assert!(!key.is_empty(), "a MAC needs a key");
    let mut state = Blake2sMac::<U16>::new_from_slice(key).expect("a MAC key has at most 32 bytes");
    parts.iter().for_each(|part| state.update(part));
    state.finalize_fixed().into()
}

/// BLAKE2s-256 keyed with 1 to 32 bytes; panics on any other length.
pub fn mac32(key: &[u8], parts: &[&[u8]]) -> [u8; HASH_LENGTH] {
    assert!(!key.is_empty(), "a MAC needs a key");
    let mut state = Blake2sMac::<U32>::new_from_slice(key).expect("a MAC key has at most 32 bytes");
    parts.iter().for_each(|part| state.update(part));
    state.finalize_fixed().into()
}

/// `Hmac(key, input)`: HMAC (RFC 2104) over BLAKE2s-256, with a key of any length.
pub fn hmac(key: &[u8], parts: &[&[u8]]) -> Secret {
    let mut block = Zeroizing::new([0; BLOCK_LENGTH]);
    if key.len() > BLOCK_LENGTH {
        block[..HASH_LENGTH].copy_from_slice(&hash(&[key]));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    block.iter_mut().for_each(|byte| *byte ^= 0x36);
    let mut inner = Blake2s256::default();
    inner.update(&*block);
    parts.iter().for_each(|part| inner.update(part));
    let mut digest: [u8; HASH_LENGTH] = inner.finalize_fixed().into();
    block.iter_mut().for_each(|byte| *byte ^= 0x36 ^ 0x5c);
    let result = Zeroizing::new(hash(&[&*block, &digest]));
    digest.zeroize();
    result
}

/// `Kdf1(key, input)`.
pub fn kdf1(key: &[u8], input: &[u8]) -> Secret {
    let root = hmac(key, &[input]);
    hmac(&*root, &[&[1]])
}

/// `Kdf2(key, input)`.
pub fn kdf2(key: &[u8], input: &[u8]) -> (Secret, Secret) {
    let root = hmac(key, &[input]);
    let first = hmac(&*root, &[&[1]]);
    let second = hmac(&*root, &[&*first, &[2]]);
    (first, second)
}

/// `Kdf3(key, input)`.
pub fn kdf3(key: &[u8], input: &[u8]) -> (Secret, Secret, Secret) {
    let root = hmac(key, &[input]);
    let first = hmac(&*root, &[&[1]]);
    let second = hmac(&*root, &[&*first, &[2]]);
    let third = hmac(&*root, &[&*second, &[3]]);
    (first, second, third)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::hex;

    fn sequence(length: usize) -> Vec<u8> {
        (0..length).map(|i| (i % 251) as u8).collect()
    }

    #[test]
    fn hashes_as_rfc_7693_appendix_b() {
        let abc = "508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982";
        assert_eq!(hash(&[b"abc"]), hex::array(abc));
        assert_eq!(hash(&[b"a", b"", b"bc"]), hex::array(abc));
    }

    /// The known answers of the BLAKE2 reference (key 00..1f), and others around the block length from an
    /// independent implementation.
    #[test]
    fn macs_known_answers() {
        let key: [u8; 32] = std::array::from_fn(|i| i as u8);
        for (length, long, short) in [
            (
                0,
                "48a8997da407876b3d79c0d92325ad3b89cbb754d86ab71aee047ad345fd2c49",
                "af4e5d3bb230e9ff9096ca6f7c501f76",
            ),
            (
                1,
                "40d15fee7c328830166ac3f918650f807e7e01e177258cdc0a39b11f598066f1",
                "881e42e7bb358082637c0a0fd7ec6c2f",
            ),
            (
                32,
                "c03bc642b20959cbe133a0303e0c1abff3e31ec8e1a328ec8565c36decff5265",
                "6b363e9519590c23cda5d0e30b29e1f1",
            ),
            (
                63,
                "c65382513f07460da39833cb666c5ed82e61b9e998f4b0c4287cee56c3cc9bcd",
                "2151a1ac11ef2763a427614c612b3de0",
            ),
            (
                64,
                "8975b0577fd35566d750b362b0897a26c399136df07bababbde6203ff2954ed4",
                "dd55c51c98f8ab96ed272882941f0b6a",
            ),
            (
                65,
                "21fe0ceb0052be7fb0f004187cacd7de67fa6eb0938d927677f2398c132317a8",
                "9018c671bb7e94a6d540a91765bbecad",
            ),
            (
                116,
                "77ac012a3f754dcfeab5eb996be9cd2d1f96111b6e49f3994df181f28569d825",
                "b9b1bbba1b59e4349d1018f97d243fca",
            ),
            (
                128,
                "0c311f38c35a4fb90d651c289d486856cd1413df9b0677f53ece2cd9e477c60a",
                "24548ecbf479d44b545512c39a847b95",
            ),
            (
                255,
                "1198d1da21a1ef3056099ef664dd9c6b06c482674dc334dbafd1627be358bfb5",
                "9b0109eabfbfdc5400597154076c2c6a",
            ),
            (
                1000,
                "d5c42863172fb2424de520ff25866bf2ac9201ce81b6a8b703f67ea4c6735767",
                "6c466100a4ac5b4626c7fe718f474940",
            ),
        ] {
            let input = sequence(length);
            let (head, tail) = input.split_at(length / 3);
            assert_eq!(mac32(&key, &[head, tail]), hex::array(long), "{length}");
            assert_eq!(mac(&key[..16], &[&input]), hex::array(short), "{length}");
        }
    }

    /// HMAC by an independent implementation: keys shorter than, as long as and longer than a block.
    #[test]
    fn hmac_known_answers() {
        for (key, input, expected) in [
            (0, 0, "eaf4bb25938f4d20e72656bbbc7a9bf63c0c18537333c35bdb67db1402661acd"),
            (32, 0, "e2641d24dfa8dd89e8cb77f1cdc77d8c006e5bebdfc4d6a3a3a6f8d5b7586fb0"),
            (32, 32, "8d2cc42fc1055ea43277dfd5d35d3863b228f9cc0c02007dc2afb20907bd7312"),
            (63, 5, "7316cdc33a2ede3fcdc24052305b1b1dbd294e2e2cd29b2e30813bf82505bc45"),
            (64, 64, "16b4112bb7a7d3d85ee3baf8649046691596c5adab68f93ab0ebb4d798b8444d"),
            (65, 200, "ef6a7a193a0473432359174bbb87e963f3e681642597347c2cb473e44769fd41"),
            (200, 1, "5bbf10fb1403d5b21b68af24422b6145284a1b4450b18a64d824416499bb3f1c"),
        ] {
            let (key, input) = (sequence(key), sequence(input));
            let (head, tail) = input.split_at(input.len() / 2);
            assert_eq!(*hmac(&key, &[head, tail]), hex::array(expected), "{}, {}", key.len(), input.len());
        }
    }

    #[test]
    fn kdf_known_answers() {
        let key: [u8; 32] = std::array::from_fn(|i| i as u8);
        let expected: [[u8; 32]; 3] = [
            hex::array("87b7f70b24183c6db5dc4f6d9f4c47cdb203321aa2a0bef714896adb3107a040"),
            hex::array("538a02e1eb2e31b7e4d4b82476d1fe2acf50085d3fb584537279195f5d1f5824"),
            hex::array("9ad858025593be88de0f9442a589cfe84a88dc19e4753d93684d1c5efc4837f9"),
        ];
        assert_eq!(*kdf1(&key, b"input"), expected[0]);
        let (first, second) = kdf2(&key, b"input");
        assert_eq!([*first, *second], expected[..2]);
        let (first, second, third) = kdf3(&key, b"input");
        assert_eq!([*first, *second, *third], expected);
    }

    /// A matter of cargo features, so the compiler may check it.
    #[test]
    fn states_zero_their_keys() {
        fn zeroed<T: zeroize::ZeroizeOnDrop>() {}
        // The plain hash is this and a buffer of the same kind as in the MAC.
        zeroed::<blake2::Blake2sVarCore>();
        zeroed::<Blake2sMac<U16>>();
        zeroed::<Secret>();
    }

    #[test]
    #[should_panic(expected = "needs a key")]
    fn a_mac_without_a_key_is_refused() {
        mac(&[], &[b"input"]);
    }
}
