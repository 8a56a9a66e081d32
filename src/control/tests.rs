//! The rules of parties, in virtual time.

mod adopt;
mod entry;
mod following;
mod keys;
mod sweep;

use super::change::{Change, Departure};
use super::keys::KeyClaim;
use super::limits::{ControlLimits, Lifetimes};
use super::membership::Removed;
use super::party::{Ban, PeerInfo};
use super::record::Records;
use super::refusal::Refusal;
use super::registration::Credentials;
use super::relays::RelayInfo;
use super::standing::{Actor, Identity, Lineage, Standing};
use super::{Control, ControlSettings, proof};
use crate::crypto::x25519::{PrivateKey, PublicKey};
use crate::figures::{Readings, Usage};
use crate::ids::{PartyId, PeerId, RelayId};
use crate::subnet::Subnet;
use crate::time::{Instant, Now, UnixTime};
use crate::wire::datetime::Read;
use crate::wire::nat_type::NatType;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

const HOME: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7));
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));

fn peer(id: &str) -> PeerId {
    PeerId::new(id).unwrap()
}

fn info(id: &str, key: &str) -> PeerInfo {
    PeerInfo {
        peer_id: peer(id),
        name: "Me".into(),
        public_key: key.into(),
        nat_type: NatType::Unknown,
        public_ip: "unknown".into(),
        public_port: 0,
        local_ip: "unknown".into(),
        local_port: 0,
        last_seen: None,
    }
}

/// A control plane and its two clocks.
struct TestControl {
    control: Control,
    now: Now,
    hub: PrivateKey,
}

impl TestControl {
    fn new() -> Self {
        Self::with(ControlLimits::default())
    }

    fn with(limits: ControlLimits) -> Self {
        Self::start(
            ControlSettings { limits, ..ControlSettings::default() },
            Records::default(),
            1_795_176_000,
        )
    }

    fn start(settings: ControlSettings, records: Records, unix: i64) -> Self {
        let now = Now {
            instant: Instant::ZERO + Duration::from_secs(50),
            unix: UnixTime::from_micros(unix * 1_000_000),
        };
        let hub = PrivateKey::from_bytes([7; 32]);
        TestControl { control: Control::new(settings, hub.clone(), records, now), now, hub }
    }

    fn wait(&mut self, span: Duration) {
        self.now = Now { instant: self.now.instant + span, unix: self.now.unix + span };
    }

    /// Registers a free id and gives the token.
    fn token(&mut self, id: &str) -> String {
        self.control.register(&peer(id), Credentials::default(), self.now).unwrap().token
    }

    fn identity(&mut self, id: &str) -> Identity {
        let token = self.token(id);
        self.control.authenticate(&token, self.now).unwrap()
    }

    fn create(&mut self, by: &Identity) -> PartyId {
        let info = info(by.peer.as_str(), &format!("key of {}", by.peer));
        self.control.create_party(by, None, "LAN", info, KeyClaim::from(HOME), self.now).unwrap()
    }

    fn join(&mut self, by: &Identity, party: &PartyId) -> Result<(), Refusal> {
        let info = info(by.peer.as_str(), &format!("key of {}", by.peer));
        self.control.join_party(by, party.as_str(), info, KeyClaim::from(HOME), self.now)
    }

    fn join_with(&mut self, by: &Identity, party: &PartyId, key: &str) -> Result<(), Refusal> {
        self.control.join_party(
            by,
            party.as_str(),
            info(by.peer.as_str(), key),
            KeyClaim::from(HOME),
            self.now,
        )
    }

    fn ip(&self, party: &PartyId, id: &str) -> Ipv4Addr {
        self.control.party(party.as_str()).unwrap().members[id].virtual_ip
    }

    /// Everything that a store would hold.
    fn records(&self, stopped_at: Option<UnixTime>) -> Records {
        let control = &self.control;
        let mut records = Records { stopped_at, ..Records::default() };
        for party in control.parties() {
            records.parties.push((party.id.to_string(), control.party_record(&party.id, self.now).unwrap()));
            for id in party.members.keys() {
                let record = control.member_record(&party.id, id, self.now).unwrap();
                records.members.push((party.id.to_string(), id.to_string(), record));
            }
        }
        for name in control.addresses.names() {
            records.addresses.push((name.to_string(), control.address_record(name).unwrap()));
        }
        for (hash, _) in control.tokens().iter() {
            records.tokens.push((hash, control.token_record(&hash, self.now).unwrap()));
        }
        let approved = control.approvals().approved().map(|relay| &relay.info.relay_id);
        for id in control.relays().iter().map(|relay| &relay.info.relay_id).chain(approved) {
            records.relays.push((id.to_string(), control.relay_record(id).unwrap()));
        }
        records
    }
}

fn admin() -> Actor {
    Actor::Admin
}

fn actor(identity: &Identity) -> Actor {
    Actor::Peer(identity.clone())
}

#[test]
fn a_token_slides_while_it_is_used_and_ends_when_it_is_not() {
    let mut world = TestControl::new();
    let token = world.token("alice");
    assert_eq!(token.len(), 43);
    let hour = Duration::from_secs(3600);
    for _ in 0..10 {
        world.wait(20 * hour);
        assert!(world.control.authenticate(&token, world.now).is_ok());
    }
    world.wait(11 * hour);
    assert!(world.control.authenticate(&token, world.now).is_ok());
    world.wait(24 * hour);
    assert_eq!(world.control.authenticate(&token, world.now), Err(Refusal::TokenExpired));
    world.wait(2 * hour);
    world.control.sweep(world.now);
    assert_eq!(world.control.authenticate(&token, world.now), Err(Refusal::TokenUnknown));
    assert!(world.control.tokens().is_empty());
}

