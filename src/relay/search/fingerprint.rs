//! What tells one state from another, so that none is looked at twice.

use crate::time::Instant;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::time::Duration;

/// What is older than this is as good as forgotten, or will be forgotten with everything else.
const OLD: Duration = Duration::from_secs(250);
/// Times that differ by less are taken for the same.
const GRAIN: Duration = Duration::from_millis(100);

/// Collects numbers. Times count from now, indices in the order in which they first come.
pub struct Fingerprint {
    now: Instant,
    hashers: [DefaultHasher; 2],
    indices: HashMap<u32, u64>,
}

impl Fingerprint {
    pub fn new(now: Instant) -> Self {
        let mut hashers = [DefaultHasher::new(), DefaultHasher::new()];
        hashers[1].write_u8(1);
        Fingerprint { now, hashers, indices: HashMap::new() }
    }

    pub fn number(&mut self, number: u64) -> &mut Self {
        self.hashers.iter_mut().for_each(|hasher| hasher.write_u64(number));
        self
    }

    pub fn address(&mut self, address: SocketAddr) -> &mut Self {
        self.hashers.iter_mut().for_each(|hasher| address.hash(hasher));
        self
    }

    pub fn index(&mut self, index: u32) -> &mut Self {
        let next = self.indices.len() as u64;
        let number = *self.indices.entry(index).or_insert(next);
        self.number(number)
    }

    /// How long ago that was.
    pub fn age(&mut self, at: Instant) -> &mut Self {
        let age = self.now.since(at).min(OLD);
        self.number((age.as_millis() / GRAIN.as_millis()) as u64)
    }

    /// How long it is until then.
    pub fn left(&mut self, at: Instant) -> &mut Self {
        let left = at.since(self.now).min(OLD);
        self.number((left.as_millis().div_ceil(GRAIN.as_millis())) as u64)
    }

    pub fn finish(self) -> u128 {
        let [one, other] = self.hashers.map(|hasher| hasher.finish());
        (u128::from(one) << 64) | u128::from(other)
    }
}
