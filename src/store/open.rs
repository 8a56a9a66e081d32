//! Opening a database: lock, examine, load, set aside what is damaged, migrate.

use super::Row;
use super::disk::{BackendFactory, Disk, FileBackend, Lock, lock};
use super::schema::{self, Schema, Table};
use crate::durability::WriteError;
use crate::sys::in_a_copy;
use crate::time::UnixTime;
use redb::{Builder, Database, Error, ReadTransaction, ReadableDatabase, ReadableTable, StorageBackend};
use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// redb's cache in bytes, for reading and writing together. All rows are in memory anyway; this only has
/// to hold the pages that one small commit touches.
pub(super) const CACHE_SIZE: usize = 256 << 10;
/// The most that its cache may be in a copy of the process, which looks at every page several times and is gone before
/// this process keeps any row.
const REHEARSAL_CACHE: usize = 16 << 20;

/// What is wrong with a state file.
#[derive(Debug)]
pub enum FileError {
    /// Another process has it open.
    InUse,
    /// It was written by a later version of this program.
    NewerSchema {
        /// The version in the file.
        found: u32,
        /// The latest version that this program knows.
        supported: u32,
    },
    /// It can't be read or written; what the system said.
    Io(io::Error),
    /// Another instance has the lease.
    Fenced,
    /// It is a backup: what was meant is to go back to that.
    Backup,
    /// It is damaged; how. `Store::open` never says so: it sets the file aside.
    Corrupt(String),
}

impl FileError {
    /// With the file or directory that it is about.
    pub fn at(self, path: &Path) -> OpenError {
        OpenError { path: path.to_owned(), error: self }
    }

    /// The error for those who wait for a change that could not be written because of this.
    pub(super) fn of_write(&self) -> WriteError {
        match self {
            FileError::Io(error) if is_full(error) => WriteError::Full,
            FileError::Fenced => WriteError::Fenced,
            _ => WriteError::Failing,
        }
    }
}

impl From<Error> for FileError {
    fn from(error: Error) -> Self {
        match error {
            Error::DatabaseAlreadyOpen => FileError::InUse,
            // An error of the system has a number. One that redb makes of damaged bytes has none.
            Error::Io(error) if error.raw_os_error().is_some() => FileError::Io(error),
            other => FileError::Corrupt(other.to_string()),
        }
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileError::InUse => f.write_str("another process has it open"),
            FileError::NewerSchema { found, .. } => write!(f, "it has schema version {found}"),
            FileError::Io(error) => error.fmt(f),
            FileError::Fenced => f.write_str("another instance has taken over"),
            FileError::Backup => f.write_str("it is a backup"),
            FileError::Corrupt(reason) => f.write_str(reason),
        }
    }
}

/// A state file that can't be used, and why.
#[derive(Debug)]
pub struct OpenError {
    /// The file, or the directory that it should be in.
    pub path: PathBuf,
    /// What is wrong with it.
    pub error: FileError,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.error {
            FileError::InUse => {
                write!(f, "{path} is in use: another lanrage is running with this state directory")
            }
            FileError::NewerSchema { found, supported } => write!(
                f,
                "{path} has schema version {found}, and this lanrage knows versions up to {supported}: it was written \
                 by a newer lanrage (the file was not changed)"
            ),
            FileError::Io(_) | FileError::Fenced => write!(f, "cannot use {path}: {}", self.error),
            FileError::Backup => {
                write!(f, "{path} is a backup, not a state file (it was not changed)")
            }
            FileError::Corrupt(reason) => write!(f, "{path} is damaged ({reason})"),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.error {
            FileError::Io(error) => Some(error),
            _ => None,
        }
    }
}

/// What was done about a damaged file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovery {
    /// Where the damaged file is now; `None` if it was good enough to keep, with the last commit that was
    /// still whole.
    pub moved_to: Option<PathBuf>,
    /// What was wrong with it.
    pub reason: String,
}

/// Whether `error` says that there is no room.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// Runs `work`, and reports a panic of redb as damage. In builds where a panic ends the process it does so here too:
/// there a file is tried in a copy of the process before it is used, and damage done after that is found at the next
/// start.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, FileError>) -> Result<T, FileError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        Err(FileError::Corrupt(format!("the database engine gave up: {text}")))
    })
}

/// Closes a database that may be in any state.
pub(super) fn drop_quietly(database: Database) {
    if guarded(|| {
        drop(database);
        Ok(())
    })
    .is_err()
    {
        log::debug!("the database engine gave up while closing");
    }
}

