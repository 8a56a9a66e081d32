//! `lanrage backup`: a copy of the state, from the running daemon or from its file.

use super::ask::{self, DaemonClient};
use super::client::{self, ClientError};
use super::command::Invocation;
use super::measures::{count, size};
use super::table::escape;
use super::{CommandFailure, output, settings};
use lanrage::daemon::{Bell, SignalWatch, advice, check_threads};
use lanrage::store::backup::{self, RestoreError};
use lanrage::store::dump::{self, Secrets};
use lanrage::store::{self, FileError, OpenError};
use lanrage::wire::json;
use smol::channel::{self, Receiver, Sender};
use std::io::{self, BufRead, BufWriter, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::pin::Pin;

/// How many pieces, of 8 KiB at most, may wait for the disk.
const PIECES: usize = 4;

/// `lanrage backup FILE`.
pub fn run(invocation: &Invocation) -> Result<(), CommandFailure> {
    let name = invocation.argument(0).unwrap_or_default();
    let file = Path::new(name);
    let daemon = DaemonClient::of(invocation)?;
    let source = store::path_in(&daemon.state_dir);
    check_target(file, &source, invocation)?;
    let rows = copy(&daemon, settings::state_file(invocation, &daemon.state_dir), file)?;
    let bytes = std::fs::metadata(file).map_err(|error| cannot_write(file, &error))?.len();
    output::write(&match invocation.has("json") {
        true => {
            let text = json::object(|json| {
                json.key("file").string(name);
                json.key("rows").int(rows);
                json.key("bytes").int(bytes);
            });
            text + "\n"
        }
        false => format!(
            "Wrote {} ({}) to {}. It is as secret as a password: the hub's private key is in it.\n",
            count(rows, "row", "rows"),
            size(bytes),
            escape(name)
        ),
    })
}

fn cannot_write(file: &Path, error: &dyn std::fmt::Display) -> CommandFailure {
    CommandFailure::failed(format_args!("can't write {}: {error}", file.display()))
}

fn check_target(file: &Path, source: &Path, invocation: &Invocation) -> Result<(), CommandFailure> {
    if file.file_name().is_none() || file == Path::new("-") {
        return Err(invocation.wrong("a backup needs a file to be written to"));
    }
    let Ok(found) = std::fs::symlink_metadata(file) else { return Ok(()) };
    let shown = file.display();
    if found.is_dir() {
        return Err(CommandFailure::failed(format_args!("{shown} is a directory: name a file in it")));
    }
    if file.canonicalize().is_ok_and(|file| source.canonicalize().is_ok_and(|source| file == source)) {
        return Err(CommandFailure::failed(format_args!("{shown} is the state itself: choose another file")));
    }
    if !invocation.has("force") {
        return Err(CommandFailure::failed(format_args!(
            "{shown} exists: choose another file, or replace it with --force"
        )));
    }
    Ok(())
}

/// Makes `file` a copy of what the daemon has, or of `source` if none runs. Returns the number of rows.
fn copy(
    daemon: &DaemonClient,
    source: Result<PathBuf, CommandFailure>,
    file: &Path,
) -> Result<u64, CommandFailure> {
    check_threads().map_err(CommandFailure::failed)?;
    let stop = SignalWatch::new()
        .and_then(|signals| signals.stop(Bell::default()))
        .map_err(CommandFailure::failed)?;
    let (sender, receiver) = channel::bounded(PIECES);
    let socket = daemon.socket.clone();
    let fetch = std::thread::Builder::new().name("fetch".into()).spawn(move || {
        let mut output = PieceWriter(sender);
        match fetch(&socket, &mut output) {
            Err(BackupTrouble::NotRunning(message)) => {
                let source = source.map_err(BackupTrouble::Reading)?;
                from_file(&source, &mut BufWriter::new(output), message)
            }
            result => result,
        }
    });
    let fetch = fetch.map_err(CommandFailure::failed)?;
    let mut pieces = Pieces { receiver, stop: Box::pin(stop), is_stopped: false, piece: Vec::new(), at: 0 };
    let restored = backup::save(&mut pieces, file);
    if pieces.is_stopped {
        return Err(CommandFailure::failed("interrupted: nothing was written"));
    }
    match restored {
        Ok(rows) => Ok(rows),
        // The pieces have ended, so it has too, and may know why.
        Err(error @ RestoreError::Incomplete) => match fetch.join() {
            Ok(Err(BackupTrouble::Reading(failure))) => Err(failure),
            _ => Err(CommandFailure::failed(error)),
        },
        Err(RestoreError::Io(error)) => Err(cannot_write(file, &with_advice(error))),
        Err(error) => Err(CommandFailure::failed(error)),
    }
}

fn with_advice(error: io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "its directory does not exist: make it, or choose another".to_owned(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            format!("{error}; choose a place with more room")
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            format!("{error}; choose a directory that can be written")
        }
        _ => error.to_string(),
    }
}

/// Why nothing more can be read.
enum BackupTrouble {
    /// No daemon listens.
    NotRunning(String),
    /// Anything else.
    Reading(CommandFailure),
}

fn fetch(socket: &Path, output: &mut dyn Write) -> Result<(), BackupTrouble> {
    match client::download(socket, "GET", "/backup", output) {
        Ok((200, _)) => Ok(()),
        Ok((status, body)) => Err(BackupTrouble::Reading(ask::refusal(status, &body))),
        Err(error @ ClientError::NotRunning(_)) => Err(BackupTrouble::NotRunning(error.to_string())),
        Err(error) => Err(BackupTrouble::Reading(CommandFailure::failed(error))),
    }
}

fn from_file(source: &Path, output: &mut dyn Write, not_running: String) -> Result<(), BackupTrouble> {
    let result = dump::file(source, Secrets::Include, output);
    result.map(|_| ()).map_err(|error| {
        BackupTrouble::Reading(match error {
            // There is nothing here: most likely the wrong state directory.
            OpenError { error: FileError::Io(error), .. } if error.kind() == ErrorKind::NotFound => {
                CommandFailure::failed(not_running)
            }
            error => CommandFailure::failed(advice::on_store(&error)),
        })
    })
}

/// Sends what is written to it.
struct PieceWriter(Sender<Vec<u8>>);

impl Write for PieceWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.send_blocking(bytes.to_vec());
        sent.map(|()| bytes.len()).map_err(|_| ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads what was sent, until a signal comes: then reading fails, so that what was begun is removed.
struct Pieces<F> {
    receiver: Receiver<Vec<u8>>,
    stop: Pin<Box<F>>,
    is_stopped: bool,
    piece: Vec<u8>,
    at: usize,
}

impl<F: Future<Output = ()>> BufRead for Pieces<F> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.piece.len() && !self.is_stopped {
            let (receiver, stop) = (&self.receiver, &mut self.stop);
            let stopped = async {
                stop.await;
                None
            };
            // An empty piece is the end.
            let next = async { Some(receiver.recv().await.unwrap_or_default()) };
            let piece = smol::block_on(smol::future::or(stopped, next));
            self.is_stopped = piece.is_none();
            (self.piece, self.at) = (piece.unwrap_or_default(), 0);
        }
        match self.is_stopped {
            // Not `Interrupted`, which would be tried again.
            true => Err(io::Error::other("stopped by a signal")),
            false => Ok(&self.piece[self.at..]),
        }
    }

    fn consume(&mut self, count: usize) {
        self.at += count;
    }
}

impl<F: Future<Output = ()>> Read for Pieces<F> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(out)?;
        self.consume(count);
        Ok(count)
    }
}
