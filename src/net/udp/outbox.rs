//! Datagrams on their way out.

use super::ancillary::{CONTROL_LENGTH, Control, write_name};
use super::backlog::{Address, Backlog, Kind, SMALL, Waiting};
use super::homes::Homes;
use crate::sys::{MAX_MESSAGES, Message, NAME_LENGTH};
use rustix::io::Errno;
use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr};

/// Most datagrams in one run: what kernels have taken since they have GSO.
const MAX_COUNT: usize = 64;
/// Most bytes in one run: the longest payload that fits an IPv4 packet.
const MAX_BYTES: usize = 65_507;
/// Runs that can wait, 88 bytes each.
const RUNS: usize = 512;
/// Pieces that can wait, 12 bytes each. A handler may add 512 before the outbox is looked at again.
const PIECES: usize = 1024;
/// Room for datagrams that do not lie in the inbox, in bytes; taken from the system when it is used.
const SCRATCH: usize = 192 * 1024;
/// What has to be free of it for the next datagram that is handled: a copy for each of 64 others.
const SCRATCH_RESERVE: usize = 96 * 1024;
/// Runs that a datagram may still join: as many others may send at the same time as one system call brings in.
const OPEN_RUNS: usize = MAX_MESSAGES;
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

/// Datagrams that one system call message can carry: of one destination and equal in all but the length of the
/// last.
#[derive(Clone, Copy, Debug)]
struct Run {
    address: Address,
    /// Whether all that is before it, for the same destination, is as small as this: then it may go before bulk.
    urgent: bool,
    /// Takes no more, because its last datagram is shorter.
    closed: bool,
    segment: usize,
    count: usize,
    bytes: usize,
    first_piece: u16,
    last_piece: u16,
    pieces: usize,
}

/// Where bytes lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Inbox,
    Scratch,
    Backlog(Kind),
}

/// Bytes that lie together: one or more datagrams of a run.
#[derive(Clone, Copy, Debug)]
struct Piece {
    place: Place,
    /// The next one of its run.
    next: u16,
    start: u32,
    length: u32,
}

impl Piece {
    /// Its bytes, which lie in one of these.
    fn of<'a>(&self, inbox: &'a [u8], scratch: &'a [u8]) -> &'a [u8] {
        let buffer = if self.place == Place::Scratch { scratch } else { inbox };
        &buffer[self.start as usize..][..self.length as usize]
    }
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
/// It never blocks and, once made, never allocates for a datagram: what does not fit is dropped and counted.
pub struct Outbox {
    is_ipv6: bool,
    gso: bool,
    current: Option<Current>,
    runs: Vec<Run>,
    pieces: Vec<Piece>,
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

impl Run {
    /// What is to be sent earlier sorts lower.
    fn rank(&self) -> (bool, u16) {
        (!self.urgent, self.first_piece)
    }

