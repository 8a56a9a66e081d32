//! Floor 5: the only disk, redb behind a writer thread, and the hand-over file. With the feature `cluster`, PostgreSQL
//! behind the same thread.
//!
//! A generic, durable key-value engine. The control state lives in memory on the loop's thread; what changes
//! there is submitted here as rows, which one thread commits in groups, because a sync takes up to half a
//! second on router flash. Whoever must not answer before a change is durable awaits its [`Ticket`].

pub mod agent_state;
pub mod backup;
mod check;
mod disk;
pub mod dump;
mod dump_request;
mod engine;
mod file_engine;
pub mod handover;
mod open;
#[cfg(feature = "cluster")]
pub mod postgres;
mod queue;
pub mod records;
pub mod restore;
pub mod schema;
mod state_file;
mod whole_file;
mod writer;

#[cfg(test)]
mod tests;

pub use check::{Report, check};
pub use disk::BackendFactory;
pub use open::{FileError, OpenError, Recovery, is_full, make_directory};
pub use queue::{Durable, Ticket};

#[cfg(feature = "cluster")]
use crate::cluster::lease::Position;
use crate::durability::WriteError;
use crate::figures::{Figure, Readings, Values};
use crate::sys;
use crate::time::{Clock, UnixTime};
use dump::Secrets;
use dump_request::DumpPermit;
use file_engine::FileEngine;
use open::Examined;
use queue::StoreShared;
use restore::IncomingBackup;
use schema::{Schema, Table};
use state_file::StateFile;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// How long [`Store::close`] waits for the disk: SIGTERM promises an end within two seconds.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(1500);

/// A change to one row, or a row as it was loaded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// The table it is in.
    pub table: Table,
    /// Its key.
    pub key: String,
    /// Its value, JSON; `None` deletes it.
    pub value: Option<Vec<u8>>,
}

/// The open store, held by the loop's thread.
pub struct Store {
    shared: Arc<StoreShared>,
    recovery: Option<Recovery>,
    /// Where its file is, if it is in one.
    path: Option<PathBuf>,
}

impl Store {
    /// Opens or creates the file at `path` (0600, in a directory that is created with 0700), loads every row
    /// and starts the writer thread. A damaged file is set aside and a fresh one begun: see
    /// [`Store::recovery`]. A full disk hinders only the first start: later, [`Store::health`] says so from the
    /// start.
    pub fn open(path: &Path, clock: Clock) -> Result<(Store, Vec<Row>), OpenError> {
        Self::open_as(path, clock, &schema::CURRENT)
    }

    fn open_as(path: &Path, clock: Clock, schema: &'static Schema) -> Result<(Store, Vec<Row>), OpenError> {
        let (file, is_new) = open::open_file(path)?;
        let mut factory = open::file_factory(file.clone());
        let reason = match Self::begin_file(path, is_new, &mut factory, schema) {
            Ok(begun) => {
                let state_file = Some(StateFile::new(path, file));
                return Self::start(path, state_file, begun, factory, clock, schema, None);
            }
            Err(FileError::Corrupt(_)) if backup::is_backup(path) => return Err(FileError::Backup.at(path)),
            Err(FileError::Corrupt(reason)) => reason,
            Err(fault) => return Err(fault.at(path)),
        };
        let io = |error| FileError::Io(error).at(path);
        // The old file stays locked until the new one is.
        let moved_to = open::set_aside(path, clock().unix).map_err(io)?;
        log::error!(
            "{} is damaged ({reason}): it was set aside as {}, and the state starts empty",
            path.display(),
            moved_to.display()
        );
        let (fresh, is_new) = open::open_file(path)?;
        let mut factory = open::file_factory(fresh.clone());
        drop(file);
        let begun = Self::begin_file(path, is_new, &mut factory, schema);
        let begun = begun.map_err(|fault| fault.at(path))?;
        let recovery = Recovery { moved_to: Some(moved_to), reason };
        let state_file = Some(StateFile::new(path, fresh));
        Self::start(path, state_file, begun, factory, clock, schema, Some(recovery))
    }

