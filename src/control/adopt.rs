//! What another instance has decided: its records and its changes, taken over as they are. Nothing is decided here:
//! nobody comes into a key, nothing ends, no address is looked for.
//!
//! What is no record stays as it is: when somebody was heard of, which signals wait.

use super::change::{Change, Departure};
use super::keys::identity;
use super::membership::departure;
use super::party::{Member, Party};
use super::record::{MemberRecord, PartyRecord, Records, RelayRecord};
use super::tokens::TokenHash;
use super::{Control, PartyId, PeerId, addresses};
use crate::ids::RelayId;
use crate::time::Now;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// What a commit of another instance did.
#[derive(Debug, Default)]
pub struct Commit {
    /// What is there now, of what changed.
    pub records: Records,
    /// What is gone.
    pub gone: Gone,
    /// What happened, in this order.
    pub changes: Vec<Change>,
}

/// Names of records that are there no more.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Gone {
    /// Parties by id.
    pub parties: Vec<String>,
    /// Members by party and peer.
    pub members: Vec<(String, String)>,
    /// Tokens by their hash.
    pub tokens: Vec<TokenHash>,
    /// Relays by id.
    pub relays: Vec<String>,
    /// Addresses by name.
    pub addresses: Vec<String>,
}

/// A commit contradicts what was there: only all records together help.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Diverged;

/// What is kept in mind while a commit is taken over.
#[derive(Default)]
struct Adoption {
    /// Parties that were made, and those with a new member: how many.
    created: HashSet<PartyId>,
    joins: HashMap<PartyId, u64>,
    issued: Vec<TokenHash>,
    /// Names that somebody held, in the order in which they were let go.
    released: Vec<Rc<str>>,
    has_diverged: bool,
}

impl Control {
    /// Takes over what another instance has decided.
    pub fn adopt(&mut self, commit: Commit, now: Now) -> Result<(), Diverged> {
        let Commit { mut records, gone, changes } = commit;
        let mut adoption = Adoption::default();
        for change in &changes {
            self.follow_change(change, &mut adoption, now);
        }
        // All names are let go before others take them.
        for (party, peer) in &gone.members {
            if let Some(party) = self.party_id(party) {
                self.drop_member(&party, peer, &mut adoption);
            }
        }
        for (party, peer, _) in &records.members {
            let member = self.parties.get(party.as_str()).and_then(|party| party.members.get(peer.as_str()));
            if let Some(member) = member {
                let held = HeldName::of(member);
                self.let_go(held, &mut adoption);
            }
        }
        gone.parties.iter().for_each(|party| self.drop_party(party, &mut adoption));
        self.adopt_addresses(&records, &gone, &mut adoption);
        for (id, record) in std::mem::take(&mut records.parties) {
            self.adopt_party(&id, record, &mut adoption, now);
        }
        for (party, peer, record) in std::mem::take(&mut records.members) {
            if self.adopt_member(&party, &peer, record, now).is_none() {
                adoption.has_diverged = true;
            }
        }
        for (party, count) in &adoption.joins {
            if let Some(party) = self.parties.get_mut(party) {
                party.joins = party.joins.max(*count);
            }
        }
        for name in &adoption.released {
            self.addresses.retire(name);
        }
        self.adopt_tokens(&records, &gone, &adoption, now);
        for id in gone.relays.iter().filter_map(|id| RelayId::stored(id)) {
            self.relays.remove(&id);
            self.approvals.remove(&id);
        }
        for (id, record) in records.relays {
            adoption.has_diverged |= self.adopt_relay(&id, record, now).is_none();
        }
        for change in &changes {
            if let Change::RelayHeard { relay, load, left_out } = change {
                self.approvals.note_heard(relay, Some((*load, *left_out)), now.instant);
                self.relays.note_load(relay, *load, now.instant);
            }
        }
        if records.endpoint.is_some() {
            self.endpoint = records.endpoint;
        }
        self.changes.extend(changes);
        if adoption.has_diverged { Err(Diverged) } else { Ok(()) }
    }

    /// The id with this text, as it is there already.
    fn party_id(&self, id: &str) -> Option<PartyId> {
        self.parties.get_key_value(id).map(|(id, _)| id.clone())
    }

