//! A party, from beginning to end.

use crate::host::{AgentHost, INTERFACE, URL};
use crate::lab::{Lab, Mapping};
use crate::player::Player;
use crate::server::Server;
use lanrage::wire::json::Value;
use std::net::Ipv4Addr;
use std::time::Duration;

/// A port of games.
const GAME: u16 = 6112;

#[test]
#[ignore = "needs root: network namespaces, wireguard-go"]
fn two_agents_and_an_app_play() {
    let _alone = crate::alone();
    let lab = Lab::new();
    let server = Server::new(&lab);
    let alice = AgentHost::hosting(lab.host(10), "Alice");
    let nat = lab.nat(20, Mapping::Preserving);
    let bob = AgentHost::joining(nat.host(2), &alice.party, "Bob");
    let phone_host = lab.host(11);
    let phone = Player::new(server.join(&phone_host, "phone", &alice.party), phone_host);
    phone.add_hub(&server.hub_key, "10.66.0.0/16");
    crate::eventually("both see each other and the phone", || {
        alice.member(bob.ip).is_some()
            && alice.member(phone.member.ip).is_some()
            && bob.member(alice.ip).is_some()
    });
    println!("agents: first ping after {:?}", alice.ping(bob.ip));
    println!("agents: back after {:?}", bob.ping(alice.ip));
    println!("app: first ping after {:?}", alice.ping(phone.member.ip));
    for ip in [alice.ip, bob.ip] {
        assert!(phone.reaches(ip, Duration::from_secs(10)).is_some(), "{ip}");
    }

    crate::eventually("the way to Bob is direct", || alice.path(bob.ip).starts_with("direct"));
    alice.ping(bob.ip);

    // Discovery of games, to all ways of saying everybody.
    let (here, there) = (alice.game(GAME), bob.game(GAME));
    let group = Ipv4Addr::new(224, 0, 2, 60);
    bob.host.inside(|| there.join_multicast_v4(&group, &bob.ip).unwrap());
    for to in [Ipv4Addr::BROADCAST, Ipv4Addr::new(10, 66, 255, 255), group] {
        here.send_to(b"a game?", (to, GAME)).unwrap();
        let mut said = [0; 32];
        let (length, from) = there.recv_from(&mut said).unwrap_or_else(|error| panic!("{to}: {error}"));
        assert_eq!((&said[..length], from), (&b"a game?"[..], (alice.ip, GAME).into()), "{to}");
    }
    there.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    assert!(there.recv_from(&mut [0; 32]).is_err(), "nothing comes twice");

    // By an invite's link, which the owner of the server has made.
    let made = server.owner().ask("POST", &format!("/parties/{}/invites", alice.party), "{}").is(200);
    let link = format!("{URL}/join#{}", made.text(&["token"]));
    let mut carol = AgentHost::asleep(lab.host(12));
    carol.start(&["join", &link, "--name", "Carol"]);
    assert_eq!(carol.party, alice.party);
    carol.ping(alice.ip);

    let text = String::from_utf8(alice.run(&["peers"]).stdout).unwrap();
    for part in ["Friday", "Bob", &bob.ip.to_string(), &phone.member.ip.to_string(), INTERFACE] {
        assert!(text.contains(part), "{part}: {text}");
    }
    println!("{text}");
    let nat = String::from_utf8(bob.run(&["nat"]).stdout).unwrap();
    assert!(nat.contains("198.51.100.2") && nat.contains("UDP port"), "{nat}");
    println!("{nat}");
}

#[test]
#[ignore = "needs root: network namespaces"]
fn who_leaves_is_gone_and_leaves_nothing_behind() {
    let _alone = crate::alone();
    let lab = Lab::new();
    let _server = Server::new(&lab);
    let alice = AgentHost::hosting(lab.host(10), "Alice");
    let mut bob = AgentHost::joining(lab.host(11), &alice.party, "Bob");
    crate::eventually("Alice sees Bob", || alice.member(bob.ip).is_some());
    let routes = bob.host.ip("route show");
    for part in ["224.0.0.0/4", "255.255.255.255", "10.66.0.0/16"] {
        assert!(routes.contains(part), "{part}: {routes}");
    }
    assert!(bob.run(&["leave"]).status.success());
    assert!(bob.process().wait().success(), "{}", bob.log());
    assert!(!bob.has_interface() && !bob.host.ip("route show").contains(INTERFACE));
    crate::eventually("Alice sees that Bob is gone", || alice.member(bob.ip).is_none());
    let left: Vec<_> =
        std::fs::read_dir(bob.directory.state()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(left, ["agent.json"], "its key, and nothing else");
    let again = bob.run(&["leave"]);
    assert!(!again.status.success() && String::from_utf8_lossy(&again.stderr).contains("no party"));
    let nothing = bob.run(&["join"]);
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("lanrage join URL PARTY"));

    // One that was only stopped is still a member, and leaves without running.
    let party = alice.party.clone();
    bob.start(&["join", URL, &party, "--name", "Bob"]);
    crate::eventually("Alice sees Bob again", || alice.member(bob.ip).is_some());
    assert!(bob.process().terminate().0.success());
    assert!(!bob.has_interface(), "it goes with its process");
    assert!(alice.member(bob.ip).is_some(), "{:?}", alice.json("peers"));
    assert!(bob.run(&["leave"]).status.success());
    crate::eventually("Alice sees that Bob is gone", || alice.member(bob.ip).is_none());
    assert_eq!(alice.json("peers").get("members"), Some(&Value::Array(Vec::new())));
}

#[test]
#[ignore = "needs root: network namespaces"]
fn nats_of_many_kinds_are_crossed() {
    let _alone = crate::alone();
    let lab = Lab::new();
    let _server = Server::new(&lab);
    let home = lab.nat(20, Mapping::Preserving);
    let alice = AgentHost::hosting(home.host(2), "Alice");
    let nat = lab.nat(21, Mapping::Preserving);
    let bob = AgentHost::joining(nat.host(2), &alice.party, "Bob");
    println!("NATs: first ping after {:?}", bob.ping(alice.ip));
    let took = crate::eventually("the way is direct", || {
        bob.ping(alice.ip);
        bob.path(alice.ip).starts_with("direct") && alice.path(bob.ip).starts_with("direct")
    });
    println!("NATs: direct after {took:?}");
    bob.ping(alice.ip);
    let other = lab.nat(22, Mapping::Symmetric);
    let carol = AgentHost::joining(other.host(2), &alice.party, "Carol");
    println!("a symmetric one: first ping after {:?}", carol.ping(alice.ip));
    let took = crate::eventually("the way from a symmetric NAT is direct", || {
        carol.ping(alice.ip);
        carol.path(alice.ip) == "direct"
    });
    println!("a symmetric one: direct after {took:?}");
    alice.ping(carol.ip);
}
