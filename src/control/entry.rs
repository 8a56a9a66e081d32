//! Who may come into a party, and by what: its id, a password, an invite.

use super::expiry::Expiry;
use super::invites::{Invite, InviteId, Spelled};
use super::keys::KeyClaim;
use super::party::{DeviceMember, Member, Party, PeerInfo};
use super::refusal::Refusal;
use super::standing::Identity;
use super::{Change, Control, Departure, PartyId, PeerId};
use crate::crypto::x25519::PublicKey;
use crate::crypto::{blake2s, constant_time, hex, random};
use crate::time::Now;
use std::net::IpAddr;

/// A password under a key of this machine and a salt. It is no slow hash, because the loop does not wait: the key is
/// what keeps it from being guessed elsewhere, and guesses here are counted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PasswordHash {
    salt: [u8; 16],
    hash: [u8; 16],
}

impl PasswordHash {
    /// Of a new password.
    pub(super) fn new(password: &str, key: &[u8; 32]) -> Self {
        let salt = random::bytes();
        PasswordHash { salt, hash: Self::hash(password, &salt, key) }
    }

    fn hash(password: &str, salt: &[u8; 16], key: &[u8; 32]) -> [u8; 16] {
        blake2s::mac(key, &[b"lanrage v1 password", salt, password.as_bytes()])
    }

    fn is(&self, password: &str, key: &[u8; 32]) -> bool {
        constant_time::eq(&self.hash, &Self::hash(password, &self.salt, key))
    }

    pub(super) fn encode(&self) -> String {
        hex::encode(&[self.salt, self.hash].concat())
    }

    pub(super) fn decode(text: &str) -> Option<Self> {
        let bytes = hex::decode::<32>(text)?;
        Some(PasswordHash { salt: *bytes.first_chunk()?, hash: *bytes.last_chunk()? })
    }
}

/// Who may come into a party.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PartyAccess {
    /// Who knows its id.
    Open,
    /// Who knows its id and this password.
    Password(PasswordHash),
    /// Who was invited.
    Invite,
    /// Everybody: it is in a list.
    Public,
}

impl PartyAccess {
    /// On the wire and in the store.
    pub fn as_str(&self) -> &'static str {
        match self {
            PartyAccess::Open => "open",
            PartyAccess::Password(_) => "password",
            PartyAccess::Invite => "invite",
            PartyAccess::Public => "public",
        }
    }

    /// The one of this name; that by password only with one.
    pub(super) fn parse(name: &str, password: Option<PasswordHash>) -> Option<Self> {
        match name {
            "open" => Some(PartyAccess::Open),
            "password" => password.map(PartyAccess::Password),
            "invite" => Some(PartyAccess::Invite),
            "public" => Some(PartyAccess::Public),
            _ => None,
        }
    }

    /// Whether only members may read it.
    pub fn is_protected(&self) -> bool {
        matches!(self, PartyAccess::Password(_) | PartyAccess::Invite)
    }
}

/// What came of going into a party.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The party.
    pub party: PartyId,
    /// Who is in it now.
    pub peer: PeerId,
    /// What it has cost: to be undone if it can't be kept.
    pub paid: Option<InviteId>,
}

/// A device that somebody wants in a party.
#[derive(Clone, Debug)]
pub struct DeviceWish<'a> {
    /// What people call it.
    pub name: &'a str,
    /// Its key.
    pub key: PublicKey,
    /// When it leaves.
    pub expires: Option<Expiry>,
    /// Where it, or who has it, asks from; `None` if the owner of the machine does.
    pub origin: Option<IpAddr>,
}

