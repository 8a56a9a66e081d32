//! The thread that waits for the database.

use super::dump_request::DumpRequest;
use super::engine::Engine;
use super::open::FileError;
use super::queue::{Batch, StoreShared};
use crate::durability::WriteError;
use crate::figures::{Figure, Values};
use crate::time::Clock;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// How long a commit waits for company.
const GATHER: Duration = Duration::from_millis(5);
/// The stack of the thread, in bytes.
const STACK: usize = 512 << 10;
/// After a last commit that took longer, not much is done on the way out, in microseconds.
const QUICK: u64 = 20_000;

struct WriterThread<E> {
    shared: Arc<StoreShared>,
    /// What it is called in messages.
    name: PathBuf,
    engine: E,
    clock: Clock,
    retry: Duration,
}

/// Starts the thread over a database that was just opened; `fault` says why it can't be written yet.
pub(super) fn start<E: Engine>(
    name: &Path,
    engine: E,
    fault: Option<FileError>,
    clock: Clock,
) -> io::Result<Arc<StoreShared>> {
    let mut stats = Values::default();
    stats.set(Figure::StoreSize, engine.size());
    let health = if fault.is_some() { Err(WriteError::Full) } else { Ok(()) };
    let shared = Arc::new(StoreShared::new(health, stats));
    shared.queue().position = engine.position();
    let [retry, _] = E::RETRY;
    let writer = WriterThread { shared: shared.clone(), name: name.to_owned(), engine, clock, retry };
    if let Some(fault) = fault {
        writer.complain(&fault);
    }
    let body = move || writer.run();
    std::thread::Builder::new().name("store".into()).stack_size(STACK).spawn(body)?;
    Ok(shared)
}

/// Starts the thread with something else to do `first`, that gives the engine, or nothing if it is to end.
#[cfg(feature = "cluster")]
pub(super) fn start_after<E: Engine>(
    name: &Path,
    first: impl FnOnce(&Arc<StoreShared>) -> Option<E> + Send + 'static,
    clock: Clock,
) -> io::Result<Arc<StoreShared>> {
    let shared = Arc::new(StoreShared::new(Ok(()), Values::default()));
    let (own, name) = (shared.clone(), name.to_owned());
    let body = move || match first(&own) {
        Some(engine) => {
            let [retry, _] = E::RETRY;
            own.queue().position = engine.position();
            WriterThread { shared: own, name, engine, clock, retry }.run();
        }
        None => {
            let mut queue = own.queue();
            (queue.last_commit, queue.finished) = (Some(Ok(())), true);
            drop(queue);
            own.progress.notify_all();
            own.wake();
        }
    };
    std::thread::Builder::new().name("store".into()).stack_size(STACK).spawn(body)?;
    Ok(shared)
}

/// What the thread woke up for.
enum Work {
    Commit,
    Tend,
    Dump(DumpRequest),
    Close,
}

impl<E: Engine> WriterThread<E> {
    fn run(mut self) {
        // Who is fenced has nothing to write any more.
        while self.shared.health() != Err(WriteError::Fenced) {
            if !self.engine.is_open() {
                self.pause();
                if self.is_closing() || !self.reopen() {
                    if self.is_closing() {
                        break;
                    }
                    continue;
                }
            }
            match self.next() {
                Work::Commit => {
                    self.gather();
                    self.commit(false);
                }
                Work::Tend => {
                    if let Err(fault) = self.engine.tend() {
                        self.unhealthy(&fault);
                    }
                }
                Work::Dump(request) => self.engine.dump(request),
                Work::Close => break,
            }
        }
        self.finish();
    }

    fn is_closing(&self) -> bool {
        self.shared.queue().closing
    }

