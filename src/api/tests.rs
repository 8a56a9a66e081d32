//! The API in virtual time, without sockets: what each request and message makes everybody hear.

mod guests;
mod instances;
mod placements;

use super::messages::{MESSAGES, MessageReply, MessageType};
use super::metrics::RelayView;
use super::metrics::Surroundings;
use super::routes::ROUTES;
use super::sessions::Delivery;
use super::*;
use crate::control;
use crate::control::record::Records;
use crate::crypto::x25519::PrivateKey;
use crate::durability::WriteError;
use crate::figures::{DropReason, Drops, Figure, MemberStats, Meter, Reach, Readings, Traffic};
use crate::ids::PeerId;
use crate::token_bucket::Rate;
use crate::wire::json::parse;
use std::collections::BTreeMap;

/// An API, its clocks, and what every session has heard.
struct TestApi {
    api: Api,
    now: Now,
    around: Surroundings<'static>,
    heard: BTreeMap<u64, Vec<Value>>,
    closed: Vec<u64>,
    /// Changes that would have been written, and those that would have waited.
    durable: usize,
    lazy: usize,
}

impl TestApi {
    fn new() -> Self {
        let now = Now {
            instant: Instant::ZERO + Duration::from_secs(9),
            unix: UnixTime::from_micros(1_795_176_000_000_000),
        };
        let hub = PrivateKey::from_bytes([1; 32]);
        let control = Control::new(control::ControlSettings::default(), hub, Records::default(), now);
        let settings = ApiSettings {
            relay: OwnRelay {
                relay_id: RelayId::new("own").unwrap(),
                endpoint: None,
                port: 51820,
                region: "home".into(),
                capacity: 100,
            },
            // What is kept on disk has its own tests.
            rates: Rates { changes: Rate::new(100_000, Duration::from_secs(1), 100_000), ..Rates::default() },
            trusted_proxies: Vec::new(),
            browsers: Browsers::default(),
            admin_token: Some("a-token-of-the-admin".into()),
            locations: Locations::default(),
        };
        TestApi {
            api: Api::new(control, settings, now),
            now,
            around: Surroundings::default(),
            heard: BTreeMap::new(),
            closed: Vec::new(),
            durable: 0,
            lazy: 0,
        }
    }

    fn request(method: Method, target: &str, token: Option<&str>, body: &str, source: Source) -> Request {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Request {
            method,
            path: path.into(),
            query: query.into(),
            authorization: token.map(|token| format!("Bearer {token}")),
            host: None,
            origin: None,
            if_none_match: None,
            forwarded_for: None,
            is_forwarded: false,
            body: body.into(),
            source,
            local: Some("192.0.2.1:8667".parse().unwrap()),
        }
    }

    fn ask_from(
        &mut self,
        source: Source,
        method: Method,
        target: &str,
        token: Option<&str>,
        body: &str,
    ) -> Answer {
        let request = Self::request(method, target, token, body, source);
        let handled = self.api.handle(&request, &self.around, self.now);
        self.settle(None);
        match handled.outcome {
            Outcome::Answer(answer) => answer,
            Outcome::Backup { .. } | Outcome::Restore { .. } => panic!("not an answer"),
        }
    }

    fn ask(&mut self, method: Method, target: &str, token: Option<&str>, body: &str) -> (u16, Value) {
        let answer = self.ask_from(ip("198.51.100.1"), method, target, token, body);
        (answer.status, parse(&answer.body).unwrap())
    }

    fn settle(&mut self, origin: Option<SessionId>) {
        let effects = self.api.drain(origin, self.now);
        self.absorb(effects);
    }

    fn absorb(&mut self, effects: Effects) {
        self.durable += effects.changes.iter().filter(|change| change.is_durable()).count();
        self.lazy += effects.changes.iter().filter(|change| !change.is_durable()).count();
        self.hear(effects.deliveries);
        self.closed.extend(effects.closures.iter().map(|(session, _)| session.0));
    }

    fn hear(&mut self, deliveries: Vec<Delivery>) {
        for delivery in deliveries {
            let message = parse(delivery.text.as_bytes()).unwrap();
            for session in delivery.to {
                self.heard.entry(session.0).or_default().push(message.clone());
            }
        }
    }

    fn open(&mut self, session: u64, from: &str) {
        let request = Self::request(Method::Get, "/ws", None, "", ip(from));
        self.api.open_session(SessionId(session), &request, self.now).unwrap();
    }

    fn say(&mut self, session: u64, text: &str) {
        let reply = self.api.message(SessionId(session), text, &self.around, self.now);
        self.settle(Some(SessionId(session)));
        let deliveries = self.api.reply(SessionId(session), reply, self.now);
        self.hear(deliveries);
    }

    /// What a session heard since the last call, as `type` and `peer_id` (or the ids in a party).
    fn heard(&mut self, session: u64) -> Vec<String> {
        let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or("?").to_owned();
        let messages = self.heard.remove(&session).unwrap_or_default();
        let told = |message: &Value| {
            let kind = text(message.get("type"));
            match kind.as_str() {
                "party_update" => format!("{kind} {}", peers_of(message.get("party").unwrap())),
                "peer_joined" => format!("{kind} {}", text(message.get("peer").unwrap().get("peer_id"))),
                "error" => kind,
                "signal" => format!("{kind} {}", text(message.get("from_peer_id"))),
                _ => format!("{kind} {}", text(message.get("peer_id"))),
            }
        };
        messages.iter().map(told).collect()
    }

    /// Lets time pass in which nothing is done.
    fn pass(&mut self, span: Duration) {
        self.now = Now { instant: self.now.instant + span, unix: self.now.unix + span };
    }

