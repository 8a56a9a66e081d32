//! Long random histories at one instance, taken over by another one after each drain. Now and then they change roles.

use super::*;
use crate::control::addresses::Owner;
use crate::control::adopt::{Commit, Diverged};
use crate::control::approvals::FeedSize;
use crate::control::entry::{DeviceWish, Entry};
use crate::control::expiry::Expiry;
use crate::control::invites::{InviteKind, InviteWish};
use crate::control::ownership::PartyWish;
use crate::control::record::{ExpiryRecord, MemberRecord, PartyRecord, RelayRecord, TokenRecord};
use crate::crypto::random::Seeded;
use crate::wire::roster::relay_id;
use std::collections::{BTreeMap, BTreeSet};

const PEERS: [&str; 7] = ["ann", "bob", "cat", "dan", "eve", "fay", "gus"];
const PARTIES: [&str; 2] = ["den", "attic"];
const HOUR: Duration = Duration::from_secs(3600);

/// What an instance that decides tells another one of these changes.
pub(super) fn commit(control: &Control, changes: Vec<Change>, now: Now) -> Commit {
    let (mut parties, mut members) = (BTreeSet::new(), BTreeSet::new());
    let (mut tokens, mut relays, mut addresses) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let changes: Vec<Change> =
        changes.into_iter().filter(|change| !matches!(change, Change::Signalled(..))).collect();
    let mut commit = Commit::default();
    for change in &changes {
        match change {
            Change::PartyCreated(id)
            | Change::PartyChanged(id)
            | Change::EntryChanged(id)
            | Change::PartyDeleted { party: id, .. } => drop(parties.insert(id.clone())),
            Change::InviteUsed(id, peer, _) => {
                parties.insert(id.clone());
                members.insert((id.clone(), peer.clone()));
            }
            Change::PartyRenamed { from, party, members: all } => {
                parties.extend([from.clone(), party.clone()]);
                members.extend(
                    all.iter().flat_map(|peer| [(from.clone(), peer.clone()), (party.clone(), peer.clone())]),
                );
            }
            Change::MemberJoined(id, peer)
            | Change::MemberChanged(id, peer)
            | Change::MemberMoved(id, peer) => {
                members.insert((id.clone(), peer.clone()));
            }
            Change::MemberLeft { party, who, .. } => drop(members.insert((party.clone(), who.peer.clone()))),
            Change::TokenIssued(hash) | Change::TokenExtended(hash) | Change::TokenRevoked(hash) => {
                tokens.insert(*hash);
            }
            Change::RelayChanged(id) | Change::RelayHeard { relay: id, .. } | Change::RelayExpired(id) => {
                relays.insert(id.clone());
            }
            Change::AddressAssigned(name) | Change::AddressForgotten(name) => {
                addresses.insert(name.clone());
            }
            Change::EndpointChanged => commit.records.endpoint = control.endpoint().cloned(),
            Change::Signalled(..) | Change::WentStraight(..) => {}
        }
    }
    for id in parties {
        match control.party_record(&id, now) {
            Some(record) => commit.records.parties.push((id.to_string(), record)),
            None => commit.gone.parties.push(id.to_string()),
        }
    }
    for (id, peer) in members {
        match control.member_record(&id, &peer, now) {
            Some(record) => commit.records.members.push((id.to_string(), peer.to_string(), record)),
            None => commit.gone.members.push((id.to_string(), peer.to_string())),
        }
    }
    for hash in tokens {
        match control.token_record(&hash, now) {
            Some(record) => commit.records.tokens.push((hash, record)),
            None => commit.gone.tokens.push(hash),
        }
    }
    for id in relays {
        match control.relay_record(&id) {
            Some(record) => commit.records.relays.push((id.to_string(), record)),
            None => commit.gone.relays.push(id.to_string()),
        }
    }
    for name in addresses {
        match control.address_record(&name) {
            Some(record) => commit.records.addresses.push((name, record)),
            None => commit.gone.addresses.push(name),
        }
    }
    commit.changes = changes;
    commit
}

/// All that two instances must agree on.
#[derive(PartialEq, Debug)]
struct Sight {
    parties: BTreeMap<String, PartyRecord>,
    members: BTreeMap<(String, String), MemberRecord>,
    tokens: BTreeMap<[u8; 32], TokenRecord>,
    tokens_of: BTreeMap<String, Vec<[u8; 32]>>,
    relays: BTreeMap<String, RelayRecord>,
    addresses: BTreeMap<String, (Ipv4Addr, Option<Owner>, Option<PeerId>)>,
    waiting: BTreeMap<String, BTreeSet<PeerId>>,
    memberships: BTreeMap<String, BTreeSet<PartyId>>,
    invites: BTreeMap<String, PartyId>,
    endpoint: Option<(String, u16)>,
    bytes: (usize, usize, usize),
    idle: usize,
}

