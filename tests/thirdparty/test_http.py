"""REFERENCE.md 1 and 2: what a stock client does over HTTP, and what it must be able to read."""

import asyncio
import base64
import json
import os
import re

import pytest

from stock_client import Failed, HttpClient, NotFound, describe

PEER_KEYS = {
    "peer_id",
    "name",
    "public_key",
    "nat_type",
    "public_ip",
    "public_port",
    "local_ip",
    "local_port",
    "last_seen",
}
PARTY_KEYS = {"party_id", "name", "host_id", "created_at", "peers"}


def test_an_evening_of_three_stock_clients(daemon, name):
    async def evening():
        async with (
            HttpClient(daemon.url) as ann,
            HttpClient(daemon.url) as bob,
            HttpClient(daemon.url) as eve,
        ):
            await ann.register(name("ann"))
            await bob.register(name("bob"))
            await eve.register(name("eve"))
            party = await ann.create("LAN party")
            assert (party.name, party.host_id) == ("LAN party", ann.peer_id)
            assert set(party.peers) == {ann.peer_id}
            assert re.fullmatch("[0-9a-f]{12}", party.party_id) and "404" not in party.party_id

            joined = await bob.join(party.party_id, name="Bob", nat_type="symmetric", public_ip="203.0.113.9")
            assert set(joined.peers) == {ann.peer_id, bob.peer_id}
            await eve.join(party.party_id)
            assert await ann.heartbeat(party.party_id) == {"status": "ok"}
            seen = (await eve.peers(party.party_id))[bob.peer_id]
            assert (seen.name, seen.nat_type, seen.public_ip) == ("Bob", "symmetric", "203.0.113.9")
            assert (seen.public_port, seen.local_ip, seen.public_key) == (
                0,
                "unknown",
                f"key of {bob.peer_id}",
            )
            assert await ann.peer(party.party_id, bob.peer_id) == seen

            assert await eve.leave(party.party_id) == "left"
            with pytest.raises(NotFound):
                await eve.heartbeat(party.party_id)
            assert set((await bob.party(party.party_id)).peers) == {ann.peer_id, bob.peer_id}
            assert await ann.leave(party.party_id) == "party_deleted"
            with pytest.raises(NotFound):
                await bob.party(party.party_id)

    asyncio.run(evening())


def test_the_last_to_leave_takes_the_party_along(daemon, name):
    async def run():
        async with HttpClient(daemon.url) as ann:
            await ann.register(name("ann"))
            party = await ann.create("alone")
            assert await ann.leave(party.party_id) == "party_deleted"

    asyncio.run(run())


def test_key_sets_are_exact(daemon, name):
    ann = name("ann")
    token = daemon.token(ann)
    with daemon.http(token) as http:
        created = http.post("/parties", json={"name": "x", "host_peer_info": describe(ann)}).json()
        party = created["party_id"]
        answers = [
            created["party"],
            http.post(f"/parties/{party}/join", json={"party_id": "x", "peer_info": describe(ann)}).json()[
                "party"
            ],
            http.get(f"/parties/{party}").json()["party"],
        ]
        for answer in answers:
            assert set(answer) == PARTY_KEYS
            assert set(answer["peers"]) == {ann} and set(answer["peers"][ann]) == PEER_KEYS
        assert set(http.get(f"/parties/{party}/peers").json()["peers"][ann]) == PEER_KEYS
        assert set(http.get(f"/parties/{party}/peers/{ann}").json()["peer"]) == PEER_KEYS


def test_what_is_ours_is_beside_the_party(daemon, name):
    ann, bob = name("ann"), name("bob")
    with daemon.http(daemon.token(ann)) as http:
        key = base64.b64encode(os.urandom(31) + b"\1").decode()
        answer = http.post(
            "/parties", json={"name": "x", "host_peer_info": describe(ann, public_key=key)}
        ).json()
    party = answer["party_id"]
    assert "warnings" not in answer
    assert answer["network"]["subnet"] == "10.66.0.0/16"
    assert answer["network"]["relay"]["endpoint"] == f"127.0.0.1:{daemon.relay_port}"
    assert len(base64.b64decode(answer["network"]["relay"]["public_key"])) == 32
    with daemon.http(daemon.token(bob)) as http:
        answer = http.post(
            f"/parties/{party}/join", json={"party_id": party, "peer_info": describe(bob)}
        ).json()
        assert [type(warning) for warning in answer["warnings"]] == [str]
        assert answer["network"]["peers"].keys() == {ann}
        assert re.fullmatch(r"10\.66\.\d+\.\d+", answer["network"]["virtual_ip"])
        outsider = daemon.http(daemon.token(name("outsider")))
        assert "network" not in outsider.get(f"/parties/{party}").json()
        outsider.close()


