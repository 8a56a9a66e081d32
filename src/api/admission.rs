//! How often one source may ask, and who the source is.

use crate::crypto::random;
use crate::keyed_hash::KeyedState;
use crate::owners::{SourceBuckets, SourceRates};
use crate::time::Instant;
use crate::token_bucket::Rate;
use crate::wire::http::Source;
use std::net::IpAddr;
use std::time::Duration;

/// How many sources may use what they may at the same time before everybody has to wait.
const BUSY_SOURCES: u32 = 64;
/// The same for networks that change things without end.
const BUSY_NETWORKS: u32 = 32;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// What one source may do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rates {
    /// Requests and WebSocket messages of every kind, of one subscriber.
    pub requests: Rate,
    /// Registrations and creates, of one subscriber.
    pub creations: Rate,
    /// Changes that are written to the disk, of one network: a commit writes some 33 KB, whatever changes.
    pub changes: Rate,
}

impl Default for Rates {
    fn default() -> Self {
        Rates {
            requests: Rate::new(50, Duration::from_secs(1), 200),
            creations: Rate::new(10, Duration::from_secs(60), 30),
            changes: Rate::new(180, DAY, 100),
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

/// The allowances of all sources.
pub struct Admission {
    rates: Rates,
    /// Those whose `X-Forwarded-For` is believed, and who are sources like any other even on the loopback.
    trusted_proxies: Vec<IpAddr>,
    requests: SourceBuckets,
    creations: SourceBuckets,
    changes: SourceBuckets,
}

impl Admission {
    /// With nobody known yet.
    pub fn new(rates: Rates, trusted_proxies: Vec<IpAddr>) -> Self {
        let number = || u64::from_le_bytes(random::bytes());
        let buckets = || SourceBuckets::new(KeyedState::new(number(), number()));
        Admission { rates, trusted_proxies, requests: buckets(), creations: buckets(), changes: buckets() }
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
        let Some(address) = self.payer(source) else { return Ok(()) };
        let (buckets, rate) = match cost {
            Cost::Request => (&mut self.requests, self.rates.requests),
            Cost::Creation => (&mut self.creations, self.rates.creations),
        };
        let rates = SourceRates::widening(rate, rate.times(BUSY_SOURCES));
        buckets.take(address, 1, &rates, now).map_err(in_seconds)
    }

    /// Whether the source may change what is kept on disk, or in how many seconds it may.
    pub fn may_change(&self, source: Source, now: Instant) -> Result<(), u64> {
        let Some(address) = self.payer(source) else { return Ok(()) };
        self.changes.peek(address, 1, &self.change_rates(), now).map_err(in_seconds)
    }

    /// Takes what the source has changed from its allowance, which is owed if it is not there.
    pub fn pay_for_changes(&mut self, source: Source, count: u32, now: Instant) {
        if let Some(address) = self.payer(source) {
            let rates = self.change_rates();
            self.changes.spend(address, count, &rates, now);
        }
    }

    fn change_rates(&self) -> SourceRates {
        SourceRates::narrow(self.rates.changes, self.rates.changes.times(BUSY_NETWORKS))
    }

    /// Who pays for what a source does, unless that is this machine itself.
    pub fn payer(&self, source: Source) -> Option<IpAddr> {
        match source {
            Source::Ip(address) if !self.is_local(source) => Some(address),
            _ => None,
        }
    }
}

fn in_seconds(wait: Duration) -> u64 {
    wait.as_secs() + 1
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
    fn a_network_has_a_share_however_many_addresses_it_has() {
        let mut admission = Admission::new(Rates::default(), Vec::new());
        let mut from_48 = |low: u16| {
            let source = Source::Ip([0x2001, 0xdb8, 7, low, 0, 0, 0, 1].into());
            admission.admit(source, Cost::Creation, Instant::ZERO).is_ok()
        };
        let admitted = (0..5000).filter(|&low| from_48(low)).count();
        // Some of its prefixes share a bucket, by chance.
        assert!((14 * 30..=16 * 30).contains(&admitted), "{admitted}");
        assert_eq!(spend(&mut admission, ip("198.51.100.1"), Cost::Creation, Instant::ZERO), 30);
    }

    #[test]
    fn who_has_changed_too_much_waits_and_what_can_not_be_refused_is_owed() {
        let mut admission = Admission::new(Rates::default(), Vec::new());
        let now = Instant::ZERO;
        let mut change = |source: &str, now| {
            let may = admission.may_change(ip(source), now).is_ok();
            if may {
                admission.pay_for_changes(ip(source), 1, now);
            }
            may
        };
        let changed = |change: &mut dyn FnMut(&str, Instant) -> bool, source: &str, now| {
            (0..500).filter(|_| change(source, now)).count()
        };
        assert_eq!(changed(&mut change, "198.51.100.1", now), 50);
        assert_eq!(changed(&mut change, "198.51.100.2", now), 50);
        assert_eq!(changed(&mut change, "198.51.100.3", now), 0, "it is the same network");
        assert_eq!(changed(&mut change, "203.0.113.1", now), 50);
        let later = now + DAY;
        assert_eq!(changed(&mut change, "198.51.100.1", later), 50);
        admission.pay_for_changes(ip("192.0.2.1"), 100, now);
        assert!(admission.may_change(ip("192.0.2.1"), now + DAY / 4).is_err());
        assert!(admission.may_change(ip("192.0.2.1"), later).is_ok());
        assert!(admission.may_change(ip("127.0.0.1"), now).is_ok());
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
