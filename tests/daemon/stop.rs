//! The end in good order.

use crate::client::join_body;
use crate::inside::Inside;
use crate::load::{World, run, verify};
use crate::player::{introduce, reach};
use crate::relay;
use crate::sim_disk::SimDisk;
use crate::socket::Socket;
use crate::test_daemon::{Setup, TestDaemon};
use rustix::process::Signal;
use std::io::Write;
use std::net::UdpSocket;
use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What SIGTERM promises.
const SOON: Duration = Duration::from_secs(2);

#[test]
fn sigterm_under_load_ends_soon_and_loses_nothing() {
    let mut daemon = TestDaemon::start();
    // Those who hold on: half a request, a keep-alive connection, a WebSocket.
    let mut half = crate::client::connect_from([127, 0, 0, 2].into(), daemon.http);
    half.write_all(b"POST /parties HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{").unwrap();
    let mut idle = daemon.client();
    idle.get("/").is(200);
    let mut socket = Socket::open(daemon.http);
    let mut worlds: Vec<World> = (10..14).map(World::new).collect();
    for _ in 0..3 {
        worlds = run(worlds, &mut daemon, |daemon| {
            std::thread::sleep(Duration::from_millis(400));
            let (status, took) = daemon.terminate();
            assert_eq!(status.code(), Some(0));
            assert!(took < SOON, "it took {took:?}");
        });
        daemon.restart();
        verify(&mut worlds, &daemon);
        assert_eq!(daemon.metric("lanrage_store_recoveries_total"), 0);
        assert!(!daemon.setup.log().contains("was not closed"));
    }
    assert!(worlds.iter().map(|world| world.acknowledged).sum::<usize>() > 50);
    socket.wait_for_end();
}

#[test]
fn sigterm_at_rest_ends_at_once_and_takes_the_socket_along() {
    let mut daemon = TestDaemon::start();
    let socket = lanrage::daemon::socket_in(&daemon.setup.directory().state());
    assert!(socket.exists());
    let (status, took) = daemon.terminate();
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_millis(1500), "it took {took:?}");
    assert!(!socket.exists());
}

/// All that can hold on at once: sessions, a reader who does not read, halves of requests, and games.
#[test]
fn sigterm_does_not_wait_for_those_who_hold_on() {
    let mut daemon = relay::daemon();
    let (mut ann, _bob, mut a, mut b, id) = relay::party(&daemon);
    introduce(&mut a, &mut b, daemon.relay);
    reach(&mut a, &mut b, "before");
    let sessions = a.sessions + b.sessions;
    let mut sockets: Vec<Socket> =
        (2..42).map(|n| Socket::open_from([127, 0, 0, n].into(), daemon.http)).collect();
    let from = |n: u8| crate::client::connect_from([127, 0, 1, n].into(), daemon.http);
    let mut half_head = from(1);
    half_head.write_all(b"GET /parties HTTP/1.1\r\nHo").unwrap();
    let mut half_body = from(2);
    half_body.write_all(b"POST /parties HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{").unwrap();
    // Asks for more than the sockets hold, and reads nothing of it.
    let mut deaf = from(3);
    deaf.set_nonblocking(true).unwrap();
    let request = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100);
    while deaf.write(&request).is_ok() {}
    let _silent = from(4);

    let done = Arc::new(AtomicBool::new(false));
    let (flood, relay) = (done.clone(), daemon.relay);
    let flood = std::thread::spawn(move || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        // Transport messages of nobody's, as fast as it goes: each is looked at and dropped.
        let datagram = [&[4, 0, 0, 0][..], &[7; 60]].concat();
        while !flood.load(Ordering::Relaxed) {
            for _ in 0..64 {
                let _ = socket.send_to(&datagram, relay);
            }
            std::thread::yield_now();
        }
    });
    std::thread::sleep(Duration::from_millis(300));
    assert!(daemon.metric("lanrage_relay_packets_total{kind=\"received\"}") > 1000);
    let (status, took) = daemon.terminate();
    done.store(true, Ordering::Relaxed);
    flood.join().unwrap();
    assert_eq!(status.code(), Some(0), "{}", daemon.setup.log());
    assert!(took < SOON, "it took {took:?}");
    sockets.iter_mut().for_each(Socket::wait_for_end);

    daemon.restart();
    assert!(!daemon.setup.log().contains("was not closed"));
    crate::eventually("flows are handed over", || daemon.setup.log().contains("took over 2 flows"));
    reach(&mut a, &mut b, "after");
    assert_eq!(a.sessions + b.sessions, sessions, "they had to greet each other again");
    let token = ann.token.take();
    ann = daemon.client();
    ann.token = token;
    ann.heartbeat(&id, "ann").is(200);
}

