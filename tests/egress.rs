//! The relay's sockets where the line behind them is slow and one player fills it.

use lanrage::net::udp::{Inbox, RelaySocket, drive};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// Of the line from the relay to the players, in bits per second.
const RATE: u64 = 20_000_000;
const SPAN: Duration = Duration::from_secs(3);
/// What fills the line: twice its rate.
const BULK: usize = 1400;
const BURST: usize = 8;
const BURST_INTERVAL: Duration = Duration::from_nanos((BULK * BURST * 8) as u64 * 500_000_000 / RATE);
/// What a game sends: 100 times a second.
const GAME: usize = 100;
const GAME_INTERVAL: Duration = Duration::from_millis(10);

/// Two network namespaces with a line between them that is slow in one direction; gone when this is dropped.
struct Line {
    names: [String; 2],
}

impl Line {
    fn new() -> Self {
        let names = ["relay", "players"].map(|name| format!("lanrage-egress-{name}-{}", std::process::id()));
        let line = Line { names };
        let [relay, players] = &line.names;
        for name in [relay, players] {
            run(&format!("ip netns add {name}"));
        }
        run(&format!("ip link add wire netns {relay} type veth peer name wire netns {players}"));
        for (name, host) in [(relay, 1), (players, 2)] {
            run(&format!("ip -n {name} addr add 10.98.0.{host}/24 dev wire"));
            run(&format!("ip -n {name} link set wire up"));
        }
        // One queue for all, first in, first out.
        run(&format!("tc -n {relay} qdisc add dev wire root tbf rate {RATE}bit burst 16kb limit 4mb"));
        line
    }

    /// Puts the calling thread at one end.
    fn enter(&self, end: usize) {
        let namespace = File::open(format!("/run/netns/{}", self.names[end])).expect("the namespace");
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).expect("entering it");
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

fn run(command: &str) {
    let mut words = command.split(' ');
    let done = Command::new(words.next().expect("a word")).args(words).status().expect("iproute2");
    assert!(done.success(), "{command}");
}

/// Sends what begins with a number on to where that number's player is.
fn relay(sinks: [SocketAddr; 2], ready: mpsc::Sender<SocketAddr>) {
    let socket = RelaySocket::bind("10.98.0.1:0".parse().expect("an address")).expect("a port");
    ready.send(socket.address()).expect("somebody waits");
    let (mut inbox, mut outbox) = (Inbox::default(), socket.outbox());
    let over = async {
        smol::Timer::after(SPAN + Duration::from_secs(2)).await;
    };
    let turn = |_| {
        socket.turn(&mut inbox, &mut outbox, |datagram, _, out| {
            out.push(sinks[usize::from(datagram[0])], datagram);
        })?;
        Ok(())
    };
    drive(over, &[&socket], &[], turn).expect("no error of the socket itself");
}

/// The same, first in, first out, with what buffers the kernel gives everybody.
fn plain(sinks: [SocketAddr; 2], ready: mpsc::Sender<SocketAddr>) {
    let socket = UdpSocket::bind("10.98.0.1:0").expect("a port");
    socket.set_read_timeout(Some(Duration::from_secs(1))).expect("a time-out");
    ready.send(socket.local_addr().expect("its address")).expect("somebody waits");
    let mut buffer = [0; 2048];
    while let Ok((length, _)) = socket.recv_from(&mut buffer) {
        let _ = socket.send_to(&buffer[..length], sinks[usize::from(buffer[0])]);
    }
}

struct Outcome {
    /// How long each of the game's datagrams took, in order of length.
    waits: Vec<Duration>,
    sent: usize,
    /// Of bulk that arrived, in bits per second.
    bulk_rate: f64,
}

fn play(line: &Line, server: fn([SocketAddr; 2], mpsc::Sender<SocketAddr>)) -> Outcome {
    line.enter(1);
    let sinks = [0, 1].map(|_| UdpSocket::bind("10.98.0.2:0").expect("a socket"));
    let addresses = sinks.each_ref().map(|sink| sink.local_addr().expect("its address"));
    let [bulk_sink, game_sink] = sinks;
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        scope.spawn(move || {
            line.enter(0);
            server(addresses, sender);
        });
        let server = receiver.recv().expect("the server runs");
        let begun = Instant::now();
        let game_waits = scope.spawn(move || {
            game_sink.set_read_timeout(Some(Duration::from_secs(1))).expect("a time-out");
            let (mut buffer, mut waits) = ([0; 2048], Vec::new());
            while let Ok(length) = game_sink.recv(&mut buffer) {
                assert_eq!(length, GAME);
                let sent = u64::from_le_bytes(buffer[1..9].try_into().expect("eight bytes"));
                waits.push(begun.elapsed() - Duration::from_nanos(sent));
            }
            waits
        });
        let bulk_received = scope.spawn(move || {
            bulk_sink.set_read_timeout(Some(Duration::from_secs(1))).expect("a time-out");
            let (mut buffer, mut bytes, mut last) = ([0; 2048], 0, begun);
            while let Ok(length) = bulk_sink.recv(&mut buffer) {
                (bytes, last) = (bytes + length, Instant::now());
            }
            bytes as f64 * 8.0 / last.duration_since(begun).as_secs_f64()
        });
        let socket = UdpSocket::bind("10.98.0.2:0").expect("a socket");
        let (mut next_bulk, mut next_game, mut sent) = (begun, begun, 0);
        while begun.elapsed() < SPAN {
            let now = Instant::now();
            if next_bulk <= now {
                for _ in 0..BURST {
                    let _ = socket.send_to(&[0; BULK], server);
                }
                next_bulk += BURST_INTERVAL;
            }
            if next_game <= now {
                let mut datagram = [1; GAME];
                datagram[1..9].copy_from_slice(&(begun.elapsed().as_nanos() as u64).to_le_bytes());
                socket.send_to(&datagram, server).expect("sending");
                sent += 1;
                next_game += GAME_INTERVAL;
            }
            thread::sleep(next_bulk.min(next_game).saturating_duration_since(Instant::now()));
        }
        let mut waits = game_waits.join().expect("it ends");
        waits.sort_unstable();
        Outcome { waits, sent, bulk_rate: bulk_received.join().expect("it ends") }
    })
}

#[test]
#[ignore = "needs root: network namespaces with a slow line"]
fn a_game_hardly_waits_while_another_fills_the_line() {
    let line = Line::new();
    let outcomes = [plain as fn(_, _), relay].map(|server| {
        let outcome = play(&line, server);
        let at = |part: f64| outcome.waits[(outcome.waits.len() as f64 * part) as usize];
        println!(
            "{} of {} arrived, p50 {:?}, p99 {:?}, bulk {:.1} Mbit/s",
            outcome.waits.len(),
            outcome.sent,
            at(0.5),
            at(0.99),
            outcome.bulk_rate / 1e6
        );
        (at(0.5), at(0.9), outcome)
    });
    let [(plain, _, _), (_, own, outcome)] = outcomes;
    assert!(own < plain, "{own:?} at the 90th percentile against a median of {plain:?}");
    assert_eq!(outcome.waits.len(), outcome.sent, "none is lost");
    assert!(outcome.bulk_rate > RATE as f64 * 0.8, "the line is used: {}", outcome.bulk_rate);
}
