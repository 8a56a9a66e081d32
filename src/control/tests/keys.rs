//! Who holds a key, in virtual time.

use super::*;
use crate::control::keys::{KeyTrouble, RelayService};
use crate::control::record::{AddressRecord, MemberRecord};
use crate::subnet::Subnet;
use nanoserde::SerJson;

/// The holder's own network, and the same as an IPv6 subscriber has it.
const OFFICE: [&str; 2] = ["2001:db8:1:2::3", "2001:db8:1:2:aaaa::4"];

struct TestKey {
    private: PrivateKey,
    public: PublicKey,
    text: String,
}

fn new_key() -> TestKey {
    let private = PrivateKey::generate();
    TestKey { public: private.public_key(), text: private.public_key().encode(), private }
}

impl TestControl {
    /// Registers a free id, and has it claim a key in a party.
    fn claims(&mut self, id: &str, party: &PartyId, key: &TestKey, from: IpAddr) -> Identity {
        let by = self.identity(id);
        self.claims_as(&by, party, key, from);
        by
    }

    fn claims_as(&mut self, by: &Identity, party: &PartyId, key: &TestKey, from: IpAddr) {
        let info = info(by.peer.as_str(), &key.text);
        self.control.join_party(by, party.as_str(), info, KeyClaim::from(from), self.now).unwrap();
    }

    fn claims_with(
        &mut self,
        by: &Identity,
        party: &PartyId,
        key: &TestKey,
        claim: KeyClaim<'_>,
    ) -> Result<(), Refusal> {
        let info = info(by.peer.as_str(), &key.text);
        self.control.join_party(by, party.as_str(), info, claim, self.now)
    }

    fn shake(&mut self, key: &TestKey, from: IpAddr) {
        self.control.handshake(&key.public, from, self.now);
    }

    fn service(&self, party: &PartyId, id: &str) -> RelayService {
        self.control.party(party.as_str()).unwrap().members[id].relay_service()
    }

    fn is_served(&self, party: &PartyId, id: &str) -> bool {
        matches!(self.service(party, id), RelayService::Served { .. })
    }

    fn trouble(&self, party: &PartyId, id: &str) -> Option<KeyTrouble> {
        self.control.key_trouble(&self.control.party(party.as_str()).unwrap().members[id])
    }

    fn beat(&mut self, party: &PartyId, ids: &[&str], from: IpAddr) {
        for id in ids {
            self.control.heartbeat(party.as_str(), &peer(id), Some(from), self.now).unwrap();
        }
    }

    fn is_in(&self, party: &PartyId, id: &str) -> bool {
        self.control.party(party.as_str()).is_ok_and(|party| party.members.contains_key(id))
    }

    fn leave(&mut self, by: &Identity, party: &PartyId) {
        self.control.remove_peer(&actor(by), party.as_str(), by.peer.as_str()).unwrap();
    }

    fn prove(&mut self, id: &str, key: &TestKey) -> (String, String) {
        let nonce = self.control.nonce(&peer(id), self.now);
        let proof = proof::prove(&key.private, &self.hub.public_key(), &peer(id), &nonce).unwrap();
        (nonce, proof)
    }

    /// As it is after a restart; everything is JSON in between.
    fn restarted(&self) -> TestControl {
        let mut records = self.records(None);
        for (_, _, record) in &mut records.members {
            *record = MemberRecord::read(record.serialize_json().as_bytes()).unwrap();
        }
        for (_, record) in &mut records.addresses {
            *record = AddressRecord::read(record.serialize_json().as_bytes()).unwrap();
        }
        let mut again = TestControl::start(self.control.settings().clone(), records, self.now.unix.as_secs());
        again.control.drain_changes();
        again
    }
}

/// A party with a host, and one with another host.
fn two_parties(world: &mut TestControl) -> (PartyId, PartyId) {
    let (host, other) = (world.identity("host"), world.identity("other"));
    (world.create(&host), world.create(&other))
}

