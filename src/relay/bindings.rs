//! Where members are (rule 4): by a hub session, by confirmed flows.

use crate::relay::limits::ADDRESSES_PER_MEMBER;
use crate::relay::roster::MemberId;
use crate::time::Instant;
use std::net::SocketAddr;

/// An address that a handshake has shown to be a member's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Learned {
    address: SocketAddr,
    /// The member at the other end of that handshake. Each has one word in the matter, so that one who lies
    /// can't crowd out what the others say.
    witness: MemberId,
    at: Instant,
}

#[derive(Clone, Copy, Debug, Default)]
struct Binding {
    hub: Option<SocketAddr>,
    learned: [Option<Learned>; ADDRESSES_PER_MEMBER],
}

/// The addresses of all members, by slot.
#[derive(Default)]
pub struct Bindings {
    members: Vec<Binding>,
}

impl Bindings {
    /// Makes room for members with slots below `count`.
    pub fn reserve(&mut self, count: usize) {
        if self.members.len() < count {
            self.members.resize(count, Binding::default());
        }
    }

    /// A handshake between `member` and `witness` has shown that `member` is at `address`.
    pub fn learn(&mut self, member: MemberId, address: SocketAddr, witness: MemberId, at: Instant) {
        let Some(binding) = self.members.get_mut(member.slot()) else { return };
        let learned = &mut binding.learned;
        let place = learned
            .iter()
            .position(|known| known.is_some_and(|known| known.address == address))
            .or_else(|| learned.iter().position(|known| known.is_some_and(|known| known.witness == witness)))
            .or_else(|| learned.iter().position(Option::is_none));
        let oldest = || (0..learned.len()).min_by_key(|&place| learned[place].map(|known| known.at));
        if let Some(place) = place.or_else(oldest) {
            learned[place] = Some(Learned { address, witness, at });
        }
    }

    /// Where the member's hub session is, once that address is proven.
    pub fn set_hub(&mut self, member: MemberId, address: Option<SocketAddr>) {
        if let Some(binding) = self.members.get_mut(member.slot()) {
            binding.hub = address;
        }
    }

    /// Where the member's hub session is.
    pub fn hub(&self, member: MemberId) -> Option<SocketAddr> {
        self.members.get(member.slot())?.hub
    }

    /// The member's addresses, best first: the hub session's, then what was learned, the newest first.
    pub fn addresses(&self, member: MemberId) -> impl Iterator<Item = SocketAddr> {
        let binding = self.members.get(member.slot()).copied().unwrap_or_default();
        let mut learned = binding.learned;
        learned.sort_by_key(|known| std::cmp::Reverse(known.map(|known| known.at)));
        let learned = learned.into_iter().flatten().map(|known| known.address);
        binding.hub.into_iter().chain(learned.filter(move |&address| Some(address) != binding.hub))
    }

    /// Forgets all of a member's addresses.
    pub fn forget(&mut self, member: MemberId) {
        if let Some(binding) = self.members.get_mut(member.slot()) {
            *binding = Binding::default();
        }
    }

    /// Forgets those addresses that `is_known` denies.
    pub fn sweep(&mut self, is_known: impl Fn(SocketAddr) -> bool) {
        for binding in &mut self.members {
            for known in &mut binding.learned {
                known.take_if(|known| !is_known(known.address));
            }
        }
    }
}
