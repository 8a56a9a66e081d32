//! A dump that was asked for, on its way to the writer.

use smol::channel::{Receiver, Sender};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How many pieces may wait for the reader.
const PIECES: usize = 2;

/// Whether a dump shows the values of [`super::schema::SECRET_KEYS`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Secrets {
    /// It does, as a backup must.
    Include,
    /// It shows `null` in their place, for people.
    Redact,
}

/// Another dump is being made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Busy;

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "another backup or dump is being made, or one is gone back to; try again when that is done",
        )
    }
}

impl std::error::Error for Busy {}

/// A dump that was asked for.
pub(super) struct DumpRequest {
    pub sender: Sender<Vec<u8>>,
    pub secrets: Secrets,
    /// Kept for as long as the dump is being made.
    pub turn: DumpPermit,
}

/// The right to be the one dump, or the one backup that comes; given back when dropped.
pub(super) struct DumpPermit(Arc<AtomicBool>);

impl DumpPermit {
    /// The right, unless somebody has it: `dumping` says so.
    pub fn take(dumping: &Arc<AtomicBool>) -> Result<Self, Busy> {
        if dumping.swap(true, Ordering::AcqRel) { Err(Busy) } else { Ok(DumpPermit(dumping.clone())) }
    }
}

impl Drop for DumpPermit {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl DumpRequest {
    /// A request and where its pieces come out, unless one is being served.
    pub fn new(dumping: &Arc<AtomicBool>, secrets: Secrets) -> Result<(Self, Receiver<Vec<u8>>), Busy> {
        let turn = DumpPermit::take(dumping)?;
        let (sender, receiver) = smol::channel::bounded(PIECES);
        Ok((DumpRequest { sender, secrets, turn }, receiver))
    }
}
