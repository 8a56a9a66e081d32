//! Relays in other places, each at one of several instances: it is told there what any of them decides.

use crate::cable::Cable;
use crate::client::{Answer, Client};
use crate::database::Database;
use crate::harness::daemon::{binary, settings};
use crate::harness::far_relay::FarRelay;
use crate::harness::player::{Player, gets_through, introduce, reach};
use crate::harness::{alone, eventually};
use crate::instances::{Instances, setup, writer};
use crate::test_daemon::TestDaemon;
use lanrage::crypto::x25519::PrivateKey;
use std::process::{Command, Output};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// What a command says to the owner at one instance.
fn owner(at: &TestDaemon, arguments: &[&str]) -> Output {
    let mut command = Command::new(binary());
    settings(&mut command, &at.setup.directory().state(), []);
    command.args(arguments).output().unwrap()
}

fn listing(at: &TestDaemon) -> String {
    let output = owner(at, &["relay", "list"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The id of a relay and the beginning of its key, as it says them.
fn names(relay: &FarRelay) -> [String; 2] {
    relay.logs("`lanrage relay approve ");
    let log = relay.log();
    let (_, rest) = log.rsplit_once("`lanrage relay approve ").unwrap();
    let mut words = rest.split(['`', ' ']);
    [words.next().unwrap().to_owned(), words.next().unwrap().to_owned()]
}

/// Whether a relay is in this state, as the owner is shown it at one of the instances.
fn is_state(at: &TestDaemon, relay: &FarRelay, state: &str) -> bool {
    let [id, _] = names(relay);
    listing(at).lines().any(|line| line.starts_with(&id) && line.contains(&format!(" {state} ")))
}

/// Approves a relay at one of the instances.
fn approve(at: &TestDaemon, relay: &FarRelay) {
    eventually("it waits", || is_state(at, relay, "waiting"));
    let [id, key] = names(relay);
    let approved = owner(at, &["relay", "approve", &id, &key]);
    assert!(approved.status.success(), "{}", String::from_utf8_lossy(&approved.stderr));
}

fn is_listed(at: &TestDaemon, relay: &FarRelay) -> bool {
    let answer = at.owner().get("/relays").is(200);
    answer.body.contains(&format!("\"port\":{},\"region\":\"Tokio\"", relay.address.port()))
}

/// A peer whose machine plays, and who speaks to one of the instances.
fn enter(at: &TestDaemon, name: &str, party: Option<&str>) -> (Client, Player, String) {
    let mut client = at.client();
    client.register(name);
    let key = PrivateKey::generate();
    let entered: Answer = client.enrol(name, &key.public_key(), party).is(200);
    let player = Player::new(key, entered.text(&["network", "virtual_ip"]).parse().unwrap());
    let party = party.map_or_else(|| entered.text(&["party_id"]), str::to_owned);
    (client, player, party)
}

/// Has somebody removed at one of the instances: after how long that is answered, and nothing of it arrives any more.
fn kick(at: &TestDaemon, party: &str, name: &str, from: &mut Player, to: &mut Player) -> Duration {
    assert!(gets_through(from, to, "before", Duration::from_secs(5)));
    let start = Instant::now();
    at.owner().ask("DELETE", &format!("/parties/{party}/peers/{name}"), "").is(200);
    let mut last = Instant::now();
    while start.elapsed() < Duration::from_secs(2) {
        from.send(to.ip, b"still there?");
        from.pump();
        if !to.pump().is_empty() {
            last = Instant::now();
        }
    }
    last - start
}

/// The longest time in which nothing arrives, until something is so.
fn longest_gap(from: &mut Player, to: &mut Player, mut is_over: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    let (mut last, mut longest) = (start, Duration::ZERO);
    loop {
        let is_over = is_over();
        for _ in 0..10 {
            from.send(to.ip, b"move");
            from.pump();
            if !to.pump().is_empty() {
                longest = longest.max(last.elapsed());
                last = Instant::now();
            }
        }
        if is_over {
            return longest.max(last.elapsed());
        }
        assert!(start.elapsed() < Duration::from_secs(60), "it does not end");
    }
}

fn lines(relay: &FarRelay, what: &str) -> usize {
    relay.log().lines().filter(|line| line.contains(what)).count()
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_relay_at_one_instance_hears_what_all_decide_and_goes_on_at_another_when_that_one_dies() {
    let _alone = alone();
    let mut instances = Instances::start();
    let [writer, second, third] = &mut instances.all[..] else { panic!("three") };
    let (_ann, mut a, party) = enter(third, "ann", None);
    let (_bob, mut b, _) = enter(writer, "bob", Some(&party));
    let (_eve, mut e, _) = enter(second, "eve", Some(&party));
    let cable = Cable::to(second.http);

    // It comes to one that follows, and is approved at another one that does.
    let begun = Instant::now();
    let relay = FarRelay::start(cable.address);
    eventually("the others hear that it waits", || is_state(third, &relay, "waiting"));
    println!("a relay that came to a follower waits at all after {:.2} s", begun.elapsed().as_secs_f64());
    let [id, key] = names(&relay);
    assert!(listing(third).contains(&format!("\n  lanrage relay approve {id} {key}\n")));
    assert!(!is_listed(second, &relay));
    approve(third, &relay);
    let took = eventually("it is told", || relay.log().contains("approved: this relay serves"));
    println!("approved at another follower: told after {:.3} s more", took.as_secs_f64());
    assert!(took < Duration::from_secs(1), "{took:?}");
    for one in [&*writer, second, third] {
        eventually("players are told", || is_listed(one, &relay));
    }
    introduce(&mut a, &mut b, relay.address);
    introduce(&mut a, &mut e, relay.address);
    reach(&mut a, &mut b, "hello");
    reach(&mut b, &mut a, "hello yourself");
    reach(&mut a, &mut e, "hello");

    let took = kick(third, &party, "eve", &mut a, &mut e);
    println!("kicked at the third instance: nothing arrives after {:.3} s", took.as_secs_f64());
    assert!(took < Duration::from_secs(1), "{took:?}");
    // What the relay was told is known where it is asked, though it is told elsewhere.
    let took = eventually("the others hear how it is", || {
        let list = listing(third);
        let line = list.lines().find(|line| line.contains(" connected ")).map(str::to_owned);
        line.is_some_and(|line| line.split_whitespace().rev().nth(1) == Some("2"))
    });
    println!("how it is, is known at the others after {:.1} s", took.as_secs_f64());

    // The instance where it is dies, and a proxy leads it to another one.
    let away = lines(&relay, "the control server is away");
    cable.lead_to(third.http);
    second.kill();
    let killed = Instant::now();
    let mut back = None;
    let gap = longest_gap(&mut a, &mut b, || {
        if back.is_none() && relay.log().contains("the control server is back") {
            back = Some(killed.elapsed());
        }
        back.is_some()
    });
    println!(
        "kill -9 of its instance: it is back at another one after {:.2} s; the longest silence of a game is {:.3} s",
        back.unwrap().as_secs_f64(),
        gap.as_secs_f64()
    );
    assert_eq!(lines(&relay, "the control server is away"), away + 1);
    assert!(gap < Duration::from_secs(1), "{gap:?}");
    eventually("it is seen there", || is_state(third, &relay, "connected"));
    let (_fay, mut f, _) = enter(writer, "fay", Some(&party));
    introduce(&mut a, &mut f, relay.address);
    reach(&mut a, &mut f, "hello");
    let took = kick(writer, &party, "fay", &mut a, &mut f);
    println!("kicked at the writer then: nothing arrives after {:.3} s", took.as_secs_f64());
    assert!(took < Duration::from_secs(1), "{took:?}");

    // The instance where it is becomes the one that writes, and it notices nothing.
    let greeted = lines(&relay, "the control server is");
    writer.kill();
    let killed = Instant::now();
    let gap = longest_gap(&mut a, &mut b, || third.log().contains("this instance writes from now on"));
    println!(
        "kill -9 of the writer: its instance writes after {:.2} s; the longest silence of a game is {:.3} s",
        killed.elapsed().as_secs_f64(),
        gap.as_secs_f64()
    );
    let (_gus, mut g, _) = enter(third, "gus", Some(&party));
    introduce(&mut a, &mut g, relay.address);
    reach(&mut a, &mut g, "hello");
    let took = kick(third, &party, "gus", &mut a, &mut g);
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(lines(&relay, "the control server is"), greeted, "it keeps its connection");
    reach(&mut b, &mut a, "still here");
    assert!(is_listed(third, &relay));
}

#[test]
#[ignore = "needs PostgreSQL"]
fn an_approval_that_is_taken_back_anywhere_ends_everything_at_that_relay() {
    let _alone = alone();
    let instances = Instances::start();
    let [writer, second, third] = &instances.all[..] else { panic!("three") };
    let (_ann, a, party) = enter(writer, "ann", None);
    let (_bob, b, _) = enter(third, "bob", Some(&party));
    // By way of the writer it is told what is committed, by way of the others what they have of it.
    for (at, by) in [(writer, third), (second, writer), (third, second)] {
        let relay = FarRelay::start(at.http);
        approve(by, &relay);
        relay.logs("approved: this relay serves");
        // They have not met at this one.
        let [mut a, mut b] = [&a, &b].map(|player| Player::new(player.key.clone(), player.ip));
        introduce(&mut a, &mut b, relay.address);
        reach(&mut a, &mut b, "hello");
        let [id, _] = names(&relay);
        let begun = Instant::now();
        assert!(owner(by, &["relay", "revoke", &id]).status.success());
        let mut last = Instant::now();
        while begun.elapsed() < Duration::from_secs(2) {
            if gets_through(&mut a, &mut b, "still there?", Duration::from_millis(50)) {
                last = Instant::now();
            }
        }
        println!("taken back: nothing arrives after {:.3} s", (last - begun).as_secs_f64());
        assert!(last - begun < Duration::from_secs(1));
        for one in [writer, second, third] {
            assert!(!is_listed(one, &relay));
        }
        // It would like to be approved again.
        eventually("it waits", || is_state(by, &relay, "waiting"));
    }
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_relay_at_the_writer_keeps_its_connection_while_the_database_is_away() {
    let _alone = alone();
    let mut database = Database::start();
    let writer = writer(setup(&database.url(), &[]).0);
    let (mut ann, mut a, party) = enter(&writer, "ann", None);
    let (_bob, mut b, _) = enter(&writer, "bob", Some(&party));
    let relay = FarRelay::start(writer.http);
    approve(&writer, &relay);
    relay.logs("approved: this relay serves");
    introduce(&mut a, &mut b, relay.address);
    reach(&mut a, &mut b, "hello");
    database.stop();
    // What nobody can keep is not told, and what the relay reports meanwhile is answered.
    ann.ask("DELETE", &format!("/parties/{party}/peers/bob"), "").is(503);
    let gap = longest_gap(&mut a, &mut b, {
        let begun = Instant::now();
        move || begun.elapsed() > Duration::from_secs(20)
    });
    assert!(gap < Duration::from_secs(1), "{gap:?}");
    database.begin();
    let took = eventually("it is told then", || {
        !gets_through(&mut a, &mut b, "still there?", Duration::from_millis(300))
    });
    println!("the database is back: the relay is told {:.2} s later", took.as_secs_f64());
    sleep(Duration::from_secs(1));
    let log = relay.log();
    assert!(!log.contains("can't be followed") && !log.contains("is away"), "{log}");
}
