//! State files that are damaged, or somebody else's.

use crate::Random;
use crate::test_daemon::{Setup, TestDaemon};
use lanrage::store::schema::Table;
use lanrage::store::{Row, Store};
use lanrage::time::{Instant as Moment, Now, UnixTime};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// A daemon that was stopped in good order with one party.
fn furnished() -> (TestDaemon, String) {
    let mut daemon = TestDaemon::start();
    let party = daemon.client().register("host").create("LAN", "host");
    assert!(daemon.terminate().0.success());
    (daemon, party)
}

fn set_aside(daemon: &TestDaemon) -> usize {
    let entries = std::fs::read_dir(daemon.setup.directory().state()).unwrap();
    entries
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().contains(".corrupt-"))
        .count()
}

#[test]
fn an_intact_file_is_used() {
    let (mut daemon, party) = furnished();
    daemon.restart();
    daemon.owner().get(&format!("/parties/{party}")).is(200);
    assert_eq!((daemon.metric("lanrage_store_recoveries_total"), set_aside(&daemon)), (0, 0));
}

/// Who has copied a backup over the state file meant to go back to it, and not to begin with nothing.
#[test]
fn a_backup_in_its_place_is_left_there_and_said_so() {
    let (daemon, _) = furnished();
    let file = daemon.setup.directory().state_file();
    let backup = b"{\"secret\":\"Keep this file like a password.\"}\n";
    std::fs::write(&file, backup).unwrap();
    let (status, said) = daemon.setup.clone().fail();
    assert_eq!(status.code(), Some(1));
    assert!(said.contains("is a backup") && said.contains("`lanrage restore FILE`"), "{said}");
    assert_eq!(std::fs::read(&file).unwrap(), backup);
    assert_eq!(set_aside(&daemon), 0);
}

#[test]
fn a_damaged_file_is_set_aside_and_said_so() {
    for damage in ["noise at the start", "noise everywhere", "cut to a part", "cut to a few bytes"] {
        let (mut daemon, party) = furnished();
        let file = daemon.setup.directory().state_file();
        let length = std::fs::metadata(&file).unwrap().len();
        let open = std::fs::OpenOptions::new().write(true).open(&file).unwrap();
        let noise: Vec<u8> = (0..length).map(|at| (at * 31 % 251) as u8).collect();
        match damage {
            "noise at the start" => open.write_all_at(&noise[..4096], 0).unwrap(),
            "noise everywhere" => open.write_all_at(&noise, 0).unwrap(),
            "cut to a part" => open.set_len(length / 3).unwrap(),
            _ => open.set_len(10).unwrap(),
        }
        drop(open);
        daemon.restart();
        assert_eq!(daemon.metric("lanrage_store_recoveries_total"), 1, "{damage}");
        assert_eq!(set_aside(&daemon), 1, "{damage}");
        let log = daemon.setup.log();
        assert!(log.contains("ERROR") && log.contains(".corrupt-"), "{damage}: {log}");
        daemon.owner().get(&format!("/parties/{party}")).is(404);
        // From here on all is well.
        let party = daemon.client().register("host").create("LAN", "host");
        assert!(daemon.terminate().0.success());
        daemon.restart();
        daemon.owner().get(&format!("/parties/{party}")).is(200);
        assert_eq!(daemon.metric("lanrage_store_recoveries_total"), 0);
    }
}

#[test]
fn a_second_daemon_on_the_same_state_gives_up() {
    let mut daemon = TestDaemon::start();
    let party = daemon.client().register("host").create("LAN", "host");
    let start = Instant::now();
    let (status, said) = daemon.setup.clone().fail();
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("another lanrage is running") && said.contains("--state-dir"), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    assert!(daemon.is_running());
    daemon.owner().get(&format!("/parties/{party}")).is(200);
    daemon.client().register("bob").join(&party, "bob").is(200);
}

#[test]
fn a_taken_port_is_told() {
    let daemon = TestDaemon::start();
    let address = daemon.http.to_string();
    let (status, said) = Setup::new(&[("http", &address)]).fail();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("already in use") && said.contains("--http"), "{said}");
}

/// A state file, the same in every run, of many pages.
fn specimen(setup: &Setup) -> Vec<u8> {
    let clock = || Now { instant: Moment::ZERO, unix: UnixTime::from_micros(1_800_000_000_000_000) };
    let file = setup.directory().state_file();
    let (store, _) = Store::open(&file, clock).unwrap();
    for commit in 0..8 {
        let row = |number: usize| Row {
            table: Table::ALL[1 + number % 5],
            key: format!("row-{}", number + commit * 3),
            value: Some(format!("{{\"filler\":\"{}\"}}", "y".repeat(150)).into_bytes()),
        };
        smol::block_on(store.durable(store.submit((0..40).map(row).collect()))).unwrap();
    }
    store.close().unwrap();
    std::fs::read(&file).unwrap()
}

#[test]
fn a_file_that_the_database_engine_panics_over_is_set_aside() {
    let setup = Setup::new(&[("log", "error")]);
    let image = specimen(&setup);
    let pages: Vec<usize> = (0..image.len() / 4096)
        .filter(|page| image[page * 4096..][..4096].iter().any(|byte| *byte != 0))
        .collect();
    let mut random = Random::new(5);
    let (mut panics, mut kept) = (0, 0);
    for _ in 0..40 {
        let mut any = || 4096 * pages[random.below(pages.len())];
        // As when flash mixes up its blocks.
        let (from, to) = (any(), any());
        let mut damaged = image.clone();
        damaged.copy_within(from..from + 4096, to);
        std::fs::remove_dir_all(setup.directory().state()).unwrap();
        std::fs::create_dir(setup.directory().state()).unwrap();
        std::fs::write(setup.directory().state_file(), &damaged).unwrap();
        let before = setup.log().len();
        let mut daemon = setup.clone().start();
        let said = setup.log().split_off(before);
        if said.contains("panicked") {
            panics += 1;
            assert!(!said.contains("at 0x0000000000000000"), "{said}");
            assert_eq!(set_aside(&daemon), 1, "{said}");
        }
        kept += usize::from(set_aside(&daemon) == 0);
        daemon.client().register("host").create("LAN", "host");
        assert!(daemon.terminate().0.success(), "{said}");
    }
    assert!(panics > 0 && kept > 0, "{panics} panics, {kept} kept: this shows nothing");
}
