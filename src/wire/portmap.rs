//! Asking a router to forward a port: NAT-PMP (RFC 6886) and PCP (RFC 6887), whose messages go to and come from the same
//! port and are told apart by their first byte.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Where a router listens.
pub const ROUTER_PORT: u16 = 5351;
/// Bytes of a nonce of PCP.
pub const NONCE_LENGTH: usize = 12;
/// Bytes of PCP's MAP, asked or answered.
pub const MAP_LENGTH: usize = 60;

const PCP: u8 = 2;
const NAT_PMP: u8 = 0;
const ANSWER: u8 = 0x80;
/// The operations: of NAT-PMP, and of PCP.
const ADDRESS: u8 = 0;
const MAP_UDP: u8 = 1;
const MAP: u8 = 1;
/// IANA's number for UDP.
const UDP: u8 = 17;
/// "Unsupported version", by which one says that it speaks the other only.
const OTHER_VERSION: u16 = 1;

/// The nonce of a mapping: by it nobody else changes it.
pub type MapNonce = [u8; NONCE_LENGTH];

/// PCP's MAP of a UDP port, for `lifetime` seconds; 0 gives it up. `wanted` is the outside port that we would like.
pub fn pcp_map(own: Ipv4Addr, nonce: &MapNonce, port: u16, wanted: u16, lifetime: u32) -> [u8; MAP_LENGTH] {
    let mut message = [0; MAP_LENGTH];
    (message[0], message[1]) = (PCP, MAP);
    message[4..8].copy_from_slice(&lifetime.to_be_bytes());
    message[8..24].copy_from_slice(&own.to_ipv6_mapped().octets());
    message[24..36].copy_from_slice(nonce);
    message[36] = UDP;
    message[40..42].copy_from_slice(&port.to_be_bytes());
    message[42..44].copy_from_slice(&wanted.to_be_bytes());
    message[44..60].copy_from_slice(&Ipv4Addr::UNSPECIFIED.to_ipv6_mapped().octets());
    message
}

/// NAT-PMP's question for the outside address.
pub const fn pmp_address() -> [u8; 2] {
    [NAT_PMP, ADDRESS]
}

/// NAT-PMP's mapping of a UDP port, for `lifetime` seconds; 0 gives it up.
pub fn pmp_map(port: u16, wanted: u16, lifetime: u32) -> [u8; 12] {
    let mut message = [0; 12];
    (message[0], message[1]) = (NAT_PMP, MAP_UDP);
    message[4..6].copy_from_slice(&port.to_be_bytes());
    message[6..8].copy_from_slice(&wanted.to_be_bytes());
    message[8..12].copy_from_slice(&lifetime.to_be_bytes());
    message
}

/// What a router answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RouterAnswer {
    /// PCP: the port is forwarded.
    PcpMapped {
        /// Of which request.
        nonce: MapNonce,
        /// The port here.
        port: u16,
        /// The address outside.
        address: Ipv4Addr,
        /// The port there.
        outside: u16,
        /// For how long, in seconds.
        lifetime: u32,
    },
    /// PCP: it is not.
    PcpRefused {
        /// Of which request.
        nonce: MapNonce,
        /// Why (RFC 6887, section 7.4).
        code: u8,
    },
    /// NAT-PMP: the address outside.
    PmpAddress(Ipv4Addr),
    /// NAT-PMP: the port is forwarded.
    PmpMapped {
        /// The port here.
        port: u16,
        /// The port outside.
        outside: u16,
        /// For how long, in seconds.
        lifetime: u32,
    },
    /// NAT-PMP: it is not, with why (RFC 6886, section 3.5).
    PmpRefused(u16),
    /// It speaks only the other of the two.
    OtherVersion,
}

