//! Floor 1: the cryptographic primitives, each behind one file.
