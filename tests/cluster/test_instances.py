"""What systemd/cluster says, running as processes: stock clients by way of nginx, while instances come and go."""

import asyncio
import contextlib
import os
import pathlib
import shlex
import subprocess
import time

import httpx
import pytest

from conftest import UNHURRIED
from examples import ROOT, SECRETS, Cluster, Instance, binary, documents, eventually, free_ports, settled
from stock_client import Failed, HttpClient, NotFound, SocketClient, describe
from test_description import hold_against


def test_what_tells_whether_all_is_well(cluster):
    """The health checks that compose.yaml has for its containers."""
    kind, *words = cluster.database_is_healthy
    assert kind == "CMD"
    cluster.database.run(*words)
    for instance in cluster.instances:
        kind, program, *words = instance.is_healthy
        assert (kind, program) == ("CMD", "/lanrage")
        run = subprocess.run([binary(), *words], env=instance.env, capture_output=True, timeout=20)
        assert run.returncode == 0, run.stderr
    eventually(cluster.writer, "one of them writes")
    for instance in cluster.instances:
        assert instance.metric("lanrage_realm_epoch") >= 1


def test_an_evening_by_way_of_nginx(cluster, name):
    """Each request is answered by another instance than the last one."""

    async def evening():
        async with HttpClient(cluster.url) as ann, HttpClient(cluster.url) as bob, HttpClient(cluster.url) as eve:
            for client, word in ((ann, "ann"), (bob, "bob"), (eve, "eve")):
                await client.register(name(word))
            ids = ann.peer_id, bob.peer_id, eve.peer_id
            party = await ann.create("LAN party")
            joined = await bob.join(party.party_id, name="Bob", nat_type="symmetric", public_ip="203.0.113.9")
            assert set(joined.peers) == set(ids[:2])
            await eve.join(party.party_id)

            async def members():
                return [set(await client.peers(party.party_id)) for client in (ann, bob, eve) * 2]

            await settled(members, [set(ids)] * 6)
            for client in (ann, bob, eve) * 3:
                assert await client.heartbeat(party.party_id) == {"status": "ok"}
            seen = await ann.peer(party.party_id, bob.peer_id)
            assert (seen.name, seen.nat_type, seen.public_ip) == ("Bob", "symmetric", "203.0.113.9")

            assert await eve.leave(party.party_id) == "left"
            with pytest.raises((NotFound, Failed)):
                for _ in range(3):
                    await eve.join("no such party")
            assert await ann.leave(party.party_id) == "party_deleted"

            async def is_gone():
                gone = 0
                for _ in range(6):
                    with contextlib.suppress(NotFound):
                        await bob.party(party.party_id)
                        continue
                    gone += 1
                return gone

            await settled(is_gone, 6)

    asyncio.run(evening())
    assert len(cluster.proxy.upstreams("/parties")) + len(cluster.proxy.upstreams("/auth/register")) > 3


def test_what_was_answered_is_so_at_every_instance_at_once(cluster, name):
    """A token and a party, asked for at each instance in the moment after one of them has answered."""

    async def run():
        async with contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(HttpClient(one.url)) for one in cluster.instances]
            for number in range(12):
                maker = clients[number % 3]
                maker.token = None
                await maker.register(name("ann"))
                party = await maker.create("LAN party")
                for client in clients:
                    client.token, client.peer_id = maker.token, maker.peer_id
                    assert (await client.party(party.party_id)).host_id == maker.peer_id
                    assert await client.heartbeat(party.party_id) == {"status": "ok"}

    asyncio.run(run())


