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
use std::cell::Cell;
use std::net::IpAddr;
use std::time::Duration;

/// What is kept of a token: the BLAKE2s hash of its text.
pub type TokenHash = [u8; 32];

/// Characters of a token: 32 random bytes in URL-safe Base64.
pub const TOKEN_LENGTH: usize = 43;

/// An expired token is remembered for this long, to be told from an unknown one.
const EXPIRED_REMEMBERED: Duration = Duration::from_secs(3600);

/// So many tokens are looked at to make room for one more: with a million, to look at each would hold up everybody for
/// half a second, and as often as a stranger registers.
const LOOKED_AT: usize = 1024;

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
    /// How often room was made.
    rounds: Cell<usize>,
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
        Tokens { by_id: DenseMap::default(), by_peer: DenseMap::default(), holdings, rounds: Cell::new(0) }
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
    /// go first, then the oldest ones; those `is_kept` says never. Of more than [`LOOKED_AT`] so many are looked at, from
    /// one end to the other, and others the next time: whoever has most has some among them. Where hardly any may go, it
    /// may take some attempts to find one.
    pub(super) fn victims(
        &self,
        owner: Option<Prefix>,
        is_kept: impl Fn(&Token) -> bool,
        most: usize,
    ) -> Vec<TokenHash> {
        let step = self.by_id.len().div_ceil(LOOKED_AT).max(1);
        let round = self.rounds.replace(self.rounds.get().wrapping_add(1));
        let looked_at = (round % step..self.by_id.len()).step_by(step);
        let entries = looked_at
            .filter_map(|number| self.by_id.at(number))
            .map(|(id, (rest, token))| (whole(id, rest), token))
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

    /// Gives every token its whole life.
    pub(super) fn renew_all(&mut self, life: Duration, now: Instant) {
        self.by_id.values_mut().for_each(|(_, token)| token.expires = now + life);
    }

    /// Gives a token its whole life.
    pub(super) fn renew(&mut self, hash: &TokenHash, life: Duration, now: Instant) {
        if let Some((_, token)) = self.by_id.get_mut(&id(hash)) {
            token.expires = now + life;
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

    /// The token of this number, if it ended so long ago that it can be forgotten.
    pub(super) fn forgettable(&self, number: usize, now: Instant) -> Option<TokenHash> {
        let (id, (rest, token)) = self.by_id.at(number)?;
        (token.expires + EXPIRED_REMEMBERED <= now).then(|| whole(id, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyed_hash::KeyedState;

    #[test]
    fn room_among_many_tokens_is_made_by_looking_at_some() {
        let mut tokens = Tokens::new(Holdings::new(KeyedState::random()));
        let (count, heavy) = (30_000_u32, IpAddr::from([203, 0, 113, 9]));
        for number in 0..count {
            // Whoever has most came last.
            let light = IpAddr::from([10, (number >> 8) as u8, number as u8, 1]);
            let payer = if number < count - 1000 { light } else { heavy };
            let token = Token {
                peer: PeerId::new(&format!("p{number}")).unwrap(),
                lineage: Lineage(number.into()),
                expires: Instant::from_nanos(number.into()),
                payer,
                is_used: false,
            };
            tokens.issue(token);
        }
        let looked_at = Cell::new(0);
        let look = |is_kept: bool| {
            looked_at.set(looked_at.get() + 1);
            is_kept
        };
        for owner in [None, Some(Prefix::subscriber(heavy))] {
            looked_at.set(0);
            let victims = tokens.victims(owner, |_| look(false), 16);
            let all_of_it = victims.iter().all(|hash| tokens.get(hash).unwrap().payer == heavy);
            assert!(victims.len() == 16 && all_of_it && looked_at.get() <= LOOKED_AT, "{looked_at:?}");
        }
        // The only one that may go is found sooner or later.
        let only = |token: &Token| look(token.lineage != Lineage(12_345));
        let rounds = (0..30).map(|_| tokens.victims(None, only, 16).len());
        assert_eq!(rounds.sum::<usize>(), 1);
    }
}
