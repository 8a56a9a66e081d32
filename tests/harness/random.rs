//! The same numbers for the same seed.

use lanrage::crypto::random::Seeded;

#[derive(Clone, Debug)]
pub struct Random(Seeded);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(Seeded::new(seed))
    }

    pub fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    pub fn below(&mut self, limit: usize) -> usize {
        self.0.below(limit as u64) as usize
    }

    pub fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill(bytes);
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.fill(&mut bytes);
        bytes
    }
}
