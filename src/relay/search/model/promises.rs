//! What the search looks for: promises, and when one is broken.

use super::{AddressTraffic, INITIATION, Model, home};
use crate::relay::limits::PENDING_LIFETIME;
use crate::relay::search::actions::{Attacker, Promise, Second};
use crate::relay::search::messages::{Made, Who, is_symbolic};
use crate::time::Instant;
use std::net::SocketAddr;

impl Model {
    /// The first promise.
    pub(super) fn check_amplification(&mut self, to: SocketAddr, bytes: &[u8]) {
        let account = self.accounts.entry(to).or_default();
        account.to += bytes.len() as u64;
        let is_over = account.to > account.from + account.probes * INITIATION;
        if is_over && bytes[0] == 1 && account.probes < account.data && !is_symbolic(bytes) {
            account.probes += 1;
        }
        let AddressTraffic { from, to: given, probes, answered, .. } = *account;
        if !answered && given > from + probes * INITIATION {
            self.breaks(Promise::AntiAmplification, |world| {
                format!("{} got {given} bytes for {from} and never answered", world.name(to))
            });
        }
    }

    /// The second promise.
    pub(super) fn check_privacy(&mut self, to: SocketAddr, bytes: &[u8]) {
        let Some((content, made)) = self.messages.made(bytes).filter(|_| is_symbolic(bytes)) else { return };
        let initiation = match made {
            Made::Initiation { .. } => content,
            Made::Response { initiation, .. } | Made::Data { initiation, .. } => initiation,
            Made::Forgery => return,
        };
        let Some((by, whom)) = self.messages.parties_of(initiation) else { return };
        if by == Who::Attacker || whom == Who::Attacker {
            return;
        }
        let is_evident = to.ip() == home(whom).ip();
        let is_mate = self.setup.attacker != Attacker::Stranger && !self.has_left;
        let may_lie = is_mate || self.setup.second == Second::Neighbour;
        let is_guess = initiation == content && (is_evident || may_lie && !self.setup.hub);
        if is_guess {
            self.shared.push((initiation, self.now));
        }
        let is_late =
            |&(shared, at): &(usize, Instant)| shared == initiation && self.now.since(at) >= PENDING_LIFETIME;
        if !is_guess && !self.shared.iter().any(is_late) {
            self.breaks(Promise::Privacy, |world| format!("{} got {}", world.name(to), world.read(bytes)));
        }
    }

    /// Notes that a promise is broken, if nothing was before.
    pub fn breaks(&mut self, promise: Promise, what: impl Fn(&Model) -> String) {
        if self.broken.is_none() && self.promise.is_none_or(|wanted| wanted == promise) {
            self.broken = Some(what(self));
        }
    }
}
