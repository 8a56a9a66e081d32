//! The client that our own command line talks to the daemon with, over the Unix socket. It blocks: it
//! runs in a process of its own, which has nothing else to do.

use lanrage::wire::response_head::{BodyLength, ResponseHead};
use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Longest head of an answer taken, in bytes.
const MAX_HEAD: u64 = 8 * 1024;
/// Longest answer kept in memory, in bytes.
const MAX_ANSWER: u64 = 16_000_000;
/// The daemon is on the same machine, but its flash may take its time.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why there is no answer.
#[derive(Debug)]
pub enum ClientError {
    /// Nobody listens at the socket.
    NotRunning(String),
    /// The socket belongs to somebody else.
    NotAllowed(String),
    /// The answer ended too early, took too long, or makes no sense.
    Broken(String),
    /// What was downloaded could not be written.
    Output(io::Error),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::NotRunning(socket) => write!(
                f,
                "the daemon is not running (nobody listens at {socket}): start it with `lanrage serve` or \
                 `service lanrage start`{}, or say where it keeps its state with --state-dir",
                // Root finds the daemon of the machine by itself.
                if rustix::process::geteuid().is_root() { "" } else { ", use sudo if it is a service" }
            ),
            ClientError::NotAllowed(socket) => {
                write!(
                    f,
                    "you may not ask the daemon at {socket}: use sudo, or run this as the user lanrage runs as"
                )
            }
            ClientError::Broken(what) => write!(f, "the daemon's answer is unusable: {what}"),
            ClientError::Output(error) => write!(f, "can't write what was downloaded: {error}"),
        }
    }
}

impl std::error::Error for ClientError {}

impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> Self {
        ClientError::Broken(match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "it did not come within 30 s".into(),
            io::ErrorKind::UnexpectedEof => "it ended too early".into(),
            _ => error.to_string(),
        })
    }
}

/// Sends one request and returns the status and the body, at most [`MAX_ANSWER`] bytes.
pub fn request(socket: &Path, method: &str, path: &str, body: &[u8]) -> Result<(u16, Vec<u8>), ClientError> {
    let mut kept = Vec::new();
    let status = OpenAnswer::ask(socket, method, path, body)?.read(&mut Bounded { kept: &mut kept })?;
    Ok((status, kept))
}

/// Sends one request and writes the body to `output` as it comes, however long it is. If the status is
/// not 200, nothing is written and the status is returned with the body.
pub fn download(
    socket: &Path,
    method: &str,
    path: &str,
    output: &mut dyn Write,
) -> Result<(u16, Vec<u8>), ClientError> {
    let answer = OpenAnswer::ask(socket, method, path, &[])?;
    let mut kept = Vec::new();
    let status = match answer.head.status {
        200 => answer.read(output)?,
        _ => answer.read(&mut Bounded { kept: &mut kept })?,
    };
    Ok((status, kept))
}

/// Keeps an answer that is not too long.
struct Bounded<'a> {
    kept: &'a mut Vec<u8>,
}

impl Write for Bounded<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if (self.kept.len() + bytes.len()) as u64 > MAX_ANSWER {
            return Err(io::Error::other("it is longer than 16 MB"));
        }
        self.kept.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An answer of which the head was read.
struct OpenAnswer {
    head: ResponseHead,
    reader: BufReader<UnixStream>,
}

impl OpenAnswer {
    fn ask(socket: &Path, method: &str, path: &str, body: &[u8]) -> Result<Self, ClientError> {
        let mut stream = UnixStream::connect(socket).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ClientError::NotRunning(socket.display().to_string())
            }
            io::ErrorKind::PermissionDenied => ClientError::NotAllowed(socket.display().to_string()),
            _ => error.into(),
        })?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut bytes = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        bytes.extend_from_slice(body);
        // A refusal may come, and end the connection, before everything is sent.
        let sent = stream.write_all(&bytes);
        Self::read_head(BufReader::new(stream)).map_err(|error| match sent {
            Ok(()) => error,
            Err(error) => error.into(),
        })
    }

    fn read_head(mut reader: BufReader<UnixStream>) -> Result<Self, ClientError> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let left = MAX_HEAD.saturating_sub(head.len() as u64);
            if reader.by_ref().take(left).read_until(b'\n', &mut head)? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
        let head = ResponseHead::parse(&head).map_err(|fault| ClientError::Broken(fault.into()))?;
        Ok(OpenAnswer { head, reader })
    }

    /// Writes the body to `output`, and returns the status once all of it has come.
    fn read(mut self, output: &mut dyn Write) -> Result<u16, ClientError> {
        match self.head.length {
            BodyLength::UntilEnd => return Err(ClientError::Broken("its length is missing".into())),
            BodyLength::Bytes(length) => self.copy(length, output)?,
            BodyLength::Chunked => loop {
                let length = self.chunk_length()?;
                if length == 0 {
                    break;
                }
                self.copy(length, output)?;
                let mut end = [0; 2];
                self.reader.read_exact(&mut end)?;
                if end != *b"\r\n" {
                    return Err(ClientError::Broken("a chunk is malformed".into()));
                }
            },
        }
        output.flush().map_err(ClientError::Output)?;
        Ok(self.head.status)
    }

    fn chunk_length(&mut self) -> Result<u64, ClientError> {
        let mut line = Vec::new();
        self.reader.by_ref().take(32).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        match httparse::parse_chunk_size(&line) {
            Ok(httparse::Status::Complete((_, length))) => Ok(length),
            _ => Err(ClientError::Broken("a chunk is malformed".into())),
        }
    }

    fn copy(&mut self, length: u64, output: &mut dyn Write) -> Result<(), ClientError> {
        let mut left = length;
        while left > 0 {
            let bytes = self.reader.fill_buf()?;
            if bytes.is_empty() {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            let count = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            output.write_all(&bytes[..count]).map_err(ClientError::Output)?;
            self.reader.consume(count);
            left -= count as u64;
        }
        Ok(())
    }
}
