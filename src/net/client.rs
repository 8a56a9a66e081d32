//! The way to a control server that is somewhere else: requests, and a WebSocket for what happens there. Whatever it sends
//! is bounded, in bytes and in time.

#[cfg(feature = "cluster")]
mod kept;

#[cfg(feature = "cluster")]
pub use kept::KeptClient;

use crate::agent::session::{ApiReply, ApiRequest};
use crate::crypto::random;
use crate::wire::chunked::Chunked;
use crate::wire::http_head::HeadScan;
use crate::wire::response_head::{BodyLength, ResponseHead};
use crate::wire::server_url::ServerUrl;
use crate::wire::websocket_upgrade::Upgrade;
use async_io::Async;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use smol::Timer;
use smol::future::FutureExt;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use std::cell::RefCell;
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::Duration;
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Bytes, Error, Message, WebSocket};

/// Longest body that is taken, in bytes.
const MAX_ANSWER: usize = 1 << 20;
/// Longest message that is taken, in bytes.
const MAX_MESSAGE: usize = 1 << 20;
/// Bytes asked of the kernel at a time.
const READ: usize = 4096;
/// To connect to one address.
const CONNECT: Duration = Duration::from_secs(5);
/// For the answer to a request, all of it.
const ANSWER: Duration = Duration::from_secs(10);
/// Silence at a WebSocket after which a ping is sent, and after that the end.
const SILENCE: Duration = Duration::from_secs(45);

type ServerStream = Async<TcpStream>;

/// What is known of the way to a server.
pub struct ControlClient {
    url: ServerUrl,
    /// Where it was reached, from which address of ours.
    reached: RefCell<Option<(SocketAddr, IpAddr)>>,
}

