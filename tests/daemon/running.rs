//! What surrounds the process: who reads its log, signals before it is ready, variables of others, few threads.

use crate::eventually;
use crate::harness::daemon::binary;
use crate::harness::directory::Directory;
use crate::test_daemon::Setup;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Both ends of something that a log goes to.
struct Log {
    reader: Box<dyn Read>,
    writer: OwnedFd,
}

impl Log {
    fn pipe() -> Self {
        let (reader, writer) = io::pipe().unwrap();
        nonblocking(&reader, true);
        Log { reader: Box::new(reader), writer: writer.into() }
    }

    /// As systemd-journald gives one to each service.
    fn socket() -> Self {
        let (reader, writer) = UnixStream::pair().unwrap();
        nonblocking(&reader, true);
        Log { reader: Box::new(reader), writer: writer.into() }
    }

    /// Writes to it until nothing fits any more.
    fn fill(&self) {
        nonblocking(&self.writer, true);
        for size in [4096, 1] {
            while rustix::io::write(&self.writer, &vec![b'#'; size]).is_ok() {}
        }
        nonblocking(&self.writer, false);
    }

    /// Reads all that is there.
    fn read(&mut self) -> String {
        let mut text = Vec::new();
        let _ = self.reader.read_to_end(&mut text);
        String::from_utf8(text).unwrap().replace('#', "")
    }

    fn setup(&self) -> (Setup, Stdio) {
        (Setup::new(&[]), self.writer.try_clone().unwrap().into())
    }
}

fn nonblocking(fd: impl AsFd, is_so: bool) {
    let flags = fcntl_getfl(&fd).unwrap();
    fcntl_setfl(&fd, if is_so { flags | OFlags::NONBLOCK } else { flags - OFlags::NONBLOCK }).unwrap();
}

fn stops_nothing(mut log: Log) {
    log.fill();
    let (setup, output) = log.setup();
    let mut daemon = setup.start_logging_to(output);
    let mut host = daemon.client();
    host.register("host");
    for _ in 0..3 {
        host.create("LAN", "host");
        let party = host.create("another", "host");
        host.ask("DELETE", &format!("/parties/{party}"), "").is(200);
    }
    let lost = daemon.metric("lanrage_log_lines_lost_total");
    assert!(lost >= 3, "{lost}");
    assert!(
        daemon.say("status").contains(" lines lost, because nobody read them"),
        "{}",
        daemon.say("status")
    );

    // Somebody reads again: what is missing is said before what is new.
    assert_eq!(log.read(), "");
    host.create("third", "host");
    let said = log.read();
    let first = format!("WARN {lost} lines of the log were lost: nobody read them\nINFO party ");
    assert!(said.starts_with(&first), "{said}");
    assert_eq!(daemon.metric("lanrage_log_lines_lost_total"), lost);

    // What it has to say at the end, a failure included, does not wait either.
    log.fill();
    let mut second = daemon.setup.command().stderr(log.setup().1).spawn().unwrap();
    eventually("the second daemon does not give up", || second.try_wait().unwrap().is_some());
    assert_eq!(second.wait().unwrap().code(), Some(1));
    let (status, took) = daemon.terminate();
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(2), "it took {took:?}");
}

#[test]
fn a_log_pipe_that_nobody_reads_stops_nothing() {
    stops_nothing(Log::pipe());
}

#[test]
fn a_log_socket_that_nobody_reads_stops_nothing() {
    stops_nothing(Log::socket());
}

/// What shares the pipe, such as the shell that started it, would not expect O_NONBLOCK.
#[test]
fn the_log_of_others_stays_as_it_is() {
    let log = Log::pipe();
    let (setup, output) = log.setup();
    let _house = setup.start_logging_to(output);
    assert!(!fcntl_getfl(&log.writer).unwrap().contains(OFlags::NONBLOCK));
}

/// A start that waits for its settings file, which is a pipe.
fn waiting(setup: &Setup) -> std::process::Child {
    fs::remove_file(setup.file()).unwrap();
    assert!(Command::new("mkfifo").arg(setup.file()).status().unwrap().success());
    let child = setup.spawn();
    let command = || fs::read(format!("/proc/{}/cmdline", child.id())).unwrap();
    eventually("it is not started", || !command().starts_with(b"sh") && command().ends_with(b"\0serve\0"));
    std::thread::sleep(Duration::from_millis(200));
    child
}

