//! Those who use the servers: members with real WireGuard sessions, and lanes of datagrams between them.

use super::client::{Client, request, text_member};
use super::network::player;
use lanrage::crypto::x25519::{PrivateKey, PublicKey};
use lanrage::sys;
use lanrage::time::{Instant, Now, UnixTime};
use lanrage::wireguard::allowed_ips::Prefix;
use lanrage::wireguard::constants::X25519_TYPICAL;
use lanrage::wireguard::device::{Config, Device};
use lanrage::wireguard::peer::{PeerConfig, PeerIndex};
use lanrage::wireguard::verdict::Sent;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A session with the hub or with another player is up by then: two retries.
const PATIENCE: Duration = Duration::from_secs(15);
/// In front of a packet that is to be sealed, in bytes.
const HEADER: usize = 16;

/// The time, as WireGuard needs it.
pub fn now() -> Now {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).expect("a date after 1970");
    let nanos = unix.as_nanos() as u64;
    Now { instant: Instant::from_nanos(nanos), unix: UnixTime::from_micros((nanos / 1000) as i64) }
}

/// A socket in the namespace of the players.
pub fn socket(number: usize) -> UdpSocket {
    let socket = UdpSocket::bind(player(number)).expect("a socket");
    roomy(&socket);
    socket
}

/// Never blocks, takes runs of datagrams as one and has room for more than a volley, so that what is lost was lost by
/// the server.
pub fn roomy(socket: &UdpSocket) {
    socket.set_nonblocking(true).expect("a socket that does not block");
    sys::set_option(socket.as_fd(), libc::SOL_UDP, libc::UDP_GRO, 1).expect("UDP_GRO");
    sys::set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 4 << 20).expect("a buffer");
}

/// A member of a party, as its machine sees it.
pub struct Player {
    pub socket: UdpSocket,
    pub private_key: PrivateKey,
    device: Device,
    pub key: PublicKey,
    pub ip: Ipv4Addr,
    peer: Option<PeerIndex>,
}

impl Player {
    /// With the address `number` in the players' network and `ip` in the virtual one.
    pub fn new(number: usize, ip: Ipv4Addr) -> Self {
        Player::at(socket(number), number, ip)
    }

    /// With a socket of its own; `number` is anything that nobody else has.
    pub fn at(socket: UdpSocket, number: usize, ip: Ipv4Addr) -> Self {
        let private_key = PrivateKey::generate();
        let config = Config {
            private_key: private_key.clone(),
            mtu: 1420,
            stamp_mark: 0,
            jitter_seed: number as u64,
            x25519: X25519_TYPICAL,
        };
        let device = Device::new(config, now().instant);
        Player { socket, private_key, key: *device.public_key(), device, ip, peer: None }
    }

    /// What it wants to reach is behind `key` at `endpoint`.
    pub fn reach(&mut self, key: PublicKey, endpoint: SocketAddr) {
        let config = PeerConfig {
            endpoint: Some(endpoint),
            allowed_ips: vec![Prefix::new(IpAddr::from([10, 66, 0, 0]), 16).expect("a prefix")],
            persistent_keepalive: Some(Duration::from_secs(25)),
            ..PeerConfig::new(key)
        };
        self.peer = Some(self.device.add_peer(config, now().instant).expect("a good key"));
    }

    fn is_ready(&self) -> bool {
        self.peer.is_some_and(|peer| self.device.can_send(peer, now().instant))
    }

    /// Sends what its device wants to send and takes what has come.
    fn turn(&mut self) {
        let mut buffer = [0; 2048];
        while let Ok((length, source)) = self.socket.recv_from(&mut buffer) {
            self.device.receive(&mut buffer[..length], source, now());
        }
        while let Some(outgoing) = self.device.poll(now(), &mut buffer) {
            self.socket.send_to(&buffer[..outgoing.length], outgoing.to).expect("sending");
        }
    }

    /// Writes a datagram with a UDP packet of `length` bytes for `to` into the start of `room`; its length.
    pub fn seal(&mut self, to: Ipv4Addr, length: usize, room: &mut [u8]) -> usize {
        let packet = &mut room[HEADER..HEADER + length];
        packet.fill(0);
        packet[0] = 0x45;
        packet[2..4].copy_from_slice(&(length as u16).to_be_bytes());
        packet[8] = 64;
        packet[9] = 17;
        packet[12..16].copy_from_slice(&self.ip.octets());
        packet[16..20].copy_from_slice(&to.octets());
        let sum: u32 =
            packet[..20].chunks(2).map(|two| u32::from(u16::from_be_bytes([two[0], two[1]]))).sum();
        let folded = (sum & 0xffff) + (sum >> 16);
        packet[10..12].copy_from_slice(&(!(folded as u16)).to_be_bytes());
        let peer = self.peer.expect("somebody to send to");
        match self.device.send(peer, room, length, now()) {
            Sent::Sealed { length, .. } => length,
            other => panic!("no session: {other:?}"),
        }
    }
}

