//! The session against the real API, in virtual time.

use super::*;
use crate::api::admission::Rates;
use crate::api::browsers::Browsers;
use crate::api::metrics::Surroundings;
use crate::api::{Api, ApiSettings, Effects, Locations, Outcome, OwnRelay};
use crate::control::record::Records;
use crate::control::{Control, ControlSettings};
use crate::ids::{RelayId, SessionId};
use crate::time::UnixTime;
use crate::wire::http::{Request, Source};

/// A server that can be away, and the clock of all.
struct World {
    api: Api,
    now: Now,
    is_there: bool,
    /// How long it was away. After a restart everybody gets a full time-out again, as if its clock had stood still.
    away: Duration,
    /// What it answers with instead, if it does.
    busy: Option<(u16, Option<u64>)>,
    asked: Vec<(Duration, String)>,
    hears: bool,
    next_socket: u64,
}

/// A member, and what happened to it.
struct Player {
    session: PartySession,
    socket: Option<SessionId>,
    events: Vec<SessionEvent>,
}

fn start() -> Now {
    Now {
        instant: Instant::ZERO + Duration::from_secs(9),
        unix: UnixTime::from_micros(1_795_176_000_000_000),
    }
}

impl World {
    fn new() -> Self {
        let hub = PrivateKey::from_bytes([1; 32]);
        let now = start();
        let control = Control::new(ControlSettings::default(), hub, Records::default(), now);
        let settings = ApiSettings {
            relay: OwnRelay {
                relay_id: RelayId::new("own").unwrap(),
                endpoint: None,
                port: 51820,
                region: "home".into(),
                capacity: 100,
            },
            rates: Rates::default(),
            trusted_proxies: Vec::new(),
            browsers: Browsers::default(),
            admin_token: None,
            locations: Locations::default(),
        };
        let api = Api::new(control, settings, now);
        World {
            api,
            now,
            is_there: true,
            away: Duration::ZERO,
            busy: None,
            asked: Vec::new(),
            hears: true,
            next_socket: 1,
        }
    }

    fn elapsed(&self) -> Duration {
        self.now.instant.since(start().instant)
    }

    fn server_now(&self) -> Now {
        Now { instant: self.now.instant - self.away, unix: self.now.unix }
    }

    fn http(asked: &ApiRequest) -> Request {
        let (path, query) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
        Request {
            method: asked.method.parse().unwrap(),
            path: path.into(),
            query: query.into(),
            authorization: asked.token.as_ref().map(|token| format!("Bearer {token}")),
            host: None,
            origin: None,
            if_none_match: None,
            forwarded_for: None,
            is_forwarded: false,
            body: asked.body.clone().into_bytes(),
            source: Source::Ip("198.51.100.1".parse().unwrap()),
            local: Some("192.0.2.1:8667".parse().unwrap()),
        }
    }

    fn answer(&mut self, asked: &ApiRequest) -> Result<ApiReply, String> {
        self.asked.push((self.elapsed(), format!("{} {}", asked.method, asked.path)));
        if !self.is_there {
            return Err("connection refused".to_owned());
        }
        if let Some((status, after)) = self.busy {
            let retry_after = after.map(Duration::from_secs);
            return Ok(ApiReply { status, retry_after, body: Vec::new() });
        }
        let handled = self.api.handle(&Self::http(asked), &Surroundings::default(), self.server_now());
        let Outcome::Answer(answer) = handled.outcome else { panic!("a backup") };
        Ok(ApiReply { status: answer.status, retry_after: None, body: answer.body })
    }

    /// What the server has to say to those who listen.
    fn tell(&mut self, players: &mut [&mut Player]) {
        let effects = self.api.drain(None, self.server_now());
        self.deliver(effects, players);
    }

    fn deliver(&self, effects: Effects, players: &mut [&mut Player]) {
        for delivery in effects.deliveries {
            for player in players.iter_mut().filter(|player| self.is_there && player.socket.is_some()) {
                if delivery.to.contains(&player.socket.unwrap()) {
                    player.session.heard(&delivery.text);
                }
            }
        }
    }

