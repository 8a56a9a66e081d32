//! A router boots in 1970 and its clock then jumps by decades, either way: nothing may come of it.

use crate::client::{create_body, join_body};
use lanrage::api::admission::Rates;
use lanrage::api::browsers::Browsers;
use lanrage::api::metrics::Surroundings;
use lanrage::api::{Api, ApiSettings, Locations, Outcome, OwnRelay};
use lanrage::control::change::Change;
use lanrage::control::record::Records;
use lanrage::control::{self, Control};
use lanrage::crypto::x25519::PrivateKey;
use lanrage::ids::{RelayId, SessionId};
use lanrage::store::Row;
use lanrage::store::records;
use lanrage::store::schema::Table;
use lanrage::time::{Instant, Now, UnixTime};
use lanrage::wire::http::{Request, Source};
use lanrage::wire::http_head::RequestHead;
use lanrage::wire::json;
use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;
use tiny_http::Method;

const YEARS_50: i64 = 50 * 365 * 86_400 * 1_000_000;
/// In the autumn of 2026.
const TODAY: i64 = 1_795_000_000_000_000;
const SESSION: SessionId = SessionId(1);

/// What one step of the script came to: its name, a status or count.
type Outcomes = Vec<(&'static str, usize)>;

/// A daemon without sockets, disk or clocks.
struct Play<'a> {
    api: Api,
    rows: BTreeMap<(Table, String), Vec<u8>>,
    elapsed: Duration,
    step: usize,
    wall: &'a dyn Fn(usize) -> i64,
    outcomes: Outcomes,
    tokens: BTreeMap<String, String>,
}

/// The API alone.
pub fn api(records: Records, admin_token: Option<&str>, now: Now) -> Api {
    let settings = ApiSettings {
        relay: OwnRelay {
            relay_id: RelayId::new("own").unwrap(),
            endpoint: None,
            port: 51820,
            region: "unknown".to_owned(),
            capacity: 100,
        },
        rates: Rates::default(),
        trusted_proxies: Vec::new(),
        browsers: Browsers::default(),
        admin_token: admin_token.map(str::to_owned),
        locations: Locations::default(),
    };
    let hub = PrivateKey::from_bytes([7; 32]);
    let control = Control::new(control::ControlSettings::default(), hub, records, now);
    Api::new(control, settings, now)
}

impl<'a> Play<'a> {
    /// `wall` gives the wall clock at each step, in microseconds on top of the time since the start.
    fn new(wall: &'a dyn Fn(usize) -> i64) -> Self {
        let now = Now { instant: Instant::ZERO, unix: UnixTime::from_micros(wall(0)) };
        Play {
            api: api(Records::default(), None, now),
            rows: BTreeMap::new(),
            elapsed: Duration::ZERO,
            step: 0,
            wall,
            outcomes: Vec::new(),
            tokens: BTreeMap::new(),
        }
    }

    fn now(&self) -> Now {
        let unix = UnixTime::from_micros((self.wall)(self.step)) + self.elapsed;
        Now { instant: Instant::ZERO + self.elapsed, unix }
    }

    /// Lets time pass, with all that is due meanwhile.
    fn wait(&mut self, seconds: u64) {
        let end = self.elapsed + Duration::from_secs(seconds);
        self.step += 1;
        while let Some(due) = self.api.poll_timeout().filter(|due| *due <= Instant::ZERO + end) {
            self.elapsed = self.elapsed.max(due.since(Instant::ZERO));
            let now = self.now();
            let effects = self.api.poll(None, now);
            self.keep(&effects.changes, now);
        }
        self.elapsed = end;
    }

    fn keep(&mut self, changes: &[Change], now: Now) {
        let mut rows = Vec::new();
        for change in changes {
            records::rows(self.api.control(), change, now, &mut rows);
        }
        self.store(rows);
    }

    fn store(&mut self, rows: Vec<Row>) {
        for row in rows {
            match row.value {
                Some(value) => self.rows.insert((row.table, row.key), value),
                None => self.rows.remove(&(row.table, row.key)),
            };
        }
    }

