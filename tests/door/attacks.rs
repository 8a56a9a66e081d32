//! Clients that mean harm, or are broken.

use crate::client::Client;
use crate::eventually;
use crate::test_door::{DoorSetup, TestDoor, connect_narrow, stat};
use std::io::Read;
use std::net::Shutdown;
use std::time::{Duration, Instant};

fn impatient() -> TestDoor {
    TestDoor::planned(DoorSetup { timeout: Some(400), ..DoorSetup::default() })
}

/// Whether the door is as it was: nobody is left inside, and it still answers.
fn assert_unharmed(test_door: &TestDoor, threads: usize) {
    eventually("everybody has left", || stat(test_door, "connections") == 1);
    assert_eq!(test_door.threads(), threads);
}

#[test]
fn a_huge_content_length_is_refused_at_once() {
    let test_door = impatient();
    let (threads, memory) = (test_door.threads(), test_door.status("VmHWM"));
    for length in ["65537", "1000000000000", "99999999999999999999999999"] {
        let mut client = Client::connect(test_door.address);
        client.send(format!("POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n"));
        let answer = client.answer();
        assert_eq!((answer.status, answer.header("Connection")), (413, Some("close")));
        assert_eq!(answer.body, r#"{"detail":"the body is longer than 64 KiB"}"#);
        assert!(client.is_ended());
    }
    assert!(test_door.status("VmHWM") - memory < 4096);
    assert_unharmed(&test_door, threads);
}

#[test]
fn a_body_that_is_not_read_is_never_a_request() {
    let test_door = impatient();
    let threads = test_door.threads();
    let hidden = "GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n";
    for (status, head) in [
        (413, "Content-Length: 100000\r\n"),
        (501, "Transfer-Encoding: gzip, chunked\r\n"),
        (400, "Transfer-Encoding: chunked\r\nHost: y\r\n"),
        (400, "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n"),
        (400, "Content-Length: 4\r\nContent-Length: 4\r\n"),
        (400, "Content-Length: +4\r\n"),
        (400, "Content-Length: 0x4\r\n"),
        (417, "Content-Length: 4\r\nExpect: magic\r\n"),
        (505, "Content-Length: 4\r\n"),
    ] {
        let version = if status == 505 { "2.0" } else { "1.1" };
        let mut client = Client::connect(test_door.address);
        client.send(format!("POST /a HTTP/{version}\r\nHost: x\r\n{head}\r\n0\r\n\r\n{hidden}{hidden}"));
        assert_eq!(client.answer().status, status, "{head:?}");
        assert!(client.try_answer().is_none(), "{head:?}");
    }
    // What follows a body of a length we know is a request again, and nothing else is.
    let mut client = Client::connect(test_door.address);
    client.send(format!(
        "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{hidden}{hidden}",
        hidden.len()
    ));
    assert!(client.answer().body.starts_with("POST /a"));
    assert!(client.answer().body.starts_with("GET /hidden"));
    assert_eq!(stat(&test_door, "requests"), 3);
    drop(client);
    assert_unharmed(&test_door, threads);
}

#[test]
fn a_refusal_is_seen_by_a_client_that_sends_first_and_reads_later() {
    let test_door = TestDoor::start();
    let mut client = Client::connect(test_door.address);
    client.send("POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 800000\r\n\r\n");
    for _ in 0..8 {
        std::thread::sleep(Duration::from_millis(50));
        client.send(vec![b'x'; 100_000]);
    }
    assert_eq!(client.answer().status, 413);
}

#[test]
fn half_heads_lock_nobody_out() {
    let test_door = TestDoor::start();
    let threads = test_door.threads();
    let mut attackers = Vec::new();
    let mut regular = Client::connect(test_door.address);
    let mut lost = 0;
    for number in 0..300 {
        let client = Client::connect(test_door.address);
        client.send("GET / HTTP/1.1\r\nX: ");
        attackers.push(client);
        if number % 10 == 0 {
            assert_eq!(Client::connect(test_door.address).get("/honest").status, 200);
            // One that stays may have to give way, like any idle one, and comes again.
            regular.try_send(b"GET /regular HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            if regular.try_answer().is_none() {
                regular = Client::connect(test_door.address);
                assert_eq!(regular.get("/regular").status, 200);
                lost += 1;
            }
        }
    }
    assert!(stat(&test_door, "connections") <= 32);
    assert!(lost <= 30);
    assert!(test_door.descriptors() < 64, "{} descriptors", test_door.descriptors());
    drop((attackers, regular));
    assert_unharmed(&test_door, threads);
}

#[test]
fn half_bodies_lock_nobody_out() {
    let test_door = TestDoor::start();
    let attackers: Vec<_> = (0..100)
        .map(|_| {
            let client = Client::connect(test_door.address);
            client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n");
            client
        })
        .collect();
    for _ in 0..10 {
        assert_eq!(Client::connect(test_door.address).get("/honest").status, 200);
    }
    drop(attackers);
}

#[test]
fn many_sources_lock_nobody_out() {
    let test_door = TestDoor::start();
    let mut attackers = Vec::new();
    for source in 0..400u16 {
        let client = Client::connect_from([127, 0, (source % 20) as u8 + 1, 1].into(), test_door.address);
        client.send("GET / HTTP/1.1\r\nX: ");
        attackers.push(client);
    }
    for _ in 0..10 {
        assert_eq!(Client::connect(test_door.address).get("/honest").status, 200);
    }
    // One that is being answered may be gone meanwhile.
    assert!((254..=256).contains(&stat(&test_door, "connections")));
}

#[test]
fn who_has_few_is_never_the_one_who_makes_room() {
    let test_door = TestDoor::start();
    let mut honest = Client::connect(test_door.address);
    assert_eq!(honest.get("/honest").status, 200);
    // A network has half of the room at most; two of them have all, of every phase that can be given up.
    let mut attackers = Vec::new();
    for round in 0..64u8 {
        for network in 1..3 {
            for host in 1..5 {
                let client = Client::connect_from([127, 0, network, host].into(), test_door.address);
                client.send(if round % 2 == 0 { "GET / HTTP/1.1\r\nX: " } else { "" });
                attackers.push(client);
            }
        }
    }
    assert_eq!(honest.get("/still/there").status, 200);
    assert_eq!(stat(&test_door, "connections"), 256);
}

#[test]
fn idle_connections_give_way_before_half_heads_and_answers_never() {
    let test_door = TestDoor::planned(DoorSetup { connections: Some(4), ..DoorSetup::default() });
    let mut first = Client::connect(test_door.address);
    assert_eq!(first.get("/a").status, 200);
    let mut second = Client::connect(test_door.address);
    assert_eq!(second.get("/a").status, 200);
    let mut half = Client::connect(test_door.address);
    half.send("GET /half HTTP/1.1\r\n");
    let mut busy = Client::connect(test_door.address);
    busy.send("GET /slow?1500 HTTP/1.1\r\nHost: x\r\n\r\n");
    // The oldest idle one goes, then the other, and the half head last.
    let mut third = Client::connect(test_door.address);
    assert!(first.is_ended());
    assert_eq!(third.get("/a").status, 200);
    assert_eq!(second.get("/a").status, 200);
    let mut fourth = Client::connect(test_door.address);
    assert!(third.is_ended());
    assert_eq!(fourth.get("/a").status, 200);
    half.send("Host: x\r\n\r\n");
    assert!(half.answer().body.starts_with("GET /half"));
    assert_eq!(busy.answer().status, 200);
}

#[test]
fn when_all_are_being_answered_the_next_is_told_so() {
    let test_door = TestDoor::planned(DoorSetup { connections: Some(3), ..DoorSetup::default() });
    let mut busy: Vec<_> = (0..3)
        .map(|_| {
            let client = Client::connect(test_door.address);
            client.send("GET /slow?2000 HTTP/1.1\r\nHost: x\r\n\r\n");
            client
        })
        .collect();
    std::thread::sleep(Duration::from_millis(500));
    let mut late = Client::connect(test_door.address);
    let answer = late.answer();
    assert_eq!((answer.status, answer.body.as_str()), (503, r#"{"detail":"too many connections"}"#));
    assert!(late.is_ended());
    assert!(busy.iter_mut().all(|client| client.answer().status == 200));
}

#[test]
fn answers_that_nobody_reads_are_cut() {
    let test_door = impatient();
    let threads = test_door.threads();
    let mut clients: Vec<_> = (0..16)
        .map(|_| {
            let client = Client::connect(test_door.address);
            client.send("GET /large?8000000 HTTP/1.1\r\nHost: x\r\n\r\n");
            client
        })
        .collect();
    // 8 MB at 16 KiB/s would be eight minutes; so these are asked for the smaller ones too.
    let small = Client::connect(test_door.address);
    for _ in 0..3000 {
        if small.try_send(b"GET /large?4000 HTTP/1.1\r\nHost: x\r\n\r\n").is_err() {
            break;
        }
    }
    let start = Instant::now();
    assert_eq!(Client::connect(test_door.address).get("/honest").status, 200);
    eventually("the small one is cut", || stat(&test_door, "connections") <= 17);
    assert!(start.elapsed() < Duration::from_secs(30));
    let mut answer = Vec::new();
    let count = clients[0].reader.read_to_end(&mut answer);
    assert!(count.is_ok_and(|count| count > 8_000_000), "whoever reads gets all of it");
    drop((clients, small));
    assert_unharmed(&test_door, threads);
}

#[test]
fn resets_hurt_nobody() {
    let test_door = TestDoor::start();
    let threads = test_door.threads();
    for number in 0..3000 {
        let client = Client::connect(test_door.address);
        match number % 4 {
            0 => (),
            1 => client.send("GET / HT"),
            2 => client.send("GET /large?300000 HTTP/1.1\r\nHost: x\r\n\r\n"),
            _ => client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc"),
        }
        client.reset();
    }
    assert_unharmed(&test_door, threads);
    eventually("descriptors are closed", || test_door.descriptors() < 24);
}

/// What a connection had left when it was reset is waited for by nobody.
#[test]
fn a_reset_ends_the_wait_for_who_has_not_read() {
    let test_door = TestDoor::start();
    let client = connect_narrow(&test_door);
    client.send("GET /large?50000 HTTP/1.1\r\nHost: x\r\n\r\n");
    client.stream().shutdown(Shutdown::Write).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(stat(&test_door, "connections"), 2, "it is waited for");
    let start = Instant::now();
    client.reset();
    eventually("it is gone", || stat(&test_door, "connections") == 1);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn an_endless_header_line_is_cut() {
    let test_door = impatient();
    let (threads, memory) = (test_door.threads(), test_door.status("VmHWM"));
    let client = Client::connect(test_door.address);
    client.send("GET / HTTP/1.1\r\nHost: x\r\nX: ");
    let piece = vec![b'x'; 64 * 1024];
    let pieces = (0..200_000_000 / piece.len()).take_while(|_| client.try_send(&piece).is_ok()).count();
    assert!(pieces * piece.len() < 32_000_000, "{pieces} pieces were taken");
    let mut client = Client::connect(test_door.address);
    client.send(format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}", "x".repeat(9000)));
    assert_eq!(client.answer().status, 431);
    assert!(client.is_ended());
    assert!(test_door.status("VmHWM") - memory < 4096);
    assert_unharmed(&test_door, threads);
}

#[test]
fn whoever_is_too_slow_is_told_and_cut() {
    let test_door = impatient();
    let threads = test_door.threads();
    let mut silent = Client::connect(test_door.address);
    let mut half_head = Client::connect(test_door.address);
    half_head.send("GET / HTTP/1.1\r\n");
    let mut half_body = Client::connect(test_door.address);
    half_body.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab");
    let mut idle = Client::connect(test_door.address);
    assert_eq!(idle.get("/a").status, 200);
    let mut second_half = Client::connect(test_door.address);
    assert_eq!(second_half.get("/a").status, 200);
    second_half.send("G");

    assert!(silent.is_ended());
    assert!(idle.is_ended());
    for client in [&mut half_head, &mut half_body, &mut second_half] {
        let answer = client.answer();
        assert_eq!((answer.status, answer.header("Connection")), (408, Some("close")));
        assert!(answer.body.contains("took too long"));
        assert!(client.is_ended());
    }
    assert_eq!(stat(&test_door, "refused"), 3);
    assert_unharmed(&test_door, threads);
}

#[test]
fn a_byte_now_and_then_does_not_buy_time() {
    let test_door = impatient();
    let client = Client::connect(test_door.address);
    let start = Instant::now();
    let head = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}", "x".repeat(4000));
    for byte in head.bytes() {
        if client.try_send([byte]).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(start.elapsed() < Duration::from_secs(30), "it would have taken 80 s");
}

#[test]
fn a_slow_answer_is_not_a_slow_client() {
    let test_door = impatient();
    assert_eq!(Client::connect(test_door.address).get("/slow?1500").status, 200);
}

#[test]
fn a_full_descriptor_table_is_survived() {
    let test_door = TestDoor::planned(DoorSetup { descriptors: Some(64), ..DoorSetup::default() });
    let threads = test_door.threads();
    // More than fit: the limits were held to what there is.
    let crowd: Vec<_> = (0..100).map(|_| Client::connect(test_door.address)).collect();
    assert_eq!(Client::connect(test_door.address).get("/a").status, 200);
    assert!(stat(&test_door, "connections") <= 17);
    drop(crowd);
    eventually("the crowd has left", || stat(&test_door, "connections") == 1);

    let mut hoarder = Client::connect(test_door.address);
    let mut hoarded: usize = 0;
    for _ in 0..10 {
        // Again, for the descriptors of connections that were just being closed.
        hoarded = hoarder.get("/hoard?100").body.parse().unwrap();
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!((1..64).contains(&hoarded), "{hoarded}");
    // The hoarder is idle and gives way, since there is no descriptor left for anybody.
    let mut next = Client::connect(test_door.address);
    assert_eq!(next.get("/a").status, 200);
    assert!(hoarder.is_ended());
    // One that is being answered does not, and nobody spins meanwhile.
    next.send("GET /slow?3000 HTTP/1.1\r\nHost: x\r\n\r\n");
    std::thread::sleep(Duration::from_millis(200));
    let before = test_door.cpu_ticks();
    let mut waiting = Client::connect(test_door.address);
    waiting.send("GET /release HTTP/1.1\r\nHost: x\r\n\r\n");
    std::thread::sleep(Duration::from_millis(2000));
    let spent = test_door.cpu_ticks() - before;
    assert!(spent < Duration::from_millis(600), "{spent:?} of 2 s spent on waiting");
    assert_eq!(next.answer().status, 200);
    assert_eq!(waiting.answer().status, 200);
    drop((next, waiting));
    assert_unharmed(&test_door, threads);
}

#[test]
fn random_bytes_hurt_nobody() {
    let test_door = impatient();
    let threads = test_door.threads();
    let pieces = [
        "GET / HTTP/1.1\r\n",
        "POST /a HTTP/1.1\r\n",
        "GET /ws HTTP/1.1\r\n",
        "Host: x\r\n",
        "\r\n",
        "\r\n\r\n",
        "\n",
        "Content-Length: 7\r\n",
        "Content-Length: 70000\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Expect: 100-continue\r\n",
        "Connection: Upgrade\r\n",
        "Upgrade: websocket\r\n",
        "Sec-WebSocket-Version: 13\r\n",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        "\0",
        "body",
        "\u{81}\u{85}",
        "GET /large?9000 HTTP/1.1\r\nHost: x\r\n\r\n",
    ];
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut below = |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % bound as u64) as usize
    };
    for _ in 0..1500 {
        let client = Client::connect(test_door.address);
        for _ in 0..below(12) {
            // The door may have had enough already.
            let _ = client.try_send(pieces[below(pieces.len())].as_bytes());
        }
        match below(3) {
            0 => client.reset(),
            1 => client.stream().shutdown(Shutdown::Write).unwrap_or(()),
            _ => (),
        }
    }
    assert_eq!(Client::connect(test_door.address).get("/honest").status, 200);
    assert_unharmed(&test_door, threads);
}
