//! What the service manager hears: the notify protocol of systemd, over a real socket.

use crate::harness::directory::{Directory, unique};
use crate::inside::Inside;
use crate::sim_disk::SimDisk;
use crate::test_daemon::{Setup, TestDaemon};
use lanrage::daemon::Supervisor;
use rustix::process::Signal;
use rustix::time::{ClockId, clock_gettime};
use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

/// A service manager, as far as its ears go.
struct Manager {
    socket: UnixDatagram,
    /// For `$NOTIFY_SOCKET`.
    name: String,
    _directory: Directory,
}

impl Manager {
    /// At a path.
    fn new() -> Self {
        let directory = Directory::new();
        let path = directory.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Self::of(socket, path.into_os_string().into_string().unwrap(), directory)
    }

    /// At a name without a file.
    fn nameless() -> Self {
        let name = format!("lanrage-{}", unique());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        Self::of(socket, format!("@{name}"), Directory::new())
    }

    fn of(socket: UnixDatagram, name: String, directory: Directory) -> Self {
        Manager { socket, name, _directory: directory }
    }

    /// What starts a daemon under it.
    fn setup(&self) -> Setup {
        Setup::new(&[]).with("NOTIFY_SOCKET", &self.name)
    }

    /// The next message, if one comes within `patience`.
    fn hear_within(&self, patience: Duration) -> Option<String> {
        let mut buffer = [0; 4096];
        self.socket.set_read_timeout(Some(patience)).unwrap();
        let length = self.socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8(buffer[..length].to_vec()).unwrap())
    }

    #[track_caller]
    fn hear(&self) -> String {
        self.hear_within(crate::PATIENCE).expect("the daemon is silent")
    }

    /// It begins anew what it does, and is ready again.
    #[track_caller]
    fn hears_a_reload_since(&self, before: u64) {
        let reloading = self.hear();
        assert!(says(&reloading, "RELOADING=1"), "{reloading:?}");
        let at: u64 = value(&reloading, "MONOTONIC_USEC").parse().unwrap();
        assert!((before..=monotonic_micros()).contains(&at), "{at}");
        let again = self.hear();
        assert!(says(&again, "READY=1") && value(&again, "STATUS").starts_with("parties: "), "{again:?}");
    }

    /// Reads what is there already.
    fn catch_up(&self) -> Vec<String> {
        std::iter::from_fn(|| self.hear_within(Duration::from_millis(1))).collect()
    }

    /// Fills its queue, as if it did not read for long.
    fn fill(&self) {
        let sender = UnixDatagram::unbound().unwrap();
        sender.set_nonblocking(true).unwrap();
        while sender.send_to(b"X=1", &self.name).is_ok() {}
    }
}

fn monotonic_micros() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1000
}

/// The value of a variable in a message.
#[track_caller]
fn value<'a>(message: &'a str, name: &str) -> &'a str {
    let found = message.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    found.unwrap_or_else(|| panic!("no {name} in {message:?}"))
}

fn says(message: &str, line: &str) -> bool {
    message.lines().any(|found| found == line)
}

/// A life in good order, as its manager hears it.
#[track_caller]
fn follow_a_life(manager: &Manager) {
    let mut daemon = manager.setup().start();
    let ready = manager.hear();
    assert!(says(&ready, "READY=1"), "{ready:?}");
    let status = value(&ready, "STATUS");
    assert!(status.starts_with("parties: 0, members: 0, at the relay: 0; lanrage 0."), "{status}");
    daemon.client().get("/").is(200);

    for _ in 0..2 {
        let before = monotonic_micros();
        daemon.signal(Signal::HUP);
        manager.hears_a_reload_since(before);
    }

    assert_eq!(daemon.terminate().0.code(), Some(0));
    assert!(says(&manager.hear(), "STOPPING=1"));
    assert_eq!(manager.catch_up(), [""; 0], "nobody asked for more");
}

#[test]
fn a_manager_at_a_path_hears_everything_in_order() {
    follow_a_life(&Manager::new());
}

#[test]
fn a_manager_at_an_abstract_name_hears_everything_in_order() {
    follow_a_life(&Manager::nameless());
}

#[test]
fn a_daemon_that_cannot_serve_is_never_ready() {
    let manager = Manager::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().to_string();
    let (status, _) = manager.setup().with("LANRAGE_HTTP", &port).fail();
    assert_eq!(status.code(), Some(1));
    assert_eq!(manager.catch_up(), [""; 0]);
}

#[test]
fn ready_comes_after_a_store_that_takes_its_time() {
    let manager = Manager::nameless();
    let disk = SimDisk::default();
    let start = Instant::now();
    // The file is there by then, the key of the hub is not.
    let slow = |disk: &SimDisk| disk.set_sync_delay(Duration::from_secs(1));
    let inside = Inside::supervised(&disk, slow, Supervisor::at(OsStr::new(&manager.name), None));
    assert!(says(&manager.hear(), "READY=1"));
    assert!(start.elapsed() >= Duration::from_secs(1), "the key of the hub was not durable yet");
    disk.set_sync_delay(Duration::ZERO);
    inside.stop().unwrap();
}

