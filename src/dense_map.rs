//! Floor 1: a map for what there are thousands of. A `HashMap` has room for up to twice as many entries as it holds,
//! and all of it is touched; here only numbers of 4 bytes lie apart, and the entries in a row. And it grows page by page
//! (linear hashing): a `HashMap` with a million entries stands still for a tenth of a second when it has to grow.

use crate::keyed_hash::KeyedState;
use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};

/// No entry's number.
const EMPTY: u32 = u32::MAX;
/// The fewest buckets of a page that is not empty; their count is a power of two.
const MIN_PLACES: usize = 8;
/// With more entries for each page, there is one more.
const PER_PAGE: usize = 640;

/// Entries by key, in no order.
#[derive(Debug)]
pub struct DenseMap<K, V> {
    entries: Vec<(K, V)>,
    /// Which one an entry is in, its hash says.
    pages: Vec<Page>,
    hasher: KeyedState,
}

/// Numbers of entries, each in the bucket that its key's hash says or behind it (linear probing). A quarter is empty at
/// least.
#[derive(Default, Debug)]
struct Page {
    buckets: Vec<u32>,
    len: usize,
}

impl Page {
    /// With room for so many.
    fn with_room(count: usize) -> Self {
        Page { buckets: vec![EMPTY; Self::wanted(count)], len: 0 }
    }

    /// How many buckets it takes for so many.
    fn wanted(count: usize) -> usize {
        (count * 4).div_ceil(3).next_power_of_two().max(MIN_PLACES)
    }

    /// All numbers.
    fn numbers(&self) -> impl Iterator<Item = u32> {
        self.buckets.iter().copied().filter(|number| *number != EMPTY)
    }

    /// Puts a number in the first bucket that is empty.
    fn occupy(&mut self, hash: u64, number: u32) {
        let mut bucket = self.ideal(hash);
        while self.buckets[bucket] != EMPTY {
            bucket = self.behind(bucket);
        }
        self.buckets[bucket] = number;
        self.len += 1;
    }

    /// The first bucket for a key with this hash. The lower half of it says the page.
    fn ideal(&self, hash: u64) -> usize {
        (hash >> 32) as usize & (self.buckets.len() - 1)
    }

    fn behind(&self, bucket: usize) -> usize {
        (bucket + 1) & (self.buckets.len() - 1)
    }
}

/// An empty one needs no memory yet.
impl<K, V> Default for DenseMap<K, V> {
    fn default() -> Self {
        Self::with_hasher(KeyedState::random())
    }
}

