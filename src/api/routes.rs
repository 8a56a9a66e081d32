//! Everything there is to ask for: one row each. Dispatch, rate limits, waiting for the disk, `Allow`, CORS and
//! `/openapi.json` follow from it.

use super::route::Access::{Admin, Anyone, Device, KnownHost, LocalOrAdmin, Peer};
use super::route::Writes::{Changes, Nothing};
use super::route::{self, Access, PathMatch, Route, delete, get, post};
use super::{Api, pages};
use crate::wire::http::UPLOAD;

/// The path that is taken over by a WebSocket session. What is said there: [`super::messages::MESSAGES`].
pub const WEBSOCKET: &str = "/ws";

/// Every route. The first path that fits counts.
pub const ROUTES: &[Route] = &[
    get("/", Anyone, Api::root)
        .docs(
            "about: What this is\n\
             means It is up.\n\
             answer {service: \"LANrage Control Plane\", version: string, status: \"ok\", parties: Count, relays: \
             Count}",
        ),
    post("/auth/register", Anyone, Changes, Api::register)
        .creates()
        .may_take("{} & Proof")
        .docs(
            "register: Get a token\n\
             note A free id is anybody's. The id of a member of a party takes that member's token in the header, or \
             proof of its WireGuard key in the body.\n\
             query {peer_id: Id}\n\
             means A token, good for 24 hours after its last use.\n\
             answer {token: Token, peer_id: Id, expires_at: Time}",
        ),
    get("/auth/nonce", Anyone, Api::nonce)
        .docs(
            "getNonce: Get a nonce to prove a WireGuard key with\n\
             query {peer_id: Id}\n\
             means A nonce, good for a minute, and the hub's key.\n\
             answer {peer_id: Id, nonce: string, public_key: WireGuardKey}",
        ),
    get("/parties", Admin, Api::list_parties)
        .docs(
            "listParties: List all parties (admin)\n\
             means All parties in brief, oldest first.\n\
             answer {parties: [{party_id: Id, name: Name, host_id: HostId, created_at: UtcTime, peers: Count}]}",
        ),
    post("/parties", Peer, Changes, Api::create_party)
        .creates()
        .takes("{name: Name, host_peer_info: PeerInfo} & Proof")
        .docs(
            "createParty: Make a party and host it\n\
             note Asked again by the same host with the same name within 30 s, it gives the same party. Without \
             `host_peer_info` the admin makes one that belongs to the server and outlasts its members; then all that \
             changeParty takes is taken, too, and `relay`, the id of an approved relay that its members are sent to.\n\
             means The party. Its id is the secret that friends share.\n\
             answer PartyAnswer & {party_id: Id}",
        ),
    get("/parties/{party_id}", Peer, Api::read_party)
        .docs(
            "getParty: Read a party\n\
             means The party.\n\
             answer PartyAnswer",
        ),
    delete("/parties/{party_id}", Peer, Api::delete_party)
        .docs(
            "deleteParty: End a party (host or admin)\n\
             means It has ended.\n\
             answer {status: \"party_deleted\"}",
        ),
    post("/parties/{party_id}/join", Peer, Changes, Api::join_party)
        .takes("{party_id: Text, peer_info: PeerInfo, password?: Password | null} & Proof")
        .docs(
            "joinParty: Join a party, or say anew how to reach a member\n\
             note The party is that of the path; the body's `party_id` is not looked at. In place of its id, an invite's \
             code or token is good, too, here and from then on for whom it has let in.\n\
             means The party, with the new member.\n\
             answer PartyAnswer",
        ),
    get("/parties/{party_id}/peers", Peer, Api::read_peers)
        .docs(
            "listPeers: List the peers of a party\n\
             means Peers by id.\n\
             answer {peers: Peers}",
        ),
    get("/parties/{party_id}/peers/{peer_id}", Peer, Api::read_peer)
        .docs(
            "getPeer: Read a peer\n\
             means The peer.\n\
             answer {peer: Peer}",
        ),
    delete("/parties/{party_id}/peers/{peer_id}", Peer, Api::remove_peer)
        .docs(
            "removePeer: Leave a party, or remove somebody from one's own\n\
             query {revoke_invite?: Flag}\n\
             means What came of it. A party ends when its host leaves.\n\
             answer {status: \"left\" | \"kicked\" | \"party_deleted\"}",
        ),
    post("/parties/{party_id}/peers/{peer_id}/heartbeat", Peer, Nothing, Api::heartbeat)
        .docs(
            "heartbeat: Give a sign of life, every 30 s\n\
             note An agent says in it how many members it reaches straight.\n\
             query {straight?: {\"type\":\"integer\",\"minimum\":0,\"maximum\":255}}\n\
             means It counts. A peer without one for 5 minutes leaves.\n\
             answer {status: \"ok\"}",
        ),
    post("/parties/{party_id}/signals", Peer, Nothing, Api::send_signal)
        .by_writer()
        .takes("{to_peer_id: Id, signal_data: any}")
        .docs(
            "sendSignal: Send data to another member\n\
             note `signal_data` is any JSON, at most 16 KiB.\n\
             means Delivered to its WebSocket, or queued.\n\
             answer {status: \"ok\"}",
        ),
    get("/parties/{party_id}/peers/{peer_id}/signals", Peer, Api::take_signals)
        .by_writer()
        .docs(
            "takeSignals: Take the signals that wait for oneself\n\
             means Oldest first; they are forgotten here.\n\
             answer {signals: [Signal]}",
        ),
    get("/parties/{party_id}/bans", Peer, Api::list_bans)
        .docs(
            "listBans: List who is banned (host or admin)\n\
             means The bans.\n\
             answer {bans: [Ban]}",
        ),
    post("/parties/{party_id}/bans", Peer, Changes, Api::ban)
        .takes("Ban & {revoke_invite?: boolean | null, new_id?: boolean | null}")
        .docs(
            "ban: Ban a peer or a key, and remove whom that means (host or admin)\n\
             note With `new_id` the party gets another id, which those who stay are told; they may go on with the old \
             one.\n\
             means They are out, and stay out.\n\
             answer {status: \"banned\", party_id?: Id}",
        ),
    delete("/parties/{party_id}/bans", Peer, Api::unban)
        .docs(
            "unban: Lift a ban (host or admin)\n\
             note Needs at least one of the two.\n\
             query {peer_id?: Id, public_key?: WireGuardKey}\n\
             means It is lifted.\n\
             answer {status: \"unbanned\"}",
        ),
    post("/parties/{party_id}/settings", Peer, Changes, Api::change_party)
        .takes("{name?: Name | null, access?: Access | null, password?: Password | null, permanent?: boolean | null, \
                ends_at?: OptionalDate}")
        .docs(
            "changeParty: Say who may come in, and for how long (host or admin)\n\
             note Only the admin makes a party permanent. `ends_at` null: at no set time.\n\
             means So it is.\n\
             answer {status: \"ok\", name: Name, access: Access, permanent: boolean, ends_at: NullableDate}",
        ),
    get("/parties/{party_id}/devices", Peer, Api::list_devices)
        .docs(
            "listDevices: List the devices of a party (host or admin)\n\
             means Members with a WireGuard app and nothing else.\n\
             answer {devices: [{peer_id: Id, name: Name, public_key: WireGuardKey, virtual_ip: VirtualIp, expires_at: \
             NullableDate, last_handshake: NullableDate}]}",
        ),
    post("/parties/{party_id}/devices", Peer, Changes, Api::add_device)
        .takes("{name: Name, public_key: UsableKey, expires_in?: Span | null}")
        .docs(
            "addDevice: Put a device into a party (host or admin)\n\
             means What the app has to know; `text` is the file, without the private key, which nobody but the app has.\n\
             answer DeviceAnswer",
        ),
    delete("/parties/{party_id}/devices/{peer_id}", Peer, Api::remove_device)
        .docs(
            "removeDevice: Take a device out of a party (host or admin)\n\
             means It is out.\n\
             answer {status: \"removed\"}",
        ),
    get("/parties/{party_id}/invites", Peer, Api::list_invites)
        .docs(
            "listInvites: List the invites to a party (host or admin)\n\
             means Those that are not over.\n\
             answer {invites: [Invite]}",
        ),
    post("/parties/{party_id}/invites", Peer, Changes, Api::create_invite)
        .may_take("InviteWish")
        .docs(
            "createInvite: Invite somebody to a party (host or admin)\n\
             note One use and a day, unless it says otherwise; a link may last longer.\n\
             means Its secret, which is not told again.\n\
             answer {invite_id: string, token?: string, code?: string, url: any, uses: Count, expires_at: Date}",
        ),
    delete("/parties/{party_id}/invites/{invite_id}", Peer, Api::revoke_invite)
        .docs(
            "revokeInvite: Put an end to an invite (host or admin)\n\
             means Nobody comes in by it any more.\n\
             answer {status: \"revoked\"}",
        ),
    post("/invites/preview", Anyone, Nothing, Api::preview_invite)
        .takes("InviteSecret")
        .docs(
            "previewInvite: Look at an invite before using it\n\
             also 404\n\
             means What it is to.\n\
             answer {party: Name, host: any, players: Count, online: Count, needs_password: boolean, expires_at: Date, \
             uses_left: Count}",
        ),
    post("/invites/redeem", Anyone, Changes, Api::redeem_invite)
        .creates()
        .takes("InviteSecret & {name: Name, public_key: UsableKey, password?: Password | null}")
        .docs(
            "redeemInvite: Come into a party as a device\n\
             also 404\n\
             note With the same key again it gives the same answer and costs nothing.\n\
             means What the app has to know, and a token for `GET /devices/self`.\n\
             answer DeviceAnswer & {party: Name, device_token: Token}",
        ),
    get("/devices/self", Device, Api::read_own_device)
        .docs(
            "readDevice: Read what a device may know (with its device_token)\n\
             means How it is doing.\n\
             answer {peer_id: Id, name: Name, party: Name, virtual_ip: VirtualIp, last_handshake: NullableDate, \
             is_online: boolean, members: [{name: Name, virtual_ip: VirtualIp, is_online: boolean}]}",
        ),
    get("/public-parties", Anyone, Api::list_public)
        .docs(
            "listPublicParties: List the parties that everybody may join\n\
             means By name.\n\
             answer {parties: [{party_id: Id, name: Name, players: Count, limit: Count}]}",
        ),
    get("/overview", Peer, Api::overview)
        .docs(
            "getOverview: Everything at a glance (admin; host for one party)\n\
             also 403 404\n\
             note The answer has an ETag; with that in If-None-Match, 304 says that nothing but the time has changed.\n\
             query {party?: Id}\n\
             means How it is.\n\
             answer {version: string, now: Date, uptime: Count, clock_is_set: boolean, endpoint: any, http: any, \
             reached_from_outside: NullableDate, trouble: [Trouble], drops: Drops, \
             parties: [OverviewParty], events: {last: Count}}",
        ),
    get("/events", Admin, Api::list_events)
        .docs(
            "listEvents: What has happened lately (admin)\n\
             query {after?: {\"type\":\"integer\",\"minimum\":0,\"maximum\":9007199254740991}}\n\
             means Of the last 200 those after a number, oldest first.\n\
             answer {events: [Event], last: Count}",
        ),
    post("/ui/setups", Admin, Nothing, Api::offer_page)
        .by_writer()
        .docs(
            "offerPage: Make a link to the owner's pages (admin)\n\
             means It is good once, for ten minutes.\n\
             answer {setup: Token, url: any, expires_at: Date}",
        ),
    post("/ui/sessions", KnownHost, Nothing, Api::open_page)
        .by_writer()
        .takes("PageSecret")
        .docs(
            "openPage: Get a token for the owner's pages\n\
             means It makes an admin, until then or until the server is started again.\n\
             answer {token: Token, expires_at: Date}",
        ),
    delete("/ui/sessions", Admin, Api::close_page)
        .by_writer()
        .docs(
            "closePage: End the token that asks (admin)\n\
             means It is worth nothing any more.\n\
             answer {status: \"ended\"}",
        ),
    post("/ui/settings", Admin, Changes, Api::change_settings)
        .takes("{public_endpoint: Text}")
        .docs(
            "changeSettings: Say where friends reach this server (admin)\n\
             note 409 if a flag, the environment or the configuration file says so already.\n\
             means So it is, from now on.\n\
             answer {status: \"ok\"}",
        ),
    get("/relays", Peer, Api::list_relays)
        .docs(
            "listRelays: List all relays\n\
             also 403 404\n\
             query {party?: Id}\n\
             means By region, then id. The server's own is among them. With a party, each says whether it serves that, \
             and those that do come first.\n\
             answer {relays: [Relay]}",
        ),
    post("/relays", Peer, Changes, Api::register_relay)
        .takes("RelayInfo")
        .docs(
            "registerRelay: Register a relay, or keep it registered\n\
             means Registered for 10 minutes. The id belongs to the first to register it. `public_ip` is the address \
             that the request comes from.\n\
             answer {status: \"registered\", relay_id: Id}",
        ),
    get("/relays/{region}", Peer, Api::list_relays_in)
        .docs(
            "listRelaysIn: List the relays of a region\n\
             means By id; none if nobody knows the region.\n\
             answer {relays: [Relay]}",
        ),
    get("/relay-approvals", Admin, Api::list_approvals)
        .by_writer()
        .docs(
            "listApprovals: List the relays in other places (admin)\n\
             note One that waits is given nothing before it is approved.\n\
             means Those that are approved, and those that wait for that.\n\
             answer {relays: [{relay_id: Id, state: \"connected\" | \"away\" | \"waiting\", public_key: WireGuardKey, \
             public_ip: string, port: Count, region: Word, parties?: Count, members?: Count, left_out?: Count}]}",
        ),
    post("/relay-approvals/{relay_id}", Admin, Changes, Api::approve_relay)
        .takes("{public_key: Word}")
        .docs(
            "approveRelay: Approve a relay that waits (admin)\n\
             also 404\n\
             note `public_key` is its key, or the first 12 or more characters of that.\n\
             means It is told of all parties, and clients are told of it.\n\
             answer {status: \"approved\", public_key: WireGuardKey, parties: Count}",
        ),
    delete("/relay-approvals/{relay_id}", Admin, Api::revoke_relay)
        .docs(
            "revokeRelay: Take an approval back (admin)\n\
             means It forgets all parties, and clients are not told of it any more.\n\
             answer {status: \"revoked\"}",
        ),
    get("/metrics", LocalOrAdmin, Api::metrics)
        .docs(
            "getMetrics: Figures for Prometheus (from this machine, or admin)\n\
             media text/plain; version=0.0.4; charset=utf-8\n\
             means The text exposition format.\n\
             answer string",
        ),
    get("/openapi.json", Anyone, Api::openapi).headers(&[("Cache-Control", "no-cache")])
        .docs(
            "getOpenapi: This document\n\
             note The answer has an ETag; with that in If-None-Match, 304 says that it is still the same.\n\
             means It.\n\
             answer {openapi: string, paths: any}",
        ),
    get("/status", LocalOrAdmin, Api::status)
        .docs(
            "getStatus: Figures for people (from this machine, or admin)\n\
             note `members` are those that the relay has seen. `store.status` is `ok`, or what is wrong.\n\
             means How it is doing.\n\
             answer Status",
        ),
    page("/ui", KnownHost).docs("getUi: The owner's page\nmedia text/html; charset=utf-8\nmeans It.\nanswer string"),
    page("/ui/", KnownHost).docs("getUiPage: The same\nmedia text/html; charset=utf-8\nmeans It.\nanswer string"),
    page("/ui/owner.js", KnownHost)
        .docs("getUiScript: Its script\nmedia text/javascript; charset=utf-8\nmeans It.\nanswer string"),
    page("/ui/owner.css", KnownHost)
        .docs("getUiStyle: Its looks\nmedia text/css; charset=utf-8\nmeans It.\nanswer string"),
    page("/join", Anyone)
        .docs("getJoin: The page of who is invited\nmedia text/html; charset=utf-8\nmeans It.\nanswer string"),
    post("/join", Anyone, Changes, Api::redeem_by_form)
        .creates()
        .takes_form("{code: Word, name: Name, public_key: UsableKey}")
        .docs(
            "redeemByForm: Use an invite, from a browser without scripts\n\
             also 404\n\
             media application/octet-stream\n\
             means The file for the WireGuard app, without the private key, which the app has.\n\
             answer string",
        ),
    page("/join/guest.js", Anyone)
        .docs("getJoinScript: Its script\nmedia text/javascript; charset=utf-8\nmeans It.\nanswer string"),
    page("/join/guest.css", Anyone)
        .docs("getJoinStyle: Its looks\nmedia text/css; charset=utf-8\nmeans It.\nanswer string"),
    get("/backup", Admin, Api::backup)
        .docs(
            "getBackup: A copy of the store (admin)\n\
             note With its secrets, as is the default, it is not for a page that was opened over ten minutes ago.\n\
             query {secrets?: \"redacted\" | \"included\"}\n\
             media application/x-ndjson\n\
             means One row a line, then one line with their number.\n\
             answer string",
        ),
    post(UPLOAD, Admin, Nothing, Api::restore)
        .docs(
            "restore: Go back to a backup (admin)\n\
             note The body is one, of at most 64 MiB, from who may have one. What there is now is kept beside it.\n\
             means It is whole, and the server starts anew.\n\
             answer {status: \"restarting\", rows: Count}",
        ),
];

/// A file of a page, compressed: every browser reads that.
const fn page(path: &'static str, access: Access) -> Route {
    get(path, access, Api::page).headers(pages::HEADERS)
}

/// What a path means.
pub fn find(path: &str) -> Option<PathMatch<'_>> {
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
