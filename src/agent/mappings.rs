//! What our NAT makes of datagrams from the one socket to different destinations (RFC 4787, section 4.1), by what those say
//! who were asked: the two ports of the party's relay, and other relays. Only what has the same address outside is compared:
//! with several lines, or a provider's pool of addresses, it differs, and another port then means nothing.

use crate::agent::view::{MappingBehaviour, NatView, OTHER_ADDRESSES};
use crate::wire::nat_type::NatType;
use std::net::{Ipv4Addr, SocketAddr};

/// The most by which ports may differ from one destination to the next and still be foreseen.
const MAX_STEP: i32 = 32;
/// Addresses that are remembered as destinations.
const MAX_ADDRESSES: usize = 64;

/// The how many'th endpoint, and the how many'th address, that something goes to is it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct DestinationNumber {
    pub endpoint: i32,
    pub address: i32,
}

/// Counts what a NAT makes mappings for, in one network.
#[derive(Default)]
pub(super) struct Destinations {
    pub count: i32,
    addresses: Vec<Ipv4Addr>,
}

impl Destinations {
    /// One more endpoint, at this address.
    pub fn add(&mut self, ip: Ipv4Addr) -> DestinationNumber {
        self.count += 1;
        let known = self.addresses.iter().position(|known| *known == ip);
        let index = known.unwrap_or_else(|| {
            if self.addresses.len() < MAX_ADDRESSES {
                self.addresses.push(ip);
            }
            self.addresses.len() - 1
        });
        DestinationNumber { endpoint: self.count, address: index as i32 + 1 }
    }

    /// The number that a new one will have.
    pub fn next(&self) -> DestinationNumber {
        DestinationNumber { endpoint: self.count + 1, address: self.addresses.len() as i32 + 1 }
    }
}

/// As whom one of those sees us that were asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct SeenAs {
    pub asked: SocketAddr,
    pub address: SocketAddr,
    pub number: Option<DestinationNumber>,
}

/// What is known of our NAT.
#[derive(Clone, Copy, Default)]
pub(super) struct NatJudgement {
    pub view: NatView,
    /// The newest mapping, and its number among those that depend on what this NAT's do.
    latest: Option<(SocketAddr, i32)>,
}

impl NatJudgement {
    /// The number that counts for this NAT.
    fn place(&self, number: DestinationNumber) -> i32 {
        match self.view.mapping {
            MappingBehaviour::AddressDependent => number.address,
            _ => number.endpoint,
        }
    }

    /// The ports that the next `count` destinations from this one on will see, if they can be foreseen.
    pub fn foreseen(&self, first: DestinationNumber, count: i32) -> impl Iterator<Item = SocketAddr> {
        let step = self.view.port_step.filter(|&step| step != 0);
        let known = self.latest.zip(step).into_iter();
        let first = self.place(first);
        known.flat_map(move |((latest, number), step)| {
            let ports = (first..first + count).map(move |at| i32::from(latest.port()) + step * (at - number));
            ports.filter_map(move |port| Some(SocketAddr::new(latest.ip(), u16::try_from(port).ok()?)))
        })
    }
}

