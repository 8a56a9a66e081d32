//! Members with nothing but a WireGuard app: the file that such an app takes, and what becomes of it.

use super::access::bearer;
use super::fields::{ObjectFields, Problems, Text};
use super::ownership::date;
use super::{Api, Call, Handling, RequestFailure, bodies, ok, render};
use crate::control::entry::DeviceWish;
use crate::control::expiry::Expiry;
use crate::control::party::{Member, Party};
use crate::control::refusal::Refusal;
use crate::control::standing::Actor;
use crate::ids::PeerId;
use crate::time::{Instant, UnixTime};
use crate::wire::endpoint;
use crate::wire::json::{JsonWriter, object};
use std::time::Duration;

/// Longest stay of a device that is to leave, in seconds.
const LONGEST_STAY: i64 = 10 * 366 * 24 * 3600;
/// How often an app says that it is there, so that its NAT and the relay do not forget it.
const KEEPALIVE: u8 = 25;
/// What goes through the tunnel besides the virtual LAN: how games find each other.
const BROADCASTS: [&str; 2] = ["255.255.255.255/32", "224.0.0.0/4"];
/// WireGuard makes a new session every two minutes; whose last one is older than this is gone.
const SESSION: Duration = Duration::from_secs(140);
/// Who says so itself gives a sign of life every 30 s, or every 90 s by an open WebSocket.
const SIGN: Duration = Duration::from_secs(100);

/// What an app has to know, besides its private key.
pub struct TunnelFile {
    address: String,
    hub: String,
    endpoint: String,
    allowed: [String; 3],
}

impl TunnelFile {
    /// As a file for the app. The app, or the page that has it, puts the private key in, which nobody here ever sees.
    pub fn text(&self) -> String {
        let TunnelFile { address, hub, endpoint, allowed } = self;
        format!(
            "[Interface]\nAddress = {address}\n\n[Peer]\nPublicKey = {hub}\nAllowedIPs = {}\nEndpoint = {endpoint}\n\
             PersistentKeepalive = {KEEPALIVE}\n",
            allowed.join(", ")
        )
    }
}

impl Api {
    /// What the app of a member has to know.
    pub(super) fn tunnel(&self, party: &Party, member: &Member, call: &Call<'_>) -> TunnelFile {
        let subnet = self.control.settings().subnet;
        let ((host, port), hub) = self.relay_of(party, call.request.local);
        TunnelFile {
            address: format!("{}/{}", member.virtual_ip, subnet.prefix()),
            hub: hub.encode(),
            endpoint: endpoint::text(&host, port),
            allowed: [subnet.to_string(), BROADCASTS[0].to_owned(), BROADCASTS[1].to_owned()],
        }
    }

    /// When the last session of a member came up, at a relay.
    pub(super) fn handshake_of(&self, member: &Member, call: &Call<'_>) -> Option<Instant> {
        let here = || call.around.relay?.member(&member.relay_key()?)?.0.last_handshake;
        here().max(member.device().and_then(|device| device.handshake))
    }

    /// The same by the wall clock.
    pub(super) fn handshake_date(&self, member: &Member, call: &Call<'_>) -> Option<UnixTime> {
        let age = call.now.instant.since(self.handshake_of(member, call)?);
        Some(call.now.unix.shifted(-i64::try_from(age.as_micros()).unwrap_or(i64::MAX)))
    }

    /// Whether a member is there now.
    pub(super) fn is_online(&self, member: &Member, call: &Call<'_>) -> bool {
        let is_recent = |at: Instant, span| call.now.instant.since(at) < span;
        member.device().is_none() && is_recent(member.heard, SIGN)
            || self.handshake_of(member, call).is_some_and(|at| is_recent(at, SESSION))
    }

