import itertools

import pytest

from daemon import Daemon

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def daemon(tmp_path_factory):
    """One daemon for all tests that need no settings of their own; they keep apart by peer ids."""
    with Daemon(tmp_path_factory.mktemp("daemon") / "state") as daemon:
        yield daemon


@pytest.fixture
def start(tmp_path):
    """Starts daemons with settings, and stops them after the test."""
    started = []

    def start(**settings):
        daemon = Daemon(tmp_path / f"state{len(started)}", **settings)
        started.append(daemon)
        return daemon

    yield start
    for daemon in started:
        daemon.stop()


@pytest.fixture
def name():
    """Names that no other test uses."""
    return lambda word: f"{word}-{next(_numbers)}"
