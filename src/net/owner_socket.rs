//! The Unix socket by which the owner of an agent asks it: few and short requests, one connection after the other.

use super::listen::Listener;
use crate::wire::http_head::{HeadScan, RequestHead};
use async_io::Async;
use smol::Timer;
use smol::future::FutureExt;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use std::io;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// How long one connection may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// After a failure to let somebody in.
const PAUSE: Duration = Duration::from_millis(200);

/// What is answered.
pub struct OwnerReply {
    /// The status.
    pub status: u16,
    /// The media type.
    pub content_type: &'static str,
    /// The body.
    pub body: String,
}

/// Has `answer` answer method and path of each request, for ever.
pub async fn serve(listener: Listener, answer: impl Fn(&str, &str) -> OwnerReply) {
    loop {
        let accepted = match listener.try_accept() {
            Ok((socket, _)) => Async::new_nonblocking(UnixStream::from(socket)),
            Err(errno) if errno == rustix::io::Errno::AGAIN => match listener.acceptable().await {
                Ok(()) => continue,
                Err(error) => Err(error),
            },
            Err(errno) => Err(errno.into()),
        };
        let Ok(stream) = accepted else {
            Timer::after(PAUSE).await;
            continue;
        };
        let late = async {
            Timer::after(PATIENCE).await;
            Err(io::ErrorKind::TimedOut.into())
        };
        if let Err(error) = exchange(stream, &answer).or(late).await {
            log::debug!("the owner's request failed: {error}");
        }
    }
}

async fn exchange(
    mut stream: Async<UnixStream>,
    answer: &impl Fn(&str, &str) -> OwnerReply,
) -> io::Result<()> {
    let (mut scan, mut bytes, mut piece) = (HeadScan::default(), Vec::new(), [0; 1024]);
    let head = loop {
        match scan.end(&bytes) {
            Ok(Some(end)) => break RequestHead::parse(&bytes[..end]),
            Ok(None) => (),
            Err(refusal) => break Err(refusal),
        }
        match stream.read(&mut piece).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => bytes.extend_from_slice(&piece[..length]),
        }
    };
    let reply = match &head {
        Ok(head) => answer(head.method.as_str(), &head.path),
        Err(refusal) => OwnerReply {
            status: refusal.status,
            content_type: "application/json",
            body: format!("{{\"detail\":\"{}\"}}", refusal.detail),
        },
    };
    let text = format!(
        "HTTP/1.1 {} \r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{}",
        reply.status,
        reply.content_type,
        reply.body.len(),
        reply.body
    );
    stream.write_all(text.as_bytes()).await
}
