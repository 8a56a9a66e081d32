"""What systemd/cluster says, as processes: each container's command and environment, with loopback for its network."""

import asyncio
import contextlib
import functools
import json
import os
import pathlib
import pwd
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import httpx
import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "systemd" / "cluster"
POSTGRESQL = pathlib.Path("/usr/lib/postgresql/15/bin")
# What README.md of the examples has people write into `.env`.
SECRETS = {
    "DATABASE_PASSWORD": "0123456789abcdef",
    "PUBLIC_ENDPOINT": "play.example.org:51820",
    "ADMIN_TOKEN": "an-admin-token-for-tests",
}


def needs(is_there, what):
    """Skips the test, unless all are wanted: then what lacks is a failure."""
    if not is_there:
        (pytest.fail if os.environ.get("LANRAGE_TEST_ALL") == "1" else pytest.skip)(what)


def tool(name, package):
    """The path of a program."""
    found = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    needs(found, f"{name} is not there: install {package}")
    return found


@functools.cache
def is_built_for_this(path):
    said = subprocess.run([path, "serve", "--help"], capture_output=True, text=True, timeout=20).stdout
    return "--instance-url" in said


def binary():
    path = pathlib.Path(os.environ.get("LANRAGE_CLUSTER_BIN", ROOT / "target" / "debug" / "lanrage")).resolve()
    needs(path.exists() and is_built_for_this(path), f"{path} lacks: cargo build --features cluster")
    return path


def compose(file=EXAMPLES / "compose.yaml"):
    """What Docker Compose makes of the file, or `None` and what it says against it."""
    command = [pathlib.Path(sys.executable).parent / "docker-compose", "-f", file, "config", "--format", "json"]
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"} | SECRETS
    run = subprocess.run(command, capture_output=True, text=True, timeout=30, env=env)
    return (json.loads(run.stdout) if run.returncode == 0 else None), run.stderr


def documents():
    """What Kubernetes is told, by kind and name."""
    found = yaml.safe_load_all((EXAMPLES / "kubernetes.yaml").read_text())
    return {(document["kind"], document["metadata"]["name"]): document for document in found}


def free_ports(count):
    """So many that nobody uses, for TCP and UDP, and whose next one is free, too: a relay has two.

    The kernel gives none of these away, so they stay free while an instance is away.
    """
    ports = []
    while len(ports) < count:
        port = random.randrange(10000, 32000, 2)
        with contextlib.ExitStack() as stack:
            try:
                for number in (port, port + 1):
                    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                        stack.enter_context(socket.socket(type=kind)).bind(("127.0.0.1", number))
            except OSError:
                continue
        if port not in ports:
            ports.append(port)
    return ports


def eventually(what, describe, limit=30):
    """Waits until `what()` is true, and returns that."""
    ends = time.monotonic() + limit
    while not (found := what()):
        assert time.monotonic() < ends, describe() if callable(describe) else describe
        time.sleep(0.05)
    return found


class Database:
    """PostgreSQL as its image makes it: one user with a password, and one database of the same name."""

    def __init__(self, user, password, port):
        needs((POSTGRESQL / "initdb").exists(), "PostgreSQL 15 is not there: install postgresql")
        self.port = port
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="lanrage-database-"))
        self.user = {}
        if os.geteuid() == 0:
            entry = pwd.getpwnam("postgres")
            self.user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
            os.chown(self.directory, entry.pw_uid, entry.pw_gid)
        secret = self.directory / "password"
        secret.write_text(password)
        secret.chmod(0o644)
        self.env = {"PATH": f"{POSTGRESQL}:/usr/bin:/bin", "LC_ALL": "C", "PGPORT": str(port)}
        self.run(
            *("initdb", "--auth=scram-sha-256", "-U", user, f"--pwfile={secret}", "--no-sync", "-E", "UTF8"),
            *("--locale=C", "-D", self.directory / "data"),
        )
        with open(self.directory / "log", "wb") as log:
            command = ["postgres", "-D", self.directory / "data", "-h", "127.0.0.1", "-k", self.directory]
            command += ["-c", "fsync=off", "-c", "shared_buffers=16MB"]
            command[0] = POSTGRESQL / command[0]
            self.process = subprocess.Popen(
                command, env=self.env, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log, **self.user
            )
        self.env |= {"PGHOST": "127.0.0.1", "PGUSER": user, "PGPASSWORD": password}
        eventually(lambda: self.run("pg_isready", "-q", check=False).returncode == 0, "PostgreSQL does not start")
        self.run("createdb", user)

    def run(self, *command, check=True, **options):
        options = {"env": self.env, "cwd": "/", "capture_output": True, "timeout": 60} | self.user | options
        done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, **options)
        assert not check or done.returncode == 0, done.stderr.decode()
        return done

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait(timeout=20)
        shutil.rmtree(self.directory)


