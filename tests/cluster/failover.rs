//! Instances and databases that go away, and who goes on.

mod links;
mod namespaces;

use crate::client::{Client, text};
use crate::database::Database;
use crate::harness::{alone, eventually};
use crate::instances::{Instances, SOON, Times, figure, follower, setup, writer, writes};
use crate::load::{Running, World, run, verify};
use crate::probes::{self, Asked, Probes};
use crate::socket::Socket;
use crate::test_daemon::TestDaemon;
use rustix::process::Signal;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Changes are taken again within this, whatever happens to one instance.
const TAKEN_AGAIN: Duration = Duration::from_secs(5);

/// How many commits were made by one that wrote before another one did.
const TOO_LATE: &str = "select count(*) from (\
                            select epoch, max(epoch) over (order by seq) as latest from lanrage.log\
                        ) as log where epoch < latest";

fn worlds(count: u64) -> Vec<World> {
    (0..count).map(World::new).collect()
}

fn acknowledged(worlds: &[World]) -> usize {
    worlds.iter().map(|world| world.acknowledged).sum()
}

/// Members with a session each, at some instances.
struct Sessions {
    party: String,
    host: Client,
    sessions: Vec<(usize, Socket)>,
    joined: usize,
}

impl Sessions {
    /// The host asks at the first of these instances.
    fn open(instances: &Instances, at: &[usize]) -> Self {
        let mut host = instances.client(at[0]);
        let party = host.register("host").create("Sessions", "host");
        let mut sessions = Sessions { party, host, sessions: Vec::new(), joined: 0 };
        at.iter().for_each(|at| sessions.listen(instances, *at));
        sessions
    }

    /// One more member, at this instance.
    fn listen(&mut self, instances: &Instances, at: usize) {
        let (mut client, peer) = (instances.client(at), format!("listener{at}"));
        client.register(&peer).join(&self.party, &peer).is(200);
        let mut session = instances.session(at, &client);
        while text(&session.hear("party_update"), &["party", "party_id"]) != self.party {}
        self.sessions.push((at, session));
    }

    /// Somebody joins and leaves at each of these, and every session that was opened hears of it.
    fn hear(&mut self, instances: &Instances, at: &[usize]) {
        for at in at {
            self.joined += 1;
            let (mut client, peer) = (instances.client(*at), format!("joiner{at}x{}", self.joined));
            client.register(&peer).join(&self.party, &peer).is(200);
            let start = Instant::now();
            self.hear_of("peer_joined", &["peer", "peer_id"], &peer);
            client.ask("DELETE", &format!("/parties/{}/peers/{peer}", self.party), "").is(200);
            self.hear_of("peer_left", &["peer_id"], &peer);
            assert!(start.elapsed() < 2 * SOON, "heard after {:?}", start.elapsed());
        }
    }

    /// Whoever has a session at one of these gets a signal that is sent at any of them.
    fn signal(&mut self, instances: &Instances, of: &[usize]) {
        for at in of {
            let mut host = instances.client(*at).with_token_of(&self.host);
            for (elsewhere, session) in self.sessions.iter_mut().filter(|(at, _)| of.contains(at)) {
                self.joined += 1;
                let (data, start) = (format!("signal {}", self.joined), Instant::now());
                let body = format!("{{\"to_peer_id\":\"listener{elsewhere}\",\"signal_data\":\"{data}\"}}");
                host.ask("POST", &format!("/parties/{}/signals", self.party), &body).is(200);
                assert_eq!(text(&session.hear("signal"), &["signal_data"]), data);
                assert!(start.elapsed() < SOON, "heard after {:?}", start.elapsed());
            }
        }
    }

    /// A stock client asks for its party once more if it had no answer: it is the same one.
    fn create_again(&self, instances: &Instances, at: usize) {
        let mut host = instances.client(at).with_token_of(&self.host);
        assert_eq!(host.create("Sessions", "host"), self.party);
    }

    fn hear_of(&mut self, kind: &str, path: &[&str], peer: &str) {
        for (_, session) in &mut self.sessions {
            while text(&session.hear(kind), path) != peer {}
        }
    }

    /// The party ends, by a request at this instance, and all hear of that.
    fn end(mut self, instances: &Instances, at: usize) {
        let mut host = instances.client(at).with_token_of(&self.host);
        host.ask("DELETE", &format!("/parties/{}", self.party), "").is(200);
        self.hear_of("peer_left", &["peer_id"], "host");
    }
}

