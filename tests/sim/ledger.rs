//! Bytes to and from each address outside, and the rule that no scenario may break: towards an address from
//! which nobody has answered, never more than came from it, but that a datagram of data may be worth one initiation,
//! which asks whether a member has moved there.
//!
//! An address counts as answering here once a real host there has received something and sent something
//! afterwards. The relay can't see that; it must be at least as careful.

use std::collections::HashMap;
use std::net::SocketAddr;

/// Bytes of an initiation.
const INITIATION: u64 = 148;

#[derive(Default, Debug, Clone, Copy)]
pub struct Account {
    pub from: u64,
    pub to: u64,
    /// Datagrams of data from there, and initiations that went there for them.
    data: u64,
    pub probes: u64,
    reached: bool,
    answered: bool,
}

impl Account {
    /// Whether it got something, but no more than it gave, and at most `probes` initiations besides.
    pub fn is_within(&self, probes: u64) -> bool {
        self.to > 0 && self.to <= self.from + self.probes * INITIATION && self.probes <= probes
    }
}

#[derive(Default)]
pub struct Ledger {
    accounts: HashMap<SocketAddr, Account>,
}

impl Ledger {
    pub fn account(&self, address: SocketAddr) -> Account {
        self.accounts.get(&address).copied().unwrap_or_default()
    }

    /// A real host sends from `address`.
    pub fn sends(&mut self, address: SocketAddr) {
        let account = self.accounts.entry(address).or_default();
        account.answered |= account.reached;
    }

    /// A datagram that says it is from `address` has come to the relay.
    pub fn arrived(&mut self, address: SocketAddr, datagram: &[u8]) {
        let account = self.accounts.entry(address).or_default();
        account.from += datagram.len() as u64;
        account.data += u64::from(datagram.first() == Some(&4));
    }

    /// The relay has sent to `address`.
    pub fn sent(&mut self, address: SocketAddr, datagram: &[u8]) {
        let account = self.accounts.entry(address).or_default();
        account.to += datagram.len() as u64;
        let is_over = account.to > account.from + account.probes * INITIATION;
        if is_over && datagram.first() == Some(&1) && account.probes < account.data {
            account.probes += 1;
        }
        assert!(
            account.answered || account.to <= account.from + account.probes * INITIATION,
            "{address} got {} bytes for {} and never answered",
            account.to,
            account.from
        );
    }

    /// What the relay sent has reached a real host at `address`.
    pub fn reached(&mut self, address: SocketAddr) {
        self.accounts.entry(address).or_default().reached = true;
    }
}
