//! The table of connections: whether there is room for another, which one is closed for it, and which took too long.

use super::limits::HttpLimits;
use super::outbox::SessionOutbox;
use super::stream::Stream;
use crate::crypto::random;
use crate::figures::{Readings, Resource};
use crate::ids::SessionId;
use crate::keyed_hash::KeyedState;
use crate::owners::{Holdings, Prefix, Quota, SourceBuckets, SourceRates};
use crate::time::{Clock, Instant};
use crate::token_bucket::Rate;
use crate::wire::http::Source;
use std::cell::{Cell, OnceCell, RefCell};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Deref;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// An instant that never comes.
pub(super) const NEVER: Instant = Instant::from_nanos(u64::MAX);

/// A connection that pauses is cut when it is this much over its time: then the sweep did not wake it.
const PATIENCE: Duration = Duration::from_secs(60);

/// The rate, in bytes per second, that every reader of an answer is expected to manage.
const SLOWEST_READER: u64 = 16 * 1024;

/// What one source may be sent, in KiB: 512 a second, and 4 MiB at once.
const EGRESS: SourceRates = {
    let subscriber = Rate::new(512, Duration::from_secs(1), 4096);
    SourceRates::widening(subscriber, subscriber.times(64))
};

/// What a connection is doing. In the order in which connections are given up for a new one; what comes
/// from `Answering` on is never given up.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Phase {
    /// Refused or done; only waiting for the client to see it.
    Lingering,
    /// Between two requests.
    Idle,
    /// Sending us a head.
    Head,
    /// Sending us a body.
    Body,
    /// Does not read its answer, or has read too much lately.
    Unread,
    /// Being answered.
    Answering,
    /// A WebSocket session.
    Session,
}

/// Why a connection is over before its time.
#[derive(Debug)]
pub(super) enum CloseReason {
    /// It took too long.
    TimedOut,
    /// Its place was needed, or the daemon stops.
    Evicted,
    /// The peer or the network ended it.
    Gone(io::Error),
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CloseReason::TimedOut => f.write_str("it took too long"),
            CloseReason::Evicted => f.write_str("its place was needed"),
            CloseReason::Gone(error) => error.fmt(f),
        }
    }
}

