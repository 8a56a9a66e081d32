//! A relay in another place and its control server, over a connection with a delay that may break at any time: what the relay
//! knows of parties is what the server knows, as soon as they have talked.

mod instances;

use crate::world::{self, MILLISECOND, SECOND};
use instances::Writer;
use lanrage::api::admission::Rates;
use lanrage::api::browsers::Browsers;
use lanrage::api::messages::MessageReply;
use lanrage::api::metrics::Surroundings;
use lanrage::api::sessions::Delivery;
use lanrage::api::{Api, ApiSettings, Effects, Locations, Outcome, OwnRelay};
use lanrage::control::change::Change;
use lanrage::control::placement::Placement;
use lanrage::control::record::Records;
use lanrage::control::relays::RelayInfo;
use lanrage::control::{Control, ControlSettings};
use lanrage::crypto::random::Seeded;
use lanrage::crypto::x25519::{PrivateKey, PublicKey};
use lanrage::ids::{RelayId, SessionId};
use lanrage::relay::Relay;
use lanrage::relay::limits::RelayLimits;
use lanrage::relay::link::{Approval, ControlLink, LinkSettings};
use lanrage::store::schema::Table;
use lanrage::store::{Row, records};
use lanrage::subnet::Subnet;
use lanrage::time::{Instant, Now, UnixTime};
use lanrage::token_bucket::Rate;
use lanrage::wire::http::{Request, Source};
use lanrage::wire::http_head::RequestHead;
use lanrage::wire::json::{Value, object, parse};
use lanrage::wire::roster::{KEY_PREFIX, relay_id};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;
use tiny_http::Method;

/// One way through the network.
const DELAY: Duration = Duration::from_millis(100);
const STEP: Duration = Duration::from_millis(10);
/// Where the relay is.
const PLACE: [u8; 4] = [198, 51, 100, 50];

struct Realm {
    /// Where the relay is.
    api: Api,
    /// Another instance, if that decides.
    writer: Option<Writer>,
    /// What is to be told when it is committed, if it is told later.
    held: Option<VecDeque<(Instant, Effects)>>,
    /// What the server has stored, by table and key.
    rows: BTreeMap<(Table, String), Vec<u8>>,
    now: Now,
    hub: PrivateKey,
    key: PrivateKey,
    link: ControlLink,
    relay: Relay,
    room: u32,
    /// The relay's connection.
    session: Option<SessionId>,
    sessions: u64,
    up: VecDeque<(Instant, String)>,
    down: VecDeque<(Instant, String)>,
    /// Whether the server can be reached.
    is_reachable: bool,
    /// Messages that came through to the relay.
    told: usize,
    /// Is in the keys of those who enter.
    salt: u8,
}

fn request(method: Method, path: &str, body: &str, source: Source) -> Request {
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    Request::new(RequestHead::parse(head.as_bytes()).unwrap(), body.into(), source, None)
}

fn api(control: Control, now: Now) -> Api {
    let relay_id = RelayId::new("own").unwrap();
    let relay = OwnRelay { relay_id, endpoint: None, port: 51820, region: "home".into(), capacity: 100 };
    let plenty = Rate::new(100_000, SECOND, 100_000);
    let settings = ApiSettings {
        relay,
        rates: Rates { changes: plenty, creations: plenty, ..Rates::default() },
        trusted_proxies: Vec::new(),
        browsers: Browsers::default(),
        admin_token: None,
        locations: Locations::default(),
    };
    Api::new(control, settings, now)
}

impl Realm {
    fn new(seed: u64, room: u32) -> Self {
        let mut random = Seeded::new(seed);
        let mut keys = [[0; 32]; 2];
        keys.iter_mut().for_each(|key| random.fill(key));
        let [hub, key] = keys.map(PrivateKey::from_bytes);
        let now = Now { instant: Instant::ZERO + SECOND, unix: UnixTime::from_micros(1_795_176_000_000_000) };
        let mut realm = Realm {
            api: api(Control::new(ControlSettings::default(), hub.clone(), Records::default(), now), now),
            writer: None,
            held: None,
            rows: BTreeMap::new(),
            now,
            link: ControlLink::new(link_settings(&key, room), now.instant),
            relay: world::relay(&key, RelayLimits::default(), seed, now.instant),
            hub,
            key,
            room,
            session: None,
            sessions: 1000,
            up: VecDeque::new(),
            down: VecDeque::new(),
            is_reachable: true,
            told: 0,
            salt: 0,
        };
        realm.wait(SECOND);
        realm
    }

