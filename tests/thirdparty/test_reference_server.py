"""The agent against a control server as LANrage 2.0.0 has it.

Seen with that server itself (November 2026): registering works, `GET /relays` is empty, every `POST /parties` is
answered 500 ("'PeerInfo' object has no attribute 'virtual_ip'"), and a join of a party that is not there 404. So nobody
can play by it. What the agent makes of that is held here against a stand-in that answers alike, and against one that is
repaired: its answers give no addresses, without which there is no network.
"""

import http.server
import json
import os
import subprocess
import threading
import time

import pytest

from daemon import binary
from stock_client import describe

BROKEN = {"detail": "Failed to create party: 'PeerInfo' object has no attribute 'virtual_ip'"}


class Reference:
    """The stand-in, on a port of its own."""

    def __init__(self, is_repaired=False):
        self.asked = []
        reference = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self, status, value):
                body = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self):
                reference.asked.append((time.monotonic(), self.command, self.path))
                known = self.path == "/relays"
                self.answer(*((200, {"relays": []}) if known else (404, {"detail": "Not Found"})))

            def do_POST(self):
                said = self.rfile.read(int(self.headers["Content-Length"]))
                reference.asked.append((time.monotonic(), self.command, self.path))
                if self.path.startswith("/auth/register?peer_id="):
                    peer_id = self.path.partition("=")[2]
                    token = {"token": "t" * 43, "peer_id": peer_id, "expires_at": "2027-01-01T00:00:00"}
                    self.answer(200, token)
                elif self.path == "/parties" and is_repaired:
                    host = json.loads(said)["host_peer_info"]
                    peers = {host["peer_id"]: describe(host["peer_id"]) | host}
                    party = {"party_id": "0123456789ab", "name": "Friday", "host_id": host["peer_id"]}
                    party |= {"created_at": "2026-11-27T00:00:00", "peers": peers}
                    self.answer(200, {"party_id": party["party_id"], "party": party})
                elif self.path == "/parties":
                    self.answer(500, BROKEN)
                else:
                    self.answer(404, {"detail": f"Party {self.path.split('/')[2]} not found"})

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def paths(self):
        return [f"{method} {path.partition('?')[0]}" for _, method, path in self.asked]


@pytest.fixture
def agent(tmp_path):
    """Runs `lanrage` with arguments, for some seconds at most: its status, `None` if it went on, and what it said."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LANRAGE_")}

    def run(*arguments, limit=15):
        command = [binary(), *arguments, "--state-dir", str(tmp_path / "state")]
        process = subprocess.Popen(command, env=kept, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        try:
            said = process.communicate(timeout=limit)[1]
            return process.returncode, said
        except subprocess.TimeoutExpired:
            process.terminate()
            return None, process.communicate(timeout=20)[1]

    return run


def test_a_server_that_makes_no_party_is_asked_again_and_not_too_often(agent):
    reference = Reference()
    status, said = agent("host", reference.url, "Friday", limit=12)
    assert status is None and "has no attribute" in said and "trying again" in said
    created = [at for at, _, path in reference.asked if path == "/parties"]
    assert 2 <= len(created) <= 4
    assert all(later - earlier > 4 for earlier, later in zip(created, created[1:]))
    assert set(reference.paths()) == {"POST /auth/register", "POST /parties"}


def test_a_party_that_is_not_there_ends_it_with_what_to_do(agent):
    status, said = agent("join", Reference().url, "abcdef012345")
    assert status == 1 and "Party abcdef012345 not found" in said and "Ask the host" in said


def test_a_repaired_one_gives_no_addresses_and_that_is_said(agent):
    reference = Reference(is_repaired=True)
    status, said = agent("host", reference.url, "Friday")
    assert status == 1 and "needs a lanrage server" in said.replace("\n", " ")
    assert "GET /ws" not in reference.paths()


def test_its_relays_can_not_be_asked_for_the_nat(agent):
    status, said = agent("nat", Reference().url)
    assert status == 1 and "lists no relay of lanrage's" in said
