//! What a follower has heard of members and relays, on its way to the instance that writes: JSON of a bounded size.

use crate::control::approvals::FeedSize;
use crate::control::following::{Digest, HeardRelay};
use crate::control::relays::RelayInfo;
use crate::crypto::hex;
use crate::crypto::x25519::PublicKey;
use crate::ids::{PartyId, PeerId};
use crate::wire::json::{self, FromPart, Part, members};
use crate::wire::roster::relay_id;
use std::net::IpAddr;

/// A digest tells no more things than these, so that it is no longer than a request may be.
pub const MOST_HEARD: usize = 256;

/// A digest as text.
pub fn write(digest: &Digest) -> String {
    json::object(|json| {
        json.key("beats").array(|json| {
            for (party, peer, origin) in &digest.beats {
                json.object(|json| {
                    json.key("p").string(party.as_str());
                    json.key("q").string(peer.as_str());
                    if let Some(origin) = origin {
                        json.key("a").string(&origin.to_string());
                    }
                });
            }
        });
        json.key("handshakes").array(|json| {
            for (key, from) in &digest.handshakes {
                json.object(|json| {
                    json.key("k").string(&key.encode());
                    json.key("a").string(&from.to_string());
                });
            }
        });
        json.key("tokens")
            .array(|json| digest.tokens.iter().for_each(|hash| json.string(&hex::encode(hash))));
        json.key("relays").array(|json| {
            for HeardRelay { info, key, payer, told } in &digest.relays {
                json.object(|json| {
                    json.key("k").string(&key.encode());
                    json.key("ip").string(&info.public_ip.to_string());
                    json.key("port").int(info.port);
                    json.key("region").string(&info.region);
                    json.key("capacity").int(info.capacity);
                    json.key("load").int(info.load);
                    json.key("told").array(|json| {
                        [told.parties, told.members, told.left_out]
                            .into_iter()
                            .for_each(|count| json.int(count));
                    });
                    if let Some(payer) = payer {
                        json.key("payer").string(&payer.to_string());
                    }
                });
            }
        });
    })
}

/// The digest that is written so, if it is one.
pub fn read(text: &[u8]) -> Option<Digest> {
    let [beats, handshakes, tokens, relays] =
        members(text, ["beats", "handshakes", "tokens", "relays"]).ok()?;
    let tokens: Vec<String> = tokens.read()?;
    let digest = Digest {
        beats: beats.read::<Vec<HeardBeat>>()?.into_iter().map(|beat| beat.0).collect(),
        handshakes: handshakes.read::<Vec<HeardHandshake>>()?.into_iter().map(|one| one.0).collect(),
        tokens: tokens.iter().map(|hash| hex::decode(hash)).collect::<Option<_>>()?,
        relays: relays.read::<Vec<ReadRelay>>()?.into_iter().map(|one| one.0).collect(),
    };
    (digest.len() <= MOST_HEARD).then_some(digest)
}

struct HeardBeat((PartyId, PeerId, Option<IpAddr>));

impl FromPart for HeardBeat {
    fn from_part(part: Part<'_>) -> Option<Self> {
        let Part::Nested(text) = part else { return None };
        let [party, peer, origin] = members(text.as_bytes(), ["p", "q", "a"]).ok()?;
        let origin = match origin.read::<Option<String>>()? {
            Some(origin) => Some(origin.parse().ok()?),
            None => None,
        };
        let (party, peer): (String, String) = (party.read()?, peer.read()?);
        Some(HeardBeat((PartyId::stored(&party)?, PeerId::stored(&peer)?, origin)))
    }
}

struct HeardHandshake((PublicKey, IpAddr));

impl FromPart for HeardHandshake {
    fn from_part(part: Part<'_>) -> Option<Self> {
        let Part::Nested(text) = part else { return None };
        let [key, from] = members(text.as_bytes(), ["k", "a"]).ok()?;
        let (key, from): (String, String) = (key.read()?, from.read()?);
        Some(HeardHandshake((PublicKey::decode(&key)?, from.parse().ok()?)))
    }
}

struct ReadRelay(HeardRelay);

