//! Members on the same LAN find each other when nobody tells where they are: a handshake's first message is called out on the
//! LAN, for one member after the other. Only the member whom it is for can read it, and who it is from; it answers from where
//! it is, to where the call came from. So a call says no more than WireGuard does, and needs no secret of the party's.

use crate::agent::ends::Ends;
use crate::agent::pair::Pair;
use crate::agent::turn::AgentTurn;
use crate::agent::{Agent, AgentOutput};
use crate::datagram::Path;
use crate::time::{Instant, Now};
use crate::token_bucket::{Rate, TokenBucket};
use crate::wireguard::message::INITIATION_LENGTH;
use crate::wireguard::peer::PeerIndex;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Bound;
use std::time::Duration;

/// Where agents listen for calls, beside the port of their own.
pub const LAN_PORT: u16 = 51_822;
/// Between two calls: the first ones, and after that many.
const INTERVAL: Duration = Duration::from_secs(1);
const MANY: u32 = 120;
const LATER_INTERVAL: Duration = Duration::from_secs(5);
/// Before the first one: the server may answer yet.
const PATIENCE: Duration = Duration::from_secs(2);
/// A handshake's first message is answered within this, or not at all.
const FRESH: Duration = Duration::from_secs(4);
/// LANs that this machine is in and calls on.
const MAX_LANS: usize = 4;
/// Calls of others that are listened to.
const HEARD: Rate = Rate { interval: Duration::from_millis(50), burst: 60 };

/// The calls.
#[derive(Default)]
pub(super) struct LanCalls {
    next: Option<Instant>,
    count: u32,
    called: Option<PeerIndex>,
    heard: TokenBucket,
}

/// The address of everybody on the LAN of `own`.
fn everybody(own: SocketAddr, prefix: u8) -> Option<SocketAddr> {
    match own.ip() {
        IpAddr::V4(ip) if ip.is_private() && (8..=30).contains(&prefix) => {
            let all = Ipv4Addr::from_bits(ip.to_bits() | u32::MAX >> prefix);
            Some(SocketAddr::new(all.into(), LAN_PORT))
        }
        _ => None,
    }
}

impl Agent {
    /// Whether there is nobody who tells where members are: then they are looked for on the LAN.
    pub fn set_alone(&mut self, is_alone: bool, now: Now) {
        match (is_alone, self.lan.next) {
            (true, None) => (self.lan.next, self.lan.count) = (Some(now.instant + PATIENCE), 0),
            (false, Some(_)) => self.lan.next = None,
            _ => (),
        }
    }

    /// Takes a datagram that came to [`LAN_PORT`]: somebody's call, or nothing.
    pub fn receive_call(
        &mut self,
        datagram: &mut [u8],
        from: SocketAddr,
        now: Now,
        out: &mut dyn AgentOutput,
    ) {
        let is_call = datagram.len() == INITIATION_LENGTH && datagram[0] == 1;
        let is_ours = self.locality.links.iter().any(|link| link.address == from);
        if !is_call
            || is_ours
            || !self.locality.is_near(from)
            || self.lan.heard.take(HEARD, 1, now.instant).is_err()
        {
            return;
        }
        self.receive(datagram, Path::to(from), now, out);
        self.poll(now, out);
    }

    /// Calls the next member that there is no session with, if that is due.
    pub(super) fn call_next(&mut self, now: Now, out: &mut dyn AgentOutput) {
        if self.lan.next.is_none_or(|due| due > now.instant) {
            return;
        }
        let interval = if self.lan.count < MANY { INTERVAL } else { LATER_INTERVAL };
        // Two that were started together do not always call at once.
        let jitter = Duration::from_millis(self.random.below(300));
        self.lan.next = Some(now.instant + interval + jitter);
        self.lan.count = self.lan.count.saturating_add(1);
        let Some(first) = self.lans().next() else { return };
        let begin = self.lan.called.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let pairs = &self.peers.pairs;
        let is_away = |(peer, pair): &(&PeerIndex, &Pair)| {
            !pair.member.is_device && !self.device.can_send(**peer, now.instant)
        };
        let behind = pairs.range_from(begin).find(is_away);
        let Some((&peer, pair)) = behind.or_else(|| pairs.iter().find(is_away)) else { return };
        self.lan.called = Some(peer);
        let fresh = pair.initiation.as_ref().filter(|pending| now.instant.since(pending.at) < FRESH);
        match fresh.map(|pending| pending.bytes) {
            Some(message) => self.call(&message, out),
            // It comes back to be called.
            None => drop(self.device.probe(peer, first, now)),
        }
    }

    fn lans(&self) -> impl Iterator<Item = SocketAddr> {
        let all = self.locality.links.iter().filter_map(|link| everybody(link.address, link.prefix));
        all.take(MAX_LANS)
    }

    /// Whether an initiation to this address is a call.
    pub(super) fn is_call(&self, to: SocketAddr) -> bool {
        self.lans().any(|lan| lan == to)
    }

    /// Calls out on all LANs.
    pub(super) fn call(&self, message: &[u8], out: &mut dyn AgentOutput) {
        self.lans().for_each(|lan| out.send(Path::to(lan), message));
    }

    /// When the next call is due.
    pub(super) fn next_call(&self) -> Option<Instant> {
        self.lan.next
    }
}

impl Pair {
    /// A session has come up with the member, which is on the LAN, at `from`.
    pub(super) fn on_lan_session(&mut self, turn: &mut AgentTurn<'_>, from: Ends) {
        if let Some(relay) = self.relay_path(turn.locality) {
            // Handshakes go by the relay first, also from now on.
            turn.device.set_endpoint(self.peer, relay.remote, turn.now.instant);
        }
        self.note_source(turn, from);
        self.begin_round(turn.now.instant);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_go_to_the_own_lan_alone() {
        let to = |own: &str, prefix| everybody(own.parse().unwrap(), prefix).map(|all| all.to_string());
        assert_eq!(to("192.168.1.2:4000", 24).as_deref(), Some("192.168.1.255:51822"));
        assert_eq!(to("10.0.0.5:4000", 20).as_deref(), Some("10.0.15.255:51822"));
        for (own, prefix) in [
            ("100.64.0.2:1", 24),
            ("203.0.113.7:1", 24),
            ("192.168.1.2:1", 32),
            ("192.168.1.2:1", 0),
            ("[fd00::1]:1", 64),
        ] {
            assert_eq!(to(own, prefix), None, "{own}/{prefix}");
        }
    }
}
