//! Floods of handshakes, and honest players beside them: two who play and must renew their sessions, and newcomers
//! who begin a handshake every five seconds until it is answered.

use crate::packets::udp;
use crate::world::{HubUse, MILLISECOND, SECOND, World};
use lanrage::crypto::x25519::PrivateKey;
use lanrage::relay::limits::RelayLimits;
use lanrage::wireguard::budget::{Budget, Lane};
use lanrage::wireguard::constants::{INITIATION_COST, X25519_TYPICAL};
use lanrage::wireguard::cookie::Signer;
use lanrage::wireguard::message::{INITIATION_LENGTH, Message};
use lanrage::wireguard::noise::{Initiator, LocalIdentity, PresharedKey, RemoteIdentity};
use lanrage::wireguard::timestamp::StampClock;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const NEWCOMERS: usize = 12;
/// How long a flood lasts, in steps of 10 ms. The players' sessions become 120 s old meanwhile.
const STEPS: usize = 2000;

/// Records in which an answer to an attacker may be: all since it sent something.
const LATELY: usize = 3000;

/// One address of an attacker, who has the cookie of it as soon as it was given one.
struct Attacker {
    address: SocketAddr,
    signer: Signer,
}

impl Attacker {
    fn at(ip: impl Into<IpAddr>) -> Self {
        Attacker { address: SocketAddr::new(ip.into(), 4242), signer: Signer::default() }
    }

    /// Sends the hub an initiation that is as good as one can be whose sender is in no party.
    fn attack(&mut self, world: &mut World, initiation: &[u8; INITIATION_LENGTH]) {
        let (hub, mut message) = (*world.relay.hub_key(), *initiation);
        // What came for the one before, which may have waited for its turn.
        let mut records = world.records().iter().rev().take(LATELY);
        let answer = records.find(|record| record.remote == self.address && !record.to_relay);
        if let Some(Message::CookieReply(reply)) = answer.and_then(|record| Message::parse(&record.bytes)) {
            let _ = self.signer.take_cookie(&hub, reply, world.now);
        }
        self.signer.sign(&hub, &mut message, world.now);
        let _ = world.inject(self.address, &message);
    }
}

/// Initiations to the hub with keys that nobody knows there.
fn strangers(world: &World, count: usize) -> Vec<[u8; INITIATION_LENGTH]> {
    let hub = RemoteIdentity::new(*world.relay.hub_key(), PresharedKey::default()).unwrap();
    let mut stamps = StampClock::new(0);
    let initiation = |index| {
        let (local, stamp) = (LocalIdentity::new(PrivateKey::generate()), stamps.stamp(world.clock().unix));
        let mut message = [0; INITIATION_LENGTH];
        Initiator::begin(&local, &hub, index as u32, stamp, PrivateKey::generate(), &mut message).unwrap();
        message
    };
    (0..count).map(initiation).collect()
}

/// What a flood did.
struct Outcome {
    /// How many initiations each newcomer sent until it was in.
    tries: Vec<usize>,
    /// How many initiations the two players sent.
    renewals: usize,
    /// How many X25519 computations the hub did for all.
    computations: u64,
}

/// Lets `flood` act every 10 ms while newcomers come, and two play who have done so for a while.
fn measure(world: &mut World, mut flood: impl FnMut(&mut World, usize)) -> Outcome {
    let players = world.hub_party("players", 2);
    let newcomers: Vec<_> = (0..NEWCOMERS).map(|_| world.member("newcomers", None)).collect();
    world.run(2 * SECOND);
    for _ in 0..11 {
        assert!(world.talk(players[0], players[1]));
        world.run(9 * SECOND);
    }
    world.capture.start();
    let homes: Vec<_> = players.iter().map(|&player| world.clients[player].seen_as.unwrap()).collect();
    let before = world.relay.x25519_count();
    let (mut tries, mut said) = (vec![None; NEWCOMERS], 0);
    for step in 0..STEPS {
        flood(world, step);
        let (each, rest) = (step / 40, step % 40);
        if each < NEWCOMERS && rest == 0 {
            world.use_hub(newcomers[each], HubUse::Only);
        }
        if step % 50 == 0 {
            world.say(players[0], players[1], &[step as u8; 40]);
            world.say(players[1], players[0], &[step as u8; 40]);
            said += 1;
        }
        world.run(10 * MILLISECOND);
        for (place, &newcomer) in newcomers.iter().enumerate().take(each + 1) {
            let hub = world.hub_index(newcomer);
            if tries[place].is_none() && world.clients[newcomer].device.can_send(hub, world.now) {
                let home = world.clients[newcomer].seen_as.unwrap();
                tries[place] = Some(initiations_from(world, home));
            }
        }
    }
    for player in players {
        let heard = world.clients[player].inbox.iter().filter(|(_, word)| word.len() == 40).count();
        assert_eq!(heard, said, "the players lost something");
    }
    let outcome = Outcome {
        tries: tries.into_iter().map(|tries| tries.expect("a newcomer did not get in")).collect(),
        renewals: homes.iter().map(|&home| initiations_from(world, home)).sum(),
        computations: world.relay.x25519_count() - before,
    };
    println!("tries {:?}, {} computations", outcome.tries, outcome.computations);
    outcome
}