/// Lets everybody shake hands.
pub fn settle(players: &mut [Player]) {
    let begun = now().instant;
    while !players.iter().all(Player::is_ready) {
        players.iter_mut().for_each(Player::turn);
        assert!(now().instant.since(begun) < PATIENCE, "no session through the server");
        std::thread::sleep(Duration::from_millis(1));
    }
    // The first packets, which confirm sessions, are still under way.
    for _ in 0..50 {
        players.iter_mut().for_each(Player::turn);
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Makes a party of each two players by the control API; the hub's key. The players learn their addresses.
pub fn make_parties(client: &mut Client, prefix: &str, players: &mut [Player]) -> PublicKey {
    let mut hub = None;
    for (number, pair) in players.chunks_mut(2).enumerate() {
        let mut party = String::new();
        for (place, player) in pair.iter_mut().enumerate() {
            let id = format!("{prefix}-{number}-{place}");
            let path = format!("/auth/register?peer_id={id}");
            let token = text_member(client.ask(&request("POST", &path, None, "")), "token");
            let info = format!(
                "{{\"peer_id\":\"{id}\",\"name\":\"{id}\",\"public_key\":\"{}\",\"nat_type\":\"unknown\",\
                 \"public_ip\":\"203.0.113.77\",\"public_port\":51820,\"local_ip\":\"192.168.178.2\",\
                 \"local_port\":51820,\"last_seen\":\"2026-11-01T20:15:00.123456\"}}",
                player.key.encode()
            );
            let (path, body) = match place {
                0 => (
                    "/parties".to_owned(),
                    format!("{{\"name\":\"LAN {number}\",\"host_peer_info\":{info}}}"),
                ),
                _ => (
                    format!("/parties/{party}/join"),
                    format!("{{\"party_id\":\"{party}\",\"peer_info\":{info}}}"),
                ),
            };
            let answer = client.ask(&request("POST", &path, Some(&token), &body));
            party = text_member(answer, "party_id");
            player.ip = text_member(answer, "virtual_ip").parse().expect("a virtual address");
            let network = std::str::from_utf8(answer).ok().and_then(|text| text.split("\"network\":").nth(1));
            let network = network.expect("the peer's network");
            hub = PublicKey::decode(&text_member(network.as_bytes(), "public_key"));
            // Each is looked for where it speaks to the server from.
            let home = player.socket.local_addr().expect("a socket").ip();
            if home != client.source() {
                let path = format!("/parties/{party}/peers/{id}/heartbeat");
                client.again_from(home).ask(&request("POST", &path, Some(&token), ""));
            }
        }
    }
    hub.expect("the hub's key")
}

/// Datagrams from one to the other, by way of a server.
pub struct Lane {
    pub from: UdpSocket,
    pub to: UdpSocket,
    pub server: SocketAddr,
    /// Of one datagram, in bytes.
    pub size: usize,
    /// As much of it as arrives.
    pub arriving: usize,
    /// A burst of them.
    pub payload: Vec<u8>,
    /// Who seals them, for whom, and how long the packets are. None are sealed if it does not matter.
    pub sealer: Option<(Player, Ipv4Addr, usize)>,
    segmented: bool,
}

impl Lane {
    /// Repeats `datagram`.
    pub fn new(from: UdpSocket, to: UdpSocket, server: SocketAddr, datagram: &[u8], burst: usize) -> Self {
        let payload = datagram.repeat(burst);
        let size = datagram.len();
        Lane { from, to, server, size, arriving: size, payload, sealer: None, segmented: false }
    }

    /// Gives the payload new counters, where somebody looks at them.
    pub fn refresh(&mut self, count: usize) {
        let Some((player, to, length)) = &mut self.sealer else { return };
        let mut room = [0; 2048];
        for datagram in self.payload.chunks_mut(self.size).take(count) {
            let sealed = player.seal(*to, *length, &mut room);
            datagram.copy_from_slice(&room[..sealed]);
        }
    }

    fn segment(&mut self, on: bool) {
        if self.segmented != on {
            let size = if on { self.size as i32 } else { 0 };
            sys::set_option(self.from.as_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, size).expect("UDP_SEGMENT");
            self.segmented = on;
        }
    }

    /// Sends the first `count` of the burst as one.
    pub fn send_burst(&mut self, count: usize) {
        self.segment(true);
        let _ = self.from.send_to(&self.payload[..count * self.size], self.server);
    }

    /// Sends one of the burst.
    pub fn send_one(&mut self, index: usize) {
        self.segment(false);
        let _ = self.from.send_to(&self.payload[index * self.size..][..self.size], self.server);
    }

    /// How many have arrived by now.
    pub fn arrived(&self, buffer: &mut [u8]) -> usize {
        let mut bytes = 0;
        while let Ok(length) = self.to.recv(buffer) {
            bytes += length;
        }
        bytes / self.arriving
    }
}
