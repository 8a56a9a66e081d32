//! Sessions at any instance hear of what happens at any other, and may cause it.

use super::{Instances, Times};
use crate::client::{Client, peer, text};
use crate::harness::alone;
use crate::socket::Socket;
use std::time::{Duration, Instant};

/// All but one in a hundred hear of something within this.
const HEARD: Duration = Duration::from_millis(500);

/// A member of a party with a session at an instance, that has heard of the party.
pub fn member(instances: &Instances, at: usize, party: &str, peer: &str) -> (Client, Socket) {
    let mut client = instances.client(at);
    client.register(peer).join(party, peer).is(200);
    let mut socket = instances.session(at, &client);
    while text(&socket.hear("party_update"), &["party", "party_id"]) != party {}
    (client, socket)
}

/// Waits until every one of these sessions is told this about a peer.
pub fn all_hear(sockets: &mut [Socket], kind: &str, peer: &str, since: Instant, times: &mut Times) {
    let path: &[&str] = if kind == "peer_joined" { &["peer", "peer_id"] } else { &["peer_id"] };
    for socket in sockets {
        while text(&socket.hear(kind), path) != peer {}
        times.add(since.elapsed());
    }
}

fn leave_message(party: &str, peer: &str) -> String {
    format!("{{\"type\":\"leave_party\",\"party_id\":\"{party}\",\"peer_id\":\"{peer}\"}}")
}

#[test]
#[ignore = "needs PostgreSQL"]
fn sessions_at_every_instance_hear_of_changes_at_any() {
    let _alone = alone();
    let instances = Instances::start();
    let mut host = instances.client(0);
    let party = host.register("host").create("LAN", "host");
    let (_clients, mut sockets): (Vec<_>, Vec<_>) =
        (0..3).map(|at| member(&instances, at, &party, &format!("listener{at}"))).unzip();
    let (mut at_writer, mut at_followers, mut by_message) =
        (Times::default(), Times::default(), Times::default());
    for round in 0..20 {
        for at in 0..3 {
            let times = if at == 0 { &mut at_writer } else { &mut at_followers };
            let name = format!("http{at}x{round}");
            let mut client = instances.client(at);
            client.register(&name).join(&party, &name).is(200);
            all_hear(&mut sockets, "peer_joined", &name, Instant::now(), times);
            client.ask("DELETE", &format!("/parties/{party}/peers/{name}"), "").is(200);
            all_hear(&mut sockets, "peer_left", &name, Instant::now(), times);

            // As a stock client without a token.
            let name = format!("message{at}x{round}");
            let mut socket = Socket::open(instances.all[at].http);
            socket.join(&party, &name);
            assert_eq!(text(&socket.hear("party_update"), &["party", "party_id"]), party);
            all_hear(&mut sockets, "peer_joined", &name, Instant::now(), &mut by_message);
            // It has no answer but that the member itself hears of it.
            socket.say(&leave_message(&party, &name));
            all_hear(&mut sockets, "peer_left", &name, Instant::now(), &mut by_message);
            assert_eq!(text(&socket.hear("peer_left"), &["peer_id"]), name);
        }
    }
    let p99 = [
        at_writer.show("changes at the writer, from the answer until sessions hear of it"),
        at_followers.show("changes at followers, from the answer until sessions hear of it"),
        by_message.show("changes by message at any, until sessions hear of it"),
    ];
    assert!(p99.iter().all(|p99| *p99 < HEARD), "{p99:?}");
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_stock_client_plays_by_messages_at_any_instance() {
    let _alone = alone();
    let instances = Instances::start();
    let mut times = Times::default();
    for at in 0..3 {
        let (party, host, guest) = (format!("chosen{at}"), format!("host{at}"), format!("guest{at}"));
        let mut session = Socket::open(instances.all[at].http);
        session.say(&format!(
            "{{\"type\":\"register_party\",\"party_id\":\"{party}\",\"name\":\"LAN\",\"host_peer\":{}}}",
            peer(&host)
        ));
        assert_eq!(text(&session.hear("party_update"), &["party", "host_id"]), host);
        let made = Instant::now();
        // It is there for everybody, wherever they ask.
        for elsewhere in 0..3 {
            let mut reader = instances.client(elsewhere);
            let read = reader.register("reader").get(&format!("/parties/{party}")).is(200);
            assert_eq!(read.text(&["party", "host_id"]), host);
        }
        times.add(made.elapsed());
        // The id is taken, and who is no member does not leave.
        let mut other = Socket::open(instances.all[(at + 1) % 3].http);
        other.say(&format!(
            "{{\"type\":\"register_party\",\"party_id\":\"{party}\",\"name\":\"Mine\",\"host_peer\":{}}}",
            peer("thief")
        ));
        other.hear_error();
        other.say(&leave_message(&party, "nobody"));
        other.hear_error();
        other.join("nowhere", &guest);
        assert!(other.hear_error().contains("not found"));
        // Somebody comes in elsewhere, and then has another session, at a third instance.
        other.join(&party, &guest);
        assert_eq!(text(&other.hear("party_update"), &["party", "party_id"]), party);
        let mut sessions = [session];
        all_hear(&mut sessions, "peer_joined", &guest, Instant::now(), &mut times);
        drop(other);
        instances.settle();
        let mut third = Socket::open(instances.all[(at + 2) % 3].http);
        third.say(&format!(
            "{{\"type\":\"auth\",\"version\":\"1.0\",\"client\":\"lanrage\",\"peer_id\":\"{guest}\"}}"
        ));
        assert_eq!(text(&third.hear("party_update"), &["party", "party_id"]), party);
        third.say(&format!("{{\"type\":\"heartbeat\",\"party_id\":\"{party}\",\"peer_id\":\"{guest}\"}}"));
        third.say(&leave_message(&party, &guest));
        all_hear(&mut sessions, "peer_left", &guest, Instant::now(), &mut times);
        // The host leaves, and so ends the party.
        let [mut session] = sessions;
        third.join(&party, &guest);
        third.hear("party_update");
        session.say(&leave_message(&party, &host));
        all_hear(&mut [third], "peer_left", &host, Instant::now(), &mut times);
    }
    let p99 = times.show("what a stock client says at one instance, until it is known at another");
    assert!(p99 < 2 * HEARD, "{p99:?}");
}
