//! What stock clients say over the WebSocket (REFERENCE 3).

use super::access::{TOO_MANY_CHANGES, Unchangeable};
use super::admission::{Client, Cost};
use super::fields::{ObjectFields, Problems, Text};
use super::route::Writes;
use super::{Api, TOO_MANY_GUESSES, TOO_MANY_REQUESTS, bodies, browsers, render};
use crate::api::metrics::Surroundings;
use crate::api::sessions::Delivery;
use crate::control::entry::Entry;
use crate::control::keys::KeyClaim;
use crate::control::refusal::Refusal;
use crate::control::standing::{Actor, Identity};
use crate::figures::Figure;
use crate::ids::{PartyId, PeerId, SessionId};
use crate::time::Now;
use crate::wire::http::{self, Request, Source};
use crate::wire::json::{self, JsonWriter, Value};

/// What a session is told in answer to its own message, once what the message changed is durable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MessageReply {
    /// Its parties as they are by then.
    Parties,
    /// The same, for who came in by an invite, which is undone if it can't be kept.
    Entered(Entry),
    /// What went wrong.
    Error(String),
    /// Nothing.
    None,
}

/// Why a message came to nothing.
pub(super) struct MessageTrouble(String);

impl MessageTrouble {
    pub fn new(text: &str) -> Self {
        MessageTrouble(text.to_owned())
    }
}

impl From<Refusal> for MessageTrouble {
    fn from(refusal: Refusal) -> Self {
        MessageTrouble(refusal.to_string())
    }
}

impl From<Problems> for MessageTrouble {
    fn from(problems: Problems) -> Self {
        MessageTrouble(problems.summary())
    }
}

impl From<Unchangeable> for MessageTrouble {
    fn from(why: Unchangeable) -> Self {
        MessageTrouble(match why {
            Unchangeable::Storage(failure) => failure.detail().to_owned(),
            Unchangeable::TooManyChanges(_) => TOO_MANY_CHANGES.to_owned(),
        })
    }
}

type MessageHandler = fn(&mut Api, &Said<'_>) -> Result<MessageReply, MessageTrouble>;

/// A type of message, and all there is to say about it.
pub struct MessageType {
    /// The type.
    pub kind: &'static str,
    /// What it takes of the asking source's allowance.
    pub cost: Cost,
    /// What it does to what is kept on disk.
    pub writes: Writes,
    handler: MessageHandler,
}

/// Every message that is understood.
pub const MESSAGES: &[MessageType] = &[
    message("auth", Cost::Request, Writes::Nothing, Api::introduce),
    message("hello", Cost::Request, Writes::Nothing, Api::introduce),
    message("register_party", Cost::Creation, Writes::Changes, Api::create_by_message),
    message("join_party", Cost::Request, Writes::Changes, Api::join_by_message),
    message("leave_party", Cost::Request, Writes::Removes, Api::leave_by_message),
    message("heartbeat", Cost::Request, Writes::Nothing, Api::heartbeat_by_message),
    message("signal", Cost::Request, Writes::Nothing, Api::signal_by_message),
    message("relay_hello", Cost::Creation, Writes::Nothing, Api::greet_relay),
    message("relay", Cost::Request, Writes::Nothing, Api::hear_relay),
];

const fn message(kind: &'static str, cost: Cost, writes: Writes, handler: MessageHandler) -> MessageType {
    MessageType { kind, cost, writes, handler }
}

/// One message on its way to its handler.
pub(super) struct Said<'a> {
    pub session: SessionId,
    pub client: Client,
    pub fields: ObjectFields<'a>,
    pub now: Now,
}

impl<'a> Said<'a> {
    fn claim(&self, problems: &mut Problems) -> KeyClaim<'a> {
        KeyClaim { origin: self.client.source.address(), proof: bodies::proof(&self.fields, problems) }
    }

    fn party_and_peer(&self) -> Result<(&'a str, &'a str), Problems> {
        let mut problems = Problems::default();
        let party = self.fields.text("party_id", Text::ID, &mut problems);
        let peer = self.fields.text("peer_id", Text::ID, &mut problems);
        match (party, peer) {
            (Some(party), Some(peer)) => Ok((party, peer)),
            _ => Err(problems),
        }
    }
}

impl Api {
    /// Somebody opens a WebSocket.
    pub fn open_session(
        &mut self,
        session: SessionId,
        request: &Request,
        now: Now,
    ) -> Result<(), http::RejectedRequest> {
        let client = self.admission.client(request);
        let endpoint = self.endpoint();
        let endpoint = endpoint.as_ref().map(|(host, _)| host.as_str());
        if !self.settings.browsers.admit(request, endpoint) {
            return Err(http::RejectedRequest::new(403, browsers::FOREIGN_ORIGIN));
        }
        self.sessions.open(session, client, now);
        Ok(())
    }

