//! The addresses that handshakes come from: what each has proven, and whom it has asked for.
//!
//! An address is *proven* once somebody there has received what we sent to it. Until then it gets at most as
//! many bytes as came from it, so nobody gains anything by writing a victim's address on a datagram.

use crate::datagram::Path;
use crate::keyed_hash::KeyedState;
use crate::owners::Holdings;
use crate::owners::table::{Merit, OwnedTable};
use crate::relay::limits::{ANSWER_TIME, GUESSES_PER_SOURCE, IDLE_LIFETIME, RelayLimits, UNPROVEN_LIFETIME};
use crate::relay::roster::{MemberId, PartySlot};
use crate::relay::rules::Rule;
#[cfg(test)]
use crate::relay::search::fingerprint::Fingerprint;
use crate::time::Instant;
use crate::token_bucket::{Rate, TokenBucket};
use crate::wireguard::message::RESPONSE_LENGTH;
use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// A member that a source has sent initiations to.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    member: MemberId,
    /// How many were forwarded since one was last answered.
    attempts: u8,
}

/// What is known of an address.
#[derive(Debug, Default)]
struct SourceState {
    seen: Instant,
    /// Our address that it speaks to.
    local: Option<IpAddr>,
    handshakes: TokenBucket,
    /// When the destination's share of initiations will be whole again.
    paced_until: Instant,
    /// The same for the part of it that strangers may have.
    strangers_paced_until: Instant,
    /// Bytes from there minus bytes to there, while unproven.
    allowance: u32,
    proven: bool,
    /// Until when some of the allowance is kept for the answer to what was forwarded from there.
    answer_until: Instant,
    /// Who is there, as far as anybody has shown.
    member: Option<MemberId>,
    /// In order of their ids.
    wanted: Vec<Wanted>,
    /// Where members that it asked for were looked for though nobody was known to be there, hashed; the newest last.
    guesses: Vec<u32>,
}

/// All of them, bounded.
pub struct Sources {
    table: OwnedTable<SocketAddr, SourceState>,
    hasher: KeyedState,
    /// Unproven addresses by the party they asked for, oldest first.
    newcomers: Vec<VecDeque<SocketAddr>>,
}

