//! A life of the control API, as tests/requests lives it.

#![no_main]

#[path = "../../requests/input.rs"]
mod input;
#[path = "../../requests/life.rs"]
mod life;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    life::live(bytes);
});