fn claimed(key: &TestKey, from: IpAddr) -> RelayService {
    RelayService::Claimed { key: key.public, from }
}

fn parties(changes: &[Change]) -> Vec<(&str, &str)> {
    let changed = changes.iter().filter_map(|change| match change {
        Change::MemberChanged(party, peer) => Some((party.as_str(), peer.as_str())),
        _ => None,
    });
    changed.collect()
}

#[test]
fn after_the_party_a_mate_s_key_draws_nobody_to_somebody_else() {
    let mut world = TestControl::new();
    let (party, theirs) = two_parties(&mut world);
    let key = new_key();
    let bob = world.claims("bob", &party, &key, HOME);
    assert!(world.is_served(&party, "bob"));
    let address = world.ip(&party, "bob");
    world.shake(&key, HOME);
    world.leave(&bob, &party);

    let mut world = world.restarted();
    world.claims("mallory", &theirs, &key, ELSEWHERE);
    let check = |world: &TestControl| {
        assert_eq!(world.service(&theirs, "mallory"), claimed(&key, ELSEWHERE));
        assert_eq!(world.trouble(&theirs, "mallory"), Some(KeyTrouble::Owned));
        assert_ne!(world.ip(&theirs, "mallory"), address);
    };
    check(&world);
    // Bob's app is still on.
    for _ in 0..20 {
        world.shake(&key, HOME);
        world.wait(Duration::from_secs(120));
        world.beat(&party, &["host"], ELSEWHERE);
        world.beat(&theirs, &["other", "mallory"], ELSEWHERE);
        world.control.sweep(world.now);
        check(&world);
    }
    let mut world = world.restarted();
    check(&world);
    world.shake(&key, HOME);
    check(&world);
    // Whose it is has it at once, without any proof.
    world.claims_as(&bob, &party, &key, ELSEWHERE);
    assert!(world.is_served(&party, "bob"));
    assert_eq!(world.ip(&party, "bob"), address);
    assert_eq!(world.trouble(&theirs, "mallory"), Some(KeyTrouble::Held));
}

#[test]
fn a_client_that_comes_back_as_somebody_else_proves_its_key_by_playing() {
    let mut world = TestControl::new();
    let (party, theirs) = two_parties(&mut world);
    let key = new_key();
    let bob = world.claims("bob", &party, &key, HOME);
    let address = world.ip(&party, "bob");
    world.shake(&key, HOME);
    world.leave(&bob, &party);
    world.claims("mallory", &theirs, &key, ELSEWHERE);
    world.claims("bobby", &party, &key, HOME);
    assert_eq!(world.service(&party, "bobby"), claimed(&key, HOME));
    world.control.drain_changes();
    world.shake(&key, HOME);
    assert!(world.is_served(&party, "bobby"));
    assert_eq!(world.ip(&party, "bobby"), address);
    assert_eq!(world.service(&theirs, "mallory"), claimed(&key, ELSEWHERE));
    assert_eq!(parties(&world.control.drain_changes()), [(party.as_str(), "bobby")]);
}

