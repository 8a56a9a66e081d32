//! Who may ask, how much, and for what.

use super::admission::{Client, Cost};
use super::metrics::Surroundings;
use super::route::{Access, PathMatch, Route, Writes};
use super::{Api, Call, RequestFailure, TOO_MANY_REQUESTS, browsers, errors, later, unavailable};
use crate::control::refusal::Refusal;
use crate::control::standing::Actor;
use crate::crypto::constant_time;
use crate::durability::WriteError;
use crate::time::{Instant, Now};
use crate::wire::http::{Request, Source};

/// What who writes too much to the disk is told.
pub(super) const TOO_MANY_CHANGES: &str = "Too many changes from this network; wait a while and try again";

/// Why nothing may be changed now.
pub(super) enum Unchangeable {
    /// The disk can't be written.
    Storage(WriteError),
    /// The network has changed too much and may go on after so many seconds.
    TooManyChanges(u64),
}

impl From<Unchangeable> for RequestFailure {
    fn from(why: Unchangeable) -> Self {
        RequestFailure::Answered(match why {
            Unchangeable::Storage(failure) => unavailable(failure.detail()),
            Unchangeable::TooManyChanges(seconds) => later(TOO_MANY_CHANGES, seconds),
        })
    }
}

impl Api {
    pub(super) fn admit(
        &mut self,
        found: Option<&PathMatch<'_>>,
        route: Option<&Route>,
        request: &Request,
        client: Client,
        now: Instant,
    ) -> Result<(), RequestFailure> {
        let creates = route.is_some_and(|route| route.cost == Cost::Creation);
        let costs = if creates { &[Cost::Request, Cost::Creation][..] } else { &[Cost::Request] };
        for cost in costs {
            if let Err(seconds) = self.admission.admit(client, *cost, now) {
                return Err(RequestFailure::Answered(later(TOO_MANY_REQUESTS, seconds)));
            }
        }
        let endpoint = self.endpoint();
        let endpoint = endpoint.as_ref().map(|(host, _)| host.as_str());
        let browsers = &self.settings.browsers;
        if !browsers.admit(request, endpoint) {
            return Err(RequestFailure::Answered(errors::detail(403, browsers::FOREIGN_ORIGIN)));
        }
        // Methods that a path does not have are refused like those that it has.
        let wants_known_host = match (route, found) {
            (Some(route), _) => route.access.wants_known_host(),
            (None, Some(found)) => found.routes().all(|route| route.access.wants_known_host()),
            (None, None) => false,
        };
        if (wants_known_host || self.is_owners(request, now)) && !browsers.knows(request, endpoint) {
            return Err(RequestFailure::Answered(errors::detail(403, browsers::UNKNOWN_HOST)));
        }
        Ok(())
    }

    /// Whether a request has the admin token, or that of one of the owner's pages.
    pub(super) fn is_owners(&self, request: &Request, now: Instant) -> bool {
        let Some(token) = request.authorization.as_deref().and_then(bearer) else { return false };
        self.is_admin_token(token) || self.pages.knows(token, now)
    }

    fn is_admin_token(&self, token: &str) -> bool {
        let admin = self.settings.admin_token.as_deref();
        admin.is_some_and(|admin| constant_time::eq(admin.as_bytes(), token.as_bytes()))
    }

    /// Whether the owner who asks may have, or replace, all secrets: whoever finds a page open may not.
    pub(super) fn may_have_secrets(&self, call: &Call<'_>) -> bool {
        let token = call.request.authorization.as_deref().and_then(bearer);
        call.client.source == Source::Unix
            || token.is_some_and(|token| {
                self.is_admin_token(token) || self.pages.is_fresh(token, call.now.instant)
            })
    }

    /// Whether what is kept on disk may be changed now, by a request or a message.
    pub(super) fn may_write(
        &self,
        writes: Writes,
        client: Client,
        around: &Surroundings<'_>,
        now: Instant,
    ) -> Result<(), Unchangeable> {
        if writes == Writes::Nothing {
            return Ok(());
        }
        if let Some(failure) = around.store_failure {
            return Err(Unchangeable::Storage(failure));
        }
        // Who leaves is let go, whatever it costs.
        if writes == Writes::Removes {
            return Ok(());
        }
        self.admission.may_change(client, now).map_err(Unchangeable::TooManyChanges)
    }

    /// Who asks, where that matters; an error if it may not.
    pub(super) fn let_in(
        &mut self,
        access: Access,
        request: &Request,
        client: Client,
        now: Now,
    ) -> Result<Option<Actor>, Refusal> {
        if access.is_open() || access == Access::Device || access == Access::LocalOrAdmin && client.is_local {
            return Ok(None);
        }
        let actor = self.actor(request, client, now)?;
        if access.is_admins() && actor != Actor::Admin {
            return Err(Refusal::NotAdmin);
        }
        Ok(Some(actor))
    }

    /// Who asks. A token that is presented counts, also over the Unix socket.
    fn actor(&mut self, request: &Request, client: Client, now: Now) -> Result<Actor, Refusal> {
        let Some(header) = request.authorization.as_deref().filter(|header| !header.is_empty()) else {
            return match client.source {
                Source::Unix => Ok(Actor::Admin),
                Source::Ip(_) => Err(Refusal::TokenMissing),
            };
        };
        let token = bearer(header).ok_or(Refusal::AuthorizationMalformed)?;
        if self.is_owners(request, now.instant) {
            return Ok(Actor::Admin);
        }
        self.control.authenticate(token, now).map(Actor::Peer)
    }
}

/// The token of an `Authorization` header. The scheme is case-sensitive, as in the stock API.
pub(super) fn bearer(header: &str) -> Option<&str> {
    header.strip_prefix("Bearer ")
}