/// A database that was found good. Nothing has been written to it yet.
pub(super) struct Examined {
    pub database: Database,
    pub disk: Disk,
    /// The version in it; `None` if it is new.
    pub version: Option<u32>,
    /// The process that wrote it last did not close it.
    pub unclean: bool,
    /// The last commit was not whole, and the one before it counts. In an unclean file that is normal: a power cut
    /// during a commit leaves it so.
    pub rolled_back: bool,
    /// It was closed, and yet not whole.
    pub repaired: bool,
    rows: Vec<Row>,
}

/// Opens what `backend` holds, verifies every checksum in it and loads it, without changing it.
pub(super) fn examine(backend: Box<dyn StorageBackend>, schema: &Schema) -> Result<Examined, FileError> {
    let disk = Disk::new(backend).map_err(FileError::Io)?;
    let verified = cfg!(panic = "abort") && rehearse(&disk, schema)?;
    guarded(|| {
        let mut rows = Vec::new();
        let examined = inspect(disk, schema, CACHE_SIZE, verified, &mut |table, key, value| {
            rows.extend(loaded(table, key, value));
        })?;
        Ok(Examined { rows, ..examined })
    })
}

/// Opens the database in a copy of this process first, for builds in which a panic of redb would end the process.
/// Returns whether every checksum was found right.
fn rehearse(disk: &Disk, schema: &Schema) -> Result<bool, FileError> {
    let whole = || match inspect(disk.clone(), schema, REHEARSAL_CACHE, false, &mut |_, _, _| ()) {
        Ok(examined) => {
            let whole = !examined.repaired;
            // Nothing is left to be found out by closing it.
            std::mem::forget(examined);
            whole
        }
        Err(_) => false,
    };
    match in_a_copy(whole) {
        Ok(Some(whole)) => Ok(whole),
        Ok(None) => Err(FileError::Corrupt("the database engine gave up".into())),
        Err(error) => {
            log::warn!("the state file is opened without a rehearsal: {error}");
            Ok(false)
        }
    }
}

/// Opens it, and calls `visit` with every row, without keeping any.
fn inspect(
    disk: Disk,
    schema: &Schema,
    cache: usize,
    verified: bool,
    visit: &mut dyn FnMut(Table, &str, &[u8]),
) -> Result<Examined, FileError> {
    let unclean = Arc::new(AtomicBool::new(false));
    let rolled_back = Arc::new(AtomicBool::new(false));
    let mut builder = Builder::new();
    builder.set_cache_size(cache).set_repair_callback({
        let (unclean, rolled_back) = (unclean.clone(), rolled_back.clone());
        move |session| {
            unclean.store(true, Ordering::Relaxed);
            // redb reports 0.3 only when the last commit was not whole, and leaves it out otherwise.
            if (0.2..0.5).contains(&session.progress()) {
                rolled_back.store(true, Ordering::Relaxed);
            }
        }
    });
    let mut database = builder.create_with_backend(disk.clone()).map_err(Error::from)?;
    let unclean = unclean.load(Ordering::Relaxed);
    let rolled_back = rolled_back.load(Ordering::Relaxed);
    // An unclean file has been verified on the way.
    let repaired = !verified && !unclean && !database.check_integrity().map_err(Error::from)?;
    let transaction = database.begin_read().map_err(Error::from)?;
    let version = schema::stored_version(&transaction)?;
    if let Some(found) = version.filter(|found| *found > schema.version) {
        return Err(FileError::NewerSchema { found, supported: schema.version });
    }
    if version.is_some() {
        each_row(&transaction, |table, key, value| {
            visit(table, key, value);
            Ok(())
        })?;
    }
    drop(transaction);
    Ok(Examined { database, disk, version, unclean, rolled_back, repaired, rows: Vec::new() })
}

impl Examined {
    /// Lets the database write, and makes or migrates the tables.
    pub fn settle(&mut self, schema: &Schema) -> Result<(), FileError> {
        guarded(|| {
            self.disk.release().map_err(FileError::Io)?;
            if self.version == Some(schema.version) {
                return Ok(());
            }
            let transaction = self.database.begin_write().map_err(Error::from)?;
            schema::migrate(&transaction, self.version, schema)?;
            transaction.commit().map_err(Error::from)?;
            self.version = Some(schema.version);
            self.rows.clear();
            each_row(&self.database.begin_read().map_err(Error::from)?, |table, key, value| {
                self.rows.extend(loaded(table, key, value));
                Ok(())
            })?;
            Ok(())
        })
    }