    fn wait(&mut self, span: Duration) {
        let end = self.now.instant + span;
        while self.now.instant < end {
            let step = Duration::from_secs(5).min(end.since(self.now.instant));
            self.pass(step);
            while self.api.poll_timeout().is_some_and(|due| due <= self.now.instant) {
                let effects = self.api.poll(None, self.now);
                self.absorb(effects);
            }
        }
    }

    fn token(&mut self, peer: &str) -> String {
        let (status, body) = self.ask(Method::Post, &format!("/auth/register?peer_id={peer}"), None, "");
        assert_eq!(status, 200);
        body.get("token").unwrap().as_str().unwrap().to_owned()
    }

    fn create(&mut self, peer: &str, token: &str) -> String {
        let body = format!("{{\"name\":\"LAN\",\"host_peer_info\":{}}}", info(peer));
        let (status, body) = self.ask(Method::Post, "/parties", Some(token), &body);
        assert_eq!(status, 200);
        body.get("party_id").unwrap().as_str().unwrap().to_owned()
    }

    fn join(&mut self, peer: &str, party: &str, token: &str) -> (u16, Value) {
        let body = format!("{{\"party_id\":\"x\",\"peer_info\":{}}}", info(peer));
        self.ask(Method::Post, &format!("/parties/{party}/join"), Some(token), &body)
    }
}

fn ip(text: &str) -> Source {
    Source::Ip(text.parse().unwrap())
}

fn info(peer: &str) -> String {
    format!("{{\"peer_id\":\"{peer}\",\"name\":\"Me\",\"public_key\":\"key of {peer}\"}}")
}

fn peers_of(party: &Value) -> String {
    let Some(Value::Object(peers)) = party.get("peers") else { return "?".into() };
    peers.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>().join("+")
}

fn message(kind: &str, party: &str, rest: &str) -> String {
    format!("{{\"type\":\"{kind}\",\"party_id\":\"{party}\",{rest}}}")
}

fn register_party(party: &str, host: &str) -> String {
    message("register_party", party, &format!("\"name\":\"LAN\",\"host_peer\":{}", info(host)))
}

fn join_party(party: &str, peer: &str) -> String {
    message("join_party", party, &format!("\"peer\":{}", info(peer)))
}

#[test]
fn everybody_in_a_party_hears_of_everybody_and_nobody_else_does() {
    let mut world = TestApi::new();
    for (session, from) in
        [(1, "198.51.100.1"), (2, "198.51.100.2"), (3, "198.51.100.3"), (4, "198.51.100.4")]
    {
        world.open(session, from);
        world.say(session, "{\"type\":\"auth\",\"version\":\"1.0\",\"client\":\"lanrage\",\"peer_id\":null}");
    }
    world.say(1, &register_party("p", "alice"));
    world.say(4, &register_party("q", "eve"));
    assert_eq!(world.heard(1), ["party_update alice"]);
    world.say(2, &join_party("p", "bob"));
    assert_eq!(world.heard(1), ["peer_joined bob"]);
    assert_eq!(world.heard(2), ["party_update alice+bob"]);
    let carol = world.token("carol");
    assert_eq!(world.join("carol", "p", &carol).0, 200);
    assert_eq!(world.heard(1), ["peer_joined carol"]);
    assert_eq!(world.heard(2), ["peer_joined carol"]);
    world.say(2, &message("leave_party", "p", "\"peer_id\":\"bob\""));
    assert_eq!(world.heard(1), ["peer_left bob"]);
    assert_eq!(world.heard(2), ["peer_left bob"]);
    world.say(2, &join_party("p", "bob"));
    assert_eq!(world.heard(2), ["party_update alice+bob+carol"]);
    world.heard(1);
    world.say(1, &message("leave_party", "p", "\"peer_id\":\"alice\""));
    assert_eq!(world.heard(2), ["peer_left alice", "party_update "]);
    assert_eq!(world.heard(1), ["peer_left alice", "party_update "]);
    assert_eq!(world.heard(4), ["party_update eve"]);
    assert!(world.heard(3).is_empty());
}

#[test]
fn a_kicked_peer_is_told_and_so_are_the_others() {
    let mut world = TestApi::new();
    let (alice, bob) = (world.token("alice"), world.token("bob"));
    let party = world.create("alice", &alice);
    world.join("bob", &party, &bob);
    world.open(1, "198.51.100.1");
    world.say(1, &format!("{{\"type\":\"auth\",\"peer_id\":\"alice\",\"token\":\"{alice}\"}}"));
    world.open(2, "198.51.100.2");
    world.say(2, &format!("{{\"type\":\"auth\",\"token\":\"{bob}\"}}"));
    assert_eq!(world.heard(1), ["party_update alice+bob"]);
    assert_eq!(world.heard(2), ["party_update alice+bob"]);
    let (status, body) = world.ask(Method::Delete, &format!("/parties/{party}/peers/bob"), Some(&alice), "");
    assert_eq!((status, body.get("status").unwrap().as_str()), (200, Some("kicked")));
    assert_eq!(world.heard(1), ["peer_left bob"]);
    assert_eq!(world.heard(2), ["peer_left bob", "error"]);
    assert_eq!(world.closed, [2], "and the old socket is cut");
    // Who is banned while it is there, too; who leaves by itself is not.
    world.api.close_session(SessionId(2));
    world.open(3, "198.51.100.3");
    world.say(3, &join_party(&party, "carol"));
    world.say(3, &message("leave_party", &party, "\"peer_id\":\"carol\""));
    assert_eq!(world.closed, [2]);
    world.say(3, &join_party(&party, "carol"));
    let bans = format!("/parties/{party}/bans");
    assert_eq!(world.ask(Method::Post, &bans, Some(&alice), "{\"peer_id\":\"carol\"}").0, 200);
    assert_eq!(world.closed, [2, 3]);
}

