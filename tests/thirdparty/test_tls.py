"""TLS in front: the proxies of systemd/README.md, as they are told there, with a CA of our own."""

import asyncio
import pathlib
import re
import socket
import ssl
import subprocess
import time

import httpx
import pytest

from daemon import ADMIN_TOKEN, ROOT
from stock_client import HttpClient, SocketClient

NAME = "play.example.org"


def free_port():
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]


def own_address():
    """One that is not the loopback's: from there nobody counts as local."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address but the loopback's")
        return probe.getsockname()[0]


def recipe(language):
    """A block of the page for owners."""
    blocks = re.findall(rf"```{language}\n(.*?)```", (ROOT / "systemd/README.md").read_text(), re.S)
    return next(block for block in blocks if NAME in block)


@pytest.fixture(scope="session")
def tls(tmp_path_factory):
    """Files of a certificate for NAME, and a context that trusts who signed it."""
    place = tmp_path_factory.mktemp("tls")

    def openssl(*words):
        subprocess.run(["openssl", *words], cwd=place, check=True, capture_output=True)

    new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    openssl(*new, "-x509", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=CA", "-addext", "keyUsage=keyCertSign")
    openssl(*new, "-x509", "-CA", "ca.pem", "-CAkey", "ca.key", "-keyout", "key.pem", "-out", "cert.pem",
            "-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}")
    (place / "both.pem").write_text((place / "cert.pem").read_text() + (place / "key.pem").read_text())
    return place, ssl.create_default_context(cafile=place / "ca.pem")


def caddy(place, tls, port, behind):
    text = recipe("caddyfile").replace("127.0.0.1:8667", behind)
    text = text.replace(f"{NAME} {{", f"https://{NAME}:{port} {{\n\ttls {tls}/cert.pem {tls}/key.pem")
    (place / "Caddyfile").write_text("{\n\tadmin off\n\tauto_https disable_redirects\n}\n" + text)
    return ["caddy", "run", "--config", "Caddyfile"]


def nginx(place, tls, port, behind):
    text = recipe("nginx").replace("127.0.0.1:8667", behind).replace("listen [::]:443 ssl;", "")
    text = text.replace("listen 443 ssl;", f"listen {port} ssl;")
    text = re.sub(r"(ssl_certificate) .*;", rf"\1 {tls}/cert.pem;", text)
    text = re.sub(r"(ssl_certificate_key) .*;", rf"\1 {tls}/key.pem;", text)
    temporary = "".join(
        f"{kind}_temp_path {place}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (place / "nginx.conf").write_text(
        f"daemon off; pid {place}/pid; error_log stderr; events {{}}\nhttp {{\naccess_log off;\n{temporary}{text}}}\n"
    )
    return ["nginx", "-e", "stderr", "-c", f"{place}/nginx.conf"]


def haproxy(place, tls, port, behind):
    """By the PROXY protocol: it looks into nothing."""
    text = recipe("haproxy").replace("127.0.0.1:8667", behind).replace(":443 ", f":{port} ")
    text = re.sub(r"crt \S+", f"crt {tls}/both.pem", text)
    (place / "haproxy.cfg").write_text("defaults\n  timeout connect 5s\n" + text)
    return ["haproxy", "-db", "-f", "haproxy.cfg"]


@pytest.fixture(params=[caddy, nginx, haproxy])
def world(request, tmp_path, start, tls, monkeypatch):
    """A daemon behind a proxy: its URL, and how to trust it."""
    files, trust = tls
    port, address = free_port(), own_address()
    url = f"https://{NAME}:{port}"
    daemon = start(TRUSTED_PROXIES="127.0.0.1", PUBLIC_URL=url)
    command = request.param(tmp_path, files, port, daemon.url.removeprefix("http://"))
    look_up = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *rest, **named: look_up(address if host in (NAME, NAME.encode()) else host, *rest, **named),
    )
    log = (tmp_path / "proxy.log").open("w")
    home = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(tmp_path)}
    proxy = subprocess.Popen(command, cwd=tmp_path, env=home, stdout=log, stderr=log)
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex((address, port)) == 0:
                    break
            assert proxy.poll() is None, pathlib.Path(log.name).read_text()
            time.sleep(0.1)
        yield url, trust, address
    finally:
        proxy.terminate()
        proxy.wait(10)


def test_a_stock_client_by_https_and_wss(world):
    url, trust, address = world

    async def play():
        async with HttpClient(url, verify=trust) as ann, SocketClient(url, ssl=trust) as bob:
            await ann.register("ann")
            party = await ann.create("LAN")
            await ann.heartbeat(party.party_id)
            await bob.auth(None)
            await bob.join_party(party.party_id, "bob")
            await bob.told(party.party_id, "ann", "bob")
            assert set(await ann.peers(party.party_id)) == {"ann", "bob"}
            # A relay is where the request comes from: so that is known.
            relay = {"relay_id": "mine", "public_ip": address, "port": 51820}
            await ann.call("POST", "/relays", json=relay)
            with pytest.raises(Exception, match="403"):
                await ann.call("POST", "/relays", json=relay | {"public_ip": "203.0.113.9"})

    asyncio.run(play())


def test_pages_and_links_have_the_proxys_name(world):
    url, trust, _ = world
    with httpx.Client(base_url=url, verify=trust, trust_env=False) as browser:
        for page in ("/join", "/ui/", "/join/guest.js", "/ui/owner.js"):
            answer = browser.get(page)
            assert answer.status_code == 200, (page, answer.text)
            assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        # Nobody is local for coming by a proxy on this machine.
        assert browser.get("/status").status_code == 401
        assert browser.get("/status", headers={"X-Forwarded-For": "127.0.0.1"}).status_code == 401
        owner = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        party = browser.post("/parties", json={"name": "Friday"}, headers=owner).json()["party_id"]
        invite = browser.post(f"/parties/{party}/invites", json={}, headers=owner).json()
        assert invite["url"] == f"{url}/join#{invite['token']}"
        # As the page does it.
        asked = browser.post("/invites/preview", json={"token": invite["token"]}, headers={"Origin": url})
        assert (asked.status_code, asked.json()["party"]) == (200, "Friday")
        foreign = browser.post("/invites/preview", json={"token": invite["token"]}, headers={"Origin": "https://evil.example"})
        assert foreign.status_code == 403
