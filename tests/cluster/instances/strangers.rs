//! Who asks at a follower is known to the writer by where it comes from, and by what it proves.

use super::{Instances, pairs};
use crate::client::Client;
use crate::harness::alone;
use lanrage::control::proof;
use lanrage::crypto::x25519::{PrivateKey, PublicKey};
use lanrage::ids::PeerId;
use std::net::Ipv4Addr;

#[test]
#[ignore = "needs PostgreSQL"]
fn a_nonce_of_one_instance_is_answered_at_another() {
    let _alone = alone();
    let instances = Instances::start();
    let (key, peer) = (PrivateKey::generate(), PeerId::new("ann").unwrap());
    let mut ann = instances.client(1);
    ann.register("ann").enrol("ann", &key.public_key(), None).is(200);
    for (at, elsewhere) in pairs() {
        // Whoever lost the token is nobody, but by the key.
        instances.client(elsewhere).ask("POST", "/auth/register?peer_id=ann", "").is(409);
        let asked = instances.client(at).get("/auth/nonce?peer_id=ann").is(200);
        let (hub, nonce) = (PublicKey::decode(&asked.text(&["public_key"])).unwrap(), asked.text(&["nonce"]));
        let proof = proof::prove(&key, &hub, &peer, &nonce).unwrap();
        let body = format!("{{\"nonce\":\"{nonce}\",\"proof\":\"{proof}\"}}");
        let answer = instances.client(elsewhere).ask("POST", "/auth/register?peer_id=ann", &body).is(200);
        instances.client(at).with_token(&answer.text(&["token"])).get("/relays").is(200);
    }
}

#[test]
#[ignore = "needs PostgreSQL"]
fn limits_are_those_of_who_asks_and_count_at_all_instances_together() {
    let _alone = alone();
    // Nobody is exempt here then, not even the instances as such.
    let instances = Instances::with(&[("trusted_proxies", "127.0.0.1")]);
    let from = |at: usize, source: &str| -> Client {
        Client::forwarded(Ipv4Addr::LOCALHOST, instances.all[at].http, source)
    };
    // Many from everywhere, far more than one source may.
    for number in 0..150 {
        let (source, name) = (format!("198.18.{number}.1"), format!("p{number}"));
        from(1 + number % 2, &source).register(&name).create("LAN", &name);
    }
    // One that asks all of them.
    let mut one: Vec<Client> = (0..3).map(|at| from(at, "203.0.113.9")).collect();
    let mut registered = 0;
    for number in 0..45 {
        let answer = one[number % 3].ask("POST", &format!("/auth/register?peer_id=many{number}"), "");
        if answer.status == 200 {
            registered += 1;
        } else {
            assert!(answer.is(429).header("Retry-After").is_some());
        }
    }
    println!(
        "300 changes of 150 sources by two followers, none refused; of 45 of one source {registered} were not"
    );
    // Of its two buckets others spend something if chance gives them the same ones.
    assert!((20..=34).contains(&registered), "{registered}");
    // A relay is where the request comes from.
    let relay = |address: &str| format!(r#"{{"relay_id":"mine","public_ip":"{address}","port":51820}}"#);
    let mut owner = from(2, "203.0.113.77");
    owner.register("owner");
    owner.ask("POST", "/relays", &relay("198.51.100.1")).is(403);
    owner.ask("POST", "/relays", &relay("203.0.113.77")).is(200);
    // Nobody is an owner by what a proxy says.
    for said in ["127.0.0.1", "::1"] {
        from(1, said).get("/status").is(401);
        from(1, said).get("/parties").is(401);
    }
}
