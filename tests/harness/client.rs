//! A client of the control API that knows its words, and says anything else it is told to.

use super::PATIENCE;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lanrage::crypto::blake2s;
use lanrage::crypto::x25519::PublicKey;
use lanrage::wire::json::{self, Value};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Itself, if it has this status.
    #[track_caller]
    pub fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{} {}", self.head, self.body);
        self
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        json::parse(self.body.as_bytes()).unwrap_or_else(|error| panic!("{error:?} in {}", self.body))
    }

    /// The text at the end of a path of names.
    #[track_caller]
    pub fn text(&self, path: &[&str]) -> String {
        text(&self.json(), path)
    }

    /// The `detail` of an error.
    #[track_caller]
    pub fn detail(&self) -> String {
        self.text(&["detail"])
    }
}

/// The text at the end of a path of names.
#[track_caller]
pub fn text(value: &Value, path: &[&str]) -> String {
    let found = path.iter().try_fold(value, |value, name| value.get(name));
    found.and_then(Value::as_str).unwrap_or_else(|| panic!("no {path:?} in {value:?}")).to_owned()
}

/// The members of an object.
#[track_caller]
pub fn members(value: &Value) -> &[(String, Value)] {
    match value {
        Value::Object(members) => members,
        other => panic!("{other:?} is no object"),
    }
}

/// A connection.
pub struct Client {
    pub reader: BufReader<TcpStream>,
    pub token: Option<String>,
    pub forwarded_for: Option<&'static str>,
}

/// A TCP connection that comes from `source`.
pub fn connect_from(source: Ipv4Addr, to: SocketAddr) -> TcpStream {
    try_connect_from(source.into(), to, PATIENCE).unwrap()
}

/// The same from any address, and nothing on it takes longer than `patience`. What can go wrong is that it is refused.
pub fn try_connect_from(source: IpAddr, to: SocketAddr, patience: Duration) -> io::Result<TcpStream> {
    let family = if source.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::net::bind(&socket, &SocketAddr::new(source, 0))?;
    let stream = TcpStream::from(socket);
    set_patience(&stream, patience)?;
    rustix::net::connect(&stream, &to)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn set_patience(stream: &TcpStream, patience: Duration) -> io::Result<()> {
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))
}

impl Client {
    /// One that comes from where the kernel likes it best, which is 127.0.0.1 on the loopback.
    pub fn connect(address: SocketAddr) -> Self {
        Self::connect_from(Ipv4Addr::UNSPECIFIED, address)
    }

    /// One that comes from `source`.
    pub fn connect_from(source: Ipv4Addr, address: SocketAddr) -> Self {
        Self::over(connect_from(source, address))
    }

    pub fn over(stream: TcpStream) -> Self {
        Client { reader: BufReader::new(stream), token: None, forwarded_for: None }
    }

    /// Over a Unix socket. Nothing that is done to it asks what kind of socket it is.
    pub fn unix(path: &Path) -> Self {
        let stream = TcpStream::from(OwnedFd::from(UnixStream::connect(path).unwrap()));
        set_patience(&stream, PATIENCE).unwrap();
        Self::over(stream)
    }

    /// A connection from `proxy`, for whom it says.
    pub fn forwarded(proxy: Ipv4Addr, address: SocketAddr, source: &str) -> Self {
        let forwarded_for = Some(&*String::from(source).leak());
        Client { forwarded_for, ..Self::connect_from(proxy, address) }
    }

    /// With this token.
    pub fn with_token(self, token: &str) -> Self {
        Client { token: Some(token.to_owned()), ..self }
    }

    /// With the token of another connection.
    pub fn with_token_of(self, other: &Client) -> Self {
        Client { token: other.token.clone(), ..self }
    }

    pub fn stream(&self) -> &TcpStream {
        self.reader.get_ref()
    }

    /// Ends the connection with a reset.
    pub fn reset(self) {
        rustix::net::sockopt::set_socket_linger(self.stream(), Some(Duration::ZERO)).unwrap();
    }

    /// Sends bytes as they are.
    #[track_caller]
    pub fn send(&self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap();
    }

    /// What can go wrong is that the connection has ended.
    pub fn try_send(&self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream().write_all(bytes.as_ref())
    }

