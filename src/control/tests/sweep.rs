//! What time does in slices is what it does at once, and each slice is small.

use super::*;
use crate::control::entry::DeviceWish;
use crate::control::expiry::Expiry;
use crate::control::invites::{InviteKind, InviteWish};
use crate::control::ownership::PartyWish;
use crate::crypto::random::Seeded;
use std::collections::{BTreeMap, BTreeSet};

const MINUTE: Duration = Duration::from_secs(60);

/// A key of a device, and when it was last heard of at the relay.
fn device_key(number: u64) -> PublicKey {
    PrivateKey::from_bytes([number as u8 + 1; 32]).public_key()
}

fn heard(key: &PublicKey, now: Now) -> Option<Instant> {
    let last = key.as_bytes()[0];
    (last & 1 == 0).then(|| now.instant - MINUTE * u32::from(last % 9))
}

/// Something that happens, the same for the same numbers.
fn act(world: &mut TestControl, random: &mut Seeded) {
    let ids: Vec<String> = (0..12).map(|number| format!("party{number}")).collect();
    let id = ids[random.below(12) as usize].as_str();
    let name = format!("p{}", random.below(60));
    let (who, now) = (peer(&name), world.now);
    let by = world.control.claim(&who, HOME).unwrap();
    let info = info(&name, &format!("key of {name}"));
    match random.below(14) {
        0..2 => {
            let party = PartyId::new(id).unwrap();
            let _ = world.control.create_party(&by, Some(party), "LAN", info, KeyClaim::from(HOME), now);
        }
        2..6 => drop(world.control.join_party(&by, id, info, KeyClaim::from(HOME), now)),
        6..8 => drop(world.control.heartbeat(id, &who, Some(HOME), now)),
        8 => drop(world.control.remove_peer(&actor(&by), id, &name)),
        9 => drop(world.control.register(&peer(&format!("t{name}")), Credentials::default(), now)),
        10 => {
            let life = MINUTE * (1 + random.below(40) as u32);
            let wish = InviteWish { kind: InviteKind::Link, uses: 3, life };
            let _ = world.control.create_invite(&admin(), id, wish, now);
        }
        11 => {
            // Each party has devices of its own.
            let number = 20 * id["party".len()..].parse::<u64>().unwrap() + random.below(20);
            let expires = number.is_multiple_of(3).then(|| Expiry::after(MINUTE * (number % 40) as u32, now));
            let wish = DeviceWish { name: "phone", key: device_key(number), expires, origin: Some(HOME) };
            let _ = world.control.add_device(&admin(), id, &wish, now);
        }
        12 => {
            let permanent = Some(random.below(2) == 0);
            let ends = (random.below(2) == 0).then(|| Some(Expiry::after(MINUTE * 20, now)));
            let _ = world.control.change_party(
                &admin(),
                id,
                &PartyWish { permanent, ends, ..PartyWish::default() },
            );
        }
        _ => world.wait(Duration::from_secs(random.below(100))),
    }
}

/// All that is there, but for what is drawn at random.
fn sight(control: &Control) -> impl PartialEq + std::fmt::Debug + use<> {
    let mut parties = BTreeMap::new();
    for party in control.parties() {
        let members = party.members.values().map(|member| match member.device() {
            Some(_) => (member.key.unwrap().encode(), member.seen),
            None => (member.info.peer_id.to_string(), member.seen),
        });
        let members: BTreeSet<_> = members.collect();
        let invites = party.invites.len();
        parties.insert(party.id.clone(), (party.host.clone(), party.permanent, members, invites));
    }
    let names: BTreeSet<String> =
        control.addresses.names().filter(|name| !name.contains("#device-")).map(str::to_owned).collect();
    let held = names.iter().filter(|name| control.addresses.holder(name).is_some()).count();
    let invites = control.invites.len();
    let (tokens, bytes, peers) = (control.tokens.len(), control.memory.total(), control.peer_count());
    (parties, names, held, invites, tokens, bytes, peers)
}

/// Lets a whole round pass, so many parties or members at a time. Gives how many slices it took.
fn round(world: &mut TestControl, most: usize, mut between: impl FnMut(&mut TestControl)) -> usize {
    for slices in 1.. {
        let (slice, now) = (world.control.next_slice(most), world.now);
        let parties = slice.clone().map(|number| world.control.parties.at(number).unwrap().1);
        let mut sizes: Vec<usize> = parties.map(|party| 1 + party.members.len()).collect();
        // Downwards: the first one goes beyond it at most.
        assert!(sizes.is_empty() || sizes.drain(1..).sum::<usize>() < most);
        world.control.note_handshakes_in(slice, |key| heard(key, now), now);
        let before = (world.control.changes.len(), world.control.peer_count());
        world.control.sweep_slice(most, now);
        let ended = before.1 - world.control.peer_count();
        let largest = world.control.settings.limits.peers_per_party;
        assert!(ended <= most.div_ceil(32) + largest, "{ended} have come to their end in one slice");
        match world.control.poll_timeout() {
            Some(due) if due == now.instant + Duration::from_millis(100) => between(world),
            due => {
                let next = world.control.swept + world.control.settings.lifetimes.sweep;
                assert!(due.is_none_or(|due| due == next), "{due:?}");
                return slices;
            }
        }
    }
    unreachable!("it is counted for ever");
}

fn world() -> TestControl {
    TestControl::with(ControlLimits { parties_joined: 3, ..ControlLimits::default() })
}

