//! Cryptokey routing (paper 2): which peer an inner address belongs to, by the longest matching prefix.

use std::collections::HashMap;
use std::net::IpAddr;

/// A block of addresses.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct AllowedIp {
    address: IpAddr,
    length: u8,
}

impl AllowedIp {
    /// The block of all addresses that agree with `address` in their first `length` bits, or `None` if an
    /// address has fewer.
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        (length <= width(address)).then_some(AllowedIp { address, length })
    }

    /// The block that holds `address` alone.
    pub fn host(address: IpAddr) -> Self {
        AllowedIp { address, length: width(address) }
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// One map per family and prefix length in use, longest first. Members have one host address each, so a
/// look-up nearly always is one hash.
#[derive(Clone, Debug)]
pub struct AllowedIps<T> {
    v4: Vec<(u8, HashMap<u128, T>)>,
    v6: Vec<(u8, HashMap<u128, T>)>,
}

impl<T> Default for AllowedIps<T> {
    fn default() -> Self {
        AllowedIps { v4: Vec::new(), v6: Vec::new() }
    }
}

/// The first `length` bits of `address`, the others zero.
fn masked(address: IpAddr, length: u8) -> u128 {
    let (bits, width) = match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    };
    let host_bits = u32::from(width - length);
    bits.checked_shr(host_bits).unwrap_or(0).checked_shl(host_bits).unwrap_or(0)
}

impl<T: Copy + PartialEq> AllowedIps<T> {
    fn family(&self, address: IpAddr) -> &Vec<(u8, HashMap<u128, T>)> {
        if address.is_ipv4() { &self.v4 } else { &self.v6 }
    }

    fn family_mut(&mut self, address: IpAddr) -> &mut Vec<(u8, HashMap<u128, T>)> {
        if address.is_ipv4() { &mut self.v4 } else { &mut self.v6 }
    }

    /// Gives `prefix` to `owner`; whoever had exactly this prefix loses it and is returned.
    pub fn insert(&mut self, prefix: AllowedIp, owner: T) -> Option<T> {
        let key = masked(prefix.address, prefix.length);
        let family = self.family_mut(prefix.address);
        let at = family.partition_point(|(length, _)| *length > prefix.length);
        if family.get(at).is_none_or(|(length, _)| *length != prefix.length) {
            family.insert(at, (prefix.length, HashMap::new()));
        }
        family[at].1.insert(key, owner)
    }

    /// Takes exactly `prefix` from whoever has it.
    pub fn remove(&mut self, prefix: AllowedIp) -> Option<T> {
        let key = masked(prefix.address, prefix.length);
        let family = self.family_mut(prefix.address);
        let at = family.iter().position(|(length, _)| *length == prefix.length)?;
        let owner = family[at].1.remove(&key);
        if family[at].1.is_empty() {
            family.remove(at);
        }
        owner
    }

    /// Takes all prefixes from `owner`. Looks at every prefix there is.
    pub fn remove_owner(&mut self, owner: T) {
        for family in [&mut self.v4, &mut self.v6] {
            family.iter_mut().for_each(|(_, map)| map.retain(|_, other| *other != owner));
            family.retain(|(_, map)| !map.is_empty());
        }
    }

    /// Whether one of `owner`'s prefixes contains `address`, though a longer one may be another's.
    pub fn contains(&self, address: IpAddr, owner: T) -> bool {
        let mut lengths = self.family(address).iter();
        lengths.any(|(length, map)| map.get(&masked(address, *length)) == Some(&owner))
    }

