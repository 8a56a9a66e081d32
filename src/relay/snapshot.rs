//! Blind flows, and where the hub's members are, as bytes, so that a restart does not cut them (rule 9).
//!
//! ```text
//! | version 8 | unix time 8 | keys: count 4, 32 each | hub: count 4, 58 each | sessions: count 4, 132 each | mac 16 |
//! ```
//!
//! There are public keys in it, and no others: the hub makes new sessions with its members. An address without a
//! port is none.
//!
//! All numbers are little endian. Somebody else writes them to a file and reads them back, so they bear a MAC
//! keyed with the hub's key: what anybody else wrote, or what was damaged, is refused whole.

use crate::crypto::blake2s::{Secret, mac, mac32};
use crate::crypto::constant_time;
use crate::crypto::x25519::{PrivateKey, PublicKey};
use crate::datagram::Path;
use crate::figures::{Reach, Volume};
use crate::relay::Relay;
use crate::relay::flow_key::{FlowKey, unmapped};
use crate::relay::flows::{Flow, FlowState};
use crate::relay::limits::IDLE_LIFETIME;
use crate::relay::resumption::{self, Former};
use crate::relay::roster::MemberId;
use crate::time::{Instant, Now};
use crate::wireguard::timestamp::{self, Timestamp};
use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;
use zeroize::Zeroizing;

/// The format, to be changed with it.
const VERSION: u64 = 3;
const MAC_LENGTH: usize = 16;
/// For a member that is nowhere.
const NOWHERE: Path = Path { remote: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0), local: None };
const MAC_LABEL: &[u8] = b"lanrage relay snapshot";

/// Why a snapshot was refused. Nothing is lost by it but the time that clients need to notice: 15 s.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SnapshotError {
    /// It was not made with this hub's key, or it is damaged.
    Damaged,
    /// It was made by another version.
    Version,
    /// Its flows have expired, or a clock was set.
    Old,
}

/// What a restart did not cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Restored {
    /// Directions of blind sessions.
    pub flows: usize,
    /// Members that the hub is going to ask for a new session.
    pub hub_members: usize,
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SnapshotError::Damaged => "the relay's snapshot is damaged or not ours",
            SnapshotError::Version => "the relay's snapshot is of another version",
            SnapshotError::Old => "the relay's snapshot is too old",
        })
    }
}

impl std::error::Error for SnapshotError {}

/// What snapshots are authenticated with.
pub(super) struct SnapshotKey(Secret);

impl SnapshotKey {
    pub fn new(hub: &PrivateKey) -> Self {
        SnapshotKey(Zeroizing::new(mac32(&*hub.to_bytes(), &[MAC_LABEL])))
    }

    fn mac(&self, body: &[u8]) -> [u8; MAC_LENGTH] {
        mac(&*self.0, &[body])
    }
}

/// Reads what [`Relay::snapshot`] wrote.
struct SnapshotReader<'a>(&'a [u8]);

impl<'a> SnapshotReader<'a> {
    fn bytes<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(first)
    }

    fn u16(&mut self) -> Option<u16> {
        self.bytes().map(|bytes| u16::from_le_bytes(*bytes))
    }

    fn u32(&mut self) -> Option<u32> {
        self.bytes().map(|bytes| u32::from_le_bytes(*bytes))
    }

    fn u64(&mut self) -> Option<u64> {
        self.bytes().map(|bytes| u64::from_le_bytes(*bytes))
    }

    /// The instant that [`write_age`] wrote, `passed` ago.
    fn instant(&mut self, passed: Duration, now: Instant) -> Option<Instant> {
        let age = Duration::from_millis(self.u32()?.into());
        Some(now - age.saturating_add(passed))
    }

    fn ip(&mut self) -> Option<Ipv6Addr> {
        self.bytes::<16>().map(|ip| Ipv6Addr::from(*ip))
    }

    fn path(&mut self) -> Option<Path> {
        let (ip, port, scope) = (self.ip()?, self.u16()?, self.u32()?);
        let local = self.ip()?;
        Some(Path {
            remote: unmapped(SocketAddrV6::new(ip, port, 0, scope).into()),
            local: (!local.is_unspecified()).then(|| local.to_canonical()),
        })
    }
}

