//! Datagrams on their way out.

use super::backlog::{Address, Backlog};
use super::envelope::Envelope;
use super::homes::Homes;
use super::runs::{MAX_BYTES, MAX_COUNT, Piece, Place, Runs};
use crate::sys::{MAX_MESSAGES, Message};
use rustix::io::Errno;
use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr};

/// Room for datagrams that do not lie in the inbox, in bytes; taken from the system when it is used.
const SCRATCH: usize = 192 * 1024;
/// What has to be free of it for the next datagram that is handled: a copy for each of 64 others.
const SCRATCH_RESERVE: usize = 96 * 1024;
/// Pieces given to one system call.
const SLICES: usize = 64;
/// Messages, and pieces, that are few.
const FEW: usize = 2;

/// Where a received datagram came from, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Origin {
    /// The sender; an IPv4 address is never spelled as IPv6.
    pub source: SocketAddr,
    /// Our address that it came to, if the socket has several.
    pub local: Option<IpAddr>,
    /// The byte of the IP header that holds DSCP (six bits) and ECN (two).
    pub class: u8,
}

/// What became of the datagrams that were to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Sent {
    /// Datagrams that the kernel has taken.
    pub sent: u64,
    /// System calls made for them.
    pub calls: u64,
    /// Dropped because the socket's buffer or this one was full.
    pub full: u64,
    /// Dropped because the kernel refused them: no route, a firewall, too long.
    pub refused: u64,
}