    /// Whose `address` is.
    pub fn lookup(&self, address: IpAddr) -> Option<T> {
        self.family(address).iter().find_map(|(length, map)| map.get(&masked(address, *length))).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::random::Seeded;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn prefix(text: &str) -> AllowedIp {
        let (address, length) = text.split_once('/').unwrap();
        AllowedIp::new(address.parse().unwrap(), length.parse().unwrap()).unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_longest_prefix_wins() {
        let mut table = AllowedIps::default();
        for (owner, block) in
            ["0.0.0.0/0", "10.66.0.0/16", "10.66.0.2/32", "10.66.0.0/24", "::/0", "fd00::/8", "fd00::1/128"]
                .into_iter()
                .enumerate()
        {
            assert_eq!(table.insert(prefix(block), owner), None);
        }
        for (address, owner) in [
            ("8.8.8.8", 0),
            ("10.66.1.1", 1),
            ("10.66.0.2", 2),
            ("10.66.0.3", 3),
            ("2001:db8::1", 4),
            ("fd00::2", 5),
            ("fd00::1", 6),
        ] {
            assert_eq!(table.lookup(ip(address)), Some(owner), "{address}");
        }
        assert_eq!(table.remove(prefix("10.66.0.77/24")), Some(3), "host bits do not matter");
        assert_eq!(table.lookup(ip("10.66.0.3")), Some(1));
        assert_eq!(table.insert(prefix("10.66.0.2/32"), 9), Some(2));
        assert_eq!(table.lookup(ip("10.66.0.2")), Some(9));
        table.remove_owner(9);
        assert_eq!(table.lookup(ip("10.66.0.2")), Some(1));
        table.remove_owner(0);
        assert_eq!(table.lookup(ip("8.8.8.8")), None);
        assert_eq!(table.remove(prefix("8.0.0.0/8")), None);
    }

    #[test]
    fn families_do_not_mix_and_lengths_are_checked() {
        let mut table = AllowedIps::default();
        table.insert(prefix("::/0"), 'a');
        assert_eq!(table.lookup(ip("10.0.0.1")), None);
        assert_eq!(AllowedIp::new(ip("10.0.0.1"), 33), None);
        assert_eq!(AllowedIp::new(ip("::1"), 129), None);
        assert_eq!(AllowedIp::host(ip("::1")), prefix("::1/128"));
        assert_eq!(AllowedIp::host(ip("1.2.3.4")), prefix("1.2.3.4/32"));
    }

    /// Against the obvious implementation: look at all prefixes, keep the longest that fits.
    #[test]
    fn agrees_with_a_list() {
        let mut random = Seeded::new(21);
        for _ in 0..50 {
            let (mut table, mut list) = (AllowedIps::default(), Vec::<(AllowedIp, u64)>::new());
            for owner in 0..60 {
                let address = random_address(&mut random);
                let length = random.below(u64::from(width(address)) + 1) as u8;
                let prefix = AllowedIp::new(address, length).unwrap();
                let same = |(other, _): &(AllowedIp, u64)| {
                    other.length == length
                        && other.address.is_ipv4() == address.is_ipv4()
                        && masked(other.address, length) == masked(address, length)
                };
                list.retain(|entry| !same(entry));
                if random.below(5) > 0 {
                    table.insert(prefix, owner);
                    list.push((prefix, owner));
                } else {
                    table.remove(prefix);
                }
            }
            for _ in 0..200 {
                let address = random_address(&mut random);
                let expected = list
                    .iter()
                    .filter(|(prefix, _)| {
                        prefix.address.is_ipv4() == address.is_ipv4()
                            && masked(prefix.address, prefix.length) == masked(address, prefix.length)
                    })
                    .max_by_key(|(prefix, _)| prefix.length)
                    .map(|(_, owner)| *owner);
                assert_eq!(table.lookup(address), expected);
            }
        }
    }

    /// Few distinct bits, so that prefixes nest and collide.
    fn random_address(random: &mut Seeded) -> IpAddr {
        let bits = random.next_u64() & 0x8000_0301;
        if random.below(2) == 0 {
            Ipv4Addr::from_bits(bits as u32).into()
        } else {
            Ipv6Addr::from_bits(u128::from(bits) << 64 | u128::from(bits)).into()
        }
    }
}
