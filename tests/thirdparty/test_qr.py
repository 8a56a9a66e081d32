"""The QR codes that the command line prints, as a phone's camera reads them."""

import os
import re
import subprocess

import zxingcpp
from PIL import Image

from daemon import binary

# Upper and lower half of a cell: whether they are light.
CELLS = {"█": (True, True), "▀": (True, False), "▄": (False, True), " ": (False, False)}
SCALE = 4


def run(daemon, *words):
    env = {**os.environ, "LANRAGE_STATE_DIR": str(daemon.socket_path.parent)}
    done = subprocess.run([binary(), *words], env=env, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout


def picture(printed):
    """The picture among what was printed."""
    lines = [line for line in printed.splitlines() if line and set(line) <= set(CELLS) and "█" in line]
    width = len(lines[0])
    image = Image.new("L", (width, 2 * len(lines)))
    for row, line in enumerate(lines):
        assert len(line) == width
        for column, cell in enumerate(line):
            for half, is_light in enumerate(CELLS[cell]):
                image.putpixel((column, 2 * row + half), 255 if is_light else 0)
    return image.resize((width * SCALE, 2 * len(lines) * SCALE), Image.NEAREST)


def test_a_camera_reads_the_file_for_the_app(daemon, name):
    party = name("qr")
    run(daemon, "party", "create", party)
    printed = run(daemon, "device", "add", party, "phone", "--qr")
    [code] = zxingcpp.read_barcodes(picture(printed))
    private = re.search(r"^PrivateKey = ([A-Za-z0-9+/]{43}=)$", code.text, re.MULTILINE).group(1)
    conf = code.text.splitlines()
    assert conf[:2] == ["[Interface]", f"PrivateKey = {private}"]
    for line in ["[Peer]", "PersistentKeepalive = 25"]:
        assert line in conf
    # The picture alone has the key.
    assert private not in printed
    # It fits a terminal of 80 columns.
    assert picture(printed).width <= 80 * SCALE
