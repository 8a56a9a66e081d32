//! Who comes in by what, and what owners do with parties, devices and invites.

use super::*;
use crate::control::entry::{DeviceWish, Entry, PartyAccess};
use crate::control::expiry::Expiry;
use crate::control::invites::{InviteKind, InviteWish};
use crate::control::ownership::PartyWish;

const HOUR: Duration = Duration::from_secs(3600);
const NOON: i64 = 1_795_176_000;

fn key(number: u8) -> PublicKey {
    PrivateKey::from_bytes([number; 32]).public_key()
}

fn link(uses: u32) -> InviteWish {
    InviteWish { kind: InviteKind::Link, uses, life: HOUR }
}

fn code(uses: u32) -> InviteWish {
    InviteWish { kind: InviteKind::Code, ..link(uses) }
}

impl TestControl {
    fn own_party(&mut self, wish: &PartyWish<'_>) -> PartyId {
        let wish = PartyWish { name: Some("LAN"), ..*wish };
        self.control.create_own_party(&wish, self.now).unwrap()
    }

    fn invite(&mut self, party: &PartyId, wish: InviteWish) -> String {
        self.control.create_invite(&admin(), party.as_str(), wish, self.now).unwrap().0
    }

    fn device(&mut self, party: &PartyId, number: u8, expires: Option<Expiry>) -> PeerId {
        let wish = DeviceWish { name: "Phone", key: key(number), expires, origin: None };
        self.control.add_device(&admin(), party.as_str(), &wish, self.now).unwrap()
    }

    fn redeem(&mut self, secret: &str, number: u8, password: Option<&str>) -> Result<Entry, Refusal> {
        let wish = DeviceWish { name: "Phone", key: key(number), expires: None, origin: Some(ELSEWHERE) };
        self.control.redeem(secret, &wish, password, self.now)
    }

    fn enter(&mut self, by: &Identity, name: &str, password: Option<&str>) -> Result<Entry, Refusal> {
        let info = info(by.peer.as_str(), &format!("key of {}", by.peer));
        self.control.enter_party(by, name, info, KeyClaim::from(HOME), password, self.now)
    }

    fn left(&self, secret: &str) -> u32 {
        self.control.invite(secret).unwrap().1.left
    }

    /// The same after a restart, at this wall clock.
    fn restarted_at(&self, unix: i64) -> TestControl {
        TestControl::start(self.control.settings().clone(), self.records(None), unix)
    }
}

#[test]
fn a_party_of_the_machine_outlasts_everybody_and_belongs_to_nobody_else() {
    let mut world = TestControl::new();
    let party = world.own_party(&PartyWish::default());
    let (alice, bob) = (world.identity("alice"), world.identity("bob"));
    world.enter(&alice, party.as_str(), None).unwrap();
    assert_eq!(world.control.delete_party(&actor(&alice), party.as_str()), Err(Refusal::NotHost));
    let left = world.control.remove_peer(&actor(&alice), party.as_str(), "alice");
    assert_eq!(left, Ok(Removed::Left));
    world.enter(&bob, party.as_str(), None).unwrap();
    world.wait(HOUR);
    world.control.sweep(world.now);
    let mut world = world.restarted_at(NOON);
    world.wait(HOUR);
    world.control.sweep(world.now);
    let found = world.control.party(party.as_str()).unwrap();
    assert!(found.members.is_empty() && found.host.is_none() && found.permanent);
    assert_eq!(found.host_id(), "_machine");
    assert!(PeerId::new(found.host_id()).is_none(), "nobody can register it");
    // One that is not to outlast its members is there for them to come, and goes with the last.
    let passing = world.own_party(&PartyWish { permanent: Some(false), ..PartyWish::default() });
    world.control.sweep(world.now);
    let carol = world.identity("carol");
    world.enter(&carol, passing.as_str(), None).unwrap();
    world.wait(HOUR);
    world.control.sweep(world.now);
    assert!(world.control.party(passing.as_str()).is_err());
}

