//! How many X25519 computations each source may cause. They are the most expensive work that a stranger can ask for by
//! a handshake, so each one is charged to the owners of the address that asked for it.

use crate::keyed_hash::KeyedState;
use crate::owners::{SourceBuckets, SourceRates};
use crate::time::Instant;
use crate::token_bucket::Rate;
use crate::wireguard::constants::{
    EXPECTED_SHARE, INITIATION_COST, PROVEN_SHARE, SHARE_BURST, UNPROVEN_SHARE, X25519_FASTEST,
    X25519_SLOWEST,
};
use std::net::IpAddr;
use std::time::Duration;

/// What is known of who sent a handshake message. Each has its own part of the processor, which the others can't take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lane {
    /// Nothing: the address may be spoofed.
    Unproven,
    /// It receives what we send there: it sent us our cookie.
    Proven,
    /// A peer is known to be there, or was asked for it.
    Expected,
}

/// How many X25519 computations each [`Lane`] may cost on a machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    unproven: SourceRates,
    proven: SourceRates,
    expected: SourceRates,
}

impl Budget {
    /// On a machine where one computation takes `x25519`.
    pub fn new(x25519: Duration) -> Self {
        let each = x25519.clamp(X25519_FASTEST, X25519_SLOWEST);
        let per_second = Duration::from_secs(1).as_nanos() / each.as_nanos();
        let lane = |percent| rates(u32::try_from(per_second * percent / 100).unwrap_or(u32::MAX));
        Budget { unproven: lane(UNPROVEN_SHARE), proven: lane(PROVEN_SHARE), expected: lane(EXPECTED_SHARE) }
    }

    /// What those in `lane` may cost, in computations.
    pub fn rates(&self, lane: Lane) -> &SourceRates {
        match lane {
            Lane::Unproven => &self.unproven,
            Lane::Proven => &self.proven,
            Lane::Expected => &self.expected,
        }
    }
}

/// `total` computations a second for everybody. A quarter of that for one network, so that one can't take all of it,
/// an eighth for a site and a sixteenth for a subscriber. What they can do at once: [`SHARE_BURST`] whole handshakes
/// for a network, in which there may be a LAN party of many players, 24 for a site, 16 for a subscriber, which may be
/// a household.
fn rates(total: u32) -> SourceRates {
    let part = |divisor: u32, handshakes: u32| {
        Rate::new((total / divisor).max(1), Duration::from_secs(1), handshakes * INITIATION_COST)
    };
    let burst = total.saturating_mul(2).max(SHARE_BURST * INITIATION_COST);
    SourceRates {
        total: Rate::new(total.max(1), Duration::from_secs(1), burst),
        network: part(4, SHARE_BURST),
        site: part(8, 24),
        subscriber: part(16, 16),
    }
}

/// What everybody has left of the [`Budget`].
pub(super) struct Purse {
    budget: Budget,
    unproven: SourceBuckets,
    proven: SourceBuckets,
    expected: SourceBuckets,
    spent: u64,
}

impl Purse {
    /// All of it.
    pub fn new(budget: Budget, hasher: KeyedState) -> Self {
        let buckets = || SourceBuckets::new(hasher);
        Purse { budget, unproven: buckets(), proven: buckets(), expected: buckets(), spent: 0 }
    }

    fn buckets(&mut self, lane: Lane) -> (&mut SourceBuckets, &SourceRates) {
        let buckets = match lane {
            Lane::Unproven => &mut self.unproven,
            Lane::Proven => &mut self.proven,
            Lane::Expected => &mut self.expected,
        };
        (buckets, self.budget.rates(lane))
    }

    /// Whether `source` may cost `count` computations in `lane`.
    pub fn affords(&mut self, lane: Lane, source: IpAddr, count: u32, now: Instant) -> bool {
        let (buckets, rates) = self.buckets(lane);
        buckets.peek(source, count, rates, now).is_ok()
    }

    /// `source` costs `count` computations, whether it could afford them or not.
    pub fn spend(&mut self, lane: Lane, source: IpAddr, count: u32, now: Instant) {
        let (buckets, rates) = self.buckets(lane);
        buckets.spend(source, count, rates, now);
        self.spent += u64::from(count);
    }

