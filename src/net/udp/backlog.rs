//! Datagrams that wait until a socket has room again: a queue for each destination, and room that is shared fairly.
//!
//! Small ones go first: a game's datagrams are small and in a hurry, and cost those who wait behind them next to
//! nothing. One may overtake long ones of its own session, at most as many as wait here for one destination: a
//! quarter of the shortest replay window among WireGuard's implementations (1024).

use super::senders::SENDERS;
use crate::datagram::Path;
use std::net::SocketAddr;

/// The longest datagram that is small, in bytes: games, voice, handshakes, acknowledgements.
pub const SMALL: usize = 512;
/// The unit of room, in bytes, and how many there are: a tenth of a second at 20 Mbit/s.
const CELL: usize = 512;
const CELLS: usize = 512;
/// What one destination may have of it: the others find room even while one's line stands still.
const SHARE: usize = CELLS / 2;
/// Destinations that datagrams may wait for.
const QUEUES: usize = 128;
/// Small datagrams that may go before one run of bulk that waits must.
const STREAK: usize = 64;
/// Datagrams of one destination that go before it is another's turn.
const SMALL_RUN: usize = 16;
const BULK_RUN: usize = 8;
/// No cell.
const NONE: u16 = u16::MAX;

/// What a datagram is sent with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Addressing {
    /// Where to, and from which address of ours.
    pub path: Path,
    /// The traffic class.
    pub class: u8,
}

/// Which of a destination's two queues.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Priority {
    /// Datagrams of at most [`SMALL`] bytes.
    Small,
    /// All others.
    Bulk,
}

/// Equal datagrams at the head of a queue, of which the last may be shorter.
pub struct QueuedRun {
    /// What they are sent with.
    pub addressing: Addressing,
    /// Who is to send them.
    pub sender: usize,
    /// In which queue.
    pub kind: Priority,
    queue: usize,
    first: u16,
    /// The length of each but the last, in bytes.
    pub segment: usize,
    /// How many there are.
    pub count: usize,
}

/// A datagram that waits. It lies from the cell on that has the same number.
#[derive(Clone, Copy)]
struct QueuedDatagram {
    addressing: Addressing,
    length: u16,
    /// The one behind it in its queue.
    next: u16,
}

impl QueuedDatagram {
    fn cells(&self) -> usize {
        cells_for(self.length.into())
    }
}

/// The first and the last of entries in order.
#[derive(Clone, Copy)]
struct List {
    first: u16,
    last: u16,
}

impl List {
    const EMPTY: List = List { first: NONE, last: NONE };

    fn is_empty(&self) -> bool {
        self.first == NONE
    }
}

/// What waits for one destination.
struct DestinationQueue {
    sender: usize,
    to: SocketAddr,
    /// Cells that it has.
    held: usize,
    small: List,
    bulk: List,
}

impl DestinationQueue {
    fn list(&self, kind: Priority) -> &List {
        match kind {
            Priority::Small => &self.small,
            Priority::Bulk => &self.bulk,
        }
    }

    fn list_mut(&mut self, kind: Priority) -> &mut List {
        match kind {
            Priority::Small => &mut self.small,
            Priority::Bulk => &mut self.bulk,
        }
    }
}

/// What waits at one sender.
#[derive(Clone, Copy, Default)]
struct QueuedBytes {
    small: usize,
    bulk: usize,
    /// Small datagrams that went since bulk did, or had to wait for none.
    streak: usize,
}

/// Datagrams in the order in which they are to be sent, within each kind and destination; destinations take turns.
/// When there is no room, what goes is the oldest of whoever has most. It has no memory before something waits for
/// the first time, which is never for most.
pub struct Backlog {
    bytes: Box<[u8]>,
    taken: Box<[bool]>,
    entries: Box<[QueuedDatagram]>,
    /// In the order of their turns.
    queues: Vec<DestinationQueue>,
    counts: [QueuedBytes; SENDERS],
    /// How many cells are free, and where there may be some.
    free: usize,
    cursor: usize,
}

