//! Agents and several relays: which one they take, what they do when it dies, and what nobody can have them do with it.

use crate::agent_goals::{goal, talk_for, time_to_hear};
use crate::agent_matrix::{Kind, nat, world};
use crate::agents::Seat;
use crate::packets::udp;
use crate::world::{self, Exit, HubUse, MILLISECOND, SECOND, World, relay_address};
use lanrage::agent::network::ListedRelay;
use lanrage::agent::view::PathKind;
use lanrage::crypto::x25519::{PrivateKey, PublicKey};
use lanrage::datagram::Path;
use lanrage::ids::RelayId;
use lanrage::relay::limits::RelayLimits;
use lanrage::relay::{Arrival, Port, Relay};
use lanrage::time::Instant;
use lanrage::wire::nat_type::NatType;
use lanrage::wire::probe::{MAX_CANDIDATES, MAX_RELAYS, Offer, Probe, RelayDistance};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// A relay in another place than the party's own.
pub struct FarRelay {
    pub relay: Relay,
    pub address: IpAddr,
    /// Whether it knows who is in the party.
    pub knows_roster: bool,
    /// Whether it does anything but answering STUN.
    pub only_answers: bool,
    /// Bytes that it got but for STUN.
    pub got: u64,
}

impl World {
    /// Another relay, whose name is `far` and its number.
    pub fn far_relay(&mut self, knows_roster: bool) -> usize {
        let number = self.far_relays.len();
        let mut key = [0; 32];
        self.random.fill(&mut key);
        let relay = world::relay(
            &PrivateKey::from_bytes(key),
            RelayLimits::default(),
            self.random.next_u64(),
            self.now,
        );
        let address = IpAddr::from([198, 51, 100, 50 + number as u8]);
        self.far_relays.push(FarRelay { relay, address, knows_roster, only_answers: false, got: 0 });
        number
    }

    pub fn far_relay_at(&self, ip: IpAddr) -> Option<usize> {
        self.far_relays.iter().position(|far| far.address == ip)
    }

    pub fn distance(&self, one: IpAddr, other: IpAddr) -> Duration {
        let is_it = |(from, to, _): &&(IpAddr, IpAddr, Duration)| {
            (*from, *to) == (one, other) || (*from, *to) == (other, one)
        };
        self.distances.iter().find(is_it).map_or(self.link.delay, |(.., delay)| *delay)
    }

    pub fn arrive_at_far_relay(&mut self, number: usize, from: SocketAddr, port: u16, mut bytes: Vec<u8>) {
        let port = if port == relay_address(Port::Main).port() { Port::Main } else { Port::Alternate };
        let (now, mut out) = (self.clock(), Exit::default());
        let far = &mut self.far_relays[number];
        if !lanrage::wire::stun::is_stun(&bytes) {
            far.got += bytes.len() as u64;
            if far.only_answers {
                return;
            }
        }
        let _ = far.relay.receive(&mut bytes, Arrival { path: Path::to(from), port, now }, &mut out);
        far.relay.poll(now, &mut out);
        self.leave_far_relay(number, out);
    }

    fn leave_far_relay(&mut self, number: usize, out: Exit) {
        let ip = self.far_relays[number].address;
        for (to, port, bytes) in out.sent {
            self.fly_within(SocketAddr::new(ip, relay_address(port).port()), to.remote, None, &bytes);
        }
    }

    pub fn next_of_far_relays(&mut self) -> Option<Instant> {
        self.far_relays.iter_mut().filter_map(|far| far.relay.poll_timeout()).min()
    }

    pub fn pump_far_relays(&mut self) {
        for number in 0..self.far_relays.len() {
            let (now, mut out) = (self.clock(), Exit::default());
            self.far_relays[number].relay.poll(now, &mut out);
            self.leave_far_relay(number, out);
        }
    }

    /// Tells all players of the party's own relay and the others.
    pub fn list(&mut self, with_keys: bool) {
        let mut list = vec![listed("home", home(), Some(*self.relay.hub_key()))];
        for (number, far) in self.far_relays.iter().enumerate() {
            let key = with_keys.then(|| *far.relay.hub_key());
            list.push(listed(&format!("far{number}"), far.address, key));
        }
        self.tell(&list);
    }

    fn tell(&mut self, list: &[ListedRelay]) {
        let now = self.clock();
        self.players.iter_mut().for_each(|player| player.agent.set_relays(list, now));
    }

