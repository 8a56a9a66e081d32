//! Backups: a dump with its secrets, and how a state file is made of it.
//!
//! The first line says in words how secret the file is. Dumps of older versions have no such line, and are as good.

use super::FileError;
use super::disk::{FileBackend, Lock, lock};
use super::open;
use super::schema::{self, Table};
use crate::wire::json::{self, JsonWriter};
use redb::{Builder, Database, Error, WriteTransaction};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The first line.
pub(super) const NOTICE: &str = "{\"secret\":\"Keep this file like a password. It is a backup of lanrage: the private key \
    of the hub and the addresses of all devices are in it.\"}\n";
/// How such a line begins, whatever it says.
const NOTICE_BEGINS: &str = "{\"secret\":\"";
/// The longest line that is read back, in bytes.
const MAX_LINE: u64 = 4 << 20;
/// How many rows are restored in one transaction.
const ROWS_PER_COMMIT: u64 = 1000;

/// Whether a file is a backup.
pub(super) fn is_backup(path: &Path) -> bool {
    open(path).is_ok_and(|lines| lines.is_some())
}

/// Why a backup could not be read, or not be made a file.
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

impl From<RestoreError> for FileError {
    fn from(error: RestoreError) -> Self {
        match error {
            RestoreError::Io(error) => FileError::Io(error),
            RestoreError::InUse(_) => FileError::InUse,
            RestoreError::NewerSchema(found) => {
                FileError::NewerSchema { found, supported: schema::SCHEMA_VERSION }
            }
            error => FileError::Corrupt(error.to_string()),
        }
    }
}

/// The lines of the backup at `path`; `None` if it is none, such as a state file, which backups of older versions are.
pub(super) fn open(path: &Path) -> io::Result<Option<BufReader<File>>> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Ok(None);
    }
    let mut lines = BufReader::new(file);
    let is_text = lines.fill_buf()?.starts_with(b"{");
    Ok(is_text.then_some(lines))
}

/// Keeps a backup at `path` (0600), with its first line. It appears there, in place of an older one, only when it is
/// complete and on the disk. Returns the number of rows.
pub fn save(lines: &mut dyn BufRead, path: &Path) -> Result<u64, RestoreError> {
    appear(path, |file| {
        let mut out = BufWriter::new(&*file);
        out.write_all(NOTICE.as_bytes())?;
        let rows = read(lines, &mut |row| Ok(writeln!(out, "{}", row.line)?))?;
        writeln!(out, "{{\"rows\":{rows}}}")?;
        out.flush()?;
        drop(out);
        Ok(rows)
    })
}

/// Builds a fresh, compact state file at `path` (0600) of a backup. It appears there, in place of an older one, only when
/// it is complete and on the disk. Returns the number of rows.
pub fn restore(lines: &mut dyn BufRead, path: &Path) -> Result<u64, RestoreError> {
    appear(path, |file| {
        let mut builder = Builder::new();
        builder.set_cache_size(open::CACHE_SIZE);
        let backend = FileBackend::new(file);
        let mut database = builder.create_with_backend(backend).map_err(Error::from)?;
        let rows = fill(&database, lines)?;
        database.compact().map_err(Error::from)?;
        Ok(rows)
    })
}

