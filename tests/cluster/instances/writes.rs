//! Requests that change something, at any instance, and what is read after them.

use super::{Instances, SOON, Times, pairs};
use crate::client::{create_body, join_body};
use crate::database::Database;
use crate::harness::alone;
use crate::load::{Running, World, verify};
use std::thread::sleep;
use std::time::{Duration, Instant};

#[test]
#[ignore = "needs PostgreSQL"]
fn a_client_may_be_passed_from_instance_to_instance() {
    let _alone = alone();
    let instances = Instances::start();
    // All that a stock client asks for. Its requests are a number that is no multiple of the number of instances,
    // so that each of them comes to each instance.
    let (mut host, mut guest) = (instances.passed_on(), instances.passed_on());
    let start = Instant::now();
    for round in 0..30 {
        let (name, other) = (format!("host{round}"), format!("guest{round}"));
        host.register(&name);
        host.ask("GET", "/relays", "").is(200);
        let made = host.ask("POST", "/parties", &create_body("LAN", &name)).is(200);
        let path = format!("/parties/{}", made.text(&["party_id"]));
        host.ask("GET", &path, "").is(200);
        guest.register(&other);
        guest.ask("GET", &path, "").is(200);
        guest.ask("POST", &format!("{path}/join"), &join_body("x", &other)).is(200);
        guest.ask("POST", &format!("{path}/peers/{other}/heartbeat"), "").is(200);
        guest.ask("GET", &format!("{path}/peers/{name}"), "").is(200);
        guest.ask("GET", &format!("{path}/peers"), "").is(200);
        host.ask("GET", &format!("{path}/peers/{other}"), "").is(200);
        host.ask("POST", &format!("{path}/peers/{name}/heartbeat"), "").is(200);
        // Another name, with the token of before.
        guest.register(&other);
        guest.ask("DELETE", &format!("{path}/peers/{other}"), "").is(200);
        host.ask("DELETE", &format!("{path}/peers/{name}"), "").is(200);
        host.next();
        guest.next();
    }
    println!("30 times all that two stock clients ask for: {:.1} s", start.elapsed().as_secs_f64());

    // And many of them at once.
    let running = Running::start((0..4).map(World::new).collect(), &instances.addresses());
    sleep(Duration::from_secs(4));
    let mut worlds = running.stop();
    let acknowledged: usize = worlds.iter().map(|world| world.acknowledged).sum();
    let behind = instances.settle();
    println!(
        "4 worlds: {acknowledged} changes in 4 s; all instances had all of them {behind:.1?} after the last"
    );
    assert!(acknowledged > 100 && behind < SOON);
    for daemon in &instances.all {
        verify(&mut worlds, daemon);
    }
}

/// What one pair of instances took.
#[derive(Default)]
struct Taken {
    writes: Times,
    reads: Times,
    removals: Times,
}

/// Writes at one, and reads at another one at once.
fn write_and_read(instances: &Instances, at: usize, elsewhere: usize, rounds: usize) -> Taken {
    let mut taken = Taken::default();
    let (mut here, mut there) = (instances.client(at), instances.client(elsewhere));
    let (host, guest) = (format!("h{at}{elsewhere}"), format!("g{at}{elsewhere}"));
    for _ in 0..rounds {
        let writing = Instant::now();
        here.register(&host);
        taken.writes.add(writing.elapsed());
        // A token is good everywhere.
        let reading = Instant::now();
        there.token.clone_from(&here.token);
        there.get("/relays").is(200);
        taken.reads.add(reading.elapsed());
        // So is a party.
        let writing = Instant::now();
        let party = here.create("LAN", &host);
        taken.writes.add(writing.elapsed());
        let (path, reading) = (format!("/parties/{party}"), Instant::now());
        let read = there.get(&path).is(200);
        taken.reads.add(reading.elapsed());
        assert_eq!(read.text(&["party", "host_id"]), host);
        // Who comes from there joins here.
        there.register(&guest);
        let mut guests = instances.client(at).with_token_of(&there);
        let writing = Instant::now();
        guests.join(&party, &guest).is(200);
        taken.writes.add(writing.elapsed());
        let (peer, reading) = (format!("{path}/peers/{guest}"), Instant::now());
        there.get(&peer).is(200);
        taken.reads.add(reading.elapsed());
        there.heartbeat(&party, &guest).is(200);
        // Who was told that something is so reads it there at once.
        assert!(here.get(&format!("{path}/peers")).is(200).body.contains(&guest));
        let writing = Instant::now();
        guests.ask("DELETE", &peer, "").is(200);
        taken.writes.add(writing.elapsed());
        let left = Instant::now();
        here.get(&peer).is(404);
        assert!(!here.get(&path).is(200).body.contains(&guest));
        // What is gone may be seen elsewhere for a moment longer.
        taken.removals.add_until("a member that left is gone", left, || there.get(&peer).status == 404);
        let ended = there.with_token_of(&here);
        there = ended;
        there.ask("DELETE", &path, "").is(200);
        there.get(&path).is(404);
        let gone = Instant::now();
        taken.removals.add_until("an ended party is gone", gone, || here.get(&path).status == 404);
    }
    taken
}

#[test]
#[ignore = "needs PostgreSQL"]
fn what_is_acknowledged_at_one_instance_is_there_at_every_other() {
    let _alone = alone();
    let instances = Instances::start();
    let (mut reads, mut removals) = (Times::default(), Times::default());
    // The first one writes.
    let (mut own, mut forwarded) = (Times::default(), Times::default());
    std::thread::scope(|scope| {
        let pairs = pairs().map(|(at, elsewhere)| {
            let instances = &instances;
            (at, scope.spawn(move || write_and_read(instances, at, elsewhere, 50)))
        });
        for (at, pair) in pairs.collect::<Vec<_>>() {
            let taken = pair.join().unwrap();
            if at == 0 {
                own.extend(taken.writes)
            } else {
                forwarded.extend(taken.writes)
            };
            reads.extend(taken.reads);
            removals.extend(taken.removals);
        }
    });
    own.show("changes at the writer, of 9 clients at once");
    forwarded.show("changes at followers");
    reads.show("reads elsewhere at once, none refused");
    let p99 = removals.show("until it is gone elsewhere");
    assert!(p99 < SOON / 2, "{p99:?}");
}

#[test]
#[ignore = "needs PostgreSQL"]
fn the_database_reads_once_what_it_is_asked_after_each_commit() {
    let _alone = alone();
    let database = Database::with(&["log_min_duration_statement=0"]);
    let url = database.url();
    let instances = Instances::over(&url, &[], database);
    let before = instances.commits();
    for number in 0..20 {
        instances.client(0).register(&format!("peer{number}"));
    }
    instances.settle();
    let commits = instances.commits() - before;
    let log = instances.database.log();
    let count = |step: &str| {
        log.lines().filter(|line| line.contains(step) && line.contains("left join lateral")).count()
    };
    let (read, answered) = (count(" parse "), count(" execute "));
    println!(
        "{commits} commits: both that follow asked {answered} times, which the database read {read} times"
    );
    assert!(commits >= 20 && answered > 20, "{log}");
    assert_eq!(read, 2);
}
