//! The head of an HTTP request (RFC 9112), read strictly: whatever two programs could understand
//! differently is refused, so that nobody can smuggle a request past a proxy in front of us.

use crate::wire::http::{MAX_BODY, Refusal};
use crate::wire::websocket_upgrade::Upgrade;
use std::mem::MaybeUninit;
use tiny_http::Method;

/// Longest head, in bytes, with its empty last line.
pub const MAX_HEAD: usize = 8 * 1024;
/// Most header lines.
pub const MAX_HEADERS: usize = 64;

/// Looks for the end of a head that comes in piece by piece, without looking at any byte twice.
#[derive(Clone, Debug, Default)]
pub struct HeadScan {
    scanned: usize,
    line_start: usize,
    in_head: bool,
}

impl HeadScan {
    /// The length of the head at the start of `bytes`, in bytes, or `None` if it goes on. `bytes` begins
    /// where it began in the call before, and only grows.
    pub fn end(&mut self, bytes: &[u8]) -> Result<Option<usize>, Refusal> {
        while let Some(offset) = bytes[self.scanned..].iter().position(|&byte| byte == b'\n') {
            let newline = self.scanned + offset;
            if newline == 0 || bytes[newline - 1] != b'\r' {
                return Err(Refusal::new(400, "lines must end with CR LF"));
            }
            let is_empty = newline - self.line_start == 1;
            self.scanned = newline + 1;
            self.line_start = self.scanned;
            if !is_empty {
                self.in_head = true;
            } else if self.in_head {
                return Ok(Some(self.scanned));
            }
        }
        self.scanned = bytes.len();
        // TLS, or something else that would keep us waiting for a line that never ends.
        if !self.in_head
            && bytes.get(self.line_start).is_some_and(|byte| !matches!(byte, b'\r' | b'!'..=b'~'))
        {
            return Err(Refusal::new(400, "this is not HTTP"));
        }
        if bytes.len() >= MAX_HEAD {
            return Err(Refusal::new(431, "the head is longer than 8 KiB"));
        }
        Ok(None)
    }
}

/// A checked head.
#[derive(Clone, Debug)]
pub struct Head {
    /// The method, as sent.
    pub method: Method,
    /// The path as sent, still percent-encoded; `*` for `OPTIONS *`.
    pub path: String,
    /// What followed `?`, still percent-encoded; empty if nothing did.
    pub query: String,
    /// The value of `Authorization`.
    pub authorization: Option<String>,
    /// The value of `Host`, or the authority of an absolute target, which comes first (RFC 9112, 3.2.2).
    pub host: Option<String>,
    /// The values of `X-Forwarded-For`, joined as one list.
    pub forwarded_for: Option<String>,
    /// The length of the body, in bytes, at most [`MAX_BODY`].
    pub content_length: usize,
    /// Whether the client may send another request after this one.
    pub keep_alive: bool,
    /// The minor version: 0 or 1.
    pub minor: u8,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// What it said about WebSocket.
    pub upgrade: Upgrade,
}

const fn malformed(detail: &'static str) -> Refusal {
    Refusal::new(400, detail)
}

impl Head {
    /// Reads a whole head, from its first byte to its empty last line.
    pub fn parse(bytes: &[u8]) -> Result<Head, Refusal> {
        if bytes.len() > MAX_HEAD {
            return Err(Refusal::new(431, "the head is longer than 8 KiB"));
        }
        let mut space = [const { MaybeUninit::uninit() }; MAX_HEADERS];
        let mut parsed = httparse::Request::new(&mut []);
        match parsed.parse_with_uninit_headers(bytes, &mut space) {
            Ok(httparse::Status::Complete(length)) if length == bytes.len() => (),
            Ok(_) => return Err(malformed("the head is not complete")),
            Err(error) => return Err(refusal_of(error, bytes)),
        }
        let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version) else {
            return Err(malformed("the request line is malformed"));
        };
        let method = method.parse::<Method>().map_err(|()| malformed("the method is malformed"))?;
        let fields = Fields::read(parsed.headers)?;
        let target = Target::parse(target, &method)?;
        let host = match (fields.host, target.authority) {
            (None, _) if minor == 1 => return Err(malformed("the Host header is missing")),
            (host, authority) => authority.or(host),
        };
        if host.is_some_and(|host| !host.bytes().all(is_authority_byte)) {
            return Err(malformed("the host is malformed"));
        }
        Ok(Head {
            path: target.path.into(),
            query: target.query.into(),
            authorization: fields.authorization.map(text),
            host: host.map(String::from),
            forwarded_for: fields.forwarded_for,
            content_length: fields.content_length.unwrap_or(0),
            keep_alive: minor == 1 && !fields.close,
            minor,
            expects_continue: minor == 1 && fields.expects_continue,
            upgrade: Upgrade {
                asked: method == Method::Get
                    && minor == 1
                    && fields.connection_upgrade
                    && fields.upgrade_websocket,
                version_13: fields.websocket_13,
                key: fields.websocket_key,
            },
            method,
        })
    }
}

