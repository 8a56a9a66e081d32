//! Everything there is to ask for: one row each. Dispatch, rate limits, waiting for the disk, `Allow`, CORS and
//! `/openapi.json` follow from it.

use super::Api;
use super::route::Access::{Admin, Anyone, LocalOrAdmin, Peer};
use super::route::Writes::{Changes, Nothing};
use super::route::{self, Found, Route, delete, get, post};

/// The path that is taken over by a WebSocket session. What is said there: [`super::messages::MESSAGES`].
pub const WEBSOCKET: &str = "/ws";

/// Every route. The first path that fits counts.
pub const ROUTES: &[Route] = &[
    get("/", Anyone, Api::root).is("about", "What this is").answers(
        "It is up.",
        "{service: \"LANrage Control Plane\", version: string, status: \"ok\", parties: Count, relays: Count}",
    ),
    post("/auth/register", Anyone, Changes, Api::register)
        .creates()
        .is("register", "Get a token")
        .note(
            "A free id is anybody's. The id of a member of a party takes that member's token in the header, or proof \
             of its WireGuard key in the body.",
        )
        .query("{peer_id: Id}")
        .may_take("{} & Proof")
        .answers(
            "A token, good for 24 hours after its last use.",
            "{token: Token, peer_id: Id, expires_at: Time}",
        ),
    get("/auth/nonce", Anyone, Api::nonce)
        .is("getNonce", "Get a nonce to prove a WireGuard key with")
        .query("{peer_id: Id}")
        .answers(
            "A nonce, good for a minute, and the hub's key.",
            "{peer_id: Id, nonce: string, public_key: WireGuardKey}",
        ),
    get("/parties", Admin, Api::list_parties).is("listParties", "List all parties (admin)").answers(
        "All parties in brief, oldest first.",
        "{parties: [{party_id: Id, name: Name, host_id: Id, created_at: Time, peers: Count}]}",
    ),
    post("/parties", Peer, Changes, Api::create_party)
        .creates()
        .is("createParty", "Make a party and host it")
        .note("Asked again by the same host with the same name within 30 s, it gives the same party.")
        .takes("{name: Name, host_peer_info: PeerInfo} & Proof")
        .answers("The party. Its id is the secret that friends share.", "PartyAnswer & {party_id: Id}"),
    get("/parties/{party_id}", Peer, Api::read_party)
        .is("getParty", "Read a party")
        .answers("The party.", "PartyAnswer"),
    delete("/parties/{party_id}", Peer, Api::delete_party)
        .is("deleteParty", "End a party (host or admin)")
        .answers("It has ended.", "{status: \"party_deleted\"}"),
    post("/parties/{party_id}/join", Peer, Changes, Api::join_party)
        .is("joinParty", "Join a party, or say anew how to reach a member")
        .note("The party is that of the path; the body's `party_id` is not looked at.")
        .takes("{party_id: Text, peer_info: PeerInfo} & Proof")
        .answers("The party, with the new member.", "PartyAnswer"),
    get("/parties/{party_id}/peers", Peer, Api::read_peers)
        .is("listPeers", "List the peers of a party")
        .answers("Peers by id.", "{peers: Peers}"),
    get("/parties/{party_id}/peers/{peer_id}", Peer, Api::read_peer)
        .is("getPeer", "Read a peer")
        .answers("The peer.", "{peer: Peer}"),
    delete("/parties/{party_id}/peers/{peer_id}", Peer, Api::remove_peer)
        .is("removePeer", "Leave a party, or remove somebody from one's own")
        .answers(
            "What came of it. A party ends when its host leaves.",
            "{status: \"left\" | \"kicked\" | \"party_deleted\"}",
        ),
    post("/parties/{party_id}/peers/{peer_id}/heartbeat", Peer, Nothing, Api::heartbeat)
        .is("heartbeat", "Give a sign of life, every 30 s")
        .answers("It counts. A peer without one for 5 minutes leaves.", "{status: \"ok\"}"),
    post("/parties/{party_id}/signals", Peer, Nothing, Api::send_signal)
        .is("sendSignal", "Send data to another member")
        .note("`signal_data` is any JSON, at most 16 KiB.")
        .takes("{to_peer_id: Id, signal_data: any}")
        .answers("Delivered to its WebSocket, or queued.", "{status: \"ok\"}"),
    get("/parties/{party_id}/peers/{peer_id}/signals", Peer, Api::take_signals)
        .is("takeSignals", "Take the signals that wait for oneself")
        .answers("Oldest first; they are forgotten here.", "{signals: [Signal]}"),
    get("/parties/{party_id}/bans", Peer, Api::list_bans)
        .is("listBans", "List who is banned (host or admin)")
        .answers("The bans.", "{bans: [Ban]}"),
    post("/parties/{party_id}/bans", Peer, Changes, Api::ban)
        .is("ban", "Ban a peer or a key, and remove whom that means (host or admin)")
        .takes("Ban")
        .answers("They are out, and stay out.", "{status: \"banned\"}"),
    delete("/parties/{party_id}/bans", Peer, Api::unban)
        .is("unban", "Lift a ban (host or admin)")
        .note("Needs at least one of the two.")
        .query("{peer_id?: Id, public_key?: WireGuardKey}")
        .answers("It is lifted.", "{status: \"unbanned\"}"),
    get("/relays", Peer, Api::list_relays)
        .is("listRelays", "List all relays")
        .answers("By region, then id. The server's own is among them.", "{relays: [Relay]}"),
    post("/relays", Peer, Changes, Api::register_relay)
        .is("registerRelay", "Register a relay, or keep it registered")
        .takes("RelayInfo")
        .answers(
            "Registered for 10 minutes. The id belongs to the first to register it. `public_ip` is the address that \
             the request comes from.",
            "{status: \"registered\", relay_id: Id}",
        ),
    get("/relays/{region}", Peer, Api::list_relays_in)
        .is("listRelaysIn", "List the relays of a region")
        .answers("By id; none if nobody knows the region.", "{relays: [Relay]}"),
    get("/metrics", LocalOrAdmin, Api::metrics)
        .is("getMetrics", "Figures for Prometheus (from this machine, or admin)")
        .media("text/plain; version=0.0.4; charset=utf-8")
        .answers("The text exposition format.", "string"),
    get("/openapi.json", Anyone, Api::openapi)
        .headers(&[("Cache-Control", "no-cache")])
        .is("getOpenapi", "This document")
        .note("The answer has an ETag; with that in If-None-Match, 304 says that it is still the same.")
        .answers("It.", "{openapi: string, paths: any}"),
    get("/status", LocalOrAdmin, Api::status)
        .is("getStatus", "Figures for people (from this machine, or admin)")
        .note("`members` are those that the relay has seen. `store.status` is `ok`, or what is wrong.")
        .answers("How it is doing.", "Status"),
    get("/backup", Admin, Api::backup)
        .is("getBackup", "A copy of the store (admin)")
        .note("With its secrets, as is the default, it leaves through the Unix socket alone; elsewhere ask for it without.")
        .query("{secrets?: \"redacted\" | \"included\"}")
        .media("application/x-ndjson")
        .answers("One row a line, then one line with their number.", "string"),
];

