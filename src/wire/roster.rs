//! What a control server and a relay in another place say to each other, within a sealed channel. A relay is told of parties
//! and members by names that mean nothing elsewhere: with a party's own id, whoever knows it could join.

use crate::crypto::channel::NONCE_LENGTH;
use crate::crypto::hex;
use crate::crypto::x25519::PublicKey;
use crate::ids::{PartyId, PeerId, RelayId};
use crate::subnet::Subnet;
use crate::wire::json::{self, JsonWriter, Value, object};
use std::net::{IpAddr, Ipv4Addr};

/// The first characters of a relay's key that are enough to approve it: 72 bits, so nobody finds another key that begins so.
pub const KEY_PREFIX: usize = 12;

/// The id of the relay with this key.
pub fn relay_id(key: &PublicKey) -> RelayId {
    let short = hex::encode(&key.as_bytes()[..4]);
    RelayId::new(&format!("lanrage-{short}")).expect("hexadecimal digits fit an id")
}

/// Whether a relay may stand at a place called so.
pub fn is_region(text: &str) -> bool {
    (1..=64).contains(&text.chars().count()) && !text.chars().any(char::is_control)
}

/// The first that either says: which key it has, and what the channel's keys are made with.
pub fn hello(key: &PublicKey, nonce: &[u8; NONCE_LENGTH]) -> String {
    object(|json| {
        json.key("type").string("relay_hello");
        json.key("public_key").string(&key.encode());
        json.key("nonce").string(&hex::encode(nonce));
    })
}

/// Everything after that.
pub fn sealed(text: &str) -> String {
    object(|json| {
        json.key("type").string("relay");
        json.key("sealed").string(text);
    })
}

/// What a relay does for a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RosterPlace {
    /// All that it can.
    Served {
        /// Its address in the virtual LAN.
        ip: Ipv4Addr,
        /// From where it speaks to the control server.
        origin: Option<IpAddr>,
    },
    /// It completes handshakes with the key that come from there, and reports them.
    Claimed {
        /// From where it speaks to the control server.
        from: IpAddr,
    },
}

/// A member, for a relay.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RosterEntry {
    /// Names it within its party.
    pub peer: PeerId,
    /// Its key.
    pub key: PublicKey,
    /// What is done for it.
    pub place: RosterPlace,
}

/// All that a relay has to know of a party as it is now; without members it is gone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartyRoster {
    /// Names it.
    pub party: PartyId,
    /// Its members.
    pub members: Vec<RosterEntry>,
}

/// What a relay is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RosterMessage {
    /// The owner has not approved it, or not any more.
    Pending,
    /// It is approved, and is told of parties from here on.
    Approved {
        /// The virtual LAN.
        subnet: Subnet,
        /// Names what it will have been told.
        feed: String,
        /// Whether that goes on where it ended; else it is told everything anew.
        resumes: bool,
    },
    /// Its news were heard: the server is there.
    Heard,
    /// Parties as they are now.
    Page {
        /// Its number, to be acknowledged.
        number: u64,
        /// The parties.
        parties: Vec<PartyRoster>,
        /// Whether the relay knows everything with this one.
        is_whole: bool,
    },
}

/// What a relay says of itself when it comes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RelayIntroduction {
    /// Where it is reached, if that is not where it speaks from.
    pub ip: Option<IpAddr>,
    /// Its UDP port.
    pub port: u16,
    /// Where it stands.
    pub region: String,
    /// How many clients it says it takes.
    pub capacity: u32,
    /// How many members it can be told of.
    pub room: u32,
    /// What it has been told already.
    pub feed: Option<String>,
}

/// What a relay says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RelayReport {
    /// Who it is.
    Introduction(RelayIntroduction),
    /// It has taken in the page with this number.
    Taken(u64),
    /// How it is doing.
    News {
        /// How many members it reaches.
        load: u32,
        /// Handshakes that its hub has completed: with which key, from where.
        handshakes: Vec<(PublicKey, IpAddr)>,
    },
}

/// Why something can't be used.
type Fault = &'static str;

fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name)?.as_str()
}

fn parsed<T: std::str::FromStr>(value: &Value, name: &str) -> Option<T> {
    match value.get(name)? {
        Value::String(text) => text.parse().ok(),
        Value::Number(text) => text.parse().ok(),
        _ => None,
    }
}