    pub(super) fn add_device(&mut self, call: &Call<'_>) -> Handling {
        let actor = call.actor()?;
        let mut problems = Problems::default();
        let body = ObjectFields::of_body(call.body.as_ref(), &mut problems);
        let name = body.text("name", Text::NAME, &mut problems);
        let key = bodies::wireguard_key(&body, &mut problems);
        let stay = body.optional_number("expires_in", 1, LONGEST_STAY, &mut problems);
        let (Some(name), Some(key)) = (name, key) else { return Err(RequestFailure::Invalid(problems)) };
        problems.check()?;
        let wish = DeviceWish {
            name,
            key,
            expires: stay.map(|stay| Expiry::after(Duration::from_secs(stay.unsigned_abs()), call.now)),
            origin: if *actor == Actor::Admin { None } else { call.client.source.address() },
        };
        let id = &call.parameters[0];
        let peer = self.control.add_device(actor, id, &wish, call.now)?;
        self.device_answer(self.control.party(id)?, &peer, call, |_| ())
    }

    /// A device, and what its app has to know.
    pub(super) fn device_answer(
        &self,
        party: &Party,
        peer: &PeerId,
        call: &Call<'_>,
        more: impl FnOnce(&mut JsonWriter),
    ) -> Handling {
        let member = party.members.get(peer).ok_or_else(|| Refusal::PeerNotFound(peer.to_string()))?;
        let tunnel = self.tunnel(party, member, call);
        ok(object(|json| {
            json.key("peer_id").string(peer.as_str());
            json.key("name").string(&member.info.name);
            json.key("virtual_ip").string(&member.virtual_ip.to_string());
            more(json);
            json.key("config").object(|json| {
                json.key("address").string(&tunnel.address);
                json.key("peer").object(|json| {
                    json.key("public_key").string(&tunnel.hub);
                    json.key("endpoint").string(&tunnel.endpoint);
                    json.key("allowed_ips")
                        .array(|json| tunnel.allowed.iter().for_each(|net| json.string(net)));
                    json.key("persistent_keepalive").int(KEEPALIVE);
                });
            });
            json.key("text").string(&tunnel.text());
            render::warnings(json, &self.control, member);
        }))
    }

    pub(super) fn list_devices(&mut self, call: &Call<'_>) -> Handling {
        let party = self.control.owned_party(call.actor()?, &call.parameters[0])?;
        ok(object(|json| {
            json.key("devices").array(|json| {
                for (member, device) in party.devices() {
                    json.object(|json| {
                        json.key("peer_id").string(member.info.peer_id.as_str());
                        json.key("name").string(&member.info.name);
                        json.key("public_key").string(&member.info.public_key);
                        json.key("virtual_ip").string(&member.virtual_ip.to_string());
                        date(json.key("expires_at"), device.expires.map(|end| end.date(call.now)));
                        date(json.key("last_handshake"), self.handshake_date(member, call));
                    });
                }
            });
        }))
    }

    pub(super) fn remove_device(&mut self, call: &Call<'_>) -> Handling {
        let [party, peer] = &call.parameters;
        self.control.remove_device(call.actor()?, party, peer)?;
        ok(r#"{"status":"removed"}"#)
    }

    /// What a device may know, for who has its token.
    pub(super) fn read_own_device(&mut self, call: &Call<'_>) -> Handling {
        let header = call.request.authorization.as_deref().ok_or(Refusal::TokenMissing)?;
        let token = bearer(header).ok_or(Refusal::AuthorizationMalformed)?;
        let (party, own) = self.control.device_of(token)?;
        ok(object(|json| {
            json.key("peer_id").string(own.info.peer_id.as_str());
            json.key("name").string(&own.info.name);
            json.key("party").string(&party.name);
            json.key("virtual_ip").string(&own.virtual_ip.to_string());
            date(json.key("last_handshake"), self.handshake_date(own, call));
            json.key("is_online").bool(self.is_online(own, call));
            json.key("members").array(|json| {
                for member in party.members.values() {
                    json.object(|json| {
                        json.key("name").string(&member.info.name);
                        json.key("virtual_ip").string(&member.virtual_ip.to_string());
                        json.key("is_online").bool(self.is_online(member, call));
                    });
                }
            });
        }))
    }
}
