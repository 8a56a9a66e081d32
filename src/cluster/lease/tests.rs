//! The lease against a model of the database: every message lost at every point, delivered late, and others that
//! take the lease in between.

use super::*;

const fn at(millis: u64) -> Instant {
    Instant::from_nanos(millis * 1_000_000)
}

/// The realm's row and its log.
#[derive(Default)]
struct Database {
    owner: u8,
    position: Position,
    expires: Instant,
    /// Epoch and contents of commit 1, 2, ...
    log: Vec<(u64, u32)>,
}

impl Database {
    fn take(&mut self, who: u8, now: Instant) -> Option<Position> {
        (self.expires <= now).then(|| {
            self.owner = who;
            self.position.epoch += 1;
            self.expires = now + LEASE_SPAN;
            self.position
        })
    }

    fn commit(&mut self, follows: Position, what: u32, now: Instant) -> bool {
        let fits = self.position == follows;
        if fits {
            self.position.seq += 1;
            self.expires = now + LEASE_SPAN;
            self.log.push((follows.epoch, what));
        }
        fits
    }

    fn regain(&mut self, who: u8, next_seq: u64, now: Instant) -> Regained {
        let is_ours = self.owner == who;
        if is_ours {
            self.position.epoch += 1;
            self.expires = now + LEASE_SPAN;
        }
        let next = usize::try_from(next_seq).unwrap() - 1;
        let next_epoch = self.log.get(next).map(|(epoch, _)| *epoch);
        Regained { is_ours, position: self.position, next_epoch }
    }

    fn has(&self, what: u32) -> bool {
        self.log.iter().any(|(_, found)| *found == what)
    }
}

/// Choices that are made for a test, in every combination.
struct Choices {
    taken: Vec<(usize, usize)>,
    next: usize,
}

impl Choices {
    fn of(&mut self, count: usize) -> usize {
        if self.next == self.taken.len() {
            self.taken.push((0, count));
        }
        self.next += 1;
        self.taken[self.next - 1].0
    }

    /// The next combination, if there is one.
    fn advance(&mut self) -> bool {
        self.next = 0;
        while let Some((choice, count)) = self.taken.last_mut() {
            *choice += 1;
            if choice < count {
                return true;
            }
            self.taken.pop();
        }
        false
    }
}

/// One life of a writer: commits, each of which may be lost on the way, arrive with the reply lost, or arrive late;
/// and between any two steps another may take the lease if it has run out.
fn live(choices: &mut Choices) {
    let (mut database, mut now) = (Database::default(), at(10));
    let mut lease = Lease::taken(database.take(1, now).unwrap(), now);
    // Commits that are still in some buffer.
    let mut late: Vec<(Position, u32)> = Vec::new();
    // What was settled, and how.
    let (mut made, mut not_made) = (Vec::new(), Vec::new());
    'commits: for what in 1..=2 {
        let Some(follows) = lease.send(now) else { break };
        match choices.of(4) {
            0 => {
                if database.commit(follows, what, now) {
                    lease.committed();
                    made.push(what);
                } else {
                    lease.refused();
                    not_made.push(what);
                }
                continue;
            }
            1 => {}
            2 => {
                database.commit(follows, what, now);
            }
            _ => late.push((follows, what)),
        }
        for attempt in 0.. {
            let next_seq = lease.lost();
            assert_eq!(lease.send(now), None, "its fate is open");
            // Another takes over, as soon as it can.
            if choices.of(2) == 1 {
                now = now.max(database.expires);
                let taken = database.take(2, now).unwrap();
                if choices.of(2) == 1 {
                    assert!(database.commit(taken, 100 + what, now));
                }
            }
            if choices.of(2) == 1 {
                for (follows, what) in late.drain(..) {
                    database.commit(follows, what, now);
                }
            }
            // The question, the answer, or neither is lost.
            let arrives = if attempt == 1 { 0 } else { choices.of(3) };
            if arrives == 1 {
                continue;
            }
            let answer = database.regain(1, next_seq, now);
            if arrives == 2 {
                continue;
            }
            let settled = lease.regained(answer, now);
            for (follows, what) in late.drain(..) {
                assert!(!database.commit(follows, what, now), "what comes late is refused");
            }
            match settled {
                Settled::Committed | Settled::Fenced { committed: true } => made.push(what),
                Settled::NotCommitted | Settled::Fenced { committed: false } => not_made.push(what),
            }
            assert_eq!(matches!(settled, Settled::Fenced { .. }), database.owner != 1);
            assert_eq!(lease.is_over(), database.owner != 1);
            continue 'commits;
        }
    }
    for what in made {
        assert!(database.has(what), "acknowledged and not there: {what}");
    }
    for what in not_made {
        assert!(!database.has(what), "there, and said not to be: {what}");
    }
    if !lease.is_over() {
        assert_eq!(lease.position(), database.position);
    }
}

