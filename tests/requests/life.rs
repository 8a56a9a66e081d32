//! A life of the control API that bytes decide: requests from their first byte on, messages, time, and restarts.

use crate::input::Input;
use lanrage::api::admission::Rates;
use lanrage::api::messages::MESSAGES;
use lanrage::api::metrics::Surroundings;
use lanrage::api::routes::ROUTES;
use lanrage::api::{Api, ApiSettings, Effects, Handled, Locations, Outcome, OwnRelay};
use lanrage::control::{self, Control};
use lanrage::crypto::channel::{NONCE_LENGTH, SealedChannel, Side};
use lanrage::crypto::hex;
use lanrage::crypto::x25519::PrivateKey;
use lanrage::ids::{RelayId, SessionId};
use lanrage::store::schema::Table;
use lanrage::store::{Row, records};
use lanrage::time::{Instant, Now, UnixTime};
use lanrage::token_bucket::Rate;
use lanrage::wire::http::{Answer, Request, Source};
use lanrage::wire::http_head::{HeadScan, RequestHead};
use lanrage::wire::json::{self, JsonWriter};
use lanrage::wire::roster::{RelayIntroduction, RelayReport, relay_id};
use std::collections::BTreeMap;
use std::time::Duration;

/// How often what came of it.
pub type Seen = BTreeMap<String, u64>;

const ADMIN: &str = "a-token-of-the-admin";
const PEERS: [&str; 8] = ["ann", "bob", "carol", "__proto__", "constructor", "..", "", "a/b"];
const NAMES: [&str; 6] = ["LAN", "Zo\u{eb} \u{1f600}", "", " ", "a\nb", "<b>&amp;\"\\"];
const KEYS: [&str; 8] = [
    "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "CQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "CQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAIA=",
    "BwAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "BQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "CwAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    "k",
    "",
];
const ADDRESSES: [&str; 7] =
    ["203.0.113.7", "2001:db8::7", "127.0.0.1", "::ffff:203.0.113.7", "unknown", "0.0.0.0", "1.2.3"];
const NUMBERS: [&str; 9] =
    ["0", "1", "51820", "65535", "65536", "-1", "0.5", "1e999", "-99999999999999999999999"];
const WORDS: [&str; 6] =
    ["eu", "symmetric", "unknown", "2026-11-05T12:00:00.123456", "9999-12-31T23:59:59", ""];
const SPANS: [Duration; 7] = [
    Duration::from_millis(1),
    Duration::from_secs(1),
    Duration::from_secs(31),
    Duration::from_secs(70),
    Duration::from_secs(301),
    Duration::from_secs(13 * 3600),
    Duration::from_secs(25 * 3600),
];

/// What answers tell once.
const TOLD: [&str; 5] = ["token", "invite_id", "peer_id", "device_token", "setup"];

/// The API, and around it what the daemon has.
struct Life {
    api: Api,
    now: Now,
    rows: BTreeMap<(Table, String), Vec<u8>>,
    /// Peers and their tokens.
    tokens: Vec<(String, String)>,
    /// Whose turn it is, among those.
    actor: usize,
    parties: Vec<String>,
    /// Secrets that somebody was told: of invites, their names, devices, theirs, links to pages.
    told: BTreeMap<&'static str, Vec<String>>,
    sessions: Vec<SessionId>,
    opened: u64,
    seen: Seen,
}

/// Lives what `bytes` decide.
pub fn live(bytes: &[u8]) -> Seen {
    let mut input = Input::new(bytes);
    let mut life = Life::new();
    while !input.is_empty() {
        life.step(&mut input);
    }
    life.restart();
    life.seen
}

fn hub() -> PrivateKey {
    PrivateKey::from_bytes([1; 32])
}

/// The key of a relay in another place.
fn far_relay() -> PrivateKey {
    PrivateKey::from_bytes([3; 32])
}