impl RouterAnswer {
    /// Reads one; `None` if it is none.
    pub fn read(message: &[u8]) -> Option<Self> {
        let short = |at: usize| Some(u16::from_be_bytes(*message.get(at..)?.first_chunk()?));
        let long = |at: usize| Some(u32::from_be_bytes(*message.get(at..)?.first_chunk()?));
        match *message {
            [NAT_PMP, operation, ..] if operation & ANSWER != 0 => match (operation & !ANSWER, short(2)?) {
                (_, OTHER_VERSION) => Some(RouterAnswer::OtherVersion),
                (_, code @ 1..) => Some(RouterAnswer::PmpRefused(code)),
                (ADDRESS, 0) => Some(RouterAnswer::PmpAddress(Ipv4Addr::from_bits(long(8)?))),
                (MAP_UDP, 0) => Some(RouterAnswer::PmpMapped {
                    port: short(8)?,
                    outside: short(10)?,
                    lifetime: long(12)?,
                }),
                _ => None,
            },
            [PCP, operation, _, code, ..] if operation == MAP | ANSWER => {
                if code == OTHER_VERSION as u8 {
                    return Some(RouterAnswer::OtherVersion);
                }
                let nonce = *message.get(24..)?.first_chunk()?;
                if code != 0 {
                    return Some(RouterAnswer::PcpRefused { nonce, code });
                }
                if message.len() < MAP_LENGTH || message[36] != UDP {
                    return None;
                }
                let address = Ipv6Addr::from(*message.get(44..)?.first_chunk::<16>()?).to_ipv4_mapped()?;
                let (port, outside, lifetime) = (short(40)?, short(42)?, long(4)?);
                Some(RouterAnswer::PcpMapped { nonce, port, address, outside, lifetime })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The layouts of RFC 6886, section 3.3, and RFC 6887, sections 7.1 and 11.1.
    #[test]
    fn requests_are_laid_out_as_the_rfcs_say() {
        assert_eq!(pmp_map(0x1234, 0x5678, 7200), [0, 1, 0, 0, 0x12, 0x34, 0x56, 0x78, 0, 0, 0x1c, 0x20]);
        let map = pcp_map(Ipv4Addr::new(192, 168, 1, 2), &[9; 12], 0x1234, 0x5678, 7200);
        assert_eq!(map[..8], [2, 1, 0, 0, 0, 0, 0x1c, 0x20]);
        assert_eq!(map[8..24], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 168, 1, 2]);
        assert_eq!((&map[24..36], map[36], &map[40..44]), (&[9; 12][..], 17, &[0x12, 0x34, 0x56, 0x78][..]));
        assert_eq!(map[44..60], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0]);
    }

    #[test]
    fn answers_of_any_length_and_content_end_in_a_verdict() {
        let mut mapped = pcp_map(Ipv4Addr::new(203, 0, 113, 7), &[9; 12], 1, 2, 3);
        mapped[1] |= ANSWER;
        mapped[44..60].copy_from_slice(&Ipv4Addr::new(203, 0, 113, 7).to_ipv6_mapped().octets());
        let address = Ipv4Addr::new(203, 0, 113, 7);
        let read = RouterAnswer::PcpMapped { nonce: [9; 12], port: 1, address, outside: 2, lifetime: 3 };
        assert_eq!(RouterAnswer::read(&mapped), Some(read));
        let pmp = [0, 129, 0, 0, 0, 0, 0, 9, 0, 1, 0, 2, 0, 0, 0, 3];
        assert_eq!(
            RouterAnswer::read(&pmp),
            Some(RouterAnswer::PmpMapped { port: 1, outside: 2, lifetime: 3 })
        );
        assert_eq!(
            RouterAnswer::read(&[0, 128, 0, 0, 0, 0, 0, 9, 203, 0, 113, 7]),
            Some(RouterAnswer::PmpAddress(address))
        );
        assert_eq!(RouterAnswer::read(&[0, 129, 0, 3, 0, 0, 0, 9]), Some(RouterAnswer::PmpRefused(3)));
        assert_eq!(RouterAnswer::read(&[0, 128, 0, 1, 0, 0, 0, 0]), Some(RouterAnswer::OtherVersion));
        assert_eq!(RouterAnswer::read(&pmp_map(1, 2, 3)), None, "a request");
        for whole in [&mapped[..], &pmp] {
            for length in 0..whole.len() {
                let cut = RouterAnswer::read(&whole[..length]);
                assert!(cut.is_none(), "{length}: {cut:?}");
                for value in 0..=255 {
                    let mut changed = whole.to_vec();
                    changed[length] = value;
                    let _ = RouterAnswer::read(&changed);
                }
            }
        }
    }
}
