//! Who is who: registration, tokens, and the claims of those who have none.

use super::Control;
use super::change::Change;
use super::costs::HOUSE;
use super::refusal::Refusal;
use super::standing::{Identity, Lineage, Standing};
use super::tokens::{Token, TokenHash};
use crate::few::Few;
use crate::ids::PeerId;
use crate::owners::Quota;
use crate::time::{Instant, Now, UnixTime};
use std::net::IpAddr;

/// Tokens that are given up at a time when there are too many.
const TOKENS_AT_A_TIME: usize = 16;

/// What somebody shows to register an id that is a live member's.
#[derive(Clone, Copy, Debug, Default)]
pub struct Credentials<'a> {
    /// A token, if the request carried one. Stock clients send their old one even for another id.
    pub token: Option<&'a str>,
    /// A nonce of ours and the proof of the member's WireGuard key over it.
    pub proof: Option<(&'a str, &'a str)>,
    /// Who pays for the token, unless that is the owner of this machine.
    pub payer: Option<IpAddr>,
}

/// A new token.
#[derive(Clone, PartialEq, Eq)]
pub struct Issued {
    /// Its text, 43 characters.
    pub token: String,
    /// When it ends unless it is used, by the wall clock.
    pub expires_at: UnixTime,
}

impl Control {
    /// A nonce over which `peer` can prove its WireGuard key.
    pub fn nonce(&self, peer: &PeerId, now: Now) -> String {
        self.prover.nonce(peer, now)
    }

    /// Gives out a token for `peer`.
    ///
    /// A free id is anybody's. A live member's goes only to who shows one of its tokens or proves its key.
    pub fn register(&mut self, peer: &PeerId, shown: Credentials<'_>, now: Now) -> Result<Issued, Refusal> {
        let by_token = shown.token.and_then(|text| {
            let (_, token) = self.tokens.check(text, now.instant).ok()?;
            (token.peer == *peer).then_some(Standing::Token(token.lineage))
        });
        let standing = match by_token {
            Some(standing) => Some(standing),
            None => match shown.proof {
                Some((nonce, proof)) => Some(self.proven_standing(peer, nonce, proof, now)?),
                None => None,
            },
        };
        let lineage = match standing {
            Some(Standing::Token(lineage)) => lineage,
            Some(Standing::Address(_)) => return Err(Refusal::PeerTaken),
            None if self.parties_of(peer).is_empty() => Lineage::random(),
            None => return Err(Refusal::PeerTaken),
        };
        let limits = &self.settings.limits;
        let mut own = self.tokens.of(peer).map(|(hash, _)| hash);
        let oldest = own.next();
        let is_full = oldest.into_iter().chain(own).count() >= limits.tokens_per_peer;
        match oldest.filter(|_| is_full) {
            Some(oldest) => self.revoke(oldest),
            None => self.make_room_for_token(shown.payer)?,
        }
        let life = self.settings.lifetimes.token;
        let (token, hash) = self.tokens.issue(Token {
            peer: peer.clone(),
            lineage,
            expires: now.instant + life,
            payer: shown.payer.unwrap_or(HOUSE),
            is_used: false,
        });
        self.changes.push(Change::TokenIssued(hash));
        Ok(Issued { token, expires_at: now.unix + life })
    }

    /// Makes room for one more token, at the cost of those that are no member's: of the same owner, if it has its
    /// share, else of whoever has most.
    fn make_room_for_token(&mut self, payer: Option<IpAddr>) -> Result<(), Refusal> {
        let limit = self.settings.limits.tokens;
        let quota = Quota::shares(limit);
        let own = payer.and_then(|payer| self.tokens.holdings().excess(payer, 1, &quota));
        if own.is_none() && self.tokens.len() < limit {
            return Ok(());
        }
        let is_member = |token: &Token| self.is_member_by(&token.peer, Standing::Token(token.lineage));
        let victims = self.tokens.victims(own, is_member, TOKENS_AT_A_TIME.min(limit));
        match (victims.is_empty(), own) {
            (true, Some(_)) => {
                return Err(Refusal::Limit { what: "tokens of one network", limit: quota.network });
            }
            (true, None) => return Err(Refusal::Full { what: "tokens", limit }),
            (false, _) => victims.into_iter().for_each(|hash| self.revoke(hash)),
        }
        Ok(())
    }

