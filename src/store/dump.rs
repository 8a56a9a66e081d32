//! All rows as lines of JSON, and back into a file.
//!
//! One line a row, `{"table":"parties","key":"...","value":{...}}`, tables in the order of [`Table::ALL`], the
//! schema version among the rows of `meta`; then one last line, `{"rows":N}`, without which a dump is
//! incomplete.

use super::disk::{FileBackend, Lock, lock};
use super::dump_request::DumpRequest;
use super::open;
use super::queue::StoreShared;
use super::schema::{self, Table, VERSION_KEY};
use super::{FileError, OpenError};
use crate::wire::json::{self, JsonWriter};
use redb::{Builder, Database, Error, ReadTransaction, ReadableDatabase, WriteTransaction};
use smol::channel::{Receiver, Sender};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use super::dump_request::{Busy, Secrets};

/// The size of the pieces a dump is streamed in, in bytes; a long row makes a longer one.
const PIECE: usize = 16 << 10;
/// A reader that takes nothing for so long is given up: while a snapshot is in use, the file can only grow.
const STALLED: Duration = Duration::from_secs(60);
/// The stack of the dumping thread, in bytes.
const STACK: usize = 512 << 10;
/// The longest line that is read back, in bytes.
const MAX_LINE: u64 = 4 << 20;
/// How many rows are restored in one transaction.
const ROWS_PER_COMMIT: u64 = 1000;

/// Asks the writer for a snapshot between two commits.
pub(super) fn request(shared: &StoreShared, secrets: Secrets) -> Result<Receiver<Vec<u8>>, Busy> {
    let (request, receiver) = DumpRequest::new(&shared.dumping, secrets)?;
    shared.queue().dump = Some(request);
    shared.work.notify_one();
    Ok(receiver)
}

impl DumpRequest {
    /// Streams `snapshot` from a thread of its own.
    pub fn serve(self, snapshot: ReadTransaction) {
        let body = move || {
            let DumpRequest { sender, secrets, turn } = self;
            let mut piece = Vec::with_capacity(PIECE);
            let result = open::guarded(|| {
                write_lines(&snapshot, secrets, |line| {
                    piece.extend_from_slice(line);
                    if piece.len() >= PIECE {
                        send(&sender, std::mem::replace(&mut piece, Vec::with_capacity(PIECE)))?;
                    }
                    Ok(())
                })?;
                send(&sender, std::mem::take(&mut piece))?;
                // An empty piece says that this was all.
                Ok(send(&sender, Vec::new())?)
            });
            if let Err(fault) = result {
                log::warn!("a dump of the state was not finished: {fault}");
            }
            // Before the receiver sees the end, the next dump may be asked for.
            drop((snapshot, turn));
            drop(sender);
        };
        let spawned = std::thread::Builder::new().name("store-dump".into()).stack_size(STACK).spawn(body);
        if let Err(error) = spawned {
            log::warn!("no thread for a dump: {error}");
        }
    }
}

/// Sends one piece, unless the reader is gone or has stalled.
fn send(sender: &Sender<Vec<u8>>, piece: Vec<u8>) -> Result<(), Error> {
    let sent = async { sender.send(piece).await.map_err(|_| io::ErrorKind::BrokenPipe) };
    let stalled = async {
        smol::Timer::after(STALLED).await;
        Err(io::ErrorKind::TimedOut)
    };
    smol::block_on(smol::future::or(sent, stalled)).map_err(|kind| Error::Io(kind.into()))
}

