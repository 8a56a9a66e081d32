//! What the owner of the daemon is told.

use super::fields::{ObjectFields, Problems};
use super::metrics::Surroundings;
use super::{Api, Call, Handling, Outcome, RequestFailure, errors, ok, openapi};
use crate::durability::WriteError;
use crate::figures::{Figure, Readings, SeenMember, prometheus, status};
use crate::time::Now;
use crate::wire::endpoint;
use crate::wire::http::Answer;
use crate::wire::json::object;
use crate::wire::static_body::StaticBody;

/// What a page is told that was opened too long ago.
const STALE: &str = "This page was opened more than ten minutes ago: open it anew with `lanrage ui`";

impl Api {
    /// The members that have been at the relay, by id. One in several parties counts once.
    fn seen_by_relay(&self, around: &Surroundings<'_>, now: Now) -> Vec<SeenMember> {
        let Some(relay) = around.relay else { return Vec::new() };
        let members = self.control.parties().flat_map(|party| &party.members);
        let seen = members.filter_map(|(peer, member)| {
            let (stats, drops) = relay.member(&member.relay_key()?)?;
            let handshake_age = now.instant.since(stats.last_handshake?);
            Some(SeenMember { peer: peer.clone(), stats, drops, handshake_age })
        });
        let mut seen: Vec<SeenMember> = seen.collect();
        seen.sort_by(|one, other| one.peer.cmp(&other.peer));
        seen.dedup_by(|one, other| one.peer == other.peer);
        seen
    }

    /// All figures.
    pub(super) fn readings(&self, around: &Surroundings<'_>, now: Now) -> Readings {
        let mut readings = Readings::default();
        if let Some(meter) = around.figures {
            meter.report(&mut readings);
        }
        self.counters.report(&mut readings);
        self.control.report(&mut readings);
        readings.set(Figure::Uptime, now.instant.since(self.started.instant).as_secs());
        readings.set(Figure::Sessions, self.sessions.len() as u64);
        readings.tables.sort_by_key(|table| table.resource as usize);
        readings.members = self.seen_by_relay(around, now);
        readings
    }

    pub(super) fn metrics(&mut self, call: &Call<'_>) -> Handling {
        Ok(Outcome::Answer(Answer {
            status: 200,
            content_type: "text/plain; version=0.0.4; charset=utf-8",
            headers: Vec::new(),
            body: prometheus::text(&self.readings(call.around, call.now)).into_bytes(),
        }))
    }

    pub(super) fn status(&mut self, call: &Call<'_>) -> Handling {
        let around = call.around;
        let readings = self.readings(around, call.now);
        let relay = &self.settings.relay;
        let body = object(|json| {
            json.key("version").string(env!("CARGO_PKG_VERSION"));
            json.key("http").string(&self.settings.locations.http);
            json.key("state_dir").string(&self.settings.locations.state_dir);
            json.key("subnet").string(&self.control.settings().subnet.to_string());
            json.key("relay").object(|json| {
                json.key("relay_id").string(relay.relay_id.as_str());
                json.key("address").string(&self.settings.locations.relay);
                if let Some((host, port)) = self.endpoint() {
                    json.key("endpoint").string(&endpoint::text(&host, port));
                }
                json.key("port").int(relay.port);
                json.key("region").string(&relay.region);
                json.key("public_key").string(&self.control.hub().encode());
            });
            self.write_troubles(json.key("trouble"), call, &readings);
            #[cfg(feature = "cluster")]
            if let Some(instance) = &readings.instance {
                json.key("instance").object(|json| status::write_instance(json, instance));
            }
            status::write_figures(json, "", &readings);
            status::write_traffic(json.key("traffic"), &readings);
            status::write_members(json.key("members"), &readings);
            status::write_tables(json.key("tables"), &readings);
            json.key("store").object(|json| {
                json.key("status").string(around.store_failure.map_or("ok", WriteError::detail));
                status::write_figures(json, "store", &readings);
            });
        });
        ok(body)
    }

    /// The description of the API, which is put together when it is asked for first.
    pub(super) fn openapi(&mut self, call: &Call<'_>) -> Handling {
        let document = self
            .document
            .get_or_init(|| StaticBody::new("application/json", openapi::document().into_bytes()));
        Ok(Outcome::Answer(document.answer(call.request)))
    }

    /// A copy of everything; with `secrets=redacted` one that can be looked at.
    pub(super) fn backup(&mut self, call: &Call<'_>) -> Handling {
        let mut problems = Problems::default();
        let read = |text: &str| match text {
            "redacted" => Some(true),
            "included" => Some(false),
            _ => None,
        };
        let query = ObjectFields::of_query(&call.query);
        let redacted = query.optional_word("secrets", read, "'redacted' or 'included'", &mut problems);
        problems.check()?;
        let redacted = redacted.unwrap_or(false);
        if !redacted {
            self.demand_freshness(call)?;
            let source = call.client.source;
            log::info!("a backup, with the hub's private key, was given to {source}");
            self.events.note_backup(source, call.now.unix);
        }
        Ok(Outcome::Backup { redacted })
    }

    /// The body is for whoever has the store.
    pub(super) fn restore(&mut self, call: &Call<'_>) -> Handling {
        self.demand_freshness(call)?;
        Ok(Outcome::Restore { from: call.client.source })
    }

    fn demand_freshness(&self, call: &Call<'_>) -> Result<(), RequestFailure> {
        match self.may_have_secrets(call) {
            true => Ok(()),
            false => Err(RequestFailure::Answered(errors::detail(403, STALE))),
        }
    }
}
