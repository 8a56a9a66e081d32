//! The setting `tun`: games that run on the router itself.

use crate::blind::party;
use crate::broadcast::{GAME, game_on, hear};
use crate::harness::namespace::Namespace;
use crate::hub::use_hub;
use crate::lab::{Lab, Mapping};
use crate::player::Player;
use crate::server::{HUB_IP, Server};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);
/// A program of util-linux that starts another one without privileges.
const UNPRIVILEGED: &[&str] = &["setpriv", "--bounding-set=-all", "--inh-caps=-all"];

fn with_tun(lab: &Lab) -> Server {
    let mut server = Server::asleep(lab.host(1));
    server.settings = vec![("LANRAGE_TUN", "yes")];
    server.start();
    server.learn_hub_key();
    server
}

/// A TCP connection from one host to an address of another one, of which this gives both ends.
fn connect(from: &Namespace, to: &Namespace, ip: Ipv4Addr) -> (TcpStream, TcpStream) {
    let listener = to.inside(|| TcpListener::bind((ip, 0)).unwrap());
    let address = listener.local_addr().unwrap();
    let here = from.inside(|| TcpStream::connect_timeout(&address, 5 * SECOND).unwrap());
    let (there, _) = listener.accept().unwrap();
    for stream in [&here, &there] {
        stream.set_read_timeout(Some(10 * SECOND)).unwrap();
        stream.set_write_timeout(Some(10 * SECOND)).unwrap();
    }
    (here, there)
}

/// Bits a second from one end to the other, all of which arrive.
fn bulk(mut from: &TcpStream, mut to: &TcpStream) -> f64 {
    const LENGTH: usize = 8 << 20;
    let data: Vec<u8> = (0..LENGTH).map(|place| (place / 7) as u8).collect();
    let start = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| from.write_all(&data).unwrap());
        let mut got = vec![0; LENGTH];
        to.read_exact(&mut got).unwrap();
        assert!(got == data);
    });
    LENGTH as f64 * 8.0 / start.elapsed().as_secs_f64()
}

#[test]
#[ignore = "needs root: network namespaces, wireguard-go"]
fn games_on_the_router_are_played() {
    let _alone = crate::alone();
    let lab = Lab::new();
    let server = with_tun(&lab);
    let nat = lab.nat(20, Mapping::Symmetric);
    let mut players = party(&server, vec![lab.host(10), nat.host(2)]);
    let host = lab.host(12);
    let outsider = vec![Player::new(server.create(&host, "outsider"), host)];
    use_hub(&server, &players);
    use_hub(&server, &outsider);
    let local = || server.owner().metric("lanrage_relay_packets_total{kind=\"local\"}");
    assert!(local() > 0, "it is the router that answers pings");

    for player in players.iter().chain(&outsider) {
        for (from, to, ip) in
            [(&player.host, &server.host, HUB_IP), (&server.host, &player.host, player.member.ip)]
        {
            let (here, there) = connect(from, to, ip);
            let rates = [bulk(&here, &there), bulk(&there, &here)].map(|rate| rate / 1e6);
            println!("router: TCP to {ip}: {:.1} Mbit/s, back {:.1} Mbit/s", rates[0], rates[1]);
        }
    }
    println!("router: {} packets into its interface", local());

    // Discovery, in both directions: the router is in every party.
    let (here, there) = (game_on(&server.host), game_on(&players[0].host));
    let elsewhere = game_on(&outsider[0].host);
    there.send_to(b"a game?", (Ipv4Addr::new(10, 66, 255, 255), GAME)).unwrap();
    let (said, from) = hear(&here, HUB_IP).expect("the router hears a broadcast");
    assert_eq!((&said[..], from), (&b"a game?"[..], (players[0].member.ip, GAME).into()));
    here.send_to(b"yes", from).unwrap();
    assert_eq!(hear(&there, players[0].member.ip), Some((b"yes".to_vec(), (HUB_IP, GAME).into())));
    assert_eq!(hear(&elsewhere, outsider[0].member.ip), None, "another party");
    here.send_to(b"a game!", (Ipv4Addr::new(10, 66, 255, 255), GAME)).unwrap();
    for (socket, player) in [(&there, &players[0]), (&elsewhere, &outsider[0])] {
        assert_eq!(hear(socket, player.member.ip), Some((b"a game!".to_vec(), (HUB_IP, GAME).into())));
    }

    // A kick counts here as well.
    let (here, there) = connect(&players[1].host, &server.host, HUB_IP);
    (&here).write_all(b"before").unwrap();
    (&there).read_exact(&mut [0; 6]).unwrap();
    let (party, name) = (players[0].member.party.clone(), players[1].member.name.clone());
    let start = Instant::now();
    players[0].member.client.ask("DELETE", &format!("/parties/{party}/peers/{name}"), "").is(200);
    let gone = &players[1];
    crate::eventually("the router is silent", || gone.reaches(HUB_IP, SECOND).is_none());
    assert!(start.elapsed() < 2 * SECOND, "one second of it is spent on waiting for the answer");
    (&here).write_all(b"after").unwrap();
    there.set_read_timeout(Some(SECOND)).unwrap();
    assert!((&there).read(&mut [0; 5]).is_err());
    assert!(players[0].reaches(HUB_IP, SECOND).is_some(), "others go on");
}

