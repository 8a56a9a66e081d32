//! Agents and a relay in another place.

use crate::harness::daemon::{binary, log_to, read_log, settings};
use crate::harness::directory::Directory;
use crate::harness::process::Process;
use crate::host::{AgentHost, URL};
use crate::lab::{Lab, Mapping, public_ip};
use crate::server::Server;
use lanrage::wire::json::Value;
use std::time::{Duration, Instant};

#[test]
#[ignore = "needs root: network namespaces, nftables"]
fn agents_meet_at_a_relay_in_another_place_and_play_on_when_the_server_is_killed() {
    let _alone = crate::alone();
    let lab = Lab::new();
    let mut server = Server::new(&lab);
    let (place, directory) = (lab.host(2), Directory::new());
    let mut command = place.command(binary().to_str().unwrap());
    settings(&mut command, &directory.state(), []);
    command.args(["relay", "--control", URL, "--region", "Tokio"]);
    command.env("LANRAGE_RELAY", "0.0.0.0:51820").env("LANRAGE_RUNTIME_DIR", directory.join("run"));
    log_to(&mut command, &directory.log());
    let _relay = Process(command.spawn().unwrap());
    let waiting = || {
        let approvals = server.owner().get("/relay-approvals").is(200).json();
        let Some(Value::Array(relays)) = approvals.get("relays") else { return None };
        let text = |name: &str| relays.first()?.get(name)?.as_str().map(str::to_owned);
        text("relay_id").zip(text("public_key"))
    };
    crate::eventually("it waits", || waiting().is_some());
    let (id, key) = waiting().unwrap();
    let body = format!("{{\"public_key\":\"{key}\"}}");
    server.owner().ask("POST", &format!("/relay-approvals/{id}"), &body).is(200);

    // Nobody reaches anybody straight.
    let nats = [20, 21, 22].map(|number| lab.nat(number, Mapping::Symmetric));
    for nat in &nats {
        [20, 21, 22].iter().for_each(|other| nat.hinder(public_ip(*other), ""));
    }
    let alice = AgentHost::hosting(nats[0].host(2), "Alice");
    let bob = AgentHost::joining(nats[1].host(2), &alice.party, "Bob");
    let carol = AgentHost::joining(nats[2].host(2), &alice.party, "Carol");
    for other in [bob.ip, carol.ip] {
        crate::eventually("Alice sees them", || alice.member(other).is_some());
        alice.ping(other);
    }
    let says = |ip, name: &str| {
        let member = alice.member(ip)?;
        member.get(name).and_then(Value::as_str).map(str::to_owned)
    };
    for other in [bob.ip, carol.ip] {
        crate::eventually("the other relay is ready", || says(other, "standby").as_ref() == Some(&id));
    }
    // The server's relay is out of reach from now on.
    nats.iter().for_each(|nat| nat.hinder(public_ip(1), ""));
    for other in [bob.ip, carol.ip] {
        println!("by the other relay after {:?}", alice.ping(other));
    }
    let member = alice.member(bob.ip).unwrap();
    assert_eq!(
        member.get("relay").and_then(Value::as_str),
        Some(&*id),
        "{member:?}\n{}",
        read_log(&directory.log())
    );

    let pings = |to: &AgentHost| {
        let mut ping = alice.host.command("ping");
        ping.args(["-n", "-c", "1", "-W", "1", &to.ip.to_string()]).output().unwrap().status.success()
    };
    let members = server.owner().get(&format!("/parties/{}", alice.party)).is(200).json();
    let members = members.get("party").and_then(|party| party.get("peers")).unwrap().clone();
    let Value::Object(members) = members else { panic!("{members:?}") };
    let is_carol = |peer: &Value| peer.get("name").and_then(Value::as_str) == Some("Carol");
    let (peer, _) = members.iter().find(|(_, peer)| is_carol(peer)).unwrap();
    let start = Instant::now();
    server.owner().ask("DELETE", &format!("/parties/{}/peers/{peer}", alice.party), "").is(200);
    std::thread::sleep(Duration::from_secs(1).saturating_sub(start.elapsed()));
    assert!(!pings(&carol), "she is out");

    server.kill();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(8) {
        assert!(pings(&bob), "{}", alice.log());
        std::thread::sleep(Duration::from_millis(200));
    }
}
