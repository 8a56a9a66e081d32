"""Clients that do on the wire what REFERENCE.md says of the stock ones, and are as easily broken.

They share no code with the stock clients: dataclasses are built with `cls(**data)`, so that one key too
many or too few is fatal; dates are naive; what is not understood is an error unless REFERENCE.md says that
it is ignored.
"""

import asyncio
import contextlib
import dataclasses
import datetime
import json

import httpx
import websockets

NAT_TYPES = {"unknown", "open", "full_cone", "restricted_cone", "port_restricted_cone", "symmetric"}
FORGET_AFTER = datetime.timedelta(minutes=5)


def naive(text):
    moment = datetime.datetime.fromisoformat(text)
    assert moment.tzinfo is None, f"{text} is aware"
    return moment


@dataclasses.dataclass
class Peer:
    peer_id: str
    name: str
    public_key: str
    nat_type: str
    public_ip: str
    public_port: int
    local_ip: str
    local_port: int
    last_seen: str

    @classmethod
    def read(cls, data):
        peer = cls(**data)
        assert peer.nat_type in NAT_TYPES
        assert type(peer.public_port) is int and type(peer.local_port) is int
        naive(peer.last_seen)
        return peer


@dataclasses.dataclass
class Party:
    party_id: str
    name: str
    host_id: str
    created_at: str
    peers: dict

    @classmethod
    def read(cls, data):
        party = cls(**data)
        naive(party.created_at)
        party.peers = {peer_id: Peer.read(peer) for peer_id, peer in party.peers.items()}
        assert all(peer.peer_id == peer_id for peer_id, peer in party.peers.items())
        return party


def utc_now():
    return datetime.datetime.now(datetime.UTC).replace(tzinfo=None)


def describe(peer_id, zone=0, **changes):
    """What a client says of itself that knows nothing of its network; `zone` is its offset in hours."""
    peer = {
        "peer_id": peer_id,
        "name": "Me",
        "public_key": f"key of {peer_id}",
        "nat_type": "unknown",
        "public_ip": "unknown",
        "public_port": 0,
        "local_ip": "unknown",
        "local_port": 0,
        "last_seen": (utc_now() + datetime.timedelta(hours=zone)).isoformat(),
    }
    return peer | changes


class NotFound(Exception):
    """What the stock client makes of any error text that has 404 in it."""


class Failed(Exception):
    pass


class HttpClient:
    """Over HTTP: a pool of 10 connections, 5 kept; three tries, but only if no answer came."""

    def __init__(self, url, verify=True):
        self.http = httpx.AsyncClient(
            base_url=url,
            verify=verify,
            timeout=httpx.Timeout(10, connect=5),
            limits=httpx.Limits(max_connections=10, max_keepalive_connections=5),
            trust_env=False,
        )
        self.token = None
        self.peer_id = None

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self.http.aclose()

    async def call(self, method, path, **options):
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        for pause in (1, 2, None):
            try:
                answer = await self.http.request(method, path, headers=headers, **options)
                break
            except (httpx.TimeoutException, httpx.TransportError):
                if pause is None:
                    raise
                await asyncio.sleep(pause)
        if answer.status_code != 200:
            text = f"{answer.status_code}: {answer.json()['detail']}"
            raise NotFound(text) if "404" in text else Failed(text)
        assert answer.content, "the stock client cannot read an empty answer"
        return answer.json()

    async def register(self, peer_id):
        """With the old token in the header, if there is one."""
        data = await self.call("POST", "/auth/register", params={"peer_id": peer_id})
        self.token, self.peer_id = data["token"], data["peer_id"]
        naive(data["expires_at"])
        return data

    async def create(self, name, **changes):
        body = {"name": name, "host_peer_info": describe(self.peer_id, **changes)}
        data = await self.call("POST", "/parties", json=body)
        party = Party.read(data["party"])
        assert data["party_id"] == party.party_id
        return party

    async def join(self, party_id, **changes):
        body = {"party_id": party_id, "peer_info": describe(self.peer_id, **changes)}
        return Party.read((await self.call("POST", f"/parties/{party_id}/join", json=body))["party"])

    async def party(self, party_id):
        return Party.read((await self.call("GET", f"/parties/{party_id}"))["party"])

    async def peers(self, party_id):
        data = (await self.call("GET", f"/parties/{party_id}/peers"))["peers"]
        return {peer_id: Peer.read(peer) for peer_id, peer in data.items()}

    async def peer(self, party_id, peer_id):
        return Peer.read((await self.call("GET", f"/parties/{party_id}/peers/{peer_id}"))["peer"])

    async def heartbeat(self, party_id):
        return await self.call("POST", f"/parties/{party_id}/peers/{self.peer_id}/heartbeat")

    async def leave(self, party_id):
        return (await self.call("DELETE", f"/parties/{party_id}/peers/{self.peer_id}"))["status"]

    async def relays(self, region=None):
        return (await self.call("GET", f"/relays/{region}" if region else "/relays"))["relays"]


