//! Requests and answers as the HTTP door hands them on: parsed, bounded, and free of sockets.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use tiny_http::Method;

/// Longest body of a request, in bytes.
pub const MAX_BODY: usize = 64 * 1024;
/// Where a longer one may be posted, which is handed on piece by piece: a backup that is gone back to.
pub const UPLOAD: &str = "/restore";
/// Longest body of that, in bytes.
pub const MAX_UPLOAD: usize = 64 * 1024 * 1024;
/// Where instances of a realm ask each other.
#[cfg(feature = "cluster")]
pub const INSTANCES: &str = "/instances";
/// Longest body of that, in bytes: a whole request is in it, as Base64.
#[cfg(feature = "cluster")]
pub const MAX_QUESTION: usize = 128 * 1024;

/// Who a connection comes from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Source {
    /// The Unix socket in the state directory: whoever can open it owns the daemon.
    Unix,
    /// A TCP peer; an IPv4-mapped IPv6 address is given as the IPv4 address it means.
    Ip(IpAddr),
}

impl Source {
    /// The address, if it is not the owner of the machine.
    pub fn address(self) -> Option<IpAddr> {
        match self {
            Source::Unix => None,
            Source::Ip(address) => Some(address.to_canonical()),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Unix => f.write_str("the Unix socket"),
            Source::Ip(address) => address.fmt(f),
        }
    }
}

/// A request whose framing has been checked (RFC 9112).
#[derive(Clone, Debug)]
pub struct Request {
    /// The method, as sent.
    pub method: Method,
    /// The path as sent, still percent-encoded, without the query.
    pub path: String,
    /// What followed `?`, still percent-encoded; empty if nothing did.
    pub query: String,
    /// The value of `Authorization`, if there was one.
    pub authorization: Option<String>,
    /// The value of `Host`, if there was one.
    pub host: Option<String>,
    /// The value of `Origin`, if there was one: of a browser, what page asks.
    pub origin: Option<String>,
    /// The value of `If-None-Match`, if there was one: what the client has already.
    pub if_none_match: Option<String>,
    /// The value of `X-Forwarded-For`, if there was one. To be believed only from a trusted proxy.
    pub forwarded_for: Option<String>,
    /// Whether anything in the head says that a proxy passed it on.
    pub is_forwarded: bool,
    /// The body, at most 64 KiB.
    pub body: Vec<u8>,
    /// Who sent it.
    pub source: Source,
    /// The address it arrived on; `None` over the Unix socket.
    pub local: Option<SocketAddr>,
}

/// What goes back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The media type of `body`; empty if there is no body to speak of.
    pub content_type: &'static str,
    /// Further header lines.
    pub headers: Vec<(&'static str, String)>,
    /// The body, sent whole with its length.
    pub body: Vec<u8>,
}

impl Answer {
    /// An answer with a JSON body.
    pub fn json(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Answer { status, content_type: "application/json", headers: Vec::new(), body: body.into() }
    }
}

/// Why a request was turned away before anybody looked at what it asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RejectedRequest {
    /// The status code, 400 to 505.
    pub status: u16,
    /// The reason, in plain ASCII without quotes or backslashes, so that it is valid inside JSON as it is.
    pub detail: &'static str,
}

impl RejectedRequest {
    /// A refusal with its reason.
    pub const fn new(status: u16, detail: &'static str) -> Self {
        RejectedRequest { status, detail }
    }

    /// The answer that tells the client.
    pub fn answer(self) -> Answer {
        let mut answer = Answer::json(self.status, format!("{{\"detail\":\"{}\"}}", self.detail));
        match self.status {
            426 => answer.headers.push(("Sec-WebSocket-Version", "13".into())),
            503 => answer.headers.push(("Retry-After", "1".into())),
            _ => (),
        }
        answer
    }
}
