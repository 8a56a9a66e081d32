//! Relays in other places that have no room for every party: who is told of which, and what players hear of that.

use super::*;
use crate::api::relay_feed::RelayFeed;
use crate::control::approvals::FeedSize;
use crate::control::change::Change;
use crate::control::keys::KeyClaim;
use crate::control::party::PeerInfo;
use crate::control::placement::Placement;
use crate::control::registration::Credentials;
use crate::control::relays::RelayInfo;
use crate::crypto::random::Seeded;
use crate::crypto::x25519::PublicKey;
use crate::ids::PartyId;
use crate::wire::nat_type::NatType;
use crate::wire::roster::relay_id;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));

fn key(number: u8) -> PublicKey {
    PrivateKey::from_bytes([number; 32]).public_key()
}

/// Approves the relay with this key.
fn approve(world: &mut TestApi, number: u8) -> RelayId {
    let (key, now) = (key(number), world.now);
    let info = RelayInfo {
        relay_id: relay_id(&key),
        public_ip: THERE,
        port: 51820,
        region: "there".into(),
        capacity: 100,
        public_key: Some(key.encode()),
        load: 0,
    };
    let id = info.relay_id.clone();
    world.api.control.await_approval(info, &key, THERE, now.instant);
    world.api.control.approve_relay(id.as_str(), &key.encode(), now).unwrap();
    id
}

fn enter(world: &mut TestApi, party: Option<&PartyId>, number: u16) -> PartyId {
    let (control, now) = (&mut world.api.control, world.now);
    let peer_id = PeerId::new(&format!("peer-{number}")).unwrap();
    let token = control.register(&peer_id, Credentials::default(), now).unwrap().token;
    let by = control.authenticate(&token, now).unwrap();
    let mut bytes = [9; 32];
    bytes[1..3].copy_from_slice(&number.to_be_bytes());
    let info = PeerInfo {
        peer_id,
        name: "Me".into(),
        public_key: PrivateKey::from_bytes(bytes).public_key().encode().into(),
        nat_type: NatType::Unknown,
        public_ip: "unknown".into(),
        public_port: 0,
        local_ip: "unknown".into(),
        local_port: 0,
        last_seen: None,
    };
    match party {
        Some(party) => {
            control.enter_party(&by, party.as_str(), info, KeyClaim::from(THERE), None, now).unwrap();
            party.clone()
        }
        None => control.create_party(&by, None, "LAN", info, KeyClaim::from(THERE), now).unwrap(),
    }
}

/// So many parties of one to three members.
fn parties(world: &mut TestApi, numbers: std::ops::Range<u16>) -> Vec<PartyId> {
    let enter_all = |number| {
        let party = enter(world, None, 10 * number);
        (1..=number % 3).for_each(|more| drop(enter(world, Some(&party), 10 * number + more)));
        party
    };
    numbers.map(enter_all).collect()
}

/// Relays and what each of them has taken in, page by page: it never has more members than it takes.
struct FedRelay {
    feed: RelayFeed,
    relay: RelayId,
    room: usize,
    known: BTreeMap<String, usize>,
}

impl FedRelay {
    fn new(world: &TestApi, relay: &RelayId, room: usize) -> Self {
        let feed = RelayFeed::new("feed".into(), relay.clone(), room as u32, &world.api.control);
        FedRelay { feed, relay: relay.clone(), room, known: BTreeMap::new() }
    }

    /// Tells it all there is to tell, in a number of pages that has an end.
    fn tell(&mut self, world: &TestApi) {
        for _ in 0..1000 {
            let Some((number, parties, _)) = self.feed.page(&world.api.control) else { return };
            for party in parties {
                self.known.insert(party.party.to_string(), party.members.len());
                assert!(self.known.values().sum::<usize>() <= self.room);
            }
            self.feed.taken(number);
        }
        panic!("it is told without an end");
    }

    fn has(&self, world: &TestApi, party: &PartyId) -> bool {
        let roster = world.api.control.party_roster(party);
        let known = self.known.get(roster.party.as_str()).copied().unwrap_or(0);
        assert_eq!(self.feed.has(party), known > 0);
        assert!(known == 0 || known == roster.members.len());
        known > 0
    }

    /// Whether it has every party that is to it what `placement` says, or more.
    fn has_all(&self, world: &TestApi, parties: &[PartyId], placement: Placement) -> bool {
        parties.iter().all(|party| {
            world.api.control.placement(party, &self.relay) > placement || self.has(world, party)
        })
    }
}

