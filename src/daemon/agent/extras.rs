//! The sockets beside the one, for as long as the agent wants them.

use super::AgentLoop;
use crate::agent::network::SocketWish;
use crate::datagram::Path;
use crate::net::extra_socket::ExtraSocket;
use smol::Task;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

/// Most that are opened, whatever is wanted.
const MOST: usize = 256;
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
            extra.socket.send(to, datagram);
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
                    open.push(Some(OpenExtra { socket, _task: task }));
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
    }

    async fn hear(self: Rc<Self>, number: u16, socket: Rc<ExtraSocket>) {
        let mut buffer = vec![0; DATAGRAM];
        loop {
            match socket.receive(&mut buffer).await {
                Ok((length, from)) => {
                    self.take_from_extra(number, &mut buffer[..length], Path::to(from));
                }
                Err(error) => return log::debug!("an additional socket failed: {error}"),
            }
        }
    }
}
