//! What blind forwarding and the hub both need: who there is, where they are, what they may have and what they had.

use crate::datagram::Path;
use crate::figures::{DropReason, Reach, RelayStats, Traffic};
use crate::keyed_hash::KeyedState;
use crate::relay::admission::RateLimiter;
use crate::relay::limits::RelayLimits;
use crate::relay::roster::{MemberId, Roster};
use crate::relay::sources::Sources;
use crate::relay::{Output, Port};
use crate::time::Now;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// All of it.
pub(super) struct RelayState {
    pub limits: RelayLimits,
    pub roster: Roster,
    pub sources: Sources,
    pub admission: RateLimiter,
    pub stats: RelayStats,
}

impl RelayState {
    pub fn new(limits: RelayLimits, hasher: KeyedState, seed: u64) -> Self {
        RelayState {
            admission: RateLimiter::new(hasher, &limits),
            limits,
            roster: Roster::default(),
            sources: Sources::new(hasher, seed),
            stats: RelayStats::default(),
        }
    }

    /// Counts something from `source` that went nowhere; also for the member there, if one is known.
    pub fn drop(&mut self, source: SocketAddr, reason: DropReason) {
        self.stats.drop(reason);
        log::trace!("dropped ({}): from {source} ({})", reason.word(), self.who(source));
        let member = self.sources.member(source).and_then(|member| self.roster.state(member));
        if let Some(presence) = member.and_then(|state| state.presence_mut()) {
            presence.drops.add(reason);
        }
    }

    /// Who is known to be at `address`, for the trace.
    pub fn who(&self, address: SocketAddr) -> MemberName {
        MemberName(
            self.sources.member(address).and_then(|member| self.roster.get(member)).map(|member| member.ip),
        )
    }

    /// Whether a member may be at `source`: it was validated, or a member speaks to the control plane from there.
    pub fn is_expected(&self, source: SocketAddr) -> bool {
        self.sources.is_proven(source) || !self.roster.from_origin(source.ip()).is_empty()
    }

    /// Notes that `member` is at `address`.
    pub fn note_address(&mut self, member: MemberId, address: SocketAddr) {
        self.sources.set_member(address, member);
        if let Some(state) = self.roster.state(member) {
            // Room for what is counted of it is made now, and not while packets flow.
            state.appear();
        }
    }

    /// A session with the member came up, by which it is reached.
    pub fn handshake(&mut self, member: MemberId, reach: Reach, now: Now) {
        if let Some(state) = self.roster.state(member) {
            let stats = &mut state.appear().stats;
            stats.last_handshake = Some(now.instant);
            if stats.reach == Reach::None {
                stats.reach = reach;
            }
        }
    }

    /// Notes how long it takes to a member and back.
    pub fn note_round_trip(&mut self, member: MemberId, round_trip: Option<Duration>) {
        if let Some(presence) = self.roster.presence_mut(member) {
            presence.stats.round_trip = round_trip;
        }
    }

    /// Counts `count` datagrams of data, of `bytes` bytes together, that went from one member to another.
    pub fn count_data(&mut self, from: MemberId, to: MemberId, count: usize, bytes: usize, now: Now) {
        if let Some(from) = self.roster.presence_mut(from) {
            from.stats.from.add_run(count, bytes);
            from.heard = now.instant;
        }
        if let Some(to) = self.roster.presence_mut(to) {
            to.stats.to.add_run(count, bytes);
        }
    }

    /// Counts a datagram that this machine itself sent to a member by the hub.
    pub fn count_local(&mut self, to: MemberId, bytes: usize) {
        if let Some(to) = self.roster.presence_mut(to) {
            to.stats.to.add(bytes);
        }
        self.stats.add(Traffic::Hub, bytes);
    }
}

/// A member by its virtual address, if it is one.
pub(super) struct MemberName(Option<Ipv4Addr>);

impl fmt::Display for MemberName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(ip) => write!(f, "member {ip}"),
            None => f.write_str("no known member"),
        }
    }
}

/// One thing that happens to the relay, and the way out for what comes of it.
pub(super) struct Turn<'a> {
    pub state: &'a mut RelayState,
    pub now: Now,
    pub out: &'a mut dyn Output,
}

impl Turn<'_> {
    /// Sends on what is being received.
    pub fn forward(&mut self, to: Path, received: &[u8]) {
        self.state.stats.add(Traffic::Sent, received.len());
        log::trace!("forwarded: {} bytes to {} ({})", received.len(), to.remote, self.state.who(to.remote));
        self.out.forward(to, received, received.len());
    }

    /// Sends something else from the main port.
    pub fn send(&mut self, to: Path, datagram: &[u8]) {
        self.state.stats.add(Traffic::Sent, datagram.len());
        log::trace!("sent: {} bytes to {} ({})", datagram.len(), to.remote, self.state.who(to.remote));
        self.out.send(to, Port::Main, datagram);
    }
}