#[test]
fn only_the_owner_of_the_machine_makes_a_party_permanent_and_its_host_stays() {
    let mut world = TestControl::new();
    let (alice, bob) = (world.identity("alice"), world.identity("bob"));
    let party = world.create(&alice);
    world.join(&bob, &party).unwrap();
    let wish = PartyWish { permanent: Some(true), ..PartyWish::default() };
    let id = party.as_str();
    assert_eq!(world.control.change_party(&actor(&alice), id, &wish), Err(Refusal::NotPermanent));
    assert_eq!(world.control.change_party(&actor(&bob), id, &wish), Err(Refusal::NotHost));
    world.control.change_party(&admin(), id, &wish).unwrap();
    world.wait(HOUR);
    world.control.sweep(world.now);
    let found = world.control.party(id).unwrap();
    assert_eq!(found.members.keys().collect::<Vec<_>>(), [&peer("alice")], "nobody else becomes alice");
    assert_eq!(world.control.remove_peer(&actor(&alice), id, "alice"), Ok(Removed::Left));
    assert_eq!(world.control.party(id).unwrap().host, None);
}

#[test]
fn a_device_stays_without_a_word_until_its_time_is_over() {
    let mut world = TestControl::new();
    let party = world.own_party(&PartyWish::default());
    let stays = world.device(&party, 1, None);
    let goes = world.device(&party, 2, Some(Expiry::after(2 * HOUR, world.now)));
    assert_eq!(world.device(&party, 1, None), stays, "the same key is the same device");
    world.wait(HOUR);
    world.control.sweep(world.now);
    assert!(world.control.claim(&stays, HOME).is_err(), "nobody else is it");
    assert_eq!(world.control.party(party.as_str()).unwrap().devices().count(), 2);
    let mut world = world.restarted_at(NOON + 3600);
    world.wait(HOUR);
    world.control.drain_changes();
    world.control.sweep(world.now);
    let gone = world.control.drain_changes();
    let why = |change: &Change| match change {
        Change::MemberLeft { who, why, is_device: true, .. } => Some((who.peer.clone(), *why)),
        _ => None,
    };
    assert_eq!(gone.iter().find_map(why), Some((goes, Departure::Expired)));
    let eve = world.identity("eve");
    let remove =
        |world: &mut TestControl, by: &Actor, id: &str| world.control.remove_device(by, party.as_str(), id);
    assert_eq!(remove(&mut world, &actor(&eve), stays.as_str()), Err(Refusal::NotHost));
    world.enter(&eve, party.as_str(), None).unwrap();
    assert_eq!(remove(&mut world, &admin(), "eve"), Err(Refusal::NotDevice));
    assert_eq!(remove(&mut world, &admin(), stays.as_str()), Ok(()));
    assert_eq!(world.control.party(party.as_str()).unwrap().devices().count(), 0);
}

#[test]
fn devices_go_with_the_party_of_a_player_and_never_host_it() {
    let mut world = TestControl::new();
    let (alice, bob) = (world.identity("alice"), world.identity("bob"));
    let party = world.create(&alice);
    let wish = DeviceWish { name: "Phone", key: key(1), expires: None, origin: Some(HOME) };
    world.control.add_device(&actor(&alice), party.as_str(), &wish, world.now).unwrap();
    world.join(&bob, &party).unwrap();
    world.wait(Duration::from_secs(299));
    world.control.heartbeat(party.as_str(), &peer("bob"), Some(HOME), world.now).unwrap();
    world.wait(Duration::from_secs(1));
    world.control.sweep(world.now);
    assert_eq!(world.control.party(party.as_str()).unwrap().host, Some(peer("bob")));
    world.wait(HOUR);
    world.control.sweep(world.now);
    assert_eq!((world.control.party_count(), world.control.peer_count()), (0, 0));
}