#[test]
fn a_session_stops_being_whom_somebody_else_has_become() {
    let mut world = TestApi::new();
    let alice = world.token("alice");
    let party = world.create("alice", &alice);
    // The id is free, and so anybody's.
    world.open(1, "198.51.100.66");
    world.say(1, "{\"type\":\"auth\",\"peer_id\":\"bob\"}");
    assert!(world.heard(1).is_empty());
    let bob = world.token("bob");
    world.join("bob", &party, &bob);
    world.open(2, "198.51.100.2");
    world.say(2, &format!("{{\"type\":\"auth\",\"token\":\"{alice}\"}}"));
    world.heard(2);
    for text in [
        message("signal", &party, "\"to_peer_id\":\"alice\",\"signal_data\":1"),
        message("heartbeat", &party, "\"peer_id\":\"bob\""),
        message("leave_party", &party, "\"peer_id\":\"bob\""),
        join_party(&party, "bob"),
        register_party("another", "bob"),
        "{\"type\":\"auth\",\"peer_id\":\"bob\"}".to_owned(),
    ] {
        world.say(1, &text);
        assert_eq!(world.heard(1), ["error"], "{text}");
    }
    assert!(world.heard(2).is_empty());
    let member = |world: &TestApi| world.api.control.party(&party).unwrap().members["bob"].origin;
    assert_eq!(member(&world), Some("198.51.100.1".parse().unwrap()), "nor is bob where it is");
    // Not even when bob has gone.
    world.ask(Method::Delete, &format!("/parties/{party}/peers/bob"), Some(&bob), "");
    world.heard(2);
    world.say(1, &message("signal", &party, "\"to_peer_id\":\"alice\",\"signal_data\":1"));
    assert_eq!((world.heard(1), world.heard(2)), (vec!["error".to_owned()], vec![]));
}

/// A join with a WireGuard key from an address: the key's own address, and the warning if there is one.
fn join_with(
    world: &mut TestApi,
    party: &str,
    peer: &str,
    key: &str,
    rest: &str,
    from: Source,
) -> (String, String) {
    let token = world.token(peer);
    let info = format!("{{\"peer_id\":\"{peer}\",\"name\":\"P\",\"public_key\":\"{key}\"}}");
    let body = format!("{{\"party_id\":\"x\",\"peer_info\":{info}{rest}}}");
    let answer = world.ask_from(from, Method::Post, &format!("/parties/{party}/join"), Some(&token), &body);
    let body = parse(&answer.body).unwrap();
    assert_eq!(answer.status, 200, "{body:?}");
    let network = body.get("network").unwrap().get("virtual_ip").unwrap().as_str().unwrap().to_owned();
    (network, warning(&body))
}

fn warning(body: &Value) -> String {
    match body.get("warnings") {
        Some(Value::Array(all)) => all[0].as_str().unwrap().to_owned(),
        _ => String::new(),
    }
}

#[test]
fn who_has_somebody_else_s_key_is_warned_until_it_proves_it() {
    let mut world = TestApi::new();
    let alice = world.token("alice");
    let party = world.create("alice", &alice);
    let private = PrivateKey::generate();
    let key = private.public_key().encode();
    let (address, fine) = join_with(&mut world, &party, "thief", &key, "", ip("198.51.100.66"));
    assert_eq!(fine, "");
    let (other, warned) = join_with(&mut world, &party, "bob", &key, "", ip("198.51.100.2"));
    assert!(
        other != address && warned.starts_with("another peer is in a party with this public_key"),
        "{warned}"
    );
    world.open(1, "198.51.100.2");
    world.say(1, &join_party(&party, "carol"));
    world.heard.remove(&1);
    let thief = world.api.control.party(&party).unwrap().members["thief"].standing;
    world.open(2, "198.51.100.66");
    world.api.sessions.bind(SessionId(2), Identity { peer: PeerId::new("thief").unwrap(), standing: thief });

    // Bob switches his app on; the thief, whose session is open, is told.
    world.api.handshake(&private.public_key(), "198.51.100.2".parse().unwrap(), world.now);
    world.settle(None);
    let told = world.heard.remove(&2).unwrap();
    let update =
        told.iter().find(|message| message.get("type").unwrap().as_str() == Some("party_update")).unwrap();
    assert!(warning(update).starts_with("another peer is in a party with"), "{update:?}");
    assert_eq!(warning(&world.heard.remove(&1).unwrap()[0]), "", "that is nobody else's business");

    // A third knows the private key.
    let nonce = world.ask(Method::Get, "/auth/nonce?peer_id=robert", None, "").1;
    let nonce = nonce.get("nonce").unwrap().as_str().unwrap();
    let hub = world.api.control.hub();
    let robert = PeerId::new("robert").unwrap();
    let proof = crate::control::proof::prove(&private, &hub, &robert, nonce).unwrap();
    let rest = format!(",\"nonce\":\"{nonce}\",\"proof\":\"{proof}\"");
    assert_eq!(
        join_with(&mut world, &party, "robert", &key, &rest, ip("198.51.100.3")),
        (address.clone(), String::new())
    );
    // It is Robert's proof; with a create and over a WebSocket it is looked at, too.
    let (carl, body) = (world.token("carl"), info("carl").replace("key of carl", &key));
    let create = format!("{{\"name\":\"LAN\",\"host_peer_info\":{body}{rest}}}");
    assert_eq!(world.ask(Method::Post, "/parties", Some(&carl), &create).0, 403);
    world.open(3, "198.51.100.3");
    for text in [
        message("join_party", &party, &format!("\"peer\":{body}{rest}")),
        message("register_party", "q", &format!("\"name\":\"LAN\",\"host_peer\":{body}{rest}")),
    ] {
        world.say(3, &text);
        assert_eq!(world.heard(3), ["error"], "{text}");
    }
    // The owner of the machine is believed.
    let (owned, fine) = join_with(&mut world, &party, "phone", &key, "", Source::Unix);
    assert_eq!((owned, fine), (address, String::new()));
}