    /// A WebSocket is gone.
    pub fn close_session(&mut self, session: SessionId) {
        self.sessions.close(session);
        self.relay_links.close(session);
    }

    /// Takes a message of a session.
    pub fn message(
        &mut self,
        session: SessionId,
        text: &str,
        around: &Surroundings<'_>,
        now: Now,
    ) -> MessageReply {
        self.counters.values.add(Figure::Messages, 1);
        let Some(client) = self.sessions.client(session) else { return MessageReply::None };
        // What an approved relay says is as much as it was told.
        if !self.relay_links.is_fed(session)
            && self.admission.admit(client, Cost::Request, now.instant).is_err()
        {
            self.closures.push((session, "too many messages"));
            return MessageReply::None;
        }
        self.look_who_speaks(session, client.source);
        let done = json::parse(text.as_bytes())
            .map_err(|error| {
                MessageTrouble(format!("The message is no JSON: {} at byte {}", error.reason, error.offset))
            })
            .and_then(|message| self.act(session, client, &message, around, now));
        self.admission.pay_for_changes(client, self.control.cost_of_changes(), now.instant);
        done.unwrap_or_else(|MessageTrouble(text)| MessageReply::Error(text))
    }

    /// The texts of a reply.
    pub fn reply(&mut self, session: SessionId, reply: MessageReply, now: Now) -> Vec<Delivery> {
        let mut out = Vec::new();
        match reply {
            MessageReply::Parties | MessageReply::Entered(_) => {
                self.sessions.catch_up(&self.control, session, now, &mut out)
            }
            MessageReply::Error(text) => out.push(Delivery { to: vec![session], text: render::error(&text) }),
            MessageReply::None => {}
        }
        let out = self.sessions.in_their_words(out);
        self.counters.values.add(Figure::Deliveries, out.len() as u64);
        out
    }

    fn act(
        &mut self,
        session: SessionId,
        client: Client,
        message: &Value,
        around: &Surroundings<'_>,
        now: Now,
    ) -> Result<MessageReply, MessageTrouble> {
        let mut problems = Problems::default();
        let fields = ObjectFields::of_body(Some(message), &mut problems);
        let kind = fields.text("type", Text::WORD, &mut problems).unwrap_or_default();
        problems.check()?;
        let message = MESSAGES
            .iter()
            .find(|message| message.kind == kind)
            .ok_or_else(|| MessageTrouble("Unknown type of message".to_owned()))?;
        self.may_write(message.writes, client, around, now.instant)?;
        if message.cost == Cost::Creation
            && self.admission.admit(client, Cost::Creation, now.instant).is_err()
        {
            return Err(MessageTrouble(TOO_MANY_REQUESTS.to_owned()));
        }
        (message.handler)(self, &Said { session, client, fields, now })
    }

    /// `auth`, or `hello` of older clients: says who is behind the session, if it says a peer id at all.
    fn introduce(&mut self, said: &Said<'_>) -> Result<MessageReply, MessageTrouble> {
        let mut problems = Problems::default();
        let peer = said.fields.optional_text("peer_id", Text::ID, &mut problems);
        let token = said.fields.optional_text("token", Text::KEY, &mut problems);
        problems.check()?;
        match (token, peer.and_then(PeerId::new)) {
            (Some(token), peer) => {
                let identity = self.control.authenticate(token, said.now)?;
                if peer.is_some_and(|peer| peer != identity.peer) {
                    return Err(Refusal::TokenMismatch("peer_id").into());
                }
                self.bind(said, identity);
            }
            (None, Some(peer)) => drop(self.speaker(said, peer)?),
            (None, None) => return Ok(MessageReply::None),
        }
        Ok(MessageReply::Parties)
    }

    fn create_by_message(&mut self, said: &Said<'_>) -> Result<MessageReply, MessageTrouble> {
        let mut problems = Problems::default();
        let party = said.fields.text("party_id", Text::ID, &mut problems).and_then(PartyId::new);
        let name = said.fields.text("name", Text::NAME, &mut problems);
        let host = said.fields.object("host_peer", &mut problems);
        let info = bodies::peer_info(&host, &mut problems);
        let claim = said.claim(&mut problems);
        let (Some(party), Some(name), Some(info)) = (party, name, info) else { return Err(problems.into()) };
        problems.check()?;
        let by = self.speaker(said, info.peer_id.clone())?;
        self.control.create_party(&by, Some(party), name, info, claim, said.now)?;
        Ok(MessageReply::Parties)
    }

