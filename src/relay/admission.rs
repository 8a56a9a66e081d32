//! Who may have how much: token buckets for sources, members and parties.

use crate::keyed_hash::KeyedState;
use crate::owners::{Prefix, SourceBuckets, SourceRates};
use crate::relay::limits::RelayLimits;
use crate::relay::roster::{MemberId, PartySlot, Roster};
use crate::time::Instant;
use crate::token_bucket::{Rate, TokenBucket};
use std::hash::BuildHasher;
use std::net::SocketAddr;

/// Buckets for the bytes of addresses. An address has the one that a secret hash gives it: some share one, but nobody
/// can aim at another's, and no flood from made-up addresses makes a table grow or pushes somebody out.
const ADDRESS_BUCKETS: usize = 2048;

/// A token bucket for bytes: looked at for every packet, so it knows its rate in whole nanoseconds.
#[derive(Clone, Copy, Default)]
struct ByteBucket {
    /// In nanoseconds on the monotonic clock.
    full_at: u64,
}

/// What a byte costs and how much may be owed, in nanoseconds.
#[derive(Clone, Copy)]
struct ByteRate {
    byte: u64,
    burst: u64,
}

impl ByteRate {
    fn new(rate: Rate) -> Self {
        let byte = u64::try_from(rate.interval.as_nanos()).unwrap_or(u64::MAX);
        ByteRate { byte, burst: byte.saturating_mul(rate.burst.into()) }
    }
}

impl ByteBucket {
    fn take(&mut self, rate: ByteRate, bytes: usize, now: u64) -> bool {
        let after = self.without(rate, bytes, now);
        after.inspect(|after| *self = *after).is_some()
    }

    /// What it would be without these bytes, if it holds so many.
    fn without(self, rate: ByteRate, bytes: usize, now: u64) -> Option<Self> {
        let cost = rate.byte.saturating_mul(bytes as u64);
        let full_at = self.full_at.max(now).saturating_add(cost);
        (cost <= rate.burst && full_at - now <= rate.burst).then_some(ByteBucket { full_at })
    }
}

/// What a member has left.
#[derive(Clone, Copy, Default)]
pub struct MemberBuckets {
    bytes: ByteBucket,
    broadcasts: TokenBucket,
    moves: TokenBucket,
    probes: TokenBucket,
}

/// What a party has left.
#[derive(Clone, Copy, Default)]
pub struct PartyBuckets {
    bytes: ByteBucket,
    copies: TokenBucket,
}

/// The buckets of all who are no members, some 80 KB, and those of everybody together.
pub struct RateLimiter {
    hasher: KeyedState,
    handshakes: SourceBuckets,
    knocks: SourceBuckets,
    trials: SourceBuckets,
    known_trials: SourceBuckets,
    stun: SourceBuckets,
    bytes: Box<[ByteBucket; ADDRESS_BUCKETS]>,
    address_rate: ByteRate,
    member_rate: ByteRate,
    party_rate: ByteRate,
    copies_rate: ByteRate,
    stun_surplus: TokenBucket,
    local_broadcasts: TokenBucket,
    local_copies: TokenBucket,
    copies: ByteBucket,
}

impl RateLimiter {
    /// Full buckets for everybody.
    pub fn new(hasher: KeyedState, limits: &RelayLimits) -> Self {
        RateLimiter {
            hasher,
            handshakes: SourceBuckets::new(hasher),
            knocks: SourceBuckets::new(hasher),
            trials: SourceBuckets::new(hasher),
            known_trials: SourceBuckets::new(hasher),
            stun: SourceBuckets::new(hasher),
            bytes: Box::new([ByteBucket::default(); ADDRESS_BUCKETS]),
            address_rate: ByteRate::new(limits.address_bytes),
            member_rate: ByteRate::new(limits.member_bytes),
            party_rate: ByteRate::new(limits.party_bytes),
            copies_rate: ByteRate::new(limits.copied_bytes),
            stun_surplus: TokenBucket::default(),
            local_broadcasts: TokenBucket::default(),
            local_copies: TokenBucket::default(),
            copies: ByteBucket::default(),
        }
    }

    /// The number of the bucket for the bytes of the subscriber that the address is of.
    pub fn address_bucket(&self, source: SocketAddr) -> u16 {
        (self.hasher.hash_one(Prefix::subscriber(source.ip())) % ADDRESS_BUCKETS as u64) as u16
    }

    /// Whether a source that has not shown who it is may have one more handshake.
    pub fn handshake(&mut self, source: SocketAddr, limits: &RelayLimits, now: Instant) -> bool {
        self.handshakes.take(source.ip(), 1, &limits.handshakes, now).is_ok()
    }

    /// Whether a source that has not shown who it is may have one more initiation forwarded to this member.
    pub fn knock(
        &mut self,
        source: SocketAddr,
        member: MemberId,
        limits: &RelayLimits,
        now: Instant,
    ) -> bool {
        self.knocks.take_of(source.ip(), member.slot().into(), 1, &limits.knocks, now).is_ok()
    }

