//! Floor 3: the control API of LANrage. Requests and WebSocket messages go in; answers, deliveries and
//! changes to keep come out. No socket, no disk, no clock.

pub mod admission;
pub mod browsers;
pub mod errors;
pub mod events;
pub mod fields;
pub mod messages;
pub mod metrics;
pub mod openapi;
pub mod page_sessions;
pub mod refusal_log;
pub mod render;
pub mod route;
pub mod routes;
pub mod sessions;
pub mod updates;

mod admin;
mod bans;
mod bodies;
mod devices;
mod entries;
mod invites;
mod owner;
mod ownership;
mod pages;
mod parties;
mod peers;
mod relays;

use crate::control::change::Change;
use crate::control::entry::Entry;
use crate::control::refusal::Refusal;
use crate::control::standing::{Actor, Identity};
use crate::control::{self, Control};
use crate::crypto::constant_time;
use crate::crypto::x25519::PublicKey;
use crate::durability::WriteError;
use crate::figures::Figure;
use crate::ids::{PartyId, RelayId, SessionId};
use crate::time::{Instant, Now, UnixTime};
use crate::wire::endpoint;
use crate::wire::http::{Answer, Request, Source};
use crate::wire::json::{self, Value};
use crate::wire::percent;
use crate::wire::static_body::StaticBody;
use admission::{Client, Cost, Rates, RequestLimiter};
use browsers::Browsers;
use events::EventLog;
use fields::Problems;
use metrics::{Counters, RelayView, Surroundings};
use page_sessions::PageSessions;
use refusal_log::RefusalLog;
use route::{Access, Body, Parameters, PathMatch, Route, Writes};
use sessions::{Delivery, Sessions};
use std::cell::OnceCell;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tiny_http::Method;

/// A device without a handshake for so long was away.
const AWAY: Duration = Duration::from_secs(190);
/// What who asks too often is told.
const TOO_MANY_REQUESTS: &str = "Too many requests; wait a little and try again";
/// What who guesses too often is told.
const TOO_MANY_GUESSES: &str = "Too many wrong guesses; wait a minute and try again";
/// What who writes too much to the disk is told.
const TOO_MANY_CHANGES: &str = "Too many changes from this network; wait a while and try again";

/// How this daemon presents its own relay.
#[derive(Clone, Debug)]
pub struct OwnRelay {
    /// Its id in the list of relays.
    pub relay_id: RelayId,
    /// Where clients reach it, as `HOST:PORT`, if the owner said so. Otherwise it is the address that a
    /// request came in on.
    pub endpoint: Option<(String, u16)>,
    /// The UDP port.
    pub port: u16,
    /// Where it is.
    pub region: String,
    /// How many clients it takes.
    pub capacity: u32,
}

/// What the owner of a daemon can choose about the API.
#[derive(Clone, Debug)]
pub struct ApiSettings {
    /// Our own relay.
    pub relay: OwnRelay,
    /// What one source may do.
    pub rates: Rates,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpAddr>,
    /// What browsers may do.
    pub browsers: Browsers,
    /// A Bearer token that makes an admin.
    pub admin_token: Option<String>,
    /// What an owner is told about where to find things.
    pub locations: Locations,
}

/// Where the daemon is at home.
#[derive(Clone, Default, Debug)]
pub struct Locations {
    /// The address of the control API.
    pub http: String,
    /// The address of the relay's UDP port.
    pub relay: String,
    /// The state directory.
    pub state_dir: String,
}

/// What comes of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Handled {
    /// The path of the route, for counting the request once the answer is sent.
    pub path: Option<&'static str>,
    /// What is sent.
    pub outcome: Outcome,
    /// Whether it speaks of changes, so that it can be sent only when those are durable.
    pub awaits_commit: bool,
    /// What is [undone](Api::undo) if they can't become so.
    pub entry: Option<Entry>,
}

/// What is sent for a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// An answer.
    Answer(Answer),
    /// A copy of the store, to be streamed by who has it.
    Backup {
        /// Without the hub's key: for people to look at, not to restore.
        redacted: bool,
    },
}