fn rounded(expiry: &mut ExpiryRecord) {
    expiry.left = (expiry.left + 500) / 1000;
}

fn sight(control: &Control, now: Now) -> Sight {
    let mut members = BTreeMap::new();
    let mut tokens_of = BTreeMap::new();
    let parties = control.parties().map(|party| {
        for peer in party.members.keys() {
            let mut record = control.member_record(&party.id, peer, now).unwrap();
            record.expires.iter_mut().for_each(rounded);
            members.insert((party.id.to_string(), peer.to_string()), record);
        }
        let mut record = control.party_record(&party.id, now).unwrap();
        record.ends.iter_mut().for_each(rounded);
        record.invites.iter_mut().flatten().for_each(|invite| rounded(&mut invite.expires));
        (party.id.to_string(), record)
    });
    let parties = parties.collect();
    for id in PEERS {
        tokens_of.insert(id.to_owned(), control.tokens().of(&peer(id)).map(|(hash, _)| hash).collect());
    }
    let approved = control.approvals().approved().map(|relay| &relay.info.relay_id);
    let relays = control.relays().iter().map(|relay| &relay.info.relay_id).chain(approved);
    let pool = &control.addresses;
    let addresses = pool.names().map(|name| {
        let holder = pool.holder(name).cloned();
        (name.to_owned(), (pool.get(name).unwrap().0, pool.owner(name), holder))
    });
    Sight {
        parties,
        members,
        tokens: control
            .tokens()
            .iter()
            .map(|(hash, _)| (hash, control.token_record(&hash, now).unwrap()))
            .collect(),
        tokens_of,
        relays: relays.map(|id| (id.to_string(), control.relay_record(id).unwrap())).collect(),
        addresses: addresses.collect(),
        waiting: pool
            .all_waiting()
            .map(|(key, peers)| (key.to_owned(), peers.iter().cloned().collect()))
            .collect(),
        memberships: control
            .memberships
            .iter()
            .map(|(peer, parties)| (peer.to_string(), parties.as_slice().iter().cloned().collect()))
            .collect(),
        invites: control.invites.iter().map(|(id, party)| (id.encode(), party.clone())).collect(),
        endpoint: control.endpoint.clone(),
        bytes: (control.memory.total(), control.tokens.holdings().total(), control.relays.holdings().total()),
        idle: pool.idle_count(),
    }
}

/// The names that nobody holds, by how long they are unused.
fn idle_order(control: &Control) -> Vec<String> {
    let pool = &control.addresses;
    let idle = pool.names().filter(|name| pool.holder(name).is_none());
    let mut idle: Vec<_> = idle.map(|name| (pool.get(name).unwrap().1, name.to_owned())).collect();
    idle.sort();
    idle.into_iter().map(|(_, name)| name).collect()
}

/// Two instances, and what their users know.
struct Pair {
    writer: Control,
    follower: Control,
    now: Now,
    random: Seeded,
    keys: Vec<PrivateKey>,
    tokens: Vec<String>,
    invites: Vec<String>,
    entries: Vec<Entry>,
    ids: Vec<PartyId>,
    log: Vec<String>,
}

