"""REFERENCE.md 2, the table of errors: statuses, details and the items of a 422, row by row."""

import json
import time

import pytest

from stock_client import describe, naive, utc_now


@pytest.fixture(scope="module")
def party(daemon):
    """A party of `host` with `guest` in it, and clients of both."""
    clients = {peer: daemon.http(daemon.token(peer)) for peer in ("host", "guest", "stranger")}
    created = clients["host"].post("/parties", json={"name": "x", "host_peer_info": describe("host")})
    party_id = created.json()["party_id"]
    body = {"party_id": party_id, "peer_info": describe("guest")}
    assert clients["guest"].post(f"/parties/{party_id}/join", json=body).status_code == 200
    clients["id"] = party_id
    yield clients
    for client in clients.values():
        if client is not party_id:
            client.close()


def check(answer, status, detail):
    assert (answer.status_code, answer.json()) == (status, {"detail": detail})
    assert answer.headers["content-type"] == "application/json"
    assert status == 404 or "404" not in detail


NEED_A_TOKEN = [
    ("POST", "/parties"),
    ("POST", "/parties/P/join"),
    ("GET", "/parties/P"),
    ("GET", "/parties/P/peers"),
    ("GET", "/parties/P/peers/Q"),
    ("POST", "/parties/P/peers/Q/heartbeat"),
    ("DELETE", "/parties/P/peers/Q"),
    ("POST", "/relays"),
    ("GET", "/relays"),
    ("GET", "/relays/R"),
]


@pytest.mark.parametrize("method, path", NEED_A_TOKEN)
@pytest.mark.parametrize(
    "header, detail",
    [
        (None, "Missing authorization header"),
        ("", "Missing authorization header"),
        ("Basic QWxhZGRpbg==", "Invalid authorization format"),
        ("bearer token", "Invalid authorization format"),
        ("Bearer", "Invalid authorization format"),
        ("Bearer " + "x" * 43, "Invalid or expired token"),
        ("Bearer nonsense", "Invalid or expired token"),
    ],
)
def test_who_has_no_token(daemon, method, path, header, detail):
    headers = {} if header is None else {"Authorization": header}
    with daemon.http() as http:
        body = {"json": {}} if method == "POST" else {}
        check(http.request(method, path, headers=headers, **body), 401, detail)


def test_an_expired_token(start):
    daemon = start(TIMEOUTS_TOKEN="0.5")
    with daemon.http(daemon.token("ann")) as http:
        assert http.get("/relays").status_code == 200
        time.sleep(0.8)
        check(http.get("/relays"), 401, "Token expired")


def test_using_a_token_extends_it(start):
    daemon = start(TIMEOUTS_TOKEN="2")
    with daemon.http(daemon.token("ann")) as http:
        for _ in range(8):
            time.sleep(0.5)
            assert http.get("/relays").status_code == 200


def test_a_token_speaks_for_its_peer_alone(party):
    other = describe("guest")
    check(
        party["host"].post("/parties", json={"name": "x", "host_peer_info": other}),
        403,
        "Token peer_id does not match host_peer_info.peer_id",
    )
    check(
        party["host"].post(f"/parties/{party['id']}/join", json={"party_id": "x", "peer_info": other}),
        403,
        "Token peer_id does not match peer_info.peer_id",
    )
    # Before any word on whether the party is there.
    for party_id in (party["id"], "nowhere"):
        mismatch = "Token peer_id does not match requested peer_id"
        check(party["stranger"].post(f"/parties/{party_id}/peers/guest/heartbeat"), 403, mismatch)
        check(party["stranger"].delete(f"/parties/{party_id}/peers/guest"), 403, mismatch)
        check(party["guest"].delete(f"/parties/{party_id}/peers/host"), 403, mismatch)


def test_who_is_not_there(party):
    http, here = party["stranger"], party["id"]
    check(http.get("/parties/nowhere"), 404, "Party nowhere not found")
    check(http.get("/parties/nowhere/peers"), 404, "Party nowhere not found")
    check(http.get("/parties/nowhere/peers/x"), 404, "Party nowhere not found")
    body = {"party_id": "x", "peer_info": describe("stranger")}
    check(http.post("/parties/nowhere/join", json=body), 404, "Party nowhere not found")
    check(http.post("/parties/nowhere/peers/stranger/heartbeat"), 404, "Party nowhere not found")
    check(http.delete("/parties/nowhere/peers/stranger"), 404, "Party nowhere not found")
    check(http.get(f"/parties/{here}/peers/x"), 404, "Peer x not found")
    check(http.post(f"/parties/{here}/peers/stranger/heartbeat"), 404, "Peer stranger not found")
    check(http.delete(f"/parties/{here}/peers/stranger"), 404, "Peer stranger not in party")
    # Ids go raw into URLs, and come back as they were meant.
    check(http.get("/parties/a%20b%22"), 404, 'Party a b" not found')


