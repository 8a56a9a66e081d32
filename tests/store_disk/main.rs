//! The store on disks that are slow, full, failing, damaged or cut off.

mod damage;
mod dump;
mod everyday;
mod measure;
mod sim_disk;
mod trouble;
mod workbench;

use workbench::{
    Directory, Random, by_key, clock, delete, eventually, full_house, number, open, open_sim, put, wait,
};
