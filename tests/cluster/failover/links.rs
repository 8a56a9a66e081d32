//! Links that are cut, while everybody at their ends goes on.

use super::*;
use crate::cable::Cable;
use crate::database::free_port;
use crate::instances::ROOMY;
use std::net::SocketAddr;

/// Three instances, the first of which writes. These are the ones whose way to the database is the cable.
fn instances(far: &[usize]) -> (Instances, Cable) {
    let database = Database::start();
    let cable = Cable::to(SocketAddr::from(([127, 0, 0, 1], database.port)));
    let by_cable = format!("postgres://postgres@{}/postgres", cable.address);
    let straight = database.url();
    let url = |at: usize| if far.contains(&at) { &by_cable } else { &straight };
    (Instances::of((0..3).map(|at| setup(url(at), &ROOMY)), database), cable)
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_writer_cut_off_from_the_database_is_replaced_and_follows_when_the_link_is_whole() {
    let _alone = alone();
    let (instances, cable) = instances(&[0]);
    let mut absence = Absence::begin(&instances, "cut", worlds(4));
    cable.cut();
    absence.old_one_reads(instances.client(0));
    absence.another_writes("writer cut off from the database");
    cable.mend();
    absence.end();
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
    let url = database.url();
    let each = [&first[..], &ROOMY, &ROOMY].into_iter();
    let instances = Instances::of(each.map(|more| setup(&url, more)), database);
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
