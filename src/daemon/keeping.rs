//! What the relay knows, kept for the next daemon: after a stop in good order, and after a crash.

use crate::relay::Relay;
use crate::relay::snapshot::Restored;
use crate::store::handover::HandOver;
use crate::time::{Instant, Now};
use std::cell::{Cell, OnceCell};
use std::time::Duration;

/// How old what is kept for the daemon after a crash may be.
const KEEP_INTERVAL: Duration = Duration::from_secs(10);
/// With more sessions than this, nothing is kept for after a crash: writing them would hold up packets for
/// milliseconds on a router.
const MAX_KEPT: usize = 1024;

/// Where something is kept for the daemon after a crash, if that wears nothing out, and when it was last.
pub(super) struct Keeping {
    file: OnceCell<HandOver>,
    kept: Cell<Instant>,
}

impl Default for Keeping {
    fn default() -> Self {
        Keeping { file: OnceCell::new(), kept: Cell::new(Instant::ZERO) }
    }
}

impl Keeping {
    /// Keeps flows and addresses for the daemon after a crash, now and then while there are any.
    pub fn keep(&self, relay: &Relay, now: Now) {
        let Some(file) = self.file.get() else { return };
        let sessions = relay.session_count();
        if now.instant.since(self.kept.get()) < KEEP_INTERVAL || sessions == 0 || sessions > MAX_KEPT {
            return;
        }
        self.kept.set(now.instant);
        if let Err(error) = file.write(&relay.snapshot(now)) {
            log::debug!("nothing is kept for after a crash: {}: {error}", file.path().display());
        }
    }

    /// Takes over the flows of the daemon before, if it left any. They are used once. From now on some are kept there
    /// for the next one, in case that this one can't say goodbye.
    pub fn take_over(&self, relay: &mut Relay, file: &HandOver, now: Now) {
        if file.is_in_memory() {
            let _ = self.file.set(file.clone());
        }
        let Some(snapshot) = file.take() else { return };
        match relay.restore(&snapshot, now) {
            Ok(Restored { flows: 0, hub_members: 0 }) => {}
            Ok(Restored { flows, hub_members }) => {
                log::info!("took over {flows} flows and {hub_members} members of the hub");
            }
            Err(error) => log::info!("the flows of the daemon before can't be used: {error}"),
        }
    }
}

/// Leaves the flows to the next daemon, in memory that a reboot clears.
pub(super) fn hand_over(relay: &Relay, file: &HandOver, now: Now) {
    if let Err(error) = file.write(&relay.snapshot(now)) {
        let path = file.path().display();
        log::info!("flows are not handed over, players reconnect by themselves: {path}: {error}");
    }
}
