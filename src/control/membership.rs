//! Parties coming and going, and who is in them.

use super::addresses::{self, Acquired};
use super::change::{Change, Departure};
use super::costs::Footprint;
use super::entry::PartyAccess;
use super::keys::{KeyClaim, identity};
use super::party::{Ban, Member, Party, PeerInfo};
use super::refusal::Refusal;
use super::signals::Signal;
use super::standing::{Actor, Identity};
use super::viewer::LocalClock;
use super::{Control, PartyId, PeerId};
use crate::crypto::hex;
use crate::crypto::random;
use crate::crypto::x25519::PublicKey;
use crate::sorted::SortedMap;
use crate::time::Now;
use std::collections::VecDeque;
use std::net::IpAddr;

/// What came of removing a peer from a party.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Removed {
    /// It left.
    Left,
    /// It was made to leave.
    Kicked,
    /// It was the host or the last, and the party went with it.
    PartyDeleted,
}

impl Control {
    /// Makes a party with the caller as its host and first member. `id` is the caller's choice, or else ours.
    ///
    /// The same host asking again for the same name within 30 s, or for an id that it already hosts, gets
    /// the party there is: stock clients repeat a create whose answer was lost.
    pub fn create_party(
        &mut self,
        by: &Identity,
        id: Option<PartyId>,
        name: &str,
        info: PeerInfo,
        claim: KeyClaim<'_>,
        now: Now,
    ) -> Result<PartyId, Refusal> {
        if let Some(party) = self.repeated_create(by, id.as_ref(), name, now)? {
            self.join_party(by, party.as_str(), info, claim, now)?;
            return Ok(party);
        }
        let limits = &self.settings.limits;
        let hosted = self.own_parties(by).filter(|party| party.is_hosted_by(by.peer.as_str())).count();
        if hosted >= limits.parties_hosted {
            return Err(Refusal::Limit { what: "parties of one host", limit: limits.parties_hosted });
        }
        if self.parties.len() >= limits.parties {
            return Err(Refusal::Full { what: "parties", limit: limits.parties });
        }
        let id = id.unwrap_or_else(|| self.free_party_id());
        self.add_party(id.clone(), name, Some(by.peer.clone()), now);
        self.count_party(Some(by), &id);
        if let Err(refusal) = self.join_party(by, id.as_str(), info, claim, now) {
            if let Some(party) = self.parties.remove(&id) {
                self.recount(party.footprint, Footprint::NONE);
            }
            self.changes.pop();
            return Err(refusal);
        }
        Ok(id)
    }

    /// Adds an empty party.
    pub(super) fn add_party(&mut self, id: PartyId, name: &str, host: Option<PeerId>, now: Now) {
        self.changes.push(Change::PartyCreated(id.clone()));
        self.parties.insert(
            id.clone(),
            Party {
                id,
                name: name.to_owned(),
                host,
                access: PartyAccess::Open,
                permanent: false,
                ends: None,
                relay: None,
                invites: Vec::new(),
                former: Vec::new(),
                created_at: now.unix,
                created: Some(now.instant),
                members: SortedMap::new(),
                joins: 0,
                bans: Vec::new(),
                footprint: Footprint::NONE,
            },
        );
    }

    /// The parties that the caller is in.
    fn own_parties(&self, by: &Identity) -> impl Iterator<Item = &Party> {
        self.parties_of(&by.peer).iter().filter_map(|id| self.parties.get(id))
    }

    fn repeated_create(
        &mut self,
        by: &Identity,
        id: Option<&PartyId>,
        name: &str,
        now: Now,
    ) -> Result<Option<PartyId>, Refusal> {
        let Some(id) = id else {
            let window = self.settings.lifetimes.create_repeat;
            let repeated = self.own_parties(by).find(|party| {
                let recent = party.created.is_some_and(|at| now.instant.since(at) < window);
                recent && party.is_hosted_by(by.peer.as_str()) && party.name == name
            });
            return Ok(repeated.map(|party| party.id.clone()));
        };
        match self.parties.get_mut(id) {
            None => Ok(None),
            Some(party) if !party.is_hosted_by(by.peer.as_str()) => Err(Refusal::PartyTaken),
            Some(party) => {
                if party.name != name {
                    party.name = name.to_owned();
                    self.count_party(None, id);
                    self.changes.push(Change::PartyChanged(id.clone()));
                }
                Ok(Some(id.clone()))
            }
        }
    }

