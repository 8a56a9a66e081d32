//! One member and the paths to it. Data flows by the relay at once; straight paths are tried beside it, and taken when they
//! are proven and no worse (see `choice`).

use crate::agent::AgentOutput;
use crate::agent::candidates::Locality;
use crate::agent::ends::Ends;
use crate::agent::handshake::{CachedAnswer, PendingInitiation};
use crate::agent::network::NetworkMember;
use crate::agent::path::{LENGTHS, PathState};
use crate::agent::spray::Spray;
use crate::agent::standby::{HOME, Standby};
use crate::agent::turn::AgentTurn;
use crate::datagram::Path;
use crate::time::Instant;
use crate::wire::probe::{CandidateKind, Offer};
use crate::wireguard::message::KEEPALIVE_LENGTH;
use crate::wireguard::peer::PeerIndex;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Bytes that a member may have us send to where it says to be, and has not shown to be: what came from it, up to this.
const MAX_ALLOWANCE: usize = 64 * 1024;
/// When straight paths are asked, from the beginning of a round on; afterwards every second.
const TICKS: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(50),
    Duration::from_millis(150),
    Duration::from_millis(300),
    Duration::from_millis(500),
];
/// Ticks of a round.
const TICK_COUNT: u32 = 12;
/// A round that came to nothing is followed by another one after this, if there is traffic.
const RETRIES: [Duration; 3] = [Duration::from_secs(15), Duration::from_secs(60), Duration::from_secs(300)];
/// After this much silence there is no traffic.
const IDLE_TIME: Duration = Duration::from_secs(10);

/// When there is no session, it is asked for so often once the hub knows us.
const ATTEMPTS: [Duration; 3] =
    [Duration::from_millis(300), Duration::from_millis(700), Duration::from_secs(2)];
/// But only if it was wanted not longer ago than this.
const ATTEMPTS_TIME: Duration = Duration::from_secs(60);

/// Sessions with one that has not shown to be an agent in which it is told of us: an app only drops that.
const INTRODUCTIONS: u32 = 3;

/// Why a straight path was given up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FallBack {
    /// Nothing came through any more.
    Silence,
    /// Too much got lost.
    Loss,
}

#[derive(Clone, Copy)]
pub(super) struct Round {
    pub began: Instant,
    pub tick: u32,
}

impl Round {
    fn due(&self) -> Instant {
        let last = TICKS.len() as u32 - 1;
        self.began
            + match TICKS.get(self.tick as usize) {
                Some(&tick) => tick,
                None => TICKS[last as usize] + Duration::from_secs(1) * (self.tick - last),
            }
    }
}

/// Our offer on its way.
#[derive(Clone, Copy, Default)]
pub(super) struct Offering {
    pub due: Option<Instant>,
    pub tries: usize,
    pub id: u32,
    /// The generation that was answered.
    pub answered: Option<u32>,
}

/// One member and the ways to it.
pub(super) struct Pair {
    /// As the control plane tells it.
    pub member: NetworkMember,
    pub peer: PeerIndex,
    /// Whether it has shown to be an agent as we are.
    pub is_agent: bool,
    /// When a session with it was last wanted.
    pub wanted: Option<Instant>,
    /// Sessions wanted since a question was last answered.
    pub renewals: u32,
    /// Bytes of packets that came from it.
    pub received: u64,
    /// Bytes that were sent to it by its session.
    pub sent: u64,
    /// By the relay in use, and which one that is.
    pub relay: PathState,
    pub relay_mark: u32,
    pub relay_since: Instant,
    /// The relay beside it.
    pub standby: Option<Box<Standby>>,
    /// A relay that is not tried until then.
    pub avoided: Option<(u32, Instant)>,
    /// Whether we choose relays, or the member; and when that is looked at again.
    pub is_chooser: bool,
    pub review: Option<Instant>,
    /// Whether the relay has to see a handshake before it carries anything.
    pub needs_flow: bool,
    pub straight: Vec<PathState>,
    /// The straight path in use.
    pub active: Option<usize>,
    /// What it offered last.
    pub offer: Option<Offer>,
    pub round: Option<Round>,
    pub round_began: Option<Instant>,
    pub retries: usize,
    pub retry_at: Option<Instant>,
    pub held_until: Instant,
    pub holds: u32,
    pub promoted: Instant,
    pub fall_back: Option<FallBack>,
    /// Whether the member was told that nothing comes on the path in use.
    pub has_told: bool,
    pub spray: Option<Box<Spray>>,
    pub sprayed: Option<Instant>,
    pub offering: Offering,
    /// Sessions in which it was offered something.
    introductions: u32,
    /// Whether the control plane is to carry our offer to it.
    pub wants_signal: bool,
    pub last_data: Option<Instant>,
    pub allowance: usize,
    pub initiation: Option<Box<PendingInitiation>>,
    pub answer: Option<Box<CachedAnswer>>,
    /// Since when it has not been reached, and whether it is left alone because of that.
    pub failed_since: Option<Instant>,
    pub is_cleaned_up: bool,
    next_attempt: Option<Instant>,
    attempts: usize,
    due: Option<Instant>,
}

