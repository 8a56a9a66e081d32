//! What stands behind the door.

use super::outbox::SessionOutbox;
use crate::ids::SessionId;
use crate::wire::http::{Answer, RejectedRequest, Request, Source};
use smol::channel::{Receiver, Sender};
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;

/// Where the body of a request goes that is not kept in memory.
pub struct Upload {
    /// For its pieces. An **empty** one ends it; if the channel closes before one came, the rest is not wanted.
    pub pieces: Sender<Vec<u8>>,
    /// What comes of it.
    pub outcome: Pin<Box<dyn Future<Output = Answer>>>,
}

/// What is sent back for a request.
pub struct ServiceReply {
    /// The answer.
    pub answer: Answer,
    /// The body piece by piece (chunked), in place of `answer.body`. An **empty** piece ends the body; if
    /// the channel closes before one came, the body is broken off so that nobody takes it for complete.
    pub stream: Option<Receiver<Vec<u8>>>,
    /// To be answered once the body is there, in place of `answer`.
    pub upload: Option<Upload>,
}

impl From<Answer> for ServiceReply {
    fn from(answer: Answer) -> Self {
        ServiceReply { answer, stream: None, upload: None }
    }
}

/// Answers requests and listens to WebSocket sessions. Everything is called on the one thread.
pub trait HttpService: 'static {
    /// The path whose GET asks for a WebSocket.
    const WEBSOCKET: &'static str;

    /// Answers one request; may wait for the disk. A client that goes away meanwhile does not stop it. Of an upload
    /// ([`crate::wire::http::UPLOAD`]) there is no body yet, and none is read unless the reply says where it goes.
    fn call(self: Rc<Self>, request: Request) -> impl Future<Output = ServiceReply>;

    /// The door refused a request by itself (malformed, too large, too slow, too many) with this status.
    fn refused(&self, status: u16);

    /// Whose quotas count for a request: nobody's over the Unix socket, somebody else's behind a proxy.
    fn payer(&self, request: &Request) -> Option<IpAddr> {
        match request.source {
            Source::Ip(address) => Some(address),
            Source::Unix => None,
        }
    }

    /// Whether somebody is behind a session who would be missed.
    fn is_member(&self, session: SessionId) -> bool;

    /// Somebody asks for a WebSocket; `request` has no body. What is pushed into the outbox is sent right after
    /// the handshake.
    fn open_session(
        &self,
        request: &Request,
        outbox: Rc<SessionOutbox>,
    ) -> Result<SessionId, RejectedRequest>;

    /// A text message came.
    fn message(self: Rc<Self>, session: SessionId, text: &str);

    /// The session is over. Called once for every one that was opened.
    fn closed(&self, session: SessionId);
}
