//! WebSocket sessions.

use crate::client::{Client, upgrade_request};
use crate::test_door::{DoorSetup, TestDoor, connect_narrow, stat};
use crate::{PATIENCE, eventually};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tungstenite::protocol::frame::{CloseFrame, Frame, FrameHeader};
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};

const EXTENSIONS: &str = "Sec-WebSocket-Extensions: permessage-deflate\r\n";

fn handshake(query: &str) -> String {
    upgrade_request(query, EXTENSIONS)
}

/// The socket of a client that was let in.
fn raw(client: Client, query: &str) -> TcpStream {
    let (answer, stream) = client.upgrade(query, EXTENSIONS);
    assert_eq!(answer.header("Sec-WebSocket-Accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(answer.header("Upgrade"), Some("websocket"));
    assert_eq!(answer.header("Content-Length"), None);
    assert_eq!(answer.header("Sec-WebSocket-Extensions"), None);
    stream
}

fn open(test_door: &TestDoor) -> WebSocket<TcpStream> {
    let stream = raw(Client::connect(test_door.address), "");
    WebSocket::from_raw_socket(stream, Role::Client, Some(WebSocketConfig::default()))
}

fn text(message: Message) -> String {
    match message {
        Message::Text(text) => text.to_string(),
        other => panic!("{other:?} is no text"),
    }
}

fn say(socket: &mut WebSocket<TcpStream>, what: &str) -> String {
    socket.send(Message::text(what)).unwrap();
    loop {
        match socket.read().unwrap() {
            Message::Ping(_) => continue,
            message => return text(message),
        }
    }
}

/// The code the door closes with, and then it ends the connection.
fn close_code(socket: &mut WebSocket<TcpStream>) -> u16 {
    let code = loop {
        match socket.read().unwrap() {
            Message::Close(frame) => break frame.map_or(1005, |frame| frame.code.into()),
            _ => continue,
        }
    };
    loop {
        match socket.read() {
            Ok(_) => continue,
            Err(Error::ConnectionClosed) => return code,
            Err(Error::Io(error)) if error.kind() == ErrorKind::ConnectionReset => return code,
            Err(error) => panic!("{error}"),
        }
    }
}

/// A client's frame by hand; the mask is zero, so the payload is as it is.
fn frame(first: u8, length: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first, 0x80 | length, 0, 0, 0, 0];
    bytes.extend_from_slice(payload);
    bytes
}

#[test]
fn messages_go_both_ways() {
    let test_door = TestDoor::start();
    let threads = test_door.threads();
    let mut socket = open(&test_door);
    for length in [0, 1, 125, 126, 5000, 65_535, 65_536] {
        let message = "m".repeat(length);
        assert_eq!(say(&mut socket, &message), message);
    }
    assert_eq!(stat(&test_door, "sessions"), 1);
    eventually("a session is no connection", || stat(&test_door, "connections") == 1);
    socket.close(Some(CloseFrame { code: CloseCode::Normal, reason: "done".into() })).unwrap();
    assert_eq!(close_code(&mut socket), 1000);
    eventually("it is over", || stat(&test_door, "closed") == 1 && stat(&test_door, "sessions") == 0);
    assert_eq!(test_door.threads(), threads);
}

#[test]
fn what_is_sent_with_the_handshake_is_not_lost() {
    let test_door = TestDoor::start();
    let mut client = Client::connect(test_door.address);
    let mut bytes = handshake("?greet").into_bytes();
    bytes.extend_from_slice(&frame(0x81, 5, b"early"));
    client.send(bytes);
    assert_eq!(client.answer().status, 101);
    let mut answer = [0; 16];
    client.reader.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"\x81\x07welcome\x81\x05early");
}

#[test]
fn fragments_become_one_message() {
    let test_door = TestDoor::start();
    let mut socket = open(&test_door);
    let fragment = |opcode, text: &'static str, is_final| {
        let header = FrameHeader { is_final, opcode: OpCode::Data(opcode), ..FrameHeader::default() };
        Message::Frame(Frame::from_payload(header, text.into()))
    };
    socket.send(fragment(Data::Text, "one ", false)).unwrap();
    socket.send(Message::Ping("in between".into())).unwrap();
    socket.send(fragment(Data::Continue, "two ", false)).unwrap();
    socket.send(fragment(Data::Continue, "", false)).unwrap();
    socket.send(fragment(Data::Continue, "three", true)).unwrap();
    assert_eq!(socket.read().unwrap(), Message::Pong("in between".into()));
    assert_eq!(text(socket.read().unwrap()), "one two three");
    // Many small fragments are bounded like one large message.
    socket.send(fragment(Data::Text, "", false)).unwrap();
    let piece: &'static str = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";
    while socket.send(fragment(Data::Continue, piece, false)).is_ok() {
        socket.get_ref().set_nonblocking(true).unwrap();
        let result = socket.read();
        socket.get_ref().set_nonblocking(false).unwrap();
        match result {
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => continue,
            Ok(Message::Close(Some(frame))) => return assert_eq!(frame.code, CloseCode::Size),
            other => panic!("{other:?}"),
        }
    }
    panic!("it was cut without a word");
}

