"""One cluster of two real nodes for all tests of a session."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.cluster.control_plane import ControlPlane
from tests.cluster.program_paths import REPOSITORY
from tests.cluster.programs import KEDA_DEFINITIONS
from tests.kubelet import network
from tests.kubelet.images import archives
from tests.kubelet.node import Node
from tests.kubelet.scalers import api_server_options, start_keda, start_metrics_server, start_proxy

if TYPE_CHECKING:
    from collections.abc import Iterator

NODES = (1, 2)
URLS = ("DATABASE_URL", "RABBITMQ_URL", "S3_ENDPOINT_URL")


@pytest.fixture(scope="session")
def state() -> Path:
    """The directory of everything that runs."""
    return Path(os.environ["KUBELET_STATE"])


@pytest.fixture(scope="session")
def servers(state: Path) -> Iterator[dict[str, str]]:
    """Variables of the services: Postgres, RabbitMQ and S3 of devstack, outside the cluster."""
    stack = [sys.executable, "-m", "devstack"]
    where = ("--dir", str(state / "servers"))
    subprocess.run([*stack, "up", "--servers-only", *where], cwd=REPOSITORY, check=True)
    try:
        words = shlex.split((state / "servers" / "env").read_text())
        yield dict(word.split("=", 1) for word in words)
    finally:
        subprocess.run([*stack, "down", *where], cwd=REPOSITORY, check=True)


@pytest.fixture(scope="session")
def nodes(state: Path, servers: dict[str, str]) -> Iterator[list[Node]]:
    """The nodes, ready, with the scalers of a real cluster."""
    network.set_up(len(NODES), [urlsplit(servers[name]).port or 0 for name in URLS])
    options = api_server_options(state / "front-proxy")
    with ControlPlane(state / "cluster", address=network.CONTROL_PLANE, options=options) as cluster:
        for path in KEDA_DEFINITIONS.files():
            cluster.kubectl("apply", "--server-side", "--filename", str(path))
        started = [Node(cluster, number, state / f"node-{number}") for number in NODES]
        for node in started:
            node.start(archives())
        start_proxy(cluster)
        start_metrics_server(cluster)
        start_keda(cluster)
        cluster.check()
        yield started
        cluster.check()


@pytest.fixture(scope="session")
def cluster(nodes: list[Node]) -> ControlPlane:
    """The control plane of the nodes."""
    return nodes[0].cluster
