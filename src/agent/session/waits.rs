//! How long to wait before the server is asked again, and when it counts as gone.

use crate::crypto::random::Seeded;
use crate::time::Instant;
use std::time::Duration;

/// Tries without an answer after which games go on without the server.
const TRIES: u32 = 5;
/// Between those.
const FIRST: Duration = Duration::from_secs(5);
/// The longest wait after them.
const LONGEST: Duration = Duration::from_secs(60);
/// The longest wait that a server can ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// What waits.
#[derive(Debug)]
pub struct Waits {
    until: Instant,
    /// Tries since the last answer.
    tries: u32,
    /// Refusals in a row.
    refusals: u32,
    is_local: bool,
    random: Seeded,
}

impl Waits {
    /// Nothing waits.
    pub fn new(seed: u64, now: Instant) -> Self {
        Waits { until: now, tries: 0, refusals: 0, is_local: false, random: Seeded::new(seed) }
    }

    /// Until when nothing is asked.
    pub fn until(&self) -> Instant {
        self.until
    }

    /// Tries without an answer.
    pub fn tries(&self) -> u32 {
        self.tries
    }

    /// Whether the server counts as gone.
    pub fn is_local(&self) -> bool {
        self.is_local
    }

    /// Nothing waits any more.
    pub fn clear(&mut self, now: Instant) {
        self.until = now;
    }

    /// There was no answer. Whether the server counts as gone from now on.
    pub fn failed(&mut self, retry_after: Option<Duration>, now: Instant) -> bool {
        self.tries += 1;
        let doubled = self.tries.saturating_sub(TRIES).min(4);
        let wait = (FIRST * (1 << doubled)).min(LONGEST);
        // The first ones keep to their five seconds, so that it is known when the server counts as gone.
        let wait = if doubled == 0 { wait } else { self.jittered(wait) };
        self.until = now + retry_after.map_or(wait, |asked| asked.clamp(wait, MAX_RETRY_AFTER));
        let is_gone = self.tries >= TRIES && !self.is_local;
        self.is_local |= is_gone;
        is_gone
    }

    /// There was an answer; whether the server counted as gone.
    pub fn answered(&mut self, now: Instant) -> bool {
        self.tries = 0;
        self.until = now;
        std::mem::take(&mut self.is_local)
    }

    /// The server has done what it was asked for.
    pub fn accepted(&mut self) {
        self.refusals = 0;
    }

    /// The server has enough of us for a while.
    pub fn pause(&mut self, retry_after: Option<Duration>, now: Instant) {
        let wait = retry_after.unwrap_or(FIRST).clamp(Duration::from_secs(1), MAX_RETRY_AFTER);
        self.until = now + wait + self.jittered(Duration::from_secs(1));
    }

    /// The server has answered with something that more of the same does not help against: the first time it is tried
    /// again soon.
    pub fn refused(&mut self, now: Instant) {
        self.refusals = (self.refusals + 1).min(6);
        let wait = Duration::from_millis(500 << self.refusals);
        self.until = now + self.jittered(wait);
    }

    /// What was asked for is gone, and may come back.
    pub fn gone(&mut self, wait: Duration, now: Instant) {
        self.until = now + self.jittered(wait);
    }

    /// Between three quarters of `wait` and all of it, so that those who lost the same server do not all come at once.
    pub fn jittered(&mut self, wait: Duration) -> Duration {
        wait * 3 / 4 + wait / 4 * self.random.below(65_536) as u32 / 65_536
    }
}
