//! The indices by which peers name our handshakes and sessions (paper 5.4.2): random, so that they can't be
//! guessed and do not tell how many there are.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};

/// Which peer each index in use belongs to.
#[derive(Debug, Default)]
pub struct IndexTable {
    owners: HashMap<u32, u32, BuildHasherDefault<Spread>>,
}

impl IndexTable {
    /// Gives `owner` an index that is not in use; `random` gives candidates.
    pub fn draw(&mut self, owner: u32, mut random: impl FnMut() -> u32) -> u32 {
        loop {
            let index = random();
            if let Entry::Vacant(entry) = self.owners.entry(index) {
                entry.insert(owner);
                return index;
            }
        }
    }

    /// Whose `index` is.
    pub fn owner(&self, index: u32) -> Option<u32> {
        self.owners.get(&index).copied()
    }

    /// Makes `index` free again.
    pub fn release(&mut self, index: u32) {
        self.owners.remove(&index);
    }

    /// How many indices are in use.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.owners.len()
    }
}

/// The keys are random numbers of our own drawing, so nobody can aim at one bucket, and this is looked at for
/// every packet: a multiplication does.
#[derive(Default)]
pub struct Spread(u64);

impl Hasher for Spread {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u32((*byte).into()));
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_in_use_is_not_given_twice() {
        let mut table = IndexTable::default();
        let mut candidates = [7, 7, 7, 8, 7].into_iter();
        assert_eq!(table.draw(1, || candidates.next().unwrap()), 7);
        assert_eq!(table.draw(2, || candidates.next().unwrap()), 8);
        assert_eq!((table.owner(7), table.owner(8), table.owner(9)), (Some(1), Some(2), None));
        table.release(7);
        assert_eq!(table.owner(7), None);
        assert_eq!(table.draw(3, || candidates.next().unwrap()), 7);
        assert_eq!(table.len(), 2);
    }
}
