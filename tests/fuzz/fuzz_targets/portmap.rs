//! What a router answers that is asked to forward a port, or somebody on the way who may be anybody.

#![no_main]

use lanrage::wire::portmap::RouterAnswer;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(RouterAnswer::PcpMapped { .. }) = RouterAnswer::read(bytes) {
        assert!(bytes.len() >= lanrage::wire::portmap::MAP_LENGTH);
    }
});
