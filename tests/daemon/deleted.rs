//! State files that are deleted, renamed or replaced while the daemon has them open.

use crate::client::{Client, create_body};
use crate::eventually;
use crate::test_daemon::TestDaemon;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

fn furnished() -> (TestDaemon, Client, String) {
    let daemon = TestDaemon::start();
    let mut host = daemon.client();
    let party = host.register("host").create("before", "host");
    (daemon, host, party)
}

/// Whatever was acknowledged, before and after, is there after a crash.
#[track_caller]
fn survives(mut daemon: TestDaemon, host: &mut Client, before: &str) {
    let after = host.create("after", "host");
    let file = daemon.setup.directory().state_file();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(daemon.metric("lanrage_store_failing"), 0);
    let later = host.create("later", "host");
    // It is locked as any other.
    let (status, said) = daemon.setup.clone().fail();
    assert!(status.code() == Some(1) && said.contains("is in use"), "{said}");

    daemon.kill();
    daemon.restart();
    let mut owner = daemon.owner();
    for party in [before, &after, &later] {
        owner.get(&format!("/parties/{party}")).is(200);
    }
    assert_eq!(daemon.metric("lanrage_store_recoveries_total"), 0);
    let entries = fs::read_dir(daemon.setup.directory().state()).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name != "moved");
    names.sort();
    assert_eq!(names, ["control.sock", "lanrage.redb"]);
}

#[test]
fn a_deleted_file_is_written_again() {
    let (daemon, mut host, before) = furnished();
    fs::remove_file(daemon.setup.directory().state_file()).unwrap();
    survives(daemon, &mut host, &before);
}

#[test]
fn a_renamed_file_is_written_again() {
    let (daemon, mut host, before) = furnished();
    let file = daemon.setup.directory().state_file();
    fs::rename(&file, file.with_file_name("moved")).unwrap();
    survives(daemon, &mut host, &before);
}

#[test]
fn a_deleted_directory_is_made_again() {
    let (daemon, mut host, before) = furnished();
    fs::remove_dir_all(daemon.setup.directory().state()).unwrap();
    survives(daemon, &mut host, &before);
}

#[test]
fn a_file_that_is_deleted_is_written_at_the_end_at_the_latest() {
    let (mut daemon, _host, before) = furnished();
    fs::remove_file(daemon.setup.directory().state_file()).unwrap();
    assert_eq!(daemon.terminate().0.code(), Some(0));
    let log = daemon.setup.log();
    assert!(log.contains("ERROR") && log.contains("was deleted or renamed while in use"), "{log}");
    daemon.restart();
    daemon.owner().get(&format!("/parties/{before}")).is(200);
}

/// Such as a backup that is brought back while the daemon runs: nobody but its owner knows which one is meant.
#[test]
fn a_file_in_its_place_is_left_alone_and_nothing_is_lost() {
    let (mut daemon, mut host, before) = furnished();
    let file = daemon.setup.directory().state_file();
    let aside = |daemon: &TestDaemon| -> Vec<PathBuf> {
        let entries =
            fs::read_dir(daemon.setup.directory().state()).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.to_string_lossy().contains(".replaced-")).collect()
    };
    let strange = file.with_file_name("strange");
    fs::write(&strange, "somebody's backup").unwrap();
    fs::rename(&strange, &file).unwrap();
    for _ in 0..2 {
        let answer = host.ask("POST", "/parties", &create_body("refused", "host")).is(503);
        assert!(answer.detail().starts_with("storage failing"), "{}", answer.body);
    }
    // All that does not change anything goes on.
    host.get(&format!("/parties/{before}")).is(200);
    host.heartbeat(&before, "host").is(200);
    assert_eq!(fs::read(&file).unwrap(), b"somebody's backup");
    let saved = aside(&daemon);
    assert_eq!(saved.len(), 1, "{saved:?}");
    assert!(
        daemon.setup.log().contains(&format!("saved as {}", saved[0].display())),
        "{}",
        daemon.setup.log()
    );

    // It says that it did not end in good order, and what it saved is whole.
    assert_eq!(daemon.terminate().0.code(), Some(1));
    assert_eq!(fs::read(&file).unwrap(), b"somebody's backup");
    assert_eq!(aside(&daemon), saved);
    fs::rename(&saved[0], &file).unwrap();
    daemon.restart();
    assert_eq!(daemon.metric("lanrage_store_recoveries_total"), 0);
    daemon.owner().get(&format!("/parties/{before}")).is(200);
}

#[test]
fn when_the_other_file_is_gone_it_goes_on() {
    let (daemon, mut host, before) = furnished();
    let file = daemon.setup.directory().state_file();
    let strange = file.with_file_name("strange");
    fs::write(&strange, "somebody's backup").unwrap();
    fs::rename(&strange, &file).unwrap();
    host.ask("POST", "/parties", &create_body("refused", "host")).is(503);
    fs::rename(&file, &strange).unwrap();
    eventually("it recovers", || host.ask("POST", "/auth/register?peer_id=new", "").status == 200);
    fs::remove_file(&strange).unwrap();
    for entry in fs::read_dir(daemon.setup.directory().state()).unwrap() {
        let path = entry.unwrap().path();
        if path.to_string_lossy().contains(".replaced-") {
            fs::remove_file(path).unwrap();
        }
    }
    survives(daemon, &mut host, &before);
}
