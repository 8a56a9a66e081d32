//! How often one source may ask, and who the source is.

use crate::time::Instant;
use crate::token_bucket::{Rate, TokenBucket};
use crate::wire::http::{Request, Source};
use crate::wire::proxies;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// What one source may do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rates {
    /// Requests and WebSocket messages of every kind.
    pub requests: Rate,
    /// Registrations and creates.
    pub creations: Rate,
    /// How many sources are told apart, at about 100 bytes each; those beyond share one allowance.
    pub sources: usize,
}

impl Default for Rates {
    fn default() -> Self {
        Rates {
            requests: Rate::new(50, Duration::from_secs(1), 200),
            creations: Rate::new(10, Duration::from_secs(60), 30),
            sources: 4096,
        }
    }
}

/// What is counted against a source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cost {
    /// A request like any other.
    Request,
    /// One that makes something.
    Creation,
}

#[derive(Clone, Copy, Default)]
struct Allowance {
    requests: TokenBucket,
    creations: TokenBucket,
}

/// Who asks, as far as it can be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Client {
    /// Where the client is.
    pub source: Source,
    /// Whether it sits on this machine and speaks for nobody else.
    pub is_local: bool,
}

/// The allowances of all sources.
pub struct Admission {
    rates: Rates,
    /// Those whose `X-Forwarded-For` is believed, and who are sources like any other even on the loopback.
    trusted_proxies: Vec<IpAddr>,
    /// Whether the log names a proxy that is not trusted.
    has_warned: bool,
    by_source: HashMap<IpAddr, Allowance>,
    shared: Allowance,
}

impl Admission {
    /// With nobody known yet.
    pub fn new(rates: Rates, trusted_proxies: Vec<IpAddr>) -> Self {
        Admission {
            rates,
            trusted_proxies,
            has_warned: false,
            by_source: HashMap::new(),
            shared: Allowance::default(),
        }
    }

    /// Has these count from now on. What a source has left of its allowance stays.
    pub fn reconfigure(&mut self, rates: Rates, trusted_proxies: Vec<IpAddr>) {
        (self.rates, self.trusted_proxies) = (rates, trusted_proxies);
    }

    /// Who asks.
    pub fn client(&mut self, request: &Request) -> Client {
        let Source::Ip(sender) = request.source else {
            return Client { source: Source::Unix, is_local: true };
        };
        let is_trusted = proxies::trusts(&self.trusted_proxies, sender);
        if sender.is_loopback() && request.is_forwarded && !is_trusted && !self.has_warned {
            self.has_warned = true;
            log::warn!(
                "a proxy on this machine ({sender}) passes requests on that trusted_proxies does not name: all who \
                 come by it count as one source; set trusted_proxies = \"{sender}\""
            );
        }
        let client = proxies::client(&self.trusted_proxies, sender, request.forwarded_for.as_deref());
        let is_local = sender.is_loopback() && !is_trusted && !request.is_forwarded;
        Client { source: Source::Ip(client), is_local }
    }

    /// Takes `cost` from the allowance of the client's source, or says in how many seconds it will be there.
    /// Nobody on this machine is held to one.
    pub fn admit(&mut self, client: Client, cost: Cost, now: Instant) -> Result<(), u64> {
        let Client { source: Source::Ip(address), is_local: false } = client else { return Ok(()) };
        let key = subscriber(address);
        if self.by_source.len() >= self.rates.sources && !self.by_source.contains_key(&key) {
            self.by_source.retain(|_, known| !known.requests.is_full(now) || !known.creations.is_full(now));
        }
        let room = self.by_source.len() < self.rates.sources || self.by_source.contains_key(&key);
        let allowance = if room { self.by_source.entry(key).or_default() } else { &mut self.shared };
        let taken = match cost {
            Cost::Request => allowance.requests.take(self.rates.requests, 1, now),
            Cost::Creation => allowance.creations.take(self.rates.creations, 1, now),
        };
        taken.map_err(|wait| wait.as_secs() + 1)
    }
}

