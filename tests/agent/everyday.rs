//! A party, from beginning to end.

use crate::host::{AgentHost, INTERFACE, URL};
use crate::lab::{Lab, Mapping};
use crate::player::Player;
use crate::server::Server;
use lanrage::wire::json::Value;
use std::io::Write;
use std::net::{Ipv4Addr, UdpSocket};
use std::process::Stdio;
use std::time::Duration;

/// Ports by which games look for each other.
const GAME: u16 = 6112;
const MINECRAFT: u16 = 4445;

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

    // Discovery of games, to all ways of saying everybody: who opens one is heard by agents and apps, and answered.
    let group = Ipv4Addr::new(224, 0, 2, 60);
    for (everybody, port) in
        [(Ipv4Addr::BROADCAST, GAME), (Ipv4Addr::new(10, 66, 255, 255), GAME), (group, MINECRAFT)]
    {
        let (here, there) = (alice.game(port), bob.game(port));
        let app = phone.host.inside(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap());
        bob.host.inside(|| there.join_multicast_v4(&group, &bob.ip).unwrap());
        here.send_to(b"a game?", (everybody, port)).unwrap();
        for (socket, ip) in [(&there, bob.ip), (&app, phone.member.ip)] {
            let mut said = [0; 32];
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let heard =
                socket.recv_from(&mut said).unwrap_or_else(|error| panic!("{everybody} at {ip}: {error}"));
            assert_eq!(
                (&said[..heard.0], heard.1),
                (&b"a game?"[..], (alice.ip, port).into()),
                "{everybody} at {ip}"
            );
            socket.send_to(b"yes", heard.1).unwrap();
            // The kernel lets who broadcasts hear it, too.
            let mut answers = std::iter::repeat_with(|| {
                here.recv_from(&mut said).unwrap_or_else(|error| panic!("{ip} answers: {error}"))
            });
            let answer = answers.find(|(_, from)| from.ip() != alice.ip).unwrap();
            assert_eq!((&said[..answer.0], answer.1), (&b"yes"[..], (ip, port).into()));
            socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            assert!(socket.recv_from(&mut said).is_err(), "{everybody}: nothing comes twice to {ip}");
        }
    }

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
    // The server's relay is measured, and it is the one that Alice would fall back to.
    crate::eventually("the relay is measured", || {
        let nat = bob.json("nat");
        let Some(Value::Array(relays)) = nat.get("relays") else { return false };
        relays.first().is_some_and(|relay| matches!(relay.get("rtt_us"), Some(Value::Number(_))))
    });
    assert!(matches!(alice.member(bob.ip).unwrap().get("relay"), Some(Value::String(_))));
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

#[test]
#[ignore = "needs root: network namespaces"]
fn a_party_by_password_asks_for_it_and_no_command_line_shows_it() {
    let _alone = crate::alone();
    let lab = Lab::new();
    let _server = Server::new(&lab);
    let mut alice = AgentHost::asleep(lab.host(10));
    alice.start(&["host", URL, "Friday", "--name", "Alice", "--password"]);
    let said = alice.says("The password is ");
    let password = said.rsplit(' ').next().unwrap().to_owned();
    assert_eq!(password.len(), 19, "{said}");

    let mut bob = AgentHost::asleep(lab.host(11));
    let party = alice.party.clone();
    let refused = bob.run(&["join", URL, &party]);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && text.contains("add --password"), "{text}");
    let typed = |typed: &str| {
        let mut command = bob.command(&["join", URL, &party, "--password"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let wrong = typed("guess\n");
    assert!(wrong.contains("password is wrong") && wrong.contains("Ask the host"), "{wrong}");
    assert!(typed("").contains("no password was given"));

    let file = bob.directory.text_path("password");
    std::fs::write(&file, format!("{password}\n")).unwrap();
    let both = bob.directory.text_path("party");
    std::fs::write(&both, format!("{URL} {party}\n")).unwrap();
    bob.start(&["join", "--party-file", &both, "--password-file", &file]);
    bob.ping(alice.ip);
    // It is kept: once the server has forgotten a member, it needs it again.
    let ip = bob.ip;
    bob.kill();
    alice.kill();
    alice.start(&["host", URL, "Friday", "--password"]);
    assert_eq!(alice.says("The password is "), said, "the same party, with the same password");
    bob.start(&["join"]);
    assert_eq!((bob.ip, alice.party.as_str()), (ip, party.as_str()));
}