#[test]
fn what_is_not_understood_closes_with_the_code_for_it() {
    let test_door = TestDoor::start();
    let mut header = vec![0x81, 0xff];
    header.extend_from_slice(&u64::MAX.to_be_bytes());
    for (code, bytes) in [
        (1003, frame(0x82, 3, b"abc")),
        (1007, frame(0x81, 2, b"\xc3\x28")),
        (1009, [&[0x81, 0xff, 0, 0, 0, 0, 0, 1, 0, 1][..], &[0; 4]].concat()),
        (1009, [&header[..], &[0; 4]].concat()),
        (1002, vec![0x81, 3, b'a', b'b', b'c']),
        (1002, frame(0xc1, 1, b"a")),
        (1002, frame(0x83, 1, b"a")),
        (1002, frame(0x8b, 1, b"a")),
        (1002, frame(0x80, 1, b"a")),
        (1002, frame(0x09, 1, b"a")),
        (1002, frame(0x88, 1, b"a")),
        (1002, frame(0x88, 2, b"\x03\xed")),
        (1000, frame(0x88, 2, b"\x03\xe8")),
        (4000, frame(0x88, 5, b"\x0f\xa0bye")),
        (1005, frame(0x88, 0, b"")),
    ] {
        let mut socket = open(&test_door);
        socket.get_mut().write_all(&bytes).unwrap();
        assert_eq!(close_code(&mut socket), code, "{bytes:x?}");
    }
    eventually("all are over", || stat(&test_door, "closed") == stat(&test_door, "opened"));
    assert_eq!(say(&mut open(&test_door), "still there"), "still there");
}

#[test]
fn the_service_can_close() {
    let test_door = TestDoor::start();
    let mut socket = open(&test_door);
    assert_eq!(say(&mut socket, "close 4001"), "bye");
    assert_eq!(close_code(&mut socket), 4001);
    // A peer that does not answer the close is not waited for long.
    let test_door = TestDoor::planned(DoorSetup { timeout: Some(400), ..DoorSetup::default() });
    let mut stream = raw(Client::connect(test_door.address), "");
    stream.write_all(&frame(0x81, 10, b"close 4001")).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap_or(0);
    assert_eq!(bytes[..9], *b"\x81\x03bye\x88\x0d\x0f\xa1");
    eventually("it is over", || stat(&test_door, "closed") == 1);
}

