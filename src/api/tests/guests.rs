//! Invites, devices and the owner's pages, as each is asked for.

use super::*;

const PHONE: &str = "3wP+qdf8GBCnC5vFAUWSGm1/7mLgtdyzYCPI+Z5GYhA=";
const TABLET: &str = "Hq1MC4PQ7kcMpo8zAAZQ8AEZyVgtzL9NqbCXClnf0Gw=";

fn text(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or_else(|| panic!("no {name} in {value:?}")).to_owned()
}

fn number(value: &Value, name: &str) -> i64 {
    match value.get(name) {
        Some(Value::Number(number)) => number.parse().unwrap(),
        other => panic!("{name} is {other:?}"),
    }
}

fn items<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    match value.get(name) {
        Some(Value::Array(items)) => items,
        other => panic!("{name} is {other:?}"),
    }
}

impl TestApi {
    /// As the owner, over the Unix socket.
    fn own(&mut self, method: Method, target: &str, body: &str) -> (u16, Value) {
        let answer = self.ask_from(Source::Unix, method, target, None, body);
        (answer.status, parse(&answer.body).unwrap())
    }

    fn own_party(&mut self, access: &str) -> String {
        let body = format!("{{\"name\":\"Friday games\",\"access\":\"{access}\"}}");
        let (status, answer) = self.own(Method::Post, "/parties", &body);
        assert_eq!(status, 200, "{answer:?}");
        assert_eq!(text(answer.get("party").unwrap(), "host_id"), "_machine");
        text(&answer, "party_id")
    }

    fn invite(&mut self, party: &str, body: &str) -> (String, String) {
        let (status, answer) = self.own(Method::Post, &format!("/parties/{party}/invites"), body);
        assert_eq!(status, 200, "{answer:?}");
        let kind = if answer.get("code").is_some() { "code" } else { "token" };
        (text(&answer, kind), text(&answer, "invite_id"))
    }

    fn redeem(&mut self, from: &str, secret: &str, key: &str) -> (u16, Value) {
        let body = format!("{{\"token\":\"{secret}\",\"name\":\"Bob's phone\",\"public_key\":\"{key}\"}}");
        let answer = self.ask_from(ip(from), Method::Post, "/invites/redeem", None, &body);
        (answer.status, parse(&answer.body).unwrap())
    }

    fn kinds(&mut self, after: u64) -> Vec<String> {
        let (_, answer) = self.own(Method::Get, &format!("/events?after={after}"), "");
        items(&answer, "events").iter().map(|event| text(event, "kind")).collect()
    }
}

