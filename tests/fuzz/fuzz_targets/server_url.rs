//! Addresses of servers, as people or links say them. One that is understood can't become another request.

#![no_main]

use lanrage::wire::server_url::ServerUrl;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let Ok(url) = ServerUrl::parse(text) else { return };
    let shown = url.to_string();
    assert!(shown.bytes().all(|byte| byte.is_ascii_graphic()), "{shown:?}");
    assert_eq!(ServerUrl::parse(&shown), Ok(url));
});
