//! The control state as plain data, for a store to keep. Times are microseconds since 1970.
//!
//! nanoserde writes the records. It does not read them: it needs a strict reader before it, which might as well be
//! the only one.

use super::addresses::Owner;
use super::approvals::ApprovedRelay;
use super::costs::{Footprint, HOUSE};
use super::entry::{PartyAccess, PasswordHash};
use super::expiry::Expiry;
use super::invites::{Invite, InviteId, InviteKind};
use super::party::{Ban, DeviceMember, Member, MemberExtras, Party, PeerInfo};
use super::relays::{RegisteredRelay, RelayInfo};
use super::standing::{Lineage, Standing};
use super::tokens::Token;
use super::viewer::LocalClock;
use crate::crypto::hex;
use crate::crypto::x25519::PublicKey;
use crate::ids::{PartyId, PeerId, RelayId};
use crate::sorted::SortedMap;
use crate::time::{Instant, Now, UnixTime};
use crate::wire::json::{FromPart, Part, members};
use crate::wire::nat_type::NatType;
use nanoserde::SerJson;
use std::net::Ipv4Addr;
use std::time::Duration;

/// Has a record read with all its members, whatever others there are besides.
macro_rules! readable {
    ($record:ident { $($member:ident),* }) => {
        impl $record {
            /// The record that is written so, or `None` if it is none.
            pub fn read(text: &[u8]) -> Option<Self> {
                let [$($member),*] = members(text, [$(stringify!($member)),*]).ok()?;
                Some($record { $($member: $member.read()?),* })
            }
        }
    };
}

/// A party, without its members.
#[derive(SerJson, Clone, PartialEq, Debug)]
pub struct PartyRecord {
    /// Its name.
    pub name: String,
    /// Its host's peer id; none if it belongs to the machine.
    pub host: Option<String>,
    /// When it was made.
    pub created_at: i64,
    /// How many members it has ever had.
    pub joins: u64,
    /// Who must not come back.
    pub bans: Vec<BanRecord>,
    /// Who may come in: `password`, `invite` or `public`; else everybody who knows its id.
    pub access: Option<String>,
    /// The hash of its password.
    pub password: Option<String>,
    /// Whether it outlasts its members.
    pub permanent: Option<bool>,
    /// When it ends.
    pub ends: Option<ExpiryRecord>,
    /// By what others may come in.
    pub invites: Option<Vec<InviteRecord>>,
    /// The ids that it had before.
    pub former: Option<Vec<String>>,
    /// The relay in another place that its members are sent to.
    pub relay: Option<String>,
}

readable!(PartyRecord {
    name,
    host,
    created_at,
    joins,
    bans,
    access,
    password,
    permanent,
    ends,
    invites,
    former,
    relay
});

/// When something ends.
#[derive(SerJson, Clone, PartialEq, Debug)]
pub struct ExpiryRecord {
    /// The date, if the wall clock could be believed.
    pub at: Option<i64>,
    /// How long it was until then when this was written.
    pub left: i64,
}

readable!(ExpiryRecord { at, left });

/// An invite.
#[derive(SerJson, Clone, PartialEq, Debug)]
pub struct InviteRecord {
    /// The hash of its secret.
    pub hash: String,
    /// A link or a code.
    pub kind: String,
    /// How often it could be used.
    pub uses: u32,
    /// How often it still can.
    pub left: u32,
    /// When it ends.
    pub expires: ExpiryRecord,
    /// When it was made.
    pub created_at: i64,
    /// Whether somebody put an end to it.
    pub revoked: bool,
    /// Who may come back by it.
    pub users: Vec<u64>,
}

readable!(InviteRecord { hash, kind, uses, left, expires, created_at, revoked, users });

macro_rules! nested {
    ($($record:ident),*) => {$(
        impl FromPart for $record {
            fn from_part(part: Part<'_>) -> Option<Self> {
                match part {
                    Part::Nested(text) => $record::read(text.as_bytes()),
                    _ => None,
                }
            }
        }
    )*};
}

nested!(BanRecord, ExpiryRecord, InviteRecord);

