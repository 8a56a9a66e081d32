//! By which relay a pair's data goes. Of each two members the one with the smaller key chooses, by what both have measured:
//! the relay whose greater distance is the least. It is taken beside the one in use first: whether it carries anything for
//! these two is asked in their own session, and only that counts.

use crate::agent::AgentOutput;
use crate::agent::candidates::Locality;
use crate::agent::handshake::PendingInitiation;
use crate::agent::network::{ListedRelay, RelayAddress};
use crate::agent::pair::Pair;
use crate::agent::path::PathState;
use crate::agent::relays::{KnownRelay, MARGIN, margin};
use crate::agent::standby::{HOME, Standby, TRIES};
use crate::agent::turn::AgentTurn;
use crate::datagram::Path;
use crate::ids::RelayId;
use crate::time::Instant;
use crate::wire::probe::{CandidateKind, MAX_RELAYS, RelayDistance};
use std::time::Duration;

/// For so long a handshake goes by it as well.
const COPIES_TIME: Duration = Duration::from_secs(5);
/// How long its hub has for a session with us.
const HUB_TIME: Duration = Duration::from_secs(10);
const HUB_CHECK: Duration = Duration::from_millis(250);
/// One that was given up is not tried again before this; if it never did, four times that each time.
const AVOID_TIME: Duration = Duration::from_secs(300);
/// How often it is asked: until it can be judged, while there is traffic, and so that the relay does not forget the flow.
const TRIAL_INTERVAL: Duration = Duration::from_millis(300);
const BUSY_INTERVAL: Duration = Duration::from_secs(20);
const IDLE_INTERVAL: Duration = Duration::from_secs(100);
/// When the one in use is in doubt.
const DOUBT_INTERVAL: Duration = Duration::from_millis(300);
/// What it takes to be judged.
const ANSWERS: u32 = 3;
/// While the one in use is slower than that, another must be faster by the least margin alone.
const SLOW: Duration = Duration::from_millis(200);
/// Between two changes of mind.
const REST: Duration = Duration::from_secs(30);
/// One that has not carried anything yet is not left for another one before this.
const TRIAL_TIME: Duration = Duration::from_secs(10);

impl Locality {
    /// The mark of ours, for a mark that a member told.
    fn own_mark(&self, told: u32) -> u32 {
        if told == self.relays.home_mark() { HOME } else { told }
    }

    pub fn told_mark(&self, own: u32) -> u32 {
        if own == HOME { self.relays.home_mark() } else { own }
    }

    /// The way to the relay with this mark of ours, if it answers.
    fn way(&self, mark: u32) -> Option<Path> {
        match mark {
            HOME => self.relay_path(),
            _ => self
                .relays
                .with_mark(mark)
                .filter(|known| known.round_trip.is_some())
                .map(|known| Path::to(known.listed.endpoint)),
        }
    }

    /// The id of the relay with this mark of ours, if the list has it.
    pub fn relay_id(&self, mark: u32) -> Option<&RelayId> {
        self.relays.with_mark(self.told_mark(mark)).map(|known| &known.listed.id)
    }

    /// Whether it is a relay that has answered.
    pub fn is_relay(&self, path: Path) -> bool {
        let is_it = |known: &KnownRelay| known.round_trip.is_some() && known.listed.endpoint == path.remote;
        self.relay.is_some_and(|relay| relay.endpoint == path.remote) || self.relays.known.iter().any(is_it)
    }

    /// Takes over what the control plane lists; relays that are gone are given back.
    pub fn set_relays(&mut self, list: &[ListedRelay], now: Instant) -> Vec<KnownRelay> {
        let home = self.relay;
        let is_home = |listed: &ListedRelay| {
            let is_it = |home: RelayAddress| listed.endpoint == home.endpoint || listed.key == Some(home.key);
            home.is_some_and(is_it)
        };
        let mut may_be_asked = Vec::new();
        for listed in list {
            match home.filter(|_| is_home(listed)) {
                // It may be listed at another of its addresses.
                Some(home) => may_be_asked.push(ListedRelay { endpoint: home.endpoint, ..listed.clone() }),
                None if self.accepts_relay(listed.endpoint) => may_be_asked.push(listed.clone()),
                None => {}
            }
        }
        let gone = self.relays.set(&may_be_asked, is_home, now);
        self.judge();
        gone
    }