#[test]
fn pings_are_answered_and_silence_is_cut() {
    let test_door = TestDoor::planned(DoorSetup { silence: Some((300, 1200)), ..DoorSetup::default() });
    let mut socket = open(&test_door);
    socket.send(Message::Ping("x".into())).unwrap();
    assert_eq!(socket.read().unwrap(), Message::Pong("x".into()));
    // This one answers the pings, so it lives.
    let start = Instant::now();
    let mut pings = 0;
    while start.elapsed() < Duration::from_secs(3) {
        match socket.read().unwrap() {
            Message::Ping(_) => pings += 1,
            other => panic!("{other:?}"),
        }
        socket.flush().unwrap();
    }
    assert!(pings >= 3, "{pings} pings");
    // One that talks is sent them all the same: a proxy between may count only what comes from us.
    let start = Instant::now();
    let mut pings = 0;
    while start.elapsed() < Duration::from_secs(2) {
        socket.send(Message::text("are you there")).unwrap();
        while let Message::Ping(_) = socket.read().unwrap() {
            pings += 1;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(pings >= 3, "{pings} pings");
    // This one does not.
    let mut stream = raw(Client::connect(test_door.address), "");
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    assert!(bytes.starts_with(&[0x89, 0]), "{bytes:x?}");
    assert_eq!(say(&mut open(&test_door), "still there"), "still there");
}

#[test]
fn whoever_does_not_read_what_piles_up_is_cut_at_once() {
    let test_door = TestDoor::start();
    let mut others = open(&test_door);
    let flooded: Vec<_> = (0..4)
        .map(|_| {
            let mut stream = raw(Client::connect(test_door.address), "");
            stream.write_all(&frame(0x81, 11, b"flood 10000")).unwrap();
            stream
        })
        .collect();
    let start = Instant::now();
    eventually("they are cut", || stat(&test_door, "closed") == 4);
    assert!(start.elapsed() < Duration::from_secs(5), "without waiting for any time-out");
    assert_eq!(say(&mut others, "still there"), "still there");
    drop(flooded);
}

#[test]
fn whoever_stops_reading_is_cut_in_time() {
    let test_door =
        TestDoor::planned(DoorSetup { timeout: Some(400), outbox: Some(30_000), ..DoorSetup::default() });
    let mut others = open(&test_door);
    // More than the kernel holds for it, and less than the outbox does.
    let mut stalled = raw(Client::connect(test_door.address), "");
    stalled.write_all(&frame(0x81, 11, b"flood 20000")).unwrap();
    // This one gets as much, and reads it.
    let mut reader = raw(Client::connect(test_door.address), "");
    reader.write_all(&frame(0x81, 11, b"flood 20000")).unwrap();
    reader.read_exact(&mut vec![0; 20_000 * 1004]).unwrap();
    eventually("it is cut", || stat(&test_door, "closed") == 1);
    assert_eq!(say(&mut others, "still there"), "still there");
    drop((stalled, reader));
}

/// Who closes gets all that was said before, and the close; but it has to read within the time for that.
#[test]
fn what_was_said_before_the_close_arrives_within_its_time() {
    let test_door = TestDoor::start();
    let mut streams = [(); 2].map(|()| raw(connect_narrow(&test_door), ""));
    for stream in &mut streams {
        stream.write_all(&frame(0x81, 8, b"flood 40")).unwrap();
    }
    std::thread::sleep(Duration::from_millis(300));
    for stream in &mut streams {
        stream.write_all(&frame(0x88, 2, &1000u16.to_be_bytes())).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
    }
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(stat(&test_door, "closed"), 0);
    let [mut reader, deaf] = streams;
    let mut said = Vec::new();
    reader.read_to_end(&mut said).unwrap();
    assert_eq!((said.len(), &said[said.len() - 4..]), (40 * 1004 + 4, &[0x88, 2, 0x03, 0xe8][..]));
    let start = Instant::now();
    eventually("both are over", || stat(&test_door, "closed") == 2);
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    drop(deaf);
}

#[test]
fn half_a_message_does_not_last() {
    let test_door = TestDoor::planned(DoorSetup { timeout: Some(400), ..DoorSetup::default() });
    let mut others = open(&test_door);
    for bytes in [
        vec![0x81],
        vec![0x81, 0xff, 0, 0],
        frame(0x81, 100, b"abc"),
        [&[0x81, 0xfe, 0xff, 0xff, 0, 0, 0, 0][..], &[b'x'; 3000]].concat(),
        frame(0x01, 3, b"abc"),
    ] {
        let mut stream = raw(Client::connect(test_door.address), "");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&bytes).unwrap();
        let end = stream.read(&mut [0; 100]);
        assert!(matches!(&end, Ok(0)) || end.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
    }
    assert_eq!(say(&mut others, "still there"), "still there");
    assert_eq!(stat(&test_door, "closed"), 5);
}

#[test]
fn a_flood_of_frames_starves_nobody() {
    let test_door = TestDoor::start();
    let mut stream = raw(Client::connect(test_door.address), "");
    let flood: Vec<u8> = [frame(0x01, 0, b""), frame(0x00, 0, b"").repeat(10_000)].concat();
    let writer = std::thread::spawn(move || {
        let start = Instant::now();
        let continuation = frame(0x00, 0, b"").repeat(10_000);
        let mut result = stream.write_all(&flood);
        while result.is_ok() && start.elapsed() < Duration::from_secs(2) {
            result = stream.write_all(&continuation);
        }
    });
    let start = Instant::now();
    let mut slowest = Duration::ZERO;
    while start.elapsed() < Duration::from_secs(2) {
        let before = Instant::now();
        assert_eq!(Client::connect(test_door.address).get("/a").status, 200);
        slowest = slowest.max(before.elapsed());
    }
    writer.join().unwrap();
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
}

#[test]
fn everybody_gets_what_is_said_to_everybody() {
    let test_door = TestDoor::start();
    let mut sockets: Vec<_> = (0..50).map(|_| open(&test_door)).collect();
    for round in 0..20 {
        sockets[round].send(Message::text(format!("everybody {round}"))).unwrap();
        for socket in &mut sockets {
            assert_eq!(text(socket.read().unwrap()), round.to_string());
        }
    }
}

#[test]
fn what_is_no_handshake_is_refused() {
    let test_door = TestDoor::start();
    let lines = |upgrade: &str, connection: &str, version: &str, key: &str| {
        format!("GET /ws HTTP/1.1\r\nHost: x\r\n{upgrade}{connection}{version}{key}\r\n")
    };
    let (upgrade, connection) = ("Upgrade: websocket\r\n", "Connection: Upgrade\r\n");
    let version = "Sec-WebSocket-Version: 13\r\n";
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (status, request) in [
        (426, lines("", "", "", "")),
        (426, lines("", connection, version, key)),
        (426, lines(upgrade, "", version, key)),
        (426, lines("Upgrade: h2c\r\n", connection, version, key)),
        (426, lines(upgrade, connection, "", key)),
        (426, lines(upgrade, connection, "Sec-WebSocket-Version: 8\r\n", key)),
        (426, lines(upgrade, connection, version, key).replace("HTTP/1.1", "HTTP/1.0")),
        (400, lines(upgrade, connection, version, "")),
        (400, lines(upgrade, connection, version, "Sec-WebSocket-Key: short\r\n")),
        (400, lines(upgrade, connection, version, &key.repeat(2))),
        (400, lines(upgrade, connection, version, &format!("{key}Content-Length: 1\r\n")) + "x"),
    ] {
        let mut client = Client::connect(test_door.address);
        client.send(&request);
        let answer = client.answer();
        assert_eq!(answer.status, status, "{request}");
        assert!(answer.body.starts_with(r#"{"detail":""#));
        if status == 426 {
            assert_eq!(answer.header("Sec-WebSocket-Version"), Some("13"));
            assert_eq!(answer.header("Upgrade"), Some("websocket"));
        }
        assert!(client.is_ended());
    }
    assert_eq!(stat(&test_door, "opened"), 0);
    // On any other path, an upgrade is an offer that is not taken up.
    let mut client = Client::connect(test_door.address);
    client.send(handshake("").replace("/ws", "/other"));
    assert!(client.answer().body.starts_with("GET /other"));
    client.send(handshake("").replace("GET", "POST"));
    assert!(client.answer().body.starts_with("POST /ws"));
}

#[test]
fn sessions_are_bounded() {
    let test_door = TestDoor::planned(DoorSetup { sessions: Some(70), ..DoorSetup::default() });
    let refused = |mut client: Client, query: &str| {
        client.send(handshake(query));
        assert_eq!(client.answer().status, 503);
        assert!(client.is_ended());
    };
    refused(Client::connect(test_door.address), "?refuse");
    // 64 from one source, 70 in all.
    let mut sessions: Vec<_> = (0..64).map(|_| raw(Client::connect(test_door.address), "")).collect();
    refused(Client::connect(test_door.address), "");
    sessions.extend(
        (2..8).map(|host| raw(Client::connect_from([127, 0, 2, host].into(), test_door.address), "")),
    );
    // Then one of whoever has most makes room, and nobody of one's own.
    sessions.push(raw(Client::connect_from([127, 0, 2, 99].into(), test_door.address), ""));
    refused(Client::connect(test_door.address), "");
    assert_eq!(stat(&test_door, "sessions"), 70);
    assert!(sessions[0].read(&mut [0]).is_ok_and(|length| length == 0), "the oldest of them");
    sessions.remove(0);
    // They are not in the way of requests, and their places are free again afterwards.
    assert_eq!(Client::connect(test_door.address).get("/a").status, 200);
    drop(sessions);
    eventually("all have left", || stat(&test_door, "sessions") == 0);
    assert_eq!(stat(&test_door, "closed"), 71);
    assert_eq!(say(&mut open(&test_door), "hello"), "hello");
}

#[test]
fn a_stopping_door_says_that_it_is_going_away() {
    let mut test_door = TestDoor::start();
    let mut sockets: Vec<_> = (0..5).map(|_| open(&test_door)).collect();
    assert_eq!(Client::connect(test_door.address).get("/stop").status, 200);
    for socket in &mut sockets {
        assert_eq!(close_code(socket), 1001);
    }
    drop(sockets);
    assert!(test_door.drained());
}
