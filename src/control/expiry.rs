//! When something ends, on a machine whose wall clock may say 1970 and is set later.

use crate::time::{Instant, Now, UnixTime};
use std::time::Duration;

/// An end. By the wall clock if that can be believed, else by the time that passes while the program runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Expiry {
    /// The date, if it is known.
    at: Option<UnixTime>,
    /// What counts while it is not, or while the wall clock is wrong.
    instant: Instant,
}

/// Never, for as long as the wall clock is wrong.
const FAR: Instant = Instant::from_nanos(u64::MAX);

impl Expiry {
    /// In so much time from now.
    pub fn after(span: Duration, now: Now) -> Self {
        Expiry { at: now.unix.is_plausible().then(|| now.unix + span), instant: now.instant + span }
    }

    /// At a date. One from a clock that is as wrong as ours is a span.
    pub fn at(date: UnixTime, now: Now) -> Self {
        let left = Duration::from_micros(u64::try_from(date.micros_since(now.unix)).unwrap_or(0));
        match (date.is_plausible(), now.unix.is_plausible()) {
            (true, false) => Expiry { at: Some(date), instant: FAR },
            _ => Expiry::after(left, now),
        }
    }

    /// Whether it is over.
    pub fn is_over(&self, now: Now) -> bool {
        match self.at {
            Some(date) if now.unix.is_plausible() => date <= now.unix,
            _ => self.instant <= now.instant,
        }
    }

    /// Takes in that the wall clock can be believed by now. Returns whether the date was not known before.
    pub fn learn(&mut self, now: Now) -> bool {
        let is_news = self.at.is_none() && now.unix.is_plausible();
        if is_news {
            self.at = Some(now.unix + self.instant.since(now.instant));
        }
        is_news
    }

    /// The date, by our wall clock of now if it is not known.
    pub fn date(&self, now: Now) -> UnixTime {
        self.at.unwrap_or_else(|| now.unix + self.instant.since(now.instant))
    }

    /// What is kept: the date, and the microseconds that are left.
    pub(super) fn parts(&self, now: Now) -> (Option<UnixTime>, i64) {
        let left = self.instant.since(now.instant).as_micros();
        (self.at, i64::try_from(left).unwrap_or(i64::MAX))
    }

    /// The same after a start. While nobody knows what time it is, what was left then is left now.
    pub(super) fn of_parts(at: Option<UnixTime>, left: i64, now: Now) -> Self {
        let left = Duration::from_micros(u64::try_from(left).unwrap_or(0));
        Expiry { at, instant: now.instant + left }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(unix: i64, up: Duration) -> Now {
        Now { instant: Instant::ZERO + up, unix: UnixTime::from_micros(unix * 1_000_000) }
    }

    const NOON: i64 = 1_795_176_000;

    #[test]
    fn a_span_from_1970_on_lasts_as_long_after_the_clock_is_set() {
        let mut end = Expiry::after(2 * HOUR, at(100, HOUR));
        assert!(!end.is_over(at(3700, 2 * HOUR)));
        // NTP comes an hour later.
        let set = at(NOON, 2 * HOUR);
        assert!(!end.is_over(set) && end.learn(set) && !end.learn(set));
        assert_eq!(end.date(set).as_secs(), NOON + 3600);
        // A restart into 1970, which lasts a minute.
        let (date, left) = end.parts(set);
        let again = Expiry::of_parts(date, left, at(10, Duration::ZERO));
        assert!(!again.is_over(at(70, HOUR / 60)));
        assert!(!again.is_over(at(NOON + 3599, HOUR / 60)));
        assert!(again.is_over(at(NOON + 3600, HOUR / 60)));
        // The same, and the clock is never set.
        assert!(!again.is_over(at(3000, HOUR - HOUR / 60)) && again.is_over(at(3700, HOUR)));
    }

    #[test]
    fn a_date_waits_for_the_clock() {
        let end = Expiry::at(UnixTime::from_micros((NOON + 60) * 1_000_000), at(100, HOUR));
        assert!(!end.is_over(at(1_000_000, 300 * HOUR)));
        assert!(!end.is_over(at(NOON, HOUR)) && end.is_over(at(NOON + 60, HOUR)));
        // A clock as wrong as ours meant a span.
        let end = Expiry::at(UnixTime::from_micros(3700 * 1_000_000), at(100, HOUR));
        assert!(!end.is_over(at(NOON, 2 * HOUR - HOUR / 60)) && end.is_over(at(NOON, 2 * HOUR)));
        assert!(Expiry::at(UnixTime::default(), at(NOON, HOUR)).is_over(at(NOON, HOUR)));
    }
}