    /// Lets so much time pass.
    fn run(&mut self, players: &mut [&mut Player], span: Duration) {
        let end = self.now.instant + span;
        loop {
            for index in 0..players.len() {
                while let Some(wish) = players[index].session.poll(self.now) {
                    match wish {
                        SessionWish::Ask(asked) => {
                            let reply = self.answer(&asked);
                            players[index].session.answered(reply, self.now);
                        }
                        SessionWish::Open if self.is_there && self.hears => {
                            let socket = SessionId(self.next_socket);
                            self.next_socket += 1;
                            let request = Self::http(&ApiRequest {
                                method: "GET",
                                path: "/ws".into(),
                                token: None,
                                body: String::new(),
                            });
                            self.api.open_session(socket, &request, self.server_now()).unwrap();
                            players[index].socket = Some(socket);
                            players[index].session.opened(self.now);
                        }
                        SessionWish::Open => players[index].session.closed(self.now),
                        SessionWish::Say(text) => {
                            let socket = players[index].socket.unwrap();
                            self.api.message(socket, &text, &Surroundings::default(), self.server_now());
                        }
                        SessionWish::Close => self.hang_up(players[index]),
                    }
                    self.tell(players);
                }
            }
            for player in players.iter_mut() {
                while let Some(event) = player.session.take_event() {
                    player.events.push(event);
                }
            }
            let next = players.iter().filter_map(|player| player.session.next()).min();
            let next = next.map_or(end, |next| next.max(self.now.instant + Duration::from_millis(1)));
            let passed = next.min(end).since(self.now.instant);
            if passed.is_zero() {
                return;
            }
            self.now = Now { instant: self.now.instant + passed, unix: self.now.unix + passed };
            if self.is_there {
                let effects = self.api.poll(None, self.server_now());
                self.deliver(effects, players);
            } else {
                self.away += passed;
            }
            if self.now.instant >= end {
                return;
            }
        }
    }

    fn hang_up(&mut self, player: &mut Player) {
        if let Some(socket) = player.socket.take() {
            self.api.close_session(socket);
        }
    }
}

impl Player {
    fn new(world: &World, goal: PartyGoal, id: u8) -> Self {
        let settings = SessionSettings {
            goal,
            peer_id: PeerId::new(&format!("player-{id}")).unwrap(),
            name: format!("Player {id}"),
            key: PrivateKey::from_bytes([10 + id; 32]),
            token: None,
            password: None,
            protects: false,
            last: None,
            seed: id.into(),
        };
        Player::with(settings, world)
    }

    /// With a password: that of the party, or one that it is to have.
    fn knowing(world: &World, goal: PartyGoal, id: u8, password: &str) -> Self {
        let mut player = Player::new(world, goal, id);
        player.session.settings.protects = matches!(player.session.settings.goal, PartyGoal::Host(_));
        player.session.settings.password = Some(password.to_owned());
        player
    }

    fn with(settings: SessionSettings, world: &World) -> Self {
        Player { session: PartySession::new(settings, world.now), socket: None, events: Vec::new() }
    }

    /// As it is after kill -9: what was kept is there.
    fn again(self, world: &World) -> Self {
        let settings = self.session.settings;
        let settings = SessionSettings {
            key: PrivateKey::from_bytes(*settings.key.to_bytes()),
            goal: settings.goal.clone(),
            ..settings
        };
        Player::with(settings, world)
    }

    fn members(&self) -> Vec<&str> {
        let last = self.session.settings.last.as_ref();
        last.map_or_else(Vec::new, |last| last.party.peers.iter().map(|peer| peer.peer_id.as_str()).collect())
    }

    fn ip(&self) -> std::net::Ipv4Addr {
        self.session.settings.last.as_ref().unwrap().network.as_ref().unwrap().virtual_ip.unwrap()
    }

