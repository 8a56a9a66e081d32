//! A WireGuard peer as the search sees it: it follows the protocol of the kernel's implementation, but whether a
//! message is genuine is looked up in the messages instead of calculated.

use super::fingerprint::Fingerprint;
use super::messages::{Made, MessageLog, Who, sender_index};
use crate::time::Instant;
use std::net::SocketAddr;
use std::time::Duration;

/// After this a handshake is tried again, and no sooner (paper 6.1: Rekey-Timeout).
const RETRY: Duration = Duration::from_secs(5);
/// Keepalive-Timeout and Rekey-Timeout: who gets no answer for so long tries a new handshake.
const DEAD: Duration = Duration::from_secs(15);
/// Rekey-After-Time.
const REKEY: Duration = Duration::from_secs(120);
/// Reject-After-Time.
const REJECT: Duration = Duration::from_secs(180);

#[derive(Clone, Copy, Debug)]
struct SimulatedSession {
    /// Which initiation it came of.
    initiation: usize,
    /// What data to us bears.
    own: u32,
    /// What data to the other one bears.
    others: u32,
    is_initiator: bool,
    began: Instant,
    heard: Instant,
    said: Instant,
}

/// What an app keeps of one of its peers. There is one handshake at a time: who answers an initiation has forgotten
/// its own.
#[derive(Debug)]
pub struct Correspondent {
    pub with: Who,
    initiation: Option<(u32, usize)>,
    answered: Option<SimulatedSession>,
    session: Option<SimulatedSession>,
    previous: Option<SimulatedSession>,
    last_handshake: Option<Instant>,
    /// The newest initiation that was answered; older ones are replays.
    newest: usize,
    /// When data last came.
    pub heard: Option<Instant>,
}

pub struct Honest {
    pub who: Who,
    pub address: SocketAddr,
    /// Whether its app is on. It then wants a session with everybody it knows, all the time.
    pub is_on: bool,
    pub correspondents: Vec<Correspondent>,
}

impl Honest {
    pub fn new(who: Who, address: SocketAddr, with: &[Who]) -> Self {
        let correspondent = |&with: &Who| Correspondent {
            with,
            initiation: None,
            answered: None,
            session: None,
            previous: None,
            last_handshake: None,
            newest: 0,
            heard: None,
        };
        Honest { who, address, is_on: false, correspondents: with.iter().map(correspondent).collect() }
    }

    /// When it next tries a handshake. Two are never on the second together: WireGuard draws that.
    pub fn next_try(&self, now: Instant) -> Option<Instant> {
        let retry = RETRY + Duration::from_millis(if self.who == Who::Bert { 100 } else { 0 });
        let of = |one: &Correspondent| {
            let due = one.last_handshake.map_or(now, |last| (last + retry).max(now));
            one.wants_handshake(now).then_some(due)
        };
        self.correspondents.iter().filter(|_| self.is_on).filter_map(of).min()
    }

    /// Sends initiations that are due.
    pub fn tries(&mut self, messages: &mut MessageLog, now: Instant, out: &mut Vec<Vec<u8>>) {
        let retry = RETRY + Duration::from_millis(if self.who == Who::Bert { 100 } else { 0 });
        let who = self.who;
        for one in self.correspondents.iter_mut().filter(|_| self.is_on) {
            if one.wants_handshake(now) && one.last_handshake.is_none_or(|last| now.since(last) >= retry) {
                let index = messages.index();
                let (content, bytes) = messages.initiation(who, one.with, index, true);
                (one.initiation, one.last_handshake) = (Some((index, content)), Some(now));
                out.push(bytes);
            }
        }
    }

    /// Says something to everybody with whom it has a session.
    pub fn says(&mut self, messages: &mut MessageLog, now: Instant, out: &mut Vec<Vec<u8>>) {
        let who = self.who;
        for one in self.correspondents.iter_mut().filter(|_| self.is_on) {
            let session = one.session.as_mut().filter(|session| now.since(session.began) < REJECT);
            if let Some(session) = session {
                session.said = now;
                out.push(
                    messages.data(Made::Data { by: who, initiation: session.initiation }, session.others),
                );
            }
        }
    }

    /// Takes a message, and answers what is genuine.
    pub fn takes(&mut self, messages: &mut MessageLog, bytes: &[u8], now: Instant, out: &mut Vec<Vec<u8>>) {
        let who = self.who;
        let Some((content, made)) = messages.made(bytes) else { return };
        let by = match made {
            Made::Initiation { by, to, .. } | Made::Response { by, to, .. } if to == who => by,
            Made::Data { by, .. } => by,
            _ => return,
        };
        let Some(one) = self.correspondents.iter_mut().find(|one| one.with == by) else { return };
        match made {
            Made::Initiation { index, .. } if content > one.newest => {
                let own = messages.index();
                let session = SimulatedSession {
                    initiation: content,
                    own,
                    others: index,
                    is_initiator: false,
                    began: now,
                    heard: now,
                    said: now,
                };
                (one.newest, one.initiation, one.answered) = (content, None, Some(session));
                one.last_handshake = Some(now);
                let made = Made::Response { by: who, to: by, initiation: content, index: own };
                out.push(messages.response(made, by, index, own));
            }
            Made::Response { initiation, .. } => {
                let Some((own, _)) = one.initiation.filter(|&(_, known)| known == initiation) else { return };
                one.initiation = None;
                one.previous = one.session.replace(SimulatedSession {
                    initiation,
                    own,
                    others: sender_index(bytes),
                    is_initiator: true,
                    began: now,
                    heard: now,
                    said: now,
                });
                out.push(messages.data(Made::Data { by: who, initiation }, sender_index(bytes)));
            }
            Made::Data { initiation, .. } => {
                let is_it = |session: &Option<SimulatedSession>| {
                    session.is_some_and(|session| session.initiation == initiation)
                };
                if is_it(&one.answered) {
                    one.previous = one.session.take();
                    one.session = one.answered.take();
                    if let Some(session) = &one.session {
                        out.push(messages.data(Made::Data { by: who, initiation }, session.others));
                    }
                } else if !is_it(&one.session) && !is_it(&one.previous) {
                    return;
                }
                one.heard = Some(now);
                if let Some(session) = &mut one.session {
                    session.heard = now;
                }
            }
            _ => (),
        }
    }

    pub fn describe(&self, to: &mut Fingerprint) {
        to.address(self.address).number(self.is_on.into());
        for one in &self.correspondents {
            to.number(one.initiation.is_some().into());
            one.initiation.iter().for_each(|&(index, _)| _ = to.index(index));
            for session in [&one.answered, &one.session, &one.previous] {
                let Some(session) = session else {
                    to.number(7);
                    continue;
                };
                to.index(session.own).index(session.others).number(session.is_initiator.into());
                to.age(session.began).age(session.heard).age(session.said);
            }
            one.last_handshake.iter().for_each(|&at| _ = to.age(at));
            one.heard.iter().for_each(|&at| _ = to.age(at));
        }
    }
}

impl Correspondent {
    fn wants_handshake(&self, now: Instant) -> bool {
        self.session.is_none_or(|session| {
            let age = now.since(session.began);
            let is_deaf = session.said > session.heard && now.since(session.heard) >= DEAD;
            is_deaf || age >= REKEY && session.is_initiator || age >= REJECT
        })
    }
}
