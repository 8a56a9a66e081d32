//! Who must not come back to a party.

use super::fields::{Fields, Problems};
use super::{Api, Call, Failure, bodies};
use crate::wire::http::Answer;
use crate::wire::json::object;

impl Api {
    pub(super) fn ban(&mut self, call: &Call<'_>) -> Result<Answer, Failure> {
        let actor = self.actor(call)?;
        let mut problems = Problems::default();
        let body = Fields::of_body(call.body.as_ref(), &mut problems);
        let ban = bodies::ban(&body, problems)?;
        self.control.ban(&actor, &call.parameters[0], ban)?;
        Ok(Answer::json(200, r#"{"status":"banned"}"#))
    }

    pub(super) fn unban(&mut self, call: &Call<'_>) -> Result<Answer, Failure> {
        let actor = self.actor(call)?;
        let ban = bodies::ban(&Fields::of_query(&call.query), Problems::default())?;
        let key = ban.key.map(|key| key.encode());
        let spelled = ban.peer_id.as_ref().map(|peer| peer.to_string()).or(key).unwrap_or_default();
        self.control.unban(&actor, &call.parameters[0], &ban, &spelled)?;
        Ok(Answer::json(200, r#"{"status":"unbanned"}"#))
    }

    pub(super) fn list_bans(&mut self, call: &Call<'_>) -> Result<Answer, Failure> {
        let actor = self.actor(call)?;
        let party = self.control.owned_party(&actor, &call.parameters[0])?;
        Ok(Answer::json(
            200,
            object(|json| {
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
            }),
        ))
    }
}