#[test]
fn a_link_becomes_a_device_and_its_file() {
    let mut world = TestApi::new();
    let party = world.own_party("invite");
    let (token, id) = world.invite(&party, "{\"uses\":2}");
    let (status, seen) =
        world.ask(Method::Post, "/invites/preview", None, &format!("{{\"token\":\"{token}\"}}"));
    assert_eq!(
        (status, text(&seen, "party"), seen.get("host")),
        (200, "Friday games".into(), Some(&Value::Null))
    );
    assert_eq!((number(&seen, "uses_left"), number(&seen, "players")), (2, 0));
    let (status, answer) = world.redeem("203.0.113.9", &token, PHONE);
    assert_eq!(status, 200, "{answer:?}");
    let file = text(&answer, "text");
    let hub = world.api.control().hub().encode();
    assert_eq!(
        file,
        format!(
            "[Interface]\nAddress = 10.66.0.2/16\n\n[Peer]\nPublicKey = {hub}\nAllowedIPs = 10.66.0.0/16, \
             255.255.255.255/32, 224.0.0.0/4\nEndpoint = 192.0.2.1:51820\nPersistentKeepalive = 25\n"
        )
    );
    assert!(answer.get("private_key").is_none());
    assert_eq!(world.redeem("203.0.113.9", &token, PHONE), (200, answer.clone()), "the same again");
    // What waits for the app to be switched on.
    let own = text(&answer, "device_token");
    let (status, itself) = world.ask(Method::Get, "/devices/self", Some(&own), "");
    assert_eq!((status, text(&itself, "party")), (200, "Friday games".into()));
    assert_eq!(
        (itself.get("is_online"), itself.get("last_handshake")),
        (Some(&Value::Bool(false)), Some(&Value::Null))
    );
    assert_eq!(items(&itself, "members").len(), 1);
    for path in ["/parties", "/overview", "/relays", &format!("/parties/{party}")] {
        assert_eq!(
            world.ask(Method::Get, path, Some(&own), "").0,
            401,
            "it is good for nothing else: {path}"
        );
    }
    let (_, listed) = world.own(Method::Get, &format!("/parties/{party}/devices"), "");
    let device = &items(&listed, "devices")[0];
    assert_eq!((text(device, "name"), text(device, "public_key")), ("Bob's phone".into(), PHONE.into()));
    // Revoked, used up, unknown.
    let path = format!("/parties/{party}/invites/{id}");
    assert_eq!(world.own(Method::Delete, &path, "").0, 200);
    assert_eq!(world.redeem("203.0.113.9", &token, TABLET).0, 410);
    let (token, _) = world.invite(&party, "");
    assert_eq!(world.redeem("203.0.113.9", &token, TABLET).0, 200);
    assert_eq!(world.redeem("203.0.113.9", &token, &PHONE.replace('3', "4")).0, 409);
    assert_eq!(world.redeem("203.0.113.9", "AAAAAAAAAAAAAAAAAAAAAA", TABLET).0, 404);
    let device = text(&answer, "peer_id");
    assert_eq!(world.own(Method::Delete, &format!("/parties/{party}/devices/{device}"), "").0, 200);
    assert_eq!(world.ask(Method::Get, "/devices/self", Some(&own), "").0, 401);
    assert_eq!(
        world.kinds(0),
        ["party_created", "device_added", "invite_used", "device_added", "invite_used", "device_removed"]
    );
    assert_eq!(world.kinds(5), ["device_removed"]);
}

#[test]
fn a_device_brings_its_key_and_stays_for_its_time() {
    let mut world = TestApi::new();
    let party = world.own_party("open");
    let path = format!("/parties/{party}/devices");
    assert_eq!(world.own(Method::Post, &path, "{\"name\":\"Phone\"}").0, 422, "nobody here makes one");
    for low in ["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "key"] {
        let body = format!("{{\"name\":\"Phone\",\"public_key\":\"{low}\"}}");
        assert_eq!(world.own(Method::Post, &path, &body).0, 422, "{low}");
    }
    for (name, key, stay) in [("Phone", PHONE, ""), ("Tablet", TABLET, ",\"expires_in\":60")] {
        let body = format!("{{\"name\":\"{name}\",\"public_key\":\"{key}\"{stay}}}");
        let (status, answer) = world.own(Method::Post, &path, &body);
        assert_eq!((status, text(&answer, "name"), answer.get("private_key")), (200, name.into(), None));
    }
    let (_, listed) = world.own(Method::Get, &path, "");
    assert_eq!(items(&listed, "devices").len(), 2);
    world.wait(Duration::from_secs(180));
    let (_, listed) = world.own(Method::Get, &path, "");
    assert_eq!(items(&listed, "devices").len(), 1);
}

