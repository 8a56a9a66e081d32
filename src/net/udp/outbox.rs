//! Datagrams on their way out.

use super::ancillary::{CONTROL_LENGTH, Control, write_name};
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
const OPEN_RUNS: usize = 16;
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
    fn send(&self, messages: &[Message<'_>]) -> Result<usize, Errno>;
}

/// Datagrams that one system call message can carry: of one destination and equal in all but the length of the
/// last.
#[derive(Clone, Copy, Debug)]
struct Run {
    to: SocketAddr,
    from: Option<IpAddr>,
    class: u8,
    /// Takes no more, because its last datagram is shorter.
    closed: bool,
    segment: usize,
    count: usize,
    bytes: usize,
    first_piece: u16,
    last_piece: u16,
    pieces: usize,
}

/// Bytes that lie together: one or more datagrams of a run.
#[derive(Clone, Copy, Debug)]
struct Piece {
    in_scratch: bool,
    /// The next one of its run.
    next: u16,
    start: u32,
    length: u32,
}

/// The datagram that is being handled.
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

impl Run {
    /// Whether one more datagram, of `length` bytes, can be part of it.
    fn takes(&self, from: Option<IpAddr>, class: u8, length: usize) -> bool {
        (self.from, self.class, self.closed) == (from, class, false)
            && (1..=self.segment).contains(&length)
            && self.count < MAX_COUNT
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
            homes: Homes::default(),
            suspect: None,
            sent: Sent::default(),
        }
    }

    /// Sends `datagram` to `to`, from our address that `to` knows. While a received datagram is handled, a
    /// part of it is not copied, so it must not be changed any more; it keeps its DSCP and ECN. Anything
    /// else is copied, and has neither.
    pub fn push(&mut self, to: SocketAddr, datagram: &[u8]) {
        let from = match (&self.current, self.runs.last()) {
            (Some(current), _) if current.origin.source == to && current.origin.local.is_some() => {
                current.origin.local
            }
            (_, Some(last)) if last.to == to => last.from,
            _ => self.homes.of(to),
        };
        self.push_from(from, to, datagram);
    }

    /// Like [`Outbox::push`], from the given address of ours; `None` leaves it to the kernel's routes.
    pub fn push_from(&mut self, from: Option<IpAddr>, to: SocketAddr, datagram: &[u8]) {
        let (class, piece) = match self.locate(datagram) {
            Some((class, start)) => {
                (class, Piece { in_scratch: false, next: 0, start, length: datagram.len() as u32 })
            }
            None => {
                let start = self.scratch_used;
                let Some(room) = self.scratch.get_mut(start..start + datagram.len()) else {
                    self.sent.full += 1;
                    return;
                };
                room.copy_from_slice(datagram);
                self.scratch_used += datagram.len();
                (0, Piece { in_scratch: true, next: 0, start: start as u32, length: datagram.len() as u32 })
            }
        };
        if let Some(current) = &mut self.current {
            current.answered = true;
        }
        self.add(to, from, class, piece);
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

    /// `datagram` is handled now. It lies at `start` in the inbox.
    pub(super) fn begin(&mut self, origin: Origin, start: usize, datagram: &[u8]) {
        let (address, length) = (datagram.as_ptr().addr(), datagram.len());
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

    /// The class and the place in the inbox, if the bytes are part of the current datagram.
    fn locate(&self, datagram: &[u8]) -> Option<(u8, u32)> {
        let current = self.current.as_ref()?;
        let offset = datagram.as_ptr().addr().checked_sub(current.address)?;
        let end = offset.checked_add(datagram.len())?;
        (end <= current.length).then_some((current.origin.class, (current.start + offset) as u32))
    }

    fn add(&mut self, to: SocketAddr, from: Option<IpAddr>, class: u8, piece: Piece) {
        let length = piece.length as usize;
        let place = self.pieces.len();
        // What goes to one destination stays in order. What goes to others may come in between.
        let latest = self.runs.iter_mut().rev().take(OPEN_RUNS).find(|run| run.to == to);
        if let Some(run) = latest.filter(|run| self.gso && run.takes(from, class, length)) {
            let last = &mut self.pieces[usize::from(run.last_piece)];
            if last.in_scratch == piece.in_scratch && last.start + last.length == piece.start {
                last.length += piece.length;
            } else if place == PIECES {
                self.sent.full += 1;
                return;
            } else {
                last.next = place as u16;
                run.last_piece = place as u16;
                run.pieces += 1;
                self.pieces.push(piece);
            }
            run.count += 1;
            run.bytes += length;
            run.closed = length < run.segment;
            return;
        }
        if self.runs.len() == RUNS || place == PIECES {
            self.sent.full += 1;
            return;
        }
        self.pieces.push(piece);
        self.runs.push(Run {
            to,
            from,
            class,
            closed: false,
            segment: length,
            count: 1,
            bytes: length,
            first_piece: place as u16,
            last_piece: place as u16,
            pieces: 1,
        });
    }

    /// Sends everything; `inbox` is the buffer that [`Outbox::begin`] spoke of.
    pub(super) fn flush(&mut self, wire: &impl Wire, inbox: &[u8]) {
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
                    self.send_singly(wire, inbox, at)
                }
                Err(errno) => self.refused(at, errno, self.runs[at].count),
            };
            match next {
                Next::Retry => (),
                Next::Skip => at += 1,
                Next::Stop => {
                    let rest = self.runs.get(at + 1..).unwrap_or(&[]);
                    self.sent.full += rest.iter().map(|run| run.count as u64).sum::<u64>();
                    break;
                }
            }
        }
        self.runs.clear();
        self.pieces.clear();
        self.scratch_used = 0;
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
            for piece in self.pieces_of(run) {
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
        wire.send(&messages[..count])
    }

    /// Sends the datagrams of a run one by one.
    fn send_singly(&mut self, wire: &impl Wire, inbox: &[u8], index: usize) -> Next {
        let mut done = 0;
        while done < self.runs[index].count {
            let run = &self.runs[index];
            let mut envelope = Envelope::EMPTY;
            let result = if envelope.address(run, None, self.is_ipv6) {
                let mut slices = [IoSlice::new(&[]); MAX_MESSAGES];
                let datagrams =
                    self.pieces_of(run).flat_map(|piece| self.bytes(piece, inbox).chunks(run.segment));
                for (slice, datagram) in slices.iter_mut().zip(datagrams.skip(done)) {
                    *slice = IoSlice::new(datagram);
                }
                let mut messages = [Message { name: &[], control: &[], data: &[] }; MAX_MESSAGES];
                for (message, slice) in messages.iter_mut().zip(&slices) {
                    *message = envelope.message(std::slice::from_ref(slice));
                }
                let count = (run.count - done).min(MAX_MESSAGES);
                wire.send(&messages[..count])
            } else {
                Err(Errno::AFNOSUPPORT)
            };
            self.sent.calls += 1;
            match result {
                Ok(sent) => {
                    self.taken(sent as u64);
                    done += sent;
                }
                Err(Errno::AGAIN) => return self.refused(index, Errno::AGAIN, self.runs[index].count - done),
                Err(errno) => match self.refused(index, errno, 1) {
                    Next::Retry => (),
                    _ => done += 1,
                },
            }
        }
        Next::Skip
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
            Errno::INVAL | Errno::NETUNREACH | Errno::ADDRNOTAVAIL if run.from.is_some() => {
                self.suspect = run.from.take();
                return Next::Retry;
            }
            Errno::AGAIN => {
                self.suspect = None;
                self.sent.full += count as u64;
                return Next::Stop;
            }
            Errno::NOBUFS => self.sent.full += count as u64,
            errno => {
                log::trace!("nothing sent to {}: {errno}", run.to);
                self.sent.refused += count as u64;
            }
        }
        self.suspect = None;
        Next::Skip
    }

    fn pieces_of(&self, run: &Run) -> impl Iterator<Item = &Piece> {
        let first = Some(&self.pieces[usize::from(run.first_piece)]);
        let next = |piece: &&Piece| Some(&self.pieces[usize::from(piece.next)]);
        std::iter::successors(first, next).take(run.pieces)
    }

    fn bytes<'a>(&'a self, piece: &Piece, inbox: &'a [u8]) -> &'a [u8] {
        let buffer = if piece.in_scratch { &self.scratch } else { inbox };
        &buffer[piece.start as usize..][..piece.length as usize]
    }
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
        let Some(length) = write_name(run.to, is_ipv6, &mut self.name) else { return false };
        self.name_length = length;
        self.control.write(run.to.ip(), run.from, run.class, segment);
        true
    }

    fn message<'a>(&'a self, data: &'a [IoSlice<'a>]) -> Message<'a> {
        Message { name: &self.name[..self.name_length], control: self.control.bytes(), data }
    }
}

const _: () = assert!(SLICES >= MAX_COUNT && CONTROL_LENGTH >= 88 && SCRATCH >= SCRATCH_RESERVE + 65_536);
