//! Time as an argument: no code below `daemon/` can read a clock.
//!
//! A router boots in 1970 and its clock later jumps by decades, so the two kinds of time are two types:
//! [`Instant`] for everything that must expire or be retried, [`UnixTime`] only for what people read and
//! for expiry across restarts.

use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

/// A point on the monotonic clock, in nanoseconds since some fixed moment before the process started.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Instant(u64);

impl Instant {
    /// The start of the clock.
    pub const ZERO: Instant = Instant(0);

    /// The instant `nanos` nanoseconds after [`Instant::ZERO`].
    pub const fn from_nanos(nanos: u64) -> Self {
        Instant(nanos)
    }

    /// Nanoseconds since [`Instant::ZERO`].
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to `self`; zero if `earlier` is later.
    pub const fn since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    /// Saturates: an instant past the end of the clock never comes.
    fn add(self, span: Duration) -> Instant {
        Instant(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, span: Duration) {
        *self = *self + span;
    }
}

impl Sub<Duration> for Instant {
    type Output = Instant;

    /// Saturates at [`Instant::ZERO`].
    fn sub(self, span: Duration) -> Instant {
        Instant(self.0.saturating_sub(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Wall-clock time: microseconds since 1970-01-01T00:00:00Z, which may be wrong by decades.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct UnixTime(i64);

/// 0001-01-01T00:00:00 and 9999-12-31T23:59:59.999999: what Python's `datetime` can hold.
const YEAR_1: i64 = -62_135_596_800_000_000;
const YEAR_9999_END: i64 = 253_402_300_799_999_999;
/// 2025-01-01: this program did not exist before, so an earlier clock was never set.
const FIRST_PLAUSIBLE: i64 = 1_735_689_600_000_000;
/// 2200-01-01: a later clock has a dead battery, and near the end of time dates no longer tell apart.
const LAST_PLAUSIBLE: i64 = 7_258_118_400_000_000;

impl UnixTime {
    /// From microseconds since 1970, held to the years 1 to 9999.
    pub fn from_micros(micros: i64) -> Self {
        UnixTime(micros.clamp(YEAR_1, YEAR_9999_END))
    }

    /// Microseconds since 1970; negative before.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since 1970, rounded down.
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Whether the clock can have been set when it showed this time.
    pub const fn is_plausible(self) -> bool {
        FIRST_PLAUSIBLE <= self.0 && self.0 < LAST_PLAUSIBLE
    }

    /// Moved by `micros`, held to the years 1 to 9999.
    pub fn shifted(self, micros: i64) -> Self {
        Self::from_micros(self.0.saturating_add(micros))
    }

    /// Microseconds from `earlier` to `self`; negative if `earlier` is later.
    pub const fn micros_since(self, earlier: UnixTime) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for UnixTime {
    type Output = UnixTime;

    fn add(self, span: Duration) -> UnixTime {
        self.shifted(i64::try_from(span.as_micros()).unwrap_or(i64::MAX))
    }
}

/// Both clocks, read together by the loop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// The monotonic clock.
    pub instant: Instant,
    /// The wall clock.
    pub unix: UnixTime,
}

/// How a part that waits (floor 5) is given the clocks; only `daemon/` makes one.
pub type Clock = fn() -> Now;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_saturate_instead_of_wrapping() {
        let late = Instant::from_nanos(u64::MAX - 1);
        assert_eq!(late + Duration::from_secs(1), Instant::from_nanos(u64::MAX));
        assert_eq!(Instant::ZERO - Duration::from_secs(1), Instant::ZERO);
        assert_eq!(Instant::ZERO.since(late), Duration::ZERO);
        assert_eq!((Instant::ZERO + Duration::from_millis(3)).as_nanos(), 3_000_000);
    }

    #[test]
    fn unix_time_stays_within_what_people_can_read() {
        assert_eq!(UnixTime::from_micros(i64::MAX).shifted(i64::MAX).as_micros(), YEAR_9999_END);
        assert_eq!(UnixTime::from_micros(i64::MIN).as_micros(), YEAR_1);
        assert!(!UnixTime::from_micros(0).is_plausible());
        assert!(UnixTime::from_micros(FIRST_PLAUSIBLE).is_plausible());
        assert!(!UnixTime::from_micros(i64::MAX).is_plausible());
        assert_eq!(UnixTime::from_micros(-1).as_secs(), -1);
    }
}
