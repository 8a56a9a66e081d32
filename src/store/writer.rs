//! The thread that waits for the disk.

use super::disk::{BackendFactory, Disk};
use super::dump_request::DumpRequest;
use super::open::{self, Examined, FileError, drop_quietly, guarded};
use super::queue::{Batch, Rows, StoreShared};
use super::schema::{Schema, Table};
use super::state_file::{Found, StateFile};
use crate::durability::WriteError;
use crate::figures::{Figure, Values};
use crate::time::Clock;
use redb::{Database, Error, ReadableDatabase, StorageBackend};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// How long a commit waits for company.
const GATHER: Duration = Duration::from_millis(5);
/// The pause after a failed commit, doubling up to the longest.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(10);
/// The stack of the thread, in bytes.
const STACK: usize = 512 << 10;

/// A file is compacted at the end if at least this much would be won, in bytes, and it is mostly air.
const WORTHWHILE: u64 = 256 << 10;
/// A disk whose last commit took longer is too slow to compact on the way out, in microseconds.
const QUICK: u64 = 20_000;

struct WriterThread {
    shared: Arc<StoreShared>,
    path: PathBuf,
    /// Where the next start looks for it, if it is a file.
    place: Option<StateFile>,
    /// What was found there in its place, and has been spoken of.
    intruder: Option<Found>,
    /// `None` while it failed to open.
    open: Option<(Database, Disk)>,
    /// A sync has failed since everything was last written.
    sync_failed: bool,
    /// The file has held rows: it must never be taken for a new one again.
    established: bool,
    factory: BackendFactory,
    clock: Clock,
    schema: &'static Schema,
    retry: Duration,
}

/// Starts the thread over a database that was just opened; `fault` says why it can't be written yet.
pub(super) fn start(
    path: &Path,
    place: Option<StateFile>,
    examined: Examined,
    fault: Option<FileError>,
    factory: BackendFactory,
    clock: Clock,
    schema: &'static Schema,
) -> io::Result<Arc<StoreShared>> {
    let mut stats = Values::default();
    stats.set(Figure::StoreSize, examined.disk.len().unwrap_or(0));
    let health = if fault.is_some() { Err(WriteError::Full) } else { Ok(()) };
    let shared = Arc::new(StoreShared::new(health, stats));
    let established = examined.version.is_some();
    let mut writer = WriterThread {
        shared: shared.clone(),
        path: path.to_owned(),
        place,
        intruder: None,
        sync_failed: examined.disk.sync_failed(),
        open: Some((examined.database, examined.disk)),
        established,
        factory,
        clock,
        schema,
        retry: FIRST_RETRY,
    };
    if let Some(fault) = fault {
        if let Some((database, _)) = writer.open.take() {
            drop_quietly(database);
        }
        writer.complain(&fault);
    }
    let body = move || writer.run();
    std::thread::Builder::new().name("store".into()).stack_size(STACK).spawn(body)?;
    Ok(shared)
}

/// What the thread woke up for.
enum Work {
    Commit,
    Dump(DumpRequest),
    Close,
}

impl WriterThread {
    fn run(mut self) {
        loop {
            if self.open.is_none() {
                self.pause();
                if self.is_closing() || !self.reopen() {
                    if self.is_closing() {
                        break;
                    }
                    continue;
                }
            }
            match self.next() {
                Work::Commit => {
                    self.gather();
                    self.commit(false);
                }
                Work::Dump(request) => {
                    if let Some((database, _)) = &self.open {
                        match database.begin_read() {
                            Ok(snapshot) => request.serve(snapshot),
                            Err(error) => log::warn!("no snapshot for a dump: {error}"),
                        }
                    }
                }
                Work::Close => break,
            }
        }
        self.finish();
    }

    fn is_closing(&self) -> bool {
        self.shared.queue().closing
    }

    fn next(&self) -> Work {
        let idle = |queue: &mut super::queue::WriteQueue| {
            !queue.closing && queue.dump.is_none() && queue.pending.is_empty()
        };
        let queue = self.shared.queue();
        let mut queue = self.shared.work.wait_while(queue, idle).unwrap_or_else(PoisonError::into_inner);
        if queue.closing {
            Work::Close
        } else if let Some(request) = queue.dump.take() {
            Work::Dump(request)
        } else {
            Work::Commit
        }
    }

