//! How agents tell each other where they are: by offers, which are answered, and by where their probes come from.

use crate::agent::ends::Ends;
use crate::agent::mappings::DestinationNumber;
use crate::agent::pair::{Offering, Pair};
use crate::agent::path::{DOUBT_TIME, PathState};
use crate::agent::turn::AgentTurn;
use crate::datagram::Path;
use crate::time::Instant;
use crate::wire::probe::{CandidateKind, MAX_CANDIDATES, Offer, PING_LENGTH, Probe};
use std::time::Duration;

/// Straight paths that are known of one member at most.
const MAX_STRAIGHT: usize = 12;
/// An offer that nothing new is in begins a round at most this often.
const ROUND_INTERVAL: Duration = Duration::from_secs(2);
/// When our own offer is sent until it is answered, each from the one before on.
const OFFER_WAITS: [Duration; 5] = [
    Duration::from_millis(300),
    Duration::from_millis(700),
    Duration::from_secs(2),
    Duration::from_secs(7),
    Duration::from_secs(20),
];
/// Offers to one that has not shown to be an agent.
const BLIND_OFFERS: usize = 2;
/// An offer fills its packet: that is allowance for the probes that it asks for.
const OFFER_LENGTH: usize = 1420;
/// When a new network is offered, paths on which something came within this time are of it.
const FRESH_TIME: Duration = Duration::from_secs(1);

impl Pair {
    /// Takes a probe from the member.
    pub(super) fn on_probe(&mut self, turn: &mut AgentTurn<'_>, from: Ends, probe: Probe) {
        let now = turn.now.instant;
        let relay = self.relay_path(turn.locality);
        self.on_agent(now);
        match probe {
            Probe::Ping { id } => {
                self.answer(turn, from, id);
                self.note_source(turn, from);
            }
            Probe::Pong { id, source, received } => {
                if id == self.offering.id && self.offering.tries > 0 {
                    let generation = turn.locality.generation;
                    self.offering = Offering { answered: Some(generation), ..Offering::default() };
                }
                self.on_answer(turn, from, (id, source, received));
            }
            Probe::Offer { id, offer } => {
                self.answer(turn, from, id);
                self.on_offer(turn, offer);
            }
            Probe::Hearing { sources, .. } => self.on_hearing(&sources, now),
            Probe::Punch { .. } => self.on_punch(turn, relay),
            Probe::Drain => self.on_goodbye(),
        }
        self.plan(now);
    }

    /// Says that we leave, by all paths that may be in use.
    pub(super) fn say_goodbye(&mut self, turn: &mut AgentTurn<'_>) {
        let straight = self.active.map(|index| self.straight[index].ends());
        for to in self.relay_path(turn.locality).map(Ends::from).into_iter().chain(straight) {
            turn.send_probe(self.peer, to, &Probe::Drain, 0);
        }
    }

    /// The member leaves: what there is to it is no more, until it offers something new.
    pub(super) fn on_goodbye(&mut self) {
        self.straight.clear();
        (self.active, self.round, self.retry_at, self.spray) = (None, None, None, None);
        (self.offer, self.last_data, self.is_agent) = (None, None, false);
        (self.standby, self.initiation, self.offering) = (None, None, Offering::default());
        self.relay.renew();
    }

    /// Answers on the path by which it was asked.
    fn answer(&mut self, turn: &mut AgentTurn<'_>, from: Ends, id: u32) {
        let relay = self.relay_path(turn.locality);
        let known = self.path_mut(from, relay).map(|path| (path.received, path.answers > 0));
        let (received, is_validated) = known.unwrap_or_default();
        if !is_validated && !turn.locality.is_relay(from.path) {
            let cost = turn.device.sealed_length(PING_LENGTH);
            let Some(left) = self.allowance.checked_sub(cost) else { return };
            self.allowance = left;
        }
        turn.send_probe(self.peer, from, &Probe::Pong { id, source: from.path.remote, received }, 0);
    }

    /// It is at a place that nobody knew of: it is asked there at once, as our NAT is open for it.
    pub(super) fn note_source(&mut self, turn: &mut AgentTurn<'_>, from: Ends) {
        let now = turn.now.instant;
        if turn.locality.is_relay(from.path) || turn.locality.relays.has(from.path.remote) {
            return;
        }
        let is_it = |path: &PathState| path.path.remote == from.path.remote && path.socket == from.socket;
        let index = match self.straight.iter().position(is_it) {
            Some(index) => index,
            None => {
                let is_sane = turn.locality.is_unicast(from.path.remote.ip());
                if !is_sane || self.straight.len() >= MAX_STRAIGHT && !self.make_room() {
                    return;
                }
                let mut path = PathState::new(from.path, CandidateKind::Observed);
                path.socket = from.socket;
                path.number = turn.locality.count_destination(from.path.remote);
                path.on_heard(false, now);
                self.straight.push(path);
                self.straight.len() - 1
            }
        };
        self.straight[index].path = from.path;
        // Our own questions may have come too early for its NAT; now they do not.
        if self.straight[index].answers == 0 {
            self.ask(turn, index);
        }
    }

