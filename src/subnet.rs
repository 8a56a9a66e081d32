//! Floor 1: the virtual LAN's IPv4 subnet.

use std::fmt;
use std::net::Ipv4Addr;

/// An IPv4 subnet in CIDR notation, /8 to /30, in a private or shared range's spirit: the caller chooses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subnet {
    network: Ipv4Addr,
    prefix: u8,
}

impl Subnet {
    /// LANrage's own: 10.66.0.0/16.
    pub const DEFAULT: Subnet = Subnet { network: Ipv4Addr::new(10, 66, 0, 0), prefix: 16 };

    /// Reads `A.B.C.D/N` with 8 <= N <= 30; host bits must be zero.
    pub fn parse(text: &str) -> Option<Self> {
        let (network, prefix) = text.split_once('/')?;
        let network: Ipv4Addr = network.parse().ok()?;
        let prefix: u8 = prefix.parse().ok()?;
        let subnet = Subnet { network, prefix };
        ((8..=30).contains(&prefix) && network.to_bits() & !subnet.mask() == 0).then_some(subnet)
    }

    const fn mask(self) -> u32 {
        u32::MAX << (32 - self.prefix)
    }

    /// How many bits of an address are the network's.
    pub const fn prefix(self) -> u8 {
        self.prefix
    }

    /// The first address of it.
    pub const fn network(self) -> Ipv4Addr {
        self.network
    }

    /// The first host address, which is the hub's.
    pub const fn hub(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network.to_bits() + 1)
    }

    /// The address that reaches all of it.
    pub const fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network.to_bits() | !self.mask())
    }

    /// Whether `address` is one that a peer may have: in the subnet, not the network, hub or broadcast
    /// address.
    pub fn is_peer_address(self, address: Ipv4Addr) -> bool {
        address > self.hub() && address < self.broadcast()
    }

    /// How many peers fit.
    pub const fn capacity(self) -> usize {
        (self.broadcast().to_bits() - self.hub().to_bits() - 1) as usize
    }

    /// The peers' addresses, from `first` on and around to the one before it.
    pub fn peer_addresses(self, first: Ipv4Addr) -> impl Iterator<Item = Ipv4Addr> {
        let low = self.hub().to_bits() + 1;
        let high = self.broadcast().to_bits();
        let first = first.to_bits().clamp(low, high - 1);
        (first..high).chain(low..first).map(Ipv4Addr::from_bits)
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_its_addresses() {
        let subnet = Subnet::parse("10.66.0.0/16").unwrap();
        assert_eq!(subnet, Subnet::DEFAULT);
        assert_eq!(subnet.to_string(), "10.66.0.0/16");
        assert_eq!(subnet.hub(), Ipv4Addr::new(10, 66, 0, 1));
        assert_eq!(subnet.broadcast(), Ipv4Addr::new(10, 66, 255, 255));
        assert_eq!(subnet.capacity(), 65_533);
        let small = Subnet::parse("192.168.7.4/30").unwrap();
        assert_eq!(small.peer_addresses(small.hub()).collect::<Vec<_>>(), [Ipv4Addr::new(192, 168, 7, 6)]);
        let around: Vec<u8> = Subnet::parse("10.0.0.0/29")
            .unwrap()
            .peer_addresses(Ipv4Addr::new(10, 0, 0, 5))
            .map(|a| a.octets()[3])
            .collect();
        assert_eq!(around, [5, 6, 2, 3, 4]);
        for bad in ["10.66.0.0", "10.66.0.0/31", "10.66.0.0/7", "10.66.0.1/16", "10.66.0.0/x", "::/16", ""] {
            assert_eq!(Subnet::parse(bad), None, "{bad:?}");
        }
    }
}