/// A ban.
#[derive(SerJson, Clone, PartialEq, Debug)]
pub struct BanRecord {
    /// The banned peer id.
    pub peer_id: Option<String>,
    /// The banned key, in Base64.
    pub key: Option<String>,
}

readable!(BanRecord { peer_id, key });

/// A member of a party.
#[derive(SerJson, Clone, PartialEq, Debug)]
pub struct MemberRecord {
    /// Its name.
    pub name: String,
    /// Its public key as it was sent.
    pub public_key: String,
    /// Its NAT, as on the wire.
    pub nat_type: String,
    /// Its outer address.
    pub public_ip: String,
    /// The port there.
    pub public_port: u16,
    /// Its own network's address.
    pub local_ip: String,
    /// The port there.
    pub local_port: u16,
    /// Its virtual address.
    pub virtual_ip: String,
    /// The name under which the pool knows that address.
    pub address_name: String,
    /// Its place in the order of joining.
    pub joined: u64,
    /// The lineage of its tokens, or
    pub lineage: Option<u64>,
    /// the address that it came from without any.
    pub claimed_from: Option<String>,
    /// What to add to our wall clock to get its local time.
    pub clock_offset: i64,
    /// Its place in the order of claims to keys. Of members stored before there was one, it is unknown.
    pub claim: Option<u64>,
    /// Where it asked from: a handshake from there is to prove its key, and there it may be found.
    pub origin: Option<String>,
    /// Whether it has nothing but a WireGuard app.
    pub device: Option<bool>,
    /// When such a one leaves.
    pub expires: Option<ExpiryRecord>,
    /// The invite by which it came.
    pub invite: Option<String>,
}

readable!(MemberRecord {
    name,
    public_key,
    nat_type,
    public_ip,
    public_port,
    local_ip,
    local_port,
    virtual_ip,
    address_name,
    joined,
    lineage,
    claimed_from,
    clock_offset,
    claim,
    origin,
    device,
    expires,
    invite
});

/// A token, by its hash.
#[derive(SerJson, Clone, PartialEq, Debug)]
pub struct TokenRecord {
    /// Whom it speaks for.
    pub peer_id: String,
    /// The registration that it descends from.
    pub lineage: u64,
    /// When it ends, if the wall clock of then can be believed.
    pub expires_at: i64,
}

readable!(TokenRecord { peer_id, lineage, expires_at });

/// A relay.
#[derive(SerJson, Clone, PartialEq, Debug)]
pub struct RelayRecord {
    /// Its address.
    pub public_ip: String,
    /// Its port.
    pub port: u16,
    /// Where it is.
    pub region: String,
    /// How many clients it takes.
    pub capacity: u32,
    /// Its WireGuard key.
    pub public_key: Option<String>,
    /// Who owns the id.
    pub owner: u64,
    /// When it was first registered, or approved.
    pub registered_at: i64,
    /// Whether the owner has approved it; else somebody has registered it.
    pub approved: Option<bool>,
}

readable!(RelayRecord { public_ip, port, region, capacity, public_key, owner, registered_at, approved });

/// The address of a key, by the name under which the pool knows it.
#[derive(SerJson, Clone, PartialEq, Debug)]
pub struct AddressRecord {
    /// The address.
    pub address: String,
    /// Its place in the order of assignment.
    pub order: u64,
    /// Whose the key is, if that is known.
    pub owner: Option<u64>,
    /// Whether the owner has proven it.
    pub proven: Option<bool>,
}

readable!(AddressRecord { address, order, owner, proven });

/// What a store held, by key. Members are keyed `party/peer`, tokens by the hexadecimal hash.
#[derive(Default, Debug)]
pub struct Records {
    /// Parties by id.
    pub parties: Vec<(String, PartyRecord)>,
    /// Members by party and peer id.
    pub members: Vec<(String, String, MemberRecord)>,
    /// Tokens by hash.
    pub tokens: Vec<([u8; 32], TokenRecord)>,
    /// Relays by id.
    pub relays: Vec<(String, RelayRecord)>,
    /// Addresses by name.
    pub addresses: Vec<(String, AddressRecord)>,
    /// Where friends reach the relay, as the owner said on a page.
    pub endpoint: Option<(String, u16)>,
    /// When the daemon last stopped in good order, if the last stop was one.
    pub stopped_at: Option<UnixTime>,
}