#[test]
fn an_open_session_is_a_sign_of_life_for_its_key() {
    let mut world = TestApi::new();
    let alice = world.token("alice");
    let party = world.create("alice", &alice);
    let key = PrivateKey::generate().public_key();
    let join = |peer: &str| {
        let info = format!("{{\"peer_id\":\"{peer}\",\"name\":\"P\",\"public_key\":\"{}\"}}", key.encode());
        message("join_party", &party, &format!("\"peer\":{info}"))
    };
    let home: IpAddr = "198.51.100.2".parse().unwrap();
    world.open(1, "198.51.100.2");
    world.say(1, &join("bob"));
    world.api.handshake(&key, home, world.now);
    world.open(2, "198.51.100.2");
    world.say(2, &join("sister"));
    let served = |world: &TestApi| {
        let members = &world.api.control.party(&party).unwrap().members;
        let served = members.iter().filter(|(_, member)| member.relay_key().is_some());
        served.map(|(peer, _)| peer.to_string()).collect::<Vec<_>>()
    };
    for _ in 0..5 {
        world.wait(Duration::from_secs(80));
        world.api.handshake(&key, home, world.now);
        assert_eq!(served(&world), ["bob"]);
    }
    world.api.close_session(SessionId(1));
    world.wait(Duration::from_secs(70));
    world.api.handshake(&key, home, world.now);
    assert_eq!(served(&world), ["sister"]);
}

#[test]
fn a_session_cannot_be_somebody_else() {
    let mut world = TestApi::new();
    let alice = world.token("alice");
    let party = world.create("alice", &alice);
    world.open(1, "203.0.113.9");
    for text in [
        "{\"type\":\"auth\",\"peer_id\":\"alice\"}".to_owned(),
        format!("{{\"type\":\"auth\",\"peer_id\":\"alice\",\"token\":\"{}\"}}", "A".repeat(43)),
        format!("{{\"type\":\"auth\",\"peer_id\":\"bob\",\"token\":\"{alice}\"}}"),
        message("leave_party", &party, "\"peer_id\":\"alice\""),
        message("heartbeat", &party, "\"peer_id\":\"alice\""),
        message("signal", &party, "\"to_peer_id\":\"alice\",\"signal_data\":1"),
        join_party(&party, "alice"),
        register_party(&party, "bob"),
    ] {
        world.say(1, &text);
        assert_eq!(world.heard(1), ["error"], "{text}");
    }
    assert_eq!(world.api.control().peer_count(), 1);
}

#[test]
fn a_client_without_token_keeps_its_membership_over_its_socket() {
    let mut world = TestApi::new();
    world.open(1, "198.51.100.1");
    world.say(1, &register_party("p", "alice"));
    world.api.close_session(SessionId(1));
    world.wait(Duration::from_secs(120));
    world.open(2, "198.51.100.1");
    world.say(2, "{\"type\":\"auth\",\"peer_id\":\"alice\"}");
    assert_eq!(world.heard(2), ["party_update alice"]);
    world.open(3, "198.51.100.77");
    world.say(3, "{\"type\":\"hello\",\"peer_id\":\"alice\"}");
    assert_eq!(world.heard(3), ["error"]);
}

#[test]
fn an_open_session_is_a_sign_of_life_and_hears_its_parties_within_two_minutes() {
    let mut world = TestApi::new();
    world.open(1, "198.51.100.1");
    world.say(1, &register_party("p", "alice"));
    world.heard(1);
    for _ in 0..30 {
        world.wait(Duration::from_secs(115));
        assert!(world.heard(1).contains(&"party_update alice".to_owned()));
    }
    world.api.close_session(SessionId(1));
    world.wait(Duration::from_secs(420));
    assert_eq!(world.api.control().party_count(), 0);
}

#[test]
fn signals_go_to_the_named_peer_only_by_whichever_way_it_listens() {
    let mut world = TestApi::new();
    let (alice, bob) = (world.token("alice"), world.token("bob"));
    let party = world.create("alice", &alice);
    world.join("bob", &party, &bob);
    world.open(3, "198.51.100.3");
    world.say(3, &join_party(&party, "carol"));
    world.heard(3);
    let path = format!("/parties/{party}/signals");
    let body = "{\"to_peer_id\":\"bob\",\"signal_data\":{\"offer\":[1,2.50]}}";
    assert_eq!(world.ask(Method::Post, &path, Some(&alice), body).0, 200);
    assert!(world.heard(3).is_empty());
    let queue = format!("/parties/{party}/peers/bob/signals");
    let (_, waiting) = world.ask(Method::Get, &queue, Some(&bob), "");
    let Some(Value::Array(signals)) = waiting.get("signals") else { panic!("{waiting:?}") };
    assert_eq!(signals[0].get("from_peer_id").unwrap().as_str(), Some("alice"));
    assert_eq!(signals[0].get("signal_data").unwrap(), &parse(b"{\"offer\":[1,2.50]}").unwrap());
    let (_, empty) = world.ask(Method::Get, &queue, Some(&bob), "");
    assert_eq!(empty.get("signals"), Some(&Value::Array(Vec::new())));
    assert_eq!(world.ask(Method::Get, &queue, Some(&alice), "").0, 403);
    let body = "{\"to_peer_id\":\"carol\",\"signal_data\":1}";
    assert_eq!(world.ask(Method::Post, &path, Some(&bob), body).0, 200);
    assert_eq!(world.heard(3), ["signal bob"]);
    world.say(3, &message("signal", &party, "\"to_peer_id\":\"alice\",\"signal_data\":null"));
    let (_, waiting) =
        world.ask(Method::Get, &format!("/parties/{party}/peers/alice/signals"), Some(&alice), "");
    assert!(
        matches!(waiting.get("signals"), Some(Value::Array(signals)) if signals.len() == 1),
        "{waiting:?}"
    );
}

