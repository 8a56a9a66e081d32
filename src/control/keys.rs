//! Who holds a key.
//!
//! A public key is no proof: everybody who was ever in a party with a player has it. So a key belongs to whoever held
//! it first, also while they are away, and its address with it. Of several members with one key, one *holds* it: has
//! its address, and relay service. The others *wait*, with addresses of their own, until
//!
//! - they show that they have the private key: by the DH proof of [`proof`](super::proof), or by a handshake with it at
//!   the hub from the network that they ask from. What the owner of the machine claims is taken for proven;
//! - or the holder is gone, and nobody has ever proven the key.

use super::addresses::{self, Owner};
use super::change::Change;
use super::party::Member;
use super::refusal::Refusal;
use super::standing::Identity;
use super::{Control, PartyId, PeerId};
use crate::crypto::x25519::PublicKey;
use crate::few::Few;
use crate::owners::Prefix;
use crate::time::{Instant, Now};
use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;

/// Who has proven its key and was not heard of for this long gives way to a newer proof from the same network: it has
/// missed two heartbeats. A stock client that crashed comes back with its old key and a new id.
pub const SILENCE: Duration = Duration::from_secs(65);

/// What a relay does for a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RelayService {
    /// Nothing: it has no key that WireGuard can use, or it waits for one and nobody knows where it is.
    None,
    /// Nothing yet: the key is somebody else's. The hub has to complete handshakes with it from the
    /// [network](same_network) of `from` all the same and [report](Control::handshake) them: they prove it. Several may
    /// wait for one key.
    Claimed {
        /// The key.
        key: PublicKey,
        /// Where the member asks from.
        from: IpAddr,
    },
    /// All that it can. One member at most has this for one key.
    Served {
        /// The key.
        key: PublicKey,
    },
}

/// What comes with a claim to a key, that is with a create or a join.
#[derive(Clone, Copy, Debug)]
pub struct KeyClaim<'a> {
    /// Where it comes from; `None` for the owner of the machine.
    pub origin: Option<IpAddr>,
    /// A nonce of ours, and the proof of the key over it.
    pub proof: Option<(&'a str, &'a str)>,
}

/// Why a member gets no relay service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyTrouble {
    /// WireGuard can't use its key.
    Unusable,
    /// Another member holds it.
    Held,
    /// Nobody holds it now, but another registration has proven it.
    Owned,
}

/// Whether two addresses are of one subscriber, who may well ask from one and play from the other.
pub fn same_network(one: IpAddr, other: IpAddr) -> bool {
    Prefix::subscriber(one) == Prefix::subscriber(other)
}

#[cfg(test)]
impl KeyClaim<'_> {
    /// A claim from `origin` without a proof of its own.
    pub const fn from(origin: IpAddr) -> Self {
        KeyClaim { origin: Some(origin), proof: None }
    }
}

impl Control {
    /// Takes a handshake with `key` that was completed at the hub, from `from`.
    ///
    /// It proves the key for the newest claim from that network. Without one it shows that the holder is alive, if
    /// that is who it must be: nobody waits for the key, or the holder has proven it.
    pub fn handshake(&mut self, key: &PublicKey, from: IpAddr, now: Now) {
        let shaker = self.shaker(key, from, now.instant);
        if let Some(following) = &mut self.following {
            let proves = shaker.as_ref().filter(|(_, is_proof)| *is_proof).map(|(peer, _)| peer);
            let is_news = proves.is_some_and(|peer| !self.addresses.is_proven(&key.encode(), peer));
            following.note_handshake(*key, from, is_news);
        }
        let Some((peer, is_proof)) = shaker else { return };
        if is_proof && self.following.is_none() {
            self.prove(key, &peer);
        }
        self.show_alive(&peer, key, now.instant);
    }

    /// Whose a handshake with `key` from `from` must be, and whether it proves the key.
    fn shaker(&self, key: &PublicKey, from: IpAddr, now: Instant) -> Option<(PeerId, bool)> {
        let name = key.encode();
        let owner = self.addresses.owner(&name)?;
        let holder = self.addresses.holder(&name).cloned();
        let waiting = self.addresses.waiting(&name);
        let from_there = |peer: &&PeerId| self.origin(peer, key).is_some_and(|at| same_network(at, from));
        let claimants = holder.iter().chain(waiting).filter(from_there);
        let newest = claimants.max_by_key(|peer| self.newest_claim(peer, key)).cloned();
        let is_contested = !waiting.is_empty();
        match (newest, holder) {
            (Some(newest), Some(holder)) if newest != holder => {
                let away = self.origin(&holder, key).is_some_and(|at| !same_network(at, from));
                let gives_way = !owner.proven || away || self.last_heard(&holder, key) + SILENCE < now;
                gives_way.then_some((newest, true))
            }
            (Some(newest), _) => Some((newest, true)),
            (None, Some(holder)) if owner.proven || !is_contested => Some((holder, false)),
            (None, _) => None,
        }
    }