#[test]
fn a_key_that_nobody_has_proven_is_the_next_one_s_as_soon_as_it_is_free() {
    let mut world = TestControl::new();
    let (party, theirs) = two_parties(&mut world);
    let key = new_key();
    let bob = world.claims("bob", &party, &key, HOME);
    let address = world.ip(&party, "bob");
    world.leave(&bob, &party);
    world.claims("bobby", &party, &key, ELSEWHERE);
    assert!(world.is_served(&party, "bobby"));
    assert_eq!(world.ip(&party, "bobby"), address);

    // Two wait, the host kicks the ghost: the newest goes on, in a relay that follows without a break.
    let second = world.claims("second", &theirs, &key, HOME);
    world.claims("third", &party, &key, HOME);
    assert_eq!(world.service(&party, "third"), claimed(&key, HOME));
    world.control.drain_changes();
    world.control.remove_peer(&admin(), party.as_str(), "bobby").unwrap();
    assert!(world.is_served(&party, "third") && !world.is_served(&theirs, "second"));
    assert_eq!(world.ip(&party, "third"), address);
    let changes = world.control.drain_changes();
    let at = |wanted: fn(&Change) -> bool| changes.iter().position(wanted).unwrap();
    assert!(at(|c| matches!(c, Change::MemberChanged(..))) < at(|c| matches!(c, Change::MemberLeft { .. })));

    // The ghost falls silent.
    for _ in 0..10 {
        world.wait(Duration::from_secs(30));
        world.beat(&party, &["host"], HOME);
        world.beat(&theirs, &["other", "second"], HOME);
    }
    world.control.sweep(world.now);
    assert!(world.is_served(&theirs, "second"));
    assert_eq!(world.ip(&theirs, "second"), address);

    // Its holder has another key now.
    world.claims("fourth", &party, &key, HOME);
    world.claims_as(&second, &theirs, &new_key(), HOME);
    assert!(world.is_served(&party, "fourth") && world.is_served(&theirs, "second"));
    assert_eq!(world.ip(&party, "fourth"), address);
}

#[test]
fn a_proven_key_is_not_inherited_but_a_handshake_gets_it_also_after_a_restart() {
    for is_kicked in [true, false] {
        for is_restarted in [true, false] {
            let mut world = TestControl::new();
            let (party, theirs) = two_parties(&mut world);
            let key = new_key();
            world.claims("ghost", &party, &key, HOME);
            let address = world.ip(&party, "ghost");
            world.shake(&key, HOME);
            world.claims("bob", &party, &key, HOME);
            world.claims("mallory", &theirs, &key, ELSEWHERE);
            if is_kicked {
                world.control.remove_peer(&admin(), party.as_str(), "ghost").unwrap();
            } else {
                for _ in 0..10 {
                    world.wait(Duration::from_secs(30));
                    world.beat(&party, &["host", "bob"], HOME);
                    world.beat(&theirs, &["other", "mallory"], ELSEWHERE);
                }
                world.control.sweep(world.now);
                assert!(!world.is_in(&party, "ghost"));
            }
            if is_restarted {
                world = world.restarted();
            }
            assert_eq!(world.service(&party, "bob"), claimed(&key, HOME));
            assert_eq!(world.trouble(&party, "bob"), Some(KeyTrouble::Owned));
            world.shake(&key, HOME);
            assert!(world.is_served(&party, "bob") && !world.is_served(&theirs, "mallory"));
            assert_eq!(world.ip(&party, "bob"), address);
            let again = world.restarted();
            assert!(again.is_served(&party, "bob") && !again.is_served(&theirs, "mallory"));
        }
    }
}

#[test]
fn a_proof_displaces_a_holder_without_one_in_all_its_parties() {
    let mut world = TestControl::new();
    let (party, theirs) = two_parties(&mut world);
    let key = new_key();
    let thief = world.claims("thief", &theirs, &key, ELSEWHERE);
    world.claims_as(&thief, &party, &key, ELSEWHERE);
    let address = world.ip(&party, "thief");
    let bob = world.claims("bob", &party, &key, HOME);
    world.claims_as(&bob, &theirs, &key, HOME);
    // Somebody else's handshake proves nothing for either.
    world.shake(&key, "192.0.2.99".parse().unwrap());
    assert!(world.is_served(&party, "thief"));
    assert_eq!(world.trouble(&party, "bob"), Some(KeyTrouble::Held));
    world.control.drain_changes();
    world.shake(&key, HOME);
    let changes = world.control.drain_changes();
    let (one, two) = (party.as_str(), theirs.as_str());
    // Who wins is told of first, so that the key is never without a member.
    let told = [(one, "bob"), (two, "bob"), (two, "thief"), (one, "thief")];
    assert_eq!(parties(&changes), told);
    for id in [&party, &theirs] {
        assert!(world.is_served(id, "bob"));
        assert_eq!(world.ip(id, "bob"), address);
        assert_eq!(world.service(id, "thief"), claimed(&key, ELSEWHERE));
        assert_eq!(world.trouble(id, "thief"), Some(KeyTrouble::Held));
    }
    assert_eq!(world.ip(&party, "thief"), world.ip(&theirs, "thief"));
    assert_ne!(world.ip(&party, "thief"), address);
    assert!(changes.contains(&Change::AddressForgotten(format!("{}#bob", key.text))));
    // The same once more changes nothing.
    world.shake(&key, HOME);
    world.claims_as(&bob, &party, &key, HOME);
    assert_eq!(world.control.drain_changes(), []);
    let sorted = |world: &TestControl| {
        let mut members = world.records(None).members;
        members.sort_by_key(|(party, peer, _)| (party.clone(), peer.clone()));
        members
    };
    assert_eq!(sorted(&world), sorted(&world.restarted()));
}

