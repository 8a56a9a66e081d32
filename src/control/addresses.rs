//! Which virtual address belongs to which key, and which key to whom, for as long as the pool lasts.

mod idle;

#[cfg(test)]
mod tests;

use super::refusal::Refusal;
use crate::ids::PeerId;
use crate::subnet::Subnet;
use idle::{IdleNames, Names};
use std::collections::HashMap;
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
struct AddressLease {
    address: Ipv4Addr,
    /// Grows with every assignment: the smallest is the one unused for longest.
    order: u64,
    /// The peer that is using it, and in how many parties.
    held: Option<(PeerId, usize)>,
    /// Whose it is. Nobody's is what does not tell alone, and what was stored before there were owners.
    owner: Option<Owner>,
    /// Where it is among the names that may be forgotten.
    place: u32,
}

impl AddressLease {
    /// The smallest is forgotten first. Keys that were proven go last: they would be anybody's afterwards.
    fn rank(&self) -> (bool, u64) {
        (self.owner.is_some_and(|owner| owner.proven), self.order)
    }

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
    by_name: Names,
    /// A bit for each address, by its distance from the network's, up to the highest that was ever taken.
    taken: Vec<u64>,
    next: Ipv4Addr,
    orders: u64,
    /// Who is in a party with a key that is somebody else's, by that key. Nearly always empty.
    waiting: HashMap<Rc<str>, Vec<PeerId>>,
    /// How many names are kept that nobody holds.
    remembered: usize,
    idle: usize,
    /// Those of them that nobody waits for either.
    forgettable: IdleNames,
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
            by_name: Names::default(),
            taken: Vec::new(),
            next: subnet.hub(),
            orders: 0,
            waiting: HashMap::new(),
            remembered,
            idle: 0,
            forgettable: IdleNames::default(),
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
        let is_news = entry.owner.replace(owner) != Some(owner);
        self.settle_name(name);
        is_news
    }

    /// Whether `peer` holds a name, and has proven the key.
    pub fn is_proven(&self, name: &str, peer: &PeerId) -> bool {
        self.holder(name) == Some(peer) && self.owner(name).is_some_and(|owner| owner.proven)
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
        self.settle_name(key);
    }

    /// Ends the waiting of `peer` for `key`.
    pub fn stop_waiting(&mut self, key: &str, peer: &PeerId) {
        if let Some(waiting) = self.waiting.get_mut(key) {
            waiting.retain(|other| other != peer);
            if waiting.is_empty() {
                self.waiting.remove(key);
                self.settle_name(key);
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
        let holder = self.holder(name);
        if holder.is_some_and(|holder| holder != peer) {
            return None;
        }
        self.hold(name, peer)
    }

    /// Gives `name` its address for one more party of `peer`.
    pub fn acquire(&mut self, name: &str, peer: &PeerId) -> Result<Acquired, Refusal> {
        if let Some(acquired) = self.hold(name, peer) {
            return Ok(acquired);
        }
        let mut forgotten = None;
        // A full pool, or too many names that nobody holds: the one unused for longest gives way.
        let is_full = self.by_name.len() >= self.subnet.capacity();
        if is_full || self.idle >= self.remembered.max(1) {
            forgotten = self.forget_oldest();
        }
        let free = match &forgotten {
            // There is no other.
            Some((_, address)) if is_full => Some(*address),
            _ => self.subnet.peer_addresses(self.next).find(|address| !self.is_taken(*address)),
        };
        self.restore(name, free.ok_or(Refusal::NoAddress)?, self.orders, None);
        let acquired = self.hold(name, peer).expect("made above");
        Ok(Acquired { assigned: true, forgotten: forgotten.map(|(name, _)| name), ..acquired })
    }

    /// Has `peer` hold a name that is known for one more party.
    fn hold(&mut self, name: &str, peer: &PeerId) -> Option<Acquired> {
        let number = self.by_name.number(name)?;
        let (name, entry) = self.by_name.at_mut(number)?;
        let (name, address) = (name.clone(), entry.address);
        self.idle -= usize::from(entry.hold(peer));
        self.settle(number);
        Some(Acquired { name, address, assigned: false, forgotten: None })
    }

    /// Takes back what [`AddressPool::acquire`] gave for one party. The name keeps its address.
    pub fn release(&mut self, name: &str) {
        if self.let_go(name) {
            self.retire(name);
        }
    }

    /// The same, and leaves it to [`AddressPool::retire`] to say that it is the one unused for shortest.
    /// Returns whether nobody holds it any more.
    pub fn let_go(&mut self, name: &str) -> bool {
        let Some(entry) = self.by_name.get_mut(name) else { return false };
        let Some((_, parties)) = &mut entry.held else { return false };
        *parties -= 1;
        let is_idle = *parties == 0;
        if is_idle {
            entry.held = None;
            self.idle += 1;
            self.settle_name(name);
        }
        is_idle
    }

    /// Has a name, if nobody holds it, be the one unused for shortest.
    pub fn retire(&mut self, name: &str) {
        if let Some(entry) = self.by_name.get_mut(name).filter(|entry| entry.held.is_none()) {
            entry.order = self.orders;
            self.orders = self.orders.saturating_add(1);
            self.settle_name(name);
        }
    }

    /// Takes in what is now known of a name. Whether it fits what is known of others.
    pub fn adopt(&mut self, name: &str, address: Ipv4Addr, order: u64, owner: Option<Owner>) -> bool {
        let fits = match self.by_name.get_mut(name) {
            Some(entry) => {
                (entry.order, entry.owner) = (order, owner);
                self.orders = self.orders.max(order.saturating_add(1));
                entry.address == address
            }
            None => {
                self.restore(name, address, order, owner);
                self.by_name.contains_key(name)
            }
        };
        self.settle_name(name);
        fits
    }

    /// Makes room for `count` names that will be restored.
    pub fn reserve(&mut self, count: usize) {
        self.by_name.reserve(count.min(self.subnet.capacity()));
    }

    /// Takes in an assignment made before; one that does not fit the subnet or another name is dropped. Nothing is
    /// forgotten of this before [`AddressPool::settle_all`].
    pub fn restore(&mut self, name: &str, address: Ipv4Addr, order: u64, owner: Option<Owner>) {
        if !self.subnet.is_peer_address(address) || self.by_name.contains_key(name) || self.is_taken(address)
        {
            return;
        }
        self.note_taken(address, true);
        self.orders = self.orders.max(order.saturating_add(1));
        self.next = Ipv4Addr::from_bits(address.to_bits() + 1);
        let place = idle::OUT;
        self.by_name.insert(name.into(), AddressLease { address, order, held: None, owner, place });
        self.idle += 1;
    }

    /// Whoever has restored names holds them by now. To look at each name after each step would cost a large pool
    /// seconds.
    pub fn settle_all(&mut self) {
        (0..self.by_name.len()).for_each(|number| self.settle(number));
    }

    fn settle_name(&mut self, name: &str) {
        if let Some(number) = self.by_name.number(name) {
            self.settle(number);
        }
    }

    /// Takes in whether the name of this number may be forgotten, and when its turn is.
    fn settle(&mut self, number: usize) {
        let Some((name, entry)) = self.by_name.at(number) else { return };
        let is_waited_for = !self.waiting.is_empty() && self.waiting.contains_key(name);
        let is_idle = entry.held.is_none() && !is_waited_for;
        self.forgettable.settle(&mut self.by_name, number, is_idle);
    }

    /// Where the bit of an address is.
    fn bit(&self, address: Ipv4Addr) -> (usize, u64) {
        let distance = address.to_bits() - self.subnet.network().to_bits();
        (distance as usize / 64, 1 << (distance % 64))
    }

    fn is_taken(&self, address: Ipv4Addr) -> bool {
        let (word, bit) = self.bit(address);
        self.taken.get(word).is_some_and(|bits| bits & bit != 0)
    }

    fn note_taken(&mut self, address: Ipv4Addr, is_taken: bool) {
        let (word, bit) = self.bit(address);
        if word >= self.taken.len() {
            self.taken.resize(word + 1, 0);
        }
        match is_taken {
            true => self.taken[word] |= bit,
            false => self.taken[word] &= !bit,
        }
    }

    /// Every name.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.iter().map(|(name, _)| &**name)
    }

    /// Who waits for which key.
    #[cfg(test)]
    pub fn all_waiting(&self) -> impl Iterator<Item = (&str, &[PeerId])> {
        self.waiting.iter().map(|(key, peers)| (&**key, peers.as_slice()))
    }

    /// How many names nobody holds.
    #[cfg(test)]
    pub fn idle_count(&self) -> usize {
        self.idle
    }

    /// The address and order of a name.
    pub fn get(&self, name: &str) -> Option<(Ipv4Addr, u64)> {
        self.by_name.get(name).map(|entry| (entry.address, entry.order))
    }

    /// Takes the address of a name that nobody holds. Returns whether there was one.
    pub fn forget(&mut self, name: &str) -> bool {
        let Some(number) = self.by_name.number(name) else { return false };
        match self.by_name.at(number) {
            Some((_, entry)) if entry.held.is_none() => self.note_taken(entry.address, false),
            _ => return false,
        }
        self.forgettable.settle(&mut self.by_name, number, false);
        self.by_name.remove(name);
        self.idle -= 1;
        if let Some((_, last)) = self.by_name.at(number) {
            self.forgettable.renumber(last.place, number);
        }
        true
    }

    /// Of the names that nobody holds or waits for, the oldest; those whose owner has proven the key go last. Gives
    /// the address that it had, too.
    fn forget_oldest(&mut self) -> Option<(Rc<str>, Ipv4Addr)> {
        let (name, entry) = self.by_name.at(self.forgettable.first()?)?;
        let oldest = (name.clone(), entry.address);
        self.forget(&oldest.0).then_some(oldest)
    }
}
