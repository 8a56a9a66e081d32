//! Rows on their way to the disk, and who waits for them.

use super::Row;
use super::dump_request::DumpRequest;
use super::schema::{self, Table};
use crate::cluster::lease::Position;
use crate::durability::WriteError;
use crate::figures::Values;
use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Bound;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// [`StoreShared::health`] as a number.
const HEALTHY: u8 = 0;
const FULL: u8 = 1;
const FAILING: u8 = 2;
const FENCED: u8 = 3;

fn encode(health: Result<(), WriteError>) -> u8 {
    match health {
        Ok(()) => HEALTHY,
        Err(WriteError::Full) => FULL,
        Err(WriteError::Failing | WriteError::TooSlow) => FAILING,
        Err(WriteError::Fenced) => FENCED,
    }
}

/// What identifies a row.
pub(super) type RowKey = (Table, String);
/// Rows by key; `None` deletes.
pub(super) type Rows = BTreeMap<RowKey, Option<Vec<u8>>>;

/// How many rows that need no commit of their own (heartbeats) a commit takes along. Neighbours in key order share
/// pages, so this costs a commit some 16 KiB more at most in practice, while all heartbeats of a full house would cost
/// megabytes.
const LAZY_PER_COMMIT: usize = 32;

/// What a submission waits for: the commit of the batch that its rows went into.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Ticket(pub(super) u64);

/// State shared by the loop's thread and the writer.
pub(super) struct StoreShared {
    queue: Mutex<WriteQueue>,
    /// Tells the writer that there is something to do.
    pub work: Condvar,
    /// Tells `close` that the writer has got further.
    pub progress: Condvar,
    health: AtomicU8,
    /// A dump is being made or about to be.
    pub dumping: Arc<AtomicBool>,
}

pub(super) struct WriteQueue {
    /// Rows that want a commit. All of them are older than a row of the same key in `lazy`.
    pub pending: Rows,
    /// Rows that can wait for another's commit.
    pub lazy: Rows,
    /// What happened, for those that follow: see [`crate::cluster::entry::tell`].
    told: String,
    /// So many bytes of it belong to the batch that failed last.
    told_in_doubt: usize,
    /// The last commit of the realm, if the state is in a database.
    pub position: Option<Position>,
    /// Where the last ride of lazy rows ended.
    cursor: Option<RowKey>,
    /// The number of the batch that `pending` will be.
    filling: u64,
    /// Every batch up to this one is on the disk.
    committed: u64,
    waiters: BTreeMap<u64, Waker>,
    next_waiter: u64,
    /// No more commits after this one.
    pub closing: bool,
    /// The last commit was made (or given up), with its outcome.
    pub last_commit: Option<Result<(), WriteError>>,
    /// The writer has ended.
    pub finished: bool,
    pub dump: Option<DumpRequest>,
    pub stats: Values,
}

/// What the writer takes from the queue.
pub(super) struct Batch {
    pub number: u64,
    pub rows: Rows,
    pub told: String,
}

impl StoreShared {
    pub fn new(health: Result<(), WriteError>, stats: Values) -> Self {
        StoreShared {
            queue: Mutex::new(WriteQueue {
                pending: Rows::new(),
                lazy: Rows::new(),
                told: String::new(),
                told_in_doubt: 0,
                position: None,
                cursor: None,
                filling: 1,
                committed: 0,
                waiters: BTreeMap::new(),
                next_waiter: 0,
                closing: false,
                last_commit: None,
                finished: false,
                dump: None,
                stats,
            }),
            work: Condvar::new(),
            progress: Condvar::new(),
            health: AtomicU8::new(encode(health)),
            dumping: Arc::default(),
        }
    }

