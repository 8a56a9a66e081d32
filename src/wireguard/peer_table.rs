//! The peers of a device, by slot and by public key.

use crate::crypto::x25519::PublicKey;
use crate::slots::Slots;
use crate::wireguard::peer::{Peer, PeerIndex};
use std::collections::HashMap;

/// All peers.
#[derive(Default)]
pub(super) struct PeerTable {
    peers: Slots<Peer>,
    by_key: HashMap<PublicKey, PeerIndex>,
}

impl PeerTable {
    /// Adds the peer that `make` gives for the index it is to have.
    pub fn insert(&mut self, key: PublicKey, make: impl FnOnce(PeerIndex) -> Peer) -> &mut Peer {
        let index = PeerIndex(self.peers.insert_with(|handle| make(PeerIndex(handle))));
        self.by_key.insert(key, index);
        self.get_mut(index).expect("it was just added")
    }

    /// Removes a peer.
    pub fn remove(&mut self, index: PeerIndex) -> Option<Box<Peer>> {
        let peer = self.peers.remove(index.0)?;
        self.by_key.remove(peer.remote.public_key());
        Some(peer)
    }

    /// The peer of that index, if it is still there.
    pub fn get(&self, index: PeerIndex) -> Option<&Peer> {
        self.peers.get(index.0)
    }

    /// The peer of that index, if it is still there.
    pub fn get_mut(&mut self, index: PeerIndex) -> Option<&mut Peer> {
        self.peers.get_mut(index.0)
    }

    /// The peer in that slot.
    pub fn in_slot(&mut self, slot: u32) -> Option<&mut Peer> {
        self.peers.in_slot_mut(slot)
    }

    /// The peer with that key.
    pub fn with_key(&mut self, key: &PublicKey) -> Option<&mut Peer> {
        let index = self.find(key)?;
        self.get_mut(index)
    }

    /// The index of the peer with that key.
    pub fn find(&self, key: &PublicKey) -> Option<PeerIndex> {
        self.by_key.get(key).copied()
    }

    /// All peers, by slot.
    pub fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.peers.iter().map(|(_, peer)| peer)
    }

    /// How many slots there are, in use or not.
    pub fn slot_count(&self) -> usize {
        self.peers.slot_count() as usize
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
        assert_eq!(third.slot(), first.slot(), "the slot is used again");
        assert!(
            table.get(first).is_none() && table.get_mut(first).is_none() && table.remove(first).is_none()
        );
        assert_eq!(table.get(third).unwrap().remote.public_key(), &third_key);
        assert_eq!(table.with_key(&third_key).unwrap().index, third);
        assert_eq!(table.iter().map(|peer| peer.index).collect::<Vec<_>>(), [third, second]);
        assert_eq!(table.slot_count(), 2);
    }
}
