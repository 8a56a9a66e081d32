//! A path that carries smaller packets than the interface: TCP is told so when it begins (RFC 9293, section 3.7.1), so that its
//! segments fit. What is longer nevertheless goes by the relay.

use crate::wire::ip::{IPV4_HEADER_LENGTH, TCP, transport_checksum};
use std::net::Ipv4Addr;

/// Length of a TCP header without options.
const TCP_HEADER_LENGTH: usize = 20;
const SYN: u8 = 2;
const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;
const MAXIMUM_SEGMENT_SIZE: u8 = 2;

/// If `packet` is a whole IPv4 packet without options that opens a TCP connection, and promises to take longer segments than
/// fit into packets of `mtu` bytes, it promises these.
pub(super) fn clamp(packet: &mut [u8], mtu: usize) -> Option<()> {
    let most = u16::try_from(mtu.checked_sub(IPV4_HEADER_LENGTH + TCP_HEADER_LENGTH)?).ok()?;
    let (header, segment) = packet.split_first_chunk_mut::<IPV4_HEADER_LENGTH>()?;
    let is_whole = header[6] & 0x3f == 0 && header[7] == 0;
    if header[0] != 0x45 || header[9] != TCP || !is_whole || segment.get(13)? & SYN == 0 {
        return None;
    }
    let options = TCP_HEADER_LENGTH..usize::from(segment[12] >> 4) * 4;
    let mut at = options.start;
    while at < options.end {
        match *segment.get(at)? {
            END_OF_OPTIONS => return None,
            NO_OPERATION => at += 1,
            MAXIMUM_SEGMENT_SIZE if segment.get(at + 1) == Some(&4) => {
                let size = segment.get_mut(at + 2..at + 4)?;
                if u16::from_be_bytes([size[0], size[1]]) <= most {
                    return None;
                }
                size.copy_from_slice(&most.to_be_bytes());
                let address =
                    |at: usize| Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]);
                segment[16..18].fill(0);
                let sum = transport_checksum(address(12), address(16), TCP, segment);
                segment[16..18].copy_from_slice(&sum.to_be_bytes());
                return Some(());
            }
            _ => at += usize::from(*segment.get(at + 1)?).max(2),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::random::Seeded;

    /// A SYN that promises 1380 bytes, behind an option that is passed over.
    fn syn() -> Vec<u8> {
        let mut packet = vec![0; 48];
        (packet[0], packet[3], packet[9]) = (0x45, 48, TCP);
        packet[12..20].copy_from_slice(&[10, 66, 0, 2, 10, 66, 0, 3]);
        (packet[32], packet[33]) = (7 << 4, SYN);
        packet[40..48].copy_from_slice(&[3, 3, 7, NO_OPERATION, MAXIMUM_SEGMENT_SIZE, 4, 5, 100]);
        let sum = transport_checksum([10, 66, 0, 2].into(), [10, 66, 0, 3].into(), TCP, &packet[20..]);
        packet[36..38].copy_from_slice(&sum.to_be_bytes());
        packet
    }

    #[test]
    fn a_connection_that_begins_is_told_and_nothing_else_is_touched() {
        let mut packet = syn();
        assert_eq!(clamp(&mut packet, 1280), Some(()));
        assert_eq!(packet[46..], 1240u16.to_be_bytes());
        assert_eq!(transport_checksum([10, 66, 0, 2].into(), [10, 66, 0, 3].into(), TCP, &packet[20..]), 0);
        assert_eq!(clamp(&mut packet, 1280), None, "it fits");
        for (at, byte) in [(9, 17), (33, 16), (7, 1), (0, 0x46), (44, END_OF_OPTIONS)] {
            let mut packet = syn();
            packet[at] = byte;
            let before = packet.clone();
            assert_eq!(clamp(&mut packet, 1280), None);
            assert_eq!(packet, before);
        }
    }

    #[test]
    fn damaged_packets_never_panic() {
        let mut random = Seeded::new(8);
        for _ in 0..100_000 {
            let mut packet = syn();
            for _ in 0..3 {
                let at = random.below(packet.len() as u64) as usize;
                packet[at] = random.next_u64() as u8;
            }
            packet.truncate(random.below(49) as usize);
            let _ = clamp(&mut packet, random.below(1500) as usize);
        }
    }
}
