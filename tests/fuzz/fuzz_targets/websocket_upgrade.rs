//! The head of a request for a WebSocket, with whatever the fuzzer says in each of its headers.

#![no_main]

use lanrage::wire::http_head::RequestHead;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut values = bytes.split(|&byte| byte == b'\n');
    let mut head = b"GET /ws HTTP/1.1\r\nHost: h\r\n".to_vec();
    for name in ["Upgrade", "Connection", "Sec-WebSocket-Version", "Sec-WebSocket-Key", "Upgrade"] {
        let Some(value) = values.next() else { break };
        head.extend_from_slice(name.as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value);
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    let Ok(head) = RequestHead::parse(&head) else { return };
    if let Ok(accept) = head.upgrade.accept() {
        assert!(head.upgrade.asked && head.upgrade.version_13 && accept.len() == 28);
    }
});