    /// Gives up the straight path that has shown the least.
    fn make_room(&mut self) -> bool {
        let idle = |&(index, _): &(usize, &PathState)| Some(index) != self.active;
        let paths = self.straight.iter().enumerate().filter(idle);
        let Some((index, _)) = paths.min_by_key(|(_, path)| (path.answers, path.heard)) else { return false };
        self.straight.remove(index);
        self.active = self.active.map(|active| active - usize::from(active > index));
        true
    }

    /// It says where it is.
    pub(super) fn on_offer(&mut self, turn: &mut AgentTurn<'_>, offer: Offer) {
        let now = turn.now.instant;
        self.on_agent(now);
        let is_new = self.offer.is_none_or(|known| known.generation != offer.generation);
        if is_new {
            let active = self.active.map(|index| self.straight[index].path.remote);
            let is_fresh = |path: &PathState| path.heard.is_some_and(|heard| now.since(heard) < FRESH_TIME);
            // Data may have come from where it was just before.
            let is_known = self.offer.is_some();
            self.straight.retain(|path| is_fresh(path) && (!is_known || Some(path.path.remote) != active));
            (self.active, self.retries, self.held_until, self.holds) = (None, 0, Instant::ZERO, 0);
            self.relay.forgive();
        }
        self.offer = Some(offer);
        let mut has_new = false;
        for candidate in offer.candidates.iter().flatten() {
            let address = candidate.address;
            let is_known = self.straight.iter().any(|path| path.path.remote == address);
            if is_known || !turn.locality.accepts(address) || !turn.locality.has_family_of(address) {
                continue;
            }
            if self.straight.len() < MAX_STRAIGHT || self.make_room() {
                let mut path = PathState::new(Path::to(address), candidate.kind);
                path.number = turn.locality.count_destination(address);
                self.straight.push(path);
                has_new = true;
            }
        }
        if let (None, Some(path)) = (turn.locality.relay, self.straight.first()) {
            // Handshakes begin there, and go to all other candidates as well.
            turn.device.set_endpoint(self.peer, path.path.remote, now);
        }
        self.choose_relays(turn);
        let is_due = self.round_began.is_none_or(|began| now.since(began) >= ROUND_INTERVAL);
        if has_new || is_new || self.active.is_none() && is_due {
            self.begin_round(now);
        }
        if self.offering.answered != Some(turn.locality.generation) && self.offering.due.is_none() {
            self.begin_offer(now);
        }
    }

    /// The number of the first of its addresses among our destinations.
    pub(super) fn first_number(&self) -> Option<DestinationNumber> {
        self.straight.iter().filter_map(|path| path.number).min_by_key(|number| number.endpoint)
    }

    pub(super) fn send_offer(&mut self, turn: &mut AgentTurn<'_>) {
        let now = turn.now.instant;
        if self.offering.due.is_none_or(|due| due > now) {
            return;
        }
        let straight = self.active.or(if self.straight.is_empty() { None } else { Some(0) });
        let straight = straight.map(|index| self.straight[index].ends());
        let Some(to) = self.relay_path(turn.locality).map(Ends::from).or(straight) else { return };
        if self.offering.tries == 0 {
            self.offering.id = turn.random.next_u64() as u32;
        }
        let offer = turn.locality.offer(self.first_number(), self.distances(turn.locality));
        // A path that carries no long packets gets a short one in between.
        let length = if self.offering.tries.is_multiple_of(2) { OFFER_LENGTH } else { 0 };
        turn.send_probe(self.peer, to, &Probe::Offer { id: self.offering.id, offer }, length);
        let tries = self.offering.tries;
        self.offering.tries += 1;
        let is_over = !self.is_agent && tries + 1 >= BLIND_OFFERS;
        self.offering.due = OFFER_WAITS.get(tries).filter(|_| !is_over).map(|&wait| now + wait);
    }

    /// Tells the member where something comes from that it sends.
    pub(super) fn send_hearing(&mut self, turn: &mut AgentTurn<'_>) {
        let now = turn.now.instant;
        let Some(to) = self.relay_path(turn.locality) else { return };
        let mut sources = [None; MAX_CANDIDATES];
        let heard = |path: &&PathState| path.heard.is_some_and(|heard| now.since(heard) < DOUBT_TIME);
        let fresh = self.straight.iter().filter(heard).map(|path| path.path.remote);
        sources.iter_mut().zip(fresh).for_each(|(entry, source)| *entry = Some(source));
        let id = turn.random.next_u64() as u32;
        turn.send_probe(self.peer, to.into(), &Probe::Hearing { id, sources }, 0);
    }
}
