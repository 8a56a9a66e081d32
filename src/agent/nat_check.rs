//! What NAT a machine is behind whose agent does not run: the same questions, once.

use crate::agent::AgentOutput;
use crate::agent::candidates::Locality;
use crate::agent::network::{ListedRelay, LocalAddress, RelayAddress};
use crate::agent::view::{MeasuredRelay, NatView};
use crate::time::Instant;
use std::net::SocketAddr;
use std::time::Duration;

/// How long one check takes, and how long if nothing comes.
const CHECK: Duration = Duration::from_millis(1500);
const SILENT_CHECK: Duration = Duration::from_secs(4);

/// A look at the NAT.
pub struct NatCheck {
    locality: Locality,
    began: Instant,
}

impl NatCheck {
    /// Asks `relay` and others that are listed, from a socket that has these addresses.
    pub fn new(relay: RelayAddress, listed: &[ListedRelay], links: Vec<LocalAddress>, now: Instant) -> Self {
        let mut locality = Locality { relay: Some(relay), links, ..Locality::default() };
        locality.set_relays(listed, now);
        locality.begin_nat(now);
        NatCheck { locality, began: now }
    }

    /// Sends what is due.
    pub fn poll(&mut self, now: Instant, out: &mut dyn AgentOutput) {
        self.locality.poll_nat(now, out);
        self.locality.measure_relays(now, out);
    }

    /// Takes a datagram.
    pub fn receive(&mut self, datagram: &[u8], from: SocketAddr, now: Instant) {
        self.locality.on_stun(datagram, from, now);
    }

    /// When the next thing is to be done, or it is over; `None` once it is.
    pub fn next(&self, now: Instant) -> Option<Instant> {
        let Locality { nat, relays, .. } = &self.locality;
        let is_short = nat.is_answered() && !relays.is_waiting();
        let end = self.began + if is_short { CHECK } else { SILENT_CHECK };
        let due = nat.next().into_iter().chain(relays.next()).min();
        (now < end).then(|| due.map_or(end, |due| due.min(end)))
    }

    /// What it has shown.
    pub fn view(&self) -> NatView {
        self.locality.judgement.view
    }

    /// How far the relays are.
    pub fn relays(&self) -> impl Iterator<Item = MeasuredRelay<'_>> {
        self.locality.relays.known.iter().map(|known| known.measured(0))
    }
}
