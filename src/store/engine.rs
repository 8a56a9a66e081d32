//! What the writer thread needs of a database.

use super::FileError;
use super::dump_request::DumpRequest;
use super::queue::Rows;
use crate::cluster::lease::Position;
use crate::time::Instant;
use std::time::Duration;

/// A database that takes rows in groups, and is used by one thread.
pub(super) trait Engine: Send + 'static {
    /// The pause after a failure, which doubles up to the second.
    const RETRY: [Duration; 2];

    /// Whether it takes rows. After a failure it does not, until it is opened again.
    fn is_open(&self) -> bool;

    /// Opens it again after a failure. Returns whether the commit that failed last was made after all.
    fn reopen(&mut self) -> Result<bool, FileError>;

    /// Makes all of the rows durable, or none. After a failure it is not open, and the rows are to be given again.
    /// `told` is what happened, for those that follow: see [`crate::cluster::entry::tell`].
    fn commit(&mut self, rows: &Rows, told: &str) -> Result<(), FileError>;

    /// The last commit of a realm.
    fn position(&self) -> Option<Position> {
        None
    }

    /// How many bytes it has, as far as that is known.
    fn size(&self) -> u64;

    /// Streams all that is durable.
    fn dump(&self, request: DumpRequest);

    /// When something is to be done without rows, if ever.
    fn due(&self) -> Option<Instant> {
        None
    }

    /// Does what is due. After a failure it is not open.
    fn tend(&mut self) -> Result<(), FileError> {
        Ok(())
    }

    /// Ends in good order, with little work if the last commit was not `quick`.
    fn close(self, quick: bool);
}
