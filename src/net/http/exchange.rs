//! One connection's requests: each is read and answered, then the next, until the client or the server ends it.

use super::connections::{BufferShare, CloseReason, ConnectionSlot, Phase};
use super::outbox::SessionOutbox;
use super::response::{self, BodyEnd};
use super::service::{HttpService, ServiceReply, Upload};
use super::shared::DoorState;
use super::websocket;
use crate::wire::chunked::Chunked;
use crate::wire::http::{Answer, RejectedRequest, Request, Source};
use crate::wire::http_head::{HeadScan, MAX_HEAD, RequestHead};
use crate::wire::proxy_header::{self, MAX_PROXY_HEADER, ProxyHeader};
use smol::channel::Receiver;
use smol::future::yield_now;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::rc::Rc;
use tiny_http::Method;

/// Most bytes thrown away while a refused client goes on sending.
const MAX_LINGER: usize = 1024 * 1024;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What follows a request.
enum AfterRequest {
    /// Another request.
    Request,
    /// Nothing: what we said last is sent, and the client is given a moment to read it.
    Linger,
    /// Nothing, and there is nothing to wait for.
    Close,
    /// The connection belongs to a WebSocket session now.
    Session(websocket::Opened),
}

/// Why there is no request to answer.
enum ReadFailure {
    Refused(RejectedRequest),
    Ended(CloseReason),
}

impl From<RejectedRequest> for ReadFailure {
    fn from(refusal: RejectedRequest) -> Self {
        ReadFailure::Refused(refusal)
    }
}

impl From<CloseReason> for ReadFailure {
    fn from(ended: CloseReason) -> Self {
        ReadFailure::Ended(ended)
    }
}

/// What of a head decides how its answer is sent.
struct Framing {
    without_body: bool,
    keep_alive: bool,
    takes_chunks: bool,
}

impl Framing {
    fn of(head: &RequestHead) -> Self {
        Framing {
            without_body: head.method == Method::Head,
            keep_alive: head.keep_alive,
            takes_chunks: head.minor == 1,
        }
    }
}

/// Serves a connection until it ends.
pub(super) async fn serve<S: HttpService>(door: Rc<DoorState<S>>, slot: ConnectionSlot) {
    let local = slot.stream.local_address();
    let account = door.table.account(slot.connection());
    let source = slot.source;
    let speaks_for_others =
        matches!(source, Source::Ip(address) if door.table.limits().speaks_for_many(address));
    let mut exchange = Exchange {
        door,
        slot,
        account,
        source,
        may_introduce: speaks_for_others,
        local,
        buffer: Vec::new(),
        start: 0,
        decoded: 0,
        is_first: true,
        wait_first: false,
    };
    let outcome = loop {
        match exchange.next().await {
            Ok(AfterRequest::Request) => continue,
            Ok(AfterRequest::Linger) => break exchange.linger().await,
            Ok(AfterRequest::Close) => break exchange.settle().await,
            Ok(AfterRequest::Session(opened)) => {
                let Exchange { door, slot, account, mut buffer, start, .. } = exchange;
                buffer.drain(..start);
                // A task of its own, because it is smaller than this one and lasts longer.
                let session = websocket::serve(door.clone(), slot, account, opened, buffer);
                door.spawn(session);
                return;
            }
            Err(ended) => break Err(ended),
        }
    };
    if let Err(ended) = outcome {
        log::debug!("a connection from {} ended: {ended}", exchange.slot.source);
    }
}

struct Exchange<S: HttpService> {
    door: Rc<DoorState<S>>,
    slot: ConnectionSlot,
    account: BufferShare,
    /// Who asks, as far as the connection tells.
    source: Source,
    /// Whether a proxy may still say for whom the connection is.
    may_introduce: bool,
    local: Option<SocketAddr>,
    /// What was read and not used up; without memory of its own while the connection is idle.
    buffer: Vec<u8>,
    /// How much of `buffer` is used up.
    start: usize,
    /// Bytes of a chunked body that are decoded while more of it is to come.
    decoded: usize,
    /// Whether no request was answered yet.
    is_first: bool,
    /// Whether the kernel is not likely to have anything for us, so that waiting costs less than trying.
    wait_first: bool,
}

