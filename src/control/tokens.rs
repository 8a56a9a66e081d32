//! Who may speak for a peer: tokens, and the registrations that they descend from.

use super::refusal::Refusal;
use super::standing::Lineage;
use crate::crypto::{blake2s, constant_time, random};
use crate::dense_map::DenseMap;
use crate::few::Few;
use crate::ids::PeerId;
use crate::owners::{Holdings, Prefix};
use crate::time::Instant;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::net::IpAddr;
use std::time::Duration;

/// What is kept of a token: the BLAKE2s hash of its text.
pub type TokenHash = [u8; 32];

/// Characters of a token: 32 random bytes in URL-safe Base64.
pub const TOKEN_LENGTH: usize = 43;

/// An expired token is remembered for this long, to be told from an unknown one.
const EXPIRED_REMEMBERED: Duration = Duration::from_secs(3600);

/// One token, without its text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Token {
    /// Whom it speaks for.
    pub peer: PeerId,
    /// The registration that it descends from.
    pub lineage: Lineage,
    /// When it ends unless it is used before.
    pub expires: Instant,
    /// Who pays for it.
    pub payer: IpAddr,
    /// Whether it was used since it was issued, or since the last start.
    pub is_used: bool,
}

/// The tokens of all peers.
pub struct Tokens {
    /// By the first half of the hash; the second half is compared in constant time.
    by_id: DenseMap<TokenId, ([u8; 16], Token)>,
    /// Oldest first.
    by_peer: DenseMap<PeerId, Few<TokenId>>,
    holdings: Holdings,
}

/// The first half of a token's hash.
type TokenId = [u8; 16];

fn id(hash: &TokenHash) -> TokenId {
    *hash.first_chunk().expect("a hash is 32 bytes")
}

fn whole(id: &TokenId, rest: &[u8; 16]) -> TokenHash {
    let mut hash = [0; 32];
    hash[..16].copy_from_slice(id);
    hash[16..].copy_from_slice(rest);
    hash
}

fn rest(hash: &TokenHash) -> [u8; 16] {
    *hash.last_chunk().expect("a hash is 32 bytes")
}

/// The hash under which the token spelled `text` is kept.
pub fn hash(text: &str) -> TokenHash {
    blake2s::hash(&[text.as_bytes()])
}

impl Tokens {
    /// None, of nobody.
    pub(super) fn new(holdings: Holdings) -> Self {
        Tokens { by_id: DenseMap::default(), by_peer: DenseMap::default(), holdings }
    }

    /// How many each owner has.
    pub(super) fn holdings(&self) -> &Holdings {
        &self.holdings
    }

    /// How many there are, expired ones that are still remembered included.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// The tokens of a peer, oldest first.
    pub fn of(&self, peer: &PeerId) -> impl Iterator<Item = (TokenHash, &Token)> {
        let ids = self.by_peer.get(peer).map_or(&[][..], Few::as_slice);
        ids.iter().filter_map(|id| self.by_id.get(id).map(|(rest, token)| (whole(id, rest), token)))
    }

    /// The token with this hash.
    pub fn get(&self, hash: &TokenHash) -> Option<&Token> {
        let (known, token) = self.by_id.get(&id(hash))?;
        constant_time::eq(known, &rest(hash)).then_some(token)
    }

    /// Every token.
    pub fn iter(&self) -> impl Iterator<Item = (TokenHash, &Token)> {
        self.by_id.iter().map(|(id, (rest, token))| (whole(id, rest), token))
    }

    /// Makes a token and gives its text, which is nowhere kept.
    pub fn issue(&mut self, token: Token) -> (String, TokenHash) {
        let text = URL_SAFE_NO_PAD.encode(random::bytes::<32>());
        let hash = hash(&text);
        self.insert(hash, token);
        (text, hash)
    }

    /// Makes room for `count` tokens that will be inserted.
    pub fn reserve(&mut self, count: usize) {
        self.by_id.reserve(count);
        self.by_peer.reserve(count);
    }

    /// Those that have to make room for another one: of `owner` if it is given, else of whoever has most. Unused ones
    /// go first, then the oldest ones; those `is_kept` says never.
    pub(super) fn victims(
        &self,
        owner: Option<Prefix>,
        is_kept: impl Fn(&Token) -> bool,
        most: usize,
    ) -> Vec<TokenHash> {
        let entries = self
            .iter()
            .filter(|(_, token)| owner.is_none_or(|owner| owner.contains(token.payer)) && !is_kept(token))
            .map(|(hash, token)| (hash, token.payer, (token.is_used, token.expires)))
            .collect();
        self.holdings.victims(entries, most)
    }

    /// Takes in a token that was issued before.
    pub fn insert(&mut self, hash: TokenHash, token: Token) {
        self.by_peer.get_or_insert_with(token.peer.clone(), Few::default).push(id(&hash));
        self.holdings.add(token.payer, 1);
        self.by_id.insert(id(&hash), (rest(&hash), token));
    }

    /// Whom a token speaks for.
    pub fn check(&self, text: &str, now: Instant) -> Result<(TokenHash, &Token), Refusal> {
        if text.len() != TOKEN_LENGTH {
            return Err(Refusal::TokenUnknown);
        }
        let hash = hash(text);
        match self.get(&hash) {
            None => Err(Refusal::TokenUnknown),
            Some(token) if token.expires <= now => Err(Refusal::TokenExpired),
            Some(token) => Ok((hash, token)),
        }
    }

    /// Notes that a token was used.
    pub fn note_use(&mut self, hash: &TokenHash) {
        if let Some((_, token)) = self.by_id.get_mut(&id(hash)) {
            token.is_used = true;
        }
    }

    /// Extends a token that is in the second half of its life. Returns whether it did.
    pub fn extend(&mut self, hash: &TokenHash, life: Duration, now: Instant) -> bool {
        match self.by_id.get_mut(&id(hash)) {
            Some((_, token)) if token.expires.since(now) < life / 2 => {
                token.expires = now + life;
                true
            }
            _ => false,
        }
    }

    /// Ends a token.
    pub fn revoke(&mut self, hash: &TokenHash) {
        let Some((_, token)) = self.by_id.remove(&id(hash)) else { return };
        self.holdings.remove(token.payer, 1);
        if let Some(ids) = self.by_peer.get_mut(&token.peer) {
            ids.remove_first(|other| *other == id(hash));
            if ids.as_slice().is_empty() {
                self.by_peer.remove(&token.peer);
            }
        }
    }

    /// The tokens that ended so long ago that they can be forgotten.
    pub fn forgettable(&self, now: Instant) -> Vec<TokenHash> {
        let ended = |token: &Token| token.expires + EXPIRED_REMEMBERED <= now;
        self.iter().filter(|(_, token)| ended(token)).map(|(hash, _)| hash).collect()
    }
}
