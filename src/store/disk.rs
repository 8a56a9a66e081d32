//! What redb reads and writes: the locked file, and a layer that holds back writes until the file was found good.

use redb::StorageBackend;
use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Makes a fresh backend for every (re)open.
pub type BackendFactory = Box<dyn FnMut() -> io::Result<Box<dyn StorageBackend>> + Send>;

/// A file read and written in place. It is locked by whoever opened it, not through redb, so that the lock
/// survives a reopen and needs nothing but flock, which also works on jffs2 and overlayfs.
#[derive(Debug)]
pub(super) struct FileBackend {
    file: Arc<File>,
}

impl FileBackend {
    pub fn new(file: Arc<File>) -> Self {
        FileBackend { file }
    }
}

impl StorageBackend for FileBackend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, offset)
    }
}

/// What came of asking for a lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lock {
    /// We have it for as long as the file is open.
    Held,
    /// Another process has it.
    Taken,
    /// This file system has no locks.
    Unavailable,
}

/// Locks `file` against other daemons (`exclusive`), or only against being written.
pub(super) fn lock(file: &File, exclusive: bool) -> io::Result<Lock> {
    let result = if exclusive { file.try_lock() } else { file.try_lock_shared() };
    match result {
        Ok(()) => Ok(Lock::Held),
        Err(TryLockError::WouldBlock) => Ok(Lock::Taken),
        Err(TryLockError::Error(error)) if lacks_locks(&error) => Ok(Lock::Unavailable),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Whether a lock failed because the file system has none (jffs2 under overlayfs says EINVAL).
fn lacks_locks(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP, Errno::NOLCK]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// The most that an open may want to write before it has been found good, in bytes.
const MAX_HELD: usize = 8 << 20;
/// The longest a file may want to become before it has been found good, in bytes.
const MAX_HELD_LEN: u64 = 1 << 32;
const BLOCK: u64 = 4096;

/// A backend that holds back every write until [`Disk::release`]. redb writes to a file as soon as it opens
/// it; a file that turns out to be damaged or of a newer schema must stay exactly as it was found.
#[derive(Clone, Debug)]
pub(super) struct Disk(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    backend: Box<dyn StorageBackend>,
    holding: AtomicBool,
    /// What is held back, while it is; `None` too after a release that failed half-way, when nothing more
    /// may be done.
    held: Mutex<Option<Held>>,
    sync_failed: AtomicBool,
}

/// Writes that were held back: in order, to be replayed with the same barriers, and as blocks, to be read.
#[derive(Debug, Default)]
struct Held {
    operations: Vec<Operation>,
    bytes: usize,
    blocks: BTreeMap<u64, Box<[u8]>>,
    len: u64,
    /// Up to here the backend's own content counts.
    backed: u64,
}

#[derive(Debug)]
enum Operation {
    Write(u64, Box<[u8]>),
    SetLen(u64),
    Sync,
}

impl Disk {
    /// `backend`, holding back writes.
    pub fn new(backend: Box<dyn StorageBackend>) -> io::Result<Self> {
        let len = backend.len()?;
        let held = Held { len, backed: len, ..Held::default() };
        Ok(Disk(Arc::new(Inner {
            backend,
            holding: AtomicBool::new(true),
            held: Mutex::new(Some(held)),
            sync_failed: AtomicBool::new(false),
        })))
    }

    /// Writes what was held back and holds back nothing from now on. If that fails, the disk is of no more
    /// use: nothing may be written over half a replay.
    pub fn release(&self) -> io::Result<()> {
        let held = self.lock_held().take();
        for operation in held.ok_or_else(given_up)?.operations {
            match operation {
                Operation::Write(offset, data) => self.0.backend.write(offset, &data)?,
                Operation::SetLen(len) => self.0.backend.set_len(len)?,
                Operation::Sync => self.sync()?,
            }
        }
        self.0.holding.store(false, Ordering::Release);
        Ok(())
    }

    /// Whether a sync has failed. The kernel may then have forgotten which pages it never wrote: it reports an error
    /// once (`file_check_and_advance_wb_err` in <https://github.com/torvalds/linux/blob/v6.12/mm/filemap.c>).
    pub fn sync_failed(&self) -> bool {
        self.0.sync_failed.load(Ordering::Acquire)
    }

    /// Writes everything again as it is read, so that pages which a failed sync left unwritten, but marked
    /// as clean, reach the disk after all.
    pub fn rewrite(&self) -> io::Result<()> {
        let len = self.len()?;
        let mut buffer = vec![0; 64 << 10];
        let mut offset = 0;
        while offset < len {
            let count = usize::try_from(len - offset).unwrap_or(usize::MAX).min(buffer.len());
            let chunk = &mut buffer[..count];
            self.0.backend.read(offset, chunk)?;
            // Holes stay holes.
            if chunk.iter().any(|byte| *byte != 0) {
                self.0.backend.write(offset, chunk)?;
            }
            offset += count as u64;
        }
        self.sync()
    }

    fn sync(&self) -> io::Result<()> {
        let result = self.0.backend.sync_data();
        if result.is_err() {
            self.0.sync_failed.store(true, Ordering::Release);
        }
        result
    }

    fn is_holding(&self) -> bool {
        self.0.holding.load(Ordering::Acquire)
    }

    fn lock_held(&self) -> MutexGuard<'_, Option<Held>> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held<T>(&self, work: impl FnOnce(&mut Held) -> io::Result<T>) -> io::Result<T> {
        work(self.lock_held().as_mut().ok_or_else(given_up)?)
    }
}

fn given_up() -> io::Error {
    io::Error::new(ErrorKind::BrokenPipe, "the disk failed while the database was opened")
}

impl Held {
    fn push(&mut self, operation: Operation) -> io::Result<()> {
        self.bytes += match &operation {
            Operation::Write(_, data) => data.len(),
            Operation::SetLen(_) | Operation::Sync => size_of::<Operation>(),
        };
        if self.bytes > MAX_HELD {
            return Err(io::Error::new(ErrorKind::InvalidData, "opening it would rewrite too much"));
        }
        self.operations.push(operation);
        Ok(())
    }

    fn read(&self, backend: &dyn StorageBackend, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(out.len() as u64).filter(|end| *end <= self.len);
        let end = end.ok_or_else(|| io::Error::new(ErrorKind::UnexpectedEof, "read past the end"))?;
        out.fill(0);
        if offset < self.backed {
            let count = (self.backed.min(end) - offset) as usize;
            backend.read(offset, &mut out[..count])?;
        }
        for (index, block) in self.blocks.range(offset / BLOCK..end.div_ceil(BLOCK)) {
            let start = index * BLOCK;
            let (from, to) = (start.max(offset), (start + BLOCK).min(end));
            out[(from - offset) as usize..(to - offset) as usize]
                .copy_from_slice(&block[(from - start) as usize..(to - start) as usize]);
        }
        Ok(())
    }

    fn write(&mut self, backend: &dyn StorageBackend, offset: u64, data: &[u8]) -> io::Result<()> {
        let end = offset.checked_add(data.len() as u64).filter(|end| *end <= MAX_HELD_LEN);
        let end = end.ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "write far past the end"))?;
        self.push(Operation::Write(offset, data.into()))?;
        self.len = self.len.max(end);
        for index in offset / BLOCK..end.div_ceil(BLOCK) {
            let start = index * BLOCK;
            let (from, to) = (start.max(offset), (start + BLOCK).min(end));
            if !self.blocks.contains_key(&index) {
                let mut block = vec![0; BLOCK as usize].into_boxed_slice();
                let count = BLOCK.min(self.len - start) as usize;
                self.read(backend, start, &mut block[..count])?;
                self.blocks.insert(index, block);
            }
            if let Some(block) = self.blocks.get_mut(&index) {
                block[(from - start) as usize..(to - start) as usize]
                    .copy_from_slice(&data[(from - offset) as usize..(to - offset) as usize]);
            }
        }
        Ok(())
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        if len > MAX_HELD_LEN {
            return Err(io::Error::new(ErrorKind::InvalidData, "its length makes no sense"));
        }
        self.push(Operation::SetLen(len))?;
        if len < self.len {
            self.backed = self.backed.min(len);
            self.blocks.split_off(&len.div_ceil(BLOCK));
            if let Some(block) = self.blocks.get_mut(&(len / BLOCK)) {
                block[(len % BLOCK) as usize..].fill(0);
            }
        }
        self.len = len;
        Ok(())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        if self.is_holding() { self.held(|held| Ok(held.len)) } else { self.0.backend.len() }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if self.is_holding() {
            self.held(|held| held.read(&*self.0.backend, offset, out))
        } else {
            self.0.backend.read(offset, out)
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if self.is_holding() { self.held(|held| held.set_len(len)) } else { self.0.backend.set_len(len) }
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.is_holding() { self.held(|held| held.push(Operation::Sync)) } else { self.sync() }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if self.is_holding() {
            self.held(|held| held.write(&*self.0.backend, offset, data))
        } else {
            self.0.backend.write(offset, data)
        }
    }

    fn close(&self) -> io::Result<()> {
        self.0.backend.close()
    }
}
