//! Agents and an app play through the relay.

use crate::agents::Seat;
use crate::packets::udp;
use crate::world::{HubUse, MILLISECOND, SECOND, World};
use lanrage::agent::view::{ConnectionState, PathKind};
use std::net::Ipv4Addr;

/// Two agents behind NATs, and an app that has the hub only.
fn party(seed: u64) -> (World, [usize; 2], usize) {
    let mut world = World::new(seed);
    let (one, other) = (world.symmetric(), world.symmetric());
    let players = [world.player(Some(one)), world.player(Some(other))];
    let app = world.member("p", None);
    world.use_hub(app, HubUse::Only);
    world.gather("p", &[Seat::Player(players[0]), Seat::Player(players[1]), Seat::App(app)]);
    (world, players, app)
}

#[test]
fn two_agents_and_an_app_play_through_the_relay() {
    let (mut world, [one, other], app) = party(200);
    world.run(2 * SECOND);
    assert!(world.players_talk(one, other, SECOND));
    let paths: Vec<_> = world.players[one].agent.members(world.clock()).map(|member| member.path).collect();
    assert_eq!(paths, [PathKind::Relay, PathKind::Hub]);
    // With the app through the hub, both ways.
    world.player_says(one, Seat::App(app), b"to the app");
    let packet = udp(world.clients[app].ip, world.players[one].ip, b"to the agent");
    world.send(app, &packet);
    world.run(SECOND);
    let (ip, app_ip) = (world.players[one].ip, world.clients[app].ip);
    assert!(world.clients[app].inbox.contains(&(ip, b"to the app".to_vec())));
    assert_eq!(world.heard(one, app_ip, b"to the agent"), 1);
    // For hours.
    world.run(7200 * SECOND);
    assert!(world.players_talk(one, other, SECOND));
}

/// From the first moment on, before there is a session.
#[test]
fn what_is_said_before_there_is_a_session_arrives() {
    let (mut world, [one, other], _) = party(201);
    assert!(world.players_talk(one, other, 500 * MILLISECOND));
}

#[test]
fn an_announcement_reaches_everybody_once() {
    let (mut world, [one, other], app) = party(202);
    world.run(3 * SECOND);
    for destination in [[255, 255, 255, 255], [10, 66, 255, 255], [224, 0, 2, 60]].map(Ipv4Addr::from) {
        let word = destination.octets();
        let packet = udp(world.players[one].ip, destination, &word);
        world.player_sends(one, &packet);
        world.run(SECOND);
        let ip = world.players[one].ip;
        assert_eq!(world.heard(other, ip, &word), 1, "{destination}");
        assert_eq!(world.clients[app].inbox.pop(), Some((ip, word.to_vec())));
        assert!(world.clients[app].inbox.is_empty() && world.heard(one, ip, &word) == 0);
    }
}

/// Who leaves says so, and is not asked any more.
#[test]
fn who_leaves_is_left_alone() {
    let mut world = World::new(204);
    let players = [world.player(None), world.player(None)];
    world.gather("p", &players.map(Seat::Player));
    world.run(5 * SECOND);
    let view = |world: &World| world.players[players[1]].agent.members(world.clock()).next().unwrap().path;
    assert_eq!(view(&world), PathKind::Lan);
    world.player_leaves(players[0]);
    world.run(SECOND);
    assert_eq!(view(&world), PathKind::Relay);
    let home = world.players[players[0]].local;
    let before = world.players[players[1]].sent_to[&home];
    world.run(600 * SECOND);
    assert_eq!(world.players[players[1]].sent_to[&home], before);
    // Until it is back.
    world.players[players[0]].is_offline = false;
    let now = world.clock();
    world.players[players[0]].agent.resume(now);
    world.run(2 * SECOND);
    assert_eq!(view(&world), PathKind::Lan);
}

/// Who is not reached any more is left alone after five minutes, and met again when it is back.
#[test]
fn who_is_gone_for_long_is_cleaned_up() {
    let mut world = World::new(205);
    let players = [world.player(None), world.player(None)];
    world.gather("p", &players.map(Seat::Player));
    world.run(5 * SECOND);
    let state = |world: &World| world.players[players[1]].agent.members(world.clock()).next().unwrap().state;
    assert_eq!(state(&world), ConnectionState::Connected);
    world.players[players[0]].is_offline = true;
    for _ in 0..30 {
        world.player_says(players[1], Seat::Player(players[0]), b"are you there?");
        world.run(SECOND);
    }
    assert_eq!(state(&world), ConnectionState::Failed);
    world.run(240 * SECOND);
    assert_eq!(state(&world), ConnectionState::Failed);
    world.run(240 * SECOND);
    assert_eq!(state(&world), ConnectionState::Cleanup);
    // The hub and STUN get something, nobody else does.
    let before = world.players[players[1]].sent;
    world.run(600 * SECOND);
    let sent = world.players[players[1]].sent - before;
    assert!(sent <= 24 + 5 * 4 + 10 * 3, "{sent}");
    world.players[players[0]].is_offline = false;
    assert!(!world.players_talk(players[1], players[0], MILLISECOND));
    assert_eq!(state(&world), ConnectionState::Failed);
    world.run(3 * SECOND);
    assert!(world.players_talk(players[1], players[0], SECOND));
    world.run(5 * SECOND);
    assert_eq!(state(&world), ConnectionState::Connected);
}

/// What comes out of the tunnel is for this machine's own address or for everybody, from who it says.
#[test]
fn a_member_reaches_nothing_but_the_agent_itself() {
    let (mut world, [one, other], app) = party(203);
    world.run(3 * SECOND);
    let (ip, own, app_ip) = (world.players[one].ip, world.players[other].ip, world.clients[app].ip);
    let peer = world.hub_index(app);
    for (source, destination) in [(own, ip), (app_ip, Ipv4Addr::new(192, 168, 1, 1)), (ip, ip)] {
        world.player_sends(other, &udp(source, destination, b"forged"));
        world.send_to_peer(app, peer, &udp(source, destination, b"forged"));
    }
    world.player_sends(other, &udp(app_ip, ip, b"forged"));
    world.run(SECOND);
    let forged = world.players[one].inbox.iter().filter(|(.., word)| word == b"forged");
    let sources: Vec<_> = forged.map(|(source, ..)| *source).collect();
    assert_eq!(sources, [own], "the one that says the truth");
}
