//! Socket addresses and ancillary data, as Linux lays them out in memory (cmsg(3), ip(7), ipv6(7), udp(7)).

use crate::sys::NAME_LENGTH;
use std::ffi::c_int;
use std::mem::size_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// Length of the header of an item, in bytes: a `usize` and two `int`s. It needs no padding behind.
const HEADER: usize = size_of::<usize>() + 2 * size_of::<c_int>();
/// Room for all that we ever send along with a message, in bytes.
pub const CONTROL_LENGTH: usize = 96;

/// What the ancillary data of a received message tells.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct AncillaryData {
    /// Our address that the message came to.
    pub local: Option<IpAddr>,
    /// The index of the interface that it came by, if that was asked for; or else 0.
    pub interface: u32,
    /// The traffic class.
    pub class: u8,
    /// The length of each datagram but the last in a message that is several, in bytes.
    pub segment: Option<usize>,
}

impl AncillaryData {
    /// Reads ancillary data, and passes over what it does not know.
    pub fn parse(mut control: &[u8]) -> Self {
        let mut received = AncillaryData::default();
        let mut broad = None;
        while let Some(header) = control.first_chunk::<HEADER>() {
            let (length, kind) = header.split_at(size_of::<usize>());
            let length = usize::from_ne_bytes(length.try_into().expect("split there"));
            let Some(data) = control.get(HEADER..length) else { break };
            match (int(kind), int(&kind[size_of::<c_int>()..])) {
                (Some(libc::SOL_UDP), Some(libc::UDP_GRO)) => {
                    received.segment = number(data).and_then(|size| usize::try_from(size).ok());
                }
                (Some(libc::SOL_IP), Some(libc::IP_TOS))
                | (Some(libc::SOL_IPV6), Some(libc::IPV6_TCLASS)) => {
                    received.class = number(data).unwrap_or(0) as u8;
                }
                // `in_pktinfo`: the interface, our address, the address in the header.
                (Some(libc::SOL_IP), Some(libc::IP_PKTINFO)) => {
                    received.interface = index(data);
                    received.local = data
                        .get(4..8)
                        .and_then(|ip| <[u8; 4]>::try_from(ip).ok())
                        .map(|ip| IpAddr::V4(Ipv4Addr::from(ip)));
                }
                // `in6_pktinfo`: the address in the header, the interface. It comes with IPv4, too, but what
                // was sent to a broadcast address is then told as that.
                (Some(libc::SOL_IPV6), Some(libc::IPV6_PKTINFO)) => {
                    broad = data.first_chunk::<16>().map(|ip| Ipv6Addr::from(*ip));
                    received.interface = index(data.get(16..).unwrap_or(&[]));
                }
                _ => (),
            }
            control = control.get(align(length)..).unwrap_or(&[]);
        }
        received.local = received
            .local
            .or(broad.filter(|ip| ip.to_ipv4_mapped().is_none()).map(IpAddr::V6))
            .filter(|ip| !ip.is_multicast() && !ip.is_unspecified());
        received
    }
}

/// Ancillary data under construction, aligned as its headers have to be.
#[repr(align(8))]
pub struct ControlBuffer {
    bytes: [u8; CONTROL_LENGTH],
    length: usize,
}

impl ControlBuffer {
    /// None.
    pub const EMPTY: ControlBuffer = ControlBuffer { bytes: [0; CONTROL_LENGTH], length: 0 };

    /// What has to go with a message to `to`: our address that it is to leave from, the traffic class, and the
    /// length of each datagram but the last if it is several.
    pub fn write(&mut self, to: IpAddr, from: Option<IpAddr>, class: u8, segment: Option<u16>) {
        self.length = 0;
        if let Some(segment) = segment {
            self.item(libc::SOL_UDP, libc::UDP_SEGMENT, &segment.to_ne_bytes());
        }
        if class != 0 {
            let class = c_int::from(class).to_ne_bytes();
            match to {
                IpAddr::V4(_) => self.item(libc::SOL_IP, libc::IP_TOS, &class),
                IpAddr::V6(_) => self.item(libc::SOL_IPV6, libc::IPV6_TCLASS, &class),
            }
        }
        match (to, from) {
            (IpAddr::V4(_), Some(IpAddr::V4(from))) => {
                let mut info = [0; 12];
                info[4..8].copy_from_slice(&from.octets());
                self.item(libc::SOL_IP, libc::IP_PKTINFO, &info);
            }
            (IpAddr::V6(_), Some(IpAddr::V6(from))) => {
                let mut info = [0; 20];
                info[..16].copy_from_slice(&from.octets());
                self.item(libc::SOL_IPV6, libc::IPV6_PKTINFO, &info);
            }
            _ => (),
        }
    }

    /// The finished data.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn item(&mut self, level: c_int, kind: c_int, data: &[u8]) {
        let room = &mut self.bytes[self.length..];
        let (length, rest) = room.split_at_mut(size_of::<usize>());
        length.copy_from_slice(&(HEADER + data.len()).to_ne_bytes());
        rest[..4].copy_from_slice(&level.to_ne_bytes());
        rest[4..8].copy_from_slice(&kind.to_ne_bytes());
        rest[8..8 + data.len()].copy_from_slice(data);
        self.length += align(HEADER + data.len());
    }
}

