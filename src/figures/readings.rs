//! What is counted, by the rows of the tables.

use super::prometheus::Histogram;
use super::{DropReason, Figure, Reach, Resource, Traffic};
use crate::ids::PeerId;
use crate::owners::{Holdings, Prefix};
use crate::sorted::SortedMap;
use crate::time::Instant;
use std::time::Duration;

/// A number for each figure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Values([u64; Figure::ALL.len()]);

impl Default for Values {
    fn default() -> Self {
        Values([0; Figure::ALL.len()])
    }
}

impl Values {
    /// Counts `count` more.
    pub fn add(&mut self, figure: Figure, count: u64) {
        self.0[figure as usize] += count;
    }

    /// Replaces the number.
    pub fn set(&mut self, figure: Figure, value: u64) {
        self.0[figure as usize] = value;
    }

    /// The number.
    pub fn of(&self, figure: Figure) -> u64 {
        self.0[figure as usize]
    }

    /// Adds what another has counted.
    pub fn merge(&mut self, other: &Values) {
        self.0.iter_mut().zip(other.0).for_each(|(value, more)| *value += more);
    }
}

/// Datagrams, or packets within them, and their bytes, without UDP's headers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Volume {
    /// How many.
    pub packets: u64,
    /// How long together.
    pub bytes: u64,
}

impl Volume {
    /// Counts one datagram.
    pub fn add(&mut self, bytes: usize) {
        self.add_run(1, bytes);
    }

    /// Counts datagrams of so many bytes together.
    pub fn add_run(&mut self, datagrams: usize, bytes: usize) {
        self.packets += datagrams as u64;
        self.bytes += bytes as u64;
    }
}

/// What went nowhere, by reason.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Drops([u64; DropReason::ALL.len()]);

impl Default for Drops {
    fn default() -> Self {
        Drops([0; DropReason::ALL.len()])
    }
}

impl Drops {
    /// Counts something that went nowhere.
    pub fn add(&mut self, reason: DropReason) {
        self.add_many(reason, 1);
    }

    /// Counts `count` that went nowhere.
    pub fn add_many(&mut self, reason: DropReason, count: u64) {
        self.0[reason as usize] += count;
    }

    /// How many went nowhere for this reason.
    pub fn of(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }

    /// Adds what another has counted.
    pub fn merge(&mut self, other: &Drops) {
        self.0.iter_mut().zip(other.0).for_each(|(count, more)| *count += more);
    }

    /// How many went nowhere, for each reason there is.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> {
        DropReason::ALL.into_iter().zip(self.0)
    }
}

/// What a relay counts.
#[derive(Clone, Debug, Default)]
pub struct RelayStats {
    /// Its figures.
    pub values: Values,
    traffic: [Volume; Traffic::ALL.len()],
    drops: Drops,
}

impl RelayStats {
    /// Counts one datagram.
    pub fn add(&mut self, kind: Traffic, bytes: usize) {
        self.add_run(kind, 1, bytes);
    }

    /// Counts datagrams of so many bytes together.
    pub fn add_run(&mut self, kind: Traffic, datagrams: usize, bytes: usize) {
        self.traffic[kind as usize].add_run(datagrams, bytes);
    }

    /// What was counted of this kind.
    pub fn traffic(&self, kind: Traffic) -> Volume {
        self.traffic[kind as usize]
    }

    /// Counts something that went nowhere.
    pub fn drop(&mut self, reason: DropReason) {
        self.drops.add(reason);
    }

    /// Counts what went nowhere elsewhere.
    pub fn drop_all(&mut self, drops: &Drops) {
        self.drops.merge(drops);
    }

    /// How many went nowhere for this reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops.of(reason)
    }

    /// What went nowhere.
    pub fn drops(&self) -> &Drops {
        &self.drops
    }

    /// Adds what another has counted.
    pub fn merge(&mut self, other: &RelayStats) {
        self.values.merge(&other.values);
        for (count, more) in self.traffic.iter_mut().zip(other.traffic) {
            count.packets += more.packets;
            count.bytes += more.bytes;
        }
        self.drops.merge(&other.drops);
    }
}

/// What is counted of a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemberStats {
    /// Data from it that was forwarded.
    pub from: Volume,
    /// Data that was forwarded to it.
    pub to: Volume,
    /// When a session of its last came up, blind or with the hub.
    pub last_handshake: Option<Instant>,
    /// How long it takes to it and back, as its last session with the hub showed.
    pub round_trip: Option<Duration>,
    /// How it is reached.
    pub reach: Reach,
}

impl Default for MemberStats {
    fn default() -> Self {
        Self::NOTHING
    }
}

impl MemberStats {
    /// Of a member that never came.
    pub const NOTHING: MemberStats = MemberStats {
        from: Volume { packets: 0, bytes: 0 },
        to: Volume { packets: 0, bytes: 0 },
        last_handshake: None,
        round_trip: None,
        reach: Reach::None,
    };

    /// What was forwarded, by direction.
    pub fn directions(&self) -> [(&'static str, Volume); 2] {
        [("from", self.from), ("to", self.to)]
    }
}

/// A member that the relay has seen.
#[derive(Clone, Debug)]
pub struct SeenMember {
    /// Its id.
    pub peer: PeerId,
    /// What is counted of it.
    pub stats: MemberStats,
    /// What came from its address and went nowhere.
    pub drops: Drops,
    /// How long ago its last session came up.
    pub handshake_age: Duration,
}

/// How full a table is, and of whom: for people to look at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Usage {
    /// What it holds.
    pub resource: Resource,
    /// How much.
    pub held: usize,
    /// How much there may be.
    pub limit: usize,
    /// The network that holds most, and how much.
    pub largest: Option<(Prefix, usize)>,
}

/// All figures at one time: what everything that counts has to tell.
#[derive(Default)]
pub struct Readings {
    /// What was counted.
    pub stats: RelayStats,
    /// How full everything is that is bounded.
    pub tables: Vec<Usage>,
    /// Answered requests by route and status.
    pub requests: SortedMap<(&'static str, u16), u64>,
    /// How long answers took.
    pub latency: Histogram,
    /// The members that the relay has seen.
    pub members: Vec<SeenMember>,
    /// This instance of a realm, if it is one.
    #[cfg(feature = "cluster")]
    pub instance: Option<InstanceReading>,
}

/// An instance of a realm.
#[cfg(feature = "cluster")]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InstanceReading {
    /// Who writes, if it is not this one.
    pub follows: Option<String>,
    /// Whose lease counts: one more at each taking.
    pub epoch: u64,
    /// The number of the last commit that it has.
    pub commits: u64,
    /// For how long there may have been commits that it has not.
    pub lag: Duration,
    /// Questions to the one that writes that were answered, and those that were not.
    pub asked: u64,
    /// See there.
    pub unanswered: u64,
    /// How often it found out that another one writes in its place.
    pub fenced: u64,
}

impl Readings {
    /// Sets a figure.
    pub fn set(&mut self, figure: Figure, value: u64) {
        self.stats.values.set(figure, value);
    }

    /// Adds a table that may hold up to `limit`.
    pub fn table(&mut self, resource: Resource, holdings: &Holdings, limit: usize) {
        let (held, largest) = (holdings.total(), holdings.largest());
        self.tables.push(Usage { resource, held, limit, largest });
    }
}

/// What counts something, and tells of it when it is asked.
pub trait Meter {
    /// Writes what it has counted into `out`.
    fn report(&self, out: &mut Readings);
}
