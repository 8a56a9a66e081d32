//! The peers of a device, by slot and by public key.

use crate::crypto::x25519::PublicKey;
use crate::wireguard::peer::{Peer, PeerIndex};
use std::collections::HashMap;

/// All peers. A slot is used again, with a new generation, when its peer is gone.
#[derive(Default)]
pub(super) struct PeerTable {
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_key: HashMap<PublicKey, u32>,
}

#[derive(Default)]
struct Slot {
    generation: u32,
    peer: Option<Box<Peer>>,
}

impl PeerTable {
    /// Adds the peer that `make` gives for the index it is to have.
    pub fn insert(&mut self, key: PublicKey, make: impl FnOnce(PeerIndex) -> Peer) -> &mut Peer {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() as u32 - 1
        });
        self.by_key.insert(key, slot);
        let Slot { generation, peer } = &mut self.slots[slot as usize];
        peer.insert(Box::new(make(PeerIndex { slot, generation: *generation })))
    }

    /// Removes a peer.
    pub fn remove(&mut self, index: PeerIndex) -> Option<Box<Peer>> {
        let slot = self.slots.get_mut(index.slot as usize)?;
        if slot.generation != index.generation {
            return None;
        }
        let peer = slot.peer.take()?;
        self.by_key.remove(peer.remote.public_key());
        // A slot whose generations are used up stays empty, so that an index never means two peers.
        if let Some(next) = slot.generation.checked_add(1) {
            slot.generation = next;
            self.free.push(index.slot);
        }
        Some(peer)
    }

    /// The peer of that index, if it is still there.
    pub fn get(&self, index: PeerIndex) -> Option<&Peer> {
        let slot = self.slots.get(index.slot as usize)?;
        slot.peer.as_deref().filter(|_| slot.generation == index.generation)
    }

    /// The peer of that index, if it is still there.
    pub fn get_mut(&mut self, index: PeerIndex) -> Option<&mut Peer> {
        let slot = self.slots.get_mut(index.slot as usize)?;
        slot.peer.as_deref_mut().filter(|_| slot.generation == index.generation)
    }

    /// The peer in that slot.
    pub fn in_slot(&mut self, slot: u32) -> Option<&mut Peer> {
        self.slots.get_mut(slot as usize)?.peer.as_deref_mut()
    }

    /// The peer with that key.
    pub fn with_key(&mut self, key: &PublicKey) -> Option<&mut Peer> {
        let slot = *self.by_key.get(key)?;
        self.in_slot(slot)
    }

    /// The index of the peer with that key.
    pub fn find(&self, key: &PublicKey) -> Option<PeerIndex> {
        let slot = *self.by_key.get(key)?;
        Some(PeerIndex { slot, generation: self.slots[slot as usize].generation })
    }

    /// All peers, by slot.
    pub fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.slots.iter().filter_map(|slot| slot.peer.as_deref())
    }

    /// How many slots there are, in use or not.
    pub fn slot_count(&self) -> usize {
        self.slots.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::x25519::PrivateKey;
    use crate::wireguard::noise::{PresharedKey, RemoteIdentity};

    fn add(table: &mut PeerTable) -> (PublicKey, PeerIndex) {
        let key = PrivateKey::generate().public_key();
        let remote = RemoteIdentity::new(key, PresharedKey::default()).unwrap();
        (key, table.insert(key, |index| Peer::new(index, remote, None)).index)
    }

    #[test]
    fn an_index_never_means_another_peer() {
        let mut table = PeerTable::default();
        let (first_key, first) = add(&mut table);
        let (_, second) = add(&mut table);
        assert_eq!(table.find(&first_key), Some(first));
        assert_eq!(table.remove(first).unwrap().index, first);
        assert!(table.remove(first).is_none());
        assert!(table.get(first).is_none() && table.find(&first_key).is_none());
        let (third_key, third) = add(&mut table);
        assert_eq!(third.slot, first.slot, "the slot is used again");
        assert!(
            table.get(first).is_none() && table.get_mut(first).is_none() && table.remove(first).is_none()
        );
        assert_eq!(table.get(third).unwrap().remote.public_key(), &third_key);
        assert_eq!(table.with_key(&third_key).unwrap().index, third);
        assert_eq!(table.iter().map(|peer| peer.index).collect::<Vec<_>>(), [third, second]);
        assert_eq!(table.slot_count(), 2);
        assert!(table.get(PeerIndex { slot: 9, generation: 0 }).is_none());
    }
}
