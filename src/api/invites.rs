//! Invites: making, looking at, using and ending them.

use super::fields::{ObjectFields, Problems, Text};
use super::{Api, Call, Handling, Outcome, RequestFailure, bodies, ok};
use crate::control::entry::{DeviceWish, Entry, PartyAccess};
use crate::control::invites::{
    Invite, InviteKind, InviteWish, LONGEST_CODE, LONGEST_INVITE, MOST_USES, Spelled,
};
use crate::time::Now;
use crate::wire::endpoint;
use crate::wire::http::{Answer, Source};
use crate::wire::json::{JsonWriter, Value, object};
use std::time::Duration;

/// The life of an invite that says nothing of it, in seconds.
const DAY: i64 = 24 * 3600;

/// The secret that a body has, as `token` or as `code`.
fn secret<'a>(body: &ObjectFields<'a>, problems: &mut Problems) -> Option<&'a str> {
    match body.optional("code") {
        Some(_) => body.optional_text("code", Text::WORD, problems),
        None => body.text("token", Text::WORD, problems),
    }
}

fn is_code(secret: &str) -> bool {
    Spelled::read(secret).is_none_or(|spelled| spelled.is_code())
}

/// An invite, without its secret.
pub fn write_invite(json: &mut JsonWriter, invite: &Invite, now: Now) {
    json.object(|json| {
        json.key("invite_id").string(&invite.id.to_string());
        json.key("kind").string(invite.kind.as_str());
        json.key("uses").int(invite.uses);
        json.key("uses_left").int(invite.left);
        json.key("expires_at").int(invite.expires.date(now).as_secs());
        json.key("created_at").int(invite.created_at.as_secs());
    });
}

/// The invites of a party by which somebody can come, or could.
pub fn write_invites(json: &mut JsonWriter, invites: &[Invite], now: Now) {
    json.array(|json| {
        for invite in invites.iter().filter(|invite| !invite.is_over(now)) {
            write_invite(json, invite, now);
        }
    });
}

impl Api {
    /// Where pages are, as far as it is known: at the name that friends use, or at the one that was asked.
    pub(super) fn base_url(&self, call: &Call<'_>) -> Option<String> {
        if let Some(url) = &self.settings.locations.url {
            return Some(url.clone());
        }
        let http = &self.settings.locations.http;
        let port: u16 = http.rsplit_once(':')?.1.parse().ok()?;
        let own = self.endpoint().map(|(host, _)| endpoint::text(&host, port));
        // What a program says over the Unix socket is no name of this machine.
        let asked = || call.request.host.clone().filter(|_| call.request.source != Source::Unix);
        let bound = || {
            let at: std::net::SocketAddr = http.parse().ok()?;
            (!at.ip().is_unspecified()).then(|| at.to_string())
        };
        own.or_else(asked).or_else(bound).map(|authority| format!("http://{authority}"))
    }

    pub(super) fn create_invite(&mut self, call: &Call<'_>) -> Handling {
        let actor = call.actor()?;
        let mut problems = Problems::default();
        let empty = Value::Object(Vec::new());
        let body = ObjectFields::of_body(Some(call.body.as_ref().unwrap_or(&empty)), &mut problems);
        let uses = body.optional_number("uses", 1, MOST_USES.into(), &mut problems).unwrap_or(1);
        let is_code = body.optional_bool("code", &mut problems) == Some(true);
        let longest = if is_code { LONGEST_CODE } else { LONGEST_INVITE };
        let longest = i64::try_from(longest.as_secs()).unwrap_or(i64::MAX);
        let life = body.optional_number("expires_in", 1, longest, &mut problems).unwrap_or(DAY);
        problems.check()?;
        let wish = InviteWish {
            kind: if is_code { InviteKind::Code } else { InviteKind::Link },
            uses: u32::try_from(uses).unwrap_or(1),
            life: Duration::from_secs(life.unsigned_abs()),
        };
        let base = self.base_url(call);
        let (secret, invite) = self.control.create_invite(actor, &call.parameters[0], wish, call.now)?;
        ok(object(|json| {
            json.key("invite_id").string(&invite.id.to_string());
            json.key(if is_code { "code" } else { "token" }).string(&secret);
            json.key("url").or_null(base, |json, base| json.string(&format!("{base}/join#{secret}")));
            json.key("uses").int(invite.uses);
            json.key("expires_at").int(invite.expires.date(call.now).as_secs());
        }))
    }

