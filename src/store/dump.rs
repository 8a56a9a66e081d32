//! All rows as lines of JSON.
//!
//! One line a row, `{"table":"parties","key":"...","value":{...}}`, tables in the order of [`Table::ALL`], the
//! schema version among the rows of `meta`; then one last line, `{"rows":N}`, without which a dump is
//! incomplete. With its secrets it is a [backup](super::backup), and begins with a line that says so.

use super::backup;
use super::disk::{FileBackend, Lock, lock};
use super::dump_request::DumpRequest;
use super::open;
use super::queue::StoreShared;
use super::schema::{self, Table};
use super::{FileError, OpenError};
use crate::wire::json;
use redb::{Error, ReadableDatabase};
use smol::channel::{Receiver, Sender};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use super::dump_request::{Busy, Secrets};

/// The size of the pieces a dump is streamed in, in bytes; a long row makes a longer one.
const PIECE: usize = 16 << 10;
/// A reader that takes nothing for so long is given up: while a snapshot is in use, the file can only grow.
const STALLED: Duration = Duration::from_secs(60);
/// The stack of the dumping thread, in bytes.
const STACK: usize = 512 << 10;

/// Is called with every row: its table, key and value.
pub(super) type RowVisitor<'a> = dyn FnMut(Table, &str, &[u8]) -> Result<(), Error> + 'a;

/// Asks the writer for a snapshot between two commits.
pub(super) fn request(shared: &StoreShared, secrets: Secrets) -> Result<Receiver<Vec<u8>>, Busy> {
    let (request, receiver) = DumpRequest::new(&shared.dumping, secrets)?;
    shared.queue().dump = Some(request);
    shared.work.notify_one();
    Ok(receiver)
}

impl DumpRequest {
    /// Streams the rows of a snapshot from a thread of its own.
    pub fn serve(self, rows: impl FnOnce(&mut RowVisitor<'_>) -> Result<(), Error> + Send + 'static) {
        let body = move || {
            let DumpRequest { sender, secrets, turn } = self;
            let mut piece = Vec::with_capacity(PIECE);
            let result = open::guarded(|| {
                write_lines(rows, secrets, |line| {
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
            drop(turn);
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
pub(super) fn write_lines(
    each_row: impl FnOnce(&mut RowVisitor<'_>) -> Result<(), Error>,
    secrets: Secrets,
    mut emit: impl FnMut(&[u8]) -> Result<(), Error>,
) -> Result<u64, Error> {
    let mut rows = 0u64;
    if secrets == Secrets::Include {
        emit(backup::NOTICE.as_bytes())?;
    }
    each_row(&mut |table, key, value| {
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

/// Writes a dump of the file at `path`, which no daemon may have open and which is not changed, to `out`; of a backup
/// without its secrets. Returns the number of rows.
pub fn file(path: &Path, secrets: Secrets, out: &mut dyn Write) -> Result<u64, OpenError> {
    let io = |error| FileError::Io(error).at(path);
    if secrets == Secrets::Redact
        && let Some(mut lines) = backup::open(path).map_err(io)?
    {
        return backup::redact(&mut lines, out).map_err(|error| FileError::from(error).at(path));
    }
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
        Ok(write_lines(|visit| open::each_row(&snapshot, visit), secrets, emit)?)
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
