//! Invites: secrets that let somebody into a party, so many times and until then. Only a keyed hash of each is kept.

use super::expiry::Expiry;
use super::refusal::Refusal;
use crate::crypto::{blake2s, constant_time, hex, random};
use crate::time::{Instant, Now, UnixTime};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fmt;
use std::time::Duration;
use zeroize::Zeroizing;

/// Characters of a typed code: none that looks like another one.
const ALPHABET: &[u8] = b"23456789ABCDEFGHJKMNPQRSTUVWXYZ";
/// Characters of a code.
const CODE_LENGTH: usize = 8;
/// Bytes of a link's token.
const TOKEN_BYTES: usize = 16;
/// The longest life of a code: it can be guessed, if only in ages.
pub const LONGEST_CODE: Duration = Duration::from_secs(24 * 3600);
/// The longest life of any invite.
pub const LONGEST_INVITE: Duration = Duration::from_secs(366 * 24 * 3600);
/// The most uses of one invite.
pub const MOST_USES: u32 = 64;
/// An invite that is over is remembered for so long, to be told from one that never was.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

/// What an invite looks like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InviteKind {
    /// A token of 128 bits, for a link.
    Link,
    /// Eight letters, for people to type.
    Code,
}

impl InviteKind {
    /// On the wire and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            InviteKind::Link => "link",
            InviteKind::Code => "code",
        }
    }

    /// The kind of this name.
    pub fn parse(text: &str) -> Option<Self> {
        [InviteKind::Link, InviteKind::Code].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// A secret as somebody says it, if it can be one: of which kind, and its bytes.
pub struct Spelled {
    kind: InviteKind,
    bytes: Zeroizing<Vec<u8>>,
}

impl Spelled {
    /// A token, or a code in letters of any case with dashes or blanks in between.
    pub fn read(text: &str) -> Option<Self> {
        if text.len() == 22
            && let Ok(bytes) = URL_SAFE_NO_PAD.decode(text)
        {
            return Some(Spelled { kind: InviteKind::Link, bytes: Zeroizing::new(bytes) });
        }
        if text.len() > 2 * CODE_LENGTH {
            return None;
        }
        let letters = text.bytes().filter(|byte| !matches!(byte, b'-' | b' '));
        let bytes: Vec<u8> = letters.map(|byte| byte.to_ascii_uppercase()).collect();
        let is_code = bytes.len() == CODE_LENGTH && bytes.iter().all(|byte| ALPHABET.contains(byte));
        is_code.then(|| Spelled { kind: InviteKind::Code, bytes: Zeroizing::new(bytes) })
    }

    /// Whether it is one that people type: of those there are few enough to guess at.
    pub fn is_code(&self) -> bool {
        self.kind == InviteKind::Code
    }

    /// What is kept of it, under a key of this machine.
    pub(super) fn hash(&self, key: &[u8; 32]) -> [u8; 32] {
        blake2s::mac32(key, &[b"lanrage v1 invite", self.kind.as_str().as_bytes(), &self.bytes])
    }
}

/// A new secret of a kind, as people get it.
fn fresh(kind: InviteKind) -> String {
    match kind {
        InviteKind::Link => URL_SAFE_NO_PAD.encode(random::bytes::<TOKEN_BYTES>()),
        InviteKind::Code => random::letters(ALPHABET, CODE_LENGTH),
    }
}

/// Names an invite: the first half of its hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct InviteId(pub(super) [u8; 16]);

impl InviteId {
    /// As it is kept with a member.
    pub fn encode(&self) -> String {
        hex::encode(&self.0)
    }

    /// The one that is written so.
    pub fn decode(text: &str) -> Option<Self> {
        hex::decode(text).map(InviteId)
    }

    pub(super) fn of(hash: &[u8; 32]) -> Self {
        InviteId(*hash.first_chunk().expect("a hash is longer"))
    }
}

impl fmt::Display for InviteId {
    /// Enough of it to tell the invites of a party apart.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0[..6]))
    }
}

/// What somebody wants an invite to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InviteWish {
    /// A link or a code.
    pub kind: InviteKind,
    /// How often it can be used.
    pub uses: u32,
    /// How long it lasts.
    pub life: Duration,
}