    /// By what members mean the relays besides the party's own.
    fn marks(&self, count: usize) -> Vec<u32> {
        (0..count).map(|number| listed(&format!("far{number}"), home(), None).mark()).collect()
    }

    /// The relay of a player's first member, and the one beside it.
    fn relays_of(&self, player: usize) -> [Option<String>; 2] {
        let member = self.players[player].agent.members(self.clock()).next().unwrap();
        [member.relay, member.standby].map(|id| id.map(|id| id.as_str().to_owned()))
    }

    fn kill(&mut self, ip: IpAddr) {
        for player in 0..self.players.len() {
            let own = self.player_public_ip(player);
            self.holes.extend([(own, ip), (ip, own)]);
        }
    }
}

/// What a list says of a relay.
fn listed(id: &str, ip: IpAddr, key: Option<PublicKey>) -> ListedRelay {
    let endpoint = SocketAddr::new(ip, relay_address(Port::Main).port());
    ListedRelay { id: RelayId::new(id).unwrap(), endpoint, key, load: 0, region: "here".into(), serves: true }
}

/// Two that nothing but a relay joins, and so many relays besides the party's own.
fn relayed(seed: u64, count: usize) -> (World, [usize; 2]) {
    let mut world = world(seed);
    (0..count).for_each(|_| _ = world.far_relay(true));
    let nats = [nat(&mut world, Kind::Random), nat(&mut world, Kind::Random)];
    let players = nats.map(|nat| world.player(nat));
    world.gather("p", &players.map(Seat::Player));
    let [one, other] = players.map(|player| world.player_public_ip(player));
    world.holes.extend([(one, other), (other, one)]);
    (world, players)
}

fn some(id: &str) -> Option<String> {
    Some(id.to_owned())
}

/// How far both, or each of them, are from a relay, one way.
fn place(world: &mut World, players: [usize; 2], relay: IpAddr, millis: [u32; 2]) {
    for (player, millis) in players.into_iter().zip(millis) {
        let own = world.player_public_ip(player);
        world.distances.push((own, relay, millis * MILLISECOND));
    }
}

fn home() -> IpAddr {
    relay_address(Port::Main).ip()
}

/// How long it takes until both have that relay, and that one beside it.
fn time_to_relays(world: &mut World, players: [usize; 2], relays: [&str; 2]) -> Duration {
    let began = world.now;
    while players.iter().any(|&player| world.relays_of(player) != relays.map(some)) {
        let seen = players.map(|player| world.relays_of(player));
        assert!(world.now.since(began) < 90 * SECOND, "{relays:?}: {seen:?}");
        talk_for(world, players, 100 * MILLISECOND);
    }
    world.now.since(began)
}

/// The nearer of two is taken by both, and the other one stays beside it; also if the list has no keys, as a stock
/// server's.
#[test]
fn of_two_relays_the_nearer_one_is_taken() {
    for with_keys in [true, false] {
        let (mut world, players) = relayed(3000, 1);
        let far = world.far_relays[0].address;
        place(&mut world, players, far, [8, 8]);
        world.list(with_keys);
        let time = time_to_relays(&mut world, players, ["far0", "home"]);
        println!("a nearer relay is taken after {} ms, with keys: {with_keys}", time.as_millis());
        let view = world.players[players[0]].agent.members(world.clock()).next().unwrap();
        assert_eq!(view.path, PathKind::Relay);
        assert!(view.round_trip.unwrap() < 40 * MILLISECOND, "{:?}", view.round_trip);
        // For hours, idle and busy.
        world.run(3600 * SECOND);
        assert!(world.players_talk(players[0], players[1], SECOND));
        talk_for(&mut world, players, 20 * SECOND);
        for player in players {
            assert_eq!(world.relays_of(player), ["far0", "home"].map(some));
        }
    }
}

/// What is near one member only is no good: the least of the greater distances is taken.
#[test]
fn the_greater_distance_of_the_two_counts() {
    let (mut world, players) = relayed(3010, 2);
    let [one, other] = [world.far_relays[0].address, world.far_relays[1].address];
    place(&mut world, players, one, [2, 60]);
    place(&mut world, players, other, [12, 12]);
    world.list(true);
    time_to_relays(&mut world, players, ["far1", "home"]);
}

