//! The head of an HTTP request (RFC 9112), read strictly: whatever two programs could understand
//! differently is refused, so that nobody can smuggle a request past a proxy in front of us.

#[cfg(feature = "cluster")]
use crate::wire::http::{INSTANCES, MAX_QUESTION};
use crate::wire::http::{MAX_BODY, MAX_UPLOAD, RejectedRequest, Request, Source, UPLOAD};
use crate::wire::websocket_upgrade::Upgrade;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use tiny_http::Method;

/// Longest head, in bytes, with its empty last line.
pub const MAX_HEAD: usize = 8 * 1024;
/// Most header lines.
pub const MAX_HEADERS: usize = 64;

/// Names of header lines that say for whom a proxy asks, or that there is one.
const ADDED_BY_PROXIES: [&str; 4] = ["x-forwarded-for", "forwarded", "x-real-ip", "via"];

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
    pub fn end(&mut self, bytes: &[u8]) -> Result<Option<usize>, RejectedRequest> {
        while let Some(offset) = bytes[self.scanned..].iter().position(|&byte| byte == b'\n') {
            let newline = self.scanned + offset;
            if newline == 0 || bytes[newline - 1] != b'\r' {
                return Err(RejectedRequest::new(400, "lines must end with CR LF"));
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
            return Err(RejectedRequest::new(400, "this is not HTTP"));
        }
        if bytes.len() >= MAX_HEAD {
            return Err(RejectedRequest::new(431, "the head is longer than 8 KiB"));
        }
        Ok(None)
    }
}

/// A checked head.
#[derive(Clone, Debug)]
pub struct RequestHead {
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
    /// The value of `Origin`.
    pub origin: Option<String>,
    /// The values of `If-None-Match`, joined as one list.
    pub if_none_match: Option<String>,
    /// The values of `X-Forwarded-For`, joined as one list.
    pub forwarded_for: Option<String>,
    /// Whether there is anything that proxies add.
    pub is_forwarded: bool,
    /// The length of the body, in bytes, at most [`MAX_BODY`], or [`MAX_UPLOAD`] of an upload; 0 if it comes in chunks.
    pub content_length: usize,
    /// Whether the body comes in chunks (RFC 9112 section 7.1).
    pub chunked: bool,
    /// Whether the client may send another request after this one.
    pub keep_alive: bool,
    /// The minor version: 0, or 1 for every later one.
    pub minor: u8,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// What it said about WebSocket.
    pub upgrade: Upgrade,
}

fn is_upload(method: &Method, path: &str) -> bool {
    path == UPLOAD && *method == Method::Post
}

const fn malformed(detail: &'static str) -> RejectedRequest {
    RejectedRequest::new(400, detail)
}

impl RequestHead {
    /// Whether its body is handed on piece by piece.
    pub fn is_upload(&self) -> bool {
        is_upload(&self.method, &self.path)
    }

    /// Reads a whole head, from its first byte to its empty last line.
    pub fn parse(bytes: &[u8]) -> Result<RequestHead, RejectedRequest> {
        if bytes.len() > MAX_HEAD {
            return Err(RejectedRequest::new(431, "the head is longer than 8 KiB"));
        }
        match later_minor_version(bytes) {
            Some(at) => {
                // Whoever speaks a later HTTP/1 speaks 1.1 as well (RFC 9110 section 2.5).
                let mut bytes = bytes.to_vec();
                bytes[at] = b'1';
                Self::parse_http_1(&bytes)
            }
            None => Self::parse_http_1(bytes),
        }
    }

