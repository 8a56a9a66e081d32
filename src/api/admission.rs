//! How often one source may ask, and who the source is.

use crate::crypto::random;
use crate::keyed_hash::KeyedState;
use crate::owners::{SourceBuckets, SourceRates};
use crate::time::Instant;
use crate::token_bucket::Rate;
use crate::wire::http::{Request, Source};
use crate::wire::proxies;
use std::cell::Cell;
use std::net::IpAddr;
use std::time::Duration;

/// How many sources may use what they may at the same time before everybody has to wait.
const BUSY_SOURCES: u32 = 64;
/// Wrong guesses of passwords and typed codes, of one source and of all together.
const GUESSES: Rate = Rate::new(10, Duration::from_secs(60), 10);
const ALL_GUESSES: Rate = Rate::new(60, Duration::from_secs(60), 60);
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

/// Who asks, as far as it can be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Client {
    /// Where the client is.
    pub source: Source,
    /// Whether it sits on this machine and speaks for nobody else.
    pub is_local: bool,
}

impl Client {
    /// Who pays for what it does, unless that is this machine itself.
    pub fn payer(self) -> Option<IpAddr> {
        match self.source {
            Source::Ip(address) if !self.is_local => Some(address),
            _ => None,
        }
    }
}

/// The allowances of all sources.
pub struct RequestLimiter {
    rates: Rates,
    /// Those whose `X-Forwarded-For` is believed, and who are sources like any other even on the loopback.
    trusted_proxies: Vec<IpAddr>,
    /// Whether the log names a proxy that is not trusted.
    has_warned: Cell<bool>,
    requests: SourceBuckets,
    creations: SourceBuckets,
    changes: SourceBuckets,
    guesses: SourceBuckets,
}

impl RequestLimiter {
    /// With nobody known yet.
    pub fn new(rates: Rates, trusted_proxies: Vec<IpAddr>) -> Self {
        let number = || u64::from_le_bytes(random::bytes());
        let buckets = || SourceBuckets::new(KeyedState::new(number(), number()));
        RequestLimiter {
            rates,
            trusted_proxies,
            has_warned: Cell::new(false),
            requests: buckets(),
            creations: buckets(),
            changes: buckets(),
            guesses: buckets(),
        }
    }

    /// Has these count from now on. What a source has left of its allowance stays.
    pub fn reconfigure(&mut self, rates: Rates, trusted_proxies: Vec<IpAddr>) {
        (self.rates, self.trusted_proxies) = (rates, trusted_proxies);
    }

