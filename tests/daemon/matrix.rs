//! Who may do what: every actor at every route.

use crate::client::{self, create_body, join_body};
use crate::clocks::api;
use crate::test_daemon::{Setup, TestDaemon};
use lanrage::api::metrics::Surroundings;
use lanrage::api::routes::ROUTES;
use lanrage::api::{Api, Outcome};
use lanrage::control::record::Records;
use lanrage::time::{Instant, Now, UnixTime};
use lanrage::wire::http::{Request, Source};
use std::collections::BTreeSet;
use std::str::FromStr;
use std::time::Duration;
use tiny_http::Method;

const ADMIN_TOKEN: &str = "an-admin-token-of-some-length";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Actor {
    /// No token, from elsewhere.
    Nobody,
    /// A token that nobody was given.
    WrongToken,
    /// Registered, and in no party.
    Stranger,
    Member,
    Host,
    /// Banned by the host, with a token that is still good.
    Banned,
    /// The owner over the Unix socket.
    Owner,
    /// Whoever has the admin token, from elsewhere.
    Admin,
    /// No token, on the same machine.
    Local,
}

use Actor::{Admin, Banned, Host, Local, Member, Nobody, Owner, Stranger, WrongToken};

const ACTORS: [Actor; 9] = [Nobody, WrongToken, Stranger, Member, Host, Banned, Owner, Admin, Local];

impl Actor {
    /// The peer that this is; for those who are none, an id that is free.
    fn peer(self) -> &'static str {
        match self {
            Stranger => "stranger",
            Member => "member",
            Host => "host",
            Banned => "banned",
            _ => "free",
        }
    }
}

/// Whom a request speaks of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum About {
    /// No peer, or always the same one.
    All,
    /// The one who asks.
    Oneself,
    /// The member, whoever asks.
    AMember,
    /// No peer, and nothing that is secret.
    Redacted,
}

use About::{AMember, All, Oneself, Redacted};

/// Method, path, whom it speaks of, and the status for each of `ACTORS`.
type Line = (&'static str, &'static str, About, [u16; 9]);

