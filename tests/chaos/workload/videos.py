"""The workload: uploads, events, failing videos that are retried, deletions."""

from __future__ import annotations

import asyncio
import errno
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import uuid4

from tests.chaos.invariants import Addresses
from tests.chaos.journal import Entry
from tests.chaos.workload.client import uploaded_event

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.chaos.cluster.environment import Environment
    from tests.chaos.journal import Journal
    from tests.chaos.workload.client import Api, Platform
    from tests.chaos.workload.clips import Clip

USERS = ("alice", "bob", "carol")
IN_FLIGHT = 7
AGAIN_SECONDS = 0.5
STEP_SECONDS = 90.0
SOURCES = "incoming"  # separate, since the videos' bucket is checked for orphans
FAILED_SEEN = ("failed", "ready", "deleted")

# The workload that reaches failpoints which most videos do not reach.
NEEDED = {
    "retry.": "retry",
    "delete.": "delete",
    "uploader.delete.": "delete",
    "source.": "s3_event",
    "s3.": "noisy",
    "upload.": "upload",
}


@dataclass
class Traffic:
    """Keeps a number of videos in flight; the next is random, or one that reaches `wanted` points."""

    api: Api
    platform: Platform
    journal: Journal
    environment: Environment
    clips: list[Clip]
    random: random.Random
    deleted: list[str] = field(default_factory=list)
    wanted: Callable[[], set[str]] = set
    errors: list[BaseException] = field(default_factory=list)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _doing: dict[str, int] = field(default_factory=dict)

    async def run(self) -> None:
        """Start videos until cancelled, as others end."""
        while True:
            if len(self.journal.open()) < IN_FLIGHT and len(self._tasks) < IN_FLIGHT + 3:
                self._begin(self._next())
            await asyncio.sleep(0.15)

    async def finish(self, seconds: float) -> None:
        """Wait for started videos to end."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _next(self) -> str:
        for point in sorted(self.wanted()):
            kind = next((kind for prefix, kind in NEEDED.items() if point.startswith(prefix)), None)
            if kind and self._doing.get(kind, 0) < 2:
                return kind
        kinds = ("upload", "upload", "upload", "file_event", "s3_event", "noisy", "retry", "delete")
        return self.random.choice(kinds)

    def _begin(self, kind: str) -> None:
        self._doing[kind] = self._doing.get(kind, 0) + 1
        task = asyncio.create_task(self._flow(kind)())
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._ended(kind, done))

    def _ended(self, kind: str, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._doing[kind] -= 1
        if not task.cancelled() and (error := task.exception()):
            self.errors.append(error)

    def _flow(self, kind: str) -> Callable[[], Awaitable[None]]:
        return {
            "upload": self.upload_one,
            "noisy": lambda: self.upload_one(self.clips[-1]),
            "file_event": self.file_event,
            "s3_event": self.s3_event,
            "retry": self.retry_twice,
            "delete": self.delete_in_work,
        }[kind]

    def _clip(self) -> Clip:
        return self.random.choice(self.clips[:-1])

    async def upload_one(self, clip: Clip | None = None) -> None:
        """Upload a clip; without a 202 it was not accepted."""
        await self.upload(clip or self._clip())

    async def upload(self, clip: Clip) -> Entry | None:
        """Upload, and return the entry of an accepted video; None when there was no 202."""
        user_id = self.random.choice(USERS)
        answer = await self.api.upload(clip, user_id)
        if answer.status == 202:
            return self.journal.accept(Entry(answer.body["id"], user_id, "upload", clip))
        self.journal.refused[answer.body.get("reason", "no answer")] += 1
        await asyncio.sleep(AGAIN_SECONDS)
        return None

    async def file_event(self) -> None:
        """Submit a file of the work volume by event, or with a work bucket an object."""
        clip, video_id = self._clip(), str(uuid4())
        await self._announce(video_id, clip, "file_event", await self._put(clip, video_id))

    async def s3_event(self) -> None:
        """Submit an object of a bucket by event."""
        clip = self._clip()
        await self._announce(str(uuid4()), clip, "s3_event", f"s3://{SOURCES}/{clip.path.name}")

    async def retry_twice(self) -> None:
        """Submit a missing file, create it once the video has failed, and retry twice at once."""
        clip, video_id = self._clip(), str(uuid4())
        entry = await self._announce(video_id, clip, "retry", self._uri(video_id))
        if not await self.journal.until(entry, "failed", seconds=STEP_SECONDS):
            return
        await self._put(clip, video_id)
        await asyncio.gather(self.retry(entry), self.retry(entry))

    async def retry(self, entry: Entry) -> None:
        """Request a retry until there is an answer; after a lost answer the outcome is unknown."""
        while True:
            answer = await self.api.call("POST", f"/api/videos/{entry.video_id}/retry")
            if answer.status == 202:
                entry.retries += 1
                return
            if answer.status in (404, 409):
                return
            entry.retries_unknown = True
            await asyncio.sleep(AGAIN_SECONDS)

    async def delete_in_work(self) -> None:
        """Delete a video at a random time."""
        entry = await self.upload(self._clip())
        if entry is None:
            return
        if self.random.random() < 0.3:
            await self.journal.until(entry, "ready", "failed", seconds=STEP_SECONDS)
        else:
            await asyncio.sleep(self.random.uniform(0, 4))
        await self.delete(entry)

    async def delete(self, entry: Entry) -> None:
        """Request a deletion until there is an answer."""
        entry.allowed = frozenset({"deleted"})
        while (await self.api.call("DELETE", f"/api/videos/{entry.video_id}")).status not in (204, 404):
            await asyncio.sleep(AGAIN_SECONDS)
        self.deleted.append(entry.video_id)

    async def _announce(self, video_id: str, clip: Clip, how: str, uri: str) -> Entry:
        user_id = self.random.choice(USERS)
        body = uploaded_event(video_id, user_id, uri)
        while not await self.platform.publish(body):
            await asyncio.sleep(AGAIN_SECONDS)
        return self.journal.accept(Entry(video_id, user_id, how, clip))

    async def put_what_is_missing(self, entry: Entry) -> None:
        """Create the missing file of a video that was meant to fail."""
        if entry.how == "retry" and entry.clip is not None:
            await self._put(entry.clip, entry.video_id)

    def _path(self, video_id: str) -> Path:
        return self.environment.work / "platform" / f"{video_id}.mp4"

    def _uri(self, video_id: str) -> str:
        in_bucket = self.environment.hand_over == "bucket"
        return f"s3://{SOURCES}/{video_id}.mp4" if in_bucket else self._path(video_id).as_uri()

    async def _put(self, clip: Clip, video_id: str) -> str:
        """Make the source of an event, as a platform does; return its URI."""
        if self.environment.hand_over == "bucket":
            async with Addresses.from_env(self.environment.addresses()).s3() as client:
                body = await asyncio.to_thread(clip.path.read_bytes)
                await client.put_object(Bucket=SOURCES, Key=f"{video_id}.mp4", Body=body)
        else:
            await self._put_in_volume(clip, self._path(video_id))
        return self._uri(video_id)

    async def _put_in_volume(self, clip: Clip, path: Path) -> None:
        """Write a file, waiting while the volume is full."""
        draft = path.with_suffix(".part")
        while True:
            try:
                path.parent.mkdir(exist_ok=True)
                shutil.copyfile(clip.path, draft)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                await asyncio.sleep(AGAIN_SECONDS)
            else:
                draft.rename(path)
                return
