//! Networks that come late, go, come back and change their address under the running daemon.

use crate::blind::{introduce, party};
use crate::client::Client;
use crate::harness::namespace::Namespace;
use crate::harness::process::Process;
use crate::hub::use_hub;
use crate::lab::{Lab, public_ip, public_ip6};
use crate::player::Player;
use crate::server::{HUB_IP, Server};
use rustix::process::Signal;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Stdio;
use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);
/// More than the daemon says, and works, while nothing can be sent; a loop without rest would do thousands.
const FEW_LINES: usize = 5;
const LITTLE_WORK: Duration = Duration::from_millis(250);

/// Lets time pass, in which the daemon may neither spin nor fill the log.
#[track_caller]
fn stays_calm(server: &Server, span: Duration) {
    let (lines, work) = (server.log().lines().count(), server.daemon().cpu_ticks());
    std::thread::sleep(span);
    let (lines, work) = (server.log().lines().count() - lines, server.daemon().cpu_ticks() - work);
    assert!(lines <= FEW_LINES, "{lines} lines in {span:?}:\n{}", server.log());
    assert!(work <= LITTLE_WORK, "it worked for {work:?} in {span:?}");
}

/// Whether a request over HTTP and one over STUN are answered at this address of the server's.
#[track_caller]
fn serves(host: &Namespace, http: SocketAddr) {
    let (status, answer) = host.inside(|| {
        let stream = std::net::TcpStream::connect_timeout(&http, crate::PATIENCE).unwrap();
        let status = Client::over(stream).get("/").status;
        let socket = UdpSocket::bind((if http.is_ipv4() { "0.0.0.0" } else { "::" }, 0)).unwrap();
        socket.set_read_timeout(Some(crate::PATIENCE)).unwrap();
        let request = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], b"transaction!"].concat();
        socket.send_to(&request, (http.ip(), 51820)).unwrap();
        let mut answer = [0; 256];
        let (length, from) = socket.recv_from(&mut answer).unwrap();
        assert_eq!(from.ip(), http.ip());
        (status, answer[..length].to_vec())
    });
    assert_eq!((status, &answer[..2]), (200, &[1, 1][..]));
}

/// Where the server's API is to be found by IPv4, and by IPv6.
fn http() -> [SocketAddr; 2] {
    [(public_ip(1), 8667).into(), (public_ip6(1), 8667).into()]
}

/// The switch that IPv6 as a whole has.
fn set_ipv6(host: &Namespace, on: bool) {
    host.inside(|| {
        for which in ["all", "default"] {
            let path = format!("/proc/sys/net/ipv6/conf/{which}/disable_ipv6");
            std::fs::write(path, if on { "0" } else { "1" }).unwrap();
        }
    });
}

/// Nothing depends on how long it takes: no time-out of the daemon's has to do with its network.
#[test]
#[ignore = "needs root: network namespaces, wireguard-go"]
fn a_network_that_comes_late_goes_and_comes_back() {
    let _alone = crate::alone();
    let lab = Lab::new();
    let host = lab.unplugged();
    set_ipv6(&host, false);
    let mut server = Server::on(host.clone());
    assert_eq!(server.owner().get("/").status, 200);
    stays_calm(&server, 3 * SECOND);

    host.ip("link set lo up");
    lab.connect(&host, 1);
    let others = [lab.host(10), lab.host(11)];
    serves(&others[0], http()[0]);
    set_ipv6(&host, true);
    host.ip(&format!("addr add {}/64 dev eth0 nodad", public_ip6(1)));
    serves(&others[0], http()[1]);

    let players = party(&server, others.into());
    introduce(&players);
    use_hub(&server, &players);
    players[0].ping(players[1].member.ip);
    players[1].ping(players[0].member.ip);
    let greetings = |players: &[Player]| {
        let keys = [players[1].member.public_key(), players[0].member.public_key()];
        [players[0].last_handshake(&keys[0]), players[1].last_handshake(&keys[1])]
    };
    let before = greetings(&players);

    // Down, and then without any route or address: nothing can be sent, and the hub and blind flows want to.
    host.ip("link set eth0 down");
    stays_calm(&server, 3 * SECOND);
    host.ip("link set eth0 up");
    host.ip("addr flush dev eth0");
    server.daemon().signal(Signal::HUP);
    stays_calm(&server, 3 * SECOND);
    assert_eq!(server.owner().get("/").status, 200);

    host.ip(&format!("addr add {}/24 dev eth0", public_ip(1)));
    let start = Instant::now();
    players[0].ping(players[1].member.ip);
    players[1].ping(players[0].member.ip);
    let blind = start.elapsed();
    players.iter().for_each(|player| {
        player.ping(HUB_IP);
    });
    println!("the network is back: blind after {blind:?}, the hub after {:?}", start.elapsed());
    assert_eq!(greetings(&players), before, "they had to greet each other again");
    assert!(start.elapsed() < 5 * SECOND);

    // From a start with flows and sessions, but without a network, they go on, too.
    host.ip("addr flush dev eth0");
    server.terminate();
    server.start();
    stays_calm(&server, 2 * SECOND);
    host.ip(&format!("addr add {}/24 dev eth0", public_ip(1)));
    let start = Instant::now();
    players[0].ping(players[1].member.ip);
    println!("started without a network, which came: blind after {:?}", start.elapsed());
    assert_eq!(greetings(&players), before, "they had to greet each other again");
}

