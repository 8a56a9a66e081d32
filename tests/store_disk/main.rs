//! The store on disks that are slow, full, failing, damaged or cut off.

mod damage;
mod dump;
mod everyday;
#[path = "../harness/mod.rs"]
mod harness;
mod measure;
mod trouble;

use harness::directory::Directory;
use harness::random::Random;
use harness::sim_disk;
use harness::store::{by_key, clock, delete, eventually, full_house, number, open, open_sim, put, wait};
