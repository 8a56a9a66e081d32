//! NATs within NATs, relays that die, addresses that change, packets that get lost: the game goes on.

use crate::host::AgentHost;
use crate::lab::{Lab, Mapping, public_ip};
use crate::player::Player;
use crate::server::Server;
use lanrage::wire::json::Value;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A port of games.
const GAME: u16 = 6112;
/// How often players say something.
const INTERVAL: Duration = Duration::from_millis(50);
/// How long is waited for what was said last.
const STRAGGLERS: Duration = Duration::from_secs(1);
const SECOND: Duration = Duration::from_secs(1);

/// How what one player said got to the other.
#[derive(Debug)]
struct Course {
    said: usize,
    heard: usize,
    /// From when the first of some in a row was said that got lost, to when one was that did not, at the longest.
    outage: Duration,
}

impl Course {
    fn of(said: &[Instant], heard: &[bool]) -> Self {
        let is_heard = |number: usize| heard.get(number) == Some(&true);
        let (mut outage, mut since) = (Duration::ZERO, None);
        for (number, &at) in said.iter().enumerate() {
            if !is_heard(number) {
                since.get_or_insert(at);
            }
            outage = since.map_or(outage, |since| outage.max(at - since));
            since = since.filter(|_| !is_heard(number));
        }
        let heard = (0..said.len()).filter(|&number| is_heard(number)).count();
        Course { said: said.len(), heard, outage }
    }

    /// What of a hundred got lost.
    fn loss(&self) -> usize {
        100 * (self.said - self.heard) / self.said
    }
}

/// Says something again and again until it is `done`: when each was said, and which of the other's were heard.
fn say(socket: &UdpSocket, to: (Ipv4Addr, u16), done: &AtomicBool) -> (Vec<Instant>, Vec<bool>) {
    socket.set_read_timeout(Some(INTERVAL / 10)).unwrap();
    let (mut said, mut heard) = (Vec::new(), Vec::new());
    let mut end = None;
    while end.is_none_or(|end| Instant::now() < end) {
        if end.is_none() && done.load(Ordering::Acquire) {
            end = Some(Instant::now() + STRAGGLERS);
        }
        if end.is_none() && said.last().is_none_or(|last: &Instant| last.elapsed() >= INTERVAL) {
            // What could not be sent is lost, as others are.
            let _ = socket.send_to(&(said.len() as u32).to_be_bytes(), to);
            said.push(Instant::now());
        }
        let mut number = [0; 4];
        if socket.recv(&mut number).is_ok() {
            let number = u32::from_be_bytes(number) as usize;
            heard.resize(heard.len().max(number + 1), false);
            assert!(!std::mem::replace(&mut heard[number], true), "{number} came twice");
        }
    }
    (said, heard)
}

/// Ends a game, also when its test fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Two play while something is done: how what the first said got to the second, and the other way round.
fn play(first: &AgentHost, second: &AgentHost, act: impl FnOnce()) -> [Course; 2] {
    let (here, there) = (first.game(GAME), second.game(GAME));
    let (to_first, to_second) = ((first.ip, GAME), (second.ip, GAME));
    let done = AtomicBool::new(false);
    let (ours, theirs) = std::thread::scope(|scope| {
        let ours = scope.spawn(|| say(&here, to_second, &done));
        let theirs = scope.spawn(|| say(&there, to_first, &done));
        let end = End(&done);
        act();
        drop(end);
        (ours.join().unwrap(), theirs.join().unwrap())
    });
    [Course::of(&ours.0, &theirs.1), Course::of(&theirs.0, &ours.1)]
}

fn is_direct(first: &AgentHost, second: &AgentHost) -> bool {
    first.path(second.ip).starts_with("direct") && second.path(first.ip).starts_with("direct")
}

/// Waits until two play straight; how long that took.
#[track_caller]
fn get_direct(first: &AgentHost, second: &AgentHost) -> Duration {
    crate::eventually("the way is direct", || {
        first.ping(second.ip);
        is_direct(first, second)
    })
}

