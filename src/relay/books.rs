//! The books that blind forwarding and the hub both keep.

use crate::datagram::Path;
use crate::keyed_hash::KeyedState;
use crate::relay::admission::Admission;
use crate::relay::bindings::Bindings;
use crate::relay::limits::Limits;
use crate::relay::roster::{MemberId, Roster};
use crate::relay::sources::Sources;
use crate::relay::stats::{DropReason, Drops, MemberStats, Stats};
use crate::relay::{Output, Port};
use std::net::SocketAddr;

/// Who there is, where they are, what they may have and what they had.
pub(super) struct Books {
    pub limits: Limits,
    pub roster: Roster,
    pub sources: Sources,
    pub bindings: Bindings,
    pub admission: Admission,
    pub stats: Stats,
    pub members: Vec<MemberStats>,
    /// By member: room for those who were shown to be somewhere, which most never are.
    pub drops: Vec<Option<Box<Drops>>>,
}

impl Books {
    pub fn new(limits: Limits, hasher: KeyedState) -> Self {
        Books {
            admission: Admission::new(hasher, &limits),
            limits,
            roster: Roster::default(),
            sources: Sources::new(hasher),
            bindings: Bindings::default(),
            stats: Stats::default(),
            members: Vec::new(),
            drops: Vec::new(),
        }
    }

    /// Makes room for every member and party of the roster.
    pub fn reserve(&mut self) {
        let members = self.roster.slot_count();
        self.bindings.reserve(members);
        self.admission.reserve(members, self.roster.party_count());
        if self.members.len() < members {
            self.members.resize(members, MemberStats::default());
            self.drops.resize(members, None);
        }
    }

    /// Counts something from `source` that went nowhere; also for the member there, if one is known.
    pub fn drop(&mut self, source: SocketAddr, reason: DropReason) {
        self.stats.drop(reason);
        let member = self.sources.member(source);
        if let Some(Some(drops)) = member.and_then(|member| self.drops.get_mut(member.slot())) {
            drops.add(reason);
        }
    }

    /// Notes that `member` is at `address`.
    pub fn place(&mut self, member: MemberId, address: SocketAddr) {
        self.sources.set_member(address, member);
        if let Some(drops) = self.drops.get_mut(member.slot()) {
            drops.get_or_insert_default();
        }
    }

    /// Sends on what is being received.
    pub fn forward(&mut self, to: Path, received: &[u8], out: &mut dyn Output) {
        self.stats.sent.add(received.len());
        out.forward(to, received, received.len());
    }

    /// Sends something else from the main port.
    pub fn send(&mut self, to: Path, datagram: &[u8], out: &mut dyn Output) {
        self.stats.sent.add(datagram.len());
        out.send(to, Port::Main, datagram);
    }

    /// Counts `count` datagrams of data, of `bytes` bytes together, that went from one member to another.
    pub fn count_data(&mut self, from: MemberId, to: MemberId, count: usize, bytes: usize) {
        if let Some(stats) = self.members.get_mut(from.slot()) {
            stats.from.add_run(count, bytes);
        }
        if let Some(stats) = self.members.get_mut(to.slot()) {
            stats.to.add_run(count, bytes);
        }
    }
}
