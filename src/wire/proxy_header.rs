//! What a proxy that passes bytes on says ahead of them: for whom (the PROXY protocol, version 2:
//! <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>). Who sends it is asked elsewhere.

use super::http::RejectedRequest;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What it begins with: no request of HTTP does.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The signature, version and command, family, and a length of two bytes.
const FIXED: usize = 16;
/// The longest of those that are read, in bytes: what a proxy may add of TLS and itself fits.
pub const MAX_PROXY_HEADER: usize = 1024;

/// Version 2 and what it is about: the proxy itself, as for a health check, or somebody else.
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
/// TCP over IPv4 and IPv6.
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// What a connection begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProxyHeader {
    /// No such header.
    Absent,
    /// One of which more is to come.
    Incomplete,
    /// One of so many bytes, which speaks for the one at this address, or for nobody else.
    Whole(usize, Option<IpAddr>),
}

/// Reads the begin of a connection.
pub fn read(bytes: &[u8]) -> Result<ProxyHeader, RejectedRequest> {
    let seen = bytes.len().min(SIGNATURE.len());
    if bytes[..seen] != SIGNATURE[..seen] {
        return Ok(ProxyHeader::Absent);
    }
    let Some((head, rest)) = bytes.split_first_chunk::<FIXED>() else { return Ok(ProxyHeader::Incomplete) };
    let length = usize::from(u16::from_be_bytes([head[14], head[15]]));
    if FIXED + length > MAX_PROXY_HEADER {
        return Err(RejectedRequest::new(400, "the PROXY header is too long"));
    }
    let Some(addresses) = rest.get(..length) else { return Ok(ProxyHeader::Incomplete) };
    let malformed = RejectedRequest::new(400, "the PROXY header is malformed");
    let source = match (head[12], head[13]) {
        (LOCAL, _) => None,
        // Its source, its destination, both ports.
        (PROXY, TCP4) => {
            let (source, _) = addresses.split_first_chunk::<4>().filter(|_| length >= 12).ok_or(malformed)?;
            Some(IpAddr::V4(Ipv4Addr::from_octets(*source)))
        }
        (PROXY, TCP6) => {
            let (source, _) =
                addresses.split_first_chunk::<16>().filter(|_| length >= 36).ok_or(malformed)?;
            Some(IpAddr::V6(Ipv6Addr::from_octets(*source)).to_canonical())
        }
        // Of other families, and of none, nothing is known.
        (PROXY, _) => None,
        _ => return Err(malformed),
    };
    // Nobody gets an address of this machine by what a header says.
    let source = source.filter(|source| !source.is_loopback() && !source.is_unspecified());
    Ok(ProxyHeader::Whole(FIXED + length, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let length = u16::try_from(addresses.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, addresses].concat()
    }

    fn of(command: u8, family: u8, addresses: &[u8]) -> Option<Option<String>> {
        let whole = header(command, family, addresses);
        let mut bytes = whole.clone();
        bytes.extend(b"GET / HTTP/1.1\r\n");
        for end in 0..whole.len() {
            assert_eq!(read(&whole[..end]), Ok(ProxyHeader::Incomplete), "{end}");
        }
        match read(&bytes) {
            Ok(ProxyHeader::Whole(length, source)) => {
                assert_eq!(length, whole.len());
                Some(source.map(|source| source.to_string()))
            }
            Err(refusal) => {
                assert_eq!(refusal.status, 400);
                None
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_header_says_for_whom_it_is() {
        let four = [203, 0, 113, 9, 192, 0, 2, 1, 0xd4, 0x31, 0x21, 0xdb];
        assert_eq!(of(PROXY, TCP4, &four), Some(Some("203.0.113.9".into())));
        // With what a proxy adds.
        assert_eq!(
            of(PROXY, TCP4, &[&four[..], &[0x04, 0, 2, 7, 7]].concat()),
            Some(Some("203.0.113.9".into()))
        );
        let mut six = [0; 36];
        six[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        six[15] = 9;
        assert_eq!(of(PROXY, TCP6, &six), Some(Some("2001:db8::9".into())));
        // IPv4 in IPv6's clothes.
        six = [0; 36];
        six[10..16].copy_from_slice(&[0xff, 0xff, 203, 0, 113, 9]);
        assert_eq!(of(PROXY, TCP6, &six), Some(Some("203.0.113.9".into())));
        // The proxy itself, and families that say nothing.
        assert_eq!(of(LOCAL, 0, &[]), Some(None));
        assert_eq!(of(LOCAL, TCP4, &four), Some(None));
        assert_eq!(of(PROXY, 0, &[]), Some(None));
        assert_eq!(of(PROXY, 0x31, &[0; 216]), Some(None));
    }

    #[test]
    fn what_it_says_is_never_this_machine() {
        let four = |first: [u8; 4]| [&first[..], &[0; 8]].concat();
        for local in [[127, 0, 0, 1], [127, 9, 9, 9], [0; 4]] {
            assert_eq!(of(PROXY, TCP4, &four(local)), Some(None));
            let mapped = [&[0; 10][..], &[0xff, 0xff], &local, &[0; 20]].concat();
            assert_eq!(of(PROXY, TCP6, &mapped), Some(None));
        }
        let mut six = [0; 36];
        assert_eq!(of(PROXY, TCP6, &six), Some(None));
        six[15] = 1;
        assert_eq!(of(PROXY, TCP6, &six), Some(None));
    }

    #[test]
    fn what_is_malformed_is_refused_and_what_is_none_is_left_alone() {
        for (command, family, length) in [
            (PROXY, TCP4, 11),
            (PROXY, TCP4, 0),
            (PROXY, TCP6, 35),
            (PROXY, TCP6, 12),
            (0x22, TCP4, 12),
            (0x11, TCP4, 12),
        ] {
            assert_eq!(of(command, family, &vec![1; length]), None, "{command:x} {family:x} {length}");
        }
        for length in [MAX_PROXY_HEADER - FIXED + 1, 65535] {
            let head = &header(PROXY, TCP4, &vec![1; length])[..FIXED];
            assert!(read(head).is_err(), "{length}: nothing is waited for");
        }
        for other in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n",
            b"\r\n\r\nGET",
            b"\r\n\r\n\0\r\nQUIX",
        ] {
            assert_eq!(read(other), Ok(ProxyHeader::Absent));
        }
        assert_eq!(read(b""), Ok(ProxyHeader::Incomplete));
    }
}
