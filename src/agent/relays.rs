//! The relays that the control plane lists: how far each is, by STUN from the one socket. Nothing else is sent to one before
//! it has answered that; a list may name anybody's address. All are asked every five minutes, the three best every minute.

use crate::agent::AgentOutput;
use crate::agent::mappings::{DestinationNumber, SeenAs};
use crate::agent::nat;
use crate::agent::network::ListedRelay;
use crate::agent::view::MeasuredRelay;
use crate::crypto::random;
use crate::time::Instant;
use crate::wire::probe::{MAX_RELAYS, RelayDistance};
use crate::wire::stun;
use crate::wireguard::peer::PeerIndex;
use std::net::SocketAddr;
use std::time::Duration;

/// Relays of a list that are measured at most.
const MAX_LISTED: usize = 16;
/// When one is asked, from the beginning of a report on; after the last it is over.
const TRIES: [Duration; 3] = [Duration::ZERO, Duration::from_millis(400), Duration::from_millis(1200)];
const REPORT_TIME: Duration = Duration::from_millis(2500);
/// Between reports on the three best, and how many of them there are before one on all.
const INTERVAL: Duration = Duration::from_secs(60);
const REPORTS_PER_FULL: u32 = 5;
/// Between reports that somebody is in a hurry for.
const REST: Duration = Duration::from_secs(10);
const BEST: usize = 3;
/// One that never carried anything, and did not answer so often in a row, is asked in every twelfth full report only, and once.
const PATIENCE: u32 = 3;
const SELDOM: u32 = 12;
/// The least by which distances differ for anybody to care.
pub(super) const MARGIN: Duration = Duration::from_millis(10);

/// One of them, and what is known of it.
pub(super) struct KnownRelay {
    pub listed: ListedRelay,
    /// By what members mean the same relay.
    pub mark: u32,
    /// Whether it is the one that is the party's hub.
    pub is_home: bool,
    /// Its hub, while that is told where we are.
    pub hub: Option<PeerIndex>,
    /// When its hub may be asked for a session again, and how often it was in vain.
    pub hub_due: Instant,
    pub hub_tries: usize,
    /// How far it is; `None` if it did not answer last.
    pub round_trip: Option<Duration>,
    /// As whom it sees us in this network, and its place among our destinations there.
    seen: Option<SocketAddr>,
    number: Option<DestinationNumber>,
    is_counted: bool,
    /// The question of this report, and when it was sent.
    question: Option<([u8; 12], Instant)>,
    tries: usize,
    is_asked: bool,
    has_answered: bool,
    /// Reports in a row that it did not answer in.
    failures: u32,
    /// Whether it has carried anything yet, how often it did not, and until when it is not tried again.
    has_carried: bool,
    vain: u32,
    pub rests_until: Instant,
}

/// All of them.
#[derive(Default)]
pub(super) struct KnownRelays {
    /// As they were told.
    pub list: Vec<ListedRelay>,
    /// Those of them that may be asked.
    pub known: Vec<KnownRelay>,
    began: Option<Instant>,
    is_reporting: bool,
    reports: u32,
    hurried: Option<Instant>,
    /// What members were told last.
    told: Vec<RelayDistance>,
}

impl KnownRelays {
    /// Takes over the list. What is known of those that were in it before stays. `accepts` says which addresses may be asked,
    /// `is_home` which of them is the hub. Those that are gone are given back.
    pub fn set(
        &mut self,
        list: &[ListedRelay],
        is_home: impl Fn(&ListedRelay) -> bool,
        now: Instant,
    ) -> Vec<KnownRelay> {
        let mut before = std::mem::take(&mut self.known);
        for listed in list.iter().take(MAX_LISTED) {
            let is_same = |known: &mut KnownRelay| known.listed.is_same(listed);
            if self.known.iter().any(|known| known.mark == listed.mark()) {
                continue;
            }
            let known = before.extract_if(.., is_same).next();
            let is_home = is_home(listed);
            self.known.push(match known {
                Some(known) => KnownRelay { listed: listed.clone(), is_home, ..known },
                None => KnownRelay {
                    mark: listed.mark(),
                    listed: listed.clone(),
                    is_home,
                    hub: None,
                    hub_due: now,
                    hub_tries: 0,
                    round_trip: None,
                    seen: None,
                    number: None,
                    is_counted: false,
                    question: None,
                    tries: 0,
                    is_asked: false,
                    has_answered: false,
                    failures: 0,
                    has_carried: false,
                    vain: 0,
                    rests_until: Instant::ZERO,
                },
            });
        }
        if self.known.iter().any(|known| known.failures == 0 && known.round_trip.is_none()) {
            self.hurry(now);
        }
        before
    }

