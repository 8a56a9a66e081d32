//! The door: HTTP and WebSocket, over TCP and over the Unix socket, on one thread.

mod connections;
mod exchange;
mod limits;
mod outbox;
mod response;
mod service;
mod shared;
mod stream;
mod websocket;

use super::listen::Listener;
use crate::figures::Readings;
use crate::time::Clock;
use crate::wire::http::{RejectedRequest, Source};
use response::BodyEnd;
use rustix::io::Errno;
use shared::DoorState;
use smol::future::yield_now;
use smol::{LocalExecutor, Timer};
use std::cell::Cell;
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;
use stream::Stream;

pub use limits::HttpLimits;
pub use outbox::{SessionOutbox, SharedText};
pub use service::{HttpService, ServiceReply, Upload};

/// How long nobody is let in after the process ran out of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(50);

/// The door. Clones are handles of the same one.
pub struct Door<S: HttpService> {
    shared: Rc<DoorState<S>>,
    is_sweeping: Rc<Cell<bool>>,
}

impl<S: HttpService> Clone for Door<S> {
    fn clone(&self) -> Self {
        Door { shared: self.shared.clone(), is_sweeping: self.is_sweeping.clone() }
    }
}

impl<S: HttpService> Door<S> {
    /// A door in front of `service` whose tasks run on `executor`. Raises the process's limit of open files
    /// as far as it may, and holds `limits` to that.
    pub fn new(
        executor: Rc<LocalExecutor<'static>>,
        service: Rc<S>,
        limits: HttpLimits,
        clock: Clock,
    ) -> Self {
        let shared = DoorState::new(executor, service, limits.within_descriptors(), clock);
        Door { shared: Rc::new(shared), is_sweeping: Rc::default() }
    }

    /// Holds who comes from now on to `limits`, as far as the process may open files. Who is here stays.
    pub fn set_limits(&self, limits: HttpLimits) {
        self.shared.table.set_limits(limits.within_descriptors());
    }

    /// Lets everybody in who comes to `listener`, until [`Door::stop`]. There may be several listeners.
    pub fn serve(&self, listener: Listener) -> impl Future<Output = ()> + use<S> {
        listener.set_buffers(self.shared.table.limits().socket_buffer);
        self.clone().accept_all(listener)
    }

    /// Tells how full its tables are, and of whom, whenever that is asked.
    pub fn reporter(&self) -> impl Fn(&mut Readings) + use<S> {
        let table = self.shared.table.clone();
        move |out| table.report(out)
    }

    /// Lets nobody in any more, ends what is idle, and everything else once it is answered. WebSocket
    /// sessions are closed with 1001.
    pub fn stop(&self) {
        self.shared.stop();
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

    /// Lets somebody in, if need be at the cost of somebody else.
    fn admit(&self, socket: OwnedFd, source: Source) -> io::Result<()> {
        let stream = Stream::new(socket)?;
        if !self.shared.table.make_room(source) {
            self.shared.service.refused(503);
            let answer = RejectedRequest::new(503, "too many connections").answer();
            let head =
                response::head(&answer, BodyEnd::Bytes(answer.body.len()), true, (self.shared.clock)().unix);
            // Unread bytes would turn the close into a reset, which destroys the answer.
            let _ = stream.try_read(&mut self.shared.scratch.borrow_mut());
            // Who does not take it has left already.
            let _ = stream.try_write(&[IoSlice::new(&head), IoSlice::new(&answer.body)]);
            stream.finish_writing();
            return Ok(());
        }
        let slot = self.shared.table.insert(stream, source, (self.shared.clock)().instant);
        self.shared.spawn(exchange::serve(self.shared.clone(), slot));
        if !self.is_sweeping.replace(true) {
            self.shared.spawn(self.clone().sweep());
        }
        Ok(())
    }

    /// Looks for time-outs for as long as anybody is connected.
    async fn sweep(self) {
        while !self.shared.table.is_empty() {
            Timer::after(self.shared.table.limits().sweep_interval).await;
            self.shared.table.sweep((self.shared.clock)().instant);
        }
        self.is_sweeping.set(false);
    }

    async fn accept_all(self, listener: Listener) {
        let mut is_troubled = false;
        // Whether somebody is known to wait. Without a descriptor to spare, accept(2) fails even when nobody
        // does, and then nobody must be evicted.
        let mut is_wanted = false;
        while !self.shared.stopping.get() {
            let trouble = match listener.try_accept() {
                Ok((socket, source)) => match self.admit(socket, source) {
                    Ok(()) => {
                        (is_troubled, is_wanted) = (false, false);
                        // Whoever was evicted closes his descriptor now, before the next one is opened.
                        yield_now().await;
                        continue;
                    }
                    Err(error) => error,
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
                Err(error) if error == Errno::AGAIN || !is_wanted => {
                    match self.shared.until_stopped(listener.acceptable()).await {
                        Some(Ok(())) => {
                            is_wanted = true;
                            continue;
                        }
                        Some(Err(error)) => error,
                        None => break,
                    }
                }
                Err(error) => {
                    if matches!(error, Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) {
                        self.shared.table.evict_any();
                    }
                    is_wanted = false;
                    error.into()
                }
            };
            if !is_troubled {
                is_troubled = true;
                log::warn!("can't let anybody in on {listener}, trying again: {trouble}");
            }
            self.shared.until_stopped(Timer::after(PAUSE)).await;
        }
    }
}
