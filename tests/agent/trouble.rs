//! What goes wrong, and goes on.

use crate::host::{AgentHost, URL};
use crate::lab::{Lab, Mapping};
use crate::server::Server;
use lanrage::wire::json::Value;
use std::os::unix::fs::MetadataExt;

#[test]
#[ignore = "needs root: network namespaces"]
fn kill_9_resumes_the_same_membership() {
    let _alone = crate::alone();
    let lab = Lab::new();
    let _server = Server::new(&lab);
    let alice = AgentHost::hosting(lab.host(10), "Alice");
    let nat = lab.nat(20, Mapping::Preserving);
    let mut bob = AgentHost::joining(nat.host(2), &alice.party, "Bob");
    bob.ping(alice.ip);
    let (ip, port) = (bob.ip, bob.json("nat").get("port").cloned());
    for _ in 0..2 {
        bob.kill();
        assert!(!bob.has_interface(), "it goes with its process");
        let kept = std::fs::metadata(bob.directory.state().join("agent.json")).unwrap();
        assert_eq!(kept.mode() & 0o7777, 0o600);
        bob.start(&["join"]);
        assert_eq!((bob.ip, bob.json("nat").get("port").cloned()), (ip, port.clone()));
        println!("kill -9: ping again after {:?}", bob.ping(alice.ip));
        alice.ping(bob.ip);
    }
    let peers = alice.json("peers");
    let Some(Value::Array(members)) = peers.get("members") else { panic!("{peers:?}") };
    assert_eq!(members.len(), 1, "{members:?}");
}

#[test]
#[ignore = "needs root: network namespaces"]
fn a_server_that_restarts_ends_nothing() {
    let _alone = crate::alone();
    let lab = Lab::new();
    let mut server = Server::new(&lab);
    let alice = AgentHost::hosting(lab.host(10), "Alice");
    let mut bob = AgentHost::joining(lab.host(11), &alice.party, "Bob");
    bob.ping(alice.ip);
    let ip = bob.ip;
    for _ in 0..2 {
        server.terminate();
        server.start();
        println!("restart: ping again after {:?}", bob.ping(alice.ip));
    }
    // While it is away, one that is started finds itself in the party of before.
    server.kill();
    bob.kill();
    bob.start(&["join"]);
    assert_eq!(bob.ip, ip);
    server.start();
    bob.ping(alice.ip);
    assert_eq!(bob.json("peers").get("local"), Some(&Value::Bool(false)));
}

#[test]
#[ignore = "needs root: network namespaces"]
fn a_machine_without_ipv6_takes_part() {
    let _alone = crate::alone();
    let lab = Lab::new();
    let _server = Server::new(&lab);
    let alice = AgentHost::hosting(lab.host(10), "Alice");
    let host = lab.host(11);
    host.inside(|| std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1").unwrap());
    let bob = AgentHost::joining(host, &alice.party, "Bob");
    bob.ping(alice.ip);
    assert_eq!(bob.json("nat").get("ipv6"), Some(&Value::Bool(false)));
}

#[test]
#[ignore = "needs root: network namespaces"]
fn what_can_not_work_is_said_with_what_to_do() {
    let _alone = crate::alone();
    let lab = Lab::new();
    let _server = Server::new(&lab);
    let alice = AgentHost::hosting(lab.host(10), "Alice");
    let say = |agent: &AgentHost, arguments: &[&str]| {
        let output = agent.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let host = lab.host(11);
    host.ip("link add other type veth peer name other2");
    host.ip("link set other up");
    host.ip("addr add 10.66.7.1/24 dev other");
    let overlaps = AgentHost::asleep(host);
    let said = say(&overlaps, &["join", URL, &alice.party]);
    assert!(said.contains("10.66.7.0/24 on other") && said.contains("subnet"), "{said}");
    let lost = AgentHost::asleep(lab.host(12));
    assert!(say(&lost, &["join", URL, "nowhere"]).contains("Party nowhere not found"));
    let second = say(&alice, &["join"]);
    assert!(second.contains("another lanrage is running"), "{second}");
    assert!(say(&lost, &["peers"]).contains("takes part in no party"));
    let usage = lost.run(&["join", "https://party.example", "abc"]);
    assert_eq!(usage.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&usage.stderr).contains("no TLS"));
}

#[test]
#[ignore = "needs root: network namespaces"]
fn two_on_one_lan_find_each_other_without_the_server() {
    let _alone = crate::alone();
    let lab = Lab::new();
    let mut server = Server::new(&lab);
    let home = lab.nat(20, Mapping::Preserving);
    // The lab's own addresses are none of a home.
    let hosts = [2, 3].map(|number| home.host(number));
    for (host, number) in hosts.iter().zip(2..) {
        host.ip(&format!("addr add 192.168.7.{number}/24 dev eth0"));
    }
    let [first, second] = hosts;
    let mut alice = AgentHost::hosting(first, "Alice");
    let mut bob = AgentHost::joining(second, &alice.party, "Bob");
    bob.ping(alice.ip);
    crate::eventually("Alice knows of Bob", || alice.member(bob.ip).is_some());
    server.kill();
    alice.kill();
    bob.kill();
    let ips = (alice.ip, bob.ip);
    alice.start(&["join"]);
    bob.start(&["join"]);
    assert_eq!((alice.ip, bob.ip), ips);
    println!("without a server: ping after {:?}", bob.ping(alice.ip));
    alice.ping(bob.ip);
    let took = crate::eventually("the way is that of the LAN", || bob.path(alice.ip) == "direct on the LAN");
    println!("without a server: straight after {took:?}");
    // After five tries, five seconds apart.
    let files = ["control_state.json", "discovery.json"].map(|name| bob.directory.state().join(name));
    std::thread::sleep(std::time::Duration::from_secs(15));
    crate::eventually("it counts as gone", || bob.json("peers").get("local") == Some(&Value::Bool(true)));
    for file in &files {
        let text = std::fs::read(file).unwrap();
        assert!(
            lanrage::wire::json::parse(&text).is_ok() && String::from_utf8_lossy(&text).contains(&bob.party)
        );
    }
    server.start();
    let party = bob.party.clone();
    crate::eventually("it is back", || bob.json("peers").get("local") == Some(&Value::Bool(false)));
    crate::eventually("the files are gone", || files.iter().all(|file| !file.exists()));
    assert_eq!(bob.json("peers").get("party_id"), Some(&Value::String(party)));
    bob.ping(alice.ip);
}
