//! The clocks.

use crate::time::{Instant, Now, UnixTime};
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Both clocks, now. The monotonic one is CLOCK_BOOTTIME: a suspended machine's peers are stale when it
/// wakes up.
pub fn now() -> Now {
    let nanos = |time: Timespec| (time.tv_sec as i128) * 1_000_000_000 + time.tv_nsec as i128;
    let instant = u64::try_from(nanos(clock_gettime(ClockId::Boottime))).unwrap_or(0);
    let unix = i64::try_from(nanos(clock_gettime(ClockId::Realtime)) / 1000).unwrap_or(0);
    Now { instant: Instant::from_nanos(instant), unix: UnixTime::from_micros(unix) }
}

/// CLOCK_MONOTONIC in microseconds: the clock of the service manager, which stands still in a suspended
/// machine.
pub fn monotonic_micros() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    u64::try_from((time.tv_sec as i128) * 1_000_000 + (time.tv_nsec as i128) / 1000).unwrap_or(0)
}
