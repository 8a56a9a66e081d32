//! What an instance does that does not decide.

use super::adopt::commit;
use super::*;
use crate::control::approvals::FeedSize;
use crate::control::following::{Digest, RELAY_WEIGHT};
use crate::control::signals::Signal;
use crate::wire::roster::relay_id;

/// An instance that decides, and another one with the same records.
fn pair(world: &TestControl) -> TestControl {
    let (now, hub) = (world.now, world.hub.clone());
    let mut control = Control::new(world.control.settings().clone(), hub.clone(), world.records(None), now);
    control.follow(now);
    control.drain_changes();
    TestControl { control, now, hub }
}

fn private(number: u8) -> PrivateKey {
    PrivateKey::from_bytes([number; 32])
}

#[test]
fn a_follower_ends_nothing_and_a_new_writer_grants_whole_time_outs() {
    let mut world = TestControl::new();
    let alice = world.identity("alice");
    let party = world.create(&alice);
    let mut follower = pair(&world);
    follower.wait(Duration::from_secs(30 * 3600));
    follower.control.sweep(follower.now);
    assert_eq!(follower.control.drain_changes(), []);
    assert_eq!(follower.control.party_count(), 1);
    follower.control.lead(follower.now);
    follower.control.sweep(follower.now);
    assert_eq!(follower.control.drain_changes(), []);
    follower.wait(Duration::from_secs(299));
    follower.control.sweep(follower.now);
    assert_eq!(follower.control.drain_changes(), []);
    assert_eq!(follower.control.tokens().len(), 1);
    follower.wait(Duration::from_secs(2));
    follower.control.sweep(follower.now);
    assert!(follower.control.party(party.as_str()).is_err());
}

#[test]
fn what_a_follower_hears_keeps_members_at_the_writer() {
    let mut world = TestControl::new();
    let alice = world.identity("alice");
    let party = world.create(&alice);
    let mut follower = pair(&world);
    for round in 0..10 {
        world.wait(Duration::from_secs(60));
        follower.now = world.now;
        for _ in 0..5 {
            follower
                .control
                .heartbeat(party.as_str(), &peer("alice"), Some(ELSEWHERE), follower.now)
                .unwrap();
            follower.wait(Duration::from_millis(1));
        }
        let digest = follower.control.take_digest(100, follower.now);
        assert_eq!(digest.beats, [(party.clone(), peer("alice"), Some(ELSEWHERE))], "{round}: once");
        assert!(follower.control.take_digest(100, follower.now).is_empty());
        world.control.hear(&digest, world.now);
        world.control.sweep(world.now);
    }
    let member = &world.control.party(party.as_str()).unwrap().members["alice"];
    assert_eq!((member.seen, member.origin), (world.now.instant, Some(ELSEWHERE)));
    // Whoever is gone by now does no harm.
    let gone = Digest { beats: vec![(party.clone(), peer("bob"), None)], ..Digest::default() };
    world.control.hear(&gone, world.now);
}

#[test]
fn a_digest_is_no_larger_than_it_may_be() {
    let mut world = TestControl::new();
    let host = world.identity("host");
    let party = world.create(&host);
    for number in 0..20 {
        let by = world.identity(&format!("p{number}"));
        world.join(&by, &party).unwrap();
    }
    let mut follower = pair(&world);
    follower.wait(Duration::from_secs(1));
    for number in 0..20 {
        follower.control.heartbeat(party.as_str(), &peer(&format!("p{number}")), None, follower.now).unwrap();
    }
    let lengths: Vec<usize> = (0..4).map(|_| follower.control.take_digest(8, follower.now).len()).collect();
    assert_eq!(lengths, [8, 8, 4, 0]);
}

#[test]
fn digests_that_are_too_slow_tell_of_everybody_in_turn() {
    let mut world = TestControl::new();
    let host = world.identity("host");
    let party = world.create(&host);
    let names: Vec<String> = (0..9).map(|number| format!("p{number}")).collect();
    for name in &names {
        let by = world.identity(name);
        world.join(&by, &party).unwrap();
    }
    let mut follower = pair(&world);
    let mut told = Vec::new();
    for _ in 0..3 {
        follower.wait(Duration::from_secs(1));
        for name in &names {
            follower.control.heartbeat(party.as_str(), &peer(name), None, follower.now).unwrap();
        }
        let digest = follower.control.take_digest(3, follower.now);
        told.extend(digest.beats.into_iter().map(|(_, peer, _)| peer.to_string()));
    }
    assert_eq!(told, names, "who was heard of first comes first, and nobody twice");
    assert!(follower.control.take_digest(3, follower.now).is_empty());
    follower.wait(Duration::from_secs(1));
    follower.control.heartbeat(party.as_str(), &peer("p4"), None, follower.now).unwrap();
    assert_eq!(follower.control.take_digest(3, follower.now).beats.len(), 1);
}

