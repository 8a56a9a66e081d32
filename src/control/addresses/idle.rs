//! The names that may be forgotten, as a heap: the one that goes first is on top. It costs 4 bytes for each of them, and
//! a change takes as many steps as their number has binary digits.

use super::AddressLease;
use crate::dense_map::DenseMap;
use std::rc::Rc;

/// What is known of each name.
pub(super) type Names = DenseMap<Rc<str>, AddressLease>;

/// The place of a name that is not in the heap.
pub(super) const OUT: u32 = u32::MAX;

/// Numbers of names. None goes before the one at half its place. Each name knows its place.
#[derive(Debug, Default)]
pub(super) struct IdleNames {
    heap: Vec<u32>,
    /// How often two were compared.
    #[cfg(test)]
    pub(super) steps: usize,
}

impl IdleNames {
    /// The number of the name that goes first.
    pub(super) fn first(&self) -> Option<usize> {
        self.heap.first().map(|number| *number as usize)
    }

    /// Takes in how the name of this number is now, and whether it may be forgotten.
    pub(super) fn settle(&mut self, names: &mut Names, number: usize, is_idle: bool) {
        let Some((_, entry)) = names.at_mut(number) else { return };
        let place = entry.place as usize;
        match (is_idle, entry.place == OUT) {
            (true, true) => {
                self.heap.push(number as u32);
                self.sift(names, self.heap.len() - 1);
            }
            (true, false) => self.sift(names, place),
            (false, true) => {}
            (false, false) => {
                entry.place = OUT;
                self.heap.swap_remove(place);
                if place < self.heap.len() {
                    self.sift(names, place);
                }
            }
        }
    }

    /// The name in this place has another number.
    pub(super) fn renumber(&mut self, place: u32, number: usize) {
        if let Some(known) = self.heap.get_mut(place as usize) {
            *known = number as u32;
        }
    }

    /// Moves what is in a place to where it belongs.
    fn sift(&mut self, names: &mut Names, mut place: usize) {
        let number = self.heap[place];
        while place > 0 && self.goes_before(names, number, self.heap[(place - 1) / 2]) {
            self.put(names, place, self.heap[(place - 1) / 2]);
            place = (place - 1) / 2;
        }
        loop {
            let mut child = 2 * place + 1;
            let (left, right) = (self.heap.get(child).copied(), self.heap.get(child + 1).copied());
            let Some(left) = left else { break };
            if right.is_some_and(|right| self.goes_before(names, right, left)) {
                child += 1;
            }
            if !self.goes_before(names, self.heap[child], number) {
                break;
            }
            self.put(names, place, self.heap[child]);
            place = child;
        }
        self.put(names, place, number);
    }

    fn put(&mut self, names: &mut Names, place: usize, number: u32) {
        self.heap[place] = number;
        if let Some((_, entry)) = names.at_mut(number as usize) {
            entry.place = place as u32;
        }
    }

    fn goes_before(&mut self, names: &Names, one: u32, other: u32) -> bool {
        #[cfg(test)]
        {
            self.steps += 1;
        }
        let rank = |number: u32| names.at(number as usize).map(|(_, entry)| entry.rank());
        rank(one) < rank(other)
    }
}
