//! What the relay keeps of one member besides who it is: where it is, what it has used, what it had.

use crate::figures::{Drops, MemberStats};
use crate::relay::admission::MemberBuckets;
use crate::relay::endpoints::Endpoints;
use crate::relay::flows::FlowId;
use crate::relay::hub::HubSession;
use crate::time::Instant;

/// All of it, in one place.
#[derive(Default)]
pub struct MemberState {
    pub buckets: MemberBuckets,
    /// What only those have who ever came: most never do, and it is not small.
    present: Option<Box<Presence>>,
}

/// What is kept of a member that has shown up.
#[derive(Default)]
pub struct Presence {
    /// What is counted of it.
    pub stats: MemberStats,
    /// When data last came from it.
    pub heard: Instant,
    /// Where it is.
    pub endpoints: Endpoints,
    /// Its session with the hub.
    pub hub: Option<HubSession>,
    /// Directions of blind sessions that it sends or gets.
    pub flows: Vec<FlowId>,
    /// What came from it and went nowhere.
    pub drops: Drops,
}

impl MemberState {
    /// What is kept of it, if it has shown up.
    pub fn presence(&self) -> Option<&Presence> {
        self.present.as_deref()
    }

    /// What is kept of it, if it has shown up.
    pub fn presence_mut(&mut self) -> Option<&mut Presence> {
        self.present.as_deref_mut()
    }

    /// What is kept of it, from now on if not before.
    pub fn appear(&mut self) -> &mut Presence {
        self.present.get_or_insert_default()
    }

    /// What is counted of it.
    pub fn stats(&self) -> &MemberStats {
        self.presence().map_or(&MemberStats::NOTHING, |presence| &presence.stats)
    }

    /// Its session with the hub.
    pub fn hub(&self) -> Option<&HubSession> {
        self.presence()?.hub.as_ref()
    }

    /// Its session with the hub.
    pub fn hub_mut(&mut self) -> Option<&mut HubSession> {
        self.presence_mut()?.hub.as_mut()
    }
}