/// What a stock client does, with a code where a party's id belongs, and no other id ever.
#[test]
fn a_stock_client_plays_on_with_a_code_over_http() {
    let mut world = TestApi::new();
    let party = world.own_party("invite");
    let (code, _) = world.invite(&party, "{\"code\":true}");
    let (bob, eve) = (world.token("bob"), world.token("eve"));
    assert_eq!(world.join("eve", &party, &eve).0, 403, "by invitation alone");
    let (status, joined) = world.join("bob", &code, &bob);
    assert_eq!((status, peers_of(joined.get("party").unwrap())), (200, "bob".into()));
    assert_eq!(world.join("eve", &code, &eve).0, 409);
    assert_eq!(world.join("bob", &code, &bob).0, 200);
    let at = |rest: &str| format!("/parties/{code}{rest}");
    for (method, path, body) in [
        (Method::Get, at(""), ""),
        (Method::Get, at("/peers"), ""),
        (Method::Get, at("/peers/bob"), ""),
        (Method::Post, at("/peers/bob/heartbeat"), ""),
        (Method::Post, at("/signals"), "{\"to_peer_id\":\"bob\",\"signal_data\":1}"),
        (Method::Get, at("/peers/bob/signals"), ""),
    ] {
        assert_eq!(world.ask(method.clone(), &path, Some(&bob), body).0, 200, "{method} {path}");
        assert_ne!(world.ask(method.clone(), &path, Some(&eve), body).0, 200, "{method} {path}");
    }
    for path in ["", "/peers", "/peers/bob"].map(|rest| format!("/parties/{party}{rest}")) {
        assert_eq!(world.ask(Method::Get, &path, Some(&eve), "").0, 403, "members alone read it");
    }
    let (status, left) = world.ask(Method::Delete, &at("/peers/bob"), Some(&bob), "");
    assert_eq!((status, text(&left, "status")), (200, "left".into()));
}

#[test]
fn a_stock_client_plays_on_with_a_code_over_the_websocket() {
    let mut world = TestApi::new();
    let party = world.own_party("invite");
    let (code, _) = world.invite(&party, "{\"code\":true,\"uses\":2}");
    world.open(1, "198.51.100.1");
    world.say(1, &join_party(&party, "bob"));
    assert_eq!(world.heard(1), ["error"]);
    world.say(1, &join_party(&code.to_ascii_lowercase(), "bob"));
    assert_eq!(world.heard(1), ["party_update bob"]);
    world.open(2, "198.51.100.2");
    world.say(2, &join_party(&code, "carol"));
    assert_eq!(world.heard(2), ["party_update bob+carol"]);
    assert_eq!(world.heard(1), ["peer_joined carol"]);
    // It knows the party by that name alone, also after its connection broke.
    world.api.close_session(SessionId(1));
    world.open(1, "198.51.100.1");
    world.say(1, "{\"type\":\"auth\",\"peer_id\":\"bob\"}");
    world.wait(Duration::from_secs(100));
    let told: Vec<Value> = world.heard.remove(&1).unwrap();
    let ids = told.iter().filter_map(|message| message.get("party")).map(|party| text(party, "party_id"));
    assert!(told.len() >= 2 && ids.clone().all(|id| id == code.to_ascii_lowercase()), "{told:?}");
    world.heard.clear();
    world.open(3, "198.51.100.3");
    world.say(3, &join_party(&code, "eve"));
    assert_eq!(world.heard(3), ["error"]);
    world.say(1, &message("heartbeat", &code, "\"peer_id\":\"bob\""));
    world.say(1, &message("signal", &code, "\"to_peer_id\":\"carol\",\"signal_data\":1"));
    assert_eq!(world.heard(2), ["signal bob"]);
    world.say(1, &message("leave_party", &code, "\"peer_id\":\"bob\""));
    assert_eq!(world.heard(1), ["peer_left bob"]);
    assert_eq!(world.heard(2), ["peer_left bob"]);
}