/// What one subscriber has: an IPv4 address, or an IPv6 /64.
pub(super) fn subscriber(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client that says nothing of another.
    fn ip(text: &str) -> Client {
        Client { source: Source::Ip(text.parse().unwrap()), is_local: false }
    }

    fn spend(admission: &mut Admission, client: Client, cost: Cost, now: Instant) -> usize {
        (0..1000).take_while(|_| admission.admit(client, cost, now).is_ok()).count()
    }

    #[test]
    fn a_source_has_a_burst_and_a_rate() {
        let mut admission = Admission::new(Rates::default(), Vec::new());
        let now = Instant::ZERO + Duration::from_secs(1);
        assert_eq!(spend(&mut admission, ip("198.51.100.1"), Cost::Request, now), 200);
        assert_eq!(spend(&mut admission, ip("198.51.100.2"), Cost::Request, now), 200);
        assert_eq!(spend(&mut admission, ip("198.51.100.1"), Cost::Creation, now), 30);
        assert_eq!(admission.admit(ip("198.51.100.1"), Cost::Creation, now), Err(7));
        let later = now + Duration::from_secs(60);
        assert_eq!(spend(&mut admission, ip("198.51.100.1"), Cost::Creation, later), 10);
        assert_eq!(spend(&mut admission, ip("198.51.100.1"), Cost::Request, later), 200);
        let local = Client { is_local: true, ..ip("127.0.0.1") };
        assert_eq!(spend(&mut admission, local, Cost::Request, now), 1000);
    }

    #[test]
    fn an_ipv6_subscriber_has_one_allowance_for_all_its_addresses() {
        let mut admission = Admission::new(Rates::default(), Vec::new());
        let now = Instant::ZERO;
        assert_eq!(spend(&mut admission, ip("2001:db8::1"), Cost::Creation, now), 30);
        assert_eq!(spend(&mut admission, ip("2001:db8::ffff:1"), Cost::Creation, now), 0);
        assert_eq!(spend(&mut admission, ip("2001:db8:0:1::1"), Cost::Creation, now), 30);
    }

    #[test]
    fn many_sources_cost_bounded_memory() {
        let mut admission = Admission::new(Rates { sources: 10, ..Rates::default() }, Vec::new());
        for low in 0..100u8 {
            let _ = admission.admit(ip(&format!("10.0.0.{low}")), Cost::Creation, Instant::ZERO);
        }
        assert_eq!(admission.by_source.len(), 10);
        assert_eq!(spend(&mut admission, ip("10.1.1.1"), Cost::Creation, Instant::ZERO), 0);
        let later = Instant::ZERO + Duration::from_secs(3600);
        assert_eq!(spend(&mut admission, ip("10.1.1.1"), Cost::Creation, later), 30);
    }

    #[test]
    fn who_is_local_speaks_for_nobody_else() {
        let asked = |sender: &str, forwarded_for: Option<&str>, is_forwarded| Request {
            method: tiny_http::Method::Get,
            path: "/".into(),
            query: String::new(),
            authorization: None,
            host: None,
            origin: None,
            forwarded_for: forwarded_for.map(String::from),
            is_forwarded,
            body: Vec::new(),
            source: Source::Ip(sender.parse().unwrap()),
            local: None,
        };
        let mut plain = Admission::new(Rates::default(), Vec::new());
        assert!(plain.client(&asked("127.0.0.1", None, false)).is_local);
        assert!(plain.client(&asked("::1", None, false)).is_local);
        assert!(!plain.client(&asked("192.0.2.1", None, false)).is_local && !plain.has_warned);
        assert_eq!(plain.client(&asked("127.0.0.1", Some("198.51.100.1"), true)), ip("127.0.0.1"));
        assert!(plain.has_warned);
        assert!(!plain.client(&asked("127.0.0.1", None, true)).is_local);
        let unix = Request { source: Source::Unix, ..asked("::1", Some("198.51.100.1"), true) };
        assert_eq!(plain.client(&unix), Client { source: Source::Unix, is_local: true });

        let mut proxied = Admission::new(Rates::default(), vec!["127.0.0.1".parse().unwrap()]);
        assert_eq!(proxied.client(&asked("::1", Some("198.51.100.1"), true)), ip("198.51.100.1"));
        for local in ["127.0.0.1", "127.0.0.2", "::1"] {
            assert_eq!(proxied.client(&asked(local, None, false)), ip(local));
            assert_eq!(proxied.client(&asked("127.0.0.1", Some(local), true)), ip("127.0.0.1"));
        }
        assert!(!proxied.has_warned);
    }
}
