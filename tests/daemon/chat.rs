//! What happens is told to a chat room by the script that the package ships.

use crate::harness::daemon::binary;
use crate::harness::process::Process;
use crate::test_daemon::Setup;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

/// A room: where to post to it, and the heads and bodies of what is posted.
fn room() -> (String, Receiver<(String, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook/secret", listener.local_addr().unwrap());
    let (sender, posted) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.unwrap());
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap() > 0 {}
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
            let mut body = vec![0; length.parse().unwrap()];
            reader.read_exact(&mut body).unwrap();
            let answer = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
            reader.get_mut().write_all(answer).unwrap();
            if sender.send((head, String::from_utf8(body).unwrap())).is_err() {
                return;
            }
        }
    });
    (url, posted)
}

#[test]
#[ignore = "needs curl"]
fn a_chat_room_is_told_what_happens() {
    let daemon = Setup::new(&[]).start();
    let mut host = daemon.client();
    host.register("host").create("before", "host");
    let bin = daemon.setup.directory().join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink(binary(), bin.join("lanrage")).unwrap();
    let (webhook, posted) = room();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/lanrage-chat");
    let mut command = Command::new(script);
    command.env("LANRAGE_STATE_DIR", daemon.setup.directory().state());
    let _script = Process(command.env("PATH", path).env("WEBHOOK", &webhook).spawn().unwrap());
    // Until it knows what happened before, which is not told.
    std::thread::sleep(Duration::from_secs(2));
    let next = || posted.recv_timeout(Duration::from_secs(20)).unwrap();
    let name = r#"Zoë's \"LAN\",\"kind\":\"left\" \\ @everyone <!channel>"#;
    let party = host.create(name, "host");
    let (head, body) = next();
    assert!(head.starts_with("POST /hook/secret HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("Content-Type: application/json\r\n"), "{head}");
    let shown = name.replace('@', "@ ").replace('<', "< ");
    let expected = format!(r#"{{"content":"{shown} was made","allowed_mentions":{{"parse":[]}}}}"#);
    assert_eq!(body, expected);
    assert!(lanrage::wire::json::parse(body.as_bytes()).is_ok());
    assert!(next().1.contains(" joined Zoë's "));
    host.ask("DELETE", &format!("/parties/{party}/peers/host"), "").is(200);
    assert!(next().1.contains(" has ended"));
}
