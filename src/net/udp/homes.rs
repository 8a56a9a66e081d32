//! Which of our addresses the others know us by.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};

/// Most exceptions that are kept, about 100 bytes each.
const MAX_EXCEPTIONS: usize = 4096;

/// Our address that each correspondent sends to, which is where our datagrams to it have to come from: its
/// NAT and its cookies bind it. Nearly always there is one for all, so only exceptions are written down.
#[derive(Default)]
pub struct Homes {
    usual_ipv4: Option<IpAddr>,
    usual_ipv6: Option<IpAddr>,
    exceptions: HashMap<SocketAddr, IpAddr>,
}

impl Homes {
    /// `remote` sends to our address `local`.
    pub fn learn(&mut self, remote: SocketAddr, local: IpAddr) {
        let usual = *self.usual_mut(remote).get_or_insert(local);
        if usual == local {
            if !self.exceptions.is_empty() {
                self.exceptions.remove(&remote);
            }
            return;
        }
        // Who is forgotten here is learned again with its next datagram.
        if self.exceptions.len() >= MAX_EXCEPTIONS && !self.exceptions.contains_key(&remote) {
            self.exceptions.clear();
        }
        self.exceptions.insert(remote, local);
    }

    /// Our address that `remote` knows; `None` leaves it to the kernel's routes.
    pub fn of(&self, remote: SocketAddr) -> Option<IpAddr> {
        let exception = if self.exceptions.is_empty() { None } else { self.exceptions.get(&remote).copied() };
        exception.or(if remote.is_ipv4() { self.usual_ipv4 } else { self.usual_ipv6 })
    }

    /// `local` turned out to be ours no more.
    pub fn forget(&mut self, local: IpAddr) {
        for usual in [&mut self.usual_ipv4, &mut self.usual_ipv6] {
            usual.take_if(|usual| *usual == local);
        }
        self.exceptions.retain(|_, known| *known != local);
    }

    /// Every address of ours that somebody knows, once.
    pub fn known(&self) -> BTreeSet<IpAddr> {
        let exceptions = self.exceptions.values().copied();
        [self.usual_ipv4, self.usual_ipv6].into_iter().flatten().chain(exceptions).collect()
    }

    fn usual_mut(&mut self, remote: SocketAddr) -> &mut Option<IpAddr> {
        if remote.is_ipv4() { &mut self.usual_ipv4 } else { &mut self.usual_ipv6 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn remote(port: u16) -> SocketAddr {
        SocketAddr::new([198, 51, 100, 1].into(), port)
    }

    #[test]
    fn each_keeps_the_address_it_knows() {
        let mut homes = Homes::default();
        assert_eq!(homes.of(remote(1)), None);
        homes.learn(remote(1), ip(1));
        homes.learn(remote(2), ip(2));
        assert_eq!((homes.of(remote(1)), homes.of(remote(2))), (Some(ip(1)), Some(ip(2))));
        assert_eq!(homes.of("[2001:db8::1]:1".parse().unwrap()), None);
        homes.learn(remote(2), ip(1));
        assert_eq!(homes.of(remote(2)), Some(ip(1)));
        assert!(homes.exceptions.is_empty());
    }

    #[test]
    fn an_address_that_is_gone_is_used_no_more() {
        let mut homes = Homes::default();
        homes.learn(remote(1), ip(1));
        homes.learn(remote(2), ip(2));
        assert_eq!(homes.known(), [ip(1), ip(2)].into());
        homes.forget(ip(1));
        assert_eq!(homes.known(), [ip(2)].into());
        assert_eq!((homes.of(remote(1)), homes.of(remote(2))), (None, Some(ip(2))));
        homes.learn(remote(1), ip(3));
        assert_eq!((homes.of(remote(1)), homes.of(remote(2))), (Some(ip(3)), Some(ip(2))));
        homes.forget(ip(2));
        assert_eq!(homes.of(remote(2)), Some(ip(3)));
    }

    #[test]
    fn it_does_not_grow_without_bound() {
        let mut homes = Homes::default();
        homes.learn(remote(0), ip(1));
        for port in 0..=u16::MAX {
            homes.learn(remote(port), ip(2));
            assert!(homes.exceptions.len() <= MAX_EXCEPTIONS);
            assert_eq!(homes.of(remote(port)), Some(ip(2)));
        }
    }
}
