//! What kind of NAT we are behind, by STUN from the one socket: by which address the relay's two ports see us, and whether
//! an answer from the second port comes through before anything was sent there.

use crate::agent::AgentOutput;
use crate::agent::network::{LocalAddress, RelayAddress};
use crate::crypto::random;
use crate::datagram::Path;
use crate::time::Instant;
use crate::wire::nat_type::NatType;
use crate::wire::stun;
use std::net::SocketAddr;
use std::time::Duration;

/// How long a request is, in bytes: no shorter than its answer.
const REQUEST_LENGTH: usize = 64;
/// When requests are sent, from the beginning on.
const TRIES: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(250), Duration::from_millis(750), Duration::from_secs(2)];
/// The second port is asked after this, or soon after the first has answered: what it lets through is known by then.
const FILTER_WAIT: Duration = Duration::from_millis(300);
const FILTER_GRACE: Duration = Duration::from_millis(20);
/// After so long it is probed anew.
const INTERVAL: Duration = Duration::from_secs(300);

/// What is asked.
const MAIN: usize = 0;
const CHANGED: usize = 1;
const SECOND: usize = 2;

/// The answers so far.
#[derive(Clone, Copy, Default, Debug)]
struct Mappings {
    seen: [Option<SocketAddr>; 3],
}

/// The questions to a relay's two ports.
#[derive(Default)]
pub(super) struct NatProbing {
    began: Option<Instant>,
    transactions: [[u8; 12]; 3],
    tries: [usize; 3],
    answered: Option<Instant>,
    current: Mappings,
    /// The answers of the time before, while there are no newer ones.
    known: Mappings,
}

impl NatProbing {
    /// Begins anew; what is known from `now` on is of this network.
    pub fn begin(&mut self, is_new_network: bool, now: Instant) {
        self.known = if is_new_network { Mappings::default() } else { self.answers() };
        self.answered = None;
        (self.began, self.tries, self.current) = (Some(now), [0; 3], Mappings::default());
        // No stranger can guess them.
        self.transactions.iter_mut().for_each(|id| random::fill(id));
    }

    /// Whether all that can come has come.
    pub fn is_settled(&self, now: Instant) -> bool {
        let Some(began) = self.began else { return true };
        let [main, _, second] = self.current.seen;
        main.is_some() && second.is_some() || now.since(began) >= Duration::from_secs(1)
    }

    fn answers(&self) -> Mappings {
        if self.current.seen[MAIN].is_some() { self.current } else { self.known }
    }

    /// As whom the relay sees us.
    pub fn public(&self) -> Option<SocketAddr> {
        self.answers().seen[MAIN]
    }

    /// The newest mapping.
    pub fn latest(&self) -> Option<SocketAddr> {
        let seen = self.answers().seen;
        seen[SECOND].or(seen[MAIN])
    }

    /// By how much the ports differ from one destination to the next: 0 if they don't, `None` if that is not known or not by
    /// little.
    pub fn port_step(&self) -> Option<i32> {
        let seen = self.answers().seen;
        let step = i32::from(seen[SECOND]?.port()) - i32::from(seen[MAIN]?.port());
        (seen[MAIN]?.ip() == seen[SECOND]?.ip() && step.abs() <= 32).then_some(step)
    }

    /// Its kind, for a machine with these addresses.
    pub fn kind(&self, links: &[LocalAddress]) -> NatType {
        let seen = self.answers().seen;
        let Some(main) = seen[MAIN] else { return NatType::Unknown };
        let is_open = links.iter().any(|link| link.address == main);
        match (seen[SECOND], seen[CHANGED].is_some()) {
            (Some(second), _) if second != main => NatType::Symmetric,
            (_, true) if is_open => NatType::Open,
            // With one address a server can't tell this from a full cone.
            (_, true) => NatType::RestrictedCone,
            (Some(_), false) => NatType::PortRestrictedCone,
            (None, false) => NatType::Unknown,
        }
    }

    /// Takes an answer; whether it told something.
    pub fn receive(&mut self, datagram: &[u8], from: SocketAddr, relay: &RelayAddress, now: Instant) -> bool {
        if from.ip() != relay.endpoint.ip() {
            return false;
        }
        for (what, transaction) in self.transactions.iter().enumerate() {
            if self.tries[what] > 0
                && self.current.seen[what].is_none()
                && let Some(mapped) = stun::mapped_address(datagram, transaction)
            {
                self.current.seen[what] = Some(mapped);
                self.answered.get_or_insert(now);
                return true;
            }
        }
        false
    }

    /// Sends what is due; whether the second port was asked for the first time.
    pub fn poll(&mut self, relay: &RelayAddress, now: Instant, out: &mut dyn AgentOutput) -> bool {
        let before = self.tries[SECOND];
        if self.began.is_some_and(|began| now.since(began) >= INTERVAL) {
            self.begin(false, now);
        }
        for what in [MAIN, CHANGED, SECOND] {
            if self.due(what).is_none_or(|due| due > now) {
                continue;
            }
            self.tries[what] += 1;
            let to = match (what, relay.stun_port) {
                (SECOND, Some(port)) => SocketAddr::new(relay.endpoint.ip(), port),
                (SECOND | CHANGED, None) => continue,
                _ => relay.endpoint,
            };
            let mut buffer = [0; REQUEST_LENGTH + 16];
            let transaction = &self.transactions[what];
            if let Some(length) = stun::request(transaction, what == CHANGED, REQUEST_LENGTH, &mut buffer) {
                out.send(Path::to(to), &buffer[..length]);
            }
        }
        before == 0 && self.tries[SECOND] > 0
    }

    fn due(&self, what: usize) -> Option<Instant> {
        let began = self.began.filter(|_| self.current.seen[what].is_none())?;
        // Once something was sent to the second port, that it gets through says nothing.
        if what == CHANGED && self.tries[SECOND] > 0 {
            return None;
        }
        let due = began + *TRIES.get(self.tries[what])?;
        let first_are_there = self.current.seen[..SECOND].iter().all(Option::is_some);
        let soon = self.answered.map_or(began + FILTER_WAIT, |at| at + FILTER_GRACE);
        Some(if what == SECOND && !first_are_there { due.max(soon) } else { due })
    }

    /// When something is due.
    pub fn next(&self) -> Option<Instant> {
        let dues = [MAIN, CHANGED, SECOND].into_iter().filter_map(|what| self.due(what));
        dues.chain(self.began.map(|began| began + INTERVAL)).min()
    }
}
