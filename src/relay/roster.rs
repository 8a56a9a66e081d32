//! Whom the relay serves: members by public key, with their virtual addresses and parties.

use crate::crypto::x25519::PublicKey;
use crate::dense_map::DenseMap;
use crate::few::Few;
use crate::ids::{PartyId, PeerId};
use crate::owners::Prefix;
use crate::relay::admission::{MemberBuckets, PartyBuckets};
use crate::relay::limits::RelayLimits;
use crate::relay::member::{MemberState, Presence};
use crate::slots::{Handle, Slots};
use crate::wireguard::cookie::Mac1Key;
use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

/// Names a member, that is a key; never given to another one, also after this one is gone.
pub type MemberId = Handle<RosterMember>;

/// Names a party while it has members.
pub type PartySlot = u32;

/// A key that the relay forwards for.
pub struct RosterMember {
    /// Its public key, in canonical form.
    pub key: PublicKey,
    /// The key of mac1 in handshake messages to it.
    pub mac1: Mac1Key,
    /// Its address in the virtual LAN.
    pub ip: Ipv4Addr,
    /// From where it speaks to the control plane: the one hint, before any handshake, where it may be.
    origin: Option<IpAddr>,
    /// The parties it is in, in rising order; one for each peer id, so perhaps repeated.
    parties: Few<PartySlot>,
    pub(super) state: MemberState,
}

impl RosterMember {
    /// The parties it is in, in rising order, perhaps repeated.
    pub fn parties(&self) -> &[PartySlot] {
        self.parties.as_slice()
    }

    /// Whether `address` is of the subscriber from whom it speaks to the control plane.
    pub fn is_from(&self, address: IpAddr) -> bool {
        self.origin.is_some_and(|origin| Prefix::subscriber(origin) == Prefix::subscriber(address))
    }
}

/// Why somebody can't be a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JoinError {
    /// The key is a low-order point, not in canonical form, or the hub's own.
    BadKey,
    /// The party has as many members as one may have.
    PartyFull,
    /// The relay has as many members as it may have.
    Full,
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            JoinError::BadKey => "the relay can't serve this public key",
            JoinError::PartyFull => "the party has as many members as the relay serves",
            JoinError::Full => "the relay has as many members as it serves",
        })
    }
}

impl std::error::Error for JoinError {}

#[derive(Default)]
struct RosterParty {
    id: Option<PartyId>,
    peers: Vec<(PeerId, MemberId)>,
    buckets: PartyBuckets,
}

/// All members and parties.
#[derive(Default)]
pub struct Roster {
    members: Slots<RosterMember>,
    by_key: DenseMap<PublicKey, MemberId>,
    parties: Vec<RosterParty>,
    free_parties: Vec<PartySlot>,
    by_party: DenseMap<PartyId, PartySlot>,
    /// Members by the subscriber from whom they speak to the control plane.
    by_origin: DenseMap<Prefix, Few<MemberId>>,
    /// Who says to have a key that is not served for them yet, and from where they do.
    claims: HashMap<(PartyId, PeerId), (PublicKey, IpAddr)>,
    claimed_from: HashMap<PublicKey, Vec<IpAddr>>,
}

impl Roster {
    /// Adds the membership of `peer` in `party` under a key and an address, or takes its new address. A peer
    /// that has another key now must [leave](Roster::leave) first.
    pub fn join(
        &mut self,
        party: &PartyId,
        peer: &PeerId,
        key: PublicKey,
        ip: Ipv4Addr,
        limits: &RelayLimits,
    ) -> Result<MemberId, JoinError> {
        if key.is_low_order() || key.canonical() != key {
            return Err(JoinError::BadKey);
        }
        let known = self.by_key.get(&key).copied();
        if let Some(id) = known
            && self.find(party, peer) == known
        {
            self.member_mut(id).ip = ip;
            return Ok(id);
        }
        let full = self.by_party.get(party).is_some_and(|&slot| {
            let peers = &self.parties[slot as usize].peers;
            peers.len() >= limits.members_per_party
        });
        if full {
            return Err(JoinError::PartyFull);
        }
        if known.is_none() && self.members.len() >= limits.members {
            return Err(JoinError::Full);
        }
        let id = known.unwrap_or_else(|| self.add(key, ip));
        let slot = self.party_slot(party);
        self.parties[slot as usize].peers.push((peer.clone(), id));
        let member = self.member_mut(id);
        member.ip = ip;
        let index = member.parties.as_slice().partition_point(|&other| other < slot);
        member.parties.insert(index, slot);
        Ok(id)
    }