#[test]
fn last_seen_is_in_the_reader_s_own_time_or_ahead_of_it() {
    let mut world = TestApi::new();
    let (alice, tokyo) = (world.token("alice"), world.token("tokyo"));
    let party = world.create("alice", &alice);
    let local = crate::wire::datetime::Naive(world.now.unix + Duration::from_secs(9 * 3600));
    let body = format!(
        "{{\"party_id\":\"{party}\",\"peer_info\":{{\"peer_id\":\"tokyo\",\"name\":\"T\",\"public_key\":\"k\",\
         \"last_seen\":\"{local}\"}}}}"
    );
    world.ask(Method::Post, &format!("/parties/{party}/join"), Some(&tokyo), &body);
    let seen_by = |world: &mut TestApi, token: &str| {
        let (_, body) = world.ask(Method::Get, &format!("/parties/{party}/peers/alice"), Some(token), "");
        body.get("peer").unwrap().get("last_seen").unwrap().as_str().unwrap().to_owned()
    };
    assert_eq!(seen_by(&mut world, &alice), "2026-11-20T12:00:00");
    // Later by an hour, in case its clock is set ahead.
    assert_eq!(seen_by(&mut world, &tokyo), "2026-11-20T22:00:00");
}

#[test]
fn a_day_of_heartbeats_is_no_reason_to_write() {
    let mut world = TestApi::new();
    let token = world.token("alice");
    let party = world.create("alice", &token);
    world.durable = 0;
    for _ in 0..(48 * 3600 / 30) {
        world.wait(Duration::from_secs(30));
        let path = format!("/parties/{party}/peers/alice/heartbeat");
        assert_eq!(world.ask(Method::Post, &path, Some(&token), "").0, 200);
    }
    assert_eq!(world.durable, 0);
    assert!((3..=4).contains(&world.lazy), "the token was extended {} times", world.lazy);
}

#[test]
fn while_the_store_fails_changes_are_refused_before_they_are_made() {
    let mut world = TestApi::new();
    let token = world.token("alice");
    let party = world.create("alice", &token);
    world.around.store_failure = Some(WriteError::Full);
    world.durable = 0;
    let body = format!("{{\"name\":\"Other\",\"host_peer_info\":{}}}", info("alice"));
    for (method, target, body) in [
        (Method::Post, "/auth/register?peer_id=x".to_owned(), ""),
        (Method::Post, "/parties".to_owned(), body.as_str()),
        (Method::Delete, format!("/parties/{party}"), ""),
        (Method::Delete, format!("/parties/{party}/peers/alice"), ""),
    ] {
        let (status, answer) = world.ask(method, &target, Some(&token), body);
        assert_eq!(status, 503);
        assert!(answer.get("detail").unwrap().as_str().unwrap().starts_with("storage full"));
    }
    for target in ["/".to_owned(), format!("/parties/{party}"), "/relays".to_owned()] {
        assert_eq!(world.ask(Method::Get, &target, Some(&token), "").0, 200);
    }
    let heartbeat = format!("/parties/{party}/peers/alice/heartbeat");
    assert_eq!(world.ask(Method::Post, &heartbeat, Some(&token), "").0, 200);
    for route in ROUTES {
        let path = route.path.replace("{party_id}", &party).replace("{peer_id}", "alice");
        let method = route.method.parse().unwrap();
        let answer = world.ask_from(ip("198.51.100.1"), method, &path, Some(&token), "");
        assert_eq!(answer.status == 503, route.writes != Writes::Nothing, "{} {path}", route.method);
    }
    world.open(1, "198.51.100.1");
    for MessageType { kind, writes, .. } in MESSAGES {
        let text = format!("{{\"type\":\"{kind}\"}}");
        let reply = world.api.message(SessionId(1), &text, &world.around, world.now);
        let refused = matches!(reply, MessageReply::Error(text) if text.starts_with("storage full"));
        assert_eq!(refused, *writes != Writes::Nothing, "{kind}");
    }
    world.say(1, &register_party("p", "bob"));
    assert_eq!(world.heard(1), ["error"]);
    assert_eq!(world.durable, 0);
    assert_eq!(world.api.control().party_count(), 1);
}

#[test]
fn too_much_from_one_source_is_refused_and_nobody_else_notices() {
    let mut world = TestApi::new();
    let status =
        |world: &mut TestApi, from: &str| world.ask_from(ip(from), Method::Get, "/", None, "").status;
    let served = (0..300).filter(|_| status(&mut world, "203.0.113.1") == 200).count();
    assert_eq!(served, 200);
    let refused = world.ask_from(ip("203.0.113.1"), Method::Get, "/", None, "");
    assert_eq!(refused.status, 429);
    assert_eq!(refused.headers[0], ("Retry-After", "1".into()));
    assert_eq!(status(&mut world, "203.0.113.2"), 200);
    world.open(1, "203.0.113.3");
    for _ in 0..300 {
        let reply = world.api.message(SessionId(1), "{}", &world.around, world.now);
        assert!(matches!(reply, MessageReply::Error(_) | MessageReply::None));
    }
    world.settle(None);
    assert!(!world.closed.is_empty() && world.closed.iter().all(|session| *session == 1));
    // A create counts whether it is a good one or not, and over the WebSocket as over HTTP.
    world.open(2, "203.0.113.4");
    let mut create = |text| match world.api.message(SessionId(2), text, &world.around, world.now) {
        MessageReply::Error(why) => why,
        other => panic!("{other:?}"),
    };
    for _ in 0..30 {
        assert_ne!(create("{\"type\":\"register_party\"}"), TOO_MANY_REQUESTS);
    }
    assert_eq!(create(&register_party("p", "bob")), TOO_MANY_REQUESTS);
    let answer = world.ask_from(ip("203.0.113.4"), Method::Post, "/auth/register?peer_id=bob", None, "");
    assert_eq!(answer.status, 429);
}

