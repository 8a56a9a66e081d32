//! What the session hears over its WebSocket.

use super::{MAX_REOPEN, PartySession, REOPEN, SessionEnd, SessionEvent, SessionWish, SocketState};
use crate::time::Now;
use crate::wire::control::{PartyBody, PeerBody, ServerEvent};
use crate::wire::json::object;
use std::time::Duration;

impl PartySession {
    /// The WebSocket is open.
    pub fn opened(&mut self, now: Now) {
        if self.socket != SocketState::Opening {
            return;
        }
        self.socket = SocketState::Open { since: now.instant };
        // What was said before it opened is gone from nobody's sight but this one's.
        self.is_stale = self.is_member;
        self.introduce();
    }

    /// Says who we are over the WebSocket, if it is open.
    pub(super) fn introduce(&mut self) {
        let (SocketState::Open { .. }, Some(token)) = (self.socket, &self.settings.token) else { return };
        let hello = object(|json| {
            json.key("type").string("auth");
            json.key("version").string("1.0");
            json.key("client").string("lanrage");
            json.key("peer_id").string(self.settings.peer_id.as_str());
            json.key("token").string(token);
        });
        self.wishes.push_back(SessionWish::Say(hello));
    }

    /// The WebSocket could not be opened, or is closed.
    pub fn closed(&mut self, now: Now) {
        if let SocketState::Open { since } = self.socket
            && now.instant.since(since) > MAX_REOPEN
        {
            self.reopen = REOPEN;
        }
        let wait = self.waits.jittered(self.reopen);
        self.reopen = (self.reopen * 2).min(MAX_REOPEN);
        self.socket = SocketState::Closed { open_at: now.instant + wait };
        // The server may be gone as well.
        self.heartbeat_at = self.heartbeat_at.min(now.instant + Duration::from_secs(1));
    }

    /// Closes the WebSocket.
    pub(super) fn close_socket(&mut self, now: Now) {
        if !matches!(self.socket, SocketState::Closed { .. }) {
            self.wishes.push_back(SessionWish::Close);
            self.socket = SocketState::Closed { open_at: now.instant };
        }
    }

    /// The server said something over the WebSocket.
    pub fn heard(&mut self, message: &str) {
        let event = match ServerEvent::read(message) {
            Ok(event) => event,
            Err(fault) => return self.say(format!("a message of the server is unusable: {fault}")),
        };
        match event {
            ServerEvent::PartyUpdate(party) if party.head.party_id.as_str() == self.party() => {
                if party.peers.is_empty() {
                    self.end(SessionEnd::PartyEnded);
                } else if self.is_news(&party) {
                    self.is_stale = true;
                }
            }
            ServerEvent::PeerJoined(party, peer)
                if party.as_str() == self.party() && peer.peer_id != self.settings.peer_id =>
            {
                self.is_stale = true;
            }
            ServerEvent::PeerLeft(party, peer) if party.as_str() == self.party() => {
                if peer == self.settings.peer_id {
                    if self.goodbyes.is_none() {
                        self.end(SessionEnd::Removed);
                    }
                } else {
                    self.is_stale = true;
                }
            }
            ServerEvent::Signal(signal) if signal.party_id.as_str() == self.party() => {
                self.events.push_back(SessionEvent::Signal(signal));
            }
            ServerEvent::Error(text) => self.say(format!("the server says: {text}")),
            _ => (),
        }
    }

    /// Whether a party is another than the one that we know: who is in it, by which keys and names.
    fn is_news(&self, party: &PartyBody) -> bool {
        let Some(last) = &self.settings.last else { return true };
        let known = &last.party;
        let same = |(one, other): (&PeerBody<'_>, &PeerBody<'_>)| {
            one.peer_id == other.peer_id && one.public_key == other.public_key && one.name == other.name
        };
        known.head != party.head
            || known.peers.len() != party.peers.len()
            || !known.peers.iter().zip(&party.peers).all(same)
    }
}