    /// Who asks.
    pub fn client(&self, request: &Request) -> Client {
        let Source::Ip(sender) = request.source else {
            return Client { source: Source::Unix, is_local: true };
        };
        let is_trusted = proxies::trusts(&self.trusted_proxies, sender);
        if sender.is_loopback() && request.is_forwarded && !is_trusted && !self.has_warned.replace(true) {
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
        let Some(address) = client.payer() else { return Ok(()) };
        let (buckets, rate) = match cost {
            Cost::Request => (&mut self.requests, self.rates.requests),
            Cost::Creation => (&mut self.creations, self.rates.creations),
        };
        let rates = SourceRates::widening(rate, rate.times(BUSY_SOURCES));
        buckets.take(address, 1, &rates, now).map_err(in_seconds)
    }

    /// Whether the client may change what is kept on disk, or in how many seconds it may.
    pub fn may_change(&self, client: Client, now: Instant) -> Result<(), u64> {
        let Some(address) = client.payer() else { return Ok(()) };
        self.changes.peek(address, 1, &self.change_rates(), now).map_err(in_seconds)
    }

    /// Takes what the client has changed from its allowance, which is owed if it is not there.
    pub fn pay_for_changes(&mut self, client: Client, count: u32, now: Instant) {
        if let Some(address) = client.payer() {
            let rates = self.change_rates();
            self.changes.spend(address, count, &rates, now);
        }
    }

    /// Whether the client may guess once more, or in how many seconds it may. Nobody on this machine has to.
    pub fn may_guess(&self, client: Client, now: Instant) -> Result<(), u64> {
        let Some(address) = client.payer() else { return Ok(()) };
        self.guesses.peek(address, 1, &guess_rates(), now).map_err(in_seconds)
    }

    /// Counts a wrong guess.
    pub fn count_guess(&mut self, client: Client, now: Instant) {
        if let Some(address) = client.payer() {
            self.guesses.spend(address, 1, &guess_rates(), now);
        }
    }

    fn change_rates(&self) -> SourceRates {
        SourceRates::narrow(self.rates.changes, self.rates.changes.times(BUSY_NETWORKS))
    }
}

fn guess_rates() -> SourceRates {
    SourceRates::widening(GUESSES, ALL_GUESSES)
}

fn in_seconds(wait: Duration) -> u64 {
    wait.as_secs() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client that says nothing of another.
    fn ip(text: &str) -> Client {
        Client { source: Source::Ip(text.parse().unwrap()), is_local: false }
    }

    fn spend(admission: &mut RequestLimiter, client: Client, cost: Cost, now: Instant) -> usize {
        (0..1000).take_while(|_| admission.admit(client, cost, now).is_ok()).count()
    }

    #[test]
    fn a_source_has_a_burst_and_a_rate() {
        let mut admission = RequestLimiter::new(Rates::default(), Vec::new());
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
        let mut admission = RequestLimiter::new(Rates::default(), Vec::new());
        let now = Instant::ZERO;
        assert_eq!(spend(&mut admission, ip("2001:db8::1"), Cost::Creation, now), 30);
        assert_eq!(spend(&mut admission, ip("2001:db8::ffff:1"), Cost::Creation, now), 0);
        assert_eq!(spend(&mut admission, ip("2001:db8:0:1::1"), Cost::Creation, now), 30);
    }

    #[test]
    fn a_network_has_a_share_however_many_addresses_it_has() {
        let mut admission = RequestLimiter::new(Rates::default(), Vec::new());
        let mut from_48 = |low: u16| {
            let source = ip(&format!("2001:db8:7:{low:x}::1"));
            admission.admit(source, Cost::Creation, Instant::ZERO).is_ok()
        };
        let admitted = (0..5000).filter(|&low| from_48(low)).count();
        // Some of its prefixes share a bucket, by chance.
        assert!((14 * 30..=16 * 30).contains(&admitted), "{admitted}");
        // So may an honest one, but hardly with both of its buckets.
        let honest = spend(&mut admission, ip("198.51.100.1"), Cost::Creation, Instant::ZERO);
        assert!((25..=30).contains(&honest), "{honest}");
    }

    #[test]
    fn who_has_changed_too_much_waits_and_what_can_not_be_refused_is_owed() {
        let mut admission = RequestLimiter::new(Rates::default(), Vec::new());
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
        let local = Client { is_local: true, ..ip("127.0.0.1") };
        assert!(admission.may_change(local, now).is_ok());
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
            if_none_match: None,
            forwarded_for: forwarded_for.map(String::from),
            is_forwarded,
            body: Vec::new(),
            source: Source::Ip(sender.parse().unwrap()),
            local: None,
        };
        let plain = RequestLimiter::new(Rates::default(), Vec::new());
        assert!(plain.client(&asked("127.0.0.1", None, false)).is_local);
        assert!(plain.client(&asked("::1", None, false)).is_local);
        assert!(!plain.client(&asked("192.0.2.1", None, false)).is_local && !plain.has_warned.get());
        assert_eq!(plain.client(&asked("127.0.0.1", Some("198.51.100.1"), true)), ip("127.0.0.1"));
        assert!(plain.has_warned.get());
        assert!(!plain.client(&asked("127.0.0.1", None, true)).is_local);
        let unix = Request { source: Source::Unix, ..asked("::1", Some("198.51.100.1"), true) };
        assert_eq!(plain.client(&unix), Client { source: Source::Unix, is_local: true });

        let proxied = RequestLimiter::new(Rates::default(), vec!["127.0.0.1".parse().unwrap()]);
        assert_eq!(proxied.client(&asked("::1", Some("198.51.100.1"), true)), ip("198.51.100.1"));
        for local in ["127.0.0.1", "127.0.0.2", "::1"] {
            assert_eq!(proxied.client(&asked(local, None, false)), ip(local));
            assert_eq!(proxied.client(&asked("127.0.0.1", Some(local), true)), ip("127.0.0.1"));
        }
        assert!(!proxied.has_warned.get());
    }
}