/// Room for the members that all parties of these placements have at the relay where they have most.
fn room(world: &TestApi, relays: &[RelayId], parties: &[PartyId], placement: Placement) -> usize {
    let control = &world.api.control;
    let members = |relay: &RelayId| {
        let own = parties.iter().filter(|party| control.placement(party, relay) <= placement);
        own.map(|party| control.party_roster(party).members.len()).sum()
    };
    relays.iter().map(members).max().unwrap()
}

#[test]
fn every_party_has_one_home_and_one_spare_and_a_new_relay_takes_its_share_alone() {
    let mut world = TestApi::new();
    let mut relays: Vec<RelayId> = (1..=4).map(|number| approve(&mut world, number)).collect();
    let parties = parties(&mut world, 0..200);
    let homes = |world: &TestApi| -> Vec<RelayId> {
        let home = |party| world.api.control.placements(party)[0].info.relay_id.clone();
        parties.iter().map(home).collect()
    };
    for (party, home) in parties.iter().zip(homes(&world)) {
        let mut placements: Vec<_> =
            relays.iter().map(|relay| world.api.control.placement(party, relay)).collect();
        assert_eq!(world.api.control.placement(party, &home), Placement::Home);
        placements.sort();
        assert_eq!(placements, [Placement::Home, Placement::Spare, Placement::Other, Placement::Other]);
    }
    for relay in &relays {
        let own = homes(&world).iter().filter(|home| *home == relay).count();
        assert!((25..=75).contains(&own), "{own} of 200 at one of four");
    }
    let before = homes(&world);
    relays.push(approve(&mut world, 5));
    let after = homes(&world);
    let moved: Vec<_> = before.iter().zip(&after).filter(|(before, after)| before != after).collect();
    assert!((15..=70).contains(&moved.len()), "{} of 200 move to the fifth", moved.len());
    assert!(moved.iter().all(|(_, after)| **after == relays[4]));
    world.api.control.revoke_relay(relays[4].as_str()).unwrap();
    assert_eq!(homes(&world), before);
}

#[test]
fn a_relay_without_room_for_all_has_the_parties_whose_home_or_spare_it_is() {
    for placement in [Placement::Spare, Placement::Home] {
        let mut world = TestApi::new();
        let relays: Vec<RelayId> = (1..=4).map(|number| approve(&mut world, number)).collect();
        let mut all = parties(&mut world, 0..60);
        // They are told of parties by name: what others serve is there before what comes next, and goes for that.
        let room = room(&world, &relays, &all, placement) + 3;
        let mut told: Vec<FedRelay> = relays.iter().map(|relay| FedRelay::new(&world, relay, room)).collect();
        let check = |told: &mut FedRelay, world: &TestApi, all: &[PartyId]| {
            told.tell(world);
            assert!(told.has_all(world, all, placement), "{placement:?}");
            assert!(told.feed.size().left_out > 0, "there is no room for all");
        };
        told.iter_mut().for_each(|told| check(told, &world, &all));

        // A newcomer whose home it is has others make room, and a relay that comes or goes is heeded.
        let party = enter(&mut world, None, 5000);
        all.push(party.clone());
        for told in &mut told {
            told.feed.note(&Change::MemberJoined(party.clone(), PeerId::new("peer-5000").unwrap()));
            check(told, &world, &all);
        }
        let fifth = approve(&mut world, 5);
        for told in &mut told {
            told.feed.reconsider();
            check(told, &world, &all);
        }
        check(&mut FedRelay::new(&world, &fifth, room), &world, &all);
        world.api.control.revoke_relay(fifth.as_str()).unwrap();
        for told in &mut told {
            told.feed.reconsider();
            check(told, &world, &all);
        }
    }
}

#[test]
fn who_is_left_out_comes_in_when_there_is_room_whichever_it_is() {
    let mut world = TestApi::new();
    let relay = approve(&mut world, 1);
    let all = parties(&mut world, 0..60);
    let members: usize = all.iter().map(|party| world.api.control.party_roster(party).members.len()).sum();
    let mut told = FedRelay::new(&world, &relay, members / 2);
    told.tell(&world);
    let (here, out): (Vec<_>, Vec<_>) = all.iter().partition(|party| told.has(&world, party));
    assert!(!here.is_empty() && out.len() == told.feed.size().left_out as usize);
    // One party after the other ends.
    for party in here {
        world.api.control.delete_party(&Actor::Admin, party.as_str()).unwrap();
        for change in world.api.control.drain_changes() {
            told.feed.note(&change);
        }
        told.tell(&world);
    }
    let still_out: BTreeSet<_> = out.iter().filter(|party| !told.has(&world, party)).collect();
    assert_eq!(still_out.len(), told.feed.size().left_out as usize);
    let needed: usize = out.iter().map(|party| world.api.control.party_roster(party).members.len()).sum();
    assert!(needed <= told.room + 2 && still_out.len() <= 1, "{needed} of {}: {still_out:?}", told.room);
}

