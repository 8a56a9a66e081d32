//! Packets of a member's, joined for the interface and cut again: each arrives as it was, in the order of its flow. And what
//! a kernel may say of a packet.

#![no_main]

use lanrage::wire::ip::checksum;
use lanrage::wire::offload::{Coalescer, TAILROOM, VNET_LENGTH, split};
use libfuzzer_sys::fuzz_target;

const ROOM: usize = 64;

fn cut(header: &[u8; VNET_LENGTH], packet: &[u8]) -> Vec<Vec<u8>> {
    let mut buffer = [&[0; ROOM][..], packet, &[0; TAILROOM]].concat();
    let mut all = Vec::new();
    split(header, &mut buffer, ROOM, packet.len(), &mut |buffer, length| {
        all.push(buffer[ROOM..][..length].to_vec());
    });
    all
}

/// A packet of one of a few flows, with the right checksums, which nobody guesses.
fn packet(choices: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let [kind, port, sequence, flags] = *choices;
    let (protocol, sum_at) = if kind & 1 == 0 { (6, 36) } else { (17, 26) };
    let mut packet = vec![0x45, kind >> 4, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0, 10, 66, 0, 2, 10, 66, 0, 3];
    packet.extend([0, port & 3, 1, 1]);
    match protocol {
        6 => packet.extend([0, 0, 0, sequence, 0, 0, 0, 1, 0x50, flags, 1, 0, 0, 0, 0, 0]),
        _ => packet.extend((8 + content.len() as u16).to_be_bytes().into_iter().chain([0, 0])),
    }
    packet.extend(content);
    let length = packet.len() as u16;
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    let sum = checksum(&packet[..20]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    let pseudo = [&packet[12..20], &[0, protocol], &(length - 20).to_be_bytes()].concat();
    let sum = checksum(&[&pseudo[..], &packet[20..]].concat());
    packet[sum_at..sum_at + 2].copy_from_slice(&sum.to_be_bytes());
    packet
}

fuzz_target!(|bytes: &[u8]| {
    if let Some((header, packet)) = bytes.split_first_chunk::<VNET_LENGTH>() {
        cut(header, packet);
    }
    let mut coalescer = Coalescer::new(true);
    let (mut given, mut delivered) = (Vec::new(), Vec::new());
    let mut write = |header: &[u8; VNET_LENGTH], packet: &[u8]| {
        delivered.extend(cut(header, packet));
        true
    };
    let mut rest = bytes;
    while let Some((choices, behind)) = rest.split_first_chunk::<4>() {
        let (content, behind) = behind.split_at(behind.len().min(usize::from(choices[0] >> 1 & 7)));
        rest = behind;
        let packet = packet(choices, content);
        assert!(coalescer.push(&packet, &mut write));
        given.push(packet);
    }
    assert!(coalescer.flush(&mut write));
    // Flows may overtake each other.
    let of_flows = |mut packets: Vec<Vec<u8>>| {
        packets.sort_by_key(|packet| (packet[9], packet[21]));
        // Of what is never fragmented the identification says nothing.
        packets.iter_mut().for_each(|packet| {
            packet[4..6].fill(0);
            packet[10..12].fill(0);
        });
        packets
    };
    assert_eq!(of_flows(given), of_flows(delivered));
});