impl Backlog {
    /// Without any.
    pub fn new() -> Self {
        Backlog {
            bytes: Box::default(),
            taken: Box::default(),
            entries: Box::default(),
            queues: Vec::new(),
            counts: [QueuedBytes::default(); SENDERS],
            free: CELLS,
            cursor: 0,
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// Whether something waits for a sender.
    pub fn waits_for(&self, sender: usize) -> bool {
        self.counts[sender].small + self.counts[sender].bulk > 0
    }

    /// Whether something small does.
    pub fn small_waits_for(&self, sender: usize) -> bool {
        self.counts[sender].small > 0
    }

    /// Where all that waits lies.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Keeps a copy of `datagram`, which this sender is to send. Returns how many datagrams were dropped for want of
    /// room: others, or this one.
    pub fn push(&mut self, sender: usize, addressing: Addressing, datagram: &[u8]) -> usize {
        let need = cells_for(datagram.len());
        // No datagram is longer.
        let Ok(length) = u16::try_from(datagram.len()) else { return 1 };
        if self.bytes.is_empty() {
            self.allocate(addressing);
        }
        let to = addressing.path.remote;
        let is_own = |queue: &DestinationQueue| queue.sender == sender && queue.to == to;
        let mut dropped = 0;
        let (queue, cell) = loop {
            let own = self.queues.iter().position(is_own);
            if own.is_none() && self.queues.len() == QUEUES {
                return dropped + 1;
            }
            let held = own.map_or(0, |own| self.queues[own].held);
            if let Some(own) = own.filter(|_| held + need > SHARE) {
                self.drop_oldest(own);
            } else if let Some(cell) = self.find_room(need) {
                let new = DestinationQueue { sender, to, held: 0, small: List::EMPTY, bulk: List::EMPTY };
                let own = own.unwrap_or_else(|| {
                    self.queues.push(new);
                    self.queues.len() - 1
                });
                break (own, cell);
            } else {
                let queues = self.queues.iter().enumerate();
                let Some((most, _)) = queues.max_by_key(|(_, queue)| queue.held) else { return dropped + 1 };
                self.drop_oldest(most);
            }
            dropped += 1;
        };
        self.taken[cell..cell + need].fill(true);
        self.free -= need;
        self.bytes[cell * CELL..][..datagram.len()].copy_from_slice(datagram);
        self.entries[cell] = QueuedDatagram { addressing, length, next: NONE };
        let kind = if datagram.len() <= SMALL { Priority::Small } else { Priority::Bulk };
        let queue = &mut self.queues[queue];
        queue.held += need;
        let list = queue.list_mut(kind);
        match list.last {
            NONE => list.first = cell as u16,
            last => self.entries[usize::from(last)].next = cell as u16,
        }
        list.last = cell as u16;
        *self.counted(sender, kind) += 1;
        dropped
    }

    /// What is to be sent next of what waits for a sender: at most `most` datagrams and, unless it is one, `bytes`
    /// bytes.
    pub fn next(&self, sender: usize, most: usize, bytes: usize) -> Option<QueuedRun> {
        self.choose(sender, self.counts[sender], most, bytes)
    }

    /// The same of what is small.
    pub fn next_small(&self, sender: usize, most: usize, bytes: usize) -> Option<QueuedRun> {
        self.choose(sender, QueuedBytes { bulk: 0, ..self.counts[sender] }, most, bytes)
    }

    fn choose(&self, sender: usize, waits: QueuedBytes, most: usize, bytes: usize) -> Option<QueuedRun> {
        let QueuedBytes { small, bulk, streak } = waits;
        let (kind, most) = match (small > 0, bulk > 0) {
            (true, waits) if !waits || streak < STREAK => (Priority::Small, most.min(SMALL_RUN)),
            (_, true) => (Priority::Bulk, most.min(BULK_RUN)),
            _ => return None,
        };
        let mine = |queue: &DestinationQueue| queue.sender == sender && !queue.list(kind).is_empty();
        let queue = self.queues.iter().position(mine)?;
        let first = self.queues[queue].list(kind).first;
        let QueuedDatagram { addressing, length, next } = self.entries[usize::from(first)];
        let segment = usize::from(length);
        let most = most.min(bytes / segment.max(1));
        let (mut count, mut last, mut at) = (1, segment, next);
        while count < most && at != NONE {
            let entry = &self.entries[usize::from(at)];
            let length = usize::from(entry.length);
            if entry.addressing != addressing || last < segment || !(1..=segment).contains(&length) {
                break;
            }
            (count, last, at) = (count + 1, length, entry.next);
        }
        Some(QueuedRun { addressing, sender, kind, queue, first, segment, count })
    }

    /// Where each of them lies in [`Backlog::bytes`], and its length.
    pub fn ranges(&self, waiting: &QueuedRun) -> impl Iterator<Item = (usize, usize)> {
        let next = |cell: &u16| Some(self.entries[usize::from(*cell)].next).filter(|next| *next != NONE);
        let cells = std::iter::successors(Some(waiting.first), next).take(waiting.count);
        cells.map(|cell| (usize::from(cell) * CELL, self.entries[usize::from(cell)].length.into()))
    }

    /// The first `count` of them need not wait any more.
    pub fn release(&mut self, waiting: &QueuedRun, count: usize) {
        for _ in 0..count {
            self.pop(waiting.queue, waiting.kind);
        }
        let counts = &mut self.counts[waiting.sender];
        match waiting.kind {
            Priority::Small if counts.bulk > 0 => counts.streak += count,
            _ => counts.streak = 0,
        }
        if count > 0 {
            let queue = self.queues.remove(waiting.queue);
            if queue.held > 0 {
                self.queues.push(queue);
            }
        }
    }

    fn allocate(&mut self, addressing: Addressing) {
        self.bytes = vec![0; CELLS * CELL].into();
        self.taken = vec![false; CELLS].into();
        self.entries = vec![QueuedDatagram { addressing, length: 0, next: NONE }; CELLS].into();
        self.queues.reserve_exact(QUEUES);
    }

    fn counted(&mut self, sender: usize, kind: Priority) -> &mut usize {
        match kind {
            Priority::Small => &mut self.counts[sender].small,
            Priority::Bulk => &mut self.counts[sender].bulk,
        }
    }

    /// So many free cells, one behind the other.
    fn find_room(&mut self, need: usize) -> Option<usize> {
        if self.free < need {
            return None;
        }
        let mut free = 0;
        for at in (self.cursor..CELLS).map(Some).chain([None]).chain((0..CELLS).map(Some)) {
            // What lies behind the last cell is not the first one.
            free = if at.is_some_and(|at| !self.taken[at]) { free + 1 } else { 0 };
            if let Some(at) = at.filter(|_| free == need) {
                self.cursor = at + 1;
                return Some(at + 1 - need);
            }
        }
        None
    }

    /// Drops what has waited longest in a queue: bulk, if there is any.
    fn drop_oldest(&mut self, queue: usize) {
        let kind = if self.queues[queue].bulk.is_empty() { Priority::Small } else { Priority::Bulk };
        self.pop(queue, kind);
        if self.queues[queue].held == 0 {
            self.queues.remove(queue);
        }
    }

    fn pop(&mut self, queue: usize, kind: Priority) {
        let Backlog { taken, entries, queues, free, cursor, .. } = self;
        let queue = &mut queues[queue];
        let list = queue.list_mut(kind);
        let first = usize::from(list.first);
        let Some(entry) = entries.get(first) else { return };
        list.first = entry.next;
        if entry.next == NONE {
            list.last = NONE;
        }
        let cells = entry.cells();
        queue.held -= cells;
        taken[first..first + cells].fill(false);
        *free += cells;
        *cursor = first;
        let sender = queue.sender;
        *self.counted(sender, kind) -= 1;
    }
}

/// How many cells a datagram of so many bytes takes.
fn cells_for(length: usize) -> usize {
    length.div_ceil(CELL).max(1)
}

const _: () = assert!(CELLS < NONE as usize && SHARE * CELL > u16::MAX as usize);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::random::Seeded;
    use std::collections::VecDeque;
    use std::net::Ipv4Addr;

    fn addressing(port: u16) -> Addressing {
        Addressing { path: Path::to((Ipv4Addr::LOCALHOST, port).into()), class: 0 }
    }

    fn contents(backlog: &Backlog, waiting: &QueuedRun) -> Vec<Vec<u8>> {
        let bytes = |(start, length): (usize, usize)| backlog.bytes()[start..start + length].to_vec();
        backlog.ranges(waiting).map(bytes).collect()
    }

    /// Against the obvious implementation: what comes out is what went in, in order, in one piece, and no room is lost
    /// for good.
    #[test]
    fn order_and_bytes_are_kept() {
        let mut random = Seeded::new(7);
        let mut backlog = Backlog::new();
        let mut models: [VecDeque<Vec<u8>>; 8] = Default::default();
        let mut dropped = 0;
        for round in 0..20_000u32 {
            let port = (random.next_u64() % 4) as usize;
            let length = (random.next_u64() % 3000) as usize;
            let datagram = vec![round as u8; length];
            let kind = usize::from(length > SMALL);
            dropped += backlog.push(port % 2, addressing(port as u16), &datagram);
            models[2 * port + kind].push_back(datagram);
            if random.next_u64().is_multiple_of(5) {
                for sender in 0..2 {
                    let Some(waiting) = backlog.next(sender, 64, 9000) else { continue };
                    let port = usize::from(waiting.addressing.path.remote.port());
                    let model = &mut models[2 * port + usize::from(waiting.kind == Priority::Bulk)];
                    for datagram in contents(&backlog, &waiting) {
                        // What was dropped was older than what is left.
                        while model.pop_front().expect("it went in") != datagram {}
                    }
                    backlog.release(&waiting, waiting.count);
                }
            }
        }
        assert!(dropped > 1000 && dropped < 19_000, "{dropped}");
        for sender in 0..2 {
            while let Some(waiting) = backlog.next(sender, 64, 9000) {
                backlog.release(&waiting, waiting.count);
            }
        }
        assert!(backlog.is_empty() && backlog.free == CELLS && backlog.taken.iter().all(|taken| !taken));
        assert_eq!(backlog.push(0, addressing(1), &[0; 65_507]), 0);
        assert_eq!(backlog.push(0, addressing(2), &[0; 65_536]), 1);
    }

    #[test]
    fn small_ones_go_first_but_not_for_ever() {
        let mut backlog = Backlog::new();
        for _ in 0..50 {
            assert_eq!(backlog.push(0, addressing(1), &[1; 1000]), 0);
        }
        let mut order = String::new();
        for _ in 0..3 * STREAK {
            assert_eq!(backlog.push(0, addressing(2), &[2; 100]), 0);
            let next = backlog.next(0, 64, 9000).unwrap();
            order.push(if next.kind == Priority::Small { 's' } else { 'b' });
            backlog.release(&next, next.count);
        }
        let small = "s".repeat(STREAK);
        assert!(order.starts_with(&format!("{small}b{}", &small[..10])), "{order}");
        // The bulk that waits goes in short runs.
        while let Some(next) = backlog.next(0, 64, 9000).filter(|next| next.kind == Priority::Small) {
            backlog.release(&next, 1);
        }
        assert!(backlog.next(0, 64, 9000).is_some_and(|next| next.count == BULK_RUN));
    }

    #[test]
    fn destinations_take_turns() {
        let mut backlog = Backlog::new();
        for port in [1, 1, 1, 2, 3] {
            (0..BULK_RUN).for_each(|_| assert_eq!(backlog.push(0, addressing(port), &[1; 1000]), 0));
        }
        let mut order = Vec::new();
        while let Some(next) = backlog.next(0, 64, 64_000) {
            order.push(next.addressing.path.remote.port());
            backlog.release(&next, next.count);
        }
        assert_eq!(order, [1, 2, 3, 1, 1]);
    }

    #[test]
    fn whoever_has_most_makes_room() {
        let mut backlog = Backlog::new();
        let bulk = [1; 1400];
        let most = SHARE / cells_for(bulk.len());
        (0..most).for_each(|_| assert_eq!(backlog.push(0, addressing(1), &bulk), 0));
        // It gets no more than its share, though there is room.
        assert_eq!(backlog.push(0, addressing(1), &bulk), 1);
        (0..most).for_each(|_| assert_eq!(backlog.push(1, addressing(2), &bulk), 0));
        // Many others come: each finds room, at the cost of those two.
        for port in 3..60 {
            for _ in 0..3 {
                backlog.push(2, addressing(port), &[3; 100]);
            }
        }
        for _ in 3..60 {
            let next = backlog.next(2, 64, 9000).unwrap();
            assert_eq!(next.count, 3);
            backlog.release(&next, 3);
        }
        assert!(!backlog.waits_for(2) && backlog.waits_for(0) && backlog.waits_for(1));
    }

    #[test]
    fn runs_are_of_one_destination_and_length() {
        let mut backlog = Backlog::new();
        for (port, length) in [(1, 100), (1, 100), (1, 40), (1, 100), (2, 100), (2, 0), (2, 0), (2, 30)] {
            assert_eq!(backlog.push(0, addressing(port), &vec![port as u8; length]), 0);
        }
        let mut runs = Vec::new();
        while let Some(next) = backlog.next(0, 64, 9000) {
            runs.push((next.addressing.path.remote.port(), next.segment, next.count));
            backlog.release(&next, next.count);
        }
        runs.sort();
        assert_eq!(runs, [(1, 100, 1), (1, 100, 3), (2, 0, 1), (2, 0, 1), (2, 30, 1), (2, 100, 1)]);
        assert!(backlog.is_empty());
    }
}
