//! Places for files.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory of its own that goes with it.
#[derive(Debug)]
pub struct Directory(PathBuf);

impl Directory {
    /// Among the temporary files, which may be in memory.
    pub fn new() -> Self {
        Self::inside(&std::env::temp_dir())
    }

    /// Where the build is, and so on a disk.
    pub fn on_disk() -> Self {
        Self::inside(Path::new(env!("CARGO_TARGET_TMPDIR")))
    }

    fn inside(parent: &Path) -> Self {
        let path = parent.join(format!("lanrage-{}", unique()));
        std::fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    /// Where a daemon keeps its state; the daemon makes it.
    pub fn state(&self) -> PathBuf {
        self.join("state")
    }

    /// What the daemon keeps it in.
    pub fn state_file(&self) -> PathBuf {
        lanrage::store::path_in(&self.state())
    }

    pub fn log(&self) -> PathBuf {
        self.join("log")
    }

    /// The path of something in it, as text.
    pub fn text_path(&self, name: &str) -> String {
        self.join(name).into_os_string().into_string().unwrap()
    }

    /// The names of what is in it, sorted.
    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Deref for Directory {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A number that nothing else on this machine has.
pub fn unique() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{}x{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}