/// Calls `emit` with every line of a dump, newline included.
fn write_lines(
    snapshot: &ReadTransaction,
    secrets: Secrets,
    mut emit: impl FnMut(&[u8]) -> Result<(), Error>,
) -> Result<u64, Error> {
    let mut rows = 0u64;
    open::each_row(snapshot, |table, key, value| {
        let value = json::parse(value)
            .map_err(|_| Error::Corrupted(format!("{} \"{key}\" is not JSON", table.name())))?;
        let mut line = json::object(|json| {
            json.key("table").string(table.name());
            json.key("key").string(key);
            match secrets {
                Secrets::Redact if schema::is_secret(table, key) => json.key("value").null(),
                _ => json.key("value").value(&value),
            }
        });
        line.push('\n');
        rows += 1;
        emit(line.as_bytes())
    })?;
    emit(format!("{{\"rows\":{rows}}}\n").as_bytes())?;
    Ok(rows)
}

/// Writes a dump of the file at `path`, which no daemon may have open and which is not changed, to `out`.
/// Returns the number of rows.
pub fn file(path: &Path, secrets: Secrets, out: &mut dyn Write) -> Result<u64, OpenError> {
    let io = |error| FileError::Io(error).at(path);
    let (_file, examined) = examine_file(path)?;
    let mut written = Ok(());
    let result = open::guarded(|| {
        let snapshot = examined.database.begin_read().map_err(Error::from)?;
        let emit = |line: &[u8]| {
            out.write_all(line).map_err(|error| {
                let kind = error.kind();
                written = Err(error);
                Error::Io(kind.into())
            })
        };
        Ok(write_lines(&snapshot, secrets, emit)?)
    });
    open::drop_quietly(examined.database);
    written.and_then(|()| out.flush()).map_err(io)?;
    result.map_err(|error| error.at(path))
}

