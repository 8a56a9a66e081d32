//! What an agent is told of its surroundings: by the control plane, and by its machine.

use crate::crypto::x25519::PublicKey;
use crate::ids::PeerId;
use crate::subnet::Subnet;
use crate::wire::control::{PartyAnswer, PeerBody};
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
                key: wireguard_key(peer)?,
                ip: *ip,
                is_device: false,
            })
        };
        let members = network.peers.iter().filter(|(id, _)| id != own).filter_map(member).collect();
        Some(Network { own_ip: network.virtual_ip?, subnet: network.subnet, relay, members })
    }
}

/// The key of a member, if it is one that WireGuard can use.
fn wireguard_key(peer: &PeerBody<'_>) -> Option<PublicKey> {
    PublicKey::decode(&peer.public_key).map(PublicKey::canonical).filter(|key| !key.is_low_order())
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
