//! kill -9 under load: an answer with 200 was a promise.

use crate::Random;
use crate::load::{World, run, verify};
use crate::test_daemon::TestDaemon;
use std::time::Duration;

fn rounds(count: usize) {
    let mut daemon = TestDaemon::start();
    let mut worlds: Vec<World> = (0..4).map(World::new).collect();
    let mut random = Random::new(9);
    let mut empty = 0;
    for round in 0..count {
        let pause = Duration::from_millis(30 + random.below(300) as u64);
        let before: usize = worlds.iter().map(|world| world.acknowledged).sum();
        worlds = run(worlds, &mut daemon, |daemon| {
            std::thread::sleep(pause);
            daemon.kill();
        });
        let acknowledged = worlds.iter().map(|world| world.acknowledged).sum::<usize>() - before;
        daemon.restart();
        verify(&mut worlds, &daemon);
        assert_eq!(daemon.metric("lanrage_store_recoveries_total"), 0, "round {round}");
        // With a slow disk a short round may come to nothing, but not ten in a row.
        empty = if acknowledged > 0 { 0 } else { empty + 1 };
        assert!(empty < 10, "round {round}: the last ten changed nothing");
    }
    let acknowledged: usize = worlds.iter().map(|world| world.acknowledged).sum();
    assert!(acknowledged > 5 * count, "{acknowledged} changes in {count} rounds say little");
}

#[test]
fn what_was_acknowledged_survives_being_killed() {
    rounds(5);
}

#[test]
#[ignore = "takes minutes"]
fn what_was_acknowledged_survives_being_killed_200_times() {
    rounds(200);
}
