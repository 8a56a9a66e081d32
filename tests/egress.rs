//! The relay's sockets where one player's datagrams can't leave: the line behind them is slow, or nobody answers there.

mod harness;

use harness::alone;
use harness::namespace::{Namespace, run};
use lanrage::datagram::Path;
use lanrage::net::udp::{Inbox, RelaySocket, drive};
use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// Of the slow line from the relay to the players, in bits per second.
const RATE: u64 = 20_000_000;
const SPAN: Duration = Duration::from_secs(3);
/// What fills the line: twice its rate.
const BULK: usize = 1400;
const BURST: usize = 8;
const BURST_INTERVAL: Duration = Duration::from_nanos((BULK * BURST * 8) as u64 * 500_000_000 / RATE);
/// What a game sends: 100 times a second.
const GAME: usize = 100;
const GAME_INTERVAL: Duration = Duration::from_millis(10);

/// The relay's and the players' namespaces, with a line between them and a second one that is slow from the relay to
/// the players.
struct Network {
    relay: Namespace,
    players: Namespace,
}

/// A player's address on the fast line.
const PLAYER: &str = "10.98.0.2:0";
/// A player's address behind the slow line.
const FAR_PLAYER: &str = "10.99.0.2:0";

impl Network {
    fn new() -> Self {
        let network = Network { relay: Namespace::new(), players: Namespace::new() };
        let Network { relay, players } = &network;
        for (line, subnet) in [("fast", 98), ("slow", 99)] {
            relay.ip(&format!("link add {line} type veth peer name {line} netns {}", players.name()));
            for (end, host) in [(relay, 1), (players, 2)] {
                end.ip(&format!("addr add 10.{subnet}.0.{host}/24 dev {line}"));
                end.ip(&format!("link set {line} up"));
            }
        }
        // One queue for all, first in, first out.
        let name = relay.name();
        run(&format!("tc -n {name} qdisc add dev slow root tbf rate {RATE}bit burst 16kb limit 4mb"));
        network
    }
}

/// Sends what begins with a number on to where that number's player is.
fn relay(sinks: &[SocketAddr], ready: mpsc::Sender<u16>) {
    let socket = RelaySocket::bind("0.0.0.0:0".parse().expect("an address")).expect("a port").with_senders();
    ready.send(socket.address().port()).expect("somebody waits");
    let (mut inbox, mut outbox) = (Inbox::default(), socket.outbox());
    let over = async {
        smol::Timer::after(SPAN + Duration::from_secs(2)).await;
    };
    let begun = Instant::now();
    let turn = |_| {
        let now = lanrage::time::Instant::ZERO + Duration::from_secs(10) + begun.elapsed();
        socket.turn(&mut inbox, &mut outbox, now, |datagram, _, out| {
            let path = Path::to(sinks[usize::from(datagram[0])]);
            out.forward(path, datagram.len(), datagram.len());
        })?;
        Ok(())
    };
    drive(over, &[&socket], &[], turn).expect("no error of the socket itself");
    println!("the relay: {:?}", outbox.sent());
}

/// The same, first in, first out, with what buffers the kernel gives everybody; back to who sent it if there is no such
/// player.
fn plain(sinks: &[SocketAddr], ready: mpsc::Sender<u16>) {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a port");
    socket.set_read_timeout(Some(Duration::from_secs(1))).expect("a time-out");
    ready.send(socket.local_addr().expect("its address").port()).expect("somebody waits");
    let mut buffer = [0; 2048];
    while let Ok((length, source)) = socket.recv_from(&mut buffer) {
        let sink = sinks.get(usize::from(buffer[0])).unwrap_or(&source);
        let _ = socket.send_to(&buffer[..length], sink);
    }
}

/// Who plays where, and what is streamed past them.
#[derive(Clone, Copy)]
struct Scene {
    /// Where a player sends a game's datagrams from, and gets them back.
    game: &'static str,
    /// Where somebody is who gets a stream.
    listener: Option<&'static str>,
    /// Addresses where nobody is that streams go to.
    dead: u8,
}

