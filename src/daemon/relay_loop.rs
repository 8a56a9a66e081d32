//! Moves datagrams into the relay and out of it.

use super::DaemonError;
use super::bell::{Alarm, Bell};
use super::keeping::{self, Keeping};
use super::local_interface::LocalInterface;
use crate::crypto::x25519::PublicKey;
use crate::datagram::Path;
use crate::figures::RelayStats;
use crate::net::udp::{self, Inbox, RelaySocket, SendQueue};
use crate::relay::{Arrival, LOCAL_HEADROOM, Output, Port, Relay};
use crate::store::handover::HandOver;
use crate::time::{Clock, Instant, Now};
use crate::tun::Tun;
use std::cell::{Cell, RefCell};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::rc::Rc;

/// Handshakes with the hub that may wait for the control plane. One that is lost comes again in two minutes.
const MAX_HANDSHAKES: usize = 256;

/// With which key, and from where.
type Handshake = (PublicKey, IpAddr);

/// The relay with its sockets.
pub struct RelayLoop {
    pub(super) relay: RefCell<Relay>,
    inbox: RefCell<Inbox>,
    main: Socket,
    /// For STUN alone. A relay without it still does everything else.
    alternate: Option<Socket>,
    pub(super) clock: Clock,
    alarm: Alarm,
    /// The mark for TAI64N that must be stored, and what is rung when there is one: once or twice a day.
    mark: Cell<Option<u64>>,
    marked: Bell,
    /// Handshakes that were completed at the hub.
    handshakes: (smol::channel::Sender<Handshake>, smol::channel::Receiver<Handshake>),
    /// How many members were reached, and when they were counted.
    pub(super) load: Cell<(Instant, u32)>,
    local: Option<LocalInterface>,
    keeping: Keeping,
}

struct Socket {
    socket: RelaySocket,
    outbox: RefCell<SendQueue>,
}

impl Socket {
    fn new(socket: RelaySocket, gso: bool) -> Self {
        let mut outbox = socket.outbox();
        if !gso {
            outbox.disable_gso();
        }
        Socket { outbox: RefCell::new(outbox), socket }
    }

    fn flush(&self) {
        self.socket.flush(&mut self.outbox.borrow_mut());
    }
}

/// The way out while one port's datagrams are handled.
struct PortOutput<'a> {
    outbox: &'a mut SendQueue,
    port: Port,
    other: Option<&'a Socket>,
    /// Whether something leaves from the other port.
    crossed: bool,
    local: Option<&'a LocalInterface>,
}

impl Output for PortOutput<'_> {
    fn forward(&mut self, to: Path, received: &[u8], segment: usize) {
        self.outbox.forward(to, received.len(), segment);
    }

    fn send(&mut self, to: Path, from: Port, datagram: &[u8]) {
        if from == self.port {
            self.outbox.send(to, datagram);
        } else if let Some(other) = self.other {
            self.crossed = true;
            other.outbox.borrow_mut().send(to, datagram);
        }
    }

    fn deliver(&mut self, packet: &[u8]) -> bool {
        self.local.is_some_and(|local| local.deliver(packet))
    }
}

/// The way out while nothing is received: a timer, or this machine itself.
struct Timed<'a>(&'a RelayLoop, Now);

impl Output for Timed<'_> {
    fn forward(&mut self, to: Path, received: &[u8], segment: usize) {
        received.chunks(segment.max(1)).for_each(|datagram| self.send(to, Port::Main, datagram));
    }

    fn send(&mut self, to: Path, from: Port, datagram: &[u8]) {
        if let Some(Socket { outbox, .. }) = self.0.socket(from) {
            let mut outbox = outbox.borrow_mut();
            outbox.set_now(self.1.instant);
            outbox.send(to, datagram);
        }
    }
}

impl RelayLoop {
    /// Over bound sockets. `gso` allows them to hand the kernel runs of datagrams as one.
    pub fn new(
        relay: Relay,
        main: RelaySocket,
        alternate: Option<RelaySocket>,
        gso: bool,
        clock: Clock,
    ) -> Self {
        RelayLoop {
            relay: RefCell::new(relay),
            inbox: RefCell::default(),
            main: Socket::new(main, gso),
            alternate: alternate.map(|socket| Socket::new(socket, gso)),
            clock,
            alarm: Alarm::default(),
            mark: Cell::new(None),
            marked: Bell::default(),
            handshakes: smol::channel::bounded(MAX_HANDSHAKES),
            load: Cell::new((Instant::ZERO, 0)),
            local: None,
            keeping: Keeping::default(),
        }
    }

    /// With this machine in the virtual LAN, by this interface.
    pub fn with_local(mut self, tun: Option<Tun>) -> Self {
        if let Some(tun) = tun {
            self.relay.get_mut().take_part();
            self.local = Some(LocalInterface::new(tun));
        }
        self
    }

    fn socket(&self, port: Port) -> Option<&Socket> {
        match port {
            Port::Main => Some(&self.main),
            Port::Alternate => self.alternate.as_ref(),
        }
    }

    /// The sockets there are.
    fn sockets(&self) -> impl Iterator<Item = (Port, &Socket)> {
        [Port::Main, Port::Alternate].into_iter().filter_map(|port| Some((port, self.socket(port)?)))
    }