impl<S: HttpService> Exchange<S> {
    /// One request and its answer.
    async fn next(&mut self) -> Result<AfterRequest, CloseReason> {
        let (head, body) = match self.request().await {
            Ok(Some(request)) => request,
            Ok(None) => return Ok(AfterRequest::Close),
            Err(ReadFailure::Refused(refusal)) => return self.refuse(refusal).await,
            Err(ReadFailure::Ended(ended)) => return Err(ended),
        };
        self.slot.enter_answering();
        self.is_first = false;
        let framing = Framing::of(&head);
        if head.path == S::WEBSOCKET && head.method == Method::Get {
            return match self.open_session(head, body) {
                Ok(opened) => Ok(AfterRequest::Session(opened)),
                Err(refusal) => self.refuse(refusal).await,
            };
        }
        self.let_go();
        let upload = head.is_upload().then_some((head.content_length, head.expects_continue));
        if upload.is_some() && head.chunked {
            return self.refuse(RejectedRequest::new(411, "a backup comes with its Content-Length")).await;
        }
        let request = self.request_of(head, body);
        let reply = self.door.service.clone().call(request).await;
        match (reply, upload) {
            (ServiceReply { upload: Some(upload), .. }, Some((length, is_awaited))) => {
                // In a box, as what few connections need would make all of them larger.
                Box::pin(self.take_upload(upload, length, is_awaited, framing)).await
            }
            (ServiceReply { answer, stream: Some(stream), .. }, _) => {
                self.answer_piecewise(&answer, stream, &framing).await
            }
            (ServiceReply { answer, .. }, upload) => {
                // What is not taken is not read.
                let is_read = upload.is_none_or(|(length, _)| length == 0);
                self.answer(&answer, &Framing { keep_alive: framing.keep_alive && is_read, ..framing }).await
            }
        }
    }

    /// Hands a body on as it comes, and answers once it is known what came of it.
    async fn take_upload(
        &mut self,
        upload: Upload,
        length: usize,
        mut is_awaited: bool,
        framing: Framing,
    ) -> Result<AfterRequest, CloseReason> {
        let Upload { pieces, outcome } = upload;
        let mut left = length;
        loop {
            let there = left.min(self.buffer.len() - self.start);
            let piece = self.buffer[self.start..self.start + there].to_vec();
            self.start += there;
            left -= there;
            self.slot.enter_answering();
            // An empty piece is the end; who takes no more of them knows why.
            if (there > 0 || left == 0) && pieces.send(piece).await.is_err() {
                break;
            }
            if left == 0 {
                if there > 0 {
                    let _ = pieces.send(Vec::new()).await;
                }
                break;
            }
            let more = match self.begin_body(mem::take(&mut is_awaited)).await {
                Ok(()) => self.fill_body(left).await,
                Err(ended) => Err(ended.into()),
            };
            match more {
                Ok(()) => {}
                Err(ReadFailure::Refused(refusal)) => return self.refuse(refusal).await,
                Err(ReadFailure::Ended(ended)) => return Err(ended),
            }
        }
        self.slot.enter_answering();
        let answer = outcome.await;
        self.answer(&answer, &Framing { keep_alive: framing.keep_alive && left == 0, ..framing }).await
    }

    fn request_of(&self, head: RequestHead, body: Vec<u8>) -> Request {
        let mut request = Request::new(head, body, self.source, self.local);
        request.is_forwarded |= self.source != self.slot.source;
        request
    }

    /// What is used up is not kept, and does not count, while the answer may have to wait for the disk: who is being
    /// answered is not given up for what it holds.
    fn let_go(&mut self) {
        if self.start == self.buffer.len() {
            (self.buffer, self.start) = (Vec::new(), 0);
        } else if self.start > MAX_HEAD {
            self.buffer.drain(..self.start);
            self.buffer.shrink_to_fit();
            self.start = 0;
        }
        self.account.hold(self.buffer.len());
    }

    /// Reads a request; `None` if the client has no more of them.
    async fn request(&mut self) -> Result<Option<(RequestHead, Vec<u8>)>, ReadFailure> {
        if mem::take(&mut self.may_introduce) && !self.introduction().await? {
            return Ok(None);
        }
        let Some(head) = self.head().await? else { return Ok(None) };
        let body = if head.is_upload() { Vec::new() } else { self.body(&head).await? };
        Ok(Some((head, body)))
    }

    /// What a trusted proxy says ahead of everything, if it says something; whether something follows.
    async fn introduction(&mut self) -> Result<bool, ReadFailure> {
        self.slot.enter(Phase::Head, (self.door.clock)().instant, self.door.table.limits().head_timeout);
        loop {
            match proxy_header::read(&self.buffer)? {
                ProxyHeader::Absent => return Ok(true),
                ProxyHeader::Whole(length, source) => {
                    self.start = length;
                    self.source = source.map_or(self.source, Source::Ip);
                    return Ok(true);
                }
                ProxyHeader::Incomplete => {}
            }
            if self.fill(MAX_PROXY_HEADER - self.buffer.len()).await? == 0 {
                return Ok(false);
            }
        }
    }

