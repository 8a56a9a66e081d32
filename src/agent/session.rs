//! The membership in a party: registers, joins or hosts, gives signs of life, hears what happens, and leaves. What is to
//! be asked of the control server comes out as values, and goes on for as long as it takes: a server that is away
//! ends no membership.

mod hearing;
mod requests;
mod waits;

use crate::control::proof;
use crate::crypto::x25519::PrivateKey;
use crate::ids::{PartyId, PeerId};
use crate::time::{Instant, Now};
use crate::wire::control::{
    PartyAnswer, RelayBody, SignalBody, read_detail, read_nonce, read_relays, read_signals, read_token,
};
use crate::wire::json;
use requests::Asked;
use std::collections::VecDeque;
use std::mem;
use std::time::Duration;
use waits::Waits;

pub use requests::{ApiReply, ApiRequest};

/// Between signs of life; the server takes a member out after ten times as long.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// How often signals are asked for while there is no WebSocket, and how often who is there.
const ASK_SIGNALS: Duration = Duration::from_secs(5);
const ASK_ROSTER: Duration = Duration::from_secs(30);
/// How often the relays are asked for.
const ASK_RELAYS: Duration = Duration::from_secs(300);
/// Before the next WebSocket is opened: the first wait, and the longest.
const REOPEN: Duration = Duration::from_secs(5);
const MAX_REOPEN: Duration = Duration::from_secs(60);
/// How often a party that is gone is looked for.
const GONE: Duration = Duration::from_secs(60);
/// Tries to say goodbye.
const GOODBYES: u32 = 2;
/// Signals that wait to be sent.
const MAX_SIGNALS: usize = 256;
/// Longest signal, in bytes: what the server takes.
const MAX_SIGNAL: usize = 16 * 1024;

/// Which party is meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PartyGoal {
    /// One that there is.
    Join(PartyId),
    /// A new one of this name.
    Host(String),
}

/// What a session has to be told.
pub struct SessionSettings {
    /// Which party.
    pub goal: PartyGoal,
    /// Our id.
    pub peer_id: PeerId,
    /// What people call us.
    pub name: String,
    /// Our WireGuard key.
    pub key: PrivateKey,
    /// A token from before, if there is one.
    pub token: Option<String>,
    /// The party's password, if it has one, or is to have.
    pub password: Option<String>,
    /// Whether the party is to be given that password.
    pub protects: bool,
    /// The party as it was, if we were a member before.
    pub last: Option<PartyAnswer>,
    /// Decides the jitter of retries. No secret.
    pub seed: u64,
}

/// What is to be done for the session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SessionWish {
    /// Ask this, and say what [came](PartySession::answered) of it. Only then there is another one.
    Ask(ApiRequest),
    /// Open a WebSocket, and say whether it is [open](PartySession::opened) or [not](PartySession::closed).
    Open,
    /// Say this over the WebSocket.
    Say(String),
    /// Close the WebSocket.
    Close,
}

