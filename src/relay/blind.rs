//! Blind forwarding: WireGuard between members, by nine rules, without a key to read it.
//!
//! 1. An initiation names its recipient by mac1. Only members' keys open the relay.
//! 2. A response names the initiator by mac1 and by the index that it echoes.
//! 3. An endpoint is learned only from a response that echoes an initiation, from where that was sent.
//! 4. A member is at its hub session's address, at a confirmed flow's, or found: where the index of a flow of its
//!    that is silent at its own address was seen, or by elimination. One initiation in, at most one copy out;
//!    candidates take turns, one per retry.
//! 5. Data goes by source address and receiver index alone. Indices that clash end the handshake.
//! 6. A cookie reply goes to whom it answers only, from where the answered message was sent.
//! 7. Nothing is rewritten.
//! 8. An unproven address gets at most as many bytes as came from it; initiations are paced.
//! 9. What is silent is forgotten.

use crate::datagram::Path;
use crate::keyed_hash::KeyedState;
use crate::relay::bindings::Sighting;
use crate::relay::books::Books;
use crate::relay::flow_key::FlowKey;
use crate::relay::flows::{Flow, Flows};
use crate::relay::limits::{LONGEST_PACE, Limits};
use crate::relay::pacing::{Paced, Pacer};
use crate::relay::pending::PendingTable;
use crate::relay::roster::MemberId;
use crate::relay::stats::{Count, DropReason, Reach};
use crate::relay::{Arrival, Output, Run};
use crate::time::Instant;
use crate::wireguard::message::{
    COOKIE_REPLY_LENGTH, INITIATION_LENGTH, Initiation, RESPONSE_LENGTH, Response,
};
use std::net::SocketAddr;

/// Answers to one initiation whose mac1 may fit nobody: each costs a trial per member of the party.
const MAX_MISFITS: u8 = 4;

/// Blind sessions and their handshakes.
pub(super) struct Blind {
    pub flows: Flows,
    pub pending: PendingTable,
    pub pacer: Pacer,
}

impl Blind {
    pub fn new(hasher: KeyedState) -> Self {
        Blind { flows: Flows::new(hasher), pending: PendingTable::new(hasher), pacer: Pacer::default() }
    }

    pub fn reserve(&mut self, members: usize) {
        self.flows.reserve(members);
        self.pending.reserve(members);
    }

    /// Whose mac1 `message` bears: first the parties of those that its source has to do with, then all.
    fn recipient(
        books: &mut Books,
        message: &[u8; INITIATION_LENGTH],
        source: SocketAddr,
        now: Instant,
    ) -> Result<MemberId, DropReason> {
        let roster = &books.roster;
        let fits = |&id: &MemberId| roster.get(id).is_some_and(|member| member.mac1.matches(message));
        let known: Option<MemberId> =
            books.sources.acquaintances(source).find(|&id| roster.get(id).is_some());
        if let Some(found) = known.and_then(|known| roster.mates(known).find(fits)) {
            return Ok(found);
        }
        if !books.admission.trials(roster.len(), &books.limits, now) {
            return Err(DropReason::HandshakeLimit);
        }
        let found = roster.iter().find(|(_, member)| member.mac1.matches(message));
        found.map(|(id, _)| id).ok_or(DropReason::NoMember)
    }

