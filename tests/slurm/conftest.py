"""A Slurm of two nodes for all tests of this folder."""

import os
from collections.abc import Iterator

import pytest

from support.slurm import Cluster, missing


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    # The first process of a namespace.
    if why := missing() or (os.getpid() != 1 and "a cluster needs namespaces of its own: make test-slurm"):
        pytest.fail(why, pytrace=False)
    cluster = Cluster(tmp_path_factory.mktemp("cluster"), ("d1", "d2"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