    fn has(&self, event: &SessionEvent) -> bool {
        self.events.contains(event)
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// A host and a guest that are members.
fn two(world: &mut World) -> (Player, Player) {
    let mut host = Player::new(world, PartyGoal::Host("Friday".into()), 1);
    world.run(&mut [&mut host], SECOND);
    let PartyGoal::Join(party) = host.session.kept().1.clone() else { panic!("{:?}", host.events) };
    let mut guest = Player::new(world, PartyGoal::Join(party), 2);
    world.run(&mut [&mut host, &mut guest], SECOND);
    assert_eq!(host.members(), ["player-1", "player-2"]);
    assert_eq!(guest.members(), ["player-1", "player-2"]);
    (host, guest)
}

#[test]
fn a_host_and_a_guest_see_each_other_and_leave() {
    let mut world = World::new();
    let (mut host, mut guest) = two(&mut world);
    assert_ne!(host.ip(), guest.ip());
    guest.session.signal(PeerId::new("player-1").unwrap(), r#"{"offer":1}"#.into());
    world.run(&mut [&mut host, &mut guest], SECOND);
    let heard = |event: &SessionEvent| matches!(event, SessionEvent::Signal(signal) if signal.data == r#"{"offer":1}"#);
    assert!(host.events.iter().any(heard), "{:?}", host.events);
    let told =
        |event: &SessionEvent| matches!(event, SessionEvent::Relays(relays) if relays[0].relay_id == "own");
    assert!(host.events.iter().any(told), "{:?}", host.events);
    // Idle: nothing but signs of life, and what relays there are.
    world.asked.clear();
    world.run(&mut [&mut host, &mut guest], Duration::from_secs(300));
    let (relays, others): (Vec<_>, Vec<_>) =
        world.asked.iter().partition(|(_, what)| what.starts_with("GET /relays?party="));
    assert!((1..=2).contains(&relays.len()) && (20..=22).contains(&others.len()), "{:?}", world.asked);
    assert!(others.iter().all(|(_, what)| what.ends_with("/heartbeat?straight=0")));
    // With it the server is told how many are reached straight.
    host.session.reaches_straight(2);
    guest.session.reaches_straight(1000);
    world.asked.clear();
    world.run(&mut [&mut host, &mut guest], Duration::from_secs(31));
    for told in ["straight=2", "straight=255"] {
        assert!(world.asked.iter().any(|(_, what)| what.ends_with(told)), "{:?}", world.asked);
    }
    guest.session.leave(world.now);
    world.run(&mut [&mut host, &mut guest], SECOND);
    assert!(guest.has(&SessionEvent::Ended(SessionEnd::Left)));
    assert_eq!((host.members(), guest.session.next()), (vec!["player-1"], None));
}

#[test]
fn a_party_by_password_lets_in_who_knows_it_also_after_a_long_absence() {
    let mut world = World::new();
    let mut host = Player::knowing(&world, PartyGoal::Host("Friday".into()), 1, "sesame-open");
    world.run(&mut [&mut host], SECOND);
    // It has the password by the time that anybody is told of it.
    let party = host.events.iter().position(|event| matches!(event, SessionEvent::Party(_))).unwrap();
    assert!(host.events[..party].iter().filter(|event| **event == SessionEvent::Keep).count() >= 2);
    assert!(!host.session.protects());
    let goal = host.session.kept().1.clone();
    for (id, password) in [(2, None), (3, Some("guess"))] {
        let mut stranger = match password {
            None => Player::new(&world, goal.clone(), id),
            Some(password) => Player::knowing(&world, goal.clone(), id, password),
        };
        world.run(&mut [&mut host, &mut stranger], SECOND);
        let said = if password.is_some() { "password is wrong" } else { "has a password" };
        let told = |event: &SessionEvent| matches!(event, SessionEvent::Ended(SessionEnd::Refused(why)) if why.contains(said));
        assert!(stranger.events.iter().any(told), "{:?}", stranger.events);
    }
    let mut guest = Player::knowing(&world, goal, 4, "sesame-open");
    world.run(&mut [&mut host, &mut guest], SECOND);
    assert_eq!(host.members(), ["player-1", "player-4"]);
    // The server takes it out meanwhile.
    world.hang_up(&mut guest);
    world.run(&mut [&mut host], Duration::from_secs(900));
    assert_eq!(host.members(), ["player-1"]);
    let mut guest = guest.again(&world);
    world.run(&mut [&mut host, &mut guest], SECOND);
    assert_eq!(host.members(), ["player-1", "player-4"]);
}

#[test]
fn who_comes_back_with_its_key_has_its_address_from_the_first_word_on() {
    let mut world = World::new();
    let (mut host, mut guest) = two(&mut world);
    let ip = guest.ip();
    let PartyGoal::Join(party) = guest.session.kept().1.clone() else { panic!() };
    // The address is proven to be the key's.
    world.api.handshake(
        &PrivateKey::from_bytes([12; 32]).public_key(),
        "198.51.100.1".parse().unwrap(),
        world.server_now(),
    );
    guest.session.leave(world.now);
    world.run(&mut [&mut host, &mut guest], SECOND);
    let mut again = Player::new(&world, PartyGoal::Join(party), 2);
    world.run(&mut [&mut host, &mut again], SECOND);
    let told = again.events.iter().filter_map(|event| match event {
        SessionEvent::Party(answer) => answer.network.as_ref()?.virtual_ip,
        _ => None,
    });
    assert!(
        told.clone().count() > 0 && told.clone().all(|told| told == ip),
        "{ip}: {:?}",
        told.collect::<Vec<_>>()
    );
    assert!(
        !again.events.iter().any(|event| matches!(event, SessionEvent::Trouble(_))),
        "{:?}",
        again.events
    );
}

#[test]
fn who_joins_while_the_party_is_being_read_is_not_missed() {
    let mut world = World::new();
    let (mut host, mut guest) = two(&mut world);
    guest.session.is_stale = true;
    let Some(SessionWish::Ask(asked)) = guest.session.poll(world.now) else { panic!() };
    let before = world.answer(&asked);
    let PartyGoal::Join(party) = host.session.kept().1.clone() else { panic!() };
    let mut third = Player::new(&world, PartyGoal::Join(party), 3);
    world.run(&mut [&mut host, &mut third], SECOND);
    let joined = r#"{"type":"peer_joined","party_id":"PARTY","peer":{"peer_id":"player-3","name":"3","public_key":"k",
        "nat_type":"unknown","public_ip":"unknown","public_port":0,"local_ip":"unknown","local_port":0,
        "last_seen":"2026-11-26T00:00:00"}}"#;
    guest.session.heard(&joined.replace("PARTY", guest.session.party()));
    guest.session.answered(before, world.now);
    world.run(&mut [&mut host, &mut guest, &mut third], SECOND);
    assert_eq!(guest.members().len(), 3);
}

#[test]
fn a_server_that_is_away_for_an_hour_ends_nothing() {
    let mut world = World::new();
    let (mut host, mut guest) = two(&mut world);
    let (ip, before) = (guest.ip(), world.elapsed());
    world.is_there = false;
    for player in [&mut host, &mut guest] {
        world.hang_up(player);
        player.session.closed(world.now);
    }
    world.asked.clear();
    world.run(&mut [&mut host, &mut guest], Duration::from_secs(3600));
    assert!(guest.session.is_local() && guest.has(&SessionEvent::Local));
    // Five tries, five seconds apart, then fewer.
    let guests: Vec<Duration> = world
        .asked
        .iter()
        .filter(|(_, what)| what.contains("player-2"))
        .map(|(at, _)| *at - before)
        .collect();
    let gaps: Vec<u64> = guests.windows(2).take(4).map(|pair| (pair[1] - pair[0]).as_secs()).collect();
    assert_eq!(gaps, [5, 5, 5, 5]);
    assert!((60..100).contains(&guests.len()), "{}", guests.len());
    world.is_there = true;
    world.run(&mut [&mut host, &mut guest], Duration::from_secs(65));
    assert!(guest.has(&SessionEvent::Back) && guest.session.is_member() && !guest.session.is_local());
    assert_eq!((guest.ip(), guest.members()), (ip, vec!["player-1", "player-2"]));
    assert!(guest.socket.is_some(), "events come again");
}

#[test]
fn a_crash_resumes_the_same_membership_with_and_without_the_token() {
    let mut world = World::new();
    let (mut host, mut guest) = two(&mut world);
    let ip = guest.ip();
    for lost in [false, true] {
        world.hang_up(&mut guest);
        if lost {
            guest.session.settings.token = None;
        }
        world.run(&mut [&mut host], Duration::from_secs(20));
        guest = guest.again(&world);
        world.run(&mut [&mut host, &mut guest], SECOND * 3);
        assert_eq!((guest.ip(), guest.session.is_member()), (ip, true), "{:?}", guest.events);
        assert_eq!(host.members().len(), 2);
    }
    // Somebody else with the same id and another key is not let in.
    let PartyGoal::Join(party) = guest.session.kept().1.clone() else { panic!() };
    let mut other = Player::new(&world, PartyGoal::Join(party), 2);
    other.session.settings.key = PrivateKey::from_bytes([99; 32]);
    world.run(&mut [&mut host, &mut guest, &mut other], SECOND * 3);
    assert!(!other.session.is_member());
}

#[test]
fn a_server_that_has_enough_is_left_alone_for_as_long_as_it_says() {
    for (status, wait) in [(429, 17), (503, 40)] {
        let mut world = World::new();
        let (mut host, mut guest) = two(&mut world);
        world.busy = Some((status, Some(wait)));
        world.asked.clear();
        world.run(&mut [&mut host, &mut guest], Duration::from_secs(29 + wait));
        let of_guest = world.asked.iter().filter(|(_, what)| what.contains("player-2")).count();
        assert!((1..=2).contains(&of_guest), "{status}: {:?}", world.asked);
        assert!(!guest.has(&SessionEvent::Local));
        world.busy = None;
        world.run(&mut [&mut host, &mut guest], Duration::from_secs(60));
        assert!(guest.session.is_member());
    }
}

#[test]
fn without_a_websocket_everything_comes_a_little_later() {
    let mut world = World::new();
    world.hears = false;
    let mut host = Player::new(&world, PartyGoal::Host("Friday".into()), 1);
    world.run(&mut [&mut host], SECOND);
    let PartyGoal::Join(party) = host.session.kept().1.clone() else { panic!() };
    let mut guest = Player::new(&world, PartyGoal::Join(party), 2);
    world.run(&mut [&mut host, &mut guest], Duration::from_secs(31));
    assert_eq!(host.members(), ["player-1", "player-2"]);
    guest.session.signal(PeerId::new("player-1").unwrap(), "7".into());
    world.run(&mut [&mut host, &mut guest], Duration::from_secs(6));
    assert!(host.events.iter().any(|event| matches!(event, SessionEvent::Signal(_))));
}

#[test]
fn who_is_removed_or_refused_is_told_and_does_not_come_back() {
    let mut world = World::new();
    let (mut host, mut guest) = two(&mut world);
    let PartyGoal::Join(party) = host.session.kept().1.clone() else { panic!() };
    let kick = ApiRequest {
        method: "DELETE",
        path: format!("/parties/{party}/peers/player-2"),
        token: host.session.settings.token.clone(),
        body: String::new(),
    };
    assert_eq!(world.answer(&kick).unwrap().status, 200);
    world.tell(&mut [&mut host, &mut guest]);
    world.run(&mut [&mut host, &mut guest], Duration::from_secs(120));
    assert!(guest.has(&SessionEvent::Ended(SessionEnd::Removed)), "{:?}", guest.events);
    assert_eq!(host.members(), ["player-1"]);

    let nowhere = PartyGoal::Join(PartyId::new("nowhere").unwrap());
    let mut lost = Player::new(&world, nowhere, 3);
    world.run(&mut [&mut lost], SECOND);
    let refused = SessionEvent::Ended(SessionEnd::Refused("Party nowhere not found".into()));
    assert!(lost.has(&refused), "{:?}", lost.events);

    let mut third = Player::new(&world, PartyGoal::Join(party), 4);
    world.run(&mut [&mut host, &mut third], SECOND);
    host.session.leave(world.now);
    world.run(&mut [&mut host, &mut third], SECOND);
    assert!(third.has(&SessionEvent::Ended(SessionEnd::PartyEnded)), "{:?}", third.events);
}

#[test]
fn whatever_the_server_says_ends_in_a_verdict_and_in_no_busy_loop() {
    let mut world = World::new();
    let (_, guest) = two(&mut world);
    let mut session = guest.session;
    let answers: [(u16, &[u8]); 7] = [
        (200, b""),
        (200, b"{}"),
        (200, b"{\"party\":[]}"),
        (204, b""),
        (301, b""),
        (418, b"teapot"),
        (401, b"{\"detail\":\"Token expired\"}"),
    ];
    for (status, body) in answers {
        let end = world.now.instant + Duration::from_secs(600);
        let mut count = 0;
        while world.now.instant < end {
            while let Some(wish) = session.poll(world.now) {
                if let SessionWish::Ask(_) = wish {
                    count += 1;
                    let reply = ApiReply { status, retry_after: None, body: body.to_vec() };
                    session.answered(Ok(reply), world.now);
                }
            }
            session.heard("{\"type\":\"party_update\",\"party\":7}");
            world.now.instant += SECOND;
        }
        while session.take_event().is_some() {}
        assert!(count < 130, "{status}: {count} requests in ten minutes");
    }
}