def test_sessions_at_three_instances_are_one_system(cluster, name):
    async def run():
        before = len(cluster.proxy.access.read_text())
        async with contextlib.AsyncExitStack() as stack:
            players = [await stack.enter_async_context(SocketClient(cluster.url)) for _ in range(3)]
            ids, party_id = [name(word) for word in ("ann", "bob", "eve")], name("party")
            await players[0].register_party(party_id, "LAN", ids[0])
            await players[0].told(party_id, ids[0])
            for player, peer_id in zip(players[1:], ids[1:]):
                await player.join_party(party_id, peer_id)
            for player in players:
                await player.told(party_id, *ids)
            for sender, from_id in zip(players, ids):
                for to_id in ids:
                    if to_id != from_id:
                        data = {"from": from_id, "candidates": [["203.0.113.1", 51820], None]}
                        await sender.say("signal", party_id=party_id, to_peer_id=to_id, signal_data=data)
            for player, peer_id in zip(players, ids):
                await player.until(lambda: len(player.signals) >= 2)
                senders = {signal["from_peer_id"] for signal in player.signals}
                assert senders == set(ids) - {peer_id} and len(player.signals) == 2
            # Who comes and goes over HTTP is heard of at all of them.
            async with HttpClient(cluster.url) as max:
                await max.register(name("max"))
                await max.join(party_id)
                for player in players:
                    await player.told(party_id, *ids, max.peer_id)
                await max.leave(party_id)
            for player in players:
                await player.told(party_id, *ids)
            await players[1].leave_party(party_id, ids[1])
            for player in (players[0], players[2]):
                await player.told(party_id, ids[0], ids[2])
            for player in players:
                await player.caught_up()
                assert player.errors == []
        return before

    before = asyncio.run(run())
    # nginx writes a line when a session has ended.
    eventually(lambda: cluster.proxy.access.read_text()[before:].count(' /ws" 101') == 3, "three sessions")
    assert len(cluster.proxy.upstreams("/ws")) == 3


def test_a_backup_and_back_as_the_page_tells(cluster, name):
    """The commands of CLUSTER.md for that."""
    text = (ROOT / "systemd" / "CLUSTER.md").read_text().splitlines()
    database = cluster.database
    place = database.directory / "lanrage.dump"
    url = f"postgres://{database.env['PGUSER']}:{database.env['PGPASSWORD']}@127.0.0.1:{database.port}/lanrage"

    def as_told(program):
        [line] = [line.strip() for line in text if line.startswith(f"    {program} ")]
        words = shlex.split(line.replace("postgres://lanrage:PASSWORD@db.lan/lanrage", url))
        assert url in line.replace("postgres://lanrage:PASSWORD@db.lan/lanrage", url)
        database.run(*[word.replace("lanrage.dump", str(place)) for word in words])

    async def make(word):
        async with HttpClient(cluster.url) as ann:
            await ann.register(name(word))
            return (await ann.create(word)).party_id, ann.token

    kept = asyncio.run(make("kept"))
    as_told("pg_dump")
    lost = asyncio.run(make("lost"))
    for instance in cluster.instances:
        instance.stop()
    as_told("pg_restore")
    for instance in cluster.instances:
        instance.start()
    for instance in cluster.instances:
        instance.wait()
    eventually(cluster.writer, "one of them writes")
    for instance in cluster.instances:
        for (party_id, token), status in ((kept, 200), (lost, 401)):
            headers = {"Authorization": f"Bearer {token}"}
            answer = httpx.get(f"{instance.url}/parties/{party_id}", headers=headers, timeout=10, trust_env=False)
            assert answer.status_code == status, answer.text
    asyncio.run(make("again"))


