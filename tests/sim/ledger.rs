//! Bytes to and from each address outside, and the rule that no scenario may break: towards an address from
//! which nobody has answered, never more than came from it.
//!
//! An address counts as answering here once a real host there has received something and sent something
//! afterwards. The relay can't see that; it must be at least as careful.

use std::collections::HashMap;
use std::net::SocketAddr;

#[derive(Default, Debug, Clone, Copy)]
pub struct Account {
    pub from: u64,
    pub to: u64,
    reached: bool,
    answered: bool,
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
    pub fn arrived(&mut self, address: SocketAddr, bytes: usize) {
        self.accounts.entry(address).or_default().from += bytes as u64;
    }

    /// The relay has sent to `address`.
    pub fn sent(&mut self, address: SocketAddr, bytes: usize) {
        let account = self.accounts.entry(address).or_default();
        account.to += bytes as u64;
        assert!(
            account.answered || account.to <= account.from,
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
