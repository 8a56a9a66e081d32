//! Flows and members' addresses that wait for the next daemon, in a file that is in memory.

use super::relay_loop::RelayLoop;
use crate::relay::snapshot::Restored;
use crate::time::Instant;
use std::cell::{Cell, OnceCell};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where flows and members' addresses wait for the next daemon, in the runtime directory.
const FLOWS_FILE: &str = "flows";
/// The same, half written.
const NEW_FLOWS_FILE: &str = "flows.new";
/// How old what is kept for the daemon after a crash may be.
const KEEP_INTERVAL: Duration = Duration::from_secs(10);
/// With more sessions than this, nothing is kept for after a crash: writing them would hold up packets for
/// milliseconds on a router.
const MAX_KEPT: usize = 1024;
/// File systems that are in memory, as statfs(2) names them: tmpfs and ramfs. Nothing else is written to for a crash
/// that may never come.
const IN_MEMORY: [u32; 2] = [0x0102_1994, 0x8584_58f6];
/// The longest file of flows that is read back, in bytes.
const MAX_FLOWS: u64 = 16 * 1024 * 1024;

/// Where something is kept for the daemon after a crash, if that wears nothing out, and when it was last.
pub(super) struct FlowFile {
    keep_in: OnceCell<PathBuf>,
    kept: Cell<Instant>,
}

impl Default for FlowFile {
    fn default() -> Self {
        FlowFile { keep_in: OnceCell::new(), kept: Cell::new(Instant::ZERO) }
    }
}

impl RelayLoop {
    /// Keeps flows and addresses for the daemon after a crash, now and then while there are any.
    pub(super) fn keep_flows(&self, now: Instant) {
        let Some(directory) = self.flow_file.keep_in.get() else { return };
        let sessions = self.relay.borrow().session_count();
        if now.since(self.flow_file.kept.get()) < KEEP_INTERVAL || sessions == 0 || sessions > MAX_KEPT {
            return;
        }
        self.flow_file.kept.set(now);
        if let Err(error) = self.write_flows(directory) {
            log::debug!("nothing is kept for after a crash: {}: {error}", directory.display());
        }
    }

    fn write_flows(&self, directory: &Path) -> io::Result<()> {
        let snapshot = self.relay.borrow().snapshot((self.clock)());
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let new = directory.join(NEW_FLOWS_FILE);
        let _ = fs::remove_file(&new);
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true).mode(0o600).open(&new)?.write_all(&snapshot)?;
        fs::rename(new, directory.join(FLOWS_FILE))
    }

    /// Leaves the flows to the next daemon, in memory that a reboot clears.
    pub fn hand_over(&self, directory: &Path) {
        if let Err(error) = self.write_flows(directory) {
            log::info!(
                "flows are not handed over, players reconnect by themselves: {}: {error}",
                directory.display()
            );
        }
    }

    /// Takes over the flows of the daemon before, if it left any. They are used once. From now on some are kept there
    /// for the next one, in case that this one can't say goodbye.
    pub fn take_over(&self, directory: &Path) {
        if is_in_memory(directory) {
            let _ = self.flow_file.keep_in.set(directory.to_owned());
        }
        let path = directory.join(FLOWS_FILE);
        let read = fs::metadata(&path).ok().filter(|found| found.is_file() && found.len() <= MAX_FLOWS);
        let Some(snapshot) = read.and_then(|_| fs::read(&path).ok()) else { return };
        let _ = fs::remove_file(&path);
        match self.relay.borrow_mut().restore(&snapshot, (self.clock)()) {
            Ok(Restored { flows: 0, spokes: 0 }) => {}
            Ok(Restored { flows, spokes }) => {
                log::info!("took over {flows} flows and {spokes} members of the hub");
            }
            Err(error) => log::info!("the flows of the daemon before can't be used: {error}"),
        }
    }
}

/// Whether `directory` is in memory; if it does not exist yet, what it is going to be in.
fn is_in_memory(directory: &Path) -> bool {
    let found = directory.ancestors().find_map(|part| rustix::fs::statfs(part).ok());
    found.is_some_and(|found| IN_MEMORY.contains(&(found.f_type as u32)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_memory_is_written_to_all_the_time() {
        let shared = Path::new("/dev/shm");
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let is_tmpfs = mounts.lines().any(|line| line.contains(" /dev/shm tmpfs "));
        assert_eq!(is_in_memory(shared), is_tmpfs);
        assert_eq!(is_in_memory(&shared.join("not/there/yet")), is_tmpfs);
        assert!(!is_in_memory(Path::new("/proc")));
    }
}