    fn next(&self) -> Work {
        let idle = |queue: &mut super::queue::WriteQueue| {
            !queue.closing && queue.dump.is_none() && queue.pending.is_empty()
        };
        let (due, queue) = (self.engine.due(), self.shared.queue());
        let mut queue = match due {
            None => self.shared.work.wait_while(queue, idle).unwrap_or_else(PoisonError::into_inner),
            Some(due) => {
                let time = due.since((self.clock)().instant);
                let waited = self.shared.work.wait_timeout_while(queue, time, idle);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        if queue.closing {
            Work::Close
        } else if let Some(request) = queue.dump.take() {
            Work::Dump(request)
        } else if queue.pending.is_empty() || due.is_some_and(|due| due <= (self.clock)().instant) {
            Work::Tend
        } else {
            Work::Commit
        }
    }

    /// Waits for more rows to share the commit.
    fn gather(&self) {
        let queue = self.shared.queue();
        drop(self.shared.work.wait_timeout_while(queue, GATHER, |queue| !queue.closing));
    }

    /// Waits until the next attempt. Nobody gets a dump meanwhile.
    fn pause(&mut self) {
        let mut queue = self.shared.queue();
        queue.dump = None;
        drop(self.shared.work.wait_timeout_while(queue, self.retry, |queue| !queue.closing));
        let [_, longest] = E::RETRY;
        self.retry = (self.retry * 2).min(longest);
    }

    /// Commits what is pending, and everything lazy or a little of it.
    fn commit(&mut self, all: bool) {
        let batch = self.shared.take(all);
        if batch.rows.is_empty() {
            return self.shared.committed(batch.number);
        }
        let begun = (self.clock)().instant;
        match self.engine.commit(&batch.rows, &batch.told) {
            Ok(()) => {
                let took = (self.clock)().instant.since(begun);
                let size = self.engine.size();
                let mut queue = self.shared.queue();
                queue.stats.add(Figure::StoreCommits, 1);
                queue.stats.add(Figure::StoreRows, batch.rows.len() as u64);
                let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
                queue.stats.set(Figure::StoreLastCommit, took);
                queue.stats.set(Figure::StoreSize, size);
                queue.position = self.engine.position();
                drop(queue);
                self.recovered();
                self.shared.committed(batch.number);
            }
            Err(fault) => self.fail(batch, &fault),
        }
    }

    fn fail(&mut self, batch: Batch, fault: &FileError) {
        self.complain(fault);
        self.shared.failed(batch, fault.of_write());
    }

    /// Nothing can be written, whether there is something or not.
    fn unhealthy(&self, fault: &FileError) {
        self.complain(fault);
        self.shared.set_health(Err(fault.of_write()));
        self.shared.wake();
    }

    /// Logs a failure, unless the last attempt failed too.
    fn complain(&self, fault: &FileError) {
        let mut queue = self.shared.queue();
        let first = queue.stats.of(Figure::StoreErrors) == 0 || self.shared.health().is_ok();
        queue.stats.add(Figure::StoreErrors, 1);
        drop(queue);
        // Who is fenced never writes again: that is for the daemon to say.
        if first && fault.of_write() != WriteError::Fenced {
            log::error!(
                "cannot write to {}: {fault}; changes are refused until that works again, all else goes on",
                self.name.display()
            );
        }
    }

    /// Logs the end of a failure.
    fn recovered(&mut self) {
        [self.retry, _] = E::RETRY;
        if self.shared.health().is_err() {
            log::info!("{} can be written again", self.name.display());
        }
    }

    /// Opens the database again and tries what is pending. Returns whether it is open.
    fn reopen(&mut self) -> bool {
        match self.engine.reopen() {
            Ok(was_made) => {
                if was_made {
                    self.shared.was_told();
                }
                let idle = self.shared.queue().pending.is_empty();
                if idle {
                    self.recovered();
                    self.shared.set_health(Ok(()));
                } else {
                    self.commit(false);
                }
                self.engine.is_open()
            }
            Err(fault) => {
                self.unhealthy(&fault);
                false
            }
        }
    }

    /// The last commit, and the end of the database.
    fn finish(mut self) {
        let fenced = self.shared.health() == Err(WriteError::Fenced);
        if !fenced && !self.engine.is_open() {
            self.reopen();
        }
        if !fenced && self.engine.is_open() {
            self.commit(true);
        }
        let outcome = self.shared.health();
        let mut queue = self.shared.queue();
        queue.last_commit = Some(outcome);
        queue.dump = None;
        let quick = queue.stats.of(Figure::StoreLastCommit) < QUICK;
        drop(queue);
        // A lock on a file goes with it.
        self.engine.close(quick);
        self.shared.queue().finished = true;
        self.shared.progress.notify_all();
        self.shared.wake();
    }
}
