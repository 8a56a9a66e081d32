//! What the owner of the daemon is told.

use super::fields::{Fields, Problems};
use super::metrics::{self, Seen, Surroundings};
use super::{Api, Call, Failure, Handling, Outcome, errors, ok, openapi};
use crate::owners::Usage;
use crate::time::Now;
use crate::wire::http::{Answer, Source};
use crate::wire::json::object;
use crate::wire::static_body::StaticBody;

impl Api {
    /// The members that have been at the relay, by id. One in several parties counts once.
    fn seen_by_relay(&self, around: &Surroundings<'_>, now: Now) -> Vec<Seen<'_>> {
        let Some(relay) = around.relay else { return Vec::new() };
        let members = self.control.parties().flat_map(|party| &party.members);
        let seen = members.filter_map(|(peer, member)| {
            let figures = relay.member(&member.relay_key()?)?;
            let handshake_age = figures.last_handshake.map(|at| now.instant.since(at));
            Some(Seen { peer, figures, handshake_age: Some(handshake_age?) })
        });
        let mut seen: Vec<Seen<'_>> = seen.collect();
        seen.sort_by_key(|seen| seen.peer);
        seen.dedup_by_key(|seen| seen.peer);
        seen
    }

    /// How full everything is, and of whom.
    fn usage(&self, around: &Surroundings<'_>) -> Vec<Usage> {
        let relay = around.relay.map(|relay| relay.usage());
        let others = around.door.into_iter().flatten().chain(relay.into_iter().flatten());
        self.control.usage().into_iter().chain(others).collect()
    }

    pub(super) fn metrics(&mut self, call: &Call<'_>) -> Handling {
        let around = call.around;
        let members = self.seen_by_relay(around, call.now);
        let text = metrics::text(&self.counters, self.sizes(), &self.usage(around), around, &members);
        Ok(Outcome::Answer(Answer {
            status: 200,
            content_type: "text/plain; version=0.0.4; charset=utf-8",
            headers: Vec::new(),
            body: text.into_bytes(),
        }))
    }

    pub(super) fn status(&mut self, call: &Call<'_>) -> Handling {
        let around = call.around;
        let sizes = self.sizes();
        let relay = &self.settings.relay;
        let body = object(|json| {
            json.key("version").string(env!("CARGO_PKG_VERSION"));
            json.key("uptime_seconds").int(around.uptime.as_secs());
            json.key("http").string(&self.settings.whereabouts.http);
            json.key("state_dir").string(&self.settings.whereabouts.state_dir);
            json.key("parties").int(sizes.parties as u64);
            json.key("peers").int(sizes.peers as u64);
            json.key("relays").int(sizes.relays as u64);
            json.key("tokens").int(sizes.tokens as u64);
            json.key("websocket_sessions").int(sizes.sessions as u64);
            json.key("subnet").string(&self.control.settings().subnet.to_string());
            json.key("relay").object(|json| {
                json.key("relay_id").string(relay.relay_id.as_str());
                json.key("address").string(&self.settings.whereabouts.relay);
                json.key("port").int(relay.port);
                json.key("region").string(&relay.region);
                json.key("public_key").string(&self.control.hub().encode());
            });
            if let Some(relay) = around.relay {
                let figures = relay.figures();
                json.key("traffic").object(|json| {
                    let kinds = [
                        ("received", figures.received),
                        ("sent", figures.sent),
                        ("blind", figures.blind),
                        ("hub", figures.hub),
                        ("broadcast", figures.broadcast),
                        ("stun", figures.stun),
                        ("local", figures.local),
                    ];
                    for (kind, traffic) in kinds {
                        json.key(kind).object(|json| {
                            json.key("packets").int(traffic.packets);
                            json.key("bytes").int(traffic.bytes);
                        });
                    }
                    json.key("flows").int(figures.flows);
                    json.key("gso").bool(figures.gso);
                    json.key("drops").object(|json| {
                        for (reason, count) in &figures.drops {
                            json.key(reason).int(*count);
                        }
                    });
                });
                json.key("members").array(|json| {
                    for Seen { peer, figures, handshake_age } in self.seen_by_relay(around, call.now) {
                        json.object(|json| {
                            json.key("peer_id").string(peer.as_str());
                            json.key("path").string(figures.path);
                            json.key("handshake_seconds").int(handshake_age.map_or(0, |age| age.as_secs()));
                            for (direction, traffic) in [("from", figures.from), ("to", figures.to)] {
                                json.key(direction).object(|json| {
                                    json.key("packets").int(traffic.packets);
                                    json.key("bytes").int(traffic.bytes);
                                });
                            }
                            json.key("drops").object(|json| {
                                for (reason, count) in &figures.drops {
                                    json.key(reason).int(*count);
                                }
                            });
                        });
                    }
                });
            }
            json.key("tables").array(|json| {
                for table in self.usage(around) {
                    json.object(|json| {
                        json.key("table").string(table.resource);
                        json.key("used").int(table.held as u64);
                        json.key("limit").int(table.limit as u64);
                        if let Some((network, held)) = table.largest {
                            json.key("largest").object(|json| {
                                json.key("network").string(&network.to_string());
                                json.key("used").int(held as u64);
                            });
                        }
                    });
                }
            });
            json.key("log_lines_lost").int(around.log_lines_lost);
            json.key("store").object(|json| {
                json.key("status").string(around.store_failure.map_or("ok", |failure| failure.detail()));
                json.key("commits").int(around.commits);
                json.key("errors").int(around.store_errors);
                json.key("bytes").int(around.store_bytes);
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
        let query = Fields::of_query(&call.query);
        let redacted = query.optional_word("secrets", read, "'redacted' or 'included'", &mut problems);
        problems.check()?;
        let redacted = redacted.unwrap_or(false);
        if !redacted && call.client.source != Source::Unix {
            let why = "Secrets leave only through the Unix socket; ask for ?secrets=redacted";
            return Err(Failure::Answered(errors::detail(403, why)));
        }
        Ok(Outcome::Backup { redacted })
    }
}
