//! Browsers, which do what a page of anywhere tells them, and proxies, which speak for others.

use crate::client::{Answer, Client, create_body, join_body};
use crate::eventually;
use crate::test_daemon::{Setup, TestDaemon};
use lanrage::wire::json;
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

const ADMIN: &str = "a-token-of-the-admin";

/// Asks in the way of a browser or proxy: with these further header lines.
fn ask(daemon: &TestDaemon, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut client = daemon.client();
    let mut request = format!("{method} {path} HTTP/1.1\r\n");
    if !headers.iter().any(|(name, _)| *name == "Host") {
        request += &format!("Host: {}\r\n", daemon.http);
    }
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    request += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
    client.send(request);
    client.receive(method).unwrap()
}

/// The status of an attempt to open a WebSocket.
fn upgrade(daemon: &TestDaemon, headers: &[(&str, &str)]) -> Answer {
    let upgrade = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    ask(daemon, "GET", "/ws", &[&upgrade, headers].concat(), "")
}

fn at(name: &str, address: SocketAddr) -> String {
    format!("{name}:{}", address.port())
}

#[test]
fn a_page_of_another_origin_gets_nothing() {
    let daemon = TestDaemon::start();
    let mut host = daemon.client();
    let party = host.register("host").create("LAN", "host");
    let bearer = format!("Bearer {}", host.token.as_ref().unwrap());
    let other_port = format!("http://{}:1", daemon.http.ip());
    for origin in ["https://evil.example", "null", "http://localhost:3000", &other_port] {
        for (method, path, body) in [
            ("POST", "/auth/register?peer_id=eve", String::new()),
            ("POST", "/parties", create_body("evil", "host")),
            ("POST", &format!("/parties/{party}/join"), join_body(&party, "host")),
            ("DELETE", &format!("/parties/{party}"), String::new()),
            ("GET", &format!("/parties/{party}"), String::new()),
            ("GET", "/status", String::new()),
            ("GET", "/", String::new()),
            ("OPTIONS", "/parties", String::new()),
        ] {
            let headers = [("Origin", origin), ("Authorization", &bearer)];
            let answer = ask(&daemon, method, path, &headers, &body).is(403);
            assert!(!answer.head.contains("Access-Control") && !answer.head.contains("evil"));
            assert!(answer.detail().contains("allowed_origins"));
        }
        upgrade(&daemon, &[("Origin", origin)]).is(403);
    }
    assert_eq!((daemon.metric("lanrage_parties"), daemon.metric("lanrage_tokens")), (1, 1));
    // Its own pages, and whatever is no browser, go on.
    let own = format!("http://{}", daemon.http);
    ask(&daemon, "POST", "/auth/register?peer_id=a", &[("Origin", &own)], "").is(200);
    ask(&daemon, "GET", "/status", &[("Origin", &own)], "").is(200);
    upgrade(&daemon, &[("Origin", &own)]).is(101);
    let answer = ask(&daemon, "POST", "/auth/register?peer_id=b", &[("Host", "any.example")], "").is(200);
    assert!(!answer.head.contains("Access-Control") && !answer.head.contains("Vary"), "{}", answer.head);
    upgrade(&daemon, &[("Host", "any.example")]).is(101);
}

#[test]
fn a_name_that_was_made_to_mean_this_machine_opens_nothing() {
    let settings = [
        ("admin_token", ADMIN),
        ("public_endpoint", "home.example.org:51820"),
        ("allowed_hosts", "router.lan"),
    ];
    let daemon = Setup::new(&settings).start();
    let rebound = at("rebound.example", daemon.http);
    let admin = format!("Bearer {ADMIN}");
    for path in ["/status", "/metrics", "/backup?secrets=redacted", "/parties"] {
        for headers in [&[("Host", rebound.as_str())][..], &[("Host", &rebound), ("Authorization", &admin)]] {
            let answer = ask(&daemon, "GET", path, headers, "").is(403);
            assert!(answer.detail().contains("allowed_hosts"));
        }
    }
    // An owner's token opens nothing by such a name.
    ask(&daemon, "DELETE", "/parties/x", &[("Host", &rebound), ("Authorization", &admin)], "").is(403);
    // Such a page is of the same origin as what it asks.
    let origin = format!("http://{rebound}");
    let page = [("Host", rebound.as_str()), ("Origin", origin.as_str())];
    ask(&daemon, "POST", "/auth/register?peer_id=eve", &page, "").is(403);
    ask(&daemon, "POST", "/parties", &page, &create_body("evil", "eve")).is(403);
    ask(&daemon, "POST", "/parties/x/join", &page, &join_body("x", "eve")).is(403);
    upgrade(&daemon, &page).is(403);
    for name in ["localhost", "LOCALHOST", "192.0.2.7", "[2001:db8::7]", "home.example.org", "router.lan"] {
        let host = at(name, daemon.http);
        ask(&daemon, "GET", "/status", &[("Host", &host)], "").is(200);
        let origin = format!("http://{}", host.to_lowercase());
        ask(&daemon, "GET", "/metrics", &[("Host", &host), ("Origin", &origin)], "").is(200);
    }
    // The Unix socket is nothing that a browser can reach.
    daemon.owner().get("/status").is(200);
}