#[test]
fn use_in_the_first_half_of_a_token_s_life_changes_nothing() {
    let mut world = TestControl::new();
    let token = world.token("alice");
    world.control.drain_changes();
    world.wait(Duration::from_secs(11 * 3600));
    world.control.authenticate(&token, world.now).unwrap();
    assert_eq!(world.control.drain_changes(), []);
    world.wait(Duration::from_secs(2 * 3600));
    world.control.authenticate(&token, world.now).unwrap();
    let changes = world.control.drain_changes();
    assert!(matches!(changes[..], [Change::TokenExtended(_)]) && !changes[0].is_durable());
}

#[test]
fn unknown_tokens_are_refused_alike() {
    let mut world = TestControl::new();
    world.token("alice");
    for text in ["", "x", &"A".repeat(43), &"A".repeat(10_000)] {
        assert_eq!(world.control.authenticate(text, world.now), Err(Refusal::TokenUnknown));
    }
}

#[test]
fn a_live_member_s_id_goes_to_nobody_else() {
    let mut world = TestControl::new();
    let token = world.token("alice");
    let alice = world.control.authenticate(&token, world.now).unwrap();
    let party = world.create(&alice);
    let register =
        |world: &mut TestControl, shown| world.control.register(&peer("alice"), shown, world.now).map(drop);
    let taken = Err(Refusal::PeerTaken);
    assert_eq!(register(&mut world, Credentials::default()), taken);
    let bob = world.token("bob");
    assert_eq!(register(&mut world, Credentials { token: Some(&bob), ..Credentials::default() }), taken);
    assert_eq!(register(&mut world, Credentials { token: Some(&token), ..Credentials::default() }), Ok(()));
    world.control.remove_peer(&actor(&alice), party.as_str(), "alice").unwrap();
    assert_eq!(register(&mut world, Credentials::default()), Ok(()));
}

#[test]
fn a_squatter_s_token_ends_when_the_user_becomes_a_member() {
    let mut world = TestControl::new();
    let squatter = world.token("alice");
    let token = world.token("alice");
    let alice = world.control.authenticate(&token, world.now).unwrap();
    assert!(world.control.authenticate(&squatter, world.now).is_ok());
    let party = world.create(&alice);
    assert_eq!(world.control.authenticate(&squatter, world.now), Err(Refusal::TokenUnknown));
    assert!(world.control.authenticate(&token, world.now).is_ok());
    assert!(world.control.party(party.as_str()).is_ok());
}

#[test]
fn the_holder_of_the_key_gets_its_peer_back() {
    let mut world = TestControl::new();
    let private = PrivateKey::generate();
    let alice = world.identity("alice");
    let host = world.identity("host");
    let party = world.create(&host);
    world.join_with(&alice, &party, &private.public_key().encode()).unwrap();
    let nonce = world.control.nonce(&peer("alice"), world.now);
    let proof = proof::prove(&private, &world.hub.public_key(), &peer("alice"), &nonce).unwrap();
    let shown = Credentials { proof: Some((&nonce, &proof)), ..Credentials::default() };
    let issued = world.control.register(&peer("alice"), shown, world.now).unwrap();
    let again = world.control.authenticate(&issued.token, world.now).unwrap();
    assert_eq!(again, alice);
    let wrong =
        proof::prove(&PrivateKey::generate(), &world.hub.public_key(), &peer("alice"), &nonce).unwrap();
    let shown = Credentials { proof: Some((&nonce, &wrong)), ..Credentials::default() };
    assert_eq!(world.control.register(&peer("alice"), shown, world.now).map(drop), Err(Refusal::ProofWrong));
}

#[test]
fn a_member_without_token_can_prove_its_key_and_go_on_with_one() {
    let mut world = TestControl::new();
    let private = PrivateKey::generate();
    let claimed = world.control.claim(&peer("alice"), HOME).unwrap();
    let key = private.public_key().encode();
    let party = world
        .control
        .create_party(&claimed, None, "LAN", info("alice", &key), KeyClaim::from(HOME), world.now)
        .unwrap();
    let nonce = world.control.nonce(&peer("alice"), world.now);
    let proof = proof::prove(&private, &world.hub.public_key(), &peer("alice"), &nonce).unwrap();
    let shown = Credentials { proof: Some((&nonce, &proof)), ..Credentials::default() };
    let token = world.control.register(&peer("alice"), shown, world.now).unwrap().token;
    let alice = world.control.authenticate(&token, world.now).unwrap();
    assert!(world.control.stands(&alice) && !world.control.stands(&claimed));
    assert!(world.join_with(&alice, &party, &key).is_ok());
}

#[test]
fn tokens_are_capped_for_one_peer_and_for_all() {
    let mut world = TestControl::with(ControlLimits { tokens: 10, ..ControlLimits::default() });
    let first = world.token("alice");
    for _ in 0..8 {
        world.token("alice");
    }
    assert_eq!(world.control.tokens().of(&peer("alice")).count(), 8);
    assert_eq!(world.control.authenticate(&first, world.now), Err(Refusal::TokenUnknown));
    world.token("bob");
    world.token("carol");
    let alice = world.identity("alice");
    world.create(&alice);
    // Those of members stay, and make no room.
    for id in ["dave", "eve", "frank"] {
        world.token(id);
    }
    assert_eq!(world.control.tokens().of(&peer("alice")).count(), 1);
    assert!(world.control.tokens().len() <= 10);
}

#[test]
fn a_claim_without_token_holds_from_its_own_address_only() {
    let mut world = TestControl::new();
    let alice = world.control.claim(&peer("alice"), HOME).unwrap();
    let party = world.create(&alice);
    assert!(world.control.claim(&peer("alice"), HOME).is_ok());
    assert_eq!(world.control.claim(&peer("alice"), ELSEWHERE), Err(Refusal::PeerTaken));
    let intruder = Identity { peer: peer("alice"), standing: Standing::Address(ELSEWHERE) };
    assert_eq!(world.join(&intruder, &party), Err(Refusal::PeerTaken));
    let registered = world.identity("bob");
    world.join(&registered, &party).unwrap();
    assert_eq!(world.control.claim(&peer("bob"), HOME), Err(Refusal::PeerTaken));
}