    /// Does what records do not tell.
    fn follow_change(&mut self, change: &Change, adoption: &mut Adoption, now: Now) {
        match change {
            Change::PartyCreated(party) => {
                adoption.created.insert(party.clone());
                adoption.joins.insert(party.clone(), 0);
            }
            Change::PartyRenamed { from, party, .. } => self.move_party(from, party, adoption),
            Change::PartyDeleted { party, .. } => {
                adoption.created.remove(party);
                adoption.joins.remove(party);
                self.drop_party(party.as_str(), adoption);
            }
            Change::MemberJoined(party, _) => {
                let known = self.parties.get(party).map_or(0, |party| party.joins);
                *adoption.joins.entry(party.clone()).or_insert(known) += 1;
            }
            // Whoever comes back in the same commit has nothing waiting.
            Change::MemberLeft { party, who, .. } => self.drop_member(party, who.peer.as_str(), adoption),
            Change::TokenIssued(hash) | Change::TokenExtended(hash) => adoption.issued.push(*hash),
            Change::TokenRevoked(hash) => self.tokens.revoke(hash),
            Change::RelayChanged(id) => self.approvals.note_heard(id, None, now.instant),
            _ => {}
        }
    }

    /// Has a party go on under another id, with all that waits in it.
    fn move_party(&mut self, from: &PartyId, to: &PartyId, adoption: &mut Adoption) {
        if let Some(joins) = adoption.joins.remove(from) {
            adoption.joins.insert(to.clone(), joins);
        }
        if adoption.created.remove(from) {
            adoption.created.insert(to.clone());
        }
        let Some(mut party) = self.parties.remove(from) else { return };
        party.id = to.clone();
        for invite in &party.invites {
            self.invites.insert(invite.id, to.clone());
        }
        for peer in party.members.keys() {
            if let Some(parties) = self.memberships.get_mut(peer) {
                parties.remove_first(|party| party == from);
                parties.push(to.clone());
            }
        }
        self.parties.insert(to.clone(), party);
    }

    /// Lets go the name that a member holds.
    fn let_go(&mut self, HeldName { name, key, peer }: HeldName, adoption: &mut Adoption) {
        if self.addresses.let_go(&name)
            && addresses::is_shared(&name)
            && let Some(key) = key
        {
            self.addresses.stop_waiting(&key, &peer);
        }
        adoption.released.push(name);
    }

    fn drop_member(&mut self, party: &PartyId, peer: &str, adoption: &mut Adoption) {
        if let Some(member) = self.take_member(party, peer) {
            self.let_go(HeldName::of(&member), adoption);
        }
    }

    fn drop_party(&mut self, id: &str, adoption: &mut Adoption) {
        let Some(id) = self.party_id(id) else { return };
        let members = self.parties.get(&id).map(|party| party.members.keys().cloned().collect());
        let members: Vec<PeerId> = members.unwrap_or_default();
        members.iter().for_each(|peer| self.drop_member(&id, peer.as_str(), adoption));
        self.take_party(id.as_str());
    }

    fn adopt_addresses(&mut self, records: &Records, gone: &Gone, adoption: &mut Adoption) {
        let mut known = Vec::with_capacity(records.addresses.len());
        for (name, record) in &records.addresses {
            match record.address.parse() {
                Ok(address) => known.push((name, address, record)),
                Err(_) => adoption.has_diverged = true,
            }
        }
        let moved = known.iter().filter(|(name, address, _)| {
            self.addresses.get(name).is_some_and(|(known, _)| known != *address)
        });
        let moved: Vec<&String> = moved.map(|(name, ..)| *name).collect();
        for name in gone.addresses.iter().chain(moved) {
            if self.addresses.get(name).is_some() && !self.addresses.forget(name) {
                adoption.has_diverged = true;
            }
        }
        for (name, address, record) in known {
            if !self.addresses.adopt(name, address, record.order, record.owner()) {
                adoption.has_diverged = true;
            }
        }
    }

    fn adopt_party(&mut self, id: &str, record: PartyRecord, adoption: &mut Adoption, now: Now) {
        let Some(mut party) = record.restore(id, now) else {
            adoption.has_diverged = true;
            return;
        };
        if adoption.created.contains(&party.id) {
            party.created = Some(now.instant);
        }
        if let Some(old) = self.parties.remove(id) {
            old.invites.iter().for_each(|invite| drop(self.invites.remove(&invite.id)));
            let joins = party.joins.max(old.joins);
            let (id, members, created) = (old.id, old.members, old.created);
            party = Party { id, members, created, joins, footprint: old.footprint, ..party };
        }
        let id = party.id.clone();
        for invite in &party.invites {
            self.invites.insert(invite.id, id.clone());
        }
        self.parties.insert(id.clone(), party);
        self.count_party(None, &id);
    }

