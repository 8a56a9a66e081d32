//! What the bodies of requests and messages say, checked.

use super::fields::{ObjectFields, Problems, Text};
use crate::control::party::{Ban, PeerInfo};
use crate::control::relays::{RelayInfo, is_relay_address, unembedded};
use crate::crypto::x25519::PublicKey;
use crate::ids::{PeerId, RelayId};
use crate::wire::control::UNKNOWN;
use crate::wire::datetime;
use crate::wire::json::Value;
use crate::wire::nat_type::NatType;
use std::net::IpAddr;

const NAT_TYPES: &str =
    "'unknown', 'open', 'full_cone', 'restricted_cone', 'port_restricted_cone' or 'symmetric'";

/// Which peer an object speaks of, checked before anything else about it: a request for another peer than
/// the token's is refused whatever else it says.
pub fn peer_id<'a>(peer: &ObjectFields<'a>, problems: &mut Problems) -> Option<&'a str> {
    peer.text("peer_id", Text::ID, problems)
}

/// A peer's description. What a stock client always sends may be absent in those of others.
pub fn peer_info(peer: &ObjectFields<'_>, problems: &mut Problems) -> Option<PeerInfo> {
    let peer_id = peer_id(peer, problems).and_then(PeerId::new);
    let name = peer.text("name", Text::NAME, problems);
    let public_key = peer.text("public_key", Text::KEY, problems);
    let nat_type = peer.optional_word("nat_type", NatType::parse, NAT_TYPES, problems);
    let public_ip = peer.optional_text("public_ip", Text::WORD, problems);
    let public_port = peer.optional_int("public_port", 0, u16::MAX.into(), problems);
    let local_ip = peer.optional_text("local_ip", Text::WORD, problems);
    let local_port = peer.optional_int("local_port", 0, u16::MAX.into(), problems);
    let last_seen = peer.optional_word("last_seen", datetime::parse, "a date and time of ISO 8601", problems);
    let port = |port: Option<i64>| port.and_then(|port| u16::try_from(port).ok()).unwrap_or(0);
    Some(PeerInfo {
        peer_id: peer_id?,
        name: name?.into(),
        public_key: public_key?.into(),
        nat_type: nat_type.unwrap_or_default(),
        public_ip: public_ip.unwrap_or(UNKNOWN).into(),
        public_port: port(public_port),
        local_ip: local_ip.unwrap_or(UNKNOWN).into(),
        local_port: port(local_port),
        last_seen,
    })
}

/// A nonce of ours and the proof of a WireGuard key over it, if there is either.
pub fn proof<'a>(fields: &ObjectFields<'a>, problems: &mut Problems) -> Option<(&'a str, &'a str)> {
    if fields.optional("nonce").is_none() && fields.optional("proof").is_none() {
        return None;
    }
    let nonce = fields.text("nonce", Text::WORD, problems);
    nonce.zip(fields.text("proof", Text::WORD, problems))
}

/// A relay's description. Loopback addresses are for who registers from the loopback.
pub fn relay_info(body: Option<&Value>, from_loopback: bool) -> Result<RelayInfo, Problems> {
    let mut problems = Problems::default();
    let relay = ObjectFields::of_body(body, &mut problems);
    let relay_id = relay.text("relay_id", Text::ID, &mut problems).and_then(RelayId::new);
    let public_ip = relay.text("public_ip", Text::WORD, &mut problems).and_then(|text| {
        let address =
            text.parse::<IpAddr>().ok().map(unembedded).filter(|ip| is_relay_address(*ip, from_loopback));
        if address.is_none() {
            problems.refuse(
                &relay.at("public_ip"),
                "not an IP address that others can reach a relay at",
                text,
            );
        }
        address
    });
    let port = relay.int("port", 1, u16::MAX.into(), &mut problems);
    let region = relay.optional_text("region", Text::WORD, &mut problems);
    let capacity = relay.optional_int("capacity", 0, 1_000_000, &mut problems);
    let public_key = relay.optional_text("public_key", Text::KEY, &mut problems);
    let load = relay.optional_int("load", 0, 1_000_000, &mut problems);
    problems.check()?;
    let number = |number: Option<i64>, default| {
        number.and_then(|number| u32::try_from(number).ok()).unwrap_or(default)
    };
    Ok(RelayInfo {
        relay_id: relay_id.expect("no problems were found"),
        public_ip: public_ip.expect("no problems were found"),
        port: port.and_then(|port| u16::try_from(port).ok()).expect("no problems were found"),
        region: region.unwrap_or(UNKNOWN).to_owned(),
        capacity: number(capacity, 100),
        public_key: public_key.map(str::to_owned),
        load: number(load, 0),
    })
}

/// Whether a query says yes to something.
pub fn flag(query: &Value, name: &str) -> Result<bool, Problems> {
    let mut problems = Problems::default();
    let read = |text: &str| match text {
        "1" | "true" => Some(true),
        "0" | "false" => Some(false),
        _ => None,
    };
    let said = ObjectFields::of_query(query).optional_word(name, read, "'1' or '0'", &mut problems);
    problems.check()?;
    Ok(said == Some(true))
}

/// A key that WireGuard can use.
pub fn wireguard_key(fields: &ObjectFields<'_>, problems: &mut Problems) -> Option<PublicKey> {
    let text = fields.text("public_key", Text::KEY, problems)?;
    let key = PublicKey::decode(text).filter(|key| !key.is_low_order());
    if key.is_none() {
        problems.refuse(&fields.at("public_key"), "not a WireGuard key (Base64 of 32 bytes)", text);
    }
    key
}

/// Whom a ban means: `peer_id`, `public_key` or both, in a body or a query.
pub fn ban(fields: &ObjectFields<'_>, mut problems: Problems) -> Result<Ban, Problems> {
    let peer_id = fields.optional_text("peer_id", Text::ID, &mut problems).and_then(PeerId::new);
    let key = fields.optional_text("public_key", Text::KEY, &mut problems).and_then(|text| {
        let key = PublicKey::decode(text);
        if key.is_none() {
            problems.refuse(&fields.at("public_key"), "not a WireGuard key (Base64 of 32 bytes)", text);
        }
        key
    });
    problems.check()?;
    let mut problems = Problems::default();
    if peer_id.is_none() && key.is_none() {
        // A null is no peer either.
        fields.text("peer_id", Text::ID, &mut problems);
    }
    problems.check()?;
    Ok(Ban { peer_id, key })
}