    /// Everybody with this key: who holds it, and who waits for it.
    pub fn claimants(&self, key: &PublicKey) -> Vec<PeerId> {
        let name = key.encode();
        self.addresses.holder(&name).into_iter().chain(self.addresses.waiting(&name)).cloned().collect()
    }

    /// Why a member gets no relay service, if it gets none.
    pub fn key_trouble(&self, member: &Member) -> Option<KeyTrouble> {
        let Some(key) = member.key else { return Some(KeyTrouble::Unusable) };
        if !addresses::is_shared(&member.address_name) {
            return None;
        }
        let is_held = self.addresses.holder(&key.encode()).is_some();
        Some(if is_held { KeyTrouble::Held } else { KeyTrouble::Owned })
    }

    /// Whether a claim proves its key.
    pub(super) fn is_proof(
        &self,
        claim: KeyClaim<'_>,
        key: Option<PublicKey>,
        peer: &PeerId,
        now: Now,
    ) -> Result<bool, Refusal> {
        let Some((nonce, proof)) = claim.proof else { return Ok(claim.origin.is_none()) };
        let is_right = key.is_some_and(|key| self.prover.verify(&key, peer, nonce, proof, now));
        if is_right { Ok(true) } else { Err(Refusal::ProofWrong) }
    }

    /// The name under which `by` gets an address for the key of this name: the key's own, if nobody else has a better
    /// claim.
    pub(super) fn name_for(&self, key: &str, by: &Identity, is_proven: bool) -> String {
        let is_free = match self.addresses.holder(key) {
            Some(holder) => *holder == by.peer,
            // Who waits for it in another party gets it there, too, or nowhere.
            None if self.addresses.waiting(key).contains(&by.peer) => false,
            None => {
                let is_own = |owner: Owner| owner.id == by.owner() || !owner.proven || is_proven;
                self.addresses.owner(key).is_none_or(is_own)
            }
        };
        if is_free { key.to_owned() } else { addresses::shared_name(key, &by.peer) }
    }

    /// Notes that `by` is in a party with `key`, under this name.
    pub(super) fn note_key(&mut self, key: &PublicKey, name: &str, by: &Identity, is_proven: bool) {
        if addresses::is_shared(name) {
            self.addresses.wait(&key.encode(), &by.peer);
            if is_proven {
                self.give_key(key, &by.peer, true);
            }
        } else {
            let was_proven =
                self.addresses.owner(name).is_some_and(|known| known.id == by.owner() && known.proven);
            self.own(name, Owner { id: by.owner(), proven: is_proven || was_proven });
        }
    }

    /// Takes back the name of an address for one party of `peer`. A key that nobody holds any more goes to who waits
    /// for it.
    pub(super) fn release_name(&mut self, name: &str, key: Option<PublicKey>, peer: &PeerId) {
        self.addresses.release(name);
        let Some(key) = key else { return };
        if self.addresses.holder(name).is_some() {
            return;
        }
        if addresses::is_shared(name) {
            self.addresses.stop_waiting(&key.encode(), peer);
        } else {
            self.pass_on(&key);
        }
    }

    /// Has `peer`, which is in a party with `key`, be the one that has proven it.
    pub(super) fn prove(&mut self, key: &PublicKey, peer: &PeerId) {
        let name = key.encode();
        if self.addresses.holder(&name) != Some(peer) {
            self.give_key(key, peer, true);
        } else if let Some(owner) = self.addresses.owner(&name) {
            self.own(&name, Owner { proven: true, ..owner });
        }
    }

    /// Has the keys that `peer` holds be of whom it is now.
    pub(super) fn own_keys(&mut self, peer: &PeerId) {
        for party in self.parties_of(peer).to_vec() {
            let member = self.parties.get(&party).and_then(|party| party.members.get(peer));
            let Some(member) = member.filter(|member| member.relay_key().is_some()) else { continue };
            let (name, id) = (member.address_name.clone(), identity(member).owner());
            if let Some(owner) = self.addresses.owner(&name) {
                self.own(&name, Owner { id, ..owner });
            }
        }
    }

    fn own(&mut self, name: &str, owner: Owner) {
        if self.addresses.set_owner(name, owner) {
            self.changes.push(Change::AddressAssigned(name.to_owned()));
        }
    }

