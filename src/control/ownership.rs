//! What who owns a party does with it besides playing: who may come in, for how long, and by what invites.

use super::change::Change;
use super::entry::{PartyAccess, PasswordHash};
use super::expiry::Expiry;
use super::invites::{Invite, InviteWish};
use super::party::Party;
use super::refusal::Refusal;
use super::standing::Actor;
use super::{Control, PartyId, PeerId};
use crate::time::Now;

/// Ids that a party had before are remembered up to so many.
const FORMER_IDS: usize = 8;

/// What is to change of a party. What is not given stays.
#[derive(Clone, Copy, Debug, Default)]
pub struct PartyWish<'a> {
    /// What people call it.
    pub name: Option<&'a str>,
    /// Who may come in: a name of [`PartyAccess`].
    pub access: Option<&'a str>,
    /// The password, for a party by password.
    pub password: Option<&'a str>,
    /// Whether it outlasts its members.
    pub permanent: Option<bool>,
    /// When it ends; `Some(None)`: at no set time.
    pub ends: Option<Option<Expiry>>,
    /// For a new one: the relay in another place that its members are sent to.
    pub relay: Option<&'a str>,
}

impl Control {
    /// Makes a party that belongs to this machine, and outlasts its members unless it is said not to.
    pub fn create_own_party(&mut self, wish: &PartyWish<'_>, now: Now) -> Result<PartyId, Refusal> {
        let limit = self.settings.limits.parties;
        if self.parties.len() >= limit {
            return Err(Refusal::Full { what: "parties", limit });
        }
        let access = self.access(&PartyAccess::Open, wish)?;
        let relay = wish.relay.map(|id| self.approvals.get(id).ok_or(Refusal::RelayUnknown)).transpose()?;
        let relay = relay.map(|relay| relay.info.relay_id.clone());
        let id = self.free_party_id();
        self.add_party(id.clone(), wish.name.unwrap_or_default(), None, now);
        let party = self.parties.get_mut(&id).expect("it was added");
        party.access = access;
        party.permanent = wish.permanent.unwrap_or(true);
        party.ends = wish.ends.flatten();
        party.relay = relay;
        self.count_party(None, &id);
        Ok(id)
    }

    /// Changes a party, for its host or an admin.
    pub fn change_party(&mut self, by: &Actor, party: &str, wish: &PartyWish<'_>) -> Result<(), Refusal> {
        let party = self.owned_party(by, party)?;
        if wish.permanent == Some(true) && !party.permanent && *by != Actor::Admin {
            return Err(Refusal::NotPermanent);
        }
        let (id, access) = (party.id.clone(), self.access(&party.access, wish)?);
        let party = self.parties.get_mut(&id).expect("looked up above");
        party.access = access;
        party.permanent = wish.permanent.unwrap_or(party.permanent);
        party.ends = wish.ends.unwrap_or(party.ends);
        match wish.name.filter(|name| *name != party.name) {
            Some(name) => {
                name.clone_into(&mut party.name);
                self.count_party(None, &id);
                self.changes.push(Change::PartyChanged(id));
            }
            None => self.changes.push(Change::EntryChanged(id)),
        }
        Ok(())
    }

    /// Who may come in from now on. A password alone makes it a party by password.
    fn access(&self, now: &PartyAccess, wish: &PartyWish<'_>) -> Result<PartyAccess, Refusal> {
        let password = wish.password.map(|password| PasswordHash::new(password, &self.storage_key));
        let name = wish.access.or(password.as_ref().map(|_| "password"));
        match (name, now) {
            (None, known) => Ok(known.clone()),
            (Some("password"), PartyAccess::Password(known)) => {
                Ok(PartyAccess::Password(password.unwrap_or_else(|| known.clone())))
            }
            (Some(name), _) => PartyAccess::parse(name, password).ok_or(Refusal::PasswordNeeded),
        }
    }

