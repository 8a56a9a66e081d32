//! The IP packets inside of the hub's sessions.

#![no_main]

use lanrage::wire::ip::{Ipv4, checksum};
use lanrage::wireguard::inner_packet::InnerPacket;
use libfuzzer_sys::fuzz_target;
use std::net::Ipv4Addr;

fuzz_target!(|bytes: &[u8]| {
    if let Some(packet) = InnerPacket::parse(bytes) {
        assert!(packet.length <= bytes.len());
    }
    let mut copy = bytes.to_vec();
    let Some(mut packet) = Ipv4::parse(&mut copy) else { return };
    let (length, destination) = (packet.length(), packet.destination());
    let header = usize::from(bytes[0] & 15) * 4;
    let was_right = checksum(&bytes[..header]) == 0;
    assert!(length <= bytes.len());
    let new = Ipv4Addr::new(10, 66, 0, 9);
    packet.set_destination(new);
    assert_eq!(packet.destination(), new);
    packet.set_destination(destination);
    let answered = packet.answer_echo();
    assert_eq!(&copy[length..], &bytes[length..]);
    if was_right && !answered {
        assert_eq!(checksum(&copy[..header]), 0);
    }
});