impl Pair {
    /// One that is reached by the relay, if there is one.
    pub fn new(member: NetworkMember, peer: PeerIndex, relay: Option<Path>) -> Self {
        let nowhere = Path::to(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
        Pair {
            wants_signal: !member.is_device,
            member,
            peer,
            is_agent: false,
            wanted: None,
            renewals: 0,
            received: 0,
            sent: 0,
            relay: PathState::new(relay.unwrap_or(nowhere), CandidateKind::Public),
            relay_mark: HOME,
            relay_since: Instant::ZERO,
            standby: None,
            avoided: None,
            is_chooser: false,
            review: None,
            needs_flow: false,
            straight: Vec::new(),
            active: None,
            offer: None,
            round: None,
            round_began: None,
            retries: 0,
            retry_at: None,
            held_until: Instant::ZERO,
            holds: 0,
            promoted: Instant::ZERO,
            fall_back: None,
            has_told: false,
            spray: None,
            sprayed: None,
            offering: Offering::default(),
            introductions: 0,
            last_data: None,
            allowance: 0,
            initiation: None,
            answer: None,
            failed_since: None,
            is_cleaned_up: false,
            next_attempt: None,
            attempts: 0,
            due: None,
        }
    }

    /// When [`Pair::poll`] is to be called.
    pub fn next(&self) -> Option<Instant> {
        self.due
    }

    /// Something is to be done at that time, or before.
    pub fn plan(&mut self, at: Instant) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    pub fn is_busy(&self, now: Instant) -> bool {
        self.last_data.is_some_and(|last| now.since(last) < IDLE_TIME)
    }

    /// The longest packet that the path in use carries, if that is less than usual.
    pub fn small_mtu(&self) -> Option<usize> {
        let path = self.active.map_or(&self.relay, |index| &self.straight[index]);
        Some(path.known_mtu()).filter(|&mtu| mtu < LENGTHS[0])
    }

    /// The longest packet that gets to the member at all, if that is less than `length`.
    pub fn shorter_mtu(&self, length: usize, has_relay: bool) -> Option<usize> {
        let straight = self.active.map(|index| self.straight[index].known_mtu());
        let relay = has_relay.then(|| self.relay.known_mtu());
        straight.max(relay).filter(|&mtu| mtu < length)
    }

    fn note_data(&mut self, now: Instant) {
        if !self.is_busy(now) {
            self.plan(now);
        }
        self.last_data = Some(now);
    }

    /// Sends a sealed packet by the path in use; by both, if that is in doubt.
    pub fn send_data(
        &mut self,
        relay: Option<Path>,
        datagram: &[u8],
        now: Instant,
        out: &mut dyn AgentOutput,
    ) {
        self.note_data(now);
        self.sent += datagram.len() as u64;
        let is_proven = |(_, path): &(usize, &PathState)| path.answers > 0;
        let answered = self.straight.iter().enumerate().filter(is_proven);
        let choice = match (self.active, relay) {
            (None, None) => answered.max_by_key(|(_, path)| path.heard).map(|(index, _)| index),
            (active, _) => active,
        };
        let mut by_relay = true;
        if let Some(path) = choice.and_then(|index| self.straight.get_mut(index)) {
            let fits = datagram.len().saturating_sub(KEEPALIVE_LENGTH) <= path.mtu;
            if fits || relay.is_none() {
                path.ends().send(datagram, out);
                path.on_sent(now);
            }
            by_relay = !fits || path.is_doubtful(now);
            let due = path.next();
            due.into_iter().for_each(|due| self.plan(due));
        }
        if by_relay && let Some(relay) = relay {
            out.send(relay, datagram);
            if self.is_agent {
                self.relay.on_sent(now);
                let due = self.relay.next();
                due.into_iter().for_each(|due| self.plan(due));
                let beside = self.standby.as_ref().filter(|standby| standby.is_proven());
                if let Some(standby) = beside.filter(|_| self.active.is_none() && self.relay.is_doubtful(now))
                {
                    out.send(standby.path.path, datagram);
                }
            }
        }
    }

    /// Sends by the straight path in use what went by the relay as well; by any, if there is no relay.
    pub fn send_beside(
        &mut self,
        relay: Option<Path>,
        datagram: &[u8],
        now: Instant,
        out: &mut dyn AgentOutput,
    ) {
        let newest = self.straight.iter().enumerate().max_by_key(|(_, path)| path.heard);
        let newest = newest.map(|(index, _)| index).filter(|_| relay.is_none() || self.relay.is_dead(now));
        if let Some(path) = self.active.or(newest).and_then(|index| self.straight.get(index)) {
            path.ends().send(datagram, out);
        }
    }

    /// Something authentic came from the member.
    pub fn on_received(
        &mut self,
        from: Ends,
        relay: Option<Path>,
        length: usize,
        is_data: bool,
        now: Instant,
    ) {
        self.allowance = (self.allowance + length).min(MAX_ALLOWANCE);
        if is_data {
            self.note_data(now);
        }
        if let Some(path) = self.path_mut(from, relay) {
            path.on_heard(is_data, now);
        }
    }

    pub fn path_mut(&mut self, from: Ends, relay: Option<Path>) -> Option<&mut PathState> {
        if relay.is_some_and(|relay| relay.remote == from.path.remote) {
            return Some(&mut self.relay);
        }
        if let Some(standby) = self.standby.as_mut().filter(|it| it.path.path.remote == from.path.remote) {
            return Some(&mut standby.path);
        }
        let is_it =
            |path: &&mut PathState| path.path.remote == from.path.remote && path.socket == from.socket;
        self.straight.iter_mut().find(is_it)
    }

    /// A session has come up, by an initiation of ours or not.
    pub fn on_session(&mut self, is_ours: bool, now: Instant) {
        let initiation = self.initiation.take().filter(|_| is_ours);
        self.is_cleaned_up = false;
        self.relay.forgive();
        self.show_standby(initiation, now);
        if self.is_agent && self.round_began.is_none() {
            self.begin_round(now);
        }
        if self.offering.answered.is_none() && (self.is_agent || self.introductions < INTRODUCTIONS) {
            self.introductions += 1;
            self.begin_offer(now);
        }
        self.plan(now);
    }

    /// Asks for a session soon and often: the relay knows now where we are, and soon where the member is.
    pub fn begin_attempts(&mut self, now: Instant) {
        if self.wanted.is_some_and(|wanted| now.since(wanted) < ATTEMPTS_TIME) {
            (self.next_attempt, self.attempts) = (Some(now), 0);
            self.plan(now);
        }
    }

    fn attempt(&mut self, turn: &mut AgentTurn<'_>) {
        let now = turn.now.instant;
        let Some(relay) =
            self.relay_path(turn.locality).filter(|_| self.next_attempt.is_some_and(|at| at <= now))
        else {
            return;
        };
        turn.device.probe(self.peer, relay.remote, turn.now);
        self.next_attempt = ATTEMPTS.get(self.attempts).map(|&wait| now + wait);
        self.attempts += 1;
    }

    /// It has shown to be an agent.
    pub fn on_agent(&mut self, now: Instant) {
        if !self.is_agent {
            self.is_agent = true;
            self.plan(now);
        }
    }

    /// Offers where we are, until that is answered.
    pub fn begin_offer(&mut self, now: Instant) {
        if !self.member.is_device {
            self.offering = Offering { due: Some(now), ..Offering::default() };
            self.plan(now);
        }
    }

    /// Asks all straight paths, from now on for some seconds.
    pub fn begin_round(&mut self, now: Instant) {
        (self.round, self.round_began) = (Some(Round { began: now, tick: 0 }), Some(now));
        self.retry_at = None;
        self.plan(now);
    }

    /// We are in another network: nothing is known of any path any more.
    pub fn on_new_network(&mut self, locality: &mut Locality, now: Instant) {
        for path in &mut self.straight {
            path.renew();
            path.number = locality.count_destination(path.path.remote);
        }
        self.relay.renew();
        if let Some(standby) = &mut self.standby {
            standby.renew(now);
        }
        (self.active, self.retries, self.held_until, self.holds) = (None, 0, Instant::ZERO, 0);
        (self.fall_back, self.wants_signal) = (None, !self.member.is_device);
        self.begin_round(now);
        self.begin_offer(now);
    }

    /// Does what is due.
    pub fn poll(&mut self, turn: &mut AgentTurn<'_>) {
        let now = turn.now.instant;
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        self.due = None;
        self.watch_failure(turn.device, now);
        // Also without a session, in which it could not go on.
        self.spray.take_if(|spray| spray.is_over(now));
        self.send_initiation(turn);
        if !turn.device.can_send(self.peer, now) {
            self.attempt(turn);
        } else {
            self.next_attempt = None;
            self.send_offer(turn);
            if self.is_agent {
                self.run_round(turn);
                self.keep_up(turn);
                self.keep_standby(turn);
                self.run_spray(turn);
            }
        }
        let active = self.active.and_then(|index| self.straight[index].next());
        let offer = self.offering.due.filter(|_| turn.device.can_send(self.peer, now));
        let round = self.round.filter(|_| self.is_agent).map(|round| round.due());
        let relay = self.relay.next().filter(|_| self.is_agent);
        let initiation = self.initiation_due(turn.locality.relay.is_some());
        let upkeep = self.upkeep_due(now).filter(|_| self.is_agent);
        let spray = self.spray.as_ref().map(|spray| spray.due(now));
        let standby = self.standby_due(now).filter(|_| self.is_agent);
        let cleanup = self.cleanup_due(now);
        let retry = self.retry_at.filter(|_| self.is_busy(now));
        [active, cleanup, self.next_attempt, standby, spray, offer, round, relay, initiation, upkeep, retry]
            .into_iter()
            .flatten()
            .filter(|&at| at > now)
            .for_each(|at| self.plan(at));
    }

    fn run_round(&mut self, turn: &mut AgentTurn<'_>) {
        let now = turn.now.instant;
        if self.retry_at.is_some_and(|at| at <= now) && self.is_busy(now) {
            self.begin_round(now);
            self.begin_offer(now);
        }
        let Some(round) = self.round.filter(|round| round.due() <= now) else { return };
        if round.tick == 0 && turn.locality.relay.is_some() {
            self.ask_relay(turn);
        }
        for index in 0..self.straight.len() {
            if Some(index) != self.active {
                self.ask(turn, index);
            }
        }
        let round = Round { tick: round.tick + 1, ..round };
        self.round = Some(round).filter(|round| round.tick < TICK_COUNT);
        if self.round.is_none() && self.active.is_none() {
            let wait = RETRIES[self.retries.min(RETRIES.len() - 1)];
            self.retry_at = Some((now + wait).max(self.held_until));
            self.retries += 1;
        }
    }

    pub fn ask_relay(&mut self, turn: &mut AgentTurn<'_>) {
        let peer = self.peer;
        if turn.locality.relay.is_some() {
            let length = self.relay.question_length().unwrap_or(0);
            self.relay.ask(turn, peer, length);
        }
    }

    /// Asks a straight path, if that is paid for.
    pub fn ask(&mut self, turn: &mut AgentTurn<'_>, index: usize) {
        let (peer, allowance) = (self.peer, self.allowance);
        let path = &mut self.straight[index];
        let Some(length) = path.question_length() else { return };
        let cost = turn.device.sealed_length(length.max(crate::wire::probe::PING_LENGTH));
        // That something came from there shows nothing: who sent it may have written another's address on it.
        let is_validated = path.answers > 0;
        if is_validated || allowance >= cost {
            let sent = path.ask(turn, peer, length);
            self.allowance -= if is_validated { 0 } else { sent };
        }
    }
}