#[test]
fn a_token_of_a_device_is_its_own_and_needs_no_memory() {
    let mut world = TestControl::new();
    let party = world.own_party(&PartyWish::default());
    let phone = world.device(&party, 1, None);
    let token = world.control.device_token(&phone).unwrap();
    let who = |world: &TestControl, token: &str| {
        world.control.device_of(token).map(|(_, member)| member.info.peer_id.clone())
    };
    assert_eq!(token.len(), 43);
    let world = world.restarted_at(NOON);
    assert_eq!(who(&world, &token), Ok(phone.clone()));
    let mut world = world;
    assert!(world.control.authenticate(&token, world.now).is_err(), "it lets nobody speak for the device");
    let mut other = token.clone().into_bytes();
    other[20] ^= 1;
    assert_eq!(who(&world, std::str::from_utf8(&other).unwrap()), Err(Refusal::TokenUnknown));
    world.control.remove_device(&admin(), party.as_str(), phone.as_str()).unwrap();
    assert_eq!(who(&world, &token), Err(Refusal::TokenUnknown));
    assert_eq!(world.control.device_token(&peer("alice")), None);
}

#[test]
fn an_invite_is_good_for_so_many_and_the_same_key_costs_nothing() {
    let mut world = TestControl::new();
    let party = world.own_party(&PartyWish { access: Some("invite"), ..PartyWish::default() });
    let secret = world.invite(&party, link(2));
    let first = world.redeem(&secret, 1, None).unwrap();
    assert!(first.paid.is_some() && world.left(&secret) == 1);
    let again = world.redeem(&secret, 1, None).unwrap();
    assert_eq!((again.peer, again.paid, world.left(&secret)), (first.peer, None, 1));
    let mut world = world.restarted_at(NOON);
    world.redeem(&secret, 2, None).unwrap();
    assert_eq!(world.redeem(&secret, 3, None), Err(Refusal::InviteUsedUp));
    assert_eq!(world.redeem("AAAAAAAAAAAAAAAAAAAAAA", 3, None), Err(Refusal::InviteUnknown));
    assert!(world.redeem(&secret, 2, None).is_ok());
    let secret = world.invite(&party, link(1));
    assert_eq!(world.redeem(&secret, 2, None), Err(Refusal::KeyTaken));
    world.wait(HOUR);
    assert_eq!(world.redeem(&secret, 4, None), Err(Refusal::InviteOver));
    let secret = world.invite(&party, link(1));
    let id = world.control.invite(&secret).unwrap().1.id.to_string();
    world.control.revoke_invite(&admin(), party.as_str(), &id).unwrap();
    assert_eq!(world.redeem(&secret, 4, None), Err(Refusal::InviteOver));
    assert_eq!(
        world.control.revoke_invite(&admin(), party.as_str(), &id),
        Err(Refusal::InviteUnknown),
        "once is enough"
    );
    // What was over for a day is forgotten.
    world.control.sweep(world.now);
    world.wait(24 * HOUR);
    world.control.sweep(world.now);
    assert_eq!(world.redeem(&secret, 4, None), Err(Refusal::InviteUnknown));
    assert!(world.control.party(party.as_str()).unwrap().invites.is_empty());
}

#[test]
fn an_entry_that_can_not_be_kept_is_undone() {
    let mut world = TestControl::new();
    let party = world.own_party(&PartyWish::default());
    let secret = world.invite(&party, link(1));
    let entry = world.redeem(&secret, 1, None).unwrap();
    world.control.undo(&entry);
    assert_eq!(world.left(&secret), 1);
    assert!(world.control.party(party.as_str()).unwrap().members.is_empty());
    world.control.undo(&entry);
    assert_eq!(world.left(&secret), 1);
    let bob = world.identity("bob");
    let entry = world.enter(&bob, &secret, None).unwrap();
    world.control.undo(&entry);
    assert_eq!((world.left(&secret), world.control.peer_count()), (1, 0));
    world.redeem(&secret, 1, None).unwrap();
    assert_eq!(world.enter(&bob, &secret, None), Err(Refusal::InviteUsedUp));
}

