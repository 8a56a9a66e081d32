//! lanrage: LAN parties over the internet, for routers and single-board computers.
//!
//! The house has floors and imports point down only (`tests/layering.rs` holds the list). Up to floor 3
//! everything is sans-IO: bytes, requests and `now` go in, verdicts and changes come out.

pub mod few;
pub mod ids;
pub mod time;

pub mod crypto;
pub mod datagram;
pub mod dense_map;
pub mod durability;
pub mod figures;
pub mod keyed_hash;
pub mod owners;
pub mod slots;
pub mod sorted;
pub mod subnet;
pub mod token_bucket;
pub mod wire;

pub mod control;
pub mod wireguard;

pub mod agent;
pub mod api;
pub mod cluster;
pub mod relay;

pub mod sys;

pub mod net;
pub mod store;
pub mod tun;

pub mod daemon;