#[test]
fn a_claim_that_another_overtook_no_longer_stands() {
    let mut world = TestControl::new();
    let claimed = world.control.claim(&peer("alice"), HOME).unwrap();
    let alice = world.identity("alice");
    let party = world.create(&alice);
    assert!(!world.control.stands(&claimed));
    assert_eq!(world.join(&claimed, &party), Err(Refusal::PeerTaken));
}

#[test]
fn a_create_repeated_within_30_seconds_gives_the_same_party() {
    let mut world = TestControl::new();
    let alice = world.identity("alice");
    let first = world.create(&alice);
    assert_eq!(world.create(&alice), first);
    let other = world
        .control
        .create_party(&alice, None, "Other", info("alice", "k"), KeyClaim::from(HOME), world.now)
        .unwrap();
    assert_ne!(other, first);
    let bob = world.identity("bob");
    assert_ne!(world.create(&bob), first);
    world.wait(Duration::from_secs(31));
    assert_ne!(world.create(&alice), first);
}

#[test]
fn party_ids_are_12_hex_digits_without_404() {
    let world = TestControl::new();
    for _ in 0..3000 {
        let id = world.control.free_party_id();
        assert_eq!(id.as_str().len(), 12);
        assert!(id.as_str().bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
        assert!(!id.as_str().contains("404"));
    }
}

#[test]
fn a_chosen_party_id_belongs_to_its_host() {
    let mut world = TestControl::new();
    let (alice, bob) = (world.identity("alice"), world.identity("bob"));
    let id = PartyId::new("chosen").unwrap();
    let create = |world: &mut TestControl, by: &Identity, name: &str| {
        world.control.create_party(
            by,
            Some(id.clone()),
            name,
            info(by.peer.as_str(), "k"),
            KeyClaim::from(HOME),
            world.now,
        )
    };
    assert_eq!(create(&mut world, &alice, "One"), Ok(id.clone()));
    assert_eq!(create(&mut world, &bob, "One"), Err(Refusal::PartyTaken));
    assert_eq!(create(&mut world, &alice, "Two"), Ok(id.clone()));
    assert_eq!(world.control.party("chosen").unwrap().name, "Two");
}

#[test]
fn a_host_that_leaves_ends_its_party_and_so_does_the_last() {
    let mut world = TestControl::new();
    let (alice, bob) = (world.identity("alice"), world.identity("bob"));
    let party = world.create(&alice);
    world.join(&bob, &party).unwrap();
    world.control.drain_changes();
    assert_eq!(world.control.remove_peer(&actor(&bob), party.as_str(), "bob"), Ok(Removed::Left));
    world.join(&bob, &party).unwrap();
    world.control.drain_changes();
    assert_eq!(world.control.remove_peer(&actor(&alice), party.as_str(), "alice"), Ok(Removed::PartyDeleted));
    let changes = world.control.drain_changes();
    let last = Change::PartyDeleted {
        party: party.clone(),
        name: "LAN".into(),
        created_at: world.now.unix,
        host: Some(peer("alice")),
        members: vec![alice, bob],
    };
    assert_eq!(changes.last(), Some(&last));
    assert_eq!(changes.len(), 3);
    assert_eq!(world.control.peer_count(), 0);
    assert_eq!(world.control.party(party.as_str()).map(drop), Err(Refusal::PartyNotFound(party.to_string())));
}

#[test]
fn only_the_host_removes_others_and_a_stranger_learns_nothing() {
    let mut world = TestControl::new();
    let (alice, bob, eve) = (world.identity("alice"), world.identity("bob"), world.identity("eve"));
    let party = world.create(&alice);
    world.join(&bob, &party).unwrap();
    let mismatch = Err(Refusal::TokenMismatch("requested peer_id"));
    for (by, target, id) in
        [(&eve, "bob", party.as_str()), (&bob, "alice", party.as_str()), (&eve, "bob", "nowhere")]
    {
        assert_eq!(world.control.remove_peer(&actor(by), id, target), mismatch);
    }
    let remove = |world: &mut TestControl, target: &str| {
        world.control.remove_peer(&actor(&alice), party.as_str(), target)
    };
    assert_eq!(remove(&mut world, "nobody"), Err(Refusal::PeerNotInParty("nobody".into())));
    world.control.drain_changes();
    assert_eq!(remove(&mut world, "bob"), Ok(Removed::Kicked));
    let left = Change::MemberLeft {
        party: party.clone(),
        who: bob.clone(),
        name: "Me".into(),
        is_device: false,
        key: None,
        why: Departure::Kicked,
    };
    assert_eq!(world.control.drain_changes(), [left]);
    world.join(&bob, &party).unwrap();
    assert_eq!(world.control.remove_peer(&admin(), party.as_str(), "bob"), Ok(Removed::Kicked));
}

#[test]
fn no_spelling_of_a_banned_key_gets_back_in() {
    let mut world = TestControl::new();
    let alice = world.identity("alice");
    let party = world.create(&alice);
    let key = PrivateKey::generate().public_key();
    let bob = world.identity("bob");
    world.join_with(&bob, &party, &key.encode()).unwrap();
    let ban = Ban { peer_id: Some(peer("bob")), key: None };
    world.control.ban(&actor(&alice), party.as_str(), ban).unwrap();
    assert!(!world.control.party(party.as_str()).unwrap().members.contains_key("bob"));
    assert_eq!(world.join_with(&bob, &party, "another key"), Err(Refusal::Banned));
    assert_eq!(world.control.readable_party(&actor(&bob), party.as_str()).map(drop), Err(Refusal::Banned));

    let mut high = *key.as_bytes();
    high[31] |= 0x80;
    let standard = key.encode();
    let url_safe = standard.replace('+', "-").replace('/', "_");
    let unpadded = standard.trim_end_matches('=').to_owned();
    for spelled in [standard, url_safe, unpadded, PublicKey::from_bytes(high).encode()] {
        let other = world.identity("robert");
        assert_eq!(world.join_with(&other, &party, &spelled), Err(Refusal::Banned), "{spelled}");
    }
    // The ban by peer id goes with the key that was banned along with it, and the other way round.
    for lift in [Ban { peer_id: Some(peer("bob")), key: None }, Ban { peer_id: None, key: Some(key) }] {
        let ban = Ban { peer_id: Some(peer("bob")), key: Some(key) };
        world.control.ban(&actor(&alice), party.as_str(), ban).unwrap();
        world.control.unban(&actor(&alice), party.as_str(), &lift, "it").unwrap();
        assert_eq!(world.join_with(&bob, &party, &key.encode()), Ok(()));
        let again = world.control.unban(&actor(&alice), party.as_str(), &lift, "it");
        assert_eq!(again, Err(Refusal::BanNotFound("it".into())));
    }
}

#[test]
fn bans_are_the_host_s_and_spare_the_host() {
    let mut world = TestControl::with(ControlLimits { bans_per_party: 2, ..ControlLimits::default() });
    let (alice, bob) = (world.identity("alice"), world.identity("bob"));
    let party = world.create(&alice);
    let ban = |id: &str| Ban { peer_id: Some(peer(id)), key: None };
    assert_eq!(world.control.ban(&actor(&bob), party.as_str(), ban("alice")), Err(Refusal::NotHost));
    assert_eq!(
        world.control.ban(&actor(&alice), party.as_str(), ban("alice")),
        Err(Refusal::HostNotBannable)
    );
    for id in ["x", "y", "x"] {
        assert_eq!(world.control.ban(&admin(), party.as_str(), ban(id)), Ok(()));
    }
    let full = Err(Refusal::Limit { what: "bans in this party", limit: 2 });
    assert_eq!(world.control.ban(&admin(), party.as_str(), ban("z")), full);
}

#[test]
fn a_stale_host_hands_over_to_who_was_there_longest() {
    let mut world = TestControl::new();
    let (alice, zoe, bob) = (world.identity("alice"), world.identity("zoe"), world.identity("bob"));
    let party = world.create(&alice);
    world.join(&zoe, &party).unwrap();
    world.join(&bob, &party).unwrap();
    world.control.drain_changes();
    for _ in 0..10 {
        world.wait(Duration::from_secs(30));
        for id in ["zoe", "bob"] {
            world.control.heartbeat(party.as_str(), &peer(id), Some(HOME), world.now).unwrap();
        }
    }
    world.control.sweep(world.now);
    let found = world.control.party(party.as_str()).unwrap();
    assert_eq!(found.host, Some(peer("zoe")));
    assert_eq!(found.members.len(), 2);
    let left = Change::MemberLeft {
        party: party.clone(),
        who: alice,
        name: "Me".into(),
        is_device: false,
        key: None,
        why: Departure::Stale,
    };
    assert_eq!(world.control.drain_changes(), [left, Change::PartyChanged(party.clone())]);
    world.wait(Duration::from_secs(300));
    world.control.sweep(world.now);
    assert_eq!((world.control.party_count(), world.control.peer_count()), (0, 0));
}

#[test]
fn staleness_does_not_care_for_the_wall_clock() {
    let mut world = TestControl::start(ControlSettings::default(), Records::default(), 0);
    let alice = world.identity("alice");
    let party = world.create(&alice);
    let token = world.token("bob");
    for unix in [1_795_176_000, 3_400_000_000, 5] {
        world.now.unix = UnixTime::from_micros(unix * 1_000_000);
        world.now.instant += Duration::from_secs(240);
        world.control.heartbeat(party.as_str(), &peer("alice"), Some(HOME), world.now).unwrap();
        world.control.sweep(world.now);
        assert!(world.control.party(party.as_str()).is_ok());
        assert!(world.control.authenticate(&token, world.now).is_ok());
    }
}

#[test]
fn an_open_session_keeps_its_peer_and_its_tokens_alive() {
    let mut world = TestControl::new();
    let token = world.token("alice");
    let alice = world.control.authenticate(&token, world.now).unwrap();
    let party = world.create(&alice);
    for _ in 0..(30 * 60) {
        world.wait(Duration::from_secs(60));
        world.control.touch(&alice, world.now);
        world.control.sweep(world.now);
    }
    assert!(world.control.party(party.as_str()).is_ok());
    assert!(world.control.authenticate(&token, world.now).is_ok());
}

/// A WireGuard app sends no heartbeats; with a keepalive it makes a session every two minutes.
#[test]
fn whoever_makes_sessions_with_the_relay_is_alive() {
    let mut world = TestControl::new();
    let (alice, bob) = (world.identity("alice"), world.identity("bob"));
    let (phone, silent) = (PrivateKey::generate().public_key(), PrivateKey::generate().public_key());
    let party = world.create(&alice);
    world.join_with(&alice, &party, &phone.encode()).unwrap();
    world.join_with(&bob, &party, &silent.encode()).unwrap();
    let mut heard = world.now.instant;
    let mut hear = |world: &mut TestControl, times: u32| {
        for _ in 0..times {
            world.wait(Duration::from_secs(60));
            if world.now.instant.since(heard) >= Duration::from_secs(120) {
                heard = world.now.instant;
            }
            world.control.note_handshakes(|key| (*key == phone).then_some(heard), world.now);
            world.control.sweep(world.now);
        }
    };
    hear(&mut world, 24 * 60);
    assert_eq!(world.control.party(party.as_str()).unwrap().members.len(), 1, "bob made none");
    // An old session is no sign of life.
    let last = world.now.instant;
    for _ in 0..5 {
        world.wait(Duration::from_secs(60));
        world.control.note_handshakes(|_| Some(last), world.now);
        world.control.sweep(world.now);
    }
    assert!(world.control.party(party.as_str()).is_err());
}

#[test]
fn a_virtual_address_sticks_to_its_key() {
    let mut world = TestControl::new();
    let (alice, bob) = (world.identity("alice"), world.identity("bob"));
    let party = world.create(&alice);
    let key = PrivateKey::generate().public_key().encode();
    world.join_with(&bob, &party, &key).unwrap();
    let first = world.ip(&party, "bob");
    assert_eq!(
        (world.ip(&party, "alice"), first),
        (Ipv4Addr::new(10, 66, 0, 2), Ipv4Addr::new(10, 66, 0, 3))
    );
    world.control.remove_peer(&actor(&bob), party.as_str(), "bob").unwrap();
    let carol = world.identity("carol");
    world.join(&carol, &party).unwrap();
    assert_ne!(world.ip(&party, "carol"), first);
    let bobby = world.identity("bobby");
    world.join_with(&bobby, &party, &key).unwrap();
    assert_eq!(world.ip(&party, "bobby"), first);
    let other = world.create(&carol);
    world.join_with(&bobby, &other, &key).unwrap();
    assert_eq!(world.ip(&other, "bobby"), first);
    let thief = world.identity("thief");
    world.join_with(&thief, &party, &key).unwrap();
    assert_ne!(world.ip(&party, "thief"), first);
}

#[test]
fn everything_is_there_again_after_a_restart() {
    let mut world = TestControl::new();
    let token = world.token("alice");
    let alice = world.control.authenticate(&token, world.now).unwrap();
    let party = world.create(&alice);
    let bob = world.control.claim(&peer("bob"), HOME).unwrap();
    world.join(&bob, &party).unwrap();
    let ban = Ban { peer_id: Some(peer("eve")), key: Some(PrivateKey::from_bytes([9; 32]).public_key()) };
    world.control.ban(&admin(), party.as_str(), ban).unwrap();
    let relay = RelayInfo {
        relay_id: RelayId::new("r1").unwrap(),
        public_ip: ELSEWHERE,
        port: 51820,
        region: "eu".into(),
        capacity: 100,
        public_key: None,
        load: 3,
    };
    world.control.register_relay(&alice, relay.clone(), world.now).unwrap();

    let mut again = TestControl::start(ControlSettings::default(), world.records(None), 1_795_176_000);
    assert_eq!(again.records(None).members, world.records(None).members);
    assert_eq!(again.records(None).parties, world.records(None).parties);
    assert_eq!(again.control.drain_changes(), []);
    assert_eq!(again.control.authenticate(&token, again.now), Ok(alice.clone()));
    assert!(again.control.claim(&peer("bob"), HOME).is_ok());
    assert!(again.control.claim(&peer("bob"), ELSEWHERE).is_err());
    assert_eq!(again.ip(&party, "bob"), world.ip(&party, "bob"));
    assert!(again.control.party(party.as_str()).unwrap().bans(&peer("eve"), None));
    let stranger = Identity { peer: peer("x"), standing: Standing::Token(Lineage(1)) };
    assert!(again.control.register_relay(&stranger, relay, again.now).is_err());
    again.wait(Duration::from_secs(299));
    again.control.sweep(again.now);
    assert_eq!(again.control.peer_count(), 2);
}

#[test]
fn a_party_whose_host_is_missing_from_the_store_is_mended() {
    let mut world = TestControl::new();
    let (alice, bob) = (world.identity("alice"), world.identity("bob"));
    let party = world.create(&alice);
    world.join(&bob, &party).unwrap();
    let mut records = world.records(None);
    records.members.retain(|(_, peer, _)| peer != "alice");
    let mut again = TestControl::start(ControlSettings::default(), records, 0);
    assert_eq!(again.control.party(party.as_str()).unwrap().host, Some(peer("bob")));
    assert_eq!(again.control.drain_changes(), [Change::PartyChanged(party)]);
}

/// Earlier versions took any first character.
#[test]
fn ids_that_would_be_refused_today_are_kept() {
    let mut world = TestControl::new();
    let token = world.token("bob");
    let (alice, bob) = (world.identity("alice"), world.control.authenticate(&token, world.now).unwrap());
    let party = world.create(&alice);
    world.join(&bob, &party).unwrap();
    let mut records = world.records(None);
    for (id, record) in &mut records.parties {
        (*id, record.host) = ("-party".to_owned(), Some("..".to_owned()));
    }
    for (party, peer, _) in &mut records.members {
        *party = "-party".to_owned();
        *peer = peer.replace("alice", "..").replace("bob", "_bob");
    }
    for (_, record) in &mut records.tokens {
        record.peer_id = record.peer_id.replace("alice", "..").replace("bob", "_bob");
    }
    let mut again = TestControl::start(ControlSettings::default(), records, 1_795_176_000);
    let kept = again.control.party("-party").unwrap();
    assert_eq!((kept.host_id(), kept.members.len()), ("..", 2));
    let bob = again.control.authenticate(&token, again.now).unwrap();
    assert_eq!(bob.peer.as_str(), "_bob");
    again.control.heartbeat("-party", &bob.peer, None, again.now).unwrap();
    again.control.remove_peer(&Actor::Peer(bob), "-party", "_bob").unwrap();
    again.control.delete_party(&admin(), "-party").unwrap();
    assert_eq!(again.control.party_count(), 0);
}

/// In a full pool somebody without an address gets one that nobody holds, never one that a member has who is
/// restored later.
#[test]
fn a_restart_with_a_full_pool_takes_no_address_from_a_member() {
    let subnet = Subnet::parse("10.66.0.0/29").unwrap();
    let settings = || ControlSettings { subnet, ..ControlSettings::default() };
    let mut world = TestControl::start(settings(), Records::default(), 1_795_176_000);
    let peers: Vec<_> = ["a", "b", "c", "d", "e"].into_iter().map(|id| world.identity(id)).collect();
    let party = world.create(&peers[0]);
    for peer in &peers[1..] {
        world.join(peer, &party).unwrap();
    }
    let before: Vec<_> = ["a", "b", "c", "d"].map(|id| world.ip(&party, id)).into();
    let mut records = world.records(None);
    // The row of one address is lost, that of somebody who is gone holds its place, and the one without comes first.
    let lost = "key of e#e";
    let (_, mut record) =
        records.addresses.remove(records.addresses.iter().position(|(name, _)| name == lost).unwrap_or_else(
            || panic!("{lost} in {:?}", records.addresses.iter().map(|(name, _)| name).collect::<Vec<_>>()),
        ));
    record.order = 1000;
    records.addresses.push(("gone".into(), record));
    records.members.sort_by_key(|(_, id, _)| id != "e");
    let mut world = TestControl::start(settings(), records, 1_795_176_000);
    let after: Vec<_> = ["a", "b", "c", "d"].map(|id| world.ip(&party, id)).into();
    assert_eq!(after, before);
    assert!(!before.contains(&world.ip(&party, "e")));
    let changes = world.control.drain_changes();
    assert!(changes.contains(&Change::AddressForgotten("gone".into())), "{changes:?}");
    // What the store holds then is the same at the next start.
    let (e, records) = (world.ip(&party, "e"), world.records(None));
    assert_eq!(TestControl::start(settings(), records, 1_795_176_000).ip(&party, "e"), e);
}

#[test]
fn after_a_restart_it_is_still_the_oldest_token_that_is_replaced() {
    let mut world = TestControl::new();
    let tokens: Vec<String> = (0..8)
        .map(|_| {
            world.wait(Duration::from_secs(1));
            world.token("alice")
        })
        .collect();
    for stopped_at in [None, Some(world.now.unix)] {
        let unix = world.now.unix.as_secs();
        let mut again = TestControl::start(ControlSettings::default(), world.records(stopped_at), unix);
        for (number, token) in tokens.iter().enumerate() {
            assert!(again.control.authenticate(token, again.now).is_ok());
            again.token("alice");
            let refused = again.control.authenticate(token, again.now);
            assert_eq!(refused, Err(Refusal::TokenUnknown), "token {number} of 8");
        }
    }
}

#[test]
fn tokens_outlive_a_crash_and_expire_across_a_stop_in_good_order() {
    let day = 24 * 3600;
    let stop = 1_795_176_000 + 10 * day;
    let restart = |stopped_at: Option<i64>, unix: i64| {
        let mut world = TestControl::new();
        let token = world.token("alice");
        let stopped = stopped_at.map(|secs| UnixTime::from_micros(secs * 1_000_000));
        let mut records = world.records(stopped);
        records.tokens[0].1.expires_at = (stop + 3600) * 1_000_000;
        let mut again = TestControl::start(ControlSettings::default(), records, unix);
        again.control.authenticate(&token, again.now).map(drop)
    };
    assert_eq!(restart(None, stop + 5 * day), Ok(()), "after a crash the stored date says nothing");
    assert_eq!(restart(Some(stop), stop + 60), Ok(()));
    assert_eq!(restart(Some(stop), stop + 3601), Err(Refusal::TokenExpired));
    assert_eq!(restart(Some(stop), 30), Ok(()), "the clock is not set yet");
    assert_eq!(restart(Some(1000), stop + 5 * day), Ok(()), "the clock was not set then");
}

#[test]
fn a_relay_id_is_its_first_owner_s_until_it_goes_stale() {
    let mut world =
        TestControl::with(ControlLimits { relays: 3, relays_per_owner: 2, ..ControlLimits::default() });
    let (alice, bob) = (world.identity("alice"), world.identity("bob"));
    let relay = |id: &str, port| RelayInfo {
        relay_id: RelayId::new(id).unwrap(),
        public_ip: ELSEWHERE,
        port,
        region: "eu".into(),
        capacity: 100,
        public_key: None,
        load: 0,
    };
    let register = |world: &mut TestControl, by: &Identity, id, port| {
        world.control.register_relay(by, relay(id, port), world.now)
    };
    register(&mut world, &alice, "r1", 1).unwrap();
    let taken = Err(Refusal::RelayTaken);
    assert_eq!(register(&mut world, &bob, "r1", 666), taken);
    // Even who gets a token for the free id "alice" does not get her relay.
    let impostor = world.identity("alice");
    assert_eq!(register(&mut world, &impostor, "r1", 666), taken);
    world.control.drain_changes();
    register(&mut world, &alice, "r1", 1).unwrap();
    assert_eq!(world.control.drain_changes(), [], "a refresh is no change");
    register(&mut world, &alice, "r1", 2).unwrap();
    assert_eq!(world.control.drain_changes().len(), 1);
    register(&mut world, &alice, "r2", 1).unwrap();
    let limit = Err(Refusal::Limit { what: "relays of one owner", limit: 2 });
    assert_eq!(register(&mut world, &alice, "r3", 1), limit);
    register(&mut world, &bob, "r3", 1).unwrap();
    assert_eq!(register(&mut world, &bob, "r4", 1), Err(Refusal::Full { what: "relays", limit: 3 }));
    let claimed = world.control.claim(&peer("carol"), HOME).unwrap();
    assert_eq!(register(&mut world, &claimed, "r5", 1), Err(Refusal::TokenMissing));
    world.wait(Duration::from_secs(600));
    world.control.sweep(world.now);
    assert_eq!(world.control.relays().iter().count(), 0);
    assert_eq!(register(&mut world, &bob, "r1", 5), Ok(()));
}

#[test]
fn signals_go_between_members_and_are_bounded() {
    let limits = ControlLimits {
        signals_per_peer: 3,
        signal_size: 10,
        signals_size: 2 * 170 + 165,
        ..ControlLimits::default()
    };
    let mut world = TestControl::with(limits);
    let (alice, bob, eve) = (world.identity("alice"), world.identity("bob"), world.identity("eve"));
    let party = world.create(&alice);
    world.join(&bob, &party).unwrap();
    let send = |world: &mut TestControl, by: &Identity, to: &str, data: &str| {
        let sent = world.control.signal(by, party.as_str(), to, data.into(), world.now);
        for change in world.control.drain_changes() {
            if let Change::Signalled(party, signal) = change {
                world.control.queue_signal(&party, signal);
            }
        }
        sent
    };
    assert_eq!(send(&mut world, &eve, "bob", "1"), Err(Refusal::NotMember));
    assert_eq!(send(&mut world, &alice, "eve", "1"), Err(Refusal::PeerNotFound("eve".into())));
    assert!(matches!(send(&mut world, &alice, "bob", "12345678901"), Err(Refusal::Limit { .. })));
    for _ in 0..2 {
        assert_eq!(send(&mut world, &alice, "bob", "1234567890"), Ok(()));
    }
    assert!(matches!(send(&mut world, &alice, "bob", "1234567890"), Err(Refusal::Full { .. })));
    assert_eq!(send(&mut world, &alice, "bob", "12"), Ok(()));
    assert!(matches!(send(&mut world, &alice, "bob", "1"), Err(Refusal::Limit { .. })));
    let taken = world.control.take_signals(party.as_str(), "bob").unwrap();
    assert_eq!(taken.iter().map(|signal| signal.data.len()).collect::<Vec<_>>(), [10, 10, 2]);
    assert!(world.control.take_signals(party.as_str(), "bob").unwrap().is_empty());
    assert_eq!(send(&mut world, &bob, "alice", "1"), Ok(()));
    world.control.remove_peer(&actor(&alice), party.as_str(), "alice").unwrap();
    assert_eq!(world.control.signals.total(), 0);
    assert_eq!(world.control.memory.total(), 0);
}

#[test]
fn every_cap_refuses_and_loses_nothing() {
    let limits = ControlLimits {
        parties: 3,
        parties_hosted: 2,
        parties_joined: 3,
        peers_per_party: 2,
        ..ControlLimits::default()
    };
    let mut world = TestControl::with(limits);
    let (alice, bob, carol) = (world.identity("alice"), world.identity("bob"), world.identity("carol"));
    let create = |world: &mut TestControl, by: &Identity, id: &str| {
        let id = PartyId::new(id);
        world.control.create_party(
            by,
            id,
            "LAN",
            info(by.peer.as_str(), by.peer.as_str()),
            KeyClaim::from(HOME),
            world.now,
        )
    };
    let first = create(&mut world, &alice, "a1").unwrap();
    create(&mut world, &alice, "a2").unwrap();
    let hosted = Err(Refusal::Limit { what: "parties of one host", limit: 2 });
    assert_eq!(create(&mut world, &alice, "a3"), hosted);
    create(&mut world, &bob, "b1").unwrap();
    assert_eq!(create(&mut world, &bob, "b2"), Err(Refusal::Full { what: "parties", limit: 3 }));
    world.join(&bob, &first).unwrap();
    assert_eq!(world.join(&carol, &first), Err(Refusal::Limit { what: "peers in this party", limit: 2 }));
    world.join(&bob, &first).unwrap();
    world.control.settings.limits.parties = 9;
    world.control.settings.limits.parties_joined = 2;
    let joined = Err(Refusal::Limit { what: "parties of one peer", limit: 2 });
    assert_eq!(create(&mut world, &bob, "b2"), joined);
    assert_eq!(world.control.party_count(), 3, "a refused create leaves no party behind");
    assert_eq!(world.control.peer_count(), 2);
}

#[test]
fn a_full_subnet_refuses_the_next_and_takes_it_when_somebody_leaves() {
    let subnet = Subnet::parse("10.9.9.0/29").unwrap();
    let settings =
        ControlSettings { subnet, limits: ControlLimits::default(), lifetimes: Lifetimes::default() };
    let mut world = TestControl::start(settings, Records::default(), 0);
    let host = world.identity("host");
    let party = world.create(&host);
    for id in ["a", "b", "c", "d"] {
        let by = world.identity(id);
        world.join(&by, &party).unwrap();
    }
    let last = world.identity("last");
    assert_eq!(world.join(&last, &party), Err(Refusal::NoAddress));
    world.control.remove_peer(&admin(), party.as_str(), "b").unwrap();
    world.control.drain_changes();
    world.join(&last, &party).unwrap();
    let changes = world.control.drain_changes();
    assert!(changes.contains(&Change::AddressForgotten("key of b#b".into())), "{changes:?}");
}

#[test]
fn joining_again_tells_others_only_what_is_new() {
    let mut world = TestControl::new();
    let alice = world.identity("alice");
    let party = world.create(&alice);
    world.control.drain_changes();
    let mut again = info("alice", "key of alice");
    again.last_seen = Some(Read::Naive(world.now.unix));
    world.control.join_party(&alice, party.as_str(), again.clone(), KeyClaim::from(HOME), world.now).unwrap();
    assert_eq!(world.control.drain_changes(), []);
    again.name = "Alice".into();
    world.control.join_party(&alice, party.as_str(), again, KeyClaim::from(HOME), world.now).unwrap();
    assert_eq!(world.control.drain_changes(), [Change::MemberChanged(party, peer("alice"))]);
}

fn from_network(number: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(0x0b00_0000 | (number << 8) | 1))
}

