//! How often one source may ask, and who the source is.

use crate::time::Instant;
use crate::token_bucket::{Rate, TokenBucket};
use crate::wire::http::Source;
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

/// The allowances of all sources.
pub struct Admission {
    rates: Rates,
    /// Those whose `X-Forwarded-For` is believed, and who are sources like any other even on the loopback.
    trusted_proxies: Vec<IpAddr>,
    by_source: HashMap<IpAddr, Allowance>,
    shared: Allowance,
}

impl Admission {
    /// With nobody known yet.
    pub fn new(rates: Rates, trusted_proxies: Vec<IpAddr>) -> Self {
        Admission { rates, trusted_proxies, by_source: HashMap::new(), shared: Allowance::default() }
    }

    /// Has these count from now on. What a source has left of its allowance stays.
    pub fn reconfigure(&mut self, rates: Rates, trusted_proxies: Vec<IpAddr>) {
        (self.rates, self.trusted_proxies) = (rates, trusted_proxies);
    }

    /// Who asks: the sender, or whom a trusted proxy forwarded for. Of the header only the part that trusted
    /// proxies wrote counts: from the end, up to the first address that is none of theirs.
    pub fn source(&self, sender: Source, forwarded_for: Option<&str>) -> Source {
        let Source::Ip(address) = sender else { return sender };
        if !self.trusted_proxies.contains(&address) {
            return sender;
        }
        let mut client = address;
        for hop in forwarded_for.into_iter().flat_map(|header| header.rsplit(',')) {
            let Ok(hop) = hop.trim().parse::<IpAddr>() else { break };
            client = hop.to_canonical();
            if !self.trusted_proxies.contains(&client) {
                break;
            }
        }
        Source::Ip(client)
    }

    /// Whether a source sits on this machine and speaks for nobody else.
    pub fn is_local(&self, source: Source) -> bool {
        match source {
            Source::Unix => true,
            Source::Ip(address) => address.is_loopback() && !self.trusted_proxies.contains(&address),
        }
    }

    /// Takes `cost` from the source's allowance, or says in how many seconds it will be there.
    pub fn admit(&mut self, source: Source, cost: Cost, now: Instant) -> Result<(), u64> {
        if self.is_local(source) {
            return Ok(());
        }
        let Source::Ip(address) = source else { return Ok(()) };
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
fn subscriber(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Source {
        Source::Ip(text.parse().unwrap())
    }

    fn spend(admission: &mut Admission, source: Source, cost: Cost, now: Instant) -> usize {
        (0..1000).take_while(|_| admission.admit(source, cost, now).is_ok()).count()
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
        assert_eq!(spend(&mut admission, ip("127.0.0.1"), Cost::Request, now), 1000);
        assert_eq!(spend(&mut admission, Source::Unix, Cost::Creation, now), 1000);
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
            let _ = admission.admit(Source::Ip([10, 0, 0, low].into()), Cost::Creation, Instant::ZERO);
        }
        assert_eq!(admission.by_source.len(), 10);
        assert_eq!(spend(&mut admission, ip("10.1.1.1"), Cost::Creation, Instant::ZERO), 0);
        let later = Instant::ZERO + Duration::from_secs(3600);
        assert_eq!(spend(&mut admission, ip("10.1.1.1"), Cost::Creation, later), 30);
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let proxies = vec!["127.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()];
        let admission = Admission::new(Rates::default(), proxies);
        let source = |sender, header| admission.source(ip(sender), header);
        assert_eq!(source("203.0.113.1", Some("198.51.100.1")), ip("203.0.113.1"));
        assert_eq!(source("127.0.0.1", Some("198.51.100.1")), ip("198.51.100.1"));
        assert_eq!(source("127.0.0.1", Some("6.6.6.6, 198.51.100.1, 10.0.0.2")), ip("198.51.100.1"));
        assert_eq!(source("127.0.0.1", Some("6.6.6.6, what, 10.0.0.2")), ip("10.0.0.2"));
        assert_eq!(source("127.0.0.1", Some("::ffff:198.51.100.1")), ip("198.51.100.1"));
        assert_eq!(source("127.0.0.1", None), ip("127.0.0.1"));
        assert_eq!(admission.source(Source::Unix, Some("198.51.100.1")), Source::Unix);
        assert!(!admission.is_local(ip("127.0.0.1")));
        assert!(admission.is_local(ip("::1")) && admission.is_local(Source::Unix));
    }
}
