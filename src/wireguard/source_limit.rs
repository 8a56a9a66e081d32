//! Who may cost us curve arithmetic when there is much to do: first those who prove their address, then
//! each of them so often.

use crate::time::Instant;
use crate::token_bucket::TokenBucket;
use crate::wireguard::constants::{LOAD_LINGER, LOAD_RATE, MAX_SOURCES, SOURCE_RATE};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// A full table is searched for buckets to forget at most this often.
const SWEEP_INTERVAL: Duration = Duration::from_millis(50);

/// Counts handshake messages and says when they are too many.
#[derive(Debug, Default)]
pub struct LoadMeter {
    bucket: TokenBucket,
    until: Instant,
}

impl LoadMeter {
    /// Counts a handshake message; whether the device is under load (paper 5.3).
    pub fn count(&mut self, now: Instant) -> bool {
        if self.bucket.take(LOAD_RATE, 1, now).is_err() {
            self.until = now + LOAD_LINGER;
        }
        now < self.until
    }
}

/// A token bucket per source that has proven its address: an IPv4 address or an IPv6 /64, as a customer has
/// that many of those at least.
#[derive(Debug, Default)]
pub struct SourceLimit {
    buckets: HashMap<u64, TokenBucket>,
    next_sweep: Instant,
}

fn bucket_key(source: IpAddr) -> u64 {
    match source.to_canonical() {
        // An IPv6 network of that number would lie in ::/32, which nobody has.
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
    }
}

impl SourceLimit {
    /// Whether `source` may have one more handshake now. Sources must be proven: a spoofed one would spend
    /// somebody else's tokens.
    pub fn allow(&mut self, source: SocketAddr, now: Instant) -> bool {
        let key = bucket_key(source.ip());
        if self.buckets.len() >= MAX_SOURCES && !self.buckets.contains_key(&key) {
            if now < self.next_sweep {
                return false;
            }
            self.next_sweep = now + SWEEP_INTERVAL;
            self.buckets.retain(|_, bucket| !bucket.is_full(now));
            if self.buckets.len() >= MAX_SOURCES {
                return false;
            }
        }
        self.buckets.entry(key).or_default().take(SOURCE_RATE, 1, now).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    const START: Instant = Instant::from_nanos(5_000_000_000);

    fn v4(address: u32) -> SocketAddr {
        (Ipv4Addr::from_bits(address), 1).into()
    }

    #[test]
    fn load_comes_with_the_excess_and_lingers() {
        let mut meter = LoadMeter::default();
        assert!((0..LOAD_RATE.burst).all(|_| !meter.count(START)));
        assert!(meter.count(START));
        let later = START + LOAD_LINGER - Duration::from_nanos(1);
        assert!(meter.count(later), "lingers though the bucket has tokens again");
        assert!(!meter.count(START + LOAD_LINGER));
        // The rate itself is no load, however long it goes on.
        let mut meter = LoadMeter::default();
        let mut now = START;
        for _ in 0..10_000 {
            assert!(!meter.count(now));
            now += LOAD_RATE.interval;
        }
    }

    #[test]
    fn each_source_has_its_own_tokens() {
        let mut limit = SourceLimit::default();
        let spent = |limit: &mut SourceLimit, source| (0..100).filter(|_| limit.allow(source, START)).count();
        assert_eq!(spent(&mut limit, v4(1)), 5);
        assert_eq!(spent(&mut limit, v4(2)), 5, "one source's flood is not another's");
        assert_eq!(spent(&mut limit, "0.0.0.1:77".parse().unwrap()), 0, "another port is the same source");
        assert_eq!(spent(&mut limit, "[::ffff:0.0.0.1]:1".parse().unwrap()), 0);
        let v6 = |text: &str| SocketAddr::new(text.parse::<Ipv6Addr>().unwrap().into(), 1);
        assert_eq!(spent(&mut limit, v6("2001:db8::1")), 5);
        assert_eq!(spent(&mut limit, v6("2001:db8::ffff:1")), 0, "the same /64");
        assert_eq!(spent(&mut limit, v6("2001:db8:0:1::1")), 5);
        let later = START + Duration::from_secs(1);
        assert_eq!((0..100).filter(|_| limit.allow(v4(1), later)).count(), 5);
    }

    #[test]
    fn the_table_is_bounded_and_recovers() {
        let mut limit = SourceLimit::default();
        assert!((0..MAX_SOURCES as u32).all(|address| limit.allow(v4(address), START)));
        assert!((0..1000).all(|more| !limit.allow(v4(1 << 20 | more), START)));
        assert_eq!(limit.buckets.len(), MAX_SOURCES);
        assert!(limit.allow(v4(3), START), "known sources go on");
        let later = START + SWEEP_INTERVAL;
        assert!(limit.allow(v4(1 << 20), later), "full buckets are forgotten");
        assert!(limit.buckets.len() < MAX_SOURCES);
    }
}
