"""/metrics in the eyes of Prometheus."""

import asyncio
import os
import shutil
import subprocess

import pytest

from stock_client import HttpClient, SocketClient, describe


@pytest.fixture
def text(start):
    """The figures of a daemon that has seen a bit of everything."""
    daemon = start()

    async def traffic():
        async with HttpClient(daemon.url) as ann, SocketClient(daemon.url) as bob:
            await ann.register("ann")
            party = await ann.create("LAN")
            await bob.join_party(party.party_id, "bob")
            await bob.told(party.party_id, "ann", "bob")
            await ann.heartbeat(party.party_id)
            with daemon.http() as http:
                assert http.get("/nope").status_code == 404
                assert http.get("/parties").status_code == 401
                assert (
                    http.post("/parties", json={"name": 1, "host_peer_info": describe("x")}).status_code
                    == 401
                )
                assert http.post("/relays", content="{").status_code == 422
                return http.get("/metrics")

    answer = asyncio.run(traffic())
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return answer.text


def test_promtool_finds_nothing_to_complain_of(text):
    promtool = shutil.which("promtool")
    if promtool is None and not os.environ.get("LANRAGE_TEST_ALL"):
        pytest.skip("needs promtool (Debian: prometheus)")
    checked = subprocess.run(
        [promtool, "check", "metrics"],
        input=text,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=30,
    )
    assert (checked.returncode, checked.stdout) == (0, "")


def test_every_reason_to_drop_is_there_before_it_happens(text, start):
    prefix = 'lanrage_relay_drops_total{reason="'
    drops = dict(
        line.removeprefix(prefix).split('"} ') for line in text.splitlines() if line.startswith(prefix)
    )
    assert set(drops.values()) == {"0"}
    assert {"unknown", "no_member", "no_flow", "inner_source", "stun_malformed", "socket_full", "no_route"} < set(drops)
    with start().http() as http:
        described = http.get("/openapi.json").json()["components"]["schemas"]["Status"]
    assert set(drops) == set(described["properties"]["traffic"]["properties"]["drops"]["required"])


def test_what_happened_is_counted(text):
    lines = text.splitlines()
    assert "lanrage_parties 1" in lines and "lanrage_peers 2" in lines and "lanrage_tokens 1" in lines
    assert "lanrage_websocket_sessions 1" in lines and "lanrage_websocket_messages_total 1" in lines
    assert 'lanrage_http_requests_total{route="/parties",status="200"} 1' in lines
    assert 'lanrage_http_requests_total{route="/parties",status="401"} 2' in lines
    assert 'lanrage_http_requests_total{route="none",status="404"} 1' in lines
