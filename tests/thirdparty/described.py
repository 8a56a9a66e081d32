"""Puts real parties and peers into requests that are meant to be valid, so that they get past 403 and 404.

What is meant to be invalid stays as it was made.
"""

import base64
import itertools
import os

import httpx
import schemathesis

from stock_client import describe

HOST, GUEST = "host", "guest"
PARTY_ID = "party_id"

_numbers = itertools.count(1)
_party = None


def _client(token):
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.Client(base_url=os.environ["LANRAGE_TEST_URL"], headers=headers, trust_env=False)


_host = _client(os.environ["LANRAGE_TEST_TOKEN"])
_guest = _client(os.environ["LANRAGE_TEST_GUEST_TOKEN"])
_owner = _client(os.environ["LANRAGE_TEST_ADMIN_TOKEN"])


def _party_with_guest():
    """A party of the host with the guest in it; a new one if something happened to the last."""
    global _party
    if _party is None or _host.get(f"/parties/{_party}").status_code != 200:
        body = {"name": f"party {next(_numbers)}", "host_peer_info": describe(HOST)}
        _party = _host.post("/parties", json=body).raise_for_status().json()[PARTY_ID]
    body = {PARTY_ID: _party, "peer_info": describe(GUEST)}
    join = f"/parties/{_party}/join"
    answer = _guest.post(join, json=body)
    if answer.status_code == 403:
        _host.delete(f"/parties/{_party}/bans", params={"peer_id": GUEST})
        answer = _guest.post(join, json=body)
    if answer.status_code != 200:
        # It is full of devices, or no longer open.
        _party = None
        return _party_with_guest()
    return _party


def _invite():
    """The secret of a new invite, to a party in which there is room."""
    party = _owner.post("/parties", json={"name": f"guests {next(_numbers)}"}).raise_for_status().json()[PARTY_ID]
    return _owner.post(f"/parties/{party}/invites").raise_for_status().json()["token"]


def _device():
    """The id of a new device in the host's party."""
    key = base64.b64encode(os.urandom(31) + b"\x01").decode()
    body = {"name": "device", "public_key": key}
    return _host.post(f"/parties/{_party_with_guest()}/devices", json=body).raise_for_status().json()["peer_id"]


def _open_invite():
    """The id of a new invite to the host's party."""
    invites = f"/parties/{_party_with_guest()}/invites"
    return _host.post(invites).raise_for_status().json()["invite_id"]


@schemathesis.hook
def before_call(context, case, kwargs):
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    number = next(_numbers)
    operation = case.operation.definition.raw["operationId"]
    if operation == "registerRelay" and str(case.body.get("public_ip")).startswith("127."):
        # By way of a proxy, who asks is not on this machine.
        case.body["public_ip"] = "203.0.113.7"
    if number % 4 == 0:
        return
    if operation == "getBackup":
        case.query = {"secrets": "redacted"}
    if operation == "getOverview":
        case.query = {"party": _party_with_guest()}
    if PARTY_ID in (case.path_parameters or {}):
        case.path_parameters[PARTY_ID] = _party_with_guest()
    # Not where it would be taken for the deletion of all bans.
    if operation == "unban" and case.meta.phase.name != "stateful":
        _host.post(f"/parties/{_party}/bans", json={"peer_id": GUEST}).raise_for_status()
        case.query = {"peer_id": GUEST}
    if "peer_id" in (case.path_parameters or {}):
        others = operation in ("getPeer", "removePeer") and number % 8 != 1
        case.path_parameters["peer_id"] = GUEST if others else HOST
    if operation == "removeDevice":
        case.path_parameters["peer_id"] = _device()
    if operation == "revokeInvite":
        case.path_parameters["invite_id"] = _open_invite()
    if isinstance(case.body, dict):
        for key in ("host_peer_info", "peer_info"):
            if key in case.body:
                case.body[key]["peer_id"] = HOST
        if operation in ("previewInvite", "redeemInvite"):
            case.body.pop("code", None)
            case.body["token"] = _invite()
        if operation == "redeemByForm":
            case.body["code"] = _invite()
        if operation == "changeSettings":
            case.body["public_endpoint"] = f"play{number}.example.org:51820"
        if "to_peer_id" in case.body:
            case.body["to_peer_id"] = GUEST
        if operation == "ban" and case.body.get("peer_id"):
            case.body["peer_id"] = GUEST
