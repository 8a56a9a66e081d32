//! What guests give in place of a party's id, and how often they may guess.

use super::admission::Client;
use super::route::Parameters;
use super::{Api, Call, RequestFailure, TOO_MANY_GUESSES, later};
use crate::control::Control;
use crate::control::entry::Entry;
use crate::control::refusal::Refusal;
use crate::control::standing::Actor;
use crate::time::Instant;

impl Api {
    /// The parameters of a path, with the party's id in place of what a member calls the party.
    pub(super) fn meant<'a>(
        &self,
        path: &str,
        mut parameters: Parameters<'a>,
        actor: Option<&Actor>,
    ) -> Parameters<'a> {
        if path.starts_with("/parties/{party_id}")
            && let Some(peer) = actor.and_then(Actor::peer)
            && let Some(id) = self.control.meant_by(peer, &parameters[0])
            && id.as_str() != parameters[0]
        {
            parameters[0] = id.to_string().into();
        }
        parameters
    }

    /// Somebody came in by an invite, and that can't be kept: as if nobody had.
    pub fn undo(&mut self, entry: &Entry) {
        self.control.undo(entry);
    }

    /// Whether the client may try what could be a guess, or in how many seconds it may.
    pub(super) fn may_guess(&self, client: Client, is_guess: bool, now: Instant) -> Result<(), u64> {
        if is_guess { self.admission.may_guess(client, now) } else { Ok(()) }
    }

    /// Tries what could be a guess.
    pub(super) fn guessing<T>(
        &mut self,
        call: &Call<'_>,
        is_guess: bool,
        attempt: impl FnOnce(&mut Control) -> Result<T, Refusal>,
    ) -> Result<T, RequestFailure> {
        let (client, now) = (call.client, call.now.instant);
        self.may_guess(client, is_guess, now)
            .map_err(|seconds| RequestFailure::Answered(later(TOO_MANY_GUESSES, seconds)))?;
        let done = attempt(&mut self.control);
        self.count_guess(client, is_guess, &done, now);
        Ok(done?)
    }

    /// Counts a guess that was wrong.
    pub(super) fn count_guess<T>(
        &mut self,
        client: Client,
        is_guess: bool,
        done: &Result<T, Refusal>,
        now: Instant,
    ) {
        let is_wrong =
            matches!(done, Err(Refusal::PasswordWrong | Refusal::InviteUnknown | Refusal::PartyNotFound(_)));
        if is_guess && is_wrong {
            self.admission.count_guess(client, now);
        }
    }
}
