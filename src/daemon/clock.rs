//! The clocks.

use crate::time::{Instant, Now, UnixTime};
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Both clocks, now. The monotonic one is CLOCK_BOOTTIME: a suspended machine's peers are stale when it
/// wakes up.
pub fn now() -> Now {
    let (boot, real) = (clock_gettime(ClockId::Boottime), clock_gettime(ClockId::Realtime));
    let nanos = u64::try_from(boot.tv_sec).unwrap_or(0).saturating_mul(1_000_000_000) + fraction(boot);
    let micros = real.tv_sec.saturating_mul(1_000_000).saturating_add_unsigned(fraction(real) / 1000);
    Now { instant: Instant::from_nanos(nanos), unix: UnixTime::from_micros(micros) }
}

/// CLOCK_MONOTONIC in microseconds: the clock of the service manager, which stands still in a suspended
/// machine.
pub fn monotonic_micros() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    u64::try_from(time.tv_sec).unwrap_or(0).saturating_mul(1_000_000) + fraction(time) / 1000
}

/// What is beyond whole seconds, in nanoseconds.
fn fraction(time: Timespec) -> u64 {
    u64::try_from(time.tv_nsec).unwrap_or(0)
}