#[test]
fn who_comes_by_a_code_goes_on_with_it_and_comes_back_unless_sent_away() {
    let mut world = TestControl::new();
    let party = world.own_party(&PartyWish { access: Some("invite"), ..PartyWish::default() });
    let (bob, eve) = (world.identity("bob"), world.identity("eve"));
    assert_eq!(world.enter(&bob, party.as_str(), None), Err(Refusal::InviteNeeded));
    let code = world.invite(&party, code(1));
    let wrong = if code.starts_with('A') { "BBBBBBBB" } else { "AAAAAAAA" };
    assert_eq!(world.enter(&bob, wrong, None), Err(Refusal::PartyNotFound(wrong.into())));
    let dashed = format!("{}-{}", &code[..4].to_ascii_lowercase(), &code[4..]);
    world.enter(&bob, &dashed, None).unwrap();
    assert_eq!(world.control.meant_by(&bob.peer, &code), Some(&party));
    assert_eq!(world.control.meant_by(&eve.peer, &code), None, "it is no other name of the party for others");
    assert_eq!(world.enter(&eve, &code, None), Err(Refusal::InviteUsedUp));
    assert!(world.control.readable_party(&actor(&bob), party.as_str()).is_ok());
    let read = world.control.readable_party(&actor(&eve), party.as_str()).map(drop);
    assert_eq!(read, Err(Refusal::NotMember));
    // A closed lid, and back.
    world.wait(Duration::from_secs(400));
    world.control.sweep(world.now);
    assert_eq!(world.control.peer_count(), 0);
    world.enter(&bob, &code, None).unwrap();
    world.enter(&bob, &code, None).unwrap();
    assert_eq!(world.left(&code), 0);
    // The member goes on with it when it is over, also after a restart.
    world.wait(HOUR);
    let mut world = world.restarted_at(NOON + 4000);
    assert_eq!(world.control.meant_by(&bob.peer, &code), Some(&party));
    world.enter(&bob, &code, None).unwrap();
    world.control.remove_peer(&admin(), party.as_str(), "bob").unwrap();
    assert_eq!(world.enter(&bob, &code, None), Err(Refusal::InviteOver));
}

#[test]
fn who_was_sent_away_comes_back_by_a_use_of_its_own_and_not_by_a_revoked_invite() {
    let mut world = TestControl::new();
    let party = world.own_party(&PartyWish { access: Some("invite"), ..PartyWish::default() });
    let bob = world.identity("bob");
    let code = world.invite(&party, code(2));
    world.enter(&bob, &code, None).unwrap();
    world.control.remove_peer(&admin(), party.as_str(), "bob").unwrap();
    world.enter(&bob, &code, None).unwrap();
    assert_eq!(world.left(&code), 0);
    world.control.revoke_invite_of(&admin(), party.as_str(), "bob").unwrap();
    world.control.remove_peer(&admin(), party.as_str(), "bob").unwrap();
    assert_eq!(world.enter(&bob, &code, None), Err(Refusal::InviteOver));
}

#[test]
fn a_password_is_asked_of_whoever_is_new() {
    let mut world = TestControl::new();
    let alice = world.identity("alice");
    let party = world.create(&alice);
    let change = |world: &mut TestControl, access, password| {
        let wish = PartyWish { access, password, ..PartyWish::default() };
        world.control.change_party(&actor(&alice), party.as_str(), &wish)
    };
    assert_eq!(change(&mut world, Some("password"), None), Err(Refusal::PasswordNeeded));
    change(&mut world, None, Some("sesame")).unwrap();
    let mut world = world.restarted_at(NOON);
    let bob = world.identity("bob");
    assert_eq!(world.enter(&bob, party.as_str(), None), Err(Refusal::PasswordNeeded));
    assert_eq!(world.enter(&bob, party.as_str(), Some("Sesame")), Err(Refusal::PasswordWrong));
    let secret = world.invite(&party, link(9));
    assert_eq!(world.redeem(&secret, 1, Some("x")), Err(Refusal::PasswordWrong));
    world.redeem(&secret, 1, Some("sesame")).unwrap();
    world.enter(&bob, party.as_str(), Some("sesame")).unwrap();
    world.enter(&bob, party.as_str(), None).unwrap();
    // It stays when something else changes, and is gone with its kind of access.
    change(&mut world, Some("password"), None).unwrap();
    change(&mut world, Some("public"), None).unwrap();
    assert_eq!(world.control.public_parties().count(), 1);
    assert_eq!(change(&mut world, Some("password"), None), Err(Refusal::PasswordNeeded));
    let record = world.control.party_record(&party, world.now).unwrap();
    assert_eq!((record.access.as_deref(), record.password), (Some("public"), None));
}

