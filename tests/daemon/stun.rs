//! STUN at both ports of the real daemon, by IPv4 and IPv6, and what agents tell NAT types by.

use crate::test_daemon::{Setup, TestDaemon};
use lanrage::wire::stun::{self, mapped_address};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

const ID: [u8; 12] = *b"transaction!";

/// A daemon whose port and the one above it are free.
fn daemon(ip: IpAddr) -> TestDaemon {
    loop {
        let free = UdpSocket::bind((ip, 0)).unwrap().local_addr().unwrap();
        let above = free.port().checked_add(1);
        if above.is_some_and(|port| UdpSocket::bind((ip, port)).is_ok()) {
            return Setup::new(&[("relay", &free.to_string())]).start();
        }
    }
}

/// `attributes` in a Binding request, with this instead of the magic cookie.
fn binding(cookie: [u8; 4], attributes: &[u8]) -> Vec<u8> {
    let length = (attributes.len() as u16).to_be_bytes();
    [&[0, 1][..], &length, &cookie, &ID, attributes].concat()
}

const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const CHANGE_PORT: [u8; 8] = [0, 3, 0, 4, 0, 0, 0, 2];
const CHANGE_BOTH: [u8; 8] = [0, 3, 0, 4, 0, 0, 0, 6];

fn heard(socket: &UdpSocket) -> Option<(Vec<u8>, SocketAddr)> {
    let mut answer = [0; 2000];
    let (length, from) = socket.recv_from(&mut answer).ok()?;
    Some((answer[..length].to_vec(), from))
}

#[test]
fn both_ports_answer_by_both_protocols() {
    for ip in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        let daemon = daemon(ip);
        let main = daemon.relay;
        let other = SocketAddr::new(ip, main.port() + 1);
        for (to, across) in [(main, other), (other, main)] {
            // Each has a source of its own, as far as there is more than one address: a source has 20 answers.
            let socket = UdpSocket::bind((ip, 0)).unwrap();
            let own = socket.local_addr().unwrap();
            socket.set_read_timeout(Some(crate::PATIENCE)).unwrap();
            let ask = |bytes: &[u8]| {
                socket.send_to(bytes, to).unwrap();
                heard(&socket).expect("an answer")
            };
            let (answer, from) = ask(&binding(COOKIE, &[]));
            assert_eq!((from, mapped_address(&answer, &ID)), (to, Some(own)));
            // The mapped address and nothing that would promise a second address of the server's.
            assert_eq!(answer.len(), if ip.is_ipv4() { 32 } else { 44 });

            let mut padded = [0; 64];
            let length = stun::request(&ID, true, 44, &mut padded).unwrap();
            let (answer, from) = ask(&padded[..length]);
            assert_eq!((from, mapped_address(&answer, &ID)), (across, Some(own)), "the other port answers");
            assert!(answer.len() <= length);

            let (answer, from) = ask(&binding(COOKIE, &CHANGE_BOTH));
            assert_eq!(
                (from, &answer[..2]),
                (to, &[1, 0x11][..]),
                "there is no other address to answer from"
            );
            assert_eq!(answer[20..], [0, 9, 0, 4, 0, 0, 4, 20, 0, 10, 0, 2, 0, 3, 0, 0]);

            // As RFC 3489 has it.
            for (attributes, origin) in [(&[][..], to), (&CHANGE_PORT, across)] {
                let request = binding(*b"clas", attributes);
                let (answer, from) = ask(&request);
                let family = if ip.is_ipv4() { [0, 1, 0, 8, 0, 1] } else { [0, 1, 0, 20, 0, 2] };
                let told = [&family[..], &own.port().to_be_bytes()].concat();
                assert_eq!((from, &answer[..2], &answer[4..20]), (origin, &[1, 1][..], &request[4..20]));
                assert_eq!(answer[20..28], told);
            }

            let malformed = [
                binding(*b"clas", &CHANGE_BOTH),
                binding(COOKIE, &[0, 3, 0, 4, 0, 0]),
                binding(COOKIE, &[0, 3, 0, 9, 0, 0, 0, 2]),
                binding(COOKIE, &CHANGE_PORT)[..27].to_vec(),
                [&binding(COOKIE, &[])[..], &[0]].concat(),
                [&binding(*b"clas", &[])[..], &[0]].concat(),
                [&[1, 1][..], &binding(COOKIE, &[])[2..]].concat(),
                [&[0, 0x11][..], &binding(COOKIE, &[])[2..]].concat(),
                binding(COOKIE, &[])[..19].to_vec(),
                Vec::new(),
            ];
            socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            malformed.iter().for_each(|bytes| _ = socket.send_to(bytes, to).unwrap());
            assert_eq!(heard(&socket), None);
            // A source's share lasts for this much and is soon whole again.
            crate::eventually("it still answers", || {
                socket.send_to(&binding(COOKIE, &[]), to).unwrap();
                heard(&socket).is_some()
            });
        }
    }
}
