//! The table of who is connected: who may come in, who has to go for it, and who took too long.

use super::limits::Limits;
use super::stream::Stream;
use crate::time::{Clock, Instant};
use crate::wire::http::Source;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv6Addr};
use std::ops::Deref;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// An instant that never comes.
pub(super) const NEVER: Instant = Instant::from_nanos(u64::MAX);

/// The rate, in bytes per second, that every reader of an answer is expected to manage.
const SLOWEST_READER: u64 = 16 * 1024;

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
    /// Being answered.
    Answering,
    /// A WebSocket session.
    Session,
}

/// Why a connection is over before its time.
#[derive(Debug)]
pub(super) enum Ended {
    /// It took too long.
    TimedOut,
    /// Its place was needed, or the daemon stops.
    Evicted,
    /// The peer or the network ended it.
    Gone(io::Error),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::TimedOut => f.write_str("it took too long"),
            Ended::Evicted => f.write_str("its place was needed"),
            Ended::Gone(error) => error.fmt(f),
        }
    }
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Ended::Gone(error)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Cut {
    No,
    TimedOut,
    Evicted,
}

/// Who shares a quota.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Quota {
    Unix,
    Ip(IpAddr),
}

impl Quota {
    /// An IPv4 address, or the /64 of an IPv6 address: whoever has one address of it has them all.
    fn of(source: Source) -> Self {
        match source {
            Source::Unix => Quota::Unix,
            Source::Ip(IpAddr::V6(ip)) => Quota::Ip(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into()),
            Source::Ip(ip) => Quota::Ip(ip),
        }
    }
}

/// One connection, shared by its task and the table.
pub(super) struct Connection {
    pub(super) stream: Stream,
    pub(super) source: Source,
    quota: Quota,
    id: u64,
    phase: Cell<Phase>,
    /// When the phase began.
    since: Cell<Instant>,
    deadline: Cell<Instant>,
    /// When a session wants to be woken to send a ping.
    nudge_at: Cell<Instant>,
    cut: Cell<Cut>,
    waker: RefCell<Option<Waker>>,
    counts_as_session: Cell<bool>,
}

