//! Who may have how much: token buckets for addresses, members and parties.

use crate::keyed_hash::KeyedState;
use crate::relay::limits::Limits;
use crate::relay::roster::{MemberId, PartySlot};
use crate::time::Instant;
use crate::token_bucket::{Rate, TokenBucket};
use std::hash::BuildHasher;
use std::net::{IpAddr, SocketAddr};

/// Buckets for addresses. An address has the one that a secret hash gives it: some share one, but nobody can
/// aim at another's, and no flood from made-up addresses makes a table grow or pushes somebody out.
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

/// Buckets of one kind for all addresses there are.
struct AddressBuckets(Box<[TokenBucket]>);

impl AddressBuckets {
    fn new() -> Self {
        AddressBuckets(vec![TokenBucket::default(); ADDRESS_BUCKETS].into())
    }

    fn take(&mut self, bucket: u16, rate: Rate, count: u32, now: Instant) -> bool {
        self.0[usize::from(bucket) % ADDRESS_BUCKETS].take(rate, count, now).is_ok()
    }
}

#[derive(Clone, Copy, Default)]
struct MemberBuckets {
    bytes: ByteBucket,
    broadcasts: TokenBucket,
    moves: TokenBucket,
}

#[derive(Clone, Copy, Default)]
struct PartyBuckets {
    bytes: ByteBucket,
    copies: TokenBucket,
}

/// All buckets: some 48 KB, and 24 bytes per member and 16 per party.
pub struct Admission {
    hasher: KeyedState,
    handshakes: AddressBuckets,
    bytes: Box<[ByteBucket; ADDRESS_BUCKETS]>,
    address_rate: ByteRate,
    member_rate: ByteRate,
    party_rate: ByteRate,
    stun: AddressBuckets,
    trials: TokenBucket,
    stun_surplus: TokenBucket,
    local_broadcasts: TokenBucket,
    local_copies: TokenBucket,
    members: Vec<MemberBuckets>,
    parties: Vec<PartyBuckets>,
}

impl Admission {
    /// Full buckets for everybody.
    pub fn new(hasher: KeyedState, limits: &Limits) -> Self {
        Admission {
            hasher,
            handshakes: AddressBuckets::new(),
            bytes: Box::new([ByteBucket::default(); ADDRESS_BUCKETS]),
            address_rate: ByteRate::new(limits.address_bytes),
            member_rate: ByteRate::new(limits.member_bytes),
            party_rate: ByteRate::new(limits.party_bytes),
            stun: AddressBuckets::new(),
            trials: TokenBucket::default(),
            stun_surplus: TokenBucket::default(),
            local_broadcasts: TokenBucket::default(),
            local_copies: TokenBucket::default(),
            members: Vec::new(),
            parties: Vec::new(),
        }
    }

    /// Makes room for members and parties with slots below these counts.
    pub fn reserve(&mut self, members: usize, parties: usize) {
        if self.members.len() < members {
            self.members.resize(members, MemberBuckets::default());
        }
        if self.parties.len() < parties {
            self.parties.resize(parties, PartyBuckets::default());
        }
    }

    /// A new member begins with full buckets, whoever had its slot before.
    pub fn reset_member(&mut self, member: MemberId) {
        if let Some(buckets) = self.members.get_mut(member.slot()) {
            *buckets = MemberBuckets::default();
        }
    }

    /// The number of the address's buckets: of an IPv4 address or an IPv6 /64.
    pub fn address_bucket(&self, source: SocketAddr) -> u16 {
        let network = match source.ip() {
            // An IPv6 network of that number would lie in ::/32, which nobody has.
            IpAddr::V4(address) => u64::from(address.to_bits()),
            IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
        };
        (self.hasher.hash_one(network) % ADDRESS_BUCKETS as u64) as u16
    }

    /// Whether an unknown source may have one more handshake.
    pub fn handshake(&mut self, source: SocketAddr, limits: &Limits, now: Instant) -> bool {
        let bucket = self.address_bucket(source);
        self.handshakes.take(bucket, limits.handshakes_per_address, 1, now)
    }

    /// Whether all unknown sources together may cost `count` more trials of mac1.
    pub fn trials(&mut self, count: usize, limits: &Limits, now: Instant) -> bool {
        let count = u32::try_from(count).unwrap_or(u32::MAX).min(limits.mac1_trials.burst);
        self.trials.take(limits.mac1_trials, count, now).is_ok()
    }

