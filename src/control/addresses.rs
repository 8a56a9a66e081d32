//! Which virtual address belongs to which key, and which key to whom, for as long as the pool lasts.

use super::refusal::Refusal;
use crate::dense_map::DenseMap;
use crate::ids::PeerId;
use crate::keyed_hash::KeyedState;
use crate::subnet::Subnet;
use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::rc::Rc;

/// Between the key and the peer in names of keys that do not tell alone. Base64 does not contain it.
const SHARED: char = '#';

/// Whether a name is one of a key that does not tell alone.
pub fn is_shared(name: &str) -> bool {
    name.contains(SHARED)
}

/// The name for `peer` with a key that does not tell alone.
pub fn shared_name(key: &str, peer: &PeerId) -> String {
    format!("{key}{SHARED}{peer}")
}

/// Whose a key is. It stays theirs while they are away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Owner {
    /// Who: see [`Identity::owner`](super::standing::Identity::owner).
    pub id: u64,
    /// Whether they ever showed that they have the private key.
    pub proven: bool,
}

/// What a key was given.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Lease {
    address: Ipv4Addr,
    /// Grows with every assignment: the smallest is the one unused for longest.
    order: u64,
    /// The peer that is using it, and in how many parties.
    held: Option<(PeerId, usize)>,
    /// Whose it is. Nobody's is what does not tell alone, and what was stored before there were owners.
    owner: Option<Owner>,
}

impl Lease {
    /// Holds it for one more party of `peer`. Returns whether nobody did.
    fn hold(&mut self, peer: &PeerId) -> bool {
        match &mut self.held {
            Some((_, parties)) => {
                *parties += 1;
                false
            }
            none => {
                *none = Some((peer.clone(), 1));
                true
            }
        }
    }
}

/// The pool. A name is a public key in canonical form, or `key#peer` where the key alone does not tell
/// (an opaque key, or one that is somebody else's).
#[derive(Debug)]
pub struct AddressPool {
    subnet: Subnet,
    by_name: DenseMap<Rc<str>, Lease>,
    taken: HashSet<Ipv4Addr, KeyedState>,
    next: Ipv4Addr,
    orders: u64,
    /// Who is in a party with a key that is somebody else's, by that key. Nearly always empty.
    waiting: HashMap<Rc<str>, Vec<PeerId>>,
    /// How many names are kept that nobody holds.
    remembered: usize,
    idle: usize,
}

/// What [`AddressPool::acquire`] did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Acquired {
    /// The name under which to release it.
    pub name: Rc<str>,
    /// The address.
    pub address: Ipv4Addr,
    /// Whether the name is new.
    pub assigned: bool,
    /// A name that had to give up its address.
    pub forgotten: Option<Rc<str>>,
}

impl AddressPool {
    /// An empty pool that remembers at most `remembered` names which nobody holds.
    pub fn new(subnet: Subnet, remembered: usize) -> Self {
        AddressPool {
            subnet,
            by_name: DenseMap::default(),
            taken: HashSet::with_hasher(KeyedState::random()),
            next: subnet.hub(),
            orders: 0,
            waiting: HashMap::new(),
            remembered,
            idle: 0,
        }
    }

    /// How many addresses are kept from now on for names that nobody holds.
    pub fn remember(&mut self, remembered: usize) {
        self.remembered = remembered;
    }

    /// The subnet that the addresses are from.
    pub fn subnet(&self) -> Subnet {
        self.subnet
    }

    /// Who holds a name.
    pub fn holder(&self, name: &str) -> Option<&PeerId> {
        self.by_name.get(name)?.held.as_ref().map(|(peer, _)| peer)
    }

    /// Whose the key of this name is, if it is anybody's.
    pub fn owner(&self, name: &str) -> Option<Owner> {
        self.by_name.get(name)?.owner
    }

    /// Says whose a key is. Returns whether that is new.
    pub fn set_owner(&mut self, name: &str, owner: Owner) -> bool {
        let Some(entry) = self.by_name.get_mut(name) else { return false };
        entry.owner.replace(owner) != Some(owner)
    }

    /// Who waits for a key that is somebody else's, in no order.
    pub fn waiting(&self, key: &str) -> &[PeerId] {
        self.waiting.get(key).map_or(&[], Vec::as_slice)
    }

    /// Notes that `peer` waits for `key`.
    pub fn wait(&mut self, key: &str, peer: &PeerId) {
        let waiting = self.waiting.entry(key.into()).or_default();
        if !waiting.contains(peer) {
            waiting.push(peer.clone());
        }
    }