/// What httparse found wrong, as an answer.
fn refusal_of(error: httparse::Error, bytes: &[u8]) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal::new(431, "more than 64 header lines"),
        httparse::Error::Version if names_http_version(bytes) => {
            Refusal::new(505, "only HTTP/1.1 and HTTP/1.0 are spoken here")
        }
        httparse::Error::HeaderName => malformed("a header name is malformed"),
        httparse::Error::HeaderValue => malformed("a header value is malformed"),
        _ => malformed("the request line or a header is malformed"),
    }
}

/// Whether the request line ends with `HTTP/` and a version.
fn names_http_version(bytes: &[u8]) -> bool {
    let line = bytes.split(|&byte| byte == b'\r').find(|line| line.len() > 1).unwrap_or_default();
    let word = line.rsplit(|&byte| byte == b' ').next().unwrap_or_default();
    match word.strip_prefix(b"HTTP/") {
        Some([major]) => major.is_ascii_digit(),
        Some([major, b'.', minor]) => major.is_ascii_digit() && minor.is_ascii_digit(),
        _ => false,
    }
}

/// A header value as text; bytes that are no UTF-8 can match nothing we know and become U+FFFD.
fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

/// RFC 3986: what a host with an optional port is made of.
fn is_authority_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(&byte)
}

/// The header lines that mean something here.
#[derive(Default)]
struct Fields<'a> {
    authorization: Option<&'a [u8]>,
    host: Option<&'a str>,
    forwarded_for: Option<String>,
    content_length: Option<usize>,
    close: bool,
    connection_upgrade: bool,
    expects_continue: bool,
    upgrade_websocket: bool,
    websocket_13: bool,
    websocket_key: Option<String>,
}

impl<'a> Fields<'a> {
    fn read(headers: &[httparse::Header<'a>]) -> Result<Self, Refusal> {
        let mut fields = Fields::default();
        let mut length = None;
        let mut transfer_encoding = false;
        for header in headers {
            let value = header.value;
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            if is("content-length") {
                only_once(&mut length, value, "more than one Content-Length")?;
            } else if is("transfer-encoding") {
                transfer_encoding = true;
            } else if is("host") {
                let value = str::from_utf8(value).map_err(|_| malformed("the host is malformed"))?;
                only_once(&mut fields.host, value, "more than one Host")?;
            } else if is("authorization") {
                only_once(&mut fields.authorization, value, "more than one Authorization")?;
            } else if is("connection") {
                fields.close |= lists(value, "close");
                fields.connection_upgrade |= lists(value, "upgrade");
            } else if is("expect") {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(Refusal::new(417, "only 100-continue can be expected"));
                }
                fields.expects_continue = true;
            } else if is("upgrade") {
                fields.upgrade_websocket |= lists(value, "websocket");
            } else if is("sec-websocket-key") {
                only_once(&mut fields.websocket_key, text(value), "more than one Sec-WebSocket-Key")?;
            } else if is("sec-websocket-version") {
                fields.websocket_13 = value == b"13";
            } else if is("x-forwarded-for") {
                fields.forwarded_for = Some(match fields.forwarded_for.take() {
                    None => text(value),
                    Some(list) => list + ", " + &text(value),
                });
            }
        }
        match (transfer_encoding, length) {
            (true, Some(_)) => return Err(malformed("Transfer-Encoding together with Content-Length")),
            (true, None) => return Err(Refusal::new(411, "send the body with a Content-Length")),
            (false, Some(value)) => fields.content_length = Some(content_length(value)?),
            (false, None) => (),
        }
        Ok(fields)
    }
}

fn only_once<T>(slot: &mut Option<T>, value: T, detail: &'static str) -> Result<(), Refusal> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(malformed(detail)),
    }
}

/// Whether a comma-separated list has this word in it.
fn lists(value: &[u8], word: &str) -> bool {
    value.split(|&byte| byte == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
}

/// Digits only: `str::parse` would take a sign.
fn content_length(value: &[u8]) -> Result<usize, Refusal> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(malformed("Content-Length is malformed"));
    }
    match str::from_utf8(value).ok().and_then(|digits| digits.parse().ok()) {
        Some(length) if length <= MAX_BODY => Ok(length),
        _ => Err(Refusal::new(413, "the body is longer than 64 KiB")),
    }
}

/// Where a request goes (RFC 9112 section 3.2).
struct Target<'a> {
    authority: Option<&'a str>,
    path: &'a str,
    query: &'a str,
}

impl<'a> Target<'a> {
    fn parse(target: &'a str, method: &Method) -> Result<Self, Refusal> {
        if !target.bytes().all(|byte| matches!(byte, b'!'..=b'~') && byte != b'#') {
            return Err(malformed("the target has characters that must be percent-encoded"));
        }
        if target == "*" && *method == Method::Options {
            return Ok(Target { authority: None, path: "*", query: "" });
        }
        let (authority, rest) = match scheme(target) {
            Some(rest) => {
                let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
                (Some(authority), rest)
            }
            None if target.starts_with('/') => (None, target),
            None => return Err(malformed("the target must be a path; this is no proxy")),
        };
        if authority == Some("") {
            return Err(malformed("the target names no host"));
        }
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        Ok(Target { authority, path: if path.is_empty() { "/" } else { path }, query })
    }
}

/// What follows `http://` or `https://`.
fn scheme(target: &str) -> Option<&str> {
    ["http://", "https://"].iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    })
}
