"""Clients that upload simultaneously, and retry as requested."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REFUSED: Final = (429, 503, 507)


@dataclass
class Uploads:
    """What became of the uploads of all clients."""

    accepted: list[str] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)

    def figures(self, wall_seconds: float) -> dict[str, Any]:
        """Return numbers, rate and latencies; the wall time is that of all uploads together."""
        ordered = sorted(self.latencies)
        return {
            "accepted": len(self.accepted),
            "refused": dict(self.refused),
            "wall_seconds": round(wall_seconds, 2),
            "per_second": round(len(ordered) / wall_seconds, 2),
            "latency_median_seconds": round(quantile(ordered, 0.5), 4),
            "latency_p99_seconds": round(quantile(ordered, 0.99), 4),
        }


def quantile(ordered: list[float], share: float) -> float:
    """Return the quantile: the value that `share` of all do not exceed."""
    return ordered[max(0, -int(-len(ordered) * share // 1) - 1)]


async def upload_all(url: str, key: str, clip: Path, uploads: Uploads, *, videos: int, clients: int) -> None:
    """Upload `clip` several times with several concurrent clients.

    Raises RuntimeError for any other answer.
    """
    content, turns = clip.read_bytes(), iter(range(videos))
    headers = {"Authorization": f"Bearer {key}"}
    connector = aiohttp.TCPConnector(limit=clients)
    async with (
        aiohttp.ClientSession(url, headers=headers, connector=connector) as session,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(clients):
            group.create_task(_client(session, content, turns, uploads))


async def _client(
    session: aiohttp.ClientSession, content: bytes, turns: Iterator[int], uploads: Uploads
) -> None:
    for number in turns:
        while pause := await _try(session, content, number, uploads):
            await asyncio.sleep(pause * random.uniform(1, 1.5))


async def _try(session: aiohttp.ClientSession, content: bytes, number: int, uploads: Uploads) -> float:
    """Upload once; return 0 when it was accepted, else the seconds to wait before the next attempt."""
    form = aiohttp.FormData()
    form.add_field("file", content, filename=f"{number}.mp4")
    started = time.monotonic()
    async with session.post("/api/videos/upload", data=form) as answer:
        body = await answer.json()
        if answer.status == 202:
            uploads.latencies.append(time.monotonic() - started)
            uploads.accepted.append(body["id"])
            return 0.0
        if answer.status not in REFUSED or "Retry-After" not in answer.headers:
            raise RuntimeError(f"upload {number} was answered with {answer.status}: {body}")
        uploads.refused[f"{answer.status} {body.get('reason', '')}".strip()] += 1
        return max(float(answer.headers["Retry-After"]), 0.1)