    /// The server is started anew, with what it has stored.
    fn restart_server(&mut self) {
        self.cut();
        self.api = self.restored();
    }

    /// A server with what was stored.
    fn restored(&self) -> Api {
        let rows = self.rows.clone().into_iter();
        let rows = rows.map(|((table, key), value)| Row { table, key, value: Some(value) }).collect();
        let records = records::load(rows).records;
        let control = Control::new(ControlSettings::default(), self.hub.clone(), records, self.now);
        api(control, self.now)
    }

    /// The instance that decides.
    fn deciding(&mut self) -> &mut Api {
        self.writer.as_mut().map_or(&mut self.api, |writer| &mut writer.api)
    }

    /// The relay is started anew, with what it kept.
    fn restart_relay(&mut self) {
        self.cut();
        let kept = self.link.take_kept(true);
        self.link = ControlLink::new(link_settings(&self.key, self.room), self.now.instant);
        self.relay = world::relay(&self.key, RelayLimits::default(), 1, self.now.instant);
        if let Some(kept) = kept {
            self.link.restore(kept.as_bytes(), &mut self.relay, self.now.instant);
        }
    }

    /// The relay's process dies, and the next one has what was kept then.
    fn crash_relay(&mut self, kept: &str) {
        self.cut();
        self.link = ControlLink::new(link_settings(&self.key, self.room), self.now.instant);
        self.relay = world::relay(&self.key, RelayLimits::default(), 1, self.now.instant);
        self.link.restore(kept.as_bytes(), &mut self.relay, self.now.instant);
    }

    /// What the owner asks for.
    fn own(&mut self, method: Method, path: &str, body: &str) -> Value {
        let asked = request(method, path, body, Source::Unix);
        let now = self.now;
        let handled = self.deciding().handle(&asked, &Surroundings::default(), now);
        self.settle();
        let Outcome::Answer(answer) = handled.outcome else { panic!("no answer") };
        assert_eq!(answer.status, 200, "{path}: {}", String::from_utf8_lossy(&answer.body));
        parse(&answer.body).unwrap()
    }

    fn approve(&mut self) {
        let key = self.key.public_key().encode();
        let id = self.own(Method::Get, "/relay-approvals", "");
        let Some(Value::Array(relays)) = id.get("relays") else { panic!("no relays") };
        let id = relays[0].get("relay_id").and_then(Value::as_str).unwrap().to_owned();
        let body = object(|json| json.key("public_key").string(&key[..KEY_PREFIX]));
        self.own(Method::Post, &format!("/relay-approvals/{id}"), &body);
    }

    /// A member says something over a connection of its own.
    fn say(&mut self, peer: u8, message: &str) {
        self.sessions += 1;
        let (session, now) = (SessionId(self.sessions), self.now);
        let source = Source::Ip(IpAddr::from([203, 0, peer, 1]));
        let api = self.deciding();
        api.open_session(session, &request(Method::Get, "/ws", "", source), now).unwrap();
        let reply = api.message(session, message, &Surroundings::default(), now);
        assert!(!matches!(reply, MessageReply::Error(_)), "{message}: {reply:?}");
        self.settle();
        self.deciding().close_session(session);
    }

    fn enter(&mut self, party: &str, peer: u8, key: u8) {
        let mut bytes = [key.max(1); 32];
        bytes[1] ^= self.salt;
        let exists = self.deciding().control().party(party).is_ok();
        let text = object(|json| {
            json.key("type").string(if exists { "join_party" } else { "register_party" });
            json.key("party_id").string(party);
            json.key("name").string("LAN");
            json.key(if exists { "peer" } else { "host_peer" }).object(|json| {
                json.key("peer_id").string(&format!("peer-{peer}"));
                json.key("name").string("Ann");
                json.key("public_key").string(&PrivateKey::from_bytes(bytes).public_key().encode());
                json.key("nat_type").string("unknown");
                for name in ["public_ip", "local_ip"] {
                    json.key(name).string("unknown");
                }
                for name in ["public_port", "local_port"] {
                    json.key(name).int(0);
                }
            });
        });
        self.say(peer, &text);
    }

