//! The registry of relays.

use super::approvals::TELL_OTHERS;
use super::change::Change;
use super::limits::ControlLimits;
use super::refusal::Refusal;
use super::standing::Lineage;
use crate::ids::RelayId;
use crate::owners::{Holdings, Quota};
use crate::sorted::SortedMap;
use crate::time::{Instant, Now, UnixTime};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// What a relay says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RelayInfo {
    /// Its id.
    pub relay_id: RelayId,
    /// Its address, [unembedded].
    pub public_ip: IpAddr,
    /// Its UDP port, not 0.
    pub port: u16,
    /// Where it is, 1 to 64 characters.
    pub region: String,
    /// How many clients it takes.
    pub capacity: u32,
    /// Its WireGuard key, if it has one.
    pub public_key: Option<String>,
    /// How many clients it has now.
    pub load: u32,
}

/// A registered relay.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RegisteredRelay {
    /// What it said of itself.
    pub info: RelayInfo,
    /// The registration that owns the id.
    pub owner: Lineage,
    /// When it was first registered.
    pub registered_at: UnixTime,
    /// When it was last registered.
    pub seen: Instant,
    /// The load that other instances were told last, and when.
    pub(super) told_others: Option<(u32, Instant)>,
}

/// All registered relays.
pub struct Relays {
    by_id: SortedMap<RelayId, RegisteredRelay>,
    holdings: Holdings,
}

impl Relays {
    /// None, of nobody.
    pub(super) fn new(holdings: Holdings) -> Self {
        Relays { by_id: SortedMap::new(), holdings }
    }

    /// How many each owner of addresses has.
    pub(super) fn holdings(&self) -> &Holdings {
        &self.holdings
    }

    /// Every relay, by id.
    pub fn iter(&self) -> impl Iterator<Item = &RegisteredRelay> {
        self.by_id.values()
    }

    /// The relay with this id.
    pub fn get(&self, id: &RelayId) -> Option<&RegisteredRelay> {
        self.by_id.get(id)
    }

    /// Takes in a relay that was registered before.
    pub fn insert(&mut self, relay: RegisteredRelay) {
        self.holdings.add(relay.info.public_ip, 1);
        self.by_id.insert(relay.info.relay_id.clone(), relay);
    }

    pub(super) fn remove(&mut self, id: &RelayId) {
        if let Some(relay) = self.by_id.remove(id) {
            self.holdings.remove(relay.info.public_ip, 1);
        }
    }

    /// Registers a relay, or refreshes it. The first to take an id owns it until it goes stale. Of too many, the one of
    /// whoever has most goes that was not heard of for longest.
    pub fn register(
        &mut self,
        owner: Lineage,
        info: RelayInfo,
        limits: &ControlLimits,
        now: Now,
    ) -> Result<Vec<Change>, Refusal> {
        if let Some(relay) = self.by_id.get_mut(&info.relay_id) {
            if relay.owner != owner {
                return Err(Refusal::RelayTaken);
            }
            relay.seen = now.instant;
            // The load changes all the time and is not worth a write.
            let same = RelayInfo { load: info.load, ..relay.info.clone() } == info;
            let change = (!same).then(|| Change::RelayChanged(info.relay_id.clone()));
            self.holdings.remove(relay.info.public_ip, 1);
            self.holdings.add(info.public_ip, 1);
            relay.info = info;
            return Ok(change.into_iter().collect());
        }
        let mut changes = Vec::new();
        if self.by_id.values().filter(|relay| relay.owner == owner).count() >= limits.relays_per_owner {
            return Err(Refusal::Limit { what: "relays of one owner", limit: limits.relays_per_owner });
        }
        let quota = Quota::widening(limits.relays_per_owner.saturating_mul(2));
        if self.holdings.excess(info.public_ip, 1, &quota).is_some() {
            return Err(Refusal::Limit { what: "relays in one network", limit: quota.network });
        }
        if self.by_id.len() >= limits.relays {
            let own = self.holdings.weight(info.public_ip);
            let heavier =
                self.by_id.values().filter(|relay| self.holdings.weight(relay.info.public_ip) > own);
            let entries =
                heavier.map(|relay| (relay.info.relay_id.clone(), relay.info.public_ip, relay.seen));
            let Some(victim) = self.holdings.victim(entries) else {
                return Err(Refusal::Full { what: "relays", limit: limits.relays });
            };
            self.remove(&victim);
            changes.push(Change::RelayExpired(victim));
        }
        changes.push(Change::RelayChanged(info.relay_id.clone()));
        let (registered_at, seen) = (now.unix, now.instant);
        self.insert(RegisteredRelay { info, owner, registered_at, seen, told_others: None });
        Ok(changes)
    }

