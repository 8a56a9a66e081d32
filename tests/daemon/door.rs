//! Hostile connections to the real binary: afterwards it is as it was, and serves the honest.

use crate::client::{Client, connect_from};
use crate::eventually;
use crate::test_daemon::{Setup, TestDaemon};
use rustix::net::sockopt;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

/// What may be left over after an attack, in KiB: the allocator keeps some of what it once had.
const MEMORY_SLACK: u64 = 8 * 1024;
/// How long an honest request may take meanwhile.
const HONEST: Duration = Duration::from_secs(2);

/// What a daemon is like before it is attacked.
struct Before {
    threads: usize,
    descriptors: usize,
    memory: u64,
}

impl Before {
    fn of(daemon: &TestDaemon) -> Self {
        honest(daemon);
        Before { threads: daemon.threads(), descriptors: daemon.descriptors(), memory: daemon.memory() }
    }

    /// All of it is as before.
    fn holds(&self, daemon: &mut TestDaemon) {
        assert!(daemon.is_running());
        honest(daemon);
        // The honest client's own connection may still be under way out.
        eventually("the descriptors are given back", || daemon.descriptors() <= self.descriptors);
        assert!(daemon.threads() <= self.threads, "{} threads, {} before", daemon.threads(), self.threads);
        let memory = daemon.memory();
        assert!(memory <= self.memory + MEMORY_SLACK, "{memory} KiB, {} before", self.memory);
    }
}

fn from(source: u8, daemon: &TestDaemon) -> TcpStream {
    connect_from(Ipv4Addr::new(127, 0, 1, source), daemon.http)
}

#[track_caller]
fn honest(daemon: &TestDaemon) {
    let start = Instant::now();
    daemon.client().get("/").is(200);
    assert!(start.elapsed() < HONEST, "an honest request took {:?}", start.elapsed());
}

/// The status of what comes back; `None` if the connection ends without an answer.
fn status(stream: TcpStream, bytes: &[u8]) -> Option<u16> {
    let mut client = Client::over(stream);
    client.try_send(bytes).ok()?;
    Some(client.receive("GET").ok()?.status)
}

#[test]
fn heads_that_lie_are_refused() {
    let mut daemon = TestDaemon::start();
    let before = Before::of(&daemon);
    let many = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(100));
    let wide = format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n", "b".repeat(1 << 20));
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(1 << 20));
    let cases: &[(u16, &str)] = &[
        (413, "POST /parties HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000\r\n\r\n"),
        (413, "POST /parties HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n"),
        (400, "POST /parties HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n"),
        (400, "POST /parties HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}}"),
        (
            400,
            "POST /parties HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (501, "POST /parties HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        (400, "POST /parties HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n\r\n"),
        (413, "POST /parties HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n10001\r\n"),
        (400, "GET / HTTP/1.1\nHost: x\n\n"),
        (400, "GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n"),
        (400, "GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n"),
        (505, "GET / HTTP/2.0\r\nHost: x\r\n\r\n"),
        (431, &many),
        (431, &wide),
        (431, &long),
    ];
    for (expected, bytes) in cases {
        let shown = &bytes[..bytes.len().min(120)];
        let found = status(from(1, &daemon), bytes.as_bytes());
        // One who goes on sending after the refusal may find the connection reset instead.
        let is_cut = bytes.len() > 100_000 && found.is_none();
        assert!(found == Some(*expected) || is_cut, "{found:?} for {shown:?}");
    }
    // What a proxy might take for the body is not the next request.
    let mut smuggler = Client::over(from(1, &daemon));
    let inner = "GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n";
    smuggler
        .send(format!("POST /parties HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}"));
    let said = String::from_utf8(smuggler.rest()).unwrap();
    assert_eq!(said.matches("HTTP/1.1 ").count(), 1, "{said}");
    // A stranger's noise, TLS and SSH for example.
    for noise in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"SSH-2.0-x\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
        b"\r\n\r\n\r\n\r\nx\r\n\r\n",
    ] {
        assert_eq!(status(from(1, &daemon), noise), Some(400), "{noise:?}");
    }
    before.holds(&mut daemon);
}

#[test]
fn deep_json_is_refused() {
    let mut daemon = TestDaemon::start();
    let before = Before::of(&daemon);
    let mut client = daemon.client();
    client.register("host");
    for body in [
        "[".repeat(65_536),
        "[".repeat(32_768) + &"]".repeat(32_768),
        "{\"a\":".repeat(13_000) + "1",
        "{\"name\":".to_owned() + &"[".repeat(30_000) + &"]".repeat(30_000) + "}",
        "\"".to_owned() + &"\\u0000".repeat(10_900) + "\"",
        "1".repeat(65_000),
    ] {
        client.ask("POST", "/parties", &body).is(422);
        client.ask("POST", "/relays", &body).is(422);
    }
    drop(client);
    before.holds(&mut daemon);
}

