//! Control state as rows, and back.

use super::Row;
use super::schema::Table;
use crate::control::Control;
use crate::control::change::Change;
use crate::control::record::{AddressRecord, MemberRecord, PartyRecord, Records, RelayRecord, TokenRecord};
use crate::control::tokens::TokenHash;
use crate::crypto::hex;
use crate::crypto::x25519::{PrivateKey, PublicKey};
use crate::ids::{PartyId, PeerId};
use crate::time::{Now, UnixTime};
use crate::wire::json::{self, Value};
use nanoserde::SerJson;

const HUB_KEY: &str = "hub_private_key";
const STAMP_MARK: &str = "tai64n_mark";
const CONTROL_KEY: &str = "control_public_key";
const ENDPOINT: &str = "public_endpoint";
const STOPPED_AT: &str = "stopped_at";
/// Between the party's and the peer's id in a member's key; ids do not contain it.
const SEPARATOR: char = '/';

/// What was read from the store at the start.
#[derive(Default)]
pub struct Loaded {
    /// The control state.
    pub records: Records,
    /// The hub's key, if there is one yet.
    pub hub: Option<PrivateKey>,
    /// The key of the control server that a relay in another place follows.
    pub control: Option<PublicKey>,
    /// The hub's high-water mark for TAI64N, 0 if none was stored.
    pub stamp_mark: u64,
    /// Rows that could not be read, by table and key. They are left as they are.
    pub unreadable: Vec<String>,
}

/// Reads what the store held.
pub fn load(rows: Vec<Row>) -> Loaded {
    let mut loaded = Loaded::default();
    for Row { table, key, value } in rows {
        if let Err(key) = read(table, key, &value.unwrap_or_default(), &mut loaded) {
            loaded.unreadable.push(format!("{}/{key}", table.name()));
        }
    }
    loaded
}

/// Takes in a row, or gives back the key of one that can't be read.
fn read(table: Table, mut key: String, value: &[u8], loaded: &mut Loaded) -> Result<(), String> {
    let records = &mut loaded.records;
    match table {
        Table::Parties => records.parties.push(keyed(key, PartyRecord::read(value))?),
        Table::Members => match (key.find(SEPARATOR), MemberRecord::read(value)) {
            (Some(end), Some(record)) => {
                let peer = key.split_off(end + SEPARATOR.len_utf8());
                key.truncate(end);
                records.members.push((key, peer, record));
            }
            _ => return Err(key),
        },
        Table::Tokens => match (hex::decode(&key), TokenRecord::read(value)) {
            (Some(hash), Some(record)) => records.tokens.push((hash, record)),
            _ => return Err(key),
        },
        Table::Relays => records.relays.push(keyed(key, RelayRecord::read(value))?),
        Table::Addresses => records.addresses.push(keyed(key, AddressRecord::read(value))?),
        Table::Meta => return read_meta(&key, value, loaded).ok_or(key),
    }
    Ok(())
}

fn keyed<T>(key: String, record: Option<T>) -> Result<(String, T), String> {
    match record {
        Some(record) => Ok((key, record)),
        None => Err(key),
    }
}

fn read_meta(key: &str, value: &[u8], loaded: &mut Loaded) -> Option<()> {
    match (key, json::parse(value).ok()?) {
        (HUB_KEY, Value::String(text)) => loaded.hub = Some(PrivateKey::decode(&text)?),
        (CONTROL_KEY, Value::String(text)) => loaded.control = Some(PublicKey::decode(&text)?),
        (STOPPED_AT, Value::Number(micros)) => {
            loaded.records.stopped_at = Some(UnixTime::from_micros(micros.parse().ok()?));
        }
        (ENDPOINT, endpoint) => {
            let host = endpoint.get("host")?.as_str()?.to_owned();
            let Value::Number(port) = endpoint.get("port")? else { return None };
            loaded.records.endpoint = Some((host, port.parse().ok()?));
        }
        (STAMP_MARK, Value::Number(mark)) => loaded.stamp_mark = mark.parse().ok()?,
        // The schema's own row.
        _ => {}
    }
    Some(())
}

fn row<T: SerJson>(table: Table, key: String, record: Option<T>) -> Row {
    Row { table, key, value: record.map(|record| record.serialize_json().into_bytes()) }
}

/// The rows that a change touches, as the state is now: what is gone is deleted.
pub fn rows(control: &Control, change: &Change, now: Now, out: &mut Vec<Row>) {
    let member = |party: &PartyId, peer: &PeerId| {
        row(Table::Members, format!("{party}{SEPARATOR}{peer}"), control.member_record(party, peer, now))
    };
    let party = |id: &PartyId| row(Table::Parties, id.to_string(), control.party_record(id, now));
    match change {
        Change::PartyCreated(id)
        | Change::PartyChanged(id)
        | Change::EntryChanged(id)
        | Change::PartyDeleted { party: id, .. } => out.push(party(id)),
        Change::InviteUsed(id, peer, _) => out.extend([party(id), member(id, peer)]),
        Change::PartyRenamed { from, party: to, members } => {
            out.extend([party(from), party(to)]);
            out.extend(members.iter().flat_map(|peer| [member(from, peer), member(to, peer)]));
        }
        Change::MemberJoined(id, peer) | Change::MemberChanged(id, peer) | Change::MemberMoved(id, peer) => {
            out.push(member(id, peer));
        }
        Change::MemberLeft { party, who, .. } => out.push(member(party, &who.peer)),
        Change::TokenIssued(hash) | Change::TokenExtended(hash) | Change::TokenRevoked(hash) => {
            out.push(row(Table::Tokens, hex::encode(hash), control.token_record(hash, now)));
        }
        Change::RelayChanged(id) | Change::RelayHeard { relay: id, .. } | Change::RelayExpired(id) => {
            out.push(row(Table::Relays, id.to_string(), control.relay_record(id)));
        }
        Change::AddressAssigned(name) | Change::AddressForgotten(name) => {
            out.push(row(Table::Addresses, name.clone(), control.address_record(name)));
        }
        Change::EndpointChanged => out.extend(control.endpoint().map(|(host, port)| {
            let value = json::object(|json| {
                json.key("host").string(host);
                json.key("port").int(*port);
            });
            Row { table: Table::Meta, key: ENDPOINT.to_owned(), value: Some(value.into_bytes()) }
        })),
        Change::Signalled(..) | Change::WentStraight(..) => {}
    }
}

