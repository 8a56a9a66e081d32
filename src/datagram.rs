//! Floor 1: where datagrams come from and go to.

use std::net::{IpAddr, SocketAddr};

/// The two ends of a path: somebody's address, and ours that it speaks to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Path {
    /// The other end.
    pub remote: SocketAddr,
    /// Our address, or `None` if that is for the kernel's routes to say.
    pub local: Option<IpAddr>,
}

impl Path {
    /// To `remote`, from whichever address of ours the kernel's routes choose.
    pub fn to(remote: SocketAddr) -> Self {
        Path { remote, local: None }
    }
}

/// What is known of received datagrams, which lie one behind the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecvMeta {
    /// Who sent them, and to which address of ours if the socket has several. An IPv4 address is never spelled as
    /// IPv6.
    pub path: Path,
    /// The traffic class: DSCP (six bits) and ECN (two) (RFC 2474, RFC 3168).
    pub class: u8,
    /// The length of each but the last, which may be shorter, in bytes.
    pub stride: usize,
}