    /// The queue. Nobody holds it during input or output, so this never waits for a disk.
    pub fn queue(&self) -> MutexGuard<'_, WriteQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn health(&self) -> Result<(), WriteError> {
        match self.health.load(Ordering::Acquire) {
            HEALTHY => Ok(()),
            FULL => Err(WriteError::Full),
            FENCED => Err(WriteError::Fenced),
            _ => Err(WriteError::Failing),
        }
    }

    pub fn set_health(&self, health: Result<(), WriteError>) {
        self.health.store(encode(health), Ordering::Release);
    }

    pub fn submit(&self, rows: Vec<Row>, told: &str) -> Ticket {
        let mut queue = self.queue();
        append(&mut queue.told, told);
        let was_empty = queue.pending.is_empty();
        for row in rows {
            if let Some((key, value)) = keyed(row) {
                queue.lazy.remove(&key);
                queue.pending.insert(key, value);
            }
        }
        // Nothing new still waits for what was submitted before.
        let ticket = if queue.pending.is_empty() { queue.filling - 1 } else { queue.filling };
        if was_empty && !queue.pending.is_empty() {
            self.work.notify_one();
        }
        Ticket(ticket)
    }

    pub fn lazily(&self, rows: Vec<Row>, told: &str) {
        let mut queue = self.queue();
        append(&mut queue.told, told);
        for row in rows {
            if let Some((key, value)) = keyed(row) {
                match queue.pending.get_mut(&key) {
                    Some(pending) => *pending = value,
                    None => {
                        queue.lazy.insert(key, value);
                    }
                }
            }
        }
    }

    /// Takes the batch that is due, with all lazy rows or a few.
    pub fn take(&self, all: bool) -> Batch {
        let mut queue = self.queue();
        let mut rows = std::mem::take(&mut queue.pending);
        if all {
            rows.append(&mut queue.lazy);
        } else {
            for key in queue.next_lazy() {
                if let Some(value) = queue.lazy.remove(&key) {
                    rows.insert(key, value);
                }
            }
        }
        let number = queue.filling;
        queue.filling += 1;
        // What happened goes with rows.
        let told = if rows.is_empty() { String::new() } else { std::mem::take(&mut queue.told) };
        queue.told_in_doubt = 0;
        Batch { number, rows, told }
    }

    /// The batch is on the disk.
    pub fn committed(&self, number: u64) {
        self.queue().committed = number;
        self.set_health(Ok(()));
        self.wake();
    }

    /// The batch is not on the disk: its rows wait on, unless there are newer ones.
    pub fn failed(&self, batch: Batch, why: WriteError) {
        let mut rows = batch.rows;
        let mut queue = self.queue();
        // The batch is the larger part as a rule, so the newer rows go into it.
        rows.append(&mut queue.pending);
        queue.pending = rows;
        let mut told = batch.told;
        queue.told_in_doubt = told.len();
        append(&mut told, &queue.told);
        queue.told = told;
        drop(queue);
        self.set_health(Err(why));
        self.wake();
    }

    /// The batch that failed last is in the database after all: what it told is told.
    pub fn was_told(&self) {
        let mut queue = self.queue();
        let rest = std::mem::take(&mut queue.told_in_doubt);
        let rest = queue.told.split_off(rest);
        queue.told = rest.strip_prefix(',').unwrap_or(&rest).to_owned();
    }

    /// Ready when the store is fenced. One task at a time may wait so.
    #[cfg(feature = "cluster")]
    pub fn poll_fenced(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut queue = self.queue();
        if self.health() == Err(WriteError::Fenced) {
            return Poll::Ready(());
        }
        // No ticket's waiter has this number.
        queue.waiters.insert(0, context.waker().clone());
        Poll::Pending
    }

    /// Has every waiter look again.
    pub fn wake(&self) {
        let waiters = std::mem::take(&mut self.queue().waiters);
        for waker in waiters.into_values() {
            waker.wake();
        }
    }
}

impl WriteQueue {
    /// The next lazy rows in key order, starting over at the end.
    fn next_lazy(&mut self) -> Vec<RowKey> {
        let after = self.cursor.take();
        let start = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut keys: Vec<RowKey> = self
            .lazy
            .range((start, Bound::Unbounded))
            .take(LAZY_PER_COMMIT)
            .map(|(key, _)| key.clone())
            .collect();
        if keys.len() == LAZY_PER_COMMIT {
            self.cursor = keys.last().cloned();
        } else if let Some(after) = after {
            let more = LAZY_PER_COMMIT - keys.len();
            let around = self.lazy.range(..=after).take(more).map(|(key, _)| key.clone());
            keys.extend(around);
            self.cursor = keys.last().cloned();
        }
        keys
    }
}

/// Adds to what happened.
fn append(told: &mut String, more: &str) {
    if !told.is_empty() && !more.is_empty() {
        told.push(',');
    }
    told.push_str(more);
}

/// The row by its key, unless it is the store's own.
fn keyed(row: Row) -> Option<(RowKey, Option<Vec<u8>>)> {
    let own = schema::is_version(row.table, &row.key);
    debug_assert!(!own, "the schema version is the store's own row");
    (!own).then_some(((row.table, row.key), row.value))
}

/// Waits for a [`Ticket`]: see [`super::Store::durable`].
pub struct Durable {
    shared: Arc<StoreShared>,
    ticket: Ticket,
    waiter: Option<u64>,
}

impl Durable {
    pub(super) fn new(shared: Arc<StoreShared>, ticket: Ticket) -> Self {
        Durable { shared, ticket, waiter: None }
    }
}

impl Future for Durable {
    type Output = Result<(), WriteError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let shared = self.shared.clone();
        let mut queue = shared.queue();
        if queue.committed >= self.ticket.0 {
            return Poll::Ready(Ok(()));
        }
        match shared.health() {
            Ok(()) if queue.finished => return Poll::Ready(Err(WriteError::Failing)),
            Ok(()) => {}
            Err(why) => return Poll::Ready(Err(why)),
        }
        let waiter = match self.waiter {
            Some(waiter) => waiter,
            None => {
                queue.next_waiter += 1;
                *self.waiter.insert(queue.next_waiter)
            }
        };
        queue.waiters.insert(waiter, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Durable {
    fn drop(&mut self) {
        if let Some(waiter) = self.waiter {
            self.shared.queue().waiters.remove(&waiter);
        }
    }
}
