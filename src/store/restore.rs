//! Putting a backup in place of the state, which no daemon has open then.

use super::backup;
use super::check::{Report, check};
use super::dump_request::DumpPermit;
use super::open::{self, FileError, OpenError, directory_of, sync_directory, unused_name};
use crate::time::UnixTime;
use smol::channel::{Receiver, Sender};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

/// How many pieces of a backup that comes may wait for the disk.
const PIECES: usize = 2;

/// What came of it.
#[derive(Debug)]
pub struct RestoredState {
    /// What is in the backup.
    pub report: Report,
    /// Where the state of before is now, if there was one.
    pub previous: Option<PathBuf>,
}

/// A backup that is on its way to a running daemon.
pub struct IncomingBackup {
    /// For its pieces; an empty one is the end of it.
    pub pieces: Sender<Vec<u8>>,
    /// What came of it.
    pub outcome: Receiver<Result<StagedState, OpenError>>,
}

/// A state that is ready to take the place of the one there is. It is removed if it is not put there.
#[derive(Debug)]
pub struct StagedState {
    path: PathBuf,
    new: PathBuf,
    report: Report,
}

impl Drop for StagedState {
    fn drop(&mut self) {
        // There is nothing any more if it was put in place.
        let _ = std::fs::remove_file(&self.new);
    }
}

/// Puts the state that the backup `from` holds in place of the state file `path`, with the same owner. What was there is
/// kept under another name. A crash leaves the one or the other; a backup that is not whole, and a state that a daemon has
/// open, are left alone.
pub fn restore(from: &Path, path: &Path, now: UnixTime) -> Result<RestoredState, OpenError> {
    // Locked until the end: no daemon starts meanwhile.
    let (_state, is_new) = open::open_file(path)?;
    let restored = stage(from, path, now).and_then(|staged| staged.exchange(is_new, now));
    if restored.is_err() && is_new {
        // If it stays after all, the next start begins with it.
        let _ = std::fs::remove_file(path);
    }
    restored
}

/// Makes a state of the backup `from` beside the state file `path`, whose place it can take then.
pub fn stage(from: &Path, path: &Path, now: UnixTime) -> Result<StagedState, OpenError> {
    let report = check(from)?;
    // A file without anything in it is a state that was never used.
    if !report.is_good() || report.schema_version.is_none() {
        return Err(FileError::Corrupt("it is not whole".into()).at(from));
    }
    let staged = StagedState { path: path.to_owned(), new: unused_name(path, "restoring", now), report };
    staged.fill(from).map_err(|error| error.at(path))?;
    Ok(staged)
}

/// Takes a backup and makes a state of it, beside the state file `path`, in a thread of its own.
pub(super) fn receive(path: PathBuf, turn: DumpPermit, now: UnixTime) -> io::Result<IncomingBackup> {
    let (pieces, received) = smol::channel::bounded(PIECES);
    let (sender, outcome) = smol::channel::bounded(1);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".uploaded");
    let upload = path.with_file_name(name);
    let body = move || {
        let kept = keep(&upload, &received).map_err(|error| FileError::Io(error).at(&upload));
        let staged = kept.and_then(|()| stage(&upload, &path, now));
        // There may be nothing to remove.
        let _ = std::fs::remove_file(&upload);
        drop(turn);
        // Who does not wait any more does not want it.
        let _ = sender.try_send(staged);
    };
    std::thread::Builder::new().name("store-restore".into()).spawn(body)?;
    Ok(IncomingBackup { pieces, outcome })
}

fn keep(upload: &Path, pieces: &Receiver<Vec<u8>>) -> io::Result<()> {
    // What a crash has left.
    let _ = std::fs::remove_file(upload);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(upload)?;
    loop {
        match pieces.recv_blocking() {
            Ok(piece) if piece.is_empty() => return Ok(()),
            Ok(piece) => file.write_all(&piece)?,
            Err(_) => return Err(ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl StagedState {
    /// How many rows are in it.
    pub fn rows(&self) -> u64 {
        self.report.rows.iter().map(|(_, rows)| rows).sum()
    }

    fn fill(&self, from: &Path) -> Result<(), FileError> {
        match backup::open(from).map_err(FileError::Io)? {
            Some(mut lines) => drop(backup::restore(&mut lines, &self.new)?),
            // A backup of an older version is a state already.
            None => copy(from, &self.new).map_err(FileError::Io)?,
        }
        // A service runs as a user of its own, and root is who restores.
        let give = || -> io::Result<()> {
            let new = File::open(&self.new)?;
            let (own, state) = (new.metadata()?, self.path.metadata()?);
            // An empty one was made just now, by whoever restores.
            let owner = if state.len() == 0 { directory_of(&self.path).metadata()? } else { state };
            match (own.uid(), own.gid()) == (owner.uid(), owner.gid()) {
                true => Ok(()),
                false => fchown(&new, Some(owner.uid()), Some(owner.gid())),
            }
        };
        give().map_err(FileError::Io)
    }

    /// Puts it in place of the state, which no daemon may have open.
    pub fn put(self, now: UnixTime) -> Result<RestoredState, OpenError> {
        let (_state, is_new) = open::open_file(&self.path)?;
        self.exchange(is_new, now)
    }

    fn exchange(self, is_new: bool, now: UnixTime) -> Result<RestoredState, OpenError> {
        let exchange = || {
            let previous = exchange(&self.path, &self.new, is_new, now)?;
            sync_directory(directory_of(&self.path))?;
            Ok(previous)
        };
        let previous = exchange().map_err(|error| FileError::Io(error).at(&self.path))?;
        Ok(RestoredState { report: self.report.clone(), previous })
    }
}

fn copy(from: &Path, new: &Path) -> io::Result<()> {
    let mut copy = OpenOptions::new().write(true).create_new(true).mode(0o600).open(new)?;
    io::copy(&mut File::open(from)?, &mut copy)?;
    copy.sync_all()
}

/// Gives `new` the name of the state, and the state, if there was one, another.
fn exchange(path: &Path, new: &Path, is_new: bool, now: UnixTime) -> io::Result<Option<PathBuf>> {
    if is_new {
        std::fs::rename(new, path)?;
        return Ok(None);
    }
    let previous = unused_name(path, "replaced", now);
    match std::fs::hard_link(path, &previous) {
        // Some file systems have no second name for a file.
        Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::Unsupported) => {
            std::fs::rename(path, &previous)?;
        }
        result => result?,
    }
    std::fs::rename(new, path)?;
    Ok(Some(previous))
}
