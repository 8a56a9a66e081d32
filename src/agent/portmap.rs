//! Has the router forward our port: PCP first, NAT-PMP if that is all that it speaks. One dialogue, with one router: what is
//! asked and when, and what the answers mean. A router that says nothing is left alone for a while.

use crate::time::Instant;
use crate::wire::endpoint::is_private_address;
use crate::wire::portmap::{MapNonce, RouterAnswer, pcp_map, pmp_address, pmp_map};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// How long a mapping is asked for, in seconds; what RFC 6886 proposes.
const LIFETIME: u32 = 7200;
/// Nothing shorter is believed: it would have us ask all the time.
const SHORTEST: u32 = 120;
/// Before the first repetition; each next wait is twice as long (RFC 6886, section 3.1).
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// Requests without an answer, after which the other protocol is tried.
const TRIES: u32 = 4;
/// Before a router that does not forward is asked again.
const LATER: Duration = Duration::from_secs(600);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ask {
    Pcp,
    PmpAddress,
    PmpMap,
    Nothing,
}

/// A router, as we see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gateway {
    /// The router.
    pub router: Ipv4Addr,
    /// Our address in its network.
    pub own: Ipv4Addr,
}

/// The dialogue.
#[derive(Debug)]
pub struct PortMapper {
    gateway: Option<Gateway>,
    port: u16,
    nonce: MapNonce,
    ask: Ask,
    tries: u32,
    due: Instant,
    /// NAT-PMP says the address by itself.
    address: Option<Ipv4Addr>,
    /// What is forwarded, until when, and whether by PCP.
    mapped: Option<(SocketAddr, Instant, bool)>,
}

impl PortMapper {
    /// Without a router yet. The nonce is random, and the same for as long as the mapping is to last.
    pub fn new(nonce: MapNonce) -> Self {
        PortMapper {
            gateway: None,
            port: 0,
            nonce,
            ask: Ask::Nothing,
            tries: 0,
            due: Instant::ZERO,
            address: None,
            mapped: None,
        }
    }

    /// The router, and the port of ours that it is to forward. Another one than before begins anew.
    pub fn set_gateway(&mut self, gateway: Option<Gateway>, port: u16, now: Instant) {
        if (gateway, port) == (self.gateway, self.port) {
            return;
        }
        (self.gateway, self.port, self.mapped, self.address) = (gateway, port, None, None);
        self.begin(if gateway.is_some() { Ask::Pcp } else { Ask::Nothing }, now);
    }

    /// The router.
    pub fn gateway(&self) -> Option<Gateway> {
        self.gateway
    }

    /// What is forwarded to us.
    pub fn mapping(&self) -> Option<SocketAddr> {
        self.mapped.map(|(address, ..)| address)
    }

    fn begin(&mut self, ask: Ask, now: Instant) {
        (self.ask, self.tries, self.due) = (ask, 0, now);
    }

    /// Nothing more for a while.
    fn rest(&mut self, now: Instant) {
        (self.ask, self.tries, self.due, self.mapped) = (Ask::Pcp, 0, now + LATER, None);
    }

    /// When [`PortMapper::poll`] has something to say.
    pub fn next(&self) -> Option<Instant> {
        (self.ask != Ask::Nothing).then_some(self.due)
    }

    /// What is to be sent to the router now.
    pub fn poll(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.mapped.is_some_and(|(_, until, _)| until <= now) {
            self.mapped = None;
        }
        if self.ask == Ask::Nothing || self.due > now {
            return None;
        }
        let gateway = self.gateway?;
        if self.tries == TRIES {
            match self.ask {
                Ask::Pcp => self.begin(Ask::PmpAddress, now),
                _ => {
                    self.rest(now);
                    return None;
                }
            }
        }
        self.due = now + FIRST_WAIT * (1 << self.tries);
        self.tries += 1;
        let wanted = self.mapping().map_or(self.port, |mapped| mapped.port());
        Some(match self.ask {
            Ask::Pcp => pcp_map(gateway.own, &self.nonce, self.port, wanted, LIFETIME).to_vec(),
            Ask::PmpAddress => pmp_address().to_vec(),
            Ask::PmpMap | Ask::Nothing => pmp_map(self.port, wanted, LIFETIME).to_vec(),
        })
    }

    /// Takes a datagram that came from `from`.
    pub fn receive(&mut self, from: Ipv4Addr, datagram: &[u8], now: Instant) {
        if self.gateway.is_none_or(|gateway| gateway.router != from) {
            return;
        }
        match (self.ask, RouterAnswer::read(datagram)) {
            (Ask::Pcp, Some(RouterAnswer::PcpMapped { nonce, port, address, outside, lifetime }))
                if nonce == self.nonce && port == self.port =>
            {
                self.accept(address, outside, lifetime, Ask::Pcp, now);
            }
            (Ask::Pcp, Some(RouterAnswer::OtherVersion)) => self.begin(Ask::PmpAddress, now),
            (Ask::Pcp, Some(RouterAnswer::PcpRefused { nonce, .. })) if nonce == self.nonce => self.rest(now),
            (Ask::PmpAddress, Some(RouterAnswer::PmpAddress(address))) => {
                self.address = Some(address);
                self.begin(Ask::PmpMap, now);
            }
            (Ask::PmpMap, Some(RouterAnswer::PmpMapped { port, outside, lifetime })) if port == self.port => {
                match self.address {
                    Some(address) => self.accept(address, outside, lifetime, Ask::PmpAddress, now),
                    None => self.rest(now),
                }
            }
            (
                Ask::PmpAddress | Ask::PmpMap,
                Some(RouterAnswer::PmpRefused(_) | RouterAnswer::OtherVersion),
            ) => self.rest(now),
            _ => (),
        }
    }