fn api(records: control::record::Records, now: Now) -> Api {
    let mut allowed = control::ControlSettings::default();
    // Limits that are reached.
    allowed.limits.parties = 12;
    allowed.limits.peers_per_party = 3;
    allowed.limits.signals_per_peer = 2;
    allowed.limits.relays = 3;
    let settings = ApiSettings {
        relay: OwnRelay {
            relay_id: RelayId::new("own").expect("a good id"),
            endpoint: None,
            port: 51820,
            region: "home".into(),
            capacity: 100,
        },
        // What is kept on disk has its own tests.
        rates: Rates { changes: Rate::new(100_000, Duration::from_secs(1), 100_000), ..Rates::default() },
        trusted_proxies: vec!["198.51.100.9".parse().expect("an address")],
        browsers: lanrage::api::browsers::Browsers::default(),
        admin_token: Some(ADMIN.into()),
        locations: Locations::default(),
    };
    Api::new(Control::new(allowed, hub(), records, now), settings, now)
}

fn pick<'a>(input: &mut Input<'_>, from: &[&'a str]) -> &'a str {
    from[input.below(from.len())]
}

/// One of the first `count` as a rule.
fn mostly<'a>(input: &mut Input<'_>, from: &[&'a str], count: usize) -> &'a str {
    let count = if input.below(8) == 0 { from.len() } else { count };
    pick(input, &from[..count])
}

fn quoted(text: &str) -> String {
    let mut out = JsonWriter::default();
    out.string(text);
    out.finish()
}

/// A value that hardly anybody sends.
fn odd(input: &mut Input<'_>) -> String {
    match input.below(9) {
        0 => "null".into(),
        1 => "{}".into(),
        2 => format!("{}{}", "[".repeat(input.below(256)), "]".repeat(input.below(256))),
        3 => pick(input, &NUMBERS).into(),
        4 => quoted(&"x".repeat(20 * input.below(256))),
        5 => {
            pick(input, &["\"\\ud800\"", "\"\\u0000\"", "\"\\ud83d\\ude00\"", "tru", "\"", "1.", "{\"a\":}"])
                .into()
        }
        6 => "true".into(),
        7 => format!("{{\"peer_id\":{}}}", quoted(pick(input, &PEERS))),
        _ => quoted(&"\u{1f600}".repeat(input.below(256))),
    }
}

impl Life {
    fn new() -> Self {
        let now = Now {
            instant: Instant::ZERO + Duration::from_secs(9),
            unix: UnixTime::from_micros(1_795_176_000_000_000),
        };
        Life {
            api: api(Default::default(), now),
            now,
            rows: BTreeMap::new(),
            tokens: Vec::new(),
            actor: 0,
            parties: Vec::new(),
            told: BTreeMap::new(),
            sessions: Vec::new(),
            opened: 0,
            seen: Seen::new(),
        }
    }

    fn count(&mut self, what: impl Into<String>) {
        *self.seen.entry(what.into()).or_default() += 1;
    }

    fn step(&mut self, input: &mut Input<'_>) {
        // Tokens that were given out last may still count.
        let recent = self.tokens.len().min(5);
        self.actor = self.tokens.len() - recent + input.below(recent);
        match input.below(24) {
            0 => {
                let longest = if input.below(8) == 0 { SPANS.len() } else { 4 };
                let span = SPANS[input.below(longest)];
                self.now.instant += span;
                self.now.unix = self.now.unix.shifted(span.as_micros() as i64);
                let effects = self.api.poll(None, self.now);
                self.absorb(effects);
            }
            1 => {
                self.open_session(source(input));
            }
            2 if !self.sessions.is_empty() => {
                let session = self.sessions.swap_remove(input.below(self.sessions.len()));
                self.api.close_session(session);
            }
            3..5 if !self.sessions.is_empty() => {
                let session = self.sessions[input.below(self.sessions.len())];
                let kinds: Vec<&str> = MESSAGES.iter().map(|message| message.kind).chain(["x"]).collect();
                let kind = pick(input, &kinds);
                let names: &[&str] = &[
                    "party_id",
                    "peer_id",
                    "peer",
                    "host_peer",
                    "name",
                    "token",
                    "to_peer_id",
                    "signal_data",
                ];
                let members = self.members(input, names);
                let mut text =
                    format!("{{\"type\":\"{kind}\"{}{members}}}", if members.is_empty() { "" } else { "," });
                if input.below(8) == 0 {
                    let mut bytes = text.into_bytes();
                    input.mutate(&mut bytes);
                    text = String::from_utf8_lossy(&bytes).into_owned();
                }
                let reply = self.api.message(session, &text, &Surroundings::default(), self.now);
                self.count("message");
                let effects = self.api.drain(Some(session), self.now);
                self.absorb(effects);
                for delivery in self.api.reply(session, reply, self.now) {
                    json::parse(delivery.text.as_bytes()).expect("a message is JSON");
                }
            }
            5 if input.below(8) == 0 => self.restart(),
            6 if input.below(4) == 0 => self.greet_relay(),
            _ => self.request(input),
        }
    }

    fn open_session(&mut self, source: Source) -> Option<SessionId> {
        self.opened += 1;
        let session = SessionId(self.opened);
        let head = RequestHead::parse(b"GET /ws HTTP/1.1\r\nHost: x\r\n\r\n").expect("a good head");
        let request = Request::new(head, Vec::new(), source, None);
        self.api.open_session(session, &request, self.now).ok()?;
        self.sessions.push(session);
        Some(session)
    }

    /// A relay in another place shows that it has its key.
    fn greet_relay(&mut self) {
        let (key, nonce) = (far_relay(), [5; NONCE_LENGTH]);
        let here = Source::Ip([127, 0, 0, 1].into());
        let Some(session) = self.open_session(here) else { return };
        let hello = format!(
            r#"{{"type":"relay_hello","public_key":"{}","nonce":"{}"}}"#,
            key.public_key().encode(),
            hex::encode(&nonce)
        );
        self.api.message(session, &hello, &Surroundings::default(), self.now);
        let effects = self.api.drain(Some(session), self.now);
        let said = effects.deliveries.iter().filter(|delivery| delivery.to == [session]);
        let mut answer = said.filter_map(|delivery| {
            let value = json::parse(delivery.text.as_bytes()).ok()?;
            hex::decode::<NONCE_LENGTH>(value.get("nonce")?.as_str()?)
        });
        let answer = answer.next_back();
        self.absorb(effects);
        let Some(answer) = answer else { return };
        let secret = key.diffie_hellman(&hub().public_key()).expect("good keys");
        let mut channel = SealedChannel::new(&secret, &nonce, &answer, Side::Client);
        let introduction = RelayIntroduction {
            ip: Some([198, 51, 100, 7].into()),
            port: 51820,
            region: "eu".into(),
            capacity: 100,
            room: 100,
            feed: None,
        };
        let sealed = channel.seal(&RelayReport::Introduction(introduction).text());
        let text = format!(r#"{{"type":"relay","sealed":"{sealed}"}}"#);
        self.api.message(session, &text, &Surroundings::default(), self.now);
        let effects = self.api.drain(Some(session), self.now);
        self.absorb(effects);
    }

    /// Members of an object by these names, nearly all of them.
    fn members(&self, input: &mut Input<'_>, names: &[&str]) -> String {
        let mut out = Vec::new();
        for name in names {
            let times = match input.below(80) {
                0 => 0,
                1 => 2,
                _ => 1,
            };
            for _ in 0..times {
                out.push(format!("{}:{}", quoted(name), self.field(input, name)));
            }
        }
        out.join(",")
    }

    fn field(&self, input: &mut Input<'_>, name: &str) -> String {
        if input.below(100) == 0 {
            return odd(input);
        }
        const PEER: [&str; 9] = [
            "peer_id",
            "name",
            "public_key",
            "nat_type",
            "public_ip",
            "public_port",
            "local_ip",
            "local_port",
            "last_seen",
        ];
        match name {
            "host_peer_info" | "peer_info" | "host_peer" | "peer" => {
                let count = if input.below(4) > 0 { 3 } else { PEER.len() };
                format!("{{{}}}", self.members(input, &PEER[..count]))
            }
            "name" => quoted(mostly(input, &NAMES, 2)),
            "peer_id" | "to_peer_id" => quoted(&self.peer(input)),
            "party_id" => quoted(&self.party(input)),
            "public_key" => quoted(mostly(input, &KEYS, 5)),
            "public_ip" | "local_ip" => quoted(pick(input, &ADDRESSES)),
            "port" | "public_port" | "local_port" | "capacity" | "load" => mostly(input, &NUMBERS, 4).into(),
            "nat_type" | "last_seen" | "region" => quoted(pick(input, &WORDS)),
            "relay_id" => quoted(pick(input, &["r1", "r2", "r3", "own", ""])),
            "token" => quoted(&self.token(input)),
            "code" => quoted(&self.told(input, "token")),
            "setup" => quoted(&self.told(input, "setup")),
            "uses" => mostly(input, &["3", "1", "0", "65"], 2).into(),
            "access" => quoted(mostly(input, &["open", "public", "invite", "password", "x"], 3)),
            "ends_at" => mostly(input, &["null", "253402300799", "0", "-1"], 2).into(),
            "public_endpoint" => quoted(mostly(input, &["203.0.113.7:51820", "[2001:db8::1]:1", "x"], 2)),
            _ => odd(input),
        }
    }

    fn peer(&self, input: &mut Input<'_>) -> String {
        match self.tokens.get(self.actor) {
            Some((peer, _)) if input.below(4) > 0 => peer.clone(),
            _ => mostly(input, &PEERS, 3).into(),
        }
    }

    fn party(&self, input: &mut Input<'_>) -> String {
        match self.parties.len() {
            known if known > 0 && input.below(8) > 0 => {
                // Those that were made last may still be there.
                self.parties[known - 1 - input.below(known.min(3))].clone()
            }
            _ => pick(input, &["P", "__proto__", "", "404", "..", "party of three"]).into(),
        }
    }

    fn token(&self, input: &mut Input<'_>) -> String {
        match (input.below(12), self.tokens.get(self.actor)) {
            (0, _) => pick(input, &["", "x", "\u{eb}", "Bearer"]).into(),
            (1, _) | (_, None) => ADMIN.into(),
            (_, Some((_, token))) => token.clone(),
        }
    }

    fn request(&mut self, input: &mut Input<'_>) {
        let mut paths: Vec<&'static str> = ROUTES.iter().map(|route| route.path).collect();
        // The methods of a path stand together.
        paths.dedup();
        let pattern = paths[input.below(paths.len())];
        let routes: Vec<_> = ROUTES.iter().filter(|route| route.path == pattern).collect();
        let method = match input.below(16) {
            0 => "PUT",
            1 => "HEAD",
            _ => routes[input.below(routes.len())].method,
        };
        let encoded = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
        let mut path = pattern.to_owned();
        path = path.replace("{party_id}", &encoded(&self.party(input)));
        path = path.replace("{invite_id}", &encoded(&self.told(input, "invite_id")));
        if pattern == "/parties/{party_id}/devices/{peer_id}" && input.below(4) > 0 {
            path = path.replace("{peer_id}", &encoded(&self.told(input, "peer_id")));
        }
        path = path.replace("{peer_id}", &encoded(&self.peer(input)));
        path = path.replace("{region}", pick(input, &["home", "eu", "%zz", "%00"]));
        path = path.replace("{relay_id}", relay_id(&far_relay().public_key()).as_str());
        let query = match input.below(8) {
            0 => "secrets=redacted&&=&peer_id=%".to_owned(),
            _ => format!(
                "peer_id={}&secrets={}",
                encoded(&match pattern {
                    "/parties/{party_id}/bans" => pick(input, &PEERS[..2]).into(),
                    _ => self.peer(input),
                }),
                pick(input, &["redacted", "included"])
            ),
        };
        let names: &[&str] = match pattern {
            "/parties" => &["name", "host_peer_info"],
            "/parties/{party_id}/join" => &["party_id", "peer_info"],
            "/parties/{party_id}/bans" => &["peer_id", "public_key"],
            "/parties/{party_id}/settings" => &["access", "ends_at"],
            "/parties/{party_id}/devices" => &["name", "public_key"],
            "/parties/{party_id}/invites" => &["uses"],
            "/invites/preview" => &["code"],
            "/invites/redeem" => &["code", "name", "public_key"],
            "/ui/sessions" => &["setup"],
            "/ui/settings" => &["public_endpoint"],
            "/relay-approvals/{relay_id}" => &["public_key"],
            "/parties/{party_id}/signals" => &["to_peer_id", "signal_data"],
            "/relays" => &["relay_id", "public_ip", "port", "region", "capacity", "public_key", "load"],
            "/auth/register" if input.below(4) == 0 => &["nonce", "proof"],
            _ => &[],
        };
        let mut body = match (names, input.below(4)) {
            ([], 1..) => Vec::new(),
            _ => format!("{{{}}}", self.members(input, names)).into_bytes(),
        };
        // Who is banned has to be met again.
        if pattern == "/parties/{party_id}/bans" && input.below(4) > 0 {
            body = format!(r#"{{"peer_id":"{}"}}"#, pick(input, &PEERS[..2])).into_bytes();
        }
        if pattern == "/relay-approvals/{relay_id}" && input.below(4) > 0 {
            body = format!(r#"{{"public_key":"{}"}}"#, far_relay().public_key().encode()).into_bytes();
        }
        if pattern == "/join" {
            let (code, key) = (self.told(input, "token"), encoded(mostly(input, &KEYS, 5)));
            body = format!("code={code}&name=Bob&public_key={key}").into_bytes();
        }
        if input.below(16) == 0 {
            input.mutate(&mut body);
        }
        let mut head = format!("{method} {path}?{query} HTTP/1.1\r\nHost: localhost\r\n").into_bytes();
        let token = match (pattern, input.below(8)) {
            (_, 0) => None,
            (
                "/parties/{party_id}/bans"
                | "/parties/{party_id}/settings"
                | "/parties/{party_id}/devices"
                | "/parties/{party_id}/devices/{peer_id}"
                | "/parties/{party_id}/invites"
                | "/parties/{party_id}/invites/{invite_id}"
                | "/ui/setups"
                | "/ui/settings"
                | "/restore"
                | "/relay-approvals"
                | "/relay-approvals/{relay_id}",
                1..6,
            ) => Some(ADMIN.to_owned()),
            ("/devices/self", 1..6) => Some(self.told(input, "device_token")),
            _ => Some(self.token(input)),
        };
        if let Some(token) = token {
            head.extend_from_slice(format!("Authorization: Bearer {token}\r\n").as_bytes());
        }
        if input.below(8) == 0 {
            let forwarded = pick(input, &["203.0.113.1", "x", "::1", "1.2.3.4, 5.6.7.8", ",", ""]);
            head.extend_from_slice(format!("X-Forwarded-For: {forwarded}\r\n").as_bytes());
        }
        head.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
        if input.below(16) == 0 {
            input.mutate(&mut head);
        }
        let parsed =
            HeadScan::default().end(&head).ok().flatten().map(|length| RequestHead::parse(&head[..length]));
        let Some(Ok(parsed)) = parsed else { return self.count("refused head") };
        let method = parsed.method.to_string();
        let local = Some("192.0.2.1:8667".parse().expect("an address"));
        let request = Request::new(parsed, body, source(input), local);
        self.ask(&request, &method, pattern);
    }

    fn ask(&mut self, request: &Request, method: &str, meant: &'static str) {
        let Handled { path, outcome, .. } = self.api.handle(request, &Surroundings::default(), self.now);
        let effects = self.api.drain(None, self.now);
        self.absorb(effects);
        let status = match &outcome {
            Outcome::Answer(answer) => self.check(answer, request, path),
            Outcome::Backup { .. } | Outcome::Restore { .. } => 200,
        };
        self.api.finished(path, status, Duration::from_millis(1));
        self.count(status.to_string());
        if path == Some(meant) && method != "HEAD" {
            self.count(format!("{method} {meant} {status}"));
        }
    }

    fn check(&mut self, answer: &Answer, request: &Request, path: Option<&'static str>) -> u16 {
        let known = [200, 400, 401, 403, 404, 405, 409, 410, 422, 429, 503];
        assert!(known.contains(&answer.status), "{} to {request:?}", answer.status);
        if answer.content_type != "application/json" || path == Some("/openapi.json") {
            return answer.status;
        }
        let body = json::parse(&answer.body).expect("an answer is JSON");
        if answer.status != 200 {
            assert!(body.get("detail").is_some(), "{} without a reason", answer.status);
        } else if path == Some("/auth/register") {
            let text = |name: &str| body.get(name).and_then(|text| text.as_str()).map(str::to_owned);
            self.tokens.extend(text("peer_id").zip(text("token")));
        } else if path == Some("/parties") {
            let id = body.get("party").and_then(|party| party.get("party_id")?.as_str());
            self.parties.extend(id.map(str::to_owned));
        }
        let tells = matches!(
            path,
            Some(
                "/parties/{party_id}/invites"
                    | "/parties/{party_id}/devices"
                    | "/invites/redeem"
                    | "/ui/setups"
            )
        );
        for name in TOLD.into_iter().filter(|_| tells && answer.status == 200) {
            let text = body.get(name).and_then(|text| text.as_str());
            self.told.entry(name).or_default().extend(text.map(str::to_owned));
        }
        answer.status
    }

    /// One of the last of these that somebody was told.
    fn told(&self, input: &mut Input<'_>, name: &str) -> String {
        match self.told.get(name).map_or(&[][..], Vec::as_slice) {
            [] => "x".to_owned(),
            told => told[told.len() - 1 - input.below(told.len().min(2))].clone(),
        }
    }

    /// What the daemon does with it: texts to sessions, rows to the store.
    fn absorb(&mut self, effects: Effects) {
        for delivery in effects.deliveries {
            json::parse(delivery.text.as_bytes()).expect("a message is JSON");
            self.count("delivery");
        }
        for (session, _) in effects.closures {
            self.sessions.retain(|open| *open != session);
            self.api.close_session(session);
        }
        let mut rows = Vec::new();
        for change in &effects.changes {
            records::rows(self.api.control(), change, self.now, &mut rows);
        }
        for Row { table, key, value } in rows {
            match value {
                Some(value) => {
                    json::check(&value).expect("a row is JSON");
                    self.rows.insert((table, key), value);
                }
                None => {
                    self.rows.remove(&(table, key));
                }
            }
        }
    }

    /// The daemon is started over what it has stored, and nobody is missing.
    fn restart(&mut self) {
        let row = |((table, key), value): (&(Table, String), &Vec<u8>)| Row {
            table: *table,
            key: key.clone(),
            value: Some(value.clone()),
        };
        let loaded = records::load(self.rows.iter().map(row).collect());
        assert_eq!(loaded.unreadable, [""; 0]);
        let before = (self.api.control().party_count(), self.api.control().peer_count());
        self.api = api(loaded.records, self.now);
        assert_eq!((self.api.control().party_count(), self.api.control().peer_count()), before);
        self.sessions.clear();
        let effects = self.api.drain(None, self.now);
        self.absorb(effects);
        self.count("restart");
    }
}

/// Most come over the Unix socket or the loopback: their rates are not limited.
fn source(input: &mut Input<'_>) -> Source {
    match input.below(8) {
        0 => Source::Ip("198.51.100.9".parse().expect("an address")),
        1 => Source::Ip("2001:db8::9".parse().expect("an address")),
        2..5 => Source::Unix,
        _ => Source::Ip("127.0.0.1".parse().expect("an address")),
    }
}
