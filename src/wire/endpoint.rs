//! `HOST:PORT` as text. An IPv6 address is in brackets there, and without them apart from its port.

use std::fmt::Display;
use std::net::Ipv6Addr;

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

#[cfg(test)]
mod tests {
    use super::*;

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
