//! Blind forwarding: WireGuard between members, by nine rules, without a key to read it.
//!
//! 1. An initiation names its recipient by mac1. Only members' keys open the relay.
//! 2. A response names the initiator by mac1 and by the index that it echoes.
//! 3. A response from where the initiation was sent is an offer, no more: who got the initiation can forge it. The
//!    initiator's first data on the new session confirms the responder and both endpoints. Until then nothing is
//!    learned, counted as answered, or shown.
//! 4. A member is at its hub session's address, at a confirmed flow's, or found: where the index of a flow of its
//!    was seen since it was last heard, or by elimination among those who are where it speaks to the control plane
//!    from. One initiation in, at most one copy out; candidates take turns, one per retry.
//! 5. Data goes by source address and receiver index alone. Indices that clash end the handshake.
//! 6. A cookie reply goes to whom it answers only, from where the answered message was sent.
//! 7. Nothing is rewritten.
//! 8. An address that is not validated gets at most as many bytes as came from it; initiations are paced.
//! 9. What is silent is forgotten.

use crate::datagram::Path;
use crate::figures::{DropReason, Figure, Reach, Traffic, Volume};
use crate::keyed_hash::KeyedState;
use crate::relay::DatagramRun;
use crate::relay::endpoints::Sighting;
use crate::relay::flow_key::FlowKey;
use crate::relay::flows::{Flow, FlowId, FlowState, Flows};
use crate::relay::limits::LONGEST_PACE;
use crate::relay::pacing::{Paced, Pacer};
use crate::relay::pending::{PendingTable, Progress};
use crate::relay::roster::{MemberId, Roster, RosterMember};
use crate::relay::rules::Rule;
use crate::relay::state::{RelayState, Turn};
use crate::time::Instant;
use crate::wireguard::message::{
    COOKIE_REPLY_LENGTH, INITIATION_LENGTH, Initiation, RESPONSE_LENGTH, Response,
};
use std::net::SocketAddr;

/// Answers to one initiation whose mac1 may fit nobody: each costs a trial per member of the party.
const MAX_MISFITS: u8 = 4;

/// Parties of those who may be at an address whose members are tried before everybody.
const PARTIES_TRIED: usize = 16;

/// Blind sessions and their handshakes.
pub(super) struct Blind {
    pub flows: Flows,
    pub pending: PendingTable,
    pub pacer: Pacer,
}

impl Blind {
    pub fn new(hasher: KeyedState, seed: u64) -> Self {
        Blind {
            flows: Flows::new(hasher, seed),
            pending: PendingTable::new(hasher, seed.rotate_left(32)),
            pacer: Pacer::new(hasher),
        }
    }

    /// Whose mac1 `message` bears: of those that its source asked for, of the parties of those who may be there, of
    /// all. What that costs is its source's to pay before.
    fn recipient(
        state: &mut RelayState,
        message: &[u8; INITIATION_LENGTH],
        source: SocketAddr,
        now: Instant,
    ) -> Result<MemberId, DropReason> {
        let RelayState { roster, sources, admission, limits, .. } = state;
        let fits = |&id: &MemberId| roster.get(id).is_some_and(|member| member.mac1.matches(message));
        let mut pays = |count| count == 0 || admission.known_trials(source, count, limits, now);
        if !pays(sources.wanted(source).count()) {
            return Err(DropReason::HandshakeLimit);
        }
        if let Some(found) = sources.wanted(source).find(fits) {
            return Ok(found);
        }
        let there = sources.member(source).into_iter().chain(roster.from_origin(source.ip()).iter().copied());
        let (parties, count) = roster.parties_of::<PARTIES_TRIED>(there);
        let parties = &parties[..count];
        if !pays(parties.iter().map(|&party| roster.members(party).count()).sum()) {
            return Err(DropReason::HandshakeLimit);
        }
        if let Some(found) = parties.iter().flat_map(|&party| roster.members(party)).find(fits) {
            return Ok(found);
        }
        if !admission.trials(source, roster.len(), limits, now) {
            return Err(DropReason::HandshakeLimit);
        }
        let fits = |member: &RosterMember| member.mac1.matches(message) || !Rule::MembersOnly.holds();
        let found = roster.iter().find(|&(_, member)| fits(member));
        found.map(|(id, _)| id).ok_or(DropReason::NoMember)
    }

