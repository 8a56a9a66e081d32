//! Floor 2: WireGuard (the paper, sections 5 and 6), sans-IO and in place.
//!
//! [`device::Device`] is the door: datagrams and `now` go in, verdicts come out, and it says when it wants
//! to be called again. The other files each hold one part of the protocol; `message`, `cookie::Mac1Key`
//! and `allowed_ips` are of use without a device too.

pub mod allowed_ips;
pub mod budget;
pub mod constants;
pub mod cookie;
pub mod device;
pub mod inner_packet;
pub mod keypair;
pub mod message;
pub mod noise;
pub mod peer;
pub mod replay;
pub mod timestamp;
pub mod verdict;

mod gate;
mod index_table;
mod outbox;
mod peer_table;
mod schedule;
mod sessions;
mod timers;
