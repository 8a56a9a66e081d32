//! Floor 1: who pays for what. Everything that costs is charged to the owner of the address it came from.
//!
//! Owners form a tree, from the prefixes that providers hand out: everybody > network (IPv4 /24, IPv6 /48) > site
//! (IPv6 /56) > subscriber (IPv4 address, IPv6 /64). What comes again, such as requests, is bounded by
//! [`SourceRates`]; what is held, such as connections or bytes, is counted by [`Holdings`]. Two rules:
//!
//! 1. Nobody takes another's share. Each level has a quota, and when a table is full, the entry that goes is the
//!    oldest of [whoever holds most](Holdings::victim), never the newcomer's.
//! 2. Each resource has a total, that a small machine survives.

pub mod table;

use crate::dense_map::DenseMap;
use crate::keyed_hash::KeyedState;
use crate::time::Instant;
use crate::token_bucket::{Rate, TokenBucket};
use std::cmp::Reverse;
use std::fmt;
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// Addresses that belong together: one owner.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Prefix {
    /// The first 64 bits. An IPv4 address stands in ::/32, which nobody has.
    network: u64,
    level: Level,
}

/// How wide a prefix is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Level {
    /// Many subscribers of one provider, or what one tenant of a data centre gets: IPv4 /24, IPv6 /48.
    Network,
    /// What a provider gives one household (RFC 6177): IPv6 /56. An IPv4 address.
    Site,
    /// One link: IPv6 /64. An IPv4 address.
    Subscriber,
}

/// All of them, the widest first.
pub const LEVELS: [Level; 3] = [Level::Network, Level::Site, Level::Subscriber];

impl Prefix {
    /// The owner of `address` at `level`. IPv4 in the spelling of IPv6 is IPv4.
    pub fn of(address: IpAddr, level: Level) -> Self {
        let network = match address.to_canonical() {
            IpAddr::V4(address) => u64::from(match level {
                Level::Network => address.to_bits() & !0xff,
                Level::Site | Level::Subscriber => address.to_bits(),
            }),
            IpAddr::V6(address) => {
                let network = (address.to_bits() >> 64) as u64;
                network
                    & !match level {
                        Level::Network => 0xffff,
                        Level::Site => 0xff,
                        Level::Subscriber => 0,
                    }
            }
        };
        Prefix { network, level }
    }

    /// The owner of `address` at each of [`LEVELS`].
    pub fn all(address: IpAddr) -> [Prefix; 3] {
        LEVELS.map(|level| Prefix::of(address, level))
    }

    /// The narrowest owner of `address`.
    pub fn subscriber(address: IpAddr) -> Self {
        Prefix::of(address, Level::Subscriber)
    }

    /// Whether `address` is one of this owner's.
    pub fn contains(&self, address: IpAddr) -> bool {
        Prefix::of(address, self.level) == *self
    }

    /// Whether `other` is this owner or a part of it.
    pub fn covers(&self, other: &Prefix) -> bool {
        self.level <= other.level && self.contains(other.first())
    }

    /// Its first address.
    fn first(&self) -> IpAddr {
        match u32::try_from(self.network) {
            Ok(bits) if bits != 0 => Ipv4Addr::from_bits(bits).into(),
            _ => Ipv6Addr::from_bits(u128::from(self.network) << 64).into(),
        }
    }
}

/// As `192.0.2.0/24`.
impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.first();
        let length = match (first.is_ipv4(), self.level) {
            (true, Level::Network) => 24,
            (true, Level::Site | Level::Subscriber) => 32,
            (false, Level::Network) => 48,
            (false, Level::Site) => 56,
            (false, Level::Subscriber) => 64,
        };
        write!(f, "{first}/{length}")
    }
}

/// How often something may come: from everybody together, and from one owner at each level.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SourceRates {
    /// What the machine survives. More than one network may have, so that one can't take all of it.
    pub total: Rate,
    /// From one network.
    pub network: Rate,
    /// From one site.
    pub site: Rate,
    /// From one subscriber.
    pub subscriber: Rate,
}