#[test]
fn a_page_of_an_allowed_origin_may_use_the_api() {
    let origin = "https://play.example.org";
    let daemon = Setup::new(&[("allowed_origins", origin)]).start();
    let first = ask(
        &daemon,
        "OPTIONS",
        "/parties",
        &[("Origin", origin), ("Access-Control-Request-Method", "POST")],
        "",
    )
    .is(200);
    assert_eq!(first.header("Access-Control-Allow-Origin"), Some(origin));
    assert_eq!(first.header("Access-Control-Allow-Methods"), Some("GET, POST, DELETE, OPTIONS"));
    assert_eq!(first.header("Access-Control-Allow-Headers"), Some("Authorization, Content-Type"));
    assert_eq!(first.header("Access-Control-Allow-Credentials"), None);
    assert_eq!(first.header("Vary"), Some("Origin"));
    let token = ask(&daemon, "POST", "/auth/register?peer_id=a", &[("Origin", origin)], "").is(200);
    assert_eq!(token.header("Access-Control-Allow-Origin"), Some(origin));
    // It has to see what went wrong.
    let error = ask(&daemon, "GET", "/parties/x", &[("Origin", origin)], "").is(401);
    assert_eq!(error.header("Access-Control-Allow-Origin"), Some(origin));
    upgrade(&daemon, &[("Origin", origin)]).is(101);
    for foreign in
        ["https://evil.example", "http://play.example.org", "https://play.example.org:8443", "null"]
    {
        let answer = ask(&daemon, "GET", "/", &[("Origin", foreign)], "").is(403);
        assert_eq!(answer.header("Access-Control-Allow-Origin"), None);
    }
    let plain = ask(&daemon, "GET", "/", &[], "").is(200);
    assert_eq!(plain.header("Access-Control-Allow-Origin"), None);
    // What can be asked is told to everybody.
    assert_eq!(
        ask(&daemon, "OPTIONS", "/parties", &[], "").is(200).header("Allow"),
        Some("GET, POST, OPTIONS")
    );
    ask(&daemon, "OPTIONS", "/ws", &[], "").is(200);
    ask(&daemon, "OPTIONS", "*", &[], "").is(200);
}

#[test]
fn a_local_proxy_is_not_local_and_is_warned_of_once() {
    let daemon = Setup::new(&[("rates.creations", "1/2")]).start();
    let register =
        |headers: &[(&str, &str)]| ask(&daemon, "POST", "/auth/register?peer_id=x", headers, "").status;
    // On this machine, nobody is counted.
    assert_eq!([(); 4].map(|()| register(&[])), [200; 4]);
    assert!(!daemon.setup.log().contains("a proxy on this machine"));
    for header in ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"] {
        ask(&daemon, "GET", "/status", &[(header, "198.51.100.1")], "").is(401);
        ask(&daemon, "GET", "/metrics", &[(header, "127.0.0.1")], "").is(401);
    }
    assert_eq!([(); 4].map(|()| register(&[("X-Forwarded-For", "198.51.100.1")])), [200, 200, 429, 429]);
    ask(&daemon, "GET", "/status", &[], "").is(200);
    eventually("it warns", || daemon.setup.log().contains("a proxy on this machine (127.0.0.1)"));
    assert_eq!(daemon.setup.log().matches("a proxy on this machine").count(), 1);
}

#[test]
fn what_a_trusted_proxy_says_of_an_address_is_never_this_machine() {
    let settings = [("trusted_proxies", "127.0.0.1"), ("rates.creations", "1/2")];
    let daemon = Setup::new(&settings).start();
    for said in ["127.0.0.1", "127.0.0.2", "::1", "[::1]:80", "::ffff:127.0.0.1", "198.51.100.1, 127.0.0.2"] {
        ask(&daemon, "GET", "/status", &[("X-Forwarded-For", said)], "").is(401);
    }
    // Nor is anything else on it, since the proxy has all its addresses.
    let mut other = Client::connect_from([127, 0, 0, 2].into(), daemon.http);
    other.get("/status").is(401);
    // One with its port and one without it are the same.
    let register = |said: &str| {
        ask(&daemon, "POST", "/auth/register?peer_id=x", &[("X-Forwarded-For", said)], "").status
    };
    assert_eq!(["198.51.100.1:1", "198.51.100.1", "198.51.100.1:2"].map(register), [200, 200, 429]);
    assert_eq!(["[2001:db8::1]:1", "2001:db8::1", "[2001:db8::1]"].map(register), [200, 200, 429]);
    other.forwarded_for = Some("203.0.113.9");
    other.ask("POST", "/auth/register?peer_id=y", "").is(200);
    assert!(!daemon.setup.log().contains("a proxy on this machine"));
}