impl Connection {
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
        if self.cut.get() == Cut::TimedOut {
            self.cut.set(Cut::No);
        }
    }

    pub(super) fn set_nudge(&self, at: Instant) {
        self.nudge_at.set(at);
    }

    /// Ready when the connection is to be ended; told once. Otherwise the task is woken when it is.
    pub(super) fn poll_cut(&self, cx: &Context<'_>) -> Poll<Ended> {
        match self.cut.replace(Cut::No) {
            Cut::TimedOut => Poll::Ready(Ended::TimedOut),
            Cut::Evicted => Poll::Ready(Ended::Evicted),
            Cut::No => {
                let mut waker = self.waker.borrow_mut();
                if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                    *waker = Some(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }

    /// Waits until there may be something to read.
    pub(super) async fn readable(&self) -> Result<(), Ended> {
        self.woken(|cx| self.stream.poll_readable(cx)).await
    }

    /// Waits until something can perhaps be written.
    async fn writable(&self) -> Result<(), Ended> {
        self.woken(|cx| self.stream.poll_writable(cx)).await
    }

    /// Registers with the reactor and then takes the first wake-up for what it most likely is. The reactor
    /// itself discards events that could be older than the registration, as those are that come while its
    /// helper thread waits; finding out by a read costs less than another round.
    async fn woken(
        &self,
        mut register: impl FnMut(&mut Context<'_>) -> Poll<io::Result<()>>,
    ) -> Result<(), Ended> {
        let mut is_registered = false;
        poll_fn(|cx| match self.poll_cut(cx) {
            Poll::Ready(ended) => Poll::Ready(Err(ended)),
            Poll::Pending if is_registered => Poll::Ready(Ok(())),
            Poll::Pending => {
                is_registered = true;
                register(cx).map_err(Ended::Gone)
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
    ) -> Result<(), Ended> {
        let length = (first.len() + second.len()) as u64;
        let mut waited = false;
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
                        let patience = span + Duration::from_secs(length / SLOWEST_READER);
                        self.set_deadline(clock().instant + patience);
                    }
                    self.writable().await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        if waited {
            self.set_deadline(NEVER);
        }
        Ok(())
    }

    fn cut(&self, cut: Cut) {
        self.cut.set(cut);
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

/// How much of a quota is used.
#[derive(Clone, Copy, Default, Debug)]
struct Use {
    connections: usize,
    sessions: usize,
}

#[derive(Default)]
struct Entries {
    connections: HashMap<u64, Rc<Connection>>,
    by_quota: HashMap<Quota, Use>,
    /// All of them over TCP, without sessions.
    tcp: usize,
    sessions: usize,
    next_id: u64,
}

impl Entries {
    fn used(&self, quota: Quota) -> Use {
        self.by_quota.get(&quota).copied().unwrap_or_default()
    }

    fn insert(&mut self, connection: Rc<Connection>) {
        self.by_quota.entry(connection.quota).or_default().connections += 1;
        self.tcp += usize::from(connection.quota != Quota::Unix);
        self.connections.insert(connection.id, connection);
    }

    /// Does nothing the second time.
    fn remove(&mut self, connection: &Connection) {
        if self.connections.remove(&connection.id).is_none() {
            return;
        }
        let used = self.by_quota.entry(connection.quota).or_default();
        if connection.counts_as_session.get() {
            used.sessions -= 1;
            self.sessions -= 1;
        } else {
            used.connections -= 1;
            self.tcp -= usize::from(connection.quota != Quota::Unix);
        }
        if used.connections + used.sessions == 0 {
            self.by_quota.remove(&connection.quota);
        }
        if self.connections.is_empty() {
            self.connections.shrink_to(64);
            self.by_quota.shrink_to(64);
        }
    }

    /// The connection that is missed least, of `quota` or of all that come over TCP.
    fn least_missed(&self, quota: Option<Quota>) -> Option<Rc<Connection>> {
        self.connections
            .values()
            .filter(|connection| match quota {
                Some(quota) => connection.quota == quota,
                None => connection.quota != Quota::Unix,
            })
            .filter(|connection| connection.phase.get() < Phase::Answering)
            .min_by_key(|connection| (connection.phase.get(), connection.since.get(), connection.id))
            .cloned()
    }
}

/// A connection's place in the table, free again when this is dropped.
pub(super) struct Seat {
    table: Rc<Table>,
    connection: Rc<Connection>,
}

impl Seat {
    /// The connection, for somebody who may hold it longer than the seat.
    pub(super) fn connection(&self) -> Rc<Connection> {
        self.connection.clone()
    }
}

impl Deref for Seat {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.table.entries.borrow_mut().remove(&self.connection);
    }
}

/// The table of who is connected.
pub(super) struct Table {
    entries: RefCell<Entries>,
    limits: RefCell<Rc<Limits>>,
}

impl Table {
    pub(super) fn new(limits: Limits) -> Self {
        Table { entries: RefCell::default(), limits: RefCell::new(Rc::new(limits)) }
    }

    pub(super) fn limits(&self) -> Rc<Limits> {
        self.limits.borrow().clone()
    }

    /// Holds who comes from now on to these. Who is here already stays.
    pub(super) fn set_limits(&self, limits: Limits) {
        *self.limits.borrow_mut() = Rc::new(limits);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.borrow().connections.is_empty()
    }

    /// HTTP connections and WebSocket sessions.
    pub(super) fn counts(&self) -> (usize, usize) {
        let entries = self.entries.borrow();
        (entries.connections.len() - entries.sessions, entries.sessions)
    }

    /// Makes room for one more from `source`, at the cost of its own connections if it has its share, else
    /// of anybody's. False if all of them are being answered.
    pub(super) fn make_room(&self, source: Source) -> bool {
        let (quota, limits) = (Quota::of(source), self.limits());
        let (own, all) = {
            let entries = self.entries.borrow();
            (entries.used(quota).connections, entries.tcp)
        };
        if quota == Quota::Unix {
            return own < limits.unix_connections || self.evict(Some(quota));
        }
        if own >= limits.connections_per_source && !limits.speaks_for_many(source) {
            return self.evict(Some(quota));
        }
        all < limits.connections || self.evict(None)
    }

    /// Gives up the connection that is missed least, whoever's it is.
    pub(super) fn evict_any(&self) -> bool {
        self.evict(None)
    }

    fn evict(&self, quota: Option<Quota>) -> bool {
        let mut entries = self.entries.borrow_mut();
        let Some(connection) = entries.least_missed(quota) else { return false };
        entries.remove(&connection);
        drop(entries);
        connection.cut(Cut::Evicted);
        true
    }

    /// Takes in a connection that there is room for.
    pub(super) fn insert(self: &Rc<Self>, stream: Stream, source: Source, now: Instant) -> Seat {
        let mut entries = self.entries.borrow_mut();
        entries.next_id += 1;
        let connection = Rc::new(Connection {
            stream,
            source,
            quota: Quota::of(source),
            id: entries.next_id,
            phase: Cell::new(Phase::Head),
            since: Cell::new(now),
            deadline: Cell::new(now + self.limits().head_timeout),
            nudge_at: Cell::new(NEVER),
            cut: Cell::new(Cut::No),
            waker: RefCell::default(),
            counts_as_session: Cell::new(false),
        });
        entries.insert(connection.clone());
        Seat { table: self.clone(), connection }
    }

    /// Whether there is room for one more session beside what `connection`'s source has.
    pub(super) fn has_room_for_session(&self, connection: &Connection) -> bool {
        let (entries, limits) = (self.entries.borrow(), self.limits());
        let own = entries.used(connection.quota).sessions;
        entries.sessions < limits.sessions
            && (own < limits.sessions_per_source || limits.speaks_for_many(connection.source))
    }

    /// Counts a connection as a session from now on.
    pub(super) fn promote(&self, connection: &Connection) {
        connection.phase.set(Phase::Session);
        let mut entries = self.entries.borrow_mut();
        if entries.connections.contains_key(&connection.id) && !connection.counts_as_session.replace(true) {
            let used = entries.by_quota.entry(connection.quota).or_default();
            used.connections -= 1;
            used.sessions += 1;
            entries.sessions += 1;
            entries.tcp -= usize::from(connection.quota != Quota::Unix);
        }
    }

    /// Ends whatever is over its time and wakes the sessions that are due for a ping.
    pub(super) fn sweep(&self, now: Instant) {
        for connection in self.entries.borrow().connections.values() {
            if connection.deadline.get() <= now {
                connection.deadline.set(NEVER);
                connection.cut(Cut::TimedOut);
            } else if connection.nudge_at.get() <= now {
                connection.nudge_at.set(NEVER);
                connection.wake();
            }
        }
    }

    /// Ends whatever is not being answered, and wakes the rest to see that the daemon stops.
    pub(super) fn stop(&self) {
        for connection in self.entries.borrow().connections.values() {
            if connection.phase.get() < Phase::Answering {
                connection.cut(Cut::Evicted);
            } else {
                connection.wake();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_an_ipv4_address_or_an_ipv6_network() {
        let quota = |ip: &str| Quota::of(Source::Ip(ip.parse().unwrap()));
        assert_eq!(quota("2001:db8:1:2:3:4:5:6"), quota("2001:db8:1:2:ffff::1"));
        assert_ne!(quota("2001:db8:1:2::1"), quota("2001:db8:1:3::1"));
        assert_ne!(quota("192.0.2.1"), quota("192.0.2.2"));
        assert_ne!(quota("192.0.2.1"), Quota::of(Source::Unix));
    }

    /// How many of `count` connections from one address are let in while each of them is being answered.
    fn let_in(limits: Limits, count: usize) -> usize {
        let table = Rc::new(Table::new(limits));
        let source = Source::Ip("192.0.2.1".parse().unwrap());
        let mut seats = Vec::new();
        for _ in 0..count {
            if table.make_room(source) {
                let (socket, _other_end) = std::os::unix::net::UnixStream::pair().unwrap();
                let seat = table.insert(Stream::new(socket.into()).unwrap(), source, Instant::ZERO);
                seat.enter(Phase::Answering, Instant::ZERO, Duration::from_secs(1));
                seats.push(seat);
            }
        }
        seats.len()
    }

    #[test]
    fn a_proxy_speaks_for_many_and_has_no_quota() {
        let limits = Limits { connections: 20, connections_per_source: 5, ..Limits::default() };
        assert_eq!(let_in(limits.clone(), 30), 5);
        let proxies = vec!["192.0.2.1".parse().unwrap()];
        assert_eq!(let_in(Limits { proxies, ..limits }, 30), 20);
    }
}
