//! Has the router forward our port: PCP first, NAT-PMP if that is all that it speaks, then UPnP. One dialogue, with one router:
//! what is asked and when, and what the answers mean. A router that says nothing is left alone for a while.

mod igd;

use crate::time::Instant;
use crate::wire::endpoint::is_private_address;
use crate::wire::portmap::{MapNonce, RouterAnswer, pcp_map, pmp_address, pmp_map};
use igd::{IgdDialogue, IgdVerdict};
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
    Igd,
    Nothing,
}

/// What is to be done at the router.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RouterWish {
    /// Say this to its port for PCP and NAT-PMP.
    Say(Vec<u8>),
    /// Look for it by UPnP, and hand over what it [answers](PortMapper::found).
    Search(&'static [u8]),
    /// Send this request (HTTP), and say what [came](PortMapper::fetched) of it.
    Fetch {
        /// An address of the router's.
        to: SocketAddr,
        /// The whole request.
        request: Vec<u8>,
    },
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
    /// The router's address outside, as it last said.
    outside: Option<Ipv4Addr>,
    /// It rests: the router was asked, and forwards nothing.
    rests: bool,
    /// What is forwarded, until when, and by which means.
    mapped: Option<(SocketAddr, Instant, Ask)>,
    igd: IgdDialogue,
    /// What another port of ours left there.
    leftover: Option<RouterWish>,
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
            outside: None,
            rests: false,
            mapped: None,
            igd: IgdDialogue::new(0),
            leftover: None,
        }
    }

    /// The router, and the port of ours that it is to forward. Another one than before begins anew.
    pub fn set_gateway(&mut self, gateway: Option<Gateway>, port: u16, now: Instant) {
        if (gateway, port) == (self.gateway, self.port) {
            return;
        }
        self.leftover = match self.gateway == gateway {
            true => self.igd.release(self.mapped.is_some_and(|(.., means)| means == Ask::Igd)),
            false => None,
        };
        self.igd = IgdDialogue::new(port);
        (self.gateway, self.port, self.mapped, self.outside) = (gateway, port, None, None);
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

    /// The router's address outside: if that is not public, another NAT follows.
    pub fn outside(&self) -> Option<Ipv4Addr> {
        self.outside
    }

    /// Whether it is known whether the router forwards.
    pub fn is_settled(&self) -> bool {
        self.gateway.is_none() || self.mapped.is_some() || self.rests
    }

    fn begin(&mut self, ask: Ask, now: Instant) {
        (self.ask, self.tries, self.due, self.rests) = (ask, 0, now, false);
    }

    /// Nothing more for a while.
    fn rest(&mut self, now: Instant) {
        (self.ask, self.tries, self.due, self.mapped) = (Ask::Pcp, 0, now + LATER, None);
        self.rests = true;
    }

    /// When [`PortMapper::poll`] has something to say.
    pub fn next(&self) -> Option<Instant> {
        (self.ask != Ask::Nothing).then_some(self.due)
    }

    /// What is to be sent to the router now.
    pub fn poll(&mut self, now: Instant) -> Option<RouterWish> {
        if let Some(leftover) = self.leftover.take() {
            return Some(leftover);
        }
        if self.mapped.is_some_and(|(_, until, _)| until <= now) {
            self.mapped = None;
        }
        if self.ask == Ask::Nothing || self.due > now {
            return None;
        }
        let gateway = self.gateway?;
        if self.ask == Ask::Igd {
            let next = self.igd.poll(gateway, self.port);
            let Some((wish, wait)) = next else {
                self.rest(now);
                return None;
            };
            self.due = now + wait;
            return Some(wish);
        }
        if self.tries == TRIES {
            match self.ask {
                Ask::Pcp => self.begin(Ask::PmpAddress, now),
                _ => {
                    self.try_igd(now);
                    return self.poll(now);
                }
            }
        }
        self.due = now + FIRST_WAIT * (1 << self.tries);
        self.tries += 1;
        let wanted = self.mapping().map_or(self.port, |mapped| mapped.port());
        Some(RouterWish::Say(match self.ask {
            Ask::Pcp => pcp_map(gateway.own, &self.nonce, self.port, wanted, LIFETIME).to_vec(),
            Ask::PmpAddress => pmp_address().to_vec(),
            _ => pmp_map(self.port, wanted, LIFETIME).to_vec(),
        }))
    }

    /// The router listens at neither of the two's port.
    pub fn nobody_listens(&mut self, now: Instant) {
        let is_asked = matches!(self.ask, Ask::Pcp | Ask::PmpAddress | Ask::PmpMap) && self.tries > 0;
        if is_asked && self.mapped.is_none() {
            self.try_igd(now);
        }
    }

    fn try_igd(&mut self, now: Instant) {
        self.igd = IgdDialogue::new(self.port);
        self.begin(Ask::Igd, now);
    }

    /// Takes an answer to the search by UPnP, from `from`.
    pub fn found(&mut self, from: Ipv4Addr, datagram: &[u8], now: Instant) {
        let gateway = self.gateway.filter(|gateway| gateway.router == from && self.ask == Ask::Igd);
        if gateway.is_some_and(|gateway| self.igd.found(gateway, datagram)) {
            self.due = now;
        }
    }

    /// Takes what came of a request: its status and its body, if there was an answer.
    pub fn fetched(&mut self, reply: Option<(u16, &[u8])>, now: Instant) {
        if self.ask != Ask::Igd {
            return;
        }
        let verdict = self.igd.fetched(reply);
        self.outside = self.igd.address().or(self.outside);
        match verdict {
            IgdVerdict::GoOn if self.outside.is_none_or(is_public) => self.due = now,
            IgdVerdict::Mapped { address, outside } => {
                self.accept(address, outside, LIFETIME, Ask::Igd, now);
                self.igd.renew();
            }
            IgdVerdict::GoOn | IgdVerdict::Failed => self.rest(now),
        }
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
            (Ask::Pcp, Some(RouterAnswer::PcpRefused { nonce, .. })) if nonce == self.nonce => {
                self.try_igd(now)
            }
            (Ask::PmpAddress, Some(RouterAnswer::PmpAddress(address))) => {
                self.outside = Some(address);
                self.begin(Ask::PmpMap, now);
            }
            (Ask::PmpMap, Some(RouterAnswer::PmpMapped { port, outside, lifetime })) if port == self.port => {
                match self.outside {
                    Some(address) => self.accept(address, outside, lifetime, Ask::PmpAddress, now),
                    None => self.rest(now),
                }
            }
            (
                Ask::PmpAddress | Ask::PmpMap,
                Some(RouterAnswer::PmpRefused(_) | RouterAnswer::OtherVersion),
            ) => self.try_igd(now),
            _ => (),
        }
    }

    fn accept(&mut self, address: Ipv4Addr, outside: u16, lifetime: u32, again: Ask, now: Instant) {
        self.outside = Some(address);
        // Such a router is behind another one, or says nonsense: nobody outside reaches us there.
        if outside == 0 || !is_public(address) {
            return self.rest(now);
        }
        let lifetime = Duration::from_secs(lifetime.clamp(SHORTEST, LIFETIME).into());
        let until = now + lifetime;
        self.mapped = Some((SocketAddr::new(address.into(), outside), until, again));
        self.begin(again, now + lifetime / 2);
    }

    /// What gives the mapping up, to be sent once.
    pub fn release(&mut self) -> Option<RouterWish> {
        let (gateway, means) = (self.gateway?, self.mapped.take().map(|(.., means)| means));
        self.ask = Ask::Nothing;
        match means {
            Some(Ask::Pcp) => {
                Some(RouterWish::Say(pcp_map(gateway.own, &self.nonce, self.port, 0, 0).to_vec()))
            }
            Some(Ask::PmpAddress) => Some(RouterWish::Say(pmp_map(self.port, 0, 0).to_vec())),
            _ => self.igd.release(means.is_some()),
        }
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

    /// What is said to the port for PCP and NAT-PMP.
    fn said(wish: Option<RouterWish>) -> Option<Vec<u8>> {
        match wish {
            Some(RouterWish::Say(bytes)) => Some(bytes),
            _ => None,
        }
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
        assert_eq!(said(mapper.poll(Instant::ZERO)).unwrap().len(), 60);
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
        assert_eq!(said(mapper.poll(seconds(3600))).unwrap()[42..44], 40_000u16.to_be_bytes());
        let release = said(mapper.release()).unwrap();
        assert_eq!((&release[4..8], mapper.mapping(), mapper.next()), (&[0; 4][..], None, None));
    }

    #[test]
    fn a_router_that_speaks_nat_pmp_only_is_asked_for_its_address_first() {
        let mut mapper = fresh();
        mapper.poll(Instant::ZERO);
        mapper.receive(ROUTER, &[0, 128, 0, 1, 0, 0, 0, 0], Instant::ZERO);
        assert_eq!(said(mapper.poll(Instant::ZERO)).unwrap(), [0, 0]);
        mapper.receive(ROUTER, &[0, 128, 0, 0, 0, 0, 0, 1, 203, 0, 113, 7], Instant::ZERO);
        assert_eq!(said(mapper.poll(Instant::ZERO)).unwrap()[1], 1);
        let port = PORT.to_be_bytes();
        mapper.receive(
            ROUTER,
            &[0, 129, 0, 0, 0, 0, 0, 1, port[0], port[1], 0x9c, 0x40, 0, 0, 0x1c, 0x20],
            Instant::ZERO,
        );
        assert_eq!(mapper.mapping(), Some((OUTSIDE, 40_000).into()));
        assert_eq!(said(mapper.release()).unwrap().len(), 12);
    }

    #[test]
    fn a_router_that_is_silent_or_behind_another_is_left_alone() {
        let mut mapper = fresh();
        let (mut sent, mut searched, mut now) = (0, 0, Instant::ZERO);
        while now < seconds(300) {
            match mapper.poll(now) {
                Some(RouterWish::Say(_)) => sent += 1,
                Some(RouterWish::Search(_)) => searched += 1,
                Some(other) => panic!("{other:?}"),
                None => (),
            }
            now += Duration::from_millis(50);
        }
        assert_eq!((sent, searched, mapper.is_settled()), (2 * TRIES, 3, true));
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

    const FOUND: &[u8] = b"HTTP/1.1 200 OK\r\nLOCATION: http://192.168.1.1:5000/d.xml\r\n\r\n";
    const DESCRIBED: &[u8] =
        b"<service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>\
        <controlURL>/ctl</controlURL></service>";

    /// One that has found a router that speaks UPnP alone, and read what it is.
    fn by_upnp() -> PortMapper {
        let mut mapper = fresh();
        mapper.poll(Instant::ZERO);
        mapper.nobody_listens(Instant::ZERO);
        assert!(matches!(mapper.poll(Instant::ZERO), Some(RouterWish::Search(_))));
        // Of somebody else, or leading to somebody else.
        mapper.found(OUTSIDE, FOUND, Instant::ZERO);
        let elsewhere = str::from_utf8(FOUND).unwrap().replace("192.168.1.1", "192.168.1.9");
        mapper.found(ROUTER, elsewhere.as_bytes(), Instant::ZERO);
        assert_eq!(mapper.poll(Instant::ZERO), None);
        mapper.found(ROUTER, FOUND, Instant::ZERO);
        assert!(fetches(&mut mapper, Instant::ZERO).starts_with("GET /d.xml "));
        mapper.fetched(Some((200, DESCRIBED)), Instant::ZERO);
        mapper
    }

    fn fetches(mapper: &mut PortMapper, now: Instant) -> String {
        text(mapper.poll(now))
    }

    fn text(wish: Option<RouterWish>) -> String {
        let Some(RouterWish::Fetch { to, request }) = wish else { panic!("{wish:?}") };
        assert_eq!(to, (ROUTER, 5000).into());
        String::from_utf8(request).unwrap()
    }

    fn tells_address(mapper: &mut PortMapper, address: &str, now: Instant) {
        assert!(fetches(mapper, now).contains("#GetExternalIPAddress"));
        let answer = format!("<NewExternalIPAddress>{address}</NewExternalIPAddress>");
        mapper.fetched(Some((200, answer.as_bytes())), now);
    }

    #[test]
    fn upnp_maps_renews_and_takes_back_what_it_made() {
        let mut mapper = by_upnp();
        tells_address(&mut mapper, "203.0.113.7", Instant::ZERO);
        let asked = fetches(&mut mapper, Instant::ZERO);
        assert!(asked.contains("<NewExternalPort>50000<") && asked.contains("<NewLeaseDuration>7200<"));
        // A router that forwards for ever only, and has given that port to somebody.
        mapper.fetched(Some((500, b"<errorCode>725</errorCode>")), Instant::ZERO);
        assert!(fetches(&mut mapper, Instant::ZERO).contains("<NewLeaseDuration>0<"));
        mapper.fetched(Some((500, b"<errorCode>718</errorCode>")), Instant::ZERO);
        let other = fetches(&mut mapper, Instant::ZERO);
        assert!(!other.contains("<NewExternalPort>50000<") && other.contains("<NewInternalPort>50000<"));
        mapper.fetched(Some((200, b"")), Instant::ZERO);
        let mapping = mapper.mapping().unwrap();
        assert!(mapping.port() != PORT && mapper.is_settled());
        let half = seconds(3600);
        tells_address(&mut mapper, "203.0.113.7", half);
        assert!(fetches(&mut mapper, half).contains(&format!("<NewExternalPort>{}<", mapping.port())));
        mapper.fetched(Some((200, b"")), half);
        assert_eq!(mapper.mapping(), Some(mapping));
        // Another port of ours: the one before is given up.
        mapper.set_gateway(mapper.gateway(), PORT + 1, half);
        let undone = fetches(&mut mapper, half);
        assert!(undone.contains("#DeletePortMapping") && undone.contains(&mapping.port().to_string()));
        assert!(said(mapper.poll(half)).is_some(), "and it begins anew");
    }

    #[test]
    fn upnp_leaves_nothing_behind_whatever_happens() {
        // The answer got lost: it may have been done.
        let mut mapper = by_upnp();
        tells_address(&mut mapper, "203.0.113.7", Instant::ZERO);
        fetches(&mut mapper, Instant::ZERO);
        assert!(text(mapper.release()).contains("#DeletePortMapping"));
        let mut mapper = by_upnp();
        tells_address(&mut mapper, "203.0.113.7", Instant::ZERO);
        fetches(&mut mapper, Instant::ZERO);
        mapper.fetched(None, Instant::ZERO);
        assert!(fetches(&mut mapper, Instant::ZERO).contains("#DeletePortMapping"));
        mapper.fetched(Some((200, b"")), Instant::ZERO);
        assert!(mapper.is_settled() && mapper.mapping().is_none() && mapper.release().is_none());
        // Behind another NAT nothing is made.
        let mut mapper = by_upnp();
        tells_address(&mut mapper, "100.64.3.4", Instant::ZERO);
        assert_eq!((mapper.poll(Instant::ZERO), mapper.is_settled()), (None, true));
        assert_eq!(mapper.outside(), Some(Ipv4Addr::new(100, 64, 3, 4)));
        // A request that nobody answers does not stop it for ever.
        let mut mapper = by_upnp();
        fetches(&mut mapper, Instant::ZERO);
        assert_eq!((mapper.poll(seconds(10)), mapper.is_settled()), (None, true));
    }

    #[test]
    fn whatever_a_router_says_in_whatever_order_ends_in_few_requests() {
        use crate::crypto::random::Seeded;
        let mut random = Seeded::new(11);
        let answers: [&[u8]; 5] = [
            DESCRIBED,
            b"<NewExternalIPAddress>203.0.113.7</NewExternalIPAddress>",
            b"<errorCode>718</errorCode>",
            b"<errorCode>725</errorCode>",
            b"<",
        ];
        for _ in 0..300 {
            let mut mapper = fresh();
            let (mut now, mut wishes) = (Instant::ZERO, 0);
            while now < seconds(600) {
                wishes += usize::from(mapper.poll(now).is_some());
                let body = answers[random.below(answers.len() as u64) as usize];
                let status = if random.below(2) == 0 { 200 } else { 500 };
                match random.below(5) {
                    0 => mapper.found(ROUTER, FOUND, now),
                    1 => mapper.fetched(Some((status, body)), now),
                    2 => mapper.fetched(None, now),
                    3 => mapper.nobody_listens(now),
                    _ => mapper.receive(ROUTER, body, now),
                }
                now += Duration::from_millis(random.below(3000));
            }
            assert!(wishes < 40, "{wishes}");
        }
    }
}