#[test]
fn a_member_gets_its_network_and_a_stranger_does_not() {
    let mut world = TestApi::new();
    let (alice, bob, eve) = (world.token("alice"), world.token("bob"), world.token("eve"));
    let party = world.create("alice", &alice);
    let (_, joined) = world.join("bob", &party, &bob);
    let expected = "{\"subnet\":\"10.66.0.0/16\",\"virtual_ip\":\"10.66.0.3\",\"peers\":{\"alice\":\"10.66.0.2\"},\
                    \"relay\":{\"endpoint\":\"192.0.2.1:51820\",\"public_key\":\"";
    let mut json = json::JsonWriter::default();
    json.value(joined.get("network").unwrap());
    assert!(json.finish().starts_with(expected));
    assert!(joined.get("warnings").is_some());
    let (status, read) = world.ask(Method::Get, &format!("/parties/{party}"), Some(&eve), "");
    assert_eq!((status, read.get("network")), (200, None));
}

#[test]
fn figures_are_for_this_machine_and_for_admins() {
    let mut world = TestApi::new();
    let status = |world: &mut TestApi, source, token| {
        world.ask_from(source, Method::Get, "/metrics", token, "").status
    };
    assert_eq!(status(&mut world, ip("127.0.0.1"), None), 200);
    assert_eq!(status(&mut world, Source::Unix, None), 200);
    assert_eq!(status(&mut world, ip("203.0.113.1"), None), 401);
    let alice = world.token("alice");
    assert_eq!(status(&mut world, ip("203.0.113.1"), Some(&alice)), 403);
    assert_eq!(status(&mut world, ip("203.0.113.1"), Some("a-token-of-the-admin")), 200);
    // Party ids are secrets: being on this machine is not enough.
    let parties = world.ask_from(ip("127.0.0.1"), Method::Get, "/parties", None, "");
    assert_eq!(parties.status, 401);
    assert_eq!(world.ask_from(Source::Unix, Method::Get, "/parties", None, "").status, 200);
}

#[test]
fn who_claims_an_id_that_became_free_hears_nothing_of_its_former_holder() {
    let mut world = TestApi::new();
    let (alice, bob) = (world.token("alice"), world.token("bob"));
    let party = world.create("alice", &alice);
    world.open(1, "203.0.113.9");
    world.say(1, "{\"type\":\"auth\",\"peer_id\":\"bob\"}");
    world.join("bob", &party, &bob);
    world.ask(Method::Delete, &format!("/parties/{party}/peers/bob"), Some(&bob), "");
    world.join("bob", &party, &bob);
    world.ask(Method::Delete, &format!("/parties/{party}"), Some(&alice), "");
    assert!(world.heard(1).is_empty());
}

#[test]
fn claims_from_elsewhere_do_not_push_out_the_sessions_of_a_peer() {
    let mut world = TestApi::new();
    let alice = world.token("alice");
    world.open(1, "198.51.100.1");
    world.say(1, &format!("{{\"type\":\"auth\",\"token\":\"{alice}\"}}"));
    for session in 2..=6 {
        world.open(session, "203.0.113.9");
        world.say(session, "{\"type\":\"auth\",\"peer_id\":\"alice\"}");
    }
    assert_eq!(world.closed, [2]);
}

#[test]
fn the_hub_s_key_is_for_the_owner_and_for_a_page_that_was_opened_just_now() {
    let mut world = TestApi::new();
    let outcome = |world: &mut TestApi, source, token: Option<&str>, method, target: &str| {
        let request = TestApi::request(method, target, token, "", source);
        match world.api.handle(&request, &world.around, world.now).outcome {
            Outcome::Answer(answer) => Err(answer.status),
            Outcome::Backup { redacted } => Ok(redacted),
            Outcome::Restore { from } => Ok(from == Source::Unix),
        }
    };
    let admin = Some("a-token-of-the-admin");
    for (source, token) in [(Source::Unix, None), (Source::Unix, admin), (ip("127.0.0.1"), admin)] {
        assert_eq!(outcome(&mut world, source, token, Method::Get, "/backup"), Ok(false));
        assert_eq!(outcome(&mut world, source, token, Method::Get, "/backup?secrets=redacted"), Ok(true));
        assert_eq!(outcome(&mut world, source, token, Method::Post, "/restore"), Ok(source == Source::Unix));
    }
    assert_eq!(outcome(&mut world, Source::Unix, None, Method::Get, "/backup?secrets=x"), Err(422));
    let (_, session) =
        world.ask(Method::Post, "/ui/sessions", None, "{\"admin_token\":\"a-token-of-the-admin\"}");
    let page = session.get("token").unwrap().as_str().unwrap().to_owned();
    let both = |world: &mut TestApi, token: &str| {
        let get = outcome(world, ip("192.0.2.5"), Some(token), Method::Get, "/backup");
        let post = outcome(world, ip("192.0.2.5"), Some(token), Method::Post, "/restore");
        (get, post)
    };
    assert_eq!(both(&mut world, &page), (Ok(false), Ok(false)));
    world.pass(Duration::from_secs(600));
    assert_eq!(both(&mut world, &page), (Err(403), Err(403)));
    let redacted = outcome(&mut world, ip("192.0.2.5"), Some(&page), Method::Get, "/backup?secrets=redacted");
    assert_eq!(redacted, Ok(true), "it is the owner's all the same");
    let peer = world.token("alice");
    assert_eq!(both(&mut world, &peer), (Err(403), Err(403)));
}

