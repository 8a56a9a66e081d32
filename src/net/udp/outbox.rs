//! Datagrams on their way out.

use super::backlog::{Addressing, Backlog};
use super::runs::{Buffers, MAX_BYTES, MAX_COUNT, PayloadLocation, Piece, Run, Runs};
use super::senders::{Heard, SENDERS, shares_bulk, stand_in_for};
use super::transmit::Transmit;
use crate::crypto::random;
use crate::datagram::{Path, RecvMeta};
use crate::figures::{DropReason, Drops};
use crate::sys::{MAX_MESSAGES, OutgoingMessage};
use crate::time::Instant;
use rustix::io::Errno;
use std::io::IoSlice;
use std::net::IpAddr;
use std::ops::Range;

/// Room for datagrams that do not lie in the inbox, in bytes; taken from the system when it is used.
const SCRATCH: usize = 192 * 1024;
/// What has to be free of it for the next datagram that is handled: a copy for each of 64 others.
const SCRATCH_RESERVE: usize = 96 * 1024;
/// Pieces given to one system call.
const SLICES: usize = 64;
/// Messages, and pieces, that are few.
const FEW: usize = 2;
/// Addresses that are remembered as not ours, at most.
const MAX_NOT_OURS: usize = 16;

/// What became of the datagrams that were to be sent.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct SendCounters {
    /// Datagrams that the kernel has taken.
    pub sent: u64,
    /// System calls made for them.
    pub calls: u64,
    /// Those that were not sent, or came truncated.
    pub drops: Drops,
}

