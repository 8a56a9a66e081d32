//! Whatever UDP can carry, against the real daemon, while members play. Addresses of loopback are many sources.

use crate::Random;
use crate::floods::{Attacker, initiation, one_of_many};
use crate::player::{Player, introduce, reach};
use crate::relay::{daemon, party};
use crate::test_daemon::TestDaemon;
use crate::{PATIENCE, eventually};
use lanrage::crypto::x25519::{PrivateKey, PublicKey};
use lanrage::wire::stun;
use lanrage::wireguard::cookie::Signer;
use lanrage::wireguard::message::{INITIATION_LENGTH, Message};
use lanrage::wireguard::noise::{Initiator, LocalIdentity, PresharedKey, RemoteIdentity};
use lanrage::wireguard::timestamp::StampClock;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// The longest payload that IPv4 has room for.
const LONGEST: usize = 65_507;
/// How much more memory the daemon may have after an attack, in KiB: what its tables hold when full for the
/// parties here, and what its buffers take when they are used for the first time.
const GROWTH: u64 = 6 * 1024;

/// Two members who play blind, and a daemon that has seen a datagram of each kind.
struct Game {
    daemon: TestDaemon,
    a: Player,
    b: Player,
    keys: Vec<PublicKey>,
    sessions: usize,
    memory: u64,
}

impl Game {
    fn start() -> Self {
        let daemon = daemon();
        let (mut ann, _bob, mut a, mut b, id) = party(&daemon);
        introduce(&mut a, &mut b, daemon.relay);
        reach(&mut a, &mut b, "before");
        reach(&mut b, &mut a, "before, too");
        let answer = ann.get(&format!("/parties/{id}")).is(200);
        let hub = PublicKey::decode(&answer.text(&["network", "relay", "public_key"])).unwrap();
        let keys = vec![hub, a.key.public_key(), b.key.public_key()];
        let (sessions, memory) = (a.sessions + b.sessions, daemon.memory());
        Game { daemon, a, b, keys, sessions, memory }
    }

    fn received(&self) -> u64 {
        self.daemon.metric("lanrage_relay_packets_total{kind=\"received\"}")
    }

    /// The daemon is as it was, and the two have noticed nothing.
    fn check(mut self, what: &str) {
        reach(&mut self.a, &mut self.b, "after");
        reach(&mut self.b, &mut self.a, "after, too");
        assert_eq!(self.a.sessions + self.b.sessions, self.sessions, "they had to greet each other again");
        let memory = self.daemon.memory();
        println!("{what}: {} KiB before, {memory} KiB after", self.memory);
        assert!(memory <= self.memory + GROWTH, "{memory} KiB after {}", self.memory);
        assert!(self.daemon.is_running() && !self.daemon.setup.log().contains("panicked"));
    }
}

/// All short lengths, and those next to where something changes.
fn lengths() -> impl Iterator<Item = usize> {
    let edges = [512, 1024, 1232, 1280, 1420, 1452, 1472, 1500, 2048, 4096, 9000, 16_384, 32_768, 65_488];
    let near = edges.into_iter().flat_map(|edge| edge - 2..=edge + 2);
    (0..=320).chain(near).chain(LONGEST - 4..=LONGEST)
}

/// Kinds of what a datagram may say it is.
const KINDS: usize = 11;

fn datagram(kind: usize, length: usize, keys: &[PublicKey], random: &mut Random) -> Vec<u8> {
    let mut bytes = if kind == 0 { vec![0; length] } else { random.bytes(length) };
    let stated = (length.saturating_sub(20) as u16).to_be_bytes();
    let mut begin = |head: &[u8]| {
        let head = &head[..head.len().min(length)];
        bytes[..head.len()].copy_from_slice(head);
    };
    match kind {
        2..=5 => begin(&[kind as u8 - 1, 0, 0, 0]),
        6 => begin(&[0, 1, stated[0], stated[1], 0x21, 0x12, 0xa4, 0x42]),
        // Of another length than it states.
        7 => begin(&[0, 1, stated[0], stated[1] ^ 4, 0x21, 0x12, 0xa4, 0x42]),
        8 => begin(&[0, 1, stated[0], stated[1]]),
        // One that is to be answered, if it is as long as its answer.
        9 if length >= 32 && length.is_multiple_of(4) => {
            let transaction = *random.bytes(12).first_chunk().unwrap();
            stun::request(&transaction, false, length, &mut bytes).unwrap();
        }
        10 if length == 148 => {
            let to = random.below(keys.len());
            bytes = initiation(&keys[to], random).to_vec();
        }
        _ => {}
    }
    bytes
}

