//! A table whose entries have payers, so that one who fills it makes room himself.

use super::Holdings;
use crate::crypto::random::Seeded;
use crate::keyed_hash::KeyedState;
use crate::slots::{Handle, Slots};
use crate::time::Instant;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;

/// So many entries are looked at for one that makes room. Who holds half of a table is missed once in 2^32 times.
const SAMPLES: usize = 32;

/// One entry.
pub struct OwnedEntry<K, V> {
    key: K,
    payer: IpAddr,
    value: V,
}

/// What speaks for an entry to stay when there is no room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Merit {
    /// Whether somebody has shown that it is wanted. What is not goes first.
    pub is_confirmed: bool,
    /// Since when it is there, or when it was last of use. The older goes first.
    pub since: Instant,
}

/// Entries by key, each charged to whose address caused it. It does not bound itself: who adds to it asks how many
/// there are, and for a [victim](OwnedTable::victim) when there are too many.
pub struct OwnedTable<K, V> {
    by_key: HashMap<K, Handle<OwnedEntry<K, V>>, KeyedState>,
    entries: Slots<OwnedEntry<K, V>>,
    held: Holdings,
    random: Seeded,
}

impl<K: Copy + Eq + Hash, V> OwnedTable<K, V> {
    /// An empty one. `seed` decides which entries are looked at for a victim.
    pub fn new(hasher: KeyedState, seed: u64) -> Self {
        OwnedTable {
            by_key: HashMap::with_hasher(hasher),
            entries: Slots::default(),
            held: Holdings::new(hasher),
            random: Seeded::new(seed),
        }
    }

    /// Adds an entry whose key is free.
    pub fn insert(&mut self, key: K, payer: IpAddr, value: V) -> Handle<OwnedEntry<K, V>> {
        let handle = self.entries.insert_with(|_| OwnedEntry { key, payer, value });
        self.by_key.insert(key, handle);
        self.held.add(payer, 1);
        handle
    }

    /// Removes an entry.
    pub fn remove(&mut self, handle: Handle<OwnedEntry<K, V>>) -> Option<(K, V)> {
        let OwnedEntry { key, payer, value } = *self.entries.remove(handle)?;
        self.by_key.remove(&key);
        self.held.remove(payer, 1);
        Some((key, value))
    }

    /// Gives an entry another key, which must be free.
    pub fn rename(&mut self, handle: Handle<OwnedEntry<K, V>>, key: K) {
        if let Some(entry) = self.entries.get_mut(handle) {
            self.by_key.remove(&entry.key);
            entry.key = key;
            self.by_key.insert(key, handle);
        }
    }

    /// Which entry has this key.
    pub fn find(&self, key: &K) -> Option<Handle<OwnedEntry<K, V>>> {
        self.by_key.get(key).copied()
    }

    /// An entry with its key.
    pub fn entry(&self, handle: Handle<OwnedEntry<K, V>>) -> Option<(&K, &V)> {
        self.entries.get(handle).map(|entry| (&entry.key, &entry.value))
    }

    /// An entry's key.
    pub fn key(&self, handle: Handle<OwnedEntry<K, V>>) -> Option<K> {
        self.entries.get(handle).map(|entry| entry.key)
    }

    /// An entry.
    pub fn get(&self, handle: Handle<OwnedEntry<K, V>>) -> Option<&V> {
        self.entries.get(handle).map(|entry| &entry.value)
    }

    /// An entry.
    pub fn get_mut(&mut self, handle: Handle<OwnedEntry<K, V>>) -> Option<&mut V> {
        self.entries.get_mut(handle).map(|entry| &mut entry.value)
    }

    /// The entry with this key.
    pub fn with_key(&self, key: &K) -> Option<&V> {
        self.get(self.find(key)?)
    }

    /// The entry with this key.
    pub fn with_key_mut(&mut self, key: &K) -> Option<&mut V> {
        self.get_mut(self.find(key)?)
    }

