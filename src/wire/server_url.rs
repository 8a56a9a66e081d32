//! Where a control server is, as people type it.

use crate::wire::endpoint;
use std::fmt;

/// The port of a server that none is said of.
const DEFAULT_PORT: u16 = 8667;

/// `http://HOST:PORT`, and what its paths begin with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerUrl {
    /// A name of DNS or an address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// What stands before every path: nothing, or `/` and something.
    pub base: String,
}

impl ServerUrl {
    /// Reads one; without `http://` it is meant, too. The error says what to do.
    pub fn parse(text: &str) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        if lower.starts_with("https://") || lower.starts_with("wss://") {
            return Err(format!(
                "{text}: this build speaks no TLS. Use http:// where the server can be reached without, or a proxy on \
                 this machine that adds TLS (for example `socat TCP-LISTEN:8667,bind=127.0.0.1,fork \
                 OPENSSL:HOST:443`) and http://127.0.0.1:8667"
            ));
        }
        let rest = if lower.starts_with("http://") { &text["http://".len()..] } else { text };
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let has_port = match authority.rfind(']') {
            Some(end) => authority[end..].contains(':'),
            None => authority.contains(':'),
        };
        let whole = if has_port { authority.to_owned() } else { format!("{authority}:{DEFAULT_PORT}") };
        let base = path.trim_end_matches('/');
        let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"?#\\\"<>".contains(&byte);
        match endpoint::parse(&whole) {
            Some((host, port)) if base.bytes().all(is_plain) => {
                Ok(ServerUrl { host, port, base: base.to_owned() })
            }
            _ => Err(format!(
                "{text} is no address of a server: use http://HOST:PORT, as in http://router.lan:8667"
            )),
        }
    }

    /// Host and port, as in a `Host` header.
    pub fn authority(&self) -> String {
        endpoint::text(&self.host, self.port)
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority(), self.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_type_is_understood() {
        for (text, shown) in [
            ("http://192.0.2.1:8667", "http://192.0.2.1:8667"),
            ("192.0.2.1", "http://192.0.2.1:8667"),
            ("router.lan/", "http://router.lan:8667"),
            ("HTTP://[2001:db8::1]", "http://[2001:db8::1]:8667"),
            ("http://[2001:db8::1]:80/lan/party/", "http://[2001:db8::1]:80/lan/party"),
        ] {
            assert_eq!(ServerUrl::parse(text).map(|url| url.to_string()).as_deref(), Ok(shown), "{text}");
        }
        for text in
            ["", "http://", "http://a b", "http://a:0", "ftp://a", "a/b?c", "a/b\r\nX: y", "2001:db8::1"]
        {
            assert!(ServerUrl::parse(text).is_err(), "{text}");
        }
        assert!(ServerUrl::parse("https://party.example").unwrap_err().contains("no TLS"));
    }
}