impl Sources {
    /// None yet.
    pub fn new(hasher: KeyedState, seed: u64) -> Self {
        Sources { table: OwnedTable::new(hasher, seed), hasher, newcomers: Vec::new() }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Who holds how many.
    pub fn held(&self) -> &Holdings {
        self.table.held()
    }

    /// Whether the address is known.
    pub fn contains(&self, address: SocketAddr) -> bool {
        self.table.find(&address).is_some()
    }

    /// Takes one handshake from what a known source may send; `None` for an unknown one.
    pub fn take_handshake(&mut self, address: SocketAddr, rate: Rate, now: Instant) -> Option<bool> {
        let source = self.table.with_key_mut(&address)?;
        Some(source.handshakes.take(rate, 1, now).is_ok())
    }

    /// Notes the address at the other end of `path`, if it can be answered. If there is no room, the entry that goes is
    /// one of whoever holds most.
    pub fn note(&mut self, path: Path, limits: &RelayLimits, now: Instant) -> bool {
        let address = path.remote;
        if let Some(source) = self.table.with_key_mut(&address) {
            source.seen = now;
            // What anybody may have written on a datagram changes nothing for who has shown that he is there.
            if !source.proven {
                source.local = path.local;
            }
            return true;
        }
        if !can_be_answered(address) {
            return false;
        }
        while self.table.len() >= limits.sources.max(1) {
            let merit = |source: &SourceState| {
                let is_confirmed = source.proven || source.member.is_some();
                Some(Merit { is_confirmed, since: source.seen })
            };
            let Some(victim) = self.table.victim(merit) else { return false };
            self.table.remove(victim);
        }
        let source = SourceState { seen: now, local: path.local, ..SourceState::default() };
        self.table.insert(address, address.ip(), source);
        true
    }

    /// The path to an address: from our address that it speaks to.
    pub fn path(&self, address: SocketAddr) -> Path {
        let local = self.table.with_key(&address).and_then(|source| source.local);
        Path { remote: address, local }
    }

    /// Notes that an unproven `address` asked for somebody of `party`, so that it can be found by elimination.
    /// If too many wait there, the oldest is forgotten.
    pub fn note_newcomer(&mut self, address: SocketAddr, party: PartySlot, limits: &RelayLimits) {
        let at = party as usize;
        if self.newcomers.len() <= at {
            self.newcomers.resize_with(at + 1, VecDeque::new);
        }
        let waiting = &mut self.newcomers[at];
        if waiting.contains(&address) {
            return;
        }
        if waiting.len() >= limits.newcomers_per_party
            && let Some(oldest) = waiting.pop_front()
            && let Some(known) = self.table.find(&oldest)
            && self.table.get(known).is_some_and(|source| !source.proven)
        {
            self.table.remove(known);
        }
        waiting.push_back(address);
    }

    /// Forgets an address of which nothing was known but that somebody may be there.
    pub fn forget_stray(&mut self, address: SocketAddr) {
        let is_stray =
            |source: &SourceState| !source.proven && source.member.is_none() && source.wanted.is_empty();
        if let Some(known) = self.table.find(&address)
            && self.table.get(known).is_some_and(is_stray)
        {
            self.table.remove(known);
        }
    }

    /// Notes an initiation from `address` to `member`; `cap` bounds how many members are remembered.
    pub fn note_wanted(&mut self, address: SocketAddr, member: MemberId, cap: usize) {
        let Some(source) = self.table.with_key_mut(&address) else { return };
        if let Err(index) = source.wanted.binary_search_by_key(&member, |wanted| wanted.member)
            && source.wanted.len() < cap
        {
            source.wanted.insert(index, Wanted { member, attempts: 0 });
        }
    }

    /// How many initiations from `address` to `member` were forwarded since one was answered.
    pub fn attempts(&self, address: SocketAddr, member: MemberId) -> u8 {
        let wanted = self.table.with_key(&address).and_then(|source| source.find(member));
        wanted.map_or(0, |wanted| wanted.attempts)
    }

    /// Notes that an initiation from `address` to `member` went to `there` though nobody is known to be there.
    pub fn note_guess(&mut self, address: SocketAddr, member: MemberId, there: SocketAddr) {
        let guess = self.guess(member, there);
        let Some(source) = self.table.with_key_mut(&address) else { return };
        if source.guesses.len() >= GUESSES_PER_SOURCE {
            source.guesses.remove(0);
        }
        source.guesses.push(guess);
    }

    /// All that was tried for `address` was in vain: begin anew, as datagrams get lost.
    pub fn forget_guesses(&mut self, address: SocketAddr) {
        if let Some(source) = self.table.with_key_mut(&address) {
            source.guesses = Vec::new();
        }
    }

    fn guess(&self, member: MemberId, there: SocketAddr) -> u32 {
        self.hasher.hash_one((member, there)) as u32
    }

    /// Whether it was tried in vain whether `member`, that `address` asks for, is at `there`: from here, or from there,
    /// if all that was asked for from there was looked for here. Who has a peer is that one's peer, too, or nothing
    /// comes of it.
    pub fn is_refuted(&self, address: SocketAddr, member: MemberId, there: SocketAddr) -> bool {
        let tried = |from: SocketAddr, member: MemberId, to: SocketAddr| {
            let guess = self.guess(member, to);
            self.table.with_key(&from).is_some_and(|source| source.guesses.contains(&guess))
        };
        let wanted = self.table.with_key(&there).map_or(&[][..], |source| &source.wanted);
        tried(address, member, there)
            || !wanted.is_empty() && wanted.iter().all(|wanted| tried(there, wanted.member, address))
    }

    /// Counts an initiation that was forwarded, or begins to count anew because one was answered.
    pub fn count_attempt(&mut self, address: SocketAddr, member: MemberId, answered: bool) {
        let Some(source) = self.table.with_key_mut(&address) else { return };
        if let Ok(index) = source.wanted.binary_search_by_key(&member, |wanted| wanted.member) {
            let wanted = &mut source.wanted[index];
            wanted.attempts = if answered { 0 } else { wanted.attempts.wrapping_add(1) };
        }
        if answered {
            source.guesses = Vec::new();
        }
    }

    /// Members that `address` asked for.
    pub fn wanted(&self, address: SocketAddr) -> impl Iterator<Item = MemberId> {
        let source = self.table.with_key(&address);
        source.into_iter().flat_map(|source| source.wanted.iter().map(|wanted| wanted.member))
    }

    /// Who is at `address`, as far as anybody has shown.
    pub fn member(&self, address: SocketAddr) -> Option<MemberId> {
        self.table.with_key(&address)?.member
    }

    /// Nobody says any more that `member` is at `address`.
    pub fn unset_member(&mut self, address: SocketAddr, member: MemberId) {
        if let Some(source) = self.table.with_key_mut(&address) {
            source.member.take_if(|there| *there == member);
        }
    }

    /// Notes who is at `address`.
    pub fn set_member(&mut self, address: SocketAddr, member: MemberId) {
        if let Some(source) = self.table.with_key_mut(&address) {
            source.member = Some(member);
        }
    }

    /// Addresses that can only be `target`'s: nobody is known to be there, and initiations came from there to
    /// every other one of `others`, members of `party`, but not to `target`.
    pub fn eliminated(
        &self,
        party: PartySlot,
        target: MemberId,
        others: impl Iterator<Item = MemberId> + Clone,
    ) -> impl Iterator<Item = SocketAddr> {
        self.possible(party, target)
            .filter(move |(_, source)| {
                others.clone().all(|other| other == target || source.find(other).is_some())
            })
            .map(|(address, _)| address)
    }

    /// Addresses that may be `target`'s: nobody is known to be there, and initiations came from there to
    /// others in `party`, but not to `target`. The newest first.
    pub fn not_eliminated(
        &self,
        party: PartySlot,
        target: MemberId,
        others: impl Iterator<Item = MemberId> + Clone,
    ) -> impl Iterator<Item = SocketAddr> {
        self.possible(party, target)
            .filter(move |(_, source)| others.clone().any(|other| source.find(other).is_some()))
            .map(|(address, _)| address)
    }

    fn possible(
        &self,
        party: PartySlot,
        target: MemberId,
    ) -> impl Iterator<Item = (SocketAddr, &SourceState)> {
        let newcomers = self.newcomers.get(party as usize).into_iter().flat_map(|all| all.iter().rev());
        newcomers
            .filter_map(|&address| Some((address, self.table.with_key(&address)?)))
            .filter(move |(_, source)| source.member.is_none() && source.find(target).is_none())
    }

    /// Counts bytes that came from `address`.
    pub fn note_received(&mut self, address: SocketAddr, bytes: usize) {
        if let Some(source) = self.table.with_key_mut(&address)
            && !source.proven
        {
            source.allowance = source.allowance.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        }
    }

    /// Whether `bytes` may go to `address`; counts them if it is unproven.
    pub fn spend(&mut self, address: SocketAddr, bytes: usize) -> bool {
        let Some(source) = self.table.with_key_mut(&address) else { return false };
        if source.proven || !Rule::AntiAmplification.holds() {
            return true;
        }
        let left = u32::try_from(bytes).ok().and_then(|bytes| source.allowance.checked_sub(bytes));
        left.inspect(|&left| source.allowance = left).is_some()
    }

    /// Whether `bytes` could be [spent](Sources::spend).
    pub fn can_spend(&self, address: SocketAddr, bytes: usize) -> bool {
        self.table
            .with_key(&address)
            .is_some_and(|source| source.proven || source.allowance as usize >= bytes)
    }

    /// Whether `bytes` that nobody there has asked for could be spent: the answer to what was forwarded from there
    /// must still fit.
    pub fn can_spare(&self, address: SocketAddr, bytes: usize, now: Instant) -> bool {
        self.table.with_key(&address).is_some_and(|source| {
            let kept = if now < source.answer_until { RESPONSE_LENGTH } else { 0 };
            source.proven || source.allowance as usize >= bytes + kept || !Rule::AntiAmplification.holds()
        })
    }

    /// An initiation from `address` was forwarded: an answer may come.
    pub fn await_answer(&mut self, address: SocketAddr, now: Instant) {
        if let Some(source) = self.table.with_key_mut(&address) {
            source.answer_until = now + ANSWER_TIME;
        }
    }

    /// Somebody at the other end of `path` has received what we sent there.
    pub fn prove(&mut self, path: Path, now: Instant) {
        if let Some(source) = self.table.with_key_mut(&path.remote) {
            source.proven = true;
            source.seen = now;
            source.local = path.local;
        }
    }

    /// Whether somebody there receives what we send.
    pub fn is_proven(&self, address: SocketAddr) -> bool {
        self.table.with_key(&address).is_some_and(|source| source.proven)
    }

    /// Whether the member was shown to be there, by itself or by others, and receives what we send.
    pub fn is_proven_of(&self, address: SocketAddr, member: MemberId) -> bool {
        self.table.with_key(&address).is_some_and(|source| source.proven && source.member == Some(member))
    }

    /// Traffic came from there at `at`.
    pub fn touch(&mut self, address: SocketAddr, at: Instant) {
        if let Some(source) = self.table.with_key_mut(&address) {
            source.seen = source.seen.max(at);
        }
    }

    /// How long an initiation to `address` must wait so that it gets no more of them than the limits say, in all
    /// and from strangers. Unless that is longer than `longest`, its turn is taken.
    pub fn pace(
        &mut self,
        address: SocketAddr,
        is_stranger: bool,
        limits: &RelayLimits,
        longest: Duration,
        now: Instant,
    ) -> Option<Duration> {
        let source = self.table.with_key_mut(&address)?;
        let turn = |before: Instant, rate: Rate| {
            let until = before.max(now) + rate.interval;
            (until, until.since(now).saturating_sub(rate.interval.saturating_mul(rate.burst)))
        };
        let (paced_until, wait) = turn(source.paced_until, limits.initiations_per_destination);
        let (strangers, strangers_wait) =
            turn(source.strangers_paced_until, limits.strangers_per_destination);
        let wait = if is_stranger { wait.max(strangers_wait) } else { wait };
        if wait > longest {
            return None;
        }
        source.paced_until = paced_until;
        if is_stranger {
            source.strangers_paced_until = strangers;
        }
        Some(wait)
    }

    /// Forgets what has been silent for too long, and newcomers who are none any more.
    pub fn sweep(&mut self, now: Instant) {
        let is_fresh = |_: &SocketAddr, source: &SourceState| {
            let lifetime = if source.proven { IDLE_LIFETIME } else { UNPROVEN_LIFETIME };
            now.since(source.seen) < lifetime
        };
        self.table.retain(is_fresh, |_, _| ());
        for waiting in &mut self.newcomers {
            waiting
                .retain(|address| self.table.with_key(address).is_some_and(|source| source.member.is_none()));
            if waiting.is_empty() {
                *waiting = VecDeque::new();
            }
        }
    }

    /// Forgets a member that is gone.
    pub fn forget_member(&mut self, member: MemberId) {
        for source in self.table.values_mut() {
            source.member.take_if(|there| *there == member);
            source.wanted.retain(|wanted| wanted.member != member);
        }
    }

    /// What tells one state of them from another.
    #[cfg(test)]
    pub fn describe(&self, to: &mut Fingerprint) {
        let mut all: Vec<_> = self.table.iter().map(|(_, address, source)| (address, source)).collect();
        all.sort_unstable_by_key(|(address, _)| **address);
        for (&address, source) in all {
            let allowance = if source.proven { 0 } else { source.allowance };
            to.address(address).age(source.seen).number(allowance.into()).number(source.proven.into());
            to.left(source.paced_until).left(source.strangers_paced_until).left(source.answer_until);
            to.number(source.member.map_or(99, |member| member.slot().into()));
            source.wanted.iter().for_each(|wanted| {
                to.number(wanted.member.slot().into()).number(wanted.attempts.into());
            });
            to.number(source.guesses.len() as u64);
            source.guesses.iter().for_each(|&guess| _ = to.number(guess.into()));
        }
        for waiting in &self.newcomers {
            waiting.iter().for_each(|&address| _ = to.address(address));
        }
    }
}

/// Whether `address` can be one host's. An answer to what only says that it comes from a group would reach many.
pub fn can_be_answered(address: SocketAddr) -> bool {
    let ip = address.ip();
    let is_broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !is_broadcast
}

impl SourceState {
    fn find(&self, member: MemberId) -> Option<&Wanted> {
        let index = self.wanted.binary_search_by_key(&member, |wanted| wanted.member).ok()?;
        self.wanted.get(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::roster::some_members;

    const START: Instant = Instant::from_nanos(5_000_000_000);

    fn address(number: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], 1000 + number))
    }

