//! Who is removed at one instance is out at every other.

use super::sockets::{all_hear, member};
use super::{Instances, SOON, Times};
use crate::client::{Client, key_of, members};
use crate::harness::alone;
use crate::socket::Socket;
use std::time::Instant;

/// Waits until what a client asks for is refused at every instance.
fn refused(instances: &Instances, client: &Client, party: &str, peer: &str, times: &mut Times) {
    let start = Instant::now();
    for at in 0..3 {
        let mut client = instances.client(at).with_token_of(client);
        times.add_until("it is refused", start, || client.heartbeat(party, peer).status == 404);
        let signal = r#"{"to_peer_id":"host","signal_data":1}"#;
        assert_ne!(client.ask("POST", &format!("/parties/{party}/signals"), signal).status, 200);
    }
}

/// A session that is told that it was removed, and ends.
fn is_told_and_cut(session: &mut Socket, peer: &str, since: Instant, times: &mut Times) {
    all_hear(std::slice::from_mut(session), "peer_left", peer, since, times);
    assert!(session.hear_error().contains("removed"));
    assert!(since.elapsed() < SOON, "told after {:?}", since.elapsed());
}

#[test]
#[ignore = "needs PostgreSQL"]
fn who_is_removed_at_one_instance_is_out_at_every_other() {
    let _alone = alone();
    let instances = Instances::start();
    let (mut told, mut out) = (Times::default(), Times::default());
    for (at, elsewhere) in [(1, 2), (2, 1), (1, 0), (0, 2), (1, 1)] {
        let mut host = instances.client(at);
        let party = host.register("host").create("LAN", "host");
        let kicks = [("DELETE", "peers/bob", ""), ("POST", "bans", r#"{"peer_id":"bob"}"#)];
        let (_carol, mut carol) = member(&instances, (elsewhere + 1) % 3, &party, "carol");
        for (method, path, body) in kicks {
            let (bob, mut session) = member(&instances, elsewhere, &party, "bob");
            instances.settle();
            host.ask(method, &format!("/parties/{party}/{path}"), body).is(200);
            let start = Instant::now();
            is_told_and_cut(&mut session, "bob", start, &mut told);
            all_hear(std::slice::from_mut(&mut carol), "peer_left", "bob", start, &mut told);
            refused(&instances, &bob, &party, "bob", &mut out);
            // It hears nothing of the party any more.
            host.join(&party, "host").is(200);
            let signal = r#"{"to_peer_id":"carol","signal_data":{}}"#;
            host.ask("POST", &format!("/parties/{party}/signals"), signal).is(200);
            carol.hear("signal");
            assert!(session.try_hear(SOON).is_err());
        }
        // The second was a ban, which holds everywhere, for other sessions, too, until it is lifted.
        for at in 0..3 {
            let mut bob = instances.client(at);
            bob.register("bob").join(&party, "bob").is(403);
            let mut session = instances.session(at, &bob);
            session.join(&party, "bob");
            assert!(session.hear_error().contains("banned"));
        }
        let key = key_of("bob").replace('+', "%2B");
        host.ask("DELETE", &format!("/parties/{party}/bans?peer_id=bob&public_key={key}"), "").is(200);
        let (bob, mut session) = member(&instances, elsewhere, &party, "bob");

        // The end of the party reaches all.
        instances.settle();
        host.ask("DELETE", &format!("/parties/{party}"), "").is(200);
        let start = Instant::now();
        for session in [&mut session, &mut carol] {
            all_hear(std::slice::from_mut(session), "peer_left", "host", start, &mut told);
            let update = session.hear("party_update");
            let peers = update.get("party").and_then(|party| party.get("peers")).unwrap();
            assert!(members(peers).is_empty());
        }
        refused(&instances, &bob, &party, "bob", &mut out);
        for at in 0..3 {
            instances.client(at).with_token_of(&bob).get(&format!("/parties/{party}")).is(404);
        }
    }
    let p99 = [
        told.show("kicks, bans and ends, until sessions elsewhere are told"),
        out.show("until who was removed is refused everywhere"),
    ];
    assert!(p99.iter().all(|p99| *p99 < SOON), "{p99:?}");
}