#[test]
fn a_handshake_at_a_follower_proves_the_key_at_the_writer() {
    let mut world = TestControl::new();
    let key = private(3).public_key();
    let alice = world.identity("alice");
    let party = world.create(&alice);
    let bob = world.identity("bob");
    world.join_with(&alice, &party, &key.encode()).unwrap();
    world.join_with(&bob, &party, &key.encode()).unwrap();
    let mut follower = pair(&world);
    let before = follower.records(None).members;
    follower.control.handshake(&key, HOME, follower.now);
    assert_eq!(follower.control.drain_changes(), []);
    assert_eq!(follower.records(None).members, before, "it decides nothing");
    assert!(follower.control.is_digest_urgent());
    let digest = follower.control.take_digest(100, follower.now);
    assert_eq!(digest.handshakes, [(key, HOME)]);
    assert!(!follower.control.is_digest_urgent());
    world.control.drain_changes();
    world.control.hear(&digest, world.now);
    let changes = world.control.drain_changes();
    assert!(changes.contains(&Change::MemberChanged(party, peer("bob"))), "{changes:?}");
    // Once it is proven, another one is no news.
    let mut follower = pair(&world);
    follower.control.handshake(&key, HOME, follower.now);
    assert!(!follower.control.is_digest_urgent());
}

#[test]
fn a_token_that_is_used_at_a_follower_lives_on_at_the_writer() {
    let mut world = TestControl::new();
    let token = world.token("alice");
    let mut follower = pair(&world);
    let hour = Duration::from_secs(3600);
    follower.wait(20 * hour);
    world.wait(20 * hour);
    follower.control.authenticate(&token, follower.now).unwrap();
    let digest = follower.control.take_digest(100, follower.now);
    assert_eq!(digest.tokens.len(), 1);
    world.control.hear(&digest, world.now);
    world.wait(20 * hour);
    assert!(world.control.authenticate(&token, world.now).is_ok());
}

#[test]
fn whoever_missed_the_log_is_told_of_what_must_have_happened() {
    let mut world = TestControl::new();
    let (alice, bob, eve) = (world.identity("alice"), world.identity("bob"), world.identity("eve"));
    let party = world.create(&alice);
    let other = world.create(&bob);
    for by in [&bob, &eve] {
        world.join(by, &party).unwrap();
    }
    let mut follower = pair(&world);
    let signal = Signal {
        from: peer("alice"),
        to: peer("bob"),
        data: "{}".into(),
        sent_at: world.now.unix,
        payer: HOME,
    };
    follower.control.queue_signal(&party, signal);
    // It is told of nothing that is as it was.
    world.wait(Duration::from_secs(7));
    follower.now = world.now;
    follower.control.catch_up(world.records(None), follower.now).unwrap();
    assert_eq!(follower.control.drain_changes(), []);

    let ban = Ban { peer_id: Some(peer("eve")), key: None };
    world.control.ban(&actor(&alice), party.as_str(), ban).unwrap();
    let renamed = world.control.rename_party(&actor(&alice), party.as_str()).unwrap();
    world.control.delete_party(&admin(), other.as_str()).unwrap();
    let carl = world.identity("carl");
    world.join(&carl, &renamed).unwrap();
    follower.control.catch_up(world.records(None), follower.now).unwrap();
    let changes = follower.control.drain_changes();
    let has = |wanted: &dyn Fn(&Change) -> bool| assert!(changes.iter().any(wanted), "{changes:?}");
    has(
        &|change| matches!(change, Change::PartyRenamed { from, party: to, .. } if *from == party && *to == renamed),
    );
    has(&|change| {
        matches!(change, Change::MemberLeft { who, why: Departure::Banned, party, .. }
            if who.peer == peer("eve") && *party == renamed)
    });
    has(&|change| matches!(change, Change::PartyDeleted { party, .. } if *party == other));
    has(&|change| *change == Change::MemberJoined(renamed.clone(), peer("carl")));
    has(&|change| *change == Change::PartyChanged(renamed.clone()));
    assert!(!changes.iter().any(|change| matches!(change, Change::PartyCreated(_))), "{changes:?}");
    let party = follower.control.party(renamed.as_str()).unwrap();
    assert_eq!(party.members["bob"].signals().count(), 1, "what waits goes along");
    for (own, theirs) in [(&follower, &world), (&world, &follower)] {
        for (id, peer, record) in own.records(None).members {
            assert!(theirs.records(None).members.contains(&(id, peer, record)));
        }
    }
}