    /// 12 hexadecimal digits that nobody has, without the "404" that stock clients take for an error.
    pub(super) fn free_party_id(&self) -> PartyId {
        loop {
            let text = hex::encode(&random::bytes::<6>());
            if let Some(id) = PartyId::new(&text)
                && !text.contains("404")
                && !self.parties.contains_key(&id)
            {
                return id;
            }
        }
    }

    /// Puts the caller into a party, or takes in what it says anew if it is there already. Whether it may come in was
    /// looked at before.
    pub(super) fn join_party(
        &mut self,
        by: &Identity,
        id: &str,
        info: PeerInfo,
        claim: KeyClaim<'_>,
        now: Now,
    ) -> Result<(), Refusal> {
        self.add_member(by, id, info, claim, self.payer(by), now)
    }

    /// The same, at the cost of `payer`.
    pub(super) fn add_member(
        &mut self,
        by: &Identity,
        id: &str,
        info: PeerInfo,
        claim: KeyClaim<'_>,
        payer: IpAddr,
        now: Now,
    ) -> Result<(), Refusal> {
        if !self.stands(by) {
            return Err(Refusal::PeerTaken);
        }
        let key = info.wireguard_key();
        let party = self.party(id)?;
        if party.bans(&by.peer, key) {
            return Err(Refusal::Banned);
        }
        let limits = &self.settings.limits;
        let old = party.members.get(&by.peer);
        if old.is_none() {
            if party.members.len() >= limits.peers_per_party {
                return Err(Refusal::Limit { what: "peers in this party", limit: limits.peers_per_party });
            }
            if self.parties_of(&by.peer).len() >= limits.parties_joined {
                return Err(Refusal::Limit { what: "parties of one peer", limit: limits.parties_joined });
            }
        }
        let is_proven = self.is_proof(claim, key, &by.peer, now)?;
        let id = party.id.clone();
        self.afford_member(payer, &id, &info)?;
        // The same text, which the peer's token holds already.
        let info = PeerInfo { peer_id: by.peer.clone(), ..info };
        let mut clock = old.map_or(LocalClock::Ours, |member| member.clock);
        if let Some(said) = info.last_seen {
            clock.learn(said, now);
        }
        let text = address_key(&info, key);
        let name = match key {
            Some(_) => self.name_for(&text, by, is_proven),
            None => addresses::shared_name(&text, &by.peer),
        };
        let acquired = self.addresses.acquire(&name, &by.peer)?;
        let info = info.sharing(&acquired.name);

        let party = self.parties.get_mut(&id).expect("looked up above");
        let old = party.members.remove(&by.peer);
        let member = Member {
            key,
            virtual_ip: acquired.address,
            address_name: acquired.name.clone(),
            joined: old.as_ref().map_or(party.joins, |member| member.joined),
            claim: old.as_ref().filter(|old| old.key == key).map_or(self.claims, |member| member.claim),
            origin: old.as_ref().map_or(claim.origin, |member| member.origin),
            seen: now.instant,
            heard: now.instant,
            clock,
            standing: by.standing,
            footprint: old.as_ref().map_or(Footprint::NONE, |member| member.footprint),
            extras: old.as_ref().and_then(|member| member.extras.clone()),
            info,
        };
        self.claims = self.claims.max(member.claim.saturating_add(1));
        match &old {
            Some(old) => {
                if !same_to_others(old, &member) {
                    self.changes.push(Change::MemberChanged(id.clone(), by.peer.clone()));
                }
            }
            None => {
                party.joins += 1;
                self.changes.push(Change::MemberJoined(id.clone(), by.peer.clone()));
            }
        }
        party.members.insert(by.peer.clone(), Box::new(member));
        self.count_member(&by.peer, payer, &id);
        match old {
            Some(old) => self.release_name(&old.address_name, old.key, &by.peer),
            None => self.remember_membership(by.peer.clone(), id),
        }
        self.note_address(&acquired);
        if let Some(key) = key {
            self.note_key(&key, &acquired.name, by, is_proven);
        }
        self.note_origin(&by.peer, claim.origin);
        self.end_other_lineages(by);
        Ok(())
    }

