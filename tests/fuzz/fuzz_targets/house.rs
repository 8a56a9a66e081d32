//! A relay with two parties, and its members with real WireGuard.

use lanrage::crypto::x25519::PrivateKey;
use lanrage::ids::{PartyId, PeerId};
use lanrage::relay::limits::RelayLimits;
use lanrage::relay::{Relay, RelaySettings};
use lanrage::subnet::Subnet;
use lanrage::time::{Instant, Now, UnixTime};
use lanrage::wireguard::allowed_ips::AllowedIp;
use lanrage::wireguard::constants::X25519_TYPICAL;
use lanrage::wireguard::device::{Device, DeviceSettings};
use lanrage::wireguard::peer::{PeerSettings, PeerIndex};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

pub const HUB: u8 = 1;
pub const MEMBERS: usize = 4;

pub fn start() -> Now {
    Now { instant: Instant::from_nanos(1 << 40), unix: UnixTime::from_micros(1 << 51) }
}

pub fn key(number: u8) -> PrivateKey {
    PrivateKey::from_bytes([number; 32])
}

pub fn ip(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 66, 0, number)
}

pub fn relay_address() -> SocketAddr {
    (Ipv4Addr::new(203, 0, 113, 1), 51820).into()
}

/// The last member is in a party of its own.
pub fn party(member: usize) -> PartyId {
    PartyId::new(if member + 1 < MEMBERS { "p" } else { "q" }).expect("a good id")
}

pub fn peer(member: usize) -> PeerId {
    PeerId::new(&format!("m{member}")).expect("a good id")
}

pub fn number(member: usize) -> u8 {
    member as u8 + 2
}

pub fn join(relay: &mut Relay, member: usize, now: Instant) {
    let number = number(member);
    let _ = relay.join(&party(member), &peer(member), key(number).public_key(), ip(number), now);
}

pub fn relay(now: Instant) -> Relay {
    let config = RelaySettings {
        hub_key: key(HUB),
        subnet: Subnet::parse("10.66.0.0/16").expect("a subnet"),
        mtu: 1420,
        stamp_mark: 0,
        seed: 1,
        limits: RelayLimits::default(),
    };
    let mut relay = Relay::new(config, now);
    (0..MEMBERS).for_each(|member| join(&mut relay, member, now));
    relay
}

/// A member's machine, which has the hub and all other members as peers, by way of the relay.
pub struct Machine {
    pub address: SocketAddr,
    pub device: Device,
    /// The hub and the others, in the order of their numbers.
    pub peers: Vec<PeerIndex>,
}

impl Machine {
    pub fn new(member: usize, now: Instant) -> Self {
        let own = number(member);
        let config = DeviceSettings {
            private_key: key(own),
            mtu: 1420,
            stamp_mark: 0,
            jitter_seed: 1,
            x25519: X25519_TYPICAL,
        };
        let mut device = Device::new(config, now);
        let numbers = (HUB..=number(MEMBERS - 1)).filter(|&number| number != own);
        let peers = numbers.map(|number| {
            let mut config = PeerSettings::new(key(number).public_key());
            config.endpoint = Some(relay_address());
            config.allowed_ips = vec![if number == HUB {
                AllowedIp::new(IpAddr::V4(ip(0)), 16).expect("a prefix")
            } else {
                AllowedIp::host(IpAddr::V4(ip(number)))
            }];
            device.add_peer(config, now).expect("a good key")
        });
        let peers = peers.collect();
        Machine { address: (Ipv4Addr::new(198, 51, 100, own), 51820).into(), device, peers }
    }
}