#[test]
fn every_reply_may_be_lost_at_every_point() {
    let (mut choices, mut lives) = (Choices { taken: Vec::new(), next: 0 }, 0);
    loop {
        live(&mut choices);
        lives += 1;
        if !choices.advance() {
            break;
        }
    }
    assert!(lives > 5_000, "{lives}");
}

#[test]
fn nobody_else_can_have_the_lease_while_it_is_held() {
    // What is sent at 0 is made by the database at `made`, and known at `known`.
    for made in [0, 1, 500, 2_999, 3_000, 10_000] {
        for known in [0, 1, 500, 2_999, 3_000, 10_000] {
            let mut database = Database::default();
            let mut lease = Lease::taken(database.take(1, at(0)).unwrap(), at(0));
            if commit_made_at(&mut database, &mut lease, made) {
                assert_eq!(lease.position(), database.position);
            }
            let known = at(made + known);
            assert!(!lease.is_held(known) || database.expires > known, "{made} {known:?}");
            assert!(lease.held_until() <= database.expires);
        }
    }
}

/// A commit that is sent at 0 and made at `made`.
fn commit_made_at(database: &mut Database, lease: &mut Lease, made: u64) -> bool {
    let follows = lease.send(at(0)).unwrap();
    let fits = database.commit(follows, 1, at(made));
    if fits {
        lease.committed();
    }
    fits
}

#[test]
fn a_writer_that_slept_is_fenced_by_its_first_commit() {
    let mut database = Database::default();
    let mut lease = Lease::taken(database.take(1, at(0)).unwrap(), at(0));
    assert!(lease.is_held(at(2_999)) && !lease.is_held(at(3_000)));
    assert_eq!(database.take(2, at(2_999)), None);
    assert!(database.take(2, at(5_000)).is_some());
    let follows = lease.send(at(5_001)).unwrap();
    assert!(!database.commit(follows, 1, at(5_001)));
    lease.refused();
    assert!(lease.is_over() && !lease.is_held(at(5_001)) && lease.send(at(5_002)).is_none());
    // Nothing brings it back.
    lease.renewed(at(5_003));
    assert!(!lease.is_held(at(5_004)));
}

#[test]
fn a_writer_that_slept_goes_on_if_nobody_took_over() {
    let mut database = Database::default();
    let mut lease = Lease::taken(database.take(1, at(0)).unwrap(), at(0));
    assert!(!lease.is_held(at(60_000)));
    let follows = lease.send(at(60_000)).unwrap();
    assert!(database.commit(follows, 1, at(60_001)));
    lease.committed();
    assert!(lease.is_held(at(62_999)));
    assert_eq!(lease.position(), Position { epoch: 1, seq: 1 });
}

#[test]
fn it_is_renewed_each_second_unless_commits_do_that() {
    let mut lease = Lease::taken(Position { epoch: 4, seq: 9 }, at(0));
    assert_eq!(lease.renew_at(), at(1_000));
    lease.send(at(700)).unwrap();
    assert_eq!(lease.renew_at(), at(1_700), "the commit renews it");
    lease.undone();
    assert_eq!(lease.held_until(), at(3_000), "but not one that was undone");
    lease.renewed(at(1_700));
    assert_eq!((lease.held_until(), lease.renew_at()), (at(4_700), at(2_700)));
    assert_eq!(lease.position(), Position { epoch: 4, seq: 9 });
}

#[test]
fn a_database_that_went_back_fences() {
    let mut lease = Lease::taken(Position { epoch: 4, seq: 9 }, at(0));
    let next_seq = lease.lost();
    assert_eq!(next_seq, 10);
    // A standby that was not synchronous, promoted: the last commit is gone.
    let answer = Regained { is_ours: true, position: Position { epoch: 5, seq: 8 }, next_epoch: None };
    assert_eq!(lease.regained(answer, at(1)), Settled::Fenced { committed: false });
    assert!(lease.is_over());
}

#[test]
fn a_commit_that_another_made_is_not_ours() {
    let mut lease = Lease::taken(Position { epoch: 4, seq: 9 }, at(0));
    lease.send(at(1)).unwrap();
    lease.lost();
    let others = Regained { is_ours: false, position: Position { epoch: 5, seq: 10 }, next_epoch: Some(5) };
    assert_eq!(lease.clone().regained(others, at(1)), Settled::Fenced { committed: false });
    // Ours, and then another's.
    let answer = Regained { is_ours: false, position: Position { epoch: 5, seq: 12 }, next_epoch: Some(4) };
    assert_eq!(lease.clone().regained(answer, at(1)), Settled::Fenced { committed: true });
    // So long ago that the log has forgotten it: not acknowledged.
    let answer = Regained { is_ours: false, position: Position { epoch: 5, seq: 12 }, next_epoch: None };
    assert_eq!(lease.regained(answer, at(1)), Settled::Fenced { committed: false });
}