#[test]
fn who_guesses_waits_and_keeps_nobody_else_waiting() {
    let mut world = TestApi::new();
    let party = world.own_party("invite");
    let (code, _) = world.invite(&party, "{\"code\":true,\"uses\":9}");
    let (token, _) = world.invite(&party, "{\"uses\":9}");
    let mallory = world.token("mallory");
    let wrong = |number: u32| format!("AAAAAA{}{}", number / 8 + 2, number % 8 + 2);
    let guess = |world: &mut TestApi, from: &str, code: &str| {
        let body = format!("{{\"code\":\"{code}\"}}");
        world.ask_from(ip(from), Method::Post, "/invites/preview", None, &body)
    };
    for number in 0..10 {
        let status = match number % 2 {
            0 => guess(&mut world, "198.51.100.1", &wrong(number)).status,
            _ => world.join("mallory", &wrong(number), &mallory).0,
        };
        assert_eq!(status, 404, "{number}");
    }
    let late = guess(&mut world, "198.51.100.1", &code);
    assert_eq!(late.status, 429, "the right one, too");
    assert!(late.headers.iter().any(|(name, _)| *name == "Retry-After"));
    assert_eq!(world.join("mallory", &code, &mallory).0, 429);
    assert_eq!(world.join("mallory", "anotherparty", &mallory).0, 404, "what is no code is no guess");
    world.open(1, "198.51.100.1");
    world.say(1, &join_party(&code, "bob"));
    assert_eq!(world.heard(1), ["error"]);
    assert_eq!(guess(&mut world, "203.0.113.1", &code).status, 200);
    assert_eq!(world.redeem("198.51.100.1", &token, PHONE).0, 200, "nobody guesses a link");
    world.pass(Duration::from_secs(61));
    assert_eq!(guess(&mut world, "198.51.100.1", &code).status, 200);
    // Sixty in all.
    let wrong_ones = (0..200u32)
        .filter(|number| guess(&mut world, &format!("203.0.{number}.1"), &wrong(number % 50)).status == 404);
    assert_eq!(wrong_ones.count(), 60);
    // Passwords are guessed like codes.
    world.pass(Duration::from_secs(61));
    let path = format!("/parties/{party}/settings");
    assert_eq!(world.own(Method::Post, &path, "{\"password\":\"sesame\"}").0, 200);
    let join = |world: &mut TestApi, password: &str| {
        let body =
            format!("{{\"party_id\":\"x\",\"peer_info\":{},\"password\":\"{password}\"}}", info("mallory"));
        world.ask(Method::Post, &format!("/parties/{party}/join"), Some(&mallory), &body).0
    };
    assert!((0..10).all(|_| join(&mut world, "x") == 403));
    assert_eq!(join(&mut world, "sesame"), 429);
    world.pass(Duration::from_secs(61));
    assert_eq!(join(&mut world, "sesame"), 200);
}

#[test]
fn a_ban_with_a_new_id_tells_who_stays_and_locks_out_who_does_not() {
    let mut world = TestApi::new();
    let (alice, bob, eve) = (world.token("alice"), world.token("bob"), world.token("eve"));
    let party = world.create("alice", &alice);
    world.join("bob", &party, &bob);
    world.join("eve", &party, &eve);
    world.open(1, "198.51.100.1");
    world.say(1, &format!("{{\"type\":\"auth\",\"token\":\"{bob}\"}}"));
    world.heard.clear();
    let (status, answer) = world.ask(
        Method::Post,
        &format!("/parties/{party}/bans"),
        Some(&alice),
        "{\"peer_id\":\"eve\",\"new_id\":true}",
    );
    let new = text(&answer, "party_id");
    assert!(status == 200 && new != party);
    let told = world.heard.remove(&1).unwrap();
    let update = told.iter().rev().find_map(|message| message.get("party")).unwrap();
    assert_eq!((text(update, "party_id"), peers_of(update)), (new.clone(), "alice+bob".into()));
    assert_eq!(world.ask(Method::Get, &format!("/parties/{party}"), Some(&eve), "").0, 404);
    let mallory = world.token("mallory");
    assert_eq!(world.join("mallory", &party, &mallory).0, 404);
    assert_eq!(
        world.ask(Method::Post, &format!("/parties/{party}/peers/bob/heartbeat"), Some(&bob), "").0,
        200
    );
    assert_eq!(world.join("mallory", &new, &mallory).0, 200);
}

#[test]
fn a_kick_can_take_the_invite_along() {
    let mut world = TestApi::new();
    let party = world.own_party("invite");
    let (code, _) = world.invite(&party, "{\"code\":true,\"uses\":9}");
    let bob = world.token("bob");
    world.join("bob", &code, &bob);
    assert_eq!(world.own(Method::Delete, &format!("/parties/{party}/peers/bob"), "").0, 200);
    assert_eq!(world.join("bob", &code, &bob).0, 200);
    assert_eq!(world.own(Method::Delete, &format!("/parties/{party}/peers/bob?revoke_invite=1"), "").0, 200);
    assert_eq!(world.join("bob", &code, &bob).0, 410);
}