fn appear(
    path: &Path,
    write: impl FnOnce(Arc<File>) -> Result<u64, RestoreError>,
) -> Result<u64, RestoreError> {
    if let Ok(target) = File::open(path)
        && lock(&target, false)? == Lock::Taken
    {
        return Err(RestoreError::InUse(path.to_owned()));
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".partial-{}", std::process::id()));
    let partial = path.with_file_name(name);
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&partial)?;
    let file = Arc::new(file);
    let result = write(file.clone()).and_then(|rows| {
        file.sync_all()?;
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

/// Puts the rows of a backup into an empty database.
fn fill(database: &Database, lines: &mut dyn BufRead) -> Result<u64, RestoreError> {
    let begin =
        || -> Result<WriteTransaction, RestoreError> { Ok(database.begin_write().map_err(Error::from)?) };
    let commit = |transaction: Option<WriteTransaction>| -> Result<(), RestoreError> {
        Ok(transaction.map_or(Ok(()), WriteTransaction::commit).map_err(Error::from)?)
    };
    let mut transaction = Some(begin()?);
    for table in Table::ALL {
        transaction
            .iter()
            .try_for_each(|all| all.open_table(table.definition()).map(drop))
            .map_err(Error::from)?;
    }
    let mut waiting = 0;
    let rows = read(lines, &mut |row| {
        if waiting == ROWS_PER_COMMIT {
            waiting = 0;
            commit(transaction.take())?;
        }
        waiting += 1;
        let transaction = match &mut transaction {
            Some(transaction) => transaction,
            none => none.insert(begin()?),
        };
        let mut opened = transaction.open_table(row.table.definition()).map_err(Error::from)?;
        let older = opened.insert(row.key, row.value.as_bytes()).map_err(Error::from)?.is_some();
        if older { Err(RestoreError::Malformed(row.number)) } else { Ok(()) }
    })?;
    commit(transaction)?;
    Ok(rows)
}

/// Writes a backup to `out`, without its secrets and the line that tells of them.
pub(super) fn redact(lines: &mut dyn BufRead, out: &mut dyn Write) -> Result<u64, RestoreError> {
    let rows = read(lines, &mut |row| {
        match schema::is_secret(row.table, row.key) {
            true => {
                let line = json::object(|json| {
                    json.key("table").string(row.table.name());
                    json.key("key").string(row.key);
                    json.key("value").null();
                });
                writeln!(out, "{line}")?;
            }
            false => writeln!(out, "{}", row.line)?,
        }
        Ok(())
    })?;
    writeln!(out, "{{\"rows\":{rows}}}")?;
    out.flush()?;
    Ok(rows)
}

/// One row, and the line that it is on.
pub(super) struct BackupRow<'a> {
    number: u64,
    line: &'a str,
    pub table: Table,
    key: &'a str,
    value: &'a str,
}

impl BackupRow<'_> {
    fn is_version(&self) -> bool {
        schema::is_version(self.table, self.key)
    }

    /// The schema version, if that is what it says.
    pub fn version(&self) -> Option<u32> {
        self.is_version().then(|| schema::parse_version(self.value.as_bytes())).flatten()
    }
}

/// Calls `visit` with every row of a backup that is whole, or finds out that it is not. Returns their number.
pub(super) fn read(
    lines: &mut dyn BufRead,
    visit: &mut dyn FnMut(&BackupRow<'_>) -> Result<(), RestoreError>,
) -> Result<u64, RestoreError> {
    let (mut number, mut rows, mut is_versioned) = (0, 0u64, false);
    loop {
        number += 1;
        let malformed = || RestoreError::Malformed(number);
        let line = String::from_utf8(read_line(lines)?).map_err(|_| malformed())?;
        if number == 1 && line.starts_with(NOTICE_BEGINS) {
            continue;
        }
        if let Some(count) = line.strip_prefix("{\"rows\":").and_then(|rest| rest.strip_suffix('}')) {
            let is_last = lines.fill_buf()?.is_empty();
            return match count == rows.to_string() && is_last && is_versioned {
                true => Ok(rows),
                false => Err(malformed()),
            };
        }
        let (table, key, value) = parse(&line).ok_or_else(malformed)?;
        if schema::is_secret(table, &key) && value == "null" {
            return Err(RestoreError::Redacted);
        }
        let row = BackupRow { number, line: &line, table, key: &key, value: &value };
        if row.is_version() {
            let found = schema::parse_version(value.as_bytes()).ok_or_else(malformed)?;
            if found > schema::SCHEMA_VERSION {
                return Err(RestoreError::NewerSchema(found));
            }
            is_versioned = true;
        }
        visit(&row)?;
        rows += 1;
    }
}

/// The next line, without its newline.
fn read_line(lines: &mut dyn BufRead) -> Result<Vec<u8>, RestoreError> {
    let mut line = Vec::new();
    lines.take(MAX_LINE).read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        return Err(RestoreError::Incomplete);
    }
    Ok(line)
}

/// A row's line: its table, key and value.
fn parse(line: &str) -> Option<(Table, String, String)> {
    let line = json::parse(line.as_bytes()).ok()?;
    let table = Table::from_name(line.get("table")?.as_str()?)?;
    let mut value = JsonWriter::default();
    value.value(line.get("value")?);
    Some((table, line.get("key")?.as_str()?.to_owned(), value.finish()))
}