    /// Reads an answer; to a HEAD request it has no body.
    pub fn receive(&mut self, method: &str) -> io::Result<Answer> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.reader.read_line(&mut head)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let status = head[9..12].parse().unwrap();
        let mut answer = Answer { status, head, body: String::new() };
        let length: usize = answer.header("Content-Length").map_or(0, |length| length.parse().unwrap());
        if answer.header("Transfer-Encoding").is_some() && method != "HEAD" {
            answer.body = self.receive_chunks()?;
        } else if method != "HEAD" {
            let mut body = vec![0; length];
            self.reader.read_exact(&mut body)?;
            // What is compressed is no text.
            answer.body = String::from_utf8_lossy(&body).into_owned();
        }
        Ok(answer)
    }

    fn receive_chunks(&mut self) -> io::Result<String> {
        let mut whole = Vec::new();
        loop {
            let mut line = String::new();
            self.reader.read_line(&mut line)?;
            let length = usize::from_str_radix(line.trim_end(), 16).unwrap();
            let mut chunk = vec![0; length + 2];
            self.reader.read_exact(&mut chunk)?;
            whole.extend_from_slice(&chunk[..length]);
            if length == 0 {
                return Ok(String::from_utf8(whole).unwrap());
            }
        }
    }

    /// The next answer.
    #[track_caller]
    pub fn answer(&mut self) -> Answer {
        self.receive("GET").unwrap()
    }

    /// The next answer; `None` if the connection ends before it begins.
    #[track_caller]
    pub fn try_answer(&mut self) -> Option<Answer> {
        match self.reader.fill_buf() {
            Ok([]) | Err(_) => None,
            Ok(_) => Some(self.answer()),
        }
    }

    /// Whether the daemon has ended the connection, waiting for it if need be.
    pub fn is_ended(&mut self) -> bool {
        match self.reader.read(&mut [0]) {
            Ok(count) => count == 0,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }

    /// Reads until the daemon ends the connection.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        match self.reader.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
        }
        rest
    }

    /// Asks for a WebSocket, with more lines in the head; the answer, and the connection that is one now.
    #[track_caller]
    pub fn upgrade(mut self, query: &str, lines: &str) -> (Answer, TcpStream) {
        self.send(upgrade_request(query, lines));
        let answer = self.answer().is(101);
        assert!(self.reader.buffer().is_empty(), "nobody has said anything yet");
        (answer, self.reader.into_inner())
    }

    /// What can go wrong is that the daemon is gone.
    pub fn try_ask(&mut self, method: &str, path: &str, body: &str) -> io::Result<Answer> {
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n");
        if let Some(token) = &self.token {
            request += &format!("Authorization: Bearer {token}\r\n");
        }
        if let Some(source) = self.forwarded_for {
            request += &format!("X-Forwarded-For: {source}\r\n");
        }
        if !body.is_empty() {
            request += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        }
        request += "\r\n";
        request += body;
        self.try_send(request)?;
        self.receive(method)
    }

    #[track_caller]
    pub fn ask(&mut self, method: &str, path: &str, body: &str) -> Answer {
        self.try_ask(method, path, body).unwrap()
    }

    #[track_caller]
    pub fn get(&mut self, path: &str) -> Answer {
        self.ask("GET", path, "")
    }

    /// Registers, and uses the token from now on.
    #[track_caller]
    pub fn register(&mut self, peer: &str) -> &mut Self {
        let answer = self.ask("POST", &format!("/auth/register?peer_id={peer}"), "").is(200);
        self.token = Some(answer.text(&["token"]));
        self
    }

    /// Makes a party, and returns its id.
    #[track_caller]
    pub fn create(&mut self, name: &str, host: &str) -> String {
        self.ask("POST", "/parties", &create_body(name, host)).is(200).text(&["party_id"])
    }

    #[track_caller]
    pub fn join(&mut self, party: &str, peer: &str) -> Answer {
        self.ask("POST", &format!("/parties/{party}/join"), &join_body(party, peer))
    }

    /// Makes a party, or joins one, as somebody with this key.
    #[track_caller]
    pub fn enrol(&mut self, peer: &str, key: &PublicKey, party: Option<&str>) -> Answer {
        self.try_enrol(&info(peer, &key.encode()), party).unwrap()
    }

    /// The same as a peer that is described like this. What can go wrong is that the connection has ended.
    pub fn try_enrol(&mut self, info: &str, party: Option<&str>) -> io::Result<Answer> {
        match party {
            None => {
                self.try_ask("POST", "/parties", &format!("{{\"name\":\"LAN\",\"host_peer_info\":{info}}}"))
            }
            Some(party) => {
                let body = format!("{{\"party_id\":\"{party}\",\"peer_info\":{info}}}");
                self.try_ask("POST", &format!("/parties/{party}/join"), &body)
            }
        }
    }

    #[track_caller]
    pub fn heartbeat(&mut self, party: &str, peer: &str) -> Answer {
        self.ask("POST", &format!("/parties/{party}/peers/{peer}/heartbeat"), "")
    }

    /// The value of a sample of `/metrics` that has no labels.
    #[track_caller]
    pub fn metric(&mut self, name: &str) -> u64 {
        let answer = self.get("/metrics").is(200);
        let value = answer.body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {name} in {}", answer.body)).parse().unwrap()
    }
}

/// The request for a WebSocket, with more lines in its head.
pub fn upgrade_request(query: &str, lines: &str) -> String {
    format!(
        "GET /ws{query} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{lines}\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// A WireGuard key for a peer: always the same, and as WireGuard would write it.
pub fn key_of(peer: &str) -> String {
    let mut key = blake2s::hash(&[peer.as_bytes()]);
    key[31] &= 0x7f;
    STANDARD.encode(key)
}

/// A peer as stock clients describe it.
pub fn peer(peer: &str) -> String {
    info(peer, &key_of(peer))
}

/// The same with this key.
pub fn info(peer: &str, key: &str) -> String {
    format!(
        "{{\"peer_id\":\"{peer}\",\"name\":\"Me\",\"public_key\":\"{key}\",\"nat_type\":\"unknown\",\
         \"public_ip\":\"unknown\",\"public_port\":0,\"local_ip\":\"unknown\",\"local_port\":0,\
         \"last_seen\":\"2026-11-05T12:00:00.123456\"}}"
    )
}

pub fn create_body(name: &str, host: &str) -> String {
    format!("{{\"name\":\"{name}\",\"host_peer_info\":{}}}", peer(host))
}

pub fn join_body(party: &str, id: &str) -> String {
    format!("{{\"party_id\":\"{party}\",\"peer_info\":{}}}", peer(id))
}
