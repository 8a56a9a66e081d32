//! What the session asks the control server for.

use super::{PartyGoal, PartySession, SessionSettings};
use crate::ids::PeerId;
use crate::time::Now;
use crate::wire::control::PeerBody;
use crate::wire::json::object;
use crate::wire::percent;
use std::time::Duration;

/// A request to the control server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ApiRequest {
    /// GET, POST or DELETE.
    pub method: &'static str,
    /// The path, with its query.
    pub path: String,
    /// The token, if there is one.
    pub token: Option<String>,
    /// The body: JSON or nothing.
    pub body: String,
}

/// What came back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ApiReply {
    /// The status.
    pub status: u16,
    /// When to ask again, if it said so.
    pub retry_after: Option<Duration>,
    /// The body.
    pub body: Vec<u8>,
}

/// What is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Asked {
    /// A token.
    Register,
    /// A nonce, to prove our key over.
    Nonce,
    /// To join the party, or make it.
    Enter,
    /// To let in only who knows the password.
    Protect,
    /// The party.
    Read,
    /// The relays.
    Relays,
    /// A sign of life.
    Heartbeat,
    /// To carry a signal.
    Signal,
    /// Signals that wait.
    TakeSignals,
    /// To leave the party.
    Leave,
}

impl PartySession {
    /// The request for it.
    pub(super) fn request(&self, asked: &Asked, now: Now) -> ApiRequest {
        let (party, peer) = (percent::encode(self.party()), percent::encode(self.settings.peer_id.as_str()));
        let (method, path, body) = match asked {
            Asked::Register => {
                let body = self.proof.as_ref().map_or_else(String::new, |proof| {
                    object(|json| {
                        json.key("nonce").string(&proof.0);
                        json.key("proof").string(&proof.1);
                    })
                });
                ("POST", format!("/auth/register?peer_id={peer}"), body)
            }
            Asked::Nonce => ("GET", format!("/auth/nonce?peer_id={peer}"), String::new()),
            Asked::Enter => {
                let path = match &self.settings.goal {
                    PartyGoal::Join(_) => format!("/parties/{party}/join"),
                    PartyGoal::Host(_) => "/parties".to_owned(),
                };
                ("POST", path, self.enter_body(now))
            }
            Asked::Protect => {
                let password = self.settings.password.as_deref().unwrap_or_default();
                let body = object(|json| json.key("password").string(password));
                ("POST", format!("/parties/{party}/settings"), body)
            }
            Asked::Read => ("GET", format!("/parties/{party}"), String::new()),
            Asked::Relays => ("GET", format!("/relays?party={party}"), String::new()),
            Asked::Heartbeat => {
                let path = format!("/parties/{party}/peers/{peer}/heartbeat?straight={}", self.straight);
                ("POST", path, String::new())
            }
            Asked::Signal => {
                let body = self.outgoing.front().map(|signal| self.signal_body(signal, false));
                ("POST", format!("/parties/{party}/signals"), body.unwrap_or_default())
            }
            Asked::TakeSignals => ("GET", format!("/parties/{party}/peers/{peer}/signals"), String::new()),
            Asked::Leave => ("DELETE", format!("/parties/{party}/peers/{peer}"), String::new()),
        };
        ApiRequest { method, path, token: self.settings.token.clone(), body }
    }

    fn enter_body(&self, now: Now) -> String {
        let SessionSettings { goal, peer_id, name, key, password, .. } = &self.settings;
        let peer = PeerBody::new(peer_id.clone(), name, key.public_key().encode(), now.unix);
        object(|json| {
            match goal {
                PartyGoal::Join(party) => {
                    json.key("party_id").string(party.as_str());
                    peer.write(json.key("peer_info"));
                    if let Some(password) = password {
                        json.key("password").string(password);
                    }
                }
                PartyGoal::Host(name) => {
                    json.key("name").string(name);
                    peer.write(json.key("host_peer_info"));
                }
            }
            if let Some((nonce, proof)) = &self.proof {
                json.key("nonce").string(nonce);
                json.key("proof").string(proof);
            }
        })
    }

    /// A signal as a body, or as a message over the WebSocket.
    pub(super) fn signal_body(&self, (to, data): &(PeerId, String), is_message: bool) -> String {
        object(|json| {
            if is_message {
                json.key("type").string("signal");
                json.key("party_id").string(self.party());
            }
            json.key("to_peer_id").string(to.as_str());
            json.key("signal_data").raw(data);
        })
    }
}
