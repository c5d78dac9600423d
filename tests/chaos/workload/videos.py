"""Videos on their way through the storm: uploads, events, failures that are retried, deletions."""

from __future__ import annotations

import asyncio
import errno
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import uuid4

from tests.chaos.journal import Entry
from tests.chaos.workload.client import uploaded_event

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable

    from tests.chaos.cluster.environment import Ground
    from tests.chaos.journal import Ledger
    from tests.chaos.workload.client import Api, Platform
    from tests.chaos.workload.clips import Clip

USERS = ("alice", "bob", "carol")
IN_FLIGHT = 7
AGAIN_SECONDS = 0.5
STEP_SECONDS = 90.0
SOURCES = "incoming"  # a bucket of its own, since what lies in the videos' bucket is judged
FAILED_SEEN = ("failed", "ready", "deleted")

# Which traffic passes a crash point that most videos do not pass.
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
    """Keeps a number of videos in flight; what comes next is drawn, or what `wanted` points need."""

    api: Api
    platform: Platform
    ledger: Ledger
    ground: Ground
    clips: list[Clip]
    random: random.Random
    deleted: list[str] = field(default_factory=list)
    wanted: Callable[[], set[str]] = set
    errors: list[BaseException] = field(default_factory=list)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _doing: dict[str, int] = field(default_factory=dict)

    async def run(self) -> None:
        """Begin videos for ever, as others come to their end."""
        while True:
            if len(self.ledger.open()) < IN_FLIGHT and len(self._tasks) < IN_FLIGHT + 3:
                self._begin(self._next())
            await asyncio.sleep(0.15)

    async def finish(self, seconds: float) -> None:
        """Let what was begun come to its end."""
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
        """Upload a clip; what is not answered with 202 was not accepted."""
        await self.upload(clip or self._clip())

    async def upload(self, clip: Clip) -> Entry | None:
        """Upload, and return the entry of an accepted video; None when there was no 202."""
        user_id = self.random.choice(USERS)
        answer = await self.api.upload(clip, user_id)
        if answer.status == 202:
            return self.ledger.accept(Entry(answer.body["id"], user_id, "upload", clip))
        self.ledger.refused[answer.body.get("reason", "no answer")] += 1
        await asyncio.sleep(AGAIN_SECONDS)
        return None

    async def file_event(self) -> None:
        """Hand in a file of the work volume by event."""
        clip, video_id = self._clip(), str(uuid4())
        await self._announce(video_id, clip, "file_event", await self._put_in_volume(clip, video_id))

    async def s3_event(self) -> None:
        """Hand in an object of a bucket by event."""
        clip = self._clip()
        await self._announce(str(uuid4()), clip, "s3_event", f"s3://{SOURCES}/{clip.path.name}")

    async def retry_twice(self) -> None:
        """Hand in a file that is not there, put it there once the video has failed, retry twice at once."""
        clip, video_id = self._clip(), str(uuid4())
        path = self.ground.work / "platform" / f"{video_id}.mp4"
        entry = await self._announce(video_id, clip, "retry", path.as_uri())
        if not await self.ledger.until(entry, "failed", seconds=STEP_SECONDS):
            return
        await self._put_in_volume(clip, video_id)
        await asyncio.gather(self.retry(entry), self.retry(entry))

    async def retry(self, entry: Entry) -> None:
        """Ask for a retry until there is an answer; a lost answer leaves open whether it was taken."""
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
        """Delete a video at some moment of its life."""
        entry = await self.upload(self._clip())
        if entry is None:
            return
        if self.random.random() < 0.3:
            await self.ledger.until(entry, "ready", "failed", seconds=STEP_SECONDS)
        else:
            await asyncio.sleep(self.random.uniform(0, 4))
        await self.delete(entry)

    async def delete(self, entry: Entry) -> None:
        """Delete until there is an answer."""
        entry.allowed = frozenset({"deleted"})
        while (await self.api.call("DELETE", f"/api/videos/{entry.video_id}")).status not in (204, 404):
            await asyncio.sleep(AGAIN_SECONDS)
        self.deleted.append(entry.video_id)

    async def _announce(self, video_id: str, clip: Clip, how: str, uri: str) -> Entry:
        user_id = self.random.choice(USERS)
        body = uploaded_event(video_id, user_id, uri)
        while not await self.platform.publish(body):
            await asyncio.sleep(AGAIN_SECONDS)
        return self.ledger.accept(Entry(video_id, user_id, how, clip))

    async def put_what_is_missing(self, entry: Entry) -> None:
        """Put a file there that a video was to fail for."""
        if entry.how == "retry" and entry.clip is not None:
            await self._put_in_volume(entry.clip, entry.video_id)

    async def _put_in_volume(self, clip: Clip, video_id: str) -> str:
        """Put a file there as a platform does: while the volume is full it waits."""
        path = self.ground.work / "platform" / f"{video_id}.mp4"
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
                return path.as_uri()