/// The player's other peers are at this address of the relay's from now on.
fn repoint(player: &Player, keys: &[String], relay: &str) {
    keys.iter().for_each(|key| player.wg(&format!("peer {key} endpoint {relay}:51820")));
}

/// A continuous ping, and what came of it.
struct Pings(Process);

impl Pings {
    fn start(from: &Player, to: Ipv4Addr) -> Self {
        let mut ping = from.host.command("ping");
        ping.args(["-n", "-i", "0.02", &to.to_string()]);
        Pings(Process(ping.stdout(Stdio::piped()).spawn().unwrap()))
    }

    /// Sent, and answered.
    fn stop(mut self) -> (u64, u64) {
        let pid = rustix::process::Pid::from_child(&self.0.0);
        rustix::process::kill_process(pid, Signal::INT).unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(self.0.0.stdout.as_mut().unwrap(), &mut text).unwrap();
        let line = text.lines().find(|line| line.contains("packets transmitted")).unwrap();
        let mut numbers = line.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok());
        (numbers.next().unwrap(), numbers.next().unwrap())
    }
}

#[test]
#[ignore = "needs root: network namespaces, wireguard-go"]
fn an_address_that_changes_costs_one_side_seconds_and_the_other_nothing() {
    let _alone = crate::alone();
    let (lab, home) = (Lab::new(), Lab::new());
    let server = Server::new(&lab);
    home.plug(&server.host, "lan0");
    server.host.ip("addr add 203.0.113.1/24 dev lan0");
    let inside = |number: u8| {
        let host = home.bare();
        home.plug(&host, "eth0");
        host.ip(&format!("addr add 203.0.113.{number}/24 dev eth0"));
        host.ip("route add default via 203.0.113.1");
        host
    };
    // The first two are on the LAN and know the relay's address there; the others come from outside.
    let players = party(&server, vec![inside(10), inside(11), lab.host(10), lab.host(11)]);
    introduce(&players);
    players.iter().for_each(|player| player.add_hub(&server.hub_key, "10.66.0.1/32"));
    let keys_for = |player: &Player| -> Vec<String> {
        let others = players.iter().filter(|other| other.member.ip != player.member.ip);
        others.map(|other| other.member.public_key()).chain([server.hub_key.clone()]).collect()
    };
    players[..2].iter().for_each(|player| repoint(player, &keys_for(player), "203.0.113.1"));
    let everybody = || {
        for player in &players {
            player.ping(HUB_IP);
            for other in players.iter().filter(|other| other.member.ip != player.member.ip) {
                player.ping(other.member.ip);
            }
        }
    };
    everybody();

    let at_home = [Pings::start(&players[0], players[1].member.ip), Pings::start(&players[1], HUB_IP)];
    let across = Pings::start(&players[0], players[2].member.ip);
    std::thread::sleep(SECOND);
    server.host.ip(&format!("addr del {}/24 dev eth0", public_ip(1)));
    stays_calm(&server, SECOND);
    server.host.ip("addr add 192.0.2.99/24 dev eth0");
    // What is sent from the LAN outwards comes from the new address, and WireGuard follows it.
    let start = Instant::now();
    let found = players[0].ping(players[2].member.ip);
    println!("from the LAN outwards: after {found:?}");
    // The third is told by dynamic DNS, the fourth a little later.
    repoint(&players[2], &keys_for(&players[2]), "192.0.2.99");
    players[2].ping(players[0].member.ip);
    players[2].ping(HUB_IP);
    std::thread::sleep(SECOND);
    repoint(&players[3], &keys_for(&players[3]), "192.0.2.99");
    let outside = players[2].ping(players[3].member.ip);
    println!("from outside to outside: after {outside:?}");
    everybody();
    println!("all 16 directions: {:?} after the change", start.elapsed());
    assert!(found < 3 * SECOND && outside < 3 * SECOND);
    for pings in at_home {
        let (sent, answered) = pings.stop();
        println!("on the LAN: {answered} of {sent} pings answered");
        // The last one may be under way.
        assert!(sent > 50 && sent - answered <= 1, "{answered} of {sent}");
    }
    let (sent, answered) = across.stop();
    println!("across: {answered} of {sent} pings answered");

    // Nothing remembers the old address after a SIGHUP either, and nobody notices one.
    server.daemon().signal(Signal::HUP);
    everybody();
    serves(&players[3].host, SocketAddr::new(Ipv4Addr::new(192, 0, 2, 99).into(), 8667));
}