    fn add(&mut self, key: PublicKey, ip: Ipv4Addr) -> MemberId {
        let id = self.members.insert_with(|_| RosterMember {
            key,
            mac1: Mac1Key::new(&key),
            ip,
            origin: None,
            parties: Few::default(),
            state: MemberState::default(),
        });
        self.by_key.insert(key, id);
        id
    }

    /// Notes from where a member speaks to the control plane.
    pub fn set_origin(&mut self, id: MemberId, origin: Option<IpAddr>) {
        let Some(member) = self.members.get_mut(id) else { return };
        let before = std::mem::replace(&mut member.origin, origin).map(Prefix::subscriber);
        let after = origin.map(Prefix::subscriber);
        if before == after {
            return;
        }
        if let Some(before) = before
            && let Some(members) = self.by_origin.get_mut(&before)
        {
            members.remove_first(|other| *other == id);
            if members.as_slice().is_empty() {
                self.by_origin.remove(&before);
            }
        }
        if let Some(after) = after {
            self.by_origin.get_or_insert_with(after, Few::default).push(id);
        }
    }

    /// `peer` in `party` says to have `key`; a handshake with it from the subscriber of `from` would prove that.
    pub fn claim(&mut self, party: &PartyId, peer: &PeerId, key: PublicKey, from: IpAddr) {
        self.forget_claim(party, peer);
        self.claims.insert((party.clone(), peer.clone()), (key, from));
        self.claimed_from.entry(key).or_default().push(from);
    }

    /// `peer` in `party` claims nothing any more. Gives the key, if nobody claims that any more.
    pub fn forget_claim(&mut self, party: &PartyId, peer: &PeerId) -> Option<PublicKey> {
        if self.claims.is_empty() {
            return None;
        }
        let (key, from) = self.claims.remove(&(party.clone(), peer.clone()))?;
        let origins = self.claimed_from.get_mut(&key)?;
        if let Some(index) = origins.iter().position(|other| *other == from) {
            origins.swap_remove(index);
        }
        let is_last = origins.is_empty();
        if is_last {
            self.claimed_from.remove(&key);
        }
        is_last.then_some(key)
    }

    /// Whether somebody where `address` is says to have this key.
    pub fn is_claimed(&self, key: &PublicKey, address: IpAddr) -> bool {
        let origins = self.claimed_from.get(key).map_or(&[][..], Vec::as_slice);
        origins.iter().any(|origin| Prefix::subscriber(*origin) == Prefix::subscriber(address))
    }

    /// Members that speak to the control plane from where `address` is.
    pub fn from_origin(&self, address: IpAddr) -> &[MemberId] {
        self.by_origin.get(&Prefix::subscriber(address)).map_or(&[], Few::as_slice)
    }

    fn party_slot(&mut self, party: &PartyId) -> PartySlot {
        if let Some(&slot) = self.by_party.get(party) {
            return slot;
        }
        let slot = self.free_parties.pop().unwrap_or_else(|| {
            self.parties.push(RosterParty::default());
            self.parties.len() as PartySlot - 1
        });
        self.parties[slot as usize].id = Some(party.clone());
        self.by_party.insert(party.clone(), slot);
        slot
    }

    /// For ids that were just looked up.
    fn member_mut(&mut self, id: MemberId) -> &mut RosterMember {
        self.members.get_mut(id).expect("a member that was just found")
    }

    /// Ends a membership. Gives whose it was, and the member itself if it was its last one.
    pub fn leave(&mut self, party: &PartyId, peer: &PeerId) -> Option<(MemberId, Option<Box<RosterMember>>)> {
        let slot = *self.by_party.get(party)?;
        let peers = &mut self.parties[slot as usize].peers;
        let index = peers.iter().position(|(other, _)| other == peer)?;
        let (_, id) = peers.swap_remove(index);
        if peers.is_empty() {
            self.parties[slot as usize] = RosterParty::default();
            self.by_party.remove(party);
            self.free_parties.push(slot);
        }
        let member = self.member_mut(id);
        member.parties.remove_first(|other| *other == slot);
        if !member.parties().is_empty() {
            return Some((id, None));
        }
        self.set_origin(id, None);
        let gone = self.members.remove(id)?;
        self.by_key.remove(&gone.key);
        Some((id, Some(gone)))
    }

    /// Under which member `peer` is in `party`.
    pub fn find(&self, party: &PartyId, peer: &PeerId) -> Option<MemberId> {
        let slot = *self.by_party.get(party)?;
        let peers = &self.parties[slot as usize].peers;
        peers.iter().find(|(other, _)| other == peer).map(|&(_, id)| id)
    }

