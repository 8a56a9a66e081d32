//! Whom the relay serves: members by public key, with their virtual addresses and parties.

use crate::crypto::x25519::PublicKey;
use crate::ids::{PartyId, PeerId};
use crate::relay::limits::Limits;
use crate::wireguard::cookie::Mac1Key;
use std::collections::HashMap;
use std::fmt;
use std::net::Ipv4Addr;

/// Names a member, that is a key; never given to another one, also after this one is gone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MemberId {
    slot: u32,
    generation: u32,
}

impl MemberId {
    /// The place of what is kept of it elsewhere. Somebody else's, once it is gone.
    pub(super) fn slot(self) -> usize {
        self.slot as usize
    }
}

/// Names a party while it has members.
pub type PartySlot = u32;

/// A key that the relay forwards for.
pub struct Member {
    /// Its public key, in canonical form.
    pub key: PublicKey,
    /// The key of mac1 in handshake messages to it.
    pub mac1: Mac1Key,
    /// Its address in the virtual LAN.
    pub ip: Ipv4Addr,
    /// The parties it is in, in rising order; one for each peer id, so perhaps repeated.
    parties: Vec<PartySlot>,
}

impl Member {
    /// The parties it is in, in rising order, perhaps repeated.
    pub fn parties(&self) -> &[PartySlot] {
        &self.parties
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
struct Slot {
    generation: u32,
    member: Option<Box<Member>>,
}

#[derive(Default)]
struct Party {
    id: Option<PartyId>,
    peers: Vec<(PeerId, MemberId)>,
}

/// All members and parties.
#[derive(Default)]
pub struct Roster {
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_key: HashMap<PublicKey, MemberId>,
    parties: Vec<Party>,
    free_parties: Vec<PartySlot>,
    by_party: HashMap<PartyId, PartySlot>,
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
        limits: &Limits,
    ) -> Result<MemberId, JoinError> {
        if key.is_low_order() || key.canonical() != key {
            return Err(JoinError::BadKey);
        }
        let known = self.by_key.get(&key).copied();
        if let Some(id) = self.find(party, peer)
            && known == Some(id)
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
        if known.is_none() && self.by_key.len() >= limits.members {
            return Err(JoinError::Full);
        }
        let id = known.unwrap_or_else(|| self.add(key, ip));
        let slot = self.party_slot(party);
        self.parties[slot as usize].peers.push((peer.clone(), id));
        let member = self.member_mut(id);
        member.ip = ip;
        let place = member.parties.partition_point(|&other| other < slot);
        member.parties.insert(place, slot);
        Ok(id)
    }

    fn add(&mut self, key: PublicKey, ip: Ipv4Addr) -> MemberId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() as u32 - 1
        });
        let Slot { generation, member } = &mut self.slots[slot as usize];
        *member = Some(Box::new(Member { key, mac1: Mac1Key::new(&key), ip, parties: Vec::new() }));
        let id = MemberId { slot, generation: *generation };
        self.by_key.insert(key, id);
        id
    }

    fn party_slot(&mut self, party: &PartyId) -> PartySlot {
        if let Some(&slot) = self.by_party.get(party) {
            return slot;
        }
        let slot = self.free_parties.pop().unwrap_or_else(|| {
            self.parties.push(Party::default());
            self.parties.len() as PartySlot - 1
        });
        self.parties[slot as usize].id = Some(party.clone());
        self.by_party.insert(party.clone(), slot);
        slot
    }

    /// For ids that were just looked up.
    fn member_mut(&mut self, id: MemberId) -> &mut Member {
        self.slots[id.slot()].member.as_deref_mut().expect("a member that was just found")
    }

    /// Ends a membership and gives whose it was. The member is gone if it was the last one.
    pub fn leave(&mut self, party: &PartyId, peer: &PeerId) -> Option<MemberId> {
        let slot = *self.by_party.get(party)?;
        let peers = &mut self.parties[slot as usize].peers;
        let place = peers.iter().position(|(other, _)| other == peer)?;
        let (_, id) = peers.swap_remove(place);
        if peers.is_empty() {
            self.parties[slot as usize] = Party::default();
            self.by_party.remove(party);
            self.free_parties.push(slot);
        }
        let member = self.member_mut(id);
        if let Some(place) = member.parties.iter().position(|&other| other == slot) {
            member.parties.remove(place);
        }
        if member.parties.is_empty() {
            let key = member.key;
            self.by_key.remove(&key);
            let slot = &mut self.slots[id.slot()];
            slot.member = None;
            // A slot whose generations are used up stays empty, so that an id never means two members.
            if let Some(next) = slot.generation.checked_add(1) {
                slot.generation = next;
                self.free.push(id.slot);
            }
        }
        Some(id)
    }

    /// Under which member `peer` is in `party`.
    pub fn find(&self, party: &PartyId, peer: &PeerId) -> Option<MemberId> {
        let slot = *self.by_party.get(party)?;
        let peers = &self.parties[slot as usize].peers;
        peers.iter().find(|(other, _)| other == peer).map(|&(_, id)| id)
    }

    /// The member, if it still is one.
    pub fn get(&self, id: MemberId) -> Option<&Member> {
        let slot = self.slots.get(id.slot())?;
        slot.member.as_deref().filter(|_| slot.generation == id.generation)
    }

    /// The member with this key.
    pub fn with_key(&self, key: &PublicKey) -> Option<MemberId> {
        self.by_key.get(key).copied()
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// One more than the highest slot that any member ever had.
    pub(super) fn slot_count(&self) -> usize {
        self.slots.len()
    }

    /// One more than the highest slot that any party ever had.
    pub(super) fn party_count(&self) -> usize {
        self.parties.len()
    }

    /// All members.
    pub fn iter(&self) -> impl Iterator<Item = (MemberId, &Member)> {
        self.slots.iter().enumerate().filter_map(|(slot, entry)| {
            let id = MemberId { slot: slot as u32, generation: entry.generation };
            entry.member.as_deref().map(|member| (id, member))
        })
    }

    /// The members of a party; one that is in it under two names comes twice.
    pub fn members(&self, party: PartySlot) -> impl Iterator<Item = MemberId> + Clone {
        self.parties.get(party as usize).into_iter().flat_map(|party| party.peers.iter().map(|&(_, id)| id))
    }

    /// One of a party's members by its place, from 0 on; one that is in it under two names comes twice.
    pub fn member_at(&self, party: PartySlot, place: usize) -> Option<MemberId> {
        self.parties.get(party as usize)?.peers.get(place).map(|&(_, id)| id)
    }

    /// All who share a party with `member`; with it itself, and some perhaps repeated.
    pub fn mates(&self, member: MemberId) -> impl Iterator<Item = MemberId> {
        let parties = self.get(member).map_or(&[][..], Member::parties);
        parties.iter().flat_map(|&party| self.members(party))
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
pub(super) fn some_members(count: u8) -> Vec<MemberId> {
    let mut roster = Roster::default();
    let party = PartyId::new("p").expect("an id");
    let join = |number: u8| {
        let mut key = [7; 32];
        key[0] = number;
        let peer = PeerId::new(&number.to_string()).expect("an id");
        let ip = Ipv4Addr::new(10, 66, 1, number);
        roster.join(&party, &peer, PublicKey::from_bytes(key), ip, &Limits::default()).expect("room")
    };
    (0..count).map(join).collect()
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
    fn a_key_is_one_member_in_all_its_parties() {
        let (mut roster, limits) = (Roster::default(), Limits::default());
        let a = roster.join(&party("p"), &peer("a"), key(1), IP, &limits).unwrap();
        let b = roster.join(&party("p"), &peer("b"), key(2), IP, &limits).unwrap();
        let c = roster.join(&party("q"), &peer("c"), key(3), IP, &limits).unwrap();
        assert_eq!(roster.join(&party("q"), &peer("a2"), key(1), IP, &limits), Ok(a));
        assert!(roster.shared_party(a, b).is_some() && roster.shared_party(a, c).is_some());
        assert_eq!(roster.shared_party(b, c), None);
        assert_eq!(roster.mates(b).collect::<Vec<_>>(), [a, b]);
        assert_eq!(roster.leave(&party("p"), &peer("a")), Some(a));
        assert_eq!(roster.shared_party(a, b), None);
        assert!(roster.get(a).is_some(), "still in q");
        assert_eq!(roster.leave(&party("q"), &peer("a2")), Some(a));
        assert!(roster.get(a).is_none() && roster.with_key(&key(1)).is_none());
        assert_eq!(roster.leave(&party("q"), &peer("a2")), None);
        let again = roster.join(&party("p"), &peer("a"), key(1), IP, &limits).unwrap();
        assert_ne!(again, a, "an id never means two members");
        assert_eq!(roster.len(), 3);
    }

    #[test]
    fn two_names_of_one_key_leave_one_by_one() {
        let (mut roster, limits) = (Roster::default(), Limits::default());
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
        let limits = Limits { members: 5, members_per_party: 3, ..Limits::default() };
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