    /// Takes somebody out, if that is in the party.
    fn kick(&mut self, party: &str, peer: u8) {
        let name = format!("peer-{peer}");
        let found = self.deciding().control().party(party);
        if found.is_ok_and(|party| party.members.contains_key(&*name)) {
            self.own(Method::Delete, &format!("/parties/{party}/peers/{name}"), "");
        }
    }

    /// Hands on what the server has to say to the relay.
    fn settle(&mut self) {
        self.settle_writer();
        let effects = self.api.drain(None, self.now);
        self.take(effects);
    }

    /// What has happened where the relay is.
    fn take(&mut self, effects: Effects) {
        // Whoever follows keeps nothing.
        if self.writer.is_none() {
            self.store(&effects.changes);
        }
        match &mut self.held {
            Some(held) if !effects.changes.is_empty() => {
                held.push_back((self.now.instant + instances::COMMIT, effects));
                self.tell(Effects::default());
            }
            _ => self.tell(effects),
        }
    }

    fn tell(&mut self, mut effects: Effects) {
        if self.held.is_some() {
            self.api.tell_relays(&mut effects);
        }
        self.deliver(effects.deliveries);
        if effects.closures.iter().any(|(session, _)| Some(*session) == self.session) {
            // What was said before still comes.
            self.down.push_back((self.now.instant + DELAY, String::new()));
        }
    }

    fn store(&mut self, changes: &[Change]) {
        let mut rows = Vec::new();
        changes.iter().for_each(|change| records::rows(self.api.control(), change, self.now, &mut rows));
        for Row { table, key, value } in rows {
            match value {
                Some(value) => self.rows.insert((table, key), value),
                None => self.rows.remove(&(table, key)),
            };
        }
    }

    fn deliver(&mut self, deliveries: Vec<Delivery>) {
        for Delivery { to, text } in deliveries {
            if self.session.is_some_and(|session| to.contains(&session)) {
                self.down.push_back((self.now.instant + DELAY, text));
            }
        }
    }

    /// The connection breaks: what is under way is lost.
    fn cut(&mut self) {
        if let Some(session) = self.session.take() {
            self.api.close_session(session);
            self.link.closed("cut", self.now.instant);
        }
        self.up.clear();
        self.down.clear();
    }

    fn step(&mut self) {
        self.now.instant += STEP;
        self.now.unix = self.now.unix.shifted(10_000);
        let now = self.now;
        if self.link.opens(now.instant) {
            if self.is_reachable {
                self.sessions += 1;
                let session = SessionId(self.sessions);
                let place = Source::Ip(IpAddr::from(PLACE));
                self.api.open_session(session, &request(Method::Get, "/ws", "", place), now).unwrap();
                self.session = Some(session);
                self.link.opened(None, now.instant);
            } else {
                self.link.closed("nobody there", now.instant);
            }
        }
        self.link.poll(0, now.instant);
        while let Some(text) = self.link.take_said() {
            self.up.push_back((now.instant + DELAY, text));
        }
        while let Some((_, text)) = self.up.pop_front_if(|(at, _)| *at <= now.instant) {
            let Some(session) = self.session else { continue };
            let reply = self.api.message(session, &text, &Surroundings::default(), now);
            let deliveries = self.api.reply(session, reply, now);
            self.deliver(deliveries);
            self.settle();
        }
        while let Some((_, text)) = self.down.pop_front_if(|(at, _)| *at <= now.instant) {
            if text.is_empty() {
                self.cut();
                break;
            }
            self.told += 1;
            self.link.heard(&text, &mut self.relay, now.instant);
        }
        if self.session.is_some() && self.link.closes(now.instant) {
            self.cut();
        }
        let effects = self.api.poll(None, now);
        self.take(effects);
        self.step_writer();
        while let Some((_, effects)) =
            self.held.as_mut().and_then(|held| held.pop_front_if(|(at, _)| *at <= now.instant))
        {
            self.tell(effects);
        }
    }

    fn wait(&mut self, span: Duration) {
        let end = self.now.instant + span;
        while self.now.instant < end {
            self.step();
        }
    }

    /// Whether the relay was told of somebody with this key.
    fn knows(&mut self, key: &PublicKey) -> bool {
        self.link.take_kept(true).is_some_and(|kept| kept.contains(&key.encode()))
    }

