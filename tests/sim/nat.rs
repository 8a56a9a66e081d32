//! Network address translators by the behaviours of RFC 4787.

use lanrage::crypto::random::Seeded;
use lanrage::time::Instant;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// A mapping that nothing uses is forgotten after this (RFC 4787 asks for 2 minutes at least).
const MAPPING_LIFETIME: Duration = Duration::from_secs(120);

/// What a mapping or a filter depends on (RFC 4787, sections 4.1 and 5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Behaviour {
    EndpointIndependent,
    AddressDependent,
    AddressAndPortDependent,
}

impl Behaviour {
    /// Whether two remote endpoints are the same to it.
    fn same(self, one: SocketAddr, other: SocketAddr) -> bool {
        match self {
            Behaviour::EndpointIndependent => true,
            Behaviour::AddressDependent => one.ip() == other.ip(),
            Behaviour::AddressAndPortDependent => one == other,
        }
    }
}

struct Mapping {
    inside: SocketAddr,
    outside: SocketAddr,
    /// To whom the first packet went; what is the same to the mapping behaviour shares it.
    first: SocketAddr,
    contacted: Vec<SocketAddr>,
    used: Instant,
}

/// Which outside port a new mapping gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ports {
    /// The last one's and so many more.
    Step(u16),
    /// Any.
    Random,
}

pub struct Nat {
    pub address: IpAddr,
    mapping: Behaviour,
    filtering: Behaviour,
    pub ports: Ports,
    /// Whether those behind it reach each other by their outside addresses.
    pub hairpin: bool,
    /// The NAT that this one is behind, if any.
    pub outer: Option<usize>,
    /// The address of a second line, by which one goes to addresses whose last byte is even.
    pub second_line: Option<IpAddr>,
    next_port: u16,
    random: Seeded,
    mappings: Vec<Mapping>,
}

impl Nat {
    pub fn new(address: IpAddr, mapping: Behaviour, filtering: Behaviour) -> Self {
        Nat {
            address,
            mapping,
            filtering,
            ports: Ports::Step(7),
            hairpin: false,
            outer: None,
            second_line: None,
            next_port: 20_000,
            random: Seeded::new(5),
            mappings: Vec::new(),
        }
    }

    fn expire(&mut self, now: Instant) {
        self.mappings.retain(|mapping| now.since(mapping.used) < MAPPING_LIFETIME);
    }

    /// Whether it has this address outside.
    pub fn has(&self, ip: IpAddr) -> bool {
        self.address == ip || self.second_line == Some(ip)
    }

    /// The address of the line that leads to `to`.
    fn line(&self, to: IpAddr) -> IpAddr {
        let is_even = matches!(to, IpAddr::V4(ip) if ip.octets()[3] % 2 == 0);
        self.second_line.filter(|_| is_even).unwrap_or(self.address)
    }

    /// As whom `inside` is seen by `to`.
    pub fn outbound(&mut self, inside: SocketAddr, to: SocketAddr, now: Instant) -> SocketAddr {
        self.expire(now);
        let (behaviour, line) = (self.mapping, self.line(to.ip()));
        let known = self.mappings.iter().position(|mapping| {
            mapping.inside == inside && mapping.outside.ip() == line && behaviour.same(mapping.first, to)
        });
        let at = known.unwrap_or_else(|| {
            let outside = SocketAddr::new(line, self.free_port());
            self.mappings.push(Mapping { inside, outside, first: to, contacted: Vec::new(), used: now });
            self.mappings.len() - 1
        });
        let mapping = &mut self.mappings[at];
        mapping.used = now;
        if !mapping.contacted.contains(&to) {
            mapping.contacted.push(to);
        }
        mapping.outside
    }

    fn free_port(&mut self) -> u16 {
        loop {
            let port = match self.ports {
                Ports::Step(step) => {
                    let port = self.next_port;
                    self.next_port = if port > 60_000 { 20_000 } else { port + step };
                    port
                }
                Ports::Random => 1024 + self.random.below(64_512) as u16,
            };
            if self.mappings.iter().all(|mapping| mapping.outside.port() != port) {
                return port;
            }
        }
    }

    /// Who gets what `from` sends to `outside`.
    pub fn inbound(&mut self, outside: SocketAddr, from: SocketAddr, now: Instant) -> Option<SocketAddr> {
        self.expire(now);
        let filtering = self.filtering;
        self.mappings
            .iter()
            .find(|mapping| {
                mapping.outside == outside && mapping.contacted.iter().any(|&to| filtering.same(to, from))
            })
            .map(|mapping| mapping.inside)
    }

    /// Forgets everything, as after a power cut, and comes back with another address perhaps.
    pub fn rebind(&mut self, address: IpAddr) {
        self.address = address;
        self.mappings.clear();
        self.next_port += 1000;
    }
}

mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn behaves_by_the_rfc() {
        use Behaviour::*;
        let (inside, server) = (at("192.168.1.2:51820"), at("198.51.100.1:1"));
        let (other_port, other) = (at("198.51.100.1:2"), at("198.51.100.2:1"));
        for (behaviour, same_for_port, same_for_address) in [
            (EndpointIndependent, true, true),
            (AddressDependent, true, false),
            (AddressAndPortDependent, false, false),
        ] {
            let now = Instant::ZERO;
            let mut nat = Nat::new([203, 0, 113, 1].into(), behaviour, EndpointIndependent);
            let first = nat.outbound(inside, server, now);
            assert_eq!(nat.outbound(inside, server, now), first);
            assert_eq!(nat.outbound(inside, other_port, now) == first, same_for_port);
            assert_eq!(nat.outbound(inside, other, now) == first, same_for_address);
            let mut nat = Nat::new([203, 0, 113, 1].into(), EndpointIndependent, behaviour);
            let outside = nat.outbound(inside, server, now);
            assert_eq!(nat.inbound(outside, server, now), Some(inside));
            assert_eq!(nat.inbound(outside, other_port, now).is_some(), same_for_port);
            assert_eq!(nat.inbound(outside, other, now).is_some(), same_for_address);
            assert_eq!(nat.inbound(outside, server, now + MAPPING_LIFETIME), None);
            let before = nat.outbound(inside, server, now);
            nat.rebind([203, 0, 113, 1].into());
            assert_eq!(nat.inbound(before, server, now), None);
            assert_ne!(nat.outbound(inside, server, now), before);
        }
    }
}