    /// Type 1 (rules 1, 4, 5, 8). Its source's share of handshakes was taken before.
    pub fn on_initiation(
        &mut self,
        books: &mut Books,
        message: Initiation<'_>,
        arrival: Arrival,
        out: &mut dyn Output,
    ) -> Result<(), DropReason> {
        let (source, now) = (arrival.source(), arrival.now.instant);
        let target = Self::recipient(books, message.bytes(), source, now)?;
        if !books.sources.note(source, &books.limits, now) {
            return Err(DropReason::TableFull);
        }
        books.sources.credit(source, INITIATION_LENGTH);
        books.sources.note_wanted(source, target, books.limits.members_per_party);
        if books.sources.member(source).is_none() {
            let parties = books.roster.get(target).map_or(&[][..], |member| member.parties());
            parties.iter().for_each(|&party| books.sources.note_newcomer(source, party, &books.limits));
        }
        let candidates = self.candidates(books, target, source, now);
        let to = candidates
            .beginning_with(books.sources.attempts(source, target))
            .find(|&to| books.sources.can_spare(to, INITIATION_LENGTH, now))
            .ok_or(if candidates.count == 0 { DropReason::NoAddress } else { DropReason::Unproven })?;
        self.check_index(message.sender(), source, to, now)?;
        let is_stranger = books.sources.member(source).is_none();
        let Books { sources, limits, .. } = books;
        let wait = sources.pace(to, is_stranger, limits, LONGEST_PACE, now).ok_or(DropReason::Paced)?;
        books.sources.count_attempt(source, target, false);
        if candidates.guessed {
            if books.sources.is_refuted(source, target, to) {
                books.sources.forget_guesses(source);
            }
            books.sources.note_guess(source, target, to);
        }
        let paced = Paced { due: now + wait, from: source, to, target, bytes: *message.bytes() };
        if wait.is_zero() {
            self.forward_initiation(books, &paced, now, out)
        } else if self.pacer.push(paced, Limits::share(books.limits.paced, is_stranger)) {
            Ok(())
        } else {
            Err(DropReason::Paced)
        }
    }

    /// Whether an answer from `to` with this index could only be for `source`'s new handshake.
    fn check_index(
        &mut self,
        index: u32,
        source: SocketAddr,
        to: SocketAddr,
        now: Instant,
    ) -> Result<(), DropReason> {
        let key = FlowKey::new(to, index);
        if let Some(pending) = self.pending.get_mut(&key, now) {
            return Err(if pending.initiator == source {
                DropReason::Duplicate
            } else {
                DropReason::IndexClash
            });
        }
        if self.flows.contains(&key) { Err(DropReason::IndexClash) } else { Ok(()) }
    }

    fn forward_initiation(
        &mut self,
        books: &mut Books,
        initiation: &Paced,
        now: Instant,
        out: &mut dyn Output,
    ) -> Result<(), DropReason> {
        let Paced { from, to, target, bytes, .. } = initiation;
        let is_stranger = books.sources.member(*from).is_none();
        if !self.pending.has_room(*target, is_stranger, &books.limits) {
            return Err(DropReason::TableFull);
        }
        if !books.sources.charge(*to, INITIATION_LENGTH) {
            return Err(DropReason::Unproven);
        }
        books.sources.await_answer(*from, now);
        self.pending.insert(FlowKey::new(*to, sender_index(bytes)), *from, *target, now);
        books.send(Path::to(*to), bytes, out);
        Ok(())
    }

    /// Sends initiations whose turn has come.
    pub fn poll(&mut self, books: &mut Books, now: Instant, out: &mut dyn Output) {
        while let Some(paced) = self.pacer.pop(now) {
            let sent = match books.roster.get(paced.target) {
                None => Err(DropReason::NoMember),
                Some(_) => self
                    .check_index(sender_index(&paced.bytes), paced.from, paced.to, now)
                    .and_then(|()| self.forward_initiation(books, &paced, now, out)),
            };
            if let Err(reason) = sent {
                books.stats.drop(reason);
            }
        }
    }

