//! Runs of datagrams: what the kernel can be given as one.

use super::backlog::{Address, Kind, SMALL, Waiting};
use crate::sys::MAX_MESSAGES;

/// Most datagrams in one run: what kernels have taken since they have GSO.
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
    /// Where it is going.
    pub address: Address,
    /// Whether all that is before it, for the same destination, is as small as this: then it may go before bulk.
    urgent: bool,
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
pub enum Place {
    /// Where they were received.
    Inbox,
    /// Where they were copied to for now.
    Scratch,
    /// Among what waits for room; a piece is one datagram, and its start is its place in the queue.
    Backlog(Kind),
}

/// Bytes that lie together: one or more datagrams of a run.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    place: Place,
    /// The next one of its run.
    next: u16,
    start: u32,
    length: u32,
}

impl Piece {
    /// `length` bytes from `start` on.
    pub fn new(place: Place, start: usize, length: usize) -> Self {
        Piece { place, next: 0, start: start as u32, length: length as u32 }
    }

    /// In what they lie, and where there.
    pub fn place(&self) -> (Place, usize) {
        (self.place, self.start as usize)
    }

    /// Its bytes, which lie in one of these if they do not wait.
    pub fn of<'a>(&self, inbox: &'a [u8], scratch: &'a [u8]) -> &'a [u8] {
        let buffer = if self.place == Place::Scratch { scratch } else { inbox };
        &buffer[self.start as usize..][..self.length as usize]
    }
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
    /// to more, and can be. Gives how many there was no room for.
    pub fn add(&mut self, address: Address, piece: Piece, segment: usize, open: bool) -> Result<(), usize> {
        let length = piece.length as usize;
        let count = length.div_ceil(segment.max(1)).max(1);
        let last_length = length - (count - 1) * segment;
        let index = self.pieces.len();
        // What goes to one destination stays in order. What goes to others may come in between.
        let latest = self.runs.iter_mut().rev().take(OPEN_RUNS).find(|run| run.address.to == address.to);
        let urgent = segment <= SMALL && latest.as_ref().is_none_or(|run| run.urgent);
        if let Some(run) = latest.filter(|run| open && run.takes(address, segment, count, length)) {
            let last = &mut self.pieces[usize::from(run.last_piece)];
            if last.place == piece.place && last.start + last.length == piece.start {
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
        Ok(())
    }

    /// Puts small datagrams before bulk.
    pub fn sort(&mut self) {
        if !self.runs.is_sorted_by_key(Run::rank) {
            self.runs.sort_unstable_by_key(Run::rank);
        }
    }

    /// Takes, while there is no other, the run that has waited longest.
    pub fn load(&mut self, waiting: &Waiting, lengths: impl Iterator<Item = usize>) {
        let &Waiting { address, kind, segment, count } = waiting;
        let piece = |(start, length)| Piece {
            next: start as u16 + 1,
            ..Piece::new(Place::Backlog(kind), start, length)
        };
        self.pieces.extend(lengths.take(count).enumerate().map(piece));
        self.runs.push(Run {
            address,
            urgent: kind == Kind::Small,
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