    /// Notes what came of asking for an address. A new address of a key's own name is told of with its owner.
    pub(super) fn note_address(&mut self, acquired: &Acquired) {
        let forgotten = acquired.forgotten.as_ref();
        self.changes.extend(forgotten.map(|name| Change::AddressForgotten(name.to_string())));
        if acquired.assigned && addresses::is_shared(&acquired.name) {
            self.changes.push(Change::AddressAssigned(acquired.name.to_string()));
        }
    }

    /// Counts a sign of life of a member, and where it came from.
    pub fn heartbeat(
        &mut self,
        party: &str,
        peer: &PeerId,
        origin: Option<IpAddr>,
        now: Now,
    ) -> Result<(), Refusal> {
        let found = self.parties.get_mut(party).ok_or_else(|| Refusal::PartyNotFound(party.to_owned()))?;
        let member = found.members.get_mut(peer).ok_or_else(|| Refusal::PeerNotFound(peer.to_string()))?;
        if let Some(following) = &mut self.following {
            following.note_beat(&found.id, member);
        }
        (member.seen, member.heard) = (now.instant, now.instant);
        self.note_origin(peer, origin);
        Ok(())
    }

    /// Takes in how many others a member, which is an agent, reaches straight.
    pub fn note_straight(&mut self, party: &str, peer: &PeerId, count: u8) {
        let Some(found) = self.parties.get_mut(party) else { return };
        let Some(member) = found.members.get_mut(peer) else { return };
        let straight = &mut member.extras_mut().straight;
        let most = straight.map_or(0, |(_, most)| most);
        *straight = Some((count, most.max(count)));
        if most == 0 && count > 0 {
            self.changes.push(Change::WentStraight(found.id.clone(), peer.clone()));
        }
    }

    /// Takes a peer out of a party: itself, or whom the host or an admin wants out.
    ///
    /// A host that leaves takes the party with it, and so does the last member. The stock refusal of a
    /// stranger comes before any word on whether the party or the peer exists.
    pub fn remove_peer(&mut self, by: &Actor, party: &str, peer: &str) -> Result<Removed, Refusal> {
        let found = self.parties.get(party);
        let hosts = found.is_some_and(|party| by.hosts(party));
        if !by.is(peer) && !hosts && *by != Actor::Admin {
            return Err(Refusal::TokenMismatch("requested peer_id"));
        }
        let found = found.ok_or_else(|| Refusal::PartyNotFound(party.to_owned()))?;
        let (member, _) =
            found.members.get_key_value(peer).ok_or_else(|| Refusal::PeerNotInParty(peer.to_owned()))?;
        let (id, member) = (found.id.clone(), member.clone());
        let (hosted, permanent) = (found.is_hosted_by(peer), found.permanent);
        if !permanent && (hosted || found.members.len() == 1) {
            self.remove_party(&id);
            return Ok(Removed::PartyDeleted);
        }
        if hosted {
            self.parties.get_mut(&id).expect("looked up above").host = None;
            self.changes.push(Change::PartyChanged(id.clone()));
        }
        let (why, removed) =
            if by.is(peer) { (Departure::Left, Removed::Left) } else { (Departure::Kicked, Removed::Kicked) };
        self.remove_member(&id, &member, why);
        Ok(removed)
    }

    /// Ends a party, for its host or an admin.
    pub fn delete_party(&mut self, by: &Actor, party: &str) -> Result<(), Refusal> {
        let id = self.owned_party(by, party)?.id.clone();
        self.remove_party(&id);
        Ok(())
    }

    /// Bans a peer by its id (and by the key it has in the party now), by a key, or by both, and removes
    /// every member that this means.
    pub fn ban(&mut self, by: &Actor, party: &str, mut ban: Ban) -> Result<(), Refusal> {
        let limit = self.settings.limits.bans_per_party;
        let party = self.owned_party(by, party)?;
        if let Some(member) = ban.peer_id.as_ref().and_then(|peer| party.members.get(peer)) {
            ban.key = ban.key.or(member.key);
        }
        if let Some(id) = &party.host
            && ban.covers(id, party.members.get(id).and_then(|host| host.key))
        {
            return Err(Refusal::HostNotBannable);
        }
        let known = party.bans.contains(&ban);
        if !known && party.bans.len() >= limit {
            return Err(Refusal::Limit { what: "bans in this party", limit });
        }
        if !known {
            self.afford_ban(party)?;
        }
        let id = party.id.clone();
        let meant: Vec<PeerId> = party
            .members
            .iter()
            .filter(|(peer, member)| ban.covers(peer, member.key))
            .map(|(peer, _)| peer.clone())
            .collect();
        if !known {
            self.parties.get_mut(&id).expect("looked up above").bans.push(ban);
            self.count_party(None, &id);
            self.changes.push(Change::PartyChanged(id.clone()));
        }
        for peer in meant {
            self.remove_member(&id, &peer, Departure::Banned);
        }
        Ok(())
    }

