//! Several instances of a realm: what the one that writes answers for others, and what a session of one that follows takes
//! from it.

use super::admission::{Client, Cost};
use super::messages::MESSAGES;
use super::route::Writes;
use super::sessions::Delivery;
use super::{Api, TOO_MANY_REQUESTS, later, routes};
use crate::control::signals::Signal;
use crate::control::standing::Identity;
use crate::ids::{PartyId, SessionId};
use crate::time::{Instant, Now};
use crate::wire::http::{Answer, Request};
use crate::wire::json::members;

/// What an instance that follows does with a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MessagePlace {
    /// It takes it.
    Here,
    /// It takes it, and once more when it knows everything, if it makes no sense: somebody may be new.
    HereTwice,
    /// It passes it on to the one that writes.
    Writer,
}

/// What an instance that follows does with this message.
pub fn place_of(text: &str) -> MessagePlace {
    let kind = members(text.as_bytes(), ["type"]).ok().and_then(|[kind]| kind.read::<String>());
    let message = MESSAGES.iter().find(|message| Some(message.kind) == kind.as_deref());
    match message.map(|message| (message.kind, message.writes)) {
        // It is queued, or delivered elsewhere.
        Some(("signal", _)) => MessagePlace::Writer,
        Some((_, Writes::Changes | Writes::Removes)) => MessagePlace::Writer,
        Some(("auth" | "hello" | "heartbeat", _)) => MessagePlace::HereTwice,
        _ => MessagePlace::Here,
    }
}

/// Whether only the instance that writes can answer this.
pub fn is_for_writer(request: &Request) -> bool {
    let route = routes::find(&request.path).and_then(|found| found.serving(&request.method));
    route.is_some_and(|route| route.by_writer || route.writes != Writes::Nothing)
}

/// Whether what this changes is kept, so that the other instances come to know it.
pub fn is_kept(request: &Request) -> bool {
    let route = routes::find(&request.path).and_then(|found| found.serving(&request.method));
    route.is_some_and(|route| route.writes != Writes::Nothing)
}

/// Whether an answer may be another one at the instance that writes: somebody may be new there, or gone.
pub fn is_doubtful(request: &Request, status: u16) -> bool {
    let is_about_somebody = request.authorization.is_some() || status == 404 || status == 409;
    matches!(status, 401 | 403 | 404 | 409) && is_about_somebody && routes::find(&request.path).is_some()
}

impl Api {
    /// Who asks, whose allowance the question was taken from; an answer for who asks too often.
    pub fn admit_question(&mut self, request: &Request, now: Instant) -> Result<Client, Answer> {
        let client = self.admission.client(request);
        match self.admission.admit(client, Cost::Request, now) {
            Ok(()) => Ok(client),
            Err(seconds) => Err(later(TOO_MANY_REQUESTS, seconds)),
        }
    }

    /// Whether a session may say something that another instance takes.
    pub fn admit_message(&mut self, session: SessionId, now: Instant) -> bool {
        let client = self.sessions.client(session);
        client.is_some_and(|client| self.admission.admit(client, Cost::Request, now).is_ok())
    }

    /// Opens a session for one message that another instance passes on.
    pub fn open_for(&mut self, session: SessionId, client: Client, who: Option<Identity>, now: Now) {
        self.sessions.open(session, client, now);
        if let Some(who) = who.filter(|who| self.control.stands(who)) {
            self.control.note_origin(&who.peer, client.source.address());
            // It is the only one of its own.
            let _ = self.sessions.bind(session, who);
        }
    }

    /// Who opened a session, and who is behind it.
    pub fn session(&self, session: SessionId) -> Option<(Client, Option<Identity>)> {
        let client = self.sessions.client(session)?;
        Some((client, self.sessions.identity(session).cloned()))
    }

    /// Closes it again, since nobody hears what is said to it. Gives who is behind it now, and what that peer calls its
    /// parties.
    pub fn close_for(&mut self, session: SessionId) -> (Option<Identity>, Vec<(PartyId, Box<str>)>) {
        let who = self.sessions.identity(session).cloned();
        let names = who.as_ref().map_or_else(Vec::new, |who| self.control.called_by(&who.peer));
        self.close_session(session);
        (who, names)
    }