    /// The standing of the live member `peer`, for who proved its key. A member that joined without a token
    /// gets a lineage of its own by this, in all its parties.
    fn proven_standing(
        &mut self,
        peer: &PeerId,
        nonce: &str,
        proof: &str,
        now: Now,
    ) -> Result<Standing, Refusal> {
        let parties = self.parties_of(peer).to_vec();
        let member = parties.first().and_then(|party| self.parties.get(party)?.members.get(peer));
        let key = member.and_then(|member| member.key).ok_or(Refusal::ProofWrong)?;
        if !self.prover.verify(&key, peer, nonce, proof, now) {
            return Err(Refusal::ProofWrong);
        }
        let lineage = match member.map(|member| member.standing) {
            Some(standing @ Standing::Token(_)) => {
                self.prove(&key, peer);
                return Ok(standing);
            }
            _ => Standing::Token(Lineage::random()),
        };
        for party in parties {
            if let Some(member) = self.parties.get_mut(&party).and_then(|party| party.members.get_mut(peer)) {
                member.standing = lineage;
            }
            self.changes.push(Change::MemberChanged(party, peer.clone()));
        }
        self.own_keys(peer);
        self.prove(&key, peer);
        Ok(lineage)
    }

    /// Whom a token speaks for. Using it in the second half of its life extends it.
    pub fn authenticate(&mut self, token: &str, now: Now) -> Result<Identity, Refusal> {
        let (hash, token) = self.tokens.check(token, now.instant)?;
        let identity = Identity { peer: token.peer.clone(), standing: Standing::Token(token.lineage) };
        self.tokens.note_use(&hash);
        self.extend_token(hash, now.instant);
        Ok(identity)
    }

    /// Lets somebody without a token be `peer`: a free id, or one that was claimed from the same address.
    pub fn claim(&self, peer: &PeerId, from: IpAddr) -> Result<Identity, Refusal> {
        let identity = Identity { peer: peer.clone(), standing: Standing::Address(from) };
        if self.stands(&identity) { Ok(identity) } else { Err(Refusal::PeerTaken) }
    }

    /// Whether a claim still holds: all memberships of the peer rest on the same.
    pub fn stands(&self, identity: &Identity) -> bool {
        self.parties_of(&identity.peer).iter().all(|party| {
            let member = self.parties.get(party).and_then(|party| party.members.get(&identity.peer));
            member.is_none_or(|member| member.standing == identity.standing)
        })
    }

    /// Counts an open session as a sign of life: in every party, and for its tokens.
    pub fn touch(&mut self, identity: &Identity, now: Now) {
        for party in self.memberships.get(&identity.peer).map_or(&[][..], Few::as_slice) {
            if let Some(member) =
                self.parties.get_mut(party).and_then(|party| party.members.get_mut(&identity.peer))
            {
                if let Some(following) = &mut self.following {
                    following.note_beat(party, member);
                }
                (member.seen, member.heard) = (now.instant, now.instant);
            }
        }
        if let Standing::Token(lineage) = identity.standing {
            let live = |token: &Token| token.lineage == lineage && token.expires > now.instant;
            let own = self.tokens.of(&identity.peer);
            let live: Vec<TokenHash> = own.filter(|(_, token)| live(token)).map(|(hash, _)| hash).collect();
            for hash in live {
                self.extend_token(hash, now.instant);
            }
        }
    }

    /// Extends a token that is in the second half of its life.
    pub(super) fn extend_token(&mut self, hash: TokenHash, now: Instant) {
        if self.tokens.extend(&hash, self.settings.lifetimes.token, now) {
            if let Some(following) = &mut self.following {
                following.tokens.push(hash);
            }
            self.changes.push(Change::TokenExtended(hash));
        }
    }

    /// Ends every token of `peer` that does not descend from what it became a member by.
    pub(super) fn end_other_lineages(&mut self, identity: &Identity) {
        let others: Vec<_> = self
            .tokens
            .of(&identity.peer)
            .filter(|(_, token)| Standing::Token(token.lineage) != identity.standing)
            .map(|(hash, _)| hash)
            .collect();
        for hash in others {
            self.revoke(hash);
        }
    }
}