@pytest.mark.parametrize("path", ["/nope", "/parties/", "/parties/a/b", "/auth", "/ws/", "/parties/%zz"])
def test_no_such_route(daemon, path):
    with daemon.http(daemon.token("x")) as http:
        check(http.get(path), 404, "Not Found")


@pytest.mark.parametrize(
    "method, path, allowed",
    [
        ("POST", "/", {"GET"}),
        ("GET", "/auth/register", {"POST"}),
        ("DELETE", "/parties", {"GET", "POST"}),
        ("PUT", "/parties/P", {"GET", "DELETE"}),
        ("GET", "/parties/P/join", {"POST"}),
        ("POST", "/parties/P/peers", {"GET"}),
        ("PATCH", "/parties/P/peers/Q", {"GET", "DELETE"}),
        ("GET", "/parties/P/peers/Q/heartbeat", {"POST"}),
        ("DELETE", "/relays", {"GET", "POST"}),
        ("POST", "/relays/R", {"GET"}),
        ("BREW", "/relays", {"GET", "POST"}),
    ],
)
def test_wrong_method(daemon, method, path, allowed):
    with daemon.http() as http:
        answer = http.request(method, path)
        check(answer, 405, "Method Not Allowed")
        assert set(answer.headers["allow"].replace(" ", "").split(",")) == allowed


def items(answer):
    """`type` and `loc` of what is wrong."""
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json()) == {"detail"}
    for item in answer.json()["detail"]:
        assert {"type", "loc", "msg", "input"} <= set(item) <= {"type", "loc", "msg", "input", "ctx"}
        assert "404" not in item["msg"]
    return [(item["type"], item["loc"]) for item in answer.json()["detail"]]


def test_422_of_registration(daemon):
    with daemon.http() as http:
        assert items(http.post("/auth/register")) == [("missing", ["query", "peer_id"])]
        empty = http.post("/auth/register?peer_id=")
        assert items(empty) == [("string_too_short", ["query", "peer_id"])]
        assert empty.json()["detail"][0]["ctx"] == {"min_length": 1}
        for bad in ["%00", "a%20b", "%C3%A9", "a/b", "%F0%9F%8E%AE"]:
            answer = http.post(f"/auth/register?peer_id={bad}")
            assert items(answer) == [("string_pattern_mismatch", ["query", "peer_id"])]
        long = http.post("/auth/register", params={"peer_id": "x" * 65})
        assert items(long) == [("string_too_long", ["query", "peer_id"])]
        assert long.json()["detail"][0]["ctx"] == {"max_length": 64}
        # 60 kB do not fit into a head at all.
        assert http.post("/auth/register", params={"peer_id": "x" * 60_000}).status_code == 431


BODIES = {
    "/parties": {"name": "x", "host_peer_info": describe("host")},
    "/parties/nowhere/join": {"party_id": "x", "peer_info": describe("host")},
    "/relays": {"relay_id": "r", "public_ip": "198.51.100.1", "port": 1},
    "/parties/nowhere/signals": {"to_peer_id": "x", "signal_data": None},
}


@pytest.mark.parametrize("path", BODIES)
def test_422_of_bodies_as_a_whole(party, path):
    post = party["host"].post
    assert items(post(path)) == [("missing", ["body"])]
    assert items(post(path, content="[]")) == [("model_attributes_type", ["body"])]
    assert items(post(path, json={})) == [("missing", ["body", field]) for field in BODIES[path]]
    for field in BODIES[path]:
        without = {name: value for name, value in BODIES[path].items() if name != field}
        assert items(post(path, json=without)) == [("missing", ["body", field])]


