//! Requests that are as they should be.

use crate::client::Client;
use crate::eventually;
use crate::test_door::{DoorSetup, TestDoor, ask, connect_narrow, stat};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

#[test]
fn requests_are_answered_on_one_connection() {
    let test_door = TestDoor::start();
    let mut client = Client::connect(test_door.address);
    for number in 0..100 {
        let answer = client.get(&format!("/echo/{number}?q={number}"));
        assert_eq!(answer.status, 200);
        assert!(answer.body.starts_with(&format!("GET /echo/{number} q={number} 0 Ip(127.0.0.1) true")));
        assert!(!answer.head.contains("Access-Control"), "{}", answer.head);
        assert_eq!(answer.header("Server"), Some("lanrage"));
        assert_eq!(answer.header("Connection"), None);
    }
}

#[test]
fn bodies_come_whole_in_any_number_of_pieces() {
    let test_door = TestDoor::start();
    let mut client = Client::connect(test_door.address);
    for length in [0, 1, 5, 8192, 20_000, 65_536] {
        for pieces in [1, 3, 50] {
            let mut bytes =
                format!("POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n").into_bytes();
            bytes.resize(bytes.len() + length, b'b');
            for piece in bytes.chunks(bytes.len().div_ceil(pieces)) {
                client.send(piece);
                std::thread::sleep(Duration::from_micros(200));
            }
            let answer = client.answer();
            assert!(answer.body.starts_with(&format!("POST /a  {length} ")), "{}", answer.body);
        }
    }
    let answer = ask(&test_door, "GET /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello");
    assert!(answer.body.starts_with("GET /a  5 "), "{}", answer.body);
}

#[test]
fn bodies_may_come_in_chunks() {
    let test_door = TestDoor::start();
    let mut client = Client::connect(test_door.address);
    for length in [0, 1, 8192, 65_536] {
        for chunk in [7, 4096, 65_536] {
            for pieces in [1, 20] {
                let mut bytes = b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
                for data in vec![b'b'; length].chunks(chunk) {
                    bytes.extend_from_slice(format!("{:X};x=y\r\n", data.len()).as_bytes());
                    bytes.extend_from_slice(data);
                    bytes.extend_from_slice(b"\r\n");
                    if chunk < 100 && bytes.len() > 4000 {
                        break;
                    }
                }
                bytes.extend_from_slice(b"0\r\nX-Sum: 1\r\n\r\n");
                let expected = bytes.iter().filter(|byte| **byte == b'b').count();
                for piece in bytes.chunks(bytes.len().div_ceil(pieces)) {
                    client.send(piece);
                    std::thread::sleep(Duration::from_micros(200));
                }
                let answer = client.answer();
                assert!(answer.body.starts_with(&format!("POST /a  {expected} ")), "{}", answer.body);
            }
        }
    }
    // What follows is the next request, also in the same write.
    client.send(
        "POST /a HTTP/1.2\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n\
         GET /next HTTP/1.1\r\nHost: x\r\n\r\n",
    );
    assert!(client.answer().body.starts_with("POST /a  2 "));
    assert!(client.answer().body.starts_with("GET /next"));
    client.send("POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.answer().status, 100);
    client.send("5\r\nhello\r\n0\r\n\r\n");
    assert!(client.answer().body.starts_with("POST /a  5 "));
    for (status, body) in [
        (413, "10001\r\n".to_owned()),
        (413, format!("0\r\n{}", "X: y\r\n".repeat(5000))),
        (413, format!("1;{}", "x".repeat(9000))),
        (400, "5\nhello".to_owned()),
        (400, "5\r\nhello!".to_owned()),
        (400, "0\r\nX: y\r\n folded\r\n\r\n".to_owned()),
        (400, "0\r\nX: \0\r\n\r\n".to_owned()),
    ] {
        let mut client = Client::connect(test_door.address);
        client.send(format!("POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{body}"));
        assert_eq!(client.answer().status, status, "{:?}", &body[..body.len().min(40)]);
        assert!(client.is_ended());
    }
    let mut client = Client::connect(test_door.address);
    client.send("POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel");
    client.stream().shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.answer().status, 400);
}

