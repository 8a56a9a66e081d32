//! What the API counts, and what it is told by the rest of the daemon.

use crate::crypto::x25519::PublicKey;
use crate::durability::WriteError;
use crate::figures::prometheus::Histogram;
use crate::figures::{Drops, MemberStats, Meter, Readings, Values};
use crate::sorted::SortedMap;
use std::time::Duration;

/// The relay, as far as the API tells of it.
pub trait RelayView {
    /// What it has counted of the member with this key, and what went nowhere of what came from its address.
    fn member(&self, key: &PublicKey) -> Option<(MemberStats, Drops)>;
    /// How many members it reaches.
    fn load(&self) -> u32;
}

/// What the loop knows and the API tells.
#[derive(Clone, Copy, Default)]
pub struct Surroundings<'a> {
    /// The relay, if there is one.
    pub relay: Option<&'a dyn RelayView>,
    /// Why nothing can be kept on disk just now, if so.
    pub store_failure: Option<WriteError>,
    /// Everything else that counts: the store, the relay and the process.
    pub figures: Option<&'a dyn Meter>,
}

/// What the API counts by itself.
#[derive(Default)]
pub struct Counters {
    /// Its figures.
    pub values: Values,
    requests: SortedMap<(&'static str, u16), u64>,
    latency: Histogram,
}

/// The label of requests that never became one, or that asked for nothing there is.
const NO_ROUTE: &str = "none";

impl Counters {
    /// Counts an answered request.
    pub fn request(&mut self, path: Option<&'static str>, status: u16, took: Duration) {
        *self.requests.or_default((path.unwrap_or(NO_ROUTE), status)) += 1;
        self.latency.observe(took);
    }

    /// Counts what the door refused.
    pub fn refused(&mut self, status: u16) {
        *self.requests.or_default((NO_ROUTE, status)) += 1;
    }

    /// Tells what was counted.
    pub fn report(&self, out: &mut Readings) {
        out.stats.values.merge(&self.values);
        out.requests.clone_from(&self.requests);
        out.latency = self.latency.clone();
    }
}
