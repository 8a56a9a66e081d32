//! Floor 3: several instances over one database, as one of them sees it.
//!
//! A *realm* is one control state behind one URL. Of its instances one writes, and the others follow. Who writes is
//! settled by a *lease* in the database, which lasts three seconds of the database's clock and is renewed by every
//! commit. Each taking of the lease gives it a new *epoch*, and each commit a new *seq*: a commit says which position
//! it follows, so that of two that think they write only one gets through.

pub mod digest;
pub mod entry;
pub mod exchange;
pub mod follower;
pub mod lease;
pub mod seen;
