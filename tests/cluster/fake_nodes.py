"""Nodes without kubelets: their pods are reported as running, ready and ended.

No container runs. All decisions are real: admission, scheduling, roll-outs, budgets, preemption.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import aiohttp

if TYPE_CHECKING:
    from typing import Self

    from tests.cluster.control_plane import ControlPlane

POLL_SECONDS: Final = 0.3
LEASE_SECONDS: Final = 10
MERGE: Final = {"Content-Type": "application/merge-patch+json"}
ROOM: Final = {"memory": "64Gi", "ephemeral-storage": "500Gi", "pods": "110"}


@dataclass(frozen=True)
class Node:
    """A node to offer: its cores, cards and zone."""

    name: str
    cores: int = 16
    gpus: int = 0
    zone: str = "a"

    def to_json(self) -> dict[str, Any]:
        labels = {"kubernetes.io/hostname": self.name, "topology.kubernetes.io/zone": f"zone-{self.zone}"}
        taints = []
        if self.gpus:
            taints = [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}]
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": self.name, "labels": labels},
            "spec": {"taints": taints},
        }

    def status(self) -> dict[str, Any]:
        offered = {"cpu": str(self.cores), **ROOM, "nvidia.com/gpu": str(self.gpus)}
        now = _now()
        ready = {"type": "Ready", "status": "True", "reason": "Fake", "lastHeartbeatTime": now}
        return {"status": {"capacity": offered, "allocatable": offered, "conditions": [ready]}}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class FakeNodes:
    """Registers nodes and simulates their kubelets, in a thread, while the context is open."""

    def __init__(self, cluster: ControlPlane, nodes: list[Node]) -> None:
        self._cluster, self._nodes = cluster, nodes
        self._end = threading.Event()
        self._registered = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._play()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._registered.wait(60), "the nodes are not registered"
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(30)

    async def _play(self) -> None:
        context = ssl.create_default_context(cafile=str(self._cluster.authority))
        headers = {"Authorization": f"Bearer {self._cluster.token}"}
        connector = aiohttp.TCPConnector(ssl=context)
        async with aiohttp.ClientSession(self._cluster.url, connector=connector, headers=headers) as session:
            for node in self._nodes:
                await _send(session, "POST", "/api/v1/nodes", node.to_json())
            await self._renew(session)
            self._registered.set()
            renewed_at = asyncio.get_running_loop().time()
            while not self._end.is_set():
                await _play_pods(session)
                if asyncio.get_running_loop().time() - renewed_at > LEASE_SECONDS:
                    await self._renew(session)
                    renewed_at = asyncio.get_running_loop().time()
                await asyncio.sleep(POLL_SECONDS)

    async def _renew(self, session: aiohttp.ClientSession) -> None:
        for node in self._nodes:
            await _send(session, "PATCH", f"/api/v1/nodes/{node.name}/status", node.status())


async def _send(session: aiohttp.ClientSession, method: str, path: str, body: Any) -> int:
    headers = MERGE if method == "PATCH" else {"Content-Type": "application/json"}
    async with session.request(method, path, data=json.dumps(body), headers=headers) as answer:
        return answer.status


async def _play_pods(session: aiohttp.ClientSession) -> None:
    async with session.get("/api/v1/pods") as answer:
        pods = (await answer.json())["items"]
    for pod in pods:
        if pod["spec"].get("nodeName"):
            await _play_pod(session, pod)


async def _play_pod(session: aiohttp.ClientSession, pod: dict[str, Any]) -> None:
    path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"
    if "deletionTimestamp" in pod["metadata"]:
        await _send(session, "DELETE", path, {"gracePeriodSeconds": 0})
    elif pod["status"].get("phase") == "Pending":
        await _send(session, "PATCH", f"{path}/status", {"status": _running(pod)})


def _running(pod: dict[str, Any]) -> dict[str, Any]:
    now = _now()
    is_job = pod["spec"]["restartPolicy"] == "Never"
    ended = {"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": now, "finishedAt": now}}
    state = ended if is_job else {"running": {"startedAt": now}}
    statuses = [
        {"name": each["name"], "image": each["image"], "imageID": "", "restartCount": 0, "ready": not is_job}
        | {"state": state, "containerID": f"fake://{pod['metadata']['uid']}"}
        for each in pod["spec"]["containers"]
    ]
    kinds = ("Initialized", "PodReadyToStartContainers", "ContainersReady", "Ready")
    conditions = [{"type": kind, "status": "True", "lastTransitionTime": now} for kind in kinds]
    phase = "Succeeded" if is_job else "Running"
    return {"phase": phase, "startTime": now, "conditions": conditions, "containerStatuses": statuses}
