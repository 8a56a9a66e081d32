//! Floor 2: WireGuard (the paper, sections 5 and 6), sans-IO and in place.