impl Records {
    /// Whether there is nothing of a control server's.
    pub fn is_empty(&self) -> bool {
        self.parties.is_empty() && self.tokens.is_empty() && self.addresses.is_empty()
    }
}

impl PartyRecord {
    pub(super) fn of(party: &Party, now: Now) -> Self {
        let (access, password) = match &party.access {
            PartyAccess::Open => (None, None),
            PartyAccess::Password(hash) => (Some(&party.access), Some(hash.encode())),
            other => (Some(other), None),
        };
        let invites: Vec<_> = party.invites.iter().map(|invite| InviteRecord::of(invite, now)).collect();
        let former: Vec<_> = party.former.iter().map(PartyId::to_string).collect();
        PartyRecord {
            name: party.name.clone(),
            host: party.host.as_ref().map(PeerId::to_string),
            access: access.map(|access| access.as_str().to_owned()),
            password,
            permanent: party.permanent.then_some(true),
            ends: party.ends.map(|ends| ExpiryRecord::of(&ends, now)),
            invites: (!invites.is_empty()).then_some(invites),
            former: (!former.is_empty()).then_some(former),
            relay: party.relay.as_ref().map(RelayId::to_string),
            created_at: party.created_at.as_micros(),
            joins: party.joins,
            bans: party.bans.iter().map(BanRecord::of).collect(),
        }
    }

    pub(super) fn restore(self, id: &str, now: Now) -> Option<Party> {
        let access = match self.access {
            None => PartyAccess::Open,
            // What can't be read lets nobody in.
            Some(access) => {
                let password = self.password.and_then(|hash| PasswordHash::decode(&hash));
                PartyAccess::parse(&access, password).unwrap_or(PartyAccess::Invite)
            }
        };
        let host = match self.host {
            Some(host) => Some(PeerId::stored(&host)?),
            None => None,
        };
        let invites = self.invites.unwrap_or_default();
        Some(Party {
            id: PartyId::stored(id)?,
            host,
            access,
            permanent: self.permanent == Some(true),
            ends: self.ends.map(|ends| ends.restore(now)),
            relay: self.relay.as_deref().and_then(RelayId::stored),
            invites: invites.into_iter().filter_map(|invite| invite.restore(now)).collect(),
            former: self.former.unwrap_or_default().iter().filter_map(|id| PartyId::stored(id)).collect(),
            bans: self.bans.into_iter().map(BanRecord::restore).collect(),
            name: self.name,
            created_at: UnixTime::from_micros(self.created_at),
            created: age_of(self.created_at, now).map(|age| now.instant - age),
            members: SortedMap::new(),
            joins: self.joins,
            footprint: Footprint::NONE,
        })
    }
}

/// The clock of another instance may be ahead by so many microseconds.
pub(super) const AHEAD: i64 = 5_000_000;

/// How old a party is by the wall clock, if that is no longer than this machine's monotonic clock runs.
fn age_of(created_at: i64, now: Now) -> Option<Duration> {
    let micros = now.unix.micros_since(UnixTime::from_micros(created_at));
    // The clock that dated it may have been a little ahead.
    let micros = if micros < -AHEAD { return None } else { micros.max(0) };
    let age = Duration::from_micros(micros.unsigned_abs());
    (now.unix.is_plausible() && age <= now.instant.since(Instant::ZERO)).then_some(age)
}

impl BanRecord {
    fn of(ban: &Ban) -> Self {
        BanRecord {
            peer_id: ban.peer_id.as_ref().map(PeerId::to_string),
            key: ban.key.map(|key| key.encode()),
        }
    }

    fn restore(self) -> Ban {
        Ban {
            peer_id: self.peer_id.and_then(|id| PeerId::stored(&id)),
            key: self.key.and_then(|key| PublicKey::decode(&key)),
        }
    }
}

