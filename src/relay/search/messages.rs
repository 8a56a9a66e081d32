//! What messages there are and who really made them.

use crate::crypto::x25519::{PrivateKey, PublicKey};
use crate::time::Instant;
use crate::wireguard::cookie::{Mac1Key, Signer};
use crate::wireguard::message::{COOKIE_REPLY_LENGTH, INITIATION_LENGTH, RESPONSE_LENGTH, transport_header};

/// What tells these messages from those of a real WireGuard peer.
const MARK: &[u8; 8] = b"symbolic";
/// Where it is.
const MARK_AT: usize = 24;
/// Bytes of a datagram of data.
const DATA_LENGTH: usize = 100;

/// Whose key it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Who {
    Anna,
    Bert,
    Attacker,
}

impl Who {
    pub const ALL: [Who; 3] = [Who::Anna, Who::Bert, Who::Attacker];

    pub fn private_key(self) -> PrivateKey {
        PrivateKey::from_bytes([self as u8 + 1; 32])
    }
}

/// What a message is, for who has the keys to see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Made {
    Initiation {
        by: Who,
        to: Who,
        index: u32,
    },
    Response {
        by: Who,
        to: Who,
        initiation: usize,
        index: u32,
    },
    Data {
        by: Who,
        initiation: usize,
    },
    /// A valid mac1 and noise.
    Forgery,
}

/// All messages ever made. A message bears its place here where its encrypted part would be.
pub struct MessageLog {
    made: Vec<Made>,
    next_index: u32,
    keys: [PublicKey; 3],
}

impl MessageLog {
    pub fn new(keys: [PublicKey; 3]) -> Self {
        MessageLog { made: vec![Made::Forgery], next_index: 1000, keys }
    }

    /// An index that nobody had before.
    pub fn index(&mut self) -> u32 {
        self.next_index += 1;
        self.next_index
    }

    fn enter(&mut self, made: Made) -> usize {
        self.made.push(made);
        self.made.len() - 1
    }

    /// An initiation with the mac1 for `to`, and its place.
    pub fn initiation(&mut self, by: Who, to: Who, index: u32, genuine: bool) -> (usize, Vec<u8>) {
        let made = if genuine { Made::Initiation { by, to, index } } else { Made::Forgery };
        let content = self.enter(made);
        let mut bytes = vec![0; INITIATION_LENGTH];
        bytes[0] = 1;
        bytes[4..8].copy_from_slice(&index.to_le_bytes());
        bytes[8..16].copy_from_slice(&content.to_le_bytes());
        (content, self.sign(bytes, to))
    }

    /// A response with the mac1 for `to`.
    pub fn response(&mut self, made: Made, to: Who, echo: u32, index: u32) -> Vec<u8> {
        let content = self.enter(made);
        let mut bytes = vec![0; RESPONSE_LENGTH];
        bytes[0] = 2;
        bytes[4..8].copy_from_slice(&index.to_le_bytes());
        bytes[8..12].copy_from_slice(&echo.to_le_bytes());
        bytes[12..20].copy_from_slice(&content.to_le_bytes());
        self.sign(bytes, to)
    }

    pub fn data(&mut self, made: Made, receiver: u32) -> Vec<u8> {
        let content = self.enter(made);
        let mut bytes = vec![0; DATA_LENGTH];
        bytes[..16].copy_from_slice(&transport_header(receiver, content as u64));
        bytes[16..24].copy_from_slice(&content.to_le_bytes());
        bytes[MARK_AT..][..8].copy_from_slice(MARK);
        bytes
    }

    pub fn cookie_reply(receiver: u32) -> Vec<u8> {
        let mut bytes = vec![0; COOKIE_REPLY_LENGTH];
        bytes[0] = 3;
        bytes[4..8].copy_from_slice(&receiver.to_le_bytes());
        bytes[MARK_AT..][..8].copy_from_slice(MARK);
        bytes
    }

    fn sign(&self, mut bytes: Vec<u8>, to: Who) -> Vec<u8> {
        bytes[MARK_AT..][..8].copy_from_slice(MARK);
        Signer::default().sign(&self.keys[to as usize], &mut bytes, Instant::ZERO);
        bytes
    }

    /// What a message is, and its place.
    pub fn made(&self, bytes: &[u8]) -> Option<(usize, Made)> {
        let at = match bytes[0] {
            1 => 8,
            2 => 12,
            4 => 16,
            _ => return None,
        };
        let content = usize::from_le_bytes(*bytes[at..].first_chunk()?);
        Some((content, *self.made.get(content)?))
    }

    /// The initiation of the session in which the attacker may send data with this index.
    pub fn session_of(&self, who: Who, receiver: u32) -> Option<usize> {
        self.made.iter().find_map(|made| match *made {
            Made::Response { by, to, initiation, index } => {
                let Made::Initiation { index: first, .. } = self.made[initiation] else { return None };
                (to == who && index == receiver || by == who && first == receiver).then_some(initiation)
            }
            _ => None,
        })
    }

    /// Whose session an initiation began.
    pub fn parties_of(&self, initiation: usize) -> Option<(Who, Who)> {
        match self.made[initiation] {
            Made::Initiation { by, to, .. } => Some((by, to)),
            _ => None,
        }
    }

    /// Whose mac1 a handshake message bears.
    pub fn bears(&self, bytes: &[u8]) -> Option<Who> {
        Who::ALL.into_iter().find(|&who| Mac1Key::new(&self.keys[who as usize]).matches(bytes))
    }

    /// The place of the genuine initiation with this index, and whose it is.
    pub fn initiation_with(&self, index: u32, to: Who) -> Option<(usize, Who)> {
        self.made.iter().enumerate().find_map(|(place, made)| match *made {
            Made::Initiation { by, to: its, index: known } if known == index && its == to => {
                Some((place, by))
            }
            _ => None,
        })
    }
}

/// Whether it is one of these messages.
pub fn is_symbolic(bytes: &[u8]) -> bool {
    bytes.get(MARK_AT..).is_some_and(|rest| rest.starts_with(MARK))
}

/// The index that a handshake message's sender chose; of type 3 and 4, the receiver's.
pub fn sender_index(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]])
}
