//! The store in processes that are killed. By itself, since a child holds its parent's locks for a moment,
//! between fork and exec, and other tests would find their files in use.

mod crash;
mod full_tmpfs;
#[path = "../store_disk/sim_disk.rs"]
#[allow(dead_code, reason = "shared with tests/store_disk")]
mod sim_disk;
#[path = "../store_disk/workbench.rs"]
#[allow(dead_code, reason = "shared with tests/store_disk")]
mod workbench;

use workbench::{Directory, Random, by_key, delete, eventually, number, open, put, wait};