fn is_true(value: &Value, name: &str) -> bool {
    value.get(name) == Some(&Value::Bool(true))
}

fn items<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    match value.get(name) {
        Some(Value::Array(items)) => items,
        _ => &[],
    }
}

impl PartyRoster {
    /// Writes it.
    pub fn write(&self, json: &mut JsonWriter) {
        json.object(|json| {
            json.key("party").string(self.party.as_str());
            json.key("members").array(|json| self.members.iter().for_each(|member| member.write(json)));
        });
    }

    fn read(value: &Value) -> Option<Self> {
        let members = items(value, "members").iter().map(RosterEntry::read);
        Some(PartyRoster {
            party: PartyId::new(text(value, "party")?)?,
            members: members.collect::<Option<_>>()?,
        })
    }

    /// Those of a list.
    pub fn read_all(value: &Value, name: &str) -> Option<Vec<Self>> {
        items(value, name).iter().map(Self::read).collect()
    }
}

impl RosterEntry {
    fn write(&self, json: &mut JsonWriter) {
        json.object(|json| {
            json.key("peer").string(self.peer.as_str());
            json.key("key").string(&self.key.encode());
            let from = match self.place {
                RosterPlace::Served { ip, origin } => {
                    json.key("ip").string(&ip.to_string());
                    origin
                }
                RosterPlace::Claimed { from } => Some(from),
            };
            if let Some(from) = from {
                json.key("from").string(&from.to_string());
            }
        });
    }

    fn read(value: &Value) -> Option<Self> {
        let from = parsed(value, "from");
        let place = match parsed(value, "ip") {
            Some(ip) => RosterPlace::Served { ip, origin: from },
            None => RosterPlace::Claimed { from: from? },
        };
        let peer = PeerId::new(text(value, "peer")?)?;
        Some(RosterEntry { peer, key: PublicKey::decode(text(value, "key")?)?, place })
    }
}

impl RosterMessage {
    /// Writes it.
    pub fn text(&self) -> String {
        object(|json| match self {
            RosterMessage::Pending => json.key("state").string("pending"),
            RosterMessage::Heard => json.key("state").string("heard"),
            RosterMessage::Approved { subnet, feed, resumes } => {
                json.key("state").string("approved");
                json.key("subnet").string(&subnet.to_string());
                json.key("feed").string(feed);
                json.key("resumes").bool(*resumes);
            }
            RosterMessage::Page { number, parties, is_whole } => {
                json.key("number").int(*number);
                json.key("parties").array(|json| parties.iter().for_each(|party| party.write(json)));
                json.key("whole").bool(*is_whole);
            }
        })
    }

    /// Reads one.
    pub fn read(message: &str) -> Result<Self, Fault> {
        let value = json::parse(message.as_bytes()).map_err(|error| error.reason)?;
        match text(&value, "state") {
            Some("pending") => Ok(RosterMessage::Pending),
            Some("heard") => Ok(RosterMessage::Heard),
            Some("approved") => {
                let subnet = text(&value, "subnet").and_then(Subnet::parse).ok_or("there is no subnet")?;
                let feed = text(&value, "feed").ok_or("there is no feed")?.to_owned();
                Ok(RosterMessage::Approved { subnet, feed, resumes: is_true(&value, "resumes") })
            }
            Some(_) => Err("it speaks of a state that is not known here"),
            None => Ok(RosterMessage::Page {
                number: parsed(&value, "number").ok_or("it has no number")?,
                parties: PartyRoster::read_all(&value, "parties").ok_or("a party is malformed")?,
                is_whole: is_true(&value, "whole"),
            }),
        }
    }
}

impl RelayReport {
    /// Writes it.
    pub fn text(&self) -> String {
        object(|json| match self {
            RelayReport::Introduction(RelayIntroduction { ip, port, region, capacity, room, feed }) => {
                if let Some(ip) = ip {
                    json.key("ip").string(&ip.to_string());
                }
                json.key("port").int(*port);
                json.key("region").string(region);
                json.key("capacity").int(*capacity);
                json.key("room").int(*room);
                if let Some(feed) = feed {
                    json.key("feed").string(feed);
                }
            }
            RelayReport::Taken(number) => json.key("taken").int(*number),
            RelayReport::News { load, handshakes } => {
                json.key("load").int(*load);
                json.key("handshakes").array(|json| {
                    for (key, from) in handshakes {
                        json.array(|json| {
                            json.string(&key.encode());
                            json.string(&from.to_string());
                        });
                    }
                });
            }
        })
    }