    /// Measures what is due. Whether a report is over by now, and whether it has anything that is new to members.
    pub fn measure_relays(&mut self, now: Instant, out: &mut dyn AgentOutput) -> Option<bool> {
        let report = self.relays.poll(now, out);
        // A report begins within: each of them was sent to in this order.
        self.count_relays();
        report
    }
}

impl Pair {
    /// The way by the relay in use.
    pub(super) fn relay_path(&self, locality: &Locality) -> Option<Path> {
        locality.relay.map(|_| self.relay.path)
    }

    /// The ways that handshakes go: by the relay in use, and if that may be dead by the one beside it.
    pub(super) fn handshake_paths(&self, locality: &Locality, now: Instant) -> impl Iterator<Item = Path> {
        let beside = self.standby.as_ref().filter(|it| it.is_proven() && self.relay.is_doubtful(now));
        self.relay_path(locality).into_iter().chain(beside.map(|standby| standby.path.path))
    }

    /// Whether a relay other than the party's own is in use for this member, or beside that.
    pub(super) fn uses_relay(&self, mark: u32) -> bool {
        self.relay_mark == mark || self.standby.as_ref().is_some_and(|standby| standby.mark == mark)
    }

    /// By the party's own relay again, as in the beginning.
    pub(super) fn use_home(&mut self, home: Path) {
        self.relay = PathState::new(home, CandidateKind::Public);
        (self.relay_mark, self.standby, self.avoided, self.needs_flow) = (HOME, None, None, true);
    }

    /// Relays that are no longer known are not used any more.
    pub(super) fn forget_relays(&mut self, turn: &mut AgentTurn<'_>) {
        let relays = &turn.locality.relays;
        let is_gone = |mark, path: Path| {
            let is_other = |known: &KnownRelay| known.is_home || known.listed.endpoint != path.remote;
            mark != HOME && relays.with_mark(mark).is_none_or(is_other)
        };
        self.standby.take_if(|standby| is_gone(standby.mark, standby.path.path));
        if let Some(home) = turn.locality.relay_path().filter(|_| is_gone(self.relay_mark, self.relay.path)) {
            self.use_home(home);
            turn.device.set_endpoint(self.peer, self.relay.path.remote, turn.now.instant);
            turn.device.probe(self.peer, self.relay.path.remote, turn.now);
        }
        self.plan(turn.now.instant);
    }

    fn chooses(&self, turn: &AgentTurn<'_>) -> bool {
        turn.device.public_key().as_bytes() < self.member.key.as_bytes()
    }

    /// How far relays are, for this member; and whether the first two are our choice.
    pub(super) fn distances(&self, locality: &Locality) -> (bool, [Option<RelayDistance>; MAX_RELAYS]) {
        let all = locality.relays.distances();
        let of = |own: u32| {
            let mark = locality.told_mark(own);
            let known = all.iter().find(|relay| relay.mark == mark).copied();
            known.unwrap_or(RelayDistance { mark, millis: u16::MAX })
        };
        let standby = self.standby.as_ref().filter(|_| self.is_chooser);
        let mut table = [None; MAX_RELAYS];
        let chosen = standby.map(|standby| [of(self.relay_mark), of(standby.mark)]);
        let marks = chosen.map(|chosen| chosen.map(|relay| relay.mark));
        let others = all.iter().filter(|relay| marks.is_none_or(|marks| !marks.contains(&relay.mark)));
        let told = chosen.into_iter().flatten().chain(others.copied());
        table.iter_mut().zip(told).for_each(|(entry, relay)| *entry = Some(relay));
        (standby.is_some(), table)
    }

