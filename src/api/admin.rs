//! What the owner of the daemon is told.

use super::metrics::{self, Surroundings};
use super::{Api, Call, Failure};
use crate::wire::http::Answer;
use crate::wire::json::object;

impl Api {
    /// Figures tell no secrets: whoever is on this machine may see them.
    fn require_local(&mut self, call: &Call<'_>) -> Result<(), Failure> {
        if !self.admission.is_local(call.source) {
            self.require_admin(call)?;
        }
        Ok(())
    }

    pub(super) fn metrics(&mut self, call: &Call<'_>, around: &Surroundings) -> Result<Answer, Failure> {
        self.require_local(call)?;
        let text = metrics::text(&self.counters, self.sizes(), around);
        Ok(Answer {
            status: 200,
            content_type: "text/plain; version=0.0.4; charset=utf-8",
            headers: Vec::new(),
            body: text.into_bytes(),
        })
    }

    pub(super) fn status(&mut self, call: &Call<'_>, around: &Surroundings) -> Result<Answer, Failure> {
        self.require_local(call)?;
        let sizes = self.sizes();
        let relay = &self.settings.relay;
        let body = object(|json| {
            json.key("version").string(env!("CARGO_PKG_VERSION"));
            json.key("uptime_seconds").int(around.uptime.as_secs());
            json.key("parties").int(sizes.parties as u64);
            json.key("peers").int(sizes.peers as u64);
            json.key("relays").int(sizes.relays as u64);
            json.key("tokens").int(sizes.tokens as u64);
            json.key("websocket_sessions").int(sizes.sessions as u64);
            json.key("subnet").string(&self.control.settings().subnet.to_string());
            json.key("relay").object(|json| {
                json.key("relay_id").string(relay.relay_id.as_str());
                json.key("port").int(relay.port);
                json.key("region").string(&relay.region);
                json.key("public_key").string(&self.control.hub().encode());
            });
            json.key("store").object(|json| {
                json.key("status").string(around.store_failure.map_or("ok", |failure| failure.detail()));
                json.key("commits").int(around.commits);
                json.key("errors").int(around.store_errors);
                json.key("bytes").int(around.store_bytes);
            });
        });
        Ok(Answer::json(200, body))
    }
}
