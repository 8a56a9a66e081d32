//! A router without a clock of its own: every boot is in 1970 until NTP sets the time.

use crate::blind::party;
use crate::client::{Client, connect_from};
use crate::harness::process::Process;
use crate::hub::wait_for_handshakes_to_age;
use crate::lab::{Lab, public_ip};
use crate::server::{HUB_IP, Server};
use lanrage::daemon::settings::Settings;
use lanrage::daemon::{Bell, Daemon, SignalWatch, now};
use lanrage::time::Now;
use rustix::process::{Pid, Signal, kill_process};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// What the daemon's wall clock is off, in microseconds.
static OFF: AtomicI64 = AtomicI64::new(0);

fn clock() -> Now {
    let now = now();
    Now { unix: now.unix.shifted(OFF.load(Ordering::Relaxed)), ..now }
}

/// Names the directory of a daemon that is to run in this process, with a file of what its clock is off.
const DIRECTORY: &str = "LANRAGE_TEST_NO_CLOCK";

fn set_clock(directory: &Path, off: i64) {
    let new = directory.join("off.new");
    std::fs::write(&new, off.to_string()).unwrap();
    std::fs::rename(new, directory.join("off")).unwrap();
}

/// The daemon by our clock, until SIGTERM.
fn run(directory: &Path) {
    let file = directory.join("off");
    let read = move || OFF.store(std::fs::read_to_string(&file).unwrap().parse().unwrap(), Ordering::Relaxed);
    read();
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_millis(20));
            read();
        }
    });
    let mut config = Settings { state_dir: directory.join("state"), ..Settings::default() };
    config.set("runtime_dir", &directory.join("run").display().to_string(), "test").unwrap();
    let stop = SignalWatch::new().unwrap().stop(Bell::default()).unwrap();
    Daemon::open(config).unwrap().by_clock(clock).run(stop).unwrap();
}

fn boot(server: &Server) -> Process {
    let mut command = server.host.command(std::env::current_exe().unwrap().to_str().unwrap());
    let name = "no_clock::real_clients_come_back_after_a_boot_in_1970";
    command.args([name, "--exact", "--ignored"]).env(DIRECTORY, server.directory()).stdout(Stdio::null());
    Process(command.spawn().unwrap())
}

fn end(mut boot: Process) {
    kill_process(Pid::from_child(&boot.0), Signal::TERM).unwrap();
    assert!(boot.0.wait().unwrap().success());
}

#[test]
#[ignore = "needs root: network namespaces, wireguard-go"]
fn real_clients_come_back_after_a_boot_in_1970() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        return run(directory.as_ref());
    }
    let _alone = crate::alone();
    let lab = Lab::new();
    let mut server = Server::asleep(lab.host(1));
    set_clock(server.directory(), 0);
    let first = boot(&server);
    server.learn_hub_key();
    let players = party(&server, vec![lab.host(10), lab.host(11)]);
    players.iter().for_each(|player| {
        player.add_hub(&server.hub_key, "10.66.0.0/16");
        player.ping(HUB_IP);
    });
    let last = || players[0].last_handshake(&server.hub_key);

    // The hub does not believe another port before it has greeted it: a stamp of today's reaches the client.
    let roam = |port: u16| {
        wait_for_handshakes_to_age();
        let before = last();
        players[0].set_port(port);
        let took = crate::eventually("the hub has greeted the client", || {
            players[0].ping(HUB_IP);
            last() > before
        });
        println!("greeted at the new port after {took:?}");
        // If the client does not take it, it begins a handshake of its own after 15 s.
        assert!(took < Duration::from_secs(8), "{took:?}");
    };
    roam(40_000);
    end(first);

    // What was in memory is gone, and so is the time.
    std::fs::remove_dir_all(server.directory().join("run")).unwrap();
    set_clock(server.directory(), 30_000_000 - now().unix.as_micros());
    let second = boot(&server);
    for player in &players {
        let took = player.ping(HUB_IP);
        println!("{} is back {took:?} after a boot in 1970", player.member.name);
    }
    // Now the stamp is 56 years older than the last one by the clock.
    roam(40_001);
    players[1].ping(players[0].member.ip);

    let authorized = |path: &str, method: &str| {
        let host = &players[0].host;
        let token = players[0].member.client.token.clone();
        let stream = host.inside(|| connect_from(Ipv4Addr::UNSPECIFIED, (public_ip(1), 8667).into()));
        let mut client = Client::over(stream);
        client.token = token;
        client.ask(method, path, "").status
    };
    let heartbeat = format!("/parties/{}/peers/p0/heartbeat", players[0].member.party);
    assert_eq!(authorized(&heartbeat, "POST"), 200, "its token is as good as before");
    let ages = |server: &Server| -> Vec<u64> {
        let metrics = server.owner().get("/metrics").is(200).body;
        let lines =
            metrics.lines().filter(|line| line.starts_with("lanrage_relay_member_handshake_age_seconds{"));
        lines.map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap()).collect()
    };
    assert!(ages(&server).len() == 2 && ages(&server).iter().all(|age| *age < 100));

    // NTP.
    set_clock(server.directory(), 0);
    std::thread::sleep(Duration::from_millis(200));
    players.iter().for_each(|player| {
        player.ping(HUB_IP);
    });
    assert_eq!(authorized(&heartbeat, "POST"), 200);
    assert!(ages(&server).iter().all(|age| *age < 100));
    roam(40_002);
    end(second);
}
