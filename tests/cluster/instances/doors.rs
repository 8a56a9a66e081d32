//! What comes to a follower that is not there, is long, or makes no sense.

use super::signals::take_soon;
use super::{Instances, figure};
use crate::Random;
use crate::client::{Answer, create_body};
use crate::harness::alone;
use std::time::{Duration, Instant};

const MOST: usize = 64 * 1024;

/// A body of this length that is as good as a shorter one.
fn padded(body: &str, length: usize) -> String {
    format!("{body}{}", " ".repeat(length - body.len()))
}

#[test]
#[ignore = "needs PostgreSQL"]
fn what_is_nowhere_is_not_found_and_long_bodies_come_through() {
    let _alone = alone();
    let instances = Instances::start();
    for at in 0..3 {
        let mut client = instances.client(at);
        client.get("/parties/nowhere").is(401);
        client.token = Some("x".repeat(43));
        client.get("/parties/nowhere").is(401);
        let name = format!("p{at}");
        client.token = None;
        client.register(&name);
        let answer = client.get("/parties/nowhere").is(404);
        assert_eq!(answer.detail(), "Party nowhere not found");
        client.join("nowhere", &name).is(404);
        client.heartbeat("nowhere", &name).is(404);
        client.ask("DELETE", &format!("/parties/nowhere/peers/{name}"), "").is(404);
        client.get("/nothing/of/the/kind").is(404);
        client.ask("DELETE", "/parties", "").is(405);
        client.ask("POST", "/parties", "{").is(422);
        client.ask("POST", "/parties", "{}").is(422);
        let party = client.create("LAN", &name);
        let answer = client.get(&format!("/parties/{party}/peers/nobody")).is(404);
        assert_eq!(answer.detail(), "Peer nobody not found");

        let body = create_body("Long", &name);
        let start = Instant::now();
        client.ask("POST", "/parties", &padded(&body, 60 * 1024)).is(200);
        println!("a body of 60 KiB at instance {at}: 200 after {:.1?}", start.elapsed());
        client.ask("POST", "/parties", &padded(&create_body("Longest", &name), MOST)).is(200);
        instances.client(at).ask("POST", "/parties", &padded(&body, MOST + 1)).is(413);
        // A long answer of the writer comes through, too.
        let signal = format!("{{\"to_peer_id\":\"{name}\",\"signal_data\":\"{}\"}}", "x".repeat(15_000));
        for _ in 0..8 {
            client.ask("POST", &format!("/parties/{party}/signals"), &signal).is(200);
        }
        let taken = take_soon(&mut client, &party, &name, 8);
        assert!(taken.iter().all(|data| data.len() == 15_000));
    }
}

#[test]
#[ignore = "needs PostgreSQL"]
fn requests_in_pieces_and_several_at_once_come_through_in_order() {
    let _alone = alone();
    let instances = Instances::start();
    for at in 0..3 {
        let mut client = instances.client(at);
        let name = format!("p{at}");
        let token = client.register(&name).token.clone().unwrap();
        let head = |method: &str, path: &str| {
            format!("{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n")
        };
        // A proxy may pass a body on in chunks.
        let body = create_body("In pieces", &name);
        let (first, second) = body.split_at(body.len() / 2);
        client.send(head("POST", "/parties") + "Transfer-Encoding: chunked\r\n\r\n");
        for piece in [first, second, ""] {
            client.send(format!("{:x}\r\n{piece}\r\n", piece.len()));
            std::thread::sleep(Duration::from_millis(30));
        }
        let party = client.receive("POST").unwrap().is(200).text(&["party_id"]);
        // What is asked for behind a change is answered after it.
        let mut all = String::new();
        for number in 0..5 {
            let body = format!("{{\"name\":\"Number {number}\"}}");
            all += &head("POST", &format!("/parties/{party}/settings"));
            all += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
            all += &(head("GET", &format!("/parties/{party}")) + "\r\n");
        }
        client.send(all);
        for number in 0..5 {
            let name = format!("Number {number}");
            assert_eq!(client.receive("POST").unwrap().is(200).text(&["name"]), name);
            assert_eq!(client.receive("GET").unwrap().is(200).text(&["party", "name"]), name);
        }
        // Who goes away before the answer harms nobody.
        for number in 0..20 {
            let hasty = instances.client(at);
            let request = head("POST", &format!("/auth/register?peer_id=hasty{at}x{number}"));
            hasty.send(request + "Content-Length: 0\r\n\r\n");
            if number % 2 == 0 {
                hasty.reset()
            }
        }
        client.get("/relays").is(200);
    }
}

/// What `POST /instances` answers to bytes.
fn post(instances: &Instances, at: usize, bytes: &[u8], head: &str) -> Answer {
    let mut client = instances.client(at);
    let head =
        format!("POST /instances HTTP/1.1\r\nHost: x\r\n{head}Content-Length: {}\r\n\r\n", bytes.len());
    client.send([head.as_bytes(), bytes].concat());
    client.receive("POST").unwrap()
}

#[test]
#[ignore = "needs PostgreSQL"]
fn what_makes_no_sense_between_instances_is_refused() {
    let _alone = alone();
    let mut instances = Instances::start();
    let commits = instances.commits();
    let mut random = Random::new(7);
    let mut asked = 0;
    let start = Instant::now();
    for at in 0..3 {
        for length in [0, 1, 7, 8, 15, 16, 17, 31, 32, 33, 48, 64, 100, 1000, 16_384, 65_000, MOST] {
            for head in ["", "Content-Type: application/octet-stream\r\n", "Authorization: Bearer x\r\n"] {
                let (zeros, noise) = (vec![0; length], random.bytes(length));
                for bytes in [zeros, noise, b"{\"p".repeat(length / 3)] {
                    let answer = post(&instances, at, &bytes, head);
                    assert!((400..500).contains(&answer.status), "{length}: {} {}", answer.head, answer.body);
                    asked += 1;
                }
            }
        }
        for _ in 0..300 {
            let length = random.below(200);
            let answer = post(&instances, at, &random.bytes(length), "");
            assert!((400..500).contains(&answer.status), "{length}: {} {}", answer.head, answer.body);
            asked += 1;
        }
        for method in ["GET", "DELETE", "PUT"] {
            let status = instances.client(at).ask(method, "/instances", "").status;
            assert!(matches!(status, 404 | 405), "{method}: {status}");
        }
        assert_eq!(post(&instances, at, &vec![0; MOST + 1], "").status, 403);
        assert_eq!(post(&instances, at, &vec![0; 2 * MOST + 1], "").status, 413);
    }
    println!("{asked} times what makes no sense: refused in {:.1} s", start.elapsed().as_secs_f64());
    assert!(start.elapsed() < Duration::from_secs(60));
    for at in 0..3 {
        assert!(instances.all[at].is_running());
        assert_eq!(figure(&instances.all[at], "lanrage_forward_failures_total"), Some(0.0));
        let name = format!("somebody{at}");
        instances.client(at).register(&name).create("LAN", &name);
    }
    // Three registrations, three parties, and nothing else.
    assert_eq!(instances.commits(), commits + 6);
}
