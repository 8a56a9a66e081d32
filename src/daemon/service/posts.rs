//! Signals on their way to sessions at other instances. Each is offered to all of them; if none has a session of its
//! recipient, it waits to be fetched.

use crate::control::signals::Signal;
use crate::daemon::bell::Bell;
use crate::ids::PartyId;
use crate::time::Instant;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// An instance that has not asked for so long is gone.
const GONE: Duration = Duration::from_secs(7);
/// How long an instance may take to say what became of a signal.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long it is known that one was offered.
const FORGOTTEN: Duration = Duration::from_secs(60);
/// How long after an instance has begun to write others may take to ask it.
const OPENING: Duration = Duration::from_secs(5);
/// Signals that are handed over at a time, and their bytes, beyond which there is one at the most: an answer has a limit.
const AT_A_TIME: usize = 32;
const BYTES_AT_A_TIME: usize = 128 * 1024;
/// Bytes of signals that are on their way: beyond that they wait to be fetched at once.
const OFFERED: usize = 4 * 1024 * 1024;
/// What a signal takes besides its data, in bytes.
const OVERHEAD: usize = 256;

/// The instances that ask for signals, and what is on its way to them.
#[derive(Default)]
pub struct Posts {
    by_stream: BTreeMap<u64, Post>,
    offered: BTreeMap<u64, Offered>,
    /// Bytes of them.
    bytes: usize,
    next: u64,
    /// Until when others may still come that do not know yet whom to ask.
    open_until: Option<Instant>,
}

/// What one instance is offered.
struct Post {
    waiting: VecDeque<u64>,
    sent: Vec<u64>,
    asked: Instant,
    bell: Bell,
}

struct Offered {
    party: PartyId,
    signal: Signal,
    /// Instances that have not said yet whether the recipient is there.
    open: usize,
    since: Instant,
    /// It waits to be fetched meanwhile: somebody took too long to say.
    is_queued: bool,
}

impl Offered {
    fn bytes(&self) -> usize {
        OVERHEAD + self.signal.data.len()
    }
}

fn remove(all: &mut BTreeMap<u64, Offered>, bytes: &mut usize, number: u64) -> Option<Offered> {
    all.remove(&number).inspect(|offered| *bytes -= offered.bytes())
}

/// What became of signals.
#[derive(Default)]
pub struct Hearing {
    /// Nobody takes them: they are to wait to be fetched.
    pub refused: Vec<(PartyId, Signal)>,
    /// They wait to be fetched, and have been taken after all.
    pub taken: Vec<(PartyId, Signal)>,
}

impl Posts {
    /// This instance writes from now on: others will ask it in a moment.
    pub fn open(&mut self, now: Instant) {
        self.open_until = Some(now + OPENING);
    }

    /// Whether any instance asks for signals, or may do so soon.
    pub fn has_any(&self) -> bool {
        !self.by_stream.is_empty() || self.open_until.is_some()
    }

    /// Offers a signal. Gives it back if there is nobody.
    pub fn offer(&mut self, party: PartyId, signal: Signal, now: Instant) -> Option<(PartyId, Signal)> {
        let bytes = OVERHEAD + signal.data.len();
        if !self.has_any() || self.bytes + bytes > OFFERED {
            return Some((party, signal));
        }
        self.bytes += bytes;
        self.next += 1;
        self.offered.insert(
            self.next,
            Offered { party, signal, open: self.by_stream.len(), since: now, is_queued: false },
        );
        for post in self.by_stream.values_mut() {
            post.waiting.push_back(self.next);
            post.bell.ring();
        }
        None
    }

    /// An instance says what became of those that it was sent.
    pub fn hear(&mut self, stream: u64, heard: &[u64], unheard: &[u64], now: Instant) -> Hearing {
        let post = self.by_stream.entry(stream).or_insert_with(|| {
            // Who is new may have the recipients of those that are on their way.
            self.offered.values_mut().for_each(|offered| offered.open += 1);
            let waiting = self.offered.keys().copied().collect();
            Post { waiting, sent: Vec::new(), asked: now, bell: Bell::default() }
        });
        post.asked = now;
        let (mut refused, mut outcome) = (Vec::new(), Hearing::default());
        // The last one goes to the front first.
        for number in std::mem::take(&mut post.sent).into_iter().rev() {
            if heard.contains(&number) {
                let taken = remove(&mut self.offered, &mut self.bytes, number);
                let taken = taken.filter(|offered| offered.is_queued);
                outcome.taken.extend(taken.map(|offered| (offered.party, offered.signal)));
            } else if unheard.contains(&number) {
                refused.push(number);
            } else {
                // The answer that it was in was lost.
                post.waiting.push_front(number);
            }
        }
        outcome.refused = refused.into_iter().rev().filter_map(|number| self.refuse(number)).collect();
        outcome.taken.reverse();
        outcome
    }

