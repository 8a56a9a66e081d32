//! Coturn's STUN client, Debian's classic one, and what is no STUN.

use crate::harness::namespace::Namespace;
use crate::lab::{Lab, Mapping, public_ip, public_ip6};
use crate::server::Server;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

/// The address that the client is told.
fn reflexive(host: &Namespace, server: &str, port: u16) -> String {
    let text = host.run(&format!("turnutils_stunclient -p {port} {server}"));
    let line = text.lines().find_map(|line| line.split_once("reflexive addr: "));
    line.unwrap_or_else(|| panic!("{text}")).1.trim().to_owned()
}

#[test]
#[ignore = "needs root: network namespaces, coturn's client"]
fn tells_addresses() {
    let _alone = crate::alone();
    let lab = Lab::new();
    let _server = Server::new(&lab);
    let host = lab.host(10);
    let nat = lab.nat(20, Mapping::Symmetric);
    let hidden = nat.host(2);
    for port in [51820, 51821] {
        let told = reflexive(&host, "192.0.2.1", port);
        assert!(told.starts_with("192.0.2.10:"), "{told}");
        let told = reflexive(&host, &public_ip6(1).to_string(), port);
        assert!(told.contains(&public_ip6(10).to_string()), "{told}");
        let told = reflexive(&hidden, "192.0.2.1", port);
        assert!(told.starts_with("192.0.2.20:"), "{told}");
    }
}

/// Debian's stun-client speaks RFC 3489, without a magic cookie. It knows by itself what follows from answers and
/// their absence; with one address to ask it can't tell how a NAT maps, and is not told wrongly that it can.
#[test]
#[ignore = "needs root: network namespaces, Debian's stun-client"]
fn a_classic_client_is_served() {
    let _alone = crate::alone();
    let lab = Lab::new();
    let server = Server::new(&lab);
    let host = lab.host(10);
    let nat = lab.nat(20, Mapping::Preserving);
    let hidden = nat.host(2);
    // Test 1 is a plain request.
    let told = |host: &Namespace, port: u16| {
        let output = host.command("stun").args([&format!("192.0.2.1:{port}"), "-v", "1"]).output().unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        let line = text
            .lines()
            .find_map(|line| line.split_once("mappedAddr=").or(line.split_once("MappedAddress = ")));
        line.unwrap_or_else(|| panic!("{text}")).1.trim().to_owned()
    };
    for port in [51820, 51821] {
        assert!(told(&host, port).starts_with("192.0.2.10:"));
        assert!(told(&hidden, port).starts_with("192.0.2.20:"));
    }
    // All its questions: whether an answer comes from another address (II) or port (III), too.
    for (host, is_hidden) in [(&host, false), (&hidden, true)] {
        let output = host.command("stun").args(["192.0.2.1:51820", "-v"]).output().unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        let other_port = u8::from(!is_hidden);
        let behind = u8::from(is_hidden);
        for line in [
            "test I = 1".to_owned(),
            "test II = 0".to_owned(),
            format!("test III = {other_port}"),
            format!("is nat  = {behind}"),
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }
    assert_eq!(server.dropped("stun_limit"), 0);
}

#[test]
#[ignore = "needs root: network namespaces"]
fn what_is_no_stun_gets_no_answer() {
    let _alone = crate::alone();
    let lab = Lab::new();
    let server = Server::new(&lab);
    let host = lab.host(10);
    let socket = host.inside(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap());
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut request = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    request.extend([7; 12]);
    let with = |place: usize, byte: u8| {
        let mut changed = request.clone();
        changed[place] = byte;
        changed
    };
    let malformed = [
        with(4, 0x20)[..19].to_vec(),
        with(3, 4),
        with(3, 3),
        with(0, 1),
        with(1, 3),
        request[..19].to_vec(),
        vec![],
    ];
    let mut answer = [0; 1500];
    for port in [51820, 51821] {
        let to = SocketAddr::new(public_ip(1).into(), port);
        for bytes in &malformed {
            socket.send_to(bytes, to).unwrap();
        }
        assert!(socket.recv_from(&mut answer).is_err(), "{:?}", &answer[..32]);
        socket.send_to(&request, to).unwrap();
        let (length, from) = socket.recv_from(&mut answer).unwrap();
        assert_eq!((from, &answer[..2], &answer[8..20]), (to, &[1, 1][..], &[7; 12][..]), "{length}");
    }
    assert!(server.dropped("stun_malformed") >= 2 && server.dropped("unknown") >= 2);
}
