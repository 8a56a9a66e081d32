//! Coturn as a rival, and as much of a TURN client (RFC 5766) as it takes to have it relay: an allocation and a
//! channel.

use super::network::SERVER;
use super::players::{Lane, socket};
use super::process::Cores;
use super::rivals::{PATIENCE, Rival};
use super::volley::{BURST, LANES};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const PORT: u16 = 3478;
const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const ALLOCATE: u16 = 0x0003;
const CHANNEL_BIND: u16 = 0x0009;
/// What makes the type of a request that of its success response.
const SUCCESS: u16 = 0x0100;
const CHANNEL_NUMBER: u16 = 0x000c;
const XOR_PEER_ADDRESS: u16 = 0x0012;
const XOR_RELAYED_ADDRESS: u16 = 0x0016;
const REQUESTED_TRANSPORT: u16 = 0x0019;
/// In front of the attributes of a message, and of data in a channel, in bytes.
const HEADER: usize = 20;
const CHANNEL_HEADER: usize = 4;
const UDP: u8 = 17;
const IPV4: u8 = 1;
/// The first number that a channel may have.
const FIRST_CHANNEL: u16 = 0x4000;
const RETRY: Duration = Duration::from_millis(200);

/// Coturn without authentication, which costs it something per allocation, not per datagram.
pub fn start(cores: Cores) -> Option<Rival> {
    let mut command = Command::new("turnserver");
    command.args([
        "-n",
        "--no-auth",
        "--no-cli",
        "--no-tls",
        "--no-dtls",
        "--no-tcp",
        "--relay-threads",
        "1",
    ]);
    command.args(["--listening-ip", &SERVER.to_string(), "--relay-ip", &SERVER.to_string()]);
    command.args(["--listening-port", &PORT.to_string(), "--pidfile", "/dev/null", "--log-file", "stdout"]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    Rival::start(&mut command, SocketAddr::from((SERVER, PORT)), cores)
}

/// Which players of a pair have an allocation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Clients {
    /// Who sends. Who receives is reached at its own address, which must be known and open: the least work.
    One,
    /// Each, so that a datagram goes from one allocation to the other.
    Both,
}

/// Lanes through allocations, for datagrams of `size` bytes.
pub fn lanes(server: SocketAddr, clients: Clients, size: usize) -> Vec<Lane> {
    let lanes = (0..LANES).map(|number| {
        let (from, to) = (socket(2 * number), socket(2 * number + 1));
        let channel = FIRST_CHANNEL + number as u16;
        let relayed = allocate(&from, server);
        let (peer, arriving) = match clients {
            Clients::One => (to.local_addr().expect("an address"), size),
            Clients::Both => (allocate(&to, server), size + CHANNEL_HEADER),
        };
        bind_channel(&from, server, peer, channel);
        if clients == Clients::Both {
            bind_channel(&to, server, relayed, channel);
        }
        let header = [channel.to_be_bytes(), (size as u16).to_be_bytes()].concat();
        let mut lane = Lane::new(from, to, server, &[header, vec![7; size]].concat(), BURST);
        lane.arriving = arriving;
        lane
    });
    lanes.collect()
}

/// Gets an allocation: the address that it has at the server.
fn allocate(from: &UdpSocket, server: SocketAddr) -> SocketAddr {
    let answer = ask(from, server, ALLOCATE, &attribute(REQUESTED_TRANSPORT, &[UDP, 0, 0, 0]));
    let mut rest = &answer[HEADER..];
    while let [kind_0, kind_1, length_0, length_1, value @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*length_0, *length_1]));
        if u16::from_be_bytes([*kind_0, *kind_1]) == XOR_RELAYED_ADDRESS {
            let [_, IPV4, port_0, port_1, a, b, c, d, ..] = mask(value)[..] else { break };
            return SocketAddr::from(([a, b, c, d], u16::from_be_bytes([port_0, port_1])));
        }
        rest = value.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    panic!("coturn's allocation has no IPv4 address: {answer:?}")
}

/// Makes a channel of an allocation, to `peer`.
fn bind_channel(from: &UdpSocket, server: SocketAddr, peer: SocketAddr, channel: u16) {
    let SocketAddr::V4(peer) = peer else { panic!("players have IPv4 addresses") };
    let plain = [&[0, IPV4][..], &peer.port().to_be_bytes(), &peer.ip().octets()].concat();
    let mut number = channel.to_be_bytes().to_vec();
    number.extend([0, 0]);
    let attributes =
        [attribute(CHANNEL_NUMBER, &number), attribute(XOR_PEER_ADDRESS, &mask(&plain))].concat();
    ask(from, server, CHANNEL_BIND, &attributes);
}

/// Masks an address of STUN's with the magic cookie, or takes the mask off.
fn mask(value: &[u8]) -> Vec<u8> {
    let cookie = [0, 0].into_iter().chain([COOKIE[0], COOKIE[1]]).chain(COOKIE);
    value.iter().zip(cookie).map(|(byte, of_cookie)| byte ^ of_cookie).collect()
}

/// An attribute whose value needs no padding.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &(value.len() as u16).to_be_bytes(), value].concat()
}

/// Sends a request until it is granted; the answer.
fn ask(from: &UdpSocket, server: SocketAddr, kind: u16, attributes: &[u8]) -> Vec<u8> {
    let transaction = lanrage::crypto::random::bytes::<12>();
    let length = attributes.len() as u16;
    let head = [&kind.to_be_bytes()[..], &length.to_be_bytes(), &COOKIE, &transaction].concat();
    let request = [&head[..], attributes].concat();
    let granted = (kind | SUCCESS).to_be_bytes();
    let begun = Instant::now();
    let mut answer = [0; 2048];
    let mut refused = None;
    loop {
        from.send_to(&request, server).expect("sending");
        let asked = Instant::now();
        while asked.elapsed() < RETRY {
            match from.recv(&mut answer) {
                Ok(length) if length >= HEADER && answer[4..HEADER] == head[4..HEADER] => {
                    if answer[..2] == granted {
                        return answer[..length].to_vec();
                    }
                    refused = Some(answer[..length].to_vec());
                }
                Ok(_) => {}
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        assert!(begun.elapsed() < PATIENCE, "coturn does not grant request {kind:#x}: {refused:?}");
    }
}