#[test]
fn datagrams_of_every_length_and_kind() {
    let game = Game::start();
    let mut random = Random::new(1);
    let mut attackers: Vec<_> = (0..256).map(|number| Attacker::at(one_of_many([127, 7], number))).collect();
    let (mut count, mut bytes, begun) = (0, 0, game.received());
    for length in lengths() {
        for kind in 0..KINDS {
            let datagram = datagram(kind, length, &game.keys, &mut random);
            let attacker = random.below(attackers.len());
            assert!(attackers[attacker].send(&datagram, game.daemon.relay), "{length}");
            count += 1;
            bytes += length + 1000;
            if bytes > 150_000 {
                // The kernel holds only so much; all of it is to be seen.
                eventually("all of it is taken", || game.received() >= begun + count);
                bytes = 0;
            }
        }
    }
    eventually("all of it is taken", || game.received() >= begun + count);
    assert!(count > 4000);
    attackers.iter_mut().for_each(Attacker::check);
    let answers: usize = attackers.iter().map(|attacker| attacker.answers.len()).sum();
    assert!(answers > 50, "and it does answer: {answers}");
    game.check("every length");
}

/// Runs that the kernel hands over as one (GRO): what one of their datagrams is means nothing for the next.
#[test]
fn coalesced_mixtures() {
    let game = Game::start();
    let mut random = Random::new(2);
    let segments: [usize; 15] = [1, 19, 20, 31, 32, 44, 64, 91, 92, 96, 147, 148, 152, 1000, 1452];
    for (place, segment) in segments.into_iter().enumerate() {
        let mut attacker = Attacker::at(one_of_many([127, 8], place + 1));
        let socket = attacker.socket.as_fd();
        lanrage::sys::set_option(socket, libc::SOL_UDP, libc::UDP_SEGMENT, segment as i32).unwrap();
        let mut asked = Vec::new();
        for _ in 0..4 {
            let count = 64.min(60_000 / segment);
            let mut run = Vec::new();
            for number in 0..count {
                let wanted = segment >= 32 && segment.is_multiple_of(4) && number % 16 == 7;
                let kind = if wanted { 9 } else { [0, 1, 2, 3, 4, 5, 7, 10][random.below(8)] };
                let length = if number + 1 == count { 1 + random.below(segment) } else { segment };
                let bytes = datagram(kind, length, &game.keys, &mut random);
                if wanted {
                    asked.push(bytes[8..20].to_vec());
                }
                run.extend(bytes);
            }
            let begun = game.received();
            assert!(attacker.send(&run, game.daemon.relay));
            eventually("the run is taken", || game.received() >= begun + count as u64);
        }
        eventually("every request in it is answered", || {
            attacker.listen();
            attacker.answers.iter().filter(|answer| answer.starts_with(&[1, 1])).count() >= asked.len()
        });
        attacker.check();
        let mut answered: Vec<_> = attacker.answers.iter().filter(|answer| answer[..2] == [1, 1]).collect();
        answered.sort_by_key(|answer| asked.iter().position(|id| **id == answer[8..20]));
        assert!(answered.iter().map(|answer| &answer[8..20]).eq(asked.iter().map(|id| &id[..])));
    }
    game.check("coalesced");
}

/// For so long, as fast as this machine can.
fn flood(span: Duration, mut send: impl FnMut()) -> u64 {
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < span {
        (0..64).for_each(|_| send());
        count += 64;
    }
    count
}

#[test]
fn noise_at_full_speed() {
    let game = Game::start();
    let mut random = Random::new(3);
    let mut attackers: Vec<_> = (0..64).map(|number| Attacker::at(one_of_many([127, 9], number))).collect();
    let supply = random.bytes(LONGEST);
    let count = flood(Duration::from_secs(3), || {
        let length = random.below(1500);
        let start = random.below(LONGEST - length);
        let attacker = random.below(attackers.len());
        attackers[attacker].send(&supply[start..][..length], game.daemon.relay);
    });
    println!("{count} datagrams");
    assert!(game.received() > 1000);
    attackers.iter_mut().for_each(Attacker::check);
    assert!(attackers.iter().all(|attacker| attacker.received == 0), "there is nothing to answer");
    game.check("random");
}

#[test]
fn handshakes_from_one_source_and_from_many() {
    for sources in [1, 1024] {
        let game = Game::start();
        let mut random = Random::new(4);
        let at = |number| Attacker::at(one_of_many([127, 10], number));
        let mut attackers: Vec<_> = (0..sources).map(at).collect();
        let count = flood(Duration::from_secs(3), || {
            let to = random.below(game.keys.len());
            let message = initiation(&game.keys[to], &mut random);
            let attacker = random.below(attackers.len());
            attackers[attacker].send(&message, game.daemon.relay);
        });
        let listened = Instant::now();
        eventually("the last answers are in", || {
            attackers.iter_mut().for_each(Attacker::check);
            listened.elapsed() > Duration::from_secs(1)
        });
        let answers: usize = attackers.iter().map(|attacker| attacker.answers.len()).sum();
        println!("{count} handshakes from {sources}, {answers} answers");
        // Made up as they are, all that can come of them is a cookie, or one that another of them sent: who asks
        // for one of two members may be the other one (rule 4). Of the members' own session nothing comes.
        let mut answers = attackers.iter().flat_map(|attacker| &attacker.answers);
        assert!(answers.all(|answer| matches!((answer[0], answer.len()), (1, 148) | (3, 64))));
        game.check("handshakes");
    }
}

