"""/openapi.json against the API that it describes, by Schemathesis with all its checks."""

import base64
import os
import pathlib
import subprocess
import sys

from daemon import ADMIN_TOKEN

HERE = pathlib.Path(__file__).parent
EXAMPLES = 80
METHODS = {"get", "post", "delete", "put", "patch", "head", "options", "trace"}


def operations(http):
    """The ids of everything that is described."""
    described = http.get("/openapi.json").json()
    return [
        operation["operationId"]
        for path in described["paths"].values()
        for method, operation in path.items()
        if method in METHODS
    ]


def device_token(daemon):
    """What a device may ask with, in a party of the machine's, which nobody else here ends."""
    with daemon.http() as http:
        owner = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        party = http.post("/parties", json={"name": "devices"}, headers=owner).raise_for_status().json()["party_id"]
        invite = http.post(f"/parties/{party}/invites", headers=owner).raise_for_status().json()["token"]
        key = base64.b64encode(bytes(range(1, 33))).decode()
        body = {"token": invite, "name": "device", "public_key": key}
        return http.post("/invites/redeem", json=body).raise_for_status().json()["device_token"]


def hold_against(daemon, tmp_path, examples, *more):
    """Holds the description against what serves there; `more` is what else Schemathesis is told."""
    tokens = {
        "LANRAGE_TEST_URL": daemon.url,
        "LANRAGE_TEST_TOKEN": daemon.token("host"),
        "LANRAGE_TEST_GUEST_TOKEN": daemon.token("guest"),
        "LANRAGE_TEST_ADMIN_TOKEN": ADMIN_TOKEN,
        "LANRAGE_TEST_DEVICE_TOKEN": device_token(daemon),
    }
    report = tmp_path / "report.json"
    command = ["--config-file", HERE / "schemathesis.toml", "run", f"{daemon.url}/openapi.json"]
    command += ["--checks", "all", "--max-examples", str(examples), "--report", "json"]
    # A 404 may speak of a peer or a ban in the body; this check takes it for the party, which is there.
    command += ["--exclude-checks", "ensure_resource_availability"]
    command += ["--report-json-path", report, *more]
    run = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", *map(str, command)],
        cwd=tmp_path,
        env=os.environ | tokens | {"PYTHONPATH": str(HERE)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=600,
    )
    print(run.stdout.decode())
    assert run.returncode == 0
    with daemon.http() as http:
        # It leaves out the document itself.
        left_out = 1 + more.count("--exclude-operation-id")
        assert f"Tested: {len(operations(http)) - left_out}\n" in run.stdout.decode()
        assert http.get("/").status_code == 200


def test_the_api_is_as_described(start, tmp_path):
    # The requests come from the loopback, which is exempt from rates; the limits would be reached.
    many = {f"LIMITS_{name}": "1000000" for name in ("PARTIES", "PARTIES_HOSTED", "PARTIES_JOINED", "TOKENS")}
    many |= {f"LIMITS_{name}": "1000000" for name in ("RELAYS", "RELAYS_PER_OWNER", "BANS_PER_PARTY")}
    many |= {f"LIMITS_{name}": "1000000" for name in ("INVITES", "INVITES_PER_PARTY")}
    hold_against(start(LOG="info", **many), tmp_path, EXAMPLES)


def test_the_description_names_every_operation_once(daemon):
    with daemon.http() as http:
        ids = operations(http)
    assert len(ids) == len(set(ids)) > 20
