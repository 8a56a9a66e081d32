//! The door: HTTP and WebSocket, over TCP and over the Unix socket, on one thread.

use super::connections::{Connection, Ended, Table};
use super::exchange;
use super::listen::Listener;
use super::response::{self, Length};
use super::stream::Stream;
use crate::time::Clock;
use crate::wire::http::{Refusal, Source};
use rustix::io::Errno;
use smol::future::{FutureExt, yield_now};
use smol::{LocalExecutor, Timer};
use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::time::Duration;

pub use super::limits::Limits;
pub use super::outbox::{Outbox, SharedText};
pub use super::service::{Reply, Service};

/// How long nobody is let in after the process ran out of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(50);

/// Bytes read at most at a time, into a buffer that all connections share.
const SCRATCH: usize = 16 * 1024;

/// What all connections share.
pub(super) struct Shared<S: Service> {
    executor: Rc<LocalExecutor<'static>>,
    pub(super) service: Rc<S>,
    pub(super) clock: Clock,
    pub(super) table: Rc<Table>,
    /// What a read fills before it is known whose bytes they are and how many. Never held while waiting.
    pub(super) scratch: RefCell<Box<[u8]>>,
    pub(super) stopping: Cell<bool>,
    stop: (smol::channel::Sender<Infallible>, smol::channel::Receiver<Infallible>),
    is_sweeping: Cell<bool>,
}

impl<S: Service> Shared<S> {
    /// Runs a connection's task. If it panics, that connection is dropped and nothing else.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.executor.spawn(AssertUnwindSafe(task).catch_unwind()).detach();
    }

    /// Reads and forgets up to `most` bytes, or until the peer has sent all it has.
    pub(super) async fn throw_away(&self, connection: &Connection, most: usize) -> Result<(), Ended> {
        let mut thrown = 0;
        while thrown < most {
            let result = connection.stream.try_read(&mut self.scratch.borrow_mut());
            match result {
                Ok(0) => break,
                Ok(length) => thrown += length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => connection.readable().await?,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Lets somebody in, if need be at the cost of somebody else.
    fn admit(self: &Rc<Self>, socket: OwnedFd, source: Source) -> io::Result<()> {
        let stream = Stream::new(socket)?;
        if !self.table.make_room(source) {
            self.service.refused(503);
            let answer = Refusal::new(503, "too many connections").answer();
            let head = response::head(&answer, Length::Bytes(answer.body.len()), true);
            // Unread bytes would turn the close into a reset, which destroys the answer.
            let _ = stream.try_read(&mut self.scratch.borrow_mut());
            stream.try_write(&[IoSlice::new(&head), IoSlice::new(&answer.body)])?;
            stream.finish_writing();
            return Ok(());
        }
        let seat = self.table.insert(stream, source, (self.clock)().instant);
        self.spawn(exchange::serve(self.clone(), seat));
        if !self.is_sweeping.replace(true) {
            self.spawn(self.clone().sweep());
        }
        Ok(())
    }

    /// Looks for time-outs for as long as anybody is connected.
    async fn sweep(self: Rc<Self>) {
        while !self.table.is_empty() {
            Timer::after(self.table.limits().sweep_interval).await;
            self.table.sweep((self.clock)().instant);
        }
        self.is_sweeping.set(false);
    }

    async fn accept_all(self: Rc<Self>, listener: Listener) {
        let mut is_troubled = false;
        while !self.stopping.get() {
            let trouble = match listener.try_accept() {
                Ok((socket, source)) => match self.admit(socket, source) {
                    Ok(()) => {
                        is_troubled = false;
                        // Whoever was evicted closes his descriptor now, before the next one is opened.
                        yield_now().await;
                        continue;
                    }
                    Err(error) => error,
                },
                Err(Errno::AGAIN) => match self.until_stopped(listener.acceptable()).await {
                    Some(Err(error)) => error,
                    Some(Ok(())) | None => continue,
                },
                // What Linux passes on from the connection that was to be accepted (accept(2)).
                Err(
                    Errno::CONNABORTED
                    | Errno::INTR
                    | Errno::PROTO
                    | Errno::NETDOWN
                    | Errno::NETUNREACH
                    | Errno::HOSTDOWN
                    | Errno::HOSTUNREACH
                    | Errno::NONET
                    | Errno::OPNOTSUPP
                    | Errno::PERM,
                ) => {
                    yield_now().await;
                    continue;
                }
                Err(error @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => {
                    self.table.evict_any();
                    error.into()
                }
                Err(error) => error.into(),
            };
            if !is_troubled {
                is_troubled = true;
                log::warn!("can't let anybody in on {listener}, trying again: {trouble}");
            }
            self.until_stopped(Timer::after(PAUSE)).await;
        }
    }

    /// Waits for `future`; `None` if the door was stopped first.
    async fn until_stopped<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let stopped = async {
            // Nothing is ever sent: the channel only closes.
            let _ = self.stop.1.recv().await;
            None
        };
        async { Some(future.await) }.or(stopped).await
    }
}

/// The door. Clones are handles of the same one.
pub struct Door<S: Service> {
    shared: Rc<Shared<S>>,
}

impl<S: Service> Clone for Door<S> {
    fn clone(&self) -> Self {
        Door { shared: self.shared.clone() }
    }
}

impl<S: Service> Door<S> {
    /// A door in front of `service` whose tasks run on `executor`. Raises the process's limit of open files
    /// as far as it may, and holds `limits` to that.
    pub fn new(executor: Rc<LocalExecutor<'static>>, service: Rc<S>, limits: Limits, clock: Clock) -> Self {
        Door {
            shared: Rc::new(Shared {
                executor,
                service,
                clock,
                table: Rc::new(Table::new(limits.within_descriptors())),
                scratch: RefCell::new(vec![0; SCRATCH].into()),
                stopping: Cell::new(false),
                stop: smol::channel::bounded(1),
                is_sweeping: Cell::new(false),
            }),
        }
    }

    /// Lets everybody in who comes to `listener`, until [`Door::stop`]. There may be several listeners.
    pub fn serve(&self, listener: Listener) -> impl Future<Output = ()> + use<S> {
        self.shared.clone().accept_all(listener)
    }

    /// Lets nobody in any more, ends what is idle, and everything else once it is answered. WebSocket
    /// sessions are closed with 1001.
    pub fn stop(&self) {
        self.shared.stopping.set(true);
        self.shared.stop.0.close();
        self.shared.table.stop();
    }

    /// Waits until nobody is connected, which after [`Door::stop`] comes to pass.
    pub async fn drained(&self) {
        while !self.shared.table.is_empty() {
            Timer::after(Duration::from_millis(10)).await;
        }
    }

    /// HTTP connections open now.
    pub fn connections(&self) -> usize {
        self.shared.table.counts().0
    }

    /// WebSocket sessions open now.
    pub fn sessions(&self) -> usize {
        self.shared.table.counts().1
    }
}