impl Pair {
    fn new(seed: u64) -> Self {
        let limits = ControlLimits {
            addresses_remembered: 4,
            tokens: 14,
            tokens_per_peer: 3,
            relays: 3,
            parties: 9,
            peers_per_party: 5,
            ..ControlLimits::default()
        };
        let settings = ControlSettings {
            limits,
            subnet: Subnet::parse("10.66.0.0/28").unwrap(),
            ..ControlSettings::default()
        };
        let now = Now { instant: Instant::ZERO + HOUR, unix: UnixTime::from_micros(1_795_176_000_000_000) };
        let hub = PrivateKey::from_bytes([7; 32]);
        let new = || Control::new(settings.clone(), hub.clone(), Records::default(), now);
        let (writer, mut follower) = (new(), new());
        follower.follow(now);
        Pair {
            writer,
            follower,
            now,
            random: Seeded::new(seed),
            keys: (1..6).map(|byte| PrivateKey::from_bytes([byte; 32])).collect(),
            tokens: Vec::new(),
            invites: Vec::new(),
            entries: Vec::new(),
            ids: PARTIES.iter().map(|id| PartyId::new(id).unwrap()).collect(),
            log: Vec::new(),
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        self.random.below(bound as u64) as usize
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> Option<T> {
        (!of.is_empty()).then(|| of[self.below(of.len())].clone())
    }

    fn peer(&mut self) -> PeerId {
        peer(PEERS[self.below(PEERS.len())])
    }

    fn origin(&mut self) -> IpAddr {
        [HOME, ELSEWHERE, "192.0.2.1".parse().unwrap()][self.below(3)]
    }

    fn good_key(&mut self) -> PublicKey {
        let number = self.below(5);
        self.keys[number].public_key()
    }

    fn key(&mut self) -> String {
        match self.below(7) {
            0 => "opaque".into(),
            1 => "another".into(),
            _ => self.good_key().encode(),
        }
    }

    fn info(&mut self, id: &PeerId) -> PeerInfo {
        PeerInfo { name: ["Me", "I"][self.below(2)].into(), ..info(id.as_str(), &self.key()) }
    }

    fn party(&mut self) -> PartyId {
        // As a rule one that is there.
        let mut there: Vec<PartyId> = self.writer.parties().map(|party| party.id.clone()).collect();
        there.sort();
        let known = self.ids.clone();
        match self.below(8) {
            0 => self.one(&known).unwrap(),
            _ => self.one(&there).unwrap_or_else(|| known[0].clone()),
        }
    }

    fn member(&mut self, party: &PartyId) -> PeerId {
        let members = self.writer.party(party.as_str()).map(|party| party.members.keys().cloned().collect());
        let members: Vec<PeerId> = members.unwrap_or_default();
        match self.below(6) {
            0 => self.peer(),
            _ => self.one(&members).unwrap_or_else(|| peer("ann")),
        }
    }

    fn identity(&mut self) -> Option<Identity> {
        if self.below(8) == 0 {
            let (peer, from) = (self.peer(), self.origin());
            return self.writer.claim(&peer, from).ok();
        }
        let tokens = self.tokens.clone();
        let token = self.one(&tokens)?;
        self.writer.authenticate(&token, self.now).ok()
    }

    fn actor(&mut self, party: &PartyId) -> Actor {
        let host = self.writer.party(party.as_str()).ok().and_then(|party| party.host.clone());
        let standing = host
            .as_ref()
            .and_then(|host| Some(self.writer.party(party.as_str()).ok()?.members.get(host)?.standing));
        match (host, standing, self.below(3)) {
            (Some(peer), Some(standing), 0 | 1) => Actor::Peer(Identity { peer, standing }),
            _ => Actor::Admin,
        }
    }

    fn expiry(&mut self) -> Option<Expiry> {
        match self.below(3) {
            0 => None,
            hours => Some(Expiry::after(hours as u32 * HOUR, self.now)),
        }
    }

    fn claim<'a>(&mut self, by: &PeerId, texts: &'a mut (String, String), key: &str) -> KeyClaim<'a> {
        let origin = (self.below(12) != 0).then(|| self.origin());
        let own = self.keys.iter().find(|private| private.public_key().encode() == key).cloned();
        let Some(own) = own.filter(|_| self.random.below(4) == 0) else {
            return KeyClaim { origin, proof: None };
        };
        texts.0 = self.writer.nonce(by, self.now);
        texts.1 = proof::prove(&own, &self.writer.hub(), by, &texts.0).unwrap();
        KeyClaim { origin, proof: Some((&texts.0, &texts.1)) }
    }