@pytest.mark.parametrize(
    "text",
    [
        "{",
        '{"name": ',
        "nonsense",
        '{"name": "x",}',
        "{'name': 1}",
        '{"a" 1}',
        '{"a": 1} x',
        '{"a": "x',
        "[1 2]",
    ],
)
def test_malformed_json(daemon, party, text):
    with pytest.raises(json.JSONDecodeError) as caught:
        json.loads(text)
    with daemon.http() as nobody:
        for http in (party["host"], nobody):
            answer = http.post("/parties", content=text, headers={"Content-Type": "application/json"})
            assert items(answer) == [("json_invalid", ["body", caught.value.pos])]
            assert answer.json()["detail"][0]["msg"] == "JSON decode error"


def test_a_body_that_lacks_fields_needs_a_token_first(daemon):
    with daemon.http() as http:
        for path in BODIES:
            check(http.post(path, json={}), 401, "Missing authorization header")


TOO_LONG = "x" * 101
FIELDS = [
    ("/parties", ["name"], "", "string_too_short"),
    ("/parties", ["name"], TOO_LONG, "string_too_long"),
    ("/parties", ["name"], 1, "string_type"),
    ("/parties", ["name"], None, "string_type"),
    ("/parties", ["name"], "a\0b", "string_pattern_mismatch"),
    ("/parties", ["host_peer_info"], "x", "dict_type"),
    ("/parties", ["host_peer_info"], [], "dict_type"),
    ("/parties", ["host_peer_info"], None, "dict_type"),
    ("/parties", ["host_peer_info", "peer_id"], "", "string_too_short"),
    ("/parties", ["host_peer_info", "peer_id"], "a b", "string_pattern_mismatch"),
    ("/parties", ["host_peer_info", "peer_id"], 7, "string_type"),
    ("/parties", ["host_peer_info", "public_port"], "x", "int_parsing"),
    ("/parties", ["host_peer_info", "public_port"], 1.5, "int_from_float"),
    ("/parties", ["host_peer_info", "public_port"], -1, "greater_than_equal"),
    ("/parties", ["host_peer_info", "local_port"], 65536, "less_than_equal"),
    ("/parties", ["host_peer_info", "local_port"], True, "int_type"),
    ("/parties", ["host_peer_info", "nat_type"], "magic", "enum"),
    ("/parties", ["host_peer_info", "public_key"], "x" * 129, "string_too_long"),
    ("/parties/nowhere/join", ["party_id"], "", "string_too_short"),
    ("/parties/nowhere/join", ["party_id"], {}, "string_type"),
    ("/parties/nowhere/join", ["peer_info"], 1, "dict_type"),
    ("/relays", ["relay_id"], "", "string_too_short"),
    ("/relays", ["relay_id"], "x" * 65, "string_too_long"),
    ("/relays", ["port"], -999999, "greater_than_equal"),
    ("/relays", ["port"], 0, "greater_than_equal"),
    ("/relays", ["port"], "65536", "less_than_equal"),
    ("/relays", ["port"], "x", "int_parsing"),
    ("/relays", ["port"], 1.5, "int_from_float"),
    ("/relays", ["port"], 18446744073709551617, "less_than_equal"),
    ("/relays", ["capacity"], "many", "int_parsing"),
    ("/relays", ["region"], "", "string_too_short"),
    ("/relays", ["public_ip"], "relay.example.org", "value_error"),
    ("/relays", ["public_ip"], "0.0.0.0", "value_error"),
    ("/relays", ["public_ip"], "255.255.255.255", "value_error"),
    ("/relays", ["public_ip"], "::ffff:224.0.0.1", "value_error"),
]


@pytest.mark.parametrize("path, field, value, kind", FIELDS)
def test_422_of_fields(party, path, field, value, kind):
    body = json.loads(json.dumps(BODIES[path]))
    inner = body
    for name in field[:-1]:
        inner = inner[name]
    inner[field[-1]] = value
    answer = party["host"].post(path, json=body)
    assert items(answer) == [(kind, ["body", *field])]
    bounds = {"string_too_short": {"min_length"}, "string_too_long": {"max_length"}}
    assert kind not in bounds or set(answer.json()["detail"][0]["ctx"]) == bounds[kind]


def test_422_of_bans(party):
    bans = f"/parties/{party['id']}/bans"
    post, delete = party["host"].post, party["host"].delete
    assert items(post(bans, json={})) == [("missing", ["body", "peer_id"])]
    assert items(post(bans, json={"peer_id": None})) == [("string_type", ["body", "peer_id"])]
    assert items(post(bans, json={"public_key": "x"})) == [("value_error", ["body", "public_key"])]
    assert items(delete(bans)) == [("missing", ["query", "peer_id"])]
    assert items(delete(bans, params={"public_key": "x"})) == [("value_error", ["query", "public_key"])]
    assert party["host"].get(bans).json() == {"bans": []}