#[test]
fn public_parties_are_known_to_everybody_and_no_others() {
    let mut world = TestApi::new();
    let public = world.own_party("public");
    world.own_party("open");
    let bob = world.token("bob");
    assert_eq!(world.join("bob", &public, &bob).0, 200);
    let (status, list) = world.ask(Method::Get, "/public-parties", None, "");
    assert_eq!((status, items(&list, "parties").len()), (200, 1));
    let only = &items(&list, "parties")[0];
    assert_eq!((text(only, "party_id"), number(only, "players"), number(only, "limit")), (public, 1, 64));
}

#[test]
fn pages_are_let_in_by_a_link_once_and_only_under_our_name() {
    let mut world = TestApi::new();
    let (_, offer) = world.own(Method::Post, "/ui/setups", "");
    let setup = text(&offer, "setup");
    let body = format!("{{\"setup\":\"{setup}\"}}");
    let mut foreign = TestApi::request(Method::Post, "/ui/sessions", None, &body, ip("192.0.2.5"));
    foreign.host = Some("rebound.example.com:8667".into());
    let handled = world.api.handle(&foreign, &world.around, world.now);
    assert!(matches!(handled.outcome, Outcome::Answer(Answer { status: 403, .. })));
    let (status, session) = world.ask(Method::Post, "/ui/sessions", None, &body);
    let token = text(&session, "token");
    assert_eq!((status, token.len()), (200, 43));
    assert_eq!(world.ask(Method::Post, "/ui/sessions", None, &body).0, 401, "it was good once");
    assert_eq!(world.ask(Method::Get, "/overview", Some(&token), "").0, 200);
    assert_eq!(world.ask(Method::Get, "/parties", Some(&token), "").0, 200);
    let mut rebound = TestApi::request(Method::Get, "/overview", Some(&token), "", ip("192.0.2.5"));
    rebound.host = Some("rebound.example.com:8667".into());
    let handled = world.api.handle(&rebound, &world.around, world.now);
    assert!(matches!(handled.outcome, Outcome::Answer(Answer { status: 403, .. })));
    assert_eq!(world.ask(Method::Delete, "/ui/sessions", Some(&token), "").0, 200);
    assert_eq!(world.ask(Method::Get, "/overview", Some(&token), "").0, 401);
    let admin = "{\"admin_token\":\"a-token-of-the-admin\"}";
    assert_eq!(world.ask(Method::Post, "/ui/sessions", None, admin).0, 200);
    let wrong = "{\"admin_token\":\"another-token-of-the-admin\"}";
    assert!((0..9).all(|_| world.ask(Method::Post, "/ui/sessions", None, wrong).0 == 401));
    assert_eq!(world.ask(Method::Post, "/ui/sessions", None, admin).0, 429);
}

