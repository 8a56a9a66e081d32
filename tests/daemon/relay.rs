//! The relay behind its real socket, and what of the control plane reaches it.

use crate::client::{Answer, Client};
use crate::eventually;
use crate::house::{House, Plan};
use crate::player::{Player, gets_through, reach};
use lanrage::crypto::x25519::{PrivateKey, PublicKey};
use lanrage::wire::json::Value;
use lanrage::wireguard::allowed_ips::Prefix;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// A daemon that has the same port after a restart.
pub fn house() -> House {
    let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    Plan::new(&[("relay", &free.to_string())]).start()
}

fn info(peer: &str, key: &PrivateKey) -> String {
    format!("{{\"peer_id\":\"{peer}\",\"name\":\"P\",\"public_key\":\"{}\"}}", key.public_key())
}

fn player(answer: &Answer, key: PrivateKey) -> Player {
    Player::new(key, answer.text(&["network", "virtual_ip"]).parse().unwrap())
}

/// Alice hosts a party and Bob is in it: their connections to the API, their machines, and the party's id.
pub fn party(house: &House) -> (Client, Client, Player, Player, String) {
    let (mut ann, mut bob) = (house.client(), house.client());
    let keys = [PrivateKey::generate(), PrivateKey::generate()];
    ann.register("ann");
    bob.register("bob");
    let body = format!("{{\"name\":\"LAN\",\"host_peer_info\":{}}}", info("ann", &keys[0]));
    let created = ann.ask("POST", "/parties", &body).is(200);
    let id = created.text(&["party_id"]);
    let body = format!("{{\"party_id\":\"{id}\",\"peer_info\":{}}}", info("bob", &keys[1]));
    let joined = bob.ask("POST", &format!("/parties/{id}/join"), &body).is(200);
    let [first, second] = keys;
    let (a, b) = (player(&created, first), player(&joined, second));
    (ann, bob, a, b, id)
}

pub fn introduce(a: &mut Player, b: &mut Player, relay: SocketAddr) {
    a.add_peer(b.key.public_key(), relay, Prefix::host(IpAddr::V4(b.ip)));
    b.add_peer(a.key.public_key(), relay, Prefix::host(IpAddr::V4(a.ip)));
    // Somebody who has never sent anything is nowhere; stock clients say something every 25 s.
    a.send(b.ip, b"knock");
    b.send(a.ip, b"knock");
}

fn hub_key(client: &mut Client, party: &str) -> PublicKey {
    let answer = client.get(&format!("/parties/{party}")).is(200);
    PublicKey::decode(&answer.text(&["network", "relay", "public_key"])).unwrap()
}

/// How the daemon says that a member is reached.
fn path(house: &House, peer: &str) -> String {
    let status = house.owner().get("/status").is(200).json();
    let Some(Value::Array(members)) = status.get("members") else { panic!("no members") };
    let text = |member: &Value, name: &str| member.get(name).and_then(Value::as_str).unwrap_or("").to_owned();
    members.iter().find(|member| text(member, "peer_id") == peer).map_or(String::new(), |m| text(m, "path"))
}

#[test]
fn two_members_talk_through_the_relay_until_one_is_kicked() {
    let house = house();
    let (mut ann, _bob, mut a, mut b, id) = party(&house);
    introduce(&mut a, &mut b, house.relay);
    reach(&mut a, &mut b, "hello");
    reach(&mut b, &mut a, "hello yourself");
    assert_eq!((path(&house, "ann"), path(&house, "bob")), ("blind".into(), "blind".into()));
    assert!(house.metric("lanrage_relay_flows") >= 1);
    let relays = ann.get("/relays").is(200).json();
    let Some(Value::Array(relays)) = relays.get("relays") else { panic!("no relays") };
    eventually("the load shows", || {
        let relays = ann.get("/relays").json();
        matches!(relays.get("relays"), Some(Value::Array(all)) if all[0].get("load") == Some(&Value::Number("2".into())))
    });
    assert_eq!(relays.len(), 1);

    ann.ask("DELETE", &format!("/parties/{id}/peers/bob"), "").is(200);
    assert!(!gets_through(&mut a, &mut b, "still there?", Duration::from_secs(1)));
    assert!(!gets_through(&mut b, &mut a, "let me in", Duration::from_secs(1)));
}

