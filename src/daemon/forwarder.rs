//! Moves datagrams into the relay and out of it, and members into its roster.

use super::DaemonError;
use crate::api::metrics::{MemberFigures, RelayFigures, RelayView, Traffic};
use crate::control::Control;
use crate::control::change::Change;
use crate::control::keys::RelayService;
use crate::crypto::x25519::PublicKey;
use crate::datagram;
use crate::ids::{PartyId, PeerId};
use crate::net::udp::{self, Inbox, Origin, Outbox, RelaySocket};
use crate::relay::snapshot::Restored;
use crate::relay::stats::{Count, Reach};
use crate::relay::{Arrival, LOCAL_HEADROOM, Output, Port, Relay};
use crate::store::handover::HandOver;
use crate::time::{Clock, Instant, Now};
use crate::tun::Tun;
use smol::Timer;
use smol::future::FutureExt;
use std::cell::{Cell, OnceCell, RefCell};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

/// How long the count of reachable members may be out of date: it looks at every member.
const LOAD_LIFETIME: Duration = Duration::from_secs(1);
/// How old what is kept for the daemon after a crash may be.
const KEEP_INTERVAL: Duration = Duration::from_secs(10);
/// With more sessions than this, nothing is kept for after a crash: writing them would hold up packets for
/// milliseconds on a router.
const MAX_KEPT: usize = 1024;
/// Handshakes with the hub that may wait for the control plane. One that is lost comes again in two minutes.
const MAX_HANDSHAKES: usize = 256;

/// How long after the interface is gone it is made anew.
const RETRY: Duration = Duration::from_secs(5);
/// Room for a packet of this machine's, in bytes. Its interface has the hub's MTU; what is longer is cut, and dropped.
const LOCAL_PACKET: usize = 2048;

/// With which key, and from where.
type Handshake = (PublicKey, IpAddr);

/// The relay with its sockets.
pub struct Forwarder {
    relay: RefCell<Relay>,
    inbox: RefCell<Inbox>,
    main: Socket,
    /// For STUN alone. A relay without it still does everything else.
    alternate: Option<Socket>,
    clock: Clock,
    /// When [`Forwarder::keep_time`] will wake up.
    armed: Cell<Option<Instant>>,
    wake: (smol::channel::Sender<()>, smol::channel::Receiver<()>),
    /// Marks for TAI64N that must be stored: one or two a day.
    marks: (smol::channel::Sender<u64>, smol::channel::Receiver<u64>),
    /// Handshakes that were completed at the hub.
    handshakes: (smol::channel::Sender<Handshake>, smol::channel::Receiver<Handshake>),
    load: Cell<(Instant, u32)>,
    local: Option<Local>,
    /// Where something is kept for the daemon after a crash, if that wears nothing out, and when it was last.
    keep_in: OnceCell<HandOver>,
    kept: Cell<Instant>,
}

/// This machine's own interface in the virtual LAN.
struct Local {
    tun: Tun,
    buffer: RefCell<Box<[u8]>>,
    /// Rung when it is gone.
    lost: (smol::channel::Sender<()>, smol::channel::Receiver<()>),
}

struct Socket {
    socket: RelaySocket,
    outbox: RefCell<Outbox>,
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

/// The way out for what came to one port.
struct Exit<'a> {
    outbox: &'a mut Outbox,
    port: Port,
    other: Option<&'a Socket>,
    origin: &'a Origin,
    /// Whether something leaves from the other port.
    crossed: &'a Cell<bool>,
    local: Option<&'a Tun>,
}

impl Output for Exit<'_> {
    fn forward(&mut self, to: datagram::Path, received: &[u8], segment: usize) {
        self.outbox.push_run(to.remote, received, segment);
    }

    fn send(&mut self, to: datagram::Path, from: Port, datagram: &[u8]) {
        if from == self.port {
            self.outbox.push(to.remote, datagram);
        } else if let Some(other) = self.other {
            self.crossed.set(true);
            other.outbox.borrow_mut().push_from(self.origin.local, to.remote, datagram);
        }
    }

    fn deliver(&mut self, packet: &[u8]) -> bool {
        self.local.is_some_and(|tun| tun.write(packet))
    }
}

