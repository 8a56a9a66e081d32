//! The list of relays, our own among them.

use super::{Api, Call, Handling, bodies, ok};
use crate::control::refusal::Refusal;
use crate::control::relays::unembedded;
use crate::control::standing::Actor;
use crate::owners::Prefix;
use crate::wire::datetime::Naive;
use crate::wire::json::{JsonWriter, object};

/// A relay as the wire has it: the stock keys, and `public_key` and `load`.
struct RelayEntry<'a> {
    relay_id: &'a str,
    public_ip: String,
    port: u16,
    region: &'a str,
    capacity: u32,
    registered_at: String,
    public_key: Option<String>,
    load: u32,
}

impl RelayEntry<'_> {
    fn write(&self, json: &mut JsonWriter) {
        json.object(|json| {
            json.key("relay_id").string(self.relay_id);
            json.key("public_ip").string(&self.public_ip);
            json.key("port").int(self.port);
            json.key("region").string(self.region);
            json.key("capacity").int(self.capacity);
            json.key("registered_at").string(&self.registered_at);
            json.key("public_key").or_null(self.public_key.as_deref(), |json, key| json.string(key));
            json.key("load").int(self.load);
        });
    }
}

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
        let mut entries = vec![RelayEntry {
            relay_id: own.relay_id.as_str(),
            public_ip,
            port,
            region: &own.region,
            capacity: own.capacity,
            registered_at: Naive(self.registered_at(call.now)).to_string(),
            public_key: Some(self.control.hub().encode()),
            load: call.around.relay.map_or(0, |relay| relay.load()),
        }];
        entries.extend(self.control.relays().iter().map(|relay| RelayEntry {
            relay_id: relay.info.relay_id.as_str(),
            public_ip: relay.info.public_ip.to_string(),
            port: relay.info.port,
            region: &relay.info.region,
            capacity: relay.info.capacity,
            registered_at: Naive(relay.registered_at).to_string(),
            public_key: relay.info.public_key.clone(),
            load: relay.info.load,
        }));
        entries.retain(|entry| region.is_none_or(|region| region == entry.region));
        entries.sort_by(|a, b| (a.region, a.relay_id).cmp(&(b.region, b.relay_id)));
        let body = object(|json| {
            json.key("relays").array(|json| entries.iter().for_each(|entry| entry.write(json)));
        });
        ok(body)
    }
}
