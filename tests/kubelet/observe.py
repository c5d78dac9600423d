"""What the system in pods does, for assertions."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any, Final

from tests.cluster.observe import NAMESPACE, pods

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import asyncpg

    from tests.cluster.control_plane import ControlPlane
    from tests.cluster.observe import Pod
    from tests.kubelet.node import Node

WAIT_SECONDS: Final = 300.0
POLL_SECONDS: Final = 1.0


async def in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    """Run what waits for a program, while viewers continue."""
    return await asyncio.to_thread(function, *arguments)


async def eventually(condition: Callable[[], Any], what: str) -> None:
    """Return when a condition holds."""
    give_up_at = time.monotonic() + WAIT_SECONDS
    while not await in_thread(condition):
        assert time.monotonic() < give_up_at, f"{what}: not in {WAIT_SECONDS:.0f} s"
        await asyncio.sleep(POLL_SECONDS)


async def until_encoding(database: asyncpg.Connection, chunks: int) -> None:
    """Return when this many chunks are being encoded."""
    async with asyncio.timeout(WAIT_SECONDS):
        while await database.fetchval("select chunks_being_encoded from encoding_backlog") < chunks:
            await asyncio.sleep(0.2)


async def attempts(database: asyncpg.Connection, ids: Sequence[str]) -> list[int]:
    """Return how often each chunk of these videos was begun."""
    found = await database.fetch("select attempt from chunks where video_id = any($1::uuid[])", ids)
    assert len(found) > len(ids)
    return [each["attempt"] for each in found]


def replicas(cluster: ControlPlane, name: str) -> int:
    """Return how many pods a Deployment wants."""
    wanted: int = cluster.get("deployment", name, *NAMESPACE)["spec"]["replicas"]
    return wanted


def is_scaling(cluster: ControlPlane, name: str) -> bool:
    """Return whether an HPA has read every number that it needs."""
    status = cluster.get("hpa", name, *NAMESPACE)["status"]
    conditions = {each["type"]: each["status"] for each in status.get("conditions", [])}
    return conditions.get("ScalingActive") == "True" and bool(status.get("currentMetrics"))


def is_ready(cluster: ControlPlane, pod: Pod) -> bool:
    """Return whether a pod gets requests."""
    (found,) = [each for each in pods(cluster) if each["metadata"]["name"] == pod["metadata"]["name"]]
    conditions = {each["type"]: each["status"] for each in found["status"]["conditions"]}
    return conditions["Ready"] == "True"


def logged(cluster: ControlPlane, pod: Pod, event: str) -> dict[str, Any]:
    """Return the line that a pod's service has logged about an event."""
    text = cluster.kubectl("logs", pod["metadata"]["name"], *NAMESPACE).output
    lines: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    (found,) = [line for line in lines if line.get("event") == event]
    return found


def signal_container(nodes: Sequence[Node], pod: Pod, name: str) -> None:
    """Send a signal to the process of a pod's first container."""
    (node,) = [each for each in nodes if each.name == pod["spec"]["nodeName"]]
    node.signal(pod["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://"), name)