    /// Makes an invite to a party, for its host or an admin. Gives its secret, which is nowhere kept.
    pub fn create_invite(
        &mut self,
        by: &Actor,
        party: &str,
        wish: InviteWish,
        now: Now,
    ) -> Result<(String, &Invite), Refusal> {
        let party = self.owned_party(by, party)?;
        let (limits, id) = (&self.settings.limits, party.id.clone());
        // The oldest that is over makes room.
        let over = party.invites.iter().find(|invite| invite.is_over(now)).map(|invite| invite.id);
        let over = over.filter(|_| party.invites.len() >= limits.invites_per_party);
        if over.is_none() && party.invites.len() >= limits.invites_per_party {
            let limit = limits.invites_per_party;
            return Err(Refusal::Limit { what: "invites to this party", limit });
        }
        if over.is_none() && self.invites.len() >= limits.invites {
            return Err(Refusal::Full { what: "invites", limit: limits.invites });
        }
        self.afford_invite(party)?;
        let (secret, invite) = Invite::new(wish, &self.storage_key, now);
        self.invites.insert(invite.id, id.clone());
        let party = self.parties.get_mut(&id).expect("looked up above");
        if let Some(over) = over {
            party.invites.retain(|invite| invite.id != over);
            self.invites.remove(&over);
        }
        party.invites.push(invite);
        self.count_party(None, &id);
        self.changes.push(Change::EntryChanged(id.clone()));
        let party = self.parties.get(&id).expect("looked up above");
        Ok((secret, party.invites.last().expect("it was put there")))
    }

    /// Puts an end to an invite, for the party's host or an admin.
    pub fn revoke_invite(&mut self, by: &Actor, party: &str, invite: &str) -> Result<(), Refusal> {
        let id = self.owned_party(by, party)?.id.clone();
        let party = self.parties.get_mut(&id).expect("looked up above");
        let found = party.invites.iter_mut().find(|one| one.id.to_string() == invite && !one.is_revoked);
        found.ok_or(Refusal::InviteUnknown)?.is_revoked = true;
        self.changes.push(Change::EntryChanged(id));
        Ok(())
    }

    /// Puts an end to the invite by which a member came, for the party's host or an admin.
    pub fn revoke_invite_of(&mut self, by: &Actor, party: &str, peer: &str) -> Result<(), Refusal> {
        let party = self.owned_party(by, party)?;
        let invite = party.members.get(peer).and_then(|member| member.invite());
        match invite {
            Some(invite) if party.invites.iter().any(|one| one.id == invite && !one.is_revoked) => {
                let id = party.id.to_string();
                self.revoke_invite(by, &id, &invite.to_string())
            }
            _ => Ok(()),
        }
    }

    /// Gives a party another id, for its host or an admin: who is in it may go on under the old one, and nobody else.
    pub fn rename_party(&mut self, by: &Actor, party: &str) -> Result<PartyId, Refusal> {
        let from = self.owned_party(by, party)?.id.clone();
        let to = self.free_party_id();
        let mut party = self.parties.remove(&from).expect("looked up above");
        party.id = to.clone();
        party.former.push(from.clone());
        if party.former.len() > FORMER_IDS {
            party.former.remove(0);
        }
        let members: Vec<PeerId> = party.members.keys().cloned().collect();
        for invite in &party.invites {
            self.invites.insert(invite.id, to.clone());
        }
        for peer in &members {
            if let Some(parties) = self.memberships.get_mut(peer) {
                parties.remove_first(|party| *party == from);
                parties.push(to.clone());
            }
        }
        self.parties.insert(to.clone(), party);
        self.count_party(None, &to);
        self.changes.push(Change::PartyRenamed { from, party: to.clone(), members });
        Ok(to)
    }

    /// The parties that anybody may know of.
    pub fn public_parties(&self) -> impl Iterator<Item = &Party> {
        self.parties.values().filter(|party| party.access == PartyAccess::Public)
    }

    /// Lets time pass for the invites to a party, and takes in what the clock says of ends that had no date yet.
    pub(super) fn note_ends(&mut self, number: usize, now: Now) {
        let Some((id, party)) = self.parties.at_mut(number) else { return };
        let mut is_news = party.ends.as_mut().is_some_and(|end| end.learn(now));
        let before = party.invites.len();
        party.invites.retain_mut(|invite| {
            let (has_learned, is_forgotten) = invite.pass(now);
            is_news |= has_learned;
            if is_forgotten {
                self.invites.remove(&invite.id);
            }
            !is_forgotten
        });
        for (peer, member) in party.members.iter_mut() {
            let end = member.device_mut().and_then(|device| device.expires.as_mut());
            if end.is_some_and(|end| !end.is_over(now) && end.learn(now)) {
                self.changes.push(Change::MemberMoved(id.clone(), peer.clone()));
            }
        }
        let is_lighter = party.invites.len() != before;
        if is_news || is_lighter {
            let id = id.clone();
            self.count_party(None, &id);
            self.changes.push(Change::EntryChanged(id));
        }
    }
}