    /// Like [`Store::open`] over backends that `factory` makes. Damage is an error here, as there is no file
    /// to set aside. `name` stands for the path in messages.
    pub fn open_backend(
        name: &Path,
        mut factory: BackendFactory,
        clock: Clock,
    ) -> Result<(Store, Vec<Row>), OpenError> {
        let schema = &schema::CURRENT;
        let begun = Self::begin(&mut factory, schema).map_err(|fault| fault.at(name))?;
        Self::start(name, None, begun, factory, clock, schema, None)
    }

    /// As [`Store::begin`]. A file that has never held anything is no use if it can't be written, and one that
    /// was made just now is not left behind then.
    fn begin_file(
        path: &Path,
        is_new: bool,
        factory: &mut BackendFactory,
        schema: &Schema,
    ) -> Result<(Examined, Option<FileError>), FileError> {
        let begun = match Self::begin(factory, schema) {
            Ok((examined, Some(fault))) if examined.version.is_none() => {
                open::drop_quietly(examined.database);
                Err(fault)
            }
            begun => begun,
        };
        if begun.is_err() && is_new {
            // If it stays after all, the next start begins with it.
            let _ = std::fs::remove_file(path);
        }
        begun
    }

    /// Opens a backend as far as the disk allows: on a full one it is readable, but not settled.
    fn begin(
        factory: &mut BackendFactory,
        schema: &Schema,
    ) -> Result<(Examined, Option<FileError>), FileError> {
        let mut examined = open::examine(factory().map_err(FileError::Io)?, schema)?;
        match examined.settle(schema) {
            Ok(()) => Ok((examined, None)),
            // Rows of an older version are not to be had before they are migrated.
            Err(fault)
                if fault.of_write() == WriteError::Full
                    && examined.version.is_none_or(|found| found == schema.version) =>
            {
                Ok((examined, Some(fault)))
            }
            Err(fault) => {
                open::drop_quietly(examined.database);
                Err(fault)
            }
        }
    }

    fn start(
        path: &Path,
        state_file: Option<StateFile>,
        (mut examined, fault): (Examined, Option<FileError>),
        factory: BackendFactory,
        clock: Clock,
        schema: &'static Schema,
        mut recovery: Option<Recovery>,
    ) -> Result<(Store, Vec<Row>), OpenError> {
        if examined.repaired {
            let reason = "it was damaged and went back to the last commit that is whole".to_owned();
            log::error!("{}: {reason}", path.display());
            recovery = Some(Recovery { moved_to: None, reason });
        } else if examined.rolled_back {
            log::warn!("{} ends in half a commit, as after a power cut: it was undone", path.display());
        } else if examined.unclean {
            log::info!("{} was not closed by the process that wrote it; all is well", path.display());
        }
        let rows = examined.take_rows();
        let file = state_file.is_some().then(|| path.to_owned());
        let engine = FileEngine::new(path, state_file, examined, fault.is_none(), factory, clock, schema);
        let shared =
            writer::start(path, engine, fault, clock).map_err(|error| FileError::Io(error).at(path))?;
        Ok((Store { shared, recovery, path: file }, rows))
    }

    /// What was done about a damaged file when this store was opened.
    pub fn recovery(&self) -> Option<&Recovery> {
        self.recovery.as_ref()
    }

    /// Hands over rows to be committed at once, without waiting for the disk. Of rows with the same key the
    /// last one counts. With no rows, the ticket stands for what was submitted before.
    pub fn submit(&self, rows: Vec<Row>) -> Ticket {
        self.shared.submit(rows, "")
    }

    /// The same, and says what happened, for those that follow a realm: see [`crate::cluster::entry::tell`].
    pub fn submit_told(&self, rows: Vec<Row>, told: &str) -> Ticket {
        self.shared.submit(rows, told)
    }

