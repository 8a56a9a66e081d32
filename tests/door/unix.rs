//! The Unix socket, with the client that our command line uses.

use crate::client::Client;
use crate::command_line::{ClientError, download, request};
use crate::eventually;
use crate::harness::directory::Directory;
use crate::test_door::{DoorSetup, TestDoor};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

fn socket(directory: &Directory) -> PathBuf {
    directory.join("api.sock")
}

fn test_door(directory: &Directory) -> TestDoor {
    let test_door = TestDoor::planned(DoorSetup { socket: Some(socket(directory)), ..DoorSetup::default() });
    eventually("the socket is there", || UnixStream::connect(socket(directory)).is_ok());
    test_door
}

#[test]
fn the_command_line_is_answered() {
    let directory = Directory::new();
    let _house = test_door(&directory);
    let (status, body) = request(&socket(&directory), "POST", "/a?q", b"hello").unwrap();
    assert_eq!((status, str::from_utf8(&body).unwrap()), (200, "POST /a q 5 Unix false"));
    let (status, body) = request(&socket(&directory), "POST", "/a", &[b'x'; 100_000]).unwrap();
    assert_eq!(
        (status, body.as_slice()),
        (413, br#"{"detail":"the body is longer than 64 KiB"}"#.as_slice())
    );
    let (status, body) = request(&socket(&directory), "GET", "/large?3000000", b"").unwrap();
    assert_eq!((status, body.len()), (200, 3_000_000));
    let error = request(&socket(&directory), "GET", "/large?17000000", b"").unwrap_err().to_string();
    assert!(error.contains("16 MB"), "{error}");
}

#[test]
fn a_backup_comes_whole_or_fails() {
    let directory = Directory::new();
    let _house = test_door(&directory);
    let mut file = Vec::new();
    assert_eq!(download(&socket(&directory), "GET", "/pieces?3000", &mut file).unwrap().0, 200);
    let expected: usize = (0..3000).map(|number| format!("piece {number};").len() * 1000).sum();
    assert_eq!(file.len(), expected);
    let mut file = Vec::new();
    let error = download(&socket(&directory), "GET", "/broken?3", &mut file).unwrap_err().to_string();
    assert!(error.contains("ended too early"), "{error}");
    let mut file = Vec::new();
    let (status, body) = download(&socket(&directory), "GET", "/wrong", &mut file).unwrap();
    assert_eq!((status, file.len()), (500, 0));
    assert!(!body.is_empty());
}

#[test]
fn a_crowd_at_one_door_does_not_close_the_other() {
    let directory = Directory::new();
    let test_door = test_door(&directory);
    let crowd: Vec<_> = (0..100).map(|_| UnixStream::connect(socket(&directory)).unwrap()).collect();
    for mut stream in &crowd {
        let _ = stream.write_all(b"GET / HTTP/1.1\r\n");
    }
    assert_eq!(Client::connect(test_door.address).get("/a").status, 200);
    assert_eq!(request(&socket(&directory), "GET", "/a", b"").unwrap().0, 200);
    eventually("few are inside", || {
        let (_, stats) = request(&socket(&directory), "GET", "/stats", b"").unwrap();
        String::from_utf8(stats).unwrap().contains("connections=16")
    });
}

#[test]
fn errors_say_what_to_do() {
    let directory = Directory::new();
    let error = request(&socket(&directory), "GET", "/a", b"").unwrap_err();
    assert!(matches!(error, ClientError::NotRunning(_)));
    assert!(error.to_string().contains("lanrage serve"), "{error}");
    drop(UnixListener::bind(socket(&directory)).unwrap());
    assert!(matches!(request(&socket(&directory), "GET", "/a", b""), Err(ClientError::NotRunning(_))));
}

/// What the client makes of an answer that it should not get.
fn answered_with(directory: &Directory, answer: &[u8]) -> String {
    let _ = std::fs::remove_file(socket(directory));
    let listener = UnixListener::bind(socket(directory)).unwrap();
    let answer = answer.to_vec();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(&answer);
    });
    let error = request(&socket(directory), "GET", "/", b"").unwrap_err().to_string();
    server.join().unwrap();
    error
}

#[test]
fn nonsense_is_an_error() {
    let directory = Directory::new();
    for (answer, expected) in [
        (&b""[..], "too early"),
        (b"HTTP/1.1 200 OK\r\n", "too early"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", "too early"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nabc", "length"),
        (b"HTTP/1.1 200 OK\r\n\r\nabc", "length"),
        (b"hello\r\n\r\n", "malformed"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n", "too early"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabcde\r\n0\r\n\r\n", "chunk"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcdefg0\r\n\r\n", "chunk"),
    ] {
        let error = answered_with(&directory, answer);
        assert!(error.contains(expected), "{error} for {:?}", String::from_utf8_lossy(answer));
    }
    assert!(answered_with(&directory, &b"X: y\r\n".repeat(10_000)).contains("too early"));
}