#[test]
#[ignore = "needs root: network namespaces"]
fn two_levels_of_nat_are_crossed() {
    let _alone = crate::alone();
    let lab = Lab::new();
    let _server = Server::new(&lab);
    let cone = lab.nat(20, Mapping::Preserving);
    cone.restrict_by_address(2);
    let alice = AgentHost::hosting(cone.host(2), "Alice");
    crate::eventually("Alice knows her NAT", || {
        alice.json("nat").get("nat_type").and_then(Value::as_str) == Some("restricted_cone")
    });
    let guests = [
        (21, Mapping::Preserving, Mapping::Preserving, "Bob"),
        (22, Mapping::Symmetric, Mapping::Preserving, "Carol"),
        (23, Mapping::Preserving, Mapping::Symmetric, "Dan"),
    ]
    .map(|(number, outer, inner, name)| {
        let provider = lab.nat(number, outer);
        let home = provider.home(2, inner);
        let guest = AgentHost::joining(home.host(2), &alice.party, name);
        let first = guest.ping(alice.ip);
        let direct = get_direct(&guest, &alice);
        println!("{outer:?} over {inner:?}: first ping after {first:?}, direct after {direct:?}");
        guest.ping(alice.ip);
        alice.ping(guest.ip);
        (guest, home, provider)
    });
    // Two that choose a port for each destination don't meet, wherever they stand. They play all the same.
    let [_, (carol, ..), (dan, ..)] = &guests;
    for (one, other) in [(carol, dan), (dan, carol)] {
        crate::eventually("it is told why the way is not direct", || {
            one.ping(other.ip);
            one.why_not_direct(other.ip).contains("choose a new port for each destination")
        });
        assert_eq!(one.path(other.ip), "relay");
    }
}

#[test]
#[ignore = "needs root: network namespaces"]
fn a_relay_that_is_killed_costs_those_who_play_straight_nothing() {
    let _alone = crate::alone();
    let lab = Lab::new();
    let mut server = Server::new(&lab);
    let nats = [20, 21].map(|number| lab.nat(number, Mapping::Preserving));
    let alice = AgentHost::hosting(nats[0].host(2), "Alice");
    let bob = AgentHost::joining(nats[1].host(2), &alice.party, "Bob");
    bob.ping(alice.ip);
    get_direct(&alice, &bob);
    let courses = play(&alice, &bob, || {
        std::thread::sleep(SECOND);
        server.kill();
        std::thread::sleep(8 * SECOND);
        server.start();
        std::thread::sleep(4 * SECOND);
    });
    println!("the relay killed and restarted: {courses:?}");
    for course in &courses {
        assert!(course.outage < SECOND, "{courses:?}");
    }
    // All is as before: the server knows them, they go straight, and the relay carries what can't.
    get_direct(&alice, &bob);
    crate::eventually("the server counts as back", || {
        [&alice, &bob].iter().all(|agent| agent.json("peers").get("local") == Some(&Value::Bool(false)))
    });
    nats[1].hinder(public_ip(20), "");
    crate::eventually("data goes by the relay", || {
        alice.ping(bob.ip);
        alice.path(bob.ip) == "relay" && bob.path(alice.ip) == "relay"
    });
    bob.ping(alice.ip);
}

