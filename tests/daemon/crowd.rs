//! A party at its cap of 100, all at once, and whoever comes next.

use crate::client::Client;
use crate::eventually;
use crate::player::{HUB_IP, Player, gets_through, reach};
use crate::test_daemon::Setup;
use lanrage::crypto::x25519::{PrivateKey, PublicKey};
use lanrage::wire::json::Value;
use lanrage::wireguard::allowed_ips::AllowedIp;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

const CAP: usize = 100;

/// What the only relay that is listed says of itself.
fn listed(client: &mut Client, name: &str) -> u64 {
    let answer = client.get("/relays").is(200).json();
    let Some(Value::Array(relays)) = answer.get("relays") else { panic!("{answer:?}") };
    match relays[0].get(name) {
        Some(Value::Number(number)) => number.parse().unwrap(),
        other => panic!("{name} is {other:?}"),
    }
}

#[test]
fn a_hundred_play_and_the_next_is_told() {
    let daemon = Setup::new(&[("limits.peers_per_party", "100"), ("max_clients", "100")]).start();
    let mut host = daemon.client();
    let mut party = None;
    let mut players = Vec::new();
    let mut enrol = |number: usize| {
        let (name, key) = (format!("m{number}"), PrivateKey::generate());
        let mut client = daemon.client();
        client.register(&name);
        let answer = client.enrol(&name, &key.public_key(), party.as_deref());
        if number == 0 {
            party = Some(answer.text(&["party_id"]));
            host.token = client.token.clone();
        }
        (key, answer)
    };
    for number in 0..CAP {
        let (key, answer) = enrol(number);
        let answer = answer.is(200);
        players.push((
            Player::new(key, answer.text(&["network", "virtual_ip"]).parse().unwrap()),
            PublicKey::decode(&answer.text(&["network", "relay", "public_key"])).unwrap(),
        ));
    }
    let (key, refused) = enrol(CAP);
    assert!(refused.is(409).detail().contains("100"), "it says which limit it is");

    // All of them come to the hub, and the relay has as many as it says it takes.
    for (player, hub) in &mut players {
        player.greet_hub(*hub, daemon.relay);
    }
    eventually("all are at the hub", || {
        players.iter_mut().for_each(|(player, _)| _ = player.pump());
        players.iter().all(|(player, _)| player.sessions > 0)
    });
    let (first, rest) = players.split_first_mut().unwrap();
    let (last, middle) = rest.split_last_mut().unwrap();
    reach(&mut first.0, &mut last.0, "hello");
    reach(&mut last.0, &mut first.0, "hello yourself");
    // The daemon may have ended the connection by now: nothing was said for long.
    let mut host = daemon.client().with_token_of(&host);
    eventually("the load is told", || listed(&mut host, "load") == CAP as u64);
    assert_eq!(listed(&mut host, "capacity"), CAP as u64);

    // A broadcast reaches the 98 others that are left. Games repeat theirs, for UDP may lose one.
    let mut heard = vec![false; middle.len()];
    let mut said = None::<Instant>;
    eventually("all the others hear it", || {
        if said.is_none_or(|said| said.elapsed() > Duration::from_secs(1)) {
            first.0.send(Ipv4Addr::new(10, 66, 255, 255), b"a game");
            said = Some(Instant::now());
        }
        for ((player, _), heard) in middle.iter_mut().zip(&mut heard) {
            *heard |= player.pump().iter().any(|(from, said)| *from == first.0.ip && said == b"a game");
        }
        heard.iter().all(|heard| *heard)
    });

    // Who was refused is nobody to the relay: neither a member nor the hub hears from them.
    let mut stranger = Player::new(key, Ipv4Addr::new(10, 66, 9, 9));
    stranger.add_peer(first.1, daemon.relay, AllowedIp::host(IpAddr::V4(HUB_IP)));
    stranger.add_peer(last.0.key.public_key(), daemon.relay, AllowedIp::host(IpAddr::V4(last.0.ip)));
    last.0.add_peer(stranger.key.public_key(), daemon.relay, AllowedIp::host(IpAddr::V4(stranger.ip)));
    stranger.send(HUB_IP, b"me, too");
    assert!(!gets_through(&mut stranger, &mut last.0, "me, too", Duration::from_secs(1)));
    assert_eq!(stranger.sessions, 0);
    assert!(daemon.metric("lanrage_relay_drops_total{reason=\"hub_unknown_peer\"}") > 0);
    reach(&mut first.0, &mut last.0, "they may not");
}
