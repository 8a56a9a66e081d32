//! Who must not come back to a party.

use super::fields::{ObjectFields, Problems};
use super::{Api, Call, Handling, bodies, ok};
use crate::wire::json::object;

impl Api {
    pub(super) fn ban(&mut self, call: &Call<'_>) -> Handling {
        let actor = call.actor()?;
        let mut problems = Problems::default();
        let body = ObjectFields::of_body(call.body.as_ref(), &mut problems);
        let revokes = body.optional_bool("revoke_invite", &mut problems) == Some(true);
        let renames = body.optional_bool("new_id", &mut problems) == Some(true);
        let ban = bodies::ban(&body, problems)?;
        let party = &call.parameters[0];
        if let Some(peer) = ban.peer_id.as_ref().filter(|_| revokes) {
            self.control.revoke_invite_of(actor, party, peer.as_str())?;
        }
        self.control.ban(actor, party, ban)?;
        let renamed = renames.then(|| self.control.rename_party(actor, party)).transpose()?;
        ok(object(|json| {
            json.key("status").string("banned");
            if let Some(id) = renamed {
                json.key("party_id").string(id.as_str());
            }
        }))
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
