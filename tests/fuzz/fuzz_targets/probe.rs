//! What agents tell each other: in probes, and in offers that the control plane carries.

#![no_main]

use lanrage::wire::probe::{MAX_PROBE_LENGTH, Probe};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some(probe) = Probe::parse(bytes) else { return };
    let mut again = [0; MAX_PROBE_LENGTH];
    let length = probe.write(&mut again);
    assert_eq!(Probe::parse(&again[..length]), Some(probe));
});