    /// All computations that were charged to anybody.
    pub fn spent(&self) -> u64 {
        self.spent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv6Addr;

    const START: Instant = Instant::from_nanos(5_000_000_000);
    const LANES: [Lane; 3] = [Lane::Unproven, Lane::Proven, Lane::Expected];

    fn purse(x25519: Duration) -> Purse {
        Purse::new(Budget::new(x25519), KeyedState::new(0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03))
    }

    /// Of 10 seconds, how many are spent on those who ask for `cost` computations 10,000 times a second.
    fn seconds_spent(x25519: Duration, lane: Lane, cost: u32, source: impl Fn(u64) -> IpAddr) -> f64 {
        let mut purse = purse(x25519);
        for number in 0..100_000 {
            let now = START + Duration::from_micros(100) * number;
            let source = source(number.into());
            if purse.affords(lane, source, INITIATION_COST, now) {
                purse.spend(lane, source, cost, now);
            }
        }
        purse.spent() as f64 * x25519.as_secs_f64()
    }

    fn v6(network: u64) -> IpAddr {
        Ipv6Addr::from_bits(u128::from(network) << 64 | 1).into()
    }

    #[test]
    fn each_lane_takes_its_share_of_a_core_on_any_machine_and_no_more() {
        for x25519 in [30, 60, 300, 1300].map(Duration::from_micros) {
            for cost in [1, INITIATION_COST] {
                for (lane, percent) in LANES.into_iter().zip([UNPROVEN_SHARE, PROVEN_SHARE, EXPECTED_SHARE]) {
                    let share = percent as f64 / 100.0;
                    // Each from another network.
                    let spent =
                        seconds_spent(x25519, lane, cost, |number| v6(0x2001_0000_0000_0000 | number << 16));
                    let burst =
                        (2.0 * share).max(f64::from(SHARE_BURST * INITIATION_COST) * x25519.as_secs_f64());
                    let (least, most) = (10.0 * share * 0.9, 10.0 * share + burst + 0.01);
                    assert!((least..most).contains(&spent), "{x25519:?} {lane:?} {cost}: {spent} of {most}");
                }
            }
        }
    }

    #[test]
    fn one_network_has_a_quarter_and_leaves_others_theirs() {
        let x25519 = Duration::from_micros(60);
        let whole = 10.0 * PROVEN_SHARE as f64 / 100.0;
        let parts = [
            (0.25, (|number| v6(0x2001_0db8_0001_0000 + number % 65_536)) as fn(u64) -> IpAddr),
            (0.125, |number| v6(0x2001_0db8_0001_0100 + number % 256)),
            (0.0625, |_| v6(0x2001_0db8_0001_0101)),
        ];
        for (part, source) in parts {
            let spent = seconds_spent(x25519, Lane::Proven, 1, source);
            assert!((part * 0.9..part * 1.1).contains(&(spent / whole)), "{part}: {spent}");
        }
        let mut purse = purse(x25519);
        let attacker = v6(0x2001_0db8_0001_0000);
        while purse.affords(Lane::Proven, attacker, 1, START) {
            purse.spend(Lane::Proven, attacker, 1, START);
        }
        assert!(!purse.affords(Lane::Proven, attacker, INITIATION_COST, START));
        assert!(purse.affords(Lane::Proven, v6(0x2001_0db8_0002_0000), INITIATION_COST, START));
        assert!(
            purse.affords(Lane::Expected, attacker, INITIATION_COST, START),
            "nor is another lane touched"
        );
    }

    /// Somebody who begins a handshake every 5 s, and a household of 16 who come at once.
    #[test]
    fn the_slowest_machine_lets_one_in() {
        let mut purse = purse(Duration::from_secs(1));
        let source = v6(0x2001_0db8_0001_0000);
        for lane in LANES {
            for number in 0..16 {
                assert!(purse.affords(lane, source, INITIATION_COST, START), "{lane:?} {number}");
                purse.spend(lane, source, INITIATION_COST, START);
            }
            assert!(!purse.affords(lane, source, INITIATION_COST, START));
            let later = START + Duration::from_secs(5);
            assert!(purse.affords(lane, source, INITIATION_COST, later), "{lane:?}");
        }
    }
}