    /// One instance less may take it. Gives it if that was the last one.
    fn refuse(&mut self, number: u64) -> Option<(PartyId, Signal)> {
        let offered = self.offered.get_mut(&number)?;
        offered.open = offered.open.saturating_sub(1);
        if offered.open > 0 || self.open_until.is_some() {
            return None;
        }
        let offered =
            remove(&mut self.offered, &mut self.bytes, number).filter(|offered| !offered.is_queued)?;
        Some((offered.party, offered.signal))
    }

    /// What wakes an instance that asks.
    pub fn bell(&self, stream: u64) -> Option<Bell> {
        self.by_stream.get(&stream).map(|post| post.bell.clone())
    }

    /// What an instance is handed over now.
    pub fn take(&mut self, stream: u64) -> Vec<(u64, PartyId, Signal)> {
        let Some(post) = self.by_stream.get_mut(&stream) else { return Vec::new() };
        let (mut out, mut bytes) = (Vec::new(), 0);
        while out.len() < AT_A_TIME
            && bytes < BYTES_AT_A_TIME
            && let Some(number) = post.waiting.pop_front()
        {
            // Others may have taken it.
            if let Some(offered) = self.offered.get(&number) {
                bytes += offered.signal.data.len();
                out.push((number, offered.party.clone(), offered.signal.clone()));
                post.sent.push(number);
            }
        }
        out
    }

    /// Whether an instance has something to take.
    pub fn is_waiting(&self, stream: u64) -> bool {
        self.by_stream.get(&stream).is_some_and(|post| !post.waiting.is_empty())
    }

    /// Forgets instances that are gone. Gives what was offered for too long.
    pub fn sweep(&mut self, now: Instant) -> Vec<(PartyId, Signal)> {
        let mut missed = Vec::new();
        self.by_stream.retain(|_, post| {
            let is_here = now.since(post.asked) < GONE;
            if !is_here {
                missed.extend(post.waiting.drain(..).chain(post.sent.drain(..)));
            }
            is_here
        });
        self.open_until = self.open_until.filter(|until| *until > now);
        let mut out: Vec<_> = missed.into_iter().filter_map(|number| self.refuse(number)).collect();
        // Whoever hangs may take it when it goes on, but not for ever.
        let bytes = &mut self.bytes;
        self.offered.retain(|_, offered| {
            let is_known = now.since(offered.since) < FORGOTTEN;
            *bytes -= if is_known { 0 } else { offered.bytes() };
            is_known
        });
        let late = self.offered.values_mut();
        let late = late.filter(|offered| !offered.is_queued && now.since(offered.since) >= PATIENCE);
        out.extend(late.map(|offered| {
            offered.is_queued = true;
            (offered.party.clone(), offered.signal.clone())
        }));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::PeerId;
    use crate::time::UnixTime;

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(millis)
    }

    fn signal(data: &str) -> (PartyId, Signal) {
        let peer = |id: &str| PeerId::new(id).unwrap();
        let signal = Signal {
            from: peer("ann"),
            to: peer("bob"),
            data: data.to_owned(),
            sent_at: UnixTime::from_micros(0),
            payer: [192, 0, 2, 1].into(),
        };
        (PartyId::new("p").unwrap(), signal)
    }

    fn offer(posts: &mut Posts, data: &str, now: Instant) -> bool {
        let (party, signal) = signal(data);
        posts.offer(party, signal, now).is_none()
    }

    fn taken(posts: &mut Posts, stream: u64) -> Vec<(u64, String)> {
        posts.take(stream).into_iter().map(|(number, _, signal)| (number, signal.data)).collect()
    }

    #[test]
    fn who_has_the_recipient_takes_it_and_nobody_else_has_to() {
        let mut posts = Posts::default();
        assert!(!offer(&mut posts, "alone", at(0)) && !posts.has_any());
        posts.hear(1, &[], &[], at(0));
        posts.hear(2, &[], &[], at(0));
        assert!(offer(&mut posts, "a", at(0)) && posts.is_waiting(1));
        assert_eq!(taken(&mut posts, 1), [(1, "a".to_owned())]);
        let outcome = posts.hear(1, &[1], &[], at(1));
        assert!(outcome.refused.is_empty() && outcome.taken.is_empty());
        assert_eq!(taken(&mut posts, 2), [], "it is taken");
        assert!(posts.sweep(at(6000)).is_empty());
    }

    #[test]
    fn what_nobody_takes_comes_back_once() {
        let mut posts = Posts::default();
        posts.hear(1, &[], &[], at(0));
        posts.hear(2, &[], &[], at(0));
        offer(&mut posts, "a", at(0));
        posts.take(1);
        posts.take(2);
        assert_eq!(posts.hear(1, &[], &[1], at(1)).refused, []);
        assert_eq!(posts.hear(2, &[], &[1], at(1)).refused, [signal("a")]);
        assert_eq!(posts.hear(2, &[], &[1], at(1)).refused, []);
    }