impl FromPart for ReadRelay {
    fn from_part(part: Part<'_>) -> Option<Self> {
        let Part::Nested(text) = part else { return None };
        let [key, ip, port, region] = members(text.as_bytes(), ["k", "ip", "port", "region"]).ok()?;
        let [capacity, load, told, payer] =
            members(text.as_bytes(), ["capacity", "load", "told", "payer"]).ok()?;
        let (key, ip): (String, String) = (key.read()?, ip.read()?);
        let key = PublicKey::decode(&key)?;
        let [parties, members, left_out] = told.read::<Vec<u32>>()?.try_into().ok()?;
        let info = RelayInfo {
            relay_id: relay_id(&key),
            public_ip: ip.parse().ok()?,
            port: port.read()?,
            region: region.read()?,
            capacity: capacity.read()?,
            public_key: Some(key.encode()),
            load: load.read()?,
        };
        let payer = match payer.read::<Option<String>>()? {
            Some(payer) => Some(payer.parse().ok()?),
            None => None,
        };
        Some(ReadRelay(HeardRelay { info, key, payer, told: FeedSize { parties, members, left_out } }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::following::RELAY_WEIGHT;
    use crate::crypto::x25519::PrivateKey;

    const LONGEST_IP: &str = "2001:db8:1111:2222:3333:4444:5555:6666";

    fn relay(region: &str, payer: Option<IpAddr>) -> HeardRelay {
        let key = PrivateKey::generate().public_key();
        let info = RelayInfo {
            relay_id: relay_id(&key),
            public_ip: LONGEST_IP.parse().unwrap(),
            port: u16::MAX,
            region: region.to_owned(),
            capacity: u32::MAX,
            public_key: Some(key.encode()),
            load: u32::MAX,
        };
        let told = FeedSize { parties: u32::MAX, members: u32::MAX, left_out: u32::MAX };
        HeardRelay { info, key, payer, told }
    }

    fn longest() -> Digest {
        let (party, peer) = ("p".repeat(64), "q".repeat(64));
        let from: IpAddr = LONGEST_IP.parse().unwrap();
        let beat = (PartyId::new(&party).unwrap(), PeerId::new(&peer).unwrap(), Some(from));
        Digest { beats: vec![beat; MOST_HEARD], ..Digest::default() }
    }

    #[test]
    fn a_digest_is_read_as_it_was_written() {
        let mut digest = longest();
        digest.beats.truncate(2);
        digest.beats[1].2 = None;
        digest.handshakes.push((PrivateKey::generate().public_key(), "192.0.2.1".parse().unwrap()));
        digest.tokens.push([7; 32]);
        digest.relays =
            vec![relay("eu \"west\"", None), relay("\u{10ffff}", Some(LONGEST_IP.parse().unwrap()))];
        let text = write(&digest);
        assert_eq!(read(text.as_bytes()), Some(digest));
        for end in 0..text.len() {
            assert_eq!(read(&text.as_bytes()[..end]), None, "{end}");
        }
        assert_eq!(read(write(&Digest::default()).as_bytes()), Some(Digest::default()));
    }

    #[test]
    fn a_digest_is_no_longer_than_a_request_may_be() {
        let mut digest = longest();
        assert!(write(&digest).len() <= 64 * 1024);
        assert!(read(write(&digest).as_bytes()).is_some());
        digest.tokens.push([0; 32]);
        assert_eq!(read(write(&digest).as_bytes()), None, "one too many");
        // With as many relays as there is room for, each in a place with the longest name.
        for region in ["\u{10ffff}", "\""] {
            let relays = vec![relay(&region.repeat(64), Some(LONGEST_IP.parse().unwrap())); 64];
            assert_eq!(relays.len() * RELAY_WEIGHT, MOST_HEARD);
            let mut digest = Digest { relays, ..Digest::default() };
            assert!(write(&digest).len() <= 64 * 1024, "{}", write(&digest).len());
            assert!(read(write(&digest).as_bytes()).is_some());
            digest.tokens.push([0; 32]);
            assert_eq!(read(write(&digest).as_bytes()), None, "one too many");
        }
    }
}
