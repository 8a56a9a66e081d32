//! The list of relays, our own among them.

use super::{Api, Call, Handling, bodies, ok};
use crate::control::refusal::Refusal;
use crate::control::relays::unembedded;
use crate::control::standing::Actor;
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
        self.relays_of(None, call)
    }

    pub(super) fn list_relays_in(&mut self, call: &Call<'_>) -> Handling {
        self.relays_of(Some(&call.parameters[0]), call)
    }

    fn relays_of(&self, region: Option<&str>, call: &Call<'_>) -> Handling {
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
        }));
        entries.retain(|entry| region.is_none_or(|region| *region == entry.region));
        entries.sort_by(|a, b| (&a.region, &a.relay_id).cmp(&(&b.region, &b.relay_id)));
        let body = object(|json| {
            json.key("relays").array(|json| entries.iter().for_each(|entry| entry.write(json)));
        });
        ok(body)
    }
}
