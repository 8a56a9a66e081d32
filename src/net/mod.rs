//! Floor 5: the only sockets.