    fn ask(&mut self, name: &'static str, by: &str, method: &str, path: &str, body: &str) -> String {
        self.step += 1;
        let now = self.now();
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let request = Request {
            method: Method::from_str(method).unwrap(),
            path: path.to_owned(),
            query: query.to_owned(),
            authorization: self.tokens.get(by).map(|token| format!("Bearer {token}")),
            host: None,
            origin: None,
            if_none_match: None,
            forwarded_for: None,
            is_forwarded: false,
            body: body.as_bytes().to_vec(),
            source: Source::Ip([203, 0, 113, 7].into()),
            local: None,
        };
        let outcome = self.api.handle(&request, &Surroundings::default(), now).outcome;
        let effects = self.api.drain(None, now);
        self.keep(&effects.changes, now);
        let Outcome::Answer(answer) = outcome else { panic!("nobody asked for a backup") };
        self.outcomes.push((name, answer.status.into()));
        String::from_utf8(answer.body).unwrap()
    }

    fn register(&mut self, name: &'static str, peer: &str) {
        let body = self.ask(name, peer, "POST", &format!("/auth/register?peer_id={peer}"), "");
        let body = json::parse(body.as_bytes()).unwrap();
        if let Some(token) = body.get("token").and_then(|token| token.as_str()) {
            self.tokens.insert(peer.to_owned(), token.to_owned());
        }
    }

    fn say(&mut self, name: &'static str, text: &str) {
        self.step += 1;
        let now = self.now();
        let reply = self.api.message(SESSION, text, &Surroundings::default(), now);
        let effects = self.api.drain(Some(SESSION), now);
        let heard = self.api.reply(SESSION, reply, now).len() + effects.deliveries.len();
        self.keep(&effects.changes, now);
        self.outcomes.push((name, heard));
    }

    /// Ends and starts again, in good order or not.
    fn restart(&mut self, in_order: bool) {
        self.step += 1;
        if in_order {
            let now = self.now();
            let tokens = records::all_tokens(self.api.control(), now);
            self.store(tokens);
            self.store(vec![records::stopped(Some(now.unix))]);
        }
        self.step += 1;
        let rows = std::mem::take(&mut self.rows);
        self.rows = rows.clone();
        let rows = rows.into_iter().map(|((table, key), value)| Row { table, key, value: Some(value) });
        let loaded = records::load(rows.collect());
        assert_eq!(loaded.unreadable, Vec::<String>::new());
        let now = self.now();
        self.api = api(loaded.records, None, now);
        let changes = self.api.drain(None, now).changes;
        self.keep(&changes, now);
        self.store(vec![records::stopped(None)]);
    }

    fn count(&mut self) {
        let control = self.api.control();
        self.outcomes.push(("parties", control.party_count()));
        self.outcomes.push(("peers", control.peer_count()));
        self.outcomes.push(("relays", control.relays().iter().count()));
        self.outcomes.push(("tokens", control.tokens().len()));
    }
}

