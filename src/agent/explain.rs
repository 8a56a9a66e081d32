//! How each member is reached, and why not straight, in words.

use crate::agent::candidates::Locality;
use crate::agent::pair::{FallBack, Pair};
use crate::agent::view::{ConnectionState, MemberView, PathKind};
use crate::time::Instant;
use crate::wire::nat_type::NatType;
use crate::wireguard::device::Device;
use std::time::Duration;

/// A slower path than this is degraded.
const SLOW: Duration = Duration::from_millis(200);
/// What of a thousand may get lost on one that is not.
const LOSSY: u32 = 50;

impl Pair {
    /// What people see of it.
    pub(super) fn view<'a>(&'a self, device: &Device, locality: &Locality, now: Instant) -> MemberView<'a> {
        let has_session = device.can_send(self.peer, now);
        let active = self.active.map(|place| &self.straight[place]).filter(|_| has_session);
        let used = active.or((has_session && self.is_agent).then_some(&self.relay));
        let round_trip = used.and_then(|path| path.round_trip);
        let loss = used.map_or(0, |path| path.loss);
        let is_dead = used.is_some_and(|path| path.is_dead(now));
        let path = match active {
            Some(path) if locality.is_near(path.path.remote) => PathKind::Lan,
            Some(_) => PathKind::Direct,
            None if has_session => PathKind::Relay,
            None => PathKind::Hub,
        };
        let stats = device.stats(self.peer);
        let last_handshake = stats.and_then(|stats| stats.last_handshake);
        let state = match has_session {
            _ if is_dead => ConnectionState::Failed,
            true if round_trip.is_some_and(|time| time > SLOW) || loss > LOSSY => ConnectionState::Degraded,
            true => ConnectionState::Connected,
            false if self.member.is_device => ConnectionState::Connected,
            false if last_handshake.is_some() => ConnectionState::Failed,
            false => ConnectionState::Connecting,
        };
        MemberView {
            name: &self.member.name,
            ip: self.member.ip,
            state,
            path,
            address: active.map(|path| path.path.remote),
            round_trip,
            loss,
            received: self.received,
            sent: self.sent,
            last_handshake,
            why_not_direct: active.is_none().then(|| self.why_not(has_session, locality, now)),
        }
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
        let own = locality.nat.kind(&locality.links);
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
        match (own, other) {
            (NatType::Symmetric, NatType::Symmetric) => format!(
                "both your NAT and {name}'s choose a new port for each destination; forwarding a port on either router would help"
            ),
            (NatType::Symmetric, other) if is_hard(other) => {
                "your NAT chooses a new port for each destination; forwarding a port on your router would help"
                    .to_owned()
            }
            (own, NatType::Symmetric) if is_hard(own) => format!(
                "{name}'s NAT chooses a new port for each destination; forwarding a port on that router would help"
            ),
            (NatType::Unknown, _) => "nothing answers by UDP but the relay, perhaps a firewall".to_owned(),
            _ => format!("{name} did not answer at any of its addresses"),
        }
    }
}
