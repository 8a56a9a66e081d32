//! Messages from one member of a party to another, for their agents to find a path.

use crate::ids::PeerId;
use crate::time::UnixTime;
use std::net::IpAddr;

/// One message. It lives in memory only.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signal {
    /// Who sent it.
    pub from: PeerId,
    /// Whom it is for.
    pub to: PeerId,
    /// The data, as JSON text.
    pub data: String,
    /// When it came in.
    pub sent_at: UnixTime,
    /// Who pays for it while it waits.
    pub payer: IpAddr,
}