    fn sources() -> Sources {
        Sources::new(KeyedState::new(1, 2), 3)
    }

    #[test]
    fn unproven_addresses_get_what_they_gave() {
        let (mut sources, limits) = (sources(), RelayLimits::default());
        assert!(!sources.spend(address(1), 0), "of an unknown address nothing is known");
        assert!(sources.note(Path::to(address(1)), &limits, START));
        sources.note_received(address(1), 148);
        assert!(sources.can_spend(address(1), 148) && !sources.can_spend(address(1), 149));
        assert!(!sources.spend(address(1), 149));
        assert!(sources.can_spare(address(1), 148, START));
        sources.await_answer(address(1), START);
        assert!(sources.can_spare(address(1), 56, START) && !sources.can_spare(address(1), 57, START));
        assert!(sources.can_spare(address(1), 148, START + ANSWER_TIME));
        assert!(sources.spend(address(1), 92));
        assert!(!sources.spend(address(1), 57));
        assert!(sources.spend(address(1), 56) && !sources.spend(address(1), 1));
        sources.prove(Path::to(address(1)), START);
        assert!(sources.spend(address(1), 1_000_000));
    }

    #[test]
    fn only_who_asked_for_all_others_is_found_by_elimination() {
        let (mut sources, limits) = (sources(), RelayLimits::default());
        let all = some_members(4);
        let found = |sources: &Sources, target: usize| {
            sources.eliminated(0, all[target], all.iter().copied()).collect::<Vec<_>>()
        };
        for (number, wants) in [(1, &[1, 2, 3][..]), (2, &[0, 2]), (3, &[0, 1, 2, 3])] {
            sources.note(Path::to(address(number)), &limits, START);
            sources.note_newcomer(address(number), 0, &limits);
            wants.iter().for_each(|&wanted| sources.note_wanted(address(number), all[wanted], 64));
        }
        assert_eq!(found(&sources, 0), [address(1)]);
        assert!((1..4).all(|target| found(&sources, target).is_empty()));
        sources.note_wanted(address(2), all[3], 64);
        assert_eq!(found(&sources, 1), [address(2)]);
        let perhaps = |sources: &Sources, target: usize, others: &[MemberId]| {
            sources.not_eliminated(0, all[target], others.iter().copied()).collect::<Vec<_>>()
        };
        sources.note(Path::to(address(4)), &limits, START);
        sources.note_newcomer(address(4), 0, &limits);
        assert_eq!(perhaps(&sources, 0, &all), [address(1)], "who asked for nobody is nobody");
        sources.note_wanted(address(4), all[2], 64);
        assert_eq!(perhaps(&sources, 0, &all), [address(4), address(1)]);
        assert!(perhaps(&sources, 0, &all[..1]).is_empty(), "what was asked of another party is no hint");
        sources.set_member(address(1), all[0]);
        assert!(found(&sources, 0).is_empty(), "somebody is known to be there");
    }

