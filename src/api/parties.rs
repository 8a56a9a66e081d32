//! Registering, and parties as a whole.

use super::access::bearer;
use super::fields::{ObjectFields, Problems, Text};
use super::render::{self, View};
use super::{Api, Call, Handling, RequestFailure, bodies, ok};
use crate::control::keys::KeyClaim;
use crate::control::party::Party;
use crate::control::registration::Credentials;
use crate::control::standing::Actor;
use crate::ids::PeerId;
use crate::wire::control::NetworkBody;
use crate::wire::datetime::Naive;
use crate::wire::json::{JsonWriter, Value, object};

impl Api {
    pub(super) fn root(&mut self, _: &Call<'_>) -> Handling {
        ok(object(|json| {
            json.key("service").string("LANrage Control Plane");
            json.key("version").string(env!("CARGO_PKG_VERSION"));
            json.key("status").string("ok");
            json.key("parties").int(self.control.party_count() as u64);
            // Our own relay is in the list too.
            let others = self.control.relays().iter().count() + self.control.approvals().approved().count();
            json.key("relays").int(others as u64 + 1);
        }))
    }

    pub(super) fn register(&mut self, call: &Call<'_>) -> Handling {
        let peer = queried_peer(call)?;
        let mut problems = Problems::default();
        let empty = Value::Object(Vec::new());
        let body = ObjectFields::of_body(Some(call.body.as_ref().unwrap_or(&empty)), &mut problems);
        let proof = bodies::proof(&body, &mut problems);
        problems.check()?;
        let token = call.request.authorization.as_deref().and_then(bearer);
        let issued = self.control.register(
            &peer,
            Credentials { token, proof, payer: call.client.payer() },
            call.now,
        )?;
        ok(object(|json| {
            json.key("token").string(&issued.token);
            json.key("peer_id").string(peer.as_str());
            json.key("expires_at").string(&Naive(issued.expires_at).to_string());
        }))
    }

    pub(super) fn nonce(&mut self, call: &Call<'_>) -> Handling {
        let peer = queried_peer(call)?;
        ok(object(|json| {
            json.key("peer_id").string(peer.as_str());
            json.key("nonce").string(&self.control.nonce(&peer, call.now));
            json.key("public_key").string(&self.control.hub().encode());
        }))
    }

    pub(super) fn create_party(&mut self, call: &Call<'_>) -> Handling {
        let mut problems = Problems::default();
        let body = ObjectFields::of_body(call.body.as_ref(), &mut problems);
        if *call.actor()? == Actor::Admin && body.optional("host_peer_info").is_none() {
            return self.create_own_party(&body, problems, call);
        }
        let name = body.text("name", Text::NAME, &mut problems);
        let peer = body.object("host_peer_info", &mut problems);
        let info = bodies::peer_info(&peer, &mut problems);
        let claim =
            KeyClaim { origin: call.client.source.address(), proof: bodies::proof(&body, &mut problems) };
        let (Some(name), Some(info)) = (name, info) else { return Err(problems.into()) };
        problems.check()?;
        let by = call.identity(info.peer_id.as_str(), "host_peer_info.peer_id")?;
        let id = self.control.create_party(by, None, name, info, claim, call.now)?;
        self.party_answer(id.as_str(), Some(id.as_str()), call)
    }

    pub(super) fn join_party(&mut self, call: &Call<'_>) -> Handling {
        let mut problems = Problems::default();
        let body = ObjectFields::of_body(call.body.as_ref(), &mut problems);
        // The path's id counts; the body's only has to be there.
        body.text("party_id", Text::ANY, &mut problems);
        let peer = body.object("peer_info", &mut problems);
        let info = bodies::peer_info(&peer, &mut problems);
        let claim =
            KeyClaim { origin: call.client.source.address(), proof: bodies::proof(&body, &mut problems) };
        let password = body.optional_text("password", Text::PASSWORD, &mut problems);
        let Some(info) = info else { return Err(problems.into()) };
        problems.check()?;
        let by = call.identity(info.peer_id.as_str(), "peer_info.peer_id")?;
        let party = &call.parameters[0];
        let is_guess = password.is_some() || self.control.may_be_code(party);
        let entry = self.guessing(call, is_guess, |control| {
            control.enter_party(by, party, info, claim, password, call.now)
        })?;
        let party = entry.party.to_string();
        self.entry = Some(entry);
        self.party_answer(&party, None, call)
    }

    pub(super) fn read_party(&mut self, call: &Call<'_>) -> Handling {
        self.party_answer(&call.parameters[0], None, call)
    }

    pub(super) fn delete_party(&mut self, call: &Call<'_>) -> Handling {
        self.control.delete_party(call.actor()?, &call.parameters[0])?;
        ok(r#"{"status":"party_deleted"}"#)
    }

    /// Every party in brief, for the owner of the daemon: their ids are secrets.
    pub(super) fn list_parties(&mut self, _: &Call<'_>) -> Handling {
        let mut parties: Vec<&Party> = self.control.parties().collect();
        parties.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        ok(object(|json| {
            json.key("parties").array(|json| {
                for party in parties {
                    json.object(|json| {
                        json.key("party_id").string(party.id.as_str());
                        json.key("name").string(&party.name);
                        json.key("host_id").string(party.host_id());
                        // No stock client reads this, so it says its zone.
                        json.key("created_at").string(&format!("{}Z", Naive(party.created_at)));
                        json.key("peers").int(party.members.len() as u64);
                    });
                }
            });
        }))
    }

    /// A party, and beside it what is ours: `network` and `warnings`.
    pub(super) fn party_answer(&self, party: &str, created: Option<&str>, call: &Call<'_>) -> Handling {
        let actor = call.actor()?;
        let party = self.control.readable_party(actor, party)?;
        let view = View::of(&self.control, actor.peer(), call.now);
        let body = object(|json| {
            if let Some(id) = created {
                json.key("party_id").string(id);
            }
            render::party(json.key("party"), party, view);
            self.network(json, party, actor, call);
        });
        ok(body)
    }

    fn network(&self, json: &mut JsonWriter, party: &Party, actor: &Actor, call: &Call<'_>) {
        let member = actor.peer().and_then(|peer| party.members.get(peer));
        if member.is_none() && *actor != Actor::Admin {
            return;
        }
        let others = party.members.iter().filter(|(id, _)| member.is_none_or(|own| own.info.peer_id != **id));
        let (relay, relay_key) = self.relay_of(party, call.request.local);
        let network = NetworkBody {
            subnet: self.control.settings().subnet,
            virtual_ip: member.map(|member| member.virtual_ip),
            peers: others.map(|(id, other)| (id.clone(), other.virtual_ip)).collect(),
            relay,
            relay_key,
        };
        network.write(json.key("network"));
        if let Some(member) = member {
            render::warnings(json, &self.control, member);
        }
    }
}

/// The `peer_id` of the query.
fn queried_peer(call: &Call<'_>) -> Result<PeerId, RequestFailure> {
    let mut problems = Problems::default();
    let peer =
        ObjectFields::of_query(&call.query).text("peer_id", Text::ID, &mut problems).and_then(PeerId::new);
    peer.ok_or(RequestFailure::Invalid(problems))
}