/// The way out: the kernel, or a test.
pub(super) trait Wire {
    /// As [`crate::sys::send_many`], by one of the senders.
    fn transmit(&self, sender: usize, messages: &[OutgoingMessage<'_>]) -> Result<usize, Errno>;
}

/// What is being handled.
struct Current {
    meta: RecvMeta,
    /// By which interface it came, if that is known.
    interface: u32,
    /// Where it lies in the inbox.
    start: usize,
    /// It was of use to somebody.
    forwarded: bool,
}

/// Datagrams that wait to be sent by one socket. What is forwarded is not copied.
/// It never blocks and, once made, allocates only once more, when the socket has no room for the first time: what
/// does not fit then is dropped and counted.
pub struct SendQueue {
    is_ipv6: bool,
    gso: bool,
    now: Instant,
    current: Option<Current>,
    runs: Runs,
    scratch: Box<[u8]>,
    scratch_used: usize,
    backlog: Backlog,
    /// Senders that had no room in this turn, and are not asked again: a bit for each.
    full: u16,
    /// If the socket has several senders.
    heard: Option<Heard>,
    /// Addresses that datagrams could not be sent from, so the kernel's routes choose another. The last one was tried
    /// just now, if it is `suspect`.
    not_ours: Vec<IpAddr>,
    suspect: Option<IpAddr>,
    sent: SendCounters,
}

enum NextSend {
    Retry,
    Skip,
    Stop,
}

/// What a sender has no room for: all from this run on, but for so many datagrams of it.
struct Unsent {
    run: usize,
    done: usize,
}

impl SendQueue {
    pub(super) fn new(is_ipv6: bool, gso: bool, spreads: bool) -> Self {
        SendQueue {
            is_ipv6,
            gso,
            now: Instant::ZERO,
            current: None,
            runs: Runs::new(),
            scratch: vec![0; SCRATCH].into(),
            scratch_used: 0,
            backlog: Backlog::new(),
            full: 0,
            heard: spreads.then(|| Heard::new([(); 2].map(|()| u64::from_le_bytes(random::bytes())))),
            not_ours: Vec::with_capacity(MAX_NOT_OURS),
            suspect: None,
            sent: SendCounters::default(),
        }
    }

    /// A turn begins: there may be room.
    pub(super) fn begin_turn(&mut self) {
        self.full = 0;
    }

    /// Says what time it is.
    pub fn set_now(&mut self, now: Instant) {
        self.now = now;
    }

    /// Sends on the first `length` bytes of what is being handled, datagrams of `segment` bytes each but the last,
    /// which may be shorter. They are not copied, so they must not be changed any more, and keep their traffic class.
    pub fn forward(&mut self, path: Path, length: usize, segment: usize) {
        let Some(current) = &mut self.current else { return };
        current.forwarded = true;
        let (class, start) = (current.meta.class, current.start);
        let addressing = self.addressing(path, class);
        let segment = segment.clamp(1, length.max(1));
        let most = if self.gso { (MAX_BYTES / segment).clamp(1, MAX_COUNT) } else { 1 };
        let mut done = 0;
        loop {
            let part = (most * segment).min(length - done);
            self.add(addressing, Piece::new(PayloadLocation::Inbox, start + done, part), segment.min(part));
            done += part;
            if done == length {
                return;
            }
        }
    }

    /// Sends a copy of `datagram`, without a traffic class.
    pub fn send(&mut self, path: Path, datagram: &[u8]) {
        let (start, length) = (self.scratch_used, datagram.len());
        let Some(room) = self.scratch.get_mut(start..start + length) else {
            self.sent.drops.add(DropReason::SocketFull);
            return;
        };
        room.copy_from_slice(datagram);
        self.scratch_used += length;
        let addressing = self.addressing(path, 0);
        self.add(addressing, Piece::new(PayloadLocation::Scratch, start, length), length);
    }

    /// The kernel's routes choose for an address that is not ours.
    fn addressing(&self, path: Path, class: u8) -> Addressing {
        let local = path.local.filter(|local| !self.not_ours.contains(local));
        Addressing { path: Path { local, ..path }, class }
    }

    fn add(&mut self, addressing: Addressing, piece: Piece, segment: usize) {
        let remote = addressing.path.remote;
        if remote.is_ipv6() && !self.is_ipv6 {
            self.sent.drops.add_many(DropReason::NoRoute, piece.count(segment) as u64);
            return;
        }
        let SendQueue { runs, heard, now, .. } = self;
        let sender = || heard.as_ref().map_or(0, |heard| heard.sender_for(remote, *now));
        if let Err(count) = runs.add(addressing, piece, segment, self.gso, sender) {
            self.sent.drops.add_many(DropReason::SocketFull, count as u64);
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
    pub fn sent(&self) -> SendCounters {
        self.sent.clone()
    }

    /// What was not sent, or came truncated.
    pub fn drops(&self) -> &Drops {
        &self.sent.drops
    }

    /// A datagram came that was longer than the room for it.
    pub(super) fn count_truncated(&mut self) {
        self.sent.drops.add(DropReason::Truncated);
    }

    /// What was received is handled now, or the beginning of it. It lies at `start` in the inbox.
    pub(super) fn begin(&mut self, meta: RecvMeta, interface: u32, start: usize) {
        if !self.not_ours.is_empty() {
            self.not_ours.retain(|gone| Some(*gone) != meta.path.local);
        }
        self.current = Some(Current { meta, interface, start, forwarded: false });
    }

    /// It has been handled.
    pub(super) fn end(&mut self) {
        if let Some(Current { meta, interface, forwarded: true, .. }) = self.current.take()
            && let Some(heard) = &mut self.heard
        {
            heard.hear(meta.path.remote, interface, self.now);
        }
    }

    /// Whether it has to be flushed before the next datagram is handled.
    pub(super) fn is_nearly_full(&self) -> bool {
        self.runs.are_many() || self.scratch.len() - self.scratch_used < SCRATCH_RESERVE
    }

    /// The network may have changed: addresses that were not ours may be now.
    pub fn look_again(&mut self) {
        self.not_ours.clear();
        self.heard.iter_mut().for_each(Heard::forget_interfaces);
    }

    /// Whether something waits until a socket has room.
    pub(super) fn waits(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Whose room it waits for: a bit for each sender.
    pub(super) fn waits_for(&self) -> u16 {
        let mut waits_for = 0;
        for sender in 0..SENDERS {
            if self.backlog.waits_for(sender) {
                waits_for |= 1 << sender;
            }
            if self.waits_for_stand_in(sender) {
                waits_for |= self.stand_in_for(sender).map_or(0, |other| 1 << other);
            }
        }
        waits_for
    }

    /// Whether something waits that a sender's stand-in may send.
    fn waits_for_stand_in(&self, sender: usize) -> bool {
        shares_bulk(sender) && self.backlog.waits_for(sender) || self.backlog.small_waits_for(sender)
    }

    fn stand_in_for(&self, sender: usize) -> Option<usize> {
        stand_in_for(sender).filter(|_| self.heard.is_some())
    }

    /// Sends everything that there is room for, small datagrams first, and keeps the rest, as far as there is room
    /// here; `inbox` is the buffer of [`SendQueue::begin`].
    pub(super) fn flush(&mut self, wire: &impl Wire, inbox: &[u8]) {
        let waited = self.waits();
        self.runs.sort();
        let mut first = 0;
        while let Some(run) = self.runs.all().get(first) {
            let sender = run.sender;
            let end = first + self.runs.all()[first..].iter().take_while(|run| run.sender == sender).count();
            self.flush_sender(wire, inbox, sender, first..end);
            first = end;
        }
        self.clear();
        if waited {
            (0..SENDERS).for_each(|sender| self.resume(wire, sender));
        }
    }

    /// Sends the runs of one sender.
    fn flush_sender(&mut self, wire: &impl Wire, inbox: &[u8], sender: usize, runs: Range<usize>) {
        // Who has waited is first.
        let unsent = if self.backlog.waits_for(sender) {
            Some(Unsent { run: runs.start, done: 0 })
        } else {
            self.send_all(wire, inbox, sender, runs.clone())
        };
        let Some(unsent) = unsent else { return };
        let may_go = |run: &&Run| run.urgent || shares_bulk(sender);
        let end = runs.start + self.runs.all()[runs.clone()].iter().take_while(may_go).count();
        let next = unsent.run + usize::from(unsent.done > 0);
        match self.stand_in_for(sender) {
            Some(other) if next < end && !self.waits_for_stand_in(sender) => {
                if next > unsent.run {
                    self.keep(sender, unsent.run..next, unsent.done, inbox);
                }
                match self.send_all(wire, inbox, other, next..end) {
                    None => self.keep(sender, end..runs.end, 0, inbox),
                    Some(Unsent { run, done }) => self.keep(sender, run..runs.end, done, inbox),
                }
            }
            _ => self.keep(sender, unsent.run..runs.end, unsent.done, inbox),
        }
    }

    /// Sends what waits for a sender as long as there is room there, or at its stand-in.
    fn resume(&mut self, wire: &impl Wire, sender: usize) {
        let mut by = sender;
        loop {
            let waiting = if by == sender || shares_bulk(sender) {
                self.backlog.next(sender, MAX_COUNT, MAX_BYTES)
            } else {
                self.backlog.next_small(sender, MAX_COUNT, MAX_BYTES)
            };
            let Some(waiting) = waiting else { return };
            self.runs.load(&waiting, self.backlog.ranges(&waiting));
            let unsent = self.send_all(wire, &[], by, 0..1);
            self.clear();
            self.backlog.release(&waiting, unsent.as_ref().map_or(waiting.count, |unsent| unsent.done));
            if unsent.is_some() {
                match self.stand_in_for(sender).filter(|_| by == sender) {
                    Some(other) => by = other,
                    None => return,
                }
            }
        }
    }

    /// Copies what a sender has no room for to where it can wait: these runs, but for the first datagrams.
    fn keep(&mut self, sender: usize, runs: Range<usize>, mut done: usize, inbox: &[u8]) {
        let SendQueue { runs: all, scratch, backlog, sent, .. } = self;
        for run in &all.all()[runs] {
            for piece in all.pieces_of(run) {
                let bytes = piece.of(Buffers { inbox, scratch, backlog: &[] });
                // A run of one may be empty.
                let size = if run.count == 1 { bytes.len().max(1) } else { run.segment };
                let datagrams = bytes.chunks(size).chain(bytes.is_empty().then_some(bytes));
                for datagram in datagrams {
                    if done > 0 {
                        done -= 1;
                    } else {
                        let dropped = backlog.push(sender, run.addressing, datagram);
                        sent.drops.add_many(DropReason::SocketFull, dropped as u64);
                    }
                }
            }
        }
    }

    fn clear(&mut self) {
        self.runs.clear();
        self.scratch_used = 0;
    }

    /// Sends these runs. Gives what is left if the sender has no more room.
    fn send_all(
        &mut self,
        wire: &impl Wire,
        inbox: &[u8],
        sender: usize,
        runs: Range<usize>,
    ) -> Option<Unsent> {
        let mut at = runs.start;
        if self.full >> sender & 1 == 1 {
            return Some(Unsent { run: at, done: 0 });
        }
        while at < runs.end {
            let count = self.runs.all()[at].count;
            if count > 1 && !self.gso {
                match self.send_singly(wire, inbox, sender, at) {
                    Ok(()) => at += 1,
                    Err(done) => return Some(self.stopped(sender, at, done)),
                }
                continue;
            }
            // Most often there are few, and clearing much costs as much as a datagram.
            let result = if runs.end - at <= FEW && self.runs.piece_count() <= FEW {
                self.send_runs::<FEW, FEW>(wire, inbox, sender, at..runs.end)
            } else {
                self.send_runs::<MAX_MESSAGES, SLICES>(wire, inbox, sender, at..runs.end)
            };
            self.sent.calls += 1;
            let next = match result {
                Ok(sent) => {
                    self.taken(self.runs.all()[at..at + sent].iter().map(|run| run.count as u64).sum());
                    at += sent;
                    continue;
                }
                Err(errno @ (Errno::IO | Errno::INVAL | Errno::MSGSIZE)) if count > 1 => {
                    // An I/O error says that something on the way can't do it: no checksum offload, or IPsec. The
                    // others speak of this run alone, such as that its datagrams have to be fragmented. See
                    // `udp_send_skb` in <https://github.com/torvalds/linux/blob/v6.12/net/ipv4/udp.c>.
                    if errno == Errno::IO {
                        log::info!("the network can't send with GSO: doing without from now on");
                        self.gso = false;
                    }
                    match self.send_singly(wire, inbox, sender, at) {
                        Ok(()) => NextSend::Skip,
                        Err(done) => return Some(self.stopped(sender, at, done)),
                    }
                }
                Err(errno) => self.refused(at, errno, count),
            };
            match next {
                NextSend::Retry => (),
                NextSend::Skip => at += 1,
                NextSend::Stop => return Some(self.stopped(sender, at, 0)),
            }
        }
        None
    }

    /// A sender has no more room.
    fn stopped(&mut self, sender: usize, run: usize, done: usize) -> Unsent {
        self.full |= 1 << sender;
        Unsent { run, done }
    }

    /// Sends some of these runs by one system call: at most `M`, of `S` pieces together. Returns how many.
    fn send_runs<const M: usize, const S: usize>(
        &self,
        wire: &impl Wire,
        inbox: &[u8],
        sender: usize,
        runs: Range<usize>,
    ) -> Result<usize, Errno> {
        let buffers = self.buffers(inbox);
        let mut slices = [IoSlice::new(&[]); S];
        let mut slice_count = 0;
        let mut transmits = [const { Transmit::EMPTY }; M];
        let mut count = 0;
        for (run, transmit) in self.runs.all()[runs].iter().zip(&mut transmits) {
            if slice_count + run.pieces > S || run.count > 1 && !self.gso {
                break;
            }
            let segment = (run.count > 1).then_some(run.segment as u16);
            transmit.address(run.addressing, segment, self.is_ipv6);
            let first_slice = slice_count;
            for piece in self.runs.pieces_of(run) {
                slices[slice_count] = IoSlice::new(piece.of(buffers));
                slice_count += 1;
            }
            transmit.slices = first_slice..slice_count;
            count += 1;
        }
        let mut messages = [OutgoingMessage { name: &[], control: &[], data: &[] }; M];
        for (message, transmit) in messages.iter_mut().zip(&transmits[..count]) {
            *message = transmit.message(&slices[transmit.slices.clone()]);
        }
        wire.transmit(sender, &messages[..count])
    }

    /// Sends the datagrams of a run one by one; the error is how many, if the sender has no more room.
    fn send_singly(
        &mut self,
        wire: &impl Wire,
        inbox: &[u8],
        sender: usize,
        index: usize,
    ) -> Result<(), usize> {
        let mut done = 0;
        while done < self.runs.all()[index].count {
            let run = &self.runs.all()[index];
            let buffers = self.buffers(inbox);
            let mut transmit = Transmit::EMPTY;
            transmit.address(run.addressing, None, self.is_ipv6);
            let mut slices = [IoSlice::new(&[]); MAX_MESSAGES];
            let datagrams = self.runs.pieces_of(run).flat_map(|piece| piece.of(buffers).chunks(run.segment));
            for (slice, datagram) in slices.iter_mut().zip(datagrams.skip(done)) {
                *slice = IoSlice::new(datagram);
            }
            let mut messages = [OutgoingMessage { name: &[], control: &[], data: &[] }; MAX_MESSAGES];
            for (message, slice) in messages.iter_mut().zip(&slices) {
                *message = transmit.message(std::slice::from_ref(slice));
            }
            let count = (run.count - done).min(MAX_MESSAGES);
            let result = wire.transmit(sender, &messages[..count]);
            self.sent.calls += 1;
            match result {
                Ok(sent) => {
                    self.taken(sent as u64);
                    done += sent;
                }
                Err(errno) => match self.refused(index, errno, 1) {
                    NextSend::Retry => (),
                    NextSend::Skip => done += 1,
                    NextSend::Stop => return Err(done),
                },
            }
        }
        Ok(())
    }

    /// The kernel has taken datagrams.
    fn taken(&mut self, datagrams: u64) {
        self.sent.sent += datagrams;
        if let Some(local) = self.suspect.take()
            && !self.not_ours.contains(&local)
        {
            if self.not_ours.len() == MAX_NOT_OURS {
                self.not_ours.remove(0);
            }
            self.not_ours.push(local);
        }
    }

    /// What to do about an error with a run, and `count` datagrams of it that would be lost.
    fn refused(&mut self, index: usize, errno: Errno, count: usize) -> NextSend {
        let path = &mut self.runs.get_mut(index).addressing.path;
        match errno {
            Errno::INTR => return NextSend::Retry,
            // Our address may have changed: any address is better than none. If it helps, this one is gone.
            Errno::INVAL | Errno::NETUNREACH | Errno::ADDRNOTAVAIL if path.local.is_some() => {
                self.suspect = path.local.take();
                return NextSend::Retry;
            }
            Errno::AGAIN => {
                self.suspect = None;
                return NextSend::Stop;
            }
            Errno::NOBUFS => self.sent.drops.add_many(DropReason::SocketFull, count as u64),
            Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::NETDOWN | Errno::HOSTDOWN | Errno::NONET => {
                self.sent.drops.add_many(DropReason::NoRoute, count as u64);
            }
            errno => {
                log::trace!("nothing sent to {}: {errno}", path.remote);
                self.sent.drops.add_many(DropReason::SocketRefused, count as u64);
            }
        }
        self.suspect = None;
        NextSend::Skip
    }

    fn buffers<'a>(&'a self, inbox: &'a [u8]) -> Buffers<'a> {
        Buffers { inbox, scratch: &self.scratch, backlog: self.backlog.bytes() }
    }
}

const _: () = assert!(SLICES >= MAX_COUNT && SCRATCH >= SCRATCH_RESERVE + 65_536 && SENDERS <= 16);