    /// Measures all of them, from now on, unless that was begun just before.
    pub fn hurry(&mut self, now: Instant) {
        if self.hurried.is_none_or(|last| now.since(last) >= REST) {
            (self.reports, self.hurried) = (0, Some(now));
            self.begin(now);
        }
    }

    fn begin(&mut self, now: Instant) {
        if self.known.is_empty() {
            self.began = None;
            return;
        }
        let is_full = self.reports.is_multiple_of(REPORTS_PER_FULL);
        let is_seldom = (self.reports / REPORTS_PER_FULL).is_multiple_of(SELDOM);
        self.known.sort_by_key(|known| (known.round_trip.unwrap_or(Duration::MAX), known.mark));
        for (rank, known) in self.known.iter_mut().enumerate() {
            let is_due = known.failures < PATIENCE || known.has_carried || known.is_home || is_seldom;
            known.is_asked = if is_full { is_due } else { rank < BEST && known.round_trip.is_some() };
            (known.question, known.has_answered) = (None, false);
            known.tries = if known.failures < PATIENCE { 0 } else { TRIES.len() - 1 };
        }
        (self.began, self.is_reporting) = (Some(now), true);
        self.reports += 1;
    }

    /// Takes an answer, if it is one; whether it sees us as somebody else than before.
    pub fn receive(&mut self, datagram: &[u8], from: SocketAddr, now: Instant) -> Option<bool> {
        for known in self.known.iter_mut().filter(|known| known.listed.endpoint == from) {
            let Some((transaction, at)) = &known.question else { continue };
            if let Some(seen) = stun::mapped_address(datagram, transaction) {
                known.round_trip = Some(now.since(*at));
                (known.question, known.has_answered, known.failures) = (None, true, 0);
                return Some(known.seen.replace(seen).is_some_and(|before| before != seen));
            }
        }
        None
    }

    /// As whom they see us, those besides the party's own: always in the same order.
    pub fn seen(&self) -> impl Iterator<Item = SeenAs> {
        let mut known: Vec<_> = self.known.iter().filter(|known| !known.is_home).collect();
        known.sort_by_key(|known| known.mark);
        known.into_iter().filter_map(|known| {
            let asked = known.listed.endpoint;
            Some(SeenAs { asked, address: known.seen?, number: known.number })
        })
    }

    /// Nobody has seen us in this network yet.
    pub fn forget_sight(&mut self) {
        for known in &mut self.known {
            (known.seen, known.number, known.is_counted, known.question) = (None, None, false, None);
        }
    }

    /// One that is about to be asked, and has no place among our destinations yet.
    pub fn uncounted(&self) -> Option<SocketAddr> {
        // The party's own is asked as such before.
        let is_it = |known: &&KnownRelay| {
            known.is_asked && !known.has_answered && !known.is_counted && !known.is_home
        };
        let known = self.known.iter().filter(|_| self.is_reporting).find(is_it)?;
        Some(known.listed.endpoint)
    }

    /// The place of what is there.
    pub fn set_number(&mut self, endpoint: SocketAddr, number: Option<DestinationNumber>) {
        for known in self.known.iter_mut().filter(|known| known.listed.endpoint == endpoint) {
            (known.number, known.is_counted) = (number, true);
        }
    }

    /// Whether some have not answered, and still may.
    pub fn is_waiting(&self) -> bool {
        self.is_reporting && self.known.iter().any(|known| known.is_asked && !known.has_answered)
    }