    async fn head(&mut self) -> Result<Option<RequestHead>, ReadFailure> {
        let mut scan = HeadScan::default();
        loop {
            let unread = &self.buffer[self.start..];
            if let Some(length) = scan.end(unread)? {
                let head = RequestHead::parse(&unread[..length])?;
                self.start += length;
                return Ok(Some(head));
            }
            let (has_begun, most) = (!unread.is_empty(), MAX_HEAD - unread.len());
            let limits = self.door.table.limits();
            let (phase, span) = match has_begun || self.is_first {
                true => (Phase::Head, limits.head_timeout),
                false => (Phase::Idle, limits.idle_timeout),
            };
            if self.slot.phase() != phase {
                self.slot.enter(phase, (self.door.clock)().instant, span);
            }
            match self.fill(most).await {
                Ok(0) if has_begun => {
                    return Err(RejectedRequest::new(400, "the head is not complete").into());
                }
                Ok(0) => return Ok(None),
                Ok(_) => (),
                Err(CloseReason::TimedOut) if has_begun => {
                    return Err(RejectedRequest::new(408, "the head took too long").into());
                }
                Err(ended) => return Err(ended.into()),
            }
        }
    }

    async fn body(&mut self, head: &RequestHead) -> Result<Vec<u8>, ReadFailure> {
        if head.chunked {
            return self.chunked_body(head).await;
        }
        let length = head.content_length;
        let missing = |exchange: &Self| length.saturating_sub(exchange.buffer.len() - exchange.start);
        if missing(self) > 0 {
            self.begin_body(head.expects_continue).await?;
        }
        while missing(self) > 0 {
            self.fill_body(missing(self)).await?;
        }
        let body = self.buffer[self.start..self.start + length].to_vec();
        self.start += length;
        Ok(body)
    }

    async fn chunked_body(&mut self, head: &RequestHead) -> Result<Vec<u8>, ReadFailure> {
        let mut chunked = Chunked::default();
        self.start += chunked.take(&self.buffer[self.start..])?;
        if !chunked.is_done() {
            self.begin_body(head.expects_continue).await?;
        }
        while !chunked.is_done() {
            // What comes behind the body is kept for the next request.
            self.fill_body(usize::MAX).await?;
            self.start += chunked.take(&self.buffer[self.start..])?;
            self.decoded = chunked.decoded_length();
        }
        self.decoded = 0;
        Ok(chunked.into_body())
    }

    /// A body is on its way: there is a time for it, and a client that waits to be asked for it is asked.
    async fn begin_body(&mut self, is_awaited: bool) -> Result<(), CloseReason> {
        let limits = self.door.table.limits();
        self.slot.enter(Phase::Body, (self.door.clock)().instant, limits.body_timeout);
        if is_awaited {
            self.write(CONTINUE, &[]).await?;
            self.slot.enter(Phase::Body, (self.door.clock)().instant, limits.body_timeout);
        }
        Ok(())
    }

    async fn fill_body(&mut self, most: usize) -> Result<(), ReadFailure> {
        match self.fill(most).await {
            Ok(0) => Err(RejectedRequest::new(400, "the body is not complete").into()),
            Ok(_) => Ok(()),
            Err(CloseReason::TimedOut) => Err(RejectedRequest::new(408, "the body took too long").into()),
            Err(ended) => Err(ended.into()),
        }
    }

