"""What the cluster does with our pods, for assertions."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import Self

    from tests.cluster.control_plane import ControlPlane

Pod = dict[str, Any]

NAMESPACE = ("--namespace", "vod")
SERVING = ("ingest", "streamer", "uploader")


def pods(cluster: ControlPlane, name: str | None = None) -> list[Pod]:
    """Return the pods in the namespace, or those of one Deployment."""
    chosen = ("--selector", f"app.kubernetes.io/name={name}") if name else ()
    found: list[Pod] = cluster.get("pods", *NAMESPACE, *chosen)["items"]
    return found


def is_running(pod: Pod) -> bool:
    """Return whether a pod runs and is not about to end."""
    return pod["status"]["phase"] == "Running" and "deletionTimestamp" not in pod["metadata"]


def running(cluster: ControlPlane, name: str) -> list[Pod]:
    """Return the running pods of a Deployment."""
    return [pod for pod in pods(cluster, name) if is_running(pod)]


def names(found: list[Pod]) -> set[str]:
    """Return the names of pods."""
    return {pod["metadata"]["name"] for pod in found}


def scale(cluster: ControlPlane, name: str, replicas: int) -> None:
    """Set the number of pods of a Deployment, as KEDA and HPA do."""
    cluster.kubectl("scale", f"deployment/{name}", f"--replicas={replicas}", *NAMESPACE)


def rolled_out(cluster: ControlPlane, *deployments: str) -> None:
    """Wait until Deployments are rolled out."""
    for name in deployments:
        cluster.kubectl("rollout", "status", f"deployment/{name}", "--timeout=180s", *NAMESPACE)


class Lowest:
    """The lowest number of running pods of each serving Deployment while the context is open."""

    def __init__(self, cluster: ControlPlane) -> None:
        self.ready = {name: len(running(cluster, name)) for name in SERVING}
        self._cluster, self._end = cluster, threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(0.2):
            for name in SERVING:
                self.ready[name] = min(self.ready[name], len(running(self._cluster, name)))
