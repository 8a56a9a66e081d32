//! Parties of the machine, devices and invites, against the real binary.

use crate::client::{Client, key_of, text};
use crate::eventually;
use crate::inside::Inside;
use crate::sim_disk::SimDisk;
use crate::test_daemon::{Setup, TestDaemon};
use lanrage::wire::json::Value;
use std::thread;

/// A party of the machine's that only who is invited may be in.
fn party(daemon: &TestDaemon) -> String {
    let body = r#"{"name":"Friday games","access":"invite"}"#;
    daemon.owner().ask("POST", "/parties", body).is(200).text(&["party_id"])
}

fn invite(daemon: &TestDaemon, party: &str, body: &str) -> Value {
    daemon.owner().ask("POST", &format!("/parties/{party}/invites"), body).is(200).json()
}

fn redeem_body(token: &str, name: &str) -> String {
    format!("{{\"token\":\"{token}\",\"name\":\"{name}\",\"public_key\":\"{}\"}}", key_of(name))
}

fn uses_left(owner: &mut Client, party: &str) -> String {
    let list = owner.get(&format!("/parties/{party}/invites")).is(200).json();
    match list.get("invites") {
        Some(Value::Array(invites)) => match invites[0].get("uses_left") {
            Some(Value::Number(left)) => left.to_string(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn of_fifty_who_race_for_seven_places_seven_come_in() {
    let daemon = Setup::new(&[("limits.connections_per_source", "64")]).start();
    let party = party(&daemon);
    let token = text(&invite(&daemon, &party, "{\"uses\":7}"), &["token"]);
    let racers: Vec<Client> = (0..50).map(|_| daemon.client()).collect();
    let mut statuses: Vec<u16> = thread::scope(|scope| {
        let racing: Vec<_> = racers
            .into_iter()
            .enumerate()
            .map(|(number, mut client)| {
                let body = redeem_body(&token, &format!("racer-{number}"));
                scope.spawn(move || client.ask("POST", "/invites/redeem", &body).status)
            })
            .collect();
        racing.into_iter().map(|one| one.join().unwrap()).collect()
    });
    statuses.sort_unstable();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 7, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 409).count(), 43, "{statuses:?}");
    let list = daemon.owner().get(&format!("/parties/{party}/devices")).is(200).json();
    let Some(Value::Array(devices)) = list.get("devices") else { panic!("{list:?}") };
    assert_eq!((devices.len(), uses_left(&mut daemon.owner(), &party)), (7, "0".into()));
}

#[test]
fn what_was_given_is_good_after_a_restart() {
    let mut daemon = TestDaemon::start();
    let party = party(&daemon);
    let token = text(&invite(&daemon, &party, "{\"uses\":2}"), &["token"]);
    let code = text(&invite(&daemon, &party, "{\"code\":true}"), &["code"]);
    let body = redeem_body(&token, "phone");
    let first = daemon.client().ask("POST", "/invites/redeem", &body).is(200);
    let mut bob = daemon.client();
    bob.register("bob").join(&code, "bob").is(200);
    let at = r#"{"public_endpoint":"203.0.113.7:51820"}"#;
    daemon.owner().ask("POST", "/ui/settings", at).is(200);
    assert!(daemon.terminate().0.success());
    daemon.restart();
    let again = daemon.client().ask("POST", "/invites/redeem", &body).is(200);
    for name in ["peer_id", "virtual_ip", "device_token"] {
        assert_eq!(again.text(&[name]), first.text(&[name]), "{name}");
    }
    assert_eq!(again.text(&["config", "peer", "endpoint"]), "203.0.113.7:51820");
    assert_eq!(uses_left(&mut daemon.owner(), &party), "1");
    let mut bob = daemon.client().with_token_of(&bob);
    bob.heartbeat(&code, "bob").is(200);
    bob.get(&format!("/parties/{code}")).is(200);
    // Nothing that was told to one is in the state for another to read.
    let state = std::fs::read(daemon.setup.directory().state().join("lanrage.redb")).unwrap();
    let device_token = first.text(&["device_token"]);
    for secret in [&token, &code, &device_token] {
        let is_there = state.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!is_there, "{secret} is kept");
        assert!(!daemon.log().contains(secret.as_str()), "{secret} is in the log");
    }
}

#[test]
fn an_invite_that_was_used_while_nothing_can_be_kept_is_not_used_up() {
    let disk = SimDisk::default();
    let inside = Inside::start(&disk);
    let (mut host, mut guest) = (inside.client(), inside.client());
    let party = host.register("host").create("LAN", "host");
    guest.register("guest");
    let path = format!("/parties/{party}/invites");
    let token = host.ask("POST", &path, "{\"uses\":2}").is(200).text(&["token"]);
    for by_link in [true, false] {
        disk.set_room(Some(0));
        // The first one finds out.
        let refused = match by_link {
            true => guest.ask("POST", "/invites/redeem", &redeem_body(&token, "phone")),
            false => guest.join(&token, "guest"),
        };
        assert!(refused.is(503).detail().starts_with("storage full"));
        disk.set_room(None);
        eventually("it recovers", || host.ask("POST", "/auth/register?peer_id=new", "").status == 200);
        assert_eq!(uses_left(&mut host, &party), "2", "nobody came");
    }
    guest.ask("POST", "/invites/redeem", &redeem_body(&token, "phone")).is(200);
    guest.join(&token, "guest").is(200);
    assert_eq!(uses_left(&mut host, &party), "0");
    inside.stop().unwrap();
}
