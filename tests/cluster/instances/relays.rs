//! The relay of a follower: whom it knows, and what its handshakes say to the writer.

use super::{Instances, SOON, Times};
use crate::client::{Answer, Client};
use crate::harness::alone;
use crate::harness::player::{Player, introduce, reach};
use lanrage::crypto::x25519::{PrivateKey, PublicKey};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

/// Members who play: their connections to two instances, their machines, and their party.
struct Playing {
    ann: Client,
    a: Player,
    b: Player,
    party: String,
    hub: PublicKey,
}

fn player(answer: &Answer, key: PrivateKey) -> Player {
    Player::new(key, answer.text(&["network", "virtual_ip"]).parse().unwrap())
}

/// Ann made a party at one instance, and Bob joined it at another one.
fn playing(instances: &Instances, at: usize, elsewhere: usize) -> Playing {
    let (mut ann, mut bob) = (instances.client(at), instances.client(elsewhere));
    let (first, second) = (PrivateKey::generate(), PrivateKey::generate());
    ann.register("ann");
    bob.register("bob");
    let created = ann.enrol("ann", &first.public_key(), None).is(200);
    let party = created.text(&["party_id"]);
    let joined = bob.enrol("bob", &second.public_key(), Some(&party)).is(200);
    let hubs = [&created, &joined].map(|answer| answer.text(&["network", "relay", "public_key"]));
    assert_eq!(hubs[0], hubs[1], "all instances have one key");
    let hub = PublicKey::decode(&hubs[0]).unwrap();
    instances.settle();
    Playing { ann, a: player(&created, first), b: player(&joined, second), party, hub }
}

#[test]
#[ignore = "needs PostgreSQL"]
fn members_play_over_the_relay_of_any_instance_until_one_is_kicked_at_another() {
    let _alone = alone();
    let instances = Instances::start();
    let mut cut = Times::default();
    for (at, elsewhere, is_blind) in [(1, 2, true), (1, 2, false), (0, 1, true), (2, 0, false)] {
        let relay = instances.all[at].relay;
        let Playing { ann, mut a, mut b, party, hub, .. } = playing(&instances, at, elsewhere);
        if is_blind {
            introduce(&mut a, &mut b, relay);
        } else {
            a.greet_hub(hub, relay);
            b.greet_hub(hub, relay);
        }
        reach(&mut a, &mut b, "hello");
        reach(&mut b, &mut a, "hello yourself");
        let mut ann = instances.client(elsewhere).with_token_of(&ann);
        ann.ask("DELETE", &format!("/parties/{party}/peers/bob"), "").is(200);
        let (kicked, mut last) = (Instant::now(), Duration::ZERO);
        while kicked.elapsed() < 2 * SOON {
            a.send(b.ip, b"still there?");
            a.pump();
            if b.pump().iter().any(|(from, _)| *from == a.ip) {
                last = kicked.elapsed();
            }
        }
        assert!(last < SOON, "{last:?}");
        cut.add(last);
        ann.ask("DELETE", &format!("/parties/{party}"), "").is(200);
    }
    cut.show("kicks at one instance, until nothing goes over the relay of another one");
}

/// The player with a key, anew.
fn again(player: &Player, hub: PublicKey, relay: SocketAddr) -> Player {
    let mut again = Player::new(PrivateKey::from_bytes(*player.key.to_bytes()), player.ip);
    again.add_hub(hub, relay);
    again
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_handshake_at_any_instance_proves_a_key_everywhere() {
    let _alone = alone();
    let instances = Instances::start();
    for at in 0..3 {
        let (relay, key) = (instances.all[at].relay, PrivateKey::generate());
        let (thief, robert) = (format!("thief{at}"), format!("robert{at}"));
        // Somebody was quicker to say that this key is his.
        let mut quick = Client::connect_from(Ipv4Addr::new(127, 0, 0, 9), instances.all[2].http);
        quick.register(&thief).enrol(&thief, &key.public_key(), None).is(200);
        let Playing { ann, mut a, party, hub, .. } = playing(&instances, 1, 2);
        let mut owner = instances.client((at + 1) % 3);
        let joined = owner.register(&robert).enrol(&robert, &key.public_key(), Some(&party)).is(200);
        assert!(joined.body.contains("warnings"), "{}", joined.body);
        // Who has it shows so by playing.
        let mut player = player(&joined, key);
        let start = Instant::now();
        player.greet_hub(hub, relay);
        let shown =
            |at: usize| instances.client(at).with_token_of(&owner).get(&format!("/parties/{party}")).is(200);
        while (0..3).any(|at| shown(at).body.contains("warnings")) {
            assert!(start.elapsed() < 5 * SOON, "not proven after {:?}", start.elapsed());
            player.pump();
        }
        println!("a key is proven at instance {at}: all know it {:.1?} later", start.elapsed());
        let ip = shown(0).text(&["network", "virtual_ip"]);
        assert!((1..3).all(|at| shown(at).text(&["network", "virtual_ip"]) == ip));
        player.ip = ip.parse().unwrap();
        let mut player = again(&player, hub, relay);
        a.greet_hub(hub, relay);
        reach(&mut player, &mut a, "it is me");
        reach(&mut a, &mut player, "welcome");
        let path = format!("/parties/{party}");
        instances.client(at).with_token_of(&ann).ask("DELETE", &path, "").is(200);
    }
}