impl SourceRates {
    /// `subscriber` for each, four times that for a site, sixteen times for a network, and `total` for all.
    pub const fn widening(subscriber: Rate, total: Rate) -> Self {
        SourceRates { total, network: subscriber.times(16), site: subscriber.times(4), subscriber }
    }

    /// `network` for a network, half of that for one subscriber of it, and `total` for all: where a network is taken
    /// for one stranger, because no more than its share may be spent by any.
    pub const fn narrow(network: Rate, total: Rate) -> Self {
        let half = Rate { interval: network.interval.saturating_mul(2), burst: network.burst.div_ceil(2) };
        SourceRates { total, network, site: half, subscriber: half }
    }

    fn of(&self, level: Level) -> Rate {
        match level {
            Level::Network => self.network,
            Level::Site => self.site,
            Level::Subscriber => self.subscriber,
        }
    }
}

/// Buckets in one [`SourceBuckets`], 8 bytes each.
const BUCKETS: usize = 2048;

/// Token buckets for all addresses there are, in 16 KB. A prefix has the two buckets that a secret hash gives it, and
/// the fuller one counts: who shares one with a flood has the other. Nobody can aim at another's, and no flood from
/// made-up addresses makes it grow or pushes somebody out. A prefix whose network has had its share spends nothing of
/// the buckets below. There are a dozen of these tables, and most routers never need half of them: until something is
/// spent, there are no buckets, and all are full.
pub struct SourceBuckets {
    hasher: KeyedState,
    total: TokenBucket,
    buckets: Box<[TokenBucket]>,
}

impl SourceBuckets {
    /// Full ones.
    pub fn new(hasher: KeyedState) -> Self {
        SourceBuckets { hasher, total: TokenBucket::default(), buckets: Box::default() }
    }

    /// Takes `count` tokens of each of the owners of `source`, or none and says how long to wait. What is taken from
    /// the total comes last: who is refused costs nobody anything.
    pub fn take(
        &mut self,
        source: IpAddr,
        count: u32,
        rates: &SourceRates,
        now: Instant,
    ) -> Result<(), Duration> {
        self.take_of(source, 0, count, rates, now)
    }

    /// As [`SourceBuckets::take`], where each owner has its own tokens for every number of `what`.
    pub fn take_of(
        &mut self,
        source: IpAddr,
        what: u64,
        count: u32,
        rates: &SourceRates,
        now: Instant,
    ) -> Result<(), Duration> {
        self.peek_of(source, what, count, rates, now)?;
        self.spend_of(source, what, count, rates, now);
        Ok(())
    }

    /// As [`SourceBuckets::take`], but leaves them there.
    pub fn peek(
        &self,
        source: IpAddr,
        count: u32,
        rates: &SourceRates,
        now: Instant,
    ) -> Result<(), Duration> {
        self.peek_of(source, 0, count, rates, now)
    }

    fn peek_of(
        &self,
        source: IpAddr,
        what: u64,
        count: u32,
        rates: &SourceRates,
        now: Instant,
    ) -> Result<(), Duration> {
        for owner in Prefix::all(source) {
            self.fuller(self.buckets_of(owner, what)).peek(rates.of(owner.level), count, now)?;
        }
        self.total.peek(rates.total, count, now)
    }

    /// Takes `count` tokens of each of the owners of `source`, whether they have so many or not.
    pub fn spend(&mut self, source: IpAddr, count: u32, rates: &SourceRates, now: Instant) {
        self.spend_of(source, 0, count, rates, now);
    }

    fn spend_of(&mut self, source: IpAddr, what: u64, count: u32, rates: &SourceRates, now: Instant) {
        if self.buckets.is_empty() {
            self.buckets = vec![TokenBucket::default(); BUCKETS].into();
        }
        self.total = self.total.spent(rates.total, count, now);
        for owner in Prefix::all(source) {
            let both = self.buckets_of(owner, what);
            let spent = self.fuller(both).spent(rates.of(owner.level), count, now);
            for bucket in both {
                self.buckets[bucket] = self.buckets[bucket].max(spent);
            }
        }
    }