def test_service_banner(daemon):
    with daemon.http() as http:
        banner = http.get("/").json()
    assert set(banner) == {"service", "version", "status", "parties", "relays"}
    assert banner["service"] == "LANrage Control Plane" and banner["status"] == "ok"
    assert type(banner["parties"]) is int and type(banner["relays"]) is int


def test_registration(daemon, name):
    ann = name("ann")
    with daemon.http() as http:
        answer = http.post("/auth/register", params={"peer_id": ann})
        assert answer.status_code == 200 and set(answer.json()) == {"token", "peer_id", "expires_at"}
        assert re.fullmatch("[A-Za-z0-9_-]{43}", answer.json()["token"])
        # A client that changes its id still has the old one's token in the header.
        old = {"Authorization": f"Bearer {answer.json()['token']}"}
        assert http.post("/auth/register", params={"peer_id": name("ann")}, headers=old).status_code == 200
        for header in ["Bearer nonsense", "nonsense", ""]:
            answer = http.post(
                "/auth/register", params={"peer_id": name("x")}, headers={"Authorization": header}
            )
            assert answer.status_code == 200


def test_nobody_gets_a_token_for_a_live_member(daemon, name):
    ann = name("ann")
    token = daemon.token(ann)
    with daemon.http(token) as http:
        party = http.post("/parties", json={"name": "x", "host_peer_info": describe(ann)}).json()["party_id"]
    with daemon.http() as http:
        assert http.post("/auth/register", params={"peer_id": ann}).status_code == 409
    with daemon.http(daemon.token(name("eve"))) as http:
        assert http.post("/auth/register", params={"peer_id": ann}).status_code == 409
    with daemon.http(token) as http:
        again = http.post("/auth/register", params={"peer_id": ann})
        assert again.status_code == 200
    with daemon.http(again.json()["token"]) as http:
        assert http.post(f"/parties/{party}/peers/{ann}/heartbeat").status_code == 200


def test_a_repeated_create_gives_the_same_party(daemon, name):
    ann = name("ann")
    with daemon.http(daemon.token(ann)) as http:
        body = {"name": "again", "host_peer_info": describe(ann)}
        ids = {http.post("/parties", json=body).json()["party_id"] for _ in range(3)}
        assert len(ids) == 1
        other = http.post("/parties", json=body | {"name": "another"}).json()["party_id"]
        assert other not in ids


def test_the_id_in_the_path_counts(daemon, name):
    ann, bob = name("ann"), name("bob")
    with daemon.http(daemon.token(ann)) as http:
        party = http.post("/parties", json={"name": "x", "host_peer_info": describe(ann)}).json()["party_id"]
    with daemon.http(daemon.token(bob)) as http:
        body = {"party_id": "something else", "peer_info": describe(bob)}
        answer = http.post(f"/parties/{party}/join", json=body)
        assert answer.status_code == 200 and answer.json()["party"]["party_id"] == party


def test_relays(start):
    daemon = start(REGION="attic")
    with daemon.http(daemon.token("op")) as http:

        def register(**fields):
            answer = http.post("/relays", json=fields)
            assert answer.status_code == 200, answer.text
            assert answer.json() == {"status": "registered", "relay_id": fields["relay_id"]}

        register(relay_id="z", public_ip="198.51.100.1", port=51820, region="eu", capacity=5)
        register(relay_id="b", public_ip="198.51.100.2", port="51821", region="eu")
        register(relay_id="c", public_ip="2001:db8::7", port=1)
        relays = http.get("/relays").json()["relays"]
        own = [relay for relay in relays if relay["region"] == "attic"]
        assert len(own) == 1 and own[0]["port"] == daemon.relay_port
        order = [(relay["region"], relay["relay_id"]) for relay in relays]
        assert order == sorted(order) and [id for _, id in order if id != own[0]["relay_id"]] == [
            "b",
            "z",
            "c",
        ]
        stock_keys = {"relay_id", "public_ip", "port", "region", "capacity", "registered_at"}
        assert all(stock_keys <= set(relay) for relay in relays)
        assert http.get("/relays/eu").json()["relays"] == [
            relay for relay in relays if relay["region"] == "eu"
        ]
        assert http.get("/relays/nowhere").json() == {"relays": []}
        unknown = http.get("/relays/unknown").json()["relays"]
        assert [(relay["relay_id"], relay["capacity"]) for relay in unknown] == [("c", 100)]
    with daemon.http(daemon.token("other")) as http:
        taken = http.post("/relays", json={"relay_id": "z", "public_ip": "198.51.100.9", "port": 1})
        assert taken.status_code == 409 and "404" not in taken.json()["detail"]
        assert http.get("/relays/eu").json()["relays"][1]["public_ip"] == "198.51.100.1"


