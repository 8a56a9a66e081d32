//! State directories that can't be used, from the start or all of a sudden.

use crate::client::create_body;
use crate::eventually;
use crate::harness::directory::Directory;
use crate::inside::Inside;
use crate::sim_disk::SimDisk;
use crate::test_daemon::Setup;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Everything under a directory.
fn contents(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        found.extend(contents(&path));
        found.push(path);
    }
    found.sort();
    found
}

/// Starts a daemon with its state here: it gives up, says why and what to do, and leaves nothing behind.
#[track_caller]
fn refuses(state: &Path, prelude: &'static str, says: &[&str]) {
    let around = state.parent().unwrap().to_owned();
    let before = contents(&around);
    let (status, said) = Setup::new(&[]).in_state(state).after(prelude).fail();
    assert_eq!(status.code(), Some(1), "{said}");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 1, "{said}");
    let place = format!("cannot use {}", state.display());
    assert!(lines[0].contains(&place), "{said}");
    assert!(says.iter().all(|part| lines[0].contains(part)), "{said}");
    assert_eq!(contents(&around), before);
}

#[test]
fn something_else_in_its_place_is_named() {
    let directory = Directory::new();
    let place = directory.state().parent().unwrap().join("here");
    fs::create_dir(&place).unwrap();
    let file = place.join("file");
    fs::write(&file, "mine").unwrap();
    refuses(&file, "", &["move it away", "--state-dir"]);
    refuses(&file.join("below"), "", &["move it away", "--state-dir"]);
    symlink(place.join("nowhere"), place.join("link")).unwrap();
    refuses(&place.join("link"), "", &["move it away", "--state-dir"]);
    fs::create_dir_all(place.join("state/lanrage.redb")).unwrap();
    refuses(&place.join("state"), "", &["move it away", "--state-dir"]);
    assert_eq!(fs::read(&file).unwrap(), b"mine");
}

const MOUNT: &str = "LANRAGE_TEST_STATE_DIR";

/// Runs a test of this file once more as another process, after shell commands with `$MOUNT` and in a mount
/// namespace of its own.
fn once_more(name: &str, script: &str, mount: &Path) {
    let status = Command::new("unshare")
        .args(["-m", "sh", "-ec", &format!("{script}\nexec \"$0\" \"$@\"")])
        .arg(std::env::current_exe().unwrap())
        .args([&format!("state_dir::{name}"), "--exact", "--ignored", "--nocapture"])
        .env(MOUNT, mount)
        .env("MOUNT", mount)
        .status()
        .unwrap();
    assert!(status.success());
}

fn place_for_others() -> (Directory, PathBuf) {
    let directory = Directory::new();
    let place = directory.state().parent().unwrap().join("here");
    fs::create_dir(&place).unwrap();
    (directory, place)
}

#[test]
#[ignore = "needs root, to mount file systems in a mount namespace of its own"]
fn what_may_not_be_written_is_named() {
    const NAME: &str = "what_may_not_be_written_is_named";
    // Root without its powers is somebody like anybody else, who can still read this binary.
    const PLAIN: &str = "exec setpriv --bounding-set=-all --inh-caps=-all \"$0\" serve";
    if let Some(mount) = std::env::var_os(MOUNT) {
        let mount = PathBuf::from(mount);
        refuses(&mount.join("read-only"), "", &["Read-only file system", "can be written"]);
        refuses(&mount.join("read-only/below"), "", &["Read-only file system", "can be written"]);
        return;
    }
    let (_directory, place) = place_for_others();
    fs::create_dir(place.join("read-only")).unwrap();
    once_more(NAME, "mount -t tmpfs -o ro tmpfs \"$MOUNT/read-only\"", &place);

    let owner = ["run as the user who owns it", "--state-dir"];
    for (name, mode) in [("private", 0o700), ("readable", 0o755)] {
        let somebodys = place.join(name);
        fs::create_dir(&somebodys).unwrap();
        fs::set_permissions(&somebodys, fs::Permissions::from_mode(mode)).unwrap();
        chown(&somebodys, Some(65_534), None).unwrap();
        refuses(&somebodys, PLAIN, &owner);
        refuses(&somebodys.join("below"), PLAIN, &owner);
    }
    let daemon = Setup::new(&[]).in_state(&place.join("file")).start();
    drop(daemon);
    let _ = fs::remove_file(place.join("file/control.sock"));
    let file = place.join("file/lanrage.redb");
    chown(place.join("file"), Some(65_534), None).unwrap();
    chown(&file, Some(65_534), None).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
    let before = fs::read(&file).unwrap();
    refuses(&place.join("file"), PLAIN, &owner);
    assert_eq!(fs::read(&file).unwrap(), before);
}

