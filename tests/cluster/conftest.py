"""One control plane with fake nodes for all tests of a session."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.control_plane import ControlPlane
from tests.cluster.fake_nodes import FakeNodes, Node
from tests.cluster.program_paths import K8S
from tests.cluster.programs import DEFINITIONS, obstacle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WAIT_SECONDS = 90
NODES = [
    *[Node(f"cpu-{index}", cores=16, zone="abc"[index % 3]) for index in range(3)],
    *[Node(f"gpu-{index}", cores=16, gpus=2, zone="abc"[index]) for index in range(2)],
]


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """An API server that knows the custom resources, with the objects of ours that `kubectl apply` needs."""
    if reason := obstacle("etcd", "kube-apiserver", "kubectl", "helm"):
        pytest.skip(reason)
    with ControlPlane(tmp_path_factory.mktemp("cluster")) as cluster:
        for each in DEFINITIONS:
            for path in each.files():
                cluster.kubectl("apply", "--server-side", "--filename", str(path))
        make_secret(cluster)
        yield cluster


@pytest.fixture(scope="session")
def cluster(api: ControlPlane) -> Iterator[ControlPlane]:
    """The same with nodes that seem to run what the scheduler puts on them."""
    if reason := obstacle("kube-controller-manager", "kube-scheduler"):
        pytest.skip(reason)
    with FakeNodes(api, NODES):
        yield api


@pytest.fixture(scope="session")
def until() -> Callable[..., Any]:
    """Return a function that calls another until it returns something true."""

    def wait(condition: Callable[[], Any], what: str, seconds: float = WAIT_SECONDS) -> Any:
        give_up_at = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < give_up_at, f"{what}: not in {seconds:.0f} s"
            time.sleep(0.3)
        return found

    return wait


@pytest.fixture
def secret(cluster: ControlPlane) -> None:
    """The namespace and the Secret, also after a test that has removed them."""
    make_secret(cluster)


def make_secret(cluster: ControlPlane) -> None:
    """Make the namespace and the Secret as the documentation does."""
    cluster.kubectl("apply", "--filename", str(K8S / "base/namespace.yaml"))
    cluster.kubectl("apply", "--filename", str(K8S / "secret.example.yaml"))
