//! What the relay counts. All counters have 64 bits.

use crate::time::Instant;

/// Why a datagram, or a packet within one, went nowhere.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(usize)]
pub enum DropReason {
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
    /// A member's handshake with the hub, again, whose answers its app does not take: they don't arrive, or it has
    /// a pre-shared key for the hub.
    HubUnconfirmed,
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
    /// This machine itself sent it under another address than the hub's, or it is no IPv4; or it came to the relay
    /// out of the virtual LAN.
    LocalSource,
    /// This machine did not take it: its interface is down or gone.
    LocalRefused,
}

/// All reasons, in the order of their counters, with their names for the metrics.
pub const DROPS: [(DropReason, &str); 29] = [
    (DropReason::Unknown, "unknown"),
    (DropReason::WrongPort, "wrong_port"),
    (DropReason::NoMember, "no_member"),
    (DropReason::HandshakeLimit, "handshake_limit"),
    (DropReason::NoAddress, "no_address"),
    (DropReason::IndexClash, "index_clash"),
    (DropReason::Duplicate, "duplicate"),
    (DropReason::Paced, "paced"),
    (DropReason::NoPending, "no_pending"),
    (DropReason::NoFlow, "no_flow"),
    (DropReason::Unproven, "unproven"),
    (DropReason::TableFull, "table_full"),
    (DropReason::DataLimit, "data_limit"),
    (DropReason::HubMalformed, "hub_malformed"),
    (DropReason::HubUnknownPeer, "hub_unknown_peer"),
    (DropReason::HubForged, "hub_forged"),
    (DropReason::HubReplayed, "hub_replayed"),
    (DropReason::HubExpired, "hub_expired"),
    (DropReason::HubLimit, "hub_limit"),
    (DropReason::HubUnconfirmed, "hub_unconfirmed"),
    (DropReason::InnerSource, "inner_source"),
    (DropReason::InnerDestination, "inner_destination"),
    (DropReason::OtherParty, "other_party"),
    (DropReason::NoSession, "no_session"),
    (DropReason::BroadcastLimit, "broadcast_limit"),
    (DropReason::StunMalformed, "stun_malformed"),
    (DropReason::StunLimit, "stun_limit"),
    (DropReason::LocalSource, "local_source"),
    (DropReason::LocalRefused, "local_refused"),
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
        self.add_run(1, bytes);
    }

    /// Counts datagrams of so many bytes together.
    pub fn add_run(&mut self, datagrams: usize, bytes: usize) {
        self.packets += datagrams as u64;
        self.bytes += bytes as u64;
    }
}

/// What went nowhere, by reason.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Drops([u64; DROPS.len()]);

impl Drops {
    /// Counts something that went nowhere.
    pub fn add(&mut self, reason: DropReason) {
        self.0[reason as usize] += 1;
    }

    /// How many went nowhere for this reason.
    pub fn of(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }

    /// How many went nowhere, for each reason there is, by its name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        DROPS.iter().map(|&(reason, name)| (name, self.of(reason)))
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
    /// Packets that this machine itself took.
    pub local: Count,
    /// Blind sessions that were set up.
    pub blind_handshakes: u64,
    drops: Drops,
}

impl Stats {
    /// Counts something that went nowhere.
    pub fn drop(&mut self, reason: DropReason) {
        self.drops.add(reason);
    }

    /// How many went nowhere for this reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops.of(reason)
    }

    /// How many went nowhere, for each reason there is, by its name.
    pub fn drops(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.drops.iter()
    }
}

/// How a member is reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Reach {
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
    pub reach: Reach,
}

impl MemberStats {
    /// Of a member that never came.
    pub const NOTHING: MemberStats = MemberStats {
        from: Count { packets: 0, bytes: 0 },
        to: Count { packets: 0, bytes: 0 },
        last_handshake: None,
        reach: Reach::None,
    };
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
            let expected = DROPS.map(|(_, other)| (other, u64::from(other == name)));
            assert_eq!(stats.drops().collect::<Vec<_>>(), expected);
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), DROPS.len());
    }
}