#[test]
fn the_diffie_hellman_proof_gets_a_key_at_once() {
    let mut world = TestControl::new();
    let (party, theirs) = two_parties(&mut world);
    let key = new_key();
    world.claims("ghost", &theirs, &key, HOME);
    world.shake(&key, HOME);
    world.beat(&theirs, &["ghost"], HOME);
    let address = world.ip(&theirs, "ghost");
    let bob = world.identity("bob");
    let (nonce, _) = world.prove("bob", &key);
    let wrong = world.prove("bob", &new_key()).1;
    let claim = |nonce, proof| KeyClaim { origin: Some(HOME), proof: Some((nonce, proof)) };
    let refused = world.claims_with(&bob, &party, &key, claim(&nonce, &wrong));
    assert_eq!(refused, Err(Refusal::ProofWrong));
    assert!(!world.is_in(&party, "bob"));
    let (nonce, proof) = world.prove("bob", &key);
    world.claims_with(&bob, &party, &key, claim(&nonce, &proof)).unwrap();
    assert!(world.is_served(&party, "bob") && !world.is_served(&theirs, "ghost"));
    assert_eq!(world.ip(&party, "bob"), address);
    // A key that is no key can't be proven.
    let opaque = TestKey { text: "opaque".into(), ..new_key() };
    let (nonce, proof) = world.prove("bob", &key);
    assert_eq!(world.claims_with(&bob, &party, &opaque, claim(&nonce, &proof)), Err(Refusal::ProofWrong));
    assert!(world.is_served(&party, "bob"));

    // Of a key that is nobody's at the moment, as well.
    world.leave(&bob, &party);
    let robert = world.identity("robert");
    let (nonce, proof) = world.prove("robert", &key);
    world.claims_with(&robert, &party, &key, claim(&nonce, &proof)).unwrap();
    assert!(world.is_served(&party, "robert"));
    assert_eq!(world.ip(&party, "robert"), address);
}

#[test]
fn registering_again_with_the_proof_of_a_key_proves_it_for_the_member() {
    let mut world = TestControl::new();
    let (party, theirs) = two_parties(&mut world);
    let key = new_key();
    world.claims("thief", &theirs, &key, ELSEWHERE);
    let claim = world.control.claim(&peer("bob"), HOME).unwrap();
    world.claims_as(&claim, &party, &key, HOME);
    assert!(!world.is_served(&party, "bob"));
    let register = |world: &mut TestControl| {
        let (nonce, proof) = world.prove("bob", &key);
        let shown = Credentials { proof: Some((&nonce, &proof)), ..Credentials::default() };
        let token = world.control.register(&peer("bob"), shown, world.now).unwrap().token;
        world.control.authenticate(&token, world.now).unwrap()
    };
    let bob = register(&mut world);
    assert!(world.is_served(&party, "bob"));
    assert_eq!(register(&mut world), bob);
    // It is the lineage's from now on: nobody else gets it while it is away.
    world.leave(&bob, &party);
    assert!(!world.is_served(&theirs, "thief"));
    let again = world.control.claim(&peer("bob"), HOME).unwrap();
    world.claims_as(&again, &party, &key, HOME);
    assert!(!world.is_served(&party, "bob"));
    world.leave(&again, &party);
    world.claims_as(&bob, &party, &key, HOME);
    assert!(world.is_served(&party, "bob"));
}

