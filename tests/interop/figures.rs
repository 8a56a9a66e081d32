//! What an owner sees of the people who play.

use crate::blind::{all_pairs, introduce, party};
use crate::hub::use_hub;
use crate::lab::Lab;
use crate::server::Server;
use lanrage::wire::json::Value;

fn number(of: &Value, path: &[&str]) -> u64 {
    match path.iter().try_fold(of, |value, name| value.get(name)) {
        Some(Value::Number(number)) => number.parse().unwrap(),
        other => panic!("{path:?} is {other:?} in {of:?}"),
    }
}

#[test]
#[ignore = "needs root: network namespaces, wireguard-go"]
fn players_show_in_status_and_metrics() {
    let _alone = crate::alone();
    let lab = Lab::new();
    let server = Server::new(&lab);
    let mut players = party(&server, (10..15).map(|number| lab.host(number)).collect());
    introduce(&players[..2]);
    use_hub(&server, &players[2..4]);
    players[..4].chunks(2).for_each(|pair| {
        all_pairs(pair);
    });
    players[0].host.run(&format!("ping -q -n -i 0.01 -c 50 -s 1000 {}", players[1].member.ip));

    for (name, path) in [("p0", "blind"), ("p1", "blind"), ("p2", "hub"), ("p3", "hub")] {
        let shown = server.member(name);
        assert_eq!(shown.get("path").and_then(Value::as_str), Some(path), "{name}: {shown:?}");
        let label = format!("lanrage_relay_member_path{{peer=\"{name}\",path=\"{path}\"}}");
        assert_eq!(server.owner().metric(&label), 1);
        let bytes = number(&shown, &["from", "bytes"]);
        let label = format!("lanrage_relay_member_bytes_total{{peer=\"{name}\",direction=\"from\"}}");
        assert!(server.owner().metric(&label) >= bytes);
        assert!(bytes > 0 && number(&shown, &["to", "packets"]) > 0, "{shown:?}");
        assert!(number(&shown, &["handshake_seconds"]) < 30);
        let label = format!("lanrage_relay_member_handshake_age_seconds{{peer=\"{name}\"}}");
        assert!(server.owner().metric(&label) < 30);
    }
    for name in ["p0", "p1"] {
        let shown = server.member(name);
        assert!(number(&shown, &["from", "bytes"]) > 50_000 && number(&shown, &["from", "packets"]) >= 50);
    }
    // How many are reached may be a second old.
    let client = &mut players[0].member.client;
    crate::eventually("the load is told", || {
        let relays = client.get("/relays").is(200).json();
        let Some(Value::Array(relays)) = relays.get("relays") else { panic!("{relays:?}") };
        number(&relays[0], &["load"]) == 4
    });
}
