//! How each member is reached, and why not straight, in words.

use crate::agent::candidates::Locality;
use crate::agent::pair::{FallBack, Pair};
use crate::agent::path::PathState;
use crate::agent::view::{ConnectionState, MappingBehaviour, MemberView, NatView, PathKind};
use crate::time::Instant;
use crate::wire::nat_type::NatType;
use crate::wireguard::device::Device;
use std::time::Duration;

/// A slower path than this is degraded.
const SLOW: Duration = Duration::from_millis(200);
/// How long a failure lasts before it is cleaned up, and how often that is looked at then.
const CLEANUP_TIME: Duration = Duration::from_secs(300);
const FAILURE_CHECK: Duration = Duration::from_secs(10);
/// What of a thousand may get lost on one that is not.
const LOSSY: u32 = 50;

impl Pair {
    /// Whether data goes straight there.
    pub(super) fn is_straight(&self) -> bool {
        self.active.is_some()
    }

    /// What people see of it.
    pub(super) fn view<'a>(
        &'a self,
        device: &Device,
        locality: &'a Locality,
        now: Instant,
    ) -> MemberView<'a> {
        let has_session = device.can_send(self.peer, now);
        let active = self.active.map(|index| &self.straight[index]).filter(|_| has_session);
        let used = active.or((has_session && self.is_agent).then_some(&self.relay));
        let round_trip = used.and_then(|path| path.round_trip);
        let loss = used.map_or(0, |path| path.loss);
        let path = match active {
            Some(path) if locality.is_near(path.path.remote) => PathKind::Lan,
            Some(_) => PathKind::Direct,
            None if has_session => PathKind::Relay,
            None => PathKind::Hub,
        };
        MemberView {
            name: &self.member.name,
            ip: self.member.ip,
            state: self.state(device, now),
            path,
            address: active.map(|path| path.path.remote),
            relay: locality.relay_id(self.relay_mark),
            standby: self
                .standby
                .as_ref()
                .filter(|it| it.is_proven())
                .and_then(|it| locality.relay_id(it.mark)),
            round_trip,
            loss,
            received: self.received,
            sent: self.sent,
            last_handshake: device.stats(self.peer).and_then(|stats| stats.last_handshake),
            why_not_direct: active.is_none().then(|| self.why_not(has_session, locality, now)),
        }
    }

    /// How well it is reached.
    pub(super) fn state(&self, device: &Device, now: Instant) -> ConnectionState {
        let has_session = device.can_send(self.peer, now);
        let used = match self.active.map(|index| &self.straight[index]) {
            _ if !has_session => None,
            Some(active) => Some(active),
            None => self.is_agent.then_some(&self.relay),
        };
        let is_slow = |path: &PathState| path.round_trip.is_some_and(|time| time > SLOW) || path.loss > LOSSY;
        match used {
            Some(path) if path.is_dead(now) => ConnectionState::Failed,
            Some(path) if is_slow(path) => ConnectionState::Degraded,
            _ if has_session || self.member.is_device => ConnectionState::Connected,
            _ if self.is_cleaned_up => ConnectionState::Cleanup,
            _ if device.stats(self.peer).is_some_and(|stats| stats.last_handshake.is_some()) => {
                ConnectionState::Failed
            }
            _ => ConnectionState::Connecting,
        }
    }

    /// What was not reached for long is left alone, unless there is traffic.
    pub(super) fn watch_failure(&mut self, device: &Device, now: Instant) {
        if self.state(device, now) != ConnectionState::Failed {
            self.failed_since = None;
            return;
        }
        let since = *self.failed_since.get_or_insert(now);
        if now.since(since) < CLEANUP_TIME || self.is_busy(now) {
            return;
        }
        self.on_goodbye();
        (self.is_cleaned_up, self.failed_since) = (true, None);
    }

    /// When [`Pair::watch_failure`] has something to do.
    pub(super) fn cleanup_due(&self, now: Instant) -> Option<Instant> {
        let end = self.failed_since? + CLEANUP_TIME;
        Some(if end > now { end } else { now + FAILURE_CHECK })
    }

    fn why_not(&self, has_session: bool, locality: &Locality, now: Instant) -> String {
        let name = &self.member.name;
        if self.member.is_device {
            return format!("{name} has a WireGuard app, which speaks to the hub only");
        }
        if !has_session {
            return format!("there is no session with {name} yet");
        }
        if !self.is_agent {
            return format!("{name} has not said where it is: it may have no agent");
        }
        match self.fall_back {
            Some(_) if now < self.held_until => {
                let seconds = self.held_until.since(now).as_secs() + 1;
                let why = match self.fall_back {
                    Some(FallBack::Loss) => "lost too many packets",
                    _ => "went silent",
                };
                return format!("the direct path {why}; it is tried again in {seconds} s");
            }
            _ => {}
        }
        let NatView { kind: own, others, mapping, .. } = locality.judgement.view;
        let other = self.offer.map_or(NatType::Unknown, |offer| offer.nat);
        if self.straight.is_empty() {
            return format!("{name} has told no address that can be reached from here");
        }
        if self.straight.iter().any(|path| path.is_proven()) {
            return "the relay is faster than the direct path".to_owned();
        }
        if self.straight.iter().any(|path| path.answers > 0) {
            return "the direct path carries small packets only".to_owned();
        }
        if self.round.is_some() {
            return "the direct path is being tried".to_owned();
        }
        let is_hard = |nat| matches!(nat, NatType::Symmetric | NatType::PortRestrictedCone);
        if others[0].is_some() && is_hard(other) {
            return "you go out by several public addresses, another one for each destination, as with several lines; going out by one of them would help"
                .to_owned();
        }
        let each = match mapping {
            MappingBehaviour::AddressDependent => "address",
            _ => "destination",
        };
        match (own, other) {
            (NatType::Symmetric, NatType::Symmetric) => format!(
                "both your NAT and {name}'s choose a new port for each destination; forwarding a port on either router would help"
            ),
            (NatType::Symmetric, other) if is_hard(other) => format!(
                "your NAT chooses a new port for each {each}; forwarding a port on your router would help"
            ),
            (own, NatType::Symmetric) if is_hard(own) => format!(
                "{name}'s NAT chooses a new port for each destination; forwarding a port on that router would help"
            ),
            (NatType::Unknown, _) => "nothing answers by UDP but the relay, perhaps a firewall".to_owned(),
            _ => format!("{name} did not answer at any of its addresses"),
        }
    }
}