    /// Waits until the relay and the server are at one.
    fn meet(&mut self) {
        self.wait(40 * SECOND);
        assert_eq!(self.link.approval(), Approval::Given);
        let kept = self.link.take_kept(true).map(|kept| parse(kept.as_bytes()).unwrap());
        let parties = kept.as_ref().and_then(|kept| kept.get("parties"));
        let Some(Value::Array(known)) = parties.or(Some(&Value::Array(Vec::new()))).cloned() else {
            panic!()
        };
        let mut known: Vec<String> = known.iter().map(|party| format!("{party:?}")).collect();
        let control = self.api.control();
        let rosters = control.parties().map(|party| control.party_roster(&party.id));
        let rosters: Vec<_> = rosters.filter(|roster| !roster.members.is_empty()).collect();
        let mut expected: Vec<String> = rosters
            .iter()
            .map(|roster| {
                let text = object(|json| roster.write(json.key("party")));
                format!("{:?}", parse(text.as_bytes()).unwrap().get("party").unwrap())
            })
            .collect();
        known.sort();
        expected.sort();
        assert_eq!(known, expected);
        // And what it was told is what it does.
        let served = control.parties().flat_map(|party| party.members.values());
        let served: BTreeSet<String> =
            served.filter_map(|member| Some(member.relay_key()?.encode())).collect();
        assert_eq!(self.relay.member_count(), served.len());
    }
}

fn link_settings(key: &PrivateKey, room: u32) -> LinkSettings {
    LinkSettings {
        key: key.clone(),
        control: None,
        subnet: Subnet::DEFAULT,
        port: 51820,
        region: "Tokio".into(),
        capacity: 100,
        room,
    }
}

#[test]
fn a_relay_is_told_nothing_before_it_is_approved_and_everything_then() {
    let mut realm = Realm::new(1, 1000);
    for peer in 1..=9 {
        realm.enter(if peer < 5 { "one" } else { "two" }, peer, peer);
    }
    realm.wait(5 * SECOND);
    assert_eq!((realm.link.approval(), realm.relay.member_count()), (Approval::Waits, 0));
    // Its greeting, that it waits, and that its news were heard.
    assert!(realm.told <= 4, "{}", realm.told);
    realm.approve();
    realm.meet();
    assert_eq!(realm.relay.member_count(), 9);
    // What it is told lets nobody join: the names are none that the server takes.
    let kept = realm.link.take_kept(true).unwrap();
    assert!(!kept.contains("one") && !kept.contains("peer-"), "{kept}");
    let id = realm.api.control().approvals().approved().next().unwrap().info.relay_id.to_string();
    realm.own(Method::Delete, &format!("/relay-approvals/{id}"), "");
    realm.wait(SECOND);
    assert_eq!(realm.relay.member_count(), 0);
}

#[test]
fn a_kick_clears_the_relay_within_a_second_also_while_it_is_told_much_else() {
    let mut realm = Realm::new(2, 100_000);
    for peer in 1..=200 {
        for party in 0..5 {
            realm.enter(&format!("party-{}", (usize::from(peer) / 20) * 5 + party), peer, peer);
        }
        realm.wait(50 * MILLISECOND);
    }
    realm.approve();
    let key = PrivateKey::from_bytes([25; 32]).public_key();
    // While it is told everything for the first time, while everything has changed, and while nothing else happens.
    for (has_changed, wait) in [(false, 0), (false, 1500), (false, 40_000), (true, 50), (true, 350)] {
        if has_changed {
            // Everybody but the one who is to be kicked has another key.
            realm.salt += 1;
            for (peer, party) in (1..=200).flat_map(|peer| (0..5).map(move |party| (peer, party))) {
                if peer == 25 {
                    continue;
                }
                realm.enter(&format!("party-{}", usize::from(peer) / 20 * 5 + party), peer, peer);
            }
        }
        realm.wait(Duration::from_millis(wait));
        for party in 5..10 {
            realm.kick(&format!("party-{party}"), 25);
        }
        let start = realm.now.instant;
        while realm.knows(&key) {
            realm.step();
            assert!(realm.now.instant.since(start) < SECOND, "{has_changed} {wait}");
        }
        realm.wait(4 * SECOND);
        let salt = std::mem::take(&mut realm.salt);
        (5..10).for_each(|party| realm.enter(&format!("party-{party}"), 25, 25));
        realm.salt = salt;
    }
    realm.meet();
}