/// Opens a file for reading only: nothing ever reaches it, even if it needs repair.
pub(super) fn examine_file(path: &Path) -> Result<(Arc<File>, open::Examined), OpenError> {
    let io = |error| FileError::Io(error).at(path);
    let file = File::open(path).map_err(io)?;
    if !file.metadata().map_err(io)?.is_file() {
        return Err(io(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")));
    }
    if lock(&file, false).map_err(io)? == Lock::Taken {
        return Err(FileError::InUse.at(path));
    }
    let file = Arc::new(file);
    let backend = Box::new(FileBackend::new(file.clone()));
    let examined = open::examine(backend, &schema::CURRENT).map_err(|error| error.at(path))?;
    Ok((file, examined))
}

/// Why a dump could not be made a file.
#[derive(Debug)]
pub enum RestoreError {
    /// The dump ends before its last line.
    Incomplete,
    /// A line is not what a dump consists of; the line's number, from 1.
    Malformed(u64),
    /// The dump was made without secrets, so it is no backup.
    Redacted,
    /// The dump comes from a later version of this program; its schema version.
    NewerSchema(u32),
    /// Another process has the target open.
    InUse(PathBuf),
    /// Reading or writing failed.
    Io(io::Error),
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RestoreError::Incomplete => f.write_str("the dump is incomplete: its last line is missing"),
            RestoreError::Malformed(line) => write!(f, "line {line} is not part of a dump"),
            RestoreError::Redacted => f.write_str("the dump was made without secrets and can't be restored"),
            RestoreError::NewerSchema(found) => write!(
                f,
                "the dump has schema version {found}, and this lanrage knows versions up to {}: use a newer one",
                schema::SCHEMA_VERSION
            ),
            RestoreError::InUse(path) => {
                write!(f, "{} is in use by a running lanrage: choose another file", path.display())
            }
            RestoreError::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RestoreError {}

impl From<io::Error> for RestoreError {
    fn from(error: io::Error) -> Self {
        RestoreError::Io(error)
    }
}

impl From<Error> for RestoreError {
    fn from(error: Error) -> Self {
        RestoreError::Io(match error {
            Error::Io(error) => error,
            other => io::Error::other(other.to_string()),
        })
    }
}

/// Builds a fresh, compact file at `path` (0600) from a dump that includes secrets. It appears there, in
/// place of an older one, only when it is complete and on the disk. Returns the number of rows.
pub fn restore(lines: impl BufRead, path: &Path) -> Result<u64, RestoreError> {
    if let Ok(target) = File::open(path)
        && lock(&target, false)? == Lock::Taken
    {
        return Err(RestoreError::InUse(path.to_owned()));
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".partial-{}", std::process::id()));
    let partial = path.with_file_name(name);
    let result = build(lines, &partial).and_then(|rows| {
        std::fs::rename(&partial, path)?;
        open::sync_directory(open::directory_of(path))?;
        Ok(rows)
    });
    if result.is_err() {
        // There may be nothing to remove.
        let _ = std::fs::remove_file(&partial);
    }
    result
}

fn build(mut lines: impl BufRead, path: &Path) -> Result<u64, RestoreError> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
    let file = Arc::new(file);
    let backend = FileBackend::new(file.clone());
    let mut builder = Builder::new();
    builder.set_cache_size(open::CACHE_SIZE);
    let mut database = builder.create_with_backend(backend).map_err(Error::from)?;
    let rows = fill(&database, &mut lines)?;
    database.compact().map_err(Error::from)?;
    drop(database);
    file.sync_all()?;
    Ok(rows)
}

/// Puts the rows of a dump into an empty database.
fn fill(database: &Database, lines: &mut impl BufRead) -> Result<u64, RestoreError> {
    let begin =
        || -> Result<WriteTransaction, RestoreError> { Ok(database.begin_write().map_err(Error::from)?) };
    let mut version = None;
    let mut rows = 0u64;
    let mut transaction = begin()?;
    for table in Table::ALL {
        transaction.open_table(table.definition()).map_err(Error::from)?;
    }
    loop {
        let line = read_line(lines)?;
        let malformed = || RestoreError::Malformed(rows + 1);
        if let Some(count) = line.strip_prefix("{\"rows\":").and_then(|rest| rest.strip_suffix('}')) {
            if count != rows.to_string() || !read_rest(lines)? {
                return Err(malformed());
            }
            break;
        }
        let (table, key, value) = parse(&line).ok_or_else(malformed)?;
        if schema::is_secret(table, &key) && value == "null" {
            return Err(RestoreError::Redacted);
        }
        if table == Table::Meta && key == VERSION_KEY {
            let found = schema::parse_version(value.as_bytes()).ok_or_else(malformed)?;
            if found > schema::SCHEMA_VERSION {
                return Err(RestoreError::NewerSchema(found));
            }
            version = Some(found);
        }
        let mut opened = transaction.open_table(table.definition()).map_err(Error::from)?;
        let older = opened.insert(key.as_str(), value.as_bytes()).map_err(Error::from)?.is_some();
        drop(opened);
        if older {
            return Err(malformed());
        }
        rows += 1;
        if rows.is_multiple_of(ROWS_PER_COMMIT) {
            transaction.commit().map_err(Error::from)?;
            transaction = begin()?;
        }
    }
    if version.is_none() {
        return Err(RestoreError::Malformed(rows + 1));
    }
    transaction.commit().map_err(Error::from)?;
    Ok(rows)
}

/// The next line of a dump, without its newline.
fn read_line(lines: &mut impl BufRead) -> Result<String, RestoreError> {
    let mut line = Vec::new();
    lines.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        return Err(RestoreError::Incomplete);
    }
    String::from_utf8(line).map_err(|_| RestoreError::Io(io::ErrorKind::InvalidData.into()))
}

/// Whether nothing follows the last line.
fn read_rest(lines: &mut impl BufRead) -> io::Result<bool> {
    Ok(lines.fill_buf()?.is_empty())
}

/// A row's line: its table, key and value.
fn parse(line: &str) -> Option<(Table, String, String)> {
    let line = json::parse(line.as_bytes()).ok()?;
    let table = Table::from_name(line.get("table")?.as_str()?)?;
    let mut value = JsonWriter::default();
    value.value(line.get("value")?);
    Some((table, line.get("key")?.as_str()?.to_owned(), value.finish()))
}
