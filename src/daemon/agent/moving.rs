//! Moves datagrams and packets through the agent.

use super::extras::Extras;
use super::{
    AgentError, AgentLoop, AgentSocket, DaemonError, Inbox, LocalInterface, RelaySocket, SendQueue,
    run_tasks, udp,
};
use crate::agent::network::SocketWish;
use crate::agent::{AgentOutput, HEADROOM};
use crate::datagram::Path;
use crate::time::Now;
use smol::future::FutureExt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::rc::Rc;

/// The way out.
struct Moved<'a> {
    outbox: &'a mut SendQueue,
    local: Option<&'a LocalInterface>,
    extras: &'a Extras,
}

impl AgentOutput for Moved<'_> {
    fn send(&mut self, to: Path, datagram: &[u8]) {
        self.outbox.send(to, datagram);
    }

    fn send_from(&mut self, socket: u16, to: Path, datagram: &[u8]) {
        self.extras.send(socket, to.remote, datagram);
    }

    fn deliver(&mut self, packet: &[u8]) {
        if let Some(local) = self.local {
            local.deliver(packet);
        }
    }
}

enum Pause {
    Rebind,
    Over,
}

impl AgentLoop {
    /// Moves what comes, until it is over or `stopped`.
    pub(super) fn drive<S: Future<Output = ()>>(&self, stopped: &impl Fn() -> S) -> Result<(), AgentError> {
        loop {
            let socket = self.socket.borrow().clone();
            let local = self.local.borrow().clone();
            let others: Vec<_> = local.iter().map(|local| local.as_fd()).collect();
            let sockets: [&RelaySocket; 1] = [&socket.socket];
            let ready = |index: usize| {
                match index {
                    0 => self.turn(&socket, local.as_deref())?,
                    _ => self.local_turn(&socket, local.as_deref()),
                }
                self.poll_agent();
                Ok(())
            };
            let rebind = async {
                self.rebind.rung().await;
                Pause::Rebind
            };
            let over = async {
                self.over.rung().or(stopped()).await;
                Pause::Over
            };
            let pause = over.or(rebind).or(run_tasks(&self.executor, self.clock));
            match udp::drive(pause, &sockets, &others, ready).map_err(DaemonError::Relay)? {
                Pause::Over => return Ok(()),
                Pause::Rebind => self.replace_socket()?,
            }
        }
    }

    fn replace_socket(&self) -> Result<(), DaemonError> {
        // Any but the one before: that is what somebody on the way no longer carries.
        let socket = AgentSocket::bind(0, self.offload)?;
        self.state.borrow_mut().port = socket.socket.address().port();
        *self.socket.borrow_mut() = Rc::new(socket);
        self.keep();
        self.tell_links(true);
        self.poll_agent();
        Ok(())
    }

    fn turn(&self, own: &AgentSocket, local: Option<&LocalInterface>) -> io::Result<()> {
        let now = (self.clock)();
        let mut agent = self.agent.borrow_mut();
        let (mut inbox, mut outbox) = (self.inbox.borrow_mut(), own.outbox.borrow_mut());
        let inbox: &mut Inbox = &mut inbox;
        own.socket.turn(inbox, &mut outbox, now.instant, |datagram, meta, outbox| {
            agent.receive(datagram, meta.path, now, &mut Moved { outbox, local, extras: &self.extras });
        })?;
        Ok(())
    }

    fn local_turn(&self, own: &AgentSocket, local: Option<&LocalInterface>) {
        let Some(interface) = local else { return };
        let now = (self.clock)();
        let mut agent = self.agent.borrow_mut();
        let mut outbox = own.outbox.borrow_mut();
        outbox.set_now(now.instant);
        interface.turn(HEADROOM, |buffer, length| {
            agent.send_local(
                buffer,
                length,
                now,
                &mut Moved { outbox: &mut outbox, local, extras: &self.extras },
            );
            own.socket.make_room(&mut outbox);
        });
        own.socket.flush(&mut outbox);
    }

    /// Takes a datagram that came to an additional socket.
    pub(super) fn take_from_extra(&self, number: u16, datagram: &mut [u8], path: Path) {
        let now: Now = (self.clock)();
        let (own, local) = (self.socket.borrow().clone(), self.local.borrow().clone());
        {
            let mut outbox = own.outbox.borrow_mut();
            outbox.set_now(now.instant);
            let mut out = Moved { outbox: &mut outbox, local: local.as_deref(), extras: &self.extras };
            self.agent.borrow_mut().receive_on(number, datagram, path, now, &mut out);
        }
        self.poll_agent();
    }

    /// Takes somebody's call on the LAN.
    pub(super) fn take_call(&self, datagram: &mut [u8], from: SocketAddr) {
        let now: Now = (self.clock)();
        let (own, local) = (self.socket.borrow().clone(), self.local.borrow().clone());
        {
            let mut outbox = own.outbox.borrow_mut();
            outbox.set_now(now.instant);
            let mut out = Moved { outbox: &mut outbox, local: local.as_deref(), extras: &self.extras };
            self.agent.borrow_mut().receive_call(datagram, from, now, &mut out);
        }
        self.poll_agent();
    }

    /// Hands over what came for this machine, and has the agent do what is due.
    pub(super) fn poll_agent(&self) {
        let now: Now = (self.clock)();
        let (own, local) = (self.socket.borrow().clone(), self.local.borrow().clone());
        {
            let mut outbox = own.outbox.borrow_mut();
            outbox.set_now(now.instant);
            local.iter().for_each(|local| local.flush());
            self.agent
                .borrow_mut()
                .poll(now, &mut Moved { outbox: &mut outbox, local: local.as_deref(), extras: &self.extras });
            own.socket.flush(&mut outbox);
        }
        self.arm();
    }

    /// Sees to what the agent wants besides: its timers, marks to be kept, offers to be carried, another socket.
    pub(super) fn arm(&self) {
        let mut agent = self.agent.borrow_mut();
        if let Some(mark) = agent.take_stamp_mark() {
            self.state.borrow_mut().stamp_mark = mark;
            self.keep();
        }
        let signals = agent.take_signals();
        if !signals.is_empty() {
            let mut session = self.session.borrow_mut();
            signals.into_iter().for_each(|(to, data)| session.signal(to, data));
            self.session_alarm.ring();
        }
        match agent.wants_socket() {
            Some(SocketWish::Rebind) => self.rebind.ring(),
            Some(wish @ (SocketWish::Extra { .. } | SocketWish::Keep { .. })) => {
                self.extras.wish(wish);
                self.extras_bell.ring();
            }
            None => (),
        }
        self.agent_alarm.advance(agent.next());
    }

    /// Does what is due in the agent, for ever.
    pub(super) async fn keep_time(self: Rc<Self>) {
        loop {
            self.notice_sleep();
            let now = (self.clock)();
            let due = self.agent.borrow_mut().next();
            if due.is_some_and(|due| due <= now.instant) {
                self.poll_agent();
                // Something due at once again would be a mistake; it must not become a busy loop.
                smol::future::yield_now().await;
            } else {
                self.agent_alarm.wait(due, now).await;
            }
        }
    }
}