#[test]
fn signs_of_life_come_at_half_of_what_the_watchdog_allows() {
    let manager = Manager::new();
    let allowed = Duration::from_secs(1);
    let micros = allowed.as_micros().to_string();
    let daemon = manager.setup().with("WATCHDOG_USEC", &micros).after("export WATCHDOG_PID=$$").start();
    assert!(says(&manager.hear(), "READY=1"));
    let (start, count) = (Instant::now(), 6);
    for _ in 0..count {
        let message = manager.hear_within(allowed).expect("a manager would have killed it");
        assert_eq!(message, "WATCHDOG=1");
    }
    assert!(start.elapsed() > allowed / 2 * (count - 1), "too often: {:?}", start.elapsed());

    // Whoever does not run gives none, and begins again when it does.
    daemon.signal(Signal::STOP);
    manager.catch_up();
    assert_eq!(manager.hear_within(allowed * 2), None);
    daemon.signal(Signal::CONT);
    assert_eq!(manager.hear(), "WATCHDOG=1");
}

#[test]
fn a_loop_that_hangs_gives_no_signs_of_life() {
    let manager = Manager::nameless();
    let allowed = Duration::from_millis(200);
    let supervisor = Supervisor::at(OsStr::new(&manager.name), Some(allowed));
    let inside = Inside::supervised(&SimDisk::default(), |_| (), supervisor);
    assert!(says(&manager.hear(), "READY=1"));
    assert_eq!(manager.hear(), "WATCHDOG=1");
    let hang = Duration::from_secs(2);
    inside.hang(hang);
    // The order has reached the loop by then.
    std::thread::sleep(allowed);
    manager.catch_up();
    assert_eq!(manager.hear_within(hang / 2), None, "something else than the loop speaks for it");
    assert_eq!(manager.hear(), "WATCHDOG=1");
    inside.stop().unwrap();
}

/// A process that waits for its disk can't be helped by killing it, and players can do without the disk.
#[test]
fn a_disk_that_hangs_is_no_reason_to_be_killed() {
    let manager = Manager::nameless();
    let allowed = Duration::from_millis(500);
    let disk = SimDisk::default();
    let inside = Inside::supervised(&disk, |_| (), Supervisor::at(OsStr::new(&manager.name), Some(allowed)));
    assert!(says(&manager.hear(), "READY=1"));
    let mut client = inside.client();
    client.register("alice");
    disk.set_sync_delay(Duration::from_secs(3));
    let slow = std::thread::spawn(move || {
        client.create("LAN", "alice");
    });
    for _ in 0..4 {
        assert_eq!(manager.hear_within(allowed).as_deref(), Some("WATCHDOG=1"));
    }
    assert!(!slow.is_finished(), "the disk did not hang");
    disk.set_sync_delay(Duration::ZERO);
    slow.join().unwrap();
    let _ = inside.stop();
}

#[test]
fn a_watchdog_for_another_process_is_not_fed() {
    let manager = Manager::new();
    let setup = manager.setup().with("WATCHDOG_USEC", "100000").with("WATCHDOG_PID", "1");
    let mut daemon = setup.start();
    assert!(says(&manager.hear(), "READY=1"));
    assert_eq!(manager.hear_within(Duration::from_millis(500)), None);
    daemon.terminate();
    assert!(says(&manager.hear(), "STOPPING=1"));
}

#[test]
fn a_manager_that_does_not_listen_holds_nobody_up_and_hears_of_ready_in_the_end() {
    let manager = Manager::new();
    manager.fill();
    let mut daemon = manager.setup().with("WATCHDOG_USEC", "40000").start();
    for _ in 0..20 {
        daemon.client().get("/").is(200);
        std::thread::sleep(Duration::from_millis(10));
    }
    daemon.signal(Signal::HUP);
    daemon.client().get("/").is(200);
    let heard: Vec<String> = manager.catch_up().into_iter().filter(|message| message != "X=1").collect();
    let ready = heard.into_iter().find(|message| says(message, "READY=1"));
    if ready.is_none() {
        crate::eventually("READY=1 got lost", || says(&manager.hear(), "READY=1"));
    }
    // Full again, for the end.
    manager.fill();
    let (status, took) = daemon.terminate();
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(2), "it took {took:?}");
}

#[test]
fn a_manager_that_vanishes_is_not_missed() {
    let manager = Manager::new();
    let mut daemon = manager.setup().with("WATCHDOG_USEC", "40000").with("LANRAGE_LOG", "debug").start();
    assert!(says(&manager.hear(), "READY=1"));
    drop(manager);
    std::thread::sleep(Duration::from_millis(200));
    daemon.signal(Signal::HUP);
    crate::eventually("SIGHUP was not heard", || daemon.setup.log().contains("SIGHUP"));
    daemon.client().get("/").is(200);
    assert_eq!(daemon.terminate().0.code(), Some(0));
}

#[test]
fn without_a_manager_nothing_is_said() {
    let manager = Manager::new();
    for name in ["", "vsock:2:1"] {
        let mut daemon = Setup::new(&[]).with("NOTIFY_SOCKET", name).with("WATCHDOG_USEC", "40000").start();
        daemon.client().get("/").is(200);
        assert_eq!(daemon.terminate().0.code(), Some(0));
    }
    let daemon = TestDaemon::start();
    daemon.client().get("/").is(200);
    assert_eq!(manager.catch_up(), [""; 0]);
}

#[test]
fn a_daemon_that_starts_anew_with_a_backup_is_the_same_to_its_manager() {
    let manager = Manager::new();
    let mut daemon = manager.setup().start();
    assert!(says(&manager.hear(), "READY=1"));
    let backup = daemon.owner().get("/backup").is(200).body;
    let before = monotonic_micros();
    daemon.owner().ask("POST", "/restore", &backup).is(200);
    manager.hears_a_reload_since(before);
    assert!(daemon.terminate().0.success());
    assert!(says(&manager.hear(), "STOPPING=1"));
}
