//! One WebSocket session (RFC 6455). tungstenite reads frames; what goes out comes from the outbox, so
//! that a message to a thousand sessions exists once.

use super::connections::{BufferShare, CloseReason, Connection, ConnectionSlot, Phase};
use super::outbox::SessionOutbox;
use super::response;
use super::service::HttpService;
use super::shared::DoorState;
use crate::ids::SessionId;
use crate::time::Instant;
use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::rc::Rc;
use std::task::{Context, Poll};
use tungstenite::error::ProtocolError;
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};

/// Bytes asked of the kernel at a time. Held by every session for as long as it lasts.
const READ_BUFFER: usize = 1024;
/// Messages taken from one session before the others have their turn.
const MESSAGES_PER_TURN: usize = 16;
/// Bytes taken from one session before the others have their turn.
const BYTES_PER_TURN: usize = 64 * 1024;
/// Most bytes thrown away after a close.
const MAX_LINGER: usize = 256 * 1024;

/// Close codes (RFC 6455 section 7.4.1).
const GOING_AWAY: u16 = 1001;
const PROTOCOL_ERROR: u16 = 1002;
const UNSUPPORTED_DATA: u16 = 1003;
const INVALID_PAYLOAD: u16 = 1007;
const TOO_BIG: u16 = 1009;

/// A session that the service has agreed to.
pub(super) struct Opened {
    pub(super) id: SessionId,
    pub(super) outbox: Rc<SessionOutbox>,
    /// The value for `Sec-WebSocket-Accept`.
    pub(super) accept: String,
}

/// Serves a session until it ends. `unread` is what the client sent behind its head.
pub(super) async fn serve<S: HttpService>(
    door: Rc<DoorState<S>>,
    slot: ConnectionSlot,
    account: BufferShare,
    opened: Opened,
    unread: Vec<u8>,
) {
    let Opened { id, outbox, accept } = opened;
    let mut session = WebSocketSession::new(door, slot, account, id, outbox, unread);
    if let Err(ended) = session.run(&accept).await {
        log::debug!("a WebSocket session from {} ended: {ended}", session.slot.source);
    }
}

/// What tungstenite reads from, and writes its own replies to: they are dropped, since we send ours.
struct Incoming {
    connection: Rc<Connection>,
    /// Bytes that may still be read in this turn.
    allowance: usize,
    /// Bytes that have come since the last whole message.
    in_message: usize,
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(self.allowance);
        if most == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let length = self.connection.stream.try_read(&mut buffer[..most])?;
        self.allowance -= length;
        self.in_message += length;
        Ok(length)
    }
}

impl Write for Incoming {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct WebSocketSession<S: HttpService> {
    door: Rc<DoorState<S>>,
    slot: ConnectionSlot,
    account: BufferShare,
    id: SessionId,
    outbox: Rc<SessionOutbox>,
    reader: WebSocket<Incoming>,
    /// Whether the kernel has nothing for us, as far as we know.
    wait_first: bool,
    /// Whether the reactor was asked to wake us when there is something to read.
    is_registered: bool,
    /// Whether nothing more is read: the peer has closed, or can't be understood any more.
    is_deaf: bool,
    heard_at: Instant,
    ping_at: Instant,
    /// Since when a message is incomplete.
    partial_since: Option<Instant>,
    /// Since when the peer does not read.
    stalled_since: Option<Instant>,
    closing_since: Option<Instant>,
    /// Until when nothing is sent, because its source was sent enough.
    paused_until: Option<Instant>,
}

impl<S: HttpService> Drop for WebSocketSession<S> {
    fn drop(&mut self) {
        self.door.service.closed(self.id);
    }
}

impl<S: HttpService> WebSocketSession<S> {
    fn new(
        door: Rc<DoorState<S>>,
        slot: ConnectionSlot,
        account: BufferShare,
        id: SessionId,
        outbox: Rc<SessionOutbox>,
        unread: Vec<u8>,
    ) -> Self {
        let limits = door.table.limits();
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_message_size(Some(limits.message_length))
            .max_frame_size(Some(limits.message_length));
        let incoming = Incoming { connection: slot.connection(), allowance: 0, in_message: unread.len() };
        let now = (door.clock)().instant;
        WebSocketSession {
            reader: WebSocket::from_partially_read(incoming, unread, Role::Server, Some(config)),
            wait_first: false,
            is_registered: false,
            is_deaf: false,
            heard_at: now,
            ping_at: now + limits.ping_interval,
            partial_since: None,
            stalled_since: None,
            closing_since: None,
            paused_until: None,
            door,
            slot,
            account,
            id,
            outbox,
        }
    }

    async fn run(&mut self, accept: &str) -> Result<(), CloseReason> {
        let limits = self.door.table.limits();
        let head = response::switching_protocols(accept, (self.door.clock)().unix);
        self.slot.write(&head, &[], self.door.clock, limits.write_timeout).await?;
        poll_fn(|cx| self.poll(cx)).await?;
        self.slot.stream.finish_writing();
        let limits = self.door.table.limits();
        self.slot.enter(Phase::Session, (self.door.clock)().instant, limits.linger_timeout);
        match self.door.throw_away(&self.slot, MAX_LINGER).await {
            Ok(()) | Err(CloseReason::TimedOut) if self.door.stopping.get() => Ok(()),
            Ok(()) | Err(CloseReason::TimedOut) => {
                let (span, step) = (limits.linger_timeout, limits.sweep_interval);
                self.slot.settle(Phase::Session, self.door.clock, span, step).await
            }
            result => result,
        }
    }