/// The row that keeps the hub's key.
pub fn hub_key(key: &PrivateKey) -> Row {
    let value = format!("\"{}\"", &*key.encode());
    Row { table: Table::Meta, key: HUB_KEY.to_owned(), value: Some(value.into_bytes()) }
}

/// Whether a row keeps the hub's key.
#[cfg(feature = "cluster")]
pub fn is_hub_key(row: &Row) -> bool {
    row.table == Table::Meta && row.key == HUB_KEY
}

/// The row that keeps the key of the control server that a relay in another place follows.
pub fn control_key(key: &PublicKey) -> Row {
    let value = format!("\"{}\"", key.encode());
    Row { table: Table::Meta, key: CONTROL_KEY.to_owned(), value: Some(value.into_bytes()) }
}

/// The row that keeps the hub's high-water mark for TAI64N.
pub fn stamp_mark(mark: u64) -> Row {
    Row { table: Table::Meta, key: STAMP_MARK.to_owned(), value: Some(mark.to_string().into_bytes()) }
}

/// The row that says that the daemon stopped in good order at `at`, or, with `None`, that it is running.
pub fn stopped(at: Option<UnixTime>) -> Row {
    let value = at.map(|at| at.as_micros().to_string().into_bytes());
    Row { table: Table::Meta, key: STOPPED_AT.to_owned(), value }
}

/// Every token's row. The dates in the store are those of when a token was issued or extended; if the wall
/// clock has jumped since, they would not be what they seem after a stop.
pub fn all_tokens(control: &Control, now: Now) -> Vec<Row> {
    let token = |hash: &TokenHash| row(Table::Tokens, hex::encode(hash), control.token_record(hash, now));
    control.tokens().iter().map(|(hash, _)| token(&hash)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::ControlSettings;
    use crate::control::keys::KeyClaim;
    use crate::control::party::PeerInfo;
    use crate::control::registration::Credentials;
    use crate::wire::nat_type::NatType;

    fn info(id: &PeerId) -> PeerInfo {
        PeerInfo {
            peer_id: id.clone(),
            name: "Al \"ice\" \u{1F600}".into(),
            public_key: "key".into(),
            nat_type: NatType::Symmetric,
            public_ip: "unknown".into(),
            public_port: 65_535,
            local_ip: "::1".into(),
            local_port: 0,
            last_seen: None,
        }
    }

    #[test]
    fn what_is_written_is_read_and_what_is_gone_is_deleted() {
        let now = Now::default();
        let hub = PrivateKey::generate();
        let mut control = Control::new(ControlSettings::default(), hub.clone(), Records::default(), now);
        let alice = PeerId::new("alice").unwrap();
        let token = control.register(&alice, Credentials::default(), now).unwrap().token;
        let by = control.authenticate(&token, now).unwrap();
        let party = control
            .create_party(&by, None, "LAN", info(&alice), KeyClaim::from([192, 0, 2, 7].into()), now)
            .unwrap();
        let mut rows_out = vec![hub_key(&hub), stopped(Some(UnixTime::from_micros(7)))];
        for change in control.drain_changes() {
            rows(&control, &change, now, &mut rows_out);
        }
        let loaded = load(rows_out);
        assert_eq!(loaded.unreadable, Vec::<String>::new());
        assert_eq!(loaded.hub.unwrap().public_key(), hub.public_key());
        assert_eq!(loaded.records.stopped_at, Some(UnixTime::from_micros(7)));
        let mut again = Control::new(ControlSettings::default(), hub, loaded.records, now);
        assert_eq!(again.authenticate(&token, now).unwrap(), by);
        assert_eq!(again.member_record(&party, &alice, now), control.member_record(&party, &alice, now));

        control.delete_party(&crate::control::standing::Actor::Admin, party.as_str()).unwrap();
        let mut rows_out = Vec::new();
        for change in control.drain_changes() {
            rows(&control, &change, now, &mut rows_out);
        }
        assert!(rows_out.iter().all(|row| row.value.is_none()), "{rows_out:?}");
        assert_eq!(rows_out.len(), 2);
    }

    #[test]
    fn rows_that_make_no_sense_are_named_and_left_alone() {
        let bad = |table, key: &str, value: &str| Row { table, key: key.into(), value: Some(value.into()) };
        let loaded = load(vec![
            bad(Table::Parties, "p", "{\"unknown\":["),
            bad(Table::Parties, "p", "{\"unknown\":}"),
            bad(Table::Parties, "q", "{}"),
            bad(Table::Members, "no-separator", "{}"),
            bad(Table::Tokens, "zz", "{\"peer_id\":\"a\",\"lineage\":1,\"expires_at\":1}"),
            bad(Table::Tokens, &"+f".repeat(32), "{\"peer_id\":\"a\",\"lineage\":1,\"expires_at\":1}"),
            bad(Table::Meta, HUB_KEY, "\"short\""),
        ]);
        assert_eq!(loaded.unreadable.len(), 7);
        assert!(loaded.records.parties.is_empty());
    }
}
