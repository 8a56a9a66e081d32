//! Floor 3: the control API of LANrage. Requests and WebSocket messages go in; answers, deliveries and
//! changes to keep come out. No socket, no disk, no clock.

pub mod admission;
pub mod browsers;
pub mod errors;
pub mod events;
pub mod fields;
pub mod instances;
pub mod messages;
pub mod metrics;
pub mod openapi;
pub mod page_sessions;
pub mod refusal_log;
pub mod relay_feed;
pub mod relay_links;
pub mod render;
pub mod route;
pub mod routes;
pub mod sessions;
pub mod updates;

mod access;
mod admin;
mod approvals;
mod bans;
mod bodies;
mod devices;
mod effects;
mod entries;
mod invites;
mod owner;
mod ownership;
mod pages;
mod parties;
mod peers;
mod relays;
mod troubles;

pub use effects::Effects;

use crate::control::entry::Entry;
use crate::control::party::Party;
use crate::control::refusal::Refusal;
use crate::control::standing::{Actor, Identity};
use crate::control::{self, Control};
use crate::crypto::x25519::PublicKey;
use crate::ids::{RelayId, SessionId};
use crate::time::{Instant, Now, UnixTime};
use crate::wire::http::{Answer, Request, Source};
use crate::wire::json::{self, Value};
use crate::wire::percent;
use crate::wire::static_body::StaticBody;
use admission::{Client, Rates, RequestLimiter};
use browsers::Browsers;
use events::EventLog;
use fields::Problems;
use metrics::{Counters, Surroundings};
use page_sessions::PageSessions;
use refusal_log::RefusalLog;
use relay_links::RelayLinks;
use route::{Body, Parameters, PathMatch, Writes};
use sessions::Sessions;
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
    /// Where others reach the control API, if the owner said so.
    pub url: Option<String>,
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
    /// A backup is to come in the body, and to take the place of the store.
    Restore {
        /// Who sends it.
        from: Source,
    },
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

/// The control API and all its state.
pub struct Api {
    control: Control,
    sessions: Sessions,
    /// Relays in other places.
    relay_links: RelayLinks,
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
    /// By which address this machine goes to the internet, if it has a way there; `None` before that was looked at.
    way_out: Option<Option<IpAddr>>,
    /// Who has just come in by an invite.
    entry: Option<Entry>,
    /// Whether signals whose recipients have no session here are for other instances.
    has_others: bool,
    started: Now,
}

impl Api {
    /// Over `control`, with nobody connected yet.
    pub fn new(control: Control, settings: ApiSettings, now: Now) -> Self {
        Api {
            control,
            sessions: Sessions::default(),
            relay_links: RelayLinks::default(),
            admission: RequestLimiter::new(settings.rates.clone(), settings.trusted_proxies.clone()),
            settings,
            counters: Counters::default(),
            refusals: RefusalLog::default(),
            document: OnceCell::new(),
            closures: Vec::new(),
            events: EventLog::default(),
            pages: PageSessions::default(),
            reached: None,
            way_out: None,
            entry: None,
            has_others: false,
            started: now,
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

    /// For what another instance has decided, or heard. What follows is [drained](Api::drain) as ever.
    pub fn control_mut(&mut self) -> &mut Control {
        &mut self.control
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

    /// Whether a session is a member's, or that of a relay that the owner has approved.
    pub fn is_member(&self, session: SessionId) -> bool {
        self.relay_links.is_fed(session)
            || self.sessions.identity(session).is_some_and(|identity| {
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

    /// Where friends reach the relay, as the owner said: in the settings, or else on a page.
    fn endpoint(&self) -> Option<(String, u16)> {
        self.settings.relay.endpoint.clone().or_else(|| self.control.endpoint().cloned())
    }

    /// Since when our own relay is registered, as far as anybody is told.
    fn registered_at(&self, now: Now) -> UnixTime {
        let up = i64::try_from(now.instant.since(self.started.instant).as_micros()).unwrap_or(i64::MAX);
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

    /// Where the asking client reaches the relay of a party, and the key of its hub. While the one that it has is not
    /// approved that is our own.
    fn relay_of(&self, party: &Party, local: Option<SocketAddr>) -> ((String, u16), PublicKey) {
        let approved = party.relay.as_ref().and_then(|id| self.control.approvals().get(id.as_str()));
        match approved {
            Some(relay) => ((relay.info.public_ip.to_string(), relay.info.port), relay.key),
            None => (self.relay_endpoint(local), self.control.hub()),
        }
    }

    /// Counts a request when its answer is sent.
    pub fn finished(&mut self, path: Option<&'static str>, status: u16, took: Duration) {
        self.counters.request(path, status, took);
    }
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

#[cfg(test)]
mod openapi_tests;
#[cfg(test)]
mod tests;