/// Everything that has to do with time, once. Returns what came of it, the number of steps, and which steps
/// were starts after a stop in good order.
fn script(wall: &dyn Fn(usize) -> i64) -> (Outcomes, usize, Vec<usize>) {
    let mut play = Play::new(wall);
    let mut starts = Vec::new();
    for peer in ["host", "bob", "carol"] {
        play.register("register", peer);
    }
    let body = play.ask("create", "host", "POST", "/parties", &create_body("LAN", "host"));
    let id = json::parse(body.as_bytes()).unwrap().get("party_id").unwrap().as_str().unwrap().to_owned();
    let again = play.ask("repeated create", "host", "POST", "/parties", &create_body("LAN", "host"));
    assert!(again.contains(&id), "a repeated create gives the same party");
    let party = format!("/parties/{id}");
    for peer in ["bob", "carol"] {
        play.ask("join", peer, "POST", &format!("{party}/join"), &join_body(&id, peer));
    }
    let relay = r#"{"relay_id":"r","public_ip":"203.0.113.9","port":51820,"region":"eu"}"#;
    play.ask("relay", "bob", "POST", "/relays", relay);
    let signal = r#"{"to_peer_id":"carol","signal_data":{"offer":1}}"#;
    play.ask("signal", "bob", "POST", &format!("{party}/signals"), signal);
    play.ask("signals", "carol", "GET", &format!("{party}/peers/carol/signals"), "");

    let head = RequestHead::parse(b"GET /ws HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let upgrade = Request::new(head, Vec::new(), Source::Ip([203, 0, 113, 8].into()), None);
    let now = play.now();
    play.api.open_session(SESSION, &upgrade, now).unwrap();
    let dave = crate::client::peer("dave");
    play.say(
        "join by message",
        &format!("{{\"type\":\"join_party\",\"party_id\":\"{id}\",\"peer\":{dave}}}"),
    );
    play.say("heartbeat", &format!("{{\"type\":\"heartbeat\",\"party_id\":\"{id}\",\"peer_id\":\"dave\"}}"));
    play.api.close_session(SESSION);

    // Four minutes with heartbeats of all but carol, who then goes stale; and dave has no socket any more.
    for _ in 0..8 {
        play.wait(30);
        for peer in ["host", "bob"] {
            play.ask("heartbeat", peer, "POST", &format!("{party}/peers/{peer}/heartbeat"), "");
        }
    }
    play.ask("still there", "bob", "GET", &format!("{party}/peers/carol"), "");
    play.ask("relay again", "bob", "POST", "/relays", relay);
    for _ in 0..4 {
        play.wait(30);
        for peer in ["host", "bob"] {
            play.ask("heartbeat", peer, "POST", &format!("{party}/peers/{peer}/heartbeat"), "");
        }
    }
    play.wait(60);
    play.ask("gone", "bob", "GET", &format!("{party}/peers/carol"), "");
    play.ask("rejoin", "carol", "POST", &format!("{party}/join"), &join_body(&id, "carol"));
    play.count();

    for in_order in [true, false, true] {
        play.restart(in_order);
        if in_order {
            starts.push(play.step);
        }
        for peer in ["host", "bob", "carol"] {
            play.ask(
                "heartbeat after a restart",
                peer,
                "POST",
                &format!("{party}/peers/{peer}/heartbeat"),
                "",
            );
        }
        play.ask("relays", "bob", "GET", "/relays/eu", "");
        play.count();
        play.wait(10);
    }

    // The host goes stale, bob inherits; the relay goes stale too.
    for _ in 0..14 {
        play.wait(30);
        play.ask("heartbeat", "bob", "POST", &format!("{party}/peers/bob/heartbeat"), "");
    }
    let ban = r#"{"peer_id":"host"}"#;
    play.ask("ban by the heir", "bob", "POST", &format!("{party}/bans"), ban);
    play.ask("banned", "host", "POST", &format!("{party}/join"), &join_body(&id, "host"));
    play.wait(600);
    play.count();

    // Tokens slide when they are used in the second half of their day, and end when they are not.
    play.wait(13 * 3600);
    play.ask("token used", "bob", "GET", "/relays", "");
    play.wait(13 * 3600);
    play.ask("extended token", "bob", "GET", "/relays", "");
    play.ask("expired token", "carol", "GET", "/relays", "");
    play.restart(true);
    starts.push(play.step);
    play.ask("extended token after a restart", "bob", "GET", "/relays", "");
    play.count();
    (play.outcomes, play.step, starts)
}

#[test]
fn nothing_depends_on_what_the_wall_clock_says() {
    let (expected, steps, starts) = script(&|_| TODAY);
    let of = |name| {
        expected.iter().filter(|(step, _)| *step == name).map(|(_, outcome)| *outcome).collect::<Vec<_>>()
    };
    assert_eq!(of("still there"), [200]);
    assert_eq!(of("gone"), [404]);
    assert_eq!(of("banned"), [403]);
    assert_eq!(of("ban by the heir"), [200]);
    assert_eq!(
        (of("token used"), of("extended token"), of("expired token")),
        (vec![200], vec![200], vec![401])
    );
    assert_eq!(of("heartbeat after a restart"), [200; 9]);
    assert!(steps > 60);

    for constant in [0, -YEARS_50, TODAY + YEARS_50, i64::MIN, i64::MAX] {
        assert_eq!(script(&|_| constant).0, expected, "always {constant}");
    }
    for step in 1..=steps {
        for (before, after) in [
            (0, TODAY),
            (TODAY, 0),
            (TODAY, TODAY + YEARS_50),
            (TODAY, TODAY - YEARS_50),
            (i64::MAX, i64::MIN),
        ] {
            // From one believable time to a later one while nobody watched: then that much time has passed.
            if starts.contains(&step) && before == TODAY && after > before {
                continue;
            }
            let wall = |at| if at < step { before } else { after };
            assert_eq!(script(&wall).0, expected, "from {before} to {after} at step {step} of {steps}");
        }
    }
    let to_and_fro = |at: usize| if at.is_multiple_of(2) { TODAY } else { TODAY - YEARS_50 };
    assert_eq!(script(&to_and_fro).0, expected, "to and fro");
}
