//! What parties, members, signals and tokens cost in memory, and who pays for it: the address that a registration
//! came from.

use super::party::{Party, PeerInfo};
use super::refusal::Refusal;
use super::signals::Signal;
use super::standing::{Identity, Standing};
use super::{Control, PartyId, PeerId};
use crate::figures::{Figure, Readings, Resource};
use crate::keyed_hash::KeyedState;
use crate::owners::{Holdings, Quota};
use std::net::{IpAddr, Ipv4Addr};

/// What a member costs besides its texts, in bytes: in its party, as a membership, in the pool of addresses, at the
/// relay, and in the sharing out of memory.
const MEMBER: usize = 1024;
/// The same of a party.
const PARTY: usize = 640;
/// The same of a ban.
const BAN: usize = 160;
/// The same of an invite.
const INVITE: usize = 200;
/// The same of somebody who came by one, or of an id that a party had.
const NAME: usize = 16;
/// The same of a waiting signal.
const SIGNAL: usize = 160;
/// Signals that are given up at a time.
const SIGNALS_AT_A_TIME: usize = 64;

/// Who pays for what the owner of this machine has, and for what was there before the last start.
pub const HOUSE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// What is charged to somebody.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Footprint {
    payer: IpAddr,
    bytes: u32,
}

impl Footprint {
    /// Who pays.
    pub(super) fn payer(&self) -> IpAddr {
        self.payer
    }

    /// Nothing.
    pub const NONE: Footprint = Footprint { payer: HOUSE, bytes: 0 };

    fn of(payer: IpAddr, bytes: usize) -> Self {
        Footprint { payer, bytes: u32::try_from(bytes).unwrap_or(u32::MAX) }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes as usize
    }
}

/// An empty table of who holds what.
pub(super) fn holdings() -> Holdings {
    Holdings::new(KeyedState::random())
}

fn member_bytes(info: &PeerInfo) -> usize {
    // The key is also the name of an address, which is kept on.
    let texts = [&*info.name, &*info.public_ip, &*info.local_ip].map(str::len);
    MEMBER + texts.iter().sum::<usize>() + 3 * info.public_key.len() + 3 * info.peer_id.as_str().len()
}

fn party_bytes(party: &Party) -> usize {
    let users: usize = party.invites.iter().map(|invite| invite.users.len()).sum();
    PARTY
        + party.name.len()
        + party.bans.len() * BAN
        + party.invites.len() * INVITE
        + (users + party.former.len()) * NAME
}

impl Signal {
    /// What it costs while it waits.
    pub(super) fn bytes(&self) -> usize {
        SIGNAL + self.data.len()
    }
}

impl Control {
    /// Who pays for what `identity` has.
    pub(super) fn payer(&self, identity: &Identity) -> IpAddr {
        match identity.standing {
            Standing::Address(address) if address.is_loopback() => HOUSE,
            Standing::Address(address) => address,
            Standing::Token(lineage) => {
                let own = self.tokens.of(&identity.peer);
                own.map(|(_, token)| token)
                    .filter(|token| token.lineage == lineage)
                    .map(|token| token.payer)
                    .next()
                    .unwrap_or(HOUSE)
            }
        }
    }

    /// Whether there is room for `bytes` more, beside what was charged before for the same thing.
    fn afford(&self, payer: IpAddr, bytes: usize, before: usize) -> Result<(), Refusal> {
        let (more, limit) = (bytes.saturating_sub(before), self.settings.limits.memory);
        if more == 0 {
            return Ok(());
        }
        let quota = Quota::shares(limit);
        if payer != HOUSE && self.memory.excess(payer, more, &quota).is_some() {
            return Err(Refusal::Limit { what: "bytes of parties from one network", limit: quota.network });
        }
        match self.memory.total() + more > limit {
            true => Err(Refusal::Full { what: "bytes of parties", limit }),
            false => Ok(()),
        }
    }

    /// Whether somebody may be in `party` as `info` says, at the cost of `payer`.
    pub(super) fn afford_member(
        &self,
        payer: IpAddr,
        party: &PartyId,
        info: &PeerInfo,
    ) -> Result<(), Refusal> {
        let old = self.parties.get(party).and_then(|party| party.members.get(&info.peer_id));
        self.afford(payer, member_bytes(info), old.map_or(0, |member| member.footprint.bytes()))
    }

    /// Whether there is room for a ban more in a party.
    pub(super) fn afford_ban(&self, party: &Party) -> Result<(), Refusal> {
        self.afford(party.footprint.payer, BAN, 0)
    }

