//! Which counters of a session have been seen: a sliding window (RFC 6479).

/// Bits of the window.
const BITS: u64 = 8192;
const WORDS: usize = (BITS / 64) as usize;
/// How far a message may lag behind the newest: one word of the ring is always being cleared.
pub const WINDOW: u64 = BITS - 64;

/// A ring of 8192 bits, each standing for a counter.
#[derive(Clone)]
pub struct Window {
    greatest: u64,
    ring: [u64; WORDS],
}

impl Default for Window {
    fn default() -> Self {
        Window { greatest: 0, ring: [0; WORDS] }
    }
}

fn word(counter: u64) -> usize {
    ((counter / 64) % WORDS as u64) as usize
}

fn bit(counter: u64) -> u64 {
    1 << (counter % 64)
}

impl Window {
    /// Whether `counter` is neither seen nor too old. To be asked before a message is opened.
    pub fn is_new(&self, counter: u64) -> bool {
        if counter > self.greatest {
            return true;
        }
        self.greatest - counter < WINDOW && self.ring[word(counter)] & bit(counter) == 0
    }

    /// Marks `counter` as seen, and says whether it [was new](Window::is_new). Only for messages that have
    /// proven authentic: a forged counter would push all others out of the window.
    pub fn accept(&mut self, counter: u64) -> bool {
        if !self.is_new(counter) {
            return false;
        }
        if counter > self.greatest {
            let words = (counter / 64 - self.greatest / 64).min(WORDS as u64);
            for ahead in 1..=words {
                self.ring[((self.greatest / 64 + ahead) % WORDS as u64) as usize] = 0;
            }
            self.greatest = counter;
        }
        self.ring[word(counter)] |= bit(counter);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::random::Seeded;
    use std::collections::BTreeSet;

    #[test]
    fn each_counter_passes_once() {
        let mut window = Window::default();
        for counter in [0, 1, 9, 8, 7, 7, 6, 5, 4, 3, 2, 0] {
            let new = window.is_new(counter);
            assert_eq!(window.accept(counter), new);
        }
        assert!((0..10).all(|counter| !window.accept(counter)));
        assert!(window.accept(10));
    }

    #[test]
    fn the_edge_of_the_window() {
        for base in [0, 1, 63, 64, 8191, 8192, 1 << 32, u64::MAX - 3 * BITS] {
            let mut window = Window::default();
            assert!(window.accept(base + WINDOW));
            assert!(!window.accept(base), "just outside");
            assert!(window.accept(base + 1), "just inside");
            assert!(!window.accept(base + 1));
            assert!(!window.accept(base + WINDOW));
            // A jump over everything forgets everything, and no old bit shows through.
            assert!(window.accept(base + 2 * BITS + 5));
            assert!(!window.accept(base + WINDOW));
            for counter in base + 2 * BITS + 5 - WINDOW + 1..base + 2 * BITS + 5 {
                assert!(window.accept(counter), "{counter}");
            }
        }
        let mut window = Window::default();
        assert!(window.accept(u64::MAX));
        assert!(!window.accept(u64::MAX));
        assert!(window.accept(u64::MAX - 1));
        assert!(!window.accept(0));
    }

    /// Against the obvious implementation: a set of all counters seen.
    #[test]
    fn agrees_with_a_set() {
        for (seed, reach) in [(1, 40), (2, 300), (3, 9000), (4, 30_000)] {
            let mut random = Seeded::new(seed);
            let (mut window, mut seen) = (Window::default(), BTreeSet::new());
            let start = (1 << 32) - 5000;
            let mut newest = 0u64;
            for step in 0..30_000u64 {
                let counter = (start + step).saturating_sub(reach / 2) + random.below(reach);
                let too_old = newest > counter && newest - counter >= WINDOW;
                let expected = !too_old && !seen.contains(&counter);
                assert_eq!(window.accept(counter), expected, "{seed} {step} {counter}");
                if expected {
                    seen.insert(counter);
                    newest = newest.max(counter);
                }
            }
        }
    }
}