    /// Runs `future`, which is everything else there is to do, and forwards what comes to the ports meanwhile.
    ///
    /// They take turns. In each round of the loop
    ///
    /// 1. `future` is polled once, if it was woken: tasks (HTTP, WebSockets, timers), each up to its next wait, until
    ///    half a millisecond is over;
    /// 2. of the main port, the alternate one, and this machine's own interface, in this order, each that is ready has
    ///    one turn: about half a millisecond of datagrams at most, of which small ones leave before bulk. What waits
    ///    for room to be sent goes before what has just come, and of handshakes with the hub the relay does as many as
    ///    fit a millisecond, and keeps the others for its timers;
    /// 3. the timers of the relay are looked at, and if one is due it is among the tasks of the next round.
    ///
    /// So packets wait for at most one poll of the tasks, the tasks for at most three turns, and the thread sleeps only
    /// if there is nothing to do for either.
    pub fn drive<T>(&self, future: impl Future<Output = T>) -> Result<T, DaemonError> {
        let own: Vec<(Port, &Socket)> = self.sockets().collect();
        let sockets: Vec<&RelaySocket> = own.iter().map(|(_, own)| &own.socket).collect();
        let others: Vec<_> = self.local.iter().map(AsFd::as_fd).collect();
        let ready = |index: usize| {
            match own.get(index) {
                Some((port, own)) => self.turn(own, *port)?,
                None => self.local_turn(),
            }
            self.arm();
            Ok(())
        };
        udp::drive(future, &sockets, &others, ready).map_err(DaemonError::Relay)
    }

    fn turn(&self, own: &Socket, port: Port) -> io::Result<()> {
        let now = (self.clock)();
        let mut relay = self.relay.borrow_mut();
        let other = self.socket(port.other());
        if let Some(other) = other {
            other.outbox.borrow_mut().set_now(now.instant);
        }
        let local = self.local.as_ref();
        let (mut inbox, mut outbox) = (self.inbox.borrow_mut(), own.outbox.borrow_mut());
        let mut crossed = false;
        own.socket.turn_by_runs(&mut inbox, &mut outbox, now.instant, |run, meta, outbox| {
            let mut out = PortOutput { outbox, port, other, crossed: false, local };
            // What went wrong is in the relay's counters.
            let arrival = Arrival { path: meta.path, port, now };
            let taken = relay.receive_run(run, meta.stride, arrival, &mut out);
            crossed |= out.crossed;
            taken
        })?;
        if crossed && let Some(other) = other {
            other.flush();
        }
        Ok(())
    }

    /// Sends on what this machine itself has sent.
    fn local_turn(&self) {
        let Some(local) = &self.local else { return };
        let now = (self.clock)();
        let mut relay = self.relay.borrow_mut();
        local.turn(LOCAL_HEADROOM, |buffer, length| {
            // What went wrong is in the relay's counters.
            let _ = relay.send_local(buffer, length, now, &mut Timed(self, now));
        });
        self.main.flush();
    }

    /// Makes this machine's interface anew whenever it is gone, for ever.
    pub async fn keep_local(self: Rc<Self>) {
        if let Some(local) = &self.local {
            local.keep().await;
        }
    }

    /// Sees to it that the timers are looked at in time, and that marks are stored.
    pub fn arm(&self) {
        let mut relay = self.relay.borrow_mut();
        if let Some(mark) = relay.take_stamp_mark() {
            self.mark.set(Some(mark));
            self.marked.ring();
        }
        for handshake in relay.take_handshakes() {
            // A full channel loses one, which comes again.
            let _ = self.handshakes.0.try_send(handshake);
        }
        self.alarm.advance(relay.poll_timeout());
    }

    /// Does what is due in the relay, for ever.
    pub async fn keep_time(self: Rc<Self>) {
        loop {
            let now = (self.clock)();
            let due = self.relay.borrow_mut().poll_timeout();
            if due.is_some_and(|due| due <= now.instant) {
                self.poll(now);
                // Something due at once again would be a mistake; it must not become a busy loop.
                smol::future::yield_now().await;
            } else {
                self.alarm.wait(due, now).await;
            }
        }
    }

    fn poll(&self, now: Now) {
        self.relay.borrow_mut().poll(now, &mut Timed(self, now));
        self.sockets().for_each(|(_, socket)| socket.flush());
        self.keeping.keep(&self.relay.borrow(), now);
    }

    /// Leaves what the relay knows to the next daemon.
    pub fn hand_over(&self, file: &HandOver) {
        keeping::hand_over(&self.relay.borrow(), file, (self.clock)());
    }

    /// Takes over what the daemon before has left.
    pub fn take_over(&self, file: &HandOver) {
        self.keeping.take_over(&mut self.relay.borrow_mut(), file, (self.clock)());
    }

    /// Waits for a mark for TAI64N that must be stored.
    pub async fn stamp_mark(&self) -> u64 {
        loop {
            if let Some(mark) = self.mark.take() {
                return mark;
            }
            self.marked.rung().await;
        }
    }

    /// Waits for a handshake that was completed at the hub.
    pub async fn handshake(&self) -> Option<Handshake> {
        self.handshakes.1.recv().await.ok()
    }

    /// Counts what the sockets did not send or take.
    pub(super) fn count_socket_drops(&self, stats: &mut RelayStats) {
        for (_, Socket { outbox, .. }) in self.sockets() {
            stats.drop_all(outbox.borrow().drops());
        }
    }

    /// Whether the kernel gets runs of datagrams as one.
    pub(super) fn uses_gso(&self) -> bool {
        self.main.outbox.borrow().uses_gso()
    }

    /// The network may have changed: addresses may be ours that were not before.
    pub fn look_again(&self) {
        self.sockets().for_each(|(_, socket)| socket.outbox.borrow_mut().look_again());
    }
}
