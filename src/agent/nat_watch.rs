//! Whom we ask for our NAT, and when: the two ports of the party's relay, and other relays, whose answers are judged together.

use crate::agent::AgentOutput;
use crate::agent::candidates::Locality;
use crate::agent::mappings::{DestinationNumber, SeenAs, judge};
use crate::agent::nat::NatProbing;
use crate::agent::view::MappingBehaviour;
use crate::time::Instant;
use std::net::SocketAddr;

impl Locality {
    /// Counts an endpoint that datagrams go to from now on, if a NAT has to make a mapping for it, and gives its number.
    pub fn count_destination(&mut self, endpoint: SocketAddr) -> Option<DestinationNumber> {
        let SocketAddr::V4(to) = endpoint else { return None };
        (!self.is_near(endpoint)).then(|| self.destinations.add(*to.ip()))
    }

    /// Begins to ask for our NAT, in a network that nothing is known of, if there is a relay to be asked.
    pub fn begin_nat(&mut self, now: Instant) {
        match self.relay {
            Some(relay) => {
                self.nat.begin(true, now);
                // It is asked before all others.
                let number = self.count_destination(relay.endpoint);
                self.nat.number_main(number);
            }
            None => self.nat = NatProbing::default(),
        }
        self.count_relays();
        self.judge();
    }

    /// Asks what is due.
    pub fn poll_nat(&mut self, now: Instant, out: &mut dyn AgentOutput) {
        let Some(relay) = self.relay else { return };
        if let Some(second) = self.nat.poll(&relay, now, out) {
            let number = self.count_destination(second);
            self.nat.number_second(number);
        }
    }

    /// Numbers relays that are about to be asked.
    pub fn count_relays(&mut self) {
        while let Some(endpoint) = self.relays.uncounted() {
            let number = self.count_destination(endpoint);
            self.relays.set_number(endpoint, number);
        }
    }

    /// Takes an answer of somebody who was asked.
    pub fn on_stun(&mut self, datagram: &[u8], from: SocketAddr, now: Instant) {
        match (self.relays.receive(datagram, from, now), self.relay) {
            // Perhaps we are no longer who we were.
            (Some(true), _) => self.nat.doubt(now),
            (Some(false), _) => {}
            (None, Some(relay)) if self.nat.receive(datagram, from, &relay, now) => {}
            _ => return,
        }
        self.judge();
    }

    /// Judges by all answers that there are.
    pub fn judge(&mut self) {
        let relay = self.relay.map(|relay| relay.endpoint);
        let own = self.nat.seen(relay, self.relay.and_then(|relay| relay.stun_port));
        let mut all: Vec<_> = own.into_iter().flatten().chain(self.relays.seen()).collect();
        // Within our own network there is no NAT in between.
        let is_outside = |seen: &SeenAs| !self.is_near(seen.asked);
        if all.iter().any(is_outside) {
            all.retain(is_outside);
        }
        let links: Vec<_> = self.links.iter().map(|link| link.address).collect();
        self.judgement = judge(&all, relay.filter(|_| self.nat.lets_through()), &links, self.step);
        if self.judgement.view.mapping != MappingBehaviour::EndpointIndependent {
            // Later on others' mappings may have come between ours.
            self.step = self.step.or(self.judgement.view.port_step);
        }
    }
}
