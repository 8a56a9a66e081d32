//! What a follower knows of where the realm is, and what it asks for next.
//!
//! Notices of commits are hints and may be lost: the log is asked for four times a second anyway. Entries are taken in
//! order; if one is missing, or makes no sense here, everything is loaded.

use super::entry;
use super::lease::Position;
use crate::control::adopt::Commit;
use crate::time::Instant;
use std::time::Duration;

/// How often the log is asked for if nobody says that there is news.
pub const POLL_EVERY: Duration = Duration::from_millis(250);
/// How many entries are asked for at a time.
pub const ENTRIES_AT_A_TIME: usize = 64;
/// How often what was heard of members goes to who writes.
pub const DIGEST_EVERY: Duration = Duration::from_secs(15);
/// How long it takes at least from one digest to the next, if that is urgent.
pub const DIGEST_GAP: Duration = Duration::from_millis(500);

/// What a follower wants of the database.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogQuestion {
    /// The realm's position, and the first [`ENTRIES_AT_A_TIME`] entries of the log from this number on, as they are
    /// at one moment.
    Entries {
        /// The number of the last one that is known: another one under that number means that the database went back.
        from: u64,
    },
    /// The realm's position and all rows, as they are at one moment.
    Everything,
}

/// An entry of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Logged {
    /// Where the realm was after it.
    pub position: Position,
    /// Its text.
    pub entry: String,
}

/// Where a follower is.
#[derive(Clone, Debug)]
pub struct Follower {
    position: Position,
    /// Under which epoch the last commit was made, if its entry was seen: later epochs need no commit.
    entry_epoch: Option<u64>,
    /// The last commit that somebody spoke of.
    hinted: u64,
    /// The last commit that who writes spoke of, and what that was when the database was asked.
    told: u64,
    expected: u64,
    /// The last answer of the database lacked it.
    is_elsewhere: bool,
    /// Since when an answer is awaited.
    asked: Option<Instant>,
    poll_at: Instant,
    /// Whether only everything helps.
    is_lost: bool,
    /// When all was known that there was.
    current_at: Instant,
    digest_at: Instant,
}

impl Follower {
    /// Everything was loaded, as it was at `position`, by a request that was sent at `sent`.
    pub fn loaded(position: Position, sent: Instant) -> Self {
        Follower {
            position,
            entry_epoch: None,
            hinted: position.seq,
            told: 0,
            expected: 0,
            is_elsewhere: false,
            asked: None,
            poll_at: sent,
            is_lost: false,
            current_at: sent,
            digest_at: sent + DIGEST_EVERY,
        }
    }

    /// The last commit that is taken over.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Whether all that there was at `position` is taken over, and makes sense here.
    pub fn has(&self, position: Position) -> bool {
        !self.is_lost && self.position >= position
    }

    /// The log is asked for as soon as the last question is answered.
    pub fn hurry(&mut self) {
        self.poll_at = Instant::ZERO;
    }

    /// For how long there may have been commits that are not known here.
    pub fn lag(&self, now: Instant) -> Duration {
        now.since(self.current_at)
    }

    /// Somebody speaks of the commit of this number.
    pub fn hint(&mut self, seq: u64) {
        self.hinted = self.hinted.max(seq);
    }

    /// Who writes speaks of the commit of this number, which so was made.
    pub fn tell(&mut self, seq: u64) {
        self.told = self.told.max(seq);
        self.hint(seq);
    }

    /// Whether the last answer shows that the database lacks a commit that was made before it was asked: who writes has
    /// another one.
    pub fn is_elsewhere(&self) -> bool {
        self.is_elsewhere
    }

    /// Another one writes, and has not spoken yet.
    pub fn another_writes(&mut self) {
        self.told = 0;
    }