    /// Hands over rows that are not worth a commit of their own: they ride along with others, a few at a
    /// time, and all of them with [`Store::close`]. Of rows with the same key the last one counts.
    pub fn lazily(&self, rows: Vec<Row>) {
        self.shared.lazily(rows, "");
    }

    /// The same, and says what happened, for those that follow a realm.
    pub fn lazily_told(&self, rows: Vec<Row>, told: &str) {
        self.shared.lazily(rows, told);
    }

    /// Resolves when the rows of `ticket` are on the disk, or with an error when their commit fails or the
    /// store is not healthy; they are then tried again all the same. May be dropped at any time.
    pub fn durable(&self, ticket: Ticket) -> Durable {
        Durable::new(self.shared.clone(), ticket)
    }

    /// Whether the last commit was made, or why it was not; never blocks.
    pub fn health(&self) -> Result<(), WriteError> {
        self.shared.health()
    }

    /// The last commit of the realm, if the state is in a database and this instance writes.
    #[cfg(feature = "cluster")]
    pub fn position(&self) -> Option<Position> {
        self.shared.queue().position
    }

    /// Resolves when another instance has the lease: nothing will be written any more.
    #[cfg(feature = "cluster")]
    pub fn fenced(&self) -> impl Future<Output = ()> + use<> {
        let shared = self.shared.clone();
        std::future::poll_fn(move |context| shared.poll_fenced(context))
    }

    /// What was counted since the store was opened.
    pub fn stats(&self) -> Values {
        self.shared.queue().stats
    }

    /// Tells what was counted.
    pub fn report(&self, out: &mut Readings) {
        out.stats.values.merge(&self.stats());
        out.set(Figure::StoreFailing, u64::from(self.health().is_err()));
        // The kernel knows: no disk is asked.
        if let Some(Ok(disk)) = self.path.as_ref().map(|path| sys::file_system(path)) {
            out.set(Figure::StoreFree, disk.free);
        }
        out.set(Figure::StoreRecoveries, u64::from(self.recovery.is_some()));
    }

    /// Streams a consistent snapshot of all that is durable, as described in [`dump`], in pieces of some
    /// 16 KiB. A receiver that is dropped, or not read for a minute, ends it. The stream is complete only
    /// if its last line says so. One at a time: see [`dump::Busy`].
    pub fn dump(&self, secrets: Secrets) -> Result<smol::channel::Receiver<Vec<u8>>, dump::Busy> {
        dump::request(&self.shared, secrets)
    }

    /// Takes a backup, whose state can take the place of this one when this is closed. One at a time, and no dump
    /// meanwhile.
    pub fn receive(&self, now: UnixTime) -> Result<IncomingBackup, String> {
        let path = self.path.clone().ok_or("the state is in no file")?;
        let turn = DumpPermit::take(&self.shared.dumping).map_err(|busy| busy.to_string())?;
        restore::receive(path, turn, now).map_err(|error| format!("no thread for a backup: {error}"))
    }

    /// Commits everything, lazy rows too, and closes the file. Takes at most 1.5 s; an error says that the
    /// last commit did not make it to the disk in that time.
    pub fn close(self) -> Result<(), WriteError> {
        self.close_within(CLOSE_TIMEOUT)
    }

    /// Like [`Store::close`], taking at most this long.
    pub fn close_within(self, patience: Duration) -> Result<(), WriteError> {
        let shared = self.shared.clone();
        drop(self);
        let queue = shared.queue();
        let (queue, _) = shared
            .progress
            .wait_timeout_while(queue, patience, |queue| !queue.finished)
            .unwrap_or_else(PoisonError::into_inner);
        queue.last_commit.unwrap_or(Err(WriteError::TooSlow))
    }
}

impl Drop for Store {
    /// Has the writer commit what it has and end, without waiting for it.
    fn drop(&mut self) {
        self.shared.queue().closing = true;
        self.shared.work.notify_one();
    }
}

/// Where the store keeps its file in a state directory.
pub fn path_in(state_directory: &Path) -> PathBuf {
    state_directory.join("lanrage.redb")
}