/// An invite, without its secret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Invite {
    /// Its name.
    pub id: InviteId,
    /// A link or a code.
    pub kind: InviteKind,
    /// How often it could be used.
    pub uses: u32,
    /// How often it still can.
    pub left: u32,
    /// When it ends.
    pub expires: Expiry,
    /// When it was made, by the wall clock of then.
    pub created_at: UnixTime,
    /// Whether somebody put an end to it.
    pub is_revoked: bool,
    /// The second half of the hash.
    pub(super) rest: [u8; 16],
    /// Who came by it and was not sent away: they come back for nothing. See
    /// [`Identity::owner`](super::standing::Identity::owner).
    pub(super) users: Vec<u64>,
    /// Since when it has been known to be over.
    pub(super) ended: Option<Instant>,
}

impl Invite {
    /// A new one, and its secret.
    pub(super) fn new(wish: InviteWish, key: &[u8; 32], now: Now) -> (String, Self) {
        let secret = fresh(wish.kind);
        let hash = Spelled::read(&secret).expect("it is spelled as its kind is").hash(key);
        let invite = Invite {
            uses: wish.uses,
            left: wish.uses,
            expires: Expiry::after(wish.life, now),
            created_at: now.unix,
            ..Self::of_hash(&hash, wish.kind)
        };
        (secret, invite)
    }

    /// The one with this hash, used up and over.
    pub(super) fn of_hash(hash: &[u8; 32], kind: InviteKind) -> Self {
        Invite {
            id: InviteId::of(hash),
            kind,
            uses: 0,
            left: 0,
            expires: Expiry::after(Duration::ZERO, Now::default()),
            created_at: UnixTime::default(),
            is_revoked: false,
            rest: *hash.last_chunk().expect("a hash is longer"),
            users: Vec::new(),
            ended: None,
        }
    }

    /// The hash of its secret.
    pub(super) fn hash(&self) -> [u8; 32] {
        let mut hash = [0; 32];
        hash[..16].copy_from_slice(&self.id.0);
        hash[16..].copy_from_slice(&self.rest);
        hash
    }

    /// Whether this is the one with this hash.
    pub(super) fn has(&self, hash: &[u8; 32]) -> bool {
        self.id == InviteId::of(hash) && constant_time::eq(&self.rest, &hash[16..])
    }

    /// Whether nobody comes in by it any more, however few have.
    pub fn is_over(&self, now: Now) -> bool {
        self.is_revoked || self.expires.is_over(now)
    }

    /// Whether somebody new, or `user` again, may come in by it.
    pub(super) fn admits(&self, user: Option<u64>, now: Now) -> Result<(), Refusal> {
        let is_known = user.is_some_and(|user| self.users.contains(&user));
        if self.is_over(now) {
            Err(Refusal::InviteOver)
        } else if self.left == 0 && !is_known {
            Err(Refusal::InviteUsedUp)
        } else {
            Ok(())
        }
    }

    /// Lets time pass. Returns whether something is to be kept, and whether it can be forgotten.
    pub(super) fn pass(&mut self, now: Now) -> (bool, bool) {
        let has_learned = self.expires.learn(now);
        if self.is_over(now) {
            let ended = *self.ended.get_or_insert(now.instant);
            return (has_learned, ended + REMEMBERED <= now.instant);
        }
        (has_learned, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_as_people_write_them() {
        let hash = |text: &str| Spelled::read(text).map(|spelled| spelled.hash(&[1; 32]));
        let code = hash("ABCD2345").unwrap();
        for same in ["abcd2345", "ABCD-2345", "ab cd 23 45", "abCD-23-45"] {
            assert_eq!(hash(same), Some(code), "{same}");
        }
        for other in ["ABCD2344", "ABCD234", "ABCD23456", "ABCD0345", "ABCDI345", "--------", ""] {
            assert_ne!(hash(other), Some(code), "{other}");
        }
        assert!(hash("ABCD0345").is_none() && hash("0123456789ab").is_none());
        assert_ne!(
            Spelled::read("ABCD2345").unwrap().hash(&[2; 32]),
            code,
            "it takes the machine's key, too"
        );
    }

    #[test]
    fn secrets_are_what_they_are_said_to_be() {
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..500 {
            let code = fresh(InviteKind::Code);
            assert!(code.len() == 8 && code.bytes().all(|letter| ALPHABET.contains(&letter)), "{code}");
            let token = fresh(InviteKind::Link);
            assert_eq!(Spelled::read(&token).map(|spelled| spelled.bytes.len()), Some(16));
            seen.extend(code.bytes());
        }
        assert_eq!(seen.len(), ALPHABET.len(), "every letter comes up");
    }
}