class Visitor:
    """Makes parties, joins and leaves, and asks again when no answer came or somebody is away, as clients do."""

    def __init__(self, url, number, counts):
        self.http = httpx.AsyncClient(base_url=url, timeout=10, trust_env=False)
        self.number = number
        self.counts = counts
        # What was answered with 200: who is in which party.
        self.parties = {}
        self.ended = set()
        self.acknowledged = 0
        self.last = time.monotonic()
        self.longest = 0

    async def ask(self, method, path, token=None, gone=(), **options):
        """Until it is answered. `gone` is what a second try may hear of what the first one did."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        begun, tries = time.monotonic(), 0
        while True:
            assert time.monotonic() < begun + 30, f"{method} {path} is not answered for 30 s"
            tries += 1
            try:
                answer = await self.http.request(method, path, headers=headers, **options)
            except httpx.TransportError as error:
                self.count(type(error).__name__)
                await asyncio.sleep(0.1)
                continue
            if answer.status_code in (502, 503, 504):
                self.count(answer.status_code)
                await asyncio.sleep(0.1)
                continue
            assert answer.status_code == 200 or tries > 1 and answer.status_code in gone, (
                f"{method} {path}: {answer.status_code} {answer.text}"
            )
            now = time.monotonic()
            self.acknowledged += 1
            self.longest, self.last = max(self.longest, now - self.last), now
            return answer.json()

    def count(self, what):
        self.counts[what] = self.counts.get(what, 0) + 1

    async def register(self, peer_id):
        return (await self.ask("POST", "/auth/register", params={"peer_id": peer_id}))["token"]

    async def visit(self, until):
        host, guest = f"host-{self.number}", f"guest-{self.number}"
        tokens = {peer: await self.register(peer) for peer in (host, guest)}
        mine, made = [], 0
        while not until.is_set():
            # One of the same name would be the same again.
            made += 1
            body = {"name": f"LAN {made}", "host_peer_info": describe(host)}
            party = (await self.ask("POST", "/parties", tokens[host], json=body))["party_id"]
            self.parties[party] = {host}
            mine.append(party)
            body = {"party_id": party, "peer_info": describe(guest)}
            await self.ask("POST", f"/parties/{party}/join", tokens[guest], json=body)
            self.parties[party] = {host, guest}
            await self.ask("POST", f"/parties/{party}/peers/{guest}/heartbeat", tokens[guest])
            # Whichever instance is asked.
            await self.ask("GET", f"/parties/{party}", tokens[guest])
            if made % 3 == 0:
                left = mine.pop(0)
                await self.ask("DELETE", f"/parties/{left}/peers/{guest}", tokens[guest], gone=(404,))
                self.parties[left] = {host}
            if made % 4 == 0:
                ended = mine.pop(0)
                del self.parties[ended]
                await self.ask("DELETE", f"/parties/{ended}", tokens[host], gone=(404,))
                self.ended.add(ended)
            await asyncio.sleep(0.02)
        await self.http.aclose()


class Listener:
    """A player with a session, who comes back as soon as it is closed, and hears what the others do."""

    def __init__(self, url, peer_id, token, party_id):
        self.url, self.peer_id, self.token, self.party_id = url, peer_id, token, party_id
        self.sessions = 0

    async def listen(self, until):
        while not until.is_set():
            client = SocketClient(self.url)
            try:
                await client.connect()
            except Exception:
                await asyncio.sleep(0.1)
                continue
            self.sessions += 1
            await client.auth(self.peer_id, token=self.token)
            with contextlib.suppress(AssertionError, TimeoutError):
                await client.until(lambda: self.party_id in client.parties)
            waiting = asyncio.create_task(until.wait())
            await asyncio.wait({client.listening, waiting}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            self.client = client
            if not until.is_set():
                with contextlib.suppress(Exception):
                    await client.close()


def all_as_answered(cluster, visitors):
    """What is not as it was answered, at any instance."""
    wrong = []
    admin = {"Authorization": f"Bearer {SECRETS['ADMIN_TOKEN']}"}
    for instance in cluster.instances:
        with httpx.Client(base_url=instance.url, headers=admin, timeout=10, trust_env=False) as http:
            for visitor in visitors:
                for party, members in visitor.parties.items():
                    answer = http.get(f"/parties/{party}")
                    there = set(answer.json()["party"]["peers"]) if answer.status_code == 200 else answer.text
                    if there != members:
                        wrong.append((instance.name, party, members, there))
                for party in visitor.ended:
                    if http.get(f"/parties/{party}").status_code != 404:
                        wrong.append((instance.name, party, "ended"))
    return wrong


def test_a_rolling_restart_under_load(tmp_path):
    restart_each(tmp_path)


def test_an_upgrade_without_a_break(tmp_path):
    """As systemd/CLUSTER.md tells: one instance after the other, the writer last."""
    before = os.environ.get("LANRAGE_CLUSTER_BEFORE")
    if not before:
        pytest.skip("LANRAGE_CLUSTER_BEFORE names no earlier program: .ci/try-upgrade builds one")
    restart_each(tmp_path, pathlib.Path(before).resolve())


def restart_each(tmp_path, before=None):
    """Each instance ends and starts again while people play; what runs `before` is what was built afterwards."""
    many = {f"LIMITS_{kind}": "100000" for kind in ("PARTIES", "PARTIES_HOSTED", "PARTIES_JOINED")}
    cluster = Cluster(tmp_path, before, **UNHURRIED, **many)
    try:
        counts = {}
        visitors = [Visitor(cluster.url, number, counts) for number in range(8)]

        async def run():
            until = asyncio.Event()
            host = Visitor(cluster.url, "lasting", counts)
            body = {"name": "LAN", "host_peer_info": describe("host-of-listener")}
            token = await host.register("host-of-listener")
            party = (await host.ask("POST", "/parties", token, json=body))["party_id"]
            listener = Listener(cluster.url, "host-of-listener", token, party)
            tasks = [asyncio.create_task(visitor.visit(until)) for visitor in visitors]
            listening = asyncio.create_task(listener.listen(until))
            await asyncio.sleep(1)
            order = list(cluster.instances)
            if before:
                writer = eventually(cluster.writer, "one of them writes")
                order.sort(key=lambda instance: instance is writer)
            for instance in order:
                begun, so_far = time.monotonic(), sum(visitor.acknowledged for visitor in visitors)
                await asyncio.to_thread(instance.stop)
                stopped = time.monotonic()
                instance.program = None
                instance.start()
                await asyncio.to_thread(instance.wait)
                ready = time.monotonic()
                await asyncio.sleep(1)
                done = sum(visitor.acknowledged for visitor in visitors) - so_far
                print(
                    f"{instance.name}: ended after {stopped - begun:.2f} s, there again {ready - stopped:.2f} s later; "
                    f"{done} answers until a second after that"
                )
            marks = [visitor.acknowledged for visitor in visitors]
            await asyncio.sleep(1.5)
            moved = [visitor.acknowledged - mark for visitor, mark in zip(visitors, marks)]
            # Who had a session has one again, and hears of who joins now.
            guest = await host.register("late-guest")
            body = {"party_id": party, "peer_info": describe("late-guest")}
            await host.ask("POST", f"/parties/{party}/join", guest, json=body)
            host.parties[party] = {"host-of-listener", "late-guest"}
            until.set()
            await asyncio.gather(*tasks, listening)
            await listener.client.told(party, "host-of-listener", "late-guest")
            await listener.client.close()
            return moved, listener.sessions, host

        moved, sessions, host = asyncio.run(run())
        answered = sum(visitor.acknowledged for visitor in visitors)
        longest = max(visitor.longest for visitor in visitors)
        visitors.append(host)
        print(f"{answered} answers with 200; asked again after {counts}; {sessions} sessions of one player")
        print(f"the longest that a client waited from one answer to the next: {longest:.2f} s")
        assert min(moved) > 0, moved
        assert sessions >= 2
        assert longest < 10
        eventually(lambda: not all_as_answered(cluster, visitors), lambda: all_as_answered(cluster, visitors)[:5], 10)
        assert sum(len(visitor.parties) for visitor in visitors) > 50
        writer = eventually(cluster.writer, "one of them writes")
        assert writer.metric("lanrage_realm_epoch") >= 2
    finally:
        cluster.stop()


def test_the_api_is_as_described_by_way_of_nginx(tmp_path):
    many = ("PARTIES", "PARTIES_HOSTED", "PARTIES_JOINED", "TOKENS", "RELAYS", "RELAYS_PER_OWNER", "BANS_PER_PARTY")
    many = {f"LIMITS_{kind}": "1000000" for kind in (*many, "INVITES", "INVITES_PER_PARTY")}
    cluster = Cluster(tmp_path, LOG="info", **UNHURRIED, **many)
    try:
        # A state in a database is not restored this way. What is the same at one instance, tests/thirdparty covers.
        hold_against(cluster, tmp_path, 6, "--phases", "fuzzing,stateful", "--exclude-operation-id", "restore")
    finally:
        cluster.stop()


def test_pods_as_kubernetes_starts_them(cluster, tmp_path):
    """The settings, the places and the probes of kubernetes.yaml, with the program."""
    found = documents()
    pod = found["StatefulSet", "lanrage"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    directory = tmp_path / "pod"
    paths = {mount["mountPath"]: directory / mount["name"] for mount in container["volumeMounts"]}
    for path in paths.values():
        path.mkdir(parents=True)
        # As an emptyDir is.
        path.chmod(0o777)
    for file, text in found["ConfigMap", "lanrage"]["data"].items():
        for there, here in paths.items():
            text = text.replace(f'"{there}"', f'"{here}"')
        (paths["/etc/lanrage"] / file).write_text(text)
    one = cluster.instances[0]
    given = {"store": one.env["LANRAGE_STORE"], "admin-token": SECRETS["ADMIN_TOKEN"]}
    given |= {"metadata.name": "lanrage-0", "status.podIP": "127.0.0.1"}
    env = {}
    for variable in container["env"]:
        value = variable.get("value")
        if source := variable.get("valueFrom"):
            [where] = source.values()
            value = given[where.get("key") or where["fieldPath"]]
        env[variable["name"]] = value.replace("$(POD_IP)", env.get("POD_IP", ""))
    assert env["LANRAGE_INSTANCE"] == "lanrage-0" and env["LANRAGE_INSTANCE_URL"] == "http://127.0.0.1:8667"
    arguments = [*container["args"], "--config", paths["/etc/lanrage"] / "lanrage.toml"]
    show = [binary(), *arguments, "--print-config"]
    shown = subprocess.run(show, env=env, capture_output=True, text=True, timeout=20)
    assert shown.returncode == 0, shown.stderr
    for line in (
        'http = "0.0.0.0:8667"',
        'relay = "0.0.0.0:51820"',
        'instance = "lanrage-0"',
        f'state_dir = "{paths["/var/lib/lanrage"]}"',
        f'runtime_dir = "{paths["/run/lanrage"]}"',
    ):
        assert line in shown.stdout, line
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": 8667, "relay": 51820, "stun": 51821}
    # At other ports than a pod has for itself.
    http, relay = (f"127.0.0.1:{port}" for port in free_ports(2))
    env |= {"LANRAGE_HTTP": http, "LANRAGE_RELAY": relay, "LANRAGE_INSTANCE_URL": f"http://{http}"}
    grace = pod["terminationGracePeriodSeconds"]
    instance = Instance("lanrage-0", arguments, env, http, tmp_path / "instance", grace)
    instance.start()
    try:
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            asked = container[probe]["httpGet"]
            assert asked["port"] == "http"
            eventually(lambda: instance.is_ready(asked["path"]), instance.log)
        # It is one of the instances of that database.
        headers = {"Authorization": f"Bearer {cluster.token('somebody')}"}
        answer = httpx.get(f"{instance.url}/relays", headers=headers, timeout=10, trust_env=False)
        assert answer.status_code == 200, answer.text
        assert "LANRAGE_" not in instance.log()
    finally:
        instance.stop()