/// What has to be done elsewhere after a request or message.
#[derive(Default, Debug)]
pub struct Effects {
    /// For the store and the relay.
    pub changes: Vec<Change>,
    /// For open sessions.
    pub deliveries: Vec<Delivery>,
    /// Sessions to be closed, and why.
    pub closures: Vec<(SessionId, &'static str)>,
}

/// Why a request gets no 200.
enum RequestFailure {
    Refused(Refusal),
    Invalid(Problems),
    Answered(Answer),
}

impl From<Refusal> for RequestFailure {
    fn from(refusal: Refusal) -> Self {
        RequestFailure::Refused(refusal)
    }
}

impl From<Unchangeable> for RequestFailure {
    fn from(why: Unchangeable) -> Self {
        RequestFailure::Answered(match why {
            Unchangeable::Storage(failure) => unavailable(failure.detail()),
            Unchangeable::TooManyChanges(seconds) => later(TOO_MANY_CHANGES, seconds),
        })
    }
}

impl From<Problems> for RequestFailure {
    fn from(problems: Problems) -> Self {
        RequestFailure::Invalid(problems)
    }
}

/// What a handler makes of a request.
type Handling = Result<Outcome, RequestFailure>;

/// An answer with this JSON.
fn ok(body: impl Into<Vec<u8>>) -> Handling {
    Ok(Outcome::Answer(Answer::json(200, body)))
}

/// One request on its way to its handler.
struct Call<'a> {
    request: &'a Request,
    client: Client,
    /// Who asks, where the route asks who that is.
    actor: Option<Actor>,
    parameters: Parameters<'a>,
    body: Option<Value>,
    query: Value,
    around: &'a Surroundings<'a>,
    now: Now,
}

impl Call<'_> {
    fn actor(&self) -> Result<&Actor, Refusal> {
        self.actor.as_ref().ok_or(Refusal::TokenMissing)
    }

    /// The peer that asks, which has to be the one that `field` names.
    fn identity(&self, id: &str, field: &'static str) -> Result<&Identity, Refusal> {
        match self.actor()? {
            Actor::Peer(identity) if identity.peer.as_str() == id => Ok(identity),
            _ => Err(Refusal::TokenMismatch(field)),
        }
    }
}

/// Why nothing may be changed now.
enum Unchangeable {
    /// The disk can't be written.
    Storage(WriteError),
    /// The network has changed too much and may go on after so many seconds.
    TooManyChanges(u64),
}

/// The control API and all its state.
pub struct Api {
    control: Control,
    sessions: Sessions,
    admission: RequestLimiter,
    settings: ApiSettings,
    counters: Counters,
    refusals: RefusalLog,
    /// `/openapi.json`, once somebody has asked for it.
    document: OnceCell<StaticBody>,
    closures: Vec<(SessionId, &'static str)>,
    /// What has happened lately.
    events: EventLog,
    /// Who uses the owner's pages.
    pages: PageSessions,
    /// When a session of somebody outside last came up at the hub.
    reached: Option<UnixTime>,
    /// Who has just come in by an invite.
    entry: Option<Entry>,
    started: Instant,
}

impl Api {
    /// Over `control`, with nobody connected yet.
    pub fn new(control: Control, settings: ApiSettings, now: Now) -> Self {
        Api {
            control,
            sessions: Sessions::default(),
            admission: RequestLimiter::new(settings.rates.clone(), settings.trusted_proxies.clone()),
            settings,
            counters: Counters::default(),
            refusals: RefusalLog::default(),
            document: OnceCell::new(),
            closures: Vec::new(),
            events: EventLog::default(),
            pages: PageSessions::default(),
            reached: None,
            entry: None,
            started: now.instant,
        }
    }

    /// Has these settings count from now on, but for the subnet, which stays as long as anybody has an address
    /// in it.
    pub fn reconfigure(&mut self, settings: ApiSettings, control: control::ControlSettings) {
        self.admission.reconfigure(settings.rates.clone(), settings.trusted_proxies.clone());
        self.settings = settings;
        self.control.reconfigure(control);
    }

    /// The control state.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// What is counted.
    pub fn counters(&mut self) -> &mut Counters {
        &mut self.counters
    }

    /// Whose quotas count for what a request asks for: nobody's over the Unix socket.
    pub fn payer(&self, request: &Request) -> Option<IpAddr> {
        match self.admission.client(request).source {
            Source::Ip(address) => Some(address),
            Source::Unix => None,
        }
    }

    /// Whether a session is a member's.
    pub fn is_member(&self, session: SessionId) -> bool {
        self.sessions.identity(session).is_some_and(|identity| {
            self.control.stands(identity) && !self.control.parties_of(&identity.peer).is_empty()
        })
    }