struct Outcome {
    /// How long each of the game's datagrams took, in order of length.
    waits: Vec<Duration>,
    /// The same for datagrams beside them that another process in the same place returns: what is the machine's fault.
    control: Vec<Duration>,
    sent: usize,
    /// Of the stream that arrived, in bits per second.
    bulk_rate: f64,
}

impl Outcome {
    fn at(&self, part: f64) -> Duration {
        self.waits[(self.waits.len() as f64 * part) as usize]
    }

    fn control_at(&self, part: f64) -> Duration {
        self.control[(self.control.len() as f64 * part) as usize]
    }

    fn show(&self, what: &str) {
        println!(
            "{what}: {} of {} arrived, p50 {:?}, p90 {:?}, p99 {:?} ({:?} beside it), worst {:?}, \
             stream {:.1} Mbit/s",
            self.waits.len(),
            self.sent,
            self.at(0.5),
            self.at(0.9),
            self.at(0.99),
            self.control_at(0.99),
            self.waits.last(),
            self.bulk_rate / 1e6
        );
    }
}

/// The relay's address on the line that an address of a player's is on.
fn relay_beside(player: SocketAddr, port: u16) -> SocketAddr {
    let SocketAddr::V4(player) = player else { panic!("no IPv6 here") };
    let [a, b, c, _] = player.ip().octets();
    SocketAddr::from(([a, b, c, 1], port))
}

fn play(network: &Network, server: fn(&[SocketAddr], mpsc::Sender<u16>), scene: Scene) -> Outcome {
    network.players.enter();
    let game = UdpSocket::bind(scene.game).expect("a socket");
    let control = UdpSocket::bind(PLAYER).expect("a socket");
    let listener = scene.listener.map(|at| UdpSocket::bind(at).expect("a socket"));
    let dead = (0..scene.dead).map(|number| SocketAddr::from(([10, 98, 0, 100 + number], 9)));
    let at = |socket: &UdpSocket| socket.local_addr().expect("its address");
    let sinks: Vec<_> = [at(&game)].into_iter().chain(listener.iter().map(at)).chain(dead).collect();
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        let (all, streams) = (&sinks, sinks.len() - 1);
        scope.spawn(move || {
            network.relay.enter();
            server(all, sender);
        });
        let port = receiver.recv().expect("the server runs");
        let (sender, receiver) = mpsc::channel();
        scope.spawn(move || {
            network.relay.enter();
            plain(&[], sender);
        });
        let control_port = receiver.recv().expect("it runs");
        let begun = Instant::now();
        let [game_waits, control_waits] = [&game, &control].map(|socket| {
            scope.spawn(move || {
                socket.set_read_timeout(Some(Duration::from_secs(1))).expect("a time-out");
                let (mut buffer, mut waits) = ([0; 2048], Vec::new());
                while let Ok(length) = socket.recv(&mut buffer) {
                    assert_eq!(length, GAME);
                    let sent = u64::from_le_bytes(buffer[1..9].try_into().expect("eight bytes"));
                    waits.push(begun.elapsed() - Duration::from_nanos(sent));
                }
                waits.sort_unstable();
                waits
            })
        });
        let heard = listener.as_ref();
        let bulk_received = scope.spawn(move || {
            let Some(listener) = heard else { return 0.0 };
            listener.set_read_timeout(Some(Duration::from_secs(1))).expect("a time-out");
            let (mut buffer, mut bytes, mut last) = ([0; 2048], 0, begun);
            while let Ok(length) = listener.recv(&mut buffer) {
                (bytes, last) = (bytes + length, Instant::now());
            }
            bytes as f64 * 8.0 / last.duration_since(begun).as_secs_f64()
        });
        let streamer = UdpSocket::bind(PLAYER).expect("a socket");
        let stream_to = relay_beside(at(&streamer), port);
        let game_to = relay_beside(at(&game), port);
        let (mut next_bulk, mut next_game, mut sent) = (begun, begun, 0);
        while begun.elapsed() < SPAN {
            let now = Instant::now();
            if next_bulk <= now && streams > 0 {
                for number in 1..=streams {
                    for _ in 0..BURST {
                        let _ = streamer.send_to(&[number as u8; BULK], stream_to);
                    }
                }
                // Who listens says so.
                if let Some(listener) = &listener {
                    let _ = listener.send_to(&[1; GAME], relay_beside(at(listener), port));
                }
                next_bulk += BURST_INTERVAL;
            }
            if next_game <= now {
                let mut datagram = [0; GAME];
                datagram[1..9].copy_from_slice(&(begun.elapsed().as_nanos() as u64).to_le_bytes());
                game.send_to(&datagram, game_to).expect("sending");
                datagram[1..9].copy_from_slice(&(begun.elapsed().as_nanos() as u64).to_le_bytes());
                control.send_to(&datagram, relay_beside(at(&control), control_port)).expect("sending");
                sent += 1;
                next_game += GAME_INTERVAL;
            }
            let next = if streams > 0 { next_bulk.min(next_game) } else { next_game };
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        let [waits, control] = [game_waits, control_waits].map(|waits| waits.join().expect("it ends"));
        Outcome { waits, control, sent, bulk_rate: bulk_received.join().expect("it ends") }
    })
}