#[test]
fn a_hangup_before_anything_is_ready_is_kept_for_later() {
    let setup = Setup::new(&[]).with_file("");
    let mut child = waiting(&setup);
    for _ in 0..3 {
        kill_process(Pid::from_child(&child), Signal::HUP).unwrap();
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(child.try_wait().unwrap(), None, "SIGHUP ended it");
    fs::OpenOptions::new().write(true).open(setup.file()).unwrap().write_all(b"region = \"x\"\n").unwrap();
    let daemon = setup.daemon_of(child);
    eventually("SIGHUP was forgotten", || {
        daemon.setup.log().contains("SIGHUP: the settings stay as they are")
    });
    daemon.client().get("/").is(200);
}

#[test]
fn a_start_that_waits_for_its_settings_can_be_ended() {
    for signal in [Signal::TERM, Signal::INT] {
        let setup = Setup::new(&[]).with_file("");
        let mut child = waiting(&setup);
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(signal.as_raw()));
    }
}

/// What Kubernetes sets for a service of this name, and a slip.
#[test]
fn variables_of_others_are_named_and_do_no_harm() {
    let others = [
        ("LANRAGE_PORT", "tcp://10.0.0.1:8667"),
        ("LANRAGE_PORT_8667_TCP_ADDR", "10.0.0.1"),
        ("LANRAGE_SERVICE_HOST", "10.0.0.1"),
        ("LANRAGE_MAX_CLIENTS", "tcp://10.0.0.2:80"),
    ];
    let setup = others.iter().fold(Setup::new(&[]), |setup, (name, value)| setup.with(name, value));
    let daemon = setup.start();
    daemon.client().get("/").is(200);
    let log = daemon.setup.log();
    let names = "LANRAGE_MAX_CLIENTS, LANRAGE_PORT, LANRAGE_PORT_8667_TCP_ADDR, LANRAGE_SERVICE_HOST\n";
    let warning = format!("WARN ignored in the environment, as no settings of lanrage: {names}");
    assert!(log.contains(&warning), "{log}");
    assert!(daemon.say("status").contains("peers"));

    let (status, said) = Setup::new(&[("max_clients", "many")]).fail();
    assert_eq!(status.code(), Some(2), "{said}");
}

#[test]
fn the_first_of_several_state_directories_is_used() {
    let directory = Directory::new();
    let first = directory.state();
    let list = format!("{}:{}", first.display(), directory.log().display());
    let start = |name: &str, value: &str| {
        let setup = Setup::new(&[]);
        let child = setup.command().env_remove("LANRAGE_STATE_DIR").env(name, value).spawn().unwrap();
        setup.daemon_of(child)
    };
    let daemon = start("STATE_DIRECTORY", &list);
    assert!(lanrage::store::path_in(&first).exists());
    drop(daemon);
    assert!(!directory.log().exists());
}

/// Limits count for everybody but root.
#[test]
fn a_limit_of_one_process_is_an_error_with_advice() {
    let directory = Directory::new();
    let place = directory.state();
    fs::create_dir(&place).unwrap();
    fs::set_permissions(&place, fs::Permissions::from_mode(0o755)).unwrap();
    let program = place.join("lanrage");
    fs::copy(binary(), &program).unwrap();
    for limit in ["1", "2"] {
        let mut command = Command::new("prlimit");
        command.arg(format!("--nproc={limit}")).arg(&program).arg("serve");
        if rustix::process::geteuid().is_root() {
            // Somebody who has no other process.
            command.uid(61_234).gid(61_234);
        } else if limit == "2" {
            break;
        }
        let state = place.join("state");
        let settings = [("LANRAGE_HTTP", "127.0.0.1:0"), ("LANRAGE_RELAY", "127.0.0.1:0")];
        let output = command.env_clear().envs(settings).env("LANRAGE_STATE_DIR", &state).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.starts_with("lanrage: threads can't be started: ") && said.contains("`ulimit -u`"),
            "{said}"
        );
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(!state.exists());
    }
}
