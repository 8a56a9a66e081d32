//! Connections that are kept between questions: whoever asks often does not connect each time, and what asks is never
//! more than a few connections for who answers.

use super::{ANSWER, ControlClient, ServerStream, read_answer, within};
use crate::agent::session::ApiReply;
use crate::time::Instant;
use crate::wire::server_url::ServerUrl;
use rustix::net::sockopt;
use smol::io::AsyncWriteExt;
use smol::lock::Semaphore;
use std::cell::RefCell;
use std::io;
use std::time::Duration;

/// Connections at a time.
const CONNECTIONS: usize = 8;
/// How long one may be idle before nothing is sent by it any more: a server closes it after 75 seconds.
const IDLE: Duration = Duration::from_secs(30);

/// A way to one server that is asked again and again.
pub struct KeptClient {
    client: ControlClient,
    idle: RefCell<Vec<(ServerStream, Instant)>>,
    turns: Semaphore,
}

impl KeptClient {
    /// Of this server.
    pub fn new(url: ServerUrl) -> Self {
        let client = ControlClient::new(url);
        KeptClient { client, idle: RefCell::default(), turns: Semaphore::new(CONNECTIONS) }
    }

    /// Posts bytes, at `now`. By a connection that turns out to be closed it may be sent twice: who answers has to know
    /// what it was asked already. Once this is given up, what the network has not delivered is not delivered any more.
    pub async fn post(&self, path: &str, body: &[u8], now: Instant) -> io::Result<ApiReply> {
        let _turn = within(ANSWER, "too much is asked", async { Ok(self.turns.acquire().await) }).await?;
        let head = self.client.head("POST", path);
        let mut bytes = format!("{head}Content-Length: {}\r\n\r\n", body.len()).into_bytes();
        bytes.extend_from_slice(body);
        while let Some((socket, since)) = self.take_idle() {
            if now.since(since) < IDLE
                && let Ok(reply) = self.exchange(socket, &bytes, now).await
            {
                return Ok(reply);
            }
        }
        let socket = self.client.connect().await?;
        // Otherwise the kernel goes on sending for minutes after this is given up, and a change is made late of which
        // somebody has been told that it was not made.
        sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
        self.exchange(socket, &bytes, now).await
    }

    fn take_idle(&self) -> Option<(ServerStream, Instant)> {
        self.idle.borrow_mut().pop()
    }

    async fn exchange(&self, mut socket: ServerStream, bytes: &[u8], now: Instant) -> io::Result<ApiReply> {
        let exchange = async {
            socket.write_all(bytes).await?;
            read_answer(&mut socket).await
        };
        let reply = within(ANSWER, "its answer did not come in time", exchange).await?;
        self.idle.borrow_mut().push((socket, now));
        Ok(reply)
    }
}