#[test]
fn more_than_four_sessions_of_one_peer_end_the_oldest() {
    let mut world = TestApi::new();
    let alice = world.token("alice");
    for session in 1..=5 {
        world.open(session, "198.51.100.1");
        world.say(session, &format!("{{\"type\":\"auth\",\"token\":\"{alice}\"}}"));
    }
    assert_eq!(world.closed, [1]);
}

/// What each session heard in so many seconds, in each of which `act` happens ten times.
fn heard_while(
    world: &mut TestApi,
    seconds: u64,
    mut act: impl FnMut(&mut TestApi),
) -> BTreeMap<u64, Vec<String>> {
    for session in world.heard.keys().copied().collect::<Vec<_>>() {
        world.heard(session);
    }
    for _ in 0..seconds * 10 {
        act(world);
        world.pass(Duration::from_millis(100));
        if world.api.poll_timeout().is_some_and(|due| due <= world.now.instant) {
            let effects = world.api.poll(None, world.now);
            world.absorb(effects);
        }
    }
    world.heard.keys().copied().collect::<Vec<_>>().into_iter().map(|id| (id, world.heard(id))).collect()
}

#[test]
fn a_session_is_told_of_a_party_once_a_second_however_often_it_changes() {
    let mut world = TestApi::new();
    let (alice, bob) = (world.token("alice"), world.token("bob"));
    let party = world.create("alice", &alice);
    world.join("bob", &party, &bob);
    world.wait(Duration::from_secs(5));
    for (session, token) in [(1, &alice), (2, &bob)] {
        world.open(session, "198.51.100.1");
        world.say(session, &format!("{{\"type\":\"auth\",\"token\":\"{token}\"}}"));
        assert_eq!(world.heard(session), ["party_update alice+bob"]);
    }
    let bans = format!("/parties/{party}/bans");
    let heard = heard_while(&mut world, 10, |world| {
        assert_eq!(world.ask(Method::Post, &bans, Some(&alice), "{\"peer_id\":\"eve\"}").0, 200);
        assert_eq!(world.ask(Method::Delete, &format!("{bans}?peer_id=eve"), Some(&alice), "").0, 200);
    });
    for session in [1, 2] {
        assert!((10..=13).contains(&heard[&session].len()), "{heard:?}");
    }
    // Somebody who joins again and again, by either way, and who asks for what he is in.
    let mut count = 0;
    let heard = heard_while(&mut world, 10, |world| {
        count += 1;
        let peer = info("bob").replace("Me", &format!("Bob {count}"));
        world.say(2, &message("join_party", &party, &format!("\"peer\":{peer}")));
        world.join("bob", &party, &bob);
        world.say(2, &format!("{{\"type\":\"auth\",\"token\":\"{bob}\"}}"));
    });
    for session in [1, 2] {
        assert!((10..=13).contains(&heard[&session].len()), "{heard:?}");
    }
    // What comes last is heard.
    world.wait(Duration::from_secs(5));
    world.heard(1);
    let (carol, path) = (world.token("carol"), format!("/parties/{party}/peers/carol"));
    for _ in 0..4 {
        world.join("carol", &party, &carol);
        world.ask(Method::Delete, &path, Some(&carol), "");
    }
    world.join("carol", &party, &carol);
    assert_eq!(world.heard(1).iter().filter(|told| *told == "peer_joined carol").count(), 3);
    world.wait(Duration::from_secs(1));
    assert_eq!(world.heard(1), ["peer_joined carol"]);
    // Or not, because she is not there any more.
    world.ask(Method::Delete, &path, Some(&carol), "");
    world.join("carol", &party, &carol);
    world.ask(Method::Delete, &path, Some(&carol), "");
    world.heard(1);
    world.wait(Duration::from_secs(5));
    assert!(world.heard(1).is_empty());
}

#[test]
fn many_clocks_cost_few_texts_and_one_source_bounded_bytes() {
    let mut world = TestApi::new();
    let names: Vec<String> = (0..64).map(|number| format!("m{number}")).collect();
    let host = world.token("m0");
    let party = world.create("m0", &host);
    for (number, name) in names.iter().enumerate() {
        world.pass(Duration::from_secs(10));
        let token = if number == 0 { host.clone() } else { world.token(name) };
        let ahead = Duration::from_secs(86_400 * number as u64);
        let local = crate::wire::datetime::Naive(world.now.unix + ahead);
        let long = "x".repeat(100);
        let body = format!(
            "{{\"party_id\":\"x\",\"peer_info\":{{\"peer_id\":\"{name}\",\"name\":\"{long}\",\
             \"public_key\":\"{long}{name}\",\"last_seen\":\"{local}\"}}}}"
        );
        world.ask(Method::Post, &format!("/parties/{party}/join"), Some(&token), &body);
        world.open(number as u64, "198.51.100.1");
        world.say(number as u64, &format!("{{\"type\":\"auth\",\"token\":\"{token}\"}}"));
        assert_eq!(world.heard.get(&(number as u64)).map(Vec::len), Some(1));
        world.heard.clear();
    }
    world.pass(Duration::from_secs(60));
    let (mut texts, mut bytes, mut most) = (0, 0, 0);
    let mut note = |deliveries: &[Delivery]| {
        texts += deliveries.len();
        most = most.max(deliveries.len());
        bytes += deliveries.iter().map(|delivery| delivery.to.len() * delivery.text.len()).sum::<usize>();
    };
    for round in 0..1000 {
        let method = if round % 2 == 0 { Method::Post } else { Method::Delete };
        let target = match method {
            Method::Post => format!("/parties/{party}/bans"),
            _ => format!("/parties/{party}/bans?peer_id=eve"),
        };
        let request =
            TestApi::request(method, &target, Some(&host), "{\"peer_id\":\"eve\"}", ip("198.51.100.1"));
        world.api.handle(&request, &world.around, world.now);
        note(&world.api.drain(None, world.now).deliveries);
        world.pass(Duration::from_millis(20));
        note(&world.api.poll(None, world.now).deliveries);
    }
    assert!(most <= 8 && texts <= 8 * 23, "{texts} texts in 20 s, {most} at once");
    // 4 MiB at once and 256 KiB in each of 20 seconds.
    assert!((1 << 20..(4 << 20) + 20 * (256 << 10)).contains(&bytes), "{bytes} bytes in 20 s");
    // Everybody hears of the last change.
    let bans = format!("/parties/{party}/bans");
    assert_eq!(world.ask(Method::Post, &bans, Some(&host), "{\"peer_id\":\"last\"}").0, 200);
    world.wait(Duration::from_secs(30));
    assert_eq!(world.heard.len(), 64);
}

