//! What an agent tells people of its paths.

use crate::ids::RelayId;
use crate::time::Instant;
use crate::wire::nat_type::NatType;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// How well a member is reached, in LANrage's words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConnectionState {
    /// There is no session yet.
    Connecting,
    /// There is one.
    Connected,
    /// There is one, but slow or with losses.
    Degraded,
    /// There was one, or there should be.
    Failed,
    /// That was so for five minutes: it is left alone until there is traffic, or the member is heard of.
    Cleanup,
}

impl ConnectionState {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            ConnectionState::Connecting => "connecting",
            ConnectionState::Connected => "connected",
            ConnectionState::Degraded => "degraded",
            ConnectionState::Failed => "failed",
            ConnectionState::Cleanup => "cleanup",
        }
    }
}

/// How data gets to a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PathKind {
    /// Straight there.
    Direct,
    /// Straight there, within the local network.
    Lan,
    /// Through the relay, which can't read it.
    Relay,
    /// Through the hub.
    Hub,
}

impl fmt::Display for PathKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PathKind::Direct => "direct",
            PathKind::Lan => "direct on the LAN",
            PathKind::Relay => "relay",
            PathKind::Hub => "hub",
        })
    }
}

/// A member, for people.
#[derive(Clone, PartialEq, Debug)]
pub struct MemberView<'a> {
    /// What people call it.
    pub name: &'a str,
    /// Its address in the virtual LAN.
    pub ip: Ipv4Addr,
    /// How well it is reached.
    pub state: ConnectionState,
    /// How data gets there.
    pub path: PathKind,
    /// Where data goes, if straight to the member.
    pub address: Option<SocketAddr>,
    /// The relay that data goes by, or falls back to, if the control plane lists it.
    pub relay: Option<&'a RelayId>,
    /// A relay that takes over when that one dies.
    pub standby: Option<&'a RelayId>,
    /// The round trip, if it is known.
    pub round_trip: Option<Duration>,
    /// What of a thousand datagrams gets lost on the way there.
    pub loss: u32,
    /// Bytes of packets that came from it.
    pub received: u64,
    /// Bytes that were sent to it.
    pub sent: u64,
    /// When a session with it last came up.
    pub last_handshake: Option<Instant>,
    /// Why it is not reached straight, in a sentence; `None` if it is.
    pub why_not_direct: Option<String>,
}

/// Public addresses besides the first one that are told.
pub const OTHER_ADDRESSES: usize = 2;

/// What the port outside depends on (RFC 4787, section 4.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum MappingBehaviour {
    /// Not known.
    #[default]
    Unknown,
    /// On nothing: it is the same for all destinations.
    EndpointIndependent,
    /// On the destination's address.
    AddressDependent,
    /// On the destination's address and port.
    AddressAndPortDependent,
}

impl MappingBehaviour {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            MappingBehaviour::Unknown => "unknown",
            MappingBehaviour::EndpointIndependent => "endpoint_independent",
            MappingBehaviour::AddressDependent => "address_dependent",
            MappingBehaviour::AddressAndPortDependent => "address_and_port_dependent",
        }
    }
}

/// The NAT that we are behind, as far as it is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NatView {
    /// What kind it is.
    pub kind: NatType,
    /// As whom the relay sees us.
    pub public: Option<SocketAddr>,
    /// As whom other relays see us, if at other addresses than that.
    pub others: [Option<SocketAddr>; OTHER_ADDRESSES],
    /// What the port outside depends on.
    pub mapping: MappingBehaviour,
    /// What a router of ours forwards to us.
    pub mapped: Option<SocketAddr>,
    /// By how much its ports differ from one destination to the next, if by the same each time.
    pub port_step: Option<i32>,
}

/// A relay that the control plane lists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MeasuredRelay<'a> {
    /// Its id.
    pub id: &'a RelayId,
    /// Where it is.
    pub endpoint: SocketAddr,
    /// There and back; `None` if it did not answer last.
    pub round_trip: Option<Duration>,
    /// Members that are reached by it, or would be.
    pub members: usize,
}