    /// The fuller one of two buckets.
    fn fuller(&self, both: [usize; 2]) -> TokenBucket {
        let [one, other] = both.map(|at| self.buckets.get(at).copied().unwrap_or_default());
        one.min(other)
    }

    /// Where the two buckets of a prefix are.
    fn buckets_of(&self, owner: Prefix, what: u64) -> [usize; 2] {
        let hash = self.hasher.hash_one((owner, what));
        [hash as usize % BUCKETS, (hash >> 32) as usize % BUCKETS]
    }
}

/// How much of something one owner may hold at each level.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quota {
    /// One network.
    pub network: usize,
    /// One site.
    pub site: usize,
    /// One subscriber.
    pub subscriber: usize,
}

impl Quota {
    /// `subscriber` for one, twice that for a site, four times for a network.
    pub const fn widening(subscriber: usize) -> Self {
        Quota { network: subscriber.saturating_mul(4), site: subscriber.saturating_mul(2), subscriber }
    }

    /// A quarter of `total` for a network, half of that for a site or subscriber of it.
    pub const fn shares(total: usize) -> Self {
        Quota { network: total / 4, site: total / 8, subscriber: total / 8 }
    }

    fn of(&self, level: Level) -> usize {
        match level {
            Level::Network => self.network,
            Level::Site => self.site,
            Level::Subscriber => self.subscriber,
        }
    }
}

/// How much of something, entries or bytes, each owner holds at each level.
pub struct Holdings {
    held: DenseMap<Prefix, usize>,
    total: usize,
}

/// What the owners of one address hold, the widest first: who holds more is greater.
pub type Weight = [usize; 3];

impl Holdings {
    /// Nobody holds anything.
    pub fn new(hasher: KeyedState) -> Self {
        Holdings { held: DenseMap::with_hasher(hasher), total: 0 }
    }

    /// Nobody holds anything. As long as no more than `sources` do, nothing is allocated.
    pub fn with_capacity(sources: usize, hasher: KeyedState) -> Self {
        let mut holdings = Self::new(hasher);
        holdings.held.reserve(LEVELS.len() * sources);
        holdings
    }

    /// `source` holds `amount` more.
    pub fn add(&mut self, source: IpAddr, amount: usize) {
        if amount == 0 {
            return;
        }
        self.total += amount;
        for owner in Prefix::all(source) {
            *self.held.get_or_insert_with(owner, usize::default) += amount;
        }
    }

    /// `source` holds `amount` less.
    pub fn remove(&mut self, source: IpAddr, amount: usize) {
        if amount == 0 {
            return;
        }
        self.total = self.total.saturating_sub(amount);
        for owner in Prefix::all(source) {
            if let Some(held) = self.held.get_mut(&owner) {
                *held = held.saturating_sub(amount);
                if *held == 0 {
                    self.held.remove(&owner);
                }
            }
        }
    }

    /// What everybody together holds.
    pub fn total(&self) -> usize {
        self.total
    }

    /// What the owners of `source` hold.
    pub fn weight(&self, source: IpAddr) -> Weight {
        Prefix::all(source).map(|owner| self.held.get(&owner).copied().unwrap_or(0))
    }

    /// The narrowest level at which `source` would hold more than its quota with `amount` more.
    pub fn excess(&self, source: IpAddr, amount: usize, quota: &Quota) -> Option<Prefix> {
        let held = self.weight(source).into_iter().zip(Prefix::all(source)).rev();
        held.into_iter().find(|(held, owner)| held + amount > quota.of(owner.level)).map(|(_, owner)| owner)
    }

    /// Which of `entries`, each with where it came from and a rank in the order in which they are given up (as a rule
    /// since when it is there), has to make room: the first of the subscriber that holds most, in the site that
    /// holds most, in the network that holds most.
    pub fn victim<K, P: Ord>(&self, entries: impl Iterator<Item = (K, IpAddr, P)>) -> Option<K> {
        let ranked = entries.map(|(key, source, rank)| (key, (self.weight(source), Reverse(rank))));
        let most = ranked.reduce(|best, next| if next.1 > best.1 { next } else { best });
        most.map(|(key, _)| key)
    }

