//! A WebSocket client.

use crate::client::{Client, connect_from, peer, text};
use lanrage::wire::json::{self, Value};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use tungstenite::protocol::Role;
use tungstenite::{Error, Message, WebSocket};

/// An open session.
pub struct Socket {
    socket: WebSocket<TcpStream>,
}

impl Socket {
    pub fn open(address: SocketAddr) -> Self {
        Self::open_from(Ipv4Addr::UNSPECIFIED, address)
    }

    pub fn open_from(source: Ipv4Addr, address: SocketAddr) -> Self {
        Self::over(connect_from(source, address), "")
    }

    /// One whose kernel takes hardly anything that is not read.
    pub fn deaf(source: Ipv4Addr, address: SocketAddr) -> Self {
        let stream = connect_from(source, address);
        rustix::net::sockopt::set_socket_recv_buffer_size(&stream, 4096).unwrap();
        Self::over(stream, "")
    }

    /// Over a connection, with another line in the head.
    pub fn over(stream: TcpStream, line: &str) -> Self {
        let (_, stream) = Client::over(stream).upgrade("", line);
        Socket { socket: WebSocket::from_raw_socket(stream, Role::Client, None) }
    }

    /// A session of the peer whose token `client` has.
    pub fn of(client: &Client, address: SocketAddr) -> Self {
        let mut socket = Self::open(address);
        let token = client.token.as_ref().unwrap();
        socket.say(&format!(
            "{{\"type\":\"auth\",\"version\":\"1.0\",\"client\":\"lanrage\",\"peer_id\":null,\"token\":\"{token}\"}}"
        ));
        socket
    }

    pub fn say(&mut self, text: &str) {
        self.socket.send(Message::text(text)).unwrap();
    }

    /// What can go wrong is that the session is over.
    pub fn try_say(&mut self, text: &str) -> Result<(), Error> {
        self.socket.send(Message::text(text))
    }

    pub fn join(&mut self, party: &str, id: &str) {
        let peer = peer(id);
        self.say(&format!("{{\"type\":\"join_party\",\"party_id\":\"{party}\",\"peer\":{peer}}}"));
    }

    /// The next message within `limit`; `None` if none comes, `Err` if the session ended.
    pub fn try_hear(&mut self, limit: Duration) -> Result<Option<Value>, Error> {
        let until = Instant::now() + limit;
        loop {
            let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.socket.get_ref().set_read_timeout(Some(left)).unwrap();
            match self.socket.read() {
                Ok(Message::Text(text)) => return Ok(Some(json::parse(text.as_bytes()).unwrap())),
                Ok(_) => {}
                Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// The next message of this type; others are passed over.
    #[track_caller]
    pub fn hear(&mut self, kind: &str) -> Value {
        let until = Instant::now() + crate::PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let message = self.try_hear(left).unwrap().unwrap_or_else(|| panic!("no {kind} came"));
            if text(&message, &["type"]) == kind {
                return message;
            }
        }
    }

    /// What an error message says.
    #[track_caller]
    pub fn hear_error(&mut self) -> String {
        text(&self.hear("error"), &["message"])
    }

    /// Waits until the daemon ends the session.
    pub fn wait_for_end(&mut self) {
        let until = Instant::now() + crate::PATIENCE;
        while self.try_hear(Duration::from_secs(1)).is_ok() {
            assert!(Instant::now() < until, "the session goes on");
        }
    }
}
