//! The network that this machine is in: each change of it is a new generation, in which nothing is known of paths. And the one
//! socket: when even the hub stays silent, perhaps a router has forgotten it, or keeps a dead entry alive by our retries.

use crate::agent::network::{ListedRelay, LocalAddress, SocketWish};
use crate::agent::pair::Pair;
use crate::agent::turn::AgentTurn;
use crate::agent::{Agent, AgentOutput, Nowhere};
use crate::time::{Instant, Now};
use std::net::SocketAddr;
use std::time::Duration;

/// The hub is heard every two minutes at least, and some retries take half a minute.
const HUB_PATIENCE: Duration = Duration::from_secs(160);
/// A port that did not do rests for so long, then another one is tried.
const REBIND_INTERVAL: Duration = Duration::from_secs(65);

impl Agent {
    /// These are this machine's addresses now, without its interface in the virtual LAN, and not on loopback.
    pub fn set_links(&mut self, links: &[LocalAddress], now: Now) {
        if self.locality.links == links {
            return;
        }
        let is_first = self.locality.links.is_empty();
        self.locality.links = links.to_vec();
        match is_first {
            true => self.locality.judge(),
            false => self.resume(now),
        }
    }

    /// These are the relays that the control plane lists.
    pub fn set_relays(&mut self, list: &[ListedRelay], now: Now) {
        let Agent { device, peers, locality, random, scratch, .. } = self;
        let gone = locality.set_relays(list, now.instant);
        gone.iter().filter_map(|known| known.hub).for_each(|hub| _ = device.remove_peer(hub));
        let turn = &mut AgentTurn { device, locality, random, scratch, now, out: &mut Nowhere };
        peers.pairs.values_mut().for_each(|pair| pair.forget_relays(turn));
        self.locality.relays.list = list.to_vec();
    }

    /// A router forwards this address of its own to us, or none does.
    pub fn set_mapping(&mut self, mapping: Option<SocketAddr>, now: Now) {
        if std::mem::replace(&mut self.locality.mapping, mapping) != mapping {
            self.peers.offer_all(now.instant);
        }
    }

    /// This machine is in another network, or its router has another address, or it has slept: nothing is known of paths any more.
    pub fn resume(&mut self, now: Now) {
        self.locality.begin_generation(now);
        self.locality.relays.hurry(now.instant);
        self.locality.begin_nat(now.instant);
        self.is_moving = true;
        if let (Some(hub), Some(relay)) = (self.peers.hub(), self.locality.relay) {
            self.device.probe(hub, relay.endpoint, now);
        }
        self.ask_hubs_beside(now);
        let pairs = self.peers.pairs.values_mut();
        pairs.for_each(|pair| pair.on_new_network(&mut self.locality, now.instant));
    }

    /// What is wanted of the socket, since last asked.
    pub fn wants_socket(&mut self) -> Option<SocketWish> {
        self.locality.wish.take().or_else(|| self.spare_sockets())
    }

    /// Additional sockets stay open as long as a member's spray needs them, and one as long as a path in use leads through
    /// it. Whatever ended that, the others are to be closed.
    fn spare_sockets(&mut self) -> Option<SocketWish> {
        let Agent { locality, peers, .. } = self;
        if locality.extra_sockets == 0 && locality.kept_socket.is_none() {
            return None;
        }
        let pairs = &mut peers.pairs;
        if pairs.values().any(Pair::needs_sockets) {
            return None;
        }
        let socket = pairs.values().find_map(Pair::used_socket);
        if locality.extra_sockets == 0 && locality.kept_socket == socket {
            return None;
        }
        (locality.extra_sockets, locality.kept_socket) = (0, socket);
        pairs.values_mut().for_each(|pair| pair.forget_sockets(socket));
        Some(SocketWish::Keep { socket })
    }

    /// So many additional sockets are open now, numbered from 1 on.
    pub fn set_extra_sockets(&mut self, count: u16, now: Now) {
        self.locality.extra_sockets = count;
        self.peers
            .pairs
            .values_mut()
            .filter(|pair| pair.spray.is_some())
            .for_each(|pair| pair.plan(now.instant));
    }

    /// Tells the others that nothing is to be sent here any more.
    pub fn leave(&mut self, now: Now, out: &mut dyn AgentOutput) {
        let (mut turn, peers) = self.turn(now, out);
        for pair in peers.pairs.values_mut().filter(|pair| pair.is_agent) {
            pair.say_goodbye(&mut turn);
        }
    }

    /// Asks the hub for a session, if the relay may have forgotten us: by that it learns where our flows are.
    pub(super) fn ask_hub(&mut self, now: Now) {
        if !std::mem::take(&mut self.locality.misses_relay) {
            return;
        }
        if let (Some(hub), Some(relay)) = (self.peers.hub(), self.locality.relay) {
            self.is_moving = true;
            self.device.probe(hub, relay.endpoint, now);
        }
        self.ask_hubs_beside(now);
    }

    /// Tells the hubs of other relays in use where we are.
    fn ask_hubs_beside(&mut self, now: Now) {
        for known in &self.locality.relays.known {
            if let Some(hub) = known.hub {
                self.device.probe(hub, known.listed.endpoint, now);
            }
        }
    }

    /// Wants another socket, if the hub is silent on this one.
    pub(super) fn watch_hub(&mut self, now: Instant) {
        let Some(hub) = self.peers.hub() else { return };
        if let Some(heard) = self.device.stats(hub).and_then(|stats| stats.last_received) {
            self.watched = self.watched.max(heard);
        }
        if now.since(self.watched) >= HUB_PATIENCE {
            self.locality.wish = Some(SocketWish::Rebind);
            self.watched = now + REBIND_INTERVAL - HUB_PATIENCE;
        }
    }

    /// When the hub has been silent for too long.
    pub(super) fn next_watch(&self) -> Option<Instant> {
        self.peers.hub().map(|_| self.watched + HUB_PATIENCE)
    }
}