/// Other relays may come long before there is want of room: what it has from before is others' by then.
#[test]
fn what_was_told_when_there_was_no_other_relay_makes_room() {
    let mut world = TestApi::new();
    let relay = approve(&mut world, 1);
    let mut all: Vec<PartyId> = (0..40).map(|number| enter(&mut world, None, number)).collect();
    let mut told = FedRelay::new(&world, &relay, 45);
    told.tell(&world);
    (2..=4).for_each(|number| drop(approve(&mut world, number)));
    world.api.control.drain_changes();
    told.feed.reconsider();
    told.tell(&world);
    assert_eq!(told.feed.size().left_out, 0);
    all.extend((40..80).map(|number| enter(&mut world, None, number)));
    for change in world.api.control.drain_changes() {
        told.feed.note(&change);
    }
    told.tell(&world);
    assert!(told.has_all(&world, &all, Placement::Home));
}

/// Parties that somebody leaves all the time do not keep others from being told.
#[test]
fn who_leaves_and_comes_all_the_time_keeps_nobody_waiting() {
    let mut world = TestApi::new();
    let relay = approve(&mut world, 1);
    let busy: Vec<PartyId> = (0..4)
        .map(|number| {
            let party = enter(&mut world, None, 100 * number);
            (1..60).for_each(|more| drop(enter(&mut world, Some(&party), 100 * number + more)));
            party
        })
        .collect();
    let mut told = FedRelay::new(&world, &relay, 1000);
    told.tell(&world);
    let quiet: Vec<PartyId> = (1000..1020).map(|number| enter(&mut world, None, number)).collect();
    for round in 0..25 {
        for (party, number) in busy.iter().zip(2000..) {
            let members = &world.api.control.party(party.as_str()).unwrap().members;
            let peer = members.keys().next_back().unwrap().clone();
            world.api.control.remove_peer(&Actor::Admin, party.as_str(), peer.as_str()).unwrap();
            enter(&mut world, Some(party), number + 10 * round);
        }
        world.api.control.drain_changes().iter().for_each(|change| told.feed.note(change));
        let (number, page, _) = told.feed.page(&world.api.control).unwrap();
        told.known.extend(page.into_iter().map(|party| (party.party.to_string(), party.members.len())));
        told.feed.taken(number);
    }
    assert!(quiet.iter().all(|party| told.has(&world, party)));
}

/// Whatever comes and goes, members, parties and relays, and whichever pages are lost: in the end each relay has what the feed
/// says, no party is left out that there is room for, and none for one to which the relay is less.
#[test]
fn whatever_comes_and_goes_the_best_are_told() {
    for seed in 0..40 {
        let mut random = Seeded::new(seed);
        let mut world = TestApi::new();
        let relay = approve(&mut world, 1);
        let room = [20, 40, 70][seed as usize % 3];
        let mut told = FedRelay::new(&world, &relay, room);
        // While pages are lost it may have more for a moment.
        told.room = usize::MAX;
        let (mut parties, mut number, mut others): (Vec<PartyId>, u16, Vec<u8>) = (Vec::new(), 0, Vec::new());
        for _ in 0..300 {
            let which = parties.get(random.below(parties.len().max(1) as u64) as usize).cloned();
            match (random.below(12), which) {
                (0..=2, _) | (_, None) => {
                    number += 1;
                    parties.push(enter(&mut world, None, number));
                }
                (3..=5, Some(party)) => {
                    number += 1;
                    enter(&mut world, Some(&party), number);
                }
                (6 | 7, Some(party)) => {
                    let members = &world.api.control.party(party.as_str()).unwrap().members;
                    let peer = members.keys().next().unwrap().clone();
                    world.api.control.remove_peer(&Actor::Admin, party.as_str(), peer.as_str()).unwrap();
                    parties.retain(|party| world.api.control.party(party.as_str()).is_ok());
                }
                (8, Some(party)) => {
                    world.api.control.delete_party(&Actor::Admin, party.as_str()).unwrap();
                    parties.retain(|other| *other != party);
                }
                (9, _) => match others.pop().filter(|_| random.below(2) == 0) {
                    Some(number) => world.api.control.revoke_relay(relay_id(&key(number)).as_str()).unwrap(),
                    None => {
                        let free = (2..=6).find(|number| !others.contains(number));
                        if let Some(free) = free.filter(|free| {
                            world.api.control.approvals().get(relay_id(&key(*free)).as_str()).is_none()
                        }) {
                            approve(&mut world, free);
                            others.push(free);
                        }
                    }
                },
                _ => {}
            }
            for change in world.api.control.drain_changes() {
                told.feed.note(&change);
                if matches!(change, Change::RelayChanged(_) | Change::RelayExpired(_)) {
                    told.feed.reconsider();
                }
            }
            // Some pages are under way for long, and some are lost, before or after the relay has them.
            if let Some((number, page, _)) =
                told.feed.page(&world.api.control).filter(|_| random.below(3) > 0)
            {
                let is_lost = random.below(4) == 0;
                if !is_lost || random.below(2) == 0 {
                    let rosters =
                        page.into_iter().map(|party| (party.party.to_string(), party.members.len()));
                    told.known.extend(rosters);
                }
                if is_lost { told.feed.interrupt() } else { told.feed.taken(number) }
            }
        }
        told.feed.interrupt();
        told.tell(&world);
        let control = &world.api.control;
        let names: BTreeSet<String> =
            parties.iter().map(|party| control.gone_roster(party).party.to_string()).collect();
        assert!(told.known.iter().all(|(name, size)| *size == 0 || names.contains(name)), "{seed}");
        let mut taken = 0;
        for placement in [Placement::Home, Placement::Spare, Placement::Other] {
            let own = parties.iter().filter(|party| control.placement(party, &relay) == placement);
            let (here, out): (Vec<_>, Vec<_>) = own.partition(|party| told.has(&world, party));
            taken += here.iter().map(|party| control.roster_size(party)).sum::<usize>();
            let reserve = if placement == Placement::Other { room / 64 } else { 0 };
            for party in out {
                assert!(taken + control.roster_size(party) + reserve > room, "{seed} {placement:?}");
            }
        }
        assert!(taken <= room && told.known.values().sum::<usize>() == taken, "{seed}: {taken} of {room}");
    }
}