impl<K, V> DenseMap<K, V> {
    /// An empty one.
    pub fn with_hasher(hasher: KeyedState) -> Self {
        DenseMap { entries: Vec::new(), pages: Vec::new(), hasher }
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
        let all = self.entries.len() + count;
        let pages = all.div_ceil(PER_PAGE);
        if pages < self.pages.len() {
            return;
        }
        // Not both at a time.
        self.pages = Vec::new();
        let half = pages.next_power_of_two().div_ceil(2);
        let share = |page: usize| match page < pages - half || page >= half {
            true => all / half / 2,
            false => all / half,
        };
        // It is no more than chance that all have their share.
        self.pages.extend((0..pages).map(|page| Page::with_room(share(page) + share(page) / 4)));
        (0..self.entries.len()).for_each(|number| self.occupy(number));
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

    /// The entry of this number.
    pub fn at(&self, number: usize) -> Option<(&K, &V)> {
        self.entries.get(number).map(|(key, value)| (key, value))
    }

    /// The entry of this number.
    pub fn at_mut(&mut self, number: usize) -> Option<(&K, &mut V)> {
        self.entries.get_mut(number).map(|(key, value)| (&*key, value))
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
                self.add(key, value);
                None
            }
        }
    }

    /// The value with this key, which `make` gives if there is none.
    pub fn get_or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        let hash = self.hash(&key);
        let number = self.number_by(hash, &key).unwrap_or_else(|| self.add(key, make()));
        &mut self.entries[number].1
    }

    /// Removes the entry with this key.
    pub fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let number = self.number(key)?;
        let (page, bucket) = self.bucket_of(number);
        self.vacate(page, bucket);
        // The last one takes its number.
        let last = self.entries.len() - 1;
        if number != last {
            let (page, bucket) = self.bucket_of(last);
            self.pages[page].buckets[bucket] = number as u32;
        }
        Some(self.entries.swap_remove(number).1)
    }

    /// The number of the entry with this key. Numbers go from 0 up to how many entries there are; when one is removed,
    /// the last one takes its number.
    pub fn number<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<usize>
    where
        K: Borrow<Q>,
    {
        self.number_by(self.hash(key), key)
    }

    fn number_by<Q: Eq + ?Sized>(&self, hash: u64, key: &Q) -> Option<usize>
    where
        K: Borrow<Q>,
    {
        let page = self.pages.get(self.page(hash)).filter(|page| page.len > 0)?;
        let mut bucket = page.ideal(hash);
        while page.buckets[bucket] != EMPTY {
            let number = page.buckets[bucket] as usize;
            if self.entries[number].0.borrow() == key {
                return Some(number);
            }
            bucket = page.behind(bucket);
        }
        None
    }

    /// Adds an entry whose key is free. Gives its number.
    fn add(&mut self, key: K, value: V) -> usize {
        let number = self.entries.len();
        assert!(number < EMPTY as usize, "numbers of entries have 32 bits");
        if number >= self.pages.len() * PER_PAGE {
            self.add_page();
        }
        self.entries.push((key, value));
        self.occupy(number);
        number
    }

    /// Adds a page, and moves there what belongs there: half of one of the others.
    fn add_page(&mut self) {
        let new = self.pages.len();
        self.pages.push(Page::default());
        if new > 0 {
            let from = new - (new + 1).next_power_of_two() / 2;
            let half = self.pages[from].len / 2;
            self.pages[new] = Page::with_room(half + half / 4);
            let old = std::mem::replace(&mut self.pages[from], Page::with_room(half + half / 4));
            old.numbers().for_each(|number| self.occupy(number as usize));
        }
    }

    /// The page of keys with this hash. Those that are not split yet have twice as many.
    fn page(&self, hash: u64) -> usize {
        let mask = self.pages.len().next_power_of_two() - 1;
        let page = hash as u32 as usize & mask;
        if page < self.pages.len() { page } else { page & mask >> 1 }
    }

    /// Puts the number of an entry into its page, which grows if need be.
    fn occupy(&mut self, number: usize) {
        let hash = self.hash(&self.entries[number].0);
        let page = self.page(hash);
        let wanted = self.pages[page].len + 1;
        if Page::wanted(wanted) > self.pages[page].buckets.len() {
            let mut larger = Page::with_room(wanted);
            for number in self.pages[page].numbers() {
                larger.occupy(self.hash(&self.entries[number as usize].0), number);
            }
            self.pages[page] = larger;
        }
        self.pages[page].occupy(hash, number as u32);
    }

    /// Empties a bucket, and moves up what would not be found behind an empty one.
    fn vacate(&mut self, page: usize, mut empty: usize) {
        let (entries, hasher, page) = (&self.entries, &self.hasher, &mut self.pages[page]);
        let mask = page.buckets.len() - 1;
        let mut bucket = page.behind(empty);
        while page.buckets[bucket] != EMPTY {
            let ideal = page.ideal(hasher.hash_one(&entries[page.buckets[bucket] as usize].0));
            if bucket.wrapping_sub(ideal) & mask >= bucket.wrapping_sub(empty) & mask {
                page.buckets[empty] = page.buckets[bucket];
                empty = bucket;
            }
            bucket = page.behind(bucket);
        }
        page.buckets[empty] = EMPTY;
        page.len -= 1;
    }

    /// Where the number of an entry is: the page, and the bucket.
    fn bucket_of(&self, number: usize) -> (usize, usize) {
        let hash = self.hash(&self.entries[number].0);
        let at = self.page(hash);
        let page = &self.pages[at];
        let mut bucket = page.ideal(hash);
        while page.buckets[bucket] != number as u32 {
            bucket = page.behind(bucket);
        }
        (at, bucket)
    }

    fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> u64 {
        self.hasher.hash_one(key)
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
        for range in [6, 60, 600, 6000] {
            let (mut map, mut model) = (DenseMap::default(), BTreeMap::new());
            for step in 0..4000.max(3 * range as u32) {
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
                let number = map.number(looked_up.as_str());
                assert_eq!(number.and_then(|number| map.at(number)), known);
                assert!(
                    map.at_mut(map.len()).is_none() && map.at_mut(map.len() / 2).is_some() != map.is_empty()
                );
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
        for count in [1, 600, 1000, 5000, 40_000] {
            let mut map = DenseMap::default();
            assert_eq!(map.remove(&1), None);
            map.reserve(count);
            let places = |map: &DenseMap<usize, ()>| -> Vec<usize> {
                map.pages.iter().map(|page| page.buckets.len()).collect()
            };
            let before = places(&map);
            for number in 0..count {
                map.insert(number, ());
            }
            assert_eq!((places(&map), map.entries.capacity()), (before.clone(), count));
            assert!(before.iter().sum::<usize>() <= 4 * count.max(2), "{count}: {before:?}");
            // What was there is found after making room for more.
            map.reserve(count);
            assert!((0..count).all(|number| map.get(&number).is_some()));
        }
    }

    #[test]
    fn a_large_map_grows_by_a_page_at_a_time() {
        let mut map = DenseMap::default();
        let (mut places, mut pages) = (0, 0);
        for number in 0..100_000 {
            map.insert(number, ());
            // What one insertion has moved, at most: what it took anew was moved there.
            let now: usize = map.pages.iter().map(|page| page.buckets.len()).sum();
            assert!(now.abs_diff(places) <= 4 * PER_PAGE && map.pages.len() - pages <= 1, "{number}");
            (places, pages) = (now, map.pages.len());
        }
        let largest = map.pages.iter().map(|page| page.len).max();
        assert!(
            places <= 3 * 100_000 && largest.is_some_and(|len| len < 3 * PER_PAGE),
            "{places} {largest:?}"
        );
    }
}
