//! Small files that are written as a whole: beside the old one, whose place the new one then takes. A reader sees the one or
//! the other.

use super::open::{directory_of, sync_directory};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Whether a file outlasts a power cut as soon as it is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Persistence {
    /// It does.
    OnDisk,
    /// It is in memory, or as good as that.
    InMemory,
}

/// Makes `content` what the file at `path` has (0600).
pub(super) fn replace(path: &Path, content: &[u8], persistence: Persistence) -> io::Result<()> {
    let new = path.with_extension("new");
    // What is left of a write that was broken off.
    let _ = fs::remove_file(&new);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(content)?;
    if persistence == Persistence::OnDisk {
        file.sync_all()?;
    }
    fs::rename(&new, path)?;
    match persistence {
        Persistence::OnDisk => sync_directory(directory_of(path)),
        Persistence::InMemory => Ok(()),
    }
}