/// 38 bytes.
fn write_path(out: &mut Vec<u8>, path: Path) {
    let (ip, scope) = match path.remote {
        SocketAddr::V4(v4) => (v4.ip().to_ipv6_mapped(), 0),
        SocketAddr::V6(v6) => (*v6.ip(), v6.scope_id()),
    };
    out.extend_from_slice(&ip.octets());
    out.extend_from_slice(&path.remote.port().to_le_bytes());
    out.extend_from_slice(&scope.to_le_bytes());
    let local = match path.local {
        None => Ipv6Addr::UNSPECIFIED,
        Some(IpAddr::V4(ip)) => ip.to_ipv6_mapped(),
        Some(IpAddr::V6(ip)) => ip,
    };
    out.extend_from_slice(&local.octets());
}

fn write_age(out: &mut Vec<u8>, age: Duration) {
    out.extend_from_slice(&u32::try_from(age.as_millis()).unwrap_or(u32::MAX).to_le_bytes());
}

fn write_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&(count as u32).to_le_bytes());
}

/// One direction of a session as it is written: which data, from whom, how old.
struct Direction {
    /// Where the data comes from.
    from: Path,
    /// The index that it bears.
    index: u32,
    /// Who sends it, by its index among the keys.
    sender: u32,
    last: Instant,
    count: Volume,
}

