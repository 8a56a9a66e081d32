//! The head of an HTTP answer (RFC 9112), as a client reads it: strictly, for the server may be anybody's.

use crate::wire::http_head::{MAX_HEAD, MAX_HEADERS};
use std::mem::MaybeUninit;
use std::time::Duration;

/// How long the body of an answer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BodyLength {
    /// So many bytes.
    Bytes(u64),
    /// It comes in chunks (RFC 9112 section 7.1).
    Chunked,
    /// Until the connection ends.
    UntilEnd,
}

/// A checked head.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ResponseHead {
    /// The status.
    pub status: u16,
    /// The body's length.
    pub length: BodyLength,
    /// `Retry-After`, if it is in seconds.
    pub retry_after: Option<Duration>,
    /// `Sec-WebSocket-Accept`.
    pub accept: Option<String>,
}

impl ResponseHead {
    /// Reads a whole head, from its first byte to its empty last line. The error says what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        if bytes.len() > MAX_HEAD {
            return Err("its head is longer than 8 KiB");
        }
        let mut space = [const { MaybeUninit::uninit() }; MAX_HEADERS];
        let mut parsed = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        match config.parse_response_with_uninit_headers(&mut parsed, bytes, &mut space) {
            Ok(httparse::Status::Complete(length)) if length == bytes.len() => (),
            _ => return Err("its head is malformed"),
        }
        let status = parsed.code.ok_or("its head is malformed")?;
        let (mut length, mut retry_after, mut accept) = (None, None, None);
        for header in parsed.headers {
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            let value = str::from_utf8(header.value).map(str::trim);
            let found = if is("content-length") {
                let digits = value.ok().filter(|value| value.bytes().all(|byte| byte.is_ascii_digit()));
                let number = digits.and_then(|digits| digits.parse().ok());
                BodyLength::Bytes(number.ok_or("its length is malformed")?)
            } else if is("transfer-encoding") {
                match value {
                    Ok(value) if value.eq_ignore_ascii_case("chunked") => BodyLength::Chunked,
                    _ => return Err("its transfer coding is unknown"),
                }
            } else {
                if is("retry-after") {
                    retry_after = value.ok().and_then(|value| value.parse().ok()).map(Duration::from_secs);
                } else if is("sec-websocket-accept") {
                    accept = value.ok().map(str::to_owned);
                }
                continue;
            };
            if length.replace(found).is_some_and(|before| before != found) {
                return Err("it has two lengths");
            }
        }
        let length = match status {
            100..200 | 204 | 304 => BodyLength::Bytes(0),
            _ => length.unwrap_or(BodyLength::UntilEnd),
        };
        Ok(ResponseHead { status, length, retry_after, accept })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &str) -> Result<ResponseHead, &'static str> {
        ResponseHead::parse(format!("HTTP/1.1 {lines}\r\n\r\n").as_bytes())
    }

    #[test]
    fn heads_are_read() {
        let head = read("429 Too Many Requests\r\nRetry-After: 17\r\ncontent-length: 2").unwrap();
        assert_eq!((head.status, head.length), (429, BodyLength::Bytes(2)));
        assert_eq!(head.retry_after, Some(Duration::from_secs(17)));
        assert_eq!(read("200 OK\r\nTransfer-Encoding: chunked").unwrap().length, BodyLength::Chunked);
        assert_eq!(read("200 OK").unwrap().length, BodyLength::UntilEnd);
        assert_eq!(read("204 No Content\r\nContent-Length: 9").unwrap().length, BodyLength::Bytes(0));
        let accept = read("101 Switching Protocols\r\nSec-WebSocket-Accept: abc=").unwrap().accept;
        assert_eq!(accept.as_deref(), Some("abc="));
        let date = read("503 Busy\r\nRetry-After: Fri, 31 Dec 1999 23:59:59 GMT").unwrap();
        assert_eq!(date.retry_after, None);
    }

    #[test]
    fn what_could_be_understood_in_two_ways_is_refused() {
        for lines in [
            "200 OK\r\nContent-Length: 1\r\nContent-Length: 2",
            "200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked",
            "200 OK\r\nContent-Length: -1",
            "200 OK\r\nContent-Length: +1",
            "200 OK\r\nContent-Length: 1, 1",
            "200 OK\r\nContent-Length: 99999999999999999999",
            "200 OK\r\nTransfer-Encoding: gzip",
            "20 OK",
            "x",
        ] {
            assert!(read(lines).is_err(), "{lines:?}");
        }
        assert!(ResponseHead::parse(b"HTTP/1.1 200 OK\r\n").is_err());
        assert!(read(&format!("200 OK\r\nX: {}", "x".repeat(MAX_HEAD))).is_err());
    }
}