    /// Whether `count` more datagrams, of `length` bytes together, can be part of it.
    fn takes(&self, address: Address, segment: usize, count: usize, length: usize) -> bool {
        let alike = if count == 1 { (1..=self.segment).contains(&segment) } else { segment == self.segment };
        self.address == address
            && !self.closed
            && alike
            && self.count + count <= MAX_COUNT
            && self.bytes + length <= MAX_BYTES
    }
}

impl Outbox {
    pub(super) fn new(is_ipv6: bool, gso: bool) -> Self {
        Outbox {
            is_ipv6,
            gso,
            current: None,
            runs: Vec::with_capacity(RUNS),
            pieces: Vec::with_capacity(PIECES),
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
        let Some((class, mut start)) = located else {
            run.chunks(segment).for_each(|datagram| self.push(to, datagram));
            return;
        };
        let address = Address { to, from: self.home_for(to), class };
        for part in run.chunks((MAX_BYTES / segment).clamp(1, MAX_COUNT) * segment) {
            let length = part.len() as u32;
            self.add(address, Piece { place: Place::Inbox, next: 0, start, length }, segment);
            start += length;
        }
        self.is_answered();
    }

    /// Our address that `to` knows.
    fn home_for(&self, to: SocketAddr) -> Option<IpAddr> {
        match (&self.current, self.runs.last()) {
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
        let (class, piece) = match self.locate(datagram) {
            Some((class, start)) => {
                (class, Piece { place: Place::Inbox, next: 0, start, length: datagram.len() as u32 })
            }
            None => {
                let start = self.scratch_used;
                let Some(room) = self.scratch.get_mut(start..start + datagram.len()) else {
                    self.sent.full += 1;
                    return;
                };
                room.copy_from_slice(datagram);
                self.scratch_used += datagram.len();
                let (place, start) = (Place::Scratch, start as u32);
                (0, Piece { place, next: 0, start, length: datagram.len() as u32 })
            }
        };
        self.is_answered();
        self.add(Address { to, from, class }, piece, datagram.len());
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
        self.runs.len() > RUNS / 2
            || self.pieces.len() > PIECES / 2
            || self.scratch.len() - self.scratch_used < SCRATCH_RESERVE
    }

    /// The class and the place in the inbox, if the bytes are part of what is handled.
    fn locate(&self, datagram: &[u8]) -> Option<(u8, u32)> {
        let current = self.current.as_ref()?;
        let offset = datagram.as_ptr().addr().checked_sub(current.address)?;
        let end = offset.checked_add(datagram.len())?;
        (end <= current.length).then_some((current.origin.class, (current.start + offset) as u32))
    }

    /// Adds the datagrams in a piece, each of `segment` bytes but the last.
    fn add(&mut self, address: Address, piece: Piece, segment: usize) {
        let length = piece.length as usize;
        let count = length.div_ceil(segment.max(1)).max(1);
        let last_length = length - (count - 1) * segment;
        let index = self.pieces.len();
        // What goes to one destination stays in order. What goes to others may come in between.
        let latest = self.runs.iter_mut().rev().take(OPEN_RUNS).find(|run| run.address.to == address.to);
        let urgent = segment <= SMALL && latest.as_ref().is_none_or(|run| run.urgent);
        if let Some(run) = latest.filter(|run| self.gso && run.takes(address, segment, count, length)) {
            let last = &mut self.pieces[usize::from(run.last_piece)];
            if last.place == piece.place && last.start + last.length == piece.start {
                last.length += piece.length;
            } else if index == PIECES {
                self.sent.full += count as u64;
                return;
            } else {
                last.next = index as u16;
                run.last_piece = index as u16;
                run.pieces += 1;
                self.pieces.push(piece);
            }
            run.count += count;
            run.bytes += length;
            run.closed = last_length < run.segment;
            return;
        }
        if self.runs.len() == RUNS || index == PIECES {
            self.sent.full += count as u64;
            return;
        }
        self.pieces.push(piece);
        self.runs.push(Run {
            address,
            urgent,
            closed: last_length < segment,
            segment,
            count,
            bytes: length,
            first_piece: index as u16,
            last_piece: index as u16,
            pieces: 1,
        });
    }

    /// Whether something waits until the socket has room.
    pub(super) fn waits(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Sends everything that the socket has room for, small datagrams first, and keeps the rest, as far as
    /// there is room here; `inbox` is the buffer that [`Outbox::begin`] spoke of.
    pub(super) fn flush(&mut self, wire: &impl Wire, inbox: &[u8]) {
        if !self.runs.is_sorted_by_key(Run::rank) {
            self.runs.sort_unstable_by_key(Run::rank);
        }
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
        while let Some(Waiting { address, kind, segment, count }) = self.backlog.next(MAX_COUNT, MAX_BYTES) {
            let mut bytes = 0;
            for place in 0..count {
                let length = self.backlog.datagram(kind, place).len();
                bytes += length;
                let (start, length, next) = (place as u32, length as u32, place as u16 + 1);
                self.pieces.push(Piece { place: Place::Backlog(kind), next, start, length });
            }
            self.runs.push(Run {
                address,
                urgent: kind == Kind::Small,
                closed: true,
                segment,
                count,
                bytes,
                first_piece: 0,
                last_piece: count as u16 - 1,
                pieces: count,
            });
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
        let Outbox { runs, pieces, scratch, backlog, sent, .. } = self;
        let mut done = unsent.done;
        for run in &runs[unsent.run..] {
            for piece in pieces_of(pieces, run) {
                let bytes = piece.of(inbox, scratch);
                // A run of one may be empty.
                let size = if run.count == 1 { bytes.len().max(1) } else { run.segment };
                let datagrams = bytes.chunks(size).chain((bytes.is_empty()).then_some(bytes));
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
        self.pieces.clear();
        self.scratch_used = 0;
    }

    /// Sends all runs. Gives what is left if the socket has no more room.
    fn send_all(&mut self, wire: &impl Wire, inbox: &[u8]) -> Option<Unsent> {
        let mut at = 0;
        while at < self.runs.len() {
            let split = self.runs[at].count > 1 && !self.gso;
            let result = if split {
                Err(Errno::MSGSIZE)
            } else if self.runs.len() - at <= FEW && self.pieces.len() <= FEW {
                // Most often there are few, and clearing much costs as much as a datagram.
                self.send_runs::<FEW, FEW>(wire, inbox, at)
            } else {
                self.send_runs::<MAX_MESSAGES, SLICES>(wire, inbox, at)
            };
            self.sent.calls += u64::from(!split);
            let next = match result {
                Ok(sent) => {
                    self.taken(self.runs[at..at + sent].iter().map(|run| run.count as u64).sum());
                    at += sent;
                    continue;
                }
                Err(errno @ (Errno::IO | Errno::INVAL | Errno::MSGSIZE)) if self.runs[at].count > 1 => {
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
                Err(errno) => self.refused(at, errno, self.runs[at].count),
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
        for (run, envelope) in self.runs[first..].iter().zip(&mut envelopes) {
            if slice_count + run.pieces > S || run.count > 1 && !self.gso {
                break;
            }
            let segment = (run.count > 1).then_some(run.segment as u16);
            let addressed = envelope.address(run, segment, self.is_ipv6);
            if !addressed {
                if count == 0 {
                    return Err(Errno::AFNOSUPPORT);
                }
                break;
            }
            envelope.first_slice = slice_count;
            for piece in pieces_of(&self.pieces, run) {
                slices[slice_count] = IoSlice::new(self.bytes(piece, inbox));
                slice_count += 1;
            }
            envelope.end_slice = slice_count;
            count += 1;
        }
        let mut messages = [Message { name: &[], control: &[], data: &[] }; M];
        for (message, envelope) in messages.iter_mut().zip(&envelopes[..count]) {
            *message = envelope.message(&slices[envelope.first_slice..envelope.end_slice]);
        }
        wire.transmit(&messages[..count])
    }

    /// Sends the datagrams of a run one by one; the error is how many, if the socket has no more room.
    fn send_singly(&mut self, wire: &impl Wire, inbox: &[u8], index: usize) -> Result<(), usize> {
        let mut done = 0;
        while done < self.runs[index].count {
            let run = &self.runs[index];
            let mut envelope = Envelope::EMPTY;
            let result = if envelope.address(run, None, self.is_ipv6) {
                let mut slices = [IoSlice::new(&[]); MAX_MESSAGES];
                let datagrams = pieces_of(&self.pieces, run)
                    .flat_map(|piece| self.bytes(piece, inbox).chunks(run.segment));
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
        let run = &mut self.runs[index];
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
        match piece.place {
            Place::Backlog(kind) => self.backlog.datagram(kind, piece.start as usize),
            Place::Inbox | Place::Scratch => piece.of(inbox, &self.scratch),
        }
    }
}

fn pieces_of<'a>(pieces: &'a [Piece], run: &Run) -> impl Iterator<Item = &'a Piece> {
    let first = pieces.get(usize::from(run.first_piece));
    std::iter::successors(first, |piece| pieces.get(usize::from(piece.next))).take(run.pieces)
}

/// What a message needs beside its payload.
struct Envelope {
    name: [u8; NAME_LENGTH],
    name_length: usize,
    control: Control,
    first_slice: usize,
    end_slice: usize,
}

impl Envelope {
    const EMPTY: Envelope = Envelope {
        name: [0; NAME_LENGTH],
        name_length: 0,
        control: Control::EMPTY,
        first_slice: 0,
        end_slice: 0,
    };

    /// Returns false if the socket can't send there.
    fn address(&mut self, run: &Run, segment: Option<u16>, is_ipv6: bool) -> bool {
        let Address { to, from, class } = run.address;
        let Some(length) = write_name(to, is_ipv6, &mut self.name) else { return false };
        self.name_length = length;
        self.control.write(to.ip(), from, class, segment);
        true
    }

    fn message<'a>(&'a self, data: &'a [IoSlice<'a>]) -> Message<'a> {
        Message { name: &self.name[..self.name_length], control: self.control.bytes(), data }
    }
}

const _: () = assert!(SLICES >= MAX_COUNT && CONTROL_LENGTH >= 88 && SCRATCH >= SCRATCH_RESERVE + 65_536);
