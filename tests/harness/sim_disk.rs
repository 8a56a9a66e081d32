//! A disk in memory that is slow, full or failing on demand, and that forgets what was not synced.

use lanrage::store::BackendFactory;
use redb::StorageBackend;
use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

const BLOCK: usize = 4096;
const ENOSPC: i32 = 28;
const EIO: i32 = 5;
const EROFS: i32 = 30;

/// Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct SimDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// What a read sees.
    cache: Vec<u8>,
    /// What survives a power cut.
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
    sync_delay: Duration,
    /// How many more bytes can be written; `None`: no limit.
    room: Option<usize>,
    failing_syncs: u32,
    read_only: bool,
    counts: Counts,
}

/// What the disk was asked to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    pub writes: u64,
    pub bytes: u64,
    pub syncs: u64,
}

impl SimDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub fn factory(&self) -> BackendFactory {
        let disk = self.clone();
        Box::new(move || Ok(Box::new(disk.clone())))
    }

    /// From now on a sync takes this long.
    pub fn set_sync_delay(&self, delay: Duration) {
        self.state().sync_delay = delay;
    }

    /// From now on so many bytes can be written, until there is room again (`None`).
    pub fn set_room(&self, room: Option<usize>) {
        self.state().room = room;
    }

    /// The next `count` syncs fail, and as on Linux the kernel then takes the pages for written.
    pub fn fail_syncs(&self, count: u32) {
        self.state().failing_syncs = count;
    }

    /// Whether every write is refused from now on.
    pub fn set_read_only(&self, read_only: bool) {
        self.state().read_only = read_only;
    }

    pub fn counts(&self) -> Counts {
        self.state().counts
    }

    pub fn len(&self) -> usize {
        self.state().cache.len()
    }

    /// Another disk, as this one is found after a power cut: `survives` says for each block that was not
    /// synced whether it made it.
    pub fn after_power_cut(&self, mut survives: impl FnMut() -> bool) -> SimDisk {
        let state = self.state();
        let mut image = state.durable.clone();
        for block in &state.dirty {
            let start = block * BLOCK;
            if survives() && start < state.cache.len() {
                let end = (start + BLOCK).min(state.cache.len());
                image.resize(image.len().max(end), 0);
                image[start..end].copy_from_slice(&state.cache[start..end]);
            }
        }
        SimDisk(Arc::new(Mutex::new(State { cache: image.clone(), durable: image, ..State::default() })))
    }
}

impl State {
    fn spend(&mut self, count: usize) -> io::Result<()> {
        if self.read_only {
            return Err(io::Error::from_raw_os_error(EROFS));
        }
        match &mut self.room {
            Some(room) if *room < count => Err(io::Error::from_raw_os_error(ENOSPC)),
            Some(room) => {
                *room -= count;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl StorageBackend for SimDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().cache.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        let start = offset as usize;
        let source = state.cache.get(start..start + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(source);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state();
        // Growing a file makes a hole, but on flash even that is a write.
        state.spend(1)?;
        let len = len as usize;
        state.cache.resize(len, 0);
        state.dirty.split_off(&len.div_ceil(BLOCK));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state();
        let dirty = std::mem::take(&mut state.dirty);
        state.counts.syncs += 1;
        if state.failing_syncs > 0 {
            state.failing_syncs -= 1;
            return Err(io::Error::from_raw_os_error(EIO));
        }
        let written: Vec<(usize, Vec<u8>)> = dirty
            .into_iter()
            .map(|block| {
                let start = block * BLOCK;
                (start, state.cache[start..(start + BLOCK).min(state.cache.len())].to_vec())
            })
            .collect();
        let (len, delay) = (state.cache.len(), state.sync_delay);
        drop(state);
        std::thread::sleep(delay);
        let mut state = self.state();
        state.durable.resize(len, 0);
        for (start, data) in written {
            let end = start + data.len();
            let image = &mut state.durable;
            image.resize(image.len().max(end), 0);
            image[start..end].copy_from_slice(&data);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        state.spend(data.len())?;
        let (start, end) = (offset as usize, offset as usize + data.len());
        if state.cache.len() < end {
            state.cache.resize(end, 0);
        }
        state.cache[start..end].copy_from_slice(data);
        state.dirty.extend(start / BLOCK..end.div_ceil(BLOCK));
        state.counts.writes += 1;
        state.counts.bytes += data.len() as u64;
        Ok(())
    }
}
