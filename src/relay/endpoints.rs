//! Where a member is (rule 4): by its hub session, by confirmed flows, or perhaps where it was sighted.

use crate::datagram::Path;
use crate::relay::limits::{ADDRESSES_PER_MEMBER, SIGHTINGS_PER_MEMBER};
use crate::relay::roster::MemberId;
#[cfg(test)]
use crate::relay::search::fingerprint::Fingerprint;
use crate::time::Instant;
use std::net::SocketAddr;

/// An address that a confirmed flow has shown to be the member's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Confirmed {
    path: Path,
    /// The member at the other end of that flow, or `None` if there were several. Each has one word of its
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
    /// The member at the other end of that flow, or `None` if there were several. It knows the index, so it must not
    /// crowd out what others' flows tell.
    pub witness: Option<MemberId>,
    /// When data last came.
    pub at: Instant,
}

/// The endpoints of one member.
#[derive(Debug, Default)]
pub struct Endpoints {
    /// Where its hub session is, once that address is validated.
    pub hub: Option<Path>,
    confirmed: [Option<Confirmed>; ADDRESSES_PER_MEMBER],
    sightings: Vec<Sighting>,
}

impl Endpoints {
    /// A flow between the member and `witness` has shown that the member is at the other end of `path`.
    pub fn confirm(&mut self, path: Path, witness: MemberId, at: Instant) {
        let confirmed = &mut self.confirmed;
        if let Some(known) = confirmed.iter_mut().flatten().find(|known| known.path.remote == path.remote) {
            let witness = known.witness.filter(|known| *known == witness);
            *known = Confirmed { path, witness, at };
            return;
        }
        let index = confirmed
            .iter()
            .position(|known| known.is_some_and(|known| known.witness == Some(witness)))
            .or_else(|| confirmed.iter().position(Option::is_none));
        let oldest = || (0..confirmed.len()).min_by_key(|&index| confirmed[index].map(|known| known.at));
        if let Some(index) = index.or_else(oldest) {
            confirmed[index] = Some(Confirmed { path, witness: Some(witness), at });
        }
    }

