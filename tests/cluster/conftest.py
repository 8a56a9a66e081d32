import itertools

import pytest

from examples import Cluster

_numbers = itertools.count(1)

# One client after the other comes from the same address here, and is not held to what strangers may.
UNHURRIED = {"RATES_REQUESTS": "100000/100000", "RATES_CREATIONS": "100000/100000", "RATES_CHANGES": "1000000/100000"}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """What compose.yaml says."""
    cluster = Cluster(tmp_path_factory.mktemp("cluster"), **UNHURRIED)
    yield cluster
    cluster.stop()


@pytest.fixture
def name():
    """Names that no other test uses."""
    return lambda word: f"{word}-{next(_numbers)}"