class SocketClient:
    """Over the WebSocket: says things, waits for no answers, and keeps what it is told."""

    def __init__(self, url, zone=0, source=None, ssl=None):
        self.url = url.replace("http", "ws", 1) + "/ws"
        self.zone = zone
        self.source = source
        self.ssl = ssl
        self.socket = None
        self.listening = None
        self.parties = {}
        self.signals = []
        self.errors = []
        self.log = []
        self.news = asyncio.Event()

    async def __aenter__(self):
        await self.connect()
        return self

    async def __aexit__(self, *_):
        await self.close()

    async def connect(self):
        options = {"local_addr": (self.source, 0)} if self.source else {}
        self.socket = await websockets.connect(
            self.url,
            compression="deflate",
            ping_interval=30,
            ping_timeout=10,
            open_timeout=10,
            max_size=1024 * 1024,
            proxy=None,
            ssl=self.ssl,
            **options,
        )
        self.listening = asyncio.create_task(self._listen())

    async def close(self):
        await self.socket.close()
        with contextlib.suppress(websockets.ConnectionClosed):
            await self.listening

    async def _listen(self):
        async for text in self.socket:
            assert isinstance(text, str)
            self._take(json.loads(text))
            self.news.set()

    def _take(self, message):
        self.log.append((asyncio.get_running_loop().time(), message))
        match message["type"]:
            case "party_update":
                party = Party.read(message["party"])
                self.parties[party.party_id] = party
            case "peer_joined":
                peer = Peer.read(message["peer"])
                if party := self.parties.get(message["party_id"]):
                    party.peers[peer.peer_id] = peer
            case "peer_left":
                if party := self.parties.get(message["party_id"]):
                    party.peers.pop(message["peer_id"], None)
            case "signal":
                for key in ("party_id", "from_peer_id", "to_peer_id", "signal_data"):
                    assert key in message
                self.signals.append(message)
            case "error":
                assert isinstance(message["message"], str)
                self.errors.append(message["message"])
            case other:
                raise AssertionError(f"the server made up the type {other!r}")

    async def say(self, kind, **fields):
        await self.socket.send(json.dumps({"type": kind, **fields}))

    async def auth(self, peer_id=None, **fields):
        await self.say("auth", version="1.0", client="lanrage", peer_id=peer_id, **fields)

    async def register_party(self, party_id, name, peer_id, **changes):
        peer = describe(peer_id, self.zone, **changes)
        await self.say("register_party", party_id=party_id, name=name, host_peer=peer)

    async def join_party(self, party_id, peer_id, **changes):
        await self.say("join_party", party_id=party_id, peer=describe(peer_id, self.zone, **changes))

    async def leave_party(self, party_id, peer_id):
        await self.say("leave_party", party_id=party_id, peer_id=peer_id)

    async def until(self, what, timeout=5):
        """Waits until `what()` is true, looking again whenever a message came in."""

        async def wait():
            while not what():
                if self.listening.done():
                    self.listening.result()
                    raise AssertionError(f"closed: {self.socket.close_code}")
                self.news.clear()
                waiting = asyncio.create_task(self.news.wait())
                await asyncio.wait({waiting, self.listening}, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
            return what()

        return await asyncio.wait_for(wait(), timeout)

    async def told(self, party_id, *peer_ids):
        """Waits until it knows that exactly these peers are in the party."""
        await self.until(
            lambda: party_id in self.parties and set(self.parties[party_id].peers) == set(peer_ids)
        )
        return self.parties[party_id]

    async def caught_up(self):
        """Waits until everything said so far was dealt with: an unknown type is answered in its turn."""
        before = len(self.errors)
        await self.say("are you there?")
        await self.until(lambda: "Unknown type of message" in self.errors[before:])
        self.errors.remove("Unknown type of message")

    def received(self, kind, since=0):
        return [message for _, message in self.log[since:] if message["type"] == kind]

    def forgotten(self, party_id):
        """The peers that its cleanup would drop now: their last_seen is too old by its own local clock."""
        local = utc_now() + datetime.timedelta(hours=self.zone)
        peers = self.parties[party_id].peers.values()
        return [peer.peer_id for peer in peers if local - naive(peer.last_seen) > FORGET_AFTER]