    /// Lifts the bans that have this peer id or this key. A ban by peer id goes with the key that was banned
    /// along with it.
    pub fn unban(&mut self, by: &Actor, party: &str, lifted: &Ban, spelled: &str) -> Result<(), Refusal> {
        let id = self.owned_party(by, party)?.id.clone();
        let bans = &mut self.parties.get_mut(&id).expect("looked up above").bans;
        let before = bans.len();
        bans.retain(|ban| {
            let same_peer = ban.peer_id.is_some() && ban.peer_id == lifted.peer_id;
            let same_key = ban.key.is_some() && ban.key == lifted.key;
            !same_peer && !same_key
        });
        if bans.len() == before {
            return Err(Refusal::BanNotFound(spelled.to_owned()));
        }
        self.count_party(None, &id);
        self.changes.push(Change::PartyChanged(id));
        Ok(())
    }

    /// The party, if the caller is its host or an admin.
    pub fn owned_party(&self, by: &Actor, party: &str) -> Result<&Party, Refusal> {
        let found = self.party(party)?;
        if *by == Actor::Admin || by.hosts(found) { Ok(found) } else { Err(Refusal::NotHost) }
    }

    /// The party, if the caller may read it: whoever knows its id, but for the banned; if not everybody may come in,
    /// its members.
    pub fn readable_party(&self, by: &Actor, party: &str) -> Result<&Party, Refusal> {
        let found = self.party(party)?;
        match by.peer() {
            Some(peer) if found.bans(peer, None) => Err(Refusal::Banned),
            Some(peer) if found.access.is_protected() && !found.members.contains_key(peer) => {
                Err(Refusal::NotMember)
            }
            _ => Ok(found),
        }
    }

    /// Passes data from one member to another. It is either delivered by who drains the changes or queued
    /// with [`Control::queue_signal`].
    pub fn signal(
        &mut self,
        by: &Identity,
        party: &str,
        to: &str,
        data: String,
        now: Now,
    ) -> Result<(), Refusal> {
        let limits = &self.settings.limits;
        let party = self.party(party)?;
        if !party.members.contains_key(&by.peer) {
            return Err(Refusal::NotMember);
        }
        let (to, member) =
            party.members.get_key_value(to).ok_or_else(|| Refusal::PeerNotFound(to.to_owned()))?;
        if data.len() > limits.signal_size {
            return Err(Refusal::Limit { what: "bytes in one signal", limit: limits.signal_size });
        }
        if member.signals().count() >= limits.signals_per_peer {
            return Err(Refusal::Limit {
                what: "signals waiting for this peer",
                limit: limits.signals_per_peer,
            });
        }
        let (id, to, payer) = (party.id.clone(), to.clone(), self.payer(by));
        self.make_room_for_signal(payer, data.len())?;
        let signal = Signal { from: by.peer.clone(), to, data, sent_at: now.unix, payer };
        self.changes.push(Change::Signalled(id, signal));
        Ok(())
    }

    /// Keeps a signal until its recipient asks for it. One that is too many by now is lost.
    pub fn queue_signal(&mut self, party: &PartyId, signal: Signal) {
        let (most, room) = (self.settings.limits.signals_per_peer, self.settings.limits.signals_size);
        let has_room = self.signals.total() + signal.bytes() <= room;
        let member = self.parties.get_mut(party).and_then(|party| party.members.get_mut(&signal.to));
        if let Some(member) = member.filter(|member| has_room && member.signals().count() < most) {
            member.extras_mut().signals.push_back(signal.clone());
            self.count_signal(&signal);
        }
    }

    /// Takes back a signal that waits for a member: it has reached it in another way.
    pub fn withdraw_signal(&mut self, party: &PartyId, signal: &Signal) {
        let member = self.parties.get_mut(party).and_then(|party| party.members.get_mut(&signal.to));
        let waiting = member.and_then(|member| member.extras.as_mut()).map(|extras| &mut extras.signals);
        let taken = waiting.and_then(|waiting| {
            let at = waiting.iter().position(|other| other == signal)?;
            waiting.remove(at)
        });
        if let Some(taken) = taken {
            self.release_signals(&[taken]);
        }
    }