    #[test]
    fn what_nobody_takes_comes_back_in_order() {
        let mut posts = Posts::default();
        posts.hear(1, &[], &[], at(0));
        let sent = ["a", "b", "c"];
        assert!(sent.iter().all(|data| offer(&mut posts, data, at(0))));
        posts.take(1);
        let refused = posts.hear(1, &[], &[3, 1, 2], at(1)).refused;
        assert_eq!(refused, sent.map(signal));
    }

    #[test]
    fn what_waits_because_somebody_hangs_is_taken_once() {
        let mut posts = Posts::default();
        for (number, is_heard) in [(1, false), (2, true)] {
            let from = number * 10_000;
            posts.hear(1, &[], &[], at(from));
            offer(&mut posts, "b", at(from));
            posts.take(1);
            assert!(posts.sweep(at(from + 1999)).is_empty());
            assert_eq!(posts.sweep(at(from + 2000)), [signal("b")]);
            assert!(posts.sweep(at(from + 2100)).is_empty(), "it waits once");
            let (heard, unheard) = if is_heard { (vec![number], vec![]) } else { (vec![], vec![number]) };
            let outcome = posts.hear(1, &heard, &unheard, at(from + 3000));
            assert_eq!((outcome.refused.len(), outcome.taken.len()), (0, heard.len()));
        }
        offer(&mut posts, "c", at(23_000));
        posts.sweep(at(83_000));
        assert!(posts.offered.is_empty());
    }

    #[test]
    fn what_was_in_a_lost_answer_is_offered_again() {
        let mut posts = Posts::default();
        posts.hear(1, &[], &[], at(0));
        offer(&mut posts, "a", at(0));
        assert_eq!(taken(&mut posts, 1).len(), 1);
        assert!(posts.hear(1, &[], &[], at(1)).refused.is_empty());
        assert_eq!(taken(&mut posts, 1), [(1, "a".to_owned())]);
        assert!(posts.hear(1, &[1], &[], at(2)).refused.is_empty() && posts.take(1).is_empty());
    }

    #[test]
    fn who_comes_to_a_new_writer_is_offered_what_is_on_its_way() {
        let mut posts = Posts::default();
        posts.open(at(0));
        assert!(posts.has_any() && offer(&mut posts, "a", at(0)) && offer(&mut posts, "b", at(0)));
        posts.hear(1, &[], &[], at(100));
        assert_eq!(posts.take(1).len(), 2);
        // Another one may come.
        assert_eq!(posts.hear(1, &[1], &[2], at(200)).refused, []);
        posts.hear(2, &[], &[], at(300));
        assert_eq!(taken(&mut posts, 2), [(2, "b".to_owned())]);
        assert_eq!(posts.sweep(at(2000)), [signal("b")]);
        posts.sweep(at(5000));
        assert!(posts.has_any());
        posts.sweep(at(7300));
        assert!(!posts.has_any());
    }

    #[test]
    fn what_is_on_its_way_is_bounded_and_comes_in_order() {
        let mut posts = Posts::default();
        posts.hear(1, &[], &[], at(0));
        let long = "x".repeat(16 * 1024);
        let most = (0..).take_while(|_| offer(&mut posts, &long, at(0))).count();
        assert_eq!(most, OFFERED / (long.len() + OVERHEAD));
        let first = taken(&mut posts, 1);
        assert_eq!(first.len(), BYTES_AT_A_TIME / long.len());
        // That answer is lost.
        posts.hear(1, &[], &[], at(1));
        assert_eq!(taken(&mut posts, 1), first);
        for number in 1..=most as u64 {
            posts.hear(1, &[number], &[], at(2));
            posts.take(1);
        }
        assert_eq!((posts.offered.len(), posts.bytes), (0, 0));
        // Nor is what is forgotten counted, or what nobody took.
        offer(&mut posts, &long, at(3));
        posts.take(1);
        posts.hear(1, &[], &[most as u64 + 1], at(4));
        offer(&mut posts, &long, at(5));
        assert_eq!(posts.sweep(at(8000)).len(), 1, "the only instance is gone");
        posts.sweep(at(70_000));
        assert_eq!((posts.offered.len(), posts.bytes), (0, 0));
    }

    #[test]
    fn an_instance_that_asks_no_more_is_forgotten() {
        let mut posts = Posts::default();
        posts.hear(1, &[], &[], at(0));
        posts.sweep(at(6999));
        assert!(posts.has_any());
        posts.sweep(at(7000));
        assert!(!posts.has_any() && posts.bell(1).is_none());
    }
}