#[test]
fn two_members_talk_through_the_hub_until_one_is_kicked() {
    let house = house();
    let (mut ann, _bob, mut a, mut b, id) = party(&house);
    let hub = hub_key(&mut ann, &id);
    let all = Prefix::new(IpAddr::V4(Ipv4Addr::new(10, 66, 0, 0)), 16).unwrap();
    for player in [&mut a, &mut b] {
        player.add_peer(hub, house.relay, all);
        // The hub knows where a member is once it has spoken.
        player.send(Ipv4Addr::new(10, 66, 0, 1), b"here I am");
    }
    reach(&mut a, &mut b, "hello");
    reach(&mut b, &mut a, "hello yourself");
    assert_eq!((path(&house, "ann"), path(&house, "bob")), ("hub".into(), "hub".into()));
    ann.ask("DELETE", &format!("/parties/{id}/peers/bob"), "").is(200);
    assert!(!gets_through(&mut a, &mut b, "still there?", Duration::from_secs(1)));
}

#[test]
fn who_is_in_no_party_gets_nothing() {
    let house = house();
    let (_ann, _bob, mut a, b, _) = party(&house);
    let mut eve = Player::new(PrivateKey::generate(), Ipv4Addr::new(10, 66, 9, 9));
    eve.add_peer(a.key.public_key(), house.relay, Prefix::host(IpAddr::V4(a.ip)));
    a.add_peer(eve.key.public_key(), house.relay, Prefix::host(IpAddr::V4(eve.ip)));
    assert!(!gets_through(&mut a, &mut eve, "anybody?", Duration::from_secs(1)));
    assert!(house.metric("lanrage_relay_drops_total{reason=\"no_member\"}") > 0);
    drop(b);
}

#[test]
fn a_restart_in_good_order_does_not_interrupt_a_game() {
    let mut house = house();
    let (_ann, _bob, mut a, mut b, _) = party(&house);
    introduce(&mut a, &mut b, house.relay);
    reach(&mut a, &mut b, "before");
    reach(&mut b, &mut a, "before, too");
    let sessions = a.sessions + b.sessions;
    house.terminate();
    house.restart();
    let start = Instant::now();
    reach(&mut a, &mut b, "after");
    reach(&mut b, &mut a, "after, too");
    let took = start.elapsed();
    assert_eq!(a.sessions + b.sessions, sessions, "they had to greet each other again");
    assert!(took < Duration::from_secs(5), "{took:?}");
}

/// The hub's keys are gone with it; it asks its members for new sessions before they notice.
#[test]
fn a_restart_in_good_order_does_not_interrupt_a_game_at_the_hub() {
    let mut house = house();
    let (mut ann, _bob, mut a, mut b, id) = party(&house);
    let hub = hub_key(&mut ann, &id);
    let all = Prefix::new(IpAddr::V4(Ipv4Addr::new(10, 66, 0, 0)), 16).unwrap();
    for player in [&mut a, &mut b] {
        player.add_peer(hub, house.relay, all);
        player.send(Ipv4Addr::new(10, 66, 0, 1), b"here I am");
    }
    reach(&mut a, &mut b, "before");
    reach(&mut b, &mut a, "before, too");
    house.terminate();
    house.restart();
    let start = Instant::now();
    reach(&mut a, &mut b, "after");
    reach(&mut b, &mut a, "after, too");
    let took = start.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}: they would notice by themselves after 15 s");
}

#[test]
fn stun_answers_on_the_port_of_the_relay() {
    let house = house();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(crate::PATIENCE)).unwrap();
    let request = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], b"transaction!"].concat();
    socket.send_to(&request, house.relay).unwrap();
    let mut answer = [0; 256];
    let (length, from) = socket.recv_from(&mut answer).unwrap();
    let answer = &answer[..length];
    assert_eq!((from, &answer[..2], &answer[4..20]), (house.relay, &[1, 1][..], &request[4..20]));
    let port = socket.local_addr().unwrap().port() ^ 0x2112;
    let at = answer.windows(2).position(|pair| pair == [0, 0x20]).expect("XOR-MAPPED-ADDRESS");
    assert_eq!(&answer[at + 4..at + 8], [&[0, 1][..], &port.to_be_bytes()].concat());
}