    /// The member, if it still is one.
    pub fn get(&self, id: MemberId) -> Option<&RosterMember> {
        self.members.get(id)
    }

    /// What is kept of a member, if it still is one.
    pub(super) fn state(&mut self, id: MemberId) -> Option<&mut MemberState> {
        self.members.get_mut(id).map(|member| &mut member.state)
    }

    /// What is kept of a member that has shown up, if it still is one.
    pub(super) fn presence_mut(&mut self, id: MemberId) -> Option<&mut Presence> {
        self.state(id)?.presence_mut()
    }

    /// The member, if it still is one.
    pub(super) fn get_mut(&mut self, id: MemberId) -> Option<&mut RosterMember> {
        self.members.get_mut(id)
    }

    /// What is shared in a party that has members.
    pub(super) fn party_buckets(&mut self, party: PartySlot) -> Option<&mut PartyBuckets> {
        self.parties.get_mut(party as usize).map(|party| &mut party.buckets)
    }

    /// The buckets of a member and of a party, at once.
    pub(super) fn buckets(
        &mut self,
        id: MemberId,
        party: PartySlot,
    ) -> Option<(&mut MemberBuckets, &mut PartyBuckets)> {
        let member = self.members.get_mut(id)?;
        Some((&mut member.state.buckets, &mut self.parties.get_mut(party as usize)?.buckets))
    }

    /// The member with this key.
    pub fn with_key(&self, key: &PublicKey) -> Option<MemberId> {
        self.by_key.get(key).copied()
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// All members.
    pub fn iter(&self) -> impl Iterator<Item = (MemberId, &RosterMember)> {
        self.members.iter()
    }

    /// All members.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (MemberId, &mut RosterMember)> {
        self.members.iter_mut()
    }

    /// The member in that index.
    pub(super) fn in_slot(&self, slot: u32) -> Option<(MemberId, &RosterMember)> {
        self.members.in_slot(slot)
    }

    /// One more than the highest index that any member ever had.
    pub(super) fn slot_count(&self) -> u32 {
        self.members.slot_count()
    }

    /// The members of a party; one that is in it under two names comes twice.
    pub fn members(&self, party: PartySlot) -> impl Iterator<Item = MemberId> + Clone {
        self.parties.get(party as usize).into_iter().flat_map(|party| party.peers.iter().map(|&(_, id)| id))
    }

    /// One of a party's members by its index, from 0 on; one that is in it under two names comes twice.
    pub fn member_at(&self, party: PartySlot, index: usize) -> Option<MemberId> {
        self.parties.get(party as usize)?.peers.get(index).map(|&(_, id)| id)
    }

    /// All who share a party with `member`; with it itself, and some perhaps repeated.
    pub fn mates(&self, member: MemberId) -> impl Iterator<Item = MemberId> {
        let parties = self.get(member).map_or(&[][..], RosterMember::parties);
        parties.iter().flat_map(|&party| self.members(party))
    }

    /// Parties of these members, each once, and how many there are: at most `N`.
    pub fn parties_of<const N: usize>(
        &self,
        members: impl Iterator<Item = MemberId>,
    ) -> ([PartySlot; N], usize) {
        let (mut found, mut count) = ([0; N], 0);
        let parties = members.flat_map(|id| self.get(id).map_or(&[][..], RosterMember::parties));
        for &party in parties {
            if count == N {
                break;
            }
            if !found[..count].contains(&party) {
                found[count] = party;
                count += 1;
            }
        }
        (found, count)
    }

    /// A party that both are in.
    pub fn shared_party(&self, one: MemberId, other: MemberId) -> Option<PartySlot> {
        let (mut one, mut other) = (self.get(one)?.parties(), self.get(other)?.parties());
        loop {
            let (a, b) = (*one.first()?, *other.first()?);
            match a.cmp(&b) {
                std::cmp::Ordering::Equal => return Some(a),
                std::cmp::Ordering::Less => one = &one[1..],
                std::cmp::Ordering::Greater => other = &other[1..],
            }
        }
    }
}

/// Members of one party, for the tests of what is kept by member.
#[cfg(test)]
pub(super) fn some_roster(count: u8) -> (Roster, Vec<MemberId>) {
    let mut roster = Roster::default();
    let party = PartyId::new("p").expect("an id");
    let join = |number: u8| {
        let mut key = [7; 32];
        key[0] = number;
        let peer = PeerId::new(&number.to_string()).expect("an id");
        let ip = Ipv4Addr::new(10, 66, 1, number);
        roster.join(&party, &peer, PublicKey::from_bytes(key), ip, &RelayLimits::default()).expect("room")
    };
    let members = (0..count).map(join).collect();
    (roster, members)
}