#[test]
fn with_another_id_nobody_comes_in_by_the_old_one_and_who_is_in_goes_on() {
    let mut world = TestControl::new();
    let (alice, bob, eve) = (world.identity("alice"), world.identity("bob"), world.identity("eve"));
    let party = world.create(&alice);
    world.join(&bob, &party).unwrap();
    let secret = world.invite(&party, link(1));
    world.control.drain_changes();
    let old = world.ip(&party, "bob");
    let new = world.control.rename_party(&actor(&alice), party.as_str()).unwrap();
    assert_ne!(new, party);
    let members = vec![peer("alice"), peer("bob")];
    let renamed = Change::PartyRenamed { from: party.clone(), party: new.clone(), members };
    assert_eq!(world.control.drain_changes(), [renamed]);
    let mut world = world.restarted_at(NOON);
    assert_eq!(world.enter(&eve, party.as_str(), None), Err(Refusal::PartyNotFound(party.to_string())));
    assert_eq!(world.control.meant_by(&bob.peer, party.as_str()), Some(&new));
    world.enter(&bob, party.as_str(), None).unwrap();
    assert_eq!(world.ip(&new, "bob"), old);
    assert_eq!(world.redeem(&secret, 1, None).unwrap().party, new);
    assert_eq!(world.control.party_count(), 1);
    for _ in 0..20 {
        world
            .control
            .rename_party(&admin(), new.as_str())
            .or_else(|_| {
                let id = world.control.parties().next().unwrap().id.clone();
                world.control.rename_party(&admin(), id.as_str())
            })
            .unwrap();
    }
    assert_eq!(world.control.parties().next().unwrap().former.len(), 8);
}

#[test]
fn a_party_ends_at_its_time_and_invites_from_1970_last_as_long_as_they_should() {
    let mut world = TestControl::start(ControlSettings::default(), Records::default(), 100);
    let ends = Expiry::after(3 * HOUR, world.now);
    let party = world.own_party(&PartyWish { ends: Some(Some(ends)), ..PartyWish::default() });
    let secret = world.invite(&party, link(9));
    world.wait(HOUR / 2);
    // NTP.
    world.now.unix = UnixTime::from_micros(NOON * 1_000_000);
    world.control.drain_changes();
    world.control.sweep(world.now);
    assert!(world.control.drain_changes().contains(&Change::EntryChanged(party.clone())), "now it is known");
    world.redeem(&secret, 1, None).unwrap();
    // Off for an hour, and on again in 1970.
    let mut world = world.restarted_at(50);
    world.redeem(&secret, 2, None).unwrap();
    world.now.unix = UnixTime::from_micros((NOON + 3600) * 1_000_000);
    assert_eq!(world.redeem(&secret, 3, None), Err(Refusal::InviteOver));
    world.control.sweep(world.now);
    assert!(world.control.party(party.as_str()).is_ok());
    world.now.unix = UnixTime::from_micros((NOON + 9000) * 1_000_000);
    world.control.sweep(world.now);
    assert!(world.control.party(party.as_str()).is_err());
    assert_eq!(world.redeem(&secret, 3, None), Err(Refusal::InviteUnknown));
}

