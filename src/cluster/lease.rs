//! What an instance knows of its own lease, by its own monotonic clock.
//!
//! The database decides. It takes a commit only if that follows its position, so a writer whose lease has gone to
//! another can do no harm (it is *fenced*). What is here decides the rest: when to renew, whether what is in memory
//! may still be taken for the realm's state, and what became of a commit whose reply was lost. (The daemon does not ask
//! the second yet: cut off from the database, it goes on reading what it has.)
//!
//! A reply that is lost leaves two questions: was the commit made, and may it still be made, from some buffer on
//! the way? Both are answered by taking the lease again, under a new epoch: what was still on its way is refused from
//! then on, and the log says by whom the commit was made that follows. Nothing is acknowledged before that is known.

use crate::time::Instant;
use std::time::Duration;

/// How long a lease lasts from when the database gave or renewed it.
pub const LEASE_SPAN: Duration = Duration::from_secs(3);
/// How long after it was asked for last a lease is renewed, if no commit does that.
pub const RENEW_AFTER: Duration = Duration::from_secs(1);

/// Where a realm is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Position {
    /// Whose lease it is: one more at each taking.
    pub epoch: u64,
    /// The number of the last commit.
    pub seq: u64,
}

/// What the database says to whoever asks for its lease again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Regained {
    /// The lease was still ours, and is again, under the epoch of `position`. Otherwise `position` is another's.
    pub is_ours: bool,
    /// The realm's position.
    pub position: Position,
    /// Under which epoch this instance made the commit whose number [`Lease::lost`] returned, if the log has that.
    pub next_epoch: Option<u64>,
}

/// What became of a commit, and of the lease.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Settled {
    /// The commit was made.
    Committed,
    /// It was not made and never will be: what is in it can be sent again.
    NotCommitted,
    /// The lease is gone.
    Fenced {
        /// Whether the commit was made before that.
        committed: bool,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Idle,
    /// A commit is on its way.
    Sent(Instant),
    /// Its fate is not known.
    Lost,
    Over,
}

/// A lease that was ours when we last heard of it.
#[derive(Clone, Debug)]
pub struct Lease {
    position: Position,
    /// Counted from before the request was sent, so that it ends no later than by the database's clock.
    held_until: Instant,
    asked: Instant,
    state: State,
}

impl Lease {
    /// The database gave the lease in answer to a request that was sent at `sent`.
    pub fn taken(position: Position, sent: Instant) -> Self {
        Lease { position, held_until: sent + LEASE_SPAN, asked: sent, state: State::Idle }
    }

    /// The last position known. While a reply is missing, the realm may be one commit further.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Whether nobody else can have the lease at `now`, so that what is in memory is the realm's state. Afterwards
    /// another may have it; it is ours again once it is renewed.
    pub fn is_held(&self, now: Instant) -> bool {
        self.state != State::Over && now < self.held_until
    }

    /// Until when [`Lease::is_held`] holds, if nothing is heard.
    pub fn held_until(&self) -> Instant {
        self.held_until
    }

    /// When the next renewal is due.
    pub fn renew_at(&self) -> Instant {
        self.asked + RENEW_AFTER
    }

    /// A commit is sent at `now`, that must follow the position returned; `None` while another's fate is open, and
    /// when the lease is gone.
    pub fn send(&mut self, now: Instant) -> Option<Position> {
        if self.state != State::Idle {
            return None;
        }
        self.state = State::Sent(now);
        self.asked = now;
        Some(self.position)
    }

    /// The database says that the commit was made.
    pub fn committed(&mut self) {
        if let State::Sent(sent) = self.state {
            self.position.seq += 1;
            self.held_until = self.held_until.max(sent + LEASE_SPAN);
            self.state = State::Idle;
        }
    }

    /// The database says that it undid the commit, because of something in it or of its own state.
    pub fn undone(&mut self) {
        if let State::Sent(_) = self.state {
            self.state = State::Idle;
        }
    }

    /// The database says that the commit follows no longer: the lease is another's.
    pub fn refused(&mut self) {
        self.state = State::Over;
    }

    /// The lease was renewed without a commit, by a request that was sent at `sent`.
    pub fn renewed(&mut self, sent: Instant) {
        if self.state != State::Over {
            self.asked = self.asked.max(sent);
            self.held_until = self.held_until.max(sent + LEASE_SPAN);
        }
    }

    /// The connection broke. Before anything else is sent, the lease has to be asked for again, as often as it takes,
    /// and the log for the commit of the number returned.
    pub fn lost(&mut self) -> u64 {
        if let State::Sent(_) = self.state {
            self.state = State::Lost;
        }
        self.position.seq + 1
    }

    /// The answer to [`Lease::lost`], by a request that was sent at `sent`. Without a commit on its way the answer is
    /// `NotCommitted` or `Fenced`.
    pub fn regained(&mut self, answer: Regained, sent: Instant) -> Settled {
        let before = self.position;
        let was_on_its_way = matches!(self.state, State::Lost | State::Sent(_));
        let committed = was_on_its_way && answer.next_epoch == Some(before.epoch);
        let expected = before.seq + u64::from(committed);
        // A position that we can't have led to is that of a database that went back to an older state.
        if !answer.is_ours || answer.position.seq != expected || answer.position.epoch <= before.epoch {
            self.state = State::Over;
            return Settled::Fenced { committed };
        }
        self.position = answer.position;
        self.asked = self.asked.max(sent);
        self.held_until = self.held_until.max(sent + LEASE_SPAN);
        self.state = State::Idle;
        if committed { Settled::Committed } else { Settled::NotCommitted }
    }

    /// Whether the lease is gone for good.
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }
}

#[cfg(test)]
mod tests;
