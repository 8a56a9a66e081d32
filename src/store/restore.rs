//! Putting a backup in place of the state, while no daemon has it open.

use super::check::{Report, check};
use super::open::{self, FileError, OpenError, directory_of, sync_directory, unused_name};
use crate::time::UnixTime;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

/// What came of it.
#[derive(Debug)]
pub struct RestoredState {
    /// What is in the backup.
    pub report: Report,
    /// Where the state of before is now, if there was one.
    pub previous: Option<PathBuf>,
}

/// Puts a copy of the backup `from` in place of the state file `path`, with the same owner. What was there is kept under
/// another name. A crash leaves the one or the other; a backup that is not whole, and a state that a daemon has open, are
/// left alone.
pub fn restore(from: &Path, path: &Path, now: UnixTime) -> Result<RestoredState, OpenError> {
    let report = check(from)?;
    if !report.is_good() {
        return Err(FileError::Corrupt("it is not whole".into()).at(from));
    }
    // Locked until the end: no daemon starts meanwhile.
    let (state, is_new) = open::open_file(path)?;
    let previous = put(from, path, &state, is_new, now).map_err(|error| FileError::Io(error).at(path))?;
    Ok(RestoredState { report, previous })
}

fn put(from: &Path, path: &Path, state: &File, is_new: bool, now: UnixTime) -> io::Result<Option<PathBuf>> {
    let directory = directory_of(path);
    // A service runs as a user of its own, and root is who restores.
    let owner = if is_new { directory.metadata()? } else { state.metadata()? };
    let new = unused_name(path, "restoring", now);
    let mut options = OpenOptions::new();
    let mut copy = options.write(true).create_new(true).mode(0o600).open(&new)?;
    let written = io::copy(&mut File::open(from)?, &mut copy)
        .and_then(|_| {
            let own = copy.metadata()?;
            match (own.uid(), own.gid()) == (owner.uid(), owner.gid()) {
                true => Ok(()),
                false => fchown(&copy, Some(owner.uid()), Some(owner.gid())),
            }
        })
        .and_then(|()| copy.sync_all());
    let exchanged = written.and_then(|()| exchange(path, &new, is_new, now));
    if exchanged.is_err() {
        // What is left of it is of no use, and says by its name what it is.
        let _ = std::fs::remove_file(&new);
    }
    let previous = exchanged?;
    sync_directory(directory)?;
    Ok(previous)
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