#[rustfmt::skip]
const MATRIX: &[Line] = &[
    //                                                                        nobody wrong strang member host banned owner admin local
    ("GET",    "/",                                               All,      [200,  200,  200,   200,   200,  200,  200,  200,  200]),
    ("POST",   "/auth/register",                                  Oneself,  [200,  200,  200,   200,   200,  200,  200,  200,  200]),
    ("POST",   "/auth/register",                                  AMember,  [409,  409,  409,   200,   409,  409,  409,  409,  409]),
    ("GET",    "/auth/nonce",                                     AMember,  [200,  200,  200,   200,   200,  200,  200,  200,  200]),
    ("GET",    "/parties",                                        All,      [401,  401,  403,   403,   403,  403,  200,  200,  401]),
    ("POST",   "/parties",                                        Oneself,  [401,  401,  200,   200,   200,  200,  403,  403,  401]),
    ("POST",   "/parties",                                        AMember,  [401,  401,  403,   200,   403,  403,  403,  403,  401]),
    ("GET",    "/parties/{party_id}",                             All,      [401,  401,  200,   200,   200,  403,  200,  200,  401]),
    ("DELETE", "/parties/{party_id}",                             All,      [401,  401,  403,   403,   200,  403,  200,  200,  401]),
    ("POST",   "/parties/{party_id}/join",                        Oneself,  [401,  401,  200,   200,   200,  403,  403,  403,  401]),
    ("POST",   "/parties/{party_id}/join",                        AMember,  [401,  401,  403,   200,   403,  403,  403,  403,  401]),
    ("GET",    "/parties/{party_id}/peers",                       All,      [401,  401,  200,   200,   200,  403,  200,  200,  401]),
    ("GET",    "/parties/{party_id}/peers/{peer_id}",             Oneself,  [401,  401,  404,   200,   200,  403,  404,  404,  401]),
    ("GET",    "/parties/{party_id}/peers/{peer_id}",             AMember,  [401,  401,  200,   200,   200,  403,  200,  200,  401]),
    ("DELETE", "/parties/{party_id}/peers/{peer_id}",             Oneself,  [401,  401,  404,   200,   200,  404,  404,  404,  401]),
    ("DELETE", "/parties/{party_id}/peers/{peer_id}",             AMember,  [401,  401,  403,   200,   200,  403,  200,  200,  401]),
    ("POST",   "/parties/{party_id}/peers/{peer_id}/heartbeat",   Oneself,  [401,  401,  404,   200,   200,  404,  403,  403,  401]),
    ("POST",   "/parties/{party_id}/peers/{peer_id}/heartbeat",   AMember,  [401,  401,  403,   200,   403,  403,  403,  403,  401]),
    ("POST",   "/parties/{party_id}/signals",                     AMember,  [401,  401,  403,   200,   200,  403,  403,  403,  401]),
    ("GET",    "/parties/{party_id}/peers/{peer_id}/signals",     Oneself,  [401,  401,  404,   200,   200,  404,  403,  403,  401]),
    ("GET",    "/parties/{party_id}/peers/{peer_id}/signals",     AMember,  [401,  401,  403,   200,   403,  403,  403,  403,  401]),
    ("GET",    "/parties/{party_id}/bans",                        All,      [401,  401,  403,   403,   200,  403,  200,  200,  401]),
    ("POST",   "/parties/{party_id}/bans",                        AMember,  [401,  401,  403,   403,   200,  403,  200,  200,  401]),
    ("DELETE", "/parties/{party_id}/bans",                        All,      [401,  401,  403,   403,   200,  403,  200,  200,  401]),
    ("POST",   "/parties/{party_id}/settings",                    All,      [401,  401,  403,   403,   200,  403,  200,  200,  401]),
    ("GET",    "/parties/{party_id}/devices",                     All,      [401,  401,  403,   403,   200,  403,  200,  200,  401]),
    ("POST",   "/parties/{party_id}/devices",                     All,      [401,  401,  403,   403,   200,  403,  200,  200,  401]),
    ("DELETE", "/parties/{party_id}/devices/{peer_id}",           Oneself,  [401,  401,  403,   403,   409,  403,  404,  404,  401]),
    ("DELETE", "/parties/{party_id}/devices/{peer_id}",           AMember,  [401,  401,  403,   403,   409,  403,  409,  409,  401]),
    ("GET",    "/parties/{party_id}/invites",                     All,      [401,  401,  403,   403,   200,  403,  200,  200,  401]),
    ("POST",   "/parties/{party_id}/invites",                     All,      [401,  401,  403,   403,   200,  403,  200,  200,  401]),
    ("DELETE", "/parties/{party_id}/invites/{invite_id}",         All,      [401,  401,  403,   403,   404,  403,  404,  404,  401]),
    ("POST",   "/invites/preview",                                All,      [404,  404,  404,   404,   404,  404,  404,  404,  404]),
    ("POST",   "/invites/redeem",                                 All,      [404,  404,  404,   404,   404,  404,  404,  404,  404]),
    ("GET",    "/devices/self",                                   All,      [401,  401,  401,   401,   401,  401,  401,  401,  401]),
    ("GET",    "/public-parties",                                 All,      [200,  200,  200,   200,   200,  200,  200,  200,  200]),
    ("GET",    "/overview",                                       All,      [401,  401,  403,   403,   403,  403,  200,  200,  401]),
    ("GET",    "/events",                                         All,      [401,  401,  403,   403,   403,  403,  200,  200,  401]),
    ("POST",   "/ui/setups",                                      All,      [401,  401,  403,   403,   403,  403,  200,  200,  401]),
    ("POST",   "/ui/sessions",                                    All,      [401,  401,  401,   401,   401,  401,  401,  401,  401]),
    ("DELETE", "/ui/sessions",                                    All,      [401,  401,  403,   403,   403,  403,  200,  200,  401]),
    ("POST",   "/ui/settings",                                    All,      [401,  401,  403,   403,   403,  403,  200,  200,  401]),
    ("GET",    "/relays",                                         All,      [401,  401,  200,   200,   200,  200,  200,  200,  401]),
    ("POST",   "/relays",                                         All,      [401,  401,  200,   200,   200,  200,  401,  401,  401]),
    ("GET",    "/relays/{region}",                                All,      [401,  401,  200,   200,   200,  200,  200,  200,  401]),
    ("GET",    "/relay-approvals",                                All,      [401,  401,  403,   403,   403,  403,  200,  200,  401]),
    ("POST",   "/relay-approvals/{relay_id}",                     All,      [401,  401,  403,   403,   403,  403,  404,  404,  401]),
    ("DELETE", "/relay-approvals/{relay_id}",                     All,      [401,  401,  403,   403,   403,  403,  404,  404,  401]),
    ("GET",    "/metrics",                                        All,      [401,  401,  403,   403,   403,  403,  200,  200,  200]),
    ("GET",    "/openapi.json",                                   All,      [200,  200,  200,   200,   200,  200,  200,  200,  200]),
    ("GET",    "/status",                                         All,      [401,  401,  403,   403,   403,  403,  200,  200,  200]),
    ("GET",    "/ui",                                          All,      [200,  200,  200,   200,   200,  200,  200,  200,  200]),
    ("GET",    "/ui/",                                         All,      [200,  200,  200,   200,   200,  200,  200,  200,  200]),
    ("GET",    "/ui/owner.js",                                 All,      [200,  200,  200,   200,   200,  200,  200,  200,  200]),
    ("GET",    "/ui/owner.css",                                All,      [200,  200,  200,   200,   200,  200,  200,  200,  200]),
    ("GET",    "/join",                                        All,      [200,  200,  200,   200,   200,  200,  200,  200,  200]),
    ("POST",   "/join",                                           All,      [404,  404,  404,   404,   404,  404,  404,  404,  404]),
    ("GET",    "/join/guest.js",                               All,      [200,  200,  200,   200,   200,  200,  200,  200,  200]),
    ("GET",    "/join/guest.css",                              All,      [200,  200,  200,   200,   200,  200,  200,  200,  200]),
    ("GET",    "/backup",                                         All,      [401,  401,  403,   403,   403,  403,  200,  200,  401]),
    ("GET",    "/backup",                                         Redacted, [401,  401,  403,   403,   403,  403,  200,  200,  401]),
    ("POST",   "/restore",                                        All,      [401,  401,  403,   403,   403,  403,  400,  400,  401]),
];