#[test]
fn a_member_that_holds_its_key_takes_it_along_into_a_lineage() {
    let mut world = TestControl::new();
    let (party, _) = two_parties(&mut world);
    let key = new_key();
    let claim = world.control.claim(&peer("bob"), HOME).unwrap();
    world.claims_as(&claim, &party, &key, HOME);
    let (nonce, proof) = world.prove("bob", &key);
    let shown = Credentials { proof: Some((&nonce, &proof)), ..Credentials::default() };
    let token = world.control.register(&peer("bob"), shown, world.now).unwrap().token;
    let bob = world.control.authenticate(&token, world.now).unwrap();
    world.leave(&bob, &party);
    let mut world = world.restarted();
    world.claims_as(&bob, &party, &key, ELSEWHERE);
    assert!(world.is_served(&party, "bob"));
}

#[test]
fn what_the_owner_of_the_machine_claims_is_proven() {
    let mut world = TestControl::new();
    let (party, theirs) = two_parties(&mut world);
    let key = new_key();
    world.claims("thief", &theirs, &key, ELSEWHERE);
    let phone = world.identity("phone");
    world.claims_with(&phone, &party, &key, KeyClaim { origin: None, proof: None }).unwrap();
    assert!(world.is_served(&party, "phone"));
    assert_eq!(world.service(&theirs, "thief"), claimed(&key, ELSEWHERE));
    // It is in another network every day, and asks for nothing here.
    for number in 0..30 {
        world.shake(&key, IpAddr::from([198, 51, 100, number]));
        world.wait(Duration::from_secs(120));
        world.beat(&party, &["host"], HOME);
        world.beat(&theirs, &["other", "thief"], ELSEWHERE);
        world.control.sweep(world.now);
        assert!(world.is_served(&party, "phone"));
    }
    world.leave(&phone, &party);
    assert!(!world.is_served(&theirs, "thief"));
}

#[test]
fn a_crashed_client_s_ghost_gives_way_when_it_has_missed_two_heartbeats() {
    let mut world = TestControl::new();
    let (party, _) = two_parties(&mut world);
    let key = new_key();
    world.claims("ghost", &party, &key, HOME);
    let address = world.ip(&party, "ghost");
    world.shake(&key, HOME);
    world.wait(Duration::from_secs(30));
    world.beat(&party, &["ghost"], HOME);
    world.claims("bob", &party, &key, HOME);
    assert_ne!(world.ip(&party, "bob"), address);
    for seconds in [5, 60] {
        world.wait(Duration::from_secs(seconds));
        world.shake(&key, HOME);
        assert!(world.is_served(&party, "ghost"), "it may just be slow");
    }
    let seen = world.control.party(party.as_str()).unwrap().members["ghost"].seen;
    assert_eq!(world.now.instant.since(seen), Duration::from_secs(65), "bob's handshakes are none of its");
    let mut again = world.restarted();
    again.wait(Duration::from_secs(65));
    again.shake(&key, HOME);
    assert!(again.is_served(&party, "ghost"), "everybody has time to come back after a restart");
    again.wait(Duration::from_secs(1));
    again.shake(&key, HOME);
    assert!(again.is_served(&party, "bob"), "the restarted daemon knows which claim is newer");

    world.wait(Duration::from_secs(1));
    world.shake(&key, HOME);
    assert!(world.is_served(&party, "bob"));
    assert_eq!(world.ip(&party, "bob"), address);
    // It is not the ghost's turn again, whatever happens, and the ghost ends.
    for _ in 0..3 {
        world.wait(Duration::from_secs(100));
        world.shake(&key, HOME);
        world.beat(&party, &["host"], HOME);
        world.control.sweep(world.now);
        assert!(world.is_served(&party, "bob"));
    }
    assert!(!world.is_in(&party, "ghost"));
}

