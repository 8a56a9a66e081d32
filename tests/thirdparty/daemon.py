"""The real binary, started and stopped."""

import os
import pathlib
import re
import select
import signal
import subprocess
import time

import httpx

ROOT = pathlib.Path(__file__).resolve().parents[2]
ADMIN_TOKEN = "an-admin-token-for-tests"


def binary():
    """$LANRAGE_BIN, or else what Cargo built last."""
    if chosen := os.environ.get("LANRAGE_BIN"):
        return pathlib.Path(chosen).resolve()
    built = [ROOT / "target" / profile / "lanrage" for profile in ("release", "debug")]
    built = [path for path in built if path.exists()]
    assert built, "build it first (cargo build), or set LANRAGE_BIN"
    return max(built, key=lambda path: path.stat().st_mtime)


class Daemon:
    """A `lanrage serve` with a state directory of its own, on ports of its own."""

    def __init__(self, state_dir, **settings):
        settings = {
            "STATE_DIR": str(state_dir),
            "HTTP": "127.0.0.1:0",
            "RELAY": "127.0.0.1:0",
            "ADMIN_TOKEN": ADMIN_TOKEN,
            "LOG": "debug",
            **settings,
        }
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("LANRAGE_")}
        self.socket_path = pathlib.Path(state_dir) / "control.sock"
        self.log_path = pathlib.Path(state_dir).with_suffix(".log")
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [binary(), "serve"],
                env=inherited | {f"LANRAGE_{name}": value for name, value in settings.items()},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        line = self._first_line(timeout=20)
        found = re.fullmatch(r"listening http=(127\.0\.0\.1:\d+) relay=(127\.0\.0\.1:\d+)\n", line)
        assert found, f"{line!r}\n{self.log()}"
        self.url = f"http://{found[1]}"
        self.port = int(found[1].rsplit(":", 1)[1])
        self.relay_port = int(found[2].rsplit(":", 1)[1])

    def _first_line(self, timeout):
        ends = time.monotonic() + timeout
        line = b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, ends - time.monotonic()))
            piece = os.read(self.process.stdout.fileno(), 1) if ready else b""
            if not piece:
                break
            line += piece
        return line.decode()

    def log(self):
        return self.log_path.read_text(errors="replace")

    def stop(self):
        """SIGTERM; it has to be gone in good order within a few seconds."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise
        self.process.stdout.close()
        assert self.process.returncode == 0, self.log()
        assert "panicked" not in self.log(), self.log()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def http(self, token=None, headers=None):
        """A plain client, for looking at answers as they are."""
        authorization = {} if token is None else {"Authorization": f"Bearer {token}"}
        return httpx.Client(
            base_url=self.url, headers=authorization | (headers or {}), timeout=10, trust_env=False
        )

    def socket(self):
        """A client of the owner's, over the Unix socket."""
        transport = httpx.HTTPTransport(uds=str(self.socket_path))
        return httpx.Client(base_url="http://lanrage", transport=transport, timeout=10, trust_env=False)

    def invite(self, **wish):
        """A code for a party of the machine's that only who is invited may be in, and that party's id."""
        with self.socket() as owner:
            body = {"name": "by invitation", "access": "invite"}
            party = owner.post("/parties", json=body).json()["party_id"]
            answer = owner.post(f"/parties/{party}/invites", json={"code": True, **wish})
        assert answer.status_code == 200, answer.text
        return answer.json()["code"], party

    def token(self, peer_id):
        with self.http() as http:
            answer = http.post("/auth/register", params={"peer_id": peer_id})
        assert answer.status_code == 200, answer.text
        return answer.json()["token"]