/// Why a membership is over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SessionEnd {
    /// We have left.
    Left,
    /// The host has removed us.
    Removed,
    /// The party has ended.
    PartyEnded,
    /// The server does not let us in: this is what it said.
    Refused(String),
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SessionEvent {
    /// This is the party now.
    Party(Box<PartyAnswer>),
    /// These are the relays now.
    Relays(Vec<RelayBody<'static>>),
    /// A member said something to us.
    Signal(SignalBody),
    /// The token, or the party's id, is new: to be kept.
    Keep,
    /// The server does not answer any more: games go on without it.
    Local,
    /// The server is back.
    Back,
    /// Something that the owner may want to know.
    Trouble(String),
    /// It is over.
    Ended(SessionEnd),
}

/// Why a key is to be proven.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ProofFor {
    Register,
    Enter,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum SocketState {
    Closed { open_at: Instant },
    Opening,
    Open { since: Instant },
}

/// A membership.
pub struct PartySession {
    settings: SessionSettings,
    waits: Waits,
    asked: Option<Asked>,
    /// The token is good, as far as we know.
    is_registered: bool,
    is_member: bool,
    was_member: bool,
    /// A proof of our key is needed for this; the proof itself, with its nonce, once it is there.
    prove: Option<ProofFor>,
    proof: Option<(String, String)>,
    /// Proofs have been tried since the last success.
    proofs: u32,
    is_stale: bool,
    heartbeat_at: Instant,
    read_at: Instant,
    signals_at: Instant,
    relays_at: Instant,
    /// How many members are reached straight.
    straight: u8,
    outgoing: VecDeque<(PeerId, String)>,
    socket: SocketState,
    reopen: Duration,
    goodbyes: Option<u32>,
    is_over: bool,
    wishes: VecDeque<SessionWish>,
    events: VecDeque<SessionEvent>,
}

impl PartySession {
    /// A session that begins now.
    pub fn new(settings: SessionSettings, now: Now) -> Self {
        let mut events = VecDeque::new();
        if let Some(last) = &settings.last {
            events.push_back(SessionEvent::Party(Box::new(last.clone())));
        }
        PartySession {
            waits: Waits::new(settings.seed, now.instant),
            asked: None,
            is_registered: settings.token.is_some(),
            is_member: false,
            was_member: settings.last.is_some(),
            prove: None,
            proof: None,
            proofs: 0,
            is_stale: false,
            heartbeat_at: now.instant,
            read_at: now.instant,
            signals_at: now.instant,
            relays_at: now.instant,
            straight: 0,
            outgoing: VecDeque::new(),
            socket: SocketState::Closed { open_at: now.instant },
            reopen: REOPEN,
            goodbyes: None,
            is_over: false,
            wishes: VecDeque::new(),
            events,
            settings,
        }
    }

    /// The token and the party, to be kept for the next start.
    pub fn kept(&self) -> (Option<&str>, &PartyGoal) {
        (self.settings.token.as_deref(), &self.settings.goal)
    }

    /// Whether the party is still to be given its password.
    pub fn protects(&self) -> bool {
        self.settings.protects
    }

    /// Whether the server answers, as far as we know.
    pub fn is_local(&self) -> bool {
        self.waits.is_local()
    }

    /// How many members are reached straight, to be told with the next sign of life.
    pub fn reaches_straight(&mut self, count: usize) {
        self.straight = u8::try_from(count).unwrap_or(u8::MAX);
    }

    /// Whether we are a member, as far as we know.
    pub fn is_member(&self) -> bool {
        self.is_member
    }

    /// What happened since it was last asked for.
    pub fn take_event(&mut self) -> Option<SessionEvent> {
        self.events.pop_front()
    }

    /// When [`PartySession::poll`] has something to do.
    pub fn next(&self) -> Option<Instant> {
        if self.is_over {
            return None;
        }
        let ask = self.wanted().map(|(_, at)| at.max(self.waits.until()));
        let open = match self.socket {
            SocketState::Closed { open_at } if self.wants_socket() => Some(open_at),
            _ => None,
        };
        [ask, open].into_iter().flatten().min()
    }

    /// What is to be done now; to be called until there is nothing.
    pub fn poll(&mut self, now: Now) -> Option<SessionWish> {
        if let Some(wish) = self.wishes.pop_front() {
            return Some(wish);
        }
        if self.is_over {
            return None;
        }
        if let SocketState::Closed { open_at } = self.socket
            && open_at <= now.instant
            && self.wants_socket()
        {
            self.socket = SocketState::Opening;
            return Some(SessionWish::Open);
        }
        if let (Some(signal), SocketState::Open { .. }) = (self.outgoing.front(), self.socket) {
            let text = self.signal_body(signal, true);
            self.outgoing.pop_front();
            return Some(SessionWish::Say(text));
        }
        let (asked, at) = self.wanted()?;
        if at.max(self.waits.until()) > now.instant {
            return None;
        }
        let request = self.request(&asked, now);
        if asked == Asked::Read {
            // What happens from here on may not be in the answer.
            self.is_stale = false;
        }
        self.asked = Some(asked);
        Some(SessionWish::Ask(request))
    }

    /// Leaves the party.
    pub fn leave(&mut self, now: Now) {
        if self.goodbyes.is_none() && !self.is_over {
            self.goodbyes = Some(0);
            self.waits.clear(now.instant);
            if !self.is_registered || !self.was_member {
                self.end(SessionEnd::Left);
            }
        }
    }

    /// Has the server say `data`, which is JSON, to another member.
    pub fn signal(&mut self, to: PeerId, data: String) {
        if data.len() > MAX_SIGNAL || json::check(data.as_bytes()).is_err() {
            return;
        }
        if self.outgoing.len() == MAX_SIGNALS {
            self.outgoing.pop_front();
        }
        self.outgoing.push_back((to, data));
    }

    /// The network may be another: whatever waits is tried at once.
    pub fn hurry(&mut self, now: Now) {
        self.waits.clear(now.instant);
        if let SocketState::Closed { open_at } = &mut self.socket {
            *open_at = now.instant;
        }
    }

    fn wants_socket(&self) -> bool {
        self.is_member && self.goodbyes.is_none() && !self.waits.is_local()
    }

    /// What is to be asked next, and from when on.
    fn wanted(&self) -> Option<(Asked, Instant)> {
        if self.asked.is_some() || self.is_over {
            return None;
        }
        let at_once = Instant::ZERO;
        if self.prove.is_some() && self.proof.is_none() {
            return Some((Asked::Nonce, at_once));
        }
        if !self.is_registered {
            return Some((Asked::Register, at_once));
        }
        if self.goodbyes.is_some() {
            return Some((Asked::Leave, at_once));
        }
        if !self.is_member {
            return Some((Asked::Enter, at_once));
        }
        if self.settings.protects {
            return Some((Asked::Protect, at_once));
        }
        if self.is_stale {
            return Some((Asked::Read, at_once));
        }
        if !self.outgoing.is_empty() && !matches!(self.socket, SocketState::Open { .. }) {
            return Some((Asked::Signal, at_once));
        }
        let mut next = (Asked::Heartbeat, self.heartbeat_at);
        if self.relays_at < next.1 && self.waits.tries() == 0 {
            next = (Asked::Relays, self.relays_at);
        }
        if !matches!(self.socket, SocketState::Open { .. }) {
            for (asked, at) in [(Asked::TakeSignals, self.signals_at), (Asked::Read, self.read_at)] {
                if at < next.1 {
                    next = (asked, at);
                }
            }
        }
        Some(next)
    }

    fn party(&self) -> &str {
        match &self.settings.goal {
            PartyGoal::Join(party) => party.as_str(),
            PartyGoal::Host(_) => "",
        }
    }

    /// What came of the request that was last asked for; `None` if there was no answer.
    pub fn answered(&mut self, reply: Result<ApiReply, String>, now: Now) {
        let Some(asked) = self.asked.take() else { return };
        if self.is_over {
            return;
        }
        self.is_stale |= asked == Asked::Read && !matches!(&reply, Ok(reply) if reply.status == 200);
        let reply = match reply {
            Ok(reply) if reply.status == 429 => {
                // It is there, and has enough of us.
                self.came_back(now);
                self.waits.pause(reply.retry_after, now.instant);
                return;
            }
            // A list that is not to be had is no reason to take the server for away.
            Ok(reply) if reply.status < 500 || asked == Asked::Relays => reply,
            Ok(reply) => {
                let why = read_detail(&reply.body).unwrap_or_else(|| format!("status {}", reply.status));
                return self.unanswered(&why, reply.retry_after, now);
            }
            Err(why) => return self.unanswered(&why, None, now),
        };
        self.came_back(now);
        if reply.status == 401 && asked != Asked::Register {
            self.is_registered = false;
            self.waits.refused(now.instant);
            return;
        }
        let outcome = match reply.status {
            200 => self.succeeded(&asked, &reply.body, now),
            status => self.refused(&asked, status, &reply.body, now),
        };
        if let Err(fault) = outcome {
            self.say(format!("the server's answer is unusable: {fault}"));
            self.waits.refused(now.instant);
        }
    }

    fn came_back(&mut self, now: Now) {
        if self.waits.answered(now.instant) {
            self.events.push_back(SessionEvent::Back);
            // Whatever happened meanwhile was missed.
            self.is_stale = self.is_member;
            self.heartbeat_at = now.instant;
        }
    }

    fn unanswered(&mut self, why: &str, retry_after: Option<Duration>, now: Now) {
        if let Some(goodbyes) = &mut self.goodbyes {
            *goodbyes += 1;
            if *goodbyes >= GOODBYES {
                return self.end(SessionEnd::Left);
            }
        }
        let is_first = self.waits.tries() == 0;
        if self.waits.failed(retry_after, now.instant) {
            self.events.push_back(SessionEvent::Local);
            self.close_socket(now);
        } else if is_first {
            self.say(format!("the server does not answer, trying again: {why}"));
        }
    }

    fn succeeded(&mut self, asked: &Asked, body: &[u8], now: Now) -> Result<(), &'static str> {
        self.waits.accepted();
        match asked {
            Asked::Register => {
                self.settings.token = Some(read_token(body)?);
                self.is_registered = true;
                (self.prove, self.proof) = (None, None);
                // What stands behind the new token is to be said anew, also to an open WebSocket.
                self.is_member = false;
                self.events.push_back(SessionEvent::Keep);
            }
            Asked::Nonce => {
                let (nonce, hub) = read_nonce(body)?;
                let proof = proof::prove(&self.settings.key, &hub, &self.settings.peer_id, &nonce);
                self.proof = Some((nonce, proof.ok_or("the server's key is unusable")?));
            }
            Asked::Enter | Asked::Read => self.party_read(asked, PartyAnswer::read(body)?, now)?,
            Asked::Relays => {
                self.relays_at = now.instant + ASK_RELAYS;
                self.events.push_back(SessionEvent::Relays(read_relays(body)?));
            }
            Asked::Protect => {
                self.settings.protects = false;
                self.events.push_back(SessionEvent::Keep);
            }
            Asked::Heartbeat => self.heartbeat_at = now.instant + HEARTBEAT,
            Asked::Signal => drop(self.outgoing.pop_front()),
            Asked::TakeSignals => {
                self.signals_at = now.instant + ASK_SIGNALS;
                for signal in read_signals(body)? {
                    self.events.push_back(SessionEvent::Signal(signal));
                }
            }
            Asked::Leave => self.end(SessionEnd::Left),
        }
        Ok(())
    }

    fn party_read(&mut self, asked: &Asked, answer: PartyAnswer, now: Now) -> Result<(), &'static str> {
        let is_named = match &self.settings.goal {
            // A code, or a name, leads to a party of another id.
            PartyGoal::Join(party) => {
                answer.party.head.party_id == *party || (*asked == Asked::Enter && !self.was_member)
            }
            PartyGoal::Host(_) => *asked == Asked::Enter,
        };
        if !is_named {
            return Err("it is of another party");
        }
        match answer.network.as_ref().map(|network| network.virtual_ip) {
            Some(Some(_)) => (),
            Some(None) => return Err("it gives us no address"),
            None => {
                self.end(SessionEnd::Refused(
                    "this server gives no addresses (its answers have no network): the party needs a lanrage \
                     server"
                        .to_owned(),
                ));
                return Ok(());
            }
        }
        (self.prove, self.proof) = (None, None);
        if *asked == Asked::Enter {
            let goal = PartyGoal::Join(answer.party.head.party_id.clone());
            let is_new = mem::replace(&mut self.settings.goal, goal.clone()) != goal;
            (self.is_member, self.was_member) = (true, true);
            self.heartbeat_at = now.instant + HEARTBEAT;
            self.signals_at = now.instant + ASK_SIGNALS;
            self.introduce();
            if is_new {
                self.events.push_back(SessionEvent::Keep);
            }
            if answer.warnings.is_empty() {
                self.proofs = 0;
            } else if self.proofs == 0 {
                // Whoever has the private key gets relay service, and the key's own address. This one is not it.
                (self.prove, self.is_member, self.proofs) = (Some(ProofFor::Enter), false, 1);
                return Ok(());
            } else {
                answer.warnings.iter().for_each(|warning| self.say(warning.clone()));
            }
        }
        if self.settings.protects {
            // Nobody is told of it before it is.
            self.is_stale = true;
            return Ok(());
        }
        self.read_at = now.instant + ASK_ROSTER;
        self.settings.last = Some(answer.clone());
        self.events.push_back(SessionEvent::Party(Box::new(answer)));
        Ok(())
    }

    fn refused(&mut self, asked: &Asked, status: u16, body: &[u8], now: Now) -> Result<(), &'static str> {
        let detail = read_detail(body).unwrap_or_else(|| format!("status {status}"));
        match (asked, status) {
            (Asked::Register, 401) => {
                // A token that is too old to be shown.
                let had = self.settings.token.take().is_some();
                if !had {
                    self.waits.refused(now.instant);
                }
            }
            (Asked::Register, 409) if self.proof.is_none() => self.prove = Some(ProofFor::Register),
            (Asked::Register, _) if self.was_member => {
                (self.prove, self.proof) = (None, None);
                self.say(format!("the server does not register us, trying again: {detail}"));
                self.waits.gone(GONE, now.instant);
            }
            (Asked::Register, _) => self.end(SessionEnd::Refused(detail)),
            // Servers other than ours know no proofs.
            (Asked::Nonce, _) => match self.prove.take() {
                Some(ProofFor::Enter) => (self.is_member, self.is_stale) = (true, true),
                _ => {
                    self.say(format!("another client has our id, trying again: {detail}"));
                    self.waits.gone(GONE, now.instant);
                }
            },
            (Asked::Enter, 404) if self.was_member => {
                self.say(format!("{detail}: it has ended, or the server has lost it; trying again"));
                self.waits.gone(GONE, now.instant);
            }
            (Asked::Enter, 403 | 409) if self.proof.is_some() && self.was_member => {
                // Without the proof it has worked.
                (self.prove, self.proof) = (None, None);
                (self.is_member, self.is_stale) = (true, true);
                self.say(detail);
            }
            (Asked::Enter, 409) if self.was_member => {
                self.say(format!("{detail}; trying again"));
                self.waits.gone(GONE, now.instant);
            }
            (Asked::Enter, _) => self.end(SessionEnd::Refused(detail)),
            (Asked::Protect, _) => {
                self.end(SessionEnd::Refused(format!("it gives the party no password ({detail})")));
            }
            (Asked::Leave, _) => self.end(SessionEnd::Left),
            // We were taken out while we were away.
            (Asked::Read | Asked::Heartbeat | Asked::TakeSignals, 403 | 404) => self.is_member = false,
            (Asked::Signal, _) => drop(self.outgoing.pop_front()),
            (Asked::TakeSignals, _) => self.signals_at = now.instant + HEARTBEAT,
            // There is one in any case.
            (Asked::Relays, _) => self.relays_at = now.instant + ASK_RELAYS,
            (Asked::Read | Asked::Heartbeat, _) => {
                self.say(detail);
                self.waits.refused(now.instant);
            }
        }
        Ok(())
    }

    fn say(&mut self, text: String) {
        self.events.push_back(SessionEvent::Trouble(text));
    }

    fn end(&mut self, how: SessionEnd) {
        if mem::replace(&mut self.is_over, true) {
            return;
        }
        self.is_member = false;
        self.wishes.clear();
        if !matches!(self.socket, SocketState::Closed { .. }) {
            self.wishes.push_back(SessionWish::Close);
        }
        self.events.push_back(SessionEvent::Ended(how));
    }
}

#[cfg(test)]
mod tests;
