//! Inner packets with right checksums.

use lanrage::wire::ip::{ICMP, UDP, checksum, transport_checksum};
use std::net::Ipv4Addr;

pub fn ipv4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, segment: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 20];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&((20 + segment.len()) as u16).to_be_bytes());
    packet[8] = 64;
    packet[9] = protocol;
    packet[12..16].copy_from_slice(&source.octets());
    packet[16..20].copy_from_slice(&destination.octets());
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend_from_slice(segment);
    packet
}

/// A UDP packet between ports 27015.
pub fn udp(source: Ipv4Addr, destination: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let mut segment = vec![0x69, 0x87, 0x69, 0x87, 0, 0, 0, 0];
    segment[4..6].copy_from_slice(&((8 + payload.len()) as u16).to_be_bytes());
    segment.extend_from_slice(payload);
    let sum = transport_checksum(source, destination, UDP, &segment);
    segment[6..8].copy_from_slice(&sum.to_be_bytes());
    ipv4(source, destination, UDP, &segment)
}

pub fn ping(source: Ipv4Addr, destination: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let mut message = vec![8, 0, 0, 0, 0, 1, 0, 2];
    message.extend_from_slice(payload);
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    ipv4(source, destination, ICMP, &message)
}

/// Source, destination and payload of a UDP packet whose checksums are right, as a system would take it.
pub fn read_udp(packet: &[u8]) -> Option<(Ipv4Addr, Ipv4Addr, &[u8])> {
    let (header, segment) = packet.split_first_chunk::<20>()?;
    let source = Ipv4Addr::new(header[12], header[13], header[14], header[15]);
    let destination = Ipv4Addr::new(header[16], header[17], header[18], header[19]);
    let right = header[9] == UDP
        && checksum(header) == 0
        && transport_checksum(source, destination, UDP, segment) == 0;
    right.then_some((source, destination, &segment[8..]))
}
