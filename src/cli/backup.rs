//! `lanrage backup`: a copy of the state, from the running daemon or from its file.

use super::arguments::Invocation;
use super::ask::{self, Daemon};
use super::measures::{count, size};
use super::table::escape;
use super::{Failure, output};
use lanrage::daemon::stop_signal;
use lanrage::net::http_client::{self, ClientError};
use lanrage::store::dump::{self, RestoreError, Secrets};
use lanrage::store::{self, OpenError};
use lanrage::wire::json;
use std::io::{self, BufReader, ErrorKind, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// `lanrage backup FILE`.
pub fn run(invocation: &Invocation) -> Result<(), Failure> {
    let name = invocation.argument(0).unwrap_or_default();
    let file = Path::new(name);
    let daemon = Daemon::of(invocation)?;
    let source = store::path_in(&daemon.state_dir);
    check_target(file, &source, invocation)?;
    let rows = copy(&daemon, &source, file)?;
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
        false => format!("Wrote {} ({}) to {}.\n", count(rows, "row", "rows"), size(bytes), escape(name)),
    })
}

fn cannot_write(file: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::failed(format_args!("can't write {}: {error}", file.display()))
}

fn check_target(file: &Path, source: &Path, invocation: &Invocation) -> Result<(), Failure> {
    if file.file_name().is_none() || file == Path::new("-") {
        return Err(invocation.wrong("a backup needs a file to be written to"));
    }
    let Ok(found) = std::fs::symlink_metadata(file) else { return Ok(()) };
    let shown = file.display();
    if found.is_dir() {
        return Err(Failure::failed(format_args!("{shown} is a directory: name a file in it")));
    }
    if file.canonicalize().is_ok_and(|file| source.canonicalize().is_ok_and(|source| file == source)) {
        return Err(Failure::failed(format_args!("{shown} is the state itself: choose another file")));
    }
    if !invocation.has("force") {
        return Err(Failure::failed(format_args!(
            "{shown} exists: choose another file, or replace it with --force"
        )));
    }
    Ok(())
}

/// Makes `file` a copy of what the daemon has, or of `source` if none runs. Returns the number of rows.
fn copy(daemon: &Daemon, source: &Path, file: &Path) -> Result<u64, Failure> {
    let interrupted = watch_signals()?;
    let (reader, writer) = io::pipe().map_err(|error| cannot_write(file, &error))?;
    let mut writer = Stoppable { writer, stop: interrupted.clone() };
    // The pipe keeps what is under way small, however much there is and however slow the disk.
    let (read, restored) = std::thread::scope(|scope| {
        let read = scope.spawn(move || match fetch(daemon, &mut writer) {
            Err(Trouble::NotRunning(message)) => from_file(source, &mut writer, message),
            result => result,
        });
        let restored = dump::restore(BufReader::new(reader), file);
        (read.join(), restored)
    });
    if interrupted.load(Ordering::Relaxed) && restored.is_err() {
        return Err(Failure::failed("interrupted: nothing was written"));
    }
    match (read, restored) {
        (_, Ok(rows)) => Ok(rows),
        // Whichever came first is the reason of the other.
        (Ok(Err(Trouble::Reading(failure))), Err(RestoreError::Incomplete)) => Err(failure),
        (_, Err(RestoreError::Io(error))) => Err(cannot_write(file, &with_advice(error))),
        (_, Err(error)) => Err(Failure::failed(error)),
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
enum Trouble {
    /// No daemon listens.
    NotRunning(String),
    /// Anything else.
    Reading(Failure),
}

fn fetch(daemon: &Daemon, output: &mut dyn Write) -> Result<(), Trouble> {
    match http_client::download(&daemon.socket, "GET", "/backup", output) {
        Ok((200, _)) => Ok(()),
        Ok((status, body)) => Err(Trouble::Reading(ask::refusal(status, &body))),
        Err(error @ ClientError::NotRunning(_)) => Err(Trouble::NotRunning(error.to_string())),
        Err(error) => Err(Trouble::Reading(Failure::failed(error))),
    }
}

fn from_file(source: &Path, output: &mut dyn Write, not_running: String) -> Result<(), Trouble> {
    let result = dump::file(source, Secrets::Include, output);
    result.map(|_| ()).map_err(|error| {
        Trouble::Reading(match error {
            // There is nothing here: most likely the wrong state directory.
            OpenError::Io { error, .. } if error.kind() == ErrorKind::NotFound => {
                Failure::failed(not_running)
            }
            error => Failure::failed(error),
        })
    })
}

/// Sets the flag when SIGINT or SIGTERM comes, so that what was begun is removed.
fn watch_signals() -> Result<Arc<AtomicBool>, Failure> {
    let stop = stop_signal().map_err(Failure::failed)?;
    let flag = Arc::new(AtomicBool::new(false));
    let set = flag.clone();
    let watch = move || {
        smol::block_on(stop);
        set.store(true, Ordering::Relaxed);
    };
    std::thread::Builder::new().name("signals".into()).spawn(watch).map_err(Failure::failed)?;
    Ok(flag)
}

/// Takes nothing more once it is told to stop.
struct Stoppable<W> {
    writer: W,
    stop: Arc<AtomicBool>,
}

impl<W: Write> Write for Stoppable<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.stop.load(Ordering::Relaxed) {
            // Not `Interrupted`, which would be tried again.
            true => Err(io::Error::other("stopped by a signal")),
            false => self.writer.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}
