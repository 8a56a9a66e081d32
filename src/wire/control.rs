//! Bodies of the control API (REFERENCE 1): which keys there are is said once, for the server that writes them and the
//! agent that reads them. The key sets are exact: a stock client dies of one key too many or too few.

use crate::crypto::x25519::PublicKey;
use crate::ids::{PartyId, PeerId};
use crate::subnet::Subnet;
use crate::time::UnixTime;
use crate::wire::datetime::{self, Naive};
use crate::wire::endpoint;
use crate::wire::json::{self, JsonWriter, Value, object};
use crate::wire::nat_type::NatType;
use std::borrow::Cow;
use std::net::Ipv4Addr;

/// What a peer says of an address that it does not know.
pub const UNKNOWN: &str = "unknown";
/// Most members of a party that are read, of a server that may be anybody's.
const MAX_MEMBERS: usize = 1024;
/// Most relays of a list that are read.
const MAX_RELAYS: usize = 256;
/// Longest name and key that are read, in bytes.
const MAX_TEXT: usize = 400;

/// A peer: 9 keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerBody<'a> {
    /// Its id.
    pub peer_id: PeerId,
    /// What people call it.
    pub name: Cow<'a, str>,
    /// Its public key, as it was sent.
    pub public_key: Cow<'a, str>,
    /// Its NAT.
    pub nat_type: NatType,
    /// Its address as seen from outside, or [`UNKNOWN`].
    pub public_ip: Cow<'a, str>,
    /// The port there, or 0.
    pub public_port: u16,
    /// Its address in its own network, or [`UNKNOWN`].
    pub local_ip: Cow<'a, str>,
    /// The port there, or 0.
    pub local_port: u16,
    /// When it was last heard of.
    pub last_seen: UnixTime,
}

impl<'a> PeerBody<'a> {
    /// One of which no address is known.
    pub fn new(peer_id: PeerId, name: &'a str, public_key: String, last_seen: UnixTime) -> Self {
        PeerBody {
            peer_id,
            name: name.into(),
            public_key: public_key.into(),
            nat_type: NatType::Unknown,
            public_ip: UNKNOWN.into(),
            public_port: 0,
            local_ip: UNKNOWN.into(),
            local_port: 0,
            last_seen,
        }
    }

    /// Writes it.
    pub fn write(&self, json: &mut JsonWriter) {
        json.object(|json| {
            json.key("peer_id").string(self.peer_id.as_str());
            json.key("name").string(&self.name);
            json.key("public_key").string(&self.public_key);
            json.key("nat_type").string(self.nat_type.as_str());
            json.key("public_ip").string(&self.public_ip);
            json.key("public_port").int(self.public_port);
            json.key("local_ip").string(&self.local_ip);
            json.key("local_port").int(self.local_port);
            json.key("last_seen").string(&Naive(self.last_seen).to_string());
        });
    }
}

/// A party without its peers: 4 of its 5 keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartyHead<'a> {
    /// Its id.
    pub party_id: PartyId,
    /// What people call it.
    pub name: Cow<'a, str>,
    /// The peer that owns it, or a word that is no peer's id.
    pub host_id: Cow<'a, str>,
    /// When it was made.
    pub created_at: UnixTime,
}

impl PartyHead<'_> {
    /// Writes it, with the peers by id that `peers` writes as members of an object.
    pub fn write(&self, json: &mut JsonWriter, peers: impl FnOnce(&mut JsonWriter)) {
        json.object(|json| {
            json.key("party_id").string(self.party_id.as_str());
            json.key("name").string(&self.name);
            json.key("host_id").string(&self.host_id);
            json.key("created_at").string(&Naive(self.created_at).to_string());
            json.key("peers").object(peers);
        });
    }
}

/// A party: 5 keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartyBody {
    /// All but its peers.
    pub head: PartyHead<'static>,
    /// Its peers.
    pub peers: Vec<PeerBody<'static>>,
}

impl PartyBody {
    /// Writes it.
    pub fn write(&self, json: &mut JsonWriter) {
        self.head.write(json, |json| {
            for peer in &self.peers {
                peer.write(json.key(peer.peer_id.as_str()));
            }
        });
    }
}

/// The addresses of a party's virtual LAN, beside it: `network`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NetworkBody {
    /// All addresses.
    pub subnet: Subnet,
    /// The reader's own, if it is a member.
    pub virtual_ip: Option<Ipv4Addr>,
    /// Those of the other members.
    pub peers: Vec<(PeerId, Ipv4Addr)>,
    /// Host and port of the relay.
    pub relay: (String, u16),
    /// The hub's public key.
    pub relay_key: PublicKey,
}