    /// Ends the waiting of `peer` for `key`.
    pub fn stop_waiting(&mut self, key: &str, peer: &PeerId) {
        if let Some(waiting) = self.waiting.get_mut(key) {
            waiting.retain(|other| other != peer);
            if waiting.is_empty() {
                self.waiting.remove(key);
            }
        }
    }

    /// The keys that somebody waits for and nobody holds.
    pub fn unheld(&self) -> Vec<Rc<str>> {
        self.waiting.keys().filter(|key| self.holder(key).is_none()).cloned().collect()
    }

    /// Gives `name`, if it is known and nobody else holds it, its address for one more party of `peer`, as
    /// [`AddressPool::acquire`] does.
    pub fn acquire_known(&mut self, name: &str, peer: &PeerId) -> Option<Acquired> {
        let (name, entry) = self.by_name.get_key_value_mut(name)?;
        if entry.held.as_ref().is_some_and(|(holder, _)| holder != peer) {
            return None;
        }
        self.idle -= usize::from(entry.hold(peer));
        Some(Acquired { name: name.clone(), address: entry.address, assigned: false, forgotten: None })
    }

    /// Gives `name` its address for one more party of `peer`.
    pub fn acquire(&mut self, name: &str, peer: &PeerId) -> Result<Acquired, Refusal> {
        let mut forgotten = None;
        let assigned = !self.by_name.contains_key(name);
        if assigned {
            // A full pool, or too many names that nobody holds: the one unused for longest gives way.
            if self.by_name.len() >= self.subnet.capacity() || self.idle >= self.remembered.max(1) {
                forgotten = self.forget_oldest();
            }
            let free = self.subnet.peer_addresses(self.next).find(|address| !self.taken.contains(address));
            let address = free.ok_or(Refusal::NoAddress)?;
            self.restore(name, address, self.orders, None);
        }
        let (name, entry) = self.by_name.get_key_value_mut(name).expect("found or made above");
        self.idle -= usize::from(entry.hold(peer));
        Ok(Acquired { address: entry.address, name: name.clone(), assigned, forgotten })
    }

    /// Takes back what [`AddressPool::acquire`] gave for one party. The name keeps its address.
    pub fn release(&mut self, name: &str) {
        let Some(entry) = self.by_name.get_mut(name) else { return };
        if let Some((_, parties)) = &mut entry.held {
            *parties -= 1;
            if *parties == 0 {
                entry.held = None;
                entry.order = self.orders;
                self.orders += 1;
                self.idle += 1;
            }
        }
    }

    /// Makes room for `count` names that will be restored.
    pub fn reserve(&mut self, count: usize) {
        let count = count.min(self.subnet.capacity());
        self.by_name.reserve(count);
        self.taken.reserve(count);
    }

    /// Takes in an assignment made before; one that does not fit the subnet or another name is dropped.
    pub fn restore(&mut self, name: &str, address: Ipv4Addr, order: u64, owner: Option<Owner>) {
        if !self.subnet.is_peer_address(address)
            || self.by_name.contains_key(name)
            || !self.taken.insert(address)
        {
            return;
        }
        self.orders = self.orders.max(order.saturating_add(1));
        self.next = Ipv4Addr::from_bits(address.to_bits() + 1);
        self.by_name.insert(name.into(), Lease { address, order, held: None, owner });
        self.idle += 1;
    }

