//! The file of flows that one daemon leaves to the next: with a MAC that fits, whatever it says.

#![no_main]

#[allow(dead_code, reason = "shared with the relay's target")]
mod house;

use lanrage::crypto::blake2s::{mac, mac32};
use libfuzzer_sys::fuzz_target;
use std::time::Duration;

fuzz_target!(|bytes: &[u8]| {
    let mut now = house::start();
    let mut relay = house::relay(now.instant);
    let _ = relay.restore(bytes, now);
    // Its version, the time and the members' keys, so that what follows is looked at.
    let mut body = relay.snapshot(now);
    body.truncate(8 + 8 + 4 + 32 * house::MEMBERS);
    body.extend_from_slice(bytes);
    let secret = mac32(&*house::key(house::HUB).to_bytes(), &[b"lanrage relay snapshot"]);
    let tag = mac(&secret, &[&body]);
    body.extend_from_slice(&tag);
    let Ok(found) = relay.restore(&body, now) else { return };
    assert!(found.flows <= bytes.len() / 84 && found.hub_members <= house::MEMBERS);
    // It goes on with what it was given, and what it leaves behind can be taken over in turn.
    for _ in 0..30 {
        let again = relay.snapshot(now);
        assert!(house::relay(now.instant).restore(&again, now).is_ok());
        let span = Duration::from_secs(10);
        now = lanrage::time::Now { instant: now.instant + span, unix: now.unix + span };
        relay.poll(now, &mut |_, _, _: &[u8]| ());
    }
    assert_eq!(relay.flow_count(), 0, "nothing came by any of them");
});