impl NetworkBody {
    /// Writes it.
    pub fn write(&self, json: &mut JsonWriter) {
        json.object(|json| {
            json.key("subnet").string(&self.subnet.to_string());
            if let Some(address) = self.virtual_ip {
                json.key("virtual_ip").string(&address.to_string());
            }
            json.key("peers").object(|json| {
                for (id, address) in &self.peers {
                    json.key(id.as_str()).string(&address.to_string());
                }
            });
            json.key("relay").object(|json| {
                json.key("endpoint").string(&endpoint::text(&self.relay.0, self.relay.1));
                json.key("public_key").string(&self.relay_key.encode());
            });
        });
    }
}

/// What is wrong with a body.
pub type BodyFault = &'static str;

/// The answer to who makes, joins or reads a party.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartyAnswer {
    /// The party.
    pub party: PartyBody,
    /// Its network; servers other than ours give none.
    pub network: Option<NetworkBody>,
    /// What the reader is warned of.
    pub warnings: Vec<String>,
}

impl PartyAnswer {
    /// Reads one.
    pub fn read(bytes: &[u8]) -> Result<Self, BodyFault> {
        let value = json::parse(bytes).map_err(|error| error.reason)?;
        Ok(PartyAnswer {
            party: read_party(value.get("party").ok_or("party is missing")?)?,
            network: value.get("network").map(read_network).transpose()?,
            warnings: match value.get("warnings") {
                Some(Value::Array(items)) => {
                    items.iter().filter_map(|item| Some(item.as_str()?.to_owned())).collect()
                }
                _ => Vec::new(),
            },
        })
    }

    /// Writes it, as it can be read again.
    pub fn text(&self) -> String {
        object(|json| {
            self.party.write(json.key("party"));
            if let Some(network) = &self.network {
                network.write(json.key("network"));
            }
        })
    }
}

/// A relay: the stock keys, and `public_key` and `load`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RelayBody<'a> {
    /// Its id.
    pub relay_id: Cow<'a, str>,
    /// Its address.
    pub public_ip: Cow<'a, str>,
    /// Its port.
    pub port: u16,
    /// Where it stands.
    pub region: Cow<'a, str>,
    /// How many clients it takes.
    pub capacity: u32,
    /// Since when it is known.
    pub registered_at: Cow<'a, str>,
    /// The key of its hub, if it has one.
    pub public_key: Option<Cow<'a, str>>,
    /// How many clients it has.
    pub load: u32,
    /// Whether it serves the party that was asked about, if one was.
    pub serves: Option<bool>,
}

impl RelayBody<'_> {
    /// Writes it.
    pub fn write(&self, json: &mut JsonWriter) {
        json.object(|json| {
            json.key("relay_id").string(&self.relay_id);
            json.key("public_ip").string(&self.public_ip);
            json.key("port").int(self.port);
            json.key("region").string(&self.region);
            json.key("capacity").int(self.capacity);
            json.key("registered_at").string(&self.registered_at);
            json.key("public_key").or_null(self.public_key.as_deref(), |json, key| json.string(key));
            json.key("load").int(self.load);
            if let Some(serves) = self.serves {
                json.key("serves").bool(serves);
            }
        });
    }
}

/// The relays in the answer to who asks for them. Those that are malformed are left out: anybody may have registered them.
pub fn read_relays(bytes: &[u8]) -> Result<Vec<RelayBody<'static>>, BodyFault> {
    let value = json::parse(bytes).map_err(|error| error.reason)?;
    let Some(Value::Array(items)) = value.get("relays") else { return Err("relays is missing") };
    Ok(items.iter().filter_map(|item| read_relay(item).ok()).take(MAX_RELAYS).collect())
}

fn read_relay(value: &Value) -> Result<RelayBody<'static>, BodyFault> {
    let number = |name: &str| match value.get(name) {
        Some(Value::Number(text)) => text.parse().unwrap_or(0),
        _ => 0,
    };
    Ok(RelayBody {
        relay_id: owned(value, "relay_id", "relay_id is missing")?,
        public_ip: owned(value, "public_ip", "public_ip is missing")?,
        port: port(value, "port")?,
        region: owned(value, "region", "region is missing").unwrap_or_default(),
        capacity: number("capacity"),
        registered_at: owned(value, "registered_at", "registered_at is missing").unwrap_or_default(),
        public_key: text(value, "public_key").map(|key| Cow::Owned(key.to_owned())),
        load: number("load"),
        serves: match value.get("serves") {
            Some(Value::Bool(serves)) => Some(*serves),
            _ => None,
        },
    })
}

