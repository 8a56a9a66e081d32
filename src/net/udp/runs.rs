//! Runs of datagrams: what the kernel can be given as one.

use super::backlog::{Addressing, Priority, QueuedRun, SMALL};
use crate::sys::MAX_MESSAGES;

/// Most datagrams in one run: what kernels have taken since they have GSO (`UDP_MAX_SEGMENTS` in
/// <https://github.com/torvalds/linux/blob/v4.18/include/linux/udp.h>).
pub const MAX_COUNT: usize = 64;
/// Most bytes in one run: the longest payload that fits an IPv4 packet.
pub const MAX_BYTES: usize = 65_507;
/// Runs that can wait, 96 bytes each.
const RUNS: usize = 512;
/// Pieces that can wait, 12 bytes each. A handler may add 512 before the outbox is looked at again.
const PIECES: usize = 1024;
/// Runs that a datagram may still join: as many others may send at the same time as one system call brings in.
const OPEN_RUNS: usize = MAX_MESSAGES;

/// Datagrams that one system call message can carry: of one destination and equal in all but the length of the
/// last.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// What it is sent with.
    pub addressing: Addressing,
    /// Who is to send it.
    pub sender: usize,
    /// Whether all that is before it, for the same destination, is as small as this: then it may go before bulk.
    pub urgent: bool,
    /// Takes no more, because its last datagram is shorter.
    closed: bool,
    /// The length of each datagram but the last, in bytes.
    pub segment: usize,
    /// How many datagrams there are.
    pub count: usize,
    bytes: usize,
    first_piece: u16,
    last_piece: u16,
    /// How many pieces there are.
    pub pieces: usize,
}

/// Where bytes lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PayloadLocation {
    /// Where they were received.
    Inbox,
    /// Where they were copied to for now.
    Scratch,
    /// Among what waits for room; a piece is one datagram.
    Backlog,
}

/// What the ranges of pieces are.
#[derive(Clone, Copy)]
pub struct Buffers<'a> {
    /// [`PayloadLocation::Inbox`].
    pub inbox: &'a [u8],
    /// [`PayloadLocation::Scratch`].
    pub scratch: &'a [u8],
    /// [`PayloadLocation::Backlog`].
    pub backlog: &'a [u8],
}

/// Bytes that lie together: one or more datagrams of a run.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    location: PayloadLocation,
    /// The next one of its run.
    next: u16,
    start: u32,
    length: u32,
}

impl Piece {
    /// `length` bytes from `start` on.
    pub fn new(location: PayloadLocation, start: usize, length: usize) -> Self {
        Piece { location, next: 0, start: start as u32, length: length as u32 }
    }

    /// Its bytes.
    pub fn of<'a>(&self, buffers: Buffers<'a>) -> &'a [u8] {
        let buffer = match self.location {
            PayloadLocation::Inbox => buffers.inbox,
            PayloadLocation::Scratch => buffers.scratch,
            PayloadLocation::Backlog => buffers.backlog,
        };
        &buffer[self.start as usize..][..self.length as usize]
    }

    /// How many datagrams it is, if each but the last has `segment` bytes.
    pub fn count(&self, segment: usize) -> usize {
        (self.length as usize).div_ceil(segment.max(1)).max(1)
    }
}

impl Run {
    /// What is to be sent earlier sorts lower.
    fn rank(&self) -> (usize, bool, u16) {
        (self.sender, !self.urgent, self.first_piece)
    }

    /// Whether `count` more datagrams, of `length` bytes together, can be part of it.
    fn takes(&self, addressing: Addressing, segment: usize, count: usize, length: usize) -> bool {
        let alike = if count == 1 { (1..=self.segment).contains(&segment) } else { segment == self.segment };
        self.addressing == addressing
            && !self.closed
            && alike
            && self.count + count <= MAX_COUNT
            && self.bytes + length <= MAX_BYTES
    }
}

/// Runs in the order in which they are to be sent.
pub struct Runs {
    runs: Vec<Run>,
    pieces: Vec<Piece>,
}

