//! What WireGuard must know of the IP packets it carries: how long they are without padding, and whose.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The header fields of an IP packet that decide its fate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InnerPacket {
    /// Where it says it comes from.
    pub source: IpAddr,
    /// Where it is to go.
    pub destination: IpAddr,
    /// Its length in bytes by its own header, at most what there is.
    pub length: usize,
}

impl InnerPacket {
    /// Reads the header of the packet that `bytes` begin with; padding may follow it. `None` if there is no
    /// whole IPv4 or IPv6 packet.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (source, destination, length) = match bytes.first()? >> 4 {
            4 => {
                let header: &[u8; 20] = bytes.first_chunk()?;
                let [.., s0, s1, s2, s3, d0, d1, d2, d3] = *header;
                let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
                let header_length = usize::from(header[0] & 15) * 4;
                if header_length < header.len() || length < header_length {
                    return None;
                }
                (Ipv4Addr::new(s0, s1, s2, s3).into(), Ipv4Addr::new(d0, d1, d2, d3).into(), length)
            }
            6 => {
                let header: &[u8; 40] = bytes.first_chunk()?;
                let address = |at: usize| {
                    let bytes: [u8; 16] = header[at..at + 16].try_into().expect("16 bytes");
                    IpAddr::from(Ipv6Addr::from(bytes))
                };
                let length = 40 + usize::from(u16::from_be_bytes([header[4], header[5]]));
                (address(8), address(24), length)
            }
            _ => return None,
        };
        (length <= bytes.len()).then_some(InnerPacket { source, destination, length })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::random::Seeded;

    fn v4(total: u16) -> Vec<u8> {
        let mut packet = vec![0; 60];
        packet[0] = 0x45;
        packet[2..4].copy_from_slice(&total.to_be_bytes());
        packet[12..20].copy_from_slice(&[10, 66, 0, 2, 10, 66, 0, 3]);
        packet
    }

    fn v6(payload: u16) -> Vec<u8> {
        let mut packet = vec![0; 60];
        packet[0] = 0x60;
        packet[4..6].copy_from_slice(&payload.to_be_bytes());
        packet[8] = 0xfd;
        packet[39] = 1;
        packet
    }

    #[test]
    fn reads_both_families() {
        let packet = InnerPacket::parse(&v4(45)).unwrap();
        assert_eq!(packet.source, IpAddr::from([10, 66, 0, 2]));
        assert_eq!(packet.destination, IpAddr::from([10, 66, 0, 3]));
        assert_eq!(packet.length, 45);
        let packet = InnerPacket::parse(&v6(20)).unwrap();
        assert_eq!(packet.source, "fd00::".parse::<IpAddr>().unwrap());
        assert_eq!(packet.destination, "::1".parse::<IpAddr>().unwrap());
        assert_eq!(packet.length, 60);
    }

    #[test]
    fn refuses_lengths_that_lie() {
        assert!(InnerPacket::parse(&v4(60)).is_some());
        assert!(InnerPacket::parse(&v4(61)).is_none());
        assert!(InnerPacket::parse(&v4(19)).is_none());
        assert!(InnerPacket::parse(&v6(0)).is_some());
        assert!(InnerPacket::parse(&v6(21)).is_none());
        let mut short_header = v4(60);
        short_header[0] = 0x44;
        assert!(InnerPacket::parse(&short_header).is_none());
        let mut long_header = v4(40);
        long_header[0] = 0x4f;
        assert!(InnerPacket::parse(&long_header).is_none());
        assert!(InnerPacket::parse(&[0x50; 60]).is_none());
        for packet in [v4(60), v6(20)] {
            for length in 0..60 {
                assert!(InnerPacket::parse(&packet[..length]).is_none(), "{length}");
            }
        }
    }

    #[test]
    fn random_bytes_never_panic_and_never_exceed_the_buffer() {
        let mut random = Seeded::new(31);
        let mut found = 0;
        for _ in 0..50_000 {
            let mut bytes = vec![0; random.below(80) as usize];
            random.fill(&mut bytes);
            if let Some(length) = bytes.get_mut(2..6) {
                length[0] = 0;
                length[2] = 0;
            }
            if let Some(packet) = InnerPacket::parse(&bytes) {
                assert!(packet.length <= bytes.len() && packet.length >= 20);
                found += 1;
            }
        }
        assert!(found > 100, "{found}");
    }
}
