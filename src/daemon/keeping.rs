//! What the relay knows, kept for the next daemon: after a stop in good order, and after a crash.

use super::relay_loop::RelayLoop;
use crate::relay::snapshot::Restored;
use crate::store::handover::HandOver;
use crate::time::Instant;
use std::cell::{Cell, OnceCell};
use std::io;
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

impl RelayLoop {
    /// Keeps flows and addresses for the daemon after a crash, now and then while there are any.
    pub(super) fn keep(&self, now: Instant) {
        let Some(file) = self.keeping.file.get() else { return };
        let sessions = self.relay.borrow().session_count();
        if now.since(self.keeping.kept.get()) < KEEP_INTERVAL || sessions == 0 || sessions > MAX_KEPT {
            return;
        }
        self.keeping.kept.set(now);
        if let Err(error) = self.write(file) {
            log::debug!("nothing is kept for after a crash: {}: {error}", file.path().display());
        }
    }

    fn write(&self, file: &HandOver) -> io::Result<()> {
        let snapshot = self.relay.borrow().snapshot((self.clock)());
        file.write(&snapshot)
    }

    /// Leaves the flows to the next daemon, in memory that a reboot clears.
    pub fn hand_over(&self, file: &HandOver) {
        if let Err(error) = self.write(file) {
            let path = file.path().display();
            log::info!("flows are not handed over, players reconnect by themselves: {path}: {error}");
        }
    }

    /// Takes over the flows of the daemon before, if it left any. They are used once. From now on some are kept there
    /// for the next one, in case that this one can't say goodbye.
    pub fn take_over(&self, file: &HandOver) {
        if file.is_in_memory() {
            let _ = self.keeping.file.set(file.clone());
        }
        let Some(snapshot) = file.take() else { return };
        match self.relay.borrow_mut().restore(&snapshot, (self.clock)()) {
            Ok(Restored { flows: 0, spokes: 0 }) => {}
            Ok(Restored { flows, spokes }) => {
                log::info!("took over {flows} flows and {spokes} members of the hub");
            }
            Err(error) => log::info!("the flows of the daemon before can't be used: {error}"),
        }
    }
}
