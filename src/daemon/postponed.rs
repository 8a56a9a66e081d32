//! Handshakes that wait until packets have gone. One costs as much as hundreds of packets, and strangers may ask for
//! many at once.

use crate::datagram::Path;
use crate::wireguard::message::INITIATION_LENGTH;
use std::collections::VecDeque;

/// How many may wait. One that finds no room comes again in five seconds.
const ROOM: usize = 64;

struct PostponedGreeting {
    message: [u8; INITIATION_LENGTH],
    path: Path,
}

/// Initiations in the order in which they came.
pub(super) struct Postponed(VecDeque<PostponedGreeting>);

impl Default for Postponed {
    fn default() -> Self {
        Postponed(VecDeque::with_capacity(ROOM))
    }
}

impl Postponed {
    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keeps one that came by this path; whether there was room.
    pub fn push(&mut self, message: &[u8], path: Path) -> bool {
        let message = message.try_into().ok().filter(|_| self.0.len() < ROOM);
        if let Some(message) = message {
            self.0.push_back(PostponedGreeting { message, path });
        }
        message.is_some()
    }

    /// The one that has waited longest.
    pub fn pop(&mut self) -> Option<([u8; INITIATION_LENGTH], Path)> {
        self.0.pop_front().map(|PostponedGreeting { message, path }| (message, path))
    }
}
