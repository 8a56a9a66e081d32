//! `HOST:PORT` as text. An IPv6 address is in brackets there, and without them apart from its port.

use std::fmt::Display;
use std::net::{IpAddr, Ipv6Addr};

/// The text for a host and a port.
pub fn text(host: &str, port: impl Display) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Host and port of a text, if it is an address or a name of DNS with a port from 1.
pub fn parse(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').filter(|host| host.parse::<Ipv6Addr>().is_ok())?,
        None => Some(host).filter(|host| is_name(host))?,
    };
    Some((host.to_owned(), port))
}

/// Whether a text may be a name of DNS, or an IPv4 address.
pub fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    (1..=253).contains(&text.len()) && text.bytes().all(plain)
}

/// Whether a host is an address that only some can reach: one of a private network, of a provider's own (100.64/10), of
/// one link, or of one machine.
pub fn is_private(host: &str) -> bool {
    host.parse().map_or(host == "localhost", is_private_address)
}

/// The same of an address.
pub fn is_private_address(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(ip) => {
            ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_unspecified()
                || is_provider_address(address)
        }
        IpAddr::V6(ip) => {
            ip.is_loopback() || ip.is_unspecified() || ip.is_unicast_link_local() || ip.is_unique_local()
        }
    }
}

/// Whether an address is one that a provider gives to customers who share another one (100.64/10, RFC 6598).
pub fn is_provider_address(address: IpAddr) -> bool {
    let IpAddr::V4(ip) = address.to_canonical() else { return false };
    matches!(ip.octets(), [100, 64..=127, ..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_a_providers_customers_share_are_known() {
        let is_provider = |text: &str| is_provider_address(text.parse().unwrap());
        assert!(["100.64.0.0", "100.127.255.255", "::ffff:100.64.0.1"].into_iter().all(is_provider));
        assert!(!["100.63.255.255", "100.128.0.0", "10.0.0.1", "fd00::1"].into_iter().any(is_provider));
    }

    #[test]
    fn addresses_that_not_everybody_reaches_are_known() {
        for host in
            ["10.0.0.1", "192.168.1.2", "172.31.0.1", "100.64.0.1", "100.127.9.9", "127.0.0.1", "169.254.1.1"]
        {
            assert!(is_private(host), "{host}");
        }
        for host in ["fd00::1", "fe80::1", "::1", "::ffff:10.0.0.1", "localhost"] {
            assert!(is_private(host), "{host}");
        }
        for host in
            ["203.0.113.7", "100.63.0.1", "100.128.0.1", "172.32.0.1", "2001:db8::1", "home.example.org"]
        {
            assert!(!is_private(host), "{host}");
        }
    }

    #[test]
    fn texts_lead_back() {
        for (whole, host, port) in
            [("[2001:db8::1]:51820", "2001:db8::1", 51820), ("home.example.org:1", "home.example.org", 1)]
        {
            assert_eq!(parse(whole), Some((host.to_owned(), port)));
            assert_eq!(text(host, port), whole);
        }
        for bad in ["host", "host:0", ":1", "2001:db8::1:5", "[::1]", "a b:1", "host:65536", "[x]:1"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