#[test]
fn a_repeated_create_gives_the_same_party_at_the_next_writer() {
    let mut world = TestControl::new();
    let alice = world.identity("alice");
    let party = world.create(&alice);
    let mut follower = pair(&world);
    follower.wait(Duration::from_secs(20));
    follower.control.lead(follower.now);
    // By the log, and by a load of everything.
    for _ in 0..2 {
        let again = follower.create(&alice);
        assert_eq!(again, party);
        follower = pair(&follower);
        follower.control.lead(follower.now);
    }
    follower.wait(Duration::from_secs(11));
    assert_ne!(follower.create(&alice), party);
}

fn relay(key: &PublicKey, port: u16) -> RelayInfo {
    RelayInfo {
        relay_id: relay_id(key),
        public_ip: ELSEWHERE,
        port,
        region: "Tokyo".into(),
        capacity: 9,
        public_key: Some(key.encode()),
        load: 0,
    }
}

const TOLD: FeedSize = FeedSize { parties: 2, members: 5, left_out: 1 };

impl TestControl {
    /// Takes over what the one that decides has decided by now.
    fn adopt(&mut self, writer: &Control, changes: &[Change]) {
        self.control.adopt(commit(writer, changes.to_vec(), self.now), self.now).unwrap();
        assert_eq!(self.control.drain_changes(), changes);
    }

    /// Whether clients are told of the approved relay with this key, and the load that they are told.
    fn lists(&self, key: &PublicKey) -> Option<u32> {
        let relay = self.control.approvals().with_key(key)?;
        self.control.is_listed(relay, self.now.instant).then_some(relay.info.load)
    }
}

#[test]
fn a_relay_at_a_follower_is_approved_at_the_writer_and_listed_everywhere() {
    let mut world = TestControl::new();
    let (mut here, mut third) = (pair(&world), pair(&world));
    let key = private(5).public_key();
    here.control.await_approval(relay(&key, 7), &key, HOME, here.now.instant);
    assert!(here.control.is_digest_urgent());
    let digest = here.control.take_digest(100, here.now);
    assert!(!here.control.is_digest_urgent());
    world.control.hear(&digest, world.now);
    let waiting: Vec<_> = world.control.approvals().waiting().collect();
    assert!(matches!(&waiting[..], [one] if one.info == relay(&key, 7) && one.payer == HOME), "{waiting:?}");
    // It says the same again, which is no news; and then that it is at another port.
    here.control.await_approval(relay(&key, 7), &key, HOME, here.now.instant);
    assert!(!here.control.is_digest_urgent());
    here.control.await_approval(relay(&key, 8), &key, HOME, here.now.instant);
    assert!(here.control.is_digest_urgent());
    let digest = here.control.take_digest(100, here.now);
    world.control.hear(&digest, world.now);

    world.control.approve_relay(relay_id(&key).as_str(), &key.encode(), world.now).unwrap();
    let changes = world.control.drain_changes();
    assert_eq!(changes, [Change::RelayChanged(relay_id(&key))]);
    for follower in [&mut here, &mut third] {
        follower.adopt(&world.control, &changes);
        assert_eq!((follower.lists(&key), follower.control.approvals().waiting().count()), (Some(0), 0));
        assert_eq!(follower.control.approvals().with_key(&key).unwrap().info, relay(&key, 8));
    }
    // What was under way when it was approved changes nothing.
    world.control.hear(&digest, world.now);
    assert_eq!(world.control.approvals().waiting().count(), 0);

    // For as long as it is heard of at one of them, all know it; and that costs a commit a minute.
    world.control.set_others(true);
    for minute in 1..=30 {
        for _ in 0..4 {
            for one in [&mut world, &mut here, &mut third] {
                one.wait(Duration::from_secs(15));
            }
            here.control.relay_heard(&key, minute, TOLD, here.now.instant);
            assert_eq!((here.control.drain_changes(), here.control.is_digest_urgent()), (Vec::new(), false));
            world.control.hear(&here.control.take_digest(100, here.now), world.now);
        }
        let changes = world.control.drain_changes();
        assert!(
            matches!(&changes[..], [Change::RelayHeard { relay, .. }] if *relay == relay_id(&key)),
            "{changes:?}"
        );
        here.adopt(&world.control, &changes);
        third.adopt(&world.control, &changes);
        let known = world.control.approvals().with_key(&key).unwrap();
        assert!(known.is_elsewhere(world.now.instant) && known.told == TOLD && known.info.load == minute);
        assert!(third.lists(&key).is_some_and(|load| load == minute || load + 1 == minute), "{minute}");
    }
    // Alone it writes nothing.
    world.control.set_others(false);
    world.wait(Duration::from_secs(61));
    world.control.relay_heard(&key, 7, TOLD, world.now.instant);
    assert_eq!(world.control.drain_changes(), []);
    // Nobody hears of it any more.
    for one in [&mut world, &mut here, &mut third] {
        one.wait(Duration::from_secs(601));
        assert_eq!(one.lists(&key), None);
    }
    assert!(!world.control.approvals().with_key(&key).unwrap().is_elsewhere(world.now.instant));
    world.control.revoke_relay(relay_id(&key).as_str()).unwrap();
    let stale = here.control.approvals().with_key(&key).unwrap().info.clone();
    here.control.refresh_relay(stale, here.now.instant);
    assert!(here.control.is_digest_urgent());
    // What was under way when that was taken back does not have it wait.
    world.control.hear(&here.control.take_digest(100, here.now), world.now);
    let approvals = world.control.approvals();
    assert_eq!((approvals.approved().count(), approvals.waiting().count()), (0, 0));
}

