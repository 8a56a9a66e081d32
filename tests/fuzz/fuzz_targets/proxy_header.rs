//! What a connection from a trusted proxy begins with: what it says is never this machine.

#![no_main]

use lanrage::wire::proxy_header::{MAX_PROXY_HEADER, ProxyHeader, read};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // The signature takes long to guess.
    for bytes in [bytes.to_vec(), [b"\r\n\r\n\0\r\nQUIT\n", bytes].concat()] {
        if let Ok(ProxyHeader::Whole(length, source)) = read(&bytes) {
            assert!(length <= bytes.len() && length <= MAX_PROXY_HEADER);
            assert!(source.is_none_or(|source| !source.is_loopback() && !source.is_unspecified()));
        }
    }
});
