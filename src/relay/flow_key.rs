//! What a forwarded datagram is looked up by.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// `address` in the one spelling that it is compared in: an IPv4-mapped IPv6 address is the IPv4 address,
/// and a flow label is no part of an address.
pub fn unmapped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(_) => address,
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(ip) => SocketAddr::new(ip.into(), v6.port()),
            None => SocketAddrV6::new(*v6.ip(), v6.port(), 0, v6.scope_id()).into(),
        },
    }
}

/// A remote address and an index that datagrams from there carry. 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FlowKey {
    ip: u128,
    index: u32,
    scope: u32,
    port: u16,
}

impl FlowKey {
    /// The key for `index` from (or at) `address`, which must be [unmapped].
    pub fn new(address: SocketAddr, index: u32) -> Self {
        let (ip, scope) = match address {
            SocketAddr::V4(v4) => (v4.ip().to_ipv6_mapped(), 0),
            SocketAddr::V6(v6) => (*v6.ip(), v6.scope_id()),
        };
        FlowKey { ip: ip.to_bits(), index, scope, port: address.port() }
    }

    /// The address.
    pub fn address(&self) -> SocketAddr {
        match Ipv6Addr::from_bits(self.ip).to_canonical() {
            IpAddr::V4(ip) => SocketAddr::new(ip.into(), self.port),
            IpAddr::V6(ip) => SocketAddrV6::new(ip, self.port, 0, self.scope).into(),
        }
    }

    /// The index.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// The same index at another address.
    pub fn at(&self, address: SocketAddr) -> Self {
        FlowKey::new(address, self.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::random::Seeded;
    use crate::keyed_hash::KeyedState;
    use std::collections::HashSet;
    use std::hash::BuildHasher;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn spellings_of_one_address_are_one_key() {
        let plain = address("192.0.2.1:9");
        assert_eq!(unmapped(address("[::ffff:192.0.2.1]:9")), plain);
        assert_eq!(unmapped(plain), plain);
        let labelled = SocketAddrV6::new("2001:db8::1".parse().unwrap(), 9, 77, 0);
        assert_eq!(unmapped(labelled.into()), address("[2001:db8::1]:9"));
        // Two links may have the same link-local address.
        let on_link = |scope| unmapped(SocketAddrV6::new("fe80::1".parse().unwrap(), 9, 0, scope).into());
        assert_ne!(FlowKey::new(on_link(1), 5), FlowKey::new(on_link(2), 5));
        for there in [plain, address("[2001:db8::1]:65535"), on_link(3), address("0.0.0.0:0")] {
            let key = FlowKey::new(there, 0xffff_ffff);
            assert_eq!((key.address(), key.index()), (there, 0xffff_ffff));
            assert_eq!(key.at(plain), FlowKey::new(plain, 0xffff_ffff));
        }
    }

    #[test]
    fn keys_spread_in_the_low_and_in_the_high_bits() {
        let mut random = Seeded::new(3);
        let state = KeyedState::new(random.next_u64(), random.next_u64());
        let (mut low, mut high) = (HashSet::new(), HashSet::new());
        for index in 0..1000u32 {
            for port in 0..4 {
                let hash = state.hash_one(FlowKey::new(SocketAddr::from(([10, 0, 0, 1], port)), index));
                low.insert(hash & 0xffff);
                high.insert(hash >> 48);
            }
        }
        // 4000 balls in 65,536 bins leave 3880 of them hit, give or take.
        assert!(low.len() > 3780 && high.len() > 3780, "{} {}", low.len(), high.len());
        let other = KeyedState::new(random.next_u64(), random.next_u64());
        let key = FlowKey::new(address("192.0.2.1:9"), 1);
        assert_ne!(state.hash_one(key), other.hash_one(key));
    }
}