/// Somebody with the addresses of a whole network, who takes the cookie of each and sends keys that nobody knows: what
/// that costs in X25519 is bounded by the time it takes, however many there are, and a newcomer beside it is let in.
#[test]
fn handshakes_from_a_network_that_takes_its_cookies() {
    /// Of one core: a quarter of what strangers have is for one network, and some room for random.
    const SHARE: f64 = 0.1;
    /// What may be done at once, in seconds.
    const BURST: f64 = 0.05;
    /// What looking at a cookie costs, as a part of what a datagram costs anyway.
    const COOKIE: f64 = 0.5;
    let daemon = daemon();
    let (mut ann, _bob, mut a, _b, id) = party(&daemon);
    let answer = ann.get(&format!("/parties/{id}")).is(200);
    let hub = PublicKey::decode(&answer.text(&["network", "relay", "public_key"])).unwrap();
    let remote = RemoteIdentity::new(hub, PresharedKey::default()).unwrap();
    let clock = lanrage::daemon::now();
    let mut attackers: Vec<_> = (1..250)
        .map(|number| {
            let (local, mut message) = (LocalIdentity::new(PrivateKey::generate()), [0; INITIATION_LENGTH]);
            let (ephemeral, stamp) = (PrivateKey::generate(), StampClock::new(0).stamp(clock.unix));
            Initiator::begin(&local, &remote, number as u32, stamp, ephemeral, &mut message).unwrap();
            let mut signer = Signer::default();
            signer.sign(&hub, &mut message, clock.instant);
            (Attacker::at(one_of_many([127, 11], number)), signer, message)
        })
        .collect();
    eventually("each has its cookie", || {
        let mut all = true;
        for (attacker, signer, message) in &mut attackers {
            if message[132..] != [0; 16] {
                continue;
            }
            attacker.listen();
            for answer in std::mem::take(&mut attacker.answers) {
                if let Some(Message::CookieReply(reply)) = Message::parse(&answer)
                    && signer.take_cookie(&hub, reply, clock.instant)
                {
                    signer.sign(&hub, message, clock.instant);
                }
            }
            if message[132..] == [0; 16] {
                all = false;
                attacker.send(&message[..], daemon.relay);
            }
        }
        all
    });
    // The same, but for nobody: what datagrams cost without any X25519.
    let received = || daemon.metric("lanrage_relay_packets_total{kind=\"received\"}");
    let mut flood = |is_for_hub: bool, mut beside: Box<dyn FnMut() -> bool + '_>| {
        let (begun, cpu, count) = (Instant::now(), daemon.cpu(), received());
        let mut next = 0;
        while !beside() || begun.elapsed() < Duration::from_secs(4) {
            for _ in 0..100 {
                next += 1;
                let place = next % attackers.len();
                let (attacker, _, message) = &mut attackers[place];
                let mut message = *message;
                message[116] ^= u8::from(!is_for_hub);
                attacker.send(&message, daemon.relay);
            }
        }
        (begun.elapsed().as_secs_f64(), (daemon.cpu() - cpu).as_secs_f64(), (received() - count) as f64)
    };
    let pause = || std::thread::sleep(Duration::from_millis(5));
    let (_, plain, count) = flood(
        false,
        Box::new(|| {
            pause();
            true
        }),
    );
    let each = plain / count;
    a.greet_hub(hub, daemon.relay);
    let begun = Instant::now();
    let mut took = None;
    let (span, cpu, count) = flood(
        true,
        Box::new(|| {
            // Waits as long as a pause.
            a.pump();
            if a.sessions > 0 && took.is_none() {
                took = Some(begun.elapsed());
            }
            assert!(begun.elapsed() < PATIENCE, "a newcomer is kept out");
            took.is_some()
        }),
    );
    let extra = cpu - each * count;
    println!(
        "{count} datagrams in {span:.1} s: {:.1} us each without X25519, {extra:.2} s more with; a newcomer took {took:?}",
        each * 1e6
    );
    assert!(extra <= span * SHARE + BURST + COOKIE * each * count, "{extra} s of {span} s");
    // Two retries, and their jitter.
    assert!(took.unwrap() < Duration::from_millis(11_500), "{took:?}");
}