    /// Puts a member, the name of whose address nobody holds for this party, as it is now.
    fn adopt_member(&mut self, party: &str, peer: &str, record: MemberRecord, now: Now) -> Option<()> {
        let party = self.party_id(party)?;
        let mut member = record.restore(peer, now)?;
        let peer = match self.memberships.get_key_value(peer) {
            Some((peer, _)) => peer.clone(),
            None => member.info.peer_id.clone(),
        };
        member.info.peer_id = peer.clone();
        let Some(acquired) = self.addresses.acquire_known(&member.address_name, &peer) else {
            self.take_member(&party, peer.as_str());
            return None;
        };
        let old = self.parties.get_mut(&party)?.members.remove(&peer);
        let fits = acquired.address == member.virtual_ip;
        member.virtual_ip = acquired.address;
        if let Some(old) = &old {
            (member.seen, member.heard, member.footprint) = (old.seen, old.heard, old.footprint);
        }
        if let Some(old) = old.and_then(|old| old.extras) {
            let extras = member.extras_mut();
            (extras.signals, extras.called, extras.straight) = (old.signals, old.called, old.straight);
            if let (Some(device), Some(old)) = (&mut extras.device, old.device) {
                device.handshake = old.handshake;
            }
        }
        member.info = member.info.sharing(&acquired.name);
        member.address_name = acquired.name;
        self.claims = self.claims.max(member.claim.saturating_add(1));
        if let Some(key) = member.key.filter(|_| addresses::is_shared(&member.address_name)) {
            self.addresses.wait(&key.encode(), &peer);
        }
        let payer = member.footprint.payer();
        let found = self.parties.get_mut(&party)?;
        found.joins = found.joins.max(member.joined.saturating_add(1));
        found.members.insert(peer.clone(), Box::new(member));
        self.count_member(&peer, payer, &party);
        if !self.parties_of(&peer).contains(&party) {
            self.remember_membership(peer, party);
        }
        fits.then_some(())
    }

    fn adopt_tokens(&mut self, records: &Records, gone: &Gone, adoption: &Adoption, now: Now) {
        gone.tokens.iter().for_each(|hash| self.tokens.revoke(hash));
        let life = self.settings.lifetimes.token;
        adoption.issued.iter().for_each(|hash| self.tokens.renew(hash, life, now.instant));
        let by_hash: HashMap<_, _> = records.tokens.iter().map(|(hash, record)| (hash, record)).collect();
        // In the order in which they were issued: one more than a peer may have replaces its oldest.
        for hash in adoption.issued.iter().chain(records.tokens.iter().map(|(hash, _)| hash)) {
            let Some(record) = by_hash.get(hash) else { continue };
            if self.tokens.get(hash).is_some() {
                continue;
            }
            let known = self.memberships.get_key_value(record.peer_id.as_str()).map(|(peer, _)| peer.clone());
            if let Some(peer) = known.or_else(|| PeerId::stored(&record.peer_id)) {
                self.tokens.insert(*hash, record.restore(peer, None, life, now));
            }
        }
    }

    fn adopt_relay(&mut self, id: &str, record: RelayRecord, now: Now) -> Option<()> {
        let id = RelayId::stored(id)?;
        if record.is_approved() {
            self.relays.remove(&id);
            self.approvals.adopt(record.restore_approved(id.as_str(), now)?);
        } else {
            self.approvals.remove(&id);
            self.relays.adopt(record.restore(id.as_str(), now)?);
        }
        Some(())
    }

    /// Takes over all records there are, when what led to them is not known: who came and went, and what else changed,
    /// is told all the same.
    pub fn catch_up(&mut self, records: Records, now: Now) -> Result<(), Diverged> {
        let commit = self.difference(records, now);
        self.adopt(commit, now)
    }

