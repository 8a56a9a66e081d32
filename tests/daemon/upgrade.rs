//! From the first release to this program while people play, and not back.

use crate::harness::game::{Game, PROGRAM, first_release};
use crate::test_daemon::Setup;
use std::fs;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::Command;

/// A file that the first release made: a party of two, somebody banned from it, and another relay.
#[test]
fn the_state_of_the_first_release_is_taken_over() {
    let setup = Setup::new(&[]);
    let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/daemon/first_release.redb.gz");
    let unpacked = Command::new("gzip").arg("-dc").arg(packed).output().unwrap();
    assert!(unpacked.status.success(), "{unpacked:?}");
    fs::DirBuilder::new().mode(0o700).create(setup.directory().state()).unwrap();
    fs::write(setup.directory().state_file(), unpacked.stdout).unwrap();
    let daemon = setup.start();
    let mut owner = daemon.owner();
    let party = owner.get("/parties/53f1532f6f45").is(200);
    assert_eq!(party.text(&["party", "name"]), "Friday night");
    assert_eq!(party.text(&["party", "host_id"]), "ann");
    assert_eq!(party.text(&["party", "peers", "bob", "name"]), "Bob");
    assert_eq!(party.text(&["network", "peers", "ann"]), "10.66.0.2");
    assert_eq!(party.text(&["network", "peers", "bob"]), "10.66.0.3");
    let hub = "5XwD2IlTp1x4o65OhSQK9FwDtvqKD85u87qDvdssVGw=";
    assert_eq!(party.text(&["network", "relay", "public_key"]), hub);
    assert!(owner.get("/parties/53f1532f6f45/bans").is(200).body.contains("mallory"));
    assert_eq!(daemon.metric("lanrage_store_recoveries_total"), 0);
}

#[test]
#[ignore = "needs the program of the first release"]
fn people_play_on_and_an_older_program_refuses_what_a_newer_one_wrote() {
    let relay = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let http = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let new = Setup::new(&[("relay", &relay.to_string()), ("http", &http.to_string())]);
    let old = new.clone().of(first_release().join(PROGRAM));
    let mut first = old.clone().start();
    let mut game = Game::start(http, relay);
    let mut second = None;
    let course = game.go_on(|| {
        assert!(first.terminate().0.success());
        second = Some(new.clone().start());
    });
    course.assert_good();
    game.assert_kept(http);

    assert!(second.take().unwrap().terminate().0.success());
    let file = new.directory().state_file();
    let written = fs::read(&file).unwrap();
    let (status, said) = old.fail();
    assert_eq!(status.code(), Some(1));
    assert!(said.contains("it was written by a newer lanrage"), "{said}");
    assert!(fs::read(&file).unwrap() == written, "it changed what it does not understand");
    let _third = new.start();
    game.assert_kept(http);
}

/// For services: the game plays at the usual ports, and a command upgrades what serves there.
#[test]
#[ignore = "needs a daemon of the first release, and the command that upgrades it"]
fn people_play_on_while_a_service_is_upgraded() {
    let command = std::env::var("LANRAGE_UPGRADE").expect("LANRAGE_UPGRADE has to be a shell's command");
    let [http, relay] = [8667, 51820].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    let mut game = Game::start(http, relay);
    let course = game.go_on(|| {
        let status = Command::new("sh").args(["-ec", &command]).status().unwrap();
        assert!(status.success(), "{command}: {status}");
    });
    course.assert_good();
    game.assert_kept(http);
}