impl Control {
    /// The party that a member means by this: its id, one that it had before, or the invite by which the member came.
    pub fn meant_by<'a>(&'a self, peer: &PeerId, name: &str) -> Option<&'a PartyId> {
        let exact = self.parties.get_key_value(name);
        if let Some((id, party)) = exact
            && party.members.contains_key(peer)
        {
            return Some(id);
        }
        // Its own names first: somebody else may have made a party that has one of them for an id.
        let own = || self.parties_of(peer).iter().filter_map(|id| self.parties.get(id));
        let former = |party: &&Party| party.former.iter().any(|id| id.as_str() == name);
        let came_by = |party: &Party| party.members.get(peer).and_then(|member| member.invite());
        let invited = || {
            own().find(|party| came_by(party).is_some())?;
            let invite = InviteId::of(&Spelled::read(name)?.hash(&self.storage_key));
            own().find(|party| came_by(party) == Some(invite))
        };
        let own = own().find(former).or_else(invited).map(|party| &party.id);
        own.or(exact.map(|(id, _)| id))
    }

    /// Whether this could be a typed code, and is no party: somebody may be guessing.
    pub fn may_be_code(&self, name: &str) -> bool {
        !self.parties.contains_key(name) && Spelled::read(name).is_some_and(|spelled| spelled.is_code())
    }

    /// The invite that is spelled so, and the party that it is to.
    pub fn invite(&self, spelled: &str) -> Result<(&Party, &Invite), Refusal> {
        let hash = Spelled::read(spelled).ok_or(Refusal::InviteUnknown)?.hash(&self.storage_key);
        let party = self.invites.get(&InviteId::of(&hash)).and_then(|party| self.parties.get(party));
        let found = party.and_then(|party| Some((party, party.invites.iter().find(|one| one.has(&hash))?)));
        found.ok_or(Refusal::InviteUnknown)
    }

    /// The invite that is spelled so, for who looks at it before going in.
    pub fn preview(&self, spelled: &str, now: Now) -> Result<(&Party, &Invite), Refusal> {
        let (party, invite) = self.invite(spelled)?;
        invite.admits(None, now)?;
        Ok((party, invite))
    }

    /// Takes the caller into the party of this name, if it may come in; a member, again. In place of a party's id it
    /// may give an invite: that is looked at, counted down and used in one step.
    pub fn enter_party(
        &mut self,
        by: &Identity,
        name: &str,
        info: PeerInfo,
        claim: KeyClaim<'_>,
        password: Option<&str>,
        now: Now,
    ) -> Result<Entry, Refusal> {
        if !self.stands(by) {
            return Err(Refusal::PeerTaken);
        }
        let key = info.wireguard_key();
        let known = self.meant_by(&by.peer, name).cloned();
        let is_own = known
            .as_ref()
            .is_some_and(|id| self.parties.get(id).is_some_and(|party| party.members.contains_key(&by.peer)));
        // An invite is one, whatever ids others choose for their parties.
        if let Some(id) = known.filter(|_| is_own || self.invite(name).is_err()) {
            let party = self.party(id.as_str())?;
            if !party.members.contains_key(&by.peer) {
                if party.bans(&by.peer, key) {
                    return Err(Refusal::Banned);
                }
                if party.access == PartyAccess::Invite {
                    return Err(Refusal::InviteNeeded);
                }
                self.check_password(party, password)?;
            }
            self.join_party(by, id.as_str(), info, claim, now)?;
            self.note_called(&by.peer, &id, name);
            return Ok(Entry { party: id, peer: by.peer.clone(), paid: None });
        }
        // What is no invite either was meant for a party.
        let (party, invite) = self.invite(name).map_err(|_| Refusal::PartyNotFound(name.to_owned()))?;
        if party.bans(&by.peer, key) {
            return Err(Refusal::Banned);
        }
        let is_member = party.members.contains_key(&by.peer);
        if !is_member {
            invite.admits(Some(by.owner()), now)?;
            self.check_password(party, password)?;
        }
        let (id, invite) = (party.id.clone(), invite.id);
        self.join_party(by, id.as_str(), info, claim, now)?;
        let entry = self.note_arrival(by, id, invite, !is_member);
        self.note_called(&by.peer, &entry.party, name);
        Ok(entry)
    }

    /// Notes what a member calls its party, if that is the invite by which it came.
    pub fn note_called(&mut self, peer: &PeerId, party: &PartyId, name: &str) {
        let Some(party) = self.parties.get_mut(party) else { return };
        let is_other = name != party.id.as_str() && !party.former.iter().any(|id| id.as_str() == name);
        let Some(member) = party.members.get_mut(peer) else { return };
        if is_other && member.invite().is_some() {
            member.extras_mut().called = Some(name.into());
        }
    }

    /// The parties of a peer that it calls otherwise than by their ids, and how.
    pub fn called_by(&self, peer: &PeerId) -> Vec<(PartyId, Box<str>)> {
        let own = self.parties_of(peer).iter().filter_map(|id| self.parties.get(id));
        let called = |party: &Party| party.members.get(peer)?.extras.as_ref()?.called.clone();
        own.filter_map(|party| Some((party.id.clone(), called(party)?))).collect()
    }

    /// Takes a device into the party that an invite is to. With the same key again it is the same device.
    pub fn redeem(
        &mut self,
        spelled: &str,
        wish: &DeviceWish<'_>,
        password: Option<&str>,
        now: Now,
    ) -> Result<Entry, Refusal> {
        let (party, invite) = self.invite(spelled)?;
        let is_same = |member: &&Member| member.key == Some(wish.key) && member.invite() == Some(invite.id);
        if let Some(member) = party.devices().map(|(member, _)| member).find(is_same) {
            let (party, peer) = (party.id.clone(), member.info.peer_id.clone());
            return Ok(Entry { party, peer, paid: None });
        }
        invite.admits(None, now)?;
        self.check_password(party, password)?;
        let (id, invite) = (party.id.clone(), invite.id);
        let by = self.enter_device(&id, wish, now)?;
        Ok(self.note_arrival(&by, id, invite, true))
    }

    /// Puts a new device into a party.
    pub(super) fn enter_device(
        &mut self,
        party: &PartyId,
        wish: &DeviceWish<'_>,
        now: Now,
    ) -> Result<Identity, Refusal> {
        let found = self.party(party.as_str())?;
        if found.members.values().any(|member| member.key == Some(wish.key)) {
            return Err(Refusal::KeyTaken);
        }
        let (by, info) = self.new_device(wish);
        let payer = found.footprint.payer();
        let claim = KeyClaim { origin: wish.origin, proof: None };
        self.add_member(&by, party.as_str(), info, claim, payer, now)?;
        let member = self.parties.get_mut(party).and_then(|party| party.members.get_mut(&by.peer));
        if let Some(member) = member {
            member.extras_mut().device = Some(DeviceMember { expires: wish.expires, handshake: None });
        }
        Ok(by)
    }

    /// Counts down an invite for who has come in by it, unless it came before.
    fn note_arrival(&mut self, by: &Identity, party: PartyId, id: InviteId, is_new: bool) -> Entry {
        let mut entry = Entry { party, peer: by.peer.clone(), paid: None };
        let Some(party) = self.parties.get_mut(&entry.party) else { return entry };
        if let Some(member) = party.members.get_mut(&by.peer) {
            member.extras_mut().invite = Some(id);
        }
        let invite = party.invites.iter_mut().find(|invite| invite.id == id);
        if let Some(invite) = invite.filter(|invite| is_new && !invite.users.contains(&by.owner())) {
            invite.left = invite.left.saturating_sub(1);
            invite.users.push(by.owner());
            entry.paid = Some(id);
        }
        self.count_party(None, &entry.party);
        self.changes.push(Change::InviteUsed(entry.party.clone(), entry.peer.clone(), id));
        entry
    }

    /// As if nobody had come in: it could not be kept.
    pub fn undo(&mut self, entry: &Entry) {
        let Some(id) = entry.paid else { return };
        let member = self.parties.get(&entry.party).and_then(|party| party.members.get(&entry.peer));
        let Some(member) = member.filter(|member| member.invite() == Some(id)) else { return };
        let owner = Identity { peer: entry.peer.clone(), standing: member.standing }.owner();
        self.remove_member(&entry.party, &entry.peer, Departure::Left);
        let party = self.parties.get_mut(&entry.party);
        if let Some(invite) = party.and_then(|party| party.invites.iter_mut().find(|one| one.id == id)) {
            invite.left += 1;
            invite.users.retain(|user| *user != owner);
        }
        self.count_party(None, &entry.party);
        self.changes.push(Change::EntryChanged(entry.party.clone()));
    }

    /// Who was sent away comes back by another invite or not at all.
    pub(super) fn forget_user(&mut self, party: &PartyId, who: &Identity) {
        let Some(party) = self.parties.get_mut(party) else { return };
        let mut has_changed = false;
        for invite in &mut party.invites {
            let before = invite.users.len();
            invite.users.retain(|user| *user != who.owner());
            has_changed |= invite.users.len() != before;
        }
        if has_changed {
            let id = party.id.clone();
            self.count_party(None, &id);
            self.changes.push(Change::EntryChanged(id));
        }
    }

    fn check_password(&self, party: &Party, password: Option<&str>) -> Result<(), Refusal> {
        match (&party.access, password) {
            (PartyAccess::Password(_), None) => Err(Refusal::PasswordNeeded),
            (PartyAccess::Password(hash), Some(password)) if !hash.is(password, &self.storage_key) => {
                Err(Refusal::PasswordWrong)
            }
            _ => Ok(()),
        }
    }
}