    /// Something that somebody does.
    fn act(&mut self) {
        let (now, what) = (self.now, self.below(36));
        let party = self.party();
        let (id, texts) = (party.as_str().to_owned(), &mut Default::default());
        let by = self.actor(&party);
        self.log.push(format!("{what} {id} {by:?} at {:?}", now.instant));
        match what {
            0..=3 => {
                let peer = self.peer();
                let tokens = self.tokens.clone();
                let token = self.one(&tokens);
                let payer = (self.below(3) != 0).then(|| self.origin());
                let key = self.writer.parties_of(&peer).first().and_then(|party| {
                    Some(self.writer.party(party.as_str()).ok()?.members[peer.as_str()].key?.encode())
                });
                let proof = self.claim(&peer, texts, &key.unwrap_or_default()).proof;
                let shown = Credentials { token: token.as_deref(), proof, payer };
                if let Ok(issued) = self.writer.register(&peer, shown, now) {
                    self.tokens.push(issued.token);
                }
            }
            4..=6 => {
                let Some(by) = self.identity() else { return };
                let info = self.info(&by.peer);
                let claim = self.claim(&by.peer, texts, &info.public_key);
                let wanted = (self.below(3) == 0).then_some(party);
                let name = ["LAN", "A longer name"][self.below(2)];
                if let Ok(id) = self.writer.create_party(&by, wanted, name, info, claim, now) {
                    self.ids.push(id);
                }
            }
            7..=11 => {
                let Some(by) = self.identity() else { return };
                let info = self.info(&by.peer);
                let claim = self.claim(&by.peer, texts, &info.public_key);
                let invites = self.invites.clone();
                let name = match self.below(3) {
                    0 => self.one(&invites).unwrap_or(id),
                    _ => id,
                };
                let entry = self.writer.enter_party(&by, &name, info, claim, Some("pass"), now);
                self.entries.extend(entry);
            }
            12 => {
                let peer = self.member(&party);
                let standing = self
                    .writer
                    .party(&id)
                    .ok()
                    .and_then(|party| party.members.get(&peer))
                    .map(|m| m.standing);
                let by =
                    standing.map_or(by, |standing| Actor::Peer(Identity { peer: peer.clone(), standing }));
                let _ = self.writer.remove_peer(&by, &id, peer.as_str());
            }
            13 => {
                let peer = self.member(&party);
                let _ = self.writer.remove_peer(&by, &id, peer.as_str());
            }
            14 => drop(self.writer.delete_party(&by, &id)),
            15 => {
                let ban = Ban {
                    peer_id: (self.below(3) != 0).then(|| self.member(&party)),
                    key: (self.below(3) == 0).then(|| self.keys[0].public_key()),
                };
                let _ = self.writer.ban(&by, &id, ban.clone());
                if self.below(2) == 0
                    && let Ok(id) = self.writer.rename_party(&by, &id)
                {
                    self.ids.push(id);
                }
                if self.below(3) == 0 {
                    let _ = self.writer.unban(&by, &id, &ban, "");
                }
            }
            16 => {
                let wish = PartyWish {
                    name: (self.below(2) == 0).then_some("Other"),
                    access: [None, Some("invite"), Some("open"), Some("public")][self.below(4)],
                    password: (self.below(3) == 0).then_some("pass"),
                    permanent: [None, Some(true), Some(false)][self.below(3)],
                    ends: (self.below(2) == 0).then(|| self.expiry()),
                    relay: None,
                };
                let _ = self.writer.change_party(&by, &id, &wish);
            }
            17 => {
                let relay =
                    self.writer.approvals().approved().next().map(|relay| relay.info.relay_id.to_string());
                let wish = PartyWish {
                    name: Some("Club"),
                    permanent: Some(self.below(2) == 0),
                    relay: relay.as_deref(),
                    ..PartyWish::default()
                };
                self.ids.extend(self.writer.create_own_party(&wish, now));
            }
            18..=20 => {
                let kind = [InviteKind::Link, InviteKind::Code][self.below(2)];
                let wish = InviteWish {
                    kind,
                    uses: 1 + self.below(3) as u32,
                    life: HOUR * (1 + self.below(3) as u32),
                };
                self.invites.extend(self.writer.create_invite(&by, &id, wish, now).map(|(secret, _)| secret));
            }
            21 => {
                let invite =
                    self.writer.party(&id).ok().and_then(|party| Some(party.invites.first()?.id.to_string()));
                let peer = self.member(&party);
                let _ = match invite.filter(|_| self.random.below(2) == 0) {
                    Some(invite) => self.writer.revoke_invite(&by, &id, &invite),
                    None => self.writer.revoke_invite_of(&by, &id, peer.as_str()),
                };
            }
            22 | 23 => {
                let key = self.good_key();
                let (expires, origin) = (self.expiry(), Some(self.origin()));
                let wish = DeviceWish { name: "Phone", key, expires, origin };
                let invites = self.invites.clone();
                match self.one(&invites).filter(|_| self.random.below(2) == 0) {
                    Some(invite) => {
                        self.entries.extend(self.writer.redeem(&invite, &wish, Some("pass"), now))
                    }
                    None => drop(self.writer.add_device(&by, &id, &wish, now)),
                }
            }
            24 => {
                let peer = self.member(&party);
                let _ = self.writer.remove_device(&by, &id, peer.as_str());
            }
            25 => {
                let Some(by) = self.identity() else { return };
                let info = RelayInfo {
                    relay_id: RelayId::new(["r1", "r2", "r3", "r4", "r5"][self.below(5)]).unwrap(),
                    public_ip: self.origin(),
                    port: 1 + self.below(2) as u16,
                    region: "eu".into(),
                    capacity: 1,
                    public_key: None,
                    load: self.below(3) as u32,
                };
                let _ = self.writer.register_relay(&by, info, now);
            }
            26 | 27 => {
                let (peer, origin) = (self.member(&party), self.origin());
                let _ = self.writer.heartbeat(&id, &peer, Some(origin), now);
            }
            28..=30 => {
                let key = self.good_key();
                let from = self.origin();
                self.writer.handshake(&key, from, now);
            }
            31 => {
                let Some(by) = self.identity() else { return };
                self.writer.touch(&by, now);
                let to = self.member(&party);
                let _ = self.writer.signal(&by, &id, to.as_str(), "{}".into(), now);
            }
            32 => {
                let (entries, port) = (self.entries.clone(), 1 + self.below(9) as u16);
                match self.one(&entries) {
                    Some(entry) => self.writer.undo(&entry),
                    None => self.writer.set_endpoint(("there".into(), port)),
                }
            }
            33 | 34 => {
                let key = self.good_key();
                let info = RelayInfo {
                    relay_id: relay_id(&key),
                    public_ip: self.origin(),
                    port: 7,
                    region: ["eu", "us"][self.below(2)].into(),
                    capacity: 1,
                    public_key: Some(key.encode()),
                    load: 0,
                };
                let name = info.relay_id.clone();
                if self.writer.approvals().get(name.as_str()).is_none() {
                    self.writer.await_approval(info, &key, HOME, now.instant);
                    let _ = self.writer.approve_relay(name.as_str(), &key.encode(), now);
                } else if self.below(2) == 0 {
                    self.writer.refresh_relay(info, now.instant);
                    self.writer.set_others(true);
                    let told = FeedSize::default();
                    self.writer.relay_heard(&key, self.random.below(9) as u32, told, now.instant);
                } else {
                    drop(self.writer.revoke_relay(name.as_str()));
                }
            }
            _ => self.writer.sweep(now),
        }
    }