#[test]
fn half_heads_do_not_keep_the_honest_out() {
    let mut daemon = Setup::new(&[("timeouts.head", "2")]).start();
    let before = Before::of(&daemon);
    // More than the door holds, from sources that each stay below their share.
    let halves: Vec<TcpStream> = (0..300)
        .map(|number| {
            let mut stream = from(1 + (number / 25) as u8, &daemon);
            let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nA: ");
            stream
        })
        .collect();
    let start = Instant::now();
    let mut served = 0;
    while start.elapsed() < Duration::from_secs(3) {
        let asked = Instant::now();
        let mut client = daemon.client();
        client.get("/").is(200);
        assert!(asked.elapsed() < Duration::from_secs(4), "kept waiting for {:?}", asked.elapsed());
        served += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(served > 5, "{served} served");
    drop(halves);
    before.holds(&mut daemon);
}

#[test]
fn answers_that_nobody_reads_and_resets_leave_nothing_behind() {
    let mut daemon = Setup::new(&[("timeouts.write", "1")]).start();
    let before = Before::of(&daemon);
    // Asks for megabytes, and reads none of them.
    let deaf: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut stream = from(1, &daemon);
            sockopt::set_socket_recv_buffer_size(&stream, 4096).unwrap();
            stream.set_nonblocking(true).unwrap();
            for _ in 0..200 {
                let requests = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(20);
                if stream.write(&requests).is_err() {
                    break;
                }
            }
            stream
        })
        .collect();
    honest(&daemon);
    for number in 0..2000 {
        let stream = from(2 + (number % 100) as u8, &daemon);
        sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        if number % 2 == 0 {
            let _ = (&stream).write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        }
        drop(stream);
    }
    honest(&daemon);
    eventually("those who do not read are cut", || daemon.descriptors() <= before.descriptors + 1);
    drop(deaf);
    before.holds(&mut daemon);
}

#[test]
fn ten_thousand_requests_at_once_are_answered_in_turn() {
    let mut daemon = TestDaemon::start();
    let before = Before::of(&daemon);
    const COUNT: usize = 10_000;
    let stream = from(1, &daemon);
    let mut sender = stream.try_clone().unwrap();
    let writing = std::thread::spawn(move || {
        let requests: String =
            (0..COUNT).map(|number| format!("GET /relays/{number} HTTP/1.1\r\nHost: x\r\n\r\n")).collect();
        sender.write_all(requests.as_bytes())
    });
    let mut client = Client::over(stream);
    for _ in 0..COUNT {
        client.receive("GET").unwrap().is(401);
    }
    writing.join().unwrap().unwrap();
    drop(client);
    before.holds(&mut daemon);
}

#[test]
fn few_descriptors_are_survived() {
    let mut daemon =
        Setup::new(&[("timeouts.head", "1"), ("timeouts.idle", "1")]).after("ulimit -n 64").start();
    let before = Before::of(&daemon);
    let mut client = daemon.client();
    client.register("host");
    let crowd: Vec<TcpStream> = (0..300).map(|number| from(1 + (number % 100) as u8, &daemon)).collect();
    std::thread::sleep(Duration::from_millis(300));
    assert!(daemon.is_running());
    assert!(daemon.descriptors() <= 64);
    daemon.owner().get("/status").is(200);
    drop(crowd);
    // The store still has what it needs.
    let mut client = daemon.client();
    let party = client.register("other").create("LAN", "other");
    client.get(&format!("/parties/{party}")).is(200);
    drop(client);
    before.holds(&mut daemon);
}

/// The relay's port takes anything, and says nothing.
#[test]
fn the_relays_port_answers_nobody() {
    let mut daemon = TestDaemon::start();
    let before = Before::of(&daemon);
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(daemon.relay).unwrap();
    let mut random = crate::Random::new(8);
    for length in [0, 1, 4, 19, 32, 92, 148, 1500, 9000, 65_000] {
        for kind in 0..5u8 {
            let mut datagram: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
            if let Some(first) = datagram.first_mut() {
                *first = kind;
            }
            socket.send(&datagram).unwrap();
        }
    }
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut buffer = [0; 2048];
    assert!(socket.recv(&mut buffer).is_err(), "an answer came");
    before.holds(&mut daemon);
    let mut rest = Vec::new();
    assert_eq!((&buffer[..0]).read_to_end(&mut rest).unwrap(), 0);
}
