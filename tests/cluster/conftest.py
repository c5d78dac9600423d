"""One API server for all tests of a session."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cluster.control_plane import ControlPlane
from tests.cluster.places import K8S
from tests.cluster.programs import DEFINITIONS, obstacle

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """An API server that knows the custom resources, with what `kubectl apply` needs of ours."""
    if reason := obstacle("etcd", "kube-apiserver", "kubectl", "helm"):
        pytest.skip(reason)
    with ControlPlane(tmp_path_factory.mktemp("cluster")) as cluster:
        for each in DEFINITIONS:
            for path in each.files():
                cluster.kubectl("apply", "--server-side", "--filename", str(path))
        make_secret(cluster)
        yield cluster


def make_secret(cluster: ControlPlane) -> None:
    """Make the namespace and the Secret as the documentation does."""
    cluster.kubectl("apply", "--filename", str(K8S / "base/namespace.yaml"))
    cluster.kubectl("apply", "--filename", str(K8S / "secret.example.yaml"))