/// The token in the answer to who registers.
pub fn read_token(bytes: &[u8]) -> Result<String, BodyFault> {
    let value = json::parse(bytes).map_err(|error| error.reason)?;
    let token = text(&value, "token").ok_or("token is missing")?;
    match token.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(token.to_owned()),
        false => Err("token is malformed"),
    }
}

/// A nonce and the hub's public key, in the answer to who wants to prove a key.
pub fn read_nonce(bytes: &[u8]) -> Result<(String, PublicKey), BodyFault> {
    let value = json::parse(bytes).map_err(|error| error.reason)?;
    let nonce = text(&value, "nonce").ok_or("nonce is missing")?;
    let key = text(&value, "public_key").and_then(PublicKey::decode).ok_or("public_key is malformed")?;
    Ok((nonce.to_owned(), key))
}

/// What an error says: its `detail`, a text or the first of a list.
pub fn read_detail(bytes: &[u8]) -> Option<String> {
    let value = json::parse(bytes).ok()?;
    match value.get("detail")? {
        Value::String(text) => Some(text.clone()),
        Value::Array(items) => Some(items.first()?.get("msg")?.as_str()?.to_owned()),
        _ => None,
    }
}

/// What one member tells another by way of the server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignalBody {
    /// In which party.
    pub party_id: PartyId,
    /// Who says it.
    pub from: PeerId,
    /// What: JSON.
    pub data: String,
}

/// What a server says over a WebSocket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ServerEvent {
    /// A party as it is now.
    PartyUpdate(PartyBody),
    /// Somebody is new in a party, or somebody's data are.
    PeerJoined(PartyId, PeerBody<'static>),
    /// Somebody has left a party.
    PeerLeft(PartyId, PeerId),
    /// A member says something.
    Signal(SignalBody),
    /// Something went wrong.
    Error(String),
    /// Something that means nothing to us.
    Other,
}

impl ServerEvent {
    /// Reads one.
    pub fn read(message: &str) -> Result<Self, BodyFault> {
        let value = json::parse(message.as_bytes()).map_err(|error| error.reason)?;
        let party = || party_id(&value, "party_id");
        Ok(match text(&value, "type").ok_or("type is missing")? {
            "party_update" => {
                ServerEvent::PartyUpdate(read_party(value.get("party").ok_or("party is missing")?)?)
            }
            "peer_joined" => {
                ServerEvent::PeerJoined(party()?, read_peer(value.get("peer").ok_or("peer is missing")?)?)
            }
            "peer_left" => ServerEvent::PeerLeft(party()?, peer_id(&value, "peer_id")?),
            "signal" => ServerEvent::Signal(read_signal(&value)?),
            "error" => ServerEvent::Error(text(&value, "message").unwrap_or_default().to_owned()),
            _ => ServerEvent::Other,
        })
    }
}

/// The signals in the answer to who takes them. Those that are malformed are left out.
pub fn read_signals(bytes: &[u8]) -> Result<Vec<SignalBody>, BodyFault> {
    let value = json::parse(bytes).map_err(|error| error.reason)?;
    match value.get("signals") {
        Some(Value::Array(items)) => Ok(items.iter().filter_map(|item| read_signal(item).ok()).collect()),
        _ => Err("signals is missing"),
    }
}

fn read_signal(value: &Value) -> Result<SignalBody, BodyFault> {
    let mut json = JsonWriter::default();
    json.value(value.get("signal_data").ok_or("signal_data is missing")?);
    Ok(SignalBody {
        party_id: party_id(value, "party_id")?,
        from: peer_id(value, "from_peer_id")?,
        data: json.finish(),
    })
}

fn text<'v>(value: &'v Value, name: &str) -> Option<&'v str> {
    value.get(name).and_then(Value::as_str).filter(|text| text.len() <= MAX_TEXT)
}

fn owned(value: &Value, name: &str, fault: BodyFault) -> Result<Cow<'static, str>, BodyFault> {
    text(value, name).map(|text| Cow::Owned(text.to_owned())).ok_or(fault)
}

fn peer_id(value: &Value, name: &str) -> Result<PeerId, BodyFault> {
    text(value, name).and_then(PeerId::new).ok_or("a peer's id is missing or malformed")
}

fn party_id(value: &Value, name: &str) -> Result<PartyId, BodyFault> {
    text(value, name).and_then(PartyId::new).ok_or("party_id is missing or malformed")
}