impl Runs {
    /// None, with room for all there may be.
    pub fn new() -> Self {
        Runs { runs: Vec::with_capacity(RUNS), pieces: Vec::with_capacity(PIECES) }
    }

    /// Whether they should be sent before a handler adds more.
    pub fn are_many(&self) -> bool {
        self.runs.len() > RUNS / 2 || self.pieces.len() > PIECES / 2
    }

    /// All of them.
    pub fn all(&self) -> &[Run] {
        &self.runs
    }

    /// One of them.
    pub fn get_mut(&mut self, index: usize) -> &mut Run {
        &mut self.runs[index]
    }

    /// How many pieces there are of all runs.
    pub fn piece_count(&self) -> usize {
        self.pieces.len()
    }

    /// The pieces of a run, in order.
    pub fn pieces_of(&self, run: &Run) -> impl Iterator<Item = &Piece> {
        let first = self.pieces.get(usize::from(run.first_piece));
        std::iter::successors(first, |piece| self.pieces.get(usize::from(piece.next))).take(run.pieces)
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.runs.clear();
        self.pieces.clear();
    }

    /// Adds the datagrams in a piece, each of `segment` bytes but the last: to an earlier run if that is `open`
    /// to more, and can be. The `sender` is asked for unless one has others for the same destination. Gives how many
    /// there was no room for.
    pub fn add(
        &mut self,
        addressing: Addressing,
        piece: Piece,
        segment: usize,
        open: bool,
        sender: impl FnOnce() -> usize,
    ) -> Result<(), usize> {
        let length = piece.length as usize;
        let count = piece.count(segment);
        let last_length = length - (count - 1) * segment;
        let index = self.pieces.len();
        // What goes to one destination stays in order. What goes to others may come in between.
        let remote = addressing.path.remote;
        let same = |run: &&mut Run| run.addressing.path.remote == remote;
        let latest = self.runs.iter_mut().rev().take(OPEN_RUNS).find(same);
        let urgent = segment <= SMALL && latest.as_ref().is_none_or(|run| run.urgent);
        let sender = latest.as_ref().map_or_else(sender, |run| run.sender);
        if let Some(run) = latest.filter(|run| open && run.takes(addressing, segment, count, length)) {
            let last = &mut self.pieces[usize::from(run.last_piece)];
            if last.location == piece.location && last.start + last.length == piece.start {
                last.length += piece.length;
            } else if index == PIECES {
                return Err(count);
            } else {
                last.next = index as u16;
                run.last_piece = index as u16;
                run.pieces += 1;
                self.pieces.push(piece);
            }
            run.count += count;
            run.bytes += length;
            run.closed = last_length < run.segment;
            return Ok(());
        }
        if self.runs.len() == RUNS || index == PIECES {
            return Err(count);
        }
        self.pieces.push(piece);
        self.runs.push(Run {
            addressing,
            sender,
            urgent,
            closed: last_length < segment,
            segment,
            count,
            bytes: length,
            first_piece: index as u16,
            last_piece: index as u16,
            pieces: 1,
        });
        Ok(())
    }

    /// Puts what one sender sends together, and small datagrams before bulk.
    pub fn sort(&mut self) {
        if !self.runs.is_sorted_by_key(Run::rank) {
            self.runs.sort_unstable_by_key(Run::rank);
        }
    }

    /// Takes, while there is no other, the run that has waited longest.
    pub fn load(&mut self, waiting: &QueuedRun, ranges: impl Iterator<Item = (usize, usize)>) {
        let &QueuedRun { addressing, sender, kind, segment, count, .. } = waiting;
        let piece = |(index, (start, length))| Piece {
            next: index as u16 + 1,
            ..Piece::new(PayloadLocation::Backlog, start, length)
        };
        self.pieces.extend(ranges.enumerate().map(piece));
        self.runs.push(Run {
            addressing,
            sender,
            urgent: kind == Priority::Small,
            closed: true,
            segment,
            count,
            bytes: self.pieces.iter().map(|piece| piece.length as usize).sum(),
            first_piece: 0,
            last_piece: count as u16 - 1,
            pieces: count,
        });
    }
}