impl Forwarder {
    /// Over bound sockets. `gso` allows them to hand the kernel runs of datagrams as one.
    pub fn new(
        relay: Relay,
        main: RelaySocket,
        alternate: Option<RelaySocket>,
        gso: bool,
        clock: Clock,
    ) -> Self {
        Forwarder {
            relay: RefCell::new(relay),
            inbox: RefCell::default(),
            main: Socket::new(main, gso),
            alternate: alternate.map(|socket| Socket::new(socket, gso)),
            clock,
            armed: Cell::new(None),
            wake: smol::channel::bounded(1),
            marks: smol::channel::unbounded(),
            handshakes: smol::channel::bounded(MAX_HANDSHAKES),
            load: Cell::new((Instant::ZERO, 0)),
            local: None,
            keep_in: OnceCell::new(),
            kept: Cell::new(Instant::ZERO),
        }
    }

    /// With this machine in the virtual LAN, by this interface.
    pub fn with_local(mut self, tun: Option<Tun>) -> Self {
        if let Some(tun) = tun {
            self.relay.get_mut().take_part();
            let buffer = RefCell::new(vec![0; LOCAL_PACKET].into());
            self.local = Some(Local { tun, buffer, lost: smol::channel::bounded(1) });
        }
        self
    }

    fn socket(&self, port: Port) -> Option<&Socket> {
        match port {
            Port::Main => Some(&self.main),
            Port::Alternate => self.alternate.as_ref(),
        }
    }

    /// Runs `future`, and forwards what comes to the ports meanwhile.
    pub fn drive<T>(&self, future: impl Future<Output = T>) -> Result<T, DaemonError> {
        let ports = [Port::Main, Port::Alternate].into_iter();
        let own: Vec<(Port, &Socket)> = ports.filter_map(|port| Some((port, self.socket(port)?))).collect();
        let sockets: Vec<&RelaySocket> = own.iter().map(|(_, own)| &own.socket).collect();
        let others: Vec<_> = self.local.iter().map(|local| local.tun.as_fd()).collect();
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
        let local = self.local.as_ref().map(|local| &local.tun);
        let (mut inbox, mut outbox) = (self.inbox.borrow_mut(), own.outbox.borrow_mut());
        let crossed = Cell::new(false);
        own.socket.turn_by_runs(&mut inbox, &mut outbox, |run, segment, origin, outbox| {
            let mut out = Exit { outbox, port, other, origin, crossed: &crossed, local };
            // What went wrong is in the relay's counters.
            let path = datagram::Path { remote: origin.source, local: origin.local };
            relay.receive_run(run, segment, Arrival { path, port, now }, &mut out)
        })?;
        if crossed.get()
            && let Some(other) = other
        {
            other.flush();
        }
        Ok(())
    }

    /// Sends on what this machine itself has sent.
    fn local_turn(&self) {
        let Some(Local { tun, buffer, lost }) = &self.local else { return };
        let now = (self.clock)();
        let (mut relay, mut outbox) = (self.relay.borrow_mut(), self.main.outbox.borrow_mut());
        let mut out = |to: SocketAddr, _: Port, bytes: &[u8]| outbox.push(to, bytes);
        let mut buffer = buffer.borrow_mut();
        let is_there = tun.turn(&mut buffer, LOCAL_HEADROOM, |buffer, length| {
            // What went wrong is in the relay's counters.
            let _ = relay.send_local(buffer, length, now, &mut out);
        });
        self.main.socket.flush(&mut outbox);
        if !is_there {
            log::warn!("the interface {} is gone: it is going to be made anew", tun.name());
            // A full channel is a ring that will be answered.
            let _ = lost.0.try_send(());
        }
    }