/// What these say, for a machine with the addresses `links`. An answer for `heard_beside` came from where nothing was sent.
pub(super) fn judge(
    all: &[SeenAs],
    heard_beside: Option<SocketAddr>,
    links: &[SocketAddr],
    known_step: Option<i32>,
) -> NatJudgement {
    // NATs are where IPv4 is; one that sees it alone tells too little.
    let mut ipv4 = all.iter().filter(|seen| seen.address.is_ipv4());
    let first = ipv4.next().filter(|_| ipv4.next().is_some()).or(all.first());
    let Some(&SeenAs { address: public, asked: first, .. }) = first else { return NatJudgement::default() };
    let lets_through = heard_beside == Some(first);
    let family = all.iter().filter(|seen| seen.address.is_ipv4() == public.is_ipv4());
    let mut others = [None; OTHER_ADDRESSES];
    let (mut same, mut behaviour) = (0, MappingBehaviour::Unknown);
    let mut has_same_asked = false;
    for (place, seen) in family.clone().enumerate() {
        let is_other = |other: &Option<SocketAddr>| other.is_none_or(|it| it.ip() == seen.address.ip());
        if seen.address.ip() != public.ip()
            && let Some(slot) = others.iter_mut().find(|slot| is_other(slot))
        {
            slot.get_or_insert(seen.address);
        }
        for before in family.clone().take(place) {
            if before.address.ip() != seen.address.ip() {
                continue;
            }
            let is_same_asked = before.asked.ip() == seen.asked.ip();
            let is_same = before.address.port() == seen.address.port();
            has_same_asked |= is_same_asked && is_same;
            behaviour = match (is_same, is_same_asked) {
                (true, _) => behaviour.max(MappingBehaviour::EndpointIndependent),
                (false, false) => behaviour.max(MappingBehaviour::AddressDependent),
                (false, true) => MappingBehaviour::AddressAndPortDependent,
            };
            same += 1;
        }
    }
    if behaviour == MappingBehaviour::AddressDependent && !has_same_asked {
        // Nothing says that one address sees one port.
        behaviour = MappingBehaviour::AddressAndPortDependent;
    }
    let is_open = links.contains(&public);
    let kind = match behaviour {
        MappingBehaviour::AddressDependent | MappingBehaviour::AddressAndPortDependent => NatType::Symmetric,
        _ if lets_through && is_open => NatType::Open,
        // With one address a server can't tell this from a full cone.
        _ if lets_through => NatType::RestrictedCone,
        _ if same > 0 || others[0].is_some() => NatType::PortRestrictedCone,
        _ => NatType::Unknown,
    };
    let view = NatView { kind, public: Some(public), others, mapping: behaviour, ..NatView::default() };
    let judgement = NatJudgement { view, latest: None };
    let mut numbered: Vec<_> = family
        .filter(|seen| seen.address.ip() == public.ip())
        .filter_map(|seen| Some((judgement.place(seen.number?), seen.address)))
        .collect();
    numbered.sort_by_key(|(number, _)| *number);
    numbered.dedup_by_key(|(number, _)| *number);
    let step = match behaviour {
        MappingBehaviour::Unknown => None,
        MappingBehaviour::EndpointIndependent => Some(0),
        _ => known_step.or_else(|| step(&numbered)),
    };
    let latest = numbered.last().map(|&(number, address)| (address, number));
    NatJudgement { view: NatView { port_step: step, ..view }, latest }
}

