//! The bytes of an answer's head, printed by tiny_http.

use crate::time::UnixTime;
use crate::wire::datetime;
use crate::wire::http::Answer;
use std::io;
use tiny_http::{HTTPVersion, Header, Response, StatusCode};

/// Where the body of an answer ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum BodyEnd {
    /// After so many bytes.
    Bytes(usize),
    /// Where the chunks say so.
    Chunked,
}

/// Whether an answer with this status never has a body.
pub(super) fn is_bodiless(status: u16) -> bool {
    matches!(status, 100..=199 | 204 | 304)
}

/// Prints the head of `answer`, sent at `date`, with its empty last line.
pub(super) fn head(answer: &Answer, length: BodyEnd, close: bool, date: UnixTime) -> Vec<u8> {
    let size = match length {
        BodyEnd::Bytes(size) => Some(size),
        BodyEnd::Chunked => None,
    };
    let mut response = Response::new(StatusCode(answer.status), Vec::new(), io::empty(), size, None)
        .with_chunked_threshold(usize::MAX);
    sign(&mut response, date);
    if !answer.content_type.is_empty() {
        add(&mut response, "Content-Type", answer.content_type);
    }
    for (name, value) in &answer.headers {
        add(&mut response, name, value);
    }
    let mut bytes = print(response, None);
    // Response takes no Connection and no Upgrade header, so they are put in front of the last line.
    bytes.truncate(bytes.len().saturating_sub(2));
    if is_bodiless(answer.status) {
        // The length of a 304 would be that of the body that the client has (RFC 9110, section 8.6).
        bytes.truncate(bytes.strip_suffix(b"Content-Length: 0\r\n").map_or(bytes.len(), <[u8]>::len));
    }
    match (close, answer.status) {
        (true, 426) => bytes.extend_from_slice(b"Upgrade: websocket\r\nConnection: close, upgrade\r\n"),
        (true, _) => bytes.extend_from_slice(b"Connection: close\r\n"),
        (false, _) => (),
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// Prints the answer that turns the connection into a WebSocket (RFC 6455 section 4.2.2).
pub(super) fn switching_protocols(accept: &str, date: UnixTime) -> Vec<u8> {
    let mut response = Response::empty(101);
    sign(&mut response, date);
    add(&mut response, "Sec-WebSocket-Accept", accept);
    print(response, Some("websocket"))
}

/// Without a date tiny_http asks std for it, which panics on 32-bit musl once the clock is past 2038.
fn sign(response: &mut Response<io::Empty>, date: UnixTime) {
    add(response, "Date", &datetime::Http(date).to_string());
    add(response, "Server", "lanrage");
}

/// A value that could break out of its line is left out, which only our own mistake can bring about.
fn add(response: &mut Response<io::Empty>, name: &str, value: &str) {
    match Header::from_bytes(name, value) {
        Ok(header) if !value.bytes().any(|byte| byte.is_ascii_control()) => response.add_header(header),
        _ => log::error!("the header {name} has a value that can't be sent"),
    }
}

fn print(response: Response<io::Empty>, upgrade: Option<&str>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(384);
    if let Err(error) = response.raw_print(&mut bytes, HTTPVersion(1, 1), &[], true, upgrade) {
        log::error!("an answer could not be printed: {error}");
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date() -> UnixTime {
        UnixTime::from_micros(5_000_000_000_000_000)
    }

    fn printed(answer: &Answer, length: BodyEnd, close: bool) -> String {
        String::from_utf8(head(answer, length, close, date())).unwrap()
    }

    fn has(text: &str, line: &str) -> bool {
        text.lines().any(|found| found == line)
    }

    #[test]
    fn says_how_long_the_body_is() {
        let text = printed(&Answer::json(200, "{}"), BodyEnd::Bytes(2), false);
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("\r\n\r\n"), "{text}");
        assert_eq!(text.matches("\r\n\r\n").count(), 1);
        for line in ["Content-Length: 2", "Server: lanrage", "Content-Type: application/json"] {
            assert!(has(&text, line), "{line} in {text}");
        }
        assert!(!text.contains("Connection") && !text.contains("Transfer-Encoding"));
        assert!(!text.contains("Access-Control"));
        assert_eq!(text.lines().filter(|line| line.starts_with("Date: ")).count(), 1);
        assert!(has(&text, "Date: Fri, 11 Jun 2128 08:53:20 GMT"), "{text}");
    }

    #[test]
    fn large_and_chunked_bodies_are_told_apart() {
        let large = printed(&Answer::json(200, ""), BodyEnd::Bytes(10_000_000), true);
        assert!(has(&large, "Content-Length: 10000000") && has(&large, "Connection: close"));
        let chunked = printed(&Answer::json(200, ""), BodyEnd::Chunked, false);
        assert!(has(&chunked, "Transfer-Encoding: chunked") && !chunked.contains("Content-Length"));
    }

    #[test]
    fn an_answer_that_never_has_a_body_says_nothing_of_one() {
        let unchanged = Answer {
            status: 304,
            content_type: "",
            headers: vec![("ETag", "\"1\"".into())],
            body: Vec::new(),
        };
        let text = printed(&unchanged, BodyEnd::Bytes(0), false);
        assert!(text.starts_with("HTTP/1.1 304 Not Modified\r\n") && text.ends_with("\r\n\r\n"), "{text}");
        assert!(has(&text, "ETag: \"1\"") && !text.contains("Content-"), "{text}");
    }

    #[test]
    fn an_upgrade_has_no_length() {
        let text = String::from_utf8(switching_protocols("abc=", date())).unwrap();
        assert!(text.starts_with("HTTP/1.1 101 Switching Protocols\r\n") && text.ends_with("\r\n\r\n"));
        assert!(has(&text, "Upgrade: websocket") && has(&text, "Connection: upgrade"));
        assert!(has(&text, "Sec-WebSocket-Accept: abc="));
        assert!(!text.contains("Content-Length"));
    }

    #[test]
    fn a_header_can_not_start_another_line() {
        let mut answer = Answer::json(200, "");
        answer.headers.push(("X-Bad", "a\r\nSet-Cookie: b".into()));
        answer.headers.push(("X-Good", "a".into()));
        let text = printed(&answer, BodyEnd::Bytes(0), false);
        assert!(!text.contains("Cookie") && has(&text, "X-Good: a"));
    }
}