/// A little is no reason to change, unless the one in use is slow.
#[test]
fn a_little_nearer_is_no_reason() {
    for (own, other, relays) in [(25, 22, ["home", "far0"]), (60, 56, ["far0", "home"])] {
        let (mut world, players) = relayed(3020, 1);
        let far = world.far_relays[0].address;
        place(&mut world, players, home(), [own, own]);
        place(&mut world, players, far, [other, other]);
        world.list(true);
        time_to_relays(&mut world, players, relays);
        talk_for(&mut world, players, 60 * SECOND);
        for player in players {
            assert_eq!(world.relays_of(player), relays.map(some));
        }
    }
}

#[test]
fn from_the_death_of_the_relay_to_traffic() {
    goal("relay dies, standby known", 2500 * MILLISECOND, |seed| {
        let (mut world, players) = relayed(3100 + seed, 1);
        world.list(seed % 4 != 0);
        time_to_relays(&mut world, players, ["home", "far0"]);
        talk_for(&mut world, players, 3 * SECOND);
        world.kill(home());
        let time = time_to_hear(&mut world, players, 10 * SECOND);
        talk_for(&mut world, players, 5 * SECOND);
        let relays = players.map(|player| world.relays_of(player));
        let heals = world.players_talk(players[0], players[1], SECOND);
        time.filter(|_| heals && relays.iter().all(|[relay, _]| *relay == some("far0")))
    });
}

/// A relay that comes back is beside the other one again, and a new session works by both.
#[test]
fn a_relay_that_comes_back_is_the_standby_again() {
    let (mut world, players) = relayed(3150, 1);
    world.list(true);
    time_to_relays(&mut world, players, ["home", "far0"]);
    let holes = world.holes.len();
    world.kill(home());
    talk_for(&mut world, players, 5 * SECOND);
    world.run(900 * SECOND);
    assert!(world.players_talk(players[0], players[1], SECOND));
    world.holes.truncate(holes);
    world.run(900 * SECOND);
    time_to_relays(&mut world, players, ["far0", "home"]);
}

/// What has no roster, or only answers STUN, gets little and is nobody's relay.
#[test]
fn a_relay_that_carries_nothing_is_left_alone() {
    for (with_keys, only_answers) in [(true, true), (false, true), (true, false), (false, false)] {
        let (mut world, players) = relayed(3200, 0);
        world.far_relay(false);
        world.far_relays[0].only_answers = only_answers;
        let far = world.far_relays[0].address;
        place(&mut world, players, far, [1, 1]);
        world.list(with_keys);
        for _ in 0..3600 {
            world.player_says(players[0], Seat::Player(players[1]), b"tick");
            world.player_says(players[1], Seat::Player(players[0]), b"tock");
            world.run(SECOND);
        }
        for player in players {
            assert_eq!(world.relays_of(player), [some("home"), None]);
        }
        let got = world.far_relays[0].got;
        println!("a relay that carries nothing got {got} bytes of two in an hour, keys {with_keys}");
        assert!(got > 0 && got <= 10_000);
        assert!(world.players_talk(players[0], players[1], SECOND));
    }
}

/// One that is said not to serve the party is none to go by, however near; and it is one as soon as it is said to.
#[test]
fn a_relay_that_does_not_serve_the_party_is_not_tried() {
    let (mut world, players) = relayed(3250, 1);
    let far = world.far_relays[0].address;
    place(&mut world, players, far, [1, 1]);
    let own = listed("home", home(), Some(*world.relay.hub_key()));
    let other = listed("far0", far, Some(*world.far_relays[0].relay.hub_key()));
    world.tell(&[own.clone(), ListedRelay { serves: false, ..other.clone() }]);
    talk_for(&mut world, players, 600 * SECOND);
    for player in players {
        assert_eq!(world.relays_of(player), [some("home"), None]);
    }
    assert_eq!(world.far_relays[0].got, 0, "nothing but questions by STUN");
    world.tell(&[own, other]);
    time_to_relays(&mut world, players, ["far0", "home"]);
}