#[test]
fn a_living_holder_is_not_displaced_from_its_own_network_but_from_another_it_is() {
    let mut world = TestControl::new();
    let (party, theirs) = two_parties(&mut world);
    let key = new_key();
    let [desk, sofa] = OFFICE.map(|text| text.parse::<IpAddr>().unwrap());
    world.claims("bob", &party, &key, desk);
    world.shake(&key, sofa);
    world.claims("neighbour", &theirs, &key, sofa);
    for _ in 0..10 {
        world.wait(Duration::from_secs(30));
        world.beat(&party, &["host", "bob"], desk);
        world.beat(&theirs, &["other", "neighbour"], sofa);
        world.shake(&key, desk);
        assert!(world.is_served(&party, "bob"));
    }
    // Where the key is, there is its owner.
    world.claims("bob-on-the-train", &party, &key, ELSEWHERE);
    world.shake(&key, ELSEWHERE);
    assert!(world.is_served(&party, "bob-on-the-train"));
    assert_eq!(world.service(&party, "bob"), claimed(&key, desk));
}

#[test]
fn handshakes_show_that_a_holder_is_alive_if_it_can_be_nobody_else() {
    let ends = |is_proven: bool, is_contested: bool, from: IpAddr| {
        let mut world = TestControl::new();
        let (party, theirs) = two_parties(&mut world);
        let key = new_key();
        world.claims("phone", &party, &key, HOME);
        if is_proven {
            world.shake(&key, HOME);
        }
        if is_contested {
            world.claims("rival", &theirs, &key, ELSEWHERE);
        }
        for _ in 0..10 {
            world.wait(Duration::from_secs(60));
            world.beat(&party, &["host"], HOME);
            world.beat(&theirs, &["other"], HOME);
            if is_contested {
                world.beat(&theirs, &["rival"], ELSEWHERE);
            }
            world.shake(&key, from);
            world.control.sweep(world.now);
        }
        !world.is_in(&party, "phone")
    };
    let abroad: IpAddr = "192.0.2.44".parse().unwrap();
    assert!(!ends(false, false, HOME) && !ends(true, false, HOME) && !ends(true, true, HOME));
    assert!(!ends(false, false, abroad) && !ends(true, false, abroad) && !ends(true, true, abroad));
    assert!(ends(false, true, abroad), "it may be the other one's");
}

#[test]
fn where_a_member_is_becomes_known_and_costs_no_write() {
    let mut world = TestControl::new();
    let (party, theirs) = two_parties(&mut world);
    let key = new_key();
    let bob = world.claims("bob", &party, &key, HOME);
    world.claims_as(&bob, &theirs, &key, HOME);
    world.control.drain_changes();
    world.beat(&party, &["bob"], HOME);
    assert_eq!(world.control.drain_changes(), []);
    world.beat(&party, &["bob"], ELSEWHERE);
    let moved = [&party, &theirs].map(|party| Change::MemberMoved(party.clone(), peer("bob")));
    assert_eq!(world.control.drain_changes(), moved);
    assert!(moved.iter().all(|change| !change.is_durable()));
    world.claims_as(&bob, &party, &key, HOME);
    assert_eq!(world.control.drain_changes(), moved);
    let origin =
        |world: &TestControl, id: &str| world.control.party(party.as_str()).unwrap().members[id].origin;
    assert_eq!(origin(&world, "bob"), Some(HOME));
    world.control.heartbeat(party.as_str(), &peer("bob"), None, world.now).unwrap();
    assert_eq!(origin(&world, "bob"), None);
    // What else is written of it takes that along.
    world.claims_as(&bob, &party, &key, HOME);
    world.claims("rival", &party, &key, ELSEWHERE);
    let again = world.restarted();
    assert_eq!((origin(&again, "bob"), origin(&again, "rival")), (Some(HOME), Some(ELSEWHERE)));
}