impl Relay {
    /// All flows, where each of the hub's members is, and what the hub must remember of its handshakes so that old
    /// ones can't be replayed. For a restart: see [`Relay::restore`].
    pub fn snapshot(&self, now: Now) -> Vec<u8> {
        let Relay { state, blind, hub, .. } = self;
        let mut out = Vec::new();
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&now.unix.as_micros().to_le_bytes());
        let formers = resumption::formers(hub, state);
        let ends = blind.flows.sessions().flat_map(|both| both.map(|(_, flow)| flow.from));
        let (mut indices, mut keys) = (HashMap::new(), Vec::new());
        for id in formers.iter().map(|former| former.member).chain(ends) {
            if let Some(member) = state.roster.get(id) {
                indices.entry(id).or_insert_with(|| {
                    keys.extend_from_slice(member.key.as_bytes());
                    (keys.len() / member.key.as_bytes().len()) as u32 - 1
                });
            }
        }
        write_count(&mut out, indices.len());
        out.extend_from_slice(&keys);
        let index_of = |member: MemberId| indices.get(&member).copied().unwrap_or(u32::MAX);
        write_count(&mut out, formers.len());
        for Former { member, timestamp, address: at } in formers {
            let (path, heard) = at.unwrap_or((NOWHERE, now.instant));
            out.extend_from_slice(&index_of(member).to_le_bytes());
            out.extend_from_slice(timestamp.as_bytes());
            write_path(&mut out, path);
            write_age(&mut out, now.instant.since(heard));
        }
        write_count(&mut out, blind.flows.sessions().count());
        for [there, back] in blind.flows.sessions() {
            // Where the data of one direction goes is where that of the other one comes from.
            for ((key, flow), from) in [(there, back.1.to), (back, there.1.to)] {
                write_path(&mut out, from);
                out.extend_from_slice(&key.index().to_le_bytes());
                out.extend_from_slice(&index_of(flow.from).to_le_bytes());
                write_age(&mut out, now.instant.since(flow.last));
                out.extend_from_slice(&flow.count.packets.to_le_bytes());
                out.extend_from_slice(&flow.count.bytes.to_le_bytes());
            }
        }
        let mac = self.snapshot_key.mac(&out);
        out.extend_from_slice(&mac);
        out
    }

    /// Takes over what is in a [snapshot](Relay::snapshot), as far as its members are in the roster now and still
    /// may talk.
    pub fn restore(&mut self, snapshot: &[u8], now: Now) -> Result<Restored, SnapshotError> {
        let (body, given) = snapshot.split_last_chunk::<MAC_LENGTH>().ok_or(SnapshotError::Damaged)?;
        if !constant_time::eq(&self.snapshot_key.mac(body), given) {
            return Err(SnapshotError::Damaged);
        }
        let mut reader = SnapshotReader(body);
        if reader.u64() != Some(VERSION) {
            return Err(SnapshotError::Version);
        }
        let then = reader.u64().ok_or(SnapshotError::Damaged)?;
        let passed = now.unix.as_micros().wrapping_sub(then as i64);
        let passed = u64::try_from(passed).map(Duration::from_micros).map_err(|_| SnapshotError::Old)?;
        if passed >= IDLE_LIFETIME {
            return Err(SnapshotError::Old);
        }
        self.read_snapshot(&mut reader, passed, now.instant).ok_or(SnapshotError::Damaged)
    }

    fn read_snapshot(
        &mut self,
        reader: &mut SnapshotReader<'_>,
        passed: Duration,
        now: Instant,
    ) -> Option<Restored> {
        let mut members = Vec::new();
        for _ in 0..reader.u32()? {
            let key = PublicKey::from_bytes(*reader.bytes()?);
            members.push(self.state.roster.with_key(&key));
        }
        let member = |index: u32| members.get(index as usize).copied().flatten();
        let mut formers = Vec::new();
        for _ in 0..reader.u32()? {
            let id = member(reader.u32()?);
            let timestamp = Timestamp::from_bytes(*reader.bytes::<{ timestamp::LENGTH }>()?);
            let (path, heard) = (reader.path()?, reader.instant(passed, now)?);
            let address = (path.remote.port() != 0).then_some((path, heard));
            formers.extend(id.map(|member| Former { member, timestamp, address }));
        }
        let mut sessions = Vec::new();
        for _ in 0..reader.u32()? {
            sessions.push([read_direction(reader, passed, now)?, read_direction(reader, passed, now)?]);
        }
        if !reader.0.is_empty() {
            return None;
        }
        let restored = sessions.iter().filter(|session| self.restore_session(session, member, now).is_some());
        let flows = 2 * restored.count();
        Some(Restored {
            flows,
            hub_members: resumption::take_over(&mut self.hub, &mut self.state, formers, now),
        })
    }

    fn restore_session(
        &mut self,
        [there, back]: &[Direction; 2],
        member: impl Fn(u32) -> Option<MemberId>,
        now: Instant,
    ) -> Option<()> {
        let Relay { state, blind, .. } = self;
        let (one, other) = (member(there.sender)?, member(back.sender)?);
        let party = state.roster.shared_party(one, other)?;
        let keys = [there, back].map(|end| FlowKey::new(end.from.remote, end.index));
        let is_over = [there, back].iter().any(|end| now.since(end.last) >= IDLE_LIFETIME);
        let is_full = blind.flows.len() + 2 > state.limits.flows;
        if is_full || is_over || keys[0] == keys[1] || keys.iter().any(|key| blind.flows.contains(key)) {
            return None;
        }
        for end in [there, back] {
            if !state.sources.note(end.from, &state.limits, end.last) {
                return None;
            }
            state.sources.prove(end.from, end.last);
        }
        let ends =
            [(there, back, one, other), (back, there, other, one)].map(|(end, far, from, receiver)| {
                state.note_address(from, end.from.remote);
                if let Some(kept) = state.roster.state(from) {
                    let kept = kept.appear();
                    kept.endpoints.confirm(end.from, receiver, end.last);
                    kept.stats.reach = Reach::Blind;
                    kept.heard = kept.heard.max(end.last);
                }
                Flow {
                    to: far.from,
                    twin: None,
                    from,
                    receiver,
                    party,
                    bucket: state.admission.address_bucket(end.from.remote),
                    state: FlowState::Open,
                    last: end.last,
                    count: end.count,
                }
            });
        let [first, second] = ends;
        let both = [(keys[0], first), (keys[1], second)];
        blind.flows.insert(&mut state.roster, &state.limits, there.from.remote.ip(), both);
        Some(())
    }
}