#[test]
fn players_hear_which_relays_serve_their_party() {
    let mut world = TestApi::new();
    let alice = world.token("alice");
    let party = world.create("alice", &alice);
    for number in 1..=3 {
        approve(&mut world, number);
    }
    let body = "{\"relay_id\":\"a\",\"public_ip\":\"198.51.100.1\",\"port\":9,\"region\":\"eu\"}";
    assert_eq!(world.ask(Method::Post, "/relays", Some(&alice), body).0, 200);
    let ids = |list: &Value| -> Vec<(String, Option<bool>)> {
        let Some(Value::Array(relays)) = list.get("relays") else { panic!("no list") };
        let serves = |relay: &Value| match relay.get("serves") {
            Some(Value::Bool(serves)) => Some(*serves),
            _ => None,
        };
        let text = |relay: &Value| relay.get("relay_id").unwrap().as_str().unwrap().to_owned();
        relays.iter().map(|relay| (text(relay), serves(relay))).collect()
    };
    let (status, plain) = world.ask(Method::Get, "/relays", Some(&alice), "");
    assert_eq!((status, ids(&plain).len()), (200, 5));
    assert!(ids(&plain).iter().all(|(_, serves)| serves.is_none()));
    // Nobody has said that a relay is short of room: each approved one serves it, the party's home before the others.
    let path = format!("/relays?party={party}");
    let party_id = PartyId::new(&party).unwrap();
    let order: Vec<String> = {
        let placements = world.api.control.placements(&party_id);
        placements.iter().map(|relay| relay.info.relay_id.to_string()).collect()
    };
    let served = |order: &[String]| order.iter().map(|id| (id.clone(), Some(true))).collect::<Vec<_>>();
    let (_, list) = world.ask(Method::Get, &path, Some(&alice), "");
    let others = [("a".to_owned(), Some(false))];
    assert_eq!(ids(&list), [&[("own".to_owned(), Some(true))], &served(&order)[..], &others].concat());
    // All are at another instance, and short of room: its home and its spare have it in any case.
    for number in 1..=3 {
        let told = FeedSize { parties: 1, members: 1, left_out: 1 };
        world.api.control.relay_heard(&key(number), 0, told, world.now.instant);
    }
    let (_, list) = world.ask(Method::Get, &path, Some(&alice), "");
    let last = [(order[2].clone(), Some(false))];
    let expected = [&[("own".to_owned(), Some(true))], &served(&order[..2])[..], &last, &others].concat();
    assert_eq!(ids(&list), expected);

    // Who may not read a party is told nothing by it.
    assert_eq!(world.ask(Method::Get, "/relays?party=nowhere", Some(&alice), "").0, 404);
    let password = "{\"password\":\"secret-secret\"}";
    assert_eq!(world.ask(Method::Post, &format!("/parties/{party}/settings"), Some(&alice), password).0, 200);
    let eve = world.token("eve");
    assert_eq!(world.ask(Method::Get, &path, Some(&eve), "").0, 403);
    assert_eq!(world.ask(Method::Get, &path, Some(&alice), "").0, 200);
}