/// What comes of a request: the status, and `Allow` if it was there.
type Verdict = (u16, Option<String>);

/// A way to ask, as somebody with this token.
trait World {
    fn ask(
        &mut self,
        by: Actor,
        token: Option<&str>,
        method: &str,
        path: &str,
        body: &str,
    ) -> (Verdict, String);
}

/// The API alone.
struct Alone {
    api: Api,
    now: Now,
}

impl Alone {
    fn new() -> Self {
        let unix = UnixTime::from_micros(1_795_000_000_000_000);
        let now = Now { instant: Instant::ZERO + Duration::from_secs(100), unix };
        Alone { api: api(Records::default(), Some(ADMIN_TOKEN), now), now }
    }
}

impl World for Alone {
    fn ask(
        &mut self,
        by: Actor,
        token: Option<&str>,
        method: &str,
        path: &str,
        body: &str,
    ) -> (Verdict, String) {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let source = match by {
            Owner => Source::Unix,
            Local => Source::Ip([127, 0, 0, 1].into()),
            _ => Source::Ip([203, 0, 113, 7].into()),
        };
        let request = Request {
            method: Method::from_str(method).unwrap(),
            path: path.to_owned(),
            query: query.to_owned(),
            authorization: token.map(|token| format!("Bearer {token}")),
            host: None,
            origin: None,
            if_none_match: None,
            forwarded_for: None,
            is_forwarded: false,
            body: body.as_bytes().to_vec(),
            source,
            local: None,
        };
        let outcome = self.api.handle(&request, &Surroundings::default(), self.now).outcome;
        self.api.drain(None, self.now);
        match outcome {
            Outcome::Backup { .. } => ((200, None), String::new()),
            // Nothing is in the body that is to come.
            Outcome::Restore { .. } => ((400, None), r#"{"detail":"empty"}"#.to_owned()),
            Outcome::Answer(answer) => {
                let allow = answer.headers.iter().find(|(name, _)| *name == "Allow");
                let allow = allow.map(|(_, value)| value.clone());
                // Pages are compressed.
                ((answer.status, allow), String::from_utf8(answer.body).unwrap_or_default())
            }
        }
    }
}

/// The whole daemon, asked by a proxy that it was not told of for everybody who is not on this machine.
struct Whole(TestDaemon);

impl Whole {
    fn new() -> Self {
        let settings = [
            ("admin_token", ADMIN_TOKEN),
            ("rates.requests", "100000/100000"),
            ("rates.creations", "100000/100000"),
            ("rates.changes", "100000/100000"),
        ];
        Whole(Setup::new(&settings).start())
    }
}

impl World for Whole {
    fn ask(
        &mut self,
        by: Actor,
        token: Option<&str>,
        method: &str,
        path: &str,
        body: &str,
    ) -> (Verdict, String) {
        let mut client = match by {
            Owner => self.0.owner(),
            _ => self.0.client(),
        };
        client.forwarded_for = (!matches!(by, Owner | Local)).then_some("203.0.113.7");
        client.token = token.map(str::to_owned);
        let answer = client.ask(method, path, body);
        ((answer.status, answer.header("Allow").map(str::to_owned)), answer.body)
    }
}

/// A party with everybody in it who belongs there. Ids end in `suffix`, so that many fit in one world.
struct Scene {
    party: String,
    suffix: usize,
    tokens: Vec<(Actor, String)>,
}

impl Scene {
    fn set(world: &mut dyn World, suffix: usize) -> Self {
        let mut scene = Scene { party: String::new(), suffix, tokens: Vec::new() };
        let wrong = "x".repeat(43);
        scene.tokens.extend([(WrongToken, wrong), (Admin, ADMIN_TOKEN.to_owned())]);
        for actor in [Stranger, Member, Host, Banned] {
            let path = format!("/auth/register?peer_id={}", scene.id(actor));
            let (verdict, body) = world.ask(actor, None, "POST", &path, "");
            assert_eq!(verdict.0, 200, "{body}");
            scene.tokens.push((actor, found(&body, "token")));
        }
        scene.party =
            found(&scene.must(world, Host, "/parties", &create_body("LAN", &scene.id(Host))), "party_id");
        for actor in [Member, Banned] {
            let body = join_body(&scene.party, &scene.id(actor));
            scene.must(world, actor, &format!("/parties/{}/join", scene.party), &body);
        }
        let ban = format!("{{\"peer_id\":\"{}\"}}", scene.id(Banned));
        scene.must(world, Host, &format!("/parties/{}/bans", scene.party), &ban);
        scene
    }