/// By how much the ports of the two newest mappings differ, for each mapping in between.
fn step(numbered: &[(i32, SocketAddr)]) -> Option<i32> {
    let &[.., (before, one), (after, other)] = numbered else { return None };
    let (count, ports) = (after - before, i32::from(other.port()) - i32::from(one.port()));
    (ports % count == 0 && ports != 0 && (ports / count).abs() <= MAX_STEP).then_some(ports / count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// What is judged of who was asked and what they saw, each of them a new destination.
    fn judged(all: &[(&str, &str)]) -> NatJudgement {
        let mut destinations = Destinations::default();
        let seen = all.iter().map(|(asked, address)| {
            let number = match at(asked) {
                SocketAddr::V4(to) => Some(destinations.add(*to.ip())),
                SocketAddr::V6(_) => None,
            };
            SeenAs { asked: at(asked), address: at(address), number }
        });
        judge(&seen.collect::<Vec<_>>(), None, &[], None)
    }

    const MAIN: &str = "198.51.100.1:1";
    const SECOND: &str = "198.51.100.1:2";
    const FAR: &str = "192.0.2.1:1";
    const FARTHER: &str = "192.0.2.9:1";

    #[test]
    fn what_a_mapping_depends_on_is_told_by_who_sees_the_same() {
        use MappingBehaviour::*;
        let [one, two, three] = ["203.0.113.7:4000", "203.0.113.7:4003", "203.0.113.7:4006"];
        for (all, mapping, kind, step) in [
            (&[][..], Unknown, NatType::Unknown, None),
            (&[(MAIN, one)][..], Unknown, NatType::Unknown, None),
            (&[(MAIN, one), (SECOND, one)], EndpointIndependent, NatType::PortRestrictedCone, Some(0)),
            // The second port is closed, as on many routers.
            (&[(MAIN, one), (FAR, one)], EndpointIndependent, NatType::PortRestrictedCone, Some(0)),
            (&[(MAIN, one), (FAR, two)], AddressAndPortDependent, NatType::Symmetric, Some(3)),
            (&[(MAIN, one), (SECOND, two)], AddressAndPortDependent, NatType::Symmetric, Some(3)),
            (&[(MAIN, one), (SECOND, one), (FAR, two)], AddressDependent, NatType::Symmetric, Some(3)),
            (&[(MAIN, one), (FAR, two), (SECOND, one)], AddressDependent, NatType::Symmetric, Some(3)),
            (
                &[(MAIN, one), (FAR, two), (SECOND, three)],
                AddressAndPortDependent,
                NatType::Symmetric,
                Some(3),
            ),
            (
                &[(MAIN, one), (SECOND, "203.0.113.7:50001")],
                AddressAndPortDependent,
                NatType::Symmetric,
                None,
            ),
        ] {
            let NatJudgement { view, .. } = judged(all);
            assert_eq!((view.mapping, view.kind, view.port_step), (mapping, kind, step), "{all:?}");
            assert_eq!(view.others, [None; OTHER_ADDRESSES]);
        }
    }

    /// Two lines, each with its own address: another port there says nothing.
    #[test]
    fn several_addresses_are_no_change_of_ports() {
        let (one, two) = ("203.0.113.7:4000", "203.0.114.9:1024");
        let view = judged(&[(MAIN, one), (SECOND, one), (FAR, two)]).view;
        assert_eq!((view.kind, view.public), (NatType::PortRestrictedCone, Some(at(one))));
        assert_eq!(view.others, [Some(at(two)), None]);
        assert_eq!(view.mapping, MappingBehaviour::EndpointIndependent);
        let view = judged(&[(MAIN, one), (SECOND, two)]).view;
        assert_eq!((view.kind, view.mapping), (NatType::PortRestrictedCone, MappingBehaviour::Unknown));
        // What one of the lines does counts for it.
        let view = judged(&[(MAIN, one), (FAR, two), (FARTHER, "203.0.114.9:1025")]).view;
        assert_eq!((view.kind, view.others[0]), (NatType::Symmetric, Some(at(two))));
    }

    /// Where the party's relay is reached by IPv6, others tell of the NAT, if there are enough of them.
    #[test]
    fn nats_are_where_ipv4_is() {
        let by_ipv6 = ("[2001:db8::1]:1", "[2001:db8::7]:4000");
        let [one, two] = ["203.0.113.7:4000", "203.0.113.7:4003"];
        let view = judged(&[by_ipv6, (FAR, one), (FARTHER, two)]).view;
        assert_eq!((view.kind, view.public, view.others[0]), (NatType::Symmetric, Some(at(one)), None));
        let view = judged(&[by_ipv6, (FAR, one)]).view;
        assert_eq!((view.public, view.others[0]), (Some(at(by_ipv6.1)), None));
        let seen = [MAIN, FAR].map(|asked| SeenAs { asked: at(asked), address: at(one), number: None });
        for (heard_beside, kind) in
            [(Some(at(MAIN)), NatType::RestrictedCone), (Some(at(FAR)), NatType::PortRestrictedCone)]
        {
            assert_eq!(judge(&seen, heard_beside, &[], None).view.kind, kind);
        }
        assert_eq!(judge(&seen, Some(at(MAIN)), &[at(one)], None).view.kind, NatType::Open);
    }

    #[test]
    fn the_next_ports_are_foreseen_by_what_the_mapping_depends_on() {
        let [one, two] = ["203.0.113.7:4000", "203.0.113.7:4003"];
        let next = DestinationNumber { endpoint: 9, address: 3 };
        let ports = |judgement: NatJudgement| {
            judgement.foreseen(next, 2).map(|address| address.port()).collect::<Vec<_>>()
        };
        assert_eq!(ports(judged(&[(MAIN, one), (SECOND, two)])), [4024, 4027]);
        assert_eq!(ports(judged(&[(MAIN, one), (SECOND, one), (FAR, two)])), [4006, 4009]);
        assert_eq!(ports(judged(&[(MAIN, one), (SECOND, one)])), [0; 0]);
    }
}
