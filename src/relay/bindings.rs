//! Where members are (rule 4): by a hub session, by confirmed flows.

use crate::relay::limits::{ADDRESSES_PER_MEMBER, SIGHTINGS_PER_MEMBER};
use crate::relay::roster::MemberId;
use crate::time::Instant;
use std::net::SocketAddr;

/// An address that a handshake has shown to be a member's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Learned {
    address: SocketAddr,
    /// The member at the other end of that handshake, or `None` if there were several. Each has one word of its
    /// own in the matter, so that one who lies can't crowd out what others say.
    witness: Option<MemberId>,
    at: Instant,
}

/// An address from which data came that bore the index of a member's flow. Who has seen the member's datagrams can
/// send that, too, so it is a place to ask at, and no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sighting {
    /// The address.
    pub address: SocketAddr,
    /// The index.
    pub index: u32,
    /// The member at the other end of that flow, or `None` if there were several. It knows the index, so it must not
    /// crowd out what others' flows tell.
    pub witness: Option<MemberId>,
    /// When data last came.
    pub at: Instant,
}

#[derive(Debug, Default)]
struct Binding {
    hub: Option<SocketAddr>,
    learned: [Option<Learned>; ADDRESSES_PER_MEMBER],
    sightings: Vec<Sighting>,
}

/// The addresses of all members, by slot. Most members never come here, and a binding is not small.
#[derive(Default)]
pub struct Bindings {
    members: Vec<Option<Box<Binding>>>,
}

impl Bindings {
    /// Makes room for members with slots below `count`.
    pub fn reserve(&mut self, count: usize) {
        if self.members.len() < count {
            self.members.resize_with(count, || None);
        }
    }

    /// A handshake between `member` and `witness` has shown that `member` is at `address`.
    pub fn learn(&mut self, member: MemberId, address: SocketAddr, witness: MemberId, at: Instant) {
        let Some(place) = self.members.get_mut(member.slot()) else { return };
        let learned = &mut place.get_or_insert_default().learned;
        if let Some(known) = learned.iter_mut().flatten().find(|known| known.address == address) {
            known.witness = known.witness.filter(|known| *known == witness);
            known.at = at;
            return;
        }
        let place = learned
            .iter()
            .position(|known| known.is_some_and(|known| known.witness == Some(witness)))
            .or_else(|| learned.iter().position(Option::is_none));
        let oldest = || (0..learned.len()).min_by_key(|&place| learned[place].map(|known| known.at));
        if let Some(place) = place.or_else(oldest) {
            learned[place] = Some(Learned { address, witness: Some(witness), at });
        }
    }

    /// Notes where the member may be. The address that had to make room is given back.
    pub fn sight(&mut self, member: MemberId, sighting: Sighting) -> Option<SocketAddr> {
        let sightings = &mut self.members.get_mut(member.slot())?.get_or_insert_default().sightings;
        if let Some(known) = sightings.iter_mut().find(|known| known.address == sighting.address) {
            let witness = known.witness.filter(|&witness| sighting.witness == Some(witness));
            *known = Sighting { witness, ..sighting };
            return None;
        }
        if sightings.len() < SIGHTINGS_PER_MEMBER {
            sightings.push(sighting);
            return None;
        }
        let oldest =
            sightings.iter_mut().min_by_key(|known| (known.witness != sighting.witness, known.at))?;
        Some(std::mem::replace(oldest, sighting).address)
    }

    /// Where the member may be, in no order.
    pub fn sightings(&self, member: MemberId) -> &[Sighting] {
        let binding = self.members.get(member.slot()).and_then(Option::as_deref);
        binding.map_or(&[], |binding| &binding.sightings)
    }

    /// Where the member's hub session is, once that address is proven.
    pub fn set_hub(&mut self, member: MemberId, address: Option<SocketAddr>) {
        let Some(place) = self.members.get_mut(member.slot()) else { return };
        match address {
            Some(_) => place.get_or_insert_default().hub = address,
            None => place.iter_mut().for_each(|binding| binding.hub = None),
        }
    }

    /// Where the member's hub session is.
    pub fn hub(&self, member: MemberId) -> Option<SocketAddr> {
        self.members.get(member.slot())?.as_ref()?.hub
    }

    /// The member's addresses, best first: the hub session's, then what was learned, the newest first.
    pub fn addresses(&self, member: MemberId) -> impl Iterator<Item = SocketAddr> {
        let binding = self.members.get(member.slot()).and_then(Option::as_deref);
        let (hub, mut learned) = binding.map(|binding| (binding.hub, binding.learned)).unwrap_or_default();
        learned.sort_by_key(|known| std::cmp::Reverse(known.map(|known| known.at)));
        let learned = learned.into_iter().flatten().map(|known| known.address);
        hub.into_iter().chain(learned.filter(move |&address| Some(address) != hub))
    }