    /// Reads and writes what can be; ready when the session is over.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CloseReason>> {
        self.outbox.register(cx);
        if let Poll::Ready(ended) = self.slot.poll_forced(cx) {
            return Poll::Ready(Err(ended));
        }
        let now = (self.door.clock)().instant;
        if self.door.stopping.get() {
            self.outbox.close(GOING_AWAY, "the server is stopping");
        }
        if now >= self.ping_at {
            self.ping_at = now + self.door.table.limits().ping_interval;
            self.outbox.ping();
        }
        let has_more = match self.read(cx, now) {
            Ok(has_more) => has_more,
            Err(ended) => return Poll::Ready(Err(ended)),
        };
        if let Err(ended) = self.write(cx, now) {
            return Poll::Ready(Err(ended));
        }
        if self.outbox.has_overflowed() {
            return Poll::Ready(Err(CloseReason::Gone(io::Error::other("it reads too slowly"))));
        }
        if self.is_deaf && self.outbox.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.account.hold(self.outbox.len() + self.reader.get_ref().in_message);
        self.set_times(now);
        if has_more {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Reads messages; true if there may be more of them at once.
    fn read(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool, CloseReason> {
        self.reader.get_mut().allowance = BYTES_PER_TURN;
        for _ in 0..MESSAGES_PER_TURN {
            if self.is_deaf {
                return Ok(false);
            }
            if self.wait_first {
                // Woken for no other reason that we know of: try, as in `Connection::readable`.
                let is_likely = std::mem::take(&mut self.is_registered) && self.outbox.is_empty();
                if !is_likely && let Poll::Pending = self.slot.stream.poll_readable(cx)? {
                    self.is_registered = true;
                    return Ok(false);
                }
                self.wait_first = false;
            }
            match self.reader.read() {
                Ok(message) => {
                    self.heard_at = now;
                    self.partial_since = None;
                    self.reader.get_mut().in_message = 0;
                    self.take(message);
                }
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait_first = true;
                    if self.reader.get_ref().in_message > 0 {
                        self.partial_since.get_or_insert(now);
                    }
                }
                Err(Error::Io(error)) => return Err(error.into()),
                Err(Error::ConnectionClosed | Error::AlreadyClosed) => self.is_deaf = true,
                Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => {
                    return Err(CloseReason::Gone(io::ErrorKind::UnexpectedEof.into()));
                }
                Err(error) => {
                    let (code, reason) = match error {
                        Error::Capacity(_) => (TOO_BIG, "the message is too long"),
                        Error::Utf8(_) => (INVALID_PAYLOAD, "the text is not UTF-8"),
                        _ => (PROTOCOL_ERROR, "the frames are malformed"),
                    };
                    self.fail(code, reason);
                }
            }
        }
        Ok(!self.is_deaf)
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Text(text) if !self.outbox.is_closing() => {
                self.door.service.clone().message(self.id, text.as_str());
            }
            Message::Binary(_) => self.fail(UNSUPPORTED_DATA, "only text is understood here"),
            Message::Ping(payload) => self.outbox.pong(payload),
            Message::Close(frame) => {
                self.outbox.close_in_turn(frame.map(|frame| frame.code));
                self.is_deaf = true;
            }
            Message::Text(_) | Message::Pong(_) | Message::Frame(_) => (),
        }
    }

    fn fail(&mut self, code: u16, reason: &str) {
        self.door.service.refused(400);
        self.outbox.close(code, reason);
        self.is_deaf = true;
    }

    fn write(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<(), CloseReason> {
        self.paused_until = None;
        while !self.outbox.is_empty() {
            self.paused_until = self.door.table.sent_enough(self.slot.payer(), now);
            if self.paused_until.is_some() {
                break;
            }
            match self.outbox.write_with(|parts| self.slot.stream.try_write(parts)) {
                Ok(length) => {
                    self.stalled_since = None;
                    self.door.table.note_sent(self.slot.payer(), length, now);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.stalled_since.get_or_insert(now);
                    match self.slot.stream.poll_writable(cx) {
                        Poll::Pending => break,
                        Poll::Ready(ready) => ready?,
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Tells the sweeper when this session has had its time, and when to wake it for a ping.
    fn set_times(&mut self, now: Instant) {
        let limits = self.door.table.limits();
        if self.outbox.is_closing() {
            self.closing_since.get_or_insert(now);
        }
        let deadline = [
            Some(self.heard_at + limits.silence_timeout),
            self.stalled_since.map(|since| since + limits.write_timeout),
            self.partial_since.map(|since| since + limits.body_timeout),
            self.closing_since.map(|since| since + limits.linger_timeout),
        ];
        self.slot.set_deadline(deadline.into_iter().flatten().min().unwrap_or(now));
        self.slot.set_wake_up(self.paused_until.map_or(self.ping_at, |until| until.min(self.ping_at)));
    }
}
