//! Each machine is a network namespace of its own, joined by a bridge. Where a cable is pulled, it is the kernels that send
//! again, give up and reset.

use super::*;
use crate::harness::namespace::{Machine, Namespace};
use crate::instances::{ROOMY, setup_on};
use crate::lab::{Lab, cure, deafen, public_ip};
use std::sync::Arc;

/// Who asks from another machine is held to allowances, and all that is asked here comes from one.
const UNHELD: [(&str, &str); 3] = [
    ("rates.requests", "1000000/1000000"),
    ("rates.creations", "1000000/1000000"),
    ("rates.changes", "1000000/1000000"),
];
/// The host with the database; those with the instances have the numbers before.
const DATABASE: u8 = 4;
const CLIENTS: u8 = 5;

/// A machine, and the port of the switch that its cable is in.
struct Host {
    number: u8,
    namespace: Arc<Namespace>,
    machine: Machine,
    port: String,
}

impl Host {
    fn new(lab: &Lab, number: u8) -> Self {
        let namespace = Arc::new(Namespace::new());
        let port = lab.connect(&namespace, number);
        // Whoever starts it again finds the same card in it.
        namespace.ip(&format!("link set eth0 address 02:00:00:00:00:{number:02x}"));
        Host { number, machine: Machine::at(namespace.clone(), public_ip(number)), namespace, port }
    }
}

/// What runs where.
struct Machines {
    instances: [Host; 3],
    database: Host,
    lab: Lab,
}

impl Machines {
    fn pull(&self, host: &Host) {
        self.lab.pull(&host.port);
    }

    fn put_in(&self, host: &Host) {
        self.lab.put_in(&host.port);
    }
}

/// Runs a test on the machine of clients.
fn on_machines(test: impl FnOnce(&Machines, Instances) + Send) {
    let _alone = alone();
    let lab = Lab::new();
    let host = |number| Host::new(&lab, number);
    let (hosts, database, clients) = ([1, 2, 3].map(host), host(DATABASE), host(CLIENTS));
    let machines = Machines { instances: hosts, database, lab };
    let database = Database::on(&machines.database.machine, &[]);
    let (url, more) = (database.url(), [&ROOMY[..], &UNHELD].concat());
    let setups = machines.instances.iter().map(|host| setup_on(&host.machine, &url, &more));
    let instances = Instances::of(setups, database);
    clients.namespace.inside(|| test(&machines, instances));
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_writer_whose_cable_is_pulled_is_replaced_and_follows_when_it_is_put_in_again() {
    on_machines(|machines, instances| {
        let mut absence = Absence::begin(&instances, "pulled", worlds(4));
        let old = &machines.instances[absence.old];
        machines.pull(old);
        absence.old_one_reads(instances.client_beside(absence.old));
        absence.another_writes("the writer's cable is pulled");
        machines.put_in(old);
        absence.end();
    });
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_writer_that_the_database_s_packets_do_not_reach_is_replaced_and_follows_afterwards() {
    on_machines(|machines, instances| {
        let mut absence = Absence::begin(&instances, "deaf", worlds(4));
        let old = &machines.instances[absence.old].namespace;
        deafen(old, public_ip(DATABASE));
        absence.old_one_reads(instances.client(absence.old));
        absence.another_writes("the writer gets no packets from the database");
        sleep(Duration::from_secs(5).saturating_sub(absence.begun.elapsed()));
        cure(old);
        absence.end();
    });
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_follower_whose_cable_is_pulled_serves_who_is_beside_it_and_catches_up() {
    const PULLED: Duration = Duration::from_secs(10);
    on_machines(|machines, instances| {
        let (writer, followers) = (instances.writer(), instances.followers());
        let (cut, others) = (followers[0], [followers[1], writer]);
        let host = &machines.instances[cut];
        let mut sessions = Sessions::open(&instances, &others);
        host.namespace.inside(|| sessions.listen(&instances, cut));
        let addresses = others.map(|at| instances.all[at].http);
        let probes = Probes::start(&instances, "island");
        let running = Running::start(worlds(4), &addresses);
        sleep(Duration::from_millis(700));
        machines.pull(host);
        let pulled = Instant::now();
        instances.client(writer).register("meanwhile").join(&sessions.party, "meanwhile").is(200);
        let (mut reads, mut changes) = (Times::default(), Times::default());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while pulled.elapsed() < PULLED {
                    let begun = Instant::now();
                    let answer =
                        instances.client_beside(cut).ask("POST", "/auth/register?peer_id=late", "").is(503);
                    assert!(answer.header("Retry-After").is_some());
                    changes.add(begun.elapsed());
                }
            });
            let mut client = instances.client_beside(cut).with_token_of(&sessions.host);
            let (_, session) = &mut sessions.sessions[2];
            while pulled.elapsed() < PULLED {
                let begun = Instant::now();
                let answer = client.get(&format!("/parties/{}", sessions.party)).is(200);
                assert!(!answer.body.contains("meanwhile"), "{}", answer.body);
                client.heartbeat(&sessions.party, "host").is(200);
                session.say("{\"type\":\"nonsense\"}");
                session.hear_error();
                reads.add(begun.elapsed());
                sleep(Duration::from_millis(50));
            }
        });
        let pulled = pulled.elapsed();
        machines.put_in(host);
        let whole = Instant::now();
        sessions.hear_of("peer_joined", &["peer", "peer_id"], "meanwhile");
        let heard = whole.elapsed();
        take_changes(&instances, &[cut]);
        let written = whole.elapsed();
        let mut worlds = running.stop();
        let settled = instances.settle();
        println!(
            "a follower's cable is pulled for {:.1} s, with {} changes elsewhere: its session hears of them {heard:.1?} after \
             the link is whole, it takes a change after {written:.1?} and has all {settled:.1?} after the last one",
            pulled.as_secs_f64(),
            acknowledged(&worlds),
        );
        assert!(reads.show("a read, a heartbeat and a message on its machine meanwhile") < SOON);
        assert!(changes.show("503 on its machine meanwhile") < Duration::from_secs(7));
        assert!(heard < TAKEN_AGAIN && written < TAKEN_AGAIN, "{heard:?} {written:?}");
        // Signals come again once it has asked the writer for them.
        sleep(Duration::from_secs(6).saturating_sub(whole.elapsed()));
        sessions.hear(&instances, &[0, 1, 2]);
        sessions.signal(&instances, &[0, 1, 2]);
        let asked = probes.stop();
        show(&asked, &others);
        assert!(writes(&instances.all[writer]), "who wrote goes on");
        sessions.end(&instances, cut);
        verify_at(&instances, &[0, 1, 2], &mut worlds, &asked);
    });
}