    /// The name of a restored member's address: its own, unless somebody else was restored with that.
    pub(super) fn restored_name<'a>(&self, member: &'a Member) -> Cow<'a, str> {
        let name = &*member.address_name;
        match self.addresses.holder(name) {
            Some(holder) if *holder != member.info.peer_id => addresses::shared_name(
                &super::membership::address_key(&member.info, member.key),
                &member.info.peer_id,
            )
            .into(),
            _ => name.into(),
        }
    }

    /// Takes in with which key a member was restored.
    pub(super) fn restore_key(&mut self, member: &Member) {
        let Some(key) = member.key else { return };
        let (name, id) = (&*member.address_name, identity(member).owner());
        if addresses::is_shared(name) {
            self.addresses.wait(&key.encode(), &member.info.peer_id);
        } else if self.addresses.owner(name).is_none_or(|owner| owner.id != id) {
            // Stored before keys had owners. There is nothing in this that can't be told again.
            self.addresses.set_owner(name, Owner { id, proven: false });
        }
    }

    /// Gives the keys that nobody holds to who waits for them: an older version kept them from everybody.
    pub(super) fn mend_keys(&mut self) {
        for key in self.addresses.unheld() {
            if let Some(key) = PublicKey::decode(&key) {
                self.pass_on(&key);
            }
        }
    }

    /// Nobody holds `key` any more. Unless it was proven, the newest claim to it will do.
    fn pass_on(&mut self, key: &PublicKey) {
        let name = key.encode();
        if self.addresses.owner(&name).is_some_and(|owner| owner.proven) {
            return;
        }
        let newest = self.addresses.waiting(&name).iter().max_by_key(|peer| self.newest_claim(peer, key));
        if let Some(heir) = newest.cloned() {
            self.give_key(key, &heir, false);
        }
    }

    /// Has `to`, who waits for it, hold `key`. Who held it gets addresses of its own, and waits.
    fn give_key(&mut self, key: &PublicKey, to: &PeerId, is_proven: bool) {
        let name = key.encode();
        let own_name = addresses::shared_name(&name, to);
        let loser = self.addresses.holder(&name).cloned();
        let lost = loser.as_ref().map_or_else(Vec::new, |loser| self.parties_with(loser, key));
        let won = self.parties_with(to, key);
        lost.iter().for_each(|_| self.addresses.release(&name));
        won.iter().for_each(|_| self.addresses.release(&own_name));
        // What it had makes room for what the other one gets.
        if self.addresses.forget(&own_name) {
            self.changes.push(Change::AddressForgotten(own_name));
        }
        self.addresses.stop_waiting(&name, to);
        // The winner first: a relay that follows goes on with the sessions of the key.
        for party in &won {
            self.rename(party, to, &name);
        }
        if let Some(loser) = loser {
            let own_name = addresses::shared_name(&name, &loser);
            for party in &lost {
                self.rename(party, &loser, &own_name);
            }
            self.addresses.wait(&name, &loser);
        }
        let member = won.first().and_then(|party| self.parties.get(party)?.members.get(to));
        if let Some(id) = member.map(|member| identity(member).owner()) {
            self.own(&name, Owner { id, proven: is_proven });
        }
    }

    /// Gives a member the address of another name.
    fn rename(&mut self, party: &PartyId, peer: &PeerId, name: &str) {
        let Ok(acquired) = self.addresses.acquire(name, peer) else { return };
        self.note_address(&acquired);
        let member = self.parties.get_mut(party).and_then(|party| party.members.get_mut(peer));
        if let Some(member) = member {
            member.virtual_ip = acquired.address;
            member.address_name = acquired.name;
        }
        self.changes.push(Change::MemberChanged(party.clone(), peer.clone()));
    }

    /// The members of `peer` that have `key`.
    fn members_with<'a>(
        &'a self,
        peer: &PeerId,
        key: &PublicKey,
    ) -> impl Iterator<Item = (&'a PartyId, &'a Member)> {
        let parties = self.parties_of(peer).iter();
        let members = parties.filter_map(|id| Some((id, &**self.parties.get(id)?.members.get(peer)?)));
        members.filter(|(_, member)| member.key == Some(*key))
    }

    fn parties_with(&self, peer: &PeerId, key: &PublicKey) -> Vec<PartyId> {
        self.members_with(peer, key).map(|(party, _)| party.clone()).collect()
    }

    fn origin(&self, peer: &PeerId, key: &PublicKey) -> Option<IpAddr> {
        self.members_with(peer, key).find_map(|(_, member)| member.origin)
    }

    fn newest_claim(&self, peer: &PeerId, key: &PublicKey) -> Option<u64> {
        self.members_with(peer, key).map(|(_, member)| member.claim).max()
    }

    fn last_heard(&self, peer: &PeerId, key: &PublicKey) -> Instant {
        self.members_with(peer, key).map(|(_, member)| member.heard).max().unwrap_or(Instant::ZERO)
    }

    /// Counts a handshake as a sign of life.
    fn show_alive(&mut self, peer: &PeerId, key: &PublicKey, now: Instant) {
        for party in self.parties_with(peer, key) {
            if let Some(member) = self.parties.get_mut(&party).and_then(|party| party.members.get_mut(peer)) {
                member.seen = member.seen.max(now);
                if let Some(device) = member.device_mut() {
                    device.handshake = Some(now);
                }
            }
        }
    }

    /// Notes where a peer asked for something from.
    pub fn note_origin(&mut self, peer: &PeerId, origin: Option<IpAddr>) {
        for party in self.memberships.get(peer).map_or(&[][..], Few::as_slice) {
            let member = self.parties.get_mut(party).and_then(|party| party.members.get_mut(peer));
            if let Some(member) = member.filter(|member| member.origin != origin) {
                member.origin = origin;
                self.changes.push(Change::MemberMoved(party.clone(), peer.clone()));
            }
        }
    }
}

/// Who a member is.
pub(super) fn identity(member: &Member) -> Identity {
    Identity { peer: member.info.peer_id.clone(), standing: member.standing }
}