    /// What must have happened.
    fn difference(&self, records: Records, now: Now) -> Commit {
        let (mut gone, mut changes) = (Gone::default(), Vec::new());
        let parties: HashMap<&str, &PartyRecord> =
            records.parties.iter().map(|(id, record)| (id.as_str(), record)).collect();
        // Under which ids the parties that are known go on.
        let mut successors = HashMap::new();
        for (id, record) in records.parties.iter().filter(|(id, _)| !self.parties.contains_key(id.as_str())) {
            let former = record.former.iter().flatten().rev();
            let known = former.filter_map(|from| self.parties.get(from.as_str()));
            let from = known.map(|party| &party.id).find(|from| !parties.contains_key(from.as_str()));
            match (from, PartyId::stored(id)) {
                (Some(from), Some(to)) => drop(successors.insert(from.clone(), to)),
                (None, Some(id)) => changes.push(Change::PartyCreated(id)),
                (_, None) => {}
            }
        }
        let members: HashMap<(&str, &str), &MemberRecord> = records
            .members
            .iter()
            .map(|(party, peer, record)| ((party.as_str(), peer.as_str()), record))
            .collect();
        for party in self.parties.values() {
            let id = successors.get(&party.id).unwrap_or(&party.id);
            let record = parties.get(id.as_str());
            if id != &party.id {
                let members = party.members.keys().cloned().collect();
                changes.push(Change::PartyRenamed { from: party.id.clone(), party: id.clone(), members });
            }
            for (peer, member) in &party.members {
                match members.get(&(id.as_str(), peer.as_str())) {
                    Some(record) if **record == seen_elsewhere(member, record, now) => {}
                    Some(_) => changes.push(Change::MemberChanged(id.clone(), peer.clone())),
                    None => {
                        let bans = record.and_then(|record| (*record).clone().restore(id.as_str(), now));
                        let is_banned = bans.is_some_and(|party| party.bans(peer, member.key));
                        gone.members.push((id.to_string(), peer.to_string()));
                        changes.push(departure(
                            id,
                            member,
                            match record {
                                None => Departure::PartyDeleted,
                                Some(_) if is_banned => Departure::Banned,
                                Some(_) => Departure::Left,
                            },
                        ));
                    }
                }
            }
            match record {
                None => {
                    gone.parties.push(id.to_string());
                    changes.push(Change::PartyDeleted {
                        party: id.clone(),
                        name: party.name.clone(),
                        created_at: party.created_at,
                        host: party.host.clone(),
                        members: party.members.values().map(|member| identity(member)).collect(),
                    });
                }
                Some(record) => {
                    let known = PartyRecord::of(party, now);
                    if (&known.name, &known.host, &known.bans) != (&record.name, &record.host, &record.bans) {
                        changes.push(Change::PartyChanged(id.clone()));
                    } else if known != **record {
                        changes.push(Change::EntryChanged(id.clone()));
                    }
                }
            }
        }
        for (party, peer, _) in &records.members {
            let known = successors.iter().find(|(_, to)| to.as_str() == party).map(|(from, _)| from.as_str());
            let known = self.parties.get(known.unwrap_or(party));
            if known.is_none_or(|known| !known.members.contains_key(peer.as_str()))
                && let (Some(party), Some(peer)) = (PartyId::stored(party), PeerId::stored(peer))
            {
                changes.push(Change::MemberJoined(party, peer));
            }
        }
        self.difference_of_the_rest(&records, &mut gone, &mut changes);
        Commit { records, gone, changes }
    }

    fn difference_of_the_rest(&self, records: &Records, gone: &mut Gone, changes: &mut Vec<Change>) {
        let tokens: HashSet<&TokenHash> = records.tokens.iter().map(|(hash, _)| hash).collect();
        for hash in self.tokens.iter().map(|(hash, _)| hash).filter(|hash| !tokens.contains(hash)) {
            gone.tokens.push(hash);
            changes.push(Change::TokenRevoked(hash));
        }
        let relays: HashSet<&str> = records.relays.iter().map(|(id, _)| id.as_str()).collect();
        let known = self.relays.iter().map(|relay| &relay.info.relay_id);
        let approved = self.approvals.approved().map(|relay| &relay.info.relay_id);
        for id in known.chain(approved).filter(|id| !relays.contains(id.as_str())) {
            gone.relays.push(id.to_string());
            changes.push(Change::RelayExpired(id.clone()));
        }
        for (id, record) in &records.relays {
            if let Some(id) = RelayId::stored(id)
                && self.relay_record(&id).as_ref() != Some(record)
            {
                changes.push(Change::RelayChanged(id));
            }
        }
        let addresses: HashSet<&str> = records.addresses.iter().map(|(name, _)| name.as_str()).collect();
        for name in self.addresses.names().filter(|name| !addresses.contains(name)) {
            gone.addresses.push(name.to_owned());
            changes.push(Change::AddressForgotten(name.to_owned()));
        }
    }
}

/// What a member holds of the addresses.
struct HeldName {
    name: Rc<str>,
    key: Option<String>,
    peer: PeerId,
}

impl HeldName {
    fn of(member: &Member) -> Self {
        HeldName {
            name: member.address_name.clone(),
            key: member.key.map(|key| key.encode()),
            peer: member.info.peer_id.clone(),
        }
    }
}

/// A member as a record, but for what instances know differently.
fn seen_elsewhere(member: &Member, record: &MemberRecord, now: Now) -> MemberRecord {
    let (origin, expires, clock_offset) =
        (record.origin.clone(), record.expires.clone(), record.clock_offset);
    MemberRecord { origin, expires, clock_offset, ..MemberRecord::of(member, now) }
}