    /// Makes this machine's interface anew whenever it is gone, for ever.
    pub async fn keep_local(self: Rc<Self>) {
        let Some(Local { tun, lost, .. }) = &self.local else { return };
        let mut said = String::new();
        while lost.1.recv().await.is_ok() {
            while !tun.is_open() {
                Timer::after(RETRY).await;
                match tun.reopen() {
                    Ok(()) => log::info!("the interface {} is back", tun.name()),
                    Err(error) => {
                        let error = error.to_string();
                        if said != error {
                            log::warn!("{error}");
                        }
                        said = error;
                    }
                }
            }
            said.clear();
        }
    }

    /// Sees to it that the timers are looked at in time, and that marks are stored.
    pub fn arm(&self) {
        let mut relay = self.relay.borrow_mut();
        if let Some(mark) = relay.take_stamp_mark() {
            // Fails only when the daemon is stopping.
            let _ = self.marks.0.try_send(mark);
        }
        for handshake in relay.take_handshakes() {
            // A full channel loses one, which comes again.
            let _ = self.handshakes.0.try_send(handshake);
        }
        let due = relay.poll_timeout();
        let earlier = match (due, self.armed.get()) {
            (Some(due), Some(armed)) => due < armed,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if earlier {
            // A full channel is a wake-up under way.
            let _ = self.wake.0.try_send(());
        }
    }

    /// Does what is due in the relay, for ever.
    pub async fn keep_time(self: Rc<Self>) {
        loop {
            let now = (self.clock)();
            let due = self.relay.borrow_mut().poll_timeout();
            self.armed.set(due);
            let woken = async {
                let _ = self.wake.1.recv().await;
            };
            match due {
                None => woken.await,
                Some(due) if due > now.instant => {
                    let slept = async {
                        Timer::after(due.since(now.instant)).await;
                    };
                    slept.or(woken).await;
                }
                Some(_) => {
                    self.poll(now);
                    // Something due at once again would be a mistake; it must not become a busy loop.
                    smol::future::yield_now().await;
                }
            }
        }
    }

    fn poll(&self, now: Now) {
        let mut out = |to: SocketAddr, from: Port, bytes: &[u8]| {
            if let Some(socket) = self.socket(from) {
                socket.outbox.borrow_mut().push(to, bytes);
            }
        };
        self.relay.borrow_mut().poll(now, &mut out);
        self.main.flush();
        if let Some(alternate) = &self.alternate {
            alternate.flush();
        }
        self.keep(now.instant);
    }

    /// Keeps flows and addresses for the daemon after a crash, now and then while there are any.
    fn keep(&self, now: Instant) {
        let Some(file) = self.keep_in.get() else { return };
        let sessions = self.relay.borrow().session_count();
        if now.since(self.kept.get()) < KEEP_INTERVAL || sessions == 0 || sessions > MAX_KEPT {
            return;
        }
        self.kept.set(now);
        if let Err(error) = self.write(file) {
            log::debug!("nothing is kept for after a crash: {}: {error}", file.path().display());
        }
    }

    fn write(&self, file: &HandOver) -> io::Result<()> {
        let snapshot = self.relay.borrow().snapshot((self.clock)());
        file.write(&snapshot)
    }

    /// Waits for a mark for TAI64N that must be stored.
    pub async fn stamp_mark(&self) -> Option<u64> {
        self.marks.1.recv().await.ok()
    }

    /// Waits for a handshake that was completed at the hub.
    pub async fn handshake(&self) -> Option<Handshake> {
        self.handshakes.1.recv().await.ok()
    }

    /// Brings the roster up to date with a change of the control plane.
    pub fn follow(&self, control: &Control, change: &Change, now: Instant) {
        match change {
            Change::MemberJoined(party, peer)
            | Change::MemberChanged(party, peer)
            | Change::MemberMoved(party, peer) => {
                self.admit(control, party, peer, now);
            }
            Change::MemberLeft { party, who, .. } => self.relay.borrow_mut().leave(party, &who.peer, now),
            _ => {}
        }
    }

    /// Takes every member of every party into the roster.
    pub fn admit_all(&self, control: &Control, now: Instant) {
        for party in control.parties() {
            for peer in party.members.keys() {
                self.admit(control, &party.id, peer, now);
            }
        }
    }

    fn admit(&self, control: &Control, party: &PartyId, peer: &PeerId, now: Instant) {
        let Ok(found) = control.party(party.as_str()) else { return };
        let Some(member) = found.members.get(peer) else { return };
        let mut relay = self.relay.borrow_mut();
        let joined = match member.relay_service() {
            RelayService::Served { key } => {
                let joined = relay.join(party, peer, key, member.virtual_ip, now);
                relay.set_origin(&key, member.origin);
                joined
            }
            RelayService::Claimed { key, from } => {
                relay.claim(party, peer, key, from, now);
                return;
            }
            RelayService::None => {
                relay.leave(party, peer, now);
                return;
            }
        };
        if let Err(error) = joined {
            log::warn!("peer {peer} gets no relay service: {error}");
        }
    }

    /// How many members a party may have from now on.
    pub fn set_members_per_party(&self, count: usize) {
        self.relay.borrow_mut().set_members_per_party(count);
    }

    /// The network may have changed: forgets addresses that are ours no more.
    pub fn look_again(&self) {
        for Socket { socket, outbox } in [Some(&self.main), self.alternate.as_ref()].into_iter().flatten() {
            socket.look_again(&mut outbox.borrow_mut());
        }
    }

    /// Leaves the flows to the next daemon, in memory that a reboot clears.
    pub fn hand_over(&self, file: &HandOver) {
        if let Err(error) = self.write(file) {
            let path = file.path().display();
            log::info!("flows are not handed over, players reconnect by themselves: {path}: {error}");
        }
    }

    /// Takes over the flows of the daemon before, if it left any. They are used once. From now on some are kept there
    /// for the next one, in case that this one can't say goodbye.
    pub fn take_over(&self, file: &HandOver) {
        if file.is_in_memory() {
            let _ = self.keep_in.set(file.clone());
        }
        let Some(snapshot) = file.take() else { return };
        match self.relay.borrow_mut().restore(&snapshot, (self.clock)()) {
            Ok(Restored { flows: 0, spokes: 0 }) => {}
            Ok(Restored { flows, spokes }) => {
                log::info!("took over {flows} flows and {spokes} members of the hub");
            }
            Err(error) => log::info!("the flows of the daemon before can't be used: {error}"),
        }
    }
}

fn traffic(count: Count) -> Traffic {
    Traffic { packets: count.packets, bytes: count.bytes }
}

impl RelayView for Forwarder {
    fn figures(&self) -> RelayFigures {
        let relay = self.relay.borrow();
        let stats = relay.stats();
        RelayFigures {
            received: traffic(stats.received),
            sent: traffic(stats.sent),
            blind: traffic(stats.blind),
            hub: traffic(stats.hub),
            broadcast: traffic(stats.broadcast),
            stun: traffic(stats.stun),
            local: traffic(stats.local),
            flows: relay.flow_count() as u64,
            drops: stats.drops().collect(),
        }
    }

    fn member(&self, key: &PublicKey) -> Option<MemberFigures> {
        let relay = self.relay.borrow();
        let stats = relay.member_stats(key)?;
        Some(MemberFigures {
            path: match stats.reach {
                Reach::None => "none",
                Reach::Blind => "blind",
                Reach::Hub => "hub",
            },
            last_handshake: stats.last_handshake,
            from: traffic(stats.from),
            to: traffic(stats.to),
            drops: relay.member_drops(key).collect(),
        })
    }

    fn load(&self) -> u32 {
        let now = (self.clock)().instant;
        let (counted, load) = self.load.get();
        if now.since(counted) < LOAD_LIFETIME && counted != Instant::ZERO {
            return load;
        }
        let load = u32::try_from(self.relay.borrow().reachable_count()).unwrap_or(u32::MAX);
        self.load.set((now, load));
        load
    }
}
