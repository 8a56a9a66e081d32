//! What one daemon leaves to the next so that a restart cuts no game: a file in the runtime directory, in memory.
//!
//! Its name comes from the hub's public key, so that several daemons on one machine each find their own.

use super::whole_file::{self, Persistence};
use crate::crypto::blake2s;
use crate::crypto::hex;
use crate::crypto::x25519::PublicKey;
use crate::sys;
use rustix::fs::OFlags;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The longest file that is read back, in bytes.
const MAX_LENGTH: u64 = 16 << 20;
/// How much of the hash of the hub's key is in the name, in bytes.
const NAME_LENGTH: usize = 8;
/// File systems that are in memory, as statfs(2) names them: tmpfs and ramfs. Nothing else is written to for a
/// crash that may never come.
const IN_MEMORY: [u32; 2] = [0x0102_1994, 0x8584_58f6];

/// The hand-over file of one hub.
#[derive(Clone, Debug)]
pub struct HandOver {
    directory: PathBuf,
    path: PathBuf,
}

impl HandOver {
    /// The file of the hub with this key, in the runtime directory.
    pub fn new(directory: &Path, hub: &PublicKey) -> Self {
        Self::named("flows", directory, hub)
    }

    /// The same for what the relay of this hub was told of parties.
    pub fn of_roster(directory: &Path, hub: &PublicKey) -> Self {
        Self::named("roster", directory, hub)
    }

    fn named(kind: &str, directory: &Path, hub: &PublicKey) -> Self {
        let name = hex::encode(&blake2s::hash(&[hub.as_bytes()])[..NAME_LENGTH]);
        HandOver { directory: directory.to_owned(), path: directory.join(format!("{kind}-{name}")) }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is in memory; if its directory does not exist yet, what that is going to be in.
    pub fn is_in_memory(&self) -> bool {
        is_in_memory(&self.directory)
    }

    /// Writes it anew (0600, in a directory that is created with 0700).
    pub fn write(&self, content: &[u8]) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        whole_file::replace(&self.path, content, Persistence::InMemory)
    }

    /// Reads it and removes it: it is used once. `None` if there is none that is ours.
    pub fn take(&self) -> Option<Vec<u8>> {
        // Neither a link nor a pipe is followed or waited for.
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
        let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(&self.path).ok()?;
        let found = file.metadata().ok()?;
        let is_ours = found.is_file() && found.uid() == rustix::process::geteuid().as_raw();
        if !is_ours || found.len() > MAX_LENGTH {
            return None;
        }
        let mut content = Vec::new();
        file.take(MAX_LENGTH).read_to_end(&mut content).ok()?;
        let _ = fs::remove_file(&self.path);
        Some(content)
    }
}

fn is_in_memory(directory: &Path) -> bool {
    let found = directory.ancestors().find_map(|part| sys::file_system(part).ok());
    found.is_some_and(|found| IN_MEMORY.contains(&found.kind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::x25519::PrivateKey;

    #[test]
    fn each_hub_has_its_own_which_is_used_once() {
        let directory = std::env::temp_dir().join(format!("lanrage-handover-{}", std::process::id()));
        let of = |key| HandOver::new(&directory, &PrivateKey::from_bytes([key; 32]).public_key());
        let (one, other) = (of(1), of(2));
        assert_eq!(one.take(), None);
        one.write(b"one").unwrap();
        other.write(b"other").unwrap();
        other.write(b"other, later").unwrap();
        assert_eq!(fs::metadata(one.path()).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o7777, 0o700);
        assert_eq!(one.take().as_deref(), Some(&b"one"[..]));
        assert_eq!(one.take(), None);
        assert_eq!(of(2).take().as_deref(), Some(&b"other, later"[..]));
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);

        // A link is not followed, whatever it leads to, and stays.
        fs::write(directory.join("elsewhere"), "x").unwrap();
        std::os::unix::fs::symlink(directory.join("elsewhere"), one.path()).unwrap();
        assert_eq!(one.take(), None);
        assert!(directory.join("elsewhere").exists() && one.path().is_symlink());
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn only_memory_is_written_to_all_the_time() {
        let shared = Path::new("/dev/shm");
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let is_tmpfs = mounts.lines().any(|line| line.contains(" /dev/shm tmpfs "));
        assert_eq!(is_in_memory(shared), is_tmpfs);
        assert_eq!(is_in_memory(&shared.join("not/there/yet")), is_tmpfs);
        assert!(!is_in_memory(Path::new("/proc")));
    }
}