#[test]
fn a_head_may_come_byte_by_byte() {
    let test_door = TestDoor::start();
    let mut client = Client::connect(test_door.address);
    for byte in b"GET /slowly HTTP/1.1\r\nHost: x\r\n\r\n" {
        client.send([*byte]);
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(client.answer().body.starts_with("GET /slowly"));
}

#[test]
fn whoever_expects_to_continue_is_told_to() {
    let test_door = TestDoor::start();
    let mut client = Client::connect(test_door.address);
    client.send("POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    let go_on = client.answer();
    assert_eq!((go_on.status, go_on.head.as_str()), (100, "HTTP/1.1 100 Continue\r\n\r\n"));
    client.send("hello");
    assert!(client.answer().body.starts_with("POST /a  5 "));
    // Whoever does not wait for it is not told, and whoever must not send it is told why.
    client.send("POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\nhi");
    assert_eq!(client.answer().status, 200);
    client.send("POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 70000\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.answer().status, 413);
    assert!(client.is_ended());
}

#[test]
fn old_and_closing_clients_are_served_and_closed() {
    let test_door = TestDoor::start();
    for head in [
        "GET /a HTTP/1.0\r\n\r\n",
        "GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: x\r\nConnection: Close\r\n\r\n",
    ] {
        let mut client = Client::connect(test_door.address);
        client.send(head);
        let answer = client.answer();
        assert_eq!((answer.status, answer.header("Connection")), (200, Some("close")), "{head:?}");
        assert!(answer.head.starts_with("HTTP/1.1 "));
        assert!(client.is_ended());
    }
}

#[test]
fn a_client_that_has_finished_sending_is_still_answered() {
    let test_door = TestDoor::start();
    let mut client = Client::connect(test_door.address);
    client.send("GET /slow?100 HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n");
    client.stream().shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.answer().status, 200);
    assert!(client.answer().body.starts_with("GET /b"));
    assert!(client.is_ended());
}

/// Whoever has finished sending is told at once where the answer ends, however late it reads.
#[test]
fn the_end_of_what_is_sent_comes_with_the_last_of_it() {
    let test_door = TestDoor::planned(DoorSetup { timeout: Some(12_000), ..DoorSetup::default() });
    let mut client = connect_narrow(&test_door);
    client.send("GET /large?50000 HTTP/1.1\r\nHost: x\r\n\r\n");
    client.stream().shutdown(Shutdown::Write).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let start = Instant::now();
    assert_eq!(client.answer().body.len(), 50_000);
    assert!(client.is_ended());
    // It looks every three seconds whether all was taken.
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[test]
fn a_body_does_not_count_while_its_answer_takes_its_time() {
    let test_door = TestDoor::start();
    let mut client = Client::connect(test_door.address);
    client.send("POST /slow?3000 HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n");
    client.send(vec![b'x'; 50_000]);
    eventually("what is not complete counts", || stat(&test_door, "buffers") > 40_000);
    let start = Instant::now();
    client.send(vec![b'x'; 10_000]);
    eventually("it does not count any more", || stat(&test_door, "buffers") == 0);
    assert!(start.elapsed() < Duration::from_secs(3), "it was not answered before");
    assert_eq!(client.answer().status, 200);
}

#[test]
fn head_is_answered_without_a_body() {
    let test_door = TestDoor::start();
    let mut client = Client::connect(test_door.address);
    client.send("HEAD /large?1000 HTTP/1.1\r\nHost: x\r\n\r\n");
    let answer = client.receive("HEAD").unwrap();
    assert_eq!((answer.status, answer.header("Content-Length")), (200, Some("1000")));
    assert!(client.get("/next").body.starts_with("GET /next"));
}

#[test]
fn ten_thousand_requests_at_once_are_answered_in_order() {
    let test_door = TestDoor::start();
    let mut client = Client::connect(test_door.address);
    let mut writer = client.stream().try_clone().unwrap();
    // In one piece: of ten thousand segments the kernel drops some, as each takes far more room in its buffers than its
    // bytes, and whoever sends them again waits longer each time.
    let requests: String =
        (0..10_000).map(|number| format!("GET /{number} HTTP/1.1\r\nHost: x\r\n\r\n")).collect();
    let sender = std::thread::spawn(move || writer.write_all(requests.as_bytes()).unwrap());
    for number in 0..10_000 {
        let answer = client.answer();
        assert!(answer.body.starts_with(&format!("GET /{number} ")), "{}", answer.body);
    }
    sender.join().unwrap();
    assert!(test_door.status("VmHWM") < 64 * 1024, "{} KiB", test_door.status("VmHWM"));
}

#[test]
fn parallel_connections_do_not_wait_for_each_other() {
    let test_door = TestDoor::start();
    let (address, threads) = (test_door.address, test_door.threads());
    let slow = std::thread::spawn(move || Client::connect(address).get("/slow?2000").status);
    let start = Instant::now();
    let workers: Vec<_> = (0..20)
        .map(|_| {
            std::thread::spawn(move || {
                let mut client = Client::connect(address);
                (0..50).all(|number| client.get(&format!("/{number}")).status == 200)
            })
        })
        .collect();
    assert!(workers.into_iter().all(|worker| worker.join().unwrap()));
    assert!(start.elapsed() < Duration::from_secs(30));
    assert_eq!(slow.join().unwrap(), 200);
    assert_eq!(test_door.threads(), threads);
}

#[test]
fn pieces_come_as_chunks_and_a_broken_body_can_be_told() {
    let test_door = TestDoor::start();
    let fetch = |path: &str| {
        let client = Client::connect(test_door.address);
        client.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
        let mut bytes = Vec::new();
        client.reader.into_inner().read_to_end(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    };
    let whole = fetch("/pieces?2");
    let (head, body) = whole.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("\r\nTransfer-Encoding: chunked") && !head.contains("Content-Length"));
    let piece = |number| format!("piece {number};").repeat(1000);
    assert_eq!(body, format!("1f40\r\n{}\r\n1f40\r\n{}\r\n0\r\n\r\n", piece(0), piece(1)));
    assert!(fetch("/pieces?0").ends_with("\r\n\r\n0\r\n\r\n"));
    assert!(!fetch("/broken?2").contains("\r\n0\r\n"));

    let mut client = Client::connect(test_door.address);
    client.send("GET /pieces?2 HTTP/1.0\r\n\r\n");
    assert_eq!(client.answer().status, 505);
    let mut client = Client::connect(test_door.address);
    client.send("HEAD /pieces?2 HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(client.receive("HEAD").unwrap().status, 200);
    assert_eq!(client.get("/next").status, 200);
}

#[test]
fn a_stopping_door_finishes_what_it_began() {
    let mut test_door = TestDoor::start();
    let mut idle = Client::connect(test_door.address);
    assert_eq!(idle.get("/a").status, 200);
    let mut half = Client::connect(test_door.address);
    half.send("GET /a HT");
    let mut busy = Client::connect(test_door.address);
    busy.send("GET /slow?500 HTTP/1.1\r\nHost: x\r\n\r\n");
    eventually("the busy one is served", || stat(&test_door, "requests") >= 3);
    let answer = Client::connect(test_door.address).get("/stop");
    assert_eq!((answer.status, answer.header("Connection")), (200, Some("close")));
    assert!(idle.is_ended());
    assert!(half.is_ended());
    let answer = busy.answer();
    assert_eq!((answer.status, answer.header("Connection")), (200, Some("close")));
    assert!(busy.is_ended());
    assert!(test_door.drained());
}

#[test]
fn what_was_answered_arrives_although_the_door_stops() {
    let mut test_door = TestDoor::start();
    let mut slow = Client::connect(test_door.address);
    rustix::net::sockopt::set_socket_recv_buffer_size(slow.stream(), 4096).unwrap();
    slow.send("GET /large?50000 HTTP/1.1\r\nHost: x\r\n\r\n");
    eventually("it is answered", || stat(&test_door, "requests") >= 2);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(Client::connect(test_door.address).get("/stop").status, 200);
    assert!(test_door.drained());
    assert_eq!(slow.answer().body.len(), 50_000);
}

#[test]
fn nobody_there_costs_nothing() {
    let test_door = TestDoor::planned(DoorSetup { timeout: Some(400), ..DoorSetup::default() });
    assert_eq!(Client::connect(test_door.address).get("/a").status, 200);
    // The sweeper runs once more after the last connection.
    std::thread::sleep(Duration::from_millis(1000));
    let before = test_door.sleeps();
    std::thread::sleep(Duration::from_millis(3000));
    // A sweeper that runs on would wake up thirty times.
    assert!(test_door.sleeps() - before <= 5, "{} wake-ups", test_door.sleeps() - before);
}