    /// Takes another relay beside the one in use, if there is a better one; or the one that the member chooses.
    pub(super) fn choose_relays(&mut self, turn: &mut AgentTurn<'_>) {
        self.is_chooser = self.chooses(turn);
        let Some(offer) = self.offer.filter(|_| turn.locality.relay.is_some()) else { return };
        let now = turn.now.instant;
        self.avoided.take_if(|(_, until)| *until <= now);
        let avoided = self.avoided.map(|(mark, _)| mark);
        let locality = &*turn.locality;
        let wanted = match self.is_chooser {
            true => {
                let best =
                    locality.relays.known.iter().filter_map(|known| self.rank(known, locality, now)).min();
                let standby = self.standby.as_ref().filter(|standby| standby.is_proven());
                let kept = standby.and_then(|it| locality.relays.with_mark(locality.told_mark(it.mark)));
                let kept = kept.and_then(|known| self.rank(known, locality, now));
                let millis = |millis: u16| Duration::from_millis(millis.into());
                let is_little =
                    |(best, kept): (u16, u16)| millis(kept.saturating_sub(best)) < margin(millis(kept));
                let both = best.zip(kept).map(|(best, kept)| (best.0, kept.0));
                if both.is_some_and(is_little) { kept } else { best }.map(|(.., mark)| mark)
            }
            false => {
                let chosen = offer.relays.iter().flatten().filter(|_| offer.chooses).take(2);
                let mut chosen = chosen.map(|relay| locality.own_mark(relay.mark));
                let is_resting =
                    |mark| locality.relays.with_mark(mark).is_some_and(|it| it.rests_until > now);
                chosen.find(|&mark| mark != self.relay_mark && Some(mark) != avoided && !is_resting(mark))
            }
        };
        if wanted == self.standby.as_ref().map(|standby| standby.mark) {
            return;
        }
        // One that does its work is not given up for one that answers no more.
        let Some((mark, path)) = wanted.and_then(|mark| Some((mark, locality.way(mark)?))) else { return };
        let tried = self.standby.as_ref().filter(|it| !it.is_proven()).map(|it| it.since + TRIAL_TIME);
        self.review = tried.filter(|&end| end > now);
        if self.review.is_some() {
            return;
        }
        self.standby = Some(Box::new(Standby::new(mark, path, now)));
        if self.is_chooser {
            self.begin_offer(now);
        }
        self.plan(now);
    }

