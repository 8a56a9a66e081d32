//! What an agent tells people of its paths.

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
}

impl ConnectionState {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            ConnectionState::Connecting => "connecting",
            ConnectionState::Connected => "connected",
            ConnectionState::Degraded => "degraded",
            ConnectionState::Failed => "failed",
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

/// The NAT that we are behind, as far as it is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NatView {
    /// What kind it is.
    pub kind: NatType,
    /// As whom the relay sees us.
    pub public: Option<SocketAddr>,
    /// What a router of ours forwards to us.
    pub mapped: Option<SocketAddr>,
    /// By how much its ports differ from one destination to the next, if by the same each time.
    pub port_step: Option<i32>,
}