/// The members alone.
#[cfg(test)]
pub(super) fn some_members(count: u8) -> Vec<MemberId> {
    some_roster(count).1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::random::Seeded;

    fn key(seed: u64) -> PublicKey {
        let mut bytes = [0; 32];
        Seeded::new(seed).fill(&mut bytes);
        PublicKey::from_bytes(bytes).canonical()
    }

    fn party(name: &str) -> PartyId {
        PartyId::new(name).unwrap()
    }

    fn peer(name: &str) -> PeerId {
        PeerId::new(name).unwrap()
    }

    const IP: Ipv4Addr = Ipv4Addr::new(10, 66, 0, 2);

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn a_member_that_never_came_is_small() {
        // There are thousands. The C library of static binaries has room of 160 bytes, 4 of which are its own, and
        // then of 192.
        assert!(size_of::<RosterMember>() <= 156, "{}", size_of::<RosterMember>());
    }

    #[test]
    fn a_key_is_one_member_in_all_its_parties() {
        let (mut roster, limits) = (Roster::default(), RelayLimits::default());
        let a = roster.join(&party("p"), &peer("a"), key(1), IP, &limits).unwrap();
        let b = roster.join(&party("p"), &peer("b"), key(2), IP, &limits).unwrap();
        let c = roster.join(&party("q"), &peer("c"), key(3), IP, &limits).unwrap();
        assert_eq!(roster.join(&party("q"), &peer("a2"), key(1), IP, &limits), Ok(a));
        assert!(roster.shared_party(a, b).is_some() && roster.shared_party(a, c).is_some());
        assert_eq!(roster.shared_party(b, c), None);
        assert_eq!(roster.mates(b).collect::<Vec<_>>(), [a, b]);
        assert_eq!(roster.leave(&party("p"), &peer("a")).map(|(id, _)| id), Some(a));
        assert_eq!(roster.shared_party(a, b), None);
        assert!(roster.get(a).is_some(), "still in q");
        assert_eq!(roster.leave(&party("q"), &peer("a2")).map(|(id, _)| id), Some(a));
        assert!(roster.get(a).is_none() && roster.with_key(&key(1)).is_none());
        assert!(roster.leave(&party("q"), &peer("a2")).is_none());
        let again = roster.join(&party("p"), &peer("a"), key(1), IP, &limits).unwrap();
        assert_ne!(again, a, "an id never means two members");
        assert_eq!(roster.len(), 3);
    }

    #[test]
    fn two_names_of_one_key_leave_one_by_one() {
        let (mut roster, limits) = (Roster::default(), RelayLimits::default());
        let a = roster.join(&party("p"), &peer("a"), key(1), IP, &limits).unwrap();
        roster.join(&party("p"), &peer("also-a"), key(1), IP, &limits).unwrap();
        let b = roster.join(&party("p"), &peer("b"), key(2), IP, &limits).unwrap();
        roster.leave(&party("p"), &peer("a"));
        assert!(roster.shared_party(a, b).is_some());
        roster.leave(&party("p"), &peer("also-a"));
        assert_eq!(roster.shared_party(a, b), None);
    }

    #[test]
    fn is_bounded_and_takes_no_bad_keys() {
        let mut roster = Roster::default();
        let limits = RelayLimits { members: 5, members_per_party: 3, ..RelayLimits::default() };
        for seed in 0..3 {
            roster.join(&party("p"), &peer(&format!("{seed}")), key(seed), IP, &limits).unwrap();
        }
        let full = roster.join(&party("p"), &peer("x"), key(9), IP, &limits);
        assert_eq!(full, Err(JoinError::PartyFull));
        assert!(roster.join(&party("p"), &peer("1"), key(1), IP, &limits).is_ok(), "it is in it already");
        for seed in 3..5 {
            roster.join(&party("q"), &peer(&format!("{seed}")), key(seed), IP, &limits).unwrap();
        }
        assert_eq!(roster.join(&party("q"), &peer("x"), key(9), IP, &limits), Err(JoinError::Full));
        assert!(roster.join(&party("q"), &peer("x"), key(0), IP, &limits).is_ok());
        let zero = PublicKey::from_bytes([0; 32]);
        assert_eq!(roster.join(&party("r"), &peer("x"), zero, IP, &limits), Err(JoinError::BadKey));
        let mut odd = *key(0).as_bytes();
        odd[31] |= 0x80;
        let odd = PublicKey::from_bytes(odd);
        assert_eq!(roster.join(&party("r"), &peer("x"), odd, IP, &limits), Err(JoinError::BadKey));
    }
}