    /// Sends what is due. Whether a report is over by now, and whether it has anything that is new to members.
    pub fn poll(&mut self, now: Instant, out: &mut dyn AgentOutput) -> Option<bool> {
        let mut began = self.began?;
        if !self.is_reporting && now.since(began) >= INTERVAL {
            self.begin(now);
            began = now;
        }
        if !self.is_reporting {
            return None;
        }
        for known in self.known.iter_mut().filter(|known| known.is_asked && !known.has_answered) {
            if TRIES.get(known.tries).is_some_and(|&wait| began + wait <= now) {
                known.tries += 1;
                // No stranger can guess it.
                let transaction = random::bytes();
                known.question = Some((transaction, now));
                nat::ask(&transaction, false, known.listed.endpoint, out);
            }
        }
        let is_over = now.since(began) >= REPORT_TIME;
        if !is_over && self.is_waiting() {
            return None;
        }
        self.is_reporting = false;
        for known in self.known.iter_mut().filter(|known| known.is_asked && !known.has_answered) {
            (known.round_trip, known.failures) = (None, known.failures + 1);
        }
        Some(self.is_news())
    }

    /// When something is due.
    pub fn next(&self) -> Option<Instant> {
        let began = self.began?;
        if !self.is_reporting {
            return Some(began + INTERVAL);
        }
        let waiting = self.known.iter().filter(|known| known.is_asked && !known.has_answered);
        waiting
            .filter_map(|known| TRIES.get(known.tries))
            .map(|&wait| began + wait)
            .chain([began + REPORT_TIME])
            .min()
    }

    /// The nearest ones, for members.
    pub fn distances(&self) -> Vec<RelayDistance> {
        let mut all: Vec<_> = self.known.iter().filter_map(KnownRelay::distance).collect();
        all.sort_by_key(|relay| (relay.millis, relay.mark));
        all.truncate(MAX_RELAYS);
        all
    }

    /// Whether members have to be told anew; they are then.
    fn is_news(&mut self) -> bool {
        let new = self.distances();
        let is_known = |new: &RelayDistance| {
            self.told.iter().any(|old| {
                let change = Duration::from_millis(old.millis.abs_diff(new.millis).into());
                old.mark == new.mark && change < margin(Duration::from_millis(old.millis.into()))
            })
        };
        let is_news = new.len() != self.told.len() || !new.iter().all(is_known);
        if is_news {
            self.told = new;
        }
        is_news
    }

    /// The one with this mark has carried something.
    pub fn note_proof(&mut self, mark: u32) {
        if let Some(known) = self.known.iter_mut().find(|known| known.mark == mark) {
            (known.has_carried, known.vain, known.rests_until) = (true, 0, Instant::ZERO);
        }
    }

    /// It has not. If it never did, it is left alone for `rest`, and four times that each time.
    pub fn note_failure(&mut self, mark: u32, rest: Duration, now: Instant) {
        if let Some(known) = self.known.iter_mut().find(|known| known.mark == mark && !known.has_carried) {
            known.rests_until = now + rest * 4u32.pow(known.vain.min(4));
            known.vain += 1;
        }
    }

    /// The one with this mark.
    pub fn with_mark(&self, mark: u32) -> Option<&KnownRelay> {
        self.known.iter().find(|known| known.mark == mark)
    }

    /// The mark of the party's hub; 0 if the list does not have it.
    pub fn home_mark(&self) -> u32 {
        self.known.iter().find(|known| known.is_home).map_or(0, |known| known.mark)
    }

    /// Whether one of them is there.
    pub fn has(&self, address: SocketAddr) -> bool {
        self.known.iter().any(|known| known.listed.endpoint == address)
    }
}

/// By how much another distance must differ from this one to make a difference: by 10 ms, and by a third.
pub(super) fn margin(distance: Duration) -> Duration {
    MARGIN.max(distance / 3)
}

impl KnownRelay {
    /// For people; so many members use it.
    pub fn measured(&self, members: usize) -> MeasuredRelay<'_> {
        let ListedRelay { id, endpoint, .. } = &self.listed;
        MeasuredRelay { id, endpoint: *endpoint, round_trip: self.round_trip, members }
    }

    /// Whether it may carry what members send: it is said to serve the party, or is the one where that begins.
    pub fn is_for_members(&self) -> bool {
        self.listed.serves || self.is_home
    }

    /// For members, if they can use it.
    fn distance(&self) -> Option<RelayDistance> {
        let round_trip = self.round_trip.filter(|_| self.is_for_members())?;
        let millis = u16::try_from(round_trip.as_millis()).unwrap_or(u16::MAX);
        Some(RelayDistance { mark: self.mark, millis })
    }
}
