//! What the owner says of relays in other places.

use super::fields::{ObjectFields, Problems, Text};
use super::{Api, Call, Handling, RequestFailure, ok};
use crate::control::relays::RelayInfo;
use crate::wire::json::{JsonWriter, object};

fn write(json: &mut JsonWriter, state: &str, info: &RelayInfo, more: impl FnOnce(&mut JsonWriter)) {
    json.object(|json| {
        json.key("relay_id").string(info.relay_id.as_str());
        json.key("state").string(state);
        json.key("public_key").string(info.public_key.as_deref().unwrap_or_default());
        json.key("public_ip").string(&info.public_ip.to_string());
        json.key("port").int(info.port);
        json.key("region").string(&info.region);
        more(json);
    });
}

impl Api {
    pub(super) fn list_approvals(&mut self, call: &Call<'_>) -> Handling {
        let approvals = self.control.approvals();
        ok(object(|json| {
            json.key("relays").array(|json| {
                for relay in approvals.approved() {
                    let is_here = self.relay_links.is_here(&relay.key);
                    let is_elsewhere = !is_here && relay.is_elsewhere(call.now.instant);
                    let state = if is_here || is_elsewhere { "connected" } else { "away" };
                    let told = match is_elsewhere {
                        true => relay.told,
                        false => self.relay_links.told(&relay.info.relay_id).unwrap_or_default(),
                    };
                    write(json, state, &relay.info, |json| {
                        json.key("parties").int(told.parties);
                        json.key("members").int(told.members);
                        json.key("left_out").int(told.left_out);
                    });
                }
                for relay in approvals.waiting() {
                    write(json, "waiting", &relay.info, |_| ());
                }
            });
        }))
    }

    pub(super) fn approve_relay(&mut self, call: &Call<'_>) -> Handling {
        let mut problems = Problems::default();
        let body = ObjectFields::of_body(call.body.as_ref(), &mut problems);
        let key = body.text("public_key", Text::KEY, &mut problems);
        let Some(key) = key else { return Err(RequestFailure::Invalid(problems)) };
        problems.check()?;
        let key = self.control.approve_relay(&call.parameters[0], key, call.now)?;
        let parties = self.control.party_count();
        ok(object(|json| {
            json.key("status").string("approved");
            json.key("public_key").string(&key.encode());
            json.key("parties").int(parties as u64);
        }))
    }

    pub(super) fn revoke_relay(&mut self, call: &Call<'_>) -> Handling {
        self.control.revoke_relay(&call.parameters[0])?;
        ok(r#"{"status":"revoked"}"#)
    }
}
