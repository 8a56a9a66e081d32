//! Every cap of the relay, with what it costs.

use crate::owners::SourceRates;
use crate::token_bucket::Rate;
use crate::wireguard::constants::X25519_TYPICAL;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// An initiation that was not answered is forgotten after this.
pub const PENDING_LIFETIME: Duration = Duration::from_secs(10);
/// A flow or a source without traffic is forgotten after this.
pub const IDLE_LIFETIME: Duration = Duration::from_secs(240);
/// The answer to an initiation that was forwarded waits so long for the initiator's first data: as long as WireGuard
/// would send on the session (paper 6.1).
pub const OFFER_LIFETIME: Duration = Duration::from_secs(180);
/// A source that has proven nothing is forgotten after this much silence: some retries of a handshake, which
/// are 5 s apart, and a persistent keepalive, which are 25 s apart.
pub const UNPROVEN_LIFETIME: Duration = Duration::from_secs(60);
/// An initiation is not held back longer than this: its initiator sends the next one after 5 s.
pub const LONGEST_PACE: Duration = Duration::from_secs(4);
/// The answer to an initiation is waited for so long before its initiator may be sent the initiations of others.
pub const ANSWER_TIME: Duration = Duration::from_millis(700);
/// How often what has expired is looked for.
pub const SWEEP_INTERVAL: Duration = Duration::from_secs(10);
/// After a restart the hub asks one member this long after the other for a new session: that costs up to 5 ms of a
/// router's processor, and games have the rest.
pub const RESUMPTION_INTERVAL: Duration = Duration::from_millis(10);
/// How often one is asked at the address where it was before the restart.
pub const RESUMPTIONS: u8 = 3;
/// Addresses remembered of one member.
pub const ADDRESSES_PER_MEMBER: usize = 4;
/// Guesses remembered of one address, at 4 bytes each.
pub const GUESSES_PER_SOURCE: usize = 64;
/// Addresses remembered at which one member may be.
pub const SIGHTINGS_PER_MEMBER: usize = 4;

/// What the relay may hold and do. Nothing it keeps grows past these.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RelayLimits {
    /// Members, at 600 bytes each, 800 more for one that was ever there, and 3 KB for one that has a hub session.
    pub members: usize,
    /// Members of one party: 64 trials of mac1 are 20 us.
    pub members_per_party: usize,
    /// Directions of blind sessions, at 400 bytes each. A pair of members that talk use two to six: this is
    /// one party of 100 that all talk to all.
    pub flows: usize,
    /// Directions of blind sessions that may begin or end at one responder.
    pub flows_per_member: usize,
    /// Addresses that made a valid mac1, at 350 bytes each, 12 for each member that they asked for and
    /// 4 for each guess where that is.
    pub sources: usize,
    /// Addresses of one party that have proven nothing; the oldest makes room.
    pub newcomers_per_party: usize,
    /// Initiations without an answer, at 300 bytes each.
    pub pending: usize,
    /// Initiations that wait for their turn, at 250 bytes each.
    pub paced: usize,
    /// Handshake messages from those who have not shown who they are.
    pub handshakes: SourceRates,
    /// Initiations from those to one member, who has other things to do: an honest one retries every 5 s.
    pub knocks: SourceRates,
    /// Initiations from one known source. The burst is enough for a whole party.
    pub handshakes_per_source: Rate,
    /// Initiations to one destination, below the 20 a second (burst 5) that its kernel allows our address:
    /// `PACKETS_PER_SECOND` in <https://github.com/torvalds/linux/blob/v6.12/drivers/net/wireguard/ratelimiter.c>.
    pub initiations_per_destination: Rate,
    /// Of these, those from sources where no member is known to be: a flood of them leaves room for the members
    /// who have to renew their sessions.
    pub strangers_per_destination: Rate,
    /// Trials of mac1 with the keys of the whole roster, at 0.3 us each on a PC and 2 us on a weak router.
    pub mac1_trials: SourceRates,
    /// Trials of mac1 with the keys of those that the source has to do with.
    pub known_mac1_trials: SourceRates,
    /// Bytes from one IPv4 address or IPv6 /64.
    pub address_bytes: Rate,
    /// Bytes from one member.
    pub member_bytes: Rate,
    /// Bytes within one party.
    pub party_bytes: Rate,
    /// Bytes of copies of all broadcasts together: what games need, and a part of a house's line.
    pub copied_bytes: Rate,
    /// Broadcast packets from one member.
    pub broadcasts_per_member: Rate,
    /// Copies of broadcast packets within one party.
    pub broadcast_copies_per_party: Rate,
    /// Broadcast packets from this machine itself, to the members of all parties.
    pub local_broadcasts: Rate,
    /// Copies of those.
    pub local_copies: Rate,
    /// STUN requests.
    pub stun: SourceRates,
    /// STUN answers, to anybody, that are longer than their requests (by 44 bytes at most).
    pub stun_surplus: Rate,
    /// How often one member may move its flows to another address.
    pub moves_per_member: Rate,
    /// How often an authentic datagram from a new address of a member's is worth an initiation there, which is longer
    /// than a keepalive.
    pub probes_per_member: Rate,
    /// How long an X25519 computation takes here: half of one core is what handshakes with the hub may cost at most,
    /// and a quarter those of strangers.
    pub x25519: Duration,
}

impl Default for RelayLimits {
    fn default() -> Self {
        RelayLimits {
            members: 32_768,
            members_per_party: 100,
            flows: 32_768,
            flows_per_member: 1024,
            sources: 8192,
            newcomers_per_party: 128,
            pending: 8192,
            paced: 512,
            handshakes: SourceRates::widening(Rate::new(100, SECOND, 512), Rate::new(20_000, SECOND, 20_000)),
            knocks: SourceRates {
                subscriber: Rate::new(2, SECOND, 6),
                site: Rate::new(2, SECOND, 6),
                network: Rate::new(4, SECOND, 12),
                total: Rate::new(1_000_000, SECOND, 1_000_000),
            },
            handshakes_per_source: Rate::new(20, SECOND, 128),
            initiations_per_destination: Rate::new(18, SECOND, 5),
            strangers_per_destination: Rate::new(12, SECOND, 4),
            mac1_trials: SourceRates {
                subscriber: Rate::new(10_000, SECOND, 10_000),
                site: Rate::new(10_000, SECOND, 10_000),
                network: Rate::new(20_000, SECOND, 40_000),
                total: Rate::new(100_000, SECOND, 100_000),
            },
            known_mac1_trials: SourceRates::widening(
                Rate::new(4000, SECOND, 8000),
                Rate::new(1_000_000, SECOND, 1_000_000),
            ),
            address_bytes: Rate::new(50_000_000, SECOND, 1 << 20),
            member_bytes: Rate::new(25_000_000, SECOND, 1 << 20),
            party_bytes: Rate::new(50_000_000, SECOND, 2 << 20),
            copied_bytes: Rate::new(500_000, SECOND, 1 << 18),
            broadcasts_per_member: Rate::new(30, SECOND, 60),
            broadcast_copies_per_party: Rate::new(1000, SECOND, 2000),
            local_broadcasts: Rate::new(30, SECOND, 60),
            local_copies: Rate::new(1000, SECOND, 2000),
            stun: SourceRates::widening(Rate::new(5, SECOND, 20), Rate::new(20_000, SECOND, 20_000)),
            stun_surplus: Rate::new(200, SECOND, 400),
            moves_per_member: Rate::new(1, SECOND, 5),
            probes_per_member: Rate::new(1, SECOND, 5),
            x25519: X25519_TYPICAL,
        }
    }
}
