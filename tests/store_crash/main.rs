//! The store in processes that are killed. By itself, since a child holds its parent's locks for a moment,
//! between fork and exec, and other tests would find their files in use.

mod crash;
mod full_tmpfs;
#[path = "../harness/mod.rs"]
mod harness;

use harness::directory::Directory;
use harness::random::Random;
use harness::store::{by_key, delete, eventually, number, open, put, wait};