    /// Counts this as a sign of life of all.
    pub(super) fn note_all(&mut self, now: Instant) {
        self.by_id.values_mut().for_each(|relay| relay.seen = now);
    }

    /// Takes in what is now known of a relay.
    pub(super) fn adopt(&mut self, relay: RegisteredRelay) {
        let known = self.by_id.get(&relay.info.relay_id);
        let load = known.map_or(relay.info.load, |known| known.info.load);
        let told_others = known.and_then(|known| known.told_others);
        self.remove(&relay.info.relay_id);
        self.insert(RegisteredRelay { info: RelayInfo { load, ..relay.info }, told_others, ..relay });
    }

    /// What other instances are to be told of a relay's load: a commit, but no more than one a minute.
    pub(super) fn news_of(&mut self, id: &RelayId, now: Instant) -> Option<Change> {
        let relay = self.by_id.get_mut(id)?;
        let load = relay.info.load;
        let is_news = match relay.told_others {
            Some((told, at)) => told != load && now.since(at) >= TELL_OTHERS,
            None => load != 0,
        };
        is_news.then(|| {
            relay.told_others = Some((load, now));
            Change::RelayHeard { relay: id.clone(), load, left_out: 0 }
        })
    }

    /// Another instance says how many a relay serves.
    pub(super) fn note_load(&mut self, id: &RelayId, load: u32, now: Instant) {
        if let Some(relay) = self.by_id.get_mut(id) {
            (relay.info.load, relay.told_others) = (load, Some((load, now)));
        }
    }

    /// Forgets the relays that were not registered again for `life`.
    pub fn expire(&mut self, life: Duration, now: Instant) -> Vec<RelayId> {
        let stale: Vec<RelayId> =
            self.by_id.values().filter(|r| r.seen + life <= now).map(|r| r.info.relay_id.clone()).collect();
        for id in &stale {
            self.remove(id);
        }
        stale
    }
}

/// IPv4 where an IPv6 spelling means IPv4 (mapped `::ffff:0:0/96`,
/// compatible `::/96` but for `::` and `::1`, NAT64 `64:ff9b::/96`, 6to4 `2002::/16`).
pub fn unembedded(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let embedded =
        |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match v6.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low),
        [0x2002, high, low, ..] => embedded(high, low),
        [0, 0, 0, 0, 0, 0, high, low] if v6 != Ipv6Addr::LOCALHOST && v6 != Ipv6Addr::UNSPECIFIED => {
            embedded(high, low)
        }
        _ => address,
    }
}

/// Whether traffic may be sent to an ([unembedded]) address that somebody named as a relay's. Loopback is for
/// who is on the loopback itself.
pub fn is_relay_address(address: IpAddr, from_loopback: bool) -> bool {
    let refused = match address {
        IpAddr::V4(v4) => v4.octets()[0] == 0 || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unspecified(),
    };
    !refused && !address.is_multicast() && (from_loopback || !address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(text: &str, from_loopback: bool) -> bool {
        is_relay_address(unembedded(text.parse().unwrap()), from_loopback)
    }

    #[test]
    fn no_spelling_of_a_forbidden_address_gets_through() {
        for text in [
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
        ] {
            assert!(!allowed(text, false), "{text}");
            assert!(allowed(text, true), "{text}");
        }
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "::ffff:0.0.0.0",
            "255.255.255.255",
            "::ffff:255.255.255.255",
            "224.0.0.1",
            "239.1.1.1",
            "ff02::1",
            "::ffff:224.0.0.1",
            "2002:e000:1::",
            "64:ff9b::",
        ] {
            assert!(!allowed(text, true), "{text}");
        }
        for text in ["203.0.113.7", "2001:db8::1", "192.168.1.2", "10.0.0.1"] {
            assert!(allowed(text, false), "{text}");
        }
    }
}