class Instance:
    """One `lanrage` of the examples."""

    def __init__(self, name, arguments, env, http, directory, grace):
        self.name = name
        self.program = None
        self.arguments = arguments
        self.grace = grace
        self.url = f"http://{http}"
        directory.mkdir()
        self.log_path = directory / "log"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("LANRAGE_")}
        self.env = kept | {"LANRAGE_LOG": "debug", "LANRAGE_HTTP": http} | env
        self.process = None

    def start(self):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [self.program or binary(), *self.arguments],
                env=self.env,
                cwd=self.log_path.parent,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )

    def stop(self):
        """As `docker stop` and Kubernetes do. It ends by itself, and in good order."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=self.grace)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        assert self.process.returncode == 0, self.log()
        assert "panicked" not in self.log(), self.log()

    def log(self):
        return self.log_path.read_text(errors="replace")

    def probe(self, path):
        """What Kubernetes and load balancers ask."""
        try:
            return httpx.get(f"{self.url}{path}", timeout=2, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def is_ready(self, path="/"):
        assert self.process.poll() is None, self.log()
        return self.probe(path)

    def wait(self):
        eventually(self.is_ready, lambda: f"{self.name} does not answer:\n{self.log()}")

    def metric(self, name):
        """A figure, as Prometheus asks for it."""
        headers = {"Authorization": f"Bearer {SECRETS['ADMIN_TOKEN']}"}
        text = httpx.get(f"{self.url}/metrics", headers=headers, timeout=10, trust_env=False).text
        [value] = re.findall(rf"^{name} (\S+)$", text, re.MULTILINE)
        return float(value)

    def socket(self):
        """A client of the owner's."""
        transport = httpx.HTTPTransport(uds=str(pathlib.Path(self.env["LANRAGE_STATE_DIR"]) / "control.sock"))
        return httpx.Client(base_url="http://lanrage", transport=transport, timeout=10, trust_env=False)


class Proxy:
    """nginx with nginx.conf, at other addresses."""

    def __init__(self, localize, url, directory):
        self.url = url
        directory.mkdir()
        self.access = directory / "access.log"
        self.errors = directory / "error.log"
        text = localize((EXAMPLES / "nginx.conf").read_text())
        for there, here in (("/dev/stdout", self.access), ("/dev/stderr", self.errors)):
            assert there in text
            text = text.replace(there, str(here))
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"):
            text = text.replace("http {", f"http {{\n    {kind}_temp_path {directory / kind};", 1)
        file = directory / "nginx.conf"
        file.write_text(text)
        # It starts as root, if so, and works as somebody else.
        directory.chmod(0o755)
        for parent in directory.parents[:3]:
            parent.chmod(parent.stat().st_mode | 0o011)
        command = [tool("nginx", "nginx"), "-c", file, "-p", directory]
        command += ["-g", f"daemon off; pid {directory / 'pid'};"]
        nothing = subprocess.DEVNULL
        self.process = subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing)
        eventually(lambda: self.access.exists() and self.answers(), lambda: f"nginx: {self.errors.read_text()}")

    def answers(self):
        try:
            return httpx.get(f"{self.url}/", timeout=5, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def upstreams(self, path):
        """Which instances answered what was asked of this path."""
        lines = [line for line in self.access.read_text().splitlines() if f" {path}\" " in line]
        return {line.split('" ', 1)[1].split()[1].rstrip(",") for line in lines}

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=20)


