//! Why the control plane says no.

use std::fmt;

/// A request that was understood and refused; nothing was changed. The texts are what clients are shown
/// (REFERENCE 2 gives those of the stock API word for word). "404" must not occur in any other refusal's
/// text: stock clients look for it, which is why ids are not repeated in those.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// No token was presented.
    TokenMissing,
    /// The header was not `Bearer <token>`.
    AuthorizationMalformed,
    /// Nobody has this token.
    TokenUnknown,
    /// The token was not used for too long.
    TokenExpired,
    /// The token is another peer's than the one that `field` names.
    TokenMismatch(&'static str),
    /// The id is a live member's, and the caller did not show that it is that member.
    PeerTaken,
    /// The proof of a WireGuard key was wrong, or too old.
    ProofWrong,
    /// Another host has a party of this id.
    PartyTaken,
    /// The relay belongs to another registration.
    RelayTaken,
    /// A relay is not where the request to register it came from.
    RelayElsewhere,
    /// No relay waits by this id and key, or none is approved by this id.
    RelayUnknown,
    /// No such party.
    PartyNotFound(String),
    /// No such peer in the party.
    PeerNotFound(String),
    /// No such peer in the party, said of one that should be removed.
    PeerNotInParty(String),
    /// No such ban in the party.
    BanNotFound(String),
    /// The caller is banned from the party.
    Banned,
    /// Only a member may do this.
    NotMember,
    /// Only the host may do this.
    NotHost,
    /// Only the owner of the daemon may do this.
    NotAdmin,
    /// The party is for members and who has an invite.
    InviteNeeded,
    /// The party has a password, and none was given.
    PasswordNeeded,
    /// It is another one.
    PasswordWrong,
    /// Nobody was invited by this.
    InviteUnknown,
    /// The invite has come to its end, or somebody put one to it.
    InviteOver,
    /// As many as were invited by it have come.
    InviteUsedUp,
    /// A member of the party has this key.
    KeyTaken,
    /// The member is no device.
    NotDevice,
    /// Only parties of the machine's owner outlast their members.
    NotPermanent,
    /// Hosts leave; they are not banned.
    HostNotBannable,
    /// A cap that is the caller's own; it can make room.
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How much is allowed.
        limit: usize,
    },
    /// A cap of the whole daemon.
    Full {
        /// What there is too much of.
        what: &'static str,
        /// How much is allowed.
        limit: usize,
    },
    /// Every address of the subnet is in use.
    NoAddress,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::TokenMissing => write!(f, "Missing authorization header"),
            Refusal::AuthorizationMalformed => write!(f, "Invalid authorization format"),
            Refusal::TokenUnknown => write!(f, "Invalid or expired token"),
            Refusal::TokenExpired => write!(f, "Token expired"),
            Refusal::TokenMismatch(field) => write!(f, "Token peer_id does not match {field}"),
            Refusal::PeerTaken => {
                write!(
                    f,
                    "This peer id is in use; register with its token or proof of its key, or choose another"
                )
            }
            Refusal::ProofWrong => {
                write!(f, "The proof of the WireGuard key is wrong or too old; ask for a new nonce")
            }
            Refusal::PartyTaken => write!(f, "This party id is in use; choose another"),
            Refusal::RelayTaken => write!(f, "This relay id is in use; choose another"),
            Refusal::RelayElsewhere => write!(
                f,
                "A relay is registered from its own address: public_ip is not where this request came from"
            ),
            Refusal::RelayUnknown => {
                write!(f, "No relay is known by this id, or its key does not begin so")
            }
            Refusal::PartyNotFound(party) => write!(f, "Party {party} not found"),
            Refusal::PeerNotFound(peer) => write!(f, "Peer {peer} not found"),
            Refusal::PeerNotInParty(peer) => write!(f, "Peer {peer} not in party"),
            Refusal::BanNotFound(ban) => write!(f, "Ban {ban} not found"),
            Refusal::Banned => write!(f, "You are banned from this party"),
            Refusal::NotMember => write!(f, "Only a member of the party may do this"),
            Refusal::NotHost => write!(f, "Only the host of the party may do this"),
            Refusal::NotAdmin => {
                write!(f, "Only an admin may do this: ask over the Unix socket, or with the admin token")
            }
            Refusal::InviteNeeded => {
                write!(f, "This party is by invitation: ask its host for a code or a link")
            }
            Refusal::PasswordNeeded => write!(f, "This party has a password: give it as `password`"),
            Refusal::PasswordWrong => write!(f, "The password is wrong"),
            Refusal::InviteUnknown => write!(f, "There is no such invite; look for a mistyped letter"),
            Refusal::InviteOver => write!(f, "This invite has expired or was revoked; ask for a new one"),
            Refusal::InviteUsedUp => write!(f, "This invite is used up; ask for a new one"),
            Refusal::KeyTaken => {
                write!(f, "A member of this party has this public key already; make a new key pair")
            }
            Refusal::NotDevice => write!(f, "This member is no device; remove it as a peer"),
            Refusal::NotPermanent => write!(f, "Only the owner of this server can make a party permanent"),
            Refusal::HostNotBannable => write!(f, "The host of a party cannot be banned from it"),
            Refusal::Limit { what, limit } => write!(f, "Too many {what}: at most {limit}; remove one first"),
            Refusal::Full { what, limit } => {
                write!(f, "This server is full: it holds at most {limit} {what}; try again later")
            }
            Refusal::NoAddress => write!(f, "No virtual address is left in this network; try again later"),
        }
    }
}
