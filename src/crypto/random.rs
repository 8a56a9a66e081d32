//! Randomness: from the operating system for secrets, from a seed for what only has to be spread out.

/// Fills `bytes` from the operating system's random source.
///
/// # Panics
/// If that source fails. It cannot on a Linux that has booted; where it does, every key and token made
/// from then on would be guessable, and there is no caller that could do better than stop.
pub fn fill(bytes: &mut [u8]) {
    getrandom::fill(bytes)
        .expect("the operating system's random source must work: no key is safe without it");
}

/// `N` bytes from the operating system's random source; panics as [`fill`] does.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    fill(&mut bytes);
    bytes
}

/// A number from the operating system's random source; panics as [`fill`] does.
pub fn u32() -> u32 {
    u32::from_ne_bytes(bytes())
}

/// So many of the letters of `alphabet`, which are ASCII, each as likely as any other.
pub fn letters(alphabet: &[u8], count: usize) -> String {
    // Bytes that would make some letters likelier are passed over.
    let even = 256 / alphabet.len() * alphabet.len();
    let bytes = std::iter::repeat_with(|| usize::from(bytes::<1>()[0])).filter(|byte| *byte < even);
    bytes.map(|byte| char::from(alphabet[byte % alphabet.len()])).take(count).collect()
}

/// Predictable numbers from a seed (SplitMix64): for jitter and for tests, never for secrets.
#[derive(Clone, Debug)]
pub struct Seeded(u64);

impl Seeded {
    /// The sequence that belongs to `seed`.
    pub const fn new(seed: u64) -> Self {
        Seeded(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// The next number below `bound`, which must not be 0. Slightly uneven for bounds near 2^64.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64() % bound
    }

    /// Fills `bytes` with the next numbers.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next_u64().to_le_bytes()[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_bytes_differ_and_fill_the_whole_buffer() {
        let (first, second) = (bytes::<64>(), bytes::<64>());
        assert_ne!(first, second);
        // A byte that is 0 in 32 draws in a row was not written (chance 2^-256 each).
        let mut seen = [0u8; 64];
        for _ in 0..32 {
            seen.iter_mut().zip(bytes::<64>()).for_each(|(seen, byte)| *seen |= byte);
        }
        assert!(seen.iter().all(|&byte| byte != 0));
        assert!((0..8).map(|_| u32()).collect::<std::collections::BTreeSet<_>>().len() > 1);
    }

    #[test]
    fn a_seed_gives_the_published_sequence() {
        // SplitMix64 from seed 1234567, as published with the algorithm.
        let mut seeded = Seeded::new(1_234_567);
        assert_eq!(seeded.next_u64(), 6_457_827_717_110_365_317);
        assert_eq!(seeded.next_u64(), 3_203_168_211_198_807_973);
        assert_eq!(seeded.next_u64(), 9_817_491_932_198_370_423);
        let mut bytes = [0; 11];
        Seeded::new(1_234_567).fill(&mut bytes);
        assert_eq!(bytes[..8], 6_457_827_717_110_365_317u64.to_le_bytes());
        assert_eq!(bytes[8..], 3_203_168_211_198_807_973u64.to_le_bytes()[..3]);
        assert!((0..1000).all(|_| seeded.below(7) < 7));
    }
}
