//! How often and how much sessions are told. A message that replaces what a client knows can wait for the next one
//! of its kind; without that, a host that bans and unbans somebody would have us send his party, 64 peers of
//! 2 KB, to each of 64 sessions as often as he likes.

use crate::ids::{PartyId, PeerId, SessionId};
use crate::owners::Prefix;
use crate::time::Instant;
use crate::token_bucket::{Rate, TokenBucket};
use crate::wire::http::Source;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// How often each of these is told: three times at once, so that a party that gathers sees it happen, and after
/// that once a second.
const PER_TOPIC: Rate = Rate::new(1, INTERVAL, 3);
/// How long that waits whose source was told too much.
const INTERVAL: Duration = Duration::from_secs(1);
/// What the sessions of one source are told in all, in bytes: a party of 64 to 64 sessions at once, and after that
/// more than any party needs.
const PER_SOURCE: Rate = Rate::new(256 * 1024, Duration::from_secs(1), 4 * 1024 * 1024);
/// Sources that are kept track of before those are forgotten that have told nothing for a while.
const SOURCES: usize = 1024;

/// What is told again and again.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Topic {
    /// A whole party, to one session.
    Party(SessionId, PartyId),
    /// One peer of a party, to all others.
    Peer(PartyId, PeerId),
}

#[derive(Default)]
struct Recent {
    told: TokenBucket,
    /// Whether there is news of it that have to wait.
    waits: bool,
}

/// What was told a moment ago, and what has to be told again.
#[derive(Default)]
pub struct Updates {
    recent: HashMap<Topic, Recent>,
    /// How many of them there may be until the oldest are looked for.
    sweep_at: usize,
    /// When what waits may be told. The number keeps apart what is due at the same time.
    due: BTreeMap<(Instant, u64), Topic>,
    next: u64,
    by_source: HashMap<Prefix, TokenBucket>,
}

impl Updates {
    /// Whether this may be told now. Otherwise [`Updates::take_due`] brings it when it may.
    pub fn admit(&mut self, topic: Topic, now: Instant) -> bool {
        if self.recent.len() >= self.sweep_at {
            self.recent.retain(|_, recent| recent.waits || !recent.told.is_full(now));
            self.recent.shrink_to(64);
            self.sweep_at = 64.max(2 * self.recent.len());
        }
        let recent = self.recent.entry(topic.clone()).or_default();
        match recent.told.take(PER_TOPIC, 1, now) {
            Ok(()) => true,
            Err(wait) => {
                self.wait(topic, now + wait);
                false
            }
        }
    }

    /// Has [`Updates::take_due`] bring this later.
    pub fn postpone(&mut self, topic: Topic, now: Instant) {
        self.wait(topic, now + INTERVAL);
    }

    fn wait(&mut self, topic: Topic, until: Instant) {
        let recent = self.recent.entry(topic.clone()).or_default();
        if !std::mem::replace(&mut recent.waits, true) {
            self.next += 1;
            self.due.insert((until, self.next), topic);
        }
    }

    /// When [`Updates::take_due`] brings something, at the earliest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due.first_key_value().map(|((due, _), _)| *due)
    }

    /// What there is news of and may be told now, if [`Updates::admit`] says so as well.
    pub fn take_due(&mut self, now: Instant) -> Vec<Topic> {
        let mut taken = Vec::new();
        while let Some(first) = self.due.first_entry().filter(|first| first.key().0 <= now) {
            let topic = first.remove();
            if let Some(recent) = self.recent.get_mut(&topic) {
                recent.waits = false;
            }
            taken.push(topic);
        }
        taken
    }

    /// Whether a session of `source` may be sent so many bytes more.
    pub fn spend(&mut self, source: Source, bytes: usize, now: Instant) -> bool {
        let Source::Ip(address) = source else { return true };
        if self.by_source.len() >= SOURCES {
            self.by_source.retain(|_, bucket| !bucket.is_full(now));
        }
        // What is larger than all that can be saved up would never be sent.
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(PER_SOURCE.burst);
        self.by_source.entry(Prefix::subscriber(address)).or_default().take(PER_SOURCE, bytes, now).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(session: u64) -> Topic {
        Topic::Party(SessionId(session), PartyId::new("p").unwrap())
    }

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(millis)
    }

    #[test]
    fn each_is_told_three_times_at_once_and_then_once_a_second() {
        let mut updates = Updates::default();
        for _ in 0..3 {
            assert!(updates.admit(topic(1), at(0)) && updates.poll_timeout().is_none());
        }
        for millis in 1..1000 {
            assert!(!updates.admit(topic(1), at(millis)));
            assert_eq!(updates.poll_timeout(), Some(at(1000)));
        }
        assert!(updates.admit(topic(2), at(500)));
        assert!(updates.take_due(at(999)).is_empty());
        for second in 1..10 {
            let now = at(second * 1000);
            assert_eq!(updates.take_due(now), [topic(1)]);
            assert!(updates.admit(topic(1), now) && updates.poll_timeout().is_none());
            assert!(
                !updates.admit(topic(1), now) && updates.poll_timeout() == Some(at(second * 1000 + 1000))
            );
        }
    }

    #[test]
    fn what_is_postponed_comes_back_and_what_was_told_is_forgotten() {
        let mut updates = Updates::default();
        updates.postpone(topic(1), at(0));
        assert!(updates.admit(topic(2), at(0)));
        updates.postpone(topic(2), at(0));
        updates.postpone(topic(2), at(1));
        assert_eq!(updates.poll_timeout(), Some(at(1000)));
        assert_eq!(updates.take_due(at(1000)), [topic(1), topic(2)]);
        assert!(updates.poll_timeout().is_none() && updates.take_due(at(9000)).is_empty());
        for session in 0..10_000 {
            updates.admit(topic(session), at(10_000 + session));
        }
        assert!(updates.recent.len() < 2500, "{}", updates.recent.len());
    }

    #[test]
    fn a_source_is_sent_so_much_and_no_more() {
        let mut updates = Updates::default();
        let source = |ip: &str| Source::Ip(ip.parse().unwrap());
        let sent = |updates: &mut Updates, ip: &str, now| {
            (0..1000).filter(|_| updates.spend(source(ip), 64 * 1024, now)).count()
        };
        assert_eq!(sent(&mut updates, "2001:db8::1", at(0)), 64);
        assert_eq!(sent(&mut updates, "2001:db8::2", at(0)), 0);
        assert_eq!(sent(&mut updates, "198.51.100.1", at(0)), 64);
        assert_eq!(sent(&mut updates, "2001:db8::1", at(1001)), 4);
        assert!(updates.spend(source("192.0.2.1"), usize::MAX, at(0)));
        assert!((0..1000).all(|_| updates.spend(Source::Unix, usize::MAX, at(0))));
        for low in 0..=255u8 {
            for high in 0..8 {
                updates.spend(Source::Ip([10, 1, high, low].into()), 1, at(u64::from(high) * 10_000));
            }
        }
        assert!(updates.by_source.len() <= SOURCES + 256);
    }
}