    /// The rows, once.
    pub fn take_rows(&mut self) -> Vec<Row> {
        std::mem::take(&mut self.rows)
    }
}

/// The row, if it is one for the caller: the store's own row, the schema version, is not.
fn loaded(table: Table, key: &str, value: &[u8]) -> Option<Row> {
    let own = schema::is_version(table, key);
    (!own).then(|| Row { table, key: key.to_owned(), value: Some(value.to_vec()) })
}

/// Calls `visit` with every row, table by table and in key order. A table that an older version did not
/// have counts as empty.
pub(super) fn each_row(
    transaction: &ReadTransaction,
    mut visit: impl FnMut(Table, &str, &[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    for table in Table::ALL {
        let opened = match transaction.open_table(table.definition()) {
            Ok(opened) => opened,
            Err(redb::TableError::TableDoesNotExist(_)) => continue,
            Err(error) => return Err(error.into()),
        };
        for row in opened.iter()? {
            let (key, value) = row?;
            visit(table, key.value(), value.value())?;
        }
    }
    Ok(())
}

/// Sees to it that there is a directory (0700).
pub fn make_directory(directory: &Path) -> Result<(), OpenError> {
    if directory.is_dir() {
        return Ok(());
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .and_then(|()| sync_directory(directory_of(directory)))
        .map_err(|error| FileError::Io(error).at(directory))
}

/// Opens and locks the file for a daemon, creating it (0600) and its directory (0700). Says whether it did.
pub(super) fn open_file(path: &Path) -> Result<(Arc<File>, bool), OpenError> {
    let io = |error| FileError::Io(error).at(path);
    let directory = directory_of(path);
    make_directory(directory)?;
    loop {
        let is_new = !path.exists();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(io)?;
        match lock(&file, true).map_err(io)? {
            Lock::Held => {}
            Lock::Taken => return Err(FileError::InUse.at(path)),
            Lock::Unavailable => log::warn!(
                "the file system of {} has no locks: make sure that only one lanrage uses it",
                path.display()
            ),
        }
        let metadata = file.metadata().map_err(io)?;
        // Between opening and locking, another daemon may have set the file aside.
        match path.metadata() {
            Ok(there) if (there.ino(), there.dev()) == (metadata.ino(), metadata.dev()) => {}
            Ok(_) => continue,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(io(error)),
        }
        if !metadata.is_file() {
            return Err(io(io::Error::new(ErrorKind::InvalidInput, "it is not a regular file")));
        }
        if metadata.mode() & 0o077 != 0
            && let Err(error) = file.set_permissions(Permissions::from_mode(0o600))
        {
            log::warn!("{} can be read by others, and that can't be changed: {error}", path.display());
        }
        if is_new {
            sync_directory(directory).map_err(io)?;
        }
        return Ok((Arc::new(file), is_new));
    }
}

/// A factory of backends over one locked file. A reopen uses the same file, so the lock is never let go,
/// and a disk that went away does not come back as another, empty one.
pub(super) fn file_factory(file: Arc<File>) -> BackendFactory {
    Box::new(move || Ok(Box::new(FileBackend::new(file.clone()))))
}

/// Renames a damaged file: see [`unused_name`].
pub(super) fn set_aside(path: &Path, now: UnixTime) -> io::Result<PathBuf> {
    let target = unused_name(path, "corrupt", now);
    std::fs::rename(path, &target)?;
    sync_directory(directory_of(path))?;
    Ok(target)
}

/// `<name>.<why>-<unix seconds>`, or, where that exists, one with `-2` and so on behind it.
pub(super) fn unused_name(path: &Path, why: &str, now: UnixTime) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{why}-{}", now.as_secs()));
    let mut target = path.with_file_name(&name);
    let mut count = 1u32;
    while target.symlink_metadata().is_ok() {
        count += 1;
        let mut numbered = name.clone();
        numbered.push(format!("-{count}"));
        target = path.with_file_name(numbered);
    }
    target
}

/// The directory that `path` is in.
pub(super) fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    }
}

/// Makes a new name in `directory` durable.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    match File::open(directory)?.sync_all() {
        // Some file systems can't, and then need not.
        Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(()),
        result => result,
    }
}