    fn id(&self, actor: Actor) -> String {
        format!("{}-{}", actor.peer(), self.suffix)
    }

    fn token(&self, actor: Actor) -> Option<&str> {
        self.tokens.iter().find(|(other, _)| *other == actor).map(|(_, token)| token.as_str())
    }

    fn must(&self, world: &mut dyn World, by: Actor, path: &str, body: &str) -> String {
        let (verdict, answer) = world.ask(by, self.token(by), "POST", path, body);
        assert_eq!(verdict.0, 200, "{path} {answer}");
        answer
    }

    /// Path with query, and body, of a request that is all right but for who sends it.
    fn request(&self, by: Actor, method: &str, path: &str, about: About) -> (String, String) {
        let peer = self.id(if about == Oneself { by } else { Member });
        let names = [
            ("party_id", self.party.as_str()),
            ("peer_id", &peer),
            ("peer", &client::peer(&peer)),
            ("banned", &self.id(Banned)),
            ("number", &self.suffix.to_string()),
        ];
        let (query, body) = example(method, path);
        let query = if about == Redacted { "secrets=redacted" } else { query };
        (filled(&format!("{path}?{query}"), &names), filled(body, &names))
    }

    fn ask(&self, world: &mut dyn World, by: Actor, line: &Line, method: &str) -> (Verdict, String) {
        let (path, body) = self.request(by, line.0, line.1, line.2);
        let body = if method == line.0 { body } else { String::new() };
        world.ask(by, self.token(by), method, &path, &body)
    }
}

/// A good query and body for a route that takes them. What varies is in braces, as in paths.
pub fn example(method: &str, path: &str) -> (&'static str, &'static str) {
    match (method, path) {
        (_, "/auth/register" | "/auth/nonce") => ("peer_id={peer_id}", ""),
        ("POST", "/parties") => ("", r#"{"name":"LAN","host_peer_info":{peer}}"#),
        ("POST", "/parties/{party_id}/join") => ("", r#"{"party_id":"{party_id}","peer_info":{peer}}"#),
        ("POST", "/parties/{party_id}/signals") => {
            ("", r#"{"to_peer_id":"{peer_id}","signal_data":{"sdp":[1,2.5e3,true,null,"x"]}}"#)
        }
        ("POST", "/parties/{party_id}/bans") => ("", r#"{"peer_id":"{peer_id}","public_key":null}"#),
        ("DELETE", "/parties/{party_id}/bans") => ("peer_id={banned}", ""),
        ("POST", "/parties/{party_id}/settings") => ("", r#"{"access":"invite","ends_at":null}"#),
        ("POST", "/parties/{party_id}/devices") => {
            ("", r#"{"name":"Phone","public_key":"3wP+qdf8GBCnC5vFAUWSGm1/7mLgtdyzYCPI+Z5GYhA="}"#)
        }
        ("POST", "/parties/{party_id}/invites") => ("", r#"{"uses":2,"expires_in":3600,"code":false}"#),
        ("POST", "/ui/sessions") => ("", r#"{"setup":"x"}"#),
        ("POST", "/ui/settings") => ("", r#"{"public_endpoint":"203.0.113.7:51820"}"#),
        ("POST", "/invites/preview") => ("", r#"{"token":"AAAAAAAAAAAAAAAAAAAAAA"}"#),
        ("POST", "/invites/redeem") => (
            "",
            r#"{"token":"AAAAAAAAAAAAAAAAAAAAAA","name":"Bob","public_key":"3wP+qdf8GBCnC5vFAUWSGm1/7mLgtdyzYCPI+Z5GYhA="}"#,
        ),
        ("POST", "/join") => {
            ("", "code=ABCDEFGH&name=Bob&public_key=3wP%2Bqdf8GBCnC5vFAUWSGm1%2F7mLgtdyzYCPI%2BZ5GYhA%3D")
        }
        ("POST", "/relay-approvals/{relay_id}") => ("", r#"{"public_key":"AAAAAAAA"}"#),
        ("POST", "/relays") => (
            "",
            r#"{"relay_id":"r-{number}","public_ip":"203.0.113.7","port":51820,"region":"eu","capacity":100,"public_key":"k","load":3}"#,
        ),
        _ => ("", ""),
    }
}

/// With these in place of their names; of any other name, the name itself.
pub fn filled(text: &str, names: &[(&str, &str)]) -> String {
    let text =
        names.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value));
    text.replace("{region}", "region").replace("{invite_id}", "000000000000")
}

/// The text of a member of an object.
fn found(body: &str, name: &str) -> String {
    let body = lanrage::wire::json::parse(body.as_bytes()).unwrap();
    body.get(name).and_then(|value| value.as_str()).unwrap().to_owned()
}

#[test]
fn the_matrix_is_complete() {
    let wanted: BTreeSet<_> = ROUTES.iter().map(|route| (route.method, route.path)).collect();
    let there: BTreeSet<_> = MATRIX.iter().map(|line| (line.0, line.1)).collect();
    assert_eq!(there, wanted);
    for (method, path, ..) in MATRIX.iter().filter(|line| line.1.contains("{peer_id}")) {
        let same = MATRIX.iter().filter(|line| (line.0, line.1) == (*method, *path));
        let about: BTreeSet<About> = same.map(|line| line.2).collect();
        assert_eq!(about, [Oneself, AMember].into(), "{method} {path}");
    }
}

#[test]
fn every_actor_gets_what_the_matrix_says() {
    for line in MATRIX {
        for (actor, status) in ACTORS.into_iter().zip(line.3) {
            let mut world = Alone::new();
            let scene = Scene::set(&mut world, 0);
            let (verdict, body) = scene.ask(&mut world, actor, line, line.0);
            let what = format!("{actor:?} {} {} {:?}: {body}", line.0, line.1, line.2);
            assert_eq!(verdict, (status, None), "{what}");
            if status != 200 {
                assert!(status == 404 || !body.contains("404"), "{what}");
                found(&body, "detail");
            }
        }
    }
}

/// Every path, and its methods in their order.
fn paths() -> Vec<(&'static str, Vec<&'static str>)> {
    let mut paths: Vec<(&str, Vec<&str>)> = Vec::new();
    for route in ROUTES {
        match paths.iter_mut().find(|(path, _)| *path == route.path) {
            Some((_, methods)) => methods.push(route.method),
            None => paths.push((route.path, vec![route.method])),
        }
    }
    paths
}

/// HEAD is for whoever may GET.
#[test]
fn head_is_get_without_a_body() {
    for line in MATRIX.iter().filter(|line| line.0 == "GET") {
        for (actor, status) in ACTORS.into_iter().zip(line.3) {
            let mut world = Alone::new();
            let scene = Scene::set(&mut world, 0);
            let (verdict, _) = scene.ask(&mut world, actor, line, "HEAD");
            assert_eq!(verdict.0, status, "{actor:?} {}", line.1);
        }
    }
}

/// Whoever asks: the method is looked at before the token.
#[test]
fn a_wrong_method_is_told_the_right_ones() {
    let methods = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "CONNECT", "TRACE", "BREW"];
    let (mut world, mut tried) = (Alone::new(), 0);
    let scene = Scene::set(&mut world, 0);
    for (path, allow) in paths() {
        for method in methods {
            if allow.contains(&method) || (method == "HEAD" && allow.contains(&"GET")) {
                continue;
            }
            for actor in [Owner, Local] {
                let (path, _) = scene.request(actor, "GET", path, All);
                let (verdict, _) = world.ask(actor, scene.token(actor), method, &path, "");
                assert_eq!(verdict, (405, Some(allow.join(", "))), "{method} {path}");
                tried += 1;
            }
        }
    }
    assert!(tried > 200);
    for path in ["/nothing", "/parties/", "/parties/x/y", "//", "/metrics/x"] {
        for actor in ACTORS {
            assert_eq!(world.ask(actor, scene.token(actor), "GET", path, "").0, (404, None), "{path}");
        }
    }
}

/// The same over real sockets, for those that the daemon tells apart by where they come from.
#[test]
fn the_running_daemon_keeps_to_the_matrix() {
    let mut world = Whole::new();
    for (number, line) in MATRIX.iter().enumerate() {
        for (column, actor) in ACTORS.into_iter().enumerate() {
            if !matches!(actor, Nobody | Member | Banned | Owner | Admin | Local) {
                continue;
            }
            let scene = Scene::set(&mut world, number * 10 + column);
            let (verdict, body) = scene.ask(&mut world, actor, line, line.0);
            let what = format!("{actor:?} {} {} {:?}: {body}", line.0, line.1, line.2);
            // Here strangers come by a proxy that nobody trusts: its address is no relay's.
            let is_stranger = !matches!(actor, Owner | Admin | Local);
            let is_elsewhere =
                is_stranger && line.3[column] == 200 && (line.0, line.1) == ("POST", "/relays");
            let expected = if is_elsewhere { 403 } else { line.3[column] };
            assert_eq!(verdict, (expected, None), "{what}");
        }
    }
    let scene = Scene::set(&mut world, 999);
    for (path, allow) in paths() {
        let (path, _) = scene.request(Nobody, "GET", path, All);
        let (verdict, _) = world.ask(Nobody, None, "PATCH", &path, "");
        assert_eq!(verdict, (405, Some(allow.join(", "))), "{path}");
    }
}