/// What a relay that was registered by a token says of its load is told to the others, at most once a minute.
#[test]
fn the_load_of_a_registered_relay_is_known_everywhere() {
    let mut world = TestControl::new();
    world.control.set_others(true);
    let mut follower = pair(&world);
    let alice = world.identity("alice");
    let id = relay(&private(6).public_key(), 7).relay_id;
    let mut told = |world: &mut TestControl, load: u32| {
        let info = RelayInfo { load, ..relay(&private(6).public_key(), 7) };
        world.control.register_relay(&alice, info, world.now).unwrap();
        let changes = world.control.drain_changes();
        follower.now = world.now;
        follower.adopt(&world.control, &changes);
        (follower.control.relays().get(&id).map(|relay| relay.info.load), changes.last().cloned())
    };
    let heard = |load| Some(Change::RelayHeard { relay: id.clone(), load, left_out: 0 });
    assert_eq!(told(&mut world, 3), (Some(3), heard(3)));
    world.wait(Duration::from_secs(59));
    assert_eq!(told(&mut world, 5), (Some(3), None));
    world.wait(Duration::from_secs(1));
    assert_eq!(told(&mut world, 5), (Some(5), heard(5)));
    world.wait(Duration::from_secs(61));
    assert_eq!(told(&mut world, 5), (Some(5), None));
    // Alone it tells nobody.
    world.control.set_others(false);
    assert_eq!(told(&mut world, 9), (Some(5), None));
    // Whoever decides next knows what the others were told.
    let _ = told;
    follower.control.lead(follower.now);
    follower.control.set_others(true);
    follower.control.drain_changes();
    follower.wait(Duration::from_secs(61));
    let info = RelayInfo { load: 0, ..relay(&private(6).public_key(), 7) };
    follower.control.register_relay(&alice, info, follower.now).unwrap();
    assert_eq!(follower.control.drain_changes().last().cloned(), heard(0));
}

#[test]
fn who_comes_as_a_relay_to_a_follower_takes_no_more_than_a_digest_has_room_for() {
    let world = TestControl::new();
    let mut follower = pair(&world);
    for number in 0..200 {
        let key = private(number).public_key();
        follower.control.await_approval(relay(&key, 7), &key, HOME, follower.now.instant);
        follower.control.handshake(&key, HOME, follower.now);
    }
    let waiting = follower.control.approvals().waiting().count();
    let mut told = Vec::new();
    for _ in 0..20 {
        let digest = follower.control.take_digest(100, follower.now);
        assert!(digest.len() <= 100 && digest.relays.len() * RELAY_WEIGHT <= 64, "{}", digest.len());
        told.extend(digest.relays);
    }
    assert_eq!(told.len(), waiting, "those that wait, each once");
    assert!(!follower.control.is_digest_urgent());
    // A writer takes no more of them than if they had come to it.
    let mut writer = TestControl::new();
    let digest = Digest { relays: told, ..Digest::default() };
    (0..3).for_each(|_| writer.control.hear(&digest, writer.now));
    assert_eq!(writer.control.approvals().waiting().count(), waiting);
}

#[test]
fn whoever_missed_the_log_is_told_of_relays_that_were_approved_and_are_not_any_more() {
    let mut world = TestControl::new();
    let [first, second] = [5, 6].map(|number| private(number).public_key());
    for key in [first, second] {
        world.control.await_approval(relay(&key, 7), &key, HOME, world.now.instant);
    }
    world.control.approve_relay(relay_id(&first).as_str(), &first.encode(), world.now).unwrap();
    let mut follower = pair(&world);
    follower.control.catch_up(world.records(None), follower.now).unwrap();
    assert_eq!(follower.control.drain_changes(), []);
    world.control.revoke_relay(relay_id(&first).as_str()).unwrap();
    world.control.approve_relay(relay_id(&second).as_str(), &second.encode(), world.now).unwrap();
    follower.control.catch_up(world.records(None), follower.now).unwrap();
    let changes = follower.control.drain_changes();
    assert_eq!(changes.len(), 2);
    assert!(changes.contains(&Change::RelayExpired(relay_id(&first))));
    assert!(changes.contains(&Change::RelayChanged(relay_id(&second))));
    assert!(follower.lists(&first).is_none() && follower.lists(&second).is_some());
}