impl ExpiryRecord {
    fn of(expiry: &Expiry, now: Now) -> Self {
        let (at, left) = expiry.parts(now);
        ExpiryRecord { at: at.map(UnixTime::as_micros), left }
    }

    fn restore(&self, now: Now) -> Expiry {
        Expiry::of_parts(self.at.map(UnixTime::from_micros), self.left, now)
    }
}

impl InviteRecord {
    fn of(invite: &Invite, now: Now) -> Self {
        InviteRecord {
            hash: hex::encode(&invite.hash()),
            kind: invite.kind.as_str().to_owned(),
            uses: invite.uses,
            left: invite.left,
            expires: ExpiryRecord::of(&invite.expires, now),
            created_at: invite.created_at.as_micros(),
            revoked: invite.is_revoked,
            users: invite.users.clone(),
        }
    }

    fn restore(self, now: Now) -> Option<Invite> {
        let mut invite = Invite::of_hash(&hex::decode(&self.hash)?, InviteKind::parse(&self.kind)?);
        (invite.uses, invite.left) = (self.uses, self.left);
        invite.expires = self.expires.restore(now);
        invite.created_at = UnixTime::from_micros(self.created_at);
        invite.is_revoked = self.revoked;
        invite.users = self.users;
        Some(invite)
    }
}

impl MemberRecord {
    pub(super) fn of(member: &Member, now: Now) -> Self {
        let (lineage, claimed_from) = match member.standing {
            Standing::Token(Lineage(lineage)) => (Some(lineage), None),
            Standing::Address(address) => (None, Some(address.to_string())),
        };
        let info = &member.info;
        MemberRecord {
            name: info.name.to_string(),
            public_key: info.public_key.to_string(),
            nat_type: info.nat_type.as_str().to_owned(),
            public_ip: info.public_ip.to_string(),
            public_port: info.public_port,
            local_ip: info.local_ip.to_string(),
            local_port: info.local_port,
            virtual_ip: member.virtual_ip.to_string(),
            address_name: member.address_name.to_string(),
            joined: member.joined,
            lineage,
            claimed_from,
            clock_offset: member.clock.offset(now),
            claim: Some(member.claim),
            origin: member.origin.map(|origin| origin.to_string()),
            device: member.device().map(|_| true),
            expires: member.device().and_then(|device| device.expires).map(|end| ExpiryRecord::of(&end, now)),
            invite: member.invite().map(|invite| invite.encode()),
        }
    }

    pub(super) fn restore(self, peer: &str, now: Now) -> Option<Member> {
        let info = PeerInfo {
            peer_id: PeerId::stored(peer)?,
            name: self.name.into(),
            public_key: self.public_key.into(),
            nat_type: NatType::parse(&self.nat_type).unwrap_or_default(),
            public_ip: self.public_ip.into(),
            public_port: self.public_port,
            local_ip: self.local_ip.into(),
            local_port: self.local_port,
            last_seen: None,
        };
        let standing = match (self.lineage, self.claimed_from) {
            (Some(lineage), _) => Standing::Token(Lineage(lineage)),
            (None, Some(address)) => Standing::Address(address.parse().ok()?),
            (None, None) => return None,
        };
        let expires = self.expires.map(|expires| expires.restore(now));
        let device = (self.device == Some(true)).then_some(DeviceMember { expires, handshake: None });
        let invite = self.invite.and_then(|invite| InviteId::decode(&invite));
        let extras = (device.is_some() || invite.is_some())
            .then(|| Box::new(MemberExtras { device, invite, ..MemberExtras::default() }));
        Some(Member {
            key: info.wireguard_key(),
            info,
            virtual_ip: self.virtual_ip.parse::<Ipv4Addr>().ok()?,
            address_name: self.address_name.into(),
            joined: self.joined,
            seen: now.instant,
            heard: now.instant,
            origin: self.origin.and_then(|origin| origin.parse().ok()),
            claim: self.claim.unwrap_or(0),
            clock: LocalClock::Offset(self.clock_offset),
            standing,
            footprint: Footprint::NONE,
            extras,
        })
    }
}

