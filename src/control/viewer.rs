//! What time it is for a client.
//!
//! A stock client drops every peer whose `last_seen` is over 5 minutes behind its own local, naive clock.
//! So `last_seen` is shown to each client in the local time of that client, which the `last_seen` that it
//! sends about itself gives away. A value in the client's future does no harm; one in its past does. So it is
//! shown an hour later than it was: when summer time begins, the client's clock is set ahead by that much, and it
//! does not say so.

use crate::time::{Instant, Now, UnixTime};
use crate::wire::datetime::Read;

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
/// Zones go from UTC-12 to UTC+14; a larger difference means that one of the clocks is wrong.
const LARGEST_ZONE: i64 = 15 * 60 * MINUTE;
/// Zones are rounded up to this: a client may have filled in its `last_seen` some time before sending it.
const ZONE_STEP: i64 = 30 * MINUTE;
/// By how much a client's local clock may be set ahead without a word.
const SUMMER_TIME: i64 = 60 * MINUTE;
/// A client's clock may be this much ahead of ours before it looks like another zone.
const AHEAD: i64 = MINUTE;

/// A clock that is further off than this (150 years) is nobody's, and would take us to years that dates have
/// no room for. Ours may well say 1970.
const BELIEVABLE: i64 = 150 * 365 * 24 * 60 * MINUTE;

/// A client's local clock, as far as it is known.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LocalClock {
    /// That of clients that say nothing about theirs: UTC by our wall clock.
    Ours,
    /// Microseconds to add to our wall clock. Remembered over a restart.
    Offset(i64),
    /// Microseconds of the client's clock at [`Instant::ZERO`]: our wall clock may jump, this does not.
    Epoch(i64),
}

fn micros(instant: Instant) -> i64 {
    i64::try_from(instant.as_nanos() / 1000).unwrap_or(i64::MAX)
}

impl LocalClock {
    /// Learns from the `last_seen` of a client that speaks of itself. Of several the latest counts, since
    /// the value can be old but not from the future.
    pub fn learn(&mut self, said: Read, now: Now) {
        let (Read::Naive(said) | Read::Aware(said)) = said;
        let difference = said.micros_since(now.unix);
        if difference.abs() > BELIEVABLE {
            return;
        }
        let offset = if difference.abs() <= LARGEST_ZONE {
            -(-(difference - AHEAD)).div_euclid(ZONE_STEP) * ZONE_STEP
        } else {
            difference
        };
        // Whole seconds, so that clients of one zone have equal clocks and can be sent the same text.
        let epoch = now.unix.shifted(offset).as_micros().saturating_sub(micros(now.instant));
        let epoch = epoch.saturating_add(SECOND / 2).div_euclid(SECOND) * SECOND;
        *self = match *self {
            LocalClock::Epoch(known) => LocalClock::Epoch(known.max(epoch)),
            LocalClock::Ours | LocalClock::Offset(_) => LocalClock::Epoch(epoch),
        };
    }

    /// The client's local time at the instant `at`, or up to an hour later.
    pub fn show(self, at: Instant, now: Now) -> UnixTime {
        let margin = if self == LocalClock::Ours { 0 } else { SUMMER_TIME };
        self.time(at, now).shifted(margin)
    }

    fn time(self, at: Instant, now: Now) -> UnixTime {
        match self {
            LocalClock::Epoch(epoch) => UnixTime::from_micros(epoch.saturating_add(micros(at))),
            LocalClock::Offset(_) | LocalClock::Ours => {
                let since = micros(at).saturating_sub(micros(now.instant));
                now.unix.shifted(self.offset(now)).shifted(since)
            }
        }
    }

    /// The offset from our wall clock, in microseconds, to be remembered over a restart.
    pub fn offset(self, now: Now) -> i64 {
        match self {
            LocalClock::Ours => 0,
            LocalClock::Offset(offset) => offset,
            LocalClock::Epoch(_) => self.time(now.instant, now).micros_since(now.unix),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const HOUR: i64 = 60 * MINUTE;
    const NOON: i64 = 1_795_176_000_000_000;

    fn at(unix: i64, secs: u64) -> Now {
        Now { instant: Instant::ZERO + Duration::from_secs(secs), unix: UnixTime::from_micros(unix) }
    }

    fn learned(said: i64, unix: i64) -> i64 {
        let mut clock = LocalClock::Ours;
        clock.learn(Read::Naive(UnixTime::from_micros(said)), at(unix, 100));
        clock.offset(at(unix, 100))
    }

    #[test]
    fn tells_the_zone_and_never_errs_to_the_past() {
        for zone in [-12 * HOUR, -HOUR, 0, HOUR, 2 * HOUR, 5 * HOUR + 30 * MINUTE, 14 * HOUR] {
            for late in [0, 1, 20, 600, 1700] {
                assert_eq!(learned(NOON + zone - late * 1_000_000, NOON), zone, "{zone} {late}");
            }
            assert_eq!(learned(NOON + zone + 30 * 1_000_000, NOON), zone);
        }
        assert_eq!(learned(NOON + 5 * HOUR + 45 * MINUTE, NOON), 6 * HOUR);
    }

    #[test]
    fn works_while_our_own_clock_is_in_1970_and_after_it_jumps() {
        let mut clock = LocalClock::Ours;
        clock.learn(Read::Naive(UnixTime::from_micros(NOON)), at(60_000_000, 60));
        let later = at(NOON, 90);
        assert_eq!(clock.time(later.instant, later).as_micros(), NOON + 30_000_000);
    }

    #[test]
    fn an_old_value_does_not_turn_the_clock_back() {
        let mut clock = LocalClock::Ours;
        clock.learn(Read::Naive(UnixTime::from_micros(NOON + 2 * HOUR)), at(NOON, 100));
        clock.learn(Read::Naive(UnixTime::from_micros(NOON)), at(NOON, 100));
        assert_eq!(clock.offset(at(NOON, 100)), 2 * HOUR);
    }

    #[test]
    fn a_clock_that_is_set_ahead_by_an_hour_is_not_behind() {
        for said in [LocalClock::Offset(0), LocalClock::Offset(2 * HOUR), LocalClock::Ours] {
            let mut clock = said;
            let zone = said.offset(at(NOON, 100));
            clock.learn(Read::Naive(UnixTime::from_micros(NOON + zone)), at(NOON, 100));
            let later = at(NOON + 30_000_000, 130);
            // Neither before the client's clock jumps, nor after it, nor after a restart of ours.
            for clock in [clock, LocalClock::Offset(clock.offset(later))] {
                let shown = clock.show(later.instant, later).as_micros();
                assert_eq!(shown, later.unix.as_micros() + zone + HOUR);
            }
        }
    }

    #[test]
    fn a_clock_of_another_age_is_not_believed() {
        let century = 100 * 365 * 24 * HOUR;
        assert_eq!(learned(NOON + century, NOON), century);
        for far in [2 * century, -2 * century, i64::MAX - NOON, i64::MIN + NOON] {
            assert_eq!(learned(NOON.saturating_add(far), NOON), 0, "{far}");
        }
    }

    #[test]
    fn an_unknown_clock_is_ours() {
        let now = at(NOON, 100);
        let shown = LocalClock::Ours.show(now.instant - Duration::from_secs(40), now);
        assert_eq!(shown.as_micros(), NOON - 40_000_000);
    }
}