#[test]
fn whatever_is_lost_on_the_way_the_relay_ends_up_with_what_the_server_knows() {
    for seed in 0..8 {
        let mut realm = Realm::new(seed, 100_000);
        let mut random = Seeded::new(seed ^ 0xfa12);
        realm.wait(SECOND);
        realm.approve();
        for round in 0..6 {
            for _ in 0..30 {
                let (party, peer) = (format!("party-{}", random.below(8)), random.below(30) as u8);
                match random.below(10) {
                    // Now and then with a key that is somebody else's.
                    0..=4 => realm.enter(&party, peer, if random.below(6) == 0 { 3 } else { peer }),
                    5..=6 => realm.kick(&party, peer),
                    7 => realm.cut(),
                    8 => realm.is_reachable = !realm.is_reachable,
                    _ if random.below(4) == 0 => realm.restart_relay(),
                    _ => {}
                }
                realm.wait(Duration::from_millis(random.below(400)));
            }
            realm.is_reachable = true;
            if round == 3 {
                // The server is started anew, and what ended meanwhile is told by nobody.
                realm.cut();
                realm.is_reachable = false;
                (0..30).for_each(|peer| realm.kick("party-3", peer));
                realm.restart_server();
                realm.is_reachable = true;
            }
            realm.meet();
        }
    }
}

#[test]
fn a_relay_that_was_away_for_a_moment_is_told_what_changed_and_no_more() {
    let mut realm = Realm::new(3, 100_000);
    for peer in 1..=100 {
        realm.enter(&format!("party-{}", peer / 4), peer, peer);
        realm.wait(30 * MILLISECOND);
    }
    realm.approve();
    realm.meet();
    realm.cut();
    realm.kick("party-7", 29);
    let told = realm.told;
    realm.wait(5 * SECOND);
    // The greeting, its approval, one page, and that its news were heard.
    assert!(realm.told - told <= 5, "{}", realm.told - told);
    assert_eq!(realm.relay.member_count(), 99);
    // Neither does it have to be told anew after a restart of its own.
    realm.restart_relay();
    let told = realm.told;
    realm.wait(5 * SECOND);
    assert!(realm.told - told <= 4, "{}", realm.told - told);
    realm.meet();
}

#[test]
fn parties_for_which_a_relay_has_no_room_come_when_it_has() {
    let mut realm = Realm::new(4, 10);
    for peer in 1..=12 {
        realm.enter(&format!("party-{}", (peer - 1) / 4), peer, peer);
    }
    realm.approve();
    realm.wait(5 * SECOND);
    assert_eq!(realm.relay.member_count(), 8);
    for peer in [1, 2, 3, 5, 6, 7] {
        realm.kick(&format!("party-{}", (peer - 1) / 4), peer);
    }
    realm.meet();
}

/// What a relay had taken in after it last kept it is not taken for known by the process after a crash.
#[test]
fn a_relay_that_crashed_is_told_what_it_had_not_kept() {
    let mut realm = Realm::new(6, 1000);
    for peer in 1..=6 {
        realm.enter(&format!("party-{}", peer % 2), peer, peer);
    }
    realm.approve();
    realm.meet();
    realm.enter("party-2", 7, 7);
    realm.wait(SECOND);
    let kept = realm.link.take_kept(false).unwrap();
    realm.kick("party-0", 2);
    realm.kick("party-2", 7);
    realm.enter("party-3", 8, 8);
    realm.wait(2 * SECOND);
    realm.crash_relay(&kept);
    realm.meet();
}