#[test]
#[ignore = "needs root: network namespaces"]
fn a_new_public_address_interrupts_the_game_shortly() {
    let _alone = crate::alone();
    for is_open in [true, false] {
        let lab = Lab::new();
        let _server = Server::new(&lab);
        let nats = [20, 21].map(|number| lab.nat(number, Mapping::Preserving));
        let host = if is_open { lab.host(10) } else { nats[1].host(2) };
        let alice = AgentHost::hosting(host, "Alice");
        let bob = AgentHost::joining(nats[0].host(2), &alice.party, "Bob");
        bob.ping(alice.ip);
        get_direct(&bob, &alice);
        let mut direct = Duration::ZERO;
        let courses = play(&bob, &alice, || {
            std::thread::sleep(SECOND);
            nats[0].readdress(20, 30);
            let new = format!("{}:", public_ip(30));
            direct = crate::eventually("Bob knows his new address, and the way is direct", || {
                let nat = bob.json("nat");
                let public = nat.get("public").and_then(Value::as_str);
                public.is_some_and(|public| public.starts_with(&new)) && is_direct(&bob, &alice)
            });
            std::thread::sleep(2 * SECOND);
        });
        println!(
            "new address, Alice is open: {is_open}, goal 400 ms: {courses:.0?}, direct again after {direct:.0?}"
        );
        for course in &courses {
            assert!(course.outage < 5 * SECOND, "{courses:?}");
        }
    }
}

#[test]
#[ignore = "needs root: network namespaces"]
fn a_router_that_restarts_interrupts_the_game_shortly() {
    let _alone = crate::alone();
    let lab = Lab::new();
    let _server = Server::new(&lab);
    let alice = AgentHost::hosting(lab.host(10), "Alice");
    for (number, mapping) in [(20, Mapping::Preserving), (21, Mapping::Symmetric)] {
        let nat = lab.nat(number, mapping);
        let bob = AgentHost::joining(nat.host(2), &alice.party, "Bob");
        bob.ping(alice.ip);
        get_direct(&bob, &alice);
        let courses = play(&bob, &alice, || {
            std::thread::sleep(SECOND);
            nat.set(mapping, None);
            std::thread::sleep(5 * SECOND);
        });
        println!(
            "{mapping:?}, the router restarts: {courses:.0?}, direct again {:.0?} later",
            get_direct(&bob, &alice)
        );
        for course in &courses {
            assert!(course.outage < 5 * SECOND, "{courses:?}");
        }
    }
}

#[test]
#[ignore = "needs root: network namespaces"]
fn udp_that_is_blocked_but_to_the_relay_is_told_and_tried_again() {
    let _alone = crate::alone();
    let lab = Lab::new();
    let _server = Server::new(&lab);
    let nats = [20, 21].map(|number| lab.nat(number, Mapping::Preserving));
    let alice = AgentHost::hosting(nats[0].host(2), "Alice");
    nats[1].hinder(public_ip(20), "");
    let bob = AgentHost::joining(nats[1].host(2), &alice.party, "Bob");
    println!("UDP blocked: first ping after {:?}", bob.ping(alice.ip));
    crate::eventually("it is told why", || {
        alice.ping(bob.ip);
        bob.why_not_direct(alice.ip).contains("did not answer at any of its addresses")
            && alice.why_not_direct(bob.ip).contains("did not answer at any of its addresses")
    });
    assert_eq!((bob.path(alice.ip), alice.path(bob.ip)), ("relay".to_owned(), "relay".to_owned()));
    bob.ping(alice.ip);
    nats[1].clear();
    println!("UDP not blocked any more: direct after {:?}", get_direct(&bob, &alice));
    bob.ping(alice.ip);
}