    /// Answers a request.
    pub fn handle(&mut self, request: &Request, around: &Surroundings<'_>, now: Now) -> Handled {
        let client = self.admission.client(request);
        let found = routes::find(&request.path);
        let path = found.as_ref().map(|found| found.path);
        let route = found.as_ref().and_then(|found| found.serving(&request.method));
        let outcome = self.admit(found.as_ref(), route, request, client, now.instant).and_then(|()| {
            if request.method == Method::Options {
                return Ok(Outcome::Answer(options(found.as_ref())));
            }
            let Some(found) = found else {
                return Err(RequestFailure::Answered(errors::detail(404, "Not Found")));
            };
            let route = route.ok_or_else(|| not_allowed(&found))?;
            self.may_write(route.writes, client, around, now.instant)?;
            let body = match &request.body[..] {
                [] => None,
                _ if route.body == Body::None => None,
                bytes if matches!(route.body, Body::Form(_)) => {
                    Some(percent::query(&String::from_utf8_lossy(bytes)))
                }
                // RFC 8259 section 8.1: what some editors and PowerShell put in front may be ignored.
                bytes => Some(
                    json::parse(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes))
                        .map_err(Problems::of_json)?,
                ),
            };
            let query = percent::query(&request.query);
            let actor = self.let_in(route.access, request, client, now)?;
            let parameters = self.meant(found.path, found.parameters, actor.as_ref());
            let call = Call { request, client, actor, parameters, body, query, around, now };
            let mut outcome = (route.handler)(self, &call)?;
            if let Outcome::Answer(answer) = &mut outcome {
                answer.headers.extend(route.headers.iter().map(|(name, value)| (*name, (*value).into())));
            }
            Ok(outcome)
        });
        self.admission.pay_for_changes(client, self.control.cost_of_changes(), now.instant);
        // Even a repeated request that changes nothing waits for what the first one did.
        let awaits_commit = outcome.is_ok() && route.is_some_and(|route| route.writes != Writes::Nothing);
        let mut outcome = outcome.unwrap_or_else(|failure| {
            Outcome::Answer(match failure {
                RequestFailure::Refused(refusal) => {
                    self.log_refusal(client.source, path, &refusal, now.instant);
                    errors::refused(&refusal)
                }
                RequestFailure::Invalid(problems) => problems.answer(),
                RequestFailure::Answered(answer) => answer,
            })
        });
        if let Outcome::Answer(answer) = &mut outcome {
            self.settings.browsers.mark(request, answer);
        }
        Handled { path, outcome, awaits_commit, entry: self.entry.take() }
    }

    /// Says what an owner wants to know, each once; the rest is for diagnosis.
    fn log_refusal(&mut self, source: Source, path: Option<&'static str>, refusal: &Refusal, now: Instant) {
        let (path, status) = (path.unwrap_or("?"), errors::status(refusal));
        let is_news = match (refusal, source) {
            (
                Refusal::Full { .. }
                | Refusal::NoAddress
                | Refusal::PeerTaken
                | Refusal::Banned
                | Refusal::ProofWrong,
                Source::Ip(address),
            ) => self.refusals.note(address, path, status, now),
            _ => false,
        };
        let level = if is_news { log::Level::Info } else { log::Level::Debug };
        // The refusal's own text can repeat a party's id.
        log::log!(level, "refused {path} to {source}: {status}");
    }

    fn admit(
        &mut self,
        found: Option<&PathMatch<'_>>,
        route: Option<&Route>,
        request: &Request,
        client: Client,
        now: Instant,
    ) -> Result<(), RequestFailure> {
        let creates = route.is_some_and(|route| route.cost == Cost::Creation);
        let costs = if creates { &[Cost::Request, Cost::Creation][..] } else { &[Cost::Request] };
        for cost in costs {
            if let Err(seconds) = self.admission.admit(client, *cost, now) {
                return Err(RequestFailure::Answered(later(TOO_MANY_REQUESTS, seconds)));
            }
        }
        let endpoint = self.endpoint();
        let endpoint = endpoint.as_ref().map(|(host, _)| host.as_str());
        let browsers = &self.settings.browsers;
        if !browsers.admit(request, endpoint) {
            return Err(RequestFailure::Answered(errors::detail(403, browsers::FOREIGN_ORIGIN)));
        }
        // Methods that a path does not have are refused like those that it has.
        let wants_known_host = match (route, found) {
            (Some(route), _) => route.access.wants_known_host(),
            (None, Some(found)) => found.routes().all(|route| route.access.wants_known_host()),
            (None, None) => false,
        };
        if (wants_known_host || self.is_owners(request, now)) && !browsers.knows(request, endpoint) {
            return Err(RequestFailure::Answered(errors::detail(403, browsers::UNKNOWN_HOST)));
        }
        Ok(())
    }

    /// Where friends reach the relay, as the owner said: in the settings, or else on a page.
    fn endpoint(&self) -> Option<(String, u16)> {
        self.settings.relay.endpoint.clone().or_else(|| self.control.endpoint().cloned())
    }