#[test]
fn invites_are_bounded_and_what_is_over_makes_room() {
    let limits = ControlLimits { invites_per_party: 3, invites: 4, ..ControlLimits::default() };
    let mut world = TestControl::with(limits);
    let (first, second) = (world.own_party(&PartyWish::default()), world.own_party(&PartyWish::default()));
    let memory = world.control.memory.total();
    for _ in 0..3 {
        world.invite(&first, link(64));
    }
    assert!(world.control.memory.total() > memory);
    let more = |world: &mut TestControl, party: &PartyId| {
        world.control.create_invite(&admin(), party.as_str(), link(1), world.now).map(drop)
    };
    let what = "invites to this party";
    assert_eq!(more(&mut world, &first), Err(Refusal::Limit { what, limit: 3 }));
    more(&mut world, &second).unwrap();
    assert_eq!(more(&mut world, &second), Err(Refusal::Full { what: "invites", limit: 4 }));
    world.wait(HOUR);
    more(&mut world, &first).unwrap();
    world.control.delete_party(&admin(), first.as_str()).unwrap();
    world.control.delete_party(&admin(), second.as_str()).unwrap();
    assert_eq!((world.control.invites.len(), world.control.memory.total()), (0, 0));
}

#[test]
fn a_ban_covers_invites_and_devices() {
    let mut world = TestControl::new();
    let party = world.own_party(&PartyWish::default());
    let secret = world.invite(&party, link(9));
    let phone = world.redeem(&secret, 1, None).unwrap().peer;
    let ban = Ban { peer_id: Some(phone), key: None };
    world.control.drain_changes();
    world.control.ban(&admin(), party.as_str(), ban).unwrap();
    let why = |change: &Change| matches!(change, Change::MemberLeft { why: Departure::Banned, .. });
    assert!(world.control.drain_changes().iter().any(why));
    assert_eq!(world.redeem(&secret, 1, None), Err(Refusal::Banned));
    let wish = DeviceWish { name: "Phone", key: key(1), expires: None, origin: None };
    let added = world.control.add_device(&admin(), party.as_str(), &wish, world.now);
    assert_eq!(added, Err(Refusal::Banned));
    assert_eq!(world.left(&secret), 8);
}

#[test]
fn what_can_not_be_read_of_a_party_lets_nobody_in() {
    let mut world = TestControl::new();
    let party = world.own_party(&PartyWish::default());
    for (access, expected) in [
        (None, PartyAccess::Open),
        (Some("password"), PartyAccess::Invite),
        (Some("new"), PartyAccess::Invite),
    ] {
        let mut records = world.records(None);
        records.parties[0].1.access = access.map(str::to_owned);
        let again = TestControl::start(ControlSettings::default(), records, NOON);
        assert_eq!(again.control.party(party.as_str()).unwrap().access, expected);
    }
}

#[test]
fn nobody_draws_guests_away_by_a_party_that_is_called_like_an_invite_or_a_former_id() {
    let mut world = TestControl::new();
    let (alice, bob, eve) = (world.identity("alice"), world.identity("bob"), world.identity("eve"));
    let trap = |world: &mut TestControl, id: &str| {
        let info = info("eve", "key of eve");
        world
            .control
            .create_party(&eve, PartyId::new(id), "LAN", info, KeyClaim::from(HOME), world.now)
            .unwrap()
    };
    let party = world.create(&alice);
    let code = world.invite(&party, code(2));
    assert_eq!(trap(&mut world, &code).as_str(), code);
    assert_eq!(world.enter(&bob, &code, None).unwrap().party, party);
    assert_eq!(world.control.meant_by(&bob.peer, &code), Some(&party));
    let new = world.control.rename_party(&actor(&alice), party.as_str()).unwrap();
    trap(&mut world, party.as_str());
    assert_eq!(world.control.meant_by(&bob.peer, party.as_str()), Some(&new));
    assert_eq!(world.control.meant_by(&eve.peer, party.as_str()), Some(&party), "it is hers");
    assert_eq!(world.enter(&bob, party.as_str(), None).unwrap().party, new);
}