    /// As [`Holdings::victim`], but up to `most` of the same subscriber at once: to look for each alone would cost a
    /// large table too much.
    pub fn victims<K, P: Ord>(&self, entries: Vec<(K, IpAddr, P)>, most: usize) -> Vec<K> {
        let first = self.victim(entries.iter().map(|(_, source, rank)| (*source, *source, rank)));
        let Some(owner) = first.map(Prefix::subscriber) else { return Vec::new() };
        let mut own: Vec<(K, IpAddr, P)> =
            entries.into_iter().filter(|(_, source, _)| owner.contains(*source)).collect();
        own.sort_by(|(_, _, one), (_, _, other)| one.cmp(other));
        own.into_iter().take(most).map(|(key, _, _)| key).collect()
    }

    /// The network that holds most, and how much.
    pub fn largest(&self) -> Option<(Prefix, usize)> {
        let networks = self.held.iter().filter(|(owner, _)| owner.level == Level::Network);
        networks.map(|(&owner, &held)| (owner, held)).max_by_key(|&(owner, held)| (held, owner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Instant = Instant::from_nanos(5_000_000_000);
    const SECOND: Duration = Duration::from_secs(1);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn hasher() -> KeyedState {
        KeyedState::new(0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03)
    }

    #[test]
    fn owners_are_prefixes() {
        let names = |address: &str| Prefix::all(ip(address)).map(|prefix| prefix.to_string());
        assert_eq!(names("192.0.2.7"), ["192.0.2.0/24", "192.0.2.7/32", "192.0.2.7/32"]);
        assert_eq!(names("::ffff:192.0.2.7"), names("192.0.2.7"));
        let v6 = ["2001:db8:1::/48", "2001:db8:1:200::/56", "2001:db8:1:203::/64"];
        assert_eq!(names("2001:db8:1:203::9"), v6);
        assert_eq!(names("::1")[0], "::/48");
        // The same bits at another level are another owner.
        let [network, site, subscriber] = Prefix::all(ip("2001:db8::"));
        assert!(network != site && site != subscriber);
    }

    #[test]
    fn a_flood_from_one_network_spends_its_own_share_only() {
        let rate = Rate::new(1, SECOND, 5);
        let rates = SourceRates::widening(rate, Rate::new(1000, SECOND, 1000));
        let mut buckets = SourceBuckets::new(hasher());
        let mut flood = |next: &mut dyn FnMut(u32) -> IpAddr| {
            (0..10_000).filter(|&n| buckets.take(next(n), 1, &rates, START).is_ok()).count()
        };
        assert_eq!(flood(&mut |_| ip("2001:db8:1:101::1")), 5, "one subscriber");
        let in_56 = |n: u32| Ipv6Addr::from_bits(0x2001_0db8_0001_0100 << 64 | u128::from(n % 256) << 64);
        assert_eq!(flood(&mut |n| in_56(n).into()), 20 - 5, "one site");
        let in_48 = |n: u32| Ipv6Addr::from_bits(0x2001_0db8_0001_0000 << 64 | u128::from(n) << 64);
        assert_eq!(flood(&mut |n| in_48(n).into()), 80 - 20, "one network");
        assert_eq!(flood(&mut |n| Ipv4Addr::from_bits(0xc000_0200 | (n % 256)).into()), 80, "another one");
        let honest = (0..200).filter(|&n| {
            let address = Ipv4Addr::from_bits(0xcb00_7100 + n * 256);
            buckets.take(address.into(), 1, &rates, START).is_ok()
        });
        assert!(honest.count() >= 198, "hardly anybody shares both buckets with those of the flood");
    }

    #[test]
    fn what_was_looked_at_can_be_spent() {
        let rates = SourceRates::widening(Rate::new(1, SECOND, 5), Rate::new(10, SECOND, 10));
        let mut buckets = SourceBuckets::new(hasher());
        let source = ip("192.0.2.7");
        assert!(
            buckets.peek(source, 5, &rates, START).is_ok() && buckets.peek(source, 6, &rates, START).is_err()
        );
        assert!(buckets.buckets.is_empty(), "who spends nothing takes no memory");
        buckets.spend(source, 2, &rates, START);
        assert!(
            buckets.peek(source, 3, &rates, START).is_ok() && buckets.peek(source, 4, &rates, START).is_err()
        );
        buckets.spend(source, 8, &rates, START);
        assert_eq!(
            buckets.peek(source, 1, &rates, START),
            Err(6 * SECOND),
            "what is owed comes back at the rate"
        );
        assert_eq!(
            buckets.peek(ip("198.51.100.1"), 1, &rates, START),
            Err(SECOND / 10),
            "the total is spent, too"
        );
    }

    #[test]
    fn the_total_bounds_everybody() {
        let rates = SourceRates::widening(Rate::new(10, SECOND, 10), Rate::new(100, SECOND, 100));
        let mut buckets = SourceBuckets::new(hasher());
        let mut taken = |now| {
            (0..2000u32)
                .filter(|n| buckets.take(Ipv4Addr::from_bits(n << 8).into(), 1, &rates, now).is_ok())
                .count()
        };
        assert_eq!(taken(START), 100);
        assert_eq!(taken(START + SECOND), 100);
    }

    #[test]
    fn who_holds_most_makes_room_the_oldest_first() {
        let mut holdings = Holdings::new(hasher());
        let at = |seconds: u64| START + SECOND * seconds as u32;
        let mut entries = vec![
            ("honest", ip("203.0.113.9"), at(0)),
            ("neighbour", ip("198.51.100.200"), at(0)),
            ("first", ip("198.51.100.1"), at(2)),
            ("second", ip("198.51.100.1"), at(1)),
            ("third", ip("198.51.100.1"), at(3)),
        ];
        for (_, source, _) in &entries {
            holdings.add(*source, 1);
        }
        assert_eq!(holdings.total(), 5);
        assert_eq!(holdings.weight(ip("198.51.100.1")), [4, 3, 3]);
        assert_eq!(holdings.victim(entries.iter().copied()), Some("second"));
        assert_eq!(holdings.largest(), Some((Prefix::of(ip("198.51.100.1"), Level::Network), 4)));
        // In an IPv6 /48 the address changes with every datagram, its network does not.
        for n in 0..9u16 {
            let source = IpAddr::from([0x2001, 0xdb8, 7, n, 0, 0, 0, 1]);
            holdings.add(source, 1);
            entries.push(("many", source, at(10)));
        }
        assert_eq!(holdings.victim(entries.iter().copied()), Some("many"));
        for (_, source, _) in &entries {
            holdings.remove(*source, 1);
        }
        assert!(holdings.total() == 0 && holdings.held.is_empty());
    }

    #[test]
    fn quotas_hold_at_every_level() {
        let mut holdings = Holdings::new(hasher());
        let quota = Quota { network: 5, site: 3, subscriber: 2 };
        let address = |site: u16, link: u16| IpAddr::from([0x2001, 0xdb8, 1, site << 8 | link, 0, 0, 0, 1]);
        let mut hold = |source| {
            let excess = holdings.excess(source, 1, &quota);
            if excess.is_none() {
                holdings.add(source, 1);
            }
            excess.map(|owner| owner.level)
        };
        assert_eq!([hold(address(1, 1)), hold(address(1, 1))], [None, None]);
        assert_eq!(hold(address(1, 1)), Some(Level::Subscriber));
        assert_eq!(hold(address(1, 2)), None);
        assert_eq!(hold(address(1, 3)), Some(Level::Site));
        assert_eq!([hold(address(2, 1)), hold(address(3, 1))], [None, None]);
        assert_eq!(hold(address(4, 1)), Some(Level::Network));
    }
}
