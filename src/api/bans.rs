//! Who must not come back to a party.

use super::fields::{ObjectFields, Problems};
use super::{Api, Call, Handling, bodies, ok};
use crate::wire::json::object;

impl Api {
    pub(super) fn ban(&mut self, call: &Call<'_>) -> Handling {
        let actor = call.actor()?;
        let mut problems = Problems::default();
        let body = ObjectFields::of_body(call.body.as_ref(), &mut problems);
        let ban = bodies::ban(&body, problems)?;
        self.control.ban(actor, &call.parameters[0], ban)?;
        ok(r#"{"status":"banned"}"#)
    }

    pub(super) fn unban(&mut self, call: &Call<'_>) -> Handling {
        let actor = call.actor()?;
        let ban = bodies::ban(&ObjectFields::of_query(&call.query), Problems::default())?;
        let key = ban.key.map(|key| key.encode());
        let spelled = ban.peer_id.as_ref().map(|peer| peer.to_string()).or(key).unwrap_or_default();
        self.control.unban(actor, &call.parameters[0], &ban, &spelled)?;
        ok(r#"{"status":"unbanned"}"#)
    }

    pub(super) fn list_bans(&mut self, call: &Call<'_>) -> Handling {
        let actor = call.actor()?;
        let party = self.control.owned_party(actor, &call.parameters[0])?;
        ok(object(|json| {
            json.key("bans").array(|json| {
                for ban in &party.bans {
                    json.object(|json| {
                        if let Some(peer) = &ban.peer_id {
                            json.key("peer_id").string(peer.as_str());
                        }
                        if let Some(key) = ban.key {
                            json.key("public_key").string(&key.encode());
                        }
                    });
                }
            });
        }))
    }
}
