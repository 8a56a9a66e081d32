//! One table from refusals to statuses.

use crate::control::refusal::Refusal;
use crate::wire::http::Answer;
use crate::wire::json;

/// The HTTP status of a refusal.
pub fn status(refusal: &Refusal) -> u16 {
    match refusal {
        Refusal::TokenMissing
        | Refusal::AuthorizationMalformed
        | Refusal::TokenUnknown
        | Refusal::TokenExpired => 401,
        Refusal::TokenMismatch(_)
        | Refusal::ProofWrong
        | Refusal::Banned
        | Refusal::RelayElsewhere
        | Refusal::NotMember
        | Refusal::NotHost
        | Refusal::NotAdmin
        | Refusal::InviteNeeded
        | Refusal::PasswordNeeded
        | Refusal::PasswordWrong
        | Refusal::NotPermanent => 403,
        Refusal::PartyNotFound(_)
        | Refusal::PeerNotFound(_)
        | Refusal::PeerNotInParty(_)
        | Refusal::BanNotFound(_)
        | Refusal::RelayUnknown
        | Refusal::InviteUnknown => 404,
        Refusal::PeerTaken
        | Refusal::PartyTaken
        | Refusal::RelayTaken
        | Refusal::HostNotBannable
        | Refusal::InviteUsedUp
        | Refusal::KeyTaken
        | Refusal::NotDevice
        | Refusal::Limit { .. } => 409,
        Refusal::InviteOver => 410,
        Refusal::Full { .. } | Refusal::NoAddress => 503,
    }
}

/// An error of the stock shape: an object with a `detail` text.
pub fn detail(status: u16, text: &str) -> Answer {
    Answer::json(status, json::object(|json| json.key("detail").string(text)))
}

/// The answer to a refused request.
pub fn refused(refusal: &Refusal) -> Answer {
    let mut answer = detail(status(refusal), &refusal.to_string());
    if answer.status == 401 {
        answer.headers.push(("WWW-Authenticate", "Bearer".into()));
    }
    answer
}