/// A router forwards between its networks. Nobody gets through it from a party to another one or to those networks,
/// nor from them to a party.
#[test]
#[ignore = "needs root: network namespaces, wireguard-go"]
fn nobody_gets_through_the_router() {
    let _alone = crate::alone();
    let lab = Lab::new();
    let server = with_tun(&lab);
    let router = &server.host;
    router.inside(|| {
        for (name, value) in
            [("ip_forward", "1"), ("conf/all/rp_filter", "0"), ("conf/all/accept_source_route", "1")]
        {
            std::fs::write(format!("/proc/sys/net/ipv4/{name}"), value).unwrap();
        }
    });
    let players = party(&server, vec![lab.host(10)]);
    let host = lab.host(12);
    let outsider = vec![Player::new(server.create(&host, "outsider"), host)];
    for player in players.iter().chain(&outsider) {
        player.add_hub(&server.hub_key, "0.0.0.0/0");
        player.ping(HUB_IP);
    }
    let stranger = lab.host(13);
    let reaches = |from: &Namespace, to: Ipv4Addr, bind: &str| {
        let mut ping = from.command("ping");
        ping.args(["-n", "-q", "-i", "0.1", "-c", "1", "-w", "2"]).args(bind.split_whitespace());
        ping.arg(to.to_string()).output().unwrap().status.success()
    };
    let (one, other) = (&players[0], &outsider[0]);
    let refused = |reason: &str, try_it: &dyn Fn() -> bool| {
        let before = server.dropped(reason);
        assert!(!try_it(), "{reason}");
        assert!(server.dropped(reason) > before, "{reason}");
    };
    refused("other_party", &|| reaches(&one.host, other.member.ip, ""));
    // Into the network behind the router, which answers those who come another way.
    let lan = Ipv4Addr::new(198, 51, 100, 1);
    router.ip(&format!("addr add {lan}/24 dev lo"));
    stranger.ip(&format!("route add {lan} via 192.0.2.1"));
    assert!(reaches(&stranger, lan, ""));
    one.route(&format!("{lan}/32"));
    refused("inner_destination", &|| reaches(&one.host, lan, ""));
    // Out of it: the router passes it on, and the daemon does not.
    stranger.ip("route add 10.66.0.0/16 via 192.0.2.1");
    refused("local_source", &|| reaches(&stranger, one.member.ip, ""));
    // The router does not pass on for itself either what has another address of its own.
    refused("local_source", &|| reaches(router, one.member.ip, "-I 192.0.2.1"));
    assert!(reaches(router, one.member.ip, ""), "all else is well");
}

