//! Floor 1: a map for what there are thousands of. A `HashMap` has room for up to twice as many entries as it holds,
//! and all of it is touched; here only numbers of 4 bytes lie apart, and the entries in a row.

use crate::keyed_hash::KeyedState;
use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};

/// No entry's number.
const EMPTY: u32 = u32::MAX;
/// The fewest places of a map that is not empty; their count is a power of two.
const MIN_PLACES: usize = 8;

/// Entries by key, in no order.
#[derive(Debug)]
pub struct DenseMap<K, V> {
    entries: Vec<(K, V)>,
    /// Numbers of entries, each at the place that its key's hash says or behind it (linear probing). A quarter is
    /// empty at least.
    places: Vec<u32>,
    hasher: KeyedState,
}

/// An empty one needs no memory yet.
impl<K, V> Default for DenseMap<K, V> {
    fn default() -> Self {
        DenseMap { entries: Vec::new(), places: Vec::new(), hasher: KeyedState::random() }
    }
}

impl<K: Eq + Hash, V> DenseMap<K, V> {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Every entry.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter().map(|(key, value)| (key, value))
    }

    /// Every value.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.entries.iter().map(|(_, value)| value)
    }

    /// Every value.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.entries.iter_mut().map(|(_, value)| value)
    }

    /// Makes room for `count` entries more, and not for twice as many.
    pub fn reserve(&mut self, count: usize) {
        self.entries.reserve_exact(count);
        self.make_places(self.entries.len() + count);
    }

    /// The entry with this key.
    pub fn get_key_value<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
    {
        let (key, value) = &self.entries[self.number(key)?];
        Some((key, value))
    }

    /// The value with this key.
    pub fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.get_key_value(key).map(|(_, value)| value)
    }

    /// The entry with this key.
    pub fn get_key_value_mut<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<(&K, &mut V)>
    where
        K: Borrow<Q>,
    {
        let number = self.number(key)?;
        let (key, value) = &mut self.entries[number];
        Some((key, value))
    }

    /// The value with this key.
    pub fn get_mut<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.get_key_value_mut(key).map(|(_, value)| value)
    }

    /// Whether there is an entry with this key.
    pub fn contains_key<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.number(key).is_some()
    }

    /// Adds an entry. If there was one with this key, gives its value.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let hash = self.hash(&key);
        match self.number_by(hash, &key) {
            Some(number) => Some(std::mem::replace(&mut self.entries[number].1, value)),
            None => {
                self.add(hash, key, value);
                None
            }
        }
    }

    /// The value with this key, which `make` gives if there is none.
    pub fn get_or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        let hash = self.hash(&key);
        let number = self.number_by(hash, &key).unwrap_or_else(|| self.add(hash, key, make()));
        &mut self.entries[number].1
    }

    /// Removes the entry with this key.
    pub fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let number = self.number(key)?;
        self.vacate(self.place_of(number));
        // The last one takes its number.
        let last = self.entries.len() - 1;
        if number != last {
            let place = self.place_of(last);
            self.places[place] = number as u32;
        }
        Some(self.entries.swap_remove(number).1)
    }

    /// The number of the entry with this key.
    fn number<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<usize>
    where
        K: Borrow<Q>,
    {
        self.number_by(self.hash(key), key)
    }

    fn number_by<Q: Eq + ?Sized>(&self, hash: usize, key: &Q) -> Option<usize>
    where
        K: Borrow<Q>,
    {
        if self.places.is_empty() {
            return None;
        }
        let mut place = self.home(hash);
        while self.places[place] != EMPTY {
            let number = self.places[place] as usize;
            if self.entries[number].0.borrow() == key {
                return Some(number);
            }
            place = self.behind(place);
        }
        None
    }

    /// Adds an entry whose key is free. Gives its number.
    fn add(&mut self, hash: usize, key: K, value: V) -> usize {
        self.make_places(self.entries.len() + 1);
        let number = self.entries.len();
        assert!(number < EMPTY as usize, "numbers of entries have 32 bits");
        self.take_place(hash, number);
        self.entries.push((key, value));
        number
    }

    /// Has places for `count` entries.
    fn make_places(&mut self, count: usize) {
        let wanted = (count * 4).div_ceil(3).next_power_of_two().max(MIN_PLACES);
        if wanted <= self.places.len() {
            return;
        }
        // Not both at a time.
        self.places = Vec::new();
        self.places = vec![EMPTY; wanted];
        for number in 0..self.entries.len() {
            self.take_place(self.hash(&self.entries[number].0), number);
        }
    }

    /// Puts a number at the first place that is empty.
    fn take_place(&mut self, hash: usize, number: usize) {
        let mut place = self.home(hash);
        while self.places[place] != EMPTY {
            place = self.behind(place);
        }
        self.places[place] = number as u32;
    }

    /// Empties a place, and moves up what would not be found behind an empty one.
    fn vacate(&mut self, mut empty: usize) {
        let mask = self.places.len() - 1;
        let mut place = self.behind(empty);
        while self.places[place] != EMPTY {
            let home = self.home(self.hash(&self.entries[self.places[place] as usize].0));
            if place.wrapping_sub(home) & mask >= place.wrapping_sub(empty) & mask {
                self.places[empty] = self.places[place];
                empty = place;
            }
            place = self.behind(place);
        }
        self.places[empty] = EMPTY;
    }

    /// Where the number of an entry is.
    fn place_of(&self, number: usize) -> usize {
        let mut place = self.home(self.hash(&self.entries[number].0));
        while self.places[place] != number as u32 {
            place = self.behind(place);
        }
        place
    }

    fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> usize {
        self.hasher.hash_one(key) as usize
    }

    /// The first place for a key with this hash.
    fn home(&self, hash: usize) -> usize {
        hash & (self.places.len() - 1)
    }

    fn behind(&self, place: usize) -> usize {
        (place + 1) & (self.places.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::random::Seeded;
    use std::collections::BTreeMap;

    #[test]
    fn holds_what_a_map_holds_whatever_is_done_to_it() {
        let mut random = Seeded::new(7);
        for range in [6, 60, 600] {
            let (mut map, mut model) = (DenseMap::default(), BTreeMap::new());
            for step in 0..4000_u32 {
                let key = random.below(range).to_string();
                match random.below(8) {
                    0..4 => assert_eq!(map.insert(key.clone(), step), model.insert(key, step)),
                    4 => {
                        let known = model.entry(key.clone()).or_insert(step);
                        assert_eq!(map.get_or_insert_with(key, || step), known);
                    }
                    _ => assert_eq!(map.remove(key.as_str()), model.remove(&key)),
                }
                assert_eq!((map.len(), map.is_empty()), (model.len(), model.is_empty()));
                let looked_up = random.below(range).to_string();
                let known = model.get_key_value(&looked_up);
                assert_eq!(map.get_key_value(looked_up.as_str()), known);
                assert_eq!(map.contains_key(looked_up.as_str()), known.is_some());
            }
            let held: BTreeMap<_, _> = map.iter().map(|(key, value)| (key.clone(), *value)).collect();
            assert_eq!(held, model);
            for value in map.values_mut() {
                *value += 1;
            }
            assert!(model.iter().all(|(key, value)| map.get(key) == Some(&(value + 1))));
        }
    }

    #[test]
    fn is_correct_when_every_key_has_the_same_hash() {
        /// A number whose hash says nothing of it.
        #[derive(PartialEq, Eq, Debug)]
        struct Alike(u32);
        impl Hash for Alike {
            fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
        }
        let mut map = DenseMap::default();
        for number in 0..100 {
            map.insert(Alike(number), number);
        }
        for number in (0..100).step_by(2) {
            assert_eq!(map.remove(&Alike(number)), Some(number));
        }
        for number in 0..100 {
            assert_eq!(map.get(&Alike(number)), (number % 2 == 1).then_some(&number));
        }
    }

    #[test]
    fn what_is_reserved_is_room_enough() {
        let mut map = DenseMap::default();
        assert_eq!(map.remove(&1), None);
        map.reserve(1000);
        let places = map.places.len();
        for number in 0..1000 {
            map.insert(number, ());
        }
        assert_eq!((map.places.len(), map.entries.capacity()), (places, 1000));
    }
}