    /// Whether there is room for an invite more to a party.
    pub(super) fn afford_invite(&self, party: &Party) -> Result<(), Refusal> {
        self.afford(party.footprint.payer, INVITE, 0)
    }

    /// Has `payer` pay for what a member is now.
    pub(super) fn count_member(&mut self, peer: &PeerId, payer: IpAddr, party: &PartyId) {
        let Some(member) = self.parties.get_mut(party).and_then(|party| party.members.get_mut(peer)) else {
            return;
        };
        let footprint = Footprint::of(payer, member_bytes(&member.info));
        let old = std::mem::replace(&mut member.footprint, footprint);
        self.recount(old, footprint);
    }

    /// Has a party's maker pay for what it is now; from now on that is `by`, if it is given.
    pub(super) fn count_party(&mut self, by: Option<&Identity>, party: &PartyId) {
        let payer = by.map(|by| self.payer(by));
        let Some(party) = self.parties.get_mut(party) else { return };
        let footprint = Footprint::of(payer.unwrap_or(party.footprint.payer), party_bytes(party));
        let old = std::mem::replace(&mut party.footprint, footprint);
        self.recount(old, footprint);
    }

    pub(super) fn recount(&mut self, old: Footprint, new: Footprint) {
        self.memory.remove(old.payer, old.bytes());
        self.memory.add(new.payer, new.bytes());
    }

    /// Has room for a signal from `payer` with so many bytes of data; if need be at the cost of the oldest ones of
    /// whoever has most of them waiting.
    pub(super) fn make_room_for_signal(&mut self, payer: IpAddr, length: usize) -> Result<(), Refusal> {
        let (limit, bytes) = (self.settings.limits.signals_size, SIGNAL + length);
        let quota = Quota::shares(limit);
        if payer != HOUSE && self.signals.excess(payer, bytes, &quota).is_some() {
            let what = "bytes of waiting signals from one network";
            return Err(Refusal::Limit { what, limit: quota.network });
        }
        if self.signals.total() + bytes > limit {
            self.forget_oldest_signals(payer);
        }
        match self.signals.total() + bytes > limit {
            true => Err(Refusal::Full { what: "bytes of waiting signals", limit }),
            false => Ok(()),
        }
    }

    /// Not for somebody who has more of them waiting than they do.
    fn forget_oldest_signals(&mut self, payer: IpAddr) {
        let own = self.signals.weight(payer);
        let mut waiting = Vec::new();
        for (party, peer, member) in self
            .parties
            .values()
            .flat_map(|party| party.members.iter().map(move |(peer, member)| (&party.id, peer, member)))
        {
            for signal in member.signals() {
                if self.signals.weight(signal.payer) > own {
                    waiting.push(((party.clone(), peer.clone()), signal.payer, signal.sent_at));
                }
            }
        }
        for (party, peer) in self.signals.victims(waiting, SIGNALS_AT_A_TIME) {
            let member = self.parties.get_mut(&party).and_then(|party| party.members.get_mut(&peer));
            if let Some(signal) = member.and_then(|member| member.extras.as_mut()?.signals.pop_front()) {
                self.signals.remove(signal.payer, signal.bytes());
            }
        }
    }

    /// Counts a signal that waits now.
    pub(super) fn count_signal(&mut self, signal: &Signal) {
        self.signals.add(signal.payer, signal.bytes());
    }

    /// Counts signals that wait no more.
    pub(super) fn release_signals<'a>(&mut self, signals: impl IntoIterator<Item = &'a Signal>) {
        signals.into_iter().for_each(|signal| self.signals.remove(signal.payer, signal.bytes()));
    }

    /// Whether `peer` is in any party by a registration of this lineage.
    pub(super) fn is_member_by(&self, peer: &PeerId, standing: Standing) -> bool {
        self.parties_of(peer).iter().any(|party| {
            let member = self.parties.get(party).and_then(|party| party.members.get(peer));
            member.is_some_and(|member| member.standing == standing)
        })
    }

    /// Tells how many there are of everything, how full everything is, and of whom.
    pub fn report(&self, out: &mut Readings) {
        let limits = &self.settings.limits;
        out.set(Figure::Parties, self.party_count() as u64);
        out.set(Figure::Peers, self.peer_count() as u64);
        let relays = self.relays.iter().count() + self.approvals.approved().count();
        out.set(Figure::Relays, relays as u64);
        out.set(Figure::Tokens, self.tokens.len() as u64);
        out.table(Resource::Parties, &self.memory, limits.memory);
        out.table(Resource::Signals, &self.signals, limits.signals_size);
        out.table(Resource::Tokens, self.tokens.holdings(), limits.tokens);
        out.table(Resource::Relays, self.relays.holdings(), limits.relays);
    }
}
