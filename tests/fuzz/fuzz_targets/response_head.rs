//! The head of a server's answer: whatever is read of it, a second reader would read the same.

#![no_main]

use lanrage::wire::http_head::MAX_HEAD;
use lanrage::wire::response_head::{BodyLength, ResponseHead};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for head in [bytes.to_vec(), [b"HTTP/1.1 200 OK\r\n", bytes, b"\r\n\r\n"].concat()] {
        let Ok(read) = ResponseHead::parse(&head) else { continue };
        assert!(head.len() <= MAX_HEAD && head.ends_with(b"\n"));
        let has = |name: &[u8]| head.windows(name.len()).any(|part| part.eq_ignore_ascii_case(name));
        match read.length {
            BodyLength::Chunked => assert!(has(b"transfer-encoding")),
            BodyLength::Bytes(1..) => assert!(has(b"content-length")),
            _ => {}
        }
    }
});
