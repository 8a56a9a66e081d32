//! Which path is used. A straight one is taken when two questions were answered on it, one of them as long as packets are, and
//! it is no slower than the relay by much; it is left when nothing comes back on it, or too much gets lost, and then not
//! taken again for a while.

use crate::agent::ends::Ends;
use crate::agent::pair::{FallBack, Pair};
use crate::agent::turn::AgentTurn;
use crate::time::Instant;
use crate::wire::probe::MAX_CANDIDATES;
use std::net::SocketAddr;
use std::time::Duration;

/// A straight path may be so much slower than the relay.
const RELAY_MARGIN: Duration = Duration::from_millis(20);
/// While the relay has not answered, a straight path waits for so long.
const RELAY_PATIENCE: Duration = Duration::from_millis(300);
/// Another straight path must be faster by this at least, and by 15 percent, so often in a row.
const EQUAL_MARGIN: Duration = Duration::from_millis(10);
const WINS: u8 = 3;
/// Losses count after this.
const LOSS_TIME: Duration = Duration::from_secs(5);
/// What of a thousand may get lost on a better path.
const GOOD_LOSS: u32 = 10;
/// A path that was left is not taken again before this; twice that the next time, up to the longest.
const SHORTEST_HOLD: Duration = Duration::from_secs(30);
const LONGEST_HOLD: Duration = Duration::from_secs(300);
/// How often a path in use is asked.
const BUSY_INTERVAL: Duration = Duration::from_millis(500);
/// How often it is while there is no traffic, and the relay, if data goes elsewhere.
const IDLE_INTERVAL: Duration = Duration::from_secs(25);
const STANDBY_INTERVAL: Duration = Duration::from_secs(5);
/// When nothing comes by any path, the session may be dead.
const SESSION_PATIENCE: Duration = Duration::from_secs(2);
/// How often it is asked for a new one then; half as often each time that nothing comes of it.
const SESSION_INTERVAL: Duration = Duration::from_secs(5);

impl Pair {
    /// Takes an answer, whose source is as whom the member sees us.
    pub(super) fn on_answer(&mut self, turn: &mut AgentTurn<'_>, from: Ends, answer: (u32, SocketAddr, u32)) {
        let (now, (id, seen_as, received)) = (turn.now.instant, answer);
        let is_busy = self.is_busy(now);
        self.renewals = 0;
        if self.relay.on_answer(id, received, now).is_some() {
            // What waited for the relay to be compared with may be taken now.
            (0..self.straight.len()).for_each(|index| self.consider(index, now));
            return;
        }
        if let Some(standby) = &mut self.standby
            && standby.path.on_answer(id, received, now).is_some()
        {
            return;
        }
        for index in 0..self.straight.len() {
            let path = &mut self.straight[index];
            if path.on_answer(id, received, now).is_none() {
                continue;
            }
            // It came by the NAT's own choice from elsewhere than was asked.
            path.on_heard(false, now);
            // A member may lie; the relay says what is true. While there is no traffic a router may forget a path.
            if path.seen_as.replace(seen_as).is_some_and(|before| before != seen_as) && is_busy {
                turn.locality.nat.doubt(now);
            }
            path.path.local =
                if path.path.remote == from.path.remote { from.path.local } else { path.path.local };
            if !path.is_proven() && Some(index) != self.active {
                self.ask(turn, index);
            }
            self.consider(index, now);
            return;
        }
    }

    /// Takes a straight path into use, if it is time for that.
    fn consider(&mut self, index: usize, now: Instant) {
        let path = &self.straight[index];
        let (true, Some(round_trip)) = (path.is_proven(), path.round_trip) else { return };
        match self.active {
            Some(active) if active == index => {}
            Some(active) => {
                let current = self.straight[active].round_trip.unwrap_or(Duration::MAX);
                let margin = EQUAL_MARGIN.max(current * 3 / 20);
                let path = &mut self.straight[index];
                path.wins = if round_trip + margin <= current { path.wins + 1 } else { 0 };
                if path.wins >= WINS {
                    self.take(index, now);
                }
            }
            None if now < self.held_until && !self.relay.is_dead(now) => {}
            None => {
                let is_good = match self.relay.round_trip {
                    Some(relay) => round_trip <= relay + RELAY_MARGIN || self.relay.is_dead(now),
                    None => self.round_began.is_none_or(|began| now.since(began) >= RELAY_PATIENCE),
                };
                if is_good {
                    self.take(index, now);
                }
            }
        }
    }

    fn take(&mut self, index: usize, now: Instant) {
        self.active = Some(index);
        (self.promoted, self.fall_back, self.retry_at, self.retries) = (now, None, None, 0);
        self.spray = None;
        self.straight.iter_mut().for_each(|path| path.wins = 0);
        self.straight[index].forgive();
        self.plan(now);
    }

