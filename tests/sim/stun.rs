//! STUN through NATs, and how little it is worth to those who write others' addresses on it.

use crate::nat::Behaviour;
use crate::world::{SECOND, World, relay_address};
use lanrage::figures::{DropReason, Traffic};
use lanrage::relay::Port;
use lanrage::relay::limits::RelayLimits;
use lanrage::wire::stun::{mapped_address, request};
use std::net::SocketAddr;

const ID: [u8; 12] = *b"transaction!";

/// What the client hears when it asks a port.
fn ask(world: &mut World, client: usize, port: Port, change_port: bool) -> Option<SocketAddr> {
    let mut buffer = [0; 64];
    let length = request(&ID, change_port, 44, &mut buffer).unwrap();
    world.transmit(client, relay_address(port), &buffer[..length]);
    world.run(SECOND);
    world.clients[client].packets.pop().and_then(|answer| mapped_address(&answer, &ID))
}

#[test]
fn tells_nat_types_apart() {
    use Behaviour::*;
    let mut world = World::new(80);
    for (mapping, filtering) in [
        (EndpointIndependent, EndpointIndependent),
        (EndpointIndependent, AddressDependent),
        (EndpointIndependent, AddressAndPortDependent),
        (AddressAndPortDependent, AddressAndPortDependent),
    ] {
        let nat = world.nat(mapping, filtering);
        let client = world.stranger(Some(nat));
        let main = ask(&mut world, client, Port::Main, false).unwrap();
        assert_eq!(Some(main), world.clients[client].seen_as);
        let from_other_port = ask(&mut world, client, Port::Main, true);
        assert_eq!(from_other_port.is_some(), filtering != AddressAndPortDependent);
        let alternate = ask(&mut world, client, Port::Alternate, false).unwrap();
        assert_eq!(main == alternate, mapping != AddressAndPortDependent);
    }
}

#[test]
fn sources_are_limited() {
    let mut world = World::new(81);
    let mut buffer = [0; 64];
    let length = request(&ID, false, 44, &mut buffer).unwrap();
    let source: SocketAddr = "192.0.2.77:5".parse().unwrap();
    let answered = |world: &mut World, source: SocketAddr| {
        (0..100).filter(|_| world.inject(source, &buffer[..length]).is_ok()).count()
    };
    assert_eq!(answered(&mut world, source), 20);
    assert_eq!(answered(&mut world, SocketAddr::new(source.ip(), 6)), 0, "another port is no other source");
    assert_eq!(answered(&mut world, "192.0.3.77:5".parse().unwrap()), 20);
    world.run(SECOND);
    assert_eq!(answered(&mut world, source), 5);
    let stats = world.relay.stats();
    assert!(stats.traffic(Traffic::Stun).bytes <= stats.traffic(Traffic::Received).bytes);
}

/// A bare request has 20 bytes and its answer 32: what all victims get in excess is bounded.
#[test]
fn the_surplus_of_short_requests_is_bounded() {
    let mut world = World::new(82);
    let mut buffer = [0; 64];
    let length = request(&ID, false, 0, &mut buffer).unwrap();
    for _ in 0..10 {
        for _ in 0..2000 {
            let source = (world.random.next_u64() as u32).to_be_bytes();
            let _ = world.inject(SocketAddr::from((source, 53)), &buffer[..length]);
        }
        world.run(SECOND);
    }
    let stats = world.relay.stats();
    assert!(
        stats.traffic(Traffic::Stun).packets <= 400 + 10 * 200,
        "{}",
        stats.traffic(Traffic::Stun).packets
    );
    assert!(stats.traffic(Traffic::Stun).packets > 1000, "and it does answer");
    assert!(stats.traffic(Traffic::Stun).bytes < stats.traffic(Traffic::Received).bytes);
    assert!(world.dropped(DropReason::StunLimit) > 10_000);
    // A request that is as long as its answer needs no part of that.
    let length = request(&ID, false, 44, &mut buffer).unwrap();
    let source = "198.18.0.1:5".parse().unwrap();
    assert_eq!(world.inject(source, &buffer[..length]), Ok(()));
}

#[test]
fn only_stun_is_answered_on_the_other_port() {
    let mut world = World::with_limits(83, RelayLimits::default());
    let member = world.member("p", None);
    let forged = crate::attacks::initiation_for(&mut world, member);
    let client = world.stranger(None);
    world.transmit(client, relay_address(Port::Alternate), &forged);
    world.run(SECOND);
    assert_eq!(world.dropped(DropReason::WrongPort), 1);
    let malformed = [&[0, 1, 0, 4][..], &0x2112_a442_u32.to_be_bytes(), &ID].concat();
    assert_eq!(world.inject("192.0.2.1:1".parse().unwrap(), &malformed), Err(DropReason::StunMalformed));
}