/// The way out: the kernel, or a test.
pub(super) trait Wire {
    /// As [`crate::sys::send_many`].
    fn transmit(&self, messages: &[Message<'_>]) -> Result<usize, Errno>;
}

/// What is being handled.
struct Current {
    origin: Origin,
    /// Where it lies in memory, and in the inbox.
    address: usize,
    start: usize,
    length: usize,
    answered: bool,
}

/// Datagrams that wait to be sent by one socket. What is a part of the datagram being handled is not copied.
/// It never blocks and, once made, allocates only once more, when the socket has no room for the first time: what
/// does not fit then is dropped and counted.
pub struct Outbox {
    is_ipv6: bool,
    gso: bool,
    current: Option<Current>,
    runs: Runs,
    scratch: Box<[u8]>,
    scratch_used: usize,
    backlog: Backlog,
    homes: Homes,
    /// Our address that a datagram could not be sent from just now.
    suspect: Option<IpAddr>,
    sent: Sent,
}

enum Next {
    Retry,
    Skip,
    Stop,
}

/// What the socket has no room for: all from this run on, but for so many datagrams of it.
struct Unsent {
    run: usize,
    done: usize,
}

impl Outbox {
    pub(super) fn new(is_ipv6: bool, gso: bool) -> Self {
        Outbox {
            is_ipv6,
            gso,
            current: None,
            runs: Runs::new(),
            scratch: vec![0; SCRATCH].into(),
            scratch_used: 0,
            backlog: Backlog::new(),
            homes: Homes::default(),
            suspect: None,
            sent: Sent::default(),
        }
    }

    /// Sends `datagram` to `to`, from our address that `to` knows. While a received datagram is handled, a
    /// part of it is not copied, so it must not be changed any more; it keeps its DSCP and ECN. Anything
    /// else is copied, and has neither.
    pub fn push(&mut self, to: SocketAddr, datagram: &[u8]) {
        self.push_from(self.home_for(to), to, datagram);
    }

    /// Sends the datagrams in `run`, each of `segment` bytes but the last, which may be shorter. Like
    /// [`Outbox::push`] for each, but cheaper if they are a part of what was received.
    pub fn push_run(&mut self, to: SocketAddr, run: &[u8], segment: usize) {
        let located = if self.gso { self.locate(run) } else { None };
        let Some((class, start)) = located else {
            run.chunks(segment).for_each(|datagram| self.push(to, datagram));
            return;
        };
        let address = Address { to, from: self.home_for(to), class };
        let size = (MAX_BYTES / segment).clamp(1, MAX_COUNT) * segment;
        for (part, start) in run.chunks(size).zip((start..).step_by(size)) {
            self.add(address, Piece::new(Place::Inbox, start, part.len()), segment);
        }
        self.is_answered();
    }

    /// Our address that `to` knows.
    fn home_for(&self, to: SocketAddr) -> Option<IpAddr> {
        match (&self.current, self.runs.all().last()) {
            (Some(current), _) if current.origin.source == to && current.origin.local.is_some() => {
                current.origin.local
            }
            (_, Some(last)) if last.address.to == to => last.address.from,
            _ => self.homes.of(to),
        }
    }

    /// What is handled has made us send something.
    fn is_answered(&mut self) {
        if let Some(current) = &mut self.current {
            current.answered = true;
        }
    }

    /// Like [`Outbox::push`], from the given address of ours; `None` leaves it to the kernel's routes.
    pub fn push_from(&mut self, from: Option<IpAddr>, to: SocketAddr, datagram: &[u8]) {
        let length = datagram.len();
        let (class, piece) = match self.locate(datagram) {
            Some((class, start)) => (class, Piece::new(Place::Inbox, start, length)),
            None => {
                let start = self.scratch_used;
                let Some(room) = self.scratch.get_mut(start..start + length) else {
                    self.sent.full += 1;
                    return;
                };
                room.copy_from_slice(datagram);
                self.scratch_used += length;
                (0, Piece::new(Place::Scratch, start, length))
            }
        };
        self.is_answered();
        self.add(Address { to, from, class }, piece, length);
    }

    fn add(&mut self, address: Address, piece: Piece, segment: usize) {
        if let Err(count) = self.runs.add(address, piece, segment, self.gso) {
            self.sent.full += count as u64;
        }
    }

    /// Whether runs of datagrams go out as one, which the kernel or the network card splits (GSO).
    pub fn uses_gso(&self) -> bool {
        self.gso
    }

    /// Gives up GSO, for good.
    pub fn disable_gso(&mut self) {
        self.gso = false;
    }

    /// What became of the datagrams so far.
    pub fn sent(&self) -> Sent {
        self.sent
    }

    /// What was `received` is handled now, or the beginning of it. It lies at `start` in the inbox.
    pub(super) fn begin(&mut self, origin: Origin, start: usize, received: &[u8]) {
        let (address, length) = (received.as_ptr().addr(), received.len());
        self.current = Some(Current { origin, address, start, length, answered: false });
    }

    /// It has been handled. One that made us send something teaches where its sender knows us.
    pub(super) fn end(&mut self) {
        if let Some(Current { origin, answered: true, .. }) = self.current.take()
            && let Some(local) = origin.local
        {
            self.homes.learn(origin.source, local);
        }
    }

    /// Whether it has to be flushed before the next datagram is handled.
    pub(super) fn is_nearly_full(&self) -> bool {
        self.runs.are_many() || self.scratch.len() - self.scratch_used < SCRATCH_RESERVE
    }

    /// Forgets those of our addresses that are not `ours`, which is asked once about each.
    pub(super) fn keep_homes(&mut self, ours: impl Fn(IpAddr) -> bool) {
        for local in self.homes.known() {
            if !ours(local) {
                self.homes.forget(local);
            }
        }
    }

    /// The class and the place in the inbox, if the bytes are part of what is handled.
    fn locate(&self, datagram: &[u8]) -> Option<(u8, usize)> {
        let current = self.current.as_ref()?;
        let offset = datagram.as_ptr().addr().checked_sub(current.address)?;
        let end = offset.checked_add(datagram.len())?;
        (end <= current.length).then_some((current.origin.class, current.start + offset))
    }

    /// Whether something waits until the socket has room.
    pub(super) fn waits(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Sends everything that the socket has room for, small datagrams first, and keeps the rest, as far as
    /// there is room here; `inbox` is the buffer that [`Outbox::begin`] spoke of.
    pub(super) fn flush(&mut self, wire: &impl Wire, inbox: &[u8]) {
        self.runs.sort();
        // Who has waited is first.
        let full = if self.waits() { Some(Unsent { run: 0, done: 0 }) } else { self.send_all(wire, inbox) };
        let waited = self.waits();
        if let Some(unsent) = full {
            self.keep(unsent, inbox);
        }
        self.clear();
        if waited {
            self.resume(wire);
        }
    }

    /// Sends what waits as long as the socket has room.
    fn resume(&mut self, wire: &impl Wire) {
        while let Some(waiting) = self.backlog.next(MAX_COUNT, MAX_BYTES) {
            let (kind, count) = (waiting.kind, waiting.count);
            let Outbox { runs, backlog, .. } = self;
            runs.load(&waiting, (0..count).map(|place| backlog.datagram(kind, place).len()));
            let full = self.send_all(wire, &[]);
            self.clear();
            self.backlog.release(kind, full.as_ref().map_or(count, |unsent| unsent.done));
            if full.is_some() {
                return;
            }
        }
    }

    /// Copies what the socket has no room for to where it can wait.
    fn keep(&mut self, unsent: Unsent, inbox: &[u8]) {
        let Outbox { runs, scratch, backlog, sent, .. } = self;
        let mut done = unsent.done;
        for run in &runs.all()[unsent.run..] {
            for piece in runs.pieces_of(run) {
                let bytes = piece.of(inbox, scratch);
                // A run of one may be empty.
                let size = if run.count == 1 { bytes.len().max(1) } else { run.segment };
                let datagrams = bytes.chunks(size).chain(bytes.is_empty().then_some(bytes));
                for datagram in datagrams {
                    if done > 0 {
                        done -= 1;
                    } else if !backlog.push(run.address, datagram) {
                        sent.full += 1;
                    }
                }
            }
        }
    }

    fn clear(&mut self) {
        self.runs.clear();
        self.scratch_used = 0;
    }

    /// Sends all runs. Gives what is left if the socket has no more room.
    fn send_all(&mut self, wire: &impl Wire, inbox: &[u8]) -> Option<Unsent> {
        let mut at = 0;
        while at < self.runs.all().len() {
            let split = self.runs.all()[at].count > 1 && !self.gso;
            let result = if split {
                Err(Errno::MSGSIZE)
            } else if self.runs.all().len() - at <= FEW && self.runs.piece_count() <= FEW {
                // Most often there are few, and clearing much costs as much as a datagram.
                self.send_runs::<FEW, FEW>(wire, inbox, at)
            } else {
                self.send_runs::<MAX_MESSAGES, SLICES>(wire, inbox, at)
            };
            self.sent.calls += u64::from(!split);
            let next = match result {
                Ok(sent) => {
                    self.taken(self.runs.all()[at..at + sent].iter().map(|run| run.count as u64).sum());
                    at += sent;
                    continue;
                }
                Err(errno @ (Errno::IO | Errno::INVAL | Errno::MSGSIZE)) if self.runs.all()[at].count > 1 => {
                    // An I/O error says that something on the way can't do it. The others speak of this
                    // run alone, such as that its datagrams have to be fragmented.
                    if errno == Errno::IO {
                        log::info!("the network can't send with GSO: doing without from now on");
                        self.gso = false;
                    }
                    match self.send_singly(wire, inbox, at) {
                        Ok(()) => Next::Skip,
                        Err(done) => return Some(Unsent { run: at, done }),
                    }
                }
                Err(errno) => self.refused(at, errno, self.runs.all()[at].count),
            };
            match next {
                Next::Retry => (),
                Next::Skip => at += 1,
                Next::Stop => return Some(Unsent { run: at, done: 0 }),
            }
        }
        None
    }

    /// Sends runs, from number `first` on, by one system call: at most `M`, of `S` pieces together. Returns
    /// how many.
    fn send_runs<const M: usize, const S: usize>(
        &self,
        wire: &impl Wire,
        inbox: &[u8],
        first: usize,
    ) -> Result<usize, Errno> {
        let mut slices = [IoSlice::new(&[]); S];
        let mut slice_count = 0;
        let mut envelopes = [const { Envelope::EMPTY }; M];
        let mut count = 0;
        for (run, envelope) in self.runs.all()[first..].iter().zip(&mut envelopes) {
            if slice_count + run.pieces > S || run.count > 1 && !self.gso {
                break;
            }
            let segment = (run.count > 1).then_some(run.segment as u16);
            let addressed = envelope.address(run.address, segment, self.is_ipv6);
            if !addressed {
                if count == 0 {
                    return Err(Errno::AFNOSUPPORT);
                }
                break;
            }
            let first_slice = slice_count;
            for piece in self.runs.pieces_of(run) {
                slices[slice_count] = IoSlice::new(self.bytes(piece, inbox));
                slice_count += 1;
            }
            envelope.slices = first_slice..slice_count;
            count += 1;
        }
        let mut messages = [Message { name: &[], control: &[], data: &[] }; M];
        for (message, envelope) in messages.iter_mut().zip(&envelopes[..count]) {
            *message = envelope.message(&slices[envelope.slices.clone()]);
        }
        wire.transmit(&messages[..count])
    }

    /// Sends the datagrams of a run one by one; the error is how many, if the socket has no more room.
    fn send_singly(&mut self, wire: &impl Wire, inbox: &[u8], index: usize) -> Result<(), usize> {
        let mut done = 0;
        while done < self.runs.all()[index].count {
            let run = &self.runs.all()[index];
            let mut envelope = Envelope::EMPTY;
            let result = if envelope.address(run.address, None, self.is_ipv6) {
                let mut slices = [IoSlice::new(&[]); MAX_MESSAGES];
                let datagrams =
                    self.runs.pieces_of(run).flat_map(|piece| self.bytes(piece, inbox).chunks(run.segment));
                for (slice, datagram) in slices.iter_mut().zip(datagrams.skip(done)) {
                    *slice = IoSlice::new(datagram);
                }
                let mut messages = [Message { name: &[], control: &[], data: &[] }; MAX_MESSAGES];
                for (message, slice) in messages.iter_mut().zip(&slices) {
                    *message = envelope.message(std::slice::from_ref(slice));
                }
                let count = (run.count - done).min(MAX_MESSAGES);
                wire.transmit(&messages[..count])
            } else {
                Err(Errno::AFNOSUPPORT)
            };
            self.sent.calls += 1;
            match result {
                Ok(sent) => {
                    self.taken(sent as u64);
                    done += sent;
                }
                Err(errno) => match self.refused(index, errno, 1) {
                    Next::Retry => (),
                    Next::Skip => done += 1,
                    Next::Stop => return Err(done),
                },
            }
        }
        Ok(())
    }

    /// The kernel has taken datagrams.
    fn taken(&mut self, datagrams: u64) {
        self.sent.sent += datagrams;
        if let Some(local) = self.suspect.take() {
            self.homes.forget(local);
        }
    }

    /// What to do about an error with a run, and `count` datagrams of it that would be lost.
    fn refused(&mut self, index: usize, errno: Errno, count: usize) -> Next {
        let run = self.runs.get_mut(index);
        match errno {
            Errno::INTR => return Next::Retry,
            // Our address may have changed: any address is better than none. If it helps, this one is gone.
            Errno::INVAL | Errno::NETUNREACH | Errno::ADDRNOTAVAIL if run.address.from.is_some() => {
                self.suspect = run.address.from.take();
                return Next::Retry;
            }
            Errno::AGAIN => {
                self.suspect = None;
                return Next::Stop;
            }
            Errno::NOBUFS => self.sent.full += count as u64,
            errno => {
                log::trace!("nothing sent to {}: {errno}", run.address.to);
                self.sent.refused += count as u64;
            }
        }
        self.suspect = None;
        Next::Skip
    }

    fn bytes<'a>(&'a self, piece: &Piece, inbox: &'a [u8]) -> &'a [u8] {
        match piece.place() {
            (Place::Backlog(kind), index) => self.backlog.datagram(kind, index),
            _ => piece.of(inbox, &self.scratch),
        }
    }
}

const _: () = assert!(SLICES >= MAX_COUNT && SCRATCH >= SCRATCH_RESERVE + 65_536);