    /// How good it would be for both: the greater distance, its load and where it stands; and which one it is.
    fn rank<'k>(
        &self,
        known: &'k KnownRelay,
        locality: &Locality,
        now: Instant,
    ) -> Option<(u16, u32, &'k str, u32)> {
        let own = u16::try_from(known.round_trip?.as_millis()).unwrap_or(u16::MAX);
        let told = self.offer.as_ref()?.relays.iter().flatten().find(|told| told.mark == known.mark)?;
        let mark = locality.own_mark(known.mark);
        let is_avoided = self.avoided.is_some_and(|(avoided, _)| avoided == mark);
        let is_usable =
            mark != self.relay_mark && !is_avoided && known.is_for_members() && known.rests_until <= now;
        is_usable.then_some((own.max(told.millis), known.listed.load, &*known.listed.region, mark))
    }

    /// A session has come up, by `initiation` if it is ours. A copy of that goes by the relay beside the one in use, and is
    /// answered as the first was: so that relay learns the flow, too. Not before, for where answers come first must not
    /// depend on which relay is nearer.
    pub(super) fn show_standby(&mut self, initiation: Option<Box<PendingInitiation>>, now: Instant) {
        if let Some(standby) = &mut self.standby
            && (standby.is_proven() || now < standby.copies_until)
        {
            standby.path.forgive();
            (standby.asks, standby.copy) = (true, initiation);
        }
    }

    /// Tries and asks the relay beside the one in use, and takes it when it is time for that.
    pub(super) fn keep_standby(&mut self, turn: &mut AgentTurn<'_>) {
        let (now, peer) = (turn.now.instant, self.peer);
        if turn.locality.relay.is_none() {
            return;
        }
        if self.review.take_if(|at| *at <= now).is_some() {
            self.choose_relays(turn);
        }
        let interval = self.standby_interval(now);
        let Some(standby) = &mut self.standby else { return };
        if standby.path.is_dead(now) {
            standby.path.renew();
            standby.next_try.get_or_insert(now + TRIES[0]);
        }
        if standby.is_proven() {
            (standby.next_try, standby.tries) = (None, 0);
            let mark = turn.locality.told_mark(standby.mark);
            turn.locality.relays.note_proof(mark);
        }
        if standby.next_try.is_some_and(|at| at <= now) && !self.try_standby(turn) {
            return self.give_up(turn);
        }
        let Some(standby) = &mut self.standby else { return };
        standby.path.remind(turn, peer);
        let is_due = standby.path.asked.is_none_or(|asked| now.since(asked) >= interval);
        if let Some(copy) = standby.copy.take() {
            turn.out.send(standby.path.path, &copy.bytes);
        }
        if std::mem::take(&mut standby.asks) || is_due && standby.is_proven() {
            standby.path.ask(turn, peer, 0);
        }
        self.judge_relays(turn);
    }

    /// Has a handshake go by it; whether there is hope.
    fn try_standby(&mut self, turn: &mut AgentTurn<'_>) -> bool {
        let now = turn.now.instant;
        let Some(standby) = &mut self.standby else { return false };
        let known = turn.locality.relays.with_mark(standby.mark);
        let is_known_there = known.and_then(|known| known.hub).map(|hub| turn.device.can_send(hub, now));
        if is_known_there == Some(false) {
            standby.next_try = Some(now + HUB_CHECK);
            return now.since(standby.since) < HUB_TIME;
        }
        let Some(&wait) = TRIES.get(standby.tries) else { return false };
        standby.copies_until = now + COPIES_TIME;
        match turn.device.probe(self.peer, self.relay.path.remote, turn.now) {
            true => {
                standby.tries += 1;
                standby.next_try = Some(now + wait);
            }
            false => standby.next_try = Some(now + HUB_CHECK),
        }
        true
    }

    /// The relay beside the one in use carries nothing: perhaps another one does.
    fn give_up(&mut self, turn: &mut AgentTurn<'_>) {
        let now = turn.now.instant;
        let Some(standby) = self.standby.take() else { return };
        self.avoided = Some((standby.mark, now + AVOID_TIME));
        let mark = turn.locality.told_mark(standby.mark);
        turn.locality.relays.note_failure(mark, AVOID_TIME, now);
        self.choose_relays(turn);
    }

    /// Takes the relay beside the one in use: if that is dead, if it is better, or if the member who chooses has done so.
    fn judge_relays(&mut self, turn: &mut AgentTurn<'_>) {
        let now = turn.now.instant;
        let Some(standby) = self.standby.as_ref().filter(|standby| standby.is_proven()) else { return };
        if self.relay.is_dead(now) && standby.path.silent_since().is_none() {
            self.swap_relays(turn);
            if let Some(dead) = &mut self.standby {
                dead.renew(now);
            }
            turn.locality.relays.hurry(now);
            return;
        }
        let is_better = match (self.relay.round_trip, standby.path.round_trip) {
            (Some(current), Some(other)) if standby.path.answers >= ANSWERS => {
                let margin = if current > SLOW { MARGIN } else { margin(current) };
                other + margin <= current
            }
            _ => false,
        };
        let is_wanted = match (self.is_chooser, &self.offer) {
            (true, _) => is_better && now.since(self.relay_since) >= REST,
            (false, Some(offer)) => {
                let first = offer.relays[0].filter(|_| offer.chooses);
                first.is_some_and(|first| turn.locality.own_mark(first.mark) == standby.mark)
            }
            _ => false,
        };
        if is_wanted {
            self.swap_relays(turn);
        }
    }

    fn swap_relays(&mut self, turn: &mut AgentTurn<'_>) {
        let now = turn.now.instant;
        let Some(standby) = &mut self.standby else { return };
        std::mem::swap(&mut self.relay, &mut standby.path);
        std::mem::swap(&mut self.relay_mark, &mut standby.mark);
        self.relay_since = now;
        turn.device.set_endpoint(self.peer, self.relay.path.remote, now);
        if self.is_chooser {
            self.begin_offer(now);
        }
        self.plan(now);
    }

    fn standby_interval(&self, now: Instant) -> Duration {
        let answers = self.standby.as_ref().map_or(0, |standby| standby.path.answers);
        match self.is_busy(now) {
            _ if answers < ANSWERS => TRIAL_INTERVAL,
            _ if self.relay.is_doubtful(now) => DOUBT_INTERVAL,
            true => BUSY_INTERVAL,
            false => IDLE_INTERVAL,
        }
    }

    /// When [`Pair::keep_standby`] has something to do.
    pub(super) fn standby_due(&self, now: Instant) -> Option<Instant> {
        let standby = self.standby.as_ref()?.next(self.standby_interval(now));
        [standby, self.review].into_iter().flatten().min()
    }
}