    /// Type 2 (rules 2, 3, 5, 8). `is_taken` tells indices that are the hub's.
    pub fn on_response(
        &mut self,
        books: &mut Books,
        message: Response<'_>,
        arrival: Arrival,
        is_taken: impl Fn(u32) -> bool,
        out: &mut dyn Output,
    ) -> Result<(), DropReason> {
        let (source, now) = (arrival.source(), arrival.now.instant);
        let to_initiator = FlowKey::new(source, message.receiver());
        let pending = self.pending.get_mut(&to_initiator, now).ok_or(DropReason::NoPending)?;
        let (at, responder) = (pending.initiator, pending.target);
        let roster = &books.roster;
        let fits = |&id: &MemberId| {
            id != responder && roster.get(id).is_some_and(|member| member.mac1.matches(message.bytes()))
        };
        // Who was last seen there is most likely the one.
        let guess = books.sources.member(at).filter(|&id| roster.shared_party(id, responder).is_some());
        let Some(initiator) = guess.filter(fits).or_else(|| roster.mates(responder).find(fits)) else {
            pending.misfits += 1;
            if pending.misfits >= MAX_MISFITS {
                self.pending.remove(&to_initiator);
            }
            return Err(DropReason::NoMember);
        };
        let party = roster.shared_party(initiator, responder).ok_or(DropReason::NoMember)?;
        self.pending.remove(&to_initiator);
        let to_responder = FlowKey::new(at, message.sender());
        let clash = [to_initiator, to_responder].iter().any(|key| self.flows.contains(key));
        if clash || to_initiator == to_responder || is_taken(message.sender()) || is_taken(message.receiver())
        {
            return Err(DropReason::IndexClash);
        }
        if self.flows.len() + 2 > books.limits.flows
            || self.flows.count_of(responder) + 2 > books.limits.flows_per_member
        {
            return Err(DropReason::TableFull);
        }
        books.sources.prove(source, now);
        if !books.sources.charge(at, RESPONSE_LENGTH) {
            return Err(DropReason::Unproven);
        }
        books.sources.count_attempt(at, responder, true);
        self.learn(books, responder, source, initiator, now);
        self.learn(books, initiator, at, responder, now);
        let flow = |from, receiver, to, twin, here: SocketAddr, echo| Flow {
            to,
            twin,
            from,
            receiver,
            party,
            bucket: books.admission.address_bucket(here),
            settled: false,
            echo,
            held: !echo,
            challenged: false,
            last: now,
            count: Count::default(),
        };
        let there = flow(initiator, responder, source, message.receiver(), at, true);
        let back = flow(responder, initiator, at, message.sender(), source, false);
        self.flows.insert(to_responder, there);
        self.flows.insert(to_initiator, back);
        books.stats.blind_handshakes += 1;
        books.forward(Path::to(at), message.bytes(), out);
        Ok(())
    }

    /// The only place where a blind handshake tells where somebody is (rule 3).
    fn learn(
        &self,
        books: &mut Books,
        member: MemberId,
        address: SocketAddr,
        witness: MemberId,
        now: Instant,
    ) {
        books.bindings.learn(member, address, witness, now);
        books.sources.touch(address, now);
        books.place(member, address);
        if let Some(stats) = books.members.get_mut(member.slot()) {
            stats.last_handshake = Some(now);
            if stats.path == Reach::None {
                stats.path = Reach::Blind;
            }
        }
    }

    /// Type 3 (rule 6): the answer to an initiation, or to the response that was the answer to one.
    pub fn on_cookie_reply(
        &mut self,
        books: &mut Books,
        datagram: &[u8],
        receiver: u32,
        arrival: Arrival,
        out: &mut dyn Output,
    ) -> Result<(), DropReason> {
        let key = FlowKey::new(arrival.source(), receiver);
        let to = if let Some(pending) = self.pending.get_mut(&key, arrival.now.instant) {
            if std::mem::replace(&mut pending.challenged, true) {
                return Err(DropReason::Duplicate);
            }
            pending.initiator
        } else {
            let flow = self.flows.get_mut(&key).filter(|flow| flow.echo).ok_or(DropReason::NoPending)?;
            if std::mem::replace(&mut flow.challenged, true) {
                return Err(DropReason::Duplicate);
            }
            flow.to
        };
        if !books.sources.charge(to, COOKIE_REPLY_LENGTH) {
            return Err(DropReason::Unproven);
        }
        books.forward(Path::to(to), datagram, out);
        Ok(())
    }

    /// Type 4 (rules 5 and 8): one look-up, the buckets, the counters.
    pub fn on_data(
        &mut self,
        books: &mut Books,
        datagram: &[u8],
        receiver: u32,
        arrival: Arrival,
        out: &mut dyn Output,
    ) -> Result<(), DropReason> {
        let (source, now) = (arrival.source(), arrival.now.instant);
        let length = datagram.len();
        let key = FlowKey::new(source, receiver);
        let flow = self.flows.get_mut(&key).ok_or(DropReason::NoFlow)?;
        if !books.admission.data(flow.from, flow.party, flow.bucket, length, now) {
            return Err(DropReason::DataLimit);
        }
        let first = !flow.settled && settle(books, flow, source, length, now)?;
        flow.last = now;
        flow.count.add(length);
        let (to, from, receiver) = (flow.to, flow.from, flow.receiver);
        if first {
            let twin = flow.twin_key();
            if let Some(twin) = self.flows.get_mut(&twin) {
                twin.held = false;
            }
        }
        books.count_data(from, receiver, 1, length);
        books.stats.blind.add(length);
        books.forward(Path::to(to), datagram, out);
        Ok(())
    }