#[test]
#[ignore = "needs root: network namespaces, setpriv, wireguard-go"]
fn without_the_privilege_it_says_what_to_do() {
    let lab = Lab::new();
    let mut server = Server::asleep(lab.host(1));
    server.settings = vec![("LANRAGE_TUN", "yes")];
    let fails = |server: &Server, by: &[&str], parts: &[&str]| {
        let before = server.log().len();
        let output = server.command(by).output().unwrap();
        let said = server.log().split_off(before);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(output.stdout.is_empty(), "it does not say that it listens");
        for part in parts {
            assert!(said.contains(part), "{part}: {said}");
        }
        println!("{}", said.trim());
    };
    fails(
        &server,
        UNPRIVILEGED,
        &["lanrage0", "CAP_NET_ADMIN", "lanrage-tun.conf", "ip tuntap add lanrage0"],
    );

    // What it says to do: somebody else makes the interface, for this user.
    server.host.ip("tuntap add lanrage0 mode tun user root");
    fails(&server, UNPRIVILEGED, &["10.66.0.1/16", "CAP_NET_ADMIN"]);
    server.host.ip("address add 10.66.0.1/16 dev lanrage0");
    server.host.ip("link set lanrage0 mtu 1420 up");
    server.start_by(UNPRIVILEGED);
    server.learn_hub_key();
    let players = party(&server, vec![lab.host(10)]);
    use_hub(&server, &players);
    assert!(server.owner().metric("lanrage_relay_packets_total{kind=\"local\"}") > 0);
    connect(&players[0].host, &server.host, HUB_IP);

    // One interface is for one daemon.
    let mut second = Server::asleep(server.host.clone());
    second.settings =
        vec![("LANRAGE_TUN", "yes"), ("LANRAGE_HTTP", "127.0.0.1:0"), ("LANRAGE_RELAY", "127.0.0.1:0")];
    fails(&second, &[], &["another program has the interface lanrage0", "--interface"]);
    second.settings.push(("LANRAGE_INTERFACE", "eth0"));
    fails(&second, &[], &["eth0 is an interface of another kind"]);
    server.terminate();
    assert!(server.host.ip("link show lanrage0").contains("mtu 1420"), "it was made to stay");
}

#[test]
#[ignore = "needs root: network namespaces, wireguard-go"]
fn the_interface_may_go_and_come_back() {
    let _alone = crate::alone();
    let lab = Lab::new();
    let mut server = with_tun(&lab);
    assert!(server.host.ip("address show lanrage0").contains("inet 10.66.0.1/16"));
    assert!(server.host.ip("link show lanrage0").contains("mtu 1420"));
    let players = party(&server, vec![lab.host(10), lab.host(11)]);
    use_hub(&server, &players);

    server.host.ip("link set lanrage0 down");
    for _ in 0..3 {
        assert_eq!(players[0].reaches(HUB_IP, SECOND), None);
    }
    assert!(server.dropped("local_refused") > 10);
    assert_eq!(server.log().matches("lanrage0 is down").count(), 1, "said once");
    players[0].ping(players[1].member.ip);
    server.host.ip("link set lanrage0 up");
    assert!(players[0].reaches(HUB_IP, 2 * SECOND).is_some());

    server.host.ip("link delete lanrage0");
    let before = server.daemon().cpu_ticks();
    assert_eq!(players[0].reaches(HUB_IP, SECOND), None);
    std::thread::sleep(SECOND);
    let spent = server.daemon().cpu_ticks() - before;
    assert!(spent < SECOND / 4, "it does not turn in a circle: {spent:?} in 2 s");
    players[0].ping(players[1].member.ip);
    let took = players[0].ping(HUB_IP);
    println!("router: a deleted interface is back {took:?} later");
    connect(&players[0].host, &server.host, HUB_IP);
    assert_eq!(server.log().matches("lanrage0 is gone").count(), 1);
    assert_eq!(server.log().matches("lanrage0 is back").count(), 1);

    server.terminate();
    assert!(!server.host.ip("link show").contains("lanrage0"), "it goes with the daemon");
}