#[test]
fn a_body_may_come_in_chunks_and_begin_with_a_byte_order_mark() {
    let daemon = TestDaemon::start();
    let mut client = daemon.client();
    let token = client.register("host").token.clone().unwrap();
    let body = format!("\u{feff}{}", create_body("LAN", "host"));
    let (first, second) = body.as_bytes().split_at(7);
    let mut request = format!(
        "POST /parties HTTP/1.2\r\nHost: x\r\nAuthorization: Bearer {token}\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    .into_bytes();
    for piece in [first, second] {
        request.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        request.extend_from_slice(piece);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"0\r\n\r\n");
    client.send(request);
    let answer = client.receive("POST").unwrap().is(200);
    assert!(json::parse(answer.body.as_bytes()).is_ok());
    let plain = create_body("LAN", "host");
    client.ask("POST", "/parties", &format!("{plain}\u{feff}")).is(422);
    client.ask("POST", "/parties", &format!("\u{feff}\u{feff}{plain}")).is(422);
}

#[test]
fn what_a_client_has_already_is_not_sent_again() {
    let daemon = TestDaemon::start();
    let get = |method, headers: &[(&str, &str)]| ask(&daemon, method, "/openapi.json", headers, "");
    let first = get("GET", &[]).is(200);
    let etag = first.header("ETag").unwrap();
    assert_eq!(first.header("Cache-Control"), Some("no-cache"));
    let list = format!("\"other\", W/{etag}");
    for known in [etag, "*", &list] {
        for method in ["GET", "HEAD"] {
            let again = get(method, &[("If-None-Match", known)]).is(304);
            assert_eq!((again.body.as_str(), again.header("ETag")), ("", Some(etag)));
            assert_eq!(again.header("Cache-Control"), Some("no-cache"));
            assert_eq!((again.header("Content-Length"), again.header("Content-Type")), (None, None));
        }
    }
    assert_eq!(get("GET", &[("If-None-Match", "\"other\"")]).is(200).body, first.body);
    assert_eq!(get("POST", &[("If-None-Match", "*")]).is(405).header("ETag"), None);
    // Nothing else has a tag.
    assert_eq!(ask(&daemon, "GET", "/", &[("If-None-Match", "*")], "").is(200).header("ETag"), None);
}

/// What a path answers with, unpacked by gzip, which also checks the sum of it.
fn unpacked(daemon: &TestDaemon, path: &str) -> String {
    let mut client = daemon.client();
    client.send(format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", daemon.http));
    let answer = client.rest();
    let head = answer.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
    let mut gzip =
        Command::new("gzip").args(["-dc"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    gzip.stdin.take().unwrap().write_all(&answer[head..]).unwrap();
    let output = gzip.wait_with_output().unwrap();
    assert!(output.status.success(), "{path}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn what_pages_share_is_in_each_of_them() {
    let daemon = TestDaemon::start();
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api/pages");
    let packed = |names: &[&str]| {
        let mut text = String::new();
        for name in names {
            for line in fs::read_to_string(sources.join(name)).unwrap().lines().map(str::trim) {
                if !["//", "<!--", "/**", "import "].iter().any(|begin| line.starts_with(begin))
                    && !line.is_empty()
                {
                    text += line.strip_prefix("export ").filter(|_| name.ends_with(".js")).unwrap_or(line);
                    text.push('\n');
                }
            }
        }
        text
    };
    let shared = ["dom.js", "words.js", "ask.js", "x25519.js", "qr.js", "device.js"];
    for (path, own) in [
        ("/ui", &["owner.html"][..]),
        ("/join", &["guest.html"]),
        ("/ui/owner.css", &["style.css", "owner.css"]),
        ("/join/guest.css", &["style.css"]),
        ("/join/guest.js", &[&shared[..], &["guest_words.js", "guest.js"]].concat()),
    ] {
        assert!(unpacked(&daemon, path) == packed(own), "{path}");
    }
    // The words of this one are not all in its sources.
    let owner = unpacked(&daemon, "/ui/owner.js");
    assert!(owner.starts_with(&packed(&shared)));
    assert!(owner.ends_with(&packed(&["session.js", "forms.js", "dialogs.js", "party.js", "owner.js"])));
}