/// Registers `id` from an address.
fn register_from(world: &mut TestControl, id: &str, payer: IpAddr) -> Result<Identity, Refusal> {
    let shown = Credentials { payer: Some(payer), ..Credentials::default() };
    let token = world.control.register(&peer(id), shown, world.now)?.token;
    world.control.authenticate(&token, world.now)
}

#[test]
fn a_full_table_of_tokens_takes_from_whoever_has_most() {
    let mut world =
        TestControl::with(ControlLimits { tokens: 400, tokens_per_peer: 1000, ..ControlLimits::default() });
    let honest = register_from(&mut world, "honest", ELSEWHERE).unwrap();
    // One network has no more than a quarter, however it goes about it.
    for number in 0..1000 {
        let address = IpAddr::from([0x2001, 0xdb8, 1, number, 0, 0, 0, 1]);
        register_from(&mut world, &format!("a{number}"), address).unwrap();
    }
    assert!(world.control.tokens().len() <= 101, "{}", world.control.tokens().len());
    // Ten of them, and everybody who comes gets in, and what honest people have stays.
    for round in 0..100 {
        for network in 0..10 {
            register_from(&mut world, &format!("b{round}-{network}"), from_network(network)).unwrap();
        }
        world.wait(Duration::from_secs(1));
    }
    register_from(&mut world, "late", HOME).unwrap();
    assert!(world.control.tokens().len() <= 400);
    assert_eq!(world.control.tokens().of(&honest.peer).count(), 1);
    assert_eq!(world.control.tokens().of(&peer("late")).count(), 1);
    // Members' tokens stay also if they are the attacker's.
    let keeper = register_from(&mut world, "keeper", from_network(3)).unwrap();
    world.create(&keeper);
    for number in 0..300 {
        register_from(&mut world, &format!("c{number}"), from_network(3)).unwrap();
    }
    assert_eq!(world.control.tokens().of(&keeper.peer).count(), 1);
}