/// Prints what came of asking these instances, each of which takes changes again soon.
fn show(asked: &[Asked], of: &[usize]) {
    for at in of {
        let gap = asked[*at].longest_gap();
        println!(
            "  instance {at}: {} registered, {} refused (503), for {:.2} s at most none registered",
            asked[*at].registered(),
            asked[*at].refused,
            gap.as_secs_f64()
        );
        assert!(gap < TAKEN_AGAIN, "{gap:?} without a change at instance {at}");
    }
}

/// What was acknowledged is at each of these instances.
fn verify_at(instances: &Instances, of: &[usize], worlds: &mut [World], asked: &[Asked]) {
    assert_eq!(instances.database.query(TOO_LATE).unwrap(), "0", "a writer wrote after the next one");
    let settled = instances.settle_at(of);
    assert!(settled < 2 * SOON, "behind for {settled:?}");
    for at in of {
        verify(worlds, &instances.all[*at]);
        probes::verify(asked, &instances.all[*at]);
    }
}

/// Waits until these take changes, as clients do that are told to come again.
fn take_changes(instances: &Instances, of: &[usize]) {
    for at in of {
        let path = format!("/auth/register?peer_id=patient{at}");
        eventually("it takes a change", || {
            let answer = instances.client(*at).ask("POST", &path, "");
            answer.status == 200 || answer.is(503).header("Retry-After").is_none()
        });
    }
}

/// That an instance follows that one by now, as it says itself.
fn follows(daemon: &TestDaemon, name: &str, before: usize) -> bool {
    daemon.log()[before..].contains(&format!("following: realm \"default\" is written by {name} at http://"))
}

/// kill -9 of the writer under load. Another one writes, and the killed one follows it when it is started again.
fn kill_writer(instances: &mut Instances, worlds: Vec<World>, round: u64) -> Vec<World> {
    let (old, followers) = (instances.writer(), instances.followers());
    let before = acknowledged(&worlds);
    let logged = followers.iter().map(|at| instances.all[*at].log().len()).collect::<Vec<_>>();
    let mut sessions = Sessions::open(instances, &followers);
    sessions.hear(instances, &[0, 1, 2]);
    let probes = Probes::start(instances, &format!("kill{round}"));
    let running = Running::start(worlds, &instances.addresses());
    sleep(Duration::from_millis(700 + 300 * round));
    instances.all[old].kill();
    let killed = Instant::now();
    let mut worlds = running.join();
    let mut next = old;
    eventually("one takes over", || {
        next = followers.iter().copied().find(|at| writes(&instances.all[*at])).unwrap_or(old);
        next != old
    });
    let took = killed.elapsed();
    take_changes(instances, &followers);
    // Who had a session there still has, and so has who is elsewhere.
    sessions.hear(instances, &followers);
    sessions.signal(instances, &followers);
    followers.iter().for_each(|at| sessions.create_again(instances, *at));
    let asked = probes.stop();
    println!(
        "kill -9 of the writer: {} changes of worlds, and the next one writes after {:.2} s",
        acknowledged(&worlds) - before,
        took.as_secs_f64()
    );
    show(&asked, &followers);
    sessions.end(instances, followers[0]);
    verify_at(instances, &followers, &mut worlds, &asked);
    // It is told at each instance who writes.
    for (at, logged) in followers.iter().zip(logged) {
        let daemon = &instances.all[*at];
        if *at == next {
            let log = daemon.log();
            assert!(log[logged..].contains("this instance has the lease, epoch"), "{log}");
            assert!(log[logged..].contains("this instance writes from now on"), "{log}");
        } else {
            eventually("it follows the next one", || follows(daemon, &instances.names[next], logged));
        }
    }
    let logged = instances.all[old].log().len();
    instances.all[old].restart();
    eventually("it follows", || follows(&instances.all[old], &instances.names[next], logged));
    verify_at(instances, &[0, 1, 2], &mut worlds, &asked);
    worlds
}

/// A writer that can't write for a while, and what others do meanwhile.
struct Absence<'a> {
    instances: &'a Instances,
    old: usize,
    followers: Vec<usize>,
    sessions: Sessions,
    probes: Probes,
    running: Running,
    /// Who begins once another one writes.
    late: Option<Running>,
    logged: usize,
    begun: Instant,
}