fn date(value: &Value, name: &str) -> Result<UnixTime, BodyFault> {
    text(value, name).and_then(datetime::parse).map(datetime::Read::as_utc).ok_or("a date is malformed")
}

fn port(value: &Value, name: &str) -> Result<u16, BodyFault> {
    match value.get(name) {
        Some(Value::Number(text)) => text.parse().map_err(|_| "a port is out of range"),
        _ => Err("a port is missing"),
    }
}

fn read_peer(value: &Value) -> Result<PeerBody<'static>, BodyFault> {
    Ok(PeerBody {
        peer_id: peer_id(value, "peer_id")?,
        name: owned(value, "name", "a peer's name is missing")?,
        public_key: owned(value, "public_key", "a peer's public_key is missing")?,
        nat_type: text(value, "nat_type").and_then(NatType::parse).ok_or("nat_type is malformed")?,
        public_ip: owned(value, "public_ip", "public_ip is missing")?,
        public_port: port(value, "public_port")?,
        local_ip: owned(value, "local_ip", "local_ip is missing")?,
        local_port: port(value, "local_port")?,
        last_seen: date(value, "last_seen")?,
    })
}

fn read_party(value: &Value) -> Result<PartyBody, BodyFault> {
    let Some(Value::Object(members)) = value.get("peers") else { return Err("peers is missing") };
    if members.len() > MAX_MEMBERS {
        return Err("there are more than 1024 peers");
    }
    let peers = members.iter().map(|(id, peer)| match read_peer(peer)? {
        peer if peer.peer_id.as_str() == id => Ok(peer),
        _ => Err("a peer has two ids"),
    });
    Ok(PartyBody {
        head: PartyHead {
            party_id: party_id(value, "party_id")?,
            name: owned(value, "name", "the party's name is missing")?,
            host_id: owned(value, "host_id", "the party's host_id is missing")?,
            created_at: date(value, "created_at")?,
        },
        peers: peers.collect::<Result<_, _>>()?,
    })
}

