//! Signals reach their recipient wherever it is, once.

use super::sockets::member;
use super::{Instances, SOON, Times, pairs};
use crate::client::{Answer, Client, text};
use crate::harness::alone;
use crate::socket::Socket;
use lanrage::wire::json::Value;
use rustix::process::Signal;
use std::thread::sleep;
use std::time::{Duration, Instant};

fn body(to: &str, data: &str) -> String {
    format!("{{\"to_peer_id\":\"{to}\",\"signal_data\":\"{data}\"}}")
}

fn send(client: &mut Client, party: &str, to: &str, data: &str) -> Answer {
    client.ask("POST", &format!("/parties/{party}/signals"), &body(to, data))
}

/// What is in the signals that wait for a peer, and are taken.
fn take(client: &mut Client, party: &str, peer: &str) -> Vec<String> {
    let answer = client.get(&format!("/parties/{party}/peers/{peer}/signals")).is(200).json();
    let Some(Value::Array(signals)) = answer.get("signals") else { panic!("{answer:?}") };
    signals.iter().map(|signal| text(signal, &["signal_data"])).collect()
}

/// Takes so many signals, which soon wait.
pub fn take_soon(client: &mut Client, party: &str, peer: &str, count: usize) -> Vec<String> {
    let (start, mut taken) = (Instant::now(), Vec::new());
    while taken.len() < count {
        assert!(start.elapsed() < 5 * SOON, "{count} were sent, and no more came than {taken:?}");
        taken.extend(take(client, party, peer));
    }
    taken
}