@pytest.mark.parametrize(
    "moment",
    [
        "2026-11-21T12:00:00",
        "2026-11-21T12:00:00.5",
        "2026-11-21T12:00:00.123456",
        "2026-11-21T12:00:00.123456789",
        "2026-11-21 12:00:00",
        "2026-11-21T12:00:00Z",
        "2026-11-21T12:00:00+05:30",
        "2026-11-21T12:00:00.123-08:00",
    ],
)
def test_dates_that_clients_send(daemon, name, moment):
    async def run():
        async with HttpClient(daemon.url) as ann:
            await ann.register(name("ann"))
            await ann.create("x", last_seen=moment)

    asyncio.run(run())


def test_extra_keys_and_texts_for_numbers_are_taken(daemon, name):
    async def run():
        async with HttpClient(daemon.url) as ann:
            await ann.register(name("ann"))
            party = await ann.create(
                "x", public_port="51820", local_port=5.0, virtual_ip="10.66.0.9", more={"a": 1}
            )
            peer = party.peers[ann.peer_id]
            assert (peer.public_port, peer.local_port) == (51820, 5)

    asyncio.run(run())


def test_a_pool_of_ten_connections_and_many_requests(daemon, name):
    async def run():
        async with HttpClient(daemon.url) as ann:
            await ann.register(name("ann"))
            party = await ann.create("busy")
            for _ in range(3):
                beats = [ann.heartbeat(party.party_id) for _ in range(60)]
                reads = [ann.party(party.party_id) for _ in range(60)]
                answers = await asyncio.gather(*beats, *reads)
                assert len(answers) == 120

    asyncio.run(run())


def test_signals_over_http(daemon, name):
    ann, bob, eve = name("ann"), name("bob"), name("eve")
    http = {peer: daemon.http(daemon.token(peer)) for peer in (ann, bob, eve)}
    party = http[ann].post("/parties", json={"name": "x", "host_peer_info": describe(ann)}).json()["party_id"]
    http[bob].post(f"/parties/{party}/join", json={"party_id": party, "peer_info": describe(bob)})
    path = f"/parties/{party}/peers/{bob}/signals"
    data = {"candidates": [1, 2.5, None, "é\u0001\u2028"], "nested": {"a": {"b": []}}}
    for number in range(64):
        sent = http[ann].post(
            f"/parties/{party}/signals", json={"to_peer_id": bob, "signal_data": [number, data]}
        )
        assert (sent.status_code, sent.json()) == (200, {"status": "ok"})
    full = http[ann].post(f"/parties/{party}/signals", json={"to_peer_id": bob, "signal_data": 65})
    assert full.status_code == 409
    stranger = http[eve].post(f"/parties/{party}/signals", json={"to_peer_id": bob, "signal_data": 1})
    assert stranger.status_code == 403
    assert http[ann].get(path).status_code == 403
    signals = http[bob].get(path).json()["signals"]
    assert [signal["signal_data"] for signal in signals] == [[number, data] for number in range(64)]
    assert {(signal["from_peer_id"], signal["to_peer_id"], signal["party_id"]) for signal in signals} == {
        (ann, bob, party)
    }
    assert http[bob].get(path).json() == {"signals": []}
    nobody = http[ann].post(f"/parties/{party}/signals", json={"to_peer_id": "nobody", "signal_data": 1})
    assert nobody.status_code == 404
    for client in http.values():
        client.close()


