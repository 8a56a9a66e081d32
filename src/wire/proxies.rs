//! For whom a proxy in front of us speaks (`X-Forwarded-For`).

use std::net::{IpAddr, SocketAddr};

/// Whether what `address` says of others is believed. Everything on this machine has every loopback address, so
/// if one of them is trusted, all are.
pub fn trusts(trusted: &[IpAddr], address: IpAddr) -> bool {
    trusted.contains(&address) || address.is_loopback() && trusted.iter().any(IpAddr::is_loopback)
}

/// Who asks: the sender, or whom a trusted proxy forwarded for. Of the header only the part that trusted proxies
/// wrote counts: from the end, up to the first address that is none of theirs. Nobody gets an address of this
/// machine by what a header says.
pub fn client(trusted: &[IpAddr], sender: IpAddr, forwarded_for: Option<&str>) -> IpAddr {
    if !trusts(trusted, sender) {
        return sender;
    }
    let mut client = sender;
    for hop in forwarded_for.into_iter().flat_map(|header| header.rsplit(',')) {
        let Some(hop) = address(hop.trim()) else { break };
        let is_proxy = trusts(trusted, hop);
        if !hop.is_loopback() && !hop.is_unspecified() {
            client = hop;
        }
        if !is_proxy {
            break;
        }
    }
    client
}

/// An address as proxies write it: with or without a port, an IPv6 one with or without brackets.
fn address(text: &str) -> Option<IpAddr> {
    let bare = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(IpAddr::V6);
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    let address = text.parse().ok().or_else(with_port).or_else(bare)?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn of(trusted: &[&str], sender: &str, header: Option<&str>) -> String {
        let trusted: Vec<IpAddr> = trusted.iter().map(|text| ip(text)).collect();
        client(&trusted, ip(sender), header).to_string()
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let trusted = ["127.0.0.1", "10.0.0.2"];
        for (sender, header, expected) in [
            ("203.0.113.1", Some("198.51.100.1"), "203.0.113.1"),
            ("127.0.0.1", Some("198.51.100.1"), "198.51.100.1"),
            ("::1", Some("198.51.100.1"), "198.51.100.1"),
            ("127.0.0.7", Some("198.51.100.1"), "198.51.100.1"),
            ("127.0.0.1", Some("6.6.6.6, 198.51.100.1, 10.0.0.2"), "198.51.100.1"),
            ("127.0.0.1", Some("198.51.100.1,127.0.0.1,\t10.0.0.2"), "198.51.100.1"),
            ("127.0.0.1", Some("6.6.6.6, what, 10.0.0.2"), "10.0.0.2"),
            ("127.0.0.1", Some("::ffff:198.51.100.1"), "198.51.100.1"),
            ("127.0.0.1", None, "127.0.0.1"),
        ] {
            assert_eq!(of(&trusted, sender, header), expected, "{sender} {header:?}");
        }
        assert_eq!(of(&[], "127.0.0.1", Some("198.51.100.1")), "127.0.0.1");
    }

    #[test]
    fn nobody_is_local_by_what_a_header_says() {
        for said in ["127.0.0.1", "127.0.0.2", "::1", "[::1]:9", "::ffff:127.0.0.1", "0.0.0.0", "::"] {
            assert_eq!(of(&["10.0.0.2"], "10.0.0.2", Some(said)), "10.0.0.2", "{said}");
            assert_eq!(of(&["10.0.0.2"], "10.0.0.2", Some(&format!("198.51.100.1, {said}"))), "10.0.0.2");
        }
    }

    #[test]
    fn ports_and_brackets_may_be_there() {
        for (said, expected) in [
            ("198.51.100.1:4711", "198.51.100.1"),
            ("[2001:db8::1]:4711", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[::ffff:198.51.100.1]:1", "198.51.100.1"),
            ("unknown", "127.0.0.1"),
            ("[198.51.100.1]", "127.0.0.1"),
            ("198.51.100.1:", "127.0.0.1"),
            ("", "127.0.0.1"),
        ] {
            assert_eq!(of(&["127.0.0.1"], "127.0.0.1", Some(said)), expected, "{said}");
        }
    }
}