/// Who takes part: at each instance one who sends, and one who listens.
fn crowd(instances: &Instances, party: &str, name: &str) -> Vec<(Client, Socket)> {
    (0..3).map(|at| member(instances, at, party, &format!("{name}{at}"))).collect()
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_signal_reaches_a_session_at_any_instance_once() {
    let _alone = alone();
    let instances = Instances::start();
    let party = instances.client(0).register("host").create("LAN", "host");
    let (mut senders, mut listeners) =
        (crowd(&instances, &party, "sender"), crowd(&instances, &party, "listener"));
    instances.settle();
    let (mut by_request, mut by_message) = (Times::default(), Times::default());
    let mut sent = vec![Vec::new(); 3];
    for round in 0..10 {
        for (at, elsewhere) in pairs() {
            let ((client, session), to) = (&mut senders[at], format!("listener{elsewhere}"));
            let (first, second) = (format!("r{round}from{at}"), format!("m{round}from{at}"));
            send(client, &party, &to, &first).is(200);
            let start = Instant::now();
            let came = listeners[elsewhere].1.hear("signal");
            by_request.add(start.elapsed());
            assert_eq!(text(&came, &["signal_data"]), first);
            assert_eq!(text(&came, &["from_peer_id"]), format!("sender{at}"));
            assert_eq!(text(&came, &["party_id"]), party);
            let start = Instant::now();
            let message = body(&to, &second).replacen(
                '{',
                &format!("{{\"type\":\"signal\",\"party_id\":\"{party}\","),
                1,
            );
            session.say(&message);
            let came = listeners[elsewhere].1.hear("signal");
            by_message.add(start.elapsed());
            assert_eq!(text(&came, &["signal_data"]), second);
            sent[elsewhere].extend([first, second]);
        }
    }
    // None of them comes once more, and none waits anywhere.
    for (at, (client, session)) in listeners.iter_mut().enumerate() {
        while let Some(message) = session.try_hear(Duration::from_millis(300)).unwrap() {
            assert_ne!(text(&message, &["type"]), "signal", "one too many: {message:?}");
        }
        for elsewhere in 0..3 {
            let mut client = instances.client(elsewhere).with_token_of(client);
            assert!(take(&mut client, &party, &format!("listener{at}")).is_empty());
        }
        assert_eq!(sent[at].len(), 60);
    }
    let p99 = [
        by_request.show("signals by HTTP, from the answer until they are heard"),
        by_message.show("signals by message, until they are heard"),
    ];
    assert!(p99.iter().all(|p99| *p99 < SOON / 2), "{p99:?}");
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_signal_to_who_has_no_session_waits_and_is_taken_once() {
    let _alone = alone();
    let instances = Instances::start();
    let mut host = instances.client(0);
    let party = host.register("host").create("LAN", "host");
    let mut quiet = instances.client(1);
    quiet.register("quiet").join(&party, "quiet").is(200);
    let clients =
        |of: &Client| -> Vec<Client> { (0..3).map(|at| instances.client(at).with_token_of(of)).collect() };
    let (mut hosts, mut quiets) = (clients(&host), clients(&quiet));
    let mut taking = Times::default();
    for (at, elsewhere) in pairs() {
        let all: Vec<_> = (0..3).map(|number| format!("s{number}from{at}")).collect();
        all.iter().for_each(|data| drop(send(&mut hosts[at], &party, "quiet", data).is(200)));
        let start = Instant::now();
        // Before they wait, other instances are asked for a session.
        let taken = take_soon(&mut quiets[elsewhere], &party, "quiet", all.len());
        assert_eq!(taken, all, "sent at {at}, taken at {elsewhere}");
        taking.add(start.elapsed());
        for other in &mut quiets {
            assert!(take(other, &party, "quiet").is_empty(), "sent at {at}, taken at {elsewhere}");
        }
    }
    taking.show("signals that wait are taken at any instance");
    // Sent everywhere and taken everywhere at the same time.
    let taken: Vec<String> = std::thread::scope(|scope| {
        let sending = hosts.iter_mut().enumerate().map(|(at, client)| {
            let party = &party;
            scope.spawn(move || {
                (0..20)
                    .for_each(|number| drop(send(client, party, "quiet", &format!("{at}x{number}")).is(200)));
            })
        });
        let sending: Vec<_> = sending.collect();
        let taking = quiets.iter_mut().map(|client| {
            let party = &party;
            scope.spawn(move || -> Vec<String> {
                let start = Instant::now();
                let mut taken = Vec::new();
                while start.elapsed() < SOON {
                    taken.extend(take(client, party, "quiet"));
                }
                taken
            })
        });
        let taking: Vec<_> = taking.collect();
        sending.into_iter().for_each(|one| one.join().unwrap());
        taking.into_iter().flat_map(|one| one.join().unwrap()).collect()
    });
    let mut taken = [taken, take(&mut quiets[2], &party, "quiet")].concat();
    taken.sort();
    let mut all: Vec<_> = (0..3).flat_map(|at| (0..20).map(move |number| format!("{at}x{number}"))).collect();
    all.sort();
    assert_eq!(taken, all);
    println!("60 signals sent at three instances, while they are taken at three: each came once");
    // As many wait as may, wherever they were sent.
    for number in 0..64 {
        send(&mut hosts[number % 3], &party, "quiet", "more").is(200);
    }
    sleep(SOON);
    hosts.iter_mut().for_each(|client| drop(send(client, &party, "quiet", "too many").is(409)));
    assert_eq!(take(&mut quiets[1], &party, "quiet").len(), 64);
    // Nobody takes those of others, and nobody sends any who is no member.
    send(&mut hosts[1], &party, "quiet", "mine").is(200);
    hosts[1].get(&format!("/parties/{party}/peers/quiet/signals")).is(403);
    let mut stranger = instances.client(2);
    send(stranger.register("stranger"), &party, "quiet", "hello").is(403);
    send(&mut hosts[2], &party, "nobody", "hello").is(404);
    assert_eq!(take_soon(&mut quiets[0], &party, "quiet", 1), ["mine"]);
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_signal_is_not_lost_while_an_instance_hangs_or_is_gone() {
    let _alone = alone();
    let mut instances = Instances::start();
    let mut host = instances.client(0);
    let party = host.register("host").create("LAN", "host");
    let (napper, mut session) = member(&instances, 1, &party, "napper");
    let mut quiet = instances.client(2);
    quiet.register("quiet").join(&party, "quiet").is(200);
    instances.settle();
    instances.all[1].signal(Signal::STOP);
    let stopped = Instant::now();
    send(&mut host, &party, "napper", "while it hangs").is(200);
    let mut waits = |what: &str| {
        let start = Instant::now();
        send(&mut host, &party, "quiet", "to nobody").is(200);
        assert_eq!(take_soon(&mut quiet, &party, "quiet", 1), ["to nobody"]);
        println!("an instance {what}: a signal waits {:.1?} after it was sent", start.elapsed());
    };
    waits("hangs");
    sleep(Duration::from_secs(4).saturating_sub(stopped.elapsed()));
    instances.all[1].signal(Signal::CONT);
    // Its session hears of it, or it waits.
    let mut heard = 0;
    while let Some(message) = session.try_hear(SOON).unwrap() {
        heard += usize::from(text(&message, &["type"]) == "signal");
    }
    let waiting = take(&mut instances.client(2).with_token_of(&napper), &party, "napper").len();
    println!("sent while its instance hung: {heard} times heard, {waiting} times fetched");
    assert_eq!(heard + waiting, 1);
    instances.all[1].kill();
    waits("is gone");
    assert!(take(&mut quiet, &party, "quiet").is_empty());
    // Back, it is reached again.
    instances.all[1].restart();
    let mut session = instances.session(1, &napper);
    session.hear("party_update");
    sleep(SOON);
    send(&mut host, &party, "napper", "once more").is(200);
    assert_eq!(text(&session.hear("signal"), &["signal_data"]), "once more");
}
