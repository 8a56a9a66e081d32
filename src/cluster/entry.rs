//! What a commit leaves in the log, as JSON: its rows, and what happened, in order.
//!
//! Rows tell followers what is there; who left and why, who came by which invite, and which party has another id, is
//! told by the changes alone. A follower of an older version passes over changes, tables and members that it does not
//! know.

use crate::control::adopt::Commit;
use crate::control::change::{Change, Departure};
use crate::control::invites::InviteId;
use crate::control::record::{AddressRecord, MemberRecord, PartyRecord, RelayRecord, TokenRecord};
use crate::control::standing::{Identity, Lineage, Standing};
use crate::crypto::hex;
use crate::crypto::x25519::PublicKey;
use crate::ids::{PartyId, PeerId, RelayId};
use crate::time::UnixTime;
use crate::wire::json::{self, FromPart, JsonWriter, Part, members};
use std::collections::HashSet;

/// Entries are no longer, in bytes: of a larger commit the log says nothing, and followers load everything.
pub const LONGEST_ENTRY: usize = 8 * 1024 * 1024;
/// An entry that says nothing: followers load everything.
pub const NOTHING_SAID: &str = "{}";
/// Between the party's and the peer's id in a member's key.
const SEPARATOR: char = '/';

/// A row that a commit writes, or deletes: its table, its key and its value, which is JSON.
pub type EntryRow<'a> = (&'a str, &'a str, Option<&'a [u8]>);

/// The entry of a commit.
pub fn write<'a>(rows: impl Iterator<Item = EntryRow<'a>>, changes: &[Change]) -> String {
    compose(rows, &tell(changes))
}

/// What happened, for [`compose`]: several such texts with commas between them are one.
pub fn tell<'a>(changes: impl IntoIterator<Item = &'a Change>) -> String {
    let mut out = String::new();
    for change in changes.into_iter().filter(|change| is_told(change)) {
        if !out.is_empty() {
            out.push(',');
        }
        out += &json::object(|json| write_change(json, change));
    }
    out
}

/// The entry of a commit of which [`tell`] has told what happened.
pub fn compose<'a>(rows: impl Iterator<Item = EntryRow<'a>>, told: &str) -> String {
    let mut is_text = true;
    let entry = json::object(|json| {
        json.key("rows").array(|json| {
            for (table, key, value) in rows {
                json.object(|json| {
                    json.key("t").string(table);
                    json.key("k").string(key);
                    match value.map(std::str::from_utf8) {
                        None => {}
                        Some(Ok(value)) => json.key("v").raw(value),
                        Some(Err(_)) => is_text = false,
                    }
                });
            }
        });
        json.key("changes").raw(&format!("[{told}]"));
    });
    if is_text && entry.len() <= LONGEST_ENTRY { entry } else { NOTHING_SAID.to_owned() }
}

/// Signals go another way, and who went straight is for the instance that heard it.
fn is_told(change: &Change) -> bool {
    !matches!(change, Change::Signalled(..) | Change::WentStraight(..))
}

fn why(why: Departure) -> &'static str {
    match why {
        Departure::Left => "left",
        Departure::Kicked => "kicked",
        Departure::Banned => "banned",
        Departure::Expired => "expired",
        Departure::Stale => "stale",
        Departure::PartyDeleted => "party_deleted",
    }
}

fn departure(text: &str) -> Option<Departure> {
    let all = [
        Departure::Left,
        Departure::Kicked,
        Departure::Banned,
        Departure::Expired,
        Departure::Stale,
        Departure::PartyDeleted,
    ];
    all.into_iter().find(|departure| why(*departure) == text)
}

pub(super) fn write_identity(json: &mut JsonWriter, who: &Identity) {
    json.key("peer").string(who.peer.as_str());
    match who.standing {
        Standing::Token(Lineage(lineage)) => json.key("lineage").int(lineage),
        Standing::Address(address) => json.key("address").string(&address.to_string()),
    }
}

