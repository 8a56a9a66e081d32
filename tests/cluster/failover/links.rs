//! Links that are cut, while everybody at their ends goes on.

use super::*;
use crate::cable::Cable;
use crate::database::free_port;
use crate::test_daemon::Setup;
use std::net::SocketAddr;

const ROOMY: [(&str, &str); 2] =
    [("limits.connections_per_source", "200"), ("limits.sessions_per_source", "200")];

/// Three instances, the first of which writes. These are the ones whose way to the database is the cable.
fn instances(far: &[usize]) -> (Instances, Cable) {
    let database = Database::start();
    let cable = Cable::to(SocketAddr::from(([127, 0, 0, 1], database.port)));
    let by_cable = format!("postgres://postgres@{}/postgres", cable.address);
    let url = |at: usize| if far.contains(&at) { by_cable.clone() } else { database.url() };
    let (setups, names): (Vec<Setup>, Vec<String>) = (0..3).map(|at| setup(&url(at), &ROOMY)).unzip();
    let mut setups = setups.into_iter();
    let mut all: Vec<TestDaemon> = setups.next().map(writer).into_iter().collect();
    all.extend(setups.map(follower));
    (Instances { all, names, database }, cable)
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_writer_cut_off_from_the_database_is_replaced_and_follows_when_the_link_is_whole() {
    let _alone = alone();
    let (instances, cable) = instances(&[0]);
    let followers = [1, 2];
    let mut sessions = Sessions::open(&instances, &followers);
    let probes = Probes::start(&instances, "cut");
    let running = Running::start(worlds(4), &instances.addresses());
    sleep(Duration::from_millis(700));
    let logged = instances.all[0].log().len();
    cable.cut();
    let cut = Instant::now();
    eventually("one takes over", || followers.iter().any(|at| writes(&instances.all[*at])));
    println!(
        "writer cut off from the database: the next one writes after {:.2} s",
        cut.elapsed().as_secs_f64()
    );
    // At the one that is cut off nothing is changed, and all else goes on.
    let begun = Instant::now();
    let answer = instances.client(0).ask("POST", "/auth/register?peer_id=late", "").is(503);
    assert!(answer.header("Retry-After").is_some() && begun.elapsed() < 2 * SOON, "{:?}", begun.elapsed());
    let mut host = instances.client(0).with_token_of(&sessions.host);
    host.get(&format!("/parties/{}", sessions.party)).is(200);
    take_changes(&instances, &followers);
    sessions.hear(&instances, &followers);
    sessions.signal(&instances, &followers);
    cable.mend();
    let mended = Instant::now();
    let mut worlds = running.join();
    let log = || instances.all[0].log().split_off(logged);
    eventually("it is fenced", || log().contains("another instance has taken over"));
    println!("fenced {:.2} s after the link is whole again", mended.elapsed().as_secs_f64());
    let next = followers.into_iter().find(|at| writes(&instances.all[*at])).unwrap();
    eventually("it follows", || follows(&instances.all[0], &instances.names[next], logged));
    eventually("it serves", || figure(&instances.all[0], "lanrage_instance_writes") == Some(0.0));
    assert_eq!(figure(&instances.all[0], "lanrage_fenced_total"), Some(1.0));
    sessions.hear(&instances, &[0, 1, 2]);
    sessions.signal(&instances, &[0, 1, 2]);
    let asked = probes.stop();
    show(&asked, &followers);
    sessions.end(&instances, 0);
    verify_at(&instances, &[0, 1, 2], &mut worlds, &asked);
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_follower_cut_off_from_the_database_passes_changes_on_and_catches_up() {
    let _alone = alone();
    let (instances, cable) = instances(&[2]);
    let mut sessions = Sessions::open(&instances, &[0, 1, 2]);
    let running = Running::start(worlds(4), &instances.addresses());
    let probes = Probes::start(&instances, "deaf");
    sleep(Duration::from_millis(700));
    cable.cut();
    let cut = Instant::now();
    // The one that writes makes it, but this one does not see it.
    instances.client(2).register("meanwhile").join(&sessions.party, "meanwhile").is(200);
    let mut host = instances.client(2).with_token_of(&sessions.host);
    let answer = host.get(&format!("/parties/{}", sessions.party)).is(200);
    assert!(!answer.body.contains("meanwhile"), "{}", answer.body);
    // Who is new is asked about.
    let mut newcomer = instances.client(0);
    newcomer.register("newcomer").join(&sessions.party, "newcomer").is(200);
    let mut newcomer = instances.client(2).with_token_of(&newcomer);
    newcomer.get(&format!("/parties/{}", sessions.party)).is(200);
    sleep(Duration::from_secs(5).saturating_sub(cut.elapsed()));
    let lag = figure(&instances.all[2], "lanrage_follower_lag_seconds").unwrap();
    assert!((4.0..9.0).contains(&lag), "{lag}");
    let mut worlds = running.stop();
    cable.mend();
    let mended = Instant::now();
    sessions.hear_of("peer_joined", &["peer", "peer_id"], "newcomer");
    println!(
        "follower cut off from the database for 5 s: its changes were made, and its session hears of others' {:.2} s \
         after the link is whole again",
        mended.elapsed().as_secs_f64()
    );
    assert!(mended.elapsed() < 4 * SOON);
    sessions.hear(&instances, &[0, 1, 2]);
    sessions.signal(&instances, &[0, 1, 2]);
    let asked = probes.stop();
    show(&asked, &[0, 1]);
    assert!(writes(&instances.all[0]), "who wrote goes on");
    sessions.end(&instances, 2);
    verify_at(&instances, &[0, 1, 2], &mut worlds, &asked);
}

#[test]
#[ignore = "needs PostgreSQL"]
fn followers_cut_off_from_the_writer_go_on_with_all_that_changes_nothing() {
    let _alone = alone();
    let database = Database::start();
    // Where others reach the one that writes.
    let http = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let cable = Cable::to(http);
    let (own, http) = (format!("http://{}", cable.address), http.to_string());
    let first = [&ROOMY[..], &[("instance_url", &own), ("http", &http)]].concat();
    let (setups, names): (Vec<Setup>, Vec<String>) =
        [&first[..], &ROOMY, &ROOMY].into_iter().map(|more| setup(&database.url(), more)).unzip();
    let mut setups = setups.into_iter();
    let mut all: Vec<TestDaemon> = setups.next().map(writer).into_iter().collect();
    all.extend(setups.map(follower));
    let instances = Instances { all, names, database };
    let mut sessions = Sessions::open(&instances, &[0, 1, 2]);
    cable.cut();
    for at in [1, 2] {
        let begun = Instant::now();
        let path = format!("/auth/register?peer_id=late{at}");
        let answer = instances.client(at).ask("POST", &path, "").is(503);
        assert!(answer.header("Retry-After").is_some());
        println!(
            "cut off from the writer: 503 at instance {at} after {:.2} s",
            begun.elapsed().as_secs_f64()
        );
        assert!(begun.elapsed() < Duration::from_secs(7), "{:?}", begun.elapsed());
        let mut host = instances.client(at).with_token_of(&sessions.host);
        host.get(&format!("/parties/{}", sessions.party)).is(200);
        host.heartbeat(&sessions.party, "host").is(200);
    }
    // What happens at the writer is heard of all the same: that comes from the database.
    sessions.hear(&instances, &[0]);
    cable.mend();
    take_changes(&instances, &[1, 2]);
    sessions.hear(&instances, &[0, 1, 2]);
    // An answer that was given to a question from before comes to nobody, and what was in it once more.
    sleep(4 * SOON);
    sessions.signal(&instances, &[0, 1, 2]);
    assert!(writes(&instances.all[0]), "who wrote goes on");
    sessions.end(&instances, 1);
}