impl AddressRecord {
    pub(super) fn of(address: Ipv4Addr, order: u64, owner: Option<Owner>) -> Self {
        AddressRecord {
            address: address.to_string(),
            order,
            owner: owner.map(|owner| owner.id),
            proven: owner.map(|owner| owner.proven),
        }
    }

    pub(super) fn owner(&self) -> Option<Owner> {
        self.owner.map(|id| Owner { id, proven: self.proven == Some(true) })
    }
}

impl TokenRecord {
    pub(super) fn of(token: &Token, now: Now) -> Self {
        let left = i64::try_from(token.expires.since(now.instant).as_micros()).unwrap_or(i64::MAX);
        TokenRecord {
            peer_id: token.peer.to_string(),
            lineage: token.lineage.0,
            expires_at: now.unix.shifted(left).as_micros(),
        }
    }

    /// The token, `peer`'s, with as much of `life` as is left.
    ///
    /// Use extends a token without writing, so after a crash the stored date can be long past for a token in
    /// daily use: every stored token starts anew then. Only a stop in good order stores true dates, and they
    /// only tell something if the clock was right at both ends.
    pub(super) fn restore(
        &self,
        peer: PeerId,
        stopped_at: Option<UnixTime>,
        life: Duration,
        now: Now,
    ) -> Token {
        let left = match stopped_at {
            Some(stopped) if stopped.is_plausible() && now.unix >= stopped => {
                let micros = UnixTime::from_micros(self.expires_at).micros_since(now.unix);
                Duration::from_micros(u64::try_from(micros).unwrap_or(0)).min(life)
            }
            _ => life,
        };
        Token {
            peer,
            lineage: Lineage(self.lineage),
            expires: now.instant + left,
            payer: HOUSE,
            is_used: false,
        }
    }
}

impl RelayRecord {
    pub(super) fn of(relay: &RegisteredRelay) -> Self {
        RelayRecord {
            owner: relay.owner.0,
            approved: None,
            ..Self::described(&relay.info, relay.registered_at)
        }
    }

    pub(super) fn of_approved(relay: &ApprovedRelay) -> Self {
        Self::described(&relay.info, relay.approved_at)
    }

    /// One that the owner has approved, and so nobody's.
    fn described(info: &RelayInfo, since: UnixTime) -> Self {
        RelayRecord {
            public_ip: info.public_ip.to_string(),
            port: info.port,
            region: info.region.clone(),
            capacity: info.capacity,
            public_key: info.public_key.clone(),
            owner: 0,
            registered_at: since.as_micros(),
            approved: Some(true),
        }
    }

    pub(super) fn is_approved(&self) -> bool {
        self.approved == Some(true)
    }

    pub(super) fn restore_approved(self, id: &str, now: Now) -> Option<ApprovedRelay> {
        let key = PublicKey::decode(self.public_key.as_deref()?)?;
        let RegisteredRelay { info, registered_at, seen, .. } = self.restore(id, now)?;
        Some(ApprovedRelay::new(info, key, registered_at, seen))
    }