    /// When [`Follower::poll`] has something to ask for, if nothing else happens.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let is_due = self.is_lost || self.hinted > self.position.seq;
        let at = if is_due { Instant::ZERO } else { self.poll_at };
        self.asked.is_none().then_some(at)
    }

    /// What is to be asked for now. It is to be answered, or to [fail](Follower::failed).
    pub fn poll(&mut self, now: Instant) -> Option<LogQuestion> {
        self.poll_timeout().filter(|at| *at <= now)?;
        self.asked = Some(now);
        self.expected = self.told;
        self.poll_at = now + POLL_EVERY;
        Some(match self.is_lost {
            true => LogQuestion::Everything,
            false => LogQuestion::Entries { from: self.position.seq },
        })
    }

    /// There is no answer: it is asked again in a while.
    pub fn failed(&mut self) {
        self.asked = None;
        self.hinted = self.position.seq;
    }

    /// Everything is needed: what was taken over makes no sense here.
    pub fn diverged(&mut self) {
        self.is_lost = true;
    }

    /// The realm is at `realm`, and this is the log. Gives what is to be [taken
    /// over](crate::control::Control::adopt), in order.
    pub fn take(&mut self, realm: Position, log: Vec<Logged>) -> Vec<Commit> {
        let Some(sent) = self.asked.take() else { return Vec::new() };
        self.is_elsewhere = realm.seq < self.expected;
        let is_all = log.len() < ENTRIES_AT_A_TIME;
        let mut commits = Vec::new();
        for Logged { position, entry } in log {
            if position.seq == self.position.seq && commits.is_empty() {
                let is_known = match self.entry_epoch {
                    Some(epoch) => epoch == position.epoch,
                    None => position.epoch <= self.position.epoch,
                };
                if is_known {
                    self.entry_epoch = Some(position.epoch);
                    continue;
                }
            }
            let follows = position.seq == self.position.seq + 1 && position.epoch >= self.position.epoch;
            match entry::read(entry.as_bytes()).filter(|_| follows) {
                Some(commit) => commits.push(commit),
                None => {
                    self.is_lost = true;
                    return commits;
                }
            }
            (self.position, self.entry_epoch) = (position, Some(position.epoch));
        }
        let is_behind = realm.seq > self.position.seq;
        self.is_lost |= realm < self.position || realm.seq < self.position.seq || (is_behind && is_all);
        if !self.is_lost && !is_behind {
            self.position = realm;
            if !self.is_elsewhere {
                self.current_at = sent;
            }
        }
        // A notice may have been of what never was.
        self.hinted = realm.seq;
        commits
    }

    /// Everything was loaded, as it was at `realm`.
    pub fn reloaded(&mut self, realm: Position) {
        self.current_at = self.asked.take().unwrap_or(self.current_at);
        (self.position, self.hinted, self.is_lost) = (realm, realm.seq, false);
        self.entry_epoch = None;
        // What was told may be of what is lost; who writes tells it again if not.
        (self.told, self.is_elsewhere) = (0, false);
    }

    /// When the next digest is due.
    pub fn digest_at(&self, is_urgent: bool) -> Instant {
        if is_urgent { self.digest_at - (DIGEST_EVERY - DIGEST_GAP) } else { self.digest_at }
    }

    /// A digest was taken, and all of what was heard was in it.
    pub fn digested(&mut self, now: Instant) {
        self.digest_at = now + DIGEST_EVERY;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "{\"rows\":[],\"changes\":[]}";

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(millis)
    }

    fn position(epoch: u64, seq: u64) -> Position {
        Position { epoch, seq }
    }

    fn logged(epoch: u64, seq: u64) -> Logged {
        Logged { position: position(epoch, seq), entry: EMPTY.into() }
    }

    fn follower() -> Follower {
        let mut follower = Follower::loaded(position(1, 5), at(1000));
        assert_eq!(follower.poll(at(1000)), Some(LogQuestion::Entries { from: 5 }));
        follower
    }

    #[test]
    fn asks_four_times_a_second_and_at_once_when_there_is_news() {
        let mut follower = follower();
        assert_eq!((follower.poll(at(9000)), follower.poll_timeout()), (None, None), "one at a time");
        assert!(follower.take(position(1, 5), vec![logged(1, 5)]).is_empty());
        assert_eq!((follower.poll(at(1249)), follower.poll_timeout()), (None, Some(at(1250))));
        follower.hint(6);
        assert_eq!(follower.poll(at(1100)), Some(LogQuestion::Entries { from: 5 }));
        // The next one comes while that is asked for.
        follower.hint(8);
        assert_eq!(follower.take(position(1, 6), vec![logged(1, 5), logged(1, 6)]).len(), 1);
        assert_eq!(follower.position(), position(1, 6));
        assert_eq!(follower.lag(at(1150)), Duration::from_millis(50));
        assert_eq!((follower.poll(at(1349)), follower.poll_timeout()), (None, Some(at(1350))));
        assert_eq!(follower.poll(at(1350)), Some(LogQuestion::Entries { from: 6 }));
        follower.failed();
        assert_eq!((follower.poll(at(1599)), follower.poll(at(1600)).is_some()), (None, true));
    }

    #[test]
    fn follows_from_one_writer_to_the_next() {
        let mut follower = follower();
        // The first of them is forgotten already.
        let log = vec![logged(1, 6), logged(3, 7)];
        assert_eq!(follower.take(position(4, 7), log).len(), 2);
        assert_eq!(follower.position(), position(4, 7));
    }

    #[test]
    fn a_lease_that_is_taken_again_without_a_commit_is_no_reason_to_load_everything() {
        let mut follower = follower();
        for (epoch, time) in [(1, 1000), (2, 1250), (2, 1500), (7, 1750), (7, 2000)] {
            assert!(follower.take(position(epoch, 5), vec![logged(1, 5)]).is_empty());
            assert_eq!(follower.position(), position(epoch, 5));
            assert!(follower.has(position(epoch, 5)) && !follower.has(position(epoch + 1, 5)));
            let next = follower.poll(at(time + 250));
            assert_eq!(next, Some(LogQuestion::Entries { from: 5 }), "{epoch}");
        }
        assert_eq!(follower.take(position(8, 6), vec![logged(1, 5), logged(7, 6)]).len(), 1);
        assert_eq!(follower.poll(at(2500)), Some(LogQuestion::Entries { from: 6 }));
        // Another commit under the same number: the database went back.
        assert!(follower.take(position(9, 6), vec![logged(9, 6)]).is_empty());
        assert_eq!(follower.poll(at(2750)), Some(LogQuestion::Everything));
        assert!(!follower.has(position(8, 6)));
        // After that it is not known which one it was.
        follower.reloaded(position(9, 6));
        assert_eq!(follower.poll(at(3000)), Some(LogQuestion::Entries { from: 6 }));
        assert!(follower.take(position(9, 6), vec![logged(9, 6)]).is_empty() && follower.has(position(9, 6)));
    }

    #[test]
    fn a_database_without_a_commit_that_was_made_is_another_one() {
        let mut follower = follower();
        // The question was on its way already.
        follower.tell(7);
        follower.take(position(1, 5), vec![logged(1, 5)]);
        assert!(!follower.is_elsewhere());
        assert!(follower.poll(at(1250)).is_some());
        follower.take(position(1, 6), vec![logged(1, 5), logged(1, 6)]);
        assert!(
            follower.is_elsewhere() && follower.lag(at(1250)) == Duration::from_millis(250),
            "behind, and says so"
        );
        // Another one that writes may have lost it, and a notice proves nothing.
        follower.another_writes();
        follower.hint(9);
        assert!(follower.poll(at(1500)).is_some());
        follower.take(position(1, 6), vec![logged(1, 6)]);
        assert!(!follower.is_elsewhere() && follower.lag(at(1500)).is_zero());
        follower.tell(7);
        assert!(follower.poll(at(1750)).is_some());
        follower.take(position(1, 7), vec![logged(1, 6), logged(1, 7)]);
        assert!(!follower.is_elsewhere());
        // It comes by and by, but it is there.
        follower.tell(100);
        assert!(follower.poll(at(2000)).is_some());
        let log = (7..).take(ENTRIES_AT_A_TIME).map(|seq| logged(1, seq)).collect();
        follower.take(position(1, 100), log);
        assert!(follower.position().seq < 100 && !follower.is_elsewhere());
    }

    #[test]
    fn who_is_to_write_asks_at_once() {
        let mut follower = follower();
        follower.take(position(1, 5), vec![logged(1, 5)]);
        assert_eq!(follower.poll_timeout(), Some(at(1250)));
        follower.hurry();
        assert!(follower.poll(at(1001)).is_some());
    }

    #[test]
    fn comes_after_a_long_absence_by_and_by() {
        let mut follower = follower();
        let log = (5..).take(ENTRIES_AT_A_TIME).map(|seq| logged(1, seq)).collect();
        assert_eq!(follower.take(position(1, 100), log).len(), ENTRIES_AT_A_TIME - 1);
        assert_eq!(follower.lag(at(1500)), Duration::from_millis(500));
        assert_eq!(follower.poll(at(1001)), Some(LogQuestion::Entries { from: 68 }), "at once");
    }

    #[test]
    fn loads_everything_if_something_is_missing_or_the_database_went_back() {
        let bad = Logged { position: position(1, 7), entry: "{}".into() };
        for (realm, log, taken) in [
            (position(1, 9), vec![logged(1, 8), logged(1, 9)], 0),
            (position(1, 7), vec![logged(1, 5)], 0),
            (position(1, 7), vec![logged(1, 5), logged(1, 6), bad], 1),
            (position(1, 4), vec![], 0),
            (position(2, 4), vec![], 0),
            (position(2, 6), vec![logged(2, 5), logged(2, 6)], 0),
            (position(2, 6), vec![logged(1, 5), logged(0, 6)], 0),
        ] {
            let mut follower = follower();
            assert_eq!(follower.take(realm, log.clone()).len(), taken, "{realm:?} {log:?}");
            assert_eq!(follower.poll(at(1001)), Some(LogQuestion::Everything), "{realm:?} {log:?}");
            follower.reloaded(realm);
            assert_eq!((follower.position(), follower.poll(at(1002))), (realm, None));
        }
    }

    #[test]
    fn a_digest_waits_unless_it_is_urgent() {
        let mut follower = Follower::loaded(position(1, 5), at(0));
        assert_eq!(follower.digest_at(false), at(15_000));
        assert_eq!(follower.digest_at(true), at(500));
        follower.digested(at(600));
        assert_eq!((follower.digest_at(true), follower.digest_at(false)), (at(1100), at(15_600)));
    }
}