    fn wait(&mut self) {
        let span = match self.below(40) {
            0 => 14 * HOUR,
            1..=3 => HOUR,
            4..=9 => Duration::from_secs(70),
            _ => Duration::from_millis(self.random.below(3000)),
        };
        self.now = Now { instant: self.now.instant + span, unix: self.now.unix + span };
    }

    /// The follower takes over what the writer did.
    fn follow(&mut self) -> Result<Vec<Change>, Diverged> {
        let changes = self.writer.drain_changes();
        for change in &changes {
            if let Change::Signalled(party, signal) = change {
                self.writer.queue_signal(party, signal.clone());
            }
        }
        let commit = commit(&self.writer, changes, self.now);
        let told = commit.changes.clone();
        self.follower.adopt(commit, self.now)?;
        assert_eq!(self.follower.drain_changes(), told);
        Ok(told)
    }

    fn compare(&self, seed: u64) {
        let (writer, follower) = (sight(&self.writer, self.now), sight(&self.follower, self.now));
        if writer != follower {
            let last = self.log.len().saturating_sub(8);
            let (writer, follower) = (format!("{writer:#?}"), format!("{follower:#?}"));
            let differ = writer.lines().zip(follower.lines()).filter(|(one, other)| one != other);
            let differ: Vec<_> = differ.take(10).collect();
            panic!("seed {seed}: {:#?}\nthe writer and the follower: {differ:#?}", &self.log[last..]);
        }
    }
}

