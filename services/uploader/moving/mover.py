"""Moves videos between storages while they play: copy, switch, and later remove the old objects.

One process of the fleet moves at a time. Verified copies are recorded, so that the next process continues
there; every write to the records is fenced by the attempt.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import structlog

from services.uploader.fsck.expected import compare
from services.uploader.moving.copy import Copier, Pace, clear_target, sizes_in
from shared import videos
from shared.errors import (
    DatabaseUnavailable,
    PipelineError,
    StorageMismatch,
    StorageUnavailable,
    Superseded,
    described,
)
from shared.names import storage_prefix
from shared.playback.urls import Place, playlist_url, thumbnail_url
from shared.service.leases import run_leased
from shared.storage.marker import expect_marker
from shared.videos import moves

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from uuid import UUID

    from shared.database.pool import Database
    from shared.playback.urls import PlaybackUrls
    from shared.storage import Storage, Storages
    from shared.storage.placement import StorageRules
    from shared.videos import Audited, Video
    from shared.videos.moves import MoveClaim
    from shared.workspace.layout import WorkDir

    Act = Callable[[MoveClaim], Coroutine[Any, Any, str]]

LOCK: Final = 0x766F6406
LOOK_SECONDS: Final = 10.0
OBJECTS_AT_ONCE: Final = 4
ROUNDS: Final = 3  # rounds of comparing and copying, in case objects change

log = structlog.get_logger()


class CannotMove(PipelineError):
    """The move of a video cannot succeed: the video stays where it is."""

    reason = "cannot_move"


@dataclass(frozen=True)
class Way:
    """Source and target of the objects below `prefix`."""

    source: Storage
    target: Storage
    prefix: str


@dataclass(frozen=True)
class Mover:
    """Carries out the requested moves."""

    database: Database
    storages: Storages
    scratch: WorkDir
    urls: PlaybackUrls
    rules: StorageRules
    lease_seconds: float
    grace_seconds: float

    async def run(self) -> None:
        """Move repeatedly; continues after outages."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.work_through()
            except (DatabaseUnavailable, OSError) as error:
                log.warning("mover_waits", error=described(error))

    async def work_through(self, tell: Callable[[UUID, str], None] = lambda _, __: None) -> bool:
        """Copy every waiting video, remove expired old objects; `tell` is called with each outcome.

        Videos whose storage is unavailable, or whose move fails, are left for the next round. False when
        another process is moving. Raises DatabaseUnavailable.
        """
        async with self.database.alone(LOCK) as is_ours:
            if not is_ours:
                return False
            await asyncio.to_thread(self._clear_spool)
            left: list[UUID] = []
            while (step := await self._next(left)) is not None:
                video_id, act = step
                try:
                    tell(video_id, await self._leased(video_id, act))
                except (StorageUnavailable, Superseded) as error:
                    log.warning("move_waits", video_id=str(video_id), error=error.message)
                    left.append(video_id)
                except DatabaseUnavailable:
                    raise
                except Exception:
                    log.exception("move_broke", video_id=str(video_id))
                    left.append(video_id)
        return True

    async def _next(self, left: list[UUID]) -> tuple[UUID, Act] | None:
        async with self.database.transaction() as connection:
            grace = self.grace_seconds
            if found := await moves.next_removal(connection, grace_seconds=grace, without=left):
                return found, self._remove
            if found := await moves.next_copy(connection, without=left):
                return found, self._move
        return None

    async def _leased(self, video_id: UUID, act: Act) -> str:
        """Return the outcome for a video. Raises StorageUnavailable, Superseded, DatabaseUnavailable."""
        seconds = self.lease_seconds
        async with self.database.transaction() as connection:
            claim = await moves.claim_move(connection, video_id, lease_seconds=seconds)
        try:
            return await run_leased(self._tried(act, claim), partial(self._renew, claim), seconds)
        except BaseException:
            with suppress(DatabaseUnavailable):
                await self._do(moves.release_move, claim)
            raise

    async def _tried(self, act: Act, claim: MoveClaim) -> str:
        try:
            return await act(claim)
        except CannotMove as error:
            log.error("move_failed", video_id=str(claim.video_id), error=error.message)  # noqa: TRY400
            is_cleared = await self._clear_copy(claim)
            await self._do(partial(moves.fail_move, is_cleared=is_cleared), claim, error.message)
            return "failed"

    async def _clear_copy(self, claim: MoveClaim) -> bool:
        """Remove the copies of a move that cannot succeed; False if nothing may be removed.

        Raises StorageUnavailable, StorageMismatch: the move stays open until the copy is removed.
        """
        if claim.target_id is None:
            return False
        if (target := self.storages.by_id(claim.target_id)) is None:
            if any(each.name == claim.target and each.storage_id is None for each in self.storages):
                raise StorageUnavailable(f"the storage {claim.target} has not answered yet")
            return False  # it is no longer configured: the record keeps track of its objects
        async with self.database.transaction() as connection:
            video = await videos.get(connection, claim.video_id)
        if video is None or video.location is None or video.location.is_same(target.location):
            return False  # players get, or may get, these objects
        await expect_marker(target)
        await clear_target(target, storage_prefix(video.user_id, video.video_id), ())
        return True

    async def _renew(self, claim: MoveClaim) -> None:
        async with self.database.transaction() as connection:
            await moves.renew_move(connection, claim, lease_seconds=self.lease_seconds)

    async def _do(self, change: Callable[..., Any], *arguments: Any) -> None:
        async with self.database.transaction() as connection:
            await change(connection, *arguments)

    async def _move(self, claim: MoveClaim) -> str:
        async with self.database.transaction() as connection:
            record = await videos.audited(connection, claim.video_id)
        if record is None or record.video.run != claim.video_run:
            raise Superseded("the video is being processed")
        way = await self._way(record.video, claim)
        listed = await sizes_in(way.source, way.prefix)
        _expect_whole(record, listed)
        await self._begin(claim, way)
        await self._copy_all(claim, way, listed)
        await self._switch(claim, record.video, way)
        return "moved"

    async def _way(self, video: Video, claim: MoveClaim) -> Way:
        """Return source and target of the copy. Raises CannotMove, StorageUnavailable."""
        source = self.storages.find(video.location) if video.location else None
        if source is None:
            raise CannotMove(f"it is in {video.location}, which is not configured")
        try:
            target = self.storages.named(claim.target)
        except StorageMismatch as error:
            raise CannotMove(error.message) from error
        if source.name == target.name:
            raise CannotMove(f"it is already in the storage {target.name}")
        if video.visibility == "private" and self.rules.by_name[target.name].is_public:
            raise CannotMove(f"it is private, and anyone can read the storage {target.name}")
        for storage in (source, target):
            if storage.storage_id is None:
                raise StorageUnavailable(f"the storage {storage.name} has not answered yet")
            await expect_marker(storage)
        return Way(source, target, storage_prefix(video.user_id, video.video_id))

    async def _begin(self, claim: MoveClaim, way: Way) -> None:
        """Record source and target, and remove the remains of an earlier move to another target."""
        former = self.storages.by_id(claim.target_id) if claim.target_id else None
        if former and former.name not in (way.source.name, way.target.name):
            await expect_marker(former)
            await former.delete_prefix(way.prefix)
        is_public = self.rules.by_name[way.target.name].is_public
        ends = moves.Ends(way.source.storage_id, way.target.storage_id, is_public)
        await self._do(moves.begin_copy, claim, ends)

    async def _copy_all(self, claim: MoveClaim, way: Way, listed: Mapping[str, int]) -> None:
        """Copy missing objects until both sides are equal. Raises StorageUnavailable, Superseded."""
        pace = Pace(claim.bytes_per_second)
        for _ in range(ROUNDS):
            there = await sizes_in(way.target, way.prefix)
            async with self.database.transaction() as connection:
                done = await moves.moved_objects(connection, claim.video_id)
            todo = [key for key, size in listed.items() if not size == done.get(key) == there.get(key)]
            if not todo:
                await clear_target(way.target, way.prefix, listed)
                return
            await self._copy_some(claim, way, todo, pace)
            listed = await sizes_in(way.source, way.prefix)
        raise StorageUnavailable(f"{len(todo)} objects, such as {todo[0]}, differ after each copy")

    async def _copy_some(self, claim: MoveClaim, way: Way, keys: list[str], pace: Pace) -> None:
        waiting = deque(keys)

        async def work(number: int) -> None:
            copier = Copier(way.source, way.target, pace, partial(self._spool, claim, number))
            try:
                while waiting:
                    done = await copier.copy(waiting.popleft())
                    await self._do(moves.add_moved_object, claim, done.key, done.size_bytes, done.sha256)
            except BaseException:
                waiting.clear()  # the others stop as well
                raise

        workers = (work(number) for number in range(OBJECTS_AT_ONCE))
        for result in await asyncio.gather(*workers, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result

    async def _switch(self, claim: MoveClaim, video: Video, way: Way) -> None:
        place = Place(way.target.location, way.target.name, way.prefix)
        base = self.urls.base(video.video_id, place)
        to = moves.Switched(
            location=way.target.location,
            s3_public_url=way.target.public_base_url,
            playlist_url=playlist_url(base),
            thumbnail_url=thumbnail_url(base),
            is_public=self.rules.by_name[way.target.name].is_public,
        )
        await self._do(moves.switch_storage, claim, to)
        log.info("video_moved", video_id=str(video.video_id), to=way.target.name, **{"from": way.source.name})

    async def _remove(self, claim: MoveClaim) -> str:
        """Remove the old objects of a moved video."""
        old = self.storages.by_id(claim.source_id) if claim.source_id else None
        if old is None:
            raise StorageUnavailable("the storage that it was moved from is not configured")
        async with self.database.transaction() as connection:
            video = await videos.get(connection, claim.video_id)
        if video is None or video.storage_id is None or video.status == "deleted":
            raise Superseded("the video was deleted")
        if video.storage_id != old.storage_id:  # otherwise it was moved back in another way
            prefix = storage_prefix(video.user_id, video.video_id)
            await expect_marker(old)
            await clear_target(old, prefix, ())
            log.info("moved_video_removed", video_id=str(video.video_id), storage=old.name)
        await self._do(moves.finish_move, claim)
        return "removed"

    def _spool(self, claim: MoveClaim, number: int) -> Any:
        return self.scratch.uploads / f"move-{claim.video_id}-{claim.attempt}-{number}.part"

    def _clear_spool(self) -> None:
        """Remove the remains of a mover that died; there is no other mover now."""
        for path in (self.scratch.uploads).glob("move-*.part"):
            path.unlink(missing_ok=True)


def _expect_whole(record: Audited, listed: Mapping[str, int]) -> None:
    """Raise CannotMove unless the records and the objects of a video are complete."""
    try:
        faults = compare(record, listed)
    except ValueError as error:
        raise CannotMove(f"its records are incomplete ({error}): upload the video again") from error
    if faults:
        raise CannotMove(f"{len(faults)} objects are missing or damaged: run fsck --repair first")
