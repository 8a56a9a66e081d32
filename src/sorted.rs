//! Floor 0: a map for dozens of entries, or some hundreds, in the order of their keys. It is one piece of memory, and takes a
//! fifth of the code that a tree takes for each kind of entry, of which there are many.

use std::borrow::Borrow;
use std::iter::Map;
use std::ops::{Bound, Index};
use std::slice::Iter;

/// SortedEntries by key. Putting one in or taking one out moves those behind it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SortedMap<K, V>(Vec<(K, V)>);

/// SortedEntries of a map in order.
pub type SortedEntries<'a, K, V> = Map<Iter<'a, (K, V)>, fn(&'a (K, V)) -> (&'a K, &'a V)>;

impl<K, V> Default for SortedMap<K, V> {
    fn default() -> Self {
        SortedMap::new()
    }
}

impl<K, V> SortedMap<K, V> {
    /// An empty one, which needs no memory.
    pub const fn new() -> Self {
        SortedMap(Vec::new())
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All entries.
    pub fn iter(&self) -> SortedEntries<'_, K, V> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// All entries, whose values may change.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        self.0.iter_mut().map(|(key, value)| (&*key, value))
    }

    /// All keys.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &K> + DoubleEndedIterator + Clone {
        self.0.iter().map(|(key, _)| key)
    }

    /// All values, in the order of their keys.
    pub fn values(&self) -> impl ExactSizeIterator<Item = &V> + DoubleEndedIterator + Clone {
        self.0.iter().map(|(_, value)| value)
    }

    /// All values, which may change.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.0.iter_mut().map(|(_, value)| value)
    }

    /// Takes out those that are not to stay.
    pub fn retain(&mut self, mut stays: impl FnMut(&K, &mut V) -> bool) {
        self.0.retain_mut(|(key, value)| stays(key, value));
    }
}

impl<K: Ord, V> SortedMap<K, V> {
    fn find<Q: Ord + ?Sized>(&self, key: &Q) -> Result<usize, usize>
    where
        K: Borrow<Q>,
    {
        self.0.binary_search_by(|(known, _)| known.borrow().cmp(key))
    }

    /// What is there under this key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.get_key_value(key).map(|(_, value)| value)
    }

    /// What is there under this key, and may change.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let index = self.find(key).ok()?;
        Some(&mut self.0[index].1)
    }

    /// The entry with this key.
    pub fn get_key_value<Q: Ord + ?Sized>(&self, key: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
    {
        let (key, value) = &self.0[self.find(key).ok()?];
        Some((key, value))
    }

    /// Whether there is an entry with this key.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.find(key).is_ok()
    }

    /// Puts an entry in, and gives the value that was there.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.find(&key) {
            Ok(index) => Some(std::mem::replace(&mut self.0[index].1, value)),
            Err(index) => {
                self.0.insert(index, (key, value));
                None
            }
        }
    }

    /// Takes an entry out, and gives its value.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let index = self.find(key).ok()?;
        Some(self.0.remove(index).1)
    }

    /// What is there under this key, or else the default, which is there then.
    pub fn or_default(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        let index = match self.find(&key) {
            Ok(index) => index,
            Err(index) => {
                self.0.insert(index, (key, V::default()));
                index
            }
        };
        &mut self.0[index].1
    }

    /// The entries from a key on.
    pub fn range_from(&self, start: Bound<&K>) -> impl Iterator<Item = (&K, &V)> {
        let index = self.0.partition_point(|(key, _)| match start {
            Bound::Included(start) => key < start,
            Bound::Excluded(start) => key <= start,
            Bound::Unbounded => false,
        });
        self.0[index..].iter().map(|(key, value)| (key, value))
    }
}

impl<K, V> IntoIterator for SortedMap<K, V> {
    type Item = (K, V);
    type IntoIter = std::vec::IntoIter<(K, V)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a, K, V> IntoIterator for &'a SortedMap<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = SortedEntries<'a, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<K: Ord + Borrow<Q>, V, Q: Ord + ?Sized> Index<&Q> for SortedMap<K, V> {
    type Output = V;

    fn index(&self, key: &Q) -> &V {
        self.get(key).expect("an entry with this key")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn it_does_what_a_tree_does() {
        let (mut map, mut tree) = (SortedMap::new(), BTreeMap::new());
        let mut number = 1u32;
        for step in 0..2000 {
            number = number.wrapping_mul(0x915f_77f5).wrapping_add(1);
            let key = ((number >> 16) % 40).to_string();
            match number >> 29 {
                0 | 1 => assert_eq!(map.remove(&*key), tree.remove(&*key)),
                2 => assert_eq!(map.or_default(key.clone()), tree.entry(key).or_default()),
                3 => assert_eq!(map.get_mut(&*key), tree.get_mut(&*key)),
                4 => {
                    map.retain(|other, _| *other != key);
                    tree.retain(|other, _| *other != key);
                }
                _ => assert_eq!(map.insert(key.clone(), step), tree.insert(key, step)),
            }
            assert!(map.iter().eq(&tree) && (&map).into_iter().eq(&tree));
            assert!(map.keys().eq(tree.keys()) && map.values().eq(tree.values()));
            assert!(map.values_mut().eq(tree.values_mut()) && map.iter_mut().eq(tree.iter_mut()));
            assert_eq!((map.len(), map.is_empty()), (tree.len(), tree.is_empty()));
            let key = (step % 40).to_string();
            assert_eq!(
                (map.get(&*key), map.contains_key(&*key)),
                (tree.get(&*key), tree.contains_key(&*key))
            );
            assert_eq!(map.get_key_value(&*key), tree.get_key_value(&*key));
            for start in [Bound::Included(&key), Bound::Excluded(&key), Bound::Unbounded] {
                assert!(map.range_from(start).eq(tree.range::<String, _>((start, Bound::Unbounded))));
            }
        }
        assert!(map.into_iter().eq(tree));
    }
}
