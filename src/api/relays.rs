//! The list of relays, our own among them.

use super::fields::{ObjectFields, Problems, Text};
use super::{Api, Call, Handling, bodies, ok};
use crate::control::approvals::ApprovedRelay;
use crate::control::placement::Placement;
use crate::control::refusal::Refusal;
use crate::control::relays::unembedded;
use crate::control::standing::Actor;
use crate::ids::PartyId;
use crate::owners::Prefix;
use crate::wire::control::RelayBody;
use crate::wire::datetime::Naive;
use crate::wire::json::object;

impl Api {
    pub(super) fn register_relay(&mut self, call: &Call<'_>) -> Handling {
        let info = bodies::relay_info(call.body.as_ref(), call.client.is_local)?;
        let Actor::Peer(by) = call.actor()? else { return Err(Refusal::TokenMissing.into()) };
        if info.relay_id == self.settings.relay.relay_id {
            return Err(Refusal::RelayTaken.into());
        }
        // Clients probe every relay in the list: what only somebody says must not have them probe others.
        if let Some(payer) = call.client.payer()
            && !Prefix::subscriber(unembedded(payer)).contains(info.public_ip)
        {
            return Err(Refusal::RelayElsewhere.into());
        }
        let id = info.relay_id.clone();
        self.control.register_relay(by, info, call.now)?;
        ok(object(|json| {
            json.key("status").string("registered");
            json.key("relay_id").string(id.as_str());
        }))
    }

    pub(super) fn list_relays(&mut self, call: &Call<'_>) -> Handling {
        let mut problems = Problems::default();
        let party = ObjectFields::of_query(&call.query).optional_text("party", Text::ID, &mut problems);
        problems.check()?;
        let mut entries = self.listed_relays(call);
        if let Some(party) = party {
            let party = self.control.readable_party(call.actor()?, party)?.id.clone();
            self.say_who_serves(&party, &mut entries);
        }
        answer(&entries)
    }

    pub(super) fn list_relays_in(&mut self, call: &Call<'_>) -> Handling {
        let mut entries = self.listed_relays(call);
        entries.retain(|entry| *entry.region == *call.parameters[0]);
        answer(&entries)
    }

    /// By region, then id.
    fn listed_relays(&self, call: &Call<'_>) -> Vec<RelayBody<'_>> {
        let own = &self.settings.relay;
        let (public_ip, port) = self.relay_endpoint(call.request.local);
        let mut entries = vec![RelayBody {
            relay_id: own.relay_id.as_str().into(),
            public_ip: public_ip.into(),
            port,
            region: (&*own.region).into(),
            capacity: own.capacity,
            registered_at: Naive(self.registered_at(call.now)).to_string().into(),
            public_key: Some(self.control.hub().encode().into()),
            load: call.around.relay.map_or(0, |relay| relay.load()),
            serves: None,
        }];
        let approved = self.control.approvals().approved();
        let approved = approved.filter(|relay| self.control.is_listed(relay, call.now.instant));
        let approved = approved.map(|relay| (&relay.info, relay.approved_at));
        let registered = self.control.relays().iter().map(|relay| (&relay.info, relay.registered_at));
        entries.extend(approved.chain(registered).map(|(info, since)| RelayBody {
            relay_id: info.relay_id.as_str().into(),
            public_ip: info.public_ip.to_string().into(),
            port: info.port,
            region: (&*info.region).into(),
            capacity: info.capacity,
            registered_at: Naive(since).to_string().into(),
            public_key: info.public_key.as_deref().map(Into::into),
            load: info.load,
            serves: None,
        }));
        entries.sort_by(|a, b| (&a.region, &a.relay_id).cmp(&(&b.region, &b.relay_id)));
        entries
    }

    /// Says of each relay whether it serves a party: our own does, one in another place if it was told of it or is about to be.
    /// Those come first, after our own the party's home: who measures only some of them should know the same ones.
    fn say_who_serves(&self, party: &PartyId, entries: &mut [RelayBody<'_>]) {
        let placements = self.control.placements(party);
        let own = self.settings.relay.relay_id.as_str();
        for entry in &mut *entries {
            let relay = placements.iter().find(|relay| *relay.info.relay_id.as_str() == *entry.relay_id);
            let serves = relay.is_some_and(|relay| self.serves(relay, party));
            entry.serves = Some(*entry.relay_id == *own || serves);
        }
        let place = |id: &str| placements.iter().position(|relay| relay.info.relay_id.as_str() == id);
        entries.sort_by_cached_key(|entry| {
            let place = place(&entry.relay_id).map_or(usize::MAX, |place| place + 1);
            (entry.serves != Some(true), if *entry.relay_id == *own { 0 } else { place })
        });
    }

    /// Whether an approved relay serves a party. What one at another instance was told is known here in numbers alone.
    fn serves(&self, relay: &ApprovedRelay, party: &PartyId) -> bool {
        let id = &relay.info.relay_id;
        match self.relay_links.leaves_out(&relay.key, party) {
            Some(leaves_out) => !leaves_out,
            None => relay.told.left_out == 0 || self.control.placement(party, id) != Placement::Other,
        }
    }
}

fn answer(entries: &[RelayBody<'_>]) -> Handling {
    ok(object(|json| {
        json.key("relays").array(|json| entries.iter().for_each(|entry| entry.write(json)));
    }))
}
