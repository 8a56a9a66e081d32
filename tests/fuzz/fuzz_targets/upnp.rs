//! What a router says in UPnP, or somebody on the LAN who may be anybody: nobody but who described it is ever asked.

#![no_main]

use lanrage::wire::upnp;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (search, description) = bytes.split_at(bytes.len() / 2);
    let base = upnp::location(search).or_else(|| upnp::location(b"HTTP/1.1 200 OK\r\nLocation: http://192.168.1.1/\r\n"));
    let base = base.expect("the second one is good");
    assert!(base.get().is_ascii());
    if let Some(service) = upnp::service(description, &base) {
        assert_eq!(service.address().ip(), *base.address.ip());
        assert!(service.ask_address().is_ascii());
    }
    upnp::outside_address(bytes);
    upnp::fault(bytes);
});