#[test]
#[ignore = "needs PostgreSQL"]
fn what_a_follower_has_said_that_it_could_not_pass_on_is_not_made_later() {
    on_machines(|machines, instances| {
        let (writer, followers) = (instances.writer(), instances.followers());
        let (cut, other) = (followers[0], followers[1]);
        let mut host = instances.client(writer);
        let party = host.register("host").create("LAN", "host");
        let mut guest = instances.client(cut);
        // By a connection that is open by now, what is asked next is on its way at once.
        guest.register("guest");
        let deaf = &machines.instances[writer].namespace;
        deafen(deaf, public_ip(machines.instances[cut].number));
        let begun = Instant::now();
        guest.join(&party, "guest").is(503);
        println!(
            "503 at a follower that the writer does not hear after {:.2} s",
            begun.elapsed().as_secs_f64()
        );
        // So the guest goes elsewhere, comes in, and leaves.
        let mut guest = instances.client(other).with_token_of(&guest);
        guest.join(&party, "guest").is(200);
        guest.ask("DELETE", &format!("/parties/{party}/peers/guest"), "").is(200);
        cure(deaf);
        // A kernel sends again what has no answer: at first after 0.2 s, and each time after twice as long.
        let whole = Instant::now();
        while whole.elapsed() < 3 * SOON {
            let answer = host.get(&format!("/parties/{party}")).is(200);
            assert!(!answer.body.contains("guest"), "back after {:?}: {}", whole.elapsed(), answer.body);
            sleep(Duration::from_millis(50));
        }
        take_changes(&instances, &[cut]);
    });
}

#[test]
#[ignore = "needs PostgreSQL"]
fn clients_elsewhere_go_on_when_the_writer_is_killed_stopped_or_without_power() {
    on_machines(|machines, mut instances| {
        let worlds = kill_writer(&mut instances, worlds(2), 0);
        let (mut worlds, _) = stop_writer(&instances, worlds);
        cut_power(machines, &mut instances, &mut worlds);
    });
}

/// The writer's machine loses its power, and is started again: nobody is told that its connections are gone, nor does it
/// know of any itself.
fn cut_power(machines: &Machines, instances: &mut Instances, worlds: &mut [World]) {
    let (old, followers) = (instances.writer(), instances.followers());
    let host = &machines.instances[old];
    let mut sessions = Sessions::open(instances, &followers);
    let probes = Probes::start(instances, "dark");
    sleep(Duration::from_millis(700));
    machines.pull(host);
    instances.all[old].kill();
    let dark = Instant::now();
    eventually("one takes over", || followers.iter().any(|at| writes(&instances.all[*at])));
    println!("the writer's power is cut: the next one writes after {:.2} s", dark.elapsed().as_secs_f64());
    take_changes(instances, &followers);
    sessions.hear(instances, &followers);
    sessions.signal(instances, &followers);
    let (logged, back) = (instances.all[old].log().len(), Instant::now());
    let next = followers.iter().copied().find(|at| writes(&instances.all[*at])).unwrap();
    let again = Host::new(&machines.lab, host.number);
    instances.all[old].setup.machine = again.machine;
    instances.all[old].restart();
    eventually("it follows", || follows(&instances.all[old], &instances.names[next], logged));
    println!("it follows {:.2} s after it is started again", back.elapsed().as_secs_f64());
    sessions.hear(instances, &[0, 1, 2]);
    sessions.signal(instances, &[0, 1, 2]);
    let asked = probes.stop();
    show(&asked, &followers);
    sessions.end(instances, old);
    verify_at(instances, &[0, 1, 2], worlds, &asked);
}

#[test]
#[ignore = "needs PostgreSQL"]
fn while_the_database_s_cable_is_pulled_changes_are_refused_and_all_else_goes_on() {
    on_machines(|machines, mut instances| {
        let host = &machines.database;
        lose_database(&mut instances, |_| machines.pull(host), |_| machines.put_in(host));
    });
}