fn write_change(json: &mut JsonWriter, change: &Change) {
    let mut kind = |kind: &str, party: &PartyId, peer: Option<&PeerId>| {
        json.key("c").string(kind);
        json.key("party").string(party.as_str());
        if let Some(peer) = peer {
            json.key("peer").string(peer.as_str());
        }
    };
    match change {
        Change::PartyCreated(id) => kind("party_created", id, None),
        Change::PartyChanged(id) => kind("party_changed", id, None),
        Change::EntryChanged(id) => kind("entry_changed", id, None),
        Change::MemberJoined(id, peer) => kind("member_joined", id, Some(peer)),
        Change::MemberChanged(id, peer) => kind("member_changed", id, Some(peer)),
        Change::MemberMoved(id, peer) => kind("member_moved", id, Some(peer)),
        Change::InviteUsed(id, peer, invite) => {
            kind("invite_used", id, Some(peer));
            json.key("invite").string(&invite.encode());
        }
        Change::PartyRenamed { from, party, members } => {
            kind("party_renamed", party, None);
            json.key("from").string(from.as_str());
            json.key("peers").array(|json| members.iter().for_each(|peer| json.string(peer.as_str())));
        }
        Change::PartyDeleted { party, name, created_at, host, members } => {
            kind("party_deleted", party, None);
            json.key("name").string(name);
            json.key("created_at").int(created_at.as_micros());
            if let Some(host) = host {
                json.key("host").string(host.as_str());
            }
            json.key("members").array(|json| {
                members.iter().for_each(|who| json.object(|json| write_identity(json, who)));
            });
        }
        Change::MemberLeft { party, who, name, is_device, key, why: departure } => {
            kind("member_left", party, None);
            write_identity(json, who);
            json.key("name").string(name);
            json.key("device").bool(*is_device);
            if let Some(key) = key {
                json.key("key").string(&key.encode());
            }
            json.key("why").string(why(*departure));
        }
        Change::EndpointChanged => json.key("c").string("endpoint_changed"),
        Change::TokenIssued(hash) => named(json, "token_issued", &hex::encode(hash)),
        Change::TokenExtended(hash) => named(json, "token_extended", &hex::encode(hash)),
        Change::TokenRevoked(hash) => named(json, "token_revoked", &hex::encode(hash)),
        Change::RelayChanged(id) => named(json, "relay_changed", id.as_str()),
        Change::RelayHeard { relay, load, left_out } => {
            named(json, "relay_heard", relay.as_str());
            json.key("load").int(*load);
            json.key("left_out").int(*left_out);
        }
        Change::RelayExpired(id) => named(json, "relay_expired", id.as_str()),
        Change::AddressAssigned(name) => named(json, "address_assigned", name),
        Change::AddressForgotten(name) => named(json, "address_forgotten", name),
        Change::Signalled(..) | Change::WentStraight(..) => {}
    }
}

fn named(json: &mut JsonWriter, kind: &str, name: &str) {
    json.key("c").string(kind);
    json.key("name").string(name);
}

/// What the entry says, if that is something, and if it is one.
pub fn read(text: &[u8]) -> Option<Commit> {
    if text.len() > LONGEST_ENTRY {
        return None;
    }
    let [rows, changes] = members(text, ["rows", "changes"]).ok()?;
    let mut commit = Commit::default();
    let mut seen = HashSet::new();
    for ReadRow { table, key, value } in rows.read::<Vec<ReadRow>>()? {
        if !seen.insert((table.clone(), key.clone())) {
            return None;
        }
        take_row(&mut commit, &table, key, value.as_deref().map(str::as_bytes))?;
    }
    commit.changes = changes.read::<Vec<ReadChange>>()?.into_iter().filter_map(|change| change.0).collect();
    Some(commit)
}

fn take_row(commit: &mut Commit, table: &str, mut key: String, value: Option<&[u8]>) -> Option<()> {
    let (records, gone) = (&mut commit.records, &mut commit.gone);
    match (table, value) {
        ("parties", Some(value)) => records.parties.push((key, PartyRecord::read(value)?)),
        ("parties", None) => gone.parties.push(key),
        ("members", value) => {
            let end = key.find(SEPARATOR)?;
            let peer = key.split_off(end + SEPARATOR.len_utf8());
            key.truncate(end);
            match value {
                Some(value) => records.members.push((key, peer, MemberRecord::read(value)?)),
                None => gone.members.push((key, peer)),
            }
        }
        ("tokens", Some(value)) => records.tokens.push((hex::decode(&key)?, TokenRecord::read(value)?)),
        ("tokens", None) => gone.tokens.push(hex::decode(&key)?),
        ("relays", Some(value)) => records.relays.push((key, RelayRecord::read(value)?)),
        ("relays", None) => gone.relays.push(key),
        ("addresses", Some(value)) => records.addresses.push((key, AddressRecord::read(value)?)),
        ("addresses", None) => gone.addresses.push(key),
        ("meta", Some(value)) if key == "public_endpoint" => {
            let [host, port] = members(value, ["host", "port"]).ok()?;
            records.endpoint = Some((host.read()?, port.read()?));
        }
        // Who writes keeps other things that followers have no use for.
        _ => {}
    }
    Some(())
}

struct ReadRow {
    table: String,
    key: String,
    value: Option<String>,
}

impl FromPart for ReadRow {
    fn from_part(part: Part<'_>) -> Option<Self> {
        let Part::Nested(text) = part else { return None };
        let [table, key, value] = members(text.as_bytes(), ["t", "k", "v"]).ok()?;
        let value = match value {
            Part::Absent => None,
            Part::Nested(text) => Some(text.to_owned()),
            // Only what followers have no use for is no object.
            _ => Some(String::new()),
        };
        Some(ReadRow { table: table.read()?, key: key.read()?, value })
    }
}

/// A change, or nothing if it is of a kind that is not known here.
struct ReadChange(Option<Change>);