impl From<io::Error> for CloseReason {
    fn from(error: io::Error) -> Self {
        CloseReason::Gone(error)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Forced {
    No,
    TimedOut,
    Evicted,
}

/// One connection, shared by its task and the table.
pub(super) struct Connection {
    pub(super) stream: Stream,
    pub(super) source: Source,
    /// Whose quotas count: nobody's over the Unix socket.
    payer: Cell<Option<IpAddr>>,
    id: u64,
    phase: Cell<Phase>,
    /// When the phase began.
    since: Cell<Instant>,
    deadline: Cell<Instant>,
    /// When a session wants to be woken to send a ping.
    wake_up_at: Cell<Instant>,
    forced: Cell<Forced>,
    waker: RefCell<Option<Waker>>,
    session: Cell<Option<SessionId>>,
    /// What waits to be sent to its session.
    outbox: OnceCell<Rc<SessionOutbox>>,
    /// Bytes that it is charged for.
    held: Cell<usize>,
}

impl Connection {
    /// Its rank in the order in which connections of one owner are given up.
    fn eviction_rank(&self) -> (Phase, Instant, u64) {
        (self.phase.get(), self.since.get(), self.id)
    }

    /// Whose quotas count, if anybody's.
    pub(super) fn payer(&self) -> Option<IpAddr> {
        self.payer.get()
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Begins a phase that has to be over in `span`.
    pub(super) fn enter(&self, phase: Phase, now: Instant, span: Duration) {
        self.phase.set(phase);
        self.since.set(now);
        self.set_deadline(now + span);
    }

    /// Begins to answer, which takes as long as it takes.
    pub(super) fn enter_answering(&self) {
        self.phase.set(Phase::Answering);
        self.set_deadline(NEVER);
    }

    /// Sets when the phase has to be over, even if it was over time a moment ago.
    pub(super) fn set_deadline(&self, deadline: Instant) {
        self.deadline.set(deadline);
        if self.forced.get() == Forced::TimedOut {
            self.forced.set(Forced::No);
        }
    }

    pub(super) fn set_wake_up(&self, at: Instant) {
        self.wake_up_at.set(at);
    }

    /// Ready when the connection is to be ended; told once. Otherwise the task is woken when it is.
    pub(super) fn poll_forced(&self, cx: &Context<'_>) -> Poll<CloseReason> {
        match self.forced.replace(Forced::No) {
            Forced::TimedOut => Poll::Ready(CloseReason::TimedOut),
            Forced::Evicted => Poll::Ready(CloseReason::Evicted),
            Forced::No => {
                let mut waker = self.waker.borrow_mut();
                if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                    *waker = Some(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }

    /// Waits until there may be something to read.
    pub(super) async fn readable(&self) -> Result<(), CloseReason> {
        self.woken(|cx| self.stream.poll_readable(cx)).await
    }

    /// Waits until something can perhaps be written.
    async fn writable(&self) -> Result<(), CloseReason> {
        self.woken(|cx| self.stream.poll_writable(cx)).await
    }

    /// Registers with the reactor and then takes the first wake-up for what it most likely is. The reactor
    /// itself discards events that could be older than the registration, as those are that come while its
    /// helper thread waits; finding out by a read costs less than another round.
    async fn woken(
        &self,
        mut register: impl FnMut(&mut Context<'_>) -> Poll<io::Result<()>>,
    ) -> Result<(), CloseReason> {
        let mut is_registered = false;
        poll_fn(|cx| match self.poll_forced(cx) {
            Poll::Ready(ended) => Poll::Ready(Err(ended)),
            Poll::Pending if is_registered => Poll::Ready(Ok(())),
            Poll::Pending => {
                is_registered = true;
                register(cx).map_err(CloseReason::Gone)
            }
        })
        .await
    }

    /// Writes `first`, then `second`, in one go if the kernel takes it. The peer gets `span` to read it, and
    /// longer for what is long.
    pub(super) async fn write(
        &self,
        mut first: &[u8],
        mut second: &[u8],
        clock: Clock,
        span: Duration,
    ) -> Result<(), CloseReason> {
        let length = (first.len() + second.len()) as u64;
        let mut waited = false;
        let phase = self.phase.get();
        while !first.is_empty() || !second.is_empty() {
            match self.stream.try_write(&[IoSlice::new(first), IoSlice::new(second)]) {
                Ok(written) => {
                    let from_first = written.min(first.len());
                    first = &first[from_first..];
                    second = &second[written - from_first..];
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !waited {
                        waited = true;
                        let (now, patience) =
                            (clock().instant, span + Duration::from_secs(length / SLOWEST_READER));
                        match phase {
                            Phase::Answering => self.enter(Phase::Unread, now, patience),
                            _ => self.set_deadline(now + patience),
                        }
                    }
                    self.writable().await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        if waited {
            self.phase.set(phase);
            self.set_deadline(NEVER);
        }
        Ok(())
    }

    /// Does nothing until `until`; the connection may be given up meanwhile.
    pub(super) async fn pause(&self, until: Instant, clock: Clock) -> Result<(), CloseReason> {
        let (phase, now) = (self.phase.get(), clock().instant);
        self.enter(Phase::Unread, now, until.since(now) + PATIENCE);
        self.set_wake_up(until);
        poll_fn(|cx| match self.poll_forced(cx) {
            Poll::Ready(ended) => Poll::Ready(Err(ended)),
            Poll::Pending if clock().instant >= until => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        })
        .await?;
        self.phase.set(phase);
        self.set_deadline(NEVER);
        Ok(())
    }

    /// Says that nothing more will come, and waits for at most `span` until the peer has taken all, or is gone. It
    /// looks every `step`, as nothing tells.
    pub(super) async fn settle(
        &self,
        phase: Phase,
        clock: Clock,
        span: Duration,
        step: Duration,
    ) -> Result<(), CloseReason> {
        self.stream.finish_writing();
        self.enter(phase, clock().instant, span);
        poll_fn(|cx| match self.poll_forced(cx) {
            Poll::Ready(CloseReason::TimedOut) => Poll::Ready(Ok(())),
            Poll::Ready(ended) => Poll::Ready(Err(ended)),
            Poll::Pending if !self.stream.has_unsent() => Poll::Ready(Ok(())),
            Poll::Pending => {
                self.set_wake_up(clock().instant + step);
                Poll::Pending
            }
        })
        .await
    }

    fn force(&self, forced: Forced) {
        self.forced.set(forced);
        // Its bytes are not counted any more, so they are freed now and not when its task runs.
        if let Some(outbox) = self.outbox.get().filter(|_| forced == Forced::Evicted) {
            outbox.discard();
        }
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

/// So many bytes of each connection are not counted: a usual request, or a message of which a part has come.
const FREE_BYTES: usize = 2048;

struct Entries {
    connections: HashMap<u64, Rc<Connection>>,
    /// HTTP connections over TCP.
    tcp: Holdings,
    /// Sessions over TCP.
    sessions: Holdings,
    /// Bytes that were sent to us and can't be used yet, or that nobody reads, beyond [`FREE_BYTES`].
    bytes: Holdings,
    unix_connections: usize,
    /// All sessions.
    session_count: usize,
    next_id: u64,
}

impl Entries {
    fn new() -> Self {
        let number = || u64::from_le_bytes(random::bytes());
        let holdings = || Holdings::new(KeyedState::new(number(), number()));
        Entries {
            connections: HashMap::new(),
            tcp: holdings(),
            sessions: holdings(),
            bytes: holdings(),
            unix_connections: 0,
            session_count: 0,
            next_id: 0,
        }
    }

    fn insert(&mut self, connection: Rc<Connection>) {
        match connection.payer.get() {
            Some(payer) => self.tcp.add(payer, 1),
            None => self.unix_connections += 1,
        }
        self.connections.insert(connection.id, connection);
    }

    /// Takes it out of the table; a second call does nothing.
    fn remove(&mut self, connection: &Connection) {
        if self.connections.remove(&connection.id).is_none() {
            return;
        }
        self.hold(connection, 0);
        let is_session = connection.session.get().is_some();
        self.session_count -= usize::from(is_session);
        match (connection.payer.get(), is_session) {
            (Some(payer), true) => self.sessions.remove(payer, 1),
            (Some(payer), false) => self.tcp.remove(payer, 1),
            (None, true) => (),
            (None, false) => self.unix_connections -= 1,
        }
        if self.connections.is_empty() {
            self.connections.shrink_to(64);
        }
    }

    /// Counts a connection as a session from now on, for `payer`.
    fn promote(&mut self, connection: &Connection, session: SessionId, payer: Option<IpAddr>) {
        let held = connection.held.get();
        self.hold(connection, 0);
        match connection.payer.replace(payer) {
            Some(payer) => self.tcp.remove(payer, 1),
            None => self.unix_connections -= 1,
        }
        if let Some(payer) = payer {
            self.sessions.add(payer, 1);
        }
        connection.session.set(Some(session));
        self.session_count += 1;
        self.hold(connection, held);
    }

    /// Notes that a connection holds so many bytes.
    fn hold(&mut self, connection: &Connection, bytes: usize) {
        let before = connection.held.replace(bytes);
        if let Some(payer) = connection.payer.get() {
            self.bytes.remove(payer, before);
            self.bytes.add(payer, bytes);
        }
    }

    /// Connections over the Unix socket have no payer, and are not among these.
    fn of_payers(&self, owner: Option<Prefix>) -> impl Iterator<Item = (&Rc<Connection>, IpAddr)> {
        let paid = self.connections.values().filter_map(|one| Some((one, one.payer.get()?)));
        paid.filter(move |(_, payer)| owner.is_none_or(|owner| owner.contains(*payer)))
    }

    /// The connection to close first: of `owner`, or of whoever has most over TCP.
    fn least_missed(&self, owner: Option<Prefix>) -> Option<Rc<Connection>> {
        let entries = self.of_payers(owner).filter(|(one, _)| one.phase.get() < Phase::Answering);
        self.tcp.victim(entries.map(|(one, payer)| (one, payer, one.eviction_rank()))).cloned()
    }

    /// The connection over the Unix socket to close first.
    fn least_missed_here(&self) -> Option<Rc<Connection>> {
        let unix = self.connections.values().filter(|one| one.payer.get().is_none());
        unix.filter(|one| one.phase.get() < Phase::Answering).min_by_key(|one| one.eviction_rank()).cloned()
    }

    /// The session that makes room for one of `payer`: the oldest that is no member's, of `owner` or of whoever has
    /// most; then any of somebody who has more than `payer` would.
    fn least_missed_session(
        &self,
        owner: Option<Prefix>,
        payer: IpAddr,
        is_member: impl Fn(SessionId) -> bool,
    ) -> Option<Rc<Connection>> {
        let sessions =
            || self.of_payers(owner).filter_map(|(one, payer)| Some((one, payer, one.session.get()?)));
        let strangers = sessions().filter(|(.., session)| !is_member(*session));
        let victim = self.sessions.victim(strangers.map(|(one, payer, _)| (one, payer, one.id)));
        if victim.is_some() || owner.is_some() {
            return victim.cloned();
        }
        let own = self.sessions.weight(payer).map(|held| held + 1);
        let heavier = sessions().filter(|(_, payer, _)| self.sessions.weight(*payer) > own);
        self.sessions.victim(heavier.map(|(one, payer, _)| (one, payer, one.id))).cloned()
    }

    /// The one that holds most bytes: of `owner`, or of whoever holds most.
    fn heaviest(&self, owner: Option<Prefix>) -> Option<Rc<Connection>> {
        let entries = self
            .of_payers(owner)
            .filter(|(one, _)| one.held.get() > 0 && one.phase.get() != Phase::Answering);
        self.bytes.victim(entries.map(|(one, payer)| (one, payer, Reverse(one.held.get())))).cloned()
    }
}

/// What one connection holds of the bytes that all may hold: given back when this is dropped.
pub(super) struct BufferShare {
    table: Rc<ConnectionTable>,
    connection: Rc<Connection>,
}

impl BufferShare {
    /// Holds so many bytes from now on. If that is too much, whoever holds most is cut.
    pub(super) fn hold(&self, bytes: usize) {
        self.table.hold(&self.connection, bytes.saturating_sub(FREE_BYTES));
    }
}

impl Drop for BufferShare {
    fn drop(&mut self) {
        self.hold(0);
    }
}

/// A connection's place in the table, free again when this is dropped.
pub(super) struct ConnectionSlot {
    table: Rc<ConnectionTable>,
    connection: Rc<Connection>,
}

impl ConnectionSlot {
    /// The connection, for somebody who may hold it longer than the slot.
    pub(super) fn connection(&self) -> Rc<Connection> {
        self.connection.clone()
    }
}

impl Deref for ConnectionSlot {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        // At a stop the kernel still delivers the last answers.
        if !self.table.is_stopping.get() {
            self.stream.abandon_unsent();
        }
        self.table.entries.borrow_mut().remove(&self.connection);
    }
}

/// The table of who is connected.
pub(super) struct ConnectionTable {
    entries: RefCell<Entries>,
    limits: RefCell<Rc<HttpLimits>>,
    /// What each source may be sent, in KiB.
    egress: RefCell<SourceBuckets>,
    is_stopping: Cell<bool>,
}

impl ConnectionTable {
    pub(super) fn new(limits: HttpLimits) -> Self {
        let number = || u64::from_le_bytes(random::bytes());
        ConnectionTable {
            entries: RefCell::new(Entries::new()),
            limits: RefCell::new(Rc::new(limits)),
            egress: RefCell::new(SourceBuckets::new(KeyedState::new(number(), number()))),
            is_stopping: Cell::new(false),
        }
    }

    pub(super) fn limits(&self) -> Rc<HttpLimits> {
        self.limits.borrow().clone()
    }

    /// Holds who comes from now on to these. Who is here already stays.
    pub(super) fn set_limits(&self, limits: HttpLimits) {
        *self.limits.borrow_mut() = Rc::new(limits);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.borrow().connections.is_empty()
    }

    /// HTTP connections and WebSocket sessions.
    pub(super) fn counts(&self) -> (usize, usize) {
        let entries = self.entries.borrow();
        (entries.connections.len() - entries.session_count, entries.session_count)
    }

    /// Tells how full everything is, and of whom.
    pub(super) fn report(&self, out: &mut Readings) {
        let (entries, limits) = (self.entries.borrow(), self.limits());
        out.table(Resource::Connections, &entries.tcp, limits.connections);
        out.table(Resource::Sessions, &entries.sessions, limits.sessions);
        out.table(Resource::Buffers, &entries.bytes, limits.buffers);
    }

    /// Makes room for one more from `source`, at the cost of its owner's connections if that has its share, else of
    /// those of whoever has most. False if all of them are being answered.
    pub(super) fn make_room(&self, source: Source) -> bool {
        let limits = self.limits();
        let Source::Ip(payer) = source else {
            let is_full = self.entries.borrow().unix_connections >= limits.unix_connections;
            return !is_full || self.evict(|entries| entries.least_missed_here());
        };
        let (owner, is_full) = {
            let entries = self.entries.borrow();
            let quota = Quota::widening(limits.connections_per_source);
            let owner = entries.tcp.excess(payer, 1, &quota).filter(|_| !limits.speaks_for_many(payer));
            (owner, entries.tcp.total() >= limits.connections)
        };
        (owner.is_none() && !is_full) || self.evict(|entries| entries.least_missed(owner))
    }

    /// Closes the connection that is first in the order, of whoever has most.
    pub(super) fn evict_any(&self) -> bool {
        self.evict(|entries| entries.least_missed(None))
    }

    fn evict(&self, choose: impl FnOnce(&Entries) -> Option<Rc<Connection>>) -> bool {
        let mut entries = self.entries.borrow_mut();
        let Some(connection) = choose(&entries) else { return false };
        entries.remove(&connection);
        drop(entries);
        connection.force(Forced::Evicted);
        true
    }

    /// Counts what waits in `outbox` for the connection from the moment that it waits.
    pub(super) fn meter(self: &Rc<Self>, connection: &Rc<Connection>, outbox: &Rc<SessionOutbox>) {
        let (table, owner) = (Rc::downgrade(self), Rc::downgrade(connection));
        outbox.metered_by(move |bytes| {
            if let (Some(table), Some(connection)) = (table.upgrade(), owner.upgrade()) {
                table.hold(&connection, connection.held.get() + bytes);
            }
        });
        // A connection becomes one session.
        let _ = connection.outbox.set(outbox.clone());
    }

    /// Where a connection says what it holds.
    pub(super) fn account(self: &Rc<Self>, connection: Rc<Connection>) -> BufferShare {
        BufferShare { table: self.clone(), connection }
    }

    fn hold(&self, connection: &Connection, bytes: usize) {
        if connection.held.get() == bytes {
            return;
        }
        let mut entries = self.entries.borrow_mut();
        if !entries.connections.contains_key(&connection.id) {
            return;
        }
        entries.hold(connection, bytes);
        drop(entries);
        loop {
            let limits = self.limits();
            let quota = limits.buffers_quota();
            let (owner, is_full) = {
                let entries = self.entries.borrow();
                let own = connection.payer().and_then(|payer| entries.bytes.excess(payer, 0, &quota));
                (own, entries.bytes.total() > limits.buffers)
            };
            if (owner.is_none() && !is_full) || !self.evict(|entries| entries.heaviest(owner)) {
                return;
            }
        }
    }

    /// Counts what a source is sent.
    pub(super) fn note_sent(&self, payer: Option<IpAddr>, bytes: usize, now: Instant) {
        if let Some(payer) = payer.filter(|payer| self.limits().is_metered(*payer)) {
            let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
            self.egress.borrow_mut().spend(payer, kib, &EGRESS, now);
        }
    }

    /// Until when a source has been sent enough, if it has.
    pub(super) fn sent_enough(&self, payer: Option<IpAddr>, now: Instant) -> Option<Instant> {
        let payer = payer.filter(|payer| self.limits().is_metered(*payer))?;
        self.egress.borrow().peek(payer, 1, &EGRESS, now).err().map(|wait| now + wait)
    }

    /// Takes in a connection that there is room for.
    pub(super) fn insert(self: &Rc<Self>, stream: Stream, source: Source, now: Instant) -> ConnectionSlot {
        let mut entries = self.entries.borrow_mut();
        entries.next_id += 1;
        let connection = Rc::new(Connection {
            stream,
            source,
            payer: Cell::new(match source {
                Source::Ip(address) => Some(address),
                Source::Unix => None,
            }),
            id: entries.next_id,
            phase: Cell::new(Phase::Head),
            since: Cell::new(now),
            deadline: Cell::new(now + self.limits().head_timeout),
            wake_up_at: Cell::new(NEVER),
            forced: Cell::new(Forced::No),
            waker: RefCell::default(),
            session: Cell::new(None),
            outbox: OnceCell::new(),
            held: Cell::new(0),
        });
        entries.insert(connection.clone());
        ConnectionSlot { table: self.clone(), connection }
    }

    /// Makes room for one more session of `payer`, at the cost of those that are no member's.
    pub(super) fn make_room_for_session(
        &self,
        payer: Option<IpAddr>,
        is_member: impl Fn(SessionId) -> bool,
    ) -> bool {
        let limits = self.limits();
        let (owner, is_full) = {
            let entries = self.entries.borrow();
            let quota = Quota::widening(limits.sessions_per_source);
            let payer = payer.filter(|payer| !limits.speaks_for_many(*payer));
            let owner = payer.and_then(|payer| entries.sessions.excess(payer, 1, &quota));
            (owner, entries.session_count >= limits.sessions)
        };
        if owner.is_none() && !is_full {
            return true;
        }
        let payer = payer.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        self.evict(|entries| entries.least_missed_session(owner, payer, is_member))
    }

    /// Counts a connection as a session of `payer` from now on.
    pub(super) fn promote(&self, connection: &Connection, session: SessionId, payer: Option<IpAddr>) {
        connection.phase.set(Phase::Session);
        let mut entries = self.entries.borrow_mut();
        if entries.connections.contains_key(&connection.id) && connection.session.get().is_none() {
            entries.promote(connection, session, payer);
        }
    }

    /// Ends whatever is over its time and wakes the sessions that are due for a ping.
    pub(super) fn sweep(&self, now: Instant) {
        for connection in self.entries.borrow().connections.values() {
            if connection.deadline.get() <= now {
                connection.deadline.set(NEVER);
                connection.force(Forced::TimedOut);
            } else if connection.wake_up_at.get() <= now {
                connection.wake_up_at.set(NEVER);
                connection.wake();
            }
        }
    }

    /// Ends whatever is not being answered, and wakes the rest to see that the daemon stops.
    pub(super) fn stop(&self) {
        self.is_stopping.set(true);
        for connection in self.entries.borrow().connections.values() {
            if connection.phase.get() < Phase::Answering {
                connection.force(Forced::Evicted);
            } else {
                connection.wake();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of `count` connections from one address are let in while each of them is being answered.
    fn let_in(limits: HttpLimits, count: usize) -> usize {
        let table = Rc::new(ConnectionTable::new(limits));
        let source = Source::Ip("192.0.2.1".parse().unwrap());
        let mut slots = Vec::new();
        for _ in 0..count {
            if table.make_room(source) {
                let (socket, _other_end) = std::os::unix::net::UnixStream::pair().unwrap();
                let slot = table.insert(Stream::new(socket.into()).unwrap(), source, Instant::ZERO);
                slot.enter(Phase::Answering, Instant::ZERO, Duration::from_secs(1));
                slots.push(slot);
            }
        }
        slots.len()
    }

    #[test]
    fn a_proxy_speaks_for_many_and_has_no_quota() {
        let limits = HttpLimits { connections: 20, connections_per_source: 5, ..HttpLimits::default() };
        assert_eq!(let_in(limits.clone(), 30), 5);
        let proxies = vec!["192.0.2.1".parse().unwrap()];
        assert_eq!(let_in(HttpLimits { proxies, ..limits }, 30), 20);
    }

    #[test]
    fn what_waits_counts_at_once_and_is_forgotten_with_its_connection() {
        let table = Rc::new(ConnectionTable::new(HttpLimits { buffers: 40_000, ..HttpLimits::default() }));
        let mut all = Vec::new();
        for host in 1..=3 {
            let (socket, other_end) = std::os::unix::net::UnixStream::pair().unwrap();
            let source = Source::Ip(Ipv4Addr::new(192, 0, host, 1).into());
            let slot = table.insert(Stream::new(socket.into()).unwrap(), source, Instant::ZERO);
            slot.enter(Phase::Session, Instant::ZERO, Duration::from_secs(1));
            let outbox = Rc::new(SessionOutbox::new(100, 1 << 20));
            table.meter(&slot.connection(), &outbox);
            all.push((slot, outbox, other_end));
        }
        let text = |length: usize| "x".repeat(length).into();
        // A quarter is what one address may have.
        assert!(all[0].1.push(text(9_000)) && all[1].1.push(text(9_500)));
        let held = || table.entries.borrow().bytes.total();
        assert_eq!(held(), 18_500 + 2 * 4);
        // What many wait for is there once.
        let shared = crate::net::http::SharedText::from("x".repeat(9_000));
        assert!(all[2].1.push(shared.clone()) && held() == 18_508);
        drop(shared);
        // No task has had a turn, and its memory is free.
        all[0].1.push(text(2_000));
        assert!(all[0].1.is_empty() && !all[0].1.push(text(1)));
        assert_eq!(held(), 9_504);
        assert_eq!(all[1].1.len(), 9_504);
    }
}
