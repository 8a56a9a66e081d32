//! TAI64N timestamps (paper 5.1), which a responder only accepts in rising order.
//!
//! A router's clock starts in 1970 after every power cut. So ours never gives a stamp that is not greater
//! than all before it, and the caller keeps a mark on disk that is ahead of every stamp given.

use crate::crypto::hex;
use crate::time::UnixTime;
use std::fmt;
use std::time::Duration;

/// Length of a timestamp in bytes.
pub const LENGTH: usize = 12;

/// 2^62, and the 10 s by which TAI was ahead of UTC in 1970.
const TAI64_EPOCH: u64 = (1 << 62) + 10;
/// Stamps are rounded to this many microseconds, so that they do not reveal how busy we are, as in Linux: `tai64n_now`
/// in <https://github.com/torvalds/linux/blob/v6.12/drivers/net/wireguard/noise.c>.
const TICK: u64 = 1 << 14;
/// How far the mark on disk is ahead: one write in half this time, at most.
pub const RESERVE: Duration = Duration::from_secs(24 * 3600);

/// The year 9999, in microseconds since 1970: a mark beyond is damage, and would leave no room to rise.
const LATEST_MARK: u64 = 253_402_300_799_999_999;

/// Seconds and nanoseconds, both big endian, so that the bytes sort like the time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp([u8; LENGTH]);

impl Timestamp {
    /// The timestamp with these bytes, whatever they say: it only ever is compared.
    pub const fn from_bytes(bytes: [u8; LENGTH]) -> Self {
        Timestamp(bytes)
    }

    /// The 12 bytes as they are on the wire.
    pub const fn as_bytes(&self) -> &[u8; LENGTH] {
        &self.0
    }

    fn from_micros(micros: u64) -> Self {
        let mut bytes = [0; LENGTH];
        bytes[..8].copy_from_slice(&(TAI64_EPOCH + micros / 1_000_000).to_be_bytes());
        bytes[8..].copy_from_slice(&((micros % 1_000_000) as u32 * 1000).to_be_bytes());
        Timestamp(bytes)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

/// Gives rising timestamps whatever the clock does.
#[derive(Clone, Debug)]
pub struct StampClock {
    /// Microseconds since 1970 of the last stamp.
    last: u64,
    /// Every stamp so far is below this.
    mark: u64,
    unsaved: bool,
}

impl StampClock {
    /// A clock whose stamps all are greater than those given by one whose [mark](StampClock::take_mark) was
    /// `mark`; 0 if there never was one.
    pub fn new(mark: u64) -> Self {
        let mark = mark.min(LATEST_MARK);
        StampClock { last: mark, mark, unsaved: false }
    }

    /// The next stamp: the time if it has moved on, else the smallest step after the last stamp.
    pub fn stamp(&mut self, unix: UnixTime) -> Timestamp {
        let wall = u64::try_from(unix.as_micros()).unwrap_or(0);
        self.last = wall.max(self.last.saturating_add(TICK)) / TICK * TICK;
        let reserve = RESERVE.as_micros() as u64;
        if self.mark.saturating_sub(self.last) < reserve / 2 {
            self.mark = self.last.saturating_add(reserve);
            self.unsaved = true;
        }
        Timestamp::from_micros(self.last)
    }

    /// The mark to be kept on disk, in microseconds since 1970, if it has moved since last asked. It is
    /// renewed half a [`RESERVE`] early, so a stamp is above the stored mark only on the first start and
    /// after a jump of the clock, and then only until the write is done.
    pub fn take_mark(&mut self) -> Option<u64> {
        std::mem::take(&mut self.unsaved).then_some(self.mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::random::Seeded;

    fn at(seconds: i64) -> UnixTime {
        UnixTime::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn is_tai64n() {
        // 2^62 + 10 + 1,700,000,000 s; 0.999999 s is rounded down to a multiple of 16,384 us of the epoch.
        let stamp = StampClock::new(0).stamp(UnixTime::from_micros(1_700_000_000_999_999));
        let micros = 1_700_000_000_999_999u64 / 16_384 * 16_384;
        assert_eq!(stamp.0[..8], 0x4000_0000_6553_f10a_u64.to_be_bytes());
        assert_eq!(stamp.0[8..], ((micros % 1_000_000) as u32 * 1000).to_be_bytes());
        assert_eq!(format!("{:?}", Timestamp::from_micros(0)), "400000000000000a00000000");
    }

    #[test]
    fn rises_when_the_clock_stands_or_goes_back_to_1970() {
        let mut clock = StampClock::new(0);
        let mut last = clock.stamp(at(1_800_000_000));
        for seconds in [1_800_000_000, 1_800_000_000, 0, 1, -62_000_000_000, 1_800_000_000, 1_800_000_001] {
            let next = clock.stamp(at(seconds));
            assert!(next > last, "{seconds}: {next:?} {last:?}");
            last = next;
        }
        assert!(clock.stamp(UnixTime::from_micros(i64::MAX)) > last);
        let mut damaged = StampClock::new(u64::MAX);
        assert!(damaged.stamp(at(0)) < damaged.stamp(at(0)));
    }

    /// Power cuts at random moments, the clock anywhere, and only what was written survives.
    #[test]
    fn rises_over_restarts() {
        let mut random = Seeded::new(5);
        let (mut stored, mut last) = (0, Timestamp::default());
        for _ in 0..200 {
            let mut clock = StampClock::new(stored);
            // Nothing ever waits for NTP: the clock may start in 1970 and jump at any time.
            let mut wall = [0, 1_700_000_000, 1_900_000_000][random.below(3) as usize];
            for _ in 0..random.below(20) {
                let stamp = clock.stamp(at(wall));
                assert!(stamp > last);
                last = stamp;
                stored = clock.take_mark().unwrap_or(stored);
                wall += random.below(30_000) as i64;
            }
        }
    }

    #[test]
    fn the_mark_is_ahead_and_written_rarely() {
        let mut clock = StampClock::new(0);
        let (mut writes, mut mark) = (0, 0);
        for minute in 0..10 * 24 * 60 {
            let before = mark;
            let stamp = clock.stamp(at(1_800_000_000 + minute * 60));
            if let Some(new) = clock.take_mark() {
                (writes, mark) = (writes + 1, new);
            }
            assert!(stamp < Timestamp::from_micros(mark));
            // The mark that was on disk already covered this stamp: no window in which a crash hurts.
            assert!(minute == 0 || stamp < Timestamp::from_micros(before));
        }
        assert!((10..=20).contains(&writes), "{writes} writes in 10 days");
    }
}