#[test]
fn the_overview_is_for_owners_and_is_sent_when_there_is_news() {
    let mut world = TestApi::new();
    let (alice, bob) = (world.token("alice"), world.token("bob"));
    let party = world.create("alice", &alice);
    let other = world.own_party("open");
    world.join("bob", &party, &bob);
    let (status, mine) = world.ask(Method::Get, &format!("/overview?party={party}"), Some(&alice), "");
    assert_eq!((status, items(&mine, "parties").len(), items(&mine, "trouble").len()), (200, 1, 0));
    for (token, target) in [
        (&alice, "/overview".to_owned()),
        (&alice, format!("/overview?party={other}")),
        (&bob, format!("/overview?party={party}")),
    ] {
        assert_eq!(world.ask(Method::Get, &target, Some(token), "").0, 403, "{target}");
    }
    let (_, all) = world.own(Method::Get, "/overview", "");
    let parties = items(&all, "parties");
    let member =
        &items(&parties.iter().find(|one| text(one, "party_id") == party).unwrap().clone(), "members")[0]
            .clone();
    assert_eq!((text(member, "kind"), member.get("is_online")), ("client".into(), Some(&Value::Bool(true))));
    assert_eq!(text(&items(&all, "trouble")[0], "what"), "endpoint_unset");
    // Who is at the relay, as that tells of it.
    let body = format!("{{\"name\":\"Phone\",\"public_key\":\"{PHONE}\"}}");
    assert_eq!(world.own(Method::Post, &format!("/parties/{other}/devices"), &body).0, 200);
    world.around.relay = Some(&Busy);
    let (_, one) = world.own(Method::Get, &format!("/overview?party={other}"), "");
    let phone = &items(&items(&one, "parties")[0], "members")[0];
    assert_eq!(
        (text(phone, "kind"), text(phone, "path"), number(phone, "rtt_ms")),
        ("device".into(), "hub".into(), 23)
    );
    assert_eq!(number(phone, "last_handshake"), world.now.unix.as_secs() - 9);
    assert_eq!(
        (phone.get("is_online"), text(&items(phone, "drops")[0], "reason")),
        (Some(&Value::Bool(true)), "inner_source".into())
    );
    world.around.relay = None;
    let ask = |world: &mut TestApi, known: Option<String>| {
        let request = Request {
            if_none_match: known,
            ..TestApi::request(Method::Get, "/overview", None, "", Source::Unix)
        };
        match world.api.handle(&request, &world.around, world.now).outcome {
            Outcome::Answer(answer) => (answer.status, answer.headers[0].1.clone(), answer.body.len()),
            Outcome::Backup { .. } | Outcome::Restore { .. } => panic!("not an answer"),
        }
    };
    let (_, tag, _) = ask(&mut world, None);
    world.pass(Duration::from_secs(3));
    let (status, same, length) = ask(&mut world, Some(tag.clone()));
    assert_eq!((status, same, length), (304, tag.clone(), 0));
    world.own_party("open");
    assert_eq!(ask(&mut world, Some(tag)).0, 200);
}

#[test]
fn where_friends_reach_the_server_is_said_once_and_told_to_all() {
    let mut world = TestApi::new();
    let party = world.own_party("open");
    let say = |world: &mut TestApi, at: &str| {
        world.own(Method::Post, "/ui/settings", &format!("{{\"public_endpoint\":\"{at}\"}}")).0
    };
    assert_eq!(say(&mut world, "home.example.org"), 422);
    assert_eq!(say(&mut world, "10.0.0.1:51820"), 200);
    let trouble = |world: &mut TestApi| {
        let (_, all) = world.own(Method::Get, "/overview", "");
        items(&all, "trouble").iter().map(|one| text(one, "what")).collect::<Vec<_>>()
    };
    assert_eq!(trouble(&mut world), ["endpoint_private"]);
    assert_eq!(say(&mut world, "home.example.org:51820"), 200);
    assert_eq!(trouble(&mut world), ["not_reached"]);
    let (token, _) = world.invite(&party, "");
    let (_, answer) = world.redeem("203.0.113.9", &token, PHONE);
    assert!(text(&answer, "text").contains("\nEndpoint = home.example.org:51820\n"));
    // Its device comes up, from outside.
    let key = PublicKey::decode(PHONE).unwrap();
    world.api.handshake(&key, "203.0.113.9".parse().unwrap(), world.now);
    assert_eq!(trouble(&mut world), [""; 0]);
    world.api.handshake(&key, "203.0.113.9".parse().unwrap(), world.now);
    assert_eq!(world.kinds(3), ["online"]);
    world.api.settings.relay.endpoint = Some(("fixed.example.org".into(), 1));
    assert_eq!(say(&mut world, "home.example.org:51820"), 409);
}

