//! A relay and four members with real sessions: two that have each other as peers, and two that have the hub.

use super::now;
use lanrage::crypto::x25519::PrivateKey;
use lanrage::ids::{PartyId, PeerId};
use lanrage::relay::limits::RelayLimits;
use lanrage::relay::{Arrival, Output, Port, Relay, RelaySettings};
use lanrage::subnet::Subnet;
use lanrage::time::Now;
use lanrage::token_bucket::Rate;
use lanrage::wireguard::allowed_ips::AllowedIp;
use lanrage::wireguard::constants::X25519_TYPICAL;
use lanrage::wireguard::device::{Device, DeviceSettings};
use lanrage::wireguard::peer::PeerSettings;
use lanrage::wireguard::verdict::SendOutcome;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Room for a datagram, in bytes.
pub const ROOM: usize = 2048;
/// What sealing adds to a packet, in bytes.
const OVERHEAD: usize = 32;
/// In front of a packet that is to be sealed, in bytes.
const HEADER: usize = 16;
const MEMBERS: usize = 4;
/// As fast as no machine is: what is measured is the work, not the limits.
const FREE: Rate = Rate { interval: Duration::from_nanos(1), burst: u32::MAX };

/// Which way packets take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// From the first member to the second, unread.
    Blind,
    /// From the third to the fourth, by way of the hub.
    Hub,
}

impl Way {
    /// Who sends on it, and who receives.
    pub fn ends(self) -> (usize, usize) {
        match self {
            Way::Blind => (0, 1),
            Way::Hub => (2, 3),
        }
    }
}

/// The relay and its members. Time is its own: it begins now and goes as fast as packets come.
pub struct Stage {
    pub relay: Relay,
    devices: Vec<Device>,
    addresses: [SocketAddr; MEMBERS],
    relay_at: SocketAddr,
    now: Now,
}

impl Stage {
    /// Members at these addresses, with their sessions. `None` if they did not get one, which would be a
    /// mistake of ours.
    pub fn new(addresses: [SocketAddr; MEMBERS], relay_at: SocketAddr) -> Option<Self> {
        let now = now();
        let limits = RelayLimits {
            address_bytes: FREE,
            member_bytes: FREE,
            party_bytes: FREE,
            ..RelayLimits::default()
        };
        let hub_key = PrivateKey::generate();
        let hub = hub_key.public_key();
        let subnet = Subnet::DEFAULT;
        let settings = RelaySettings { hub_key, subnet, mtu: 1420, stamp_mark: 0, seed: 1, limits };
        let mut relay = Relay::new(settings, now.instant);
        let mut devices: Vec<Device> = (0..MEMBERS)
            .map(|member| {
                let private_key = PrivateKey::generate();
                let settings = DeviceSettings {
                    private_key,
                    mtu: 1420,
                    stamp_mark: 0,
                    jitter_seed: member as u64,
                    x25519: X25519_TYPICAL,
                };
                Device::new(settings, now.instant)
            })
            .collect();
        let keys: Vec<_> = devices.iter().map(|device| *device.public_key()).collect();
        let party = PartyId::new("bench")?;
        for (member, other) in [keys[1], keys[0], hub, hub].into_iter().enumerate() {
            let peer = PeerId::new(&member.to_string())?;
            relay.join(&party, &peer, keys[member], inner(member), now.instant).ok()?;
            relay.set_origin(&keys[member], Some(addresses[member].ip()));
            let settings = PeerSettings {
                endpoint: Some(relay_at),
                persistent_keepalive: Some(Duration::from_secs(25)),
                allowed_ips: vec![AllowedIp::new(Ipv4Addr::new(10, 66, 0, 0).into(), 16)?],
                ..PeerSettings::new(other)
            };
            devices[member].add_peer(settings, now.instant).ok()?;
        }
        let mut stage = Stage { relay, devices, addresses, relay_at, now };
        // Long enough for two retries.
        for _ in 0..150 {
            stage.pass(Duration::from_millis(100));
            stage.exchange();
        }
        stage
            .devices
            .iter()
            .all(|device| device.peers().all(|(peer, _)| device.can_send(peer, stage.now.instant)))
            .then_some(stage)
    }

    /// Lets time go by.
    pub fn pass(&mut self, time: Duration) {
        let unix = self.now.unix.shifted(i64::try_from(time.as_micros()).unwrap_or(i64::MAX));
        self.now = Now { instant: self.now.instant + time, unix };
    }

    /// Carries everything that devices and relay want to say.
    fn exchange(&mut self) {
        let Stage { relay, devices, addresses, relay_at, now } = self;
        let mut buffer = [0; ROOM];
        for from in 0..MEMBERS {
            while let Some(outgoing) = devices[from].poll(*now, &mut buffer) {
                let mut deliver = |to: SocketAddr, _: Port, bytes: &[u8]| {
                    let member = addresses.iter().position(|address| *address == to);
                    let mut copy = [0; ROOM];
                    if let (Some(member), Some(room)) = (member, copy.get_mut(..bytes.len())) {
                        room.copy_from_slice(bytes);
                        devices[member].receive(room, *relay_at, *now);
                    }
                };
                // What it refuses is tried again.
                let _ = relay.receive(
                    &mut buffer[..outgoing.length],
                    Arrival::new(addresses[from], Port::Main, *now),
                    &mut deliver,
                );
                relay.poll(*now, &mut deliver);
            }
        }
    }

    /// Writes a datagram of about `size` bytes for `way` into `room`, and gives its length.
    pub fn seal(&mut self, way: Way, size: usize, room: &mut [u8; ROOM]) -> usize {
        let (from, to) = way.ends();
        let length = size - OVERHEAD;
        let packet = &mut room[HEADER..HEADER + length];
        packet.fill(0);
        packet[0] = 0x45;
        packet[2..4].copy_from_slice(&(length as u16).to_be_bytes());
        packet[9] = 17;
        packet[12..16].copy_from_slice(&inner(from).octets());
        packet[16..20].copy_from_slice(&inner(to).octets());
        let Some((peer, _)) = self.devices[from].peers().next() else { return 0 };
        match self.devices[from].send(peer, room, length, self.now) {
            SendOutcome::Sealed { length, .. } => length,
            SendOutcome::Staged | SendOutcome::Dropped => 0,
        }
    }

    /// Hands a datagram from `source` to the relay, in memory.
    pub fn relay(&mut self, datagram: &mut [u8], source: SocketAddr, out: &mut dyn Output) {
        // Whatever is refused does not come out, which is counted.
        let _ = self.relay.receive(datagram, Arrival::new(source, Port::Main, self.now), out);
    }
}

fn inner(member: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 66, 0, member as u8 + 2)
}
