//! Which NATs agents get through, and how fast: seven kinds by seven, two levels, one house, IPv6, and no UDP at all.

use crate::agents::Seat;
use crate::nat::{Behaviour, Ports};
use crate::world::{MILLISECOND, SECOND, World};
use lanrage::agent::view::{MappingBehaviour, PathKind};
use lanrage::wire::nat_type::NatType;
use std::time::Duration;

/// Kinds of NAT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Open,
    FullCone,
    Restricted,
    PortRestricted,
    /// The port depends on the destination's address alone, and is counted up.
    ByAddress,
    Sequential,
    Random,
}

use Kind::*;

pub const KINDS: [Kind; 7] = [Open, FullCone, Restricted, PortRestricted, ByAddress, Sequential, Random];

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
        ByAddress => (AddressDependent, AddressAndPortDependent),
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

/// What an agent takes its NAT for. Who has one address can't tell a full cone from one that filters by address; and that
/// ports depend on the address is seen by another relay alone.
#[test]
fn kinds_are_told_apart() {
    use MappingBehaviour::*;
    for (kind, told, mapping) in [
        (Open, NatType::Open, EndpointIndependent),
        (FullCone, NatType::RestrictedCone, EndpointIndependent),
        (Restricted, NatType::RestrictedCone, EndpointIndependent),
        (PortRestricted, NatType::PortRestrictedCone, EndpointIndependent),
        (ByAddress, NatType::Symmetric, AddressDependent),
        (Sequential, NatType::Symmetric, AddressAndPortDependent),
        (Random, NatType::Symmetric, AddressAndPortDependent),
    ] {
        for (count, is_late) in [(0, false), (1, false), (3, false), (1, true)] {
            let mut world = world(290);
            (0..count).for_each(|_| _ = world.far_relay(true));
            let players = pair(&mut world, kind, Open);
            if is_late {
                world.run(20 * SECOND);
            }
            world.list(true);
            world.run(10 * SECOND);
            let nat = world.players[players[0]].agent.nat();
            let is_seen = kind != ByAddress || count > 0;
            let expected =
                if is_seen { (told, mapping) } else { (NatType::PortRestrictedCone, EndpointIndependent) };
            assert_eq!((nat.kind, nat.mapping), expected, "{kind:?}, {count} relays, late: {is_late}");
            assert_eq!(nat.public.map(|address| address.ip()), Some(world.player_public_ip(players[0])));
            let step = match world.players[players[0]].realm.map(|nat| world.nats[nat].ports) {
                Some(Ports::Random) => None,
                Some(Ports::Step(step)) if is_seen && told == NatType::Symmetric => Some(step.into()),
                _ => Some(0),
            };
            assert_eq!(nat.port_step, step, "{kind:?}, {count} relays, late: {is_late}");
            // The same also after questions were asked anew, and in another network.
            world.run(700 * SECOND);
            let again = world.players[players[0]].agent.nat();
            let what = (again.kind, again.mapping, again.port_step);
            assert_eq!(what, (expected.0, expected.1, step), "{kind:?}, {count} relays");
            if let Some(nat) = world.players[players[0]].realm {
                let address = world.nats[nat].address;
                world.nats[nat].rebind(address);
            }
            let now = world.clock();
            world.players[players[0]].agent.resume(now);
            world.run(10 * SECOND);
            let again = world.players[players[0]].agent.nat();
            let what = (again.kind, again.mapping, again.port_step);
            assert_eq!(what, (expected.0, expected.1, step), "{kind:?}, {count} relays");
        }
    }
}

/// The relay's second port is closed, as it is on many routers: another relay tells nearly as much.
#[test]
fn another_relay_stands_in_for_the_second_port() {
    for (kind, told) in [
        (PortRestricted, NatType::PortRestrictedCone),
        (ByAddress, NatType::Symmetric),
        (Sequential, NatType::Symmetric),
        (Random, NatType::Symmetric),
    ] {
        for count in [0, 1] {
            let mut world = world(292);
            (0..count).for_each(|_| _ = world.far_relay(true));
            world.has_second_port = false;
            let players = pair(&mut world, kind, Open);
            world.list(true);
            world.run(10 * SECOND);
            let expected = if count == 0 { NatType::Unknown } else { told };
            assert_eq!(world.players[players[0]].agent.nat().kind, expected, "{kind:?}, {count}");
        }
    }
}

/// Two lines, one for the party's relay and one for others: that is seen, taken for no change of ports, and members get
/// through whichever leads to them.
#[test]
fn two_lines_are_no_symmetric_nat() {
    for (kind, told) in [(Restricted, NatType::RestrictedCone), (PortRestricted, NatType::PortRestrictedCone)]
    {
        for other in [Open, FullCone, Restricted, PortRestricted] {
            let mut world = world(294);
            let lines = nat(&mut world, kind);
            let nats = [lines, nat(&mut world, other)];
            let second = [203, 0, 114, 9].into();
            world.nats[lines.unwrap()].second_line = Some(second);
            (0..2).for_each(|_| _ = world.far_relay(true));
            let players = nats.map(|nat| world.player(nat));
            world.gather("p", &players.map(Seat::Player));
            world.list(true);
            let time = time_to_direct(&mut world, players, 5 * SECOND);
            println!("two lines, {kind:?} x {other:?}: direct after {time:?}");
            assert!(time.is_some(), "{kind:?} x {other:?}");
            world.run(5 * SECOND);
            let view = world.players[players[0]].agent.nat();
            assert_eq!((view.kind, view.mapping), (told, MappingBehaviour::EndpointIndependent), "{kind:?}");
            assert_eq!(view.others[0].map(|other| other.ip()), Some(second));
        }
    }
}

#[test]
fn seven_kinds_by_seven() {
    println!("with two relays: time to direct in ms, median of 5, or how it stays");
    let mut failures = Vec::new();
    for one in KINDS {
        let mut row = format!("{:<15}", format!("{one:?}"));
        for other in KINDS {
            let mut times: Vec<_> = (0..5)
                .map(|seed| {
                    let mut world = world(300 + seed);
                    world.far_relay(true);
                    let players = pair(&mut world, one, other);
                    world.list(true);
                    let time = time_to_direct(&mut world, players, 5 * SECOND);
                    if time.is_none() {
                        assert!(world.players_talk(players[0], players[1], SECOND), "{one:?} {other:?}");
                    }
                    time
                })
                .collect();
            times.sort_by_key(|time| time.unwrap_or(Duration::MAX));
            let is_hard = |kind| matches!(kind, PortRestricted | ByAddress | Sequential | Random);
            let may_relay = [(one, other), (other, one)]
                .iter()
                .any(|&(one, other)| matches!(one, ByAddress | Sequential | Random) && is_hard(other));
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