fn initiations_from(world: &World, address: SocketAddr) -> usize {
    let is_one = |bytes: &[u8]| bytes.len() == INITIATION_LENGTH && bytes[0] == 1;
    let records = world.records().iter();
    records.filter(|record| record.to_relay && record.remote == address && is_one(&record.bytes)).count()
}

/// What everybody but the attackers costs.
const HONEST: u64 = (NEWCOMERS as u64 + 4) * INITIATION_COST as u64;

/// How many computations those in `lane` may cost during a flood, if they have one part in `part` of it all.
fn share(lane: Lane, part: u64) -> u64 {
    let rates = *Budget::new(X25519_TYPICAL).rates(lane);
    let per_second = 1_000_000_000 / rates.total.interval.as_nanos() as u64;
    let burst = if part == 1 { rates.total.burst } else { rates.network.burst };
    per_second * STEPS as u64 / 100 / part + u64::from(burst)
}

impl Outcome {
    /// Everybody got in soon, the players renewed their sessions at the first try, and the attack cost no more than
    /// `most` computations.
    fn check(&self, most: u64) {
        assert!(self.tries.iter().all(|&tries| tries <= 3), "{:?}", self.tries);
        assert_eq!(self.renewals, 2, "one renewal each");
        assert!(self.computations <= most + HONEST, "{} of {most}", self.computations);
    }
}

#[test]
fn a_network_with_cookies() {
    // A /48 in which the address changes with every datagram, and one /56 of it.
    for links in [0x10_000_u64, 0x100] {
        let mut world = World::new(700);
        let initiations = strangers(&world, 16);
        let ip = |number: u64| {
            let link = 0x2001_0db8_0007_0000 + number * links / 512;
            Ipv6Addr::from_bits((u128::from(link) << 64) + 1 + u128::from(number))
        };
        let mut attackers: Vec<_> = (0..512).map(|number| Attacker::at(ip(number))).collect();
        let outcome = measure(&mut world, |world, step| {
            for number in 0..16 {
                let attacker = &mut attackers[(step * 16 + number) % 512];
                attacker.attack(world, &initiations[number]);
            }
        });
        outcome.check(share(Lane::Proven, 4) + share(Lane::Unproven, 4));
    }
}

#[test]
fn a_thousand_keys_at_one_address() {
    let mut world = World::new(701);
    let initiations = strangers(&world, 1120);
    let mut attacker = Attacker::at(Ipv4Addr::new(203, 0, 113, 9));
    let outcome = measure(&mut world, |world, step| {
        // 150 a second: 178 kbit/s.
        for number in 0..1 + step % 2 {
            attacker.attack(world, &initiations[(step * 2 + number) % 1120]);
        }
    });
    outcome.check(share(Lane::Proven, 16) + share(Lane::Unproven, 16));
}

#[test]
fn false_sources() {
    let mut world = World::new(702);
    let initiations = strangers(&world, 16);
    let outcome = measure(&mut world, |world, _| {
        for initiation in &initiations {
            let number = world.random.next_u64();
            let ip = IpAddr::from(Ipv4Addr::from_bits(0x0100_0000 + (number % 0xb000_0000) as u32));
            // What is sent there reaches nobody, who would not answer.
            Attacker::at(ip).attack(world, initiation);
        }
    });
    outcome.check(share(Lane::Unproven, 1));
}

/// So slow a machine that a millisecond is one computation.
#[test]
fn packets_go_before_handshakes() {
    let limits = RelayLimits { x25519: MILLISECOND, ..RelayLimits::default() };
    let mut world = World::with_limits(703, limits);
    let players = world.hub_party("players", 2);
    assert!(world.talk(players[0], players[1]));
    world.run(SECOND);
    let initiations = strangers(&world, 8);
    let before = world.relay.x25519_count();
    world.capture.start();
    for (host, initiation) in initiations.iter().enumerate() {
        Attacker::at(Ipv4Addr::new(203, 0, host as u8, 1)).attack(&mut world, initiation);
    }
    assert_eq!(world.relay.x25519_count() - before, 1, "the others wait");
    let (from, to) = (world.clients[players[0]].ip, world.clients[players[1]].ip);
    let (packet, home) = (udp(from, to, b"at once"), world.clients[players[0]].seen_as.unwrap());
    let data = world.seal_for_hub(players[0], &packet);
    world.inject(home, &data).unwrap();
    let last = world.records().last().unwrap();
    assert!(!last.to_relay && last.bytes[0] == 4, "a packet does not wait for them");
    assert_eq!(world.relay.x25519_count() - before, 1);
    world.run(10 * MILLISECOND);
    assert_eq!(world.relay.x25519_count() - before, 8);
}