fn read_network(value: &Value) -> Result<NetworkBody, BodyFault> {
    let subnet = text(value, "subnet").and_then(Subnet::parse).ok_or("subnet is malformed")?;
    let address = |value: &Value| {
        let address = value.as_str().and_then(|text| text.parse().ok());
        address.filter(|address| subnet.is_peer_address(*address)).ok_or("a virtual address is malformed")
    };
    let Some(Value::Object(members)) = value.get("peers") else { return Err("network.peers is missing") };
    if members.len() > MAX_MEMBERS {
        return Err("there are more than 1024 peers");
    }
    let peers = members
        .iter()
        .map(|(id, ip)| Ok((PeerId::new(id).ok_or("a peer's id is malformed")?, address(ip)?)))
        .collect::<Result<_, BodyFault>>()?;
    let relay = value.get("relay").ok_or("relay is missing")?;
    Ok(NetworkBody {
        subnet,
        virtual_ip: value.get("virtual_ip").map(address).transpose()?,
        peers,
        relay: text(relay, "endpoint")
            .and_then(endpoint::parse)
            .ok_or("the relay's endpoint is malformed")?,
        relay_key: text(relay, "public_key")
            .and_then(PublicKey::decode)
            .ok_or("the relay's public_key is malformed")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> PartyAnswer {
        let key = PublicKey::decode("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
        let alice = PeerId::new("alice").unwrap();
        let now = UnixTime::from_micros(1_795_176_000_000_000);
        PartyAnswer {
            party: PartyBody {
                head: PartyHead {
                    party_id: PartyId::new("0123456789ab").unwrap(),
                    name: "LAN \"party\"".into(),
                    host_id: "_machine".into(),
                    created_at: now,
                },
                peers: vec![PeerBody::new(alice.clone(), "Alice", key.encode(), now)],
            },
            network: Some(NetworkBody {
                subnet: Subnet::DEFAULT,
                virtual_ip: Some(Ipv4Addr::new(10, 66, 0, 2)),
                peers: vec![(PeerId::new("bob").unwrap(), Ipv4Addr::new(10, 66, 0, 3))],
                relay: ("2001:db8::1".into(), 51820),
                relay_key: key,
            }),
            warnings: Vec::new(),
        }
    }

    #[test]
    fn what_is_written_reads_back_and_every_key_but_network_is_needed() {
        let text = answer().text();
        assert_eq!(PartyAnswer::read(text.as_bytes()), Ok(answer()));
        for key in ["party_id", "name", "host_id", "created_at", "peers", "peer_id", "public_key", "nat_type"]
            .into_iter()
            .chain(["public_ip", "public_port", "local_ip", "local_port", "last_seen", "subnet", "endpoint"])
        {
            let without = text.replacen(&format!("\"{key}\":"), "\"other\":", 1);
            assert!(PartyAnswer::read(without.as_bytes()).is_err(), "{key}");
        }
        let without = text.replace("\"network\":", "\"other\":");
        assert_eq!(PartyAnswer::read(without.as_bytes()).unwrap().network, None);
    }

    #[test]
    fn what_a_hostile_server_says_is_refused() {
        let text = answer().text();
        for (good, bad) in [
            ("\"alice\":{", "\"mallory\":{"),
            ("10.66.0.3", "10.66.0.1"),
            ("10.66.0.3", "192.168.0.1"),
            ("10.66.0.2", "10.66.255.255"),
            ("10.66.0.0/16", "0.0.0.0/0"),
            ("\"public_port\":0", "\"public_port\":65536"),
            ("\"peer_id\":\"alice\"", "\"peer_id\":\"../alice\""),
            ("[2001:db8::1]:51820", "[2001:db8::1]:0"),
            ("\"nat_type\":\"unknown\"", "\"nat_type\":\"nice\""),
        ] {
            assert!(text.contains(good), "{good}");
            assert!(PartyAnswer::read(text.replace(good, bad).as_bytes()).is_err(), "{bad}");
        }
        let long = text.replace("\"Alice\"", &format!("\"{}\"", "x".repeat(MAX_TEXT + 1)));
        assert!(PartyAnswer::read(long.as_bytes()).is_err());
        assert!(read_token(br#"{"token":"a\r\nHost: b"}"#).is_err());
    }

    /// As a stock server lists them, and as ours does; whatever else is in the list is left out.
    #[test]
    fn relays_are_read_as_any_server_lists_them() {
        let stock = r#"{"relay_id":"r1","public_ip":"192.0.2.9","port":51820,"region":"eu","capacity":100,"registered_at":"2026-01-01T00:00:00"}"#;
        let own = RelayBody {
            relay_id: "r2".into(),
            public_ip: "2001:db8::1".into(),
            port: 1,
            region: "us".into(),
            capacity: 7,
            registered_at: "2026-01-01T00:00:00".into(),
            public_key: Some("key".into()),
            load: 3,
            serves: Some(false),
        };
        let mut text = JsonWriter::default();
        own.write(&mut text);
        let text = text.finish();
        let bad = r#"{"relay_id":"r3","public_ip":"192.0.2.9","port":-999999},{},5,{"relay_id":7,"public_ip":"a","port":1}"#;
        let relays = read_relays(format!("{{\"relays\":[{stock},{bad},{text}]}}").as_bytes()).unwrap();
        let ids: Vec<_> = relays.iter().map(|relay| &*relay.relay_id).collect();
        assert_eq!(ids, ["r1", "r2"]);
        assert_eq!((relays[0].port, &relays[0].public_key, relays[0].load), (51820, &None, 0));
        assert_eq!(relays[1], own);
        for bad in ["{}", "[]", "{\"relays\":{}}", ""] {
            assert!(read_relays(bad.as_bytes()).is_err(), "{bad}");
        }
        let many = vec![stock; 1000].join(",");
        let relays = read_relays(format!("{{\"relays\":[{many}]}}").as_bytes()).unwrap();
        assert_eq!(relays.len(), MAX_RELAYS);
    }

    #[test]
    fn events_are_told_apart() {
        let read = |text: &str| ServerEvent::read(text).unwrap();
        let signal =
            r#"{"type":"signal","party_id":"p","from_peer_id":"a","to_peer_id":"b","signal_data":{"x":[1]}}"#;
        let ServerEvent::Signal(signal) = read(signal) else { panic!() };
        assert_eq!((signal.from.as_str(), &*signal.data), ("a", r#"{"x":[1]}"#));
        assert_eq!(read(r#"{"type":"error","message":"no"}"#), ServerEvent::Error("no".into()));
        assert_eq!(read(r#"{"type":"news"}"#), ServerEvent::Other);
        let left = read(r#"{"type":"peer_left","party_id":"p","peer_id":"a"}"#);
        assert_eq!(left, ServerEvent::PeerLeft(PartyId::new("p").unwrap(), PeerId::new("a").unwrap()));
        assert!(ServerEvent::read(r#"{"type":"peer_left","party_id":"p"}"#).is_err());
        assert!(ServerEvent::read("[]").is_err());
    }
}