    #[test]
    fn newcomers_push_out_their_own_party_s_oldest() {
        let limits = RelayLimits { newcomers_per_party: 3, ..RelayLimits::default() };
        let mut sources = sources();
        sources.note(Path::to(address(99)), &limits, START);
        sources.note_newcomer(address(99), 1, &limits);
        for number in 0..10 {
            sources.note(Path::to(address(number)), &limits, START);
            sources.note_newcomer(address(number), 0, &limits);
            if number == 0 {
                sources.prove(Path::to(address(0)), START);
            }
        }
        let known: Vec<_> = (0..10).filter(|&number| sources.contains(address(number))).collect();
        assert_eq!(known, [0, 7, 8, 9], "what is proven stays");
        assert!(sources.contains(address(99)));
    }

    #[test]
    fn groups_and_nobody_are_no_sources() {
        let mut sources = sources();
        for text in ["0.0.0.0:1", "192.0.2.1:0", "255.255.255.255:1", "224.0.0.1:1", "[::]:1", "[ff02::1]:1"]
        {
            assert!(!sources.note(Path::to(text.parse().unwrap()), &RelayLimits::default(), START), "{text}");
        }
        for text in ["127.0.0.1:1", "10.0.0.255:1", "[::1]:1", "[fe80::1]:1"] {
            assert!(sources.note(Path::to(text.parse().unwrap()), &RelayLimits::default(), START), "{text}");
        }
    }

