//! Peers of a party, their signs of life, and signals between them.

use super::fields::{ObjectFields, Problems, Text};
use super::render::{self, View};
use super::{Api, Call, Handling, bodies, ok};
use crate::control::membership::Removed;
use crate::control::refusal::Refusal;
use crate::control::standing::Actor;
use crate::wire::json::{JsonWriter, object};

const OK: &str = r#"{"status":"ok"}"#;

impl Api {
    pub(super) fn read_peers(&mut self, call: &Call<'_>) -> Handling {
        let actor = call.actor()?;
        let party = self.control.readable_party(actor, &call.parameters[0])?;
        let view = View::of(&self.control, actor.peer(), call.now);
        ok(object(|json| render::peers(json.key("peers"), party, view)))
    }

    pub(super) fn read_peer(&mut self, call: &Call<'_>) -> Handling {
        let actor = call.actor()?;
        let [party, peer] = &call.parameters;
        let party = self.control.readable_party(actor, party)?;
        let member = party.members.get(&**peer).ok_or_else(|| Refusal::PeerNotFound(peer.to_string()))?;
        let view = View::of(&self.control, actor.peer(), call.now);
        ok(object(|json| render::peer(json.key("peer"), member, view)))
    }

    pub(super) fn remove_peer(&mut self, call: &Call<'_>) -> Handling {
        let actor = call.actor()?;
        let [party, peer] = &call.parameters;
        if bodies::flag(&call.query, "revoke_invite")? {
            self.control.revoke_invite_of(actor, party, peer)?;
        }
        let status = match self.control.remove_peer(actor, party, peer)? {
            Removed::Left => "left",
            Removed::Kicked => "kicked",
            Removed::PartyDeleted => "party_deleted",
        };
        ok(object(|json| json.key("status").string(status)))
    }

    pub(super) fn heartbeat(&mut self, call: &Call<'_>) -> Handling {
        let [party, peer] = &call.parameters;
        let by = call.identity(peer, "requested peer_id")?;
        let mut problems = Problems::default();
        let straight = ObjectFields::of_query(&call.query).optional_int("straight", 0, 255, &mut problems);
        problems.check()?;
        self.control.heartbeat(party, &by.peer, call.client.source.address(), call.now)?;
        if let Some(Ok(count)) = straight.map(u8::try_from) {
            self.control.note_straight(party, &by.peer, count);
        }
        ok(OK)
    }

    pub(super) fn send_signal(&mut self, call: &Call<'_>) -> Handling {
        let actor = call.actor()?;
        let mut problems = Problems::default();
        let body = ObjectFields::of_body(call.body.as_ref(), &mut problems);
        let to = body.text("to_peer_id", Text::ID, &mut problems);
        let data = body.required("signal_data", &mut problems);
        let (Some(to), Some(data)) = (to, data) else { return Err(problems.into()) };
        let Actor::Peer(by) = actor else { return Err(Refusal::NotMember.into()) };
        let mut json = JsonWriter::default();
        json.value(data);
        self.control.signal(by, &call.parameters[0], to, json.finish(), call.now)?;
        ok(OK)
    }

    pub(super) fn take_signals(&mut self, call: &Call<'_>) -> Handling {
        let [party, peer] = &call.parameters;
        call.identity(peer, "requested peer_id")?;
        let signals = self.control.take_signals(party, peer)?;
        ok(object(|json| {
            json.key("signals").array(|json| signals.iter().for_each(|one| render::signal(json, party, one)));
        }))
    }
}