#[test]
#[ignore = "needs root: network namespaces with a slow line"]
fn a_game_hardly_waits_while_another_fills_the_line() {
    let _alone = alone();
    let network = Network::new();
    let scene = Scene { game: FAR_PLAYER, listener: Some(FAR_PLAYER), dead: 0 };
    let [plain, own] = [plain as fn(&[_], _), relay].map(|server| play(&network, server, scene));
    plain.show("a plain relay");
    own.show("this relay");
    let (median, high) = (plain.at(0.5), own.at(0.9));
    assert!(high < median, "{high:?} at the 90th percentile against a median of {median:?}");
    assert_eq!(own.waits.len(), own.sent, "none is lost");
    assert!(own.bulk_rate > RATE as f64 * 0.8, "the line is used: {}", own.bulk_rate);
}

/// The kernel keeps up to 212,992 bytes for a neighbour that does not answer, for three seconds at a time, and charges
/// them to the socket that they were sent by.
#[test]
#[ignore = "needs root: network namespaces"]
fn streams_to_neighbours_that_are_gone_hold_up_nobody() {
    let _alone = alone();
    let network = Network::new();
    for dead in [1, 2, 3] {
        let scene = Scene { game: PLAYER, listener: Some(PLAYER), dead };
        let outcome = play(&network, relay, scene);
        outcome.show(&format!("streams to {dead} who are gone"));
        check(&outcome);
        assert!(outcome.bulk_rate > 1.8 * RATE as f64, "another's stream arrives: {}", outcome.bulk_rate);
    }
}

#[test]
#[ignore = "needs root: network namespaces with a slow line"]
fn a_slow_line_holds_up_nobody_on_another() {
    let _alone = alone();
    let network = Network::new();
    let outcome = play(&network, relay, Scene { game: PLAYER, listener: Some(FAR_PLAYER), dead: 0 });
    outcome.show("a stream that fills another line");
    check(&outcome);
    assert!(outcome.bulk_rate > RATE as f64 * 0.8, "that line is used: {}", outcome.bulk_rate);
}

/// What may be added for 99 of 100 datagrams.
const MOST_ADDED: Duration = Duration::from_millis(5);

#[track_caller]
fn check(outcome: &Outcome) {
    assert_eq!(outcome.waits.len(), outcome.sent, "none is lost");
    let (machine, own) = (outcome.control_at(0.99), outcome.at(0.99));
    assert!(own < machine + MOST_ADDED, "{own:?} at the 99th percentile, {machine:?} by a program beside it");
}