impl<'a> Absence<'a> {
    /// It begins now, while these worlds change things.
    fn begin(instances: &'a Instances, name: &str, worlds: Vec<World>) -> Self {
        let (old, followers) = (instances.writer(), instances.followers());
        let sessions = Sessions::open(instances, &followers);
        let probes = Probes::start(instances, name);
        let running = Running::start(worlds, &instances.addresses());
        sleep(Duration::from_millis(700));
        let (logged, begun) = (instances.all[old].log().len(), Instant::now());
        Absence { instances, old, followers, sessions, probes, running, late: None, logged, begun }
    }

    /// Waits until another one writes. What happens then, the old one does not know.
    fn another_writes(&mut self, what: &str) {
        let Absence { instances, followers, sessions, .. } = self;
        eventually("one takes over", || followers.iter().any(|at| writes(&instances.all[*at])));
        println!("{what}: the next one writes after {:.2} s", self.begun.elapsed().as_secs_f64());
        take_changes(instances, followers);
        sessions.hear(instances, followers);
        sessions.signal(instances, followers);
        let addresses: Vec<_> = followers.iter().map(|at| instances.all[*at].http).collect();
        self.late = Some(Running::start((4..6).map(World::new).collect(), &addresses));
    }

    /// For this client of the old one nothing is changed, and all else goes on. What it asked for is on its way to the
    /// database all the same.
    fn old_one_reads(&self, mut client: Client) {
        let begun = Instant::now();
        let answer = client.ask("POST", "/auth/register?peer_id=late", "").is(503);
        let took = begun.elapsed();
        println!("503 at the old one after {:.2} s", took.as_secs_f64());
        assert!(answer.header("Retry-After").is_some() && took < 3 * SOON, "{took:?}");
        let mut host = client.with_token_of(&self.sessions.host);
        host.get(&format!("/parties/{}", self.sessions.party)).is(200);
    }

    /// The old one could write again: it is fenced, and follows.
    fn end(mut self) -> (Vec<World>, Vec<Asked>) {
        let (back, instances, old) = (Instant::now(), self.instances, self.old);
        let log = || instances.all[old].log().split_off(self.logged);
        eventually("it is fenced", || log().contains("another instance has taken over"));
        println!("fenced {:.2} s after it is back", back.elapsed().as_secs_f64());
        let next = self.followers.iter().copied().find(|at| writes(&instances.all[*at])).unwrap();
        eventually("it follows", || follows(&instances.all[old], &instances.names[next], self.logged));
        eventually("it serves", || figure(&instances.all[old], "lanrage_instance_writes") == Some(0.0));
        let took = back.elapsed();
        println!("it serves as a follower {:.2} s after it is back", took.as_secs_f64());
        assert!(took < TAKEN_AGAIN, "{took:?}");
        assert_eq!(figure(&instances.all[old], "lanrage_fenced_total"), Some(1.0));
        let mut worlds = self.running.stop();
        let late = self.late.take().map(Running::stop).unwrap_or_default();
        println!("{} changes before, {} after another one wrote", acknowledged(&worlds), acknowledged(&late));
        assert!(acknowledged(&late) > 0);
        worlds.extend(late);
        self.sessions.hear(instances, &[0, 1, 2]);
        self.sessions.signal(instances, &[0, 1, 2]);
        let asked = self.probes.stop();
        show(&asked, &self.followers);
        self.sessions.end(instances, old);
        verify_at(instances, &[0, 1, 2], &mut worlds, &asked);
        (worlds, asked)
    }
}

/// SIGSTOP of the writer beyond its lease, under load.
fn stop_writer(instances: &Instances, worlds: Vec<World>) -> (Vec<World>, Vec<Asked>) {
    let mut absence = Absence::begin(instances, "stop", worlds);
    let sleeper = &instances.all[absence.old];
    sleeper.signal(Signal::STOP);
    absence.another_writes("SIGSTOP of the writer");
    sleep(Duration::from_secs(5).saturating_sub(absence.begun.elapsed()));
    sleeper.signal(Signal::CONT);
    absence.end()
}

