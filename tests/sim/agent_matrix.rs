//! Which NATs agents get through, and how fast: six kinds by six, two levels, one house, IPv6, and no UDP at all.

use crate::agents::Seat;
use crate::nat::{Behaviour, Ports};
use crate::world::{MILLISECOND, SECOND, World};
use lanrage::agent::view::PathKind;
use lanrage::wire::nat_type::NatType;
use std::time::Duration;

/// Kinds of NAT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Open,
    FullCone,
    Restricted,
    PortRestricted,
    Sequential,
    Random,
}

use Kind::*;

pub const KINDS: [Kind; 6] = [Open, FullCone, Restricted, PortRestricted, Sequential, Random];

/// 50 ms from anybody to anybody and back.
pub fn world(seed: u64) -> World {
    let mut world = World::new(seed);
    world.link.delay = 25 * MILLISECOND;
    world
}

pub fn nat(world: &mut World, kind: Kind) -> Option<usize> {
    use Behaviour::*;
    let (mapping, filtering) = match kind {
        Open => return None,
        FullCone => (EndpointIndependent, EndpointIndependent),
        Restricted => (EndpointIndependent, AddressDependent),
        PortRestricted => (EndpointIndependent, AddressAndPortDependent),
        Sequential | Random => (AddressAndPortDependent, AddressAndPortDependent),
    };
    let nat = world.nat(mapping, filtering);
    world.nats[nat].ports = match kind {
        Random => Ports::Random,
        _ => Ports::Step(1 + world.random.below(4) as u16),
    };
    Some(nat)
}

/// Two who come at once.
pub fn pair(world: &mut World, one: Kind, other: Kind) -> [usize; 2] {
    let nats = [nat(world, one), nat(world, other)];
    let players = nats.map(|nat| world.player(nat));
    world.gather("p", &players.map(Seat::Player));
    players
}

pub fn path(world: &World, player: usize) -> PathKind {
    world.players[player].agent.members(world.clock()).next().unwrap().path
}

pub fn is_direct(world: &World, player: usize) -> bool {
    matches!(path(world, player), PathKind::Direct | PathKind::Lan)
}

/// How long it takes until both go straight, if that is within `limit`; they talk all the while.
pub fn time_to_direct(world: &mut World, players: [usize; 2], limit: Duration) -> Option<Duration> {
    let began = world.now;
    while world.now.since(began) < limit {
        world.player_says(players[0], Seat::Player(players[1]), b"tick");
        world.player_says(players[1], Seat::Player(players[0]), b"tock");
        world.run(20 * MILLISECOND);
        if players.iter().all(|&player| is_direct(world, player)) {
            return Some(world.now.since(began));
        }
    }
    None
}

/// What an agent takes its NAT for. Who has one address can't tell a full cone from one that filters by address.
#[test]
fn kinds_are_told_apart() {
    for (kind, told) in [
        (Open, NatType::Open),
        (FullCone, NatType::RestrictedCone),
        (Restricted, NatType::RestrictedCone),
        (PortRestricted, NatType::PortRestrictedCone),
        (Sequential, NatType::Symmetric),
        (Random, NatType::Symmetric),
    ] {
        let mut world = world(290);
        let players = pair(&mut world, kind, Open);
        world.run(10 * SECOND);
        let nat = world.players[players[0]].agent.nat();
        assert_eq!(nat.kind, told, "{kind:?}");
        assert_eq!(nat.public.map(|address| address.ip()), Some(world.player_public_ip(players[0])));
        let step = (kind != Random).then_some(());
        assert_eq!(nat.port_step.map(|_| ()), step, "{kind:?}");
    }
}

#[test]
fn six_kinds_by_six() {
    println!("time to direct in ms, median of 5, or how it stays");
    let mut failures = Vec::new();
    for one in KINDS {
        let mut row = format!("{:<15}", format!("{one:?}"));
        for other in KINDS {
            let mut times: Vec<_> = (0..5)
                .map(|seed| {
                    let mut world = world(300 + seed);
                    let players = pair(&mut world, one, other);
                    let time = time_to_direct(&mut world, players, 5 * SECOND);
                    if time.is_none() {
                        assert!(world.players_talk(players[0], players[1], SECOND), "{one:?} {other:?}");
                    }
                    time
                })
                .collect();
            times.sort_by_key(|time| time.unwrap_or(Duration::MAX));
            let is_hard = |kind| matches!(kind, PortRestricted | Sequential | Random);
            let may_relay = [(one, other), (other, one)]
                .iter()
                .any(|&(one, other)| matches!(one, Sequential | Random) && is_hard(other));
            row += &match times[2] {
                Some(time) => format!("{:>10}", time.as_millis()),
                None => format!("{:>10}", "relay"),
            };
            if !may_relay && times.iter().any(|time| time.is_none_or(|time| time > SECOND)) {
                failures.push((one, other, times));
            }
        }
        println!("{row}");
    }
    assert!(failures.is_empty(), "{failures:?}");
}