    /// The instance that writes says who is behind a session, and what that peer calls its parties.
    pub fn learn(&mut self, session: SessionId, who: Identity, names: Vec<(PartyId, Box<str>)>) {
        for (party, name) in &names {
            self.control.note_called(&who.peer, party, name);
        }
        if self.sessions.identity(session) != Some(&who)
            && let Some(oldest) = self.sessions.bind(session, who)
        {
            self.closures.push((oldest, "this peer has too many sessions"));
        }
        self.sessions.learn_names(session, names);
    }

    /// Whether signals whose recipients have no session here are for other instances.
    pub fn set_others(&mut self, has_others: bool) {
        self.has_others = has_others;
        self.control.set_others(has_others);
    }

    /// Hands a signal of another instance to its recipient's sessions; `None` if there is none.
    pub fn take_signal(&self, party: &PartyId, signal: &Signal) -> Option<Vec<Delivery>> {
        let mut out = Vec::new();
        let is_here = self.sessions.deliver_signal(&self.control, party, signal, &mut out);
        is_here.then(|| self.sessions.in_their_words(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http::Source;
    use crate::wire::http_head::RequestHead;

    fn request(head: &str) -> Request {
        let head = RequestHead::parse(format!("{head}\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
        Request::new(head, Vec::new(), Source::Unix, None)
    }

    #[test]
    fn what_is_kept_or_waits_is_the_writers() {
        for (line, is_writers) in [
            ("POST /parties HTTP/1.1", true),
            ("DELETE /parties/p HTTP/1.1", true),
            ("POST /parties/p/signals HTTP/1.1", true),
            ("GET /parties/p/peers/q/signals HTTP/1.1", true),
            ("GET /relay-approvals HTTP/1.1", true),
            ("POST /ui/sessions HTTP/1.1", true),
            ("GET /parties/p HTTP/1.1", false),
            ("HEAD /parties/p HTTP/1.1", false),
            ("POST /parties/p/peers/q/heartbeat HTTP/1.1", false),
            ("GET /nowhere HTTP/1.1", false),
            ("PUT /parties HTTP/1.1", false),
        ] {
            assert_eq!(is_for_writer(&request(line)), is_writers, "{line}");
            let is_in_memory = ["signals", "approvals", "sessions"].iter().any(|word| line.contains(word));
            assert_eq!(is_kept(&request(line)), is_writers && !is_in_memory, "{line}");
        }
    }

    #[test]
    fn who_is_new_is_asked_about() {
        let stranger = request("GET /parties/p HTTP/1.1");
        let peer = request("GET /parties/p HTTP/1.1\r\nAuthorization: Bearer t");
        for (status, of_peer, of_stranger) in [
            (200, false, false),
            (401, true, false),
            (403, true, false),
            (404, true, true),
            (409, true, true),
        ] {
            assert_eq!(is_doubtful(&peer, status), of_peer, "{status}");
            assert_eq!(is_doubtful(&stranger, status), of_stranger, "{status}");
        }
        assert!(!is_doubtful(&peer, 422) && !is_doubtful(&request("GET /nowhere HTTP/1.1"), 404));
    }

    #[test]
    fn messages_have_their_places() {
        for (text, place) in [
            (r#"{"type":"register_party"}"#, MessagePlace::Writer),
            (r#"{"type":"join_party"}"#, MessagePlace::Writer),
            (r#"{"type":"leave_party"}"#, MessagePlace::Writer),
            (r#"{"type":"signal"}"#, MessagePlace::Writer),
            (r#"{"type":"auth"}"#, MessagePlace::HereTwice),
            (r#"{"type":"heartbeat"}"#, MessagePlace::HereTwice),
            (r#"{"type":"relay_hello"}"#, MessagePlace::Here),
            (r#"{"type":7}"#, MessagePlace::Here),
            ("[", MessagePlace::Here),
        ] {
            assert_eq!(place_of(text), place, "{text}");
        }
    }
}