    /// Waits for more rows to share the commit.
    fn gather(&self) {
        let queue = self.shared.queue();
        drop(self.shared.work.wait_timeout_while(queue, GATHER, |queue| !queue.closing));
    }

    /// Waits until the next attempt. Nobody gets a dump meanwhile.
    fn pause(&mut self) {
        let mut queue = self.shared.queue();
        queue.dump = None;
        drop(self.shared.work.wait_timeout_while(queue, self.retry, |queue| !queue.closing));
        self.retry = (self.retry * 2).min(LONGEST_RETRY);
    }

    /// Commits what is pending, and everything lazy or a little of it.
    fn commit(&mut self, all: bool) {
        let batch = self.shared.take(all);
        let Some((database, _)) = &self.open else { return self.shared.failed(batch, WriteError::Failing) };
        if batch.rows.is_empty() {
            return self.shared.committed(batch.number);
        }
        let begun = (self.clock)().instant;
        let written = guarded(|| write(database, &batch.rows));
        match written.and_then(|()| self.keep_place()) {
            Ok(()) => {
                let took = (self.clock)().instant.since(begun);
                let file_length = self.open.as_ref().map_or(0, |(_, disk)| disk.len().unwrap_or(0));
                let mut queue = self.shared.queue();
                queue.stats.add(Figure::StoreCommits, 1);
                queue.stats.add(Figure::StoreRows, batch.rows.len() as u64);
                let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
                queue.stats.set(Figure::StoreLastCommit, took);
                queue.stats.set(Figure::StoreSize, file_length);
                drop(queue);
                self.established = true;
                self.recovered();
                self.shared.committed(batch.number);
            }
            Err(fault) => self.fail(batch, fault),
        }
    }

    /// A commit failed: redb refuses all further ones, so the database is dropped, to be opened again.
    fn fail(&mut self, batch: Batch, fault: FileError) {
        if let Some((database, disk)) = self.open.take() {
            self.sync_failed |= disk.sync_failed();
            drop_quietly(database);
        }
        self.complain(&fault);
        self.shared.failed(batch, fault.of_write());
    }

    /// Logs a failure, unless the last attempt failed too.
    fn complain(&self, fault: &FileError) {
        let mut queue = self.shared.queue();
        let first = queue.stats.of(Figure::StoreErrors) == 0 || self.shared.health().is_ok();
        queue.stats.add(Figure::StoreErrors, 1);
        drop(queue);
        if first {
            log::error!(
                "cannot write to {}: {fault}; changes are refused until that works again, all else goes on",
                self.path.display()
            );
        }
    }

    /// Logs the end of a failure.
    fn recovered(&mut self) {
        self.retry = FIRST_RETRY;
        if self.shared.health().is_err() {
            log::info!("{} can be written again", self.path.display());
        }
    }

    /// Sees to it that what is committed is where the next start looks for it.
    fn keep_place(&mut self) -> Result<(), FileError> {
        let Some(place) = &mut self.place else { return Ok(()) };
        let found = place.found();
        if found == Found::Own {
            return Ok(());
        }
        // It is going to be copied: nothing may write to it any more.
        if let Some((database, disk)) = self.open.take() {
            self.sync_failed |= disk.sync_failed();
            drop_quietly(database);
        }
        let first = self.intruder.replace(found) != Some(found);
        let path = self.path.display();
        if found == Found::Nothing {
            if first {
                log::error!("{path} was deleted or renamed while in use: it is written again");
            }
            place.put_back().map_err(FileError::Io)?;
            self.factory = open::file_factory(place.file());
            self.intruder = None;
            return self.open_database();
        }
        if first {
            match place.save_beside((self.clock)().unix) {
                Ok(saved) => log::error!(
                    "{path} was replaced by another file while in use: all until now was saved as {}. Stop \
                     lanrage, leave the right one of the two at {path}, and start it again",
                    saved.display()
                ),
                Err(error) => {
                    log::error!(
                        "{path} was replaced by another file, and a copy could not be saved: {error}"
                    );
                }
            }
        }
        Err(FileError::Io(io::Error::other("another file is in its place")))
    }