/// How full everything is.
fn usage(world: &TestControl) -> Vec<Usage> {
    let mut readings = Readings::default();
    world.control.report(&mut readings);
    readings.tables
}

#[test]
fn memory_is_counted_in_bytes_and_each_network_has_its_share() {
    let limits = ControlLimits { memory: 400_000, ..ControlLimits::default() };
    let mut world = TestControl::with(limits);
    let large = |id: &str| PeerInfo {
        name: "\u{1F600}".repeat(100).into(),
        public_key: "\u{1F600}".repeat(128).as_str().into(),
        ..info(id, "")
    };
    let host = register_from(&mut world, "host", ELSEWHERE).unwrap();
    let party = world.create(&host);
    let mut refused = 0;
    for number in 0..60 {
        let by = register_from(&mut world, &format!("a{number}"), from_network(1)).unwrap();
        match world.control.join_party(
            &by,
            party.as_str(),
            large(by.peer.as_str()),
            KeyClaim::from(HOME),
            world.now,
        ) {
            Ok(()) => {}
            Err(Refusal::Limit { what: "bytes of parties from one network", .. }) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    let memory = usage(&world)[0];
    assert!(refused > 30 && memory.held < 100_000, "{refused} {memory:?}");
    assert_eq!(memory.largest.unwrap().0.to_string(), "11.0.1.0/24");
    let late = register_from(&mut world, "late", from_network(2)).unwrap();
    world.join(&late, &party).unwrap();
    // Many networks: what is full is full, and nothing is lost.
    let mut full = 0;
    for network in 3..40 {
        let id = format!("b{network}");
        let by = register_from(&mut world, &id, from_network(network)).unwrap();
        for _ in 0..8 {
            match world.control.create_party(&by, None, &id, large(&id), KeyClaim::from(HOME), world.now) {
                Ok(_) => {}
                Err(Refusal::Full { what: "bytes of parties", .. }) => full += 1,
                Err(other) => panic!("{other}"),
            }
            world.wait(Duration::from_secs(31));
        }
    }
    assert!(full > 0 && usage(&world)[0].held <= 400_000);
    assert!(world.control.party(party.as_str()).unwrap().members.contains_key("late"));
    world.wait(Duration::from_secs(3600));
    world.control.sweep(world.now);
    assert_eq!(usage(&world)[0].held, 0);
}

#[test]
fn a_full_queue_of_signals_takes_from_whoever_has_most() {
    let limits = ControlLimits { signals_size: 160_000, signals_per_peer: 1000, ..ControlLimits::default() };
    let mut world = TestControl::with(limits);
    let bob = register_from(&mut world, "bob", ELSEWHERE).unwrap();
    let party = world.create(&bob);
    let send = |world: &mut TestControl, by: &Identity| {
        let sent = world.control.signal(by, party.as_str(), "bob", "x".repeat(840), world.now);
        for change in world.control.drain_changes() {
            if let Change::Signalled(party, signal) = change {
                world.control.queue_signal(&party, signal);
            }
        }
        sent
    };
    let ann = register_from(&mut world, "ann", HOME).unwrap();
    world
        .control
        .join_party(&ann, party.as_str(), info("ann", "a"), KeyClaim::from(HOME), world.now)
        .unwrap();
    for network in 0..10 {
        let by = register_from(&mut world, &format!("m{network}"), from_network(network)).unwrap();
        world
            .control
            .join_party(&by, party.as_str(), info(by.peer.as_str(), "m"), KeyClaim::from(HOME), world.now)
            .unwrap();
        for _ in 0..100 {
            let _ = send(&mut world, &by);
        }
    }
    assert_eq!(send(&mut world, &ann), Ok(()));
    assert!(usage(&world)[1].held <= 160_000);
}