    /// Takes the signals that wait for a member.
    pub fn take_signals(&mut self, party: &str, peer: &str) -> Result<VecDeque<Signal>, Refusal> {
        let found = self.parties.get_mut(party).ok_or_else(|| Refusal::PartyNotFound(party.to_owned()))?;
        let member = found.members.get_mut(peer).ok_or_else(|| Refusal::PeerNotFound(peer.to_owned()))?;
        let signals =
            member.extras.as_mut().map(|extras| std::mem::take(&mut extras.signals)).unwrap_or_default();
        self.release_signals(&signals);
        Ok(signals)
    }

    /// Takes a member out of its party, with what it costs. The name of its address is still held.
    pub(super) fn take_member(&mut self, id: &PartyId, peer: &str) -> Option<Box<Member>> {
        let member = self.parties.get_mut(id)?.members.remove(peer)?;
        self.release_signals(member.signals());
        self.recount(member.footprint, Footprint::NONE);
        if let Some(parties) = self.memberships.get_mut(peer) {
            parties.remove_first(|party| party == id);
            if parties.as_slice().is_empty() {
                self.memberships.remove(peer);
            }
        }
        Some(member)
    }

    pub(super) fn remove_member(&mut self, id: &PartyId, peer: &PeerId, why: Departure) {
        let Some(member) = self.take_member(id, peer.as_str()) else { return };
        self.release_name(&member.address_name, member.key, peer);
        if why.is_removal() {
            self.forget_user(id, &identity(&member));
        }
        self.changes.push(departure(id, &member, why));
    }

    pub(super) fn remove_party(&mut self, id: &PartyId) {
        let Some(party) = self.parties.get(id) else { return };
        let (name, created_at, host) = (party.name.clone(), party.created_at, party.host.clone());
        let members: Vec<Identity> = party.members.values().map(|member| identity(member)).collect();
        for member in &members {
            self.remove_member(id, &member.peer, Departure::PartyDeleted);
        }
        self.take_party(id.as_str());
        self.changes.push(Change::PartyDeleted { party: id.clone(), name, created_at, host, members });
    }

    /// Takes out a party that has no members any more, with what it costs.
    pub(super) fn take_party(&mut self, id: &str) {
        if let Some(party) = self.parties.remove(id) {
            self.recount(party.footprint, Footprint::NONE);
            party.invites.iter().for_each(|invite| drop(self.invites.remove(&invite.id)));
        }
    }

    /// Gives every party of a player's a host that is a member of it, and ends those without players.
    pub(super) fn mend(&mut self) {
        (0..self.parties.len()).rev().for_each(|number| self.mend_party(number));
    }

    /// The same for one party.
    pub(super) fn mend_party(&mut self, number: usize) {
        let Some((id, party)) = self.parties.at_mut(number) else { return };
        let is_orphaned = match &party.host {
            Some(host) => !party.members.contains_key(host),
            None => !party.permanent && party.joins > 0 && party.members.is_empty(),
        };
        if !is_orphaned {
            return;
        }
        let id = id.clone();
        match party.longest_present().cloned() {
            Some(heir) => party.host = Some(heir),
            None if party.permanent => party.host = None,
            None => return self.remove_party(&id),
        }
        self.changes.push(Change::PartyChanged(id));
    }
}

/// What tells a key from others: its canonical form, or the text if WireGuard cannot use it.
pub(super) fn address_key(info: &PeerInfo, key: Option<PublicKey>) -> String {
    key.map_or_else(|| info.public_key.to_string(), |key| key.encode())
}

/// Whether nothing changed that others are told or that has to be kept.
fn same_to_others(old: &Member, new: &Member) -> bool {
    let said = PeerInfo { last_seen: new.info.last_seen, ..old.info.clone() };
    said == new.info && old.virtual_ip == new.virtual_ip && old.standing == new.standing
}

/// That a member is gone.
pub(super) fn departure(party: &PartyId, member: &Member, why: Departure) -> Change {
    Change::MemberLeft {
        party: party.clone(),
        who: identity(member),
        name: member.info.name.clone(),
        is_device: member.device().is_some(),
        key: member.key,
        why,
    }
}