/// Whatever a list says, nothing goes to where it may do harm, and to nobody more than some questions.
#[test]
fn a_list_leads_nowhere_else() {
    let (mut world, players) = relayed(3300, 0);
    let bad = [
        "10.66.0.7:51820",
        "127.0.0.1:51820",
        "224.0.0.251:5353",
        "0.0.0.0:9",
        "255.255.255.255:9",
        "169.254.1.1:9",
        "172.16.0.1:53",
        "[::1]:53",
        "[ff02::1]:5353",
        "198.18.0.1:0",
    ];
    let own = world.players[players[0]].local;
    let bad: Vec<SocketAddr> = bad.iter().map(|text| text.parse().unwrap()).chain([own]).collect();
    let victims: Vec<SocketAddr> = (1..=40).map(|port| SocketAddr::from(([198, 18, 0, 1], port))).collect();
    let list: Vec<_> = bad
        .iter()
        .chain(&victims)
        .enumerate()
        .map(|(number, &endpoint)| ListedRelay { endpoint, ..listed(&format!("r{number}"), own.ip(), None) })
        .collect();
    // The same list again and again, as it is asked for.
    for _ in 0..12 {
        world.tell(&list);
        world.run(300 * SECOND);
    }
    let sent = |address: &SocketAddr| world.players[players[0]].sent_to.get(address).copied().unwrap_or(0);
    assert_eq!(bad.iter().map(sent).sum::<u64>(), 0);
    let most = victims.iter().map(sent).max().unwrap();
    let count = victims.iter().filter(|&victim| sent(victim) > 0).count();
    println!("{count} of 40 addresses in a list got at most {most} bytes in an hour");
    assert!((1..=16).contains(&count) && most <= 20 * 64);
}

/// A relay that is registered with a member's key does not take that one's place.
#[test]
fn a_relay_with_a_members_key_is_no_member() {
    let (mut world, players) = relayed(3400, 1);
    let far = world.far_relays[0].address;
    place(&mut world, players, far, [1, 1]);
    let key = Some(*world.players[players[1]].agent.public_key());
    let third = world.player(None);
    world.gather("p", &[Seat::Player(players[0]), Seat::Player(third)]);
    let list = [listed("home", home(), Some(*world.relay.hub_key())), listed("false", far, key)];
    world.tell(&list);
    talk_for(&mut world, [players[0], third], 10 * SECOND);
    world.gather("p", &[Seat::Player(players[0]), Seat::Player(third), Seat::Player(players[1])]);
    world.run(5 * SECOND);
    assert!(world.players_talk(players[0], players[1], SECOND));
}

/// A member that changes its mind all the time, or names relays that nobody knows, has nothing sent anywhere else, and no more
/// to a relay than some handshakes.
#[test]
fn a_member_that_changes_its_mind() {
    for seed in 0..4 {
        let mut world = world(3500 + seed);
        (0..3).for_each(|_| _ = world.far_relay(true));
        let (player, rogue) = (world.player(None), world.member("p", None));
        world.use_hub(rogue, HubUse::Extra);
        world.gather("p", &[Seat::Player(player), Seat::Rogue(rogue)]);
        world.meet(rogue, player);
        world.list(true);
        world.run(5 * SECOND);
        let marks: Vec<u32> = world.marks(3).into_iter().chain([7, u32::MAX]).collect();
        for round in 0..600 {
            let mut relays = [None; MAX_RELAYS];
            for relay in &mut relays[..2] {
                let mark = marks[world.random.below(marks.len() as u64) as usize];
                *relay = Some(RelayDistance { mark, millis: 1 });
            }
            let offer = Offer {
                generation: 1,
                nat: NatType::Unknown,
                port_step: 0,
                candidates: [None; MAX_CANDIDATES],
                chooses: true,
                relays,
            };
            world.rogue_probes(rogue, player, &Probe::Offer { id: round, offer });
            world.run(100 * MILLISECOND);
        }
        let got: Vec<_> = world.far_relays.iter().map(|far| far.got).collect();
        let gave = world.rogue_gave(rogue, player);
        println!("relays got {got:?} for {gave} bytes of a member that changes its mind");
        assert!(got.iter().sum::<u64>() <= gave);
        let known: Vec<IpAddr> = world.far_relays.iter().map(|far| far.address).chain([home()]).collect();
        let own = &world.players[player];
        assert!(own.sent_to.keys().all(|to| known.contains(&to.ip())), "{:?}", own.sent_to);
        // It is still heard.
        let (ip, from) = (own.ip, world.clients[rogue].ip);
        let peer = world.index_of(rogue, player);
        world.send_to_peer(rogue, peer, &udp(from, ip, b"still there"));
        world.run(SECOND);
        assert_eq!(world.heard(player, from, b"still there"), 1);
    }
}
