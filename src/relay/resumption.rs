//! Members that had a session with the hub before a restart. Its keys are gone, but not where they were: the hub
//! asks each for a new one before they notice, one after the other, those first that were heard of last.
//!
//! That an address was validated before is worth [`RESUMPTIONS`] initiations there, and no more: somebody else may be
//! at it by now. Who answers has proven it anew.

use crate::datagram::Path;
use crate::relay::hub::Hub;
use crate::relay::limits::{IDLE_LIFETIME, RESUMPTION_INTERVAL, RESUMPTIONS};
use crate::relay::roster::MemberId;
use crate::relay::state::RelayState;
use crate::time::{Instant, Now};
use crate::wireguard::timestamp::Timestamp;
use std::cmp::Reverse;
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// For a member of which nobody knows where it was.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// What is handed over of a member's session with the hub.
pub(super) struct Former {
    pub member: MemberId,
    /// The greatest timestamp that it has sent, so that its old handshakes can't be replayed.
    pub timestamp: Timestamp,
    /// Where it was, if that was validated, and when it was last heard of.
    pub address: Option<(Path, Instant)>,
}

/// A member that is asked for a new session.
pub(super) struct Resumption {
    to: Path,
    /// When it was last heard of, before the restart.
    heard: Instant,
    /// How many initiations may still go there.
    left: u8,
}

/// Who is to be asked next.
#[derive(Default)]
pub(super) struct Resumptions {
    queue: VecDeque<MemberId>,
    due: Instant,
}

impl Resumptions {
    /// When [`resume`] has something to do.
    pub fn next(&self) -> Option<Instant> {
        (!self.queue.is_empty()).then_some(self.due)
    }
}

impl Resumption {
    /// Whether an initiation to the member at `to` is one of those that a former session is worth.
    pub fn take(&mut self, to: SocketAddr) -> bool {
        let is_one = self.to.remote == to && self.left > 0;
        self.left -= u8::from(is_one);
        is_one
    }

    /// Whether it is too long ago that the member was heard of.
    pub fn is_over(&self, now: Instant) -> bool {
        now.since(self.heard) >= IDLE_LIFETIME
    }
}

/// What is to be handed over to the next daemon.
pub(super) fn formers(hub: &Hub, state: &RelayState) -> Vec<Former> {
    let former = |(&peer, &member)| {
        let session = state.roster.get(member)?.state.hub()?;
        let heard = hub.device.stats(peer).and_then(|stats| stats.last_received);
        let waiting = || session.resumption.as_ref().map(|resumption| (resumption.to, resumption.heard));
        Some(Former {
            member,
            timestamp: hub.device.greatest_timestamp(peer).unwrap_or_default(),
            address: session.path.zip(heard).or_else(waiting),
        })
    };
    hub.members.iter().filter_map(former).collect()
}

/// Takes over what the daemon before knew; how many members are going to be asked.
pub(super) fn take_over(hub: &mut Hub, state: &mut RelayState, formers: Vec<Former>, now: Instant) -> usize {
    let mut asked = Vec::new();
    for former in formers {
        let (member, heard) = (former.member, former.address.map(|(_, heard)| heard));
        if take_over_one(hub, state, former, now).is_some() {
            asked.push((Reverse(heard), member));
        }
    }
    asked.sort_unstable();
    hub.resumptions.queue.extend(asked.iter().map(|&(_, member)| member));
    hub.resumptions.due = now;
    asked.len()
}

fn take_over_one(hub: &mut Hub, state: &mut RelayState, former: Former, now: Instant) -> Option<()> {
    let Former { member, timestamp, address } = former;
    let found = state.roster.get(member)?;
    let (key, known) = (found.key, found.state.hub().map(|session| session.peer));
    let at = address.map_or(NOWHERE, |(path, _)| path.remote);
    let peer = known.or_else(|| hub.adopt(state, &key, at, now))?;
    if hub.device.greatest_timestamp(peer).is_none_or(|known| known < timestamp) {
        hub.device.set_greatest_timestamp(peer, Some(timestamp));
    }
    let (to, heard) = address.filter(|&(_, heard)| now.since(heard) < IDLE_LIFETIME)?;
    if !state.sources.contains(to.remote) && !state.sources.note(to, &state.limits, heard) {
        return None;
    }
    let session = state.roster.state(member)?.hub_mut()?;
    if session.path.is_some() || session.resumption.is_some() {
        return None;
    }
    session.resumption = Some(Resumption { to, heard, left: RESUMPTIONS });
    hub.device.set_endpoint(peer, to.remote, now);
    Some(())
}

/// Asks the next one for a session, if its turn has come.
pub(super) fn resume(hub: &mut Hub, state: &RelayState, now: Now) {
    if hub.resumptions.due > now.instant {
        return;
    }
    while let Some(member) = hub.resumptions.queue.pop_front() {
        let session = state.roster.get(member).and_then(|member| member.state.hub());
        let Some(session) = session.filter(|session| session.resumption.is_some()) else { continue };
        if !hub.device.can_send(session.peer, now.instant) {
            hub.device.connect(session.peer, now);
            hub.resumptions.due = now.instant + RESUMPTION_INTERVAL;
            return;
        }
    }
}