    /// Which entry has to make room: of some that are drawn, an unconfirmed one if there is any, of whoever holds
    /// most the oldest. `merit` gives `None` for what may not go at all.
    pub fn victim(&mut self, merit: impl Fn(&V) -> Option<Merit>) -> Option<Handle<OwnedEntry<K, V>>> {
        let OwnedTable { entries, held, random, .. } = self;
        let count = u64::from(entries.slot_count());
        // Few are all looked at.
        let few = count <= SAMPLES as u64;
        let drawn = (0..SAMPLES as u64).filter_map(|index| {
            let slot = if few { index } else { random.below(count) };
            let (handle, entry) = entries.in_slot(slot as u32)?;
            Some((handle, entry, merit(&entry.value)?))
        });
        let rank = |(_, entry, merit): &(_, &OwnedEntry<K, V>, Merit)| {
            (!merit.is_confirmed, held.weight(entry.payer), Reverse(merit.since))
        };
        drawn.max_by_key(rank).map(|(handle, _, _)| handle)
    }

    /// Removes what `keep` denies; `removed` is told.
    pub fn retain(&mut self, keep: impl Fn(&K, &V) -> bool, mut removed: impl FnMut(K, V)) {
        for slot in 0..self.entries.slot_count() {
            let Some((handle, entry)) = self.entries.in_slot(slot) else { continue };
            if !keep(&entry.key, &entry.value)
                && let Some((key, value)) = self.remove(handle)
            {
                removed(key, value);
            }
        }
    }

    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = (Handle<OwnedEntry<K, V>>, &K, &V)> {
        self.entries.iter().map(|(handle, entry)| (handle, &entry.key, &entry.value))
    }

    /// All entries.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.entries.iter_mut().map(|(_, entry)| &mut entry.value)
    }

    /// Who holds how many.
    pub fn held(&self) -> &Holdings {
        &self.held
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Instant {
        Instant::from_nanos(second * 1_000_000_000)
    }

    fn ip(last: u8, network: u8) -> IpAddr {
        IpAddr::from([198, 51, network, last])
    }

    #[test]
    fn keys_change_and_payers_are_counted() {
        let mut table = OwnedTable::new(KeyedState::new(7, 9), 1);
        let one = table.insert(1, ip(1, 1), "one");
        table.insert(2, ip(1, 1), "two");
        table.rename(one, 3);
        assert_eq!((table.find(&1), table.find(&3), table.key(one)), (None, Some(one), Some(3)));
        assert_eq!(table.with_key(&2), Some(&"two"));
        assert_eq!(table.held().weight(ip(1, 1)), [2, 2, 2]);
        let mut gone = Vec::new();
        table.retain(|key, _| *key == 3, |key, value| gone.push((key, value)));
        assert_eq!(gone, [(2, "two")]);
        assert_eq!(table.remove(one), Some((3, "one")));
        assert!(table.is_empty() && table.held().total() == 0 && table.remove(one).is_none());
    }

    #[test]
    fn who_fills_it_makes_room() {
        let mut table = OwnedTable::new(KeyedState::new(7, 9), 1);
        let confirmed = |value: &(bool, u64)| Some(Merit { is_confirmed: value.0, since: at(value.1) });
        let honest: Vec<_> = (0..50).map(|n| table.insert(n, ip(9, n as u8), (false, 0))).collect();
        for n in 100..1000 {
            while table.len() >= 200 {
                let victim = table.victim(confirmed).unwrap();
                table.remove(victim);
            }
            table.insert(n, ip(n as u8, 200), (false, n));
        }
        assert!(honest.iter().all(|&one| table.get(one).is_some()), "none of the honest had to go");
        // What is confirmed goes last, whoever has it.
        table.values_mut().for_each(|value| value.0 = value.1 > 0);
        let victim = table.victim(confirmed).unwrap();
        assert!(honest.contains(&victim));
        assert_eq!(table.victim(|_| None), None);
    }

    #[test]
    fn of_a_few_the_oldest_goes() {
        let mut table = OwnedTable::new(KeyedState::new(7, 9), 1);
        for n in [5, 3, 8] {
            table.insert(n, ip(1, 1), n);
        }
        let victim = table.victim(|&n| Some(Merit { is_confirmed: false, since: at(n) })).unwrap();
        assert_eq!(table.key(victim), Some(3));
    }
}
