//! The sockets beside the one, for as long as the agent wants them.

use super::AgentLoop;
use crate::agent::network::SocketWish;
use crate::datagram::Path;
use crate::net::extra_socket::ExtraSocket;
use smol::{Task, Timer};
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// Most that are opened, whatever is wanted.
const MOST: usize = 256;
/// A path by one of them that is in use says something twice within so long.
const UNUSED: Duration = Duration::from_secs(60);
/// Room for a datagram, in bytes: those of a path over Ethernet.
const DATAGRAM: usize = 1600;

/// They and what is wanted of them.
#[derive(Default)]
pub(super) struct Extras {
    wish: Cell<Option<SocketWish>>,
    /// The first has the number 1.
    open: RefCell<Vec<Option<OpenExtra>>>,
}

struct OpenExtra {
    socket: Rc<ExtraSocket>,
    /// Something came or went since this was last looked at.
    is_used: Cell<bool>,
    _task: Task<()>,
}

impl Extras {
    /// This is wanted of them.
    pub fn wish(&self, wish: SocketWish) {
        self.wish.set(Some(wish));
    }

    /// Sends a datagram by one of them.
    pub fn send(&self, number: u16, to: SocketAddr, datagram: &[u8]) {
        let open = self.open.borrow();
        let found = usize::from(number).checked_sub(1).and_then(|index| open.get(index)?.as_ref());
        if let Some(extra) = found {
            extra.is_used.set(true);
            extra.socket.send(to, datagram);
        }
    }

    /// Something came by one of them.
    fn note(&self, number: u16) {
        if let Some(Some(extra)) = self.open.borrow().get(usize::from(number) - 1) {
            extra.is_used.set(true);
        }
    }

    /// Closes those by which nothing came or went since this was last asked.
    fn close_unused(&self) {
        let mut open = self.open.borrow_mut();
        for extra in open.iter_mut().filter(|extra| extra.as_ref().is_some_and(|open| !open.is_used.take())) {
            *extra = None;
        }
    }
}

impl AgentLoop {
    /// Opens and closes them as the agent wants, for ever.
    pub(super) async fn keep_extras(self: Rc<Self>) {
        loop {
            self.extras_bell.rung().await;
            match self.extras.wish.take() {
                Some(SocketWish::Extra { count }) => self.open_extras(count.min(MOST)),
                Some(SocketWish::Keep { socket }) => {
                    log::debug!("of the additional sockets {} is kept", socket.map_or(0, u32::from));
                    for (index, extra) in self.extras.open.borrow_mut().iter_mut().enumerate() {
                        if socket.map(usize::from) != Some(index + 1) {
                            *extra = None;
                        }
                    }
                }
                Some(SocketWish::Rebind) | None => (),
            }
        }
    }

    fn open_extras(self: &Rc<Self>, count: usize) {
        let mut open = Vec::with_capacity(count);
        for number in 1..=count as u16 {
            match ExtraSocket::open() {
                Ok(socket) => {
                    let socket = Rc::new(socket);
                    let task = self.executor.spawn(self.clone().hear(number, socket.clone()));
                    open.push(Some(OpenExtra { socket, is_used: Cell::new(true), _task: task }));
                }
                Err(error) => {
                    log::debug!("no more than {} additional sockets: {error}", open.len());
                    break;
                }
            }
        }
        let count = open.len() as u16;
        log::debug!("{count} additional sockets");
        *self.extras.open.borrow_mut() = open;
        self.agent.borrow_mut().set_extra_sockets(count, (self.clock)());
        self.poll_agent();
        let own = self.clone();
        let close_unused = async move {
            for _ in 0..2 {
                Timer::after(UNUSED).await;
                own.extras.close_unused();
            }
        };
        self.executor.spawn(close_unused).detach();
    }

    async fn hear(self: Rc<Self>, number: u16, socket: Rc<ExtraSocket>) {
        let mut buffer = vec![0; DATAGRAM];
        loop {
            match socket.receive(&mut buffer).await {
                Ok((length, from)) => {
                    self.extras.note(number);
                    self.take_from_extra(number, &mut buffer[..length], Path::to(from));
                }
                Err(error) => return log::debug!("an additional socket failed: {error}"),
            }
        }
    }
}
