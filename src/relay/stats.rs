//! What the relay counts. All counters have 64 bits.

use crate::time::Instant;

/// Why a datagram, or a packet within one, went nowhere.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(usize)]
pub enum Drop {
    /// It is neither STUN nor WireGuard.
    Unknown,
    /// WireGuard on the port that is for STUN alone.
    WrongPort,
    /// No member has the key that its mac1 was made with.
    NoMember,
    /// Its source, or all unknown sources together, have had their share of handshakes.
    HandshakeLimit,
    /// Nobody knows where its recipient is.
    NoAddress,
    /// Its index is in use there: the sender's retry will have another one.
    IndexClash,
    /// The same initiation was forwarded before.
    Duplicate,
    /// Its recipient has as many initiations as its kernel allows us.
    Paced,
    /// It answers no initiation that was forwarded to where it comes from.
    NoPending,
    /// It belongs to no flow of its source.
    NoFlow,
    /// Its recipient's address is unproven and has received as much as came from there.
    Unproven,
    /// A table is full.
    TableFull,
    /// Its source, sender or party has had its share of bytes.
    DataLimit,
    /// The hub could not make sense of it.
    HubMalformed,
    /// It is for the hub, from somebody who is no member.
    HubUnknownPeer,
    /// It is for the hub and does not prove what it says.
    HubForged,
    /// The hub has received it before.
    HubReplayed,
    /// It is for a hub session that is over.
    HubExpired,
    /// The hub takes no more handshakes from its source now.
    HubLimit,
    /// Its inner source address is not the member's.
    InnerSource,
    /// Its inner destination is nobody's.
    InnerDestination,
    /// Its inner destination is in no party of its sender.
    OtherParty,
    /// There is no hub session with its recipient.
    NoSession,
    /// A broadcast above its sender's or its party's share.
    BroadcastLimit,
    /// A STUN message that is no valid Binding request.
    StunMalformed,
    /// STUN above its source's share.
    StunLimit,
}

/// All reasons, in the order of their counters, with their names for the metrics.
pub const DROPS: [(Drop, &str); 26] = [
    (Drop::Unknown, "unknown"),
    (Drop::WrongPort, "wrong_port"),
    (Drop::NoMember, "no_member"),
    (Drop::HandshakeLimit, "handshake_limit"),
    (Drop::NoAddress, "no_address"),
    (Drop::IndexClash, "index_clash"),
    (Drop::Duplicate, "duplicate"),
    (Drop::Paced, "paced"),
    (Drop::NoPending, "no_pending"),
    (Drop::NoFlow, "no_flow"),
    (Drop::Unproven, "unproven"),
    (Drop::TableFull, "table_full"),
    (Drop::DataLimit, "data_limit"),
    (Drop::HubMalformed, "hub_malformed"),
    (Drop::HubUnknownPeer, "hub_unknown_peer"),
    (Drop::HubForged, "hub_forged"),
    (Drop::HubReplayed, "hub_replayed"),
    (Drop::HubExpired, "hub_expired"),
    (Drop::HubLimit, "hub_limit"),
    (Drop::InnerSource, "inner_source"),
    (Drop::InnerDestination, "inner_destination"),
    (Drop::OtherParty, "other_party"),
    (Drop::NoSession, "no_session"),
    (Drop::BroadcastLimit, "broadcast_limit"),
    (Drop::StunMalformed, "stun_malformed"),
    (Drop::StunLimit, "stun_limit"),
];

/// Datagrams and their bytes, without UDP's headers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Count {
    /// Datagrams.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Count {
    /// Counts one datagram.
    pub fn add(&mut self, bytes: usize) {
        self.packets += 1;
        self.bytes += bytes as u64;
    }
}

/// What the whole relay counts.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// All that came.
    pub received: Count,
    /// All that went.
    pub sent: Count,
    /// Of what went: data of blind sessions.
    pub blind: Count,
    /// Of what went: data that the hub sealed, broadcasts included.
    pub hub: Count,
    /// Of what went: copies of broadcasts.
    pub broadcast: Count,
    /// Of what went: STUN answers.
    pub stun: Count,
    /// Blind sessions that were set up.
    pub blind_handshakes: u64,
    drops: [u64; DROPS.len()],
}

impl Stats {
    /// Counts something that went nowhere.
    pub fn drop(&mut self, reason: Drop) {
        self.drops[reason as usize] += 1;
    }

    /// How many went nowhere for this reason.
    pub fn dropped(&self, reason: Drop) -> u64 {
        self.drops[reason as usize]
    }

    /// How many went nowhere, for each reason that happened, by its name.
    pub fn drops(&self) -> impl Iterator<Item = (&'static str, u64)> {
        DROPS.iter().map(|&(reason, name)| (name, self.dropped(reason))).filter(|&(_, count)| count > 0)
    }
}

/// How a member is reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Path {
    /// Not yet, or not any more.
    #[default]
    None,
    /// Others reach it through blind flows.
    Blind,
    /// It has a session with the hub, and blind flows perhaps.
    Hub,
}

/// What is counted of a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MemberStats {
    /// Data from it that was forwarded.
    pub from: Count,
    /// Data that was forwarded to it.
    pub to: Count,
    /// When a session of its last came up, blind or with the hub.
    pub last_handshake: Option<Instant>,
    /// How it is reached.
    pub path: Path,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_counter_and_name() {
        let mut names: Vec<_> = DROPS.iter().map(|&(_, name)| name).collect();
        for (place, &(reason, name)) in DROPS.iter().enumerate() {
            assert_eq!(reason as usize, place, "{name}");
            let mut stats = Stats::default();
            stats.drop(reason);
            assert_eq!(stats.drops().collect::<Vec<_>>(), [(name, 1)]);
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), DROPS.len());
    }
}
