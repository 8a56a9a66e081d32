//! Floor 1: the cryptographic primitives, each behind one file.

pub mod aead;
pub mod blake2s;
pub mod channel;
pub mod constant_time;
pub mod envelope;
pub mod hex;
pub mod random;
pub mod x25519;