    /// Counts data that no flow is for. If it bears the index of one, whose sender may have moved to where it came
    /// from, that is remembered, and said whose flow it is.
    pub fn on_stray(
        &mut self,
        books: &mut Books,
        length: usize,
        receiver: u32,
        arrival: Arrival,
    ) -> Option<MemberId> {
        let (source, now) = (arrival.source(), arrival.now.instant);
        let sighted = self.flows.with_index(receiver).and_then(|flow| {
            let Flow { from: member, receiver: witness, .. } = *flow;
            if books.sources.member(source).is_some_and(|there| there != member) {
                return None;
            }
            if !books.sources.note(source, &books.limits, now) {
                return None;
            }
            let sighting = Sighting { address: source, index: receiver, witness: Some(witness), at: now };
            if let Some(forgotten) = books.bindings.sight(member, sighting) {
                books.sources.forget_stray(forgotten);
            }
            Some(member)
        });
        books.sources.credit(source, length);
        sighted
    }

    /// As [`Blind::on_data`], for datagrams of one flow, if nothing is left
    /// to be checked but whether all of them are within the buckets.
    pub fn on_run(
        &mut self,
        books: &mut Books,
        run: Run<'_>,
        receiver: u32,
        arrival: Arrival,
        out: &mut dyn Output,
    ) -> bool {
        let (source, now) = (arrival.source(), arrival.now.instant);
        let (bytes, count) = (run.bytes.len(), run.count);
        let flow = self.flows.get_mut(&FlowKey::new(source, receiver)).filter(|flow| flow.settled);
        let Some(flow) = flow else { return false };
        if !books.admission.data(flow.from, flow.party, flow.bucket, bytes, now) {
            return false;
        }
        flow.last = now;
        flow.count.add_run(count, bytes);
        books.count_data(flow.from, flow.receiver, count, bytes);
        for all in [&mut books.stats.received, &mut books.stats.blind, &mut books.stats.sent] {
            all.add_run(count, bytes);
        }
        out.forward(Path::to(flow.to), run.bytes, run.segment);
        true
    }

    /// Moves a member's flows to where its hub session is.
    pub fn relocate(&mut self, books: &Books, member: MemberId, address: SocketAddr) {
        self.flows.relocate(member, address, books.admission.address_bucket(address));
    }

    /// Cuts what `member` may not have any more: everything with those it shares no party with.
    pub fn cut(&mut self, books: &Books, member: MemberId, now: Instant) {
        self.flows.cut(member, |other| books.roster.shared_party(member, other).is_some());
        self.pending.sweep(now, |pending| books.roster.get(pending.target).is_some());
    }

    /// Forgets what has expired (rule 9).
    pub fn sweep(&mut self, now: Instant) {
        self.flows.sweep(now);
        self.pending.sweep(now, |_| true);
    }

    pub fn is_empty(&self) -> bool {
        self.flows.is_empty() && self.pending.is_empty()
    }
}

/// The index that an initiation's sender chose.
fn sender_index(message: &[u8; INITIATION_LENGTH]) -> u32 {
    u32::from_le_bytes([message[4], message[5], message[6], message[7]])
}

/// Judges data of a flow whose addresses are not both known to be proven. Whether it is the first of a session.
#[cold]
fn settle(
    books: &mut Books,
    flow: &mut Flow,
    source: SocketAddr,
    length: usize,
    now: Instant,
) -> Result<bool, DropReason> {
    if flow.echo {
        books.sources.prove(source, now);
    }
    books.sources.credit(source, length);
    if flow.held || !books.sources.charge(flow.to, length) {
        return Err(DropReason::Unproven);
    }
    let first = std::mem::take(&mut flow.echo);
    flow.settled = books.sources.is_proven(source) && books.sources.is_proven(flow.to);
    Ok(first)
}
