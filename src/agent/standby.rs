//! A relay beside the one in use: it has carried something for these two members, and is shown each handshake, so when the
//! one in use dies it has the flow.

use crate::agent::handshake::PendingInitiation;
use crate::agent::path::PathState;
use crate::datagram::Path;
use crate::time::Instant;
use crate::wire::probe::CandidateKind;
use std::time::Duration;

/// The party's own relay, whatever its mark is.
pub(super) const HOME: u32 = 0;
/// From one handshake by a relay that did not carry it to the next; after the last it is given up.
pub(super) const TRIES: [Duration; 3] =
    [Duration::from_millis(1500), Duration::from_secs(5), Duration::from_secs(15)];

/// A relay beside the one in use.
pub(super) struct Standby {
    pub mark: u32,
    pub path: PathState,
    /// From when on it is tried, how often it was, and when it is again.
    pub since: Instant,
    pub tries: usize,
    pub next_try: Option<Instant>,
    /// Until when handshakes go by it as well.
    pub copies_until: Instant,
    /// A session came up that it is to know: by this initiation, if it is ours.
    pub asks: bool,
    pub copy: Option<Box<PendingInitiation>>,
}

impl Standby {
    pub fn new(mark: u32, path: Path, now: Instant) -> Self {
        Standby {
            mark,
            path: PathState::new(path, CandidateKind::Public),
            since: now,
            tries: 0,
            next_try: Some(now),
            copies_until: Instant::ZERO,
            asks: false,
            copy: None,
        }
    }

    /// Whether it has carried something there and back.
    pub fn is_proven(&self) -> bool {
        self.path.answers > 0
    }

    /// We are in another network: what is known is no more.
    pub fn renew(&mut self, now: Instant) {
        self.path.renew();
        (self.since, self.tries, self.next_try) = (now, 0, Some(now + TRIES[0]));
    }

    /// When it is to be tried or asked, which is every `interval`.
    pub fn next(&self, interval: Duration) -> Option<Instant> {
        let ask = self.path.asked.filter(|_| self.is_proven()).map(|asked| asked + interval);
        [self.next_try, ask, self.path.next()].into_iter().flatten().min()
    }
}