    fn join_by_message(&mut self, said: &Said<'_>) -> Result<MessageReply, MessageTrouble> {
        let mut problems = Problems::default();
        let party = said.fields.text("party_id", Text::ID, &mut problems);
        let peer = said.fields.object("peer", &mut problems);
        let info = bodies::peer_info(&peer, &mut problems);
        let claim = said.claim(&mut problems);
        let password = said.fields.optional_text("password", Text::PASSWORD, &mut problems);
        let (Some(party), Some(info)) = (party, info) else { return Err(problems.into()) };
        problems.check()?;
        let by = self.speaker(said, info.peer_id.clone())?;
        let (client, now) = (said.client, said.now.instant);
        let is_guess = password.is_some() || self.control.may_be_code(party);
        if self.may_guess(client, is_guess, now).is_err() {
            return Err(MessageTrouble(TOO_MANY_GUESSES.to_owned()));
        }
        let entry = self.control.enter_party(&by, party, info, claim, password, said.now);
        self.count_guess(client, is_guess, &entry, now);
        let entry = entry?;
        self.learn_names(said.session, &by.peer);
        Ok(if entry.paid.is_some() { MessageReply::Entered(entry) } else { MessageReply::Parties })
    }

    fn leave_by_message(&mut self, said: &Said<'_>) -> Result<MessageReply, MessageTrouble> {
        let (party, peer) = said.party_and_peer()?;
        let by = self.speaker_named(said, peer)?;
        let party = self.party_meant(said.session, &by, party);
        self.control.remove_peer(&Actor::Peer(by), &party, peer)?;
        Ok(MessageReply::None)
    }

    fn heartbeat_by_message(&mut self, said: &Said<'_>) -> Result<MessageReply, MessageTrouble> {
        let (party, peer) = said.party_and_peer()?;
        let by = self.speaker_named(said, peer)?;
        let party = self.party_meant(said.session, &by, party);
        self.control.heartbeat(&party, &by.peer, said.client.source.address(), said.now)?;
        Ok(MessageReply::None)
    }

    fn signal_by_message(&mut self, said: &Said<'_>) -> Result<MessageReply, MessageTrouble> {
        let mut problems = Problems::default();
        let party = said.fields.text("party_id", Text::ID, &mut problems);
        let to = said.fields.text("to_peer_id", Text::ID, &mut problems);
        let data = said.fields.required("signal_data", &mut problems);
        let (Some(party), Some(to), Some(data)) = (party, to, data) else { return Err(problems.into()) };
        let by = self.sessions.identity(said.session).cloned().ok_or(Refusal::NotMember)?;
        let mut json = JsonWriter::default();
        json.value(data);
        let party = self.party_meant(said.session, &by, party);
        self.control.signal(&by, &party, to, json.finish(), said.now)?;
        Ok(MessageReply::None)
    }

    /// The id of the party that a peer calls so.
    fn party_meant(&mut self, session: SessionId, by: &Identity, party: &str) -> String {
        let Some(id) = self.control.meant_by(&by.peer, party).cloned() else { return party.to_owned() };
        if id.as_str() != party {
            self.control.note_called(&by.peer, &id, party);
            self.learn_names(session, &by.peer);
        }
        id.to_string()
    }

    fn learn_names(&mut self, session: SessionId, peer: &PeerId) {
        let names = self.control.called_by(peer);
        self.sessions.learn_names(session, names);
    }

    /// Before anything that a session says counts: an id that it claimed while that was free may be somebody's by now.
    /// From here on, whom it is bound to is who speaks.
    fn look_who_speaks(&mut self, session: SessionId, source: Source) {
        let Some(identity) = self.sessions.identity(session) else { return };
        if self.control.stands(identity) {
            self.control.note_origin(&identity.peer, source.address());
        } else {
            self.sessions.unbind(session);
        }
    }

    /// Who speaks as `peer` over a session: whom it is bound to already, or, for a client that has no token,
    /// whom its address lets it be.
    fn speaker(&mut self, said: &Said<'_>, peer: PeerId) -> Result<Identity, Refusal> {
        if let Some(identity) = self.sessions.identity(said.session)
            && identity.peer == peer
        {
            return Ok(identity.clone());
        }
        let Source::Ip(address) = said.client.source else { return Err(Refusal::PeerTaken) };
        let identity = self.control.claim(&peer, address)?;
        self.bind(said, identity.clone());
        Ok(identity)
    }

    fn speaker_named(&mut self, said: &Said<'_>, peer: &str) -> Result<Identity, Refusal> {
        let peer = PeerId::new(peer).ok_or_else(|| Refusal::PeerNotFound(peer.to_owned()))?;
        self.speaker(said, peer)
    }

    fn bind(&mut self, said: &Said<'_>, identity: Identity) {
        self.control.note_origin(&identity.peer, said.client.source.address());
        self.learn_names(said.session, &identity.peer);
        if let Some(oldest) = self.sessions.bind(said.session, identity) {
            self.closures.push((oldest, "this peer has too many sessions"));
        }
    }
}
