//! What browsers may do for the pages in them. A page of anywhere can make a browser in the LAN send us requests;
//! two things tell: the `Origin` that the browser adds, and the `Host` that it was told to ask, which after DNS
//! rebinding is the page's own name. Programs that are no browsers send no `Origin`, and are not held up.

use super::routes;
use crate::wire::http::{Answer, Request, Source};
use std::net::{Ipv4Addr, Ipv6Addr};
use tiny_http::Method;

/// The headers that a page of an allowed origin may use.
const HEADERS: &str = "Authorization, Content-Type";

/// Why a page is refused.
pub const FOREIGN_ORIGIN: &str =
    "This page is of another origin; the owner of this server can name it in allowed_origins";
/// Why a name is refused.
pub const UNKNOWN_HOST: &str =
    "This server does not know itself by this name: use its IP address, or name it in allowed_hosts";

/// What the owner allows.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Browsers {
    /// Names of this machine, in lower case.
    pub hosts: Vec<String>,
    /// Origins whose pages may use the API, as browsers write them.
    pub origins: Vec<String>,
}

impl Browsers {
    /// With the name in `url`, if there is one.
    pub fn with(mut self, url: Option<&str>) -> Self {
        if let Some((_, authority)) = url.and_then(|url| url.split_once("://")) {
            self.hosts.push(split_port(authority).0.to_owned());
        }
        self
    }

    /// Whether a page behind this request is one of ours or allowed. `endpoint` is the name that the owner gave
    /// this machine for the relay.
    pub fn admit(&self, request: &Request, endpoint: Option<&str>) -> bool {
        let Some(origin) = request.origin.as_deref() else { return true };
        request.source == Source::Unix
            || self.allows(origin)
            || is_same(origin, request.host.as_deref()) && self.knows(request, endpoint)
    }

    /// Whether the request names this machine as its owner does. One without a name is of no browser.
    pub fn knows(&self, request: &Request, endpoint: Option<&str>) -> bool {
        let Some(host) = request.host.as_deref() else { return true };
        request.source == Source::Unix || self.is_ours(host, endpoint)
    }

    fn is_ours(&self, host: &str, endpoint: Option<&str>) -> bool {
        let (name, _) = split_port(host);
        if let Some(v6) = name.strip_prefix('[') {
            return v6.strip_suffix(']').is_some_and(|v6| v6.parse::<Ipv6Addr>().is_ok());
        }
        // The root's own dot makes no other name of it.
        let name = name.strip_suffix('.').unwrap_or(name);
        name.parse::<Ipv4Addr>().is_ok()
            || name.eq_ignore_ascii_case("localhost")
            || endpoint.is_some_and(|own| own.eq_ignore_ascii_case(name))
            || self.hosts.iter().any(|own| own.eq_ignore_ascii_case(name))
    }

    fn allows(&self, origin: &str) -> bool {
        self.origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin))
    }

    /// Adds to the answer what lets a page of an allowed origin read it (CORS), and nobody else's.
    pub fn mark(&self, request: &Request, answer: &mut Answer) {
        if self.origins.is_empty() {
            return;
        }
        answer.headers.push(("Vary", "Origin".into()));
        if let Some(origin) = request.origin.as_deref()
            && self.allows(origin)
        {
            answer.headers.push(("Access-Control-Allow-Origin", origin.into()));
            if request.method == Method::Options {
                answer.headers.push(("Access-Control-Allow-Methods", routes::methods()));
                answer.headers.push(("Access-Control-Allow-Headers", HEADERS.into()));
                answer.headers.push(("Access-Control-Max-Age", "86400".into()));
            }
        }
    }
}

/// What the setting `allowed_origins` has: a scheme, a host and perhaps a port, and nothing behind.
pub fn is_origin(text: &str) -> bool {
    let authority = text.split_once("://").filter(|(scheme, _)| is_scheme(scheme)).map(|(_, rest)| rest);
    authority.is_some_and(|authority| {
        !authority.is_empty()
            && authority.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte))
    })
}

fn is_scheme(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
        && text.starts_with(|first: char| first.is_ascii_alphabetic())
}

/// Whether a page of `origin` asked the host that it came from.
fn is_same(origin: &str, host: Option<&str>) -> bool {
    let (Some((scheme, authority)), Some(host)) = (origin.split_once("://"), host) else { return false };
    let usual = match scheme {
        "http" => "80",
        "https" => "443",
        _ => return false,
    };
    let whole = |text| {
        let (name, port) = split_port(text);
        (name.to_ascii_lowercase(), port.unwrap_or(usual).to_owned())
    };
    whole(authority) == whole(host)
}