/// A history in so many steps, each of up to `largest` acts.
fn history(seed: u64, steps: usize, largest: usize, has_turns: bool) -> BTreeMap<&'static str, usize> {
    let mut pair = Pair::new(seed);
    let mut seen = BTreeMap::new();
    for step in 0..steps {
        if pair.below(3) == 0 {
            pair.wait();
        }
        for _ in 0..=pair.below(largest) {
            pair.act();
        }
        let told =
            pair.follow().unwrap_or_else(|_| panic!("seed {seed}, step {step}: {:?}", pair.log.last()));
        for change in &told {
            *seen.entry(kind(change)).or_insert(0) += 1;
        }
        pair.compare(seed);
        // What a follower does by itself is nothing.
        pair.follower.sweep(pair.now);
        assert_eq!(pair.follower.drain_changes(), []);
        if has_turns && pair.below(40) == 0 {
            pair.writer.sweep(pair.now);
            pair.writer.mend_keys();
            pair.follow().unwrap();
            pair.follower.lead(pair.now);
            pair.follower.sweep(pair.now);
            pair.follower.mend();
            pair.follower.mend_keys();
            // Each notices by itself when an invite has ended, so one may be forgotten sooner. Nothing else is to be mended.
            let decided = pair.follower.drain_changes();
            let is_forgotten = |change: &Change| matches!(change, Change::EntryChanged(_));
            assert!(decided.iter().all(is_forgotten), "seed {seed}: {decided:?}");
            std::mem::swap(&mut pair.writer, &mut pair.follower);
            pair.follower.follow(pair.now);
            pair.follower.tokens.renew_all(pair.writer.settings.lifetimes.token, pair.now.instant);
            pair.follower.adopt(commit(&pair.writer, decided, pair.now), pair.now).unwrap();
            pair.follower.drain_changes();
            pair.compare(seed);
        }
    }
    seen
}

fn kind(change: &Change) -> &'static str {
    match change {
        Change::PartyCreated(_) => "party created",
        Change::PartyChanged(_) => "party changed",
        Change::EntryChanged(_) => "entry changed",
        Change::InviteUsed(..) => "invite used",
        Change::PartyRenamed { .. } => "party renamed",
        Change::PartyDeleted { .. } => "party deleted",
        Change::MemberJoined(..) => "member joined",
        Change::MemberChanged(..) => "member changed",
        Change::MemberMoved(..) => "member moved",
        Change::WentStraight(..) => "went straight",
        Change::MemberLeft { why: Departure::Left, .. } => "left",
        Change::MemberLeft { why: Departure::Kicked, .. } => "kicked",
        Change::MemberLeft { why: Departure::Banned, .. } => "banned",
        Change::MemberLeft { why: Departure::Expired, .. } => "expired",
        Change::MemberLeft { why: Departure::Stale, .. } => "stale",
        Change::MemberLeft { why: Departure::PartyDeleted, .. } => "left with the party",
        Change::Signalled(..) => "signalled",
        Change::EndpointChanged => "endpoint changed",
        Change::TokenIssued(_) => "token issued",
        Change::TokenExtended(_) => "token extended",
        Change::TokenRevoked(_) => "token revoked",
        Change::RelayChanged(_) => "relay changed",
        Change::RelayHeard { .. } => "relay heard",
        Change::RelayExpired(_) => "relay expired",
        Change::AddressAssigned(_) => "address assigned",
        Change::AddressForgotten(_) => "address forgotten",
    }
}

#[test]
fn a_follower_has_what_the_writer_has_after_each_step() {
    let mut seen = BTreeMap::new();
    for seed in 0..16 {
        for (kind, count) in history(seed, 250, 1, false) {
            *seen.entry(kind).or_insert(0) += count;
        }
    }
    // All that can be told was.
    assert_eq!(seen.len(), 24, "{seen:?}");
    println!("{seen:?}");
}

#[test]
fn a_follower_has_what_the_writer_has_after_many_steps_at_once() {
    (100..110).for_each(|seed| drop(history(seed, 120, 12, false)));
}

#[test]
fn a_follower_that_is_made_the_writer_goes_on() {
    (200..212).for_each(|seed| drop(history(seed, 250, 3, true)));
}

/// When many go at once, it is not told in which order.
#[test]
fn the_address_that_is_unused_for_longest_is_the_same() {
    let mut pair = Pair::new(0);
    let mut ids = Vec::new();
    for (number, id) in PEERS[..4].iter().enumerate() {
        let token = pair.writer.register(&peer(id), Credentials::default(), pair.now).unwrap().token;
        let by = pair.writer.authenticate(&token, pair.now).unwrap();
        let info = info(id, &pair.keys[number].public_key().encode());
        let party = pair.writer.create_party(&by, None, "LAN", info, KeyClaim::from(HOME), pair.now).unwrap();
        ids.push((by, party));
        pair.follow().unwrap();
    }
    for number in [2, 0, 3, 1] {
        let (by, party) = &ids[number];
        pair.writer.delete_party(&Actor::Peer(by.clone()), party.as_str()).unwrap();
        pair.follow().unwrap();
    }
    assert_eq!(idle_order(&pair.writer), idle_order(&pair.follower));
    let key = |number: usize| pair.keys[number].public_key().encode();
    assert_eq!(idle_order(&pair.follower), [key(2), key(0), key(3), key(1)]);
}