    #[test]
    fn is_bounded_and_forgets() {
        let limits = RelayLimits { sources: 2, ..RelayLimits::default() };
        let mut sources = sources();
        assert!(
            sources.note(Path::to(address(1)), &limits, START)
                && sources.note(Path::to(address(2)), &limits, START)
        );
        sources.prove(Path::to(address(2)), START);
        assert!(sources.note(Path::to(address(3)), &limits, START + UNPROVEN_LIFETIME / 2));
        assert!(!sources.contains(address(1)), "the oldest of those that have proven nothing makes room");
        assert!(sources.contains(address(2)));
        sources.sweep(START + UNPROVEN_LIFETIME * 2);
        assert!(!sources.contains(address(3)) && sources.contains(address(2)));
        sources.touch(address(2), START + UNPROVEN_LIFETIME);
        sources.sweep(START + IDLE_LIFETIME);
        assert!(sources.contains(address(2)));
        sources.sweep(START + IDLE_LIFETIME + UNPROVEN_LIFETIME);
        assert!(sources.is_empty());
    }

    #[test]
    fn initiations_wait_for_their_turn() {
        let mut sources = sources();
        sources.note(Path::to(address(1)), &RelayLimits::default(), START);
        let second = Duration::from_secs(1);
        let limits = RelayLimits {
            initiations_per_destination: Rate::new(10, second, 2),
            strangers_per_destination: Rate::new(4, second, 1),
            ..RelayLimits::default()
        };
        let longest = Duration::from_millis(250);
        let mut pace = |number, is_stranger, at| {
            let wait = sources.pace(address(number), is_stranger, &limits, longest, at);
            wait.map(|wait| wait.as_millis())
        };
        let strangers: Vec<_> = (0..4).map(|_| pace(1, true, START)).collect();
        assert_eq!(strangers, [Some(0), Some(250), None, None]);
        let members: Vec<_> = (0..4).map(|_| pace(1, false, START)).collect();
        assert_eq!(members, [Some(100), Some(200), None, None], "what strangers have left");
        let later = START + Duration::from_millis(100);
        assert_eq!(
            (pace(1, true, later), pace(1, false, later), pace(9, false, later)),
            (None, Some(200), None)
        );
    }
}
