//! A client of the control API that knows its words, and says anything else it is told to.

use crate::PATIENCE;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lanrage::crypto::blake2s;
use lanrage::wire::json::{self, Value};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;

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
        let whole = self.json();
        let found = path.iter().try_fold(&whole, |value, name| value.get(name));
        found.and_then(Value::as_str).unwrap_or_else(|| panic!("no {path:?} in {}", self.body)).to_owned()
    }

    /// The `detail` of an error.
    #[track_caller]
    pub fn detail(&self) -> String {
        self.text(&["detail"])
    }
}

/// The members of an object.
#[track_caller]
pub fn members(value: &Value) -> &[(String, Value)] {
    match value {
        Value::Object(members) => members,
        other => panic!("{other:?} is no object"),
    }
}

trait Duplex: Read + Write + Send {}
impl<T: Read + Write + Send> Duplex for T {}

/// A connection.
pub struct Client {
    stream: BufReader<Box<dyn Duplex>>,
    pub token: Option<String>,
    pub forwarded_for: Option<&'static str>,
}

/// A TCP connection that comes from `source`.
pub fn connect_from(source: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap();
    rustix::net::bind(&socket, &SocketAddr::new(IpAddr::V4(source), 0)).unwrap();
    rustix::net::connect(&socket, &to).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        Self::over(connect_from(Ipv4Addr::LOCALHOST, address))
    }

    pub fn over(stream: TcpStream) -> Self {
        Client { stream: BufReader::new(Box::new(stream)), token: None, forwarded_for: None }
    }

    pub fn unix(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client { stream: BufReader::new(Box::new(stream)), token: None, forwarded_for: None }
    }

    /// With the token of another connection.
    pub fn with_token_of(self, other: &Client) -> Self {
        Client { token: other.token.clone(), ..self }
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes.as_ref())
    }

    /// Reads an answer; to a HEAD request it has no body.
    pub fn receive(&mut self, method: &str) -> io::Result<Answer> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.stream.read_line(&mut head)? == 0 {
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
            self.stream.read_exact(&mut body)?;
            answer.body = String::from_utf8(body).unwrap();
        }
        Ok(answer)
    }

    fn receive_chunks(&mut self) -> io::Result<String> {
        let mut whole = Vec::new();
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line)?;
            let length = usize::from_str_radix(line.trim_end(), 16).unwrap();
            let mut chunk = vec![0; length + 2];
            self.stream.read_exact(&mut chunk)?;
            whole.extend_from_slice(&chunk[..length]);
            if length == 0 {
                return Ok(String::from_utf8(whole).unwrap());
            }
        }
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
        self.send(request)?;
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

    /// A connection from `proxy`, for whom it says.
    pub fn forwarded(proxy: Ipv4Addr, address: SocketAddr, source: &str) -> Self {
        Client {
            forwarded_for: Some(String::from(source).leak()),
            ..Self::over(connect_from(proxy, address))
        }
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

    /// Reads until the daemon ends the connection.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
        }
        rest
    }
}

/// A WireGuard key for a peer: always the same, and in its canonical form.
pub fn key_of(peer: &str) -> String {
    let mut key = blake2s::hash(&[peer.as_bytes()]);
    key[31] &= 0x7f;
    STANDARD.encode(key)
}

/// A peer as stock clients describe it.
pub fn peer(peer: &str) -> String {
    format!(
        "{{\"peer_id\":\"{peer}\",\"name\":\"Me\",\"public_key\":\"{}\",\"nat_type\":\"unknown\",\
         \"public_ip\":\"unknown\",\"public_port\":0,\"local_ip\":\"unknown\",\"local_port\":0,\
         \"last_seen\":\"2026-11-05T12:00:00.123456\"}}",
        key_of(peer)
    )
}

pub fn create_body(name: &str, host: &str) -> String {
    format!("{{\"name\":\"{name}\",\"host_peer_info\":{}}}", peer(host))
}

pub fn join_body(party: &str, id: &str) -> String {
    format!("{{\"party_id\":\"{party}\",\"peer_info\":{}}}", peer(id))
}
