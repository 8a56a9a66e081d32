//! What comes of requests, messages, handshakes and time: for the store, the relay and open sessions.

use super::metrics::RelayView;
use super::sessions::Delivery;
use super::{AWAY, Api};
use crate::control::change::Change;
use crate::control::signals::Signal;
use crate::crypto::x25519::PublicKey;
use crate::figures::Figure;
use crate::ids::{PartyId, SessionId};
use crate::time::{Instant, Now};
use crate::wire::endpoint;
use std::net::IpAddr;

/// What has to be done elsewhere after a request or message.
#[derive(Default, Debug)]
pub struct Effects {
    /// For the store and the relay.
    pub changes: Vec<Change>,
    /// For open sessions.
    pub deliveries: Vec<Delivery>,
    /// For other instances: no session here takes them.
    pub signals: Vec<(PartyId, Signal)>,
    /// Sessions to be closed, and why.
    pub closures: Vec<(SessionId, &'static str)>,
}

impl Api {
    /// Takes what has to be done elsewhere after the calls so far. `origin` is the session that caused it.
    pub fn drain(&mut self, origin: Option<SessionId>, now: Now) -> Effects {
        let changes = self.control.drain_changes();
        let mut effects = Effects { closures: std::mem::take(&mut self.closures), ..Effects::default() };
        for change in changes {
            if let Change::Signalled(party, signal) = change {
                if self.sessions.deliver_signal(&self.control, &party, &signal, &mut effects.deliveries) {
                    continue;
                }
                match self.has_others {
                    true => effects.signals.push((party, signal)),
                    false => self.control.queue_signal(&party, signal),
                }
                continue;
            }
            log_change(&change);
            self.events.note(&self.control, &change, now.unix);
            if let Change::MemberLeft { who, why, .. } = &change
                && why.is_removal()
            {
                let cut = self.sessions.bound_as(who);
                effects.closures.extend(cut.into_iter().map(|session| (session, "removed from the party")));
            }
            self.sessions.announce(&self.control, &change, origin, now, &mut effects.deliveries);
            effects.changes.push(change);
        }
        effects.deliveries = self.sessions.in_their_words(effects.deliveries);
        let delivered = effects.deliveries.iter().map(|delivery| delivery.to.len() as u64).sum();
        self.counters.values.add(Figure::Deliveries, delivered);
        if !self.relay_links.tells_later {
            self.tell_relays(&mut effects);
        }
        effects
    }

    /// When [`Api::poll`] has news for sessions that have to wait for it.
    pub fn update_timeout(&self) -> Option<Instant> {
        self.sessions.update_timeout()
    }

    /// When [`Api::poll`] has something to do next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.control.poll_timeout(), self.sessions.poll_timeout(), self.refusals.due()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Does what time asks for: expiry, of whom `relay` did not hear either, and repeating parties to open
    /// sessions.
    pub fn poll(&mut self, relay: Option<&dyn RelayView>, now: Now) -> Effects {
        let mut deliveries = Vec::new();
        if self.sessions.poll_timeout().is_some_and(|due| due <= now.instant) {
            self.sessions.poll(&mut self.control, now, &mut deliveries);
        }
        if self.control.poll_timeout().is_some_and(|due| due <= now.instant) {
            if let Some(relay) = relay {
                self.control.note_handshakes(|key| relay.member(key)?.0.last_handshake, now);
            }
            self.control.sweep(now);
        }
        if self.refusals.due().is_some_and(|due| due <= now.instant) {
            self.refusals.finish().iter().for_each(|line| log::info!("{line}"));
        }
        let mut deliveries = self.sessions.in_their_words(deliveries);
        self.counters.values.add(Figure::Deliveries, deliveries.len() as u64);
        let mut effects = self.drain(None, now);
        deliveries.append(&mut effects.deliveries);
        effects.deliveries = deliveries;
        effects
    }

    /// Takes a handshake with `key` that was completed at the hub, from `from`. An open session of whoever has the key
    /// is as good as a heartbeat.
    pub fn handshake(&mut self, key: &PublicKey, from: IpAddr, now: Now) {
        if !endpoint::is_private_address(from) {
            self.reached = Some(now.unix);
        }
        self.take_handshake(key, from, now);
    }

    /// The same, wherever the hub is.
    pub(super) fn take_handshake(&mut self, key: &PublicKey, from: IpAddr, now: Now) {
        let claimants = self.control.claimants(key);
        for peer in &claimants {
            self.sessions.touch(&mut self.control, peer, now);
        }
        let before: Vec<_> = claimants.iter().map(|peer| self.control.device_seen(peer)).collect();
        self.control.handshake(key, from, now);
        for (peer, before) in claimants.iter().zip(before) {
            let was_away = before.is_none_or(|at| now.instant.since(at) >= AWAY);
            if let Some((party, member)) = self.control.device(peer)
                && was_away
                && self.control.device_seen(peer) == Some(now.instant)
            {
                let party = (party.id.clone(), party.name.clone());
                self.events.note_online(party, (peer.to_string(), member.info.name.to_string()), now.unix);
            }
        }
    }

    /// Takes in by which address this machine goes to the internet, and notes it if that is news.
    pub fn goes_out_by(&mut self, address: Option<IpAddr>, now: Now) {
        let before = self.way_out.replace(address);
        if before.is_some_and(|before| before != address) {
            self.events.note_way_out(address, now.unix);
        }
    }
}

fn log_change(change: &Change) {
    match change {
        Change::PartyCreated(party) => log::info!("party {} created", hint(party)),
        Change::PartyDeleted { party, .. } => log::info!("party {} ended", hint(party)),
        Change::MemberJoined(party, peer) => log::info!("peer {peer} joined party {}", hint(party)),
        Change::MemberLeft { party, who, why, .. } => {
            log::info!("peer {} left party {}: {why}", who.peer, hint(party))
        }
        Change::RelayChanged(relay) => log::info!("relay {relay} registered"),
        Change::RelayExpired(relay) => log::info!("relay {relay} expired"),
        _ => {}
    }
}

/// Enough of a party's id to tell parties apart in a log. The whole id lets anybody join.
fn hint(party: &PartyId) -> String {
    let id = party.as_str();
    format!("{}..", &id[..4.min(id.len() / 2)])
}