/// The address in a `sockaddr_in` or `sockaddr_in6`; an IPv4 one that is spelled as IPv6 becomes IPv4.
pub fn read_name(name: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(*name.first_chunk()?);
    let port = u16::from_be_bytes(*name.get(2..)?.first_chunk()?);
    match i32::from(family) {
        libc::AF_INET => {
            let ip: [u8; 4] = *name.get(4..)?.first_chunk()?;
            Some(SocketAddr::new(Ipv4Addr::from(ip).into(), port))
        }
        libc::AF_INET6 => {
            let ip = Ipv6Addr::from(*name.get(8..)?.first_chunk::<16>()?);
            let scope = u32::from_ne_bytes(*name.get(24..)?.first_chunk()?);
            Some(match ip.to_ipv4_mapped() {
                Some(ip) => SocketAddr::new(ip.into(), port),
                None => SocketAddrV6::new(ip, port, 0, scope).into(),
            })
        }
        _ => None,
    }
}

/// Writes `address` as a socket of the family IPv6 (if `is_ipv6`) or IPv4 takes it, and returns its length;
/// `None` if such a socket can't send there.
pub fn write_name(address: SocketAddr, is_ipv6: bool, name: &mut [u8; NAME_LENGTH]) -> Option<usize> {
    let port = address.port().to_be_bytes();
    let (ip, scope) = match address {
        SocketAddr::V4(address) if !is_ipv6 => {
            name[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
            name[2..4].copy_from_slice(&port);
            name[4..8].copy_from_slice(&address.ip().octets());
            name[8..16].fill(0);
            return Some(16);
        }
        SocketAddr::V4(address) => (address.ip().to_ipv6_mapped(), 0),
        SocketAddr::V6(address) if is_ipv6 => (*address.ip(), address.scope_id()),
        SocketAddr::V6(_) => return None,
    };
    name[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
    name[2..4].copy_from_slice(&port);
    name[4..8].fill(0);
    name[8..24].copy_from_slice(&ip.octets());
    name[24..28].copy_from_slice(&scope.to_ne_bytes());
    Some(NAME_LENGTH)
}

fn align(length: usize) -> usize {
    length.next_multiple_of(size_of::<usize>())
}

fn int(bytes: &[u8]) -> Option<c_int> {
    bytes.first_chunk().map(|bytes| c_int::from_ne_bytes(*bytes))
}

/// The index of an interface.
fn index(data: &[u8]) -> u32 {
    data.first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes))
}

/// A number that the kernel gives as one byte (`ip_cmsg_recv_tos` in
/// <https://github.com/torvalds/linux/blob/v6.12/net/ipv4/ip_sockglue.c>) or as an `int`
/// (`ip6_datagram_recv_specific_ctl` in <https://github.com/torvalds/linux/blob/v6.12/net/ipv6/datagram.c>).
fn number(data: &[u8]) -> Option<c_int> {
    int(data).or(data.first().map(|byte| c_int::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control(to: &str, from: Option<&str>, class: u8, segment: Option<u16>) -> Vec<u8> {
        let mut control = ControlBuffer::EMPTY;
        control.write(to.parse().unwrap(), from.map(|ip| ip.parse().unwrap()), class, segment);
        control.bytes().to_vec()
    }

    #[test]
    fn what_is_written_can_be_read() {
        let from = "192.0.2.1".parse().ok();
        let bytes = control("192.0.2.2", Some("192.0.2.1"), 0xb9, Some(1400));
        assert_eq!(
            AncillaryData::parse(&bytes),
            AncillaryData { local: from, class: 0xb9, ..AncillaryData::default() }
        );
        let from = "2001:db8::1".parse().ok();
        let bytes = control("2001:db8::2", Some("2001:db8::1"), 3, None);
        assert_eq!(
            AncillaryData::parse(&bytes),
            AncillaryData { local: from, class: 3, ..AncillaryData::default() }
        );
        assert!(bytes.len() <= CONTROL_LENGTH && bytes.len().is_multiple_of(size_of::<usize>()));
        assert!(control("192.0.2.2", Some("2001:db8::1"), 0, None).is_empty());
    }

    #[test]
    fn no_bytes_make_it_panic_or_loop() {
        let whole = control("2001:db8::2", Some("2001:db8::1"), 3, Some(99));
        for end in 0..whole.len() {
            AncillaryData::parse(&whole[..end]);
        }
        for at in 0..whole.len() {
            for value in [0, 1, 15, 16, 17, 0x7f, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                AncillaryData::parse(&bytes);
            }
        }
        assert_eq!(AncillaryData::parse(&[0; 64]), AncillaryData::default());
        assert_eq!(AncillaryData::parse(&[0xff; 64]), AncillaryData::default());
    }

    #[test]
    fn our_address_is_one_that_can_be_sent_from() {
        assert_eq!(AncillaryData::parse(&control("ff02::2", Some("ff02::1"), 0, None)).local, None);
        let mapped = control("::1", Some("::ffff:192.0.2.255"), 0, None);
        assert_eq!(AncillaryData::parse(&mapped).local, None);
    }

    #[test]
    fn names_survive() {
        let mut name = [0; NAME_LENGTH];
        for (text, is_ipv6) in [
            ("192.0.2.1:53", false),
            ("192.0.2.1:53", true),
            ("[2001:db8::1]:51820", true),
            ("[fe80::1%7]:51820", true),
        ] {
            let address: SocketAddr = text.parse().unwrap();
            let length = write_name(address, is_ipv6, &mut name).unwrap();
            assert_eq!(length, if is_ipv6 { 28 } else { 16 });
            assert_eq!(read_name(&name[..length]), Some(address));
            for end in 0..length.min(8) {
                assert_eq!(read_name(&name[..end]), None);
            }
        }
        assert_eq!(write_name("[::1]:1".parse().unwrap(), false, &mut name), None);
        assert_eq!(read_name(&[0; NAME_LENGTH]), None);
    }
}
