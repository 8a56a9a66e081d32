//! Bodies that are almost right, at every route that reads one.

use crate::Random;
use crate::client::{self, Client};
use crate::matrix::{example, filled};
use crate::test_daemon::{Setup, TestDaemon};
use lanrage::api::route::Body;
use lanrage::api::routes::ROUTES;
use std::collections::BTreeSet;

const PER_BODY: usize = 250;

/// A path as the table has it, the same filled in, and a good body: one for every route that reads a body.
fn bodies(party: &str) -> Vec<(&'static str, String, String)> {
    let reading = ROUTES.iter().filter(|route| route.body != Body::None);
    let bodies = reading.map(|route| {
        let (query, body) = example(route.method, route.path);
        let (peer, body) = match route.path {
            "/auth/register" => ("new", r#"{"nonce":"bm9uY2U","proof":"cHJvb2Y"}"#),
            // Not its host.
            "/parties/{party_id}/bans" => ("bob", body),
            _ => ("host", body),
        };
        assert!(!body.is_empty(), "{}", route.path);
        let described = client::peer(peer);
        let names = [("party_id", party), ("peer_id", peer), ("peer", &described), ("number", "1")];
        (route.path, filled(&format!("{}?{query}", route.path), &names), filled(body, &names))
    });
    bodies.collect()
}

/// Pieces that parsers and validators trip over.
const PIECES: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"\\",
    b":",
    b",",
    b"null",
    b"true",
    b"-",
    b"1e999",
    b"-0",
    b"00",
    b"\\u0000",
    b"\\ud800",
    b"\xff",
    b"\xc0\xaf",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"18446744073709551616",
    b"-1",
    b"\"\"",
    b"{}",
    b"[]",
    b"1.5",
    b" ",
    b"\n",
    b"/*",
    b"NaN",
    b"\x00",
    b"\x7f",
    b"'",
    b"\"peer_id\":",
    b"0.1e-7",
];

fn mutate(body: &[u8], random: &mut Random) -> Vec<u8> {
    let mut body = body.to_vec();
    for _ in 0..=random.below(3) {
        let at = random.below(body.len().max(1)).min(body.len());
        match random.below(5) {
            0 if at < body.len() => body[at] ^= 1 << random.below(8),
            1 if at < body.len() => {
                body.remove(at);
            }
            2 => {
                let piece = PIECES[random.below(PIECES.len())];
                body.splice(at..at, piece.iter().copied());
            }
            3 => {
                let end = (at + random.below(12)).min(body.len());
                let piece = PIECES[random.below(PIECES.len())];
                body.splice(at..end, piece.iter().copied());
            }
            _ => {
                let end = (at + random.below(40)).min(body.len());
                let again = body[at..end].to_vec();
                body.splice(at..at, again);
            }
        }
    }
    body
}

/// An answer to bytes that need not be text.
fn post(client: &mut Client, path: &str, body: &[u8]) -> u16 {
    let token = client.token.clone().unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    client.send([head.as_bytes(), body].concat());
    let answer = client.receive("POST").unwrap();
    if answer.status != 200 {
        assert!(answer.json().get("detail").is_some(), "{}", answer.body);
    }
    answer.status
}

fn daemon() -> (TestDaemon, Client, String) {
    let settings = [("limits.parties_hosted", "30"), ("limits.parties_joined", "30")];
    let daemon = Setup::new(&settings).start();
    let mut client = daemon.client();
    let party = client.register("host").create("LAN", "host");
    (daemon, client, party)
}

#[test]
fn a_body_that_ends_early_is_refused() {
    let (_house, mut client, party) = daemon();
    for (route, path, body) in bodies(&party) {
        // A form that ends early is a form all the same.
        let lengths = if route == "/join" { 0..0 } else { 0..body.len() };
        for length in lengths {
            let expected = match (route, length) {
                ("/auth/register" | "/parties/{party_id}/invites", 0) => 200,
                ("/ui/sessions" | "/ui/settings" | "/relay-approvals/{relay_id}", _) => 403,
                _ => 422,
            };
            let status = post(&mut client, &path, &body.as_bytes()[..length]);
            assert_eq!(status, expected, "{route} {}", &body[..length]);
        }
        let expected = match route {
            // There is no key that the made-up proof could be of, nor an invite or a link of that secret.
            "/auth/register" => 403,
            "/invites/preview" | "/invites/redeem" | "/join" => 404,
            // It is not the owner's, and by no name of ours.
            "/ui/sessions" | "/ui/settings" | "/relay-approvals/{relay_id}" => 403,
            _ => 200,
        };
        assert_eq!(post(&mut client, &path, body.as_bytes()), expected, "{route}");
    }
}

#[test]
fn bodies_that_are_almost_right_never_hurt() {
    let (mut daemon, mut client, party) = daemon();
    let (threads, memory) = (daemon.threads(), daemon.memory());
    let mut random = Random::new(20_261_105);
    let mut statuses = BTreeSet::new();
    for (route, path, body) in bodies(&party) {
        for _ in 0..PER_BODY {
            let mutant = mutate(body.as_bytes(), &mut random);
            let status = post(&mut client, &path, &mutant);
            let shown = String::from_utf8_lossy(&mutant);
            assert!(matches!(status, 200 | 403 | 404 | 409 | 422), "{status} for {route} {shown}");
            statuses.insert(status);
        }
    }
    assert!(statuses.contains(&200) && statuses.contains(&422), "{statuses:?}");
    assert!(daemon.is_running());
    assert_eq!(daemon.threads(), threads);
    assert!(daemon.memory() < memory + 8 * 1024, "{} KiB, {memory} before", daemon.memory());
    client.heartbeat(&party, "host").is(200);
    // What was taken in among them can be read again.
    assert!(daemon.terminate().0.success());
    daemon.restart();
    assert!(!daemon.setup.log().contains("can't be read"));
    daemon.owner().get(&format!("/parties/{party}")).is(200);
}