def test_a_host_may_remove_and_ban_and_others_may_not(daemon, name):
    ann, bob, eve = name("ann"), name("bob"), name("eve")
    http = {peer: daemon.http(daemon.token(peer)) for peer in (ann, bob, eve)}
    key = base64.b64encode(bytes([9] * 31 + [1])).decode()
    party = http[ann].post("/parties", json={"name": "x", "host_peer_info": describe(ann)}).json()["party_id"]

    def join(peer, **changes):
        body = {"party_id": party, "peer_info": describe(peer, **changes)}
        return http[peer].post(f"/parties/{party}/join", json=body)

    assert join(bob, public_key=key).status_code == join(eve).status_code == 200
    assert http[bob].delete(f"/parties/{party}/peers/{eve}").status_code == 403
    assert http[bob].post(f"/parties/{party}/bans", json={"peer_id": eve}).status_code == 403
    assert http[bob].delete(f"/parties/{party}").status_code == 403
    kicked = http[ann].delete(f"/parties/{party}/peers/{eve}")
    assert (kicked.status_code, kicked.json()) == (200, {"status": "kicked"})
    assert join(eve).status_code == 200
    assert http[ann].post(f"/parties/{party}/bans", json={"peer_id": bob}).json() == {"status": "banned"}
    assert set(http[ann].get(f"/parties/{party}/peers").json()["peers"]) == {ann, eve}
    assert join(bob).status_code == 403
    # Nor under another name with the same key, spelled differently (the last bits of Base64 mean nothing).
    assert join(eve, public_key=key[:-2] + chr(ord(key[-2]) + 1) + "=").status_code == 403
    assert http[ann].get(f"/parties/{party}/bans").json() == {"bans": [{"peer_id": bob, "public_key": key}]}
    lifted = http[ann].delete(f"/parties/{party}/bans", params={"peer_id": bob})
    assert lifted.json() == {"status": "unbanned"}
    assert http[ann].delete(f"/parties/{party}/bans", params={"public_key": key}).status_code == 404
    assert join(bob, public_key=key).status_code == 200
    assert http[ann].delete(f"/parties/{party}").json() == {"status": "party_deleted"}
    assert http[ann].get(f"/parties/{party}").status_code == 404
    for client in http.values():
        client.close()


def test_the_owner_sees_everything_and_nobody_else_does(start):
    daemon = start()
    with daemon.http(daemon.token("ann")) as http:
        http.post("/parties", json={"name": "x", "host_peer_info": describe("ann")})
        assert http.get("/parties").status_code == http.get("/backup").status_code == 403
    with daemon.http("an-admin-token-for-tests") as http:
        parties = http.get("/parties").json()["parties"]
        assert [(party["name"], party["host_id"], party["peers"]) for party in parties] == [("x", "ann", 1)]
        assert http.get("/backup").headers["content-disposition"].startswith("attachment")
        redacted = http.get("/backup", params={"secrets": "redacted"})
    with daemon.socket() as socket:
        whole = socket.get("/backup")
        assert socket.get("/parties").json()["parties"] == parties
    for answer in (redacted, whole):
        assert answer.headers["content-type"] == "application/x-ndjson"
        rows = [json.loads(line) for line in answer.text.splitlines()]
        # What is not for everybody says so first.
        if answer is whole:
            assert "password" in rows.pop(0)["secret"]
        assert rows[-1] == {"rows": len(rows) - 1} and any(row.get("table") == "parties" for row in rows)
    assert redacted.text != whole.text


def test_state_survives_a_restart(tmp_path):
    from daemon import Daemon

    async def before(url):
        async with HttpClient(url) as ann:
            await ann.register("ann")
            return (await ann.create("lasting")).party_id, ann.token

    async def after(url, party_id, token):
        async with HttpClient(url) as ann:
            ann.token, ann.peer_id = token, "ann"
            assert await ann.heartbeat(party_id) == {"status": "ok"}
            assert (await ann.party(party_id)).name == "lasting"

    with Daemon(tmp_path / "state") as daemon:
        found = asyncio.run(before(daemon.url))
    with Daemon(tmp_path / "state") as daemon:
        asyncio.run(after(daemon.url, *found))


def test_an_evening_with_a_code(daemon, name):
    """The code is all that they know, and they use it as they would a party's id."""

    async def evening():
        code, party = daemon.invite(uses=2)
        async with HttpClient(daemon.url) as ann, HttpClient(daemon.url) as bob, HttpClient(daemon.url) as eve:
            for client, word in ((ann, "ann"), (bob, "bob"), (eve, "eve")):
                await client.register(name(word))
            with pytest.raises(Failed):
                await eve.join(party)
            await ann.join(code)
            assert set((await bob.join(code.lower())).peers) == {ann.peer_id, bob.peer_id}
            with pytest.raises(Failed):
                await eve.join(code)
            assert await bob.heartbeat(code) == {"status": "ok"}
            assert set(await ann.peers(code)) == {ann.peer_id, bob.peer_id}
            assert (await ann.peer(code, bob.peer_id)).peer_id == bob.peer_id
            with pytest.raises(NotFound):
                await eve.party(code)
            with pytest.raises(Failed):
                await eve.party(party)
            assert await bob.leave(code) == "left"
            assert set((await ann.party(code)).peers) == {ann.peer_id}

    asyncio.run(evening())