class Cluster:
    """All that compose.yaml says, running. It looks like the daemon of tests/thirdparty to what is asked there."""

    def __init__(self, directory, program=None, **settings):
        """Its instances run `program`, in place of what was built."""
        self.running = []
        told, complaint = compose()
        assert told, complaint
        services = told["services"]
        names = [name for name, service in services.items() if service["image"] == "lanrage"]
        address = {
            name: network["ipv4_address"]
            for name, service in services.items()
            for network in service["networks"].values()
        }
        ports = free_ports(2 * len(names) + 2)
        here = {f"{address['database']}/": f"127.0.0.1:{ports[0]}/", "listen 8667;": f"listen 127.0.0.1:{ports[1]};"}
        http = {name: f"127.0.0.1:{ports[2 + number]}" for number, name in enumerate(names)}
        here |= {f"{address[name]}:8667": http[name] for name in names} | {address["proxy"]: "127.0.0.1"}

        def localize(text, **more):
            for there, local in (here | more).items():
                text = text.replace(there, local)
            assert "172." not in text, text
            return text

        try:
            stored = services["database"]["environment"]
            assert stored["POSTGRES_USER"] == stored["POSTGRES_DB"]
            self.database = self.keep(Database(stored["POSTGRES_USER"], stored["POSTGRES_PASSWORD"], ports[0]))
            self.database_is_healthy = services["database"]["healthcheck"]["test"]
            self.instances = []
            for number, name in enumerate(names):
                service, place = services[name], directory / name
                env = {key: localize(value) for key, value in service["environment"].items()}
                for mount in service["tmpfs"]:
                    path = mount.partition(":")[0]
                    [key] = [key for key, value in env.items() if value == path]
                    # Docker makes it, and it is empty.
                    made = place.with_name(f"{name}-{key.removeprefix('LANRAGE_').lower()}")
                    made.mkdir(mode=0o700)
                    env[key] = str(made)
                env["LANRAGE_RELAY"] = f"127.0.0.1:{ports[2 + len(names) + number]}"
                env |= {f"LANRAGE_{key}": value for key, value in settings.items()}
                grace = int(service["stop_grace_period"].removesuffix("s"))
                instance = Instance(name, service["command"], env, http[name], place, grace)
                instance.is_healthy = service["healthcheck"]["test"]
                instance.program = program
                self.instances.append(instance)
            for instance in self.instances:
                instance.start()
                self.running.append(instance)
            for instance in self.instances:
                instance.wait()
            self.proxy = self.keep(Proxy(localize, f"http://127.0.0.1:{ports[1]}", directory / "nginx"))
            self.url = self.proxy.url
        except BaseException:
            for started in self.running:
                started.process.kill()
                started.process.wait()
            raise

    def keep(self, started):
        self.running.append(started)
        return started

    def stop(self):
        for started in reversed(self.running):
            started.stop()

    def http(self, token=None):
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=10, trust_env=False)

    def token(self, peer_id):
        with self.http() as http:
            return http.post("/auth/register", params={"peer_id": peer_id}).raise_for_status().json()["token"]

    def writer(self):
        """The instance that writes, if it is one."""
        writers = [instance for instance in self.instances if instance.metric("lanrage_instance_writes") == 1]
        return writers[0] if len(writers) == 1 else None


async def settled(ask, expected, limit=5):
    """Asks until the answer is the expected one: an instance hears of what was done at another one a moment later."""
    ends = time.monotonic() + limit
    while (found := await ask()) != expected:
        assert time.monotonic() < ends, f"{found} is not {expected}"
        await asyncio.sleep(0.01)
