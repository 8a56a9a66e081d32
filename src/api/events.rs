//! What has happened lately, for people to read: in memory, and only so much.

use crate::control::Control;
use crate::control::change::{Change, Departure};
use crate::ids::PartyId;
use crate::time::UnixTime;
use crate::wire::http::Source;
use crate::wire::json::JsonWriter;
use std::collections::VecDeque;
use std::net::IpAddr;

/// How many are kept.
const KEPT: usize = 200;

/// One thing that happened.
struct Event {
    number: u64,
    at: UnixTime,
    kind: &'static str,
    party: Option<(PartyId, String)>,
    peer: Option<(String, String)>,
    invite: Option<String>,
    /// By which address this machine goes to the internet now, if it is about that; `None` for none.
    way_out: Option<Option<IpAddr>>,
    /// Who did it, if it is about that.
    from: Option<Source>,
    text: String,
}

/// The last of them, by number from 1.
#[derive(Default)]
pub struct EventLog {
    kept: VecDeque<Event>,
    last: u64,
}

impl EventLog {
    /// The number of the last one.
    pub fn last(&self) -> u64 {
        self.last
    }

    fn add(&mut self, event: Event) {
        self.last += 1;
        if self.kept.len() >= KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(Event { number: self.last, ..event });
    }

    /// Takes in a change, if it is one that people care for.
    pub fn note(&mut self, control: &Control, change: &Change, at: UnixTime) {
        let named = |id: &PartyId| control.party(id.as_str()).ok().map(|party| party.name.clone());
        let of = |kind, id: &PartyId, name: Option<String>, text: String| Event {
            number: 0,
            at,
            kind,
            party: Some((id.clone(), name.unwrap_or_default())),
            peer: None,
            invite: None,
            way_out: None,
            from: None,
            text,
        };
        let event = match change {
            Change::PartyCreated(id) => {
                let name = named(id).unwrap_or_default();
                let text = format!("{name} was made");
                of("party_created", id, Some(name), text)
            }
            Change::PartyDeleted { party, name, .. } => {
                of("party_ended", party, Some(name.clone()), format!("{name} has ended"))
            }
            Change::MemberJoined(id, peer) => {
                let Some(member) = control.party(id.as_str()).ok().and_then(|party| party.members.get(peer))
                else {
                    return;
                };
                let (name, party) = (member.info.name.to_string(), named(id));
                let (kind, verb) = if member.device().is_some() {
                    ("device_added", "was added to")
                } else {
                    ("joined", "joined")
                };
                let text = format!("{name} {verb} {}", party.as_deref().unwrap_or_default());
                Event { peer: Some((peer.to_string(), name)), ..of(kind, id, party, text) }
            }
            // The end of the party says it all.
            Change::MemberLeft { why: Departure::PartyDeleted, .. } => return,
            Change::MemberLeft { party: id, who, name, is_device, why, .. } => {
                let kind = match why {
                    Departure::Banned => "banned",
                    _ if *is_device => "device_removed",
                    Departure::Kicked => "kicked",
                    _ => "left",
                };
                let party = named(id);
                let text = match &party {
                    Some(party) => format!("{name} left {party}: {why}"),
                    None => format!("{name} left: {why}"),
                };
                Event { peer: Some((who.peer.to_string(), name.to_string())), ..of(kind, id, party, text) }
            }
            Change::InviteUsed(id, peer, invite) => {
                let party = control.party(id.as_str()).ok();
                let member = party.and_then(|party| party.members.get(peer));
                let name = member.map(|member| member.info.name.to_string()).unwrap_or_default();
                let text = format!("{name} came by invite {invite}");
                Event {
                    peer: Some((peer.to_string(), name)),
                    invite: Some(invite.to_string()),
                    ..of("invite_used", id, named(id), text)
                }
            }
            Change::WentStraight(id, peer) => {
                let member = control.party(id.as_str()).ok().and_then(|party| party.members.get(peer));
                let name = member.map(|member| member.info.name.to_string()).unwrap_or_default();
                let text = format!("{name} is connected directly for the first time");
                Event { peer: Some((peer.to_string(), name)), ..of("first_direct", id, named(id), text) }
            }
            _ => return,
        };
        self.add(event);
    }

    /// Takes in that a device has come up that was away.
    pub fn note_online(&mut self, party: (PartyId, String), peer: (String, String), at: UnixTime) {
        let text = format!("{} is online", peer.1);
        self.add(Event {
            number: 0,
            at,
            kind: "online",
            party: Some(party),
            peer: Some(peer),
            invite: None,
            way_out: None,
            from: None,
            text,
        });
    }

    /// Takes in that somebody was given a backup.
    pub fn note_backup(&mut self, from: Source, at: UnixTime) {
        let text = format!("A backup, with the hub's private key, was given to {from}");
        let (number, kind, party, peer, invite, way_out) = (0, "backup", None, None, None, None);
        self.add(Event { number, at, kind, party, peer, invite, way_out, from: Some(from), text });
    }

    /// Takes in that this machine goes to the internet by another address, or not at all.
    pub fn note_way_out(&mut self, address: Option<IpAddr>, at: UnixTime) {
        let text = match address {
            Some(address) => format!("This machine goes to the internet by another address now: {address}"),
            None => "This machine has no way to the internet".to_owned(),
        };
        let (number, kind, party, peer, invite) = (0, "relay_trouble", None, None, None);
        self.add(Event { number, at, kind, party, peer, invite, way_out: Some(address), from: None, text });
    }

    /// Writes those after a number.
    pub fn write(&self, json: &mut JsonWriter, after: u64) {
        json.array(|json| {
            for event in self.kept.iter().filter(|event| event.number > after) {
                json.object(|json| {
                    json.key("number").int(event.number);
                    json.key("at").int(event.at.as_secs());
                    json.key("kind").string(event.kind);
                    if let Some((id, name)) = &event.party {
                        json.key("party_id").string(id.as_str());
                        json.key("party").string(name);
                    }
                    if let Some((id, name)) = &event.peer {
                        json.key("peer_id").string(id);
                        json.key("name").string(name);
                    }
                    if let Some(invite) = &event.invite {
                        json.key("invite_id").string(invite);
                    }
                    if let Some(address) = event.way_out {
                        json.key("address").or_null(address, |json, ip| json.string(&ip.to_string()));
                    }
                    if let Some(from) = event.from {
                        json.key("from").string(&from.to_string());
                    }
                    json.key("text").string(&event.text);
                });
            }
        });
    }
}