    /// Whether a request has the admin token, or that of one of the owner's pages.
    fn is_owners(&self, request: &Request, now: Instant) -> bool {
        let Some(token) = request.authorization.as_deref().and_then(bearer) else { return false };
        let admin = self.settings.admin_token.as_deref();
        admin.is_some_and(|admin| constant_time::eq(admin.as_bytes(), token.as_bytes()))
            || self.pages.knows(token, now)
    }

    /// Whether what is kept on disk may be changed now, by a request or a message.
    fn may_write(
        &self,
        writes: Writes,
        client: Client,
        around: &Surroundings<'_>,
        now: Instant,
    ) -> Result<(), Unchangeable> {
        if writes == Writes::Nothing {
            return Ok(());
        }
        if let Some(failure) = around.store_failure {
            return Err(Unchangeable::Storage(failure));
        }
        // Who leaves is let go, whatever it costs.
        if writes == Writes::Removes {
            return Ok(());
        }
        self.admission.may_change(client, now).map_err(Unchangeable::TooManyChanges)
    }

    /// Who asks, where that matters; an error if it may not.
    fn let_in(
        &mut self,
        access: Access,
        request: &Request,
        client: Client,
        now: Now,
    ) -> Result<Option<Actor>, Refusal> {
        if access.is_open() || access == Access::Device || access == Access::LocalOrAdmin && client.is_local {
            return Ok(None);
        }
        let actor = self.actor(request, client, now)?;
        if access.is_admins() && actor != Actor::Admin {
            return Err(Refusal::NotAdmin);
        }
        Ok(Some(actor))
    }

    /// Who asks. A token that is presented counts, also over the Unix socket.
    fn actor(&mut self, request: &Request, client: Client, now: Now) -> Result<Actor, Refusal> {
        let Some(header) = request.authorization.as_deref().filter(|header| !header.is_empty()) else {
            return match client.source {
                Source::Unix => Ok(Actor::Admin),
                Source::Ip(_) => Err(Refusal::TokenMissing),
            };
        };
        let token = bearer(header).ok_or(Refusal::AuthorizationMalformed)?;
        if self.is_owners(request, now.instant) {
            return Ok(Actor::Admin);
        }
        self.control.authenticate(token, now).map(Actor::Peer)
    }

    /// Takes what has to be done elsewhere after the calls so far. `origin` is the session that caused it.
    pub fn drain(&mut self, origin: Option<SessionId>, now: Now) -> Effects {
        let changes = self.control.drain_changes();
        let mut effects = Effects { closures: std::mem::take(&mut self.closures), ..Effects::default() };
        for change in changes {
            if let Change::Signalled(party, signal) = change {
                if !self.sessions.deliver_signal(&self.control, &party, &signal, &mut effects.deliveries) {
                    self.control.queue_signal(&party, signal);
                }
                continue;
            }
            log_change(&change);
            self.events.note(&self.control, &change, now.unix);
            if let Change::MemberLeft { who, why, .. } = &change
                && why.is_removal()
            {
                let cut = self.sessions.bound_as(who);
                effects.closures.extend(cut.into_iter().map(|session| (session, "removed from the party")));
            }
            self.sessions.announce(&self.control, &change, origin, now, &mut effects.deliveries);
            effects.changes.push(change);
        }
        effects.deliveries = self.sessions.in_their_words(effects.deliveries);
        let delivered = effects.deliveries.iter().map(|delivery| delivery.to.len() as u64).sum();
        self.counters.values.add(Figure::Deliveries, delivered);
        effects
    }

    /// When [`Api::poll`] has news for sessions that have to wait for it.
    pub fn update_timeout(&self) -> Option<Instant> {
        self.sessions.update_timeout()
    }

    /// When [`Api::poll`] has something to do next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.control.poll_timeout(), self.sessions.poll_timeout(), self.refusals.due()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Does what time asks for: expiry, of whom `relay` did not hear either, and repeating parties to open
    /// sessions.
    pub fn poll(&mut self, relay: Option<&dyn RelayView>, now: Now) -> Effects {
        let mut deliveries = Vec::new();
        if self.sessions.poll_timeout().is_some_and(|due| due <= now.instant) {
            self.sessions.poll(&mut self.control, now, &mut deliveries);
        }
        if self.control.poll_timeout().is_some_and(|due| due <= now.instant) {
            if let Some(relay) = relay {
                self.control.note_handshakes(|key| relay.member(key)?.0.last_handshake, now);
            }
            self.control.sweep(now);
        }
        if self.refusals.due().is_some_and(|due| due <= now.instant) {
            self.refusals.finish().iter().for_each(|line| log::info!("{line}"));
        }
        let mut deliveries = self.sessions.in_their_words(deliveries);
        self.counters.values.add(Figure::Deliveries, deliveries.len() as u64);
        let mut effects = self.drain(None, now);
        deliveries.append(&mut effects.deliveries);
        effects.deliveries = deliveries;
        effects
    }