    /// Whether `source` may cost `count` more trials of mac1, with the keys of the whole roster.
    pub fn trials(&mut self, source: SocketAddr, count: usize, limits: &RelayLimits, now: Instant) -> bool {
        let rates = &limits.mac1_trials;
        self.trials.take(source.ip(), at_most(count, rates), rates, now).is_ok()
    }

    /// The same with the keys of those that the source has to do with: that is not refused because of others.
    pub fn known_trials(
        &mut self,
        source: SocketAddr,
        count: usize,
        limits: &RelayLimits,
        now: Instant,
    ) -> bool {
        let rates = &limits.known_mac1_trials;
        self.known_trials.take(source.ip(), at_most(count, rates), rates, now).is_ok()
    }

    /// Whether `member`, at the address with this bucket, may send `length` bytes within `party`. If it may not,
    /// it costs nobody anything.
    pub fn data(
        &mut self,
        roster: &mut Roster,
        member: MemberId,
        party: PartySlot,
        bucket: u16,
        length: usize,
        now: Instant,
    ) -> bool {
        let now = now.as_nanos();
        let Some((member, party)) = roster.buckets(member, party) else { return false };
        let address = &mut self.bytes[usize::from(bucket) % ADDRESS_BUCKETS];
        let (Some(of_address), Some(of_member), Some(of_party)) = (
            address.without(self.address_rate, length, now),
            member.bytes.without(self.member_rate, length, now),
            party.bytes.without(self.party_rate, length, now),
        ) else {
            return false;
        };
        (*address, member.bytes, party.bytes) = (of_address, of_member, of_party);
        true
    }

    /// Whether `member` may send one more broadcast.
    pub fn broadcast(roster: &mut Roster, member: MemberId, limits: &RelayLimits, now: Instant) -> bool {
        let state = roster.state(member);
        state.is_some_and(|it| it.buckets.broadcasts.take(limits.broadcasts_per_member, 1, now).is_ok())
    }

    /// Whether one more copy of a broadcast of `member`'s, of `length` bytes, may be sent to somebody in `party`: its
    /// sender pays for each, and all of them share a part of the line.
    pub fn copy(
        &mut self,
        roster: &mut Roster,
        member: MemberId,
        party: PartySlot,
        length: usize,
        limits: &RelayLimits,
        now: Instant,
    ) -> bool {
        let nanos = now.as_nanos();
        let Some((member, party)) = roster.buckets(member, party) else { return false };
        let (Some(of_member), Some(of_all)) = (
            member.bytes.without(self.member_rate, length, nanos),
            self.copies.without(self.copies_rate, length, nanos),
        ) else {
            return false;
        };
        let taken = party.take_copy(self.party_rate, length, limits, now);
        if taken {
            (member.bytes, self.copies) = (of_member, of_all);
        }
        taken
    }

    /// Whether this machine may send `length` bytes to somebody in `party`.
    pub fn local_data(&mut self, roster: &mut Roster, party: PartySlot, length: usize, now: Instant) -> bool {
        let party = roster.party_buckets(party);
        party.is_some_and(|party| party.bytes.take(self.party_rate, length, now.as_nanos()))
    }

    /// Whether this machine may send one more broadcast.
    pub fn local_broadcast(&mut self, limits: &RelayLimits, now: Instant) -> bool {
        self.local_broadcasts.take(limits.local_broadcasts, 1, now).is_ok()
    }

    /// Whether somebody in `party` may get one more copy of a broadcast of this machine's, of `length` bytes.
    pub fn local_copy(
        &mut self,
        roster: &mut Roster,
        party: PartySlot,
        length: usize,
        limits: &RelayLimits,
        now: Instant,
    ) -> bool {
        let Some(party) = roster.party_buckets(party) else { return false };
        self.local_copies.take(limits.local_copies, 1, now).is_ok()
            && party.take_copy(self.party_rate, length, limits, now)
    }

    /// Whether `source` gets a STUN answer that is `surplus` bytes longer than its request.
    pub fn stun(&mut self, source: SocketAddr, surplus: usize, limits: &RelayLimits, now: Instant) -> bool {
        self.stun.take(source.ip(), 1, &limits.stun, now).is_ok()
            && (surplus == 0 || self.stun_surplus.take(limits.stun_surplus, 1, now).is_ok())
    }
}

impl MemberBuckets {
    /// Whether the member may move its flows to another address now.
    pub fn relocation(&mut self, limits: &RelayLimits, now: Instant) -> bool {
        self.moves.take(limits.moves_per_member, 1, now).is_ok()
    }

