//! A proxy that passes bytes on says ahead of them for whom (PROXY protocol, version 2).

use crate::client::Client;
use crate::test_daemon::{Setup, TestDaemon};
use std::net::TcpStream;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// What a proxy says for a client with an IPv4 address.
fn header(client: [u8; 4]) -> Vec<u8> {
    [SIGNATURE, &[0x21, 0x11, 0, 12], &client, &[192, 0, 2, 1, 0x11, 0x11, 0x21, 0xdb]].concat()
}

/// A connection that begins with these bytes.
fn behind(daemon: &TestDaemon, begin: &[u8]) -> Client {
    let client = Client::over(TcpStream::connect(daemon.http).unwrap());
    client.send(begin);
    client
}

fn relay(address: &str) -> String {
    format!(r#"{{"relay_id":"mine","public_ip":"{address}","port":51820}}"#)
}

#[test]
fn a_trusted_proxy_says_for_whom_a_connection_is() {
    let daemon = Setup::new(&[("trusted_proxies", "127.0.0.1")]).start();
    let mut client = behind(&daemon, &header([203, 0, 113, 9]));
    client.register("bob");
    // A relay is where the request comes from: with the second request, too, and whatever a client writes itself.
    client.ask("POST", "/relays", &relay("198.51.100.1")).is(403);
    client.ask("POST", "/relays", &relay("203.0.113.9")).is(200);
    client.send(
        "GET /status HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 127.0.0.1\r\nContent-Length: 0\r\n\r\n"
            .as_bytes(),
    );
    client.answer().is(401);
    // Byte by byte, and with what a proxy adds.
    let mut long = header([203, 0, 113, 10]);
    long[15] += 200;
    long.extend([0; 200]);
    let mut slow = behind(&daemon, b"");
    long.iter().for_each(|byte| slow.send([*byte]));
    slow.register("eve").ask("POST", "/relays", &relay("203.0.113.9")).is(403);
    // A health check, which is for nobody.
    let local = [SIGNATURE, &[0x20, 0, 0, 0]].concat();
    behind(&daemon, &local).get("/").is(200);
    behind(&daemon, b"").get("/").is(200);
}

#[test]
fn nobody_is_local_by_what_a_proxy_says() {
    let daemon = Setup::new(&[("trusted_proxies", "127.0.0.1")]).start();
    for said in [[127, 0, 0, 1], [0; 4], [192, 168, 1, 2]] {
        behind(&daemon, &header(said)).get("/status").is(401);
        behind(&daemon, &header(said)).get("/metrics").is(401);
    }
}

#[test]
fn who_is_not_trusted_says_nothing_and_what_is_malformed_is_refused() {
    let stranger = Setup::new(&[]).start();
    behind(&stranger, &header([203, 0, 113, 9])).get("/").is(400);
    let daemon = Setup::new(&[("trusted_proxies", "127.0.0.1")]).start();
    let too_long = [SIGNATURE, &[0x21, 0x11, 0xff, 0xff]].concat();
    let version_3 = [SIGNATURE, &[0x31, 0x11, 0, 0]].concat();
    let too_short = [SIGNATURE, &[0x21, 0x11, 0, 4, 1, 2, 3, 4]].concat();
    // Twice is once too often, and the first version is not spoken here.
    let twice = header([203, 0, 113, 9]).repeat(2);
    let first = b"PROXY TCP4 203.0.113.9 192.0.2.1 4369 8667\r\n".to_vec();
    for begin in [too_long, version_3, too_short, twice, first] {
        behind(&daemon, &begin).get("/").is(400);
    }
    daemon.client().get("/").is(200);
}