    /// Reads up to `most` more bytes behind what is unread; 0 at the end of the stream.
    async fn fill(&mut self, most: usize) -> Result<usize, CloseReason> {
        self.buffer.drain(..self.start);
        self.start = 0;
        if self.buffer.is_empty() {
            self.buffer = Vec::new();
        }
        loop {
            if self.wait_first {
                self.slot.readable().await?;
            }
            let mut scratch = self.door.scratch.borrow_mut();
            let most = most.min(scratch.len());
            match self.slot.stream.try_read(&mut scratch[..most]) {
                Ok(length) => {
                    self.buffer.extend_from_slice(&scratch[..length]);
                    self.account.hold(self.buffer.len() + self.decoded);
                    self.wait_first = length < most;
                    return Ok(length);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait_first = true,
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn open_session(&self, head: RequestHead, body: Vec<u8>) -> Result<websocket::Opened, RejectedRequest> {
        let accept = head.upgrade.accept()?;
        if !body.is_empty() {
            return Err(RejectedRequest::new(400, "an upgrade has no body"));
        }
        let table = &self.door.table;
        let full = RejectedRequest::new(503, "too many WebSocket sessions");
        let (service, limits) = (&self.door.service, table.limits());
        let request = self.request_of(head, body);
        let payer = service.payer(&request);
        let is_member = |session| service.is_member(session);
        if self.door.stopping.get() || !table.make_room_for_session(payer, is_member) {
            return Err(full);
        }
        let outbox = Rc::new(SessionOutbox::new(limits.outbox_messages, limits.outbox_bytes));
        table.meter(&self.slot.connection(), &outbox);
        let id = service.open_session(&request, outbox.clone())?;
        table.promote(&self.slot, id, payer);
        Ok(websocket::Opened { id, outbox, accept })
    }

    async fn write(&self, first: &[u8], second: &[u8]) -> Result<(), CloseReason> {
        let (table, length) = (&self.door.table, first.len() + second.len());
        self.account.hold(self.buffer.len() + length);
        self.slot.write(first, second, self.door.clock, table.limits().write_timeout).await?;
        self.account.hold(self.buffer.len());
        table.note_sent(self.slot.payer(), length, (self.door.clock)().instant);
        Ok(())
    }

    async fn answer(&mut self, answer: &Answer, framing: &Framing) -> Result<AfterRequest, CloseReason> {
        let close = !framing.keep_alive || self.door.stopping.get();
        let head = response::head(answer, BodyEnd::Bytes(answer.body.len()), close, (self.door.clock)().unix);
        let without_body = framing.without_body || response::is_bodiless(answer.status);
        self.write(&head, if without_body { &[] } else { &answer.body }).await?;
        self.after_answer(close).await
    }

    /// Sends the pieces as chunks (RFC 9112 section 7.1).
    async fn answer_piecewise(
        &mut self,
        answer: &Answer,
        pieces: Receiver<Vec<u8>>,
        framing: &Framing,
    ) -> Result<AfterRequest, CloseReason> {
        if !framing.takes_chunks {
            return self.refuse(RejectedRequest::new(505, "this answer needs HTTP/1.1")).await;
        }
        let close = !framing.keep_alive || self.door.stopping.get();
        self.write(&response::head(answer, BodyEnd::Chunked, close, (self.door.clock)().unix), &[]).await?;
        if framing.without_body {
            return self.after_answer(close).await;
        }
        let mut end_of_last = "";
        loop {
            let Ok(piece) = pieces.recv().await else {
                return Err(CloseReason::Gone(io::Error::other("the answer was broken off")));
            };
            if piece.is_empty() {
                self.write(end_of_last.as_bytes(), b"0\r\n\r\n").await?;
                return self.after_answer(close).await;
            }
            self.write(format!("{end_of_last}{:x}\r\n", piece.len()).as_bytes(), &piece).await?;
            end_of_last = "\r\n";
        }
    }

    async fn after_answer(&mut self, close: bool) -> Result<AfterRequest, CloseReason> {
        if close {
            return Ok(AfterRequest::Linger);
        }
        let now = (self.door.clock)().instant;
        if let Some(until) = self.door.table.sent_enough(self.slot.payer(), now) {
            self.slot.pause(until, self.door.clock).await?;
        }
        if self.start < self.buffer.len() {
            // Whoever sends many requests at once does not get them all answered in one turn.
            yield_now().await;
        } else {
            self.wait_first = true;
        }
        Ok(AfterRequest::Request)
    }

    /// Says why, and that this was the last answer: what the client sends on is not understood any more.
    async fn refuse(&mut self, refusal: RejectedRequest) -> Result<AfterRequest, CloseReason> {
        self.door.service.refused(refusal.status);
        self.slot.enter_answering();
        let answer = refusal.answer();
        let head = response::head(&answer, BodyEnd::Bytes(answer.body.len()), true, (self.door.clock)().unix);
        self.write(&head, &answer.body).await?;
        Ok(AfterRequest::Linger)
    }

    /// Ends the connection in a way that lets the client read what was sent: a socket that is closed while
    /// bytes are unread sends a reset, which destroys our last answer.
    async fn linger(&mut self) -> Result<(), CloseReason> {
        self.slot.stream.finish_writing();
        self.buffer = Vec::new();
        self.account.hold(0);
        self.slot.enter(
            Phase::Lingering,
            (self.door.clock)().instant,
            self.door.table.limits().linger_timeout,
        );
        match self.door.throw_away(&self.slot, MAX_LINGER).await {
            Ok(()) | Err(CloseReason::TimedOut) => self.settle().await,
            result => result,
        }
    }

    /// Waits for a client that says nothing more to take what it was sent.
    async fn settle(&mut self) -> Result<(), CloseReason> {
        self.buffer = Vec::new();
        self.account.hold(0);
        let limits = self.door.table.limits();
        let span = limits.write_timeout;
        self.slot.settle(Phase::Lingering, self.door.clock, span, limits.sweep_interval).await
    }
}
