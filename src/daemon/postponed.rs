//! Handshakes that wait until packets have gone. One costs as much as hundreds of packets, and strangers may ask for
//! many at once.

use crate::datagram::Path;
use crate::owners::{Level, Prefix};
use crate::wireguard::message::INITIATION_LENGTH;
use std::collections::VecDeque;

/// How many may wait of those who are expected, and of all others. One that finds no room comes again in five seconds.
const ROOM: usize = 32;

/// An initiation, and the path by which it came.
pub(super) type Postponed = ([u8; INITIATION_LENGTH], Path);

/// Initiations in the order in which they came: those who are expected don't stand behind strangers.
pub(super) struct PostponedHandshakes {
    expected: VecDeque<Postponed>,
    others: VecDeque<Postponed>,
}

impl Default for PostponedHandshakes {
    fn default() -> Self {
        PostponedHandshakes { expected: VecDeque::with_capacity(ROOM), others: VecDeque::with_capacity(ROOM) }
    }
}

fn network(&(_, path): &Postponed) -> Prefix {
    Prefix::of(path.remote.ip(), Level::Network)
}

impl PostponedHandshakes {
    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.expected.is_empty() && self.others.is_empty()
    }

    /// Keeps one, and gives back one for which there is no room: the oldest of the network that has most.
    pub fn push(
        &mut self,
        message: [u8; INITIATION_LENGTH],
        path: Path,
        is_expected: bool,
    ) -> Option<Postponed> {
        let queue = if is_expected { &mut self.expected } else { &mut self.others };
        let refused = if queue.len() < ROOM { None } else { heaviest(queue).and_then(|at| queue.remove(at)) };
        queue.push_back((message, path));
        refused
    }

    /// The next one to answer.
    pub fn pop(&mut self) -> Option<Postponed> {
        self.expected.pop_front().or_else(|| self.others.pop_front())
    }
}

/// Where the oldest of the network is that has most.
fn heaviest(queue: &VecDeque<Postponed>) -> Option<usize> {
    let of = |at: usize| queue.iter().filter(|one| network(one) == network(&queue[at])).count();
    // Of several with as many, `max_by_key` takes the last.
    (0..queue.len()).rev().max_by_key(|&at| of(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(ip: [u8; 4], port: u16) -> Path {
        Path::to((ip, port).into())
    }

    #[test]
    fn who_is_expected_does_not_stand_behind_strangers() {
        let mut waiting = PostponedHandshakes::default();
        for port in 0..100 {
            waiting.push([1; INITIATION_LENGTH], from([203, 0, 113, 1], port), false);
        }
        assert_eq!(waiting.push([2; INITIATION_LENGTH], from([192, 0, 2, 1], 1), true), None);
        assert_eq!(waiting.pop().map(|(_, path)| path), Some(from([192, 0, 2, 1], 1)));
        assert!(waiting.pop().is_some() && !waiting.is_empty());
    }

    #[test]
    fn the_network_that_fills_it_makes_room() {
        let mut waiting = PostponedHandshakes::default();
        let message = [1; INITIATION_LENGTH];
        assert_eq!(waiting.push(message, from([192, 0, 2, 1], 1), false), None);
        for host in 0..200 {
            let refused = waiting.push(message, from([203, 0, 113, host], 1), false);
            let expected = usize::from(host).checked_sub(ROOM - 1).map(|oldest| [203, 0, 113, oldest as u8]);
            assert_eq!(refused.map(|(_, path)| path), expected.map(|ip| from(ip, 1)));
        }
        assert_eq!(waiting.pop().map(|(_, path)| path), Some(from([192, 0, 2, 1], 1)));
    }
}