/// A host and its port; the colons of an IPv6 address are in brackets.
fn split_port(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.is_empty() => {
            (name, Some(port).filter(|port| !port.is_empty()))
        }
        _ => (host, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(origin: Option<&str>, host: Option<&str>, source: Source) -> Request {
        Request {
            method: Method::Get,
            path: "/".into(),
            query: String::new(),
            authorization: None,
            host: host.map(String::from),
            origin: origin.map(String::from),
            if_none_match: None,
            forwarded_for: None,
            is_forwarded: false,
            body: Vec::new(),
            source,
            local: None,
        }
    }

    fn tcp() -> Source {
        Source::Ip([192, 168, 1, 9].into())
    }

    fn owner() -> Browsers {
        Browsers { hosts: vec!["router.lan".into()], origins: vec!["https://play.example.org".into()] }
    }

    #[test]
    fn a_host_is_ours_by_its_address_or_a_name_that_the_owner_gave() {
        let knows = |host| owner().knows(&asked(None, host, tcp()), Some("home.example.org"));
        for ours in [
            "192.168.1.1:8667",
            "127.0.0.1",
            "[::1]:8667",
            "[2001:db8::1]",
            "localhost",
            "LOCALHOST:8667",
            "localhost.",
            "home.example.org:8667",
            "Home.Example.Org",
            "router.lan",
            "router.lan.:80",
        ] {
            assert!(knows(Some(ours)), "{ours}");
        }
        for foreign in [
            "",
            ":8667",
            "evil.example",
            "evil.example:8667",
            "127.0.0.1.evil.example",
            "1.2.3",
            "0x7f.1",
            "localhost.evil.example",
            "xlocalhost",
            "[::1",
            "[evil]",
            "::1",
            "[::1].evil.example",
            "router.lan.evil.example",
            "notrouter.lan",
            "127.0.0.1:80:80",
        ] {
            assert!(!knows(Some(foreign)), "{foreign}");
        }
        assert!(knows(None) && owner().knows(&asked(None, Some("x"), Source::Unix), None));
        assert!(!Browsers::default().knows(&asked(None, Some("home.example.org"), tcp()), None));
    }

    #[test]
    fn a_page_may_ask_where_it_came_from_and_where_it_is_allowed() {
        let admits = |origin, host| owner().admit(&asked(origin, Some(host), tcp()), None);
        for (origin, host) in [
            ("http://192.168.1.1:8667", "192.168.1.1:8667"),
            ("http://router.lan", "router.lan:80"),
            ("https://router.lan", "Router.lan"),
            ("https://router.lan:443", "router.lan"),
            ("http://[::1]:8667", "[::1]:8667"),
            ("https://play.example.org", "router.lan:8667"),
        ] {
            assert!(admits(Some(origin), host), "{origin} {host}");
        }
        for (origin, host) in [
            ("http://evil.example", "192.168.1.1:8667"),
            ("http://192.168.1.1", "192.168.1.1:8667"),
            ("http://192.168.1.1:3000", "192.168.1.1:8667"),
            ("null", "192.168.1.1:8667"),
            ("", "192.168.1.1:8667"),
            ("http://", ""),
            ("file://", "router.lan"),
            // A name that was made to mean this machine.
            ("http://evil.example:8667", "evil.example:8667"),
            ("https://play.example.org.evil.example", "router.lan"),
            ("http://play.example.org", "router.lan"),
            ("https://play.example.org:8443", "router.lan"),
        ] {
            assert!(!admits(Some(origin), host), "{origin} {host}");
        }
        assert!(admits(None, "evil.example"));
        assert!(owner().admit(&asked(Some("http://evil"), Some("x"), Source::Unix), None));
        let mut without_host = asked(Some("http://evil"), None, tcp());
        assert!(!owner().admit(&without_host, None));
        without_host.origin = Some("http://".into());
        assert!(!owner().admit(&without_host, None));
    }

    #[test]
    fn origins_are_spelled_as_browsers_spell_them() {
        for good in ["https://a.example", "http://[::1]:3000", "app://local", "moz-extension://0a-b"] {
            assert!(is_origin(good), "{good}");
        }
        for bad in ["", "*", "null", "a.example", "https://", "https://a/", "https://a b", "://a", "1a://b"] {
            assert!(!is_origin(bad), "{bad}");
        }
    }

    #[test]
    fn the_public_url_names_this_machine() {
        let plain = Browsers::default();
        let named = plain.clone().with(Some("https://Play.example.org:8443"));
        for (host, is_known) in
            [("play.example.org", true), ("play.example.org:8443", true), ("example.org", false)]
        {
            assert_eq!(named.knows(&asked(None, Some(host), tcp()), None), is_known, "{host}");
            assert!(!plain.knows(&asked(None, Some(host), tcp()), None), "{host}");
        }
        assert_eq!(plain.clone().with(None), plain);
    }
}
