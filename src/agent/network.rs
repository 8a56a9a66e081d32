//! What an agent is told of its surroundings: by the control plane, and by its machine.

use crate::crypto::blake2s;
use crate::crypto::x25519::PublicKey;
use crate::ids::{PeerId, RelayId};
use crate::subnet::Subnet;
use crate::wire::control::{PartyAnswer, RelayBody};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The party as the control plane tells it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Network {
    /// Our own address in it.
    pub own_ip: Ipv4Addr,
    /// The virtual LAN.
    pub subnet: Subnet,
    /// Its relay, if it has one.
    pub relay: Option<RelayAddress>,
    /// Everybody else.
    pub members: Vec<NetworkMember>,
}

impl Network {
    /// What the server says, to the member `own`; its relay was found at `relay`. `None` if it gives us no address.
    pub fn told(answer: &PartyAnswer, own: &PeerId, relay: Option<SocketAddr>) -> Option<Self> {
        let network = answer.network.as_ref()?;
        // A tunnel can't lead through itself.
        let relay = relay.filter(|relay| match relay.ip() {
            IpAddr::V4(ip) => !network.subnet.is_peer_address(ip),
            IpAddr::V6(_) => true,
        });
        let relay = relay.map(|endpoint| RelayAddress {
            endpoint,
            stun_port: endpoint.port().checked_add(1),
            key: network.relay_key,
        });
        let member = |(id, ip): &(PeerId, Ipv4Addr)| {
            let peer = answer.party.peers.iter().find(|peer| peer.peer_id == *id)?;
            let name = (&*peer.name).into();
            Some(NetworkMember {
                peer_id: id.clone(),
                name,
                key: usable_key(&peer.public_key)?,
                ip: *ip,
                is_device: false,
            })
        };
        let members = network.peers.iter().filter(|(id, _)| id != own).filter_map(member).collect();
        Some(Network { own_ip: network.virtual_ip?, subnet: network.subnet, relay, members })
    }
}

/// The key that `text` means, if it is one that WireGuard can use.
fn usable_key(text: &str) -> Option<PublicKey> {
    PublicKey::decode(text).map(PublicKey::canonical).filter(|key| !key.is_low_order())
}

/// A relay, which is a hub as well.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RelayAddress {
    /// Where it is.
    pub endpoint: SocketAddr,
    /// Its second port, which answers STUN only.
    pub stun_port: Option<u16>,
    /// The hub's public key.
    pub key: PublicKey,
}

/// A relay that the control plane lists. Only what it is measured to do counts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListedRelay {
    /// Its id.
    pub id: RelayId,
    /// Where it is said to be.
    pub endpoint: SocketAddr,
    /// Its hub's public key, if that is known.
    pub key: Option<PublicKey>,
    /// How many members use it, as it says.
    pub load: u32,
    /// Where it stands, in its owner's words.
    pub region: Box<str>,
    /// Whether it is said to serve the party. One that does not still tells where we are seen from.
    pub serves: bool,
}

impl ListedRelay {
    /// What the server says of it, and where its name leads; `None` if that names no relay that can be used.
    pub fn told(body: &RelayBody<'_>, endpoint: SocketAddr) -> Option<Self> {
        Some(ListedRelay {
            id: RelayId::new(&body.relay_id)?,
            endpoint,
            key: body.public_key.as_deref().and_then(usable_key),
            load: body.load,
            region: (&*body.region).into(),
            serves: body.serves.unwrap_or(true),
        })
    }

    /// By what members mean the same relay: never 0.
    pub fn mark(&self) -> u32 {
        let [m0, m1, m2, m3, ..] = blake2s::hash(&[self.id.as_str().as_bytes()]);
        u32::from_le_bytes([m0, m1, m2, m3]).max(1)
    }

    /// Whether it is the same one at the same place.
    pub fn is_same(&self, other: &ListedRelay) -> bool {
        (&self.id, self.endpoint, self.key) == (&other.id, other.endpoint, other.key)
    }
}

/// A member of the party.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NetworkMember {
    /// Its id.
    pub peer_id: PeerId,
    /// What people call it.
    pub name: Box<str>,
    /// Its public key.
    pub key: PublicKey,
    /// Its address in the virtual LAN.
    pub ip: Ipv4Addr,
    /// Whether it is a device without an agent.
    pub is_device: bool,
}

/// An address of this machine's, with the port of the one socket.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LocalAddress {
    /// The address and the port.
    pub address: SocketAddr,
    /// How many bits of the address are the network's.
    pub prefix: u8,
}

/// What an agent wants of its socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SocketWish {
    /// Another one, on another port.
    Rebind,
    /// So many more for a while, each on a port of its own.
    Extra {
        /// How many.
        count: usize,
    },
    /// No more of those but this one.
    Keep {
        /// Its number, from 1 on; `None` for none.
        socket: Option<u16>,
    },
}