    /// Every name.
    #[cfg(test)]
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.iter().map(|(name, _)| &**name)
    }

    /// The address and order of a name.
    pub fn get(&self, name: &str) -> Option<(Ipv4Addr, u64)> {
        self.by_name.get(name).map(|entry| (entry.address, entry.order))
    }

    /// Takes the address of a name that nobody holds. Returns whether there was one.
    pub fn forget(&mut self, name: &str) -> bool {
        match self.by_name.get(name) {
            Some(entry) if entry.held.is_none() => {
                self.taken.remove(&entry.address);
                self.by_name.remove(name);
                self.idle -= 1;
                true
            }
            _ => false,
        }
    }

    /// Of the names that nobody holds or waits for, the oldest; those whose owner has proven the key go last, as
    /// it would be anybody's afterwards. Linear, but only when the pool or the memory for idle names is exhausted.
    fn forget_oldest(&mut self) -> Option<Rc<str>> {
        let idle = self.by_name.iter().filter(|(name, entry)| {
            entry.held.is_none() && (self.waiting.is_empty() || !self.waiting.contains_key(*name))
        });
        let rank = |entry: &Lease| (entry.owner.is_some_and(|owner| owner.proven), entry.order);
        let name = idle.min_by_key(|(_, entry)| rank(entry))?.0.clone();
        self.forget(&name).then_some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &str) -> PeerId {
        PeerId::new(name).unwrap()
    }

    fn pool(subnet: &str) -> AddressPool {
        AddressPool::new(Subnet::parse(subnet).unwrap(), 100)
    }

    #[test]
    fn an_address_sticks_to_its_key() {
        let mut pool = pool("10.66.0.0/16");
        let alice = pool.acquire("A", &peer("alice")).unwrap();
        let bob = pool.acquire("B", &peer("bob")).unwrap();
        assert_eq!(alice.address, Ipv4Addr::new(10, 66, 0, 2));
        assert_eq!(bob.address, Ipv4Addr::new(10, 66, 0, 3));
        assert!(alice.assigned);
        pool.release("A");
        let carol = pool.acquire("C", &peer("carol")).unwrap();
        assert_eq!(carol.address, Ipv4Addr::new(10, 66, 0, 4));
        let again = pool.acquire("A", &peer("alice-again")).unwrap();
        assert_eq!((again.address, again.assigned), (alice.address, false));
    }

    #[test]
    fn who_waits_for_a_key_and_who_has_proven_one_keeps_it_from_being_forgotten() {
        let mut pool = AddressPool::new(Subnet::DEFAULT, 4);
        for (name, proven) in [("waited for", false), ("proven", true), ("not", false)] {
            pool.acquire(name, &peer("p")).unwrap();
            assert!(pool.set_owner(name, Owner { id: 1, proven }));
            assert!(!pool.set_owner(name, Owner { id: 1, proven }));
            pool.release(name);
        }
        pool.wait("waited for", &peer("q"));
        assert_eq!(pool.unheld(), ["waited for".into()]);
        let mut forgotten = Vec::new();
        for number in 0..4 {
            let name = format!("another {number}");
            forgotten.extend(pool.acquire(&name, &peer("p")).unwrap().forgotten);
            pool.release(&name);
        }
        assert_eq!(forgotten, ["not".into(), "another 0".into(), "another 1".into()]);
        assert_eq!(pool.owner("proven"), Some(Owner { id: 1, proven: true }));
        pool.stop_waiting("waited for", &peer("q"));
        assert_eq!(pool.acquire("one more", &peer("p")).unwrap().forgotten.as_deref(), Some("waited for"));
    }

    #[test]
    fn a_full_pool_takes_from_who_left_first_and_then_refuses() {
        let mut pool = pool("10.0.0.0/29");
        for name in ["A", "B", "C", "D", "E"] {
            pool.acquire(name, &peer(name)).unwrap();
        }
        assert_eq!(pool.acquire("F", &peer("f")), Err(Refusal::NoAddress));
        pool.release("C");
        pool.release("B");
        let taken = pool.acquire("F", &peer("f")).unwrap();
        assert_eq!(taken.forgotten.as_deref(), Some("C"));
        assert_eq!(taken.address, Ipv4Addr::new(10, 0, 0, 4));
        assert_eq!(pool.acquire("B", &peer("b")).unwrap().address, Ipv4Addr::new(10, 0, 0, 3));
    }

    #[test]
    fn names_that_nobody_holds_are_bounded() {
        let mut pool = AddressPool::new(Subnet::DEFAULT, 10);
        for count in 0..1000 {
            let name = format!("key{count}");
            pool.acquire(&name, &peer("p")).unwrap();
            pool.release(&name);
        }
        assert!(pool.by_name.len() <= 11, "{}", pool.by_name.len());
        assert_eq!(pool.by_name.len(), pool.taken.len());
    }

    #[test]
    fn restores_only_what_fits() {
        let mut pool = pool("10.66.0.0/24");
        pool.restore("A", Ipv4Addr::new(10, 66, 0, 9), 5, None);
        pool.restore("B", Ipv4Addr::new(10, 66, 0, 9), 6, None);
        pool.restore("C", Ipv4Addr::new(10, 67, 0, 9), 7, None);
        pool.restore("D", Ipv4Addr::new(10, 66, 0, 1), 8, None);
        assert_eq!(pool.get("A"), Some((Ipv4Addr::new(10, 66, 0, 9), 5)));
        assert_eq!(pool.by_name.len(), 1);
    }
}
