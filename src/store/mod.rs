//! Floor 5: the only disk, redb behind a writer thread.