    /// Notes where the member may be. The address that had to make room is given back.
    pub fn sight(&mut self, sighting: Sighting) -> Option<SocketAddr> {
        let sightings = &mut self.sightings;
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

    /// Where the member may have moved, in no order: it was sighted there, and not `heard` since where it was.
    pub fn sightings(&self, heard: Instant) -> impl Iterator<Item = SocketAddr> {
        self.sightings.iter().filter(move |sighting| heard < sighting.at).map(|sighting| sighting.address)
    }

    /// The member's addresses, best first: the hub session's; what flows with `asker` confirmed, whom nobody else can
    /// lie to about that; what others did, the newest first.
    pub fn known(&self, asker: Option<MemberId>) -> impl Iterator<Item = Path> {
        let (hub, mut confirmed) = (self.hub, self.confirmed);
        confirmed.sort_by_key(|known| {
            let known = known.as_ref();
            let is_own = known.is_some_and(|known| asker.is_some() && known.witness == asker);
            std::cmp::Reverse((is_own, known.map(|known| known.at)))
        });
        let confirmed = confirmed.into_iter().flatten().map(|known| known.path);
        hub.into_iter().chain(confirmed.filter(move |path| hub.is_none_or(|hub| hub.remote != path.remote)))
    }

    /// Forgets what only `witness` has shown, who shares no party with the member any more, and gives it.
    pub fn forget_witness(&mut self, witness: MemberId) -> impl Iterator<Item = SocketAddr> {
        self.sightings.retain(|sighting| sighting.witness != Some(witness));
        let gone =
            self.confirmed.each_mut().map(|known| known.take_if(|known| known.witness == Some(witness)));
        gone.into_iter().flatten().map(|known| known.path.remote)
    }

    /// Forgets those addresses that `is_known` denies.
    pub fn sweep(&mut self, is_known: impl Fn(SocketAddr) -> bool) {
        for known in &mut self.confirmed {
            known.take_if(|known| !is_known(known.path.remote));
        }
        self.sightings.retain(|sighting| is_known(sighting.address));
    }

    /// What tells one state of them from another.
    #[cfg(test)]
    pub fn describe(&self, to: &mut Fingerprint) {
        let witness = |witness: Option<MemberId>| witness.map_or(99, |witness| witness.slot().into());
        let mut confirmed: Vec<_> = self.confirmed.iter().flatten().collect();
        confirmed.sort_unstable_by_key(|known| (known.at, known.path.remote));
        for known in confirmed {
            to.address(known.path.remote).number(witness(known.witness)).age(known.at);
        }
        to.number(self.sightings.len() as u64);
        for sighting in &self.sightings {
            to.address(sighting.address).number(witness(sighting.witness)).age(sighting.at);
        }
        self.hub.iter().for_each(|hub| _ = to.address(hub.remote));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::roster::some_members;
    use std::time::Duration;

    fn path(port: u16) -> Path {
        Path::to(SocketAddr::from(([192, 0, 2, 1], port)))
    }

    fn at(second: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(second)
    }

    fn ports(endpoints: &Endpoints) -> Vec<u16> {
        endpoints.known(None).map(|path| path.remote.port()).collect()
    }

    #[test]
    fn the_hub_knows_best_then_the_newest_flow() {
        let (mut endpoints, members) = (Endpoints::default(), some_members(3));
        endpoints.confirm(path(1), members[1], at(1));
        endpoints.confirm(path(2), members[2], at(2));
        endpoints.hub = Some(path(3));
        assert_eq!(ports(&endpoints), [3, 2, 1]);
        endpoints.confirm(path(1), members[2], at(3));
        assert_eq!(ports(&endpoints), [3, 1, 2]);
        endpoints.hub = Some(path(1));
        assert_eq!(ports(&endpoints), [1, 2], "each once");
        endpoints.sweep(|known| known != path(2).remote);
        assert_eq!(ports(&endpoints), [1]);
    }

    #[test]
    fn a_liar_has_one_word() {
        let (mut endpoints, members) = (Endpoints::default(), some_members(8));
        endpoints.confirm(path(1), members[1], at(1));
        for port in 100..200 {
            endpoints.confirm(path(port), members[2], at(port.into()));
        }
        assert_eq!(ports(&endpoints), [199, 1]);
        let first = endpoints.known(Some(members[1])).next();
        assert_eq!(first, Some(path(1)), "and those whom it did not lie to have their own");
        // Also if it told the truth before, together with another one.
        endpoints.confirm(path(1), members[2], at(201));
        endpoints.confirm(path(300), members[2], at(202));
        assert_eq!(ports(&endpoints), [300, 1]);
        // With as many witnesses as there are places, the oldest word goes.
        for witness in 3..8 {
            endpoints.confirm(path(witness), members[usize::from(witness)], at(300));
        }
        assert_eq!(endpoints.known(None).count(), ADDRESSES_PER_MEMBER);
    }

    #[test]
    fn a_witness_crowds_out_its_own_sightings_only() {
        let members = some_members(4);
        let mut endpoints = Endpoints::default();
        let sighting = |port: u16, witness: usize| Sighting {
            address: path(port).remote,
            witness: Some(members[witness]),
            at: at(port.into()),
        };
        assert_eq!(endpoints.sight(sighting(1, 1)), None);
        assert_eq!(endpoints.sight(sighting(2, 2)), None);
        for port in 3..5 {
            assert_eq!(endpoints.sight(sighting(port, 3)), None);
        }
        // The second has a second witness now.
        assert_eq!(endpoints.sight(sighting(2, 3)), None);
        for port in 5..20 {
            assert_eq!(endpoints.sight(sighting(port, 3)), Some(path(port - 2).remote));
        }
        assert_eq!(endpoints.sight(sighting(20, 1)), Some(path(1).remote));
        assert!(endpoints.sightings.contains(&Sighting { witness: None, ..sighting(2, 2) }));
        endpoints.sweep(|there| there == path(20).remote);
        assert_eq!(endpoints.sightings(at(19)).collect::<Vec<_>>(), [path(20).remote]);
        // Who is still heard where it was has not moved.
        assert_eq!(endpoints.sightings(at(20)).count(), 0);
    }
}
