//! What asks where costs are measured: HTTP over a kept connection, and a WebSocket, as bare as they can be.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Nothing that is measured takes as long.
const PATIENCE: Duration = Duration::from_secs(20);

/// A request as it goes over the wire.
pub fn request(method: &str, path: &str, token: Option<&str>, body: &str) -> Vec<u8> {
    let authorization = token.map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
    format!(
        "{method} {path} HTTP/1.1\r\nHost: 192.0.2.1:8667\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate\r\n\
         Connection: keep-alive\r\nUser-Agent: python-httpx/0.27.0\r\n{authorization}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A connection that is kept.
pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// How much of `buffer` was read; all of it belongs to one answer, or to frames not yet looked at.
    filled: usize,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("a connection");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        stream.set_write_timeout(Some(PATIENCE)).expect("a time-out");
        Client { stream, buffer: vec![0; 4096], filled: 0 }
    }

    pub fn send(&mut self, request: &[u8]) {
        self.stream.write_all(request).expect("sending");
    }

    fn read_more(&mut self) {
        if self.filled == self.buffer.len() {
            self.buffer.resize(2 * self.filled, 0);
        }
        let length = self.stream.read(&mut self.buffer[self.filled..]).expect("an answer in time");
        assert!(length > 0, "the connection was closed");
        self.filled += length;
    }

    /// Reads up to the end of a head; its length.
    fn head(&mut self) -> usize {
        self.filled = 0;
        loop {
            self.read_more();
            if let Some(end) = self.buffer[..self.filled].windows(4).position(|four| four == b"\r\n\r\n") {
                return end + 4;
            }
        }
    }

    /// Reads an answer, which has to be a 200; its body.
    pub fn receive(&mut self) -> &[u8] {
        let head = self.head();
        let text = std::str::from_utf8(&self.buffer[..head]).expect("a head in UTF-8");
        assert!(
            text.starts_with("HTTP/1.1 200 "),
            "{}",
            String::from_utf8_lossy(&self.buffer[..self.filled])
        );
        let length = text.split("Content-Length: ").nth(1).and_then(|rest| rest.split('\r').next());
        let length: usize = length.and_then(|text| text.parse().ok()).expect("a Content-Length");
        while self.filled < head + length {
            self.read_more();
        }
        &self.buffer[head..head + length]
    }

    pub fn ask(&mut self, request: &[u8]) -> &[u8] {
        self.send(request);
        self.receive()
    }

    /// Turns the connection into a WebSocket.
    pub fn upgrade(mut self) -> WebSocket {
        self.send(
            b"GET /ws HTTP/1.1\r\nHost: 192.0.2.1:8667\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
              Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        );
        let head = self.head();
        assert!(self.buffer.starts_with(b"HTTP/1.1 101 "), "no WebSocket");
        assert_eq!(head, self.filled, "nothing comes before we say who we are");
        self.filled = 0;
        WebSocket(self)
    }
}

/// The text between `"name":"` and the next quote.
pub fn text_member(json: &[u8], name: &str) -> String {
    let json = std::str::from_utf8(json).expect("UTF-8");
    let rest = json.split(&format!("\"{name}\":\"")).nth(1).unwrap_or_else(|| panic!("no {name} in {json}"));
    rest.split('"').next().unwrap_or_default().to_owned()
}

/// A WebSocket (RFC 6455).
pub struct WebSocket(Client);

impl WebSocket {
    /// Sends a text of at most 125 bytes, masked with zeros.
    pub fn send(&mut self, text: &str) {
        let length = u8::try_from(text.len()).ok().filter(|length| *length < 126).expect("a short text");
        let mut frame = vec![0x81, 0x80 | length, 0, 0, 0, 0];
        frame.extend_from_slice(text.as_bytes());
        self.0.send(&frame);
    }

    /// Waits for one message and forgets it; its length.
    pub fn receive(&mut self) -> usize {
        loop {
            if let Some((header, length)) = frame_lengths(&self.0.buffer[..self.0.filled])
                && self.0.filled >= header + length
            {
                let client = &mut self.0;
                client.buffer.copy_within(header + length..client.filled, 0);
                client.filled -= header + length;
                // One message may have been large, and there are many of us.
                if client.filled == 0 {
                    client.buffer = vec![0; 1024];
                }
                return length;
            }
            self.0.read_more();
        }
    }
}

fn frame_lengths(bytes: &[u8]) -> Option<(usize, usize)> {
    match *bytes.get(1)? {
        126 => Some((4, usize::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?)))),
        127 => Some((10, usize::try_from(u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?)).ok()?)),
        short => Some((2, usize::from(short))),
    }
}
