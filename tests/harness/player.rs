//! A player's machine: our own WireGuard, as a client, behind a real socket.

use super::PATIENCE;
use super::packets::{read_udp, udp};
use lanrage::crypto::x25519::{PrivateKey, PublicKey};
use lanrage::time::{Now, UnixTime};
use lanrage::wireguard::allowed_ips::AllowedIp;
use lanrage::wireguard::constants::X25519_TYPICAL;
use lanrage::wireguard::device::{Device, DeviceSettings};
use lanrage::wireguard::peer::{PeerIndex, PeerSettings};
use lanrage::wireguard::verdict::{Accepted, Content, SendOutcome, Verdict};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The hub's address in the virtual LAN.
pub const HUB_IP: Ipv4Addr = Ipv4Addr::new(10, 66, 0, 1);
/// In front of a packet that is to be sealed, in bytes.
const ROOM: usize = 16;
/// What UDP and IPv4 add to a payload, in bytes.
pub const UDP_HEADERS: usize = 28;

/// The time, as WireGuard needs it.
pub fn now() -> Now {
    static START: OnceLock<Instant> = OnceLock::new();
    let elapsed = START.get_or_init(Instant::now).elapsed();
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
    Now {
        instant: lanrage::time::Instant::ZERO + elapsed,
        unix: UnixTime::from_micros(i64::try_from(unix).unwrap()),
    }
}

pub struct Player {
    pub key: PrivateKey,
    pub ip: Ipv4Addr,
    pub device: Device,
    pub socket: UdpSocket,
    /// How many sessions came up.
    pub sessions: usize,
}

impl Player {
    pub fn new(key: PrivateKey, ip: Ipv4Addr) -> Self {
        Self::over(UdpSocket::bind("127.0.0.1:0").unwrap(), key, ip)
    }

    /// With a socket that is somewhere else.
    pub fn over(socket: UdpSocket, key: PrivateKey, ip: Ipv4Addr) -> Self {
        socket.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        let config = DeviceSettings {
            private_key: key.clone(),
            mtu: 1420,
            stamp_mark: 0,
            jitter_seed: 1,
            x25519: X25519_TYPICAL,
        };
        Player { key, ip, device: Device::new(config, now().instant), socket, sessions: 0 }
    }

    /// Another player, or the hub, both by way of the relay.
    pub fn add_peer(&mut self, key: PublicKey, relay: SocketAddr, owns: AllowedIp) -> PeerIndex {
        let mut config = PeerSettings::new(key);
        config.endpoint = Some(relay);
        config.allowed_ips = vec![owns];
        self.device.add_peer(config, now().instant).unwrap()
    }

    /// Everybody in the virtual LAN, by way of the hub.
    pub fn add_hub(&mut self, key: PublicKey, relay: SocketAddr) {
        self.add_peer(key, relay, AllowedIp::new(IpAddr::V4(Ipv4Addr::new(10, 66, 0, 0)), 16).unwrap());
    }

    /// The same, and says something to it: it knows where a member is once that has spoken.
    pub fn greet_hub(&mut self, key: PublicKey, relay: SocketAddr) {
        self.add_hub(key, relay);
        self.send(HUB_IP, b"here I am");
    }

    /// Writes a datagram with a UDP packet into the virtual LAN, by the peer whose address that is, to the start of
    /// `room`: its length, and where it goes to. Nothing without a session.
    pub fn seal(&mut self, to: Ipv4Addr, payload: &[u8], room: &mut [u8]) -> Option<(usize, SocketAddr)> {
        let packet = udp(self.ip, to, payload);
        let index = self.device.route(IpAddr::V4(to)).expect("nobody has this address");
        room[ROOM..][..packet.len()].copy_from_slice(&packet);
        match self.device.send(index, room, packet.len(), now()) {
            SendOutcome::Sealed { to, length } => Some((length, to)),
            _ => None,
        }
    }

    /// Sends a UDP packet into the virtual LAN.
    pub fn send(&mut self, to: Ipv4Addr, payload: &[u8]) {
        let mut buffer = vec![0; ROOM + UDP_HEADERS + payload.len() + 64];
        if let Some((length, to)) = self.seal(to, payload, &mut buffer) {
            self.socket.send_to(&buffer[..length], to).unwrap();
        }
    }

    /// Does what is due and takes what has come, for a few milliseconds. Payloads, and who sent them.
    pub fn pump(&mut self) -> Vec<(Ipv4Addr, Vec<u8>)> {
        let mut received = Vec::new();
        while let Some(taken) = self.take() {
            received.extend(taken);
        }
        self.poll();
        received
    }

    /// Takes one datagram that has come, or comes within a few milliseconds. What was in it for the system, if
    /// anything.
    pub fn take(&mut self) -> Option<Option<(Ipv4Addr, Vec<u8>)>> {
        let mut buffer = vec![0; 2048];
        let (length, source) = self.socket.recv_from(&mut buffer).ok()?;
        let verdict = self.device.receive(&mut buffer[..length], source, now());
        let Verdict::Accepted(Accepted { content, established, .. }) = verdict else { return Some(None) };
        self.sessions += usize::from(established);
        let Content::Packet { range, .. } = content else { return Some(None) };
        Some(read_udp(&buffer[range]).map(|(from, _, payload)| (from, payload.to_vec())))
    }

    /// Does what is due.
    pub fn poll(&mut self) {
        let mut buffer = vec![0; 2048];
        while let Some(outgoing) = self.device.poll(now(), &mut buffer) {
            self.socket.send_to(&buffer[..outgoing.length], outgoing.to).unwrap();
        }
    }
}

/// Has two players know each other, both by way of a relay.
pub fn introduce(a: &mut Player, b: &mut Player, relay: SocketAddr) {
    a.add_peer(b.key.public_key(), relay, AllowedIp::host(IpAddr::V4(b.ip)));
    b.add_peer(a.key.public_key(), relay, AllowedIp::host(IpAddr::V4(a.ip)));
    // Somebody who has never sent anything is nowhere; stock clients say something every 25 s.
    a.send(b.ip, b"knock");
    b.send(a.ip, b"knock");
}

/// Sends from one player to another again and again until something arrives; how long that took.
pub fn reach(from: &mut Player, to: &mut Player, text: &str) -> Duration {
    let start = Instant::now();
    let mut sent = start - Duration::from_secs(1);
    loop {
        if sent.elapsed() > Duration::from_millis(100) {
            sent = Instant::now();
            from.send(to.ip, text.as_bytes());
        }
        from.pump();
        if to.pump().iter().any(|(source, payload)| *source == from.ip && payload == text.as_bytes()) {
            return start.elapsed();
        }
        assert!(start.elapsed() < PATIENCE, "nothing arrives");
    }
}

/// Whether anything gets through within `span`.
pub fn gets_through(from: &mut Player, to: &mut Player, text: &str, span: Duration) -> bool {
    let start = Instant::now();
    while start.elapsed() < span {
        from.send(to.ip, text.as_bytes());
        from.pump();
        if to.pump().iter().any(|(_, payload)| payload == text.as_bytes()) {
            return true;
        }
    }
    false
}

/// Round trips of a game, in order of length, and how many datagrams were sent.
#[derive(Default)]
pub struct RoundTrips<T> {
    pub times: Vec<T>,
    pub sent: usize,
}

impl<T: Copy> RoundTrips<T> {
    pub fn quantile(&self, part: f64) -> T {
        self.times[((self.times.len() - 1) as f64 * part) as usize]
    }
}
