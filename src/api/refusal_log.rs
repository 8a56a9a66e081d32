//! Which refusals an owner is told of, so that nobody fills the log: each source and reason once, then a count.

use crate::owners::{Level, Prefix};
use crate::time::Instant;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

/// How long what was said once is only counted.
const PERIOD: Duration = Duration::from_secs(600);
/// Sources and reasons told apart in a period.
const ENTRIES: usize = 64;
/// Those of one network.
const ENTRIES_PER_NETWORK: usize = 8;

/// Who was refused what, and how.
type RefusalKey = (Prefix, &'static str, u16);

/// What was said in this period, and what was only counted.
#[derive(Default)]
pub struct RefusalLog {
    more: HashMap<RefusalKey, u64>,
    others: u64,
    began: Option<Instant>,
}

impl RefusalLog {
    /// Counts a refusal. Whether it is to be said.
    pub fn note(&mut self, source: IpAddr, route: &'static str, status: u16, now: Instant) -> bool {
        self.began.get_or_insert(now);
        if let Some(more) = self.more.get_mut(&(Prefix::subscriber(source), route, status)) {
            *more += 1;
            return false;
        }
        let network = Prefix::of(source, Level::Network);
        let of_network = self.more.keys().filter(|(owner, ..)| network.covers(owner)).count();
        if self.more.len() >= ENTRIES || of_network >= ENTRIES_PER_NETWORK {
            self.others += 1;
            return false;
        }
        self.more.insert((Prefix::subscriber(source), route, status), 0);
        true
    }

    /// When the period is over.
    pub fn due(&self) -> Option<Instant> {
        self.began.map(|began| began + PERIOD)
    }

    /// Ends the period: what is to be said of what was only counted.
    pub fn finish(&mut self) -> Vec<String> {
        self.began = None;
        let counted = std::mem::take(&mut self.more).into_iter().filter(|(_, more)| *more > 0);
        let mut lines: Vec<String> = counted
            .map(|((source, route, status), more)| {
                format!("refused {route} to {source} {more} times more: {status}")
            })
            .collect();
        lines.sort();
        let others = std::mem::take(&mut self.others);
        if others > 0 {
            lines.push(format!("refused {others} other requests"));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_and_reason_are_said_once_and_counted() {
        let mut log = RefusalLog::default();
        let now = Instant::ZERO + PERIOD;
        assert_eq!(log.due(), None);
        let ann = IpAddr::from([192, 0, 2, 1]);
        let said = (0..1000).filter(|_| log.note(ann, "/relays", 403, now)).count();
        assert_eq!(said, 1);
        assert!(log.note(ann, "/relays", 409, now) && log.note(ann, "/parties", 403, now));
        assert_eq!(log.due(), Some(now + PERIOD));
        assert_eq!(log.finish(), ["refused /relays to 192.0.2.1/32 999 times more: 403"]);
        assert_eq!(log.due(), None);
        assert!(log.note(ann, "/relays", 403, now));
    }

    #[test]
    fn a_period_has_few_lines_and_a_network_its_share_of_them() {
        let mut log = RefusalLog::default();
        let mut said = |address: IpAddr| log.note(address, "/relays", 403, Instant::ZERO);
        let flood = |n: u16| IpAddr::from([0x2001, 0xdb8, 1, n, 0, 0, 0, 1]);
        assert_eq!((0..10_000).filter(|&n| said(flood(n))).count(), ENTRIES_PER_NETWORK);
        assert!(said(IpAddr::from([192, 0, 2, 1])));
        let many = (0..10_000u32).map(|n| IpAddr::from((n << 8).to_be_bytes()));
        assert_eq!(many.filter(|&address| said(address)).count(), ENTRIES - ENTRIES_PER_NETWORK - 1);
        let others = 10_000 - ENTRIES_PER_NETWORK + 10_000 - (ENTRIES - ENTRIES_PER_NETWORK - 1);
        assert_eq!(log.finish(), [format!("refused {others} other requests")]);
    }
}