    /// Whether `member`, at the address with this bucket, may send `length` bytes within `party`. If it may not,
    /// it costs nobody anything.
    pub fn data(
        &mut self,
        member: MemberId,
        party: PartySlot,
        bucket: u16,
        length: usize,
        now: Instant,
    ) -> bool {
        let now = now.as_nanos();
        let (Some(member), Some(party)) =
            (self.members.get_mut(member.slot()), self.parties.get_mut(party as usize))
        else {
            return false;
        };
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
    pub fn broadcast(&mut self, member: MemberId, limits: &Limits, now: Instant) -> bool {
        let buckets = self.members.get_mut(member.slot());
        buckets.is_some_and(|buckets| buckets.broadcasts.take(limits.broadcasts_per_member, 1, now).is_ok())
    }

    /// Whether `party` may get one more copy of a broadcast, of `length` bytes.
    pub fn copy(&mut self, party: PartySlot, length: usize, limits: &Limits, now: Instant) -> bool {
        self.parties.get_mut(party as usize).is_some_and(|party| {
            party.copies.take(limits.broadcast_copies_per_party, 1, now).is_ok()
                && party.bytes.take(self.party_rate, length, now.as_nanos())
        })
    }

    /// Whether this machine may send `length` bytes to somebody in `party`.
    pub fn local_data(&mut self, party: PartySlot, length: usize, now: Instant) -> bool {
        let party = self.parties.get_mut(party as usize);
        party.is_some_and(|party| party.bytes.take(self.party_rate, length, now.as_nanos()))
    }

    /// Whether this machine may send one more broadcast.
    pub fn local_broadcast(&mut self, limits: &Limits, now: Instant) -> bool {
        self.local_broadcasts.take(limits.local_broadcasts, 1, now).is_ok()
    }

    /// Whether somebody in `party` may get one more copy of a broadcast of this machine's, of `length` bytes.
    pub fn local_copy(&mut self, party: PartySlot, length: usize, limits: &Limits, now: Instant) -> bool {
        self.local_copies.take(limits.local_copies, 1, now).is_ok() && self.copy(party, length, limits, now)
    }

    /// Whether `member` may move its flows to another address now.
    pub fn relocation(&mut self, member: MemberId, limits: &Limits, now: Instant) -> bool {
        let buckets = self.members.get_mut(member.slot());
        buckets.is_some_and(|buckets| buckets.moves.take(limits.moves_per_member, 1, now).is_ok())
    }

    /// Whether `source` gets a STUN answer that is `surplus` bytes longer than its request.
    pub fn stun(&mut self, source: SocketAddr, surplus: usize, limits: &Limits, now: Instant) -> bool {
        let bucket = self.address_bucket(source);
        self.stun.take(bucket, limits.stun_per_address, 1, now)
            && (surplus == 0 || self.stun_surplus.take(limits.stun_surplus, 1, now).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::roster::some_members;
    use std::time::Duration;

    const START: Instant = Instant::from_nanos(5_000_000_000);

    #[test]
    fn an_address_a_member_and_a_party_each_have_a_share() {
        let members = some_members(3);
        let second = Duration::from_secs(1);
        let limits = Limits {
            address_bytes: Rate::new(1000, second, 1500),
            member_bytes: Rate::new(1000, second, 1000),
            party_bytes: Rate::new(1000, second, 2000),
            ..Limits::default()
        };
        let mut admission = Admission::new(KeyedState::new(1, 2), &limits);
        assert!(!admission.data(members[0], 0, 0, 1, START), "of nobody nothing");
        admission.reserve(3, 2);
        let mut data =
            |member: usize, party, bucket| admission.data(members[member], party, bucket, 500, START);
        assert!(data(0, 0, 1) && data(0, 0, 1) && !data(0, 0, 2), "the member's is spent");
        assert!(data(1, 0, 1) && !data(1, 0, 1), "the address's is");
        assert!(data(1, 0, 3) && !data(2, 0, 4), "the party's is");
        assert!(data(2, 1, 5), "another party's is not");
    }

    #[test]
    fn what_one_bucket_refuses_costs_the_others_nothing() {
        let members = some_members(2);
        let small = Rate::new(1000, Duration::from_secs(1), 1000);
        for limits in [
            Limits { address_bytes: small, member_bytes: small, ..Limits::default() },
            Limits { member_bytes: small, party_bytes: small, ..Limits::default() },
        ] {
            let mut admission = Admission::new(KeyedState::new(1, 2), &limits);
            admission.reserve(2, 2);
            let mut data = |member: usize, party, bucket, length| {
                admission.data(members[member], party, bucket, length, START)
            };
            // The first member has spent its own share, at another address and in another party.
            assert!(data(0, 1, 2, 1000));
            assert!(!data(0, 0, 1, 1000));
            assert!(data(1, 0, 1, 1000), "the second has the whole of the first address and party");
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
    fn a_v6_network_is_one_address() {
        let admission = Admission::new(KeyedState::new(3, 4), &Limits::default());
        let bucket = |text: &str| admission.address_bucket(text.parse().unwrap());
        assert_eq!(bucket("[2001:db8::1]:1"), bucket("[2001:db8::ffff:2]:9"));
        assert_ne!(bucket("[2001:db8::1]:1"), bucket("[2001:db8:0:1::1]:1"));
        assert_eq!(bucket("192.0.2.1:1"), bucket("192.0.2.1:2"));
        assert_ne!(bucket("192.0.2.1:1"), bucket("192.0.2.2:1"));
    }

    #[test]
    fn broadcasts_and_their_copies_are_counted_apart() {
        let members = some_members(1);
        let second = Duration::from_secs(1);
        let limits = Limits {
            broadcasts_per_member: Rate::new(1, second, 2),
            broadcast_copies_per_party: Rate::new(1, second, 3),
            ..Limits::default()
        };
        let mut admission = Admission::new(KeyedState::new(1, 2), &limits);
        admission.reserve(1, 1);
        let sent = (0..9).filter(|_| admission.broadcast(members[0], &limits, START)).count();
        let copies = (0..9).filter(|_| admission.copy(0, 100, &limits, START)).count();
        assert_eq!((sent, copies), (2, 3));
        let moves = (0..9).filter(|_| admission.relocation(members[0], &limits, START)).count();
        assert_eq!(moves, limits.moves_per_member.burst as usize);
        admission.reset_member(members[0]);
        assert!(admission.broadcast(members[0], &limits, START));
    }
}
