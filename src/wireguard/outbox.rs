//! Messages of the protocol's own that wait to be sent.

use crate::wireguard::constants::MAX_OUTBOX;
use crate::wireguard::message::INITIATION_LENGTH;
use crate::wireguard::peer::PeerIndex;
use crate::wireguard::verdict::Outgoing;
use std::collections::VecDeque;
use std::net::SocketAddr;

/// A message on its way; none of them is longer than an initiation.
struct QueuedHandshake {
    peer: Option<PeerIndex>,
    to: SocketAddr,
    length: usize,
    bytes: [u8; INITIATION_LENGTH],
}

/// A bounded queue.
#[derive(Default)]
pub(super) struct HandshakeQueue {
    queue: VecDeque<QueuedHandshake>,
}

impl HandshakeQueue {
    /// Queues `message`, at most 148 bytes, unless the queue is full: then it is lost, as on any network.
    pub fn push(&mut self, peer: Option<PeerIndex>, to: SocketAddr, message: &[u8]) {
        if self.queue.len() < MAX_OUTBOX {
            let mut bytes = [0; INITIATION_LENGTH];
            bytes[..message.len()].copy_from_slice(message);
            self.queue.push_back(QueuedHandshake { peer, to, length: message.len(), bytes });
        }
    }

    /// Moves the oldest message to the start of `buffer`, which must have 148 bytes.
    pub fn pop(&mut self, buffer: &mut [u8]) -> Option<Outgoing> {
        let QueuedHandshake { peer, to, length, bytes } = self.queue.pop_front()?;
        buffer[..length].copy_from_slice(&bytes[..length]);
        Some(Outgoing { peer, to, length })
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_a_bounded_queue() {
        let mut outbox = HandshakeQueue::default();
        let to = SocketAddr::from(([192, 0, 2, 1], 9));
        for number in 0..MAX_OUTBOX + 10 {
            outbox.push(None, to, &[number as u8; INITIATION_LENGTH][..number % 148 + 1]);
        }
        let mut buffer = [0; INITIATION_LENGTH];
        for number in 0..MAX_OUTBOX {
            let outgoing = outbox.pop(&mut buffer).unwrap();
            assert_eq!(outgoing, Outgoing { peer: None, to, length: number % 148 + 1 });
            assert!(buffer[..outgoing.length].iter().all(|&byte| byte == number as u8));
        }
        assert!(outbox.pop(&mut buffer).is_none() && outbox.is_empty());
    }
}