#[test]
fn sigint_is_the_same_and_more_signals_change_nothing() {
    let mut daemon = TestDaemon::start();
    daemon.client().register("host").create("LAN", "host");
    let _half = crate::client::connect_from([127, 0, 0, 2].into(), daemon.http);
    daemon.signal(Signal::INT);
    // What comes while it stops does not stop the stop.
    for signal in [Signal::TERM, Signal::HUP, Signal::INT, Signal::TERM] {
        daemon.signal(signal);
    }
    let (status, took) = daemon.terminate();
    assert_eq!(status.code(), Some(0), "{}", daemon.setup.log());
    assert!(took < SOON, "it took {took:?}");
    daemon.restart();
    assert!(!daemon.setup.log().contains("was not closed"), "{}", daemon.setup.log());
    assert_eq!(daemon.metric("lanrage_parties"), 1);
}

#[test]
fn a_stop_during_the_start_is_in_good_order_too() {
    let setup = Setup::new(&[]);
    let start = Instant::now();
    let daemon = setup.clone().start();
    // An emulated machine takes a hundred times as long as a fast one.
    let whole = start.elapsed();
    daemon.client().register("host").create("LAN", "host");
    drop(daemon);
    let mut ended = 0;
    for part in 0..25 {
        let mut child = setup.spawn();
        std::thread::sleep(whole * part / 20);
        let start = Instant::now();
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::TERM).unwrap();
        let status = child.wait().unwrap();
        assert!(start.elapsed() < SOON);
        // Before it takes signals, the kernel ends it: then it has not opened anything yet.
        assert!(status.code() == Some(0) || status.signal() == Some(15), "{status:?} {}", setup.log());
        ended += usize::from(status.code() == Some(0));
    }
    assert!(ended > 0);
    let daemon = setup.start();
    assert_eq!(daemon.metric("lanrage_parties"), 1);
    // Only the kill at the very beginning of this test.
    assert!(daemon.setup.log().matches("was not closed").count() <= 1, "{}", daemon.setup.log());
}

#[test]
fn who_waits_for_a_slow_disk_is_answered() {
    let disk = SimDisk::default();
    let inside = Inside::start(&disk);
    let mut host = inside.client();
    let party = host.register("host").create("LAN", "host");
    inside.client().register("late").join(&party, "late").is(200);
    // As long as a sync takes on router flash.
    disk.set_sync_delay(Duration::from_millis(500));
    let waiting = {
        let (mut other, party) = (inside.client(), party.clone());
        other.token = host.token.clone();
        std::thread::spawn(move || {
            other.ask("POST", &format!("/parties/{party}/bans"), r#"{"peer_id":"late"}"#).status
        })
    };
    std::thread::sleep(Duration::from_millis(50));
    let start = Instant::now();
    inside.stop().unwrap();
    assert!(start.elapsed() < SOON, "it took {:?}", start.elapsed());
    assert_eq!(waiting.join().unwrap(), 200);
    let disk = disk.after_power_cut(|| false);
    let again = Inside::start(&disk);
    host = again.client().with_token_of(&host);
    let bans = host.get(&format!("/parties/{party}/bans")).is(200);
    assert!(bans.body.contains("late"), "{}", bans.body);
    again.stop().unwrap();
}

/// What can't be written in time was never acknowledged, and the end says that it was not in good order.
#[test]
fn a_disk_that_hangs_holds_up_nobody_and_is_not_hidden() {
    let disk = SimDisk::default();
    let inside = Inside::start(&disk);
    let mut host = inside.client();
    let party = host.register("host").create("LAN", "host");
    let mut late = inside.client();
    late.register("late");
    disk.set_sync_delay(Duration::from_secs(3600));
    let waiting = {
        let party = party.clone();
        std::thread::spawn(move || {
            late.try_ask("POST", &format!("/parties/{party}/join"), &join_body(&party, "late"))
        })
    };
    std::thread::sleep(Duration::from_millis(100));
    let start = Instant::now();
    let error = inside.stop().unwrap_err();
    assert!(start.elapsed() < SOON, "it took {:?}", start.elapsed());
    assert!(error.contains("could not be written: storage too slow"), "{error}");
    // In this process the connection outlives the daemon.
    assert!(!waiting.is_finished(), "answered before it was durable");
    let disk = disk.after_power_cut(|| false);
    let again = Inside::start(&disk);
    again.client().with_token_of(&host).get(&format!("/parties/{party}")).is(200);
    again.stop().unwrap();
}

/// It hangs before anybody was served.
#[test]
fn a_disk_that_hangs_at_the_start_does_not_hold_up_the_stop() {
    let disk = SimDisk::default();
    let inside = Inside::start_with(&disk, |disk| disk.set_sync_delay(Duration::from_secs(3600)));
    std::thread::sleep(Duration::from_millis(100));
    let start = Instant::now();
    inside.stop().unwrap();
    assert!(start.elapsed() < SOON, "it took {:?}", start.elapsed());
}
