//! `lanrage bench`: what the relay costs on this machine, and how many players that is enough for.

mod stage;

use super::command::Invocation;
use super::output::Style;
use super::table::Facts;
use super::{CommandFailure, output};
use lanrage::crypto::aead::PacketKey;
use lanrage::crypto::random;
use lanrage::crypto::x25519::PrivateKey;
use lanrage::daemon::now;
use lanrage::datagram::Path;
use lanrage::net::udp::{Inbox, RelaySocket, SendQueue};
use lanrage::relay::{Output, Port};
use lanrage::wire::json;
use lanrage::wireguard::budget::{Budget, Lane};
use lanrage::wireguard::constants::{INITIATION_COST, PROVEN_SHARE, UNPROVEN_SHARE};
use lanrage::wireguard::cookie::Mac1Key;
use lanrage::wireguard::message::{INITIATION_LENGTH, Message, RESPONSE_LENGTH};
use lanrage::wireguard::noise::{Claim, Initiator, LocalIdentity, PresharedKey, RemoteIdentity};
use lanrage::wireguard::timestamp::StampClock;
use stage::{ROOM, Stage, Way};
use std::hint::black_box;
use std::io::{self, IsTerminal, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

/// Payloads of WireGuard datagrams, in bytes: a game's, and a download's.
const SMALL: usize = 112;
const LARGE: usize = 1424;
/// How long each figure is measured.
const SPAN: Duration = Duration::from_millis(300);
/// Things done between two looks at the clock.
const BATCH: usize = 48;
/// What packets are apart in the relay's own time.
const GAP: Duration = Duration::from_micros(2);
/// After this much silence, what was sent over loopback is lost.
const PATIENCE: Duration = Duration::from_millis(20);
/// What a game sends for one player, in bits per second, and the part of one core that it may have.
const PLAYER_BITS: u64 = 30_000;
const PLAYER_SHARE: u64 = 2;

/// A figure: the time that one of something takes, in nanoseconds.
struct Figure {
    key: &'static str,
    name: &'static str,
    nanos: u64,
}

/// All figures, as they come in.
struct Figures {
    list: Vec<Figure>,
    progress: bool,
}

impl Figures {
    fn add(
        &mut self,
        key: &'static str,
        name: &'static str,
        measure: impl FnOnce() -> Result<u64, CommandFailure>,
    ) -> Result<u64, CommandFailure> {
        if self.progress {
            // Nobody is left to be told if this fails.
            let _ = write!(io::stderr(), "\r\x1b[Kmeasuring: {name}");
        }
        let nanos = measure()?.max(1);
        self.list.push(Figure { key, name, nanos });
        Ok(nanos)
    }

    fn done(&self) {
        if self.progress {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// What the figures come to.
struct BenchVerdict {
    players: u64,
    blind_mbit: u64,
    hub_mbit: u64,
    handshakes: u64,
    x25519: u64,
    strangers: u64,
    trials: u64,
}

/// `lanrage bench`.
pub fn run(invocation: &Invocation) -> Result<(), CommandFailure> {
    let mut figures = Figures { list: Vec::new(), progress: io::stderr().is_terminal() };
    let result = measure_all(&mut figures);
    figures.done();
    let verdict = result?;
    output::write(&match invocation.has("json") {
        true => to_json(&figures, &verdict) + "\n",
        false => human(&figures, &verdict, Style::of_stdout()),
    })
}

fn measure_all(figures: &mut Figures) -> Result<BenchVerdict, CommandFailure> {
    figures.add("seal_small_ns", "encrypt 100 bytes", || Ok(seal(100)))?;
    figures.add("open_small_ns", "decrypt 100 bytes", || Ok(open(100)))?;
    figures.add("seal_large_ns", "encrypt 1420 bytes", || Ok(seal(1420)))?;
    figures.add("open_large_ns", "decrypt 1420 bytes", || Ok(open(1420)))?;
    let x25519 = figures.add("x25519_ns", "compute X25519", || Ok(x25519()))?;
    let trial = figures.add("mac1_ns", "try a mac1", || Ok(mac1()))?;
    let handshake = figures.add("handshake_ns", "answer a handshake", handshake)?;
    figures
        .add("blind_small_ns", "relay a small packet unread, in memory", || in_memory(Way::Blind, SMALL))?;
    figures
        .add("blind_large_ns", "relay a large packet unread, in memory", || in_memory(Way::Blind, LARGE))?;
    figures
        .add("hub_small_ns", "relay a small packet by the hub, in memory", || in_memory(Way::Hub, SMALL))?;
    figures
        .add("hub_large_ns", "relay a large packet by the hub, in memory", || in_memory(Way::Hub, LARGE))?;
    let small = figures
        .add("udp_blind_small_ns", "relay a small packet unread, over UDP", || over_udp(Way::Blind, SMALL))?;
    let blind = figures
        .add("udp_blind_large_ns", "relay a large packet unread, over UDP", || over_udp(Way::Blind, LARGE))?;
    let hub_small = figures
        .add("udp_hub_small_ns", "relay a small packet by the hub, over UDP", || over_udp(Way::Hub, SMALL))?;
    let hub = figures
        .add("udp_hub_large_ns", "relay a large packet by the hub, over UDP", || over_udp(Way::Hub, LARGE))?;
    let per_second = |nanos: u64| 1_000_000_000 / nanos;
    let mbit = |nanos: u64| per_second(nanos) * LARGE as u64 * 8 / 1_000_000;
    Ok(BenchVerdict {
        // The dearer way, so that the answer holds for both.
        players: per_second(small.max(hub_small)) * SMALL as u64 * 8 / PLAYER_BITS / PLAYER_SHARE,
        blind_mbit: mbit(blind),
        hub_mbit: mbit(hub),
        handshakes: per_second(handshake),
        x25519: per_second(x25519),
        strangers: strangers_per_second(Duration::from_nanos(x25519)),
        trials: per_second(trial),
    })
}

fn to_json(figures: &Figures, verdict: &BenchVerdict) -> String {
    json::object(|json| {
        for figure in &figures.list {
            json.key(figure.key).int(figure.nanos);
        }
        json.key("handshakes_per_second").int(verdict.handshakes);
        json.key("x25519_per_second").int(verdict.x25519);
        json.key("strangers_handshakes_per_second").int(verdict.strangers);
        json.key("mac1_trials_per_second").int(verdict.trials);
        json.key("players").int(verdict.players);
        json.key("blind_mbit_per_second").int(verdict.blind_mbit);
        json.key("hub_mbit_per_second").int(verdict.hub_mbit);
    })
}

fn human(figures: &Figures, verdict: &BenchVerdict, style: Style) -> String {
    let mut facts = Facts::default();
    for figure in &figures.list {
        let hundredths = (figure.nanos + 5) / 10;
        let micros = format!("{}.{:02}", hundredths / 100, hundredths % 100);
        facts.add(figure.name, &format!("{micros:>8} us {:>12} a second", 1_000_000_000 / figure.nanos));
    }
    let BenchVerdict { players, blind_mbit, hub_mbit, handshakes, x25519, strangers, trials } = verdict;
    facts.text(style)
        + &format!(
            "\nThis machine can carry about {players} players at {} kbit/s each. That assumes games' packets of\n\
             {SMALL} bytes, the dearer of the two ways, and half of one core left for everything else.\n\
             One core carries {blind_mbit} Mbit/s between players who reach each other through it, {hub_mbit} Mbit/s between\n\
             those who use it as a hub, and {handshakes} handshakes a second.\n\
             It computes X25519 {x25519} times a second and tries {trials} mac1. Strangers together get up to {strangers}\n\
             handshakes a second: a flood of them takes no more than {}% of that core for X25519.\n\
             The network card and its driver come on top: loopback has neither.\n",
            PLAYER_BITS / 1000,
            UNPROVEN_SHARE + PROVEN_SHARE
        )
}

/// How many whole handshakes those of whom nothing is known get on a machine as fast as this.
fn strangers_per_second(x25519: Duration) -> u64 {
    let budget = Budget::new(x25519);
    let nanos = |lane| budget.rates(lane).total.interval.as_nanos() as u64 * u64::from(INITIATION_COST);
    [Lane::Unproven, Lane::Proven].map(|lane| 1_000_000_000 / nanos(lane).max(1)).iter().sum()
}

/// The median time that one of `count` things takes that each call of `work` does, in nanoseconds. `work`
/// says how long it took, so that it can prepare in peace.
fn median(
    count: usize,
    mut work: impl FnMut() -> Result<Duration, CommandFailure>,
) -> Result<u64, CommandFailure> {
    let mut times = Vec::new();
    let begun = now().instant;
    while times.is_empty() || now().instant.since(begun) < SPAN {
        times.push(work()?);
    }
    let middle = times.len() / 2;
    let (_, median, _) = times.select_nth_unstable(middle);
    Ok(u64::try_from(median.as_nanos()).unwrap_or(u64::MAX) / count as u64)
}

/// As [`median`], of something that needs no preparation.
fn repeat(mut work: impl FnMut()) -> u64 {
    let batch = || {
        let begun = now().instant;
        (0..BATCH).for_each(|_| work());
        Ok(now().instant.since(begun))
    };
    // Nothing in it fails.
    median(BATCH, batch).unwrap_or(u64::MAX)
}

fn seal(length: usize) -> u64 {
    let key = PacketKey::new(&random::bytes());
    let (mut text, mut counter) = (vec![0; length], 0);
    repeat(|| {
        black_box(key.seal(counter, &[], &mut text));
        counter += 1;
    })
}

fn open(length: usize) -> u64 {
    let key = PacketKey::new(&random::bytes());
    let mut sealed = vec![0; length];
    let tag = key.seal(0, &[], &mut sealed);
    let mut text = sealed.clone();
    repeat(|| {
        text.copy_from_slice(&sealed);
        let _ = black_box(key.open(0, &[], &mut text, &tag));
    })
}

/// What handshakes are made of.
fn x25519() -> u64 {
    let (ours, theirs) = (PrivateKey::generate(), PrivateKey::generate().public_key());
    repeat(|| {
        black_box(ours.diffie_hellman(&theirs));
    })
}

/// Looks whether an initiation is for a member.
fn mac1() -> u64 {
    let key = Mac1Key::new(&PrivateKey::generate().public_key());
    let message = [1; INITIATION_LENGTH];
    repeat(|| {
        black_box(key.matches(black_box(&message)));
    })
}

/// Reads an initiation and answers it, as a relay does for a member that it knows.
fn handshake() -> Result<u64, CommandFailure> {
    let failed = || CommandFailure::failed("a handshake with ourselves did not work");
    let [ours, theirs] = [PrivateKey::generate(), PrivateKey::generate()].map(LocalIdentity::new);
    let remote =
        |identity: &LocalIdentity| RemoteIdentity::new(*identity.public_key(), PresharedKey::default());
    let (us, them) = (remote(&ours).ok_or_else(failed)?, remote(&theirs).ok_or_else(failed)?);
    let mut initiation = [0; INITIATION_LENGTH];
    let stamp = StampClock::new(0).stamp(now().unix);
    Initiator::begin(&theirs, &us, 1, stamp, PrivateKey::generate(), &mut initiation).ok_or_else(failed)?;
    let mut response = [0; RESPONSE_LENGTH];
    median(1, || {
        let begun = now().instant;
        let Some(Message::Initiation(message)) = Message::parse(&initiation) else { return Err(failed()) };
        let responder = Claim::read(&ours, message).and_then(|claim| claim.authenticate(&ours, &them));
        let session = responder
            .and_then(|responder| responder.respond(&them, 2, PrivateKey::generate(), &mut response));
        session.ok_or_else(failed)?;
        Ok(now().instant.since(begun))
    })
}

fn no_sessions() -> CommandFailure {
    CommandFailure::failed("the members of a relay in memory did not get sessions")
}

/// The relay without sockets.
fn in_memory(way: Way, size: usize) -> Result<u64, CommandFailure> {
    let addresses = [1, 2, 3, 4].map(|last| SocketAddr::from(([192, 0, 2, last], 51_820)));
    let relay_at = SocketAddr::from(([198, 51, 100, 1], 51_820));
    let mut stage = Stage::new(addresses, relay_at).ok_or_else(no_sessions)?;
    let (from, to) = way.ends();
    let mut datagrams = vec![([0; ROOM], 0); BATCH];
    median(BATCH, || {
        for (room, length) in &mut datagrams {
            stage.pass(GAP);
            *length = stage.seal(way, size, room);
        }
        let mut arrived = 0;
        let begun = now().instant;
        for (room, length) in &mut datagrams {
            stage.relay(
                &mut room[..*length],
                addresses[from],
                &mut |at: SocketAddr, _: Port, bytes: &[u8]| {
                    black_box(bytes);
                    arrived += usize::from(at == addresses[to]);
                },
            );
        }
        let took = now().instant.since(begun);
        if arrived == BATCH {
            Ok(took)
        } else {
            Err(CommandFailure::failed("the relay in memory lost packets"))
        }
    })
}

/// The way out of the relay's socket.
struct Exit<'a>(&'a mut SendQueue);

impl Output for Exit<'_> {
    fn forward(&mut self, to: Path, received: &[u8], segment: usize) {
        self.0.forward(to, received.len(), segment);
    }

    fn send(&mut self, to: Path, _: Port, datagram: &[u8]) {
        self.0.send(to, datagram);
    }
}

/// The relay with sockets, over loopback: what it takes to receive, handle and send again. Sending to it and
/// receiving from it are not counted.
fn over_udp(way: Way, size: usize) -> Result<u64, CommandFailure> {
    let socket_failed =
        |error: io::Error| CommandFailure::failed(format_args!("a UDP socket on loopback: {error}"));
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let relay_socket = RelaySocket::bind(loopback).map_err(CommandFailure::failed)?.with_senders();
    let sockets: Vec<UdpSocket> =
        (0..4).map(|_| UdpSocket::bind(loopback)).collect::<Result<_, _>>().map_err(socket_failed)?;
    let mut addresses = [loopback; 4];
    for (address, socket) in addresses.iter_mut().zip(&sockets) {
        socket.set_nonblocking(true).map_err(socket_failed)?;
        *address = socket.local_addr().map_err(socket_failed)?;
    }
    let relay_at = relay_socket.address();
    let mut stage = Stage::new(addresses, relay_at).ok_or_else(no_sessions)?;
    let (mut inbox, mut outbox) = (Inbox::default(), relay_socket.outbox());
    if size == SMALL {
        // Those of one player come together here; those of many would not leave as one.
        outbox.disable_gso();
    }
    let (from, to) = way.ends();
    let (mut room, mut sent_so_far) = ([0; ROOM], 0);
    median(BATCH, || {
        for _ in 0..BATCH {
            stage.pass(GAP);
            let length = stage.seal(way, size, &mut room);
            sockets[from].send_to(&room[..length], relay_at).map_err(socket_failed)?;
        }
        let mut taken = 0;
        let begun = now().instant;
        let mut last = begun;
        while taken < BATCH && last.since(begun) < PATIENCE {
            let turn = relay_socket.turn(&mut inbox, &mut outbox, last, |datagram, meta, outbox| {
                stage.relay(datagram, meta.path.remote, &mut Exit(outbox));
            });
            taken += turn.map_err(socket_failed)?;
            last = now().instant;
        }
        let took = last.since(begun);
        while sockets[to].recv(&mut room).is_ok() {}
        let sent = outbox.sent().sent;
        let complete = sent - sent_so_far == BATCH as u64;
        sent_so_far = sent;
        if complete { Ok(took) } else { Err(CommandFailure::failed("packets were lost on loopback")) }
    })
}