    /// Takes a handshake with `key` that was completed at the hub, from `from`. An open session of whoever has the key
    /// is as good as a heartbeat.
    pub fn handshake(&mut self, key: &PublicKey, from: IpAddr, now: Now) {
        let claimants = self.control.claimants(key);
        for peer in &claimants {
            self.sessions.touch(&mut self.control, peer, now);
        }
        if !endpoint::is_private_address(from) {
            self.reached = Some(now.unix);
        }
        let before: Vec<_> = claimants.iter().map(|peer| self.control.device_seen(peer)).collect();
        self.control.handshake(key, from, now);
        for (peer, before) in claimants.iter().zip(before) {
            let was_away = before.is_none_or(|at| now.instant.since(at) >= AWAY);
            if let Some((party, member)) = self.control.device(peer)
                && was_away
                && self.control.device_seen(peer) == Some(now.instant)
            {
                let party = (party.id.clone(), party.name.clone());
                self.events.note_online(party, (peer.to_string(), member.info.name.to_string()), now.unix);
            }
        }
    }

    /// Since when our own relay is registered, as far as anybody is told.
    fn registered_at(&self, now: Now) -> UnixTime {
        let up = i64::try_from(now.instant.since(self.started).as_micros()).unwrap_or(i64::MAX);
        now.unix.shifted(-up)
    }

    /// Where the asking client reaches our relay: host and port.
    fn relay_endpoint(&self, local: Option<SocketAddr>) -> (String, u16) {
        let relay = &self.settings.relay;
        self.endpoint().unwrap_or_else(|| {
            let host =
                local.map_or_else(|| "127.0.0.1".to_owned(), |local| local.ip().to_canonical().to_string());
            (host, relay.port)
        })
    }

    /// Counts a request when its answer is sent.
    pub fn finished(&mut self, path: Option<&'static str>, status: u16, took: Duration) {
        self.counters.request(path, status, took);
    }
}

/// The token of an `Authorization` header. The scheme is case-sensitive, as in the stock API.
fn bearer(header: &str) -> Option<&str> {
    header.strip_prefix("Bearer ")
}

/// What can be asked of a path; of any other, also of the WebSocket, what can be asked at all.
fn options(found: Option<&PathMatch<'_>>) -> Answer {
    let allowed = found.map_or_else(routes::methods, |found| format!("{}, OPTIONS", found.methods()));
    let mut answer = Answer::json(200, r#"{"status":"ok"}"#);
    answer.headers.push(("Allow", allowed));
    answer
}

fn not_allowed(found: &PathMatch<'_>) -> RequestFailure {
    let mut answer = errors::detail(405, "Method Not Allowed");
    answer.headers.push(("Allow", found.methods()));
    RequestFailure::Answered(answer)
}

/// A 429 with this detail, for who may try again in so many seconds.
fn later(detail: &str, seconds: u64) -> Answer {
    let mut answer = errors::detail(429, detail);
    answer.headers.push(("Retry-After", seconds.to_string()));
    answer
}

/// A 503 with this detail.
pub fn unavailable(detail: &str) -> Answer {
    let mut answer = errors::detail(503, detail);
    answer.headers.push(("Retry-After", "10".into()));
    answer
}

fn log_change(change: &Change) {
    match change {
        Change::PartyCreated(party) => log::info!("party {} created", hint(party)),
        Change::PartyDeleted { party, .. } => log::info!("party {} ended", hint(party)),
        Change::MemberJoined(party, peer) => log::info!("peer {peer} joined party {}", hint(party)),
        Change::MemberLeft { party, who, why, .. } => {
            log::info!("peer {} left party {}: {why}", who.peer, hint(party))
        }
        Change::RelayChanged(relay) => log::info!("relay {relay} registered"),
        Change::RelayExpired(relay) => log::info!("relay {relay} expired"),
        _ => {}
    }
}

/// Enough of a party's id to tell parties apart in a log. The whole id lets anybody join.
fn hint(party: &PartyId) -> String {
    let id = party.as_str();
    format!("{}..", &id[..4.min(id.len() / 2)])
}

#[cfg(test)]
mod openapi_tests;
#[cfg(test)]
mod tests;
