//! Floor 0: a list that nearly always has one item, and then needs no memory besides its own.

/// Some items in order. It is as large as a `Vec`, if its items are small.
#[derive(Clone, Debug)]
pub enum Few<T> {
    /// One.
    One([T; 1]),
    /// None, or several.
    Several(Vec<T>),
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Few::Several(Vec::new())
    }
}

impl<T> Few<T> {
    /// All of them.
    pub fn as_slice(&self) -> &[T] {
        match self {
            Few::One(item) => item,
            Few::Several(items) => items,
        }
    }

    /// Adds an item behind the first `index` ones.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn insert(&mut self, index: usize, item: T) {
        let mut items = match std::mem::take(self) {
            Few::One(first) => Vec::from(first),
            Few::Several(items) if items.is_empty() && index == 0 => {
                *self = Few::One([item]);
                return;
            }
            Few::Several(items) => items,
        };
        items.insert(index, item);
        *self = Few::Several(items);
    }

    /// Adds an item at the end.
    pub fn push(&mut self, item: T) {
        self.insert(self.as_slice().len(), item);
    }

    /// Removes the first item that is `gone`.
    pub fn remove_first(&mut self, gone: impl FnMut(&T) -> bool) {
        let Some(index) = self.as_slice().iter().position(gone) else { return };
        match std::mem::take(self) {
            Few::One(_) => {}
            Few::Several(mut items) => {
                items.remove(index);
                *self = Few::Several(items);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_a_list_of_any_length() {
        let mut few = Few::default();
        assert!(few.as_slice().is_empty());
        few.push(2);
        assert!(matches!(few, Few::One([2])));
        few.insert(0, 1);
        few.push(3);
        assert_eq!(few.as_slice(), [1, 2, 3]);
        few.remove_first(|item| *item == 2);
        few.remove_first(|item| *item == 7);
        assert_eq!(few.as_slice(), [1, 3]);
        few.remove_first(|_| true);
        few.remove_first(|_| true);
        assert!(few.as_slice().is_empty());
        few.push(4);
        few.remove_first(|item| *item == 4);
        assert!(few.as_slice().is_empty());
    }

    #[test]
    fn one_small_item_makes_it_no_larger() {
        assert_eq!(size_of::<Few<[u8; 16]>>(), size_of::<Vec<u8>>());
    }
}
