//! What a peer waits for (paper 6): a table of deadlines, no callbacks.

use crate::time::Instant;

/// What is to be done at a deadline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Timer {
    /// Send the initiation again, or give up.
    RetryHandshake,
    /// Tell the peer that its data arrived.
    Keepalive,
    /// Our data was not answered: the session may be dead.
    NewHandshake,
    /// Keep the path open.
    PersistentKeepalive,
    /// Zero all key material.
    ZeroKeys,
}

impl Timer {
    /// All timers, in the order in which those that are due together are handled.
    pub const ALL: [Timer; 5] = [
        Timer::ZeroKeys,
        Timer::RetryHandshake,
        Timer::NewHandshake,
        Timer::Keepalive,
        Timer::PersistentKeepalive,
    ];
}

/// A deadline for each timer that runs.
#[derive(Clone, Debug, Default)]
pub struct Timers {
    deadlines: [Option<Instant>; Timer::ALL.len()],
}

impl Timers {
    /// Starts `timer`, or moves it if it runs.
    pub fn set(&mut self, timer: Timer, deadline: Instant) {
        self.deadlines[timer as usize] = Some(deadline);
    }

    /// Starts `timer` unless it runs; whether it did run.
    pub fn set_if_stopped(&mut self, timer: Timer, deadline: Instant) -> bool {
        let runs = self.is_running(timer);
        self.deadlines[timer as usize].get_or_insert(deadline);
        runs
    }

    /// Stops `timer`.
    pub fn stop(&mut self, timer: Timer) {
        self.deadlines[timer as usize] = None;
    }

    /// Whether `timer` runs.
    pub fn is_running(&self, timer: Timer) -> bool {
        self.deadlines[timer as usize].is_some()
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<Instant> {
        self.deadlines.iter().flatten().min().copied()
    }

    /// Stops a timer whose deadline has come, and names it.
    pub fn pop(&mut self, now: Instant) -> Option<Timer> {
        let due = Timer::ALL
            .into_iter()
            .find(|&timer| self.deadlines[timer as usize].is_some_and(|deadline| deadline <= now))?;
        self.stop(due);
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    #[test]
    fn deadlines_come_one_by_one() {
        let mut timers = Timers::default();
        assert_eq!(timers.next(), None);
        timers.set(Timer::Keepalive, at(10));
        timers.set(Timer::ZeroKeys, at(20));
        timers.set(Timer::NewHandshake, at(5));
        timers.set(Timer::NewHandshake, at(15));
        assert!(timers.set_if_stopped(Timer::Keepalive, at(99)));
        assert!(!timers.set_if_stopped(Timer::RetryHandshake, at(12)));
        assert_eq!(timers.next(), Some(at(10)));
        assert_eq!(timers.pop(at(9)), None);
        assert_eq!(timers.pop(at(10)), Some(Timer::Keepalive));
        assert_eq!(timers.next(), Some(at(12)));
        timers.stop(Timer::NewHandshake);
        assert_eq!(timers.pop(at(20)), Some(Timer::ZeroKeys));
        assert_eq!(timers.pop(at(20)), Some(Timer::RetryHandshake));
        assert_eq!(timers.pop(at(u64::MAX)), None);
        assert_eq!(timers.next(), None);
    }
}
