//! Much at once, as one of many packets and one by one.

use crate::host::{AgentHost, INTERFACE, URL};
use crate::lab::Lab;
use crate::server::Server;
use lanrage::crypto::random::Seeded;
use lanrage::sys::set_option;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

const PORT: u16 = 7000;
const PATIENCE: Duration = Duration::from_secs(30);
/// Sent each way by TCP, in bytes.
const BYTES: usize = 8 << 20;
/// Of a datagram, and how many are sent as one.
const DATAGRAM: usize = 1200;
const BURST: usize = 40;
const BURSTS: usize = 20;
/// The longest packet of the interface.
const MTU: f64 = 1420.0;

fn contents(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    Seeded::new(seed).fill(&mut bytes);
    bytes
}

/// How long the packets were that the machine has exchanged with its agent, on average: sent, and received.
struct Count([f64; 4]);

impl Count {
    fn of(agent: &AgentHost) -> Self {
        Count(["tx_bytes", "tx_packets", "rx_bytes", "rx_packets"].map(|name| {
            let count = agent.host.run(&format!("cat /sys/class/net/{INTERFACE}/statistics/{name}"));
            count.trim().parse().unwrap()
        }))
    }

    fn lengths_since(&self, before: &Count) -> [f64; 2] {
        [0, 2].map(|at| (self.0[at] - before.0[at]) / (self.0[at + 1] - before.0[at + 1]))
    }
}

/// Sends bytes by TCP from one to the other, and as many others back at the same time.
fn exchange_streams(from: &AgentHost, to: &AgentHost) {
    let ip = to.ip;
    let listener = to.host.inside(|| TcpListener::bind((ip, PORT)).unwrap());
    let first = from.host.inside(|| TcpStream::connect((ip, PORT)).unwrap());
    let second = listener.accept().unwrap().0;
    let ends = [(first, 1, 2), (second, 2, 1)];
    std::thread::scope(|scope| {
        for (stream, sends, expects) in &ends {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.set_write_timeout(Some(PATIENCE)).unwrap();
            scope.spawn(move || {
                (&*stream).write_all(&contents(*sends, BYTES)).unwrap();
                stream.shutdown(std::net::Shutdown::Write).unwrap();
            });
            scope.spawn(move || {
                let mut got = Vec::new();
                (&*stream).read_to_end(&mut got).unwrap();
                assert!(got == contents(*expects, BYTES), "{} bytes arrived", got.len());
            });
        }
    });
}

/// Sends datagrams, many as one, that are all to arrive as they are.
fn send_datagrams(from: &AgentHost, to: &AgentHost) {
    let [here, there] = [from, to].map(|agent| {
        let ip = agent.ip;
        agent.host.inside(|| UdpSocket::bind((ip, PORT)).unwrap())
    });
    there.set_read_timeout(Some(PATIENCE)).unwrap();
    set_option(here.as_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, DATAGRAM as i32).unwrap();
    let mut got = [0; 2 * DATAGRAM];
    for burst in 0..BURSTS {
        // The last one is shorter.
        let bytes = contents(burst as u64, BURST * DATAGRAM - 7);
        here.send_to(&bytes, (to.ip, PORT)).unwrap();
        for datagram in bytes.chunks(DATAGRAM) {
            let length = there.recv(&mut got).unwrap();
            assert!(got[..length] == *datagram, "burst {burst}");
        }
    }
}

#[test]
#[ignore = "needs root: network namespaces"]
fn much_at_once_arrives_as_it_was_sent() {
    let _alone = crate::alone();
    for [alice_has, bob_has] in [[true, true], [false, true], [false, false]] {
        let lab = Lab::new();
        let _server = Server::new(&lab);
        let more = |has: bool| if has { None } else { Some("--no-offload") };
        let arguments = ["host", URL, "Friday", "--name", "Alice"].into_iter().chain(more(alice_has));
        let mut alice = AgentHost::asleep(lab.host(10));
        alice.start(&arguments.collect::<Vec<_>>());
        let party = alice.party.clone();
        let arguments = ["join", URL, &party, "--name", "Bob"].into_iter().chain(more(bob_has));
        let mut bob = AgentHost::asleep(lab.host(11));
        bob.start(&arguments.collect::<Vec<_>>());
        crate::eventually("the way is direct", || {
            alice.ping(bob.ip);
            alice.path(bob.ip).starts_with("direct") && bob.path(alice.ip).starts_with("direct")
        });
        let before = [&alice, &bob].map(Count::of);
        exchange_streams(&alice, &bob);
        exchange_streams(&bob, &alice);
        send_datagrams(&alice, &bob);
        send_datagrams(&bob, &alice);
        let after = [&alice, &bob].map(Count::of);
        for (end, has) in [alice_has, bob_has].into_iter().enumerate() {
            let lengths = after[end].lengths_since(&before[end]);
            println!("offload {has}: packets of {lengths:.0?} bytes sent and received");
            for length in lengths {
                assert!(if has { length > 1.5 * MTU } else { length <= MTU }, "{length} bytes");
            }
        }
    }
}