#[test]
fn what_is_wrong_with_the_machine_is_one_list_for_all_who_show_it() {
    let mut world = TestApi::new();
    world.api.settings.relay.endpoint = Some(("home.example.org".into(), 51820));
    let trouble = |world: &mut TestApi| {
        let mut told = |target| items(&world.own(Method::Get, target, "").1, "trouble").to_vec();
        let (overview, status) = (told("/overview"), told("/status"));
        assert_eq!(overview, status);
        overview.iter().map(|one| text(one, "what")).collect::<Vec<_>>()
    };
    assert_eq!(trouble(&mut world), ["not_reached"]);
    // NTP sets a clock forward at every start of a machine without a battery.
    let right = world.now.unix;
    world.now.unix = right.shifted(7 * 86_400_000_000);
    assert_eq!(trouble(&mut world), ["not_reached"]);
    world.now.unix = right.shifted(-120_000_000);
    assert_eq!(trouble(&mut world), ["not_reached", "clock_set_back"]);
    world.now.unix = UnixTime::from_micros(0);
    assert_eq!(trouble(&mut world), ["not_reached", "clock_unset"]);
    world.now.unix = right;
    // It says 77 of every figure, and so of the free space.
    world.around.figures = Some(&Busy);
    assert_eq!(trouble(&mut world), ["not_reached", "space_low"]);
    world.around.store_failure = Some(WriteError::Full);
    assert_eq!(trouble(&mut world), ["not_reached", "storage"]);
}

#[test]
fn an_agent_says_that_it_goes_straight() {
    let mut world = TestApi::new();
    let (alice, bob) = (world.token("alice"), world.token("bob"));
    let party = world.create("alice", &alice);
    world.join("bob", &party, &bob);
    let beat = |world: &mut TestApi, said: &str| {
        world.ask(Method::Post, &format!("/parties/{party}/peers/bob/heartbeat{said}"), Some(&bob), "").0
    };
    let of_bob = |world: &mut TestApi| {
        let (_, all) = world.own(Method::Get, "/overview", "");
        let members = items(&items(&all, "parties")[0], "members").to_vec();
        let bob = members.iter().find(|one| text(one, "peer_id") == "bob").unwrap().clone();
        (text(&bob, "kind"), bob.get("path").and_then(Value::as_str).map(str::to_owned))
    };
    assert_eq!((beat(&mut world, ""), of_bob(&mut world)), (200, ("client".into(), None)));
    for wrong in ["?straight=-1", "?straight=256", "?straight=all"] {
        assert_eq!(beat(&mut world, wrong), 422, "{wrong}");
    }
    assert_eq!((beat(&mut world, "?straight=0"), of_bob(&mut world)), (200, ("agent".into(), None)));
    assert!(!world.kinds(0).contains(&"first_direct".to_owned()));
    let direct = ("agent".to_owned(), Some("direct".to_owned()));
    assert_eq!((beat(&mut world, "?straight=2"), of_bob(&mut world)), (200, direct));
    // It is the first time once.
    beat(&mut world, "?straight=0");
    beat(&mut world, "?straight=1");
    // Who joins again is still an agent.
    world.join("bob", &party, &bob);
    assert_eq!(of_bob(&mut world).0, "agent");
    beat(&mut world, "?straight=1");
    let kinds = world.kinds(0);
    assert_eq!(kinds.iter().filter(|kind| *kind == "first_direct").count(), 1, "{kinds:?}");
}

#[test]
fn another_way_to_the_internet_is_told_and_a_start_is_no_news() {
    let mut world = TestApi::new();
    let [one, other] = ["203.0.113.7", "203.0.113.8"].map(|ip| Some(ip.parse().unwrap()));
    for way in [one, one, other, None, None, one] {
        world.api.goes_out_by(way, world.now);
    }
    let (_, told) = world.own(Method::Get, "/events", "");
    let told: Vec<_> = items(&told, "events")
        .iter()
        .map(|event| (text(event, "kind"), event.get("address").and_then(Value::as_str).map(str::to_owned)))
        .collect();
    let expected = [Some("203.0.113.8"), None, Some("203.0.113.7")];
    assert_eq!(told, expected.map(|way| ("relay_trouble".to_owned(), way.map(str::to_owned))));
}