    pub(super) fn restore(self, id: &str, now: Now) -> Option<RegisteredRelay> {
        Some(RegisteredRelay {
            info: RelayInfo {
                relay_id: RelayId::stored(id)?,
                public_ip: self.public_ip.parse().ok()?,
                port: self.port,
                region: self.region,
                capacity: self.capacity,
                public_key: self.public_key,
                load: 0,
            },
            owner: Lineage(self.owner),
            registered_at: UnixTime::from_micros(self.registered_at),
            seen: now.instant,
            told_others: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member() -> MemberRecord {
        MemberRecord {
            name: "Al \"ice\"\n\u{7} \u{1F600} \\".into(),
            public_key: "key".into(),
            nat_type: "symmetric".into(),
            public_ip: "unknown".into(),
            public_port: u16::MAX,
            local_ip: "::1".into(),
            local_port: 0,
            virtual_ip: "10.66.0.2".into(),
            address_name: "key#alice".into(),
            joined: u64::MAX,
            lineage: Some(1),
            claimed_from: None,
            clock_offset: i64::MIN,
            claim: Some(2),
            origin: Some("192.0.2.7".into()),
            device: Some(true),
            expires: Some(ExpiryRecord { at: None, left: 7 }),
            invite: Some("00".repeat(16)),
        }
    }

    #[test]
    fn every_record_is_read_as_it_was_written() {
        let ban = |peer: Option<&str>, key: Option<&str>| BanRecord {
            peer_id: peer.map(str::to_owned),
            key: key.map(str::to_owned),
        };
        let party = PartyRecord {
            name: "LAN".into(),
            host: Some("alice".into()),
            created_at: i64::MAX,
            joins: 3,
            bans: vec![ban(Some("eve"), None), ban(None, Some("a key")), ban(None, None)],
            access: Some("password".into()),
            password: Some("hash".into()),
            permanent: Some(true),
            ends: Some(ExpiryRecord { at: Some(1), left: -1 }),
            invites: Some(vec![InviteRecord {
                hash: "ab".into(),
                kind: "code".into(),
                uses: 3,
                left: 0,
                expires: ExpiryRecord { at: None, left: i64::MAX },
                created_at: 0,
                revoked: false,
                users: vec![u64::MAX, 0],
            }]),
            former: Some(vec!["p".into()]),
            relay: Some("lanrage-1a2b3c4d".into()),
        };
        assert_eq!(PartyRecord::read(party.serialize_json().as_bytes()), Some(party));
        let claimed = MemberRecord { lineage: None, claimed_from: Some("192.0.2.1".into()), ..member() };
        for member in [member(), claimed] {
            assert_eq!(MemberRecord::read(member.serialize_json().as_bytes()), Some(member));
        }
        let token = TokenRecord { peer_id: "alice".into(), lineage: u64::MAX, expires_at: -1 };
        assert_eq!(TokenRecord::read(token.serialize_json().as_bytes()), Some(token));
        let relay = RelayRecord {
            public_ip: "192.0.2.1".into(),
            port: 51_820,
            region: String::new(),
            capacity: u32::MAX,
            public_key: None,
            owner: 7,
            registered_at: 0,
            approved: Some(true),
        };
        assert_eq!(RelayRecord::read(relay.serialize_json().as_bytes()), Some(relay));
        let address =
            AddressRecord { address: "10.66.0.2".into(), order: 0, owner: Some(7), proven: Some(true) };
        assert_eq!(AddressRecord::read(address.serialize_json().as_bytes()), Some(address));
    }

    #[test]
    fn what_is_no_record_is_none_and_what_else_is_in_it_is_passed_over() {
        let text = member().serialize_json();
        for end in 0..text.len() {
            assert_eq!(MemberRecord::read(&text.as_bytes()[..end]), None, "{end}");
        }
        let changed = |from: &str, to: &str| {
            assert!(text.contains(from), "{from}");
            MemberRecord::read(text.replacen(from, to, 1).as_bytes())
        };
        assert_eq!(changed("{", "{\"later\":{\"name\":[{}]},"), Some(member()));
        assert_eq!(changed("\"local_port\":0,", ""), None);
        assert_eq!(changed("\"local_port\":0", "\"local_port\":65536"), None);
        assert_eq!(changed("\"local_port\":0", "\"local_port\":-1"), None);
        assert_eq!(changed("\"local_port\":0", "\"local_port\":\"0\""), None);
        assert_eq!(changed("\"symmetric\"", "null"), None);
        assert_eq!(changed("\"lineage\":1", "\"lineage\":\"1\""), None);
        let lineage = |member: Option<MemberRecord>| member.map(|member| member.lineage);
        assert_eq!(lineage(changed("\"lineage\":1", "\"lineage\":null")), Some(None));
        assert_eq!(lineage(changed("\"lineage\":1,", "")), Some(None));
        for bans in ["1", "{}", "[1]", "[{}, null]", "[{\"key\":1}]"] {
            let party =
                format!("{{\"name\":\"a\",\"host\":\"b\",\"created_at\":0,\"joins\":1,\"bans\":{bans}}}");
            assert_eq!(PartyRecord::read(party.as_bytes()), None, "{bans}");
        }
    }
}
