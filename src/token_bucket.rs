//! A token bucket that does not need to be refilled by a timer.

use crate::time::Instant;
use std::time::Duration;

/// How fast a bucket fills and how much it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The time in which one token comes back.
    pub interval: Duration,
    /// The most tokens that can be saved up.
    pub burst: u32,
}

impl Rate {
    /// `count` tokens in every `per`, at most `burst` at once.
    pub const fn new(count: u32, per: Duration, burst: u32) -> Self {
        Rate { interval: Duration::from_nanos(per.as_nanos() as u64 / count as u64), burst }
    }

    /// `factor` times as fast, and as much at once.
    pub const fn times(self, factor: u32) -> Self {
        let interval = Duration::from_nanos(self.interval.as_nanos() as u64 / factor as u64);
        Rate { interval, burst: self.burst.saturating_mul(factor) }
    }
}

/// One source's tokens. It keeps only the instant at which it will be full again (the generic cell rate
/// algorithm of ITU-T I.371), so a full bucket equals a new one and can be forgotten.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct TokenBucket {
    full_at: Instant,
}

impl TokenBucket {
    /// Takes `count` tokens, or says how long to wait until they are there.
    pub fn take(&mut self, rate: Rate, count: u32, now: Instant) -> Result<(), Duration> {
        self.full_at = self.without(rate, count, now)?;
        Ok(())
    }

    /// As [`TokenBucket::take`], but leaves them there.
    pub fn peek(&self, rate: Rate, count: u32, now: Instant) -> Result<(), Duration> {
        self.without(rate, count, now).map(drop)
    }

    /// What it is without `count` tokens, whether it has so many or not: a debt is paid off like anything else.
    pub fn spent(&self, rate: Rate, count: u32, now: Instant) -> Self {
        TokenBucket { full_at: self.full_at.max(now) + rate.interval.saturating_mul(count) }
    }

    /// When it would be full without these tokens.
    fn without(&self, rate: Rate, count: u32, now: Instant) -> Result<Instant, Duration> {
        let TokenBucket { full_at } = self.spent(rate, count, now);
        let excess = full_at.since(now).saturating_sub(rate.interval.saturating_mul(rate.burst));
        if excess.is_zero() { Ok(full_at) } else { Err(excess) }
    }

    /// Whether the bucket is full, which makes it as good as a new one.
    pub fn is_full(&self, now: Instant) -> bool {
        self.full_at <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spends_the_burst_then_the_rate() {
        let rate = Rate::new(10, Duration::from_secs(1), 3);
        let mut bucket = TokenBucket::default();
        let start = Instant::ZERO + Duration::from_secs(5);
        for _ in 0..3 {
            assert_eq!(bucket.take(rate, 1, start), Ok(()));
        }
        assert_eq!(bucket.take(rate, 1, start), Err(Duration::from_millis(100)));
        assert_eq!(bucket.take(rate, 1, start + Duration::from_millis(100)), Ok(()));
        assert!(!bucket.is_full(start + Duration::from_millis(100)));
        assert!(bucket.is_full(start + Duration::from_millis(400)));
    }

    #[test]
    fn what_is_spent_beyond_the_burst_is_owed() {
        let rate = Rate::new(10, Duration::from_secs(1), 3);
        let start = Instant::ZERO + Duration::from_secs(5);
        let mut bucket = TokenBucket::default().spent(rate, 5, start);
        assert_eq!(bucket.take(rate, 1, start), Err(Duration::from_millis(300)));
        assert_eq!(bucket.take(rate, 1, start + Duration::from_millis(300)), Ok(()));
    }

    #[test]
    fn a_refusal_costs_nothing() {
        let rate = Rate::new(1, Duration::from_secs(1), 1);
        let mut bucket = TokenBucket::default();
        assert_eq!(bucket.take(rate, 1, Instant::ZERO), Ok(()));
        for _ in 0..1000 {
            assert!(bucket.take(rate, 1, Instant::ZERO).is_err());
        }
        assert_eq!(bucket.take(rate, 1, Instant::ZERO + Duration::from_secs(1)), Ok(()));
    }
}
