//! The head of a request, whole and in pieces.

#![no_main]

use lanrage::wire::http::MAX_BODY;
use lanrage::wire::http_head::{Head, HeadScan, MAX_HEAD};
use lanrage::wire::percent;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let at_once = HeadScan::default().end(bytes);
    let mut scan = HeadScan::default();
    let mut by_pieces = Ok(None);
    for length in (0..=bytes.len()).filter(|length| length % 7 == 0 || *length == bytes.len()) {
        by_pieces = scan.end(&bytes[..length]);
        if !matches!(by_pieces, Ok(None)) {
            break;
        }
    }
    match (&at_once, by_pieces) {
        (Ok(Some(whole)), Ok(Some(length))) => assert_eq!(*whole, length),
        // A line that does not begin as HTTP is refused as soon as it does, unless the rest came with it; the head
        // is refused then.
        (Ok(Some(whole)), Err(_)) => assert!(Head::parse(&bytes[..*whole]).is_err()),
        (Ok(None), found) => assert!(!matches!(found, Ok(Some(_)))),
        _ => (),
    }
    let end = at_once.ok().flatten().unwrap_or(bytes.len());
    if let Ok(head) = Head::parse(&bytes[..end]) {
        assert!(end <= MAX_HEAD && head.content_length <= MAX_BODY);
        let _ = percent::decode(&head.path);
        let _ = percent::query(&head.query);
        let _ = head.upgrade.accept();
    }
});
