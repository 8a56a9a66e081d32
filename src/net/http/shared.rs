//! What all connections of a door have in common.

use super::connections::{CloseReason, Connection, ConnectionTable};
use super::limits::HttpLimits;
use super::service::HttpService;
use crate::time::Clock;
use smol::LocalExecutor;
use smol::future::FutureExt;
use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::io;
use std::rc::Rc;

/// Bytes read at most at a time, into a buffer that all connections share.
const SCRATCH: usize = 16 * 1024;

/// What all connections of a door have in common.
pub(super) struct DoorState<S: HttpService> {
    executor: Rc<LocalExecutor<'static>>,
    pub(super) service: Rc<S>,
    pub(super) clock: Clock,
    pub(super) table: Rc<ConnectionTable>,
    /// What a read fills before it is known whose bytes they are and how many. Never held while waiting.
    pub(super) scratch: RefCell<Box<[u8]>>,
    pub(super) stopping: Cell<bool>,
    stop: (smol::channel::Sender<Infallible>, smol::channel::Receiver<Infallible>),
}

impl<S: HttpService> DoorState<S> {
    pub(super) fn new(
        executor: Rc<LocalExecutor<'static>>,
        service: Rc<S>,
        limits: HttpLimits,
        clock: Clock,
    ) -> Self {
        DoorState {
            executor,
            service,
            clock,
            table: Rc::new(ConnectionTable::new(limits)),
            scratch: RefCell::new(vec![0; SCRATCH].into()),
            stopping: Cell::new(false),
            stop: smol::channel::bounded(1),
        }
    }

    /// Runs a connection's task. A panic in it ends the process: the builds that are shipped can't unwind
    /// (Cargo.toml), and all others do the same. The service manager starts it again, over all that was
    /// acknowledged; `tests/requests` looks for requests that would do this.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        // In a box, so that the executor's code is there once and not for each kind of task.
        self.executor.spawn(task.boxed_local()).detach();
    }

    /// Reads and forgets up to `most` bytes, or until the peer has sent all it has.
    pub(super) async fn throw_away(&self, connection: &Connection, most: usize) -> Result<(), CloseReason> {
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

    /// Ends everything that can be ended, and what is being answered afterwards.
    pub(super) fn stop(&self) {
        self.stopping.set(true);
        self.stop.0.close();
        self.table.stop();
    }

    /// Waits for `future`; `None` if the door was stopped first.
    pub(super) async fn until_stopped<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let stopped = async {
            // Nothing is ever sent: the channel only closes.
            let _ = self.stop.1.recv().await;
            None
        };
        async { Some(future.await) }.or(stopped).await
    }
}