/// A relay that has seen whoever it is asked for, and a daemon that has counted something of everything.
struct Busy;

impl RelayView for Busy {
    fn member(&self, _: &PublicKey) -> Option<(MemberStats, Drops)> {
        let mut drops = Drops::default();
        drops.add(DropReason::InnerSource);
        let stats = MemberStats {
            last_handshake: Some(Instant::ZERO),
            round_trip: Some(Duration::from_millis(23)),
            reach: Reach::Hub,
            ..MemberStats::default()
        };
        Some((stats, drops))
    }

    fn load(&self) -> u32 {
        1
    }
}

impl Meter for Busy {
    fn report(&self, out: &mut Readings) {
        for figure in Figure::ALL {
            out.set(figure, 77);
        }
        for kind in Traffic::ALL {
            out.stats.add(kind, 100);
        }
        for reason in DropReason::ALL {
            out.stats.drop(reason);
        }
    }
}

/// Whether `value` has what `schema` says that objects have, and nothing else.
fn fits(value: &Value, schema: &Value, document: &Value, path: &str) {
    if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
        let target = target.split('/').skip(1).fold(document, |at, step| at.get(step).unwrap());
        return fits(value, target, document, path);
    }
    match (schema.get("properties"), value) {
        (Some(properties), Value::Object(members)) => {
            for (name, member) in members {
                let described = properties.get(name);
                fits(
                    member,
                    described.unwrap_or_else(|| panic!("{path}.{name}")),
                    document,
                    &format!("{path}.{name}"),
                );
            }
            let Some(Value::Array(required)) = schema.get("required") else { return };
            for name in required.iter().filter_map(Value::as_str) {
                assert!(value.get(name).is_some(), "{path}.{name} is missing");
            }
        }
        (None, Value::Array(items)) => {
            assert!(!items.is_empty(), "{path} shows nothing");
            items.iter().for_each(|item| fits(item, schema.get("items").unwrap(), document, path));
        }
        _ => {
            let kind = schema.get("type").and_then(Value::as_str).map(str::to_owned);
            let found = match value {
                Value::Bool(_) => "boolean",
                Value::Number(text) if text.contains('.') => "number",
                Value::Number(_) => "integer",
                Value::Object(_) => "object",
                _ => "string",
            };
            let words = matches!(schema.get("enum"), Some(Value::Array(words)) if words.contains(value));
            assert!(words || kind.as_deref() == Some(found), "{path}: {value:?} {schema:?}");
        }
    }
}

#[test]
fn status_is_as_described_and_metrics_have_the_same_figures() {
    static BUSY: Busy = Busy;
    let mut world = TestApi::new();
    let token = world.token("alice");
    let key = PrivateKey::from_bytes([9; 32]).public_key().encode();
    let described = info("alice").replacen("key of alice", &key, 1);
    let body = format!("{{\"name\":\"LAN\",\"host_peer_info\":{described}}}");
    assert_eq!(world.ask(Method::Post, "/parties", Some(&token), &body).0, 200);
    world.around.relay = Some(&BUSY);
    world.around.figures = Some(&BUSY);
    let admin = Some("a-token-of-the-admin");
    let (status, shown) = world.ask(Method::Get, "/status", admin, "");
    assert_eq!(status, 200);
    let document = world.ask(Method::Get, "/openapi.json", None, "").1;
    let schema = ["components", "schemas", "Status"].iter().fold(&document, |at, step| at.get(step).unwrap());
    fits(&shown, schema, &document, "");
    let metrics = world.ask_from(ip("198.51.100.1"), Method::Get, "/metrics", admin, "");
    let metrics = String::from_utf8(metrics.body).unwrap();
    for figure in Figure::ALL {
        let row = figure.row();
        let found = row.status.split('.').fold(&shown, |at, step| at.get(step).unwrap());
        let shown = match found {
            Value::Number(text) => text.to_string(),
            value => u8::from(*value == Value::Bool(true)).to_string(),
        };
        let line = format!("{} {shown}", row.metric);
        assert!(metrics.lines().any(|found| found == line), "{line}: {metrics}");
    }
    for line in [
        "lanrage_parties 1",
        "lanrage_tokens 1",
        "lanrage_log_lines_lost_total 77",
        "lanrage_store_failing 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line}: {metrics}");
    }
}
