//! The player's side.

pub mod session;