    fn parse_http_1(bytes: &[u8]) -> Result<RequestHead, RejectedRequest> {
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
        let fields = HeaderFields::read(parsed.headers)?;
        if fields.chunked && minor == 0 {
            return Err(malformed("Transfer-Encoding in HTTP/1.0"));
        }
        let target = RequestTarget::parse(target, &method)?;
        let length = fields.content_length.unwrap_or(0);
        let most = if is_upload(&method, target.path) { MAX_UPLOAD } else { MAX_BODY };
        #[cfg(feature = "cluster")]
        let most = if target.path == INSTANCES { MAX_QUESTION } else { most };
        if length > most {
            let detail = match most {
                MAX_BODY => "the body is longer than 64 KiB",
                MAX_UPLOAD => "the body is longer than 64 MiB",
                _ => "the body is longer than 128 KiB",
            };
            return Err(RejectedRequest::new(413, detail));
        }
        let host = match (fields.host, target.authority) {
            (None, _) if minor == 1 => return Err(malformed("the Host header is missing")),
            (host, authority) => authority.or(host),
        };
        if host.is_some_and(|host| !host.bytes().all(is_authority_byte)) {
            return Err(malformed("the host is malformed"));
        }
        Ok(RequestHead {
            path: target.path.into(),
            query: target.query.into(),
            authorization: fields.authorization.map(text),
            host: host.map(String::from),
            origin: fields.origin.map(text),
            if_none_match: fields.if_none_match,
            forwarded_for: fields.forwarded_for,
            is_forwarded: fields.is_forwarded,
            content_length: length,
            chunked: fields.chunked,
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

impl Request {
    /// The request that `head` began and `body` completed.
    pub fn new(head: RequestHead, body: Vec<u8>, source: Source, local: Option<SocketAddr>) -> Self {
        Request {
            method: head.method,
            path: head.path,
            query: head.query,
            authorization: head.authorization,
            host: head.host,
            origin: head.origin,
            if_none_match: head.if_none_match,
            forwarded_for: head.forwarded_for,
            is_forwarded: head.is_forwarded,
            body,
            source,
            local,
        }
    }
}

/// What httparse found wrong, as an answer.
fn refusal_of(error: httparse::Error, bytes: &[u8]) -> RejectedRequest {
    match error {
        httparse::Error::TooManyHeaders => RejectedRequest::new(431, "more than 64 header lines"),
        httparse::Error::Version if names_http_version(bytes) => {
            RejectedRequest::new(505, "only HTTP/1.1 and HTTP/1.0 are spoken here")
        }
        httparse::Error::HeaderName => malformed("a header name is malformed"),
        httparse::Error::HeaderValue => malformed("a header value is malformed"),
        _ => malformed("the request line or a header is malformed"),
    }
}

/// The last of the request line's three words.
fn version(bytes: &[u8]) -> Option<&[u8]> {
    let line = bytes.split(|&byte| byte == b'\r').find(|line| line.len() > 1)?;
    let mut words = line.split(|&byte| byte == b' ').skip(2);
    let word = words.next()?;
    words.next().is_none().then_some(word)
}

/// Where the minor version stands if it is later than 1.1.
fn later_minor_version(bytes: &[u8]) -> Option<usize> {
    let word = version(bytes)?;
    matches!(word.strip_prefix(b"HTTP/1."), Some([b'2'..=b'9']))
        .then(|| word.as_ptr() as usize - bytes.as_ptr() as usize + word.len() - 1)
}

/// Whether the version is one of HTTP.
fn names_http_version(bytes: &[u8]) -> bool {
    match version(bytes).and_then(|word| word.strip_prefix(b"HTTP/")) {
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
struct HeaderFields<'a> {
    authorization: Option<&'a [u8]>,
    host: Option<&'a str>,
    origin: Option<&'a [u8]>,
    if_none_match: Option<String>,
    forwarded_for: Option<String>,
    is_forwarded: bool,
    content_length: Option<usize>,
    chunked: bool,
    close: bool,
    connection_upgrade: bool,
    expects_continue: bool,
    upgrade_websocket: bool,
    websocket_13: bool,
    websocket_key: Option<String>,
}

impl<'a> HeaderFields<'a> {
    fn read(headers: &[httparse::Header<'a>]) -> Result<Self, RejectedRequest> {
        let mut fields = HeaderFields::default();
        let mut length = None;
        let mut transfer_encoding: Option<&[u8]> = None;
        for header in headers {
            let value = header.value;
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            fields.is_forwarded |= ADDED_BY_PROXIES.iter().any(|name| is(name));
            if is("content-length") {
                only_once(&mut length, value, "more than one Content-Length")?;
            } else if is("transfer-encoding") {
                let is_first = transfer_encoding.replace(value).is_none();
                fields.chunked = is_first && value.eq_ignore_ascii_case(b"chunked");
            } else if is("host") {
                let value = str::from_utf8(value).map_err(|_| malformed("the host is malformed"))?;
                only_once(&mut fields.host, value, "more than one Host")?;
            } else if is("authorization") {
                only_once(&mut fields.authorization, value, "more than one Authorization")?;
            } else if is("origin") {
                only_once(&mut fields.origin, value, "more than one Origin")?;
            } else if is("connection") {
                fields.close |= lists(value, "close");
                fields.connection_upgrade |= lists(value, "upgrade");
            } else if is("expect") {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(RejectedRequest::new(417, "only 100-continue can be expected"));
                }
                fields.expects_continue = true;
            } else if is("upgrade") {
                fields.upgrade_websocket |= lists(value, "websocket");
            } else if is("sec-websocket-key") {
                only_once(&mut fields.websocket_key, text(value), "more than one Sec-WebSocket-Key")?;
            } else if is("sec-websocket-version") {
                fields.websocket_13 = value == b"13";
            } else if is("if-none-match") {
                append(&mut fields.if_none_match, value);
            } else if is("x-forwarded-for") {
                append(&mut fields.forwarded_for, value);
            }
        }
        match (transfer_encoding, length) {
            (Some(_), Some(_)) => return Err(malformed("Transfer-Encoding together with Content-Length")),
            (Some(_), None) if !fields.chunked => {
                return Err(RejectedRequest::new(501, "of transfer codings only chunked is understood here"));
            }
            (None, Some(value)) => fields.content_length = Some(content_length(value)?),
            (_, None) => (),
        }
        Ok(fields)
    }
}

fn only_once<T>(slot: &mut Option<T>, value: T, detail: &'static str) -> Result<(), RejectedRequest> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(malformed(detail)),
    }
}

/// Lines of one name make one list (RFC 9110, section 5.3).
fn append(list: &mut Option<String>, value: &[u8]) {
    *list = Some(match list.take() {
        None => text(value),
        Some(list) => list + ", " + &text(value),
    });
}

/// Whether a comma-separated list has this word in it.
fn lists(value: &[u8], word: &str) -> bool {
    value.split(|&byte| byte == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
}

/// Digits only: `str::parse` would take a sign.
fn content_length(value: &[u8]) -> Result<usize, RejectedRequest> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(malformed("Content-Length is malformed"));
    }
    // More digits than any number has are too many in any case.
    Ok(str::from_utf8(value).ok().and_then(|digits| digits.parse().ok()).unwrap_or(usize::MAX))
}

/// Where a request goes (RFC 9112 section 3.2).
struct RequestTarget<'a> {
    authority: Option<&'a str>,
    path: &'a str,
    query: &'a str,
}

impl<'a> RequestTarget<'a> {
    fn parse(target: &'a str, method: &Method) -> Result<Self, RejectedRequest> {
        if !target.bytes().all(|byte| matches!(byte, b'!'..=b'~') && byte != b'#') {
            return Err(malformed("the target has characters that must be percent-encoded"));
        }
        if target == "*" && *method == Method::Options {
            return Ok(RequestTarget { authority: None, path: "*", query: "" });
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
        Ok(RequestTarget { authority, path: if path.is_empty() { "/" } else { path }, query })
    }
}

/// What follows `http://` or `https://`.
fn scheme(target: &str) -> Option<&str> {
    ["http://", "https://"].iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the door does with bytes that have come so far.
    fn read(bytes: &[u8]) -> Result<Option<RequestHead>, RejectedRequest> {
        match HeadScan::default().end(bytes)? {
            Some(length) => RequestHead::parse(&bytes[..length]).map(Some),
            None => Ok(None),
        }
    }

    fn head(text: &str) -> RequestHead {
        read(text.as_bytes()).unwrap().unwrap()
    }

    fn status(text: &str) -> u16 {
        match read(text.as_bytes()) {
            Err(refusal) => refusal.status,
            Ok(Some(_)) => 200,
            Ok(None) => 0,
        }
    }

    const VALID: [&str; 7] = [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\nGET /parties/x?y=%20z HTTP/1.1\r\nHost: router.lan:8667\r\nAuthorization: Bearer abc\r\n\r\n",
        "POST /p HTTP/1.1\r\nhost:[::1]\r\ncontent-length:12\r\nExpect: 100-Continue\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n",
        "DELETE http://other:1/x?q HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-For: ::1\r\n\r\n",
        "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    ];

    #[test]
    fn reads_what_clients_send() {
        let plain = head(VALID[0]);
        assert_eq!((plain.method, plain.path.as_str(), plain.query.as_str()), (Method::Get, "/", ""));
        assert!(plain.keep_alive && plain.minor == 1 && plain.content_length == 0 && !plain.upgrade.asked);
        let full = head(VALID[1]);
        assert_eq!((full.path.as_str(), full.query.as_str()), ("/parties/x", "y=%20z"));
        assert_eq!(full.host.as_deref(), Some("router.lan:8667"));
        assert_eq!(full.authorization.as_deref(), Some("Bearer abc"));
        let post = head(VALID[2]);
        assert_eq!((post.content_length, post.expects_continue), (12, true));
        assert_eq!(post.host.as_deref(), Some("[::1]"));
        let old = head(VALID[3]);
        assert!(!old.keep_alive && old.minor == 0 && old.host.is_none());
        let options = head(VALID[4]);
        assert_eq!((options.path.as_str(), options.keep_alive), ("*", false));
        let absolute = head(VALID[5]);
        assert_eq!((absolute.path.as_str(), absolute.query.as_str()), ("/x", "q"));
        assert_eq!(absolute.host.as_deref(), Some("other:1"));
        assert_eq!(absolute.forwarded_for.as_deref(), Some("1.2.3.4, ::1"));
        assert!(absolute.is_forwarded && !full.is_forwarded && full.origin.is_none());
        let page = head("GET / HTTP/1.1\r\nHost: a\r\nOrigin: null\r\nVia: 1.1 b\r\n\r\n");
        assert_eq!((page.origin.as_deref(), page.is_forwarded), (Some("null"), true));
        assert_eq!(page.if_none_match, None);
        let known =
            head("GET / HTTP/1.1\r\nHost: a\r\nIf-None-Match: \"1\"\r\nif-none-match: W/\"2\"\r\n\r\n");
        assert_eq!(known.if_none_match.as_deref(), Some("\"1\", W/\"2\""));
        let upgrade = head(VALID[6]).upgrade;
        assert!(upgrade.asked && upgrade.version_13 && upgrade.accept().is_ok());
    }

    #[test]
    fn every_beginning_of_a_head_waits_for_the_rest() {
        for text in VALID {
            for length in 0..text.len() {
                assert_eq!(status(&text[..length]), 0, "{:?}", &text[..length]);
            }
            assert_eq!(status(text), 200, "{text:?}");
        }
    }

    #[test]
    fn pieces_are_scanned_as_the_whole_is() {
        for text in VALID {
            let with_body = format!("{text}trailing\r\n\r\n");
            for step in 1..20 {
                let mut scan = HeadScan::default();
                let mut length = 0;
                let end = loop {
                    length = (length + step).min(with_body.len());
                    if let Some(end) = scan.end(&with_body.as_bytes()[..length]).unwrap() {
                        break end;
                    }
                };
                assert_eq!(end, text.len());
            }
        }
    }

    #[test]
    fn shapes_that_smuggle_are_refused() {
        for (expected, text) in [
            (400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"),
            (400, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"),
            (200, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"),
            (200, "POST / HTTP/1.1\r\nHost: a\r\ntransfer-encoding:\tChunked\r\n\r\n"),
            (400, "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"),
            (
                501,
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            ),
            (
                501,
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n",
            ),
            (501, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;q=1\r\n\r\n"),
            (501, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n"),
            (501, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n"),
            (501, "POST / HTTP/1.1\r\nHost: a\r\ntransfer-encoding:\tidentity, chunked\r\n\r\n"),
            (400, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n"),
            (400, "POST / HTTP/1.1\r\nHost: a\r\n Transfer-Encoding: chunked\r\n\r\n"),
            (400, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding\r\n: chunked\r\n\r\n"),
            (400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n"),
            (400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n"),
            (400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5,5\r\n\r\n"),
            (400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n"),
            (400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n"),
            (400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\n"),
            (400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5 5\r\n\r\n"),
            (400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n"),
            (400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: five\r\n\r\n"),
            (413, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 65537\r\n\r\n"),
            (413, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000000\r\n\r\n"),
            // An upload alone may be longer.
            (200, "POST /restore HTTP/1.1\r\nHost: a\r\nContent-Length: 67108864\r\n\r\n"),
            (413, "POST /restore HTTP/1.1\r\nHost: a\r\nContent-Length: 67108865\r\n\r\n"),
            (413, "PUT /restore HTTP/1.1\r\nHost: a\r\nContent-Length: 65537\r\n\r\n"),
            (413, "GET /restore HTTP/1.1\r\nHost: a\r\nContent-Length: 65537\r\n\r\n"),
            (413, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551621\r\n\r\n"),
            (200, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 65536\r\n\r\n"),
            (200, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 000005\r\n\r\n"),
            (400, "GET / HTTP/1.1\nHost: a\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nHost: a\n\r\n"),
            (400, "GET / HTTP/1.1\r\nHost: a\r\n\n"),
            (400, "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\r\nHost: a\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n folded\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n"),
            (400, "GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nHost: a\r\nX\0: b\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nHost: a\r\n: empty\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nHost: a\r\nX: a\x7fb\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
            (400, "GET http://b/ HTTP/1.1\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"),
            (400, "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nHost: a\r\nOrigin: http://a\r\nOrigin: http://b\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n"),
            (400, "GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
            (400, "GET /  HTTP/1.1\r\nHost: a\r\n\r\n"),
            (400, " GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
            (400, "GET / a HTTP/1.1\r\nHost: a\r\n\r\n"),
            (400, "GET /\r\n\r\n"),
            (400, "GET / http/1.1\r\nHost: a\r\n\r\n"),
            (400, "GET / HTTPS/1.1\r\nHost: a\r\n\r\n"),
            (400, "G(T / HTTP/1.1\r\nHost: a\r\n\r\n"),
            (400, "GET x HTTP/1.1\r\nHost: a\r\n\r\n"),
            (400, "GET * HTTP/1.1\r\nHost: a\r\n\r\n"),
            (400, "GET http:/// HTTP/1.1\r\nHost: a\r\n\r\n"),
            (400, "GET http://u@h/ HTTP/1.1\r\nHost: a\r\n\r\n"),
            (400, "GET ftp://h/ HTTP/1.1\r\nHost: a\r\n\r\n"),
            (400, "CONNECT h:80 HTTP/1.1\r\nHost: a\r\n\r\n"),
            (400, "GET /#x HTTP/1.1\r\nHost: a\r\n\r\n"),
            (400, "GET /é HTTP/1.1\r\nHost: a\r\n\r\n"),
            (400, "\x16\x03\x01\x02"),
            (400, "é"),
            (505, "GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
            (505, "GET / HTTP/2\r\nHost: a\r\n\r\n"),
            (200, "GET / HTTP/1.2\r\nHost: a\r\n\r\n"),
            (200, "\r\nGET / HTTP/1.9\r\nHost: a\r\n\r\n"),
            (400, "GET / HTTP/1.2\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nHost: a\r\nGET / HTTP/1.2\r\n\r\n"),
            (400, "GET / HTTP/1.10\r\nHost: a\r\n\r\n"),
            (505, "GET / HTTP/0.9\r\nHost: a\r\n\r\n"),
            (505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
            (417, "POST / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\n\r\n"),
        ] {
            assert_eq!(status(text), expected, "{text:?}");
        }
    }

    #[test]
    fn heads_are_bounded() {
        let line = |length: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(length));
        let overhead = line(0).len();
        assert_eq!(status(&line(MAX_HEAD - overhead - 1)), 200);
        assert_eq!(status(&"x".repeat(MAX_HEAD - 1)), 0);
        assert_eq!(status(&"x".repeat(MAX_HEAD)), 431);
        assert_eq!(status(&"\r\n".repeat(MAX_HEAD / 2)), 431);
        assert_eq!(RequestHead::parse(line(MAX_HEAD).as_bytes()).unwrap_err().status, 431);
        let headers = |count: usize| format!("GET / HTTP/1.0\r\n{}\r\n", "X: y\r\n".repeat(count));
        assert_eq!(status(&headers(MAX_HEADERS)), 200);
        assert_eq!(status(&headers(MAX_HEADERS + 1)), 431);
    }

    /// Whatever is accepted is free of what a handler or a log could trip over.
    fn check(bytes: &[u8]) -> u16 {
        match read(bytes) {
            Ok(None) => 0,
            Ok(Some(head)) => {
                assert!(head.content_length <= MAX_BODY);
                assert!(head.path == "*" || head.path.starts_with('/'), "{head:?}");
                for text in [&head.path, &head.query] {
                    assert!(text.bytes().all(|byte| byte.is_ascii_graphic()), "{head:?}");
                }
                for text in [&head.authorization, &head.host, &head.forwarded_for].into_iter().flatten() {
                    assert!(!text.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t'), "{head:?}");
                }
                200
            }
            Err(refusal) => {
                assert!([400, 413, 417, 431, 501, 505].contains(&refusal.status));
                assert!(!refusal.detail.contains(['"', '\\']) && refusal.detail.is_ascii());
                // Clients take this number anywhere in an error for "not found".
                assert!(!refusal.detail.contains("404"));
                refusal.status
            }
        }
    }

    #[test]
    fn every_mutation_of_one_byte_is_survived() {
        for text in VALID {
            let mut bytes = text.as_bytes().to_vec();
            for at in 0..bytes.len() {
                let original = bytes[at];
                for value in 0..=255 {
                    bytes[at] = value;
                    check(&bytes);
                }
                bytes[at] = original;
            }
        }
    }

    /// A xorshift generator: the same bytes on every run.
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % bound as u64) as usize
        }
    }

    #[test]
    fn random_heads_are_survived() {
        let pieces: Vec<&[u8]> = [
            "GET",
            "POST",
            " ",
            " ",
            "/",
            "*",
            "?",
            "HTTP/1.1",
            "HTTP/1.0",
            "HTTP/2.0",
            "\r\n",
            "\r\n",
            "\r\n",
            "\n",
            "\r",
            ":",
            ": ",
            "Host",
            "Content-Length",
            "Transfer-Encoding",
            "chunked",
            "5",
            "99999999999999999999",
            ",",
            "\0",
            "\t",
            "é",
            "http://",
            "Expect",
            "100-continue",
            "Connection",
            "close",
            "\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n",
            "Upgrade: websocket\r\n",
            "Transfer-Encoding: chunked\r\n",
            "Transfer-Encoding: gzip\r\n",
            "Content-Length: 99999\r\n",
            "Expect: x\r\n",
            "Sec-WebSocket-Key: ",
        ]
        .iter()
        .map(|piece| piece.as_bytes())
        .collect();
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let mut seen = [0; 600];
        for _ in 0..60_000 {
            let mut bytes = Vec::new();
            if random.below(2) == 0 {
                bytes.extend_from_slice(VALID[random.below(VALID.len())].as_bytes());
                for _ in 0..random.below(4) {
                    let at = random.below(bytes.len());
                    match random.below(3) {
                        0 => drop(bytes.remove(at)),
                        1 => bytes[at] = random.below(256) as u8,
                        _ => drop(bytes.splice(at..at, pieces[random.below(pieces.len())].iter().copied())),
                    }
                }
            } else {
                for _ in 0..random.below(24) {
                    bytes.extend_from_slice(pieces[random.below(pieces.len())]);
                }
                bytes.extend_from_slice(b"\r\n\r\n");
            }
            seen[usize::from(check(&bytes))] += 1;
        }
        // The generator must reach what it is there to test.
        for status in [0, 200, 400, 413, 417, 501, 505] {
            assert!(seen[status] > 10, "{status} was seen {} times", seen[status]);
        }
    }
}