    /// Opens the database anew.
    fn open_database(&mut self) -> Result<(), FileError> {
        let backend = (self.factory)().map_err(FileError::Io)?;
        let mut examined = open::examine(backend, self.schema)?;
        if self.established && examined.version != Some(self.schema.version) {
            return Err(FileError::Corrupt("its contents are gone".into()));
        }
        let mut settled = examined.settle(self.schema);
        self.sync_failed |= examined.disk.sync_failed();
        if settled.is_ok() && self.sync_failed {
            settled = examined.disk.rewrite().map_err(FileError::Io);
        }
        if let Err(fault) = settled {
            drop_quietly(examined.database);
            return Err(fault);
        }
        self.sync_failed = false;
        self.established = true;
        self.open = Some((examined.database, examined.disk));
        Ok(())
    }

    /// Opens the database again and tries what is pending. Returns whether it is open.
    fn reopen(&mut self) -> bool {
        let opened = match self.keep_place() {
            Ok(()) if self.open.is_none() => self.open_database(),
            result => result,
        };
        match opened {
            Ok(()) => {
                let idle = self.shared.queue().pending.is_empty();
                if idle {
                    self.recovered();
                    self.shared.set_health(Ok(()));
                } else {
                    self.commit(false);
                }
                self.open.is_some()
            }
            Err(fault) => {
                self.complain(&fault);
                self.shared.set_health(Err(fault.of_write()));
                self.shared.wake();
                false
            }
        }
    }

    /// The last commit, and the end of the file.
    fn finish(mut self) {
        if self.open.is_none() {
            self.reopen();
        }
        if self.open.is_some() {
            self.commit(true);
        }
        let outcome = self.shared.health();
        let mut queue = self.shared.queue();
        queue.last_commit = Some(outcome);
        queue.dump = None;
        let quick = queue.stats.of(Figure::StoreLastCommit) < QUICK;
        drop(queue);
        if let Some((mut database, disk)) = self.open.take() {
            if quick {
                compact(&mut database, &disk);
            }
            drop_quietly(database);
        }
        // The lock on the file goes with these.
        self.place = None;
        self.factory = Box::new(|| Err(io::ErrorKind::NotConnected.into()));
        self.shared.queue().finished = true;
        self.shared.progress.notify_all();
        self.shared.wake();
    }
}

/// One durable transaction.
fn write(database: &Database, rows: &Rows) -> Result<(), FileError> {
    let transaction = database.begin_write().map_err(Error::from)?;
    let mut rows = rows.iter().peekable();
    for table in Table::ALL {
        if rows.peek().is_none_or(|((next, _), _)| *next != table) {
            continue;
        }
        let mut opened = transaction.open_table(table.definition()).map_err(Error::from)?;
        while let Some(((_, key), value)) = rows.next_if(|((next, _), _)| *next == table) {
            match value {
                Some(value) => opened.insert(key.as_str(), value.as_slice()).map_err(Error::from)?,
                None => opened.remove(key.as_str()).map_err(Error::from)?,
            };
        }
    }
    transaction.commit().map_err(Error::from)?;
    Ok(())
}

/// Gives back what deleted rows left behind, if that is much.
fn compact(database: &mut Database, disk: &Disk) {
    let result = guarded(|| {
        let length = disk.len().map_err(FileError::Io)?;
        if length < 2 * WORTHWHILE {
            return Ok(());
        }
        let transaction = database.begin_write().map_err(Error::from)?;
        let stats = transaction.stats().map_err(Error::from)?;
        transaction.abort().map_err(Error::from)?;
        let used = stats.stored_bytes() + stats.metadata_bytes();
        if length.saturating_sub(2 * used) >= WORTHWHILE {
            database.compact().map_err(Error::from)?;
        }
        Ok(())
    });
    if let Err(fault) = result {
        log::debug!("not compacted: {fault}");
    }
}