/// The database goes away for everybody, and comes back after more than a lease.
fn lose_database(
    instances: &mut Instances,
    go: impl FnOnce(&mut Instances),
    come: impl FnOnce(&mut Instances),
) -> (Vec<World>, Vec<Asked>) {
    let old = instances.writer();
    let mut sessions = Sessions::open(instances, &[0, 1, 2]);
    let mut clients: Vec<Client> =
        (0..3).map(|at| instances.client(at).with_token_of(&sessions.host)).collect();
    let running = Running::start(worlds(4), &instances.addresses());
    sleep(Duration::from_millis(700));
    go(instances);
    let gone = Instant::now();
    let mut worlds = running.join();
    println!("without the database: the last world is refused after {:.2} s", gone.elapsed().as_secs_f64());
    for at in 0..3 {
        let begun = Instant::now();
        let path = format!("/auth/register?peer_id=late{at}");
        let answer = instances.client(at).ask("POST", &path, "").is(503);
        println!("503 at instance {at} after {:.2} s: {}", begun.elapsed().as_secs_f64(), answer.detail());
        assert!(answer.header("Retry-After").is_some() && begun.elapsed() < Duration::from_secs(4));
    }
    let (party, signal) = (sessions.party.clone(), |to: usize| {
        format!("{{\"to_peer_id\":\"listener{to}\",\"signal_data\":1}}")
    });
    let mut times = Times::default();
    for round in 0..20 {
        for (at, client) in clients.iter_mut().enumerate() {
            let begun = Instant::now();
            client.get(&format!("/parties/{party}")).is(200);
            client.get("/").is(200);
            client.heartbeat(&party, "host").is(200);
            let to = (at + round) % 3;
            client.ask("POST", &format!("/parties/{party}/signals"), &signal(to)).is(200);
            sessions.sessions[to].1.hear("signal");
            assert!(begun.elapsed() < SOON, "{:?} at instance {at}", begun.elapsed());
            times.add(begun.elapsed());
        }
        sleep(Duration::from_millis(200));
    }
    times.show("two reads, a heartbeat and a signal meanwhile");
    // Longer than the lease, and nobody has another.
    let probes = Probes::start(instances, "back");
    println!("the database comes back after {:.2} s", gone.elapsed().as_secs_f64());
    come(instances);
    let begun = Instant::now();
    for at in 0..3 {
        take_changes(instances, &[at]);
        println!("changes are taken at instance {at} {:.2} s later", begun.elapsed().as_secs_f64());
    }
    sleep(Duration::from_secs(4));
    assert!(writes(&instances.all[old]), "who wrote before goes on");
    let asked = probes.stop();
    show(&asked, &[0, 1, 2]);
    sessions.hear(instances, &[0, 1, 2]);
    clients[2].heartbeat(&party, "host").is(200);
    sessions.end(instances, (old + 1) % 3);
    verify_at(instances, &[0, 1, 2], &mut worlds, &asked);
    (worlds, asked)
}

