//! What the owner's pages ask for: everything at a glance, what has happened, and to be let in.

use super::access::bearer;
use super::fields::{ObjectFields, Problems, Text};
use super::invites::write_invites;
use super::ownership::{date, write_access};
use super::page_sessions::{SESSION_LIFE, SETUP_LIFE};
use super::{Api, Call, Handling, Outcome, RequestFailure, errors, later, ok};
use crate::control::party::{Member, Party};
use crate::control::refusal::Refusal;
use crate::control::standing::Actor;
use crate::crypto::constant_time;
use crate::figures::{Drops, Reach};
use crate::wire::endpoint;
use crate::wire::json::{JsonWriter, object};
use crate::wire::static_body;

fn write_drops(json: &mut JsonWriter, drops: &Drops) {
    json.array(|json| {
        for (reason, count) in drops.iter().filter(|(_, count)| *count > 0) {
            json.object(|json| {
                json.key("reason").string(reason.word());
                json.key("text").string(reason.help());
                json.key("packets").int(count);
            });
        }
    });
}

/// The largest whole number that every reader of JSON has.
const LARGEST: i64 = (1 << 53) - 1;

impl Api {
    pub(super) fn overview(&mut self, call: &Call<'_>) -> Handling {
        let actor = call.actor()?;
        let mut problems = Problems::default();
        let only = ObjectFields::of_query(&call.query).optional_text("party", Text::ID, &mut problems);
        problems.check()?;
        let mut parties: Vec<&Party> = match only {
            Some(id) => vec![self.control.owned_party(actor, id)?],
            None if *actor == Actor::Admin => self.control.parties().collect(),
            None => return Err(Refusal::NotAdmin.into()),
        };
        parties.sort_by(|one, other| (one.created_at, &one.id).cmp(&(other.created_at, &other.id)));
        // The machine is its owner's affair.
        let readings = (*actor == Actor::Admin).then(|| self.readings(call.around, call.now));
        let rest = object(|json| {
            json.key("clock_is_set").bool(call.now.unix.is_plausible());
            match self.endpoint() {
                Some((host, port)) => json.key("endpoint").string(&endpoint::text(&host, port)),
                None => json.key("endpoint").null(),
            }
            json.key("http").or_null(self.base_url(call), |json, url| json.string(&url));
            date(json.key("reached_from_outside"), self.reached);
            let trouble = json.key("trouble");
            match &readings {
                Some(readings) => self.write_troubles(trouble, call, readings),
                None => trouble.array(|_| {}),
            }
            let drops = readings.as_ref().map(|readings| readings.stats.drops());
            write_drops(json.key("drops"), drops.unwrap_or(&Drops::default()));
            json.key("parties")
                .array(|json| parties.iter().for_each(|party| self.write_party(json, party, call)));
            json.key("events").object(|json| json.key("last").int(self.events.last()));
        });
        // What changes every second is no news.
        let head = object(|json| {
            json.key("version").string(env!("CARGO_PKG_VERSION"));
            json.key("now").int(call.now.unix.as_secs());
            json.key("uptime").int(call.now.instant.since(self.started.instant).as_secs());
        });
        let body = format!("{},{}", head.trim_end_matches('}'), &rest[1..]);
        let mut answer =
            static_body::tagged(call.request, "application/json", body.into_bytes(), rest.as_bytes());
        answer.headers.push(("Cache-Control", "no-cache".into()));
        Ok(Outcome::Answer(answer))
    }

    fn write_party(&self, json: &mut JsonWriter, party: &Party, call: &Call<'_>) {
        json.object(|json| {
            json.key("party_id").string(party.id.as_str());
            json.key("name").string(&party.name);
            json.key("host_id").or_null(party.host.as_ref(), |json, host| json.string(host.as_str()));
            write_access(json, party, call.now);
            json.key("created_at").int(party.created_at.as_secs());
            json.key("members").array(|json| {
                party.members.values().for_each(|member| self.write_member(json, member, call));
            });
            write_invites(json.key("invites"), &party.invites, call.now);
            json.key("bans").array(|json| {
                for ban in &party.bans {
                    json.object(|json| {
                        json.key("peer_id")
                            .or_null(ban.peer_id.as_ref(), |json, peer| json.string(peer.as_str()));
                        json.key("public_key").or_null(ban.key, |json, key| json.string(&key.encode()));
                    });
                }
            });
        });
    }

