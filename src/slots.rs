//! Floor 1: a table whose entries have a place and a generation, so that a handle never means two of them.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;

/// Names an entry of a [`Slots<T>`]; never given to another entry, also after this one is gone. 8 bytes.
pub struct Handle<T> {
    slot: u32,
    generation: u32,
    names: PhantomData<fn() -> T>,
}

impl<T> Handle<T> {
    fn new(slot: u32, generation: u32) -> Self {
        Handle { slot, generation, names: PhantomData }
    }

    /// The entry's place: another entry's, once this one is gone.
    pub fn slot(self) -> u32 {
        self.slot
    }
}

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Handle<T> {}

impl<T> PartialEq for Handle<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.slot, self.generation) == (other.slot, other.generation)
    }
}

impl<T> Eq for Handle<T> {}

impl<T> PartialOrd for Handle<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Handle<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.slot, self.generation).cmp(&(other.slot, other.generation))
    }
}

impl<T> Hash for Handle<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(u64::from(self.generation) << 32 | u64::from(self.slot));
    }
}

impl<T> fmt::Debug for Handle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot, self.generation)
    }
}

struct Slot<T> {
    generation: u32,
    entry: Option<Box<T>>,
}

/// The entries, each in memory of its own. A slot is used again, with a new generation, when its entry is gone.
pub struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    len: usize,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Slots { slots: Vec::new(), free: Vec::new(), len: 0 }
    }
}

impl<T> Slots<T> {
    /// Adds the entry that `make` gives for the handle it is to have.
    pub fn insert_with(&mut self, make: impl FnOnce(Handle<T>) -> T) -> Handle<T> {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, entry: None });
            // What is removed later finds room: that may be while packets flow.
            self.free.reserve(self.slots.capacity());
            self.slots.len() as u32 - 1
        });
        let Slot { generation, entry } = &mut self.slots[slot as usize];
        let handle = Handle::new(slot, *generation);
        *entry = Some(Box::new(make(handle)));
        self.len += 1;
        handle
    }

    /// Removes an entry.
    pub fn remove(&mut self, handle: Handle<T>) -> Option<Box<T>> {
        let slot = self.slots.get_mut(handle.slot as usize)?;
        if slot.generation != handle.generation {
            return None;
        }
        let entry = slot.entry.take()?;
        self.len -= 1;
        // A slot whose generations are used up stays empty.
        if let Some(next) = slot.generation.checked_add(1) {
            slot.generation = next;
            self.free.push(handle.slot);
        }
        Some(entry)
    }

    /// The entry, if it is still there.
    pub fn get(&self, handle: Handle<T>) -> Option<&T> {
        let slot = self.slots.get(handle.slot as usize)?;
        slot.entry.as_deref().filter(|_| slot.generation == handle.generation)
    }

    /// The entry, if it is still there.
    pub fn get_mut(&mut self, handle: Handle<T>) -> Option<&mut T> {
        let slot = self.slots.get_mut(handle.slot as usize)?;
        slot.entry.as_deref_mut().filter(|_| slot.generation == handle.generation)
    }

    /// The entry in that place now.
    pub fn in_slot(&self, slot: u32) -> Option<(Handle<T>, &T)> {
        let Slot { generation, entry } = self.slots.get(slot as usize)?;
        Some((Handle::new(slot, *generation), entry.as_deref()?))
    }

    /// The entry in that place now.
    pub fn in_slot_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.slots.get_mut(slot as usize)?.entry.as_deref_mut()
    }

    /// All entries, by their places.
    pub fn iter(&self) -> impl Iterator<Item = (Handle<T>, &T)> {
        let all = self.slots.iter().zip(0..);
        all.filter_map(|(Slot { generation, entry }, slot)| {
            Some((Handle::new(slot, *generation), entry.as_deref()?))
        })
    }

    /// All entries, by their places.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Handle<T>, &mut T)> {
        let all = self.slots.iter_mut().zip(0..);
        all.filter_map(|(Slot { generation, entry }, slot)| {
            Some((Handle::new(slot, *generation), entry.as_deref_mut()?))
        })
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One more than the highest place that was ever in use.
    pub fn slot_count(&self) -> u32 {
        self.slots.len() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_never_means_another_entry() {
        let mut slots = Slots::default();
        let first = slots.insert_with(|_| "first");
        let second = slots.insert_with(|_| "second");
        assert_eq!(slots.remove(first).as_deref(), Some(&"first"));
        assert!(slots.remove(first).is_none());
        let third = slots.insert_with(|_| "third");
        assert_eq!(third.slot(), first.slot(), "the slot is used again");
        assert!(
            slots.get(first).is_none() && slots.get_mut(first).is_none() && slots.remove(first).is_none()
        );
        assert_eq!(slots.get(third), Some(&"third"));
        assert_eq!(slots.in_slot(0), Some((third, &"third")));
        assert_eq!(slots.iter().collect::<Vec<_>>(), [(third, &"third"), (second, &"second")]);
        assert_eq!((slots.len(), slots.slot_count()), (2, 2));
        assert!(slots.in_slot(9).is_none() && slots.get(Handle::new(9, 0)).is_none());
    }

    #[test]
    fn a_slot_whose_generations_are_used_up_stays_empty() {
        let mut slots = Slots::default();
        slots.insert_with(|_| 1);
        slots.slots[0].generation = u32::MAX;
        let last = Handle::new(0, u32::MAX);
        assert_eq!(slots.remove(last).as_deref(), Some(&1));
        assert_eq!(slots.insert_with(|handle| handle.slot() as i32).slot(), 1);
        assert!(slots.get(last).is_none());
        assert_eq!(slots.len(), 1);
    }
}