/// What a path means.
pub fn find(path: &str) -> Option<Found<'_>> {
    route::find(ROUTES, path)
}

/// Every method that a path of the table has, and OPTIONS.
pub fn methods() -> String {
    let mut all: Vec<&str> = Vec::new();
    for route in ROUTES {
        if !all.contains(&route.method) {
            all.push(route.method);
        }
    }
    all.push("OPTIONS");
    all.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_route_hides_another() {
        for (at, route) in ROUTES.iter().enumerate() {
            let example = route.path.replace(['{', '}'], "");
            assert_eq!(find(&example).unwrap().path, route.path, "{example}");
            let twin = |other: &Route| other.path == route.path && other.method == route.method;
            assert!(!ROUTES[..at].iter().any(twin), "{} {}", route.method, route.path);
        }
        assert!(find(WEBSOCKET).is_none());
    }

    #[test]
    fn finds_parameters_and_refuses_everything_else() {
        let found = find("/parties/a%20b/peers/c/heartbeat").unwrap();
        assert_eq!(found.path, "/parties/{party_id}/peers/{peer_id}/heartbeat");
        assert_eq!(found.parameters, ["a b", "c"]);
        for path in
            ["", "//", "/parties/", "/parties//join", "/parties/a/", "/nope", "/parties/%zz", "/relays/a/b"]
        {
            assert!(find(path).is_none(), "{path:?}");
        }
    }

    #[test]
    fn what_pages_may_ask_for_is_in_the_table() {
        assert_eq!(methods(), "GET, POST, DELETE, OPTIONS");
    }

    #[test]
    fn what_only_reads_changes_nothing() {
        assert!(ROUTES.iter().all(|route| route.method != "GET" || route.writes == Nothing));
    }
}
