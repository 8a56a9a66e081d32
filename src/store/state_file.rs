//! The open state file and its name. A file that is deleted while it is open can be read and written until it is
//! closed; then all that was acknowledged would be gone. So the name is looked at with every commit.

use super::disk::{Lock, lock};
use super::open::{directory_of, sync_directory, unused_name};
use crate::time::UnixTime;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What has the name of the open file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Found {
    /// That file.
    Own,
    /// Nothing: it was deleted or renamed.
    Nothing,
    /// Another file, by its device and inode.
    Another(u64, u64),
}

/// An open, locked state file.
#[derive(Debug)]
pub(super) struct StateFile {
    path: PathBuf,
    file: Arc<File>,
    /// The device of its directory.
    device: Option<u64>,
}

impl StateFile {
    /// The file that was opened at `path`.
    pub fn new(path: &Path, file: Arc<File>) -> Self {
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let device = directory_of(&path).metadata().map(|found| found.dev()).ok();
        StateFile { path, file, device }
    }

    /// The file.
    pub fn file(&self) -> Arc<File> {
        self.file.clone()
    }

    /// Looks at its name.
    pub fn found(&self) -> Found {
        let identity = |metadata: Metadata| (metadata.dev(), metadata.ino());
        match (self.path.metadata().map(identity), self.file.metadata().map(identity)) {
            (Ok(there), Ok(own)) if there != own => Found::Another(there.0, there.1),
            (Err(error), _) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                Found::Nothing
            }
            // Whatever keeps us from looking is no reason to do anything.
            _ => Found::Own,
        }
    }

    /// Writes a new file with the same content, which nothing else may be writing now, and goes on with that. It
    /// appears at the path when it is complete and on the disk, unless another has appeared there meanwhile.
    pub fn put_back(&mut self) -> io::Result<()> {
        let directory = directory_of(&self.path);
        self.check_device(directory)?;
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".partial-{}", std::process::id()));
        let partial = self.path.with_file_name(name);
        let result = self.copy(&partial).and_then(|file| {
            rename_to_new(&partial, &self.path)?;
            sync_directory(directory)?;
            Ok(file)
        });
        match result {
            Ok(file) => {
                self.file = Arc::new(file);
                Ok(())
            }
            Err(error) => {
                // There may be nothing to remove.
                let _ = std::fs::remove_file(&partial);
                Err(error)
            }
        }
    }

    /// Saves its content, which nothing else may be writing now, in a file beside it; returns the path.
    pub fn save_beside(&self, now: UnixTime) -> io::Result<PathBuf> {
        let saved = unused_name(&self.path, "replaced", now);
        self.copy(&saved)?;
        sync_directory(directory_of(&self.path))?;
        Ok(saved)
    }

    /// A disk that was unmounted leaves an empty directory, on another disk.
    fn check_device(&self, directory: &Path) -> io::Result<()> {
        let there = directory.ancestors().find_map(|part| part.metadata().ok());
        match there.map(|found| found.dev()) == self.device {
            true => Ok(()),
            false => Err(io::Error::other("its directory is on another file system now")),
        }
    }

    /// A locked copy at `path`, which must be new, on the disk.
    fn copy(&self, path: &Path) -> io::Result<File> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        // Nobody else knows of it yet.
        if lock(&file, true)? == Lock::Taken {
            return Err(ErrorKind::WouldBlock.into());
        }
        let length = self.file.metadata()?.len();
        file.set_len(length)?;
        let mut buffer = vec![0; 64 << 10];
        let mut offset = 0;
        while offset < length {
            let count = usize::try_from(length - offset).unwrap_or(usize::MAX).min(buffer.len());
            let chunk = &mut buffer[..count];
            self.file.read_exact_at(chunk, offset)?;
            // Holes stay holes.
            if chunk.iter().any(|byte| *byte != 0) {
                file.write_all_at(chunk, offset)?;
            }
            offset += count as u64;
        }
        file.sync_all()?;
        Ok(file)
    }
}

/// Renames a file to a name that is free.
fn rename_to_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Not every file system knows this flag.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => std::fs::rename(from, to),
        result => result.map_err(io::Error::from),
    }
}