    /// Whether an authentic datagram of the member's from a new address may be answered by an initiation there.
    pub fn probe(&mut self, limits: &RelayLimits, now: Instant) -> bool {
        self.probes.take(limits.probes_per_member, 1, now).is_ok()
    }
}

impl PartyBuckets {
    fn take_copy(&mut self, rate: ByteRate, length: usize, limits: &RelayLimits, now: Instant) -> bool {
        self.copies.take(limits.broadcast_copies_per_party, 1, now).is_ok()
            && self.bytes.take(rate, length, now.as_nanos())
    }
}

/// What is more than all a source may save up would never be granted.
fn at_most(count: usize, rates: &SourceRates) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX).min(rates.subscriber.burst).min(rates.total.burst)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::roster::some_roster;
    use std::time::Duration;

    const START: Instant = Instant::from_nanos(5_000_000_000);

    fn admission(limits: &RelayLimits) -> RateLimiter {
        RateLimiter::new(KeyedState::new(1, 2), limits)
    }

    #[test]
    fn an_address_a_member_and_a_party_each_have_a_share() {
        let (mut roster, members) = some_roster(5);
        let second = Duration::from_secs(1);
        let limits = RelayLimits {
            address_bytes: Rate::new(1000, second, 1500),
            member_bytes: Rate::new(1000, second, 1000),
            party_bytes: Rate::new(1000, second, 2000),
            ..RelayLimits::default()
        };
        let mut admission = admission(&limits);
        assert!(!admission.data(&mut roster, members[0], 9, 0, 1, START), "in no party nothing");
        let mut data =
            |member: usize, bucket| admission.data(&mut roster, members[member], 0, bucket, 500, START);
        assert!(data(0, 1) && data(0, 1) && !data(0, 2), "the member's is spent");
        assert!(data(1, 1) && !data(1, 1), "the address's is");
        assert!(data(1, 3) && !data(2, 4), "the party's is");
    }

    #[test]
    fn what_one_bucket_refuses_costs_the_others_nothing() {
        let small = Rate::new(1000, Duration::from_secs(1), 1000);
        for limits in [
            RelayLimits { address_bytes: small, member_bytes: small, ..RelayLimits::default() },
            RelayLimits {
                member_bytes: small,
                party_bytes: Rate::new(2000, Duration::from_secs(1), 2000),
                ..RelayLimits::default()
            },
        ] {
            let (mut roster, members) = some_roster(2);
            let mut admission = admission(&limits);
            let mut data = |member: usize, bucket, length| {
                admission.data(&mut roster, members[member], 0, bucket, length, START)
            };
            // The first member has spent its own share, at another address.
            assert!(data(0, 2, 1000));
            assert!(!data(0, 1, 1000));
            assert!(data(1, 1, 1000), "the second has what is left of the address and the party");
        }
    }

    #[test]
    fn a_byte_bucket_spends_its_burst_then_its_rate() {
        let rate = ByteRate::new(Rate::new(1000, Duration::from_secs(1), 300));
        let (mut bucket, start) = (ByteBucket::default(), START.as_nanos());
        assert!(
            bucket.take(rate, 100, start) && bucket.take(rate, 200, start) && !bucket.take(rate, 1, start)
        );
        assert!(!bucket.take(rate, 2, start + 1_000_000) && bucket.take(rate, 1, start + 1_000_000));
        assert!(
            bucket.take(rate, 300, start + 1_000_000_000) && !bucket.take(rate, 1, start + 1_000_000_000)
        );
        assert!(!bucket.take(rate, usize::MAX, u64::MAX - 5), "nothing overflows");
        assert!(bucket.take(rate, 0, u64::MAX));
    }

    #[test]
    fn who_broadcasts_pays_for_each_copy() {
        let (mut roster, members) = some_roster(2);
        let second = Duration::from_secs(1);
        let limits = RelayLimits {
            broadcasts_per_member: Rate::new(1, second, 2),
            broadcast_copies_per_party: Rate::new(1, second, 12),
            member_bytes: Rate::new(1000, second, 1000),
            copied_bytes: Rate::new(1500, second, 1500),
            ..RelayLimits::default()
        };
        let mut admission = admission(&limits);
        let sent = (0..9).filter(|_| RateLimiter::broadcast(&mut roster, members[0], &limits, START)).count();
        assert_eq!(sent, 2);
        let mut copies = |member: usize, length| {
            (0..20)
                .filter(|_| admission.copy(&mut roster, members[member], 0, length, &limits, START))
                .count()
        };
        assert_eq!(copies(0, 100), 10, "its own bytes");
        assert_eq!(copies(1, 250), 2, "what all copies may have of the line, and the party's");
        assert_eq!(copies(1, 0), 0, "the party's copies are spent");
        let buckets = &mut roster.state(members[0]).unwrap().buckets;
        let moves = (0..9).filter(|_| buckets.relocation(&limits, START)).count();
        assert_eq!(moves, limits.moves_per_member.burst as usize);
    }
}
