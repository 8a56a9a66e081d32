//! Those who use the servers: members with real WireGuard sessions, and lanes of datagrams between them.

use super::harness::client::Client;
use super::harness::player::{Player, UDP_HEADERS, now};
use super::network::player;
use lanrage::crypto::x25519::{PrivateKey, PublicKey};
use lanrage::sys;
use lanrage::wireguard::allowed_ips::AllowedIp;
use lanrage::wireguard::peer::PeerSettings;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// A session with the hub or with another player is up by then: two retries.
const PATIENCE: Duration = Duration::from_secs(15);
/// Everybody in the virtual LAN.
const EVERYBODY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 66, 0, 0));

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

/// A member of a party with the address `number` in the players' network and `ip` in the virtual one.
pub fn member(number: usize, ip: Ipv4Addr) -> Player {
    Player::over(socket(number), PrivateKey::generate(), ip)
}

/// What a player wants to reach is behind `key` at `endpoint`.
pub fn reach(player: &mut Player, key: PublicKey, endpoint: SocketAddr) {
    let config = PeerSettings {
        endpoint: Some(endpoint),
        allowed_ips: vec![AllowedIp::new(EVERYBODY, 16).expect("a prefix")],
        persistent_keepalive: Some(Duration::from_secs(25)),
        ..PeerSettings::new(key)
    };
    player.device.add_peer(config, now().instant).expect("a good key");
}

fn is_ready(player: &Player) -> bool {
    player.device.route(EVERYBODY).is_some_and(|peer| player.device.can_send(peer, now().instant))
}

/// Writes a datagram with a UDP packet of `length` bytes for `to` into the start of `room`; its length.
pub fn seal(player: &mut Player, to: Ipv4Addr, length: usize, room: &mut [u8]) -> usize {
    player.seal(to, &vec![0; length - UDP_HEADERS], room).expect("a session").0
}

/// Lets everybody shake hands.
pub fn settle(players: &mut [Player]) {
    let begun = Instant::now();
    while !players.iter().all(is_ready) {
        players.iter_mut().for_each(turn);
        assert!(begun.elapsed() < PATIENCE, "no session through the server");
        std::thread::sleep(Duration::from_millis(1));
    }
    // The first packets, which confirm sessions, are still under way.
    for _ in 0..50 {
        players.iter_mut().for_each(turn);
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn turn(player: &mut Player) {
    player.pump();
}

/// Makes a party of each two players by the control API at `http`; the hub's key. `client` may change as much as it
/// wants, and the players learn their addresses.
pub fn make_parties(mut client: Client, http: SocketAddr, prefix: &str, players: &mut [Player]) -> PublicKey {
    let mut hub = None;
    for (number, pair) in players.chunks_mut(2).enumerate() {
        let mut party = None;
        for (place, player) in pair.iter_mut().enumerate() {
            let id = format!("{prefix}-{number}-{place}");
            client.token = None;
            let answer = client.register(&id).enrol(&id, &player.key.public_key(), party.as_deref()).is(200);
            let text = |path: &[&str]| answer.text(path);
            let party = &*party.get_or_insert_with(|| text(&["party_id"]));
            player.ip = text(&["network", "virtual_ip"]).parse().expect("a virtual address");
            hub = PublicKey::decode(&text(&["network", "relay", "public_key"]));
            // Each is looked for where it speaks to the server from.
            let home = player.socket.local_addr().expect("an address").ip();
            let IpAddr::V4(home) = home else { panic!("no IPv6 here") };
            Client::connect_from(home, http).with_token_of(&client).heartbeat(party, &id).is(200);
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
            let sealed = seal(player, *to, *length, &mut room);
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