    pub(super) fn list_invites(&mut self, call: &Call<'_>) -> Handling {
        let party = self.control.owned_party(call.actor()?, &call.parameters[0])?;
        ok(object(|json| write_invites(json.key("invites"), &party.invites, call.now)))
    }

    pub(super) fn revoke_invite(&mut self, call: &Call<'_>) -> Handling {
        let [party, invite] = &call.parameters;
        self.control.revoke_invite(call.actor()?, party, invite)?;
        ok(r#"{"status":"revoked"}"#)
    }

    pub(super) fn preview_invite(&mut self, call: &Call<'_>) -> Handling {
        let mut problems = Problems::default();
        let body = ObjectFields::of_body(call.body.as_ref(), &mut problems);
        let secret = secret(&body, &mut problems);
        problems.check()?;
        let secret = secret.unwrap_or_default();
        self.guessing(call, is_code(secret), |control| control.preview(secret, call.now).map(drop))?;
        let (party, invite) = self.control.preview(secret, call.now)?;
        let host = party.host.as_ref().and_then(|host| party.members.get(host));
        let online = party.members.values().filter(|member| self.is_online(member, call)).count();
        ok(object(|json| {
            json.key("party").string(&party.name);
            json.key("host").or_null(host, |json, host| json.string(&host.info.name));
            json.key("players").int(party.members.len() as u64);
            json.key("online").int(online as u64);
            json.key("needs_password").bool(matches!(party.access, PartyAccess::Password(_)));
            json.key("expires_at").int(invite.expires.date(call.now).as_secs());
            json.key("uses_left").int(invite.left);
        }))
    }

    /// For a browser without scripts, which sends a form and gets the file alone.
    pub(super) fn redeem_by_form(&mut self, call: &Call<'_>) -> Handling {
        let entry = self.redeem(call)?;
        let party = self.control.party(entry.party.as_str())?;
        let member = party.members.get(&entry.peer);
        let text = member.map(|member| self.tunnel(party, member, call).text()).unwrap_or_default();
        let headers = vec![
            ("Content-Disposition", "attachment; filename=lanrage.conf".into()),
            ("Cache-Control", "no-store".into()),
        ];
        self.entry = Some(entry);
        let content_type = "application/octet-stream";
        Ok(Outcome::Answer(Answer { status: 200, content_type, headers, body: text.into_bytes() }))
    }

    pub(super) fn redeem_invite(&mut self, call: &Call<'_>) -> Handling {
        let entry = self.redeem(call)?;
        let party = self.control.party(entry.party.as_str())?;
        let token = self.control.device_token(&entry.peer).unwrap_or_default();
        let answer = self.device_answer(party, &entry.peer, call, |json| {
            json.key("party").string(&party.name);
            json.key("device_token").string(&token);
        });
        self.entry = Some(entry);
        answer
    }

    fn redeem(&mut self, call: &Call<'_>) -> Result<Entry, RequestFailure> {
        let mut problems = Problems::default();
        let body = ObjectFields::of_body(call.body.as_ref(), &mut problems);
        let secret = secret(&body, &mut problems);
        let name = body.text("name", Text::NAME, &mut problems);
        let key = bodies::wireguard_key(&body, &mut problems);
        let password = body.optional_text("password", Text::PASSWORD, &mut problems);
        let (Some(secret), Some(name), Some(key)) = (secret, name, key) else {
            return Err(RequestFailure::Invalid(problems));
        };
        problems.check()?;
        let wish = DeviceWish { name, key, expires: None, origin: call.client.source.address() };
        let is_guess = password.is_some() || is_code(secret);
        self.guessing(call, is_guess, |control| control.redeem(secret, &wish, password, call.now))
    }
}