    fn write_member(&self, json: &mut JsonWriter, member: &Member, call: &Call<'_>) {
        let seen = call.around.relay.and_then(|relay| relay.member(&member.relay_key()?));
        let (stats, drops) = seen.unwrap_or_default();
        let path = match stats.reach {
            Reach::None => None,
            Reach::Hub => Some("hub"),
            Reach::Blind => Some("relay"),
        };
        // What goes straight does not come by here: the agent itself has said so.
        let straight = member.straight();
        let path = if straight.is_some_and(|count| count > 0) { Some("direct") } else { path };
        let kind = match (member.device(), straight) {
            (Some(_), _) => "device",
            (None, Some(_)) => "agent",
            (None, None) => "client",
        };
        json.object(|json| {
            json.key("peer_id").string(member.info.peer_id.as_str());
            json.key("name").string(&member.info.name);
            json.key("kind").string(kind);
            json.key("virtual_ip").string(&member.virtual_ip.to_string());
            json.key("is_online").bool(self.is_online(member, call));
            json.key("path").or_null(path, |json, path| json.string(path));
            json.key("rtt_ms").or_null(stats.round_trip, |json, time| {
                json.int(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
            });
            date(json.key("last_handshake"), self.handshake_date(member, call));
            json.key("received").int(stats.from.bytes);
            json.key("sent").int(stats.to.bytes);
            json.key("invite_id").or_null(member.invite(), |json, invite| json.string(&invite.to_string()));
            write_drops(json.key("drops"), &drops);
        });
    }

    pub(super) fn list_events(&mut self, call: &Call<'_>) -> Handling {
        let mut problems = Problems::default();
        let query = ObjectFields::of_query(&call.query);
        let after = query.optional_int("after", 0, LARGEST, &mut problems).unwrap_or(0);
        problems.check()?;
        ok(object(|json| {
            self.events.write(json.key("events"), after.unsigned_abs());
            json.key("last").int(self.events.last());
        }))
    }

    pub(super) fn offer_page(&mut self, call: &Call<'_>) -> Handling {
        let setup = self.pages.offer(call.now.instant);
        ok(object(|json| {
            json.key("setup").string(&setup);
            json.key("url")
                .or_null(self.base_url(call), |json, base| json.string(&format!("{base}/ui/#{setup}")));
            json.key("expires_at").int((call.now.unix + SETUP_LIFE).as_secs());
        }))
    }

    pub(super) fn open_page(&mut self, call: &Call<'_>) -> Handling {
        let mut problems = Problems::default();
        let body = ObjectFields::of_body(call.body.as_ref(), &mut problems);
        let admin = body.optional_text("admin_token", Text::ANY, &mut problems);
        let setup = match admin {
            Some(_) => None,
            None => body.text("setup", Text::ANY, &mut problems),
        };
        problems.check()?;
        let now = call.now.instant;
        if let Err(seconds) = self.admission.may_guess(call.client, now) {
            return Err(RequestFailure::Answered(later(super::TOO_MANY_GUESSES, seconds)));
        }
        let known = self.settings.admin_token.as_deref();
        let is_admin = admin
            .zip(known)
            .is_some_and(|(said, known)| constant_time::eq(said.as_bytes(), known.as_bytes()));
        if !is_admin && !setup.is_some_and(|setup| self.pages.take(setup, now)) {
            self.admission.count_guess(call.client, now);
            return Err(Refusal::TokenUnknown.into());
        }
        ok(object(|json| {
            json.key("token").string(&self.pages.open(now));
            json.key("expires_at").int((call.now.unix + SESSION_LIFE).as_secs());
        }))
    }

    pub(super) fn close_page(&mut self, call: &Call<'_>) -> Handling {
        if let Some(token) = call.request.authorization.as_deref().and_then(bearer) {
            self.pages.close(token, call.now.instant);
        }
        ok(r#"{"status":"ended"}"#)
    }

    pub(super) fn change_settings(&mut self, call: &Call<'_>) -> Handling {
        let mut problems = Problems::default();
        let body = ObjectFields::of_body(call.body.as_ref(), &mut problems);
        let text = body.text("public_endpoint", Text::WHERE, &mut problems);
        let endpoint = text.and_then(endpoint::parse);
        if let (Some(text), None) = (text, &endpoint) {
            problems.refuse(
                &body.at("public_endpoint"),
                "not HOST:PORT, such as home.example.org:51820",
                text,
            );
        }
        problems.check()?;
        if self.settings.relay.endpoint.is_some() {
            let why = "public_endpoint is set by a flag, the environment or the configuration file: change it there";
            return Err(RequestFailure::Answered(errors::detail(409, why)));
        }
        if let Some(endpoint) = endpoint {
            self.control.set_endpoint(endpoint);
        }
        ok(r#"{"status":"ok"}"#)
    }
}