/// An older version told every other peer with a key that it waits for the first, for ever.
#[test]
fn what_an_older_version_stored_is_understood_and_nobody_waits_for_nobody() {
    let mut world = TestControl::new();
    let (party, theirs) = two_parties(&mut world);
    let (key, other) = (new_key(), new_key());
    let ghost = world.claims("ghost", &party, &key, HOME);
    world.claims("bob", &party, &key, HOME);
    world.claims("carol", &party, &other, HOME);
    let address = world.ip(&party, "ghost");
    let mut records = world.records(None);
    for (_, _, record) in &mut records.members {
        let json = record.serialize_json();
        let end = json.find(",\"claim\"").unwrap();
        *record = MemberRecord::read(format!("{}}}", &json[..end]).as_bytes()).unwrap();
        assert_eq!((record.claim, &record.origin), (None, &None));
    }
    for (_, record) in &mut records.addresses {
        let json = record.serialize_json();
        let end = json.find(",\"owner\"").unwrap_or(json.len() - 1);
        *record = AddressRecord::read(format!("{}}}", &json[..end]).as_bytes()).unwrap();
        assert_eq!((record.owner, record.proven), (None, None));
    }
    let stuck = Records {
        parties: records.parties.clone(),
        members: records.members.iter().filter(|(_, peer, _)| peer != "ghost").cloned().collect(),
        addresses: records.addresses.clone(),
        ..Records::default()
    };
    let healed = TestControl::start(ControlSettings::default(), stuck, 0);
    assert!(healed.is_served(&party, "bob") && healed.is_served(&party, "carol"));
    assert_eq!(healed.ip(&party, "bob"), address);

    let mut again = TestControl::start(ControlSettings::default(), records, 0);
    assert_eq!(again.control.drain_changes(), []);
    assert!(again.is_served(&party, "ghost") && !again.is_served(&party, "bob"));
    assert_eq!(again.service(&party, "bob"), RelayService::None, "it has not been heard of yet");
    again.beat(&party, &["bob"], HOME);
    assert_eq!(again.service(&party, "bob"), claimed(&key, HOME));
    again.shake(&key, HOME);
    assert!(again.is_served(&party, "bob"));
    // And the ghost's lineage does not have it any more.
    again.claims_as(&ghost, &theirs, &key, HOME);
    assert!(!again.is_served(&theirs, "ghost"));
}

#[test]
fn a_full_subnet_does_not_keep_a_key_from_its_owner() {
    let subnet = Subnet::parse("10.9.9.0/29").unwrap();
    let settings = ControlSettings { subnet, ..ControlSettings::default() };
    let mut world = TestControl::start(settings, Records::default(), 0);
    let host = world.identity("host");
    let party = world.create(&host);
    let key = new_key();
    world.claims("thief", &party, &key, ELSEWHERE);
    world.claims("bob", &party, &key, HOME);
    for id in ["a", "b"] {
        let by = world.identity(id);
        world.join(&by, &party).unwrap();
    }
    let (was, address) = (world.ip(&party, "bob"), world.ip(&party, "thief"));
    let late = world.identity("late");
    assert_eq!(world.join(&late, &party), Err(Refusal::NoAddress));
    world.shake(&key, HOME);
    assert_eq!((world.ip(&party, "bob"), world.ip(&party, "thief")), (address, was));
}

#[test]
fn who_is_banned_by_a_key_does_not_come_back_by_proving_it() {
    let mut world = TestControl::new();
    let (party, theirs) = two_parties(&mut world);
    let key = new_key();
    world.claims("bob", &party, &key, HOME);
    let ban = Ban { peer_id: None, key: Some(key.public) };
    world.control.ban(&admin(), party.as_str(), ban).unwrap();
    let again = world.claims("bobby", &theirs, &key, HOME);
    world.shake(&key, HOME);
    let (nonce, proof) = world.prove("bobby", &key);
    for claim in [
        KeyClaim { origin: Some(HOME), proof: Some((&nonce, &proof)) },
        KeyClaim { origin: None, proof: None },
    ] {
        assert_eq!(world.claims_with(&again, &party, &key, claim), Err(Refusal::Banned));
    }
    assert!(world.is_served(&theirs, "bobby"));
}
