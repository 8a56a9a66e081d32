//! STUN: what is answered is answered shortly, and can be read.

#![no_main]

use lanrage::wire::stun::{BindingRequest, MAX_ANSWER_LENGTH, is_stun, mapped_address};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for source in ["192.0.2.1:5", "[2001:db8::1]:65535"] {
        let source = source.parse().expect("an address");
        let Some(request) = BindingRequest::parse(bytes) else { continue };
        assert!(is_stun(bytes));
        let mut answer = [0; MAX_ANSWER_LENGTH];
        let length = request.answer(source, &mut answer);
        assert!(length <= bytes.len() + 44, "{length} for {}", bytes.len());
        let transaction = bytes[8..20].try_into().expect("12 bytes");
        if answer[..2] == [1, 1] && bytes[4..8] == [0x21, 0x12, 0xa4, 0x42] {
            assert_eq!(mapped_address(&answer[..length], transaction), Some(source));
        }
    }
    let _ = mapped_address(bytes, &[7; 12]);
});
