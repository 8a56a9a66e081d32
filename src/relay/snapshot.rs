//! Blind flows as bytes, so that a graceful restart does not cut them (rule 9).
//!
//! ```text
//! | version 8 | unix time 8 | keys: count 4, 32 each | hub: count 4, 16 each | flows: count 4, 84 each | mac 16 |
//! ```
//!
//! All numbers are little endian. Somebody else writes them to a file and reads them back, so they bear a MAC
//! keyed with the hub's key: what anybody else wrote, or what was damaged, is refused whole.

use crate::crypto::blake2s::{Secret, mac, mac32};
use crate::crypto::constant_time;
use crate::crypto::x25519::{PrivateKey, PublicKey};
use crate::relay::Relay;
use crate::relay::flow_key::{FlowKey, canonical};
use crate::relay::flows::Flow;
use crate::relay::limits::IDLE_LIFETIME;
use crate::relay::roster::MemberId;
use crate::relay::stats::{Count, Path};
use crate::time::{Instant, Now};
use crate::wireguard::timestamp::{self, Timestamp};
use std::collections::HashMap;
use std::fmt;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;
use zeroize::Zeroizing;

/// The format, to be changed with it.
const VERSION: u64 = 1;
const MAC_LENGTH: usize = 16;
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
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
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

    fn address(&mut self) -> Option<SocketAddr> {
        let ip = Ipv6Addr::from(*self.bytes::<16>()?);
        let (port, scope) = (self.u16()?, self.u32()?);
        Some(canonical(SocketAddrV6::new(ip, port, 0, scope).into()))
    }
}

fn write_address(out: &mut Vec<u8>, address: SocketAddr) {
    let (ip, scope) = match address {
        SocketAddr::V4(v4) => (v4.ip().to_ipv6_mapped(), 0),
        SocketAddr::V6(v6) => (*v6.ip(), v6.scope_id()),
    };
    out.extend_from_slice(&ip.octets());
    out.extend_from_slice(&address.port().to_le_bytes());
    out.extend_from_slice(&scope.to_le_bytes());
}

fn write_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&(count as u32).to_le_bytes());
}

/// One flow as it is read.
struct Entry {
    key: FlowKey,
    to: SocketAddr,
    twin: u32,
    from: u32,
    receiver: u32,
    age: Duration,
    proven: bool,
    echo: bool,
    held: bool,
    count: Count,
}

impl Relay {
    /// All flows, and what the hub must remember of each member's handshakes so that old ones can't be
    /// replayed. For a restart: see [`Relay::restore`].
    pub fn snapshot(&self, now: Now) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&now.unix.as_micros().to_le_bytes());
        let mut places = HashMap::new();
        write_count(&mut out, self.books.roster.len());
        for (place, (id, member)) in self.books.roster.iter().enumerate() {
            places.insert(id, place as u32);
            out.extend_from_slice(member.key.as_bytes());
        }
        let hub: Vec<_> = self.hub.greatest_timestamps().collect();
        write_count(&mut out, hub.len());
        for (member, timestamp) in hub {
            out.extend_from_slice(&places.get(&member).copied().unwrap_or(u32::MAX).to_le_bytes());
            out.extend_from_slice(timestamp.as_bytes());
        }
        write_count(&mut out, self.blind.flows.len());
        for (key, flow) in self.blind.flows.iter() {
            let place = |member: MemberId| places.get(&member).copied().unwrap_or(u32::MAX);
            write_address(&mut out, key.address());
            write_address(&mut out, flow.to);
            for number in [key.index(), flow.twin, place(flow.from), place(flow.receiver)] {
                out.extend_from_slice(&number.to_le_bytes());
            }
            let age = now.instant.since(flow.last).as_millis() as u32;
            let proven = self.books.sources.is_proven(key.address());
            let flags = u32::from(proven) | u32::from(flow.echo) << 1 | u32::from(flow.held) << 2;
            out.extend_from_slice(&age.to_le_bytes());
            out.extend_from_slice(&flags.to_le_bytes());
            out.extend_from_slice(&flow.count.packets.to_le_bytes());
            out.extend_from_slice(&flow.count.bytes.to_le_bytes());
        }
        let mac = self.snapshot_key.mac(&out);
        out.extend_from_slice(&mac);
        out
    }

    /// Takes over the flows of a [snapshot](Relay::snapshot), as far as their members are in the roster now and
    /// still may talk. How many directions that were.
    pub fn restore(&mut self, snapshot: &[u8], now: Now) -> Result<usize, SnapshotError> {
        let (body, given) = snapshot.split_last_chunk::<MAC_LENGTH>().ok_or(SnapshotError::Damaged)?;
        if !constant_time::eq(&self.snapshot_key.mac(body), given) {
            return Err(SnapshotError::Damaged);
        }
        let mut reader = Reader(body);
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

    fn read_snapshot(&mut self, reader: &mut Reader<'_>, passed: Duration, now: Instant) -> Option<usize> {
        let mut members = Vec::new();
        for _ in 0..reader.u32()? {
            let key = PublicKey::from_bytes(*reader.bytes()?);
            members.push(self.books.roster.with_key(&key));
        }
        let member = |place: u32| members.get(place as usize).copied().flatten();
        for _ in 0..reader.u32()? {
            let id = member(reader.u32()?);
            let timestamp = Timestamp::from_bytes(*reader.bytes::<{ timestamp::LENGTH }>()?);
            if let Some(id) = id {
                self.hub.set_greatest_timestamp(&self.books, id, timestamp, now);
            }
        }
        let mut entries = Vec::new();
        for _ in 0..reader.u32()? {
            let (here, to) = (reader.address()?, reader.address()?);
            let (index, twin, from, receiver) = (reader.u32()?, reader.u32()?, reader.u32()?, reader.u32()?);
            let (age, flags) = (Duration::from_millis(reader.u32()?.into()), reader.u32()?);
            entries.push(Entry {
                key: FlowKey::new(here, index),
                to,
                twin,
                from,
                receiver,
                age: age.saturating_add(passed),
                proven: flags & 1 != 0,
                echo: flags & 2 != 0,
                held: flags & 4 != 0,
                count: Count { packets: reader.u64()?, bytes: reader.u64()? },
            });
        }
        let restored = entries.iter().filter(|entry| self.restore_flow(entry, member, now).is_some()).count();
        reader.0.is_empty().then_some(restored)
    }

    fn restore_flow(
        &mut self,
        entry: &Entry,
        member: impl Fn(u32) -> Option<MemberId>,
        now: Instant,
    ) -> Option<()> {
        let (from, receiver) = (member(entry.from)?, member(entry.receiver)?);
        let party = self.books.roster.shared_party(from, receiver)?;
        let here = entry.key.address();
        let full = self.blind.flows.len() >= self.books.limits.flows;
        if full || self.blind.flows.contains(&entry.key) || entry.age >= IDLE_LIFETIME {
            return None;
        }
        let last = now - entry.age;
        if !self.books.sources.note(here, &self.books.limits, last) {
            return None;
        }
        if entry.proven {
            self.books.sources.prove(here, last);
        }
        self.books.place(from, here);
        self.books.bindings.learn(from, here, receiver, last);
        if let Some(stats) = self.books.members.get_mut(from.slot()) {
            stats.path = Path::Blind;
        }
        self.blind.flows.insert(
            entry.key,
            Flow {
                to: entry.to,
                twin: entry.twin,
                from,
                receiver,
                party,
                bucket: self.books.admission.address_bucket(here),
                settled: false,
                echo: entry.echo,
                held: entry.held,
                challenged: true,
                last,
                count: entry.count,
            },
        );
        Some(())
    }
}