    /// Forgets all of a member's addresses.
    pub fn forget(&mut self, member: MemberId) {
        if let Some(place) = self.members.get_mut(member.slot()) {
            *place = None;
        }
    }

    /// Forgets those addresses that `is_known` denies.
    pub fn sweep(&mut self, is_known: impl Fn(SocketAddr) -> bool) {
        for place in &mut self.members {
            let Some(binding) = place else { continue };
            for known in &mut binding.learned {
                known.take_if(|known| !is_known(known.address));
            }
            binding.sightings.retain(|sighting| is_known(sighting.address));
            if binding.sightings.is_empty()
                && binding.hub.is_none()
                && binding.learned.iter().all(Option::is_none)
            {
                *place = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::roster::some_members;
    use std::time::Duration;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    fn at(second: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(second)
    }

    #[test]
    fn the_hub_knows_best_then_the_newest_flow() {
        let (mut bindings, members) = (Bindings::default(), some_members(3));
        bindings.learn(members[0], address(1), members[1], at(1));
        assert_eq!(bindings.addresses(members[0]).count(), 0, "there is no room for it yet");
        bindings.reserve(3);
        bindings.learn(members[0], address(1), members[1], at(1));
        bindings.learn(members[0], address(2), members[2], at(2));
        bindings.set_hub(members[0], Some(address(3)));
        let found =
            |bindings: &Bindings| bindings.addresses(members[0]).map(|a| a.port()).collect::<Vec<_>>();
        assert_eq!(found(&bindings), [3, 2, 1]);
        bindings.learn(members[0], address(1), members[2], at(3));
        assert_eq!(found(&bindings), [3, 1, 2]);
        bindings.set_hub(members[0], Some(address(1)));
        assert_eq!(found(&bindings), [1, 2], "each once");
        bindings.sweep(|known| known != address(2));
        assert_eq!(found(&bindings), [1]);
        bindings.forget(members[0]);
        assert!(found(&bindings).is_empty() && bindings.hub(members[0]).is_none());
    }

    #[test]
    fn a_liar_has_one_word() {
        let (mut bindings, members) = (Bindings::default(), some_members(8));
        bindings.reserve(8);
        bindings.learn(members[0], address(1), members[1], at(1));
        for port in 100..200 {
            bindings.learn(members[0], address(port), members[2], at(port.into()));
        }
        let found: Vec<_> = bindings.addresses(members[0]).map(|a| a.port()).collect();
        assert_eq!(found, [199, 1]);
        // Also if it told the truth before, together with another one.
        bindings.learn(members[0], address(1), members[2], at(201));
        bindings.learn(members[0], address(300), members[2], at(202));
        let found: Vec<_> = bindings.addresses(members[0]).map(|a| a.port()).collect();
        assert_eq!(found, [300, 1]);
        // With as many witnesses as there are places, the oldest word goes.
        for witness in 3..8 {
            bindings.learn(members[0], address(witness), members[usize::from(witness)], at(300));
        }
        assert_eq!(bindings.addresses(members[0]).count(), ADDRESSES_PER_MEMBER);
    }

    #[test]
    fn a_witness_crowds_out_its_own_sightings_only() {
        let members = some_members(4);
        let mut bindings = Bindings::default();
        bindings.reserve(4);
        let sighting = |port: u16, witness: usize| Sighting {
            address: address(port),
            index: port.into(),
            witness: Some(members[witness]),
            at: at(port.into()),
        };
        assert_eq!(bindings.sight(members[0], sighting(1, 1)), None);
        assert_eq!(bindings.sight(members[0], sighting(2, 2)), None);
        for port in 3..5 {
            assert_eq!(bindings.sight(members[0], sighting(port, 3)), None);
        }
        // The second has a second witness now.
        assert_eq!(bindings.sight(members[0], Sighting { index: 9, ..sighting(2, 3) }), None);
        for port in 5..20 {
            assert_eq!(bindings.sight(members[0], sighting(port, 3)), Some(address(port - 2)));
        }
        assert_eq!(bindings.sight(members[0], sighting(20, 1)), Some(address(1)));
        assert!(bindings.sightings(members[0]).contains(&Sighting {
            index: 9,
            witness: None,
            ..sighting(2, 2)
        }));
        bindings.sweep(|there| there == address(20));
        assert_eq!(bindings.sightings(members[0]), [sighting(20, 1)]);
        bindings.sweep(|_| false);
        assert!(bindings.members[0].is_none());
    }
}
