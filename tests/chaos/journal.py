"""The record of accepted videos, their allowed ends, and recovery times after each disturbance."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import asyncpg

from tests.chaos.invariants import Accepted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.chaos.workload.clips import Clip

LOOK_SECONDS = 0.4
TERMINAL = ("ready", "failed", "deleted")
AWAY = (
    *(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError),
    asyncpg.InternalClientError,  # the server closed the connection as a command began
)
STATES = "select video_id::text, status, error ->> 'reason' as reason from videos"


@dataclass
class Entry:
    """An accepted video: `allowed` is how it may end, `retries` how many retries were answered with 202."""

    video_id: str
    user_id: str
    how: str
    clip: Clip | None
    allowed: frozenset[str] = frozenset({"ready"})
    retries: int = 0
    retries_unknown: bool = False
    status: str = "processing"
    reason: str | None = None
    accepted_at: float = field(default_factory=time.monotonic)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_terminal(self) -> bool:
        return self.status in TERMINAL


@dataclass
class Disturbance:
    """A kill, pause or fault, and the videos in flight at that time that have not ended yet."""

    kind: str
    at: float
    waiting: set[str]
    recovered_seconds: float | None = None


@dataclass
class Journal:
    """Keeps track of accepted videos, independently of the product's code."""

    entries: dict[str, Entry] = field(default_factory=dict)
    disturbances: list[Disturbance] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    _watching: asyncio.Task[None] | None = None

    def accept(self, entry: Entry) -> Entry:
        """Add a video that was answered with 202, or whose event the broker confirmed."""
        return self.entries.setdefault(entry.video_id, entry)

    def open(self) -> list[Entry]:
        """Return the videos that have not ended."""
        return [entry for entry in self.entries.values() if not entry.is_terminal]

    def accepted(self) -> dict[str, Accepted]:
        """Return the accepted videos for the checks."""
        return {
            entry.video_id: Accepted(
                entry.video_id,
                entry.allowed,
                frames=entry.clip.frames if entry.clip else None,
                retries=None if entry.retries_unknown else entry.retries,
            )
            for entry in self.entries.values()
        }

    def disturb(self, kind: str) -> None:
        """Start measuring how long the videos in flight take to end."""
        waiting = {entry.video_id for entry in self.open()}
        self.disturbances.append(Disturbance(kind, time.monotonic(), waiting))

    def see(self, states: Mapping[str, tuple[str, str | None]]) -> None:
        """Update the videos from the database."""
        for entry in self.entries.values():
            status, reason = states.get(entry.video_id, (entry.status, entry.reason))
            if status == entry.status:
                continue
            entry.status, entry.reason = status, reason
            if status == "failed":
                self.failures[reason or "?"] += 1
            entry.changed.set()
            entry.changed = asyncio.Event()
            if entry.is_terminal:
                self._recover(entry.video_id)

    def _recover(self, video_id: str) -> None:
        for disturbance in self.disturbances:
            if video_id in disturbance.waiting:
                disturbance.waiting.discard(video_id)
                if not disturbance.waiting:
                    disturbance.recovered_seconds = time.monotonic() - disturbance.at

    async def until(self, entry: Entry, *statuses: str, seconds: float) -> bool:
        """Wait until a video has one of `statuses`; False after `seconds`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while entry.status not in statuses:
                    await entry.changed.wait()
        return entry.status in statuses

    def begin_watching(self, database_url: str) -> None:
        """Start reading states; continues after outages of Postgres."""
        self._watching = asyncio.create_task(self._keep_watching(database_url))

    async def end_watching(self) -> None:
        """Stop reading states."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)

    async def _keep_watching(self, database_url: str) -> None:
        while True:
            with suppress(*AWAY):
                await self._watch(database_url)
            await asyncio.sleep(LOOK_SECONDS)

    async def _watch(self, database_url: str) -> None:
        connection = await asyncpg.connect(database_url, timeout=3, command_timeout=5)
        try:
            while True:
                rows = await connection.fetch(STATES)
                self.see({row["video_id"]: (row["status"], row["reason"]) for row in rows})
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            connection.terminate()
