//! What attackers send to a relay, and a ledger of what each of their addresses got for it.

use super::random::Random;
use lanrage::crypto::blake2s::{hash, mac};
use lanrage::crypto::x25519::PublicKey;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

/// An initiation of nobody's to whoever has this key: mac1 needs only that, and nothing else in it is true.
pub fn initiation(to: &PublicKey, random: &mut Random) -> [u8; 148] {
    let mut message = [0; 148];
    random.fill(&mut message[4..116]);
    message[..4].copy_from_slice(&[1, 0, 0, 0]);
    let key = hash(&[b"mac1----", to.as_bytes()]);
    let mac1 = mac(&key, &[&message[..116]]);
    message[116..132].copy_from_slice(&mac1);
    message
}

/// An attacker's address, and how many bytes left it and came to it.
pub struct Attacker {
    pub socket: UdpSocket,
    pub sent: u64,
    pub received: u64,
    /// Answers, as they came.
    pub answers: Vec<Vec<u8>>,
}

impl Attacker {
    pub fn at(ip: impl Into<IpAddr>) -> Self {
        let socket = UdpSocket::bind((ip.into(), 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        Attacker { socket, sent: 0, received: 0, answers: Vec::new() }
    }

    /// Sends a datagram; whether the system took it.
    pub fn send(&mut self, datagram: &[u8], to: SocketAddr) -> bool {
        match self.socket.send_to(datagram, to) {
            Ok(_) => {
                self.sent += datagram.len() as u64;
                true
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionRefused) => {
                false
            }
            Err(error) => panic!("{} bytes: {error}", datagram.len()),
        }
    }

    /// Takes what has come. Keeps the newest.
    pub fn listen(&mut self) {
        let mut buffer = [0; 2000];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            self.received += length as u64;
            if self.answers.len() < 1000 {
                self.answers.push(buffer[..length].to_vec());
            }
        }
    }

    /// Nobody gains anything by writing this address on a datagram.
    #[track_caller]
    pub fn check(&mut self) {
        self.listen();
        assert!(self.received <= self.sent, "{} bytes for {}", self.received, self.sent);
    }
}

/// The address of this number among many.
pub fn one_of_many(network: [u8; 2], number: usize) -> Ipv4Addr {
    Ipv4Addr::new(network[0], network[1], (number >> 8) as u8, (number as u8).max(1))
}