impl FromPart for ReadChange {
    fn from_part(part: Part<'_>) -> Option<Self> {
        let Part::Nested(text) = part else { return None };
        read_change(text.as_bytes()).map(ReadChange)
    }
}

/// An identity as [`write_identity`] writes it.
pub(super) struct ReadIdentity(pub(super) Identity);

impl FromPart for ReadIdentity {
    fn from_part(part: Part<'_>) -> Option<Self> {
        let Part::Nested(text) = part else { return None };
        let [peer, lineage, address] = members(text.as_bytes(), ["peer", "lineage", "address"]).ok()?;
        identity(id(peer)?, lineage, address).map(ReadIdentity)
    }
}

fn identity(peer: PeerId, lineage: Part<'_>, address: Part<'_>) -> Option<Identity> {
    let standing = match (lineage.read::<Option<u64>>()?, address.read::<Option<String>>()?) {
        (Some(lineage), None) => Standing::Token(Lineage(lineage)),
        (None, Some(address)) => Standing::Address(address.parse().ok()?),
        _ => return None,
    };
    Some(Identity { peer, standing })
}

/// An id as it is stored.
trait StoredId: Sized {
    fn of(text: &str) -> Option<Self>;
}

macro_rules! stored_ids {
    ($($id:ident)*) => { $(
        impl StoredId for $id {
            fn of(text: &str) -> Option<Self> {
                $id::stored(text)
            }
        }
    )* };
}
stored_ids!(PartyId PeerId RelayId);

fn id<T: StoredId>(part: Part<'_>) -> Option<T> {
    T::of(&part.read::<String>()?)
}

fn read_change(text: &[u8]) -> Option<Option<Change>> {
    let [kind, party, peer, name, why] = members(text, ["c", "party", "peer", "name", "why"]).ok()?;
    let kind: String = kind.read()?;
    let hash = |name: Part<'_>| hex::decode(&name.read::<String>()?);
    Some(Some(match kind.as_str() {
        "party_created" => Change::PartyCreated(id(party)?),
        "party_changed" => Change::PartyChanged(id(party)?),
        "entry_changed" => Change::EntryChanged(id(party)?),
        "member_joined" => Change::MemberJoined(id(party)?, id(peer)?),
        "member_changed" => Change::MemberChanged(id(party)?, id(peer)?),
        "member_moved" => Change::MemberMoved(id(party)?, id(peer)?),
        "invite_used" => {
            let [invite] = members(text, ["invite"]).ok()?;
            Change::InviteUsed(id(party)?, id(peer)?, InviteId::decode(&invite.read::<String>()?)?)
        }
        "party_renamed" => {
            let [from, peers] = members(text, ["from", "peers"]).ok()?;
            let peers: Vec<String> = peers.read()?;
            let members = peers.iter().map(|peer| PeerId::stored(peer)).collect::<Option<_>>()?;
            Change::PartyRenamed { from: id(from)?, party: id(party)?, members }
        }
        "party_deleted" => {
            let [created_at, host, all] = members(text, ["created_at", "host", "members"]).ok()?;
            let host = host.read::<Option<String>>()?;
            Change::PartyDeleted {
                party: id(party)?,
                name: name.read()?,
                created_at: UnixTime::from_micros(created_at.read()?),
                host: match host {
                    Some(host) => Some(PeerId::stored(&host)?),
                    None => None,
                },
                members: all.read::<Vec<ReadIdentity>>()?.into_iter().map(|who| who.0).collect(),
            }
        }
        "member_left" => {
            let [lineage, address, device, key] =
                members(text, ["lineage", "address", "device", "key"]).ok()?;
            let key = key.read::<Option<String>>()?;
            Change::MemberLeft {
                party: id(party)?,
                who: identity(id(peer)?, lineage, address)?,
                name: name.read::<String>()?.into(),
                is_device: device.read()?,
                key: match key {
                    Some(key) => Some(PublicKey::decode(&key)?),
                    None => None,
                },
                why: departure(&why.read::<String>()?)?,
            }
        }
        "endpoint_changed" => Change::EndpointChanged,
        "token_issued" => Change::TokenIssued(hash(name)?),
        "token_extended" => Change::TokenExtended(hash(name)?),
        "token_revoked" => Change::TokenRevoked(hash(name)?),
        "relay_changed" => Change::RelayChanged(id(name)?),
        "relay_heard" => {
            let [load, left_out] = members(text, ["load", "left_out"]).ok()?;
            Change::RelayHeard {
                relay: id(name)?,
                load: load.read()?,
                left_out: left_out.read().unwrap_or(0),
            }
        }
        "relay_expired" => Change::RelayExpired(id(name)?),
        "address_assigned" => Change::AddressAssigned(name.read()?),
        "address_forgotten" => Change::AddressForgotten(name.read()?),
        _ => return Some(None),
    }))
}

#[cfg(test)]
mod tests;