/// A relay that is full when its server is started anew is told of others than it has, and in the end serves those alone.
#[test]
fn a_full_relay_whose_server_is_started_anew_serves_whom_it_is_told_of() {
    let mut realm = Realm::new(7, 12);
    let limits = RelayLimits { members: 14, ..RelayLimits::default() };
    realm.relay = world::relay(&realm.key, limits, 1, realm.now.instant);
    for peer in 1..=40 {
        realm.enter(&format!("party-{:02}", (peer - 1) / 2), peer, peer);
    }
    realm.approve();
    realm.wait(5 * SECOND);
    // The first by name go, others take their room, and they come again.
    for peer in 1..=12 {
        realm.kick(&format!("party-{:02}", (peer - 1) / 2), peer);
    }
    realm.wait(5 * SECOND);
    for peer in 1..=12 {
        realm.enter(&format!("party-{:02}", (peer - 1) / 2), peer, peer);
    }
    realm.wait(5 * SECOND);
    assert_eq!(realm.relay.member_count(), 12);
    realm.restart_server();
    realm.wait(60 * SECOND);
    assert_eq!(realm.link.approval(), Approval::Given);
    assert_eq!(realm.relay.member_count(), 12);
    let list = realm.own(Method::Get, "/relay-approvals", "");
    let Some(Value::Array(relays)) = list.get("relays") else { panic!() };
    assert_eq!(format!("{:?}", relays[0].get("members").unwrap()), "Number(\"12\")");
}

/// A relay that has room for few keeps those whose home it is, by whatever other relays there are at the time.
#[test]
fn a_relay_with_little_room_follows_who_else_is_approved() {
    let mut realm = Realm::new(5, 12);
    for peer in 1..=40 {
        realm.enter(&format!("party-{}", (peer - 1) / 2), peer, peer);
    }
    realm.approve();
    realm.wait(5 * SECOND);
    assert_eq!(realm.relay.member_count(), 12);
    let own = relay_id(&realm.key.public_key());
    for number in 1..=5 {
        let (key, now) = (PrivateKey::from_bytes([number; 32]).public_key(), realm.now);
        let info = RelayInfo {
            relay_id: relay_id(&key),
            public_ip: IpAddr::from([198, 51, 100, number]),
            port: 51820,
            region: "there".into(),
            capacity: 100,
            public_key: Some(key.encode()),
            load: 0,
        };
        let (id, payer) = (info.relay_id.clone(), info.public_ip);
        let control = realm.deciding().control_mut();
        control.await_approval(info, &key, payer, now.instant);
        control.approve_relay(id.as_str(), &key.encode(), now).unwrap();
    }
    realm.settle();
    realm.wait(5 * SECOND);
    let control = realm.api.control();
    let at_home = control.parties().filter(|party| control.placement(&party.id, &own) == Placement::Home);
    let keys: Vec<PublicKey> =
        at_home.flat_map(|party| party.members.values()).filter_map(|member| member.relay_key()).collect();
    assert!((4..=12).contains(&keys.len()), "{} members have their home there", keys.len());
    for key in keys {
        assert!(realm.knows(&key));
    }
    assert!((11..=12).contains(&realm.relay.member_count()));
}

#[test]
fn nobody_is_taken_for_a_relay_without_its_key_and_those_that_wait_are_few() {
    let mut realm = Realm::new(5, 1000);
    realm.enter("party", 1, 1);
    realm.approve();
    realm.meet();
    // Somebody says to be that relay, and can't go on.
    let (key, other) = (realm.key.clone(), PrivateKey::from_bytes([9; 32]));
    realm.cut();
    realm.key = other.clone();
    let mut forger = ControlLink::new(link_settings(&other, 10), realm.now.instant);
    std::mem::swap(&mut realm.link, &mut forger);
    realm.wait(3 * SECOND);
    assert_eq!(realm.link.approval(), Approval::Waits);
    let hello = object(|json| {
        json.key("type").string("relay_hello");
        json.key("public_key").string(&key.public_key().encode());
        json.key("nonce").string(&"00".repeat(16));
    });
    realm.up.push_back((realm.now.instant, hello));
    realm.wait(3 * SECOND);
    assert_eq!(realm.relay.member_count(), 1, "nothing was told to it, and nothing taken away");
    // Many come, and the list of those that wait stays short.
    for number in 0..40 {
        realm.cut();
        let key = PrivateKey::from_bytes([100 + number; 32]);
        realm.link = ControlLink::new(link_settings(&key, 10), realm.now.instant);
        realm.wait(SECOND);
    }
    let waiting = realm.api.control().approvals().waiting().count();
    assert!((1..=16).contains(&waiting), "{waiting}");
    // After a while they are forgotten, but for the one that is still there.
    realm.wait(Duration::from_secs(700));
    assert_eq!(realm.api.control().approvals().waiting().count(), 1);
}