    /// Leaves the path in use for the relay.
    fn leave(&mut self, turn: &mut AgentTurn<'_>, why: FallBack) {
        let now = turn.now.instant;
        let Some(index) = self.active.take() else { return };
        self.straight[index].renew();
        if now.since(self.promoted) >= LONGEST_HOLD {
            self.holds = 0;
        }
        let hold = SHORTEST_HOLD * 2u32.saturating_pow(self.holds.min(8));
        self.holds += 1;
        self.held_until = now + hold.min(LONGEST_HOLD);
        (self.retry_at, self.fall_back) = (Some(self.held_until), Some(why));
        if why == FallBack::Silence {
            turn.locality.nat.doubt(now);
            self.send_hearing(turn);
        }
    }

    /// The member tells on which paths it hears us. If ours is none of them, it is a hole.
    pub(super) fn on_hearing(&mut self, sources: &[Option<SocketAddr>; MAX_CANDIDATES], now: Instant) {
        let Some(path) = self.active.and_then(|index| self.straight.get_mut(index)) else { return };
        if path.seen_as.is_some_and(|seen_as| !sources.contains(&Some(seen_as))) {
            path.doubt(now);
        }
    }

    /// Asks the paths in use, and leaves them when it is time.
    pub(super) fn keep_up(&mut self, turn: &mut AgentTurn<'_>) {
        let (now, peer) = (turn.now.instant, self.peer);
        let is_due = |asked: Option<Instant>, interval| asked.is_none_or(|at| now.since(at) >= interval);
        if let Some(index) = self.active {
            let interval = if self.is_busy(now) { BUSY_INTERVAL } else { IDLE_INTERVAL };
            let path = &mut self.straight[index];
            path.remind(turn, peer);
            if is_due(path.asked, interval) {
                path.ask(turn, peer, 0);
            }
            let has_relay = turn.locality.relay.is_some();
            // Perhaps it does not know that we don't hear it.
            let is_missed = path.is_missed(now);
            if is_missed && !std::mem::replace(&mut self.has_told, is_missed) {
                self.send_hearing(turn);
            }
            self.has_told = is_missed;
            let path = &self.straight[index];
            if path.is_dead(now) {
                self.leave(turn, FallBack::Silence);
            } else if path.is_lossy(LOSS_TIME, now) && has_relay && self.relay.loss < GOOD_LOSS {
                self.leave(turn, FallBack::Loss);
            }
        }
        if turn.locality.relay.is_none() {
            return;
        }
        if self.relay_interval(now).is_some_and(|interval| is_due(self.relay.asked, interval)) {
            self.ask_relay(turn);
        }
        if self.active.is_some() {
            if self.relay.silent_since().is_some() && !self.relay.is_dead(now) {
                self.relay.remind(turn, peer);
            }
            return;
        }
        self.relay.remind(turn, peer);
        if self.relay.is_dead(now) {
            (0..self.straight.len()).for_each(|index| self.consider(index, now));
            if self.active.is_none() && self.round.is_none() && is_due(self.round_began, SESSION_INTERVAL) {
                self.begin_round(now);
            }
        }
        if self.session_due().is_some_and(|due| due <= now) {
            self.wanted = Some(now);
            self.renewals += 1;
            turn.locality.misses_relay = true;
            self.needs_flow = true;
            turn.device.connect(peer, turn.now);
        }
    }

    fn relay_interval(&self, now: Instant) -> Option<Duration> {
        match (self.is_busy(now), self.active) {
            (true, None) => Some(BUSY_INTERVAL),
            // What the path in use does not carry goes by the relay, if that does.
            (true, Some(_)) if self.small_mtu().is_some() && self.relay.seeks_mtu() => Some(BUSY_INTERVAL),
            (true, Some(_)) => Some(STANDBY_INTERVAL),
            (false, None) => Some(IDLE_INTERVAL),
            (false, Some(_)) => None,
        }
    }

    /// When [`Pair::keep_up`] has something to do.
    pub(super) fn upkeep_due(&self, now: Instant) -> Option<Instant> {
        let active = self.active.map(|index| {
            let interval = if self.is_busy(now) { BUSY_INTERVAL } else { IDLE_INTERVAL };
            self.straight[index].asked.unwrap_or(now) + interval
        });
        let relay = self.relay_interval(now).map(|interval| self.relay.asked.unwrap_or(now) + interval);
        [active, relay, self.session_due()].into_iter().flatten().min()
    }

    /// When a new session is wanted, because nothing comes on this one.
    fn session_due(&self) -> Option<Instant> {
        let silent = self.relay.silent_since().filter(|_| self.active.is_none())?;
        let interval = SESSION_INTERVAL * 2u32.pow(self.renewals.min(6));
        let again = self.wanted.map_or(silent, |wanted| wanted + interval);
        Some((silent + SESSION_PATIENCE).max(again))
    }
}