fn read_direction(reader: &mut SnapshotReader<'_>, passed: Duration, now: Instant) -> Option<Direction> {
    Some(Direction {
        from: reader.path()?,
        index: reader.u32()?,
        sender: reader.u32()?,
        last: reader.instant(passed, now)?,
        count: Volume { packets: reader.u64()?, bytes: reader.u64()? },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::hex;
    use crate::crypto::random::Seeded;
    use crate::ids::{PartyId, PeerId};
    use crate::relay::RelaySettings;
    use crate::relay::limits::RESUMPTION_INTERVAL;
    use crate::relay::limits::RelayLimits;
    use crate::subnet::Subnet;
    use crate::time::UnixTime;
    use std::net::Ipv4Addr;

    /// What the first release wrote for two members with a flow and two at the hub.
    const OF_THE_FIRST_RELEASE: &str = "\
        03000000000000000000000000000400040000005dfedd3b6bd47f6fa28ee15d969d5bb0ea53774d488bdaf9df1c6e0124b3\
        ef22ac01b2209e86354fb853237b5de0f4fab13c7fcbf433a61c019369617fecf10ba4e09292b651c278b9772c569f5fa9bb\
        13d906b46ab68c9df9dc2b4409f8a209ce8d3ad1ccb633ec7b70c17814a5c76ecd029685050d344745ba05870e587d590200\
        00000000000002020202020202020202020200000000000000000000ffffc0000202ea030000000000000000000000000000\
        ffff0a000001204e00000100000003030303030303030303030300000000000000000000ffffc0000203eb03000000000000\
        0000000000000000ffff0a000001204e00000100000000000000000000000000ffffc0000200e80300000000000000000000\
        00000000ffff0a0000014d00000002000000881300000900000000000000d20400000000000000000000000000000000ffff\
        c0000201e9030000000000000000000000000000ffff0a0000014e00000003000000881300000900000000000000d2040000\
        00000000b0dfd0c0f710e821efe9e88acf17e29f";

    fn now() -> Now {
        Now { instant: Instant::from_nanos(10_000_000_000_000), unix: UnixTime::from_micros(1 << 50) }
    }

    fn relay(keys: &[PublicKey], limits: RelayLimits) -> Relay {
        let settings = RelaySettings {
            hub_key: PrivateKey::from_bytes([9; 32]),
            subnet: Subnet::DEFAULT,
            mtu: 1420,
            stamp_mark: 0,
            seed: 1,
            limits,
        };
        let mut relay = Relay::new(settings, now().instant);
        let party = PartyId::new("p").unwrap();
        for (number, &key) in keys.iter().enumerate() {
            let peer = PeerId::new(&number.to_string()).unwrap();
            let ip = Ipv4Addr::new(10, 66, 1, number as u8 + 2);
            relay.join(&party, &peer, key, ip, now().instant).unwrap();
        }
        relay
    }

    /// Somebody who has the hub's key writes nonsense. Nothing panics, and nothing grows past its limits.
    #[test]
    fn a_snapshot_that_says_nonsense_does_no_harm() {
        let mut random = Seeded::new(4);
        let keys: Vec<_> = (1..5).map(|seed| PrivateKey::from_bytes([seed; 32]).public_key()).collect();
        let limits = RelayLimits { flows: 6, sources: 8, ..RelayLimits::default() };
        let (mut taken, mut resumed) = (0, 0);
        for round in 0..300 {
            let mut body = Vec::new();
            body.extend_from_slice(&VERSION.to_le_bytes());
            body.extend_from_slice(&(now().unix.as_micros() - random.below(9_000_000) as i64).to_le_bytes());
            write_count(&mut body, keys.len());
            keys.iter().for_each(|key| body.extend_from_slice(key.as_bytes()));
            let path = |random: &mut Seeded| Path {
                remote: ([192, 0, 2, random.below(20) as u8], random.below(3) as u16).into(),
                local: (random.below(2) == 0).then(|| [10, 0, 0, random.below(3) as u8].into()),
            };
            let hub_members = random.below(20) as usize;
            write_count(&mut body, hub_members);
            for _ in 0..hub_members {
                body.extend_from_slice(&(random.below(6) as u32).to_le_bytes());
                body.extend_from_slice(&[random.below(256) as u8; timestamp::LENGTH]);
                write_path(&mut body, path(&mut random));
                write_age(&mut body, Duration::from_secs(random.below(300)));
            }
            let flows = random.below(20) as usize;
            write_count(&mut body, flows);
            for _ in 0..2 * flows {
                write_path(&mut body, path(&mut random));
                for below in [3, 6, 300_000] {
                    body.extend_from_slice(&(random.below(below) as u32).to_le_bytes());
                }
                (0..2).for_each(|_| body.extend_from_slice(&random.next_u64().to_le_bytes()));
            }
            if round % 2 == 1 {
                for _ in 0..=random.below(3) {
                    let at = 16 + random.below(body.len() as u64 - 16) as usize;
                    body[at] = random.below(256) as u8;
                }
                body.truncate(body.len() - random.below(2) as usize * random.below(30) as usize);
            }
            let mut relay = relay(&keys, limits);
            let mac = relay.snapshot_key.mac(&body);
            body.extend_from_slice(&mac);
            let restored = relay.restore(&body, now());
            assert!(round % 2 == 1 || restored.is_ok(), "{restored:?}");
            let Ok(Restored { flows, hub_members }) = restored else { continue };
            assert!(flows <= limits.flows && hub_members <= keys.len());
            assert_eq!(relay.blind.flows.len(), flows);
            (taken, resumed) = (taken + flows, resumed + hub_members);
            let mut sent = 0;
            for second in 0..30 {
                let instant = now().instant + Duration::from_secs(second);
                relay.poll(Now { instant, ..now() }, &mut |to: SocketAddr, _, _: &[u8]| {
                    assert!(to.port() != 0);
                    sent += 1;
                });
            }
            assert!(sent <= keys.len() * 20, "{sent}");
        }
        assert!(taken > 200 && resumed > 200, "{taken} {resumed}");
    }

    #[test]
    fn there_are_no_secret_keys_in_it() {
        let relay = relay(&[PrivateKey::from_bytes([1; 32]).public_key()], RelayLimits::default());
        let snapshot = relay.snapshot(now());
        assert!(snapshot.windows(32).all(|window| window != [9; 32]));
        assert_eq!(snapshot.len(), 8 + 8 + 4 + 4 + 4 + MAC_LENGTH, "nobody came, nobody is in it");
    }

    /// An upgrade cuts no game: what the first release left is read.
    #[test]
    fn what_the_first_release_left_is_taken_over() {
        let keys: Vec<_> = (1..5).map(|seed| PrivateKey::from_bytes([seed; 32]).public_key()).collect();
        let mut relay = relay(&keys, RelayLimits::default());
        let snapshot: [u8; 420] = hex::decode(OF_THE_FIRST_RELEASE).unwrap();
        assert_eq!(relay.restore(&snapshot, now()), Ok(Restored { flows: 2, hub_members: 2 }));
        let mut to = Vec::new();
        for turn in 0..4 {
            let instant = now().instant + turn * RESUMPTION_INTERVAL;
            relay.poll(Now { instant, ..now() }, &mut |at: SocketAddr, _, _: &[u8]| to.push(at.to_string()));
        }
        to.sort();
        assert_eq!(to, ["192.0.2.2:1002", "192.0.2.3:1003"], "the hub asks its members for new sessions");
    }
}
