//! The state from a file into the database and back, and backups.

use crate::database::{Database, instance};
use crate::harness::daemon::binary;
use crate::harness::directory::Directory;
use crate::instances::writer;
use crate::load::{World, run, verify};
use crate::test_daemon::{Setup, TestDaemon};
use std::path::Path;
use std::process::{Command, Output};
use std::thread::sleep;
use std::time::Duration;

fn lanrage(arguments: &[&str], url: &str) -> Output {
    let mut command = Command::new(binary());
    command.args(arguments).env_clear().env("LANRAGE_STORE", url).output().unwrap()
}

#[track_caller]
fn good(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[track_caller]
fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Every row of a state file, secrets included.
fn rows(file: &Path) -> Vec<u8> {
    let mut lines = Vec::new();
    lanrage::store::dump::file(file, lanrage::store::dump::Secrets::Include, &mut lines).unwrap();
    assert!(lines.len() > 1000);
    lines
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_state_goes_into_the_database_and_back() {
    let database = Database::start();
    let (url, files) = (database.socket_url(), Directory::new());
    // A state in a file, as a daemon leaves it.
    let mut before = Setup::new(&[]).start();
    let mut worlds = run((0..4).map(World::new).collect(), &mut before, |daemon| {
        sleep(Duration::from_millis(700));
        daemon.signal(rustix::process::Signal::TERM);
    });
    assert!(before.wait().success());
    let file = before.setup.directory().state_file();
    let path = file.to_str().unwrap();
    println!("{}", good(&lanrage(&["db", "import", path], &url)).trim());
    assert!(refused(&lanrage(&["db", "import", path], &url)).contains("is not empty"));

    // Back, unchanged, the hub's key and the version included.
    let back = files.join("back.redb");
    println!("{}", good(&lanrage(&["db", "export", back.to_str().unwrap()], &url)).trim());
    assert_eq!(rows(&file), rows(&back));
    assert!(refused(&lanrage(&["db", "export", back.to_str().unwrap()], &url)).contains("exists"));
    assert_eq!(files.names(), ["back.redb"]);

    // A daemon over the database has all of it, and while it runs neither is possible.
    let mut daemon = writer(Setup::new(&[("store", &url), ("instance", &instance())]));
    verify(&mut worlds, &daemon);
    let new = files.join("new.redb");
    assert!(refused(&lanrage(&["db", "export", new.to_str().unwrap()], &url)).contains("stop it first"));
    assert!(refused(&lanrage(&["db", "import", path], &url)).contains("stop it first"));
    let busy = Setup::new(&[]).start();
    let busy_file = busy.setup.directory().state_file();
    let import = ["db", "import", "--realm", "other", busy_file.to_str().unwrap()];
    assert!(refused(&lanrage(&import, &url)).contains("is in use"));

    // A backup of it while it runs has the same.
    let copy = backup(&daemon, &files);
    let (status, _) = daemon.terminate();
    assert!(status.success());
    // What would look into a state file says that the state is not there.
    let (there, out) = (copy.to_str().unwrap(), files.join("nothing"));
    for command in
        [&["restore", there][..], &["backup", out.to_str().unwrap()], &["db", "check"], &["db", "dump"]]
    {
        let mut command_here = Command::new(binary());
        command_here.args(command).env_clear().env("LANRAGE_STORE", &url);
        let state = Directory::new();
        let output = command_here.env("LANRAGE_STATE_DIR", state.state()).output().unwrap();
        assert!(refused(&output).contains("the state is in a database"), "{command:?}");
    }
    good(&lanrage(&["db", "export", new.to_str().unwrap()], &url));
    let without_stop = |rows: Vec<u8>| -> Vec<String> {
        let text = String::from_utf8(rows).unwrap();
        text.lines()
            .filter(|line| !line.contains("stopped_at") && !line.contains("\"rows\":"))
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(without_stop(std::fs::read(&copy).unwrap()), without_stop(rows(&new)));

    // And one over the file that came back, too.
    let last = Setup::new(&[]);
    std::fs::create_dir_all(last.directory().state()).unwrap();
    std::fs::rename(&new, last.directory().state_file()).unwrap();
    verify(&mut worlds, &last.start());
}

fn backup(daemon: &TestDaemon, files: &Directory) -> std::path::PathBuf {
    let copy = files.join("copy");
    let output = Command::new(binary())
        .args(["backup", copy.to_str().unwrap()])
        .env_clear()
        .env("LANRAGE_STATE_DIR", daemon.setup.directory().state())
        .output()
        .unwrap();
    println!("{}", good(&output).trim());
    copy
}

#[test]
#[ignore = "needs PostgreSQL"]
fn realms_and_instances_do_not_mix() {
    let database = Database::start();
    let url = database.socket_url();
    let one = writer(Setup::new(&[("store", &url), ("realm", "one")]));
    let two = writer(Setup::new(&[("store", &url), ("realm", "two")]));
    one.client().register("host").create("LAN", "host");
    // Free there, as it is another realm.
    two.client().register("host").create("LAN", "host");
    let keys = "select count(distinct value) from lanrage.rows where key = 'hub_private_key'";
    assert_eq!(database.query(keys).as_deref(), Some("2"));
    // A later version's rows are refused, and nothing is taken from who has them.
    database
        .query("update lanrage.rows set value = '99' where realm = 'two' and key = 'schema_version'")
        .unwrap();
    let (status, said) = Setup::new(&[("store", &url), ("realm", "two")]).fail();
    assert_eq!(status.code(), Some(1));
    assert!(said.contains("schema version 99"), "{said}");
    database.query("update lanrage.version set version = 99").unwrap();
    let (status, said) = Setup::new(&[("store", &url), ("realm", "three")]).fail();
    assert_eq!(status.code(), Some(1));
    assert!(said.contains("version 99") && said.contains("newer"), "{said}");
}

#[test]
#[ignore = "needs PostgreSQL"]
fn what_is_wrong_with_the_database_is_said() {
    let database = Database::start();
    for (url, expected) in [
        (format!("{}?sslmode=require", database.url()), "tunnel"),
        (database.url().replace("/postgres", "/nowhere"), "\"nowhere\" does not exist"),
        ("mysql://me:s3cret@db".to_owned(), "expected postgres://"),
    ] {
        let (status, said) = Setup::new(&[("store", &url)]).fail();
        assert!(matches!(status.code(), Some(1 | 2)), "{said}");
        assert!(said.contains(expected) && !said.contains("s3cret"), "{said}");
    }
    // Who may only use the tables that others made can.
    database.query("create role plain login").unwrap();
    let plain = database.socket_url().replace("user=postgres", "user=plain");
    let (status, said) = Setup::new(&[("store", &plain)]).fail();
    assert_eq!(status.code(), Some(1));
    assert!(said.contains("permission denied"), "{said}");
    drop(Setup::new(&[("store", &database.socket_url()), ("realm", "x")]).start());
    database.query("grant usage on schema lanrage to plain; grant select, insert, update, delete on all tables in schema lanrage to plain").unwrap();
    writer(Setup::new(&[("store", &plain)])).client().register("host");
}