fn timed_out(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

async fn within<T>(limit: Duration, what: &str, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = async {
        Timer::after(limit).await;
        Err(timed_out(what))
    };
    work.or(late).await
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl ControlClient {
    /// Of this server.
    pub fn new(url: ServerUrl) -> Self {
        ControlClient { url, reached: RefCell::default() }
    }

    /// The server.
    pub fn url(&self) -> &ServerUrl {
        &self.url
    }

    /// Where the server was last reached, and from which address of ours.
    pub fn reached(&self) -> Option<(SocketAddr, IpAddr)> {
        *self.reached.borrow()
    }

    async fn connect(&self) -> io::Result<ServerStream> {
        let addresses = resolve(&self.url.host, self.url.port).await?;
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in addresses {
            match within(CONNECT, "nobody answered at that address", ServerStream::connect(address)).await {
                Ok(socket) => {
                    // An error costs a delay, no more.
                    let _ = socket.get_ref().set_nodelay(true);
                    if let Ok(local) = socket.get_ref().local_addr() {
                        *self.reached.borrow_mut() = Some((address, local.ip()));
                    }
                    return Ok(socket);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Asks for something. The error is for people.
    pub async fn ask(&self, request: &ApiRequest) -> Result<ApiReply, String> {
        self.exchange(request).await.map_err(|error| format!("{}: {error}", self.url))
    }

    async fn exchange(&self, request: &ApiRequest) -> io::Result<ApiReply> {
        let mut socket = self.connect().await?;
        let mut bytes = self.head(request.method, &request.path);
        if let Some(token) = &request.token {
            let _ = write!(bytes, "Authorization: Bearer {token}\r\n");
        }
        if !request.body.is_empty() {
            bytes.push_str("Content-Type: application/json\r\n");
        }
        let _ = write!(bytes, "Content-Length: {}\r\nConnection: close\r\n\r\n", request.body.len());
        bytes.push_str(&request.body);
        let exchange = async {
            // A refusal may come before everything is sent.
            let sent = socket.write_all(bytes.as_bytes()).await;
            let answered = read_answer(&mut socket).await;
            if answered.is_err() { sent.and(answered) } else { answered }
        };
        within(ANSWER, "its answer did not come in time", exchange).await
    }

    fn head(&self, method: &str, path: &str) -> String {
        let ServerUrl { base, .. } = &self.url;
        format!(
            "{method} {base}{path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: lanrage/{}\r\n",
            self.url.authority(),
            env!("CARGO_PKG_VERSION")
        )
    }

    /// Opens a WebSocket. The error is for people.
    pub async fn open(&self) -> Result<EventSocket, String> {
        self.upgrade().await.map_err(|error| format!("{}/ws: {error}", self.url))
    }

    async fn upgrade(&self) -> io::Result<EventSocket> {
        let mut socket = self.connect().await?;
        let key = STANDARD.encode(random::bytes::<16>());
        let mut bytes = self.head("GET", "/ws");
        let _ = write!(
            bytes,
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
        );
        let exchange = async {
            socket.write_all(bytes.as_bytes()).await?;
            read_head(&mut socket).await
        };
        let (head, unread) = within(ANSWER, "its answer did not come in time", exchange).await?;
        let upgrade = Upgrade { asked: true, version_13: true, key: Some(key) };
        let accept = upgrade.accept().map_err(|refusal| malformed(refusal.detail))?;
        if head.status != 101 || head.accept != Some(accept) {
            return Err(malformed(&format!("it has no WebSocket (status {})", head.status)));
        }
        let socket = Rc::new(socket);
        let config = WebSocketConfig::default()
            .read_buffer_size(READ)
            .write_buffer_size(0)
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        let stream = Unblocked(socket.clone());
        let session = WebSocket::from_partially_read(stream, unread, Role::Client, Some(config));
        Ok(EventSocket { socket, session: RefCell::new(session) })
    }
}

/// Sends a whole request to an address, and reads its answer, within `limit`.
pub async fn fetch(to: SocketAddr, request: &[u8], limit: Duration) -> io::Result<ApiReply> {
    let exchange = async {
        let mut socket = ServerStream::connect(to).await?;
        socket.write_all(request).await?;
        read_answer(&mut socket).await
    };
    within(limit, "its answer did not come in time", exchange).await
}

/// The addresses of a host, those of IPv6 and IPv4 as the system sorts them.
pub async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    match host.parse::<IpAddr>() {
        Ok(address) => Ok(vec![SocketAddr::new(address, port)]),
        Err(_) => {
            let found = smol::net::resolve((host, port));
            within(ANSWER, "its name could not be looked up in time", found).await
        }
    }
}

/// Reads a head, and what came behind it.
async fn read_head(socket: &mut ServerStream) -> io::Result<(ResponseHead, Vec<u8>)> {
    let (mut scan, mut bytes) = (HeadScan::default(), Vec::new());
    loop {
        match scan.end(&bytes) {
            Ok(Some(end)) => {
                let head = ResponseHead::parse(&bytes[..end]).map_err(malformed)?;
                bytes.drain(..end);
                // `100 Continue`, which nobody asked for.
                if head.status == 100 {
                    scan = HeadScan::default();
                    continue;
                }
                return Ok((head, bytes));
            }
            Ok(None) => (),
            Err(refusal) => return Err(malformed(refusal.detail)),
        }
        if read_more(socket, &mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

async fn read_more(socket: &mut ServerStream, bytes: &mut Vec<u8>) -> io::Result<usize> {
    let start = bytes.len();
    bytes.resize(start + READ, 0);
    let read = socket.read(&mut bytes[start..]).await;
    bytes.truncate(start + *read.as_ref().unwrap_or(&0));
    read
}

async fn read_answer(socket: &mut ServerStream) -> io::Result<ApiReply> {
    let (head, mut bytes) = read_head(socket).await?;
    let too_long = || malformed("its answer is longer than 1 MiB");
    let body = match head.length {
        BodyLength::Bytes(length) => {
            let length = usize::try_from(length).ok().filter(|length| *length <= MAX_ANSWER);
            let length = length.ok_or_else(too_long)?;
            while bytes.len() < length {
                if read_more(socket, &mut bytes).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            bytes.truncate(length);
            bytes
        }
        BodyLength::UntilEnd => {
            while read_more(socket, &mut bytes).await? > 0 {
                if bytes.len() > MAX_ANSWER {
                    return Err(too_long());
                }
            }
            bytes
        }
        BodyLength::Chunked => {
            let mut body = Chunked::default();
            loop {
                body.take(&bytes).map_err(|refusal| malformed(refusal.detail))?;
                if body.is_done() {
                    break;
                }
                bytes.clear();
                if read_more(socket, &mut bytes).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            body.into_body()
        }
    };
    Ok(ApiReply { status: head.status, retry_after: head.retry_after, body })
}

/// The socket as tungstenite has it: it says when it would have to wait.
struct Unblocked(Rc<ServerStream>);

impl Read for Unblocked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.get_ref().read(buffer)
    }
}

impl Write for Unblocked {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.get_ref().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An open WebSocket.
pub struct EventSocket {
    socket: Rc<ServerStream>,
    session: RefCell<WebSocket<Unblocked>>,
}

/// What became of an attempt that may have to wait.
enum Attempt<T> {
    Done(T),
    Waits,
}

fn attempt<T>(result: tungstenite::Result<T>) -> Result<Attempt<T>, String> {
    match result {
        Ok(done) => Ok(Attempt::Done(done)),
        Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(Attempt::Waits),
        Err(error) => Err(error.to_string()),
    }
}

impl EventSocket {
    /// The next message, whenever it comes. The error is for people, and the end.
    pub async fn next(&self) -> Result<String, String> {
        let mut is_asked = false;
        loop {
            let read = attempt(self.session.borrow_mut().read())?;
            match read {
                Attempt::Done(Message::Text(text)) => return Ok(text.as_str().to_owned()),
                Attempt::Done(Message::Close(_)) => return Err("the server has closed it".to_owned()),
                Attempt::Done(_) => is_asked = false,
                Attempt::Waits => {
                    let readable = within(SILENCE, "it is silent", self.socket.readable()).await;
                    match readable {
                        Ok(()) => (),
                        Err(error) if error.kind() == io::ErrorKind::TimedOut && !is_asked => {
                            is_asked = true;
                            self.send(Message::Ping(Bytes::new())).await?;
                        }
                        Err(error) => return Err(error.to_string()),
                    }
                }
            }
        }
    }

    /// Says something. The error is for people, and the end.
    pub async fn say(&self, text: String) -> Result<(), String> {
        self.send(Message::Text(text.into())).await
    }

    async fn send(&self, message: Message) -> Result<(), String> {
        let mut sent = attempt(self.session.borrow_mut().send(message))?;
        while let Attempt::Waits = sent {
            let writable = within(ANSWER, "it takes nothing", self.socket.writable()).await;
            writable.map_err(|error| error.to_string())?;
            sent = attempt(self.session.borrow_mut().flush())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    /// What a client makes of a server that reads a head and says `answer`, and what that has read.
    fn ask(answer: Vec<u8>) -> (Result<ApiReply, String>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = ServerUrl::parse(&format!("http://{}/base", listener.local_addr().unwrap())).unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut read = vec![0; 4096];
            let length = stream.read(&mut read).unwrap();
            // The client may have enough of it before its end.
            let _ = stream.write_all(&answer);
            String::from_utf8_lossy(&read[..length]).into_owned()
        });
        let request =
            ApiRequest { method: "POST", path: "/x".into(), token: Some("secret".into()), body: "{}".into() };
        let reply = smol::block_on(ControlClient::new(url).ask(&request));
        (reply, server.join().unwrap())
    }

    #[test]
    fn a_request_is_answered_however_the_body_comes() {
        for answer in [
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}more",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n{}",
        ] {
            let (reply, read) = ask(answer.into());
            assert_eq!(
                reply,
                Ok(ApiReply { status: 200, retry_after: None, body: b"{}".into() }),
                "{answer}"
            );
            assert!(read.starts_with("POST /base/x HTTP/1.1\r\nHost: 127.0.0.1:"), "{read}");
            assert!(
                read.contains("Authorization: Bearer secret\r\n") && read.ends_with("\r\n\r\n{}"),
                "{read}"
            );
        }
    }

    #[test]
    fn what_a_hostile_server_sends_is_bounded() {
        let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(100_000));
        let long = "HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n".to_owned();
        let flood = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(MAX_ANSWER + READ + 1));
        let cut = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}".to_owned();
        for answer in [endless, long, flood, cut, "\u{16}\u{3}\u{1}".to_owned(), "SSH-2.0\n".to_owned()] {
            let (reply, _) = ask(answer.clone().into());
            assert!(reply.is_err(), "{:?}", &answer[..20.min(answer.len())]);
        }
    }

    #[test]
    fn nobody_there_is_an_error_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = ServerUrl::parse(&listener.local_addr().unwrap().to_string()).unwrap();
        drop(listener);
        let client = ControlClient::new(url);
        let request = ApiRequest { method: "GET", path: "/".into(), token: None, body: String::new() };
        assert!(smol::block_on(client.ask(&request)).unwrap_err().contains("refused"));
        assert!(smol::block_on(client.open()).is_err());
    }
}
