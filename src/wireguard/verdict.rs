//! What a device says became of what it was given.

use crate::wireguard::inner_packet::InnerPacket;
use crate::wireguard::peer::PeerIndex;
use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;

/// Why a peer was not added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AddPeerError {
    /// Its key is a point of low order.
    LowOrder,
    /// Its key is not the canonical spelling of its point, which no WireGuard sends.
    NotCanonical,
    /// Its key is ours.
    Ourselves,
    /// There is a peer with this key.
    Exists,
}

impl fmt::Display for AddPeerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AddPeerError::LowOrder => "the public key is a low-order point",
            AddPeerError::NotCanonical => "the public key is not in canonical form",
            AddPeerError::Ourselves => "the public key is our own",
            AddPeerError::Exists => "there is a peer with this public key",
        })
    }
}

impl std::error::Error for AddPeerError {}

/// What became of a datagram.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It came from a peer.
    Accepted(Accepted),
    /// We are under load: its sender was asked to prove its address first.
    Challenged,
    /// The peer asks us to prove our address; the next initiation will.
    CookieTaken(PeerIndex),
    /// It is of no use.
    Dropped(Reason),
}

/// A message that a peer has proven to be its own, and new.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Accepted {
    /// Who sent it.
    pub peer: PeerIndex,
    /// What it was.
    pub content: Content,
    /// Whether it brought a session up: from now on packets can be sent to the peer.
    pub established: bool,
    /// Whether the peer's endpoint is another one now.
    pub roamed: bool,
}

/// What an authentic message carried.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Content {
    /// A step of a handshake.
    Handshake,
    /// Nothing, to say that the peer is there.
    Keepalive,
    /// An IP packet, whose source address is the peer's.
    Packet {
        /// Where it lies in the datagram's buffer, without padding.
        range: Range<usize>,
        /// Its header.
        inner: InnerPacket,
    },
    /// No packet, but something of our own protocol: it lies there in the datagram's buffer, with padding, and its first
    /// byte is below 16, as that of no IP packet is.
    Probe(Range<usize>),
    /// Something that must not be passed on.
    Rejected(Rejection),
}

/// Why what a peer sent must not be passed on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Rejection {
    /// It is no whole IP packet.
    Malformed,
    /// Its source address is not the peer's.
    Source,
}

/// Why a datagram was dropped.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Reason {
    /// It is no WireGuard message.
    Malformed,
    /// It was not made for our public key.
    WrongMac1,
    /// Nothing of ours has that index.
    UnknownIndex,
    /// Its sender says it is somebody who is no peer.
    UnknownPeer,
    /// It does not prove what it says.
    Forged,
    /// It was received before, or is too far behind.
    Replayed,
    /// The session is over.
    Expired,
    /// Its source's owners, all strangers, or the peer have had their share of handshakes.
    Limited,
}

/// What became of a packet to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SendOutcome {
    /// The buffer now begins with a datagram.
    Sealed {
        /// Where it goes.
        to: SocketAddr,
        /// Its length in bytes.
        length: usize,
    },
    /// There is no session yet; a copy is kept until [`Device::poll`](super::device::Device::poll) can give it.
    Staged,
    /// There is no such peer, nobody knows where it is, or there is no room.
    Dropped,
}

/// A datagram that is to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outgoing {
    /// Whom it is for; `None` for an answer to somebody who has not said who they are.
    pub peer: Option<PeerIndex>,
    /// Where it goes.
    pub to: SocketAddr,
    /// How many bytes at the start of the buffer it has.
    pub length: usize,
}
