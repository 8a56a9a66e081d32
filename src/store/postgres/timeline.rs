//! Which of two primaries came later.

/// PostgreSQL begins a new timeline with each promotion of a standby ("Continuous Archiving" in its manual). All copies of
/// a database bear the same identifier.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Timeline {
    system: i64,
    number: u32,
}

impl Timeline {
    /// By the identifier of the database and the name of a file of its log, whose first eight digits are the timeline's.
    pub fn new(system: i64, file: &str) -> Option<Self> {
        let number = u32::from_str_radix(file.get(..8)?, 16).ok()?;
        Some(Timeline { system, number })
    }

    /// Whether both are of copies of one database, and this one was left for the other.
    pub fn was_left_for(self, other: Self) -> bool {
        self.system == other.system && self.number < other.number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promotion_begins_a_new_timeline_of_the_same_database() {
        let [old, new] = ["00000001000000000000000A", "000000100000000000000001"]
            .map(|file| Timeline::new(7, file).unwrap());
        assert!(old.was_left_for(new) && !new.was_left_for(old) && !old.was_left_for(old));
        // Another database with the same name, made from a backup, begins anew.
        assert!(!Timeline::new(8, "000000010000000000000001").unwrap().was_left_for(new));
        for bad in ["", "0000001", "x0000001000000000000000A"] {
            assert_eq!(Timeline::new(7, bad), None, "{bad}");
        }
    }
}