    /// Reads one.
    pub fn read(message: &str) -> Result<Self, Fault> {
        let value = json::parse(message.as_bytes()).map_err(|error| error.reason)?;
        if let Some(number) = parsed(&value, "taken") {
            return Ok(RelayReport::Taken(number));
        }
        if let Some(load) = parsed(&value, "load") {
            let read = |pair: &Value| match pair {
                Value::Array(pair) => {
                    let [key, from] = &pair[..] else { return None };
                    Some((PublicKey::decode(key.as_str()?)?, from.as_str()?.parse().ok()?))
                }
                _ => None,
            };
            let handshakes = items(&value, "handshakes").iter().map(read).collect::<Option<_>>();
            return Ok(RelayReport::News { load, handshakes: handshakes.ok_or("a handshake is malformed")? });
        }
        let region = text(&value, "region").ok_or("it says neither who it is nor how it is doing")?;
        Ok(RelayReport::Introduction(RelayIntroduction {
            ip: parsed(&value, "ip"),
            port: parsed(&value, "port").filter(|port| *port != 0).ok_or("it has no port")?,
            region: is_region(region).then(|| region.to_owned()).ok_or("its region is none")?,
            capacity: parsed(&value, "capacity").unwrap_or(0),
            room: parsed(&value, "room").unwrap_or(0),
            feed: text(&value, "feed").map(str::to_owned),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::x25519::PrivateKey;

    #[test]
    fn what_one_side_writes_the_other_reads() {
        let key = PrivateKey::generate().public_key();
        let entry = |peer: &str, place| RosterEntry { peer: PeerId::new(peer).unwrap(), key, place };
        let (ip, from) = ([10, 66, 0, 2].into(), "2001:db8::7".parse().unwrap());
        let members = vec![
            entry("a", RosterPlace::Served { ip, origin: None }),
            entry("b", RosterPlace::Served { ip, origin: Some(from) }),
            entry("c", RosterPlace::Claimed { from }),
        ];
        let party = |members| PartyRoster { party: PartyId::new("p").unwrap(), members };
        for message in [
            RosterMessage::Pending,
            RosterMessage::Heard,
            RosterMessage::Approved { subnet: Subnet::DEFAULT, feed: "f".into(), resumes: true },
            RosterMessage::Page {
                number: u64::MAX,
                parties: vec![party(members), party(Vec::new())],
                is_whole: true,
            },
        ] {
            assert_eq!(RosterMessage::read(&message.text()), Ok(message));
        }
        let introduction = RelayIntroduction {
            ip: Some(from),
            port: 51820,
            region: "Tokio \"1\"".into(),
            capacity: 7,
            room: 9,
            feed: None,
        };
        for report in [
            RelayReport::Introduction(introduction.clone()),
            RelayReport::Introduction(RelayIntroduction { ip: None, feed: Some("f".into()), ..introduction }),
            RelayReport::Taken(0),
            RelayReport::News { load: 0, handshakes: vec![(key, from)] },
        ] {
            assert_eq!(RelayReport::read(&report.text()), Ok(report));
        }
    }

    #[test]
    fn what_is_malformed_is_refused() {
        for bad in [
            "",
            "{}",
            "{\"state\":\"x\"}",
            "{\"state\":\"approved\"}",
            "{\"number\":-1}",
            "{\"number\":1,\"parties\":[{}]}",
            "{\"number\":1,\"parties\":[{\"party\":\"p\",\"members\":[{\"peer\":\"a\",\"key\":\"\",\"ip\":\"1.2.3.4\"}]}]}",
        ] {
            assert!(RosterMessage::read(bad).is_err(), "{bad}");
        }
        for bad in [
            "{}",
            "[]",
            "{\"region\":\"eu\"}",
            "{\"region\":\"eu\",\"port\":0}",
            "{\"region\":\"\",\"port\":1}",
            "{\"load\":1,\"handshakes\":[[]]}",
            "{\"load\":1,\"handshakes\":[[\"x\",\"1.2.3.4\"]]}",
        ] {
            assert!(RelayReport::read(bad).is_err(), "{bad}");
        }
    }
}
