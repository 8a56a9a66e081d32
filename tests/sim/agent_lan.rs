//! Agents on one LAN, when nobody tells them where the others are.

use crate::agent_matrix::{Kind, nat, path, world};
use crate::agents::Seat;
use crate::world::{SECOND, World, relay_address};
use lanrage::agent::view::PathKind;
use lanrage::relay::Port;

/// Players in one house that were started with what they knew of the party: relay and control plane are gone.
fn cut_off(seed: u64, count: usize) -> (World, Vec<usize>) {
    let mut world = world(seed);
    let home = nat(&mut world, Kind::PortRestricted);
    let outside = world.nats[home.unwrap()].address;
    world.holes.push((outside, relay_address(Port::Main).ip()));
    world.has_control_plane = false;
    let players = (0..count).map(|_| world.player(home)).collect();
    (world, players)
}

fn be_alone(world: &mut World, player: usize, is_alone: bool) {
    let now = world.clock();
    world.players[player].agent.set_alone(is_alone, now);
}

#[test]
fn members_find_each_other_without_anybody_who_tells() {
    let (mut world, players) = cut_off(2000, 4);
    let (one, other, guest, neighbour) = (players[0], players[1], players[2], players[3]);
    // A member who is not there, and one who is on the LAN and in another party.
    world.players[guest].is_offline = true;
    world.gather("p", &[one, other, guest].map(Seat::Player));
    world.gather("q", &[Seat::Player(neighbour)]);
    world.run(10 * SECOND);
    assert!(!world.players_talk(one, other, SECOND), "nobody calls yet");
    be_alone(&mut world, one, true);
    be_alone(&mut world, other, true);
    let sent = world.players[neighbour].sent;
    world.run(8 * SECOND);
    assert!(world.players_talk(one, other, SECOND));
    assert_eq!((path(&world, one), path(&world, other)), (PathKind::Lan, PathKind::Lan));
    world.run(300 * SECOND);
    assert!(world.players_talk(one, other, SECOND), "and stay together");
    // Two minutes of a call a second, then one in five: for the one who is not there.
    for player in [one, other] {
        let calls = world.players[player].calls;
        println!("calls in 309 s: {calls}");
        assert!((80..170).contains(&calls), "{calls}");
    }
    assert!(world.players[neighbour].calls == 0);
    let all = world.players[neighbour].sent_to.keys().filter(|to| to.ip() != relay_address(Port::Main).ip());
    assert_eq!(all.count(), 0, "who is not meant says nothing");
    assert!(world.players[neighbour].sent - sent < 200);

    // The server is back: no calls any more.
    be_alone(&mut world, one, false);
    let calls = world.players[one].calls;
    world.run(30 * SECOND);
    assert_eq!(world.players[one].calls, calls);
}

#[test]
fn whatever_is_called_by_who_is_no_member_is_not_answered() {
    let (mut world, players) = cut_off(2010, 2);
    world.gather("p", &[Seat::Player(players[0]), Seat::Player(players[1])]);
    let strangers = ["203.0.113.9:1", "192.168.1.77:1"].map(|from| from.parse().unwrap());
    for seed in 0..2000_u64 {
        let mut bytes = vec![0; [148, 92, 60, 1400][seed as usize % 4]];
        world.random.fill(&mut bytes);
        bytes[..4].copy_from_slice(&[1 + (seed / 4 % 4) as u8, 0, 0, 0]);
        world.deliver_to_player((players[1], u16::MAX), strangers[seed as usize % 2], bytes);
    }
    let sent = &world.players[players[1]].sent_to;
    assert!(strangers.iter().all(|stranger| !sent.contains_key(stranger)), "{sent:?}");
}