#[test]
#[ignore = "needs root, to mount small file systems in a mount namespace of its own"]
fn a_first_start_without_room_leaves_nothing_behind() {
    const NAME: &str = "a_first_start_without_room_leaves_nothing_behind";
    if let Some(mount) = std::env::var_os(MOUNT) {
        let mount = PathBuf::from(mount);
        refuses(&mount.join("4k/state"), "", &["No space left", "free some space"]);
        // Here the tables fit and the first row does not: what is left behind is whole, and used later.
        let state = mount.join("16k").join("state");
        let setup = Setup::new(&[]).in_state(&state);
        let (status, said) = setup.clone().fail();
        assert_eq!(status.code(), Some(1), "{said}");
        let last = "lanrage: the state could not be written: storage full; free some space, or choose";
        assert!(said.lines().last().unwrap().starts_with(last), "{said}");
        let grown = Command::new("mount").args(["-o", "remount,size=2m"]).arg(mount.join("16k")).status();
        assert!(grown.unwrap().success());
        let daemon = setup.start();
        daemon.client().register("host").create("LAN", "host");
        assert_eq!(daemon.metric("lanrage_store_recoveries_total"), 0);
        return;
    }
    let (_directory, place) = place_for_others();
    let mut script = String::new();
    for size in ["4k", "16k"] {
        fs::create_dir(place.join(size)).unwrap();
        script += &format!("mount -t tmpfs -o size={size} tmpfs \"$MOUNT/{size}\"\n");
        script += &format!("mkdir -m 700 \"$MOUNT/{size}/state\"\n");
    }
    once_more(NAME, &script, &place);
}

/// As a file system does after an error: ext4 with errors=remount-ro, or a card whose switch slipped.
#[test]
fn read_only_all_of_a_sudden() {
    let disk = SimDisk::default();
    let inside = Inside::start(&disk);
    let mut host = inside.client();
    let party = host.register("host").create("LAN", "host");
    let path = format!("/parties/{party}");
    disk.set_read_only(true);
    // The first one finds out.
    for _ in 0..2 {
        let answer = host.ask("POST", "/parties", &create_body("another", "host")).is(503);
        assert!(
            answer.detail().starts_with("storage failing: nothing can be changed until"),
            "{}",
            answer.body
        );
        assert!(answer.header("Retry-After").is_some());
    }
    host.get(&path).is(200);
    host.heartbeat(&party, "host").is(200);
    assert_eq!(host.metric("lanrage_store_failing"), 1);

    disk.set_read_only(false);
    eventually("it recovers", || host.ask("POST", "/auth/register?peer_id=new", "").status == 200);
    assert_eq!(host.metric("lanrage_store_failing"), 0);
    let made = host.create("third", "host");
    inside.stop().unwrap();
    let inside = Inside::start(&disk);
    let mut again = inside.client();
    again.token = host.token.clone();
    again.get(&path).is(200);
    again.get(&format!("/parties/{made}")).is(200);
    inside.stop().unwrap();
}

/// An open file keeps its disk; where that was is an empty directory, on another one.
#[test]
#[ignore = "needs root, to mount file systems in a mount namespace of its own"]
fn where_a_disk_was_unmounted_nothing_is_written() {
    const NAME: &str = "where_a_disk_was_unmounted_nothing_is_written";
    if let Some(mount) = std::env::var_os(MOUNT) {
        let disk = PathBuf::from(mount).join("disk");
        for state in [disk.clone(), disk.join("state")] {
            assert!(
                Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&disk).status().unwrap().success()
            );
            let daemon = Setup::new(&[]).in_state(&state).start();
            let mut host = daemon.client();
            let party = host.register("host").create("LAN", "host");
            assert!(Command::new("umount").arg("-l").arg(&disk).status().unwrap().success());
            host.ask("POST", "/parties", &create_body("another", "host")).is(503);
            host.get(&format!("/parties/{party}")).is(200);
            assert!(contents(&disk).is_empty(), "{:?}", contents(&disk));
            let log = daemon.setup.log();
            assert!(log.contains("its directory is on another file system now"), "{log}");
        }
        return;
    }
    let (_directory, place) = place_for_others();
    fs::create_dir(place.join("disk")).unwrap();
    once_more(NAME, "true", &place);
}
