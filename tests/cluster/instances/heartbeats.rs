//! Signs of life at followers.

use super::{Instances, Times};
use crate::client::Client;
use crate::harness::PATIENCE;
use crate::socket::Socket;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// After how long a silent member goes, which is longer than what is heard takes to the writer.
const TIMEOUT: Duration = Duration::from_secs(40);
/// How often the others are heard of.
const BEAT: Duration = Duration::from_secs(4);

/// Beside others: it mostly waits.
#[test]
#[ignore = "needs PostgreSQL"]
fn a_member_that_is_heard_of_at_a_follower_stays_and_a_silent_one_goes_everywhere() {
    let settings = [("timeouts.peer", TIMEOUT.as_secs().to_string()), ("timeouts.sweep", "1".to_owned())];
    let instances = Instances::with(&settings.each_ref().map(|(key, value)| (*key, value.as_str())));
    let party = instances.client(0).register("silent").create("LAN", "silent");
    let join = |at: usize, name: &str| -> Client {
        let mut client = instances.client(at);
        client.register(name).join(&party, name).is(200);
        client
    };
    let mut beating = [(join(1, "beats1"), "beats1"), (join(2, "beats2"), "beats2")];
    // One says so by message, without a token, and one by an open session alone would last as long.
    let mut messages = Socket::open(instances.all[1].http);
    messages.join(&party, "messages");
    messages.hear("party_update");
    let begun = Instant::now();
    // These are the last that anybody hears of them.
    let mute = join(2, "mute");
    instances.settle();
    let commits = instances.commits();
    let is_there = |at: usize, name: &str, by: &Client| {
        let answer = instances.client(at).with_token_of(by).get(&format!("/parties/{party}/peers/{name}"));
        assert!(matches!(answer.status, 200 | 404), "{}", answer.body);
        answer.status == 200
    };
    let mut gone = None;
    let mut beats = 0;
    while begun.elapsed() < TIMEOUT + Duration::from_secs(30) {
        let next = Instant::now() + BEAT;
        for (client, name) in &mut beating {
            client.heartbeat(&party, name).is(200);
            beats += 1;
        }
        messages
            .say(&format!("{{\"type\":\"heartbeat\",\"party_id\":\"{party}\",\"peer_id\":\"messages\"}}"));
        beats += 1;
        let mutes = (0..3).filter(|at| is_there(*at, "mute", &beating[0].0)).count();
        if mutes == 3 {
            assert_eq!(gone, None, "it is back");
        } else {
            gone.get_or_insert_with(|| begun.elapsed());
        }
        if gone.is_none() {
            assert_eq!(instances.commits(), commits, "a sign of life is written");
        }
        for at in 0..3 {
            for name in ["beats1", "beats2", "messages"] {
                assert!(
                    is_there(at, name, &beating[1].0),
                    "{name} is gone at {at} after {:?}",
                    begun.elapsed()
                );
            }
        }
        sleep(next.saturating_duration_since(Instant::now()));
    }
    let gone = gone.expect("who is silent goes");
    println!(
        "{beats} heartbeats at followers: no commit by them, all stay beyond {} s; a silent one went after {:.0} s",
        TIMEOUT.as_secs(),
        gone.as_secs_f64()
    );
    assert!(gone > TIMEOUT - BEAT && gone < TIMEOUT + Duration::from_secs(20), "{gone:?}");
    let mut times = Times::default();
    for at in 0..3 {
        let since = Instant::now();
        times.add_until("it is gone everywhere", since, || !is_there(at, "mute", &beating[0].0));
        assert!(!is_there(at, "silent", &beating[0].0));
        instances.client(at).with_token_of(&mute).heartbeat(&party, "mute").is(404);
    }
    assert!(begun.elapsed() < 2 * PATIENCE);
}