#[test]
#[ignore = "needs root: network namespaces"]
fn a_direct_path_with_much_loss_is_left_for_a_clean_relay() {
    let _alone = crate::alone();
    let lab = Lab::new();
    let _server = Server::new(&lab);
    let nats = [20, 21].map(|number| lab.nat(number, Mapping::Preserving));
    let alice = AgentHost::hosting(nats[0].host(2), "Alice");
    let bob = AgentHost::joining(nats[1].host(2), &alice.party, "Bob");
    bob.ping(alice.ip);
    get_direct(&alice, &bob);
    nats[1].hinder(public_ip(20), "numgen random mod 100 < 20");
    let mut seen: [Vec<String>; 2] = Default::default();
    let mut look = || {
        let paths = [alice.path(bob.ip), bob.path(alice.ip)];
        for (seen, path) in seen.iter_mut().zip(&paths) {
            if seen.last() != Some(path) {
                seen.push(path.clone());
            }
        }
        paths.iter().all(|path| path == "relay")
    };
    let courses = play(&alice, &bob, || {
        let took = crate::eventually("both go by the relay", &mut look);
        println!("20 % loss: by the relay after {took:?}");
    });
    println!("20 % loss until then: {courses:?}");
    for course in &courses {
        assert!(course.loss() < 40 && course.outage < 2 * SECOND, "{courses:?}");
    }
    for (agent, other) in [(&alice, &bob), (&bob, &alice)] {
        let why = agent.why_not_direct(other.ip);
        // Nearly always that it lost too many packets.
        assert!(why.starts_with("the direct path ") && why.contains("it is tried again in"), "{why}");
    }
    let courses = play(&alice, &bob, || {
        let start = Instant::now();
        while start.elapsed() < 6 * SECOND {
            look();
            std::thread::sleep(SECOND / 5);
        }
    });
    println!("20 % loss by the relay: {courses:?}");
    for course in &courses {
        assert!(course.loss() < 2, "{courses:?}");
    }
    println!("paths: {seen:?}");
    assert!(seen.iter().all(|paths| paths.len() <= 4), "{seen:?}");
}

#[test]
#[ignore = "needs root: network namespaces, wireguard-go"]
fn agents_and_stock_clients_of_two_makes_play_in_one_party() {
    let _alone = crate::alone();
    let lab = Lab::new();
    let server = Server::new(&lab);
    let nat = lab.nat(20, Mapping::Preserving);
    let alice = AgentHost::hosting(lab.host(10), "Alice");
    let bob = AgentHost::joining(nat.host(2), &alice.party, "Bob");
    bob.ping(alice.ip);
    let agents = [&alice, &bob];
    let mut players: Vec<_> = (11..15)
        .map(|number| {
            let host = lab.host(number);
            Player::new(server.join(&host, &format!("p{number}"), &alice.party), host)
        })
        .collect();
    let party = players[0].member.client.get(&format!("/parties/{}", alice.party)).is(200).json();
    let Some(Value::Object(peers)) = party.get("party").and_then(|party| party.get("peers")) else {
        panic!("{party:?}")
    };
    let key = |name: &str| {
        let named = |(_, peer): &&(String, Value)| peer.get("name").and_then(Value::as_str) == Some(name);
        let (_, peer) = peers.iter().find(named).unwrap();
        peer.get("public_key").and_then(Value::as_str).unwrap()
    };
    // Two of them have both agents and each other as peers, through the relay; all have the hub for the others.
    let keys = [(key("Alice"), alice.ip), (key("Bob"), bob.ip)];
    players.iter().for_each(|player| player.add_hub(&server.hub_key, "10.66.0.0/16"));
    for (player, other) in [(&players[0], &players[1]), (&players[1], &players[0])] {
        keys.iter().for_each(|(key, ip)| player.add_peer(key, *ip, &format!("{ip}/32")));
        player.add(other);
    }

    let ips: Vec<_> =
        players.iter().map(|player| player.member.ip).chain(agents.map(|agent| agent.ip)).collect();
    for player in &players {
        ips.iter().filter(|ip| **ip != player.member.ip).for_each(|ip| _ = player.ping(*ip));
    }
    for agent in agents {
        ips.iter().filter(|ip| **ip != agent.ip).for_each(|ip| _ = agent.ping(*ip));
    }
    get_direct(&alice, &bob);
    for agent in agents {
        for (number, &ip) in ips[..4].iter().enumerate() {
            let (path, why) =
                if number < 2 { ("relay", "it may have no agent") } else { ("hub", "there is no session") };
            crate::eventually(&format!("{ip} is shown as reached by the {path}"), || {
                agent.path(ip) == path && agent.why_not_direct(ip).contains(why)
            });
        }
        println!("{}", String::from_utf8_lossy(&agent.run(&["peers"]).stdout));
    }
}