#[test]
#[ignore = "needs PostgreSQL"]
fn the_next_instance_goes_on_when_the_writer_is_killed() {
    let _alone = alone();
    let mut instances = Instances::start();
    let mut worlds = worlds(4);
    for round in 0..3 {
        worlds = kill_writer(&mut instances, worlds, round);
    }
    assert_eq!(instances.database.query("select count(*) from lanrage.realm").unwrap(), "1");
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_follower_writes_at_once_when_the_writer_is_stopped_in_good_order() {
    let _alone = alone();
    let mut instances = Instances::start();
    let (old, followers) = (instances.writer(), instances.followers());
    let mut sessions = Sessions::open(&instances, &followers);
    let probes = Probes::start(&instances, "order");
    let running = Running::start(worlds(4), &instances.addresses());
    sleep(Duration::from_millis(700));
    let (status, took) = instances.all[old].terminate();
    let ended = Instant::now();
    assert!(status.success());
    let mut worlds = running.join();
    eventually("a follower takes a change", || {
        followers.iter().any(|at| {
            let path = format!("/auth/register?peer_id=after{at}");
            instances.client(*at).ask("POST", &path, "").status == 200
        })
    });
    let taken = ended.elapsed();
    take_changes(&instances, &followers);
    sessions.signal(&instances, &followers);
    sessions.hear(&instances, &followers);
    let asked = probes.stop();
    println!(
        "writer stopped in good order, which took {:.2} s: a follower writes {:.2} s later",
        took.as_secs_f64(),
        taken.as_secs_f64()
    );
    show(&asked, &followers);
    assert!(taken < SOON, "{taken:?}");
    sessions.end(&instances, followers[1]);
    verify_at(&instances, &followers, &mut worlds, &asked);
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_writer_that_was_stopped_is_fenced_when_it_wakes_and_follows() {
    let _alone = alone();
    let mut instances = Instances::start();
    let (sleeper, followers) = (instances.writer(), instances.followers());
    let pid = instances.all[sleeper].pid();
    let (mut worlds, asked) = stop_writer(&instances, worlds(4));
    // The same process comes back when it is its turn.
    for at in followers {
        let (status, _) = instances.all[at].terminate();
        assert!(status.success());
    }
    eventually("it writes again", || writes(&instances.all[sleeper]));
    assert!(instances.all[sleeper].is_running() && instances.all[sleeper].pid() == pid);
    verify_at(&instances, &[sleeper], &mut worlds, &asked);
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_follower_that_was_stopped_catches_up() {
    let _alone = alone();
    let instances = Instances::start();
    let (old, followers) = (instances.writer(), instances.followers());
    let (sleeper, awake) = (followers[0], [followers[1], old]);
    let mut sessions = Sessions::open(&instances, &[awake[0], sleeper]);
    let addresses = awake.map(|at| instances.all[at].http);
    let running = Running::start(worlds(4), &addresses);
    let probes = Probes::start(&instances, "nap");
    instances.all[sleeper].signal(Signal::STOP);
    let stopped = Instant::now();
    let mut meanwhile = instances.client(awake[0]);
    meanwhile.register("meanwhile").join(&sessions.party, "meanwhile").is(200);
    sleep(Duration::from_secs(5).saturating_sub(stopped.elapsed()));
    let mut worlds = running.stop();
    let missed = instances.commits();
    instances.all[sleeper].signal(Signal::CONT);
    let woken = Instant::now();
    sessions.hear_of("peer_joined", &["peer", "peer_id"], "meanwhile");
    let heard = woken.elapsed();
    instances.client(sleeper).register("woken");
    let written = woken.elapsed();
    eventually("it has all commits", || {
        figure(&instances.all[sleeper], "lanrage_realm_commits").is_some_and(|seen| seen >= missed as f64)
    });
    println!(
        "SIGSTOP of a follower for 5 s under load, {} changes: its session hears of them {heard:.1?} after it woke, it \
         takes a change after {written:.1?} and has all after {:.1?}",
        acknowledged(&worlds),
        woken.elapsed()
    );
    assert!(heard < SOON && written < 2 * SOON && woken.elapsed() < 3 * SOON);
    let asked = probes.stop();
    show(&asked, &awake);
    assert!(writes(&instances.all[old]), "who wrote goes on");
    sessions.signal(&instances, &[0, 1, 2]);
    sessions.hear(&instances, &[0, 1, 2]);
    sessions.end(&instances, sleeper);
    verify_at(&instances, &[0, 1, 2], &mut worlds, &asked);
}

#[test]
#[ignore = "needs PostgreSQL"]
fn without_the_database_changes_are_refused_and_all_else_goes_on() {
    let _alone = alone();
    let mut instances = Instances::start();
    let old = instances.writer();
    let (stop, begin) =
        (|all: &mut Instances| all.database.stop(), |all: &mut Instances| all.database.begin());
    let (mut worlds, asked) = lose_database(&mut instances, stop, begin);
    let followers = instances.followers();
    instances.all[old].kill();
    eventually("another one writes", || followers.iter().any(|at| writes(&instances.all[*at])));
    verify_at(&instances, &followers, &mut worlds, &asked);
}

/// A primary that confirms nothing without its standby, that one, and the URL of both.
fn primary_and_standby() -> (Database, Database, String) {
    let primary = Database::with(&["synchronous_standby_names=standby"]);
    let standby = primary.standby();
    eventually("the standby is synchronous", || {
        primary.query("select sync_state from pg_stat_replication").as_deref() == Some("sync")
    });
    let url = format!(
        "postgres://postgres@127.0.0.1:{},127.0.0.1:{}/postgres?target_session_attrs=read-write",
        primary.port, standby.port
    );
    (primary, standby, url)
}

/// Whether a peer with a name of its own can register.
fn takes_a_change(daemon: &TestDaemon, name: &str) -> bool {
    let path = format!("/auth/register?peer_id={name}{}", daemon.http.port());
    daemon.client().ask("POST", &path, "").status == 200
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_synchronous_standby_takes_the_place_of_the_primary() {
    let _alone = alone();
    let (mut primary, standby, url) = primary_and_standby();
    let mut first = writer(setup(&url, &[]).0);
    let second = follower(setup(&url, &[]).0);
    let mut worlds = run(worlds(4), &mut first, |_| {
        sleep(Duration::from_millis(1500));
        primary.kill();
    });
    let killed = Instant::now();
    sleep(Duration::from_secs(1));
    assert_eq!(standby.query("select pg_promote()").as_deref(), Some("t"));
    let promoted = Instant::now();
    for daemon in [&first, &second] {
        eventually("it can be changed again", || takes_a_change(daemon, "at"));
    }
    println!(
        "primary killed, synchronous standby promoted: all {} changes are there; changes are taken {:.2} s after the kill, \
         {:.2} s after the promotion",
        acknowledged(&worlds),
        killed.elapsed().as_secs_f64(),
        promoted.elapsed().as_secs_f64()
    );
    verify(&mut worlds, &first);
    // And what is in the database is the same.
    first.kill();
    eventually("the other one writes", || writes(&second));
    verify(&mut worlds, &second);
    verify(&mut worlds, &follower(setup(&url, &[]).0));
}

#[test]
#[ignore = "needs PostgreSQL"]
fn an_old_primary_that_is_still_up_is_left_for_the_new_one_and_never_taken_again() {
    let _alone = alone();
    // The old one comes first in the URL.
    let (mut old, mut new, url) = primary_and_standby();
    let mut first = writer(setup(&url, &[]).0);
    let second = follower(setup(&url, &[]).0);
    let mut promoted = Instant::now();
    let mut worlds = run(worlds(4), &mut first, |_| {
        sleep(Duration::from_millis(1500));
        assert_eq!(new.query("select pg_promote()").as_deref(), Some("t"));
        promoted = Instant::now();
    });
    for daemon in [&first, &second] {
        eventually("it can be changed again", || takes_a_change(daemon, "at"));
    }
    println!(
        "promoted beside the old primary: changes are taken after {:.2} s",
        promoted.elapsed().as_secs_f64()
    );
    verify(&mut worlds, &first);
    // By what who writes has told it, the follower knows that it is at the old one.
    let mut owners = [&first, &second].map(|daemon| daemon.owner());
    eventually("the follower is at the new one", || {
        let [ahead, behind] = owners.each_mut().map(|owner| owner.metric("lanrage_realm_commits"));
        ahead == behind
    });
    verify(&mut worlds, &second);
    // Whoever comes later goes to the new one, too.
    let third = follower(setup(&url, &[]).0);
    assert!(takes_a_change(&third, "later"));
    verify(&mut worlds, &third);
    // Somebody starts the old one by itself, and it would confirm changes alone.
    new.stop();
    old.stop();
    old.begin_plainly();
    let seq = "select seq from lanrage.realm";
    let at_old = old.query(seq);
    let until = Instant::now() + Duration::from_secs(12);
    while Instant::now() < until {
        for daemon in [&first, &second, &third] {
            assert!(!takes_a_change(daemon, "lost"));
        }
        sleep(Duration::from_millis(200));
    }
    assert_eq!(old.query(seq), at_old);
    new.begin();
    for daemon in [&first, &second, &third] {
        eventually("it can be changed again", || takes_a_change(daemon, "again"));
        verify(&mut worlds, daemon);
    }
}

#[test]
#[ignore = "needs PostgreSQL"]
fn what_is_old_in_the_log_goes_while_changes_go_on() {
    let _alone = alone();
    let database = Database::start();
    let mut writer = writer(setup(&database.socket_url(), &[]).0);
    let worlds = run(worlds(4), &mut writer, |writer| {
        sleep(Duration::from_millis(500));
        database.query("update lanrage.log set at = at - interval '1 hour'");
        let old = || {
            database.query(
                "select count(*) from lanrage.log where at < clock_timestamp() - interval '30 minutes'",
            )
        };
        assert_ne!(old().as_deref(), Some("0"));
        eventually("it is gone", || old().as_deref() == Some("0"));
        writer.signal(Signal::TERM);
    });
    assert!(writer.wait().success() && acknowledged(&worlds) > 100);
}
