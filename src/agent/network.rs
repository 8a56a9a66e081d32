//! What an agent is told of its surroundings: by the control plane, and by its machine.

use crate::crypto::x25519::PublicKey;
use crate::ids::PeerId;
use crate::subnet::Subnet;
use std::net::{Ipv4Addr, SocketAddr};

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