    /// Type 1 (rules 1, 4, 5, 8). Its source's share of handshakes was taken before.
    pub fn on_initiation(
        &mut self,
        turn: &mut Turn<'_>,
        message: Initiation<'_>,
        from: Path,
    ) -> Result<(), DropReason> {
        let (source, now) = (from.remote, turn.now.instant);
        let state = &mut *turn.state;
        let target = Self::recipient(state, message.bytes(), source, now)?;
        let rank = Rank::of(state, source, target);
        if rank == Rank::Stranger && !state.admission.knock(source, target, &state.limits, now) {
            return Err(DropReason::HandshakeLimit);
        }
        if !state.sources.note(from, &state.limits, now) {
            return Err(DropReason::TableFull);
        }
        state.sources.note_received(source, INITIATION_LENGTH);
        state.sources.note_wanted(source, target, state.limits.members_per_party);
        if rank == Rank::Expected {
            let parties = state.roster.get(target).map_or(&[][..], RosterMember::parties);
            parties.iter().for_each(|&party| state.sources.note_newcomer(source, party, &state.limits));
        }
        if self.pending.is_repeated(message.bytes(), source, now) {
            // Who was asked by mistake might pass it on, and be on the way from then on.
            return Err(DropReason::Duplicate);
        }
        // What somebody gave who is not validated yet is for his friends, and not for strangers to spend.
        let is_stranger = rank == Rank::Stranger;
        let may_go = |to: SocketAddr| match is_stranger {
            true => state.sources.is_proven(to),
            false => state.sources.can_spare(to, INITIATION_LENGTH, now),
        };
        let candidates = self.candidates(state, target, source, now);
        let to = candidates
            .beginning_with(if Rule::Turns.holds() { state.sources.attempts(source, target) } else { 0 })
            .find(|&to| may_go(to))
            .ok_or(if candidates.count == 0 { DropReason::NoAddress } else { DropReason::Unproven })?;
        self.check_index(message.sender(), source, to, now)?;
        let RelayState { sources, limits, .. } = state;
        let wait = sources.pace(to, is_stranger, limits, LONGEST_PACE, now).ok_or(DropReason::Paced)?;
        sources.count_attempt(source, target, false);
        if candidates.guessed {
            if sources.is_refuted(source, target, to) {
                sources.forget_guesses(source);
            }
            sources.note_guess(source, target, to);
        }
        if wait.is_zero() {
            self.take_initiation(turn, from, to, target, message.bytes())?;
            let path = turn.state.sources.path(to);
            turn.forward(path, message.bytes());
        } else {
            let paced = Paced { due: now + wait, from, to, target, bytes: *message.bytes() };
            self.pacer.push(paced, state.limits.paced);
        }
        Ok(())
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
            return Err(if pending.initiator.remote == source {
                DropReason::Duplicate
            } else {
                DropReason::IndexClash
            });
        }
        if self.flows.contains(&key) { Err(DropReason::IndexClash) } else { Ok(()) }
    }

    /// An initiation goes to `to`: its answer is waited for.
    fn take_initiation(
        &mut self,
        turn: &mut Turn<'_>,
        from: Path,
        to: SocketAddr,
        target: MemberId,
        message: &[u8; INITIATION_LENGTH],
    ) -> Result<(), DropReason> {
        let (state, now) = (&mut *turn.state, turn.now.instant);
        if !state.sources.spend(to, INITIATION_LENGTH) {
            return Err(DropReason::Unproven);
        }
        state.sources.await_answer(from.remote, now);
        self.pending.insert(
            &state.limits,
            FlowKey::new(to, sender_index(message)),
            from,
            target,
            message,
            now,
        );
        Ok(())
    }

    /// Sends initiations whose turn has come.
    pub fn poll(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.instant;
        while let Some(Paced { from, to, target, bytes, .. }) = self.pacer.pop(now) {
            let index = sender_index(&bytes);
            let taken = match turn.state.roster.get(target) {
                None => Err(DropReason::NoMember),
                Some(_) => self
                    .check_index(index, from.remote, to, now)
                    .and_then(|()| self.take_initiation(turn, from, to, target, &bytes)),
            };
            match taken {
                Ok(()) => turn.send(turn.state.sources.path(to), &bytes),
                Err(reason) => turn.state.stats.drop(reason),
            }
        }
    }

    /// Type 2 (rules 2, 3, 5, 8). `is_taken` tells indices that are the hub's.
    pub fn on_response(
        &mut self,
        turn: &mut Turn<'_>,
        message: Response<'_>,
        from: Path,
        is_taken: impl Fn(u32) -> bool,
    ) -> Result<(), DropReason> {
        let (source, now) = (from.remote, turn.now.instant);
        let RelayState { roster, sources, limits, admission, .. } = &mut *turn.state;
        let to_initiator = FlowKey::new(source, message.receiver());
        let pending = self.pending.get_mut(&to_initiator, now).ok_or(DropReason::NoPending)?;
        let misfits = match pending.progress {
            Progress::Sent { misfits } => misfits,
            Progress::Challenged => 0,
            Progress::Answered => return Err(DropReason::Duplicate),
        };
        let (at, responder) = (pending.initiator, pending.target);
        let fits = |&id: &MemberId| {
            let bears =
                |member: &RosterMember| member.mac1.matches(message.bytes()) || !Rule::NamesInitiator.holds();
            id != responder && roster.get(id).is_some_and(bears)
        };
        // Who was last seen there is most likely the one.
        let guess = sources.member(at.remote).filter(|&id| roster.shared_party(id, responder).is_some());
        let Some(initiator) = guess.filter(fits).or_else(|| roster.mates(responder).find(fits)) else {
            pending.progress = match misfits + 1 {
                MAX_MISFITS => Progress::Answered,
                misfits => Progress::Sent { misfits },
            };
            return Err(DropReason::NoMember);
        };
        let party = roster.shared_party(initiator, responder).ok_or(DropReason::NoMember)?;
        let to_responder = FlowKey::new(at.remote, message.sender());
        let clash = [to_initiator, to_responder].iter().any(|key| self.flows.contains(key));
        if clash || to_initiator == to_responder || is_taken(message.sender()) || is_taken(message.receiver())
        {
            pending.progress = Progress::Answered;
            return Err(DropReason::IndexClash);
        }
        sources.note_received(source, RESPONSE_LENGTH);
        if !sources.spend(at.remote, RESPONSE_LENGTH) {
            return Err(DropReason::Unproven);
        }
        pending.progress = Progress::Answered;
        let flow = |from, receiver, to: Path, here: SocketAddr, state| Flow {
            to,
            twin: None,
            from,
            receiver,
            party,
            bucket: admission.address_bucket(here),
            state,
            last: now,
            count: Volume::default(),
        };
        let there = flow(initiator, responder, from, at.remote, FlowState::Offered);
        let back = flow(responder, initiator, at, source, FlowState::Held);
        let both = [(to_responder, there), (to_initiator, back)];
        self.flows.insert(roster, limits, at.remote.ip(), both);
        turn.forward(at, message.bytes());
        if !Rule::DataConfirms.holds()
            && let Some(id) = self.flows.find(&to_responder, Rule::SourceAddress)
        {
            self.confirm(turn, id, at);
        }
        Ok(())
    }

    /// The initiator's first data on a session that was offered: it has the responder's answer, and has found it
    /// genuine (rule 3).
    #[cold]
    fn confirm(&mut self, turn: &mut Turn<'_>, id: FlowId, from: Path) -> Option<()> {
        let now = turn.now.instant;
        let &mut Flow { to, from: initiator, receiver: responder, .. } = self.flows.get_mut(id)?;
        self.flows.open(id, now)?;
        let RelayState { sources, limits, stats, .. } = &mut *turn.state;
        for path in [from, to] {
            sources.note(path, limits, now);
            sources.prove(path, now);
        }
        sources.count_attempt(from.remote, responder, true);
        stats.values.add(Figure::Handshakes, 1);
        self.learn(turn, responder, to, initiator);
        self.learn(turn, initiator, from, responder);
        Some(())
    }

    /// The only place where a blind handshake tells where somebody is (rule 3).
    fn learn(&self, turn: &mut Turn<'_>, member: MemberId, path: Path, witness: MemberId) {
        turn.state.note_address(member, path.remote);
        turn.state.handshake(member, Reach::Blind, turn.now);
        if let Some(state) = turn.state.roster.state(member) {
            let presence = state.appear();
            presence.heard = turn.now.instant;
            presence.endpoints.confirm(path, witness, turn.now.instant);
        }
    }

    /// Type 3 (rule 6): the answer to an initiation, or to the response that was the answer to one.
    pub fn on_cookie_reply(
        &mut self,
        turn: &mut Turn<'_>,
        datagram: &[u8],
        receiver: u32,
        source: SocketAddr,
    ) -> Result<(), DropReason> {
        let key = FlowKey::new(source, receiver);
        let to = if let Some(pending) = self.pending.get_mut(&key, turn.now.instant) {
            if !matches!(pending.progress, Progress::Sent { .. }) {
                return Err(DropReason::Duplicate);
            }
            pending.progress = Progress::Challenged;
            pending.initiator
        } else {
            let id = self.flows.find(&key, Rule::CookieSource);
            let flow = id.and_then(|id| self.flows.get_mut(id)).ok_or(DropReason::NoPending)?;
            match flow.state {
                FlowState::Offered => flow.state = FlowState::Challenged,
                FlowState::Challenged => return Err(DropReason::Duplicate),
                FlowState::Held | FlowState::Open => return Err(DropReason::NoPending),
            }
            flow.to
        };
        if !turn.state.sources.spend(to.remote, COOKIE_REPLY_LENGTH) {
            return Err(DropReason::Unproven);
        }
        turn.forward(to, datagram);
        Ok(())
    }

    /// Type 4 (rules 5 and 8): one look-up, the buckets, the counters.
    pub fn on_data(
        &mut self,
        turn: &mut Turn<'_>,
        datagram: &[u8],
        receiver: u32,
        from: Path,
    ) -> Result<(), DropReason> {
        let (length, now) = (datagram.len(), turn.now.instant);
        let key = FlowKey::new(from.remote, receiver);
        let id = self.flows.find(&key, Rule::SourceAddress).ok_or(DropReason::NoFlow)?;
        let flow = self.flows.get_mut(id).ok_or(DropReason::NoFlow)?;
        if flow.state == FlowState::Held {
            return Err(DropReason::Unproven);
        }
        let RelayState { roster, admission, .. } = &mut *turn.state;
        if !admission.data(roster, flow.from, flow.party, flow.bucket, length, now) {
            return Err(DropReason::DataLimit);
        }
        flow.last = now;
        flow.count.add(length);
        let &mut Flow { to, from: sender, receiver, state, .. } = flow;
        if state != FlowState::Open {
            self.confirm(turn, id, from);
        }
        turn.state.count_data(sender, receiver, 1, length, turn.now);
        turn.state.stats.add(Traffic::Blind, length);
        turn.forward(to, datagram);
        Ok(())
    }

    /// As [`Blind::on_data`], for datagrams of one open flow: whether all of them are within the buckets.
    pub fn on_run(
        &mut self,
        turn: &mut Turn<'_>,
        run: DatagramRun<'_>,
        receiver: u32,
        source: SocketAddr,
    ) -> bool {
        let (bytes, count, now) = (run.bytes.len(), run.count, turn.now.instant);
        let flow = self.flows.with_key_mut(&FlowKey::new(source, receiver));
        let Some(flow) = flow.filter(|flow| flow.state == FlowState::Open) else { return false };
        let RelayState { roster, admission, .. } = &mut *turn.state;
        if !admission.data(roster, flow.from, flow.party, flow.bucket, bytes, now) {
            return false;
        }
        flow.last = now;
        flow.count.add_run(count, bytes);
        turn.state.count_data(flow.from, flow.receiver, count, bytes, turn.now);
        let stats = &mut turn.state.stats;
        for kind in [Traffic::Received, Traffic::Blind, Traffic::Sent] {
            stats.add_run(kind, count, bytes);
        }
        let to = flow.to;
        log::trace!("forwarded: {count} datagrams, {bytes} bytes, from {source} to {}", to.remote);
        turn.out.forward(to, run.bytes, run.segment);
        true
    }

    /// Counts data that no flow is for. If it bears the index of one, whose sender may have moved to where it came
    /// from, that is remembered, and said whose flow it is.
    pub fn on_stray(
        &mut self,
        turn: &mut Turn<'_>,
        length: usize,
        receiver: u32,
        from: Path,
    ) -> Option<MemberId> {
        let (source, now) = (from.remote, turn.now.instant);
        let RelayState { roster, sources, limits, .. } = &mut *turn.state;
        let sighted = self.flows.with_index(receiver).filter(|flow| flow.state == FlowState::Open);
        let sighted = sighted.and_then(|flow| {
            let Flow { from: member, receiver: witness, .. } = *flow;
            if sources.member(source).is_some_and(|there| there != member) {
                return None;
            }
            if !sources.note(from, limits, now) {
                return None;
            }
            let sighting = Sighting { address: source, witness: Some(witness), at: now };
            if let Some(forgotten) = roster.state(member)?.appear().endpoints.sight(sighting) {
                sources.forget_stray(forgotten);
            }
            Some(member)
        });
        sources.note_received(source, length);
        sighted
    }

    /// Moves a member's flows to where its hub session is.
    pub fn relocate(&mut self, state: &mut RelayState, member: MemberId, path: Path) {
        let bucket = state.admission.address_bucket(path.remote);
        self.flows.relocate(&mut state.roster, member, path, bucket);
    }

    /// Ends what `member`, whose flows these are, may not have any more: everything with those it shares no party
    /// with.
    pub fn end(&mut self, state: &mut RelayState, member: MemberId, flows: &[FlowId], now: Instant) {
        let shares = |roster: &Roster, other| roster.shared_party(member, other).is_some();
        self.flows.end(&mut state.roster, member, flows, shares);
        self.pending.sweep(&state.roster, now);
    }

    /// Forgets what has expired (rule 9).
    pub fn sweep(&mut self, state: &mut RelayState, now: Instant) {
        self.flows.sweep(&mut state.roster, now);
        self.pending.sweep(&state.roster, now);
    }

    pub fn is_empty(&self) -> bool {
        self.flows.is_empty() && self.pending.is_empty()
    }
}

/// What is known of the sender of an initiation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rank {
    /// A member was shown to be there.
    Member,
    /// A member of the recipient's party speaks to the control plane from there.
    Expected,
    /// Nothing, but that he knows a member's public key.
    Stranger,
}

impl Rank {
    fn of(state: &RelayState, source: SocketAddr, target: MemberId) -> Self {
        let RelayState { roster, sources, .. } = state;
        if sources.member(source).is_some() {
            return Rank::Member;
        }
        let is_mate = |&id: &MemberId| id != target && roster.shared_party(id, target).is_some();
        let is_expected = roster.from_origin(source.ip()).iter().any(is_mate) || !Rule::Evidence.holds();
        if is_expected { Rank::Expected } else { Rank::Stranger }
    }
}

/// The index that an initiation's sender chose.
fn sender_index(message: &[u8; INITIATION_LENGTH]) -> u32 {
    u32::from_le_bytes([message[4], message[5], message[6], message[7]])
}
