//! An entry of the cluster's log, and a digest of what a follower has heard: whatever they say.

#![no_main]

#[allow(dead_code, reason = "shared with the relay's target")]
mod house;

use lanrage::cluster::{digest, entry};
use lanrage::control::Control;
use lanrage::control::record::Records;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let now = house::start();
    let new = || Control::new(Default::default(), house::key(house::HUB), Records::default(), now);
    if let Some(heard) = digest::read(bytes) {
        assert_eq!(digest::read(digest::write(&heard).as_bytes()).as_ref(), Some(&heard));
        new().hear(&heard, now);
    }
    let Some(commit) = entry::read(bytes) else { return };
    let changes = commit.changes.clone();
    let again = entry::write(std::iter::empty(), &changes);
    assert_eq!(entry::read(again.as_bytes()).map(|commit| commit.changes), Some(changes));
    // Whether it fits or not, it can be taken over, twice, and gone on with.
    let mut control = new();
    control.follow(now);
    let _ = control.adopt(commit, now);
    if let Some(commit) = entry::read(bytes) {
        let _ = control.adopt(commit, now);
    }
    control.drain_changes();
    control.lead(now);
    control.sweep(now);
});