#[test]
fn a_round_in_slices_does_what_a_whole_one_does() {
    let (mut slices, mut seen) = (0, BTreeSet::new());
    for seed in 0..60 {
        let (mut whole, mut sliced) = (world(), world());
        for world in [&mut whole, &mut sliced] {
            let mut random = Seeded::new(seed);
            (0..400).for_each(|_| act(world, &mut random));
            world.control.drain_changes();
            world.wait(MINUTE * (seed as u32 % 30) / 3);
            if seed % 5 == 0 {
                world.wait(27 * 60 * MINUTE);
            }
        }
        assert_eq!(sight(&whole.control), sight(&sliced.control), "seed {seed}");
        let now = whole.now;
        whole.control.note_handshakes(|key| heard(key, now), now);
        whole.control.sweep_slice(usize::MAX, now);
        assert_eq!(whole.control.poll_timeout().unwrap_or(now.instant + MINUTE), now.instant + MINUTE);
        let most = 1 + seed as usize % 70;
        slices += round(&mut sliced, most, |_| {});
        assert_eq!(sight(&whole.control), sight(&sliced.control), "seed {seed}");
        // The same has happened, in another order, and a party may have had a host in between.
        let told = |world: &mut TestControl| {
            let changes = world.control.drain_changes().into_iter().filter_map(|change| match change {
                Change::MemberLeft { party, who, is_device: false, why, .. } => {
                    Some(format!("{party} {} {why}", who.peer))
                }
                Change::MemberLeft { party, key, why, .. } => Some(format!("{party} {key:?} {why}")),
                Change::PartyDeleted { party, .. } => Some(format!("{party} is gone")),
                _ => None,
            });
            let changes: BTreeSet<String> = changes.collect();
            changes
        };
        let (whole, sliced) = (told(&mut whole), told(&mut sliced));
        assert_eq!(whole, sliced, "seed {seed}");
        seen.extend(whole.iter().filter_map(|change| change.rsplit(' ').next().map(str::to_owned)));
    }
    assert!(slices > 1000 && seen.len() >= 4, "{slices} {seen:?}");
}

#[test]
fn what_is_over_goes_within_a_round_and_nobody_who_lives_whatever_happens_meanwhile() {
    let mut ended = 0;
    for seed in 100..160 {
        let (mut world, mut random) = (world(), Seeded::new(seed));
        let life = world.control.settings.lifetimes.peer;
        for turn in 0..12 {
            (0..60).for_each(|_| act(&mut world, &mut random));
            world.control.drain_changes();
            let begun = world.now;
            // When each was heard of, and whose host may stay, if that was so at any time.
            let (mut heard_of, mut permanent) = (BTreeMap::new(), BTreeSet::new());
            let mut note = |world: &TestControl, heard_of: &mut BTreeMap<_, _>| {
                for party in world.control.parties() {
                    // Also while some of it had their turn and others not yet.
                    let has_host = party.host.as_ref().is_none_or(|host| party.members.contains_key(host));
                    assert!(has_host, "seed {seed}, turn {turn}: {party:?}");
                    permanent.extend(party.permanent.then(|| party.id.clone()));
                    let members = party.members.iter();
                    heard_of.extend(members.map(|(peer, one)| ((party.id.clone(), peer.clone()), one.seen)));
                }
            };
            let mut check = |changes: Vec<Change>, heard_of: &BTreeMap<_, Instant>, now: Now| {
                for change in changes {
                    if let Change::MemberLeft { party, who, why: Departure::Stale, .. } = change {
                        let seen = heard_of[&(party, who.peer.clone())];
                        assert!(seen + life <= now.instant, "seed {seed}, turn {turn}: {}", who.peer);
                        ended += 1;
                    }
                }
            };
            note(&world, &mut heard_of);
            round(&mut world, 1 + random.below(12) as usize, |world| {
                check(world.control.drain_changes(), &heard_of, world.now);
                act(world, &mut random);
                world.control.drain_changes();
                note(world, &mut heard_of);
                world.wait(Duration::from_millis(100));
            });
            for party in world.control.parties() {
                for (peer, member) in &party.members {
                    let may_stay = permanent.contains(&party.id) && party.is_hosted_by(peer.as_str());
                    let is_stale = member.device().is_none() && member.seen + life <= begun.instant;
                    assert!(may_stay || !is_stale, "seed {seed}, turn {turn}: {peer} in {}", party.id);
                }
            }
            for party in world.control.parties() {
                assert!(party.ends.is_none_or(|end| !end.is_over(begun)));
            }
            check(world.control.drain_changes(), &heard_of, world.now);
        }
    }
    assert!(ended > 500, "{ended}");
}

#[test]
fn a_large_state_is_swept_in_slices_of_bounded_size() {
    let limits = ControlLimits { parties: 9000, tokens: 9000, ..ControlLimits::default() };
    let mut world = TestControl::with(limits);
    for number in 0..4500 {
        let by = world.control.claim(&peer(&format!("p{number}")), HOME).unwrap();
        world.create(&by);
    }
    for number in 0..300 {
        world.token(&format!("t{number}"));
    }
    world.control.drain_changes();
    world.wait(27 * 60 * MINUTE);
    let mut slices = 0;
    while world.control.party_count() > 0 || !world.control.tokens().is_empty() {
        assert!(world.control.poll_timeout().unwrap() <= world.now.instant);
        world.control.sweep(world.now);
        let changes = world.control.drain_changes();
        let ended = |change: &&Change| matches!(change, Change::MemberLeft { .. } | Change::TokenRevoked(_));
        let ended = changes.iter().filter(ended).count();
        assert!((1..=128).contains(&ended), "{ended}");
        world.wait(Duration::from_millis(100));
        slices += 1;
    }
    assert_eq!(slices, 4800_usize.div_ceil(128));
}