    fn accept(&mut self, address: Ipv4Addr, outside: u16, lifetime: u32, again: Ask, now: Instant) {
        // Such a router is behind another one, or says nonsense: nobody outside reaches us there.
        if outside == 0 || !is_public(address) {
            return self.rest(now);
        }
        let lifetime = Duration::from_secs(lifetime.clamp(SHORTEST, LIFETIME).into());
        let until = now + lifetime;
        self.mapped = Some((SocketAddr::new(address.into(), outside), until, again == Ask::Pcp));
        self.begin(again, now + lifetime / 2);
    }

    /// What gives the mapping up, to be sent once.
    pub fn release(&mut self) -> Option<Vec<u8>> {
        let (gateway, (_, _, by_pcp)) = (self.gateway?, self.mapped.take()?);
        self.ask = Ask::Nothing;
        Some(match by_pcp {
            true => pcp_map(gateway.own, &self.nonce, self.port, 0, 0).to_vec(),
            false => pmp_map(self.port, 0, 0).to_vec(),
        })
    }
}

fn is_public(address: Ipv4Addr) -> bool {
    !is_private_address(address.into()) && !address.is_multicast() && !address.is_broadcast()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);
    const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
    const PORT: u16 = 50_000;

    fn fresh() -> PortMapper {
        let mut mapper = PortMapper::new([9; 12]);
        let gateway = Gateway { router: ROUTER, own: Ipv4Addr::new(192, 168, 1, 2) };
        mapper.set_gateway(Some(gateway), PORT, Instant::ZERO);
        mapper
    }

    fn seconds(count: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(count)
    }

    fn pcp_answer(address: Ipv4Addr, lifetime: u32) -> Vec<u8> {
        let mut answer = pcp_map(Ipv4Addr::UNSPECIFIED, &[9; 12], PORT, 40_000, lifetime).to_vec();
        answer[1] |= 0x80;
        answer[44..60].copy_from_slice(&address.to_ipv6_mapped().octets());
        answer
    }

    #[test]
    fn pcp_maps_and_renews_and_gives_up() {
        let mut mapper = fresh();
        assert_eq!(mapper.poll(Instant::ZERO).unwrap().len(), 60);
        // Of somebody else, or of another request.
        mapper.receive(OUTSIDE, &pcp_answer(OUTSIDE, 7200), Instant::ZERO);
        let mut other = pcp_answer(OUTSIDE, 7200);
        other[24] = 1;
        mapper.receive(ROUTER, &other, Instant::ZERO);
        assert_eq!(mapper.mapping(), None);
        mapper.receive(ROUTER, &pcp_answer(OUTSIDE, 7200), Instant::ZERO);
        assert_eq!(mapper.mapping(), Some((OUTSIDE, 40_000).into()));
        assert_eq!(mapper.next(), Some(seconds(3600)));
        // Renewed for the same port.
        assert_eq!(mapper.poll(seconds(3600)).unwrap()[42..44], 40_000u16.to_be_bytes());
        let release = mapper.release().unwrap();
        assert_eq!((&release[4..8], mapper.mapping(), mapper.next()), (&[0; 4][..], None, None));
    }

    #[test]
    fn a_router_that_speaks_nat_pmp_only_is_asked_for_its_address_first() {
        let mut mapper = fresh();
        mapper.poll(Instant::ZERO);
        mapper.receive(ROUTER, &[0, 128, 0, 1, 0, 0, 0, 0], Instant::ZERO);
        assert_eq!(mapper.poll(Instant::ZERO).unwrap(), [0, 0]);
        mapper.receive(ROUTER, &[0, 128, 0, 0, 0, 0, 0, 1, 203, 0, 113, 7], Instant::ZERO);
        assert_eq!(mapper.poll(Instant::ZERO).unwrap()[1], 1);
        let port = PORT.to_be_bytes();
        mapper.receive(
            ROUTER,
            &[0, 129, 0, 0, 0, 0, 0, 1, port[0], port[1], 0x9c, 0x40, 0, 0, 0x1c, 0x20],
            Instant::ZERO,
        );
        assert_eq!(mapper.mapping(), Some((OUTSIDE, 40_000).into()));
        assert_eq!(mapper.release().unwrap().len(), 12);
    }

    #[test]
    fn a_router_that_is_silent_or_behind_another_is_left_alone() {
        let mut mapper = fresh();
        let (mut sent, mut now) = (0, Instant::ZERO);
        while now < seconds(300) {
            sent += usize::from(mapper.poll(now).is_some());
            now += Duration::from_millis(50);
        }
        assert_eq!(sent, 2 * TRIES as usize);
        for address in [ROUTER, Ipv4Addr::new(100, 64, 0, 1), Ipv4Addr::LOCALHOST] {
            let mut other = fresh();
            other.poll(Instant::ZERO);
            other.receive(ROUTER, &pcp_answer(address, 7200), Instant::ZERO);
            assert_eq!((other.mapping(), other.next()), (None, Some(Instant::ZERO + LATER)), "{address}");
        }
        // A lifetime of a second does not make us ask every half of one.
        let mut hasty = fresh();
        let mapper = &mut hasty;
        mapper.poll(Instant::ZERO);
        mapper.receive(ROUTER, &pcp_answer(OUTSIDE, 1), Instant::ZERO);
        assert_eq!(mapper.next(), Some(seconds(60)));
    }
}
