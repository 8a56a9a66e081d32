//! The state in a file: redb.

use super::disk::{BackendFactory, Disk};
use super::dump_request::DumpRequest;
use super::engine::Engine;
use super::open::{self, Examined, FileError, drop_quietly, guarded};
use super::queue::Rows;
use super::schema::{Schema, Table};
use super::state_file::{Found, StateFile};
use crate::time::Clock;
use redb::{Database, Error, ReadableDatabase, StorageBackend};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A file is compacted at the end if at least this much would be won, in bytes, and it is mostly air.
const WORTHWHILE: u64 = 256 << 10;

/// The database in a file, or in what a test has in its place.
pub(super) struct FileEngine {
    path: PathBuf,
    /// Where the next start looks for it, if it is a file.
    state_file: Option<StateFile>,
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
}

impl FileEngine {
    /// Over a database that was just opened, or, if it can't be written yet, is to be opened again.
    pub fn new(
        path: &Path,
        state_file: Option<StateFile>,
        examined: Examined,
        is_writable: bool,
        factory: BackendFactory,
        clock: Clock,
        schema: &'static Schema,
    ) -> Self {
        let established = examined.version.is_some();
        let sync_failed = examined.disk.sync_failed();
        let mut open = Some((examined.database, examined.disk));
        if !is_writable && let Some((database, _)) = open.take() {
            drop_quietly(database);
        }
        let path = path.to_owned();
        FileEngine {
            path,
            state_file,
            intruder: None,
            open,
            sync_failed,
            established,
            factory,
            clock,
            schema,
        }
    }

    /// redb refuses everything after a failure, so the database is dropped, to be opened again.
    fn drop_database(&mut self) {
        if let Some((database, disk)) = self.open.take() {
            self.sync_failed |= disk.sync_failed();
            drop_quietly(database);
        }
    }

    /// Sees to it that what is committed is where the next start looks for it.
    fn keep_state_file(&mut self) -> Result<(), FileError> {
        let found = self.state_file.as_ref().map_or(Found::Own, StateFile::found);
        if found == Found::Own {
            return Ok(());
        }
        // It is going to be copied: nothing may write to it any more.
        self.drop_database();
        let Some(state_file) = &mut self.state_file else { return Ok(()) };
        let first = self.intruder.replace(found) != Some(found);
        let path = self.path.display();
        if found == Found::Nothing {
            if first {
                log::error!("{path} was deleted or renamed while in use: it is written again");
            }
            state_file.put_back().map_err(FileError::Io)?;
            self.factory = open::file_factory(state_file.file());
            self.intruder = None;
            return self.open_database();
        }
        if first {
            match state_file.save_beside((self.clock)().unix) {
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
}

impl Engine for FileEngine {
    const RETRY: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(10)];

    fn is_open(&self) -> bool {
        self.open.is_some()
    }

    fn reopen(&mut self) -> Result<bool, FileError> {
        self.keep_state_file()?;
        if self.open.is_none() {
            self.open_database()?;
        }
        Ok(false)
    }

    fn commit(&mut self, rows: &Rows, _told: &str) -> Result<(), FileError> {
        let Some((database, _)) = &self.open else {
            return Err(FileError::Io(io::ErrorKind::NotConnected.into()));
        };
        let written = guarded(|| write(database, rows)).and_then(|()| self.keep_state_file());
        match written {
            Ok(()) => self.established = true,
            Err(_) => self.drop_database(),
        }
        written
    }

    fn size(&self) -> u64 {
        self.open.as_ref().map_or(0, |(_, disk)| disk.len().unwrap_or(0))
    }

    fn dump(&self, request: DumpRequest) {
        let Some((database, _)) = &self.open else { return };
        match database.begin_read() {
            Ok(snapshot) => request.serve(move |visit| open::each_row(&snapshot, visit)),
            Err(error) => log::warn!("no snapshot for a dump: {error}"),
        }
    }

    fn close(mut self, quick: bool) {
        if let Some((mut database, disk)) = self.open.take() {
            if quick {
                compact(&mut database, &disk);
            }
            drop_quietly(database);
        }
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