def test_a_clock_of_another_age_changes_nothing(daemon, name):
    """Years before 1 or after 9999 have no date that anybody could read."""
    for moment in ("0001-01-01T00:00:00", "9999-12-31T23:59:59.999999", "1000-01-01T00:00:00"):
        ann = name("ann")
        with daemon.http(daemon.token(ann)) as http:
            body = {"name": "x", "host_peer_info": describe(ann, last_seen=moment)}
            answer = http.post("/parties", json=body).json()
            seen = naive(answer["party"]["peers"][ann]["last_seen"])
            assert abs(seen - utc_now()).total_seconds() < 60


def test_everything_that_is_wrong_is_said_at_once(party):
    body = {"name": "", "host_peer_info": {"peer_id": "host", "public_port": "x"}}
    assert items(party["host"].post("/parties", json=body)) == [
        ("string_too_short", ["body", "name"]),
        ("missing", ["body", "host_peer_info", "name"]),
        ("missing", ["body", "host_peer_info", "public_key"]),
        ("int_parsing", ["body", "host_peer_info", "public_port"]),
    ]


def test_bodies_that_are_too_long_or_too_deep(party):
    assert party["host"].post("/parties", content=b"x" * (64 * 1024 + 1)).status_code == 413
    deep = '{"name":' + "[" * 60_000
    assert items(party["host"].post("/parties", content=deep))[0][0] == "json_invalid"


def test_rates_of_a_source_behind_a_proxy(start):
    """Who comes from the loopback itself is exempt; whom a trusted proxy speaks for is not."""
    daemon = start(TRUSTED_PROXIES="127.0.0.1")
    with daemon.http(headers={"X-Forwarded-For": "198.51.100.7"}) as http:
        answers = [http.post("/auth/register", params={"peer_id": f"peer{number}"}) for number in range(31)]
        assert [answer.status_code for answer in answers[:30]] == [200] * 30
        refused = answers[30]
        assert refused.status_code == 429 and int(refused.headers["retry-after"]) >= 1
        assert isinstance(refused.json()["detail"], str) and "404" not in refused.json()["detail"]
        other = {"X-Forwarded-For": "198.51.100.8"}
        assert http.post("/auth/register", params={"peer_id": "other"}, headers=other).status_code == 200


def test_a_page_of_another_origin_gets_nothing(daemon):
    with daemon.http(headers={"Origin": "https://example.org"}) as http:
        for answer in (http.get("/"), http.get("/nope"), http.options("/parties"), http.get("/ws")):
            assert answer.status_code in (403, 426), answer.text
            assert not any(name.startswith("access-control") for name in answer.headers)
        assert http.post("/auth/register", params={"peer_id": "page"}).status_code == 403
    with daemon.http(headers={"Origin": daemon.url}) as http:
        assert http.get("/status").status_code == 200
        assert http.options("/parties").status_code == 200


def test_a_page_of_an_allowed_origin_gets_what_it_asks_for(start):
    daemon = start(ALLOWED_ORIGINS="https://example.org")
    with daemon.http(headers={"Origin": "https://example.org"}) as http:
        for answer in (http.get("/"), http.get("/nope"), http.options("/parties")):
            assert answer.headers["access-control-allow-origin"] == "https://example.org"
            assert "access-control-allow-credentials" not in answer.headers
        assert http.options("/parties").status_code == 200


def test_an_unknown_name_opens_no_door_of_the_owner(start):
    daemon = start(ALLOWED_HOSTS="router.lan")
    for name, status in (("evil.example", 403), ("router.lan", 200), ("localhost", 200), ("127.0.0.1", 200)):
        with daemon.http(headers={"Host": f"{name}:{daemon.port}"}) as http:
            assert http.get("/status").status_code == http.get("/metrics").status_code == status, name
            assert http.get("/").status_code == 200, "it is no browser"


def test_head_is_get_without_a_body(daemon):
    with daemon.http() as http:
        head, get = http.head("/openapi.json"), http.get("/openapi.json")
        assert head.status_code == 200 and head.content == b""
        assert head.headers["content-length"] == get.headers["content-length"]
