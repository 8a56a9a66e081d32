//! The head of a request and a body in chunks, whole and in pieces.

#![no_main]

use lanrage::wire::chunked::Chunked;
use lanrage::wire::http::{MAX_BODY, RejectedRequest};
use lanrage::wire::http_head::{HeadScan, MAX_HEAD, RequestHead};
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
        (Ok(Some(whole)), Err(_)) => assert!(RequestHead::parse(&bytes[..*whole]).is_err()),
        (Ok(None), found) => assert!(!matches!(found, Ok(Some(_)))),
        _ => (),
    }
    let end = at_once.ok().flatten().unwrap_or(bytes.len());
    if let Ok(head) = RequestHead::parse(&bytes[..end]) {
        assert!(end <= MAX_HEAD && head.content_length <= MAX_BODY);
        assert!(!head.chunked || head.content_length == 0);
        check_chunks(bytes.get(end..).unwrap_or_default());
        let _ = percent::decode(&head.path);
        let _ = percent::query(&head.query);
        let _ = head.upgrade.accept();
    }
});

/// What is read does not depend on the pieces in which it comes, and stays within its bound.
fn check_chunks(bytes: &[u8]) {
    let whole = decode(bytes, bytes.len().max(1));
    assert_eq!(whole, decode(bytes, 3));
    if let Ok((body, taken)) = whole {
        assert!(body.len() <= MAX_BODY && taken <= bytes.len());
    }
}

fn decode(bytes: &[u8], step: usize) -> Result<(Vec<u8>, usize), RejectedRequest> {
    let mut chunked = Chunked::default();
    let mut taken = 0;
    for piece in bytes.chunks(step) {
        taken += chunked.take(piece)?;
        if chunked.is_done() {
            break;
        }
    }
    Ok((chunked.into_body(), taken))
}
