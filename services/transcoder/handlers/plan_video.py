"""Handlers of the plan stage: create a video's plan, its chunks and the commands to encode them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import structlog

from services.transcoder.encode.thumbnail import is_read_through
from services.transcoder.handlers.leases import PlanLease
from services.transcoder.handlers.segmented_event import segmented_event
from services.transcoder.plan.former_ladder import kept_of
from services.transcoder.plan.model import Plan
from services.transcoder.plan.unavailable_qualities import unmet_wishes
from services.transcoder.plan.versions import OutdatedPlan
from services.transcoder.probe.scan_parts import NeedsWhole
from shared import videos
from shared.artifacts import THUMBNAIL
from shared.contracts.events import DeleteVideo, EncodeChunk
from shared.contracts.warnings import VideoWarning, WarningCode
from shared.errors import (
    Deferred,
    OutOfDisk,
    PermanentError,
    SourceError,
    SourceServerUnavailable,
    Superseded,
    TransientError,
    described,
)
from shared.failpoints import failpoint
from shared.messaging.outbox import drop_unsent
from shared.service.leases import leased
from shared.videos import presets
from shared.workspace import names

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path
    from uuid import UUID

    from services.transcoder.plan.former_ladder import Kept
    from services.transcoder.plan.ladder import Offer
    from services.transcoder.probe.scan_parts import Need
    from services.transcoder.sources.opened_source import OpenedSource, Originals
    from shared.contracts.events import ResumeVideo, VideoUploaded
    from shared.database.pool import Connection
    from shared.messaging.outbox import Outbox
    from shared.storage.placement import StorageRules
    from shared.videos import PlanClaim, Video
    from shared.videos.presets import Preset
    from shared.workspace.disk_budget import DiskBudget
    from shared.workspace.interface import Workspace

REMOVAL_SECONDS = 5.0
THUMBNAIL_BYTES = 4 * 1024**2  # larger than any thumbnail

log = structlog.get_logger()


class MakePlan(Protocol):
    """Creates the plan for a file (plan/make_plan.py)."""

    async def __call__(
        self,
        path: Path,
        presets: Sequence[Offer],
        requested: Collection[str],
        *,
        kept: Kept | None,
        need: Need | None = ...,
    ) -> Plan: ...


class Adapt(Protocol):
    """Adapts a plan's ladder to the video (quality/per_title.py)."""

    async def __call__(self, plan: Plan, source_path: Path, /, *, keep_all: bool) -> Plan: ...


class MakeThumbnail(Protocol):
    """Draws the thumbnail of a planned file (encode/thumbnail.py)."""

    async def __call__(self, plan: Plan, source_path: Path, target: Path, /) -> None: ...


@dataclass(frozen=True)
class PlanVideoHandler:
    """Plans videos; its two handlers serve the queue transcoder.plan.

    Videos get the default visibility of `rules` unless their event sets one.
    """

    outbox: Outbox
    work: Workspace
    sources: Originals
    room: DiskBudget
    make_plan: MakePlan
    make_thumbnail: MakeThumbnail
    lease_seconds: float
    rules: StorageRules
    adapt: Adapt | None = None

    async def accept(self, event: VideoUploaded) -> None:
        """Create the record of a submitted video; a second message about it changes nothing.

        Different data for a failed or deleted video starts a new run. Raises Deferred while the remains of
        the earlier run are being removed.
        """
        async with self.outbox.transaction() as connection:
            ladder = await presets.all_presets(connection)
            is_new = await videos.accept(
                connection, event, visibility=self.rules.default_visibility, ladder=ladder
            )
            step = "nothing" if is_new else await self._begin_anew(connection, event, ladder)
        if step in ("wait", "delete"):
            raise Deferred("the earlier run of the video is still being removed", seconds=REMOVAL_SECONDS)
        async with self.outbox.database.transaction() as connection:
            video = await _wanted(connection, event.video_id)
        failpoint("plan.accepted")
        if (video.user_id, video.source_uri) != (event.user_id, event.source.uri):
            raise Superseded(f"the id belongs to another video of {video.user_id}")

    async def _begin_anew(
        self, connection: Connection, event: VideoUploaded, ladder: Sequence[Preset]
    ) -> str:
        step = await videos.next_step(connection, event, self.work.uri_of(event.video_id))
        if step == "begin":
            await drop_unsent(connection, event.video_id)
            for directory in (names.chunks_of(event.video_id), names.originals_of(event.video_id)):
                await self.work.remove(directory)
            visibility = self.rules.default_visibility
            await videos.begin_anew(connection, event, visibility=visibility, ladder=ladder)
            log.info("begun_anew", video_id=str(event.video_id))
        elif step == "delete" and await videos.delete(connection, event.video_id):
            await drop_unsent(connection, event.video_id)
            await self.outbox.add(connection, DeleteVideo(video_id=event.video_id))
        return step

    async def uploaded(self, event: VideoUploaded) -> None:
        """Plan an accepted video, unless it is already planned."""
        async with self.outbox.transaction() as connection:
            video = await _wanted(connection, event.video_id)
        if video.is_planned:
            raise Superseded("the video is already planned")
        await self._plan_leased(video)

    async def resume(self, command: ResumeVideo) -> None:
        """Continue a video where it stopped: announce all unfinished work again."""
        async with self.outbox.transaction() as connection:
            video = await _wanted(connection, command.video_id)
        if not video.is_planned:
            await self._plan_leased(video)
            return
        await self._draw_again(video)
        async with self.outbox.transaction() as connection:
            await self._announce_unfinished(connection, await _wanted(connection, command.video_id))

    async def _draw_again(self, video: Video) -> None:
        """Draw a lost thumbnail again if the original exists; the video continues without one."""
        thumbnail = video.thumbnail_path
        if thumbnail is None or await self.work.sizes([thumbnail]):
            return
        async with self.outbox.database.transaction() as connection:
            stored = await videos.plan_without_chunks(connection, video.video_id)
        try:
            plan = Plan.from_json(stored)
            size = await self.sources.size(video.video_id, video.source_uri)
            if size is not None and plan.source_bytes in (None, size):
                async with self.sources.open(video.video_id, video.source_uri) as source:
                    await source.need_all()
                    await self._draw(plan, source.path, thumbnail)
        except (PermanentError, TransientError, OutOfDisk, OSError, OutdatedPlan) as error:
            log.warning("thumbnail_is_lost", error=described(error))

    async def _draw(self, plan: Plan, source: Path, thumbnail: str) -> None:
        path = self.work.scratch.root / thumbnail
        async with self.room.reserve(THUMBNAIL_BYTES):
            await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
            await self.make_thumbnail(plan, source, path)
        await self.work.hand_over([thumbnail])
        await self.work.clear_scratch(thumbnail)

    async def _draw_if_possible(self, plan: Plan, source: Path, thumbnail: str) -> Plan:
        """Draw the thumbnail; a video without one is still valid, and gets a warning."""
        try:
            await self._draw(plan, source, thumbnail)
        except (PermanentError, TransientError) as error:
            log.warning("thumbnail_is_lost", error=described(error))
            missing = VideoWarning(code=WarningCode.THUMBNAIL_MISSING, message="no thumbnail could be made")
            return replace(plan, warnings=(*plan.warnings, missing))
        return plan

    async def _plan_leased(self, video: Video) -> None:
        async with leased(PlanLease(self.outbox, video.video_id, self.lease_seconds)) as held:
            await held.run(self._plan(video, held.claim))

    async def _plan(self, video: Video, claim: PlanClaim) -> None:
        """Probe, plan, draw the thumbnail, and commit everything with the commands."""
        await self._check_storage(video)
        await self._fetch(video)
        failpoint("plan.fetched")
        async with self.outbox.database.transaction() as connection:
            ladder = await presets.ladder_of(connection, video.video_id)
            wanted = video.qualities or await presets.preferences_of(connection, video.user_id)
        kept = kept_of(claim.former_plan)
        if kept is None:
            presets.check_qualities(ladder, wanted)
        thumbnail = names.artifact_of(THUMBNAIL, video.video_id, claim.attempt)
        async with self.sources.open(video.video_id, video.source_uri) as source:
            plan = await self._make_plan(source, ladder, wanted, kept)
            if self.adapt and kept is None:
                await source.need_all()
                plan = await self.adapt(plan, source.path, keep_all=bool(wanted))
            if is_read_through(plan):
                await source.need_all()
            plan = await self._draw_if_possible(plan, source.path, thumbnail)
        failpoint("plan.thumbnail")
        warnings = unmet_wishes(video.qualities or (), plan.rungs, plan.display_size)
        await self._commit(claim, replace(plan, warnings=(*plan.warnings, *warnings)), thumbnail)

    async def _make_plan(
        self, source: OpenedSource, ladder: Sequence[Offer], wanted: Collection[str], kept: Kept | None
    ) -> Plan:
        """Plan from only the necessary parts of a remote source.

        From the whole source if parts do not suffice.
        """
        if source.is_remote:
            try:
                return await self.make_plan(source.path, ladder, wanted, kept=kept, need=source.need)
            except (NeedsWhole, SourceError) as error:
                log.info("source_fetched_to_plan", why=described(error))
            await source.need_all()
        return await self.make_plan(source.path, ladder, wanted, kept=kept)

    async def _check_storage(self, video: Video) -> None:
        """Check, before anything is encoded. Raises UnknownStorage, PrivateNotPossible."""
        async with self.outbox.database.transaction() as connection:
            wish = await videos.storage_wish(connection, video.video_id)
        if wish and video.location is None:
            self.rules.choose(wish)

    async def _fetch(self, video: Video) -> None:
        """Fetch the source; the record gets a warning while the source's server is unavailable."""
        try:
            await self.sources.fetch(video.video_id, video.source_uri)
        except SourceServerUnavailable as error:
            waiting = VideoWarning(
                code=WarningCode.SOURCE_WAITING, message=f"Waiting for its server: {error}"
            )
            async with self.outbox.transaction() as connection:
                await videos.clear_warning(connection, video.video_id, WarningCode.SOURCE_WAITING)
                await videos.add_warnings(connection, video.video_id, [waiting])
            raise

    async def _commit(self, claim: PlanClaim, plan: Plan, thumbnail: str) -> None:
        stored = await asyncio.to_thread(plan.to_json)
        async with self.outbox.transaction() as connection:
            saved = await videos.save_plan(
                connection,
                claim,
                plan=stored,
                presentation=plan.presentation().to_json(),
                chunk_seconds=[plan.seconds_in(chunk) for chunk in plan.chunks],
                thumbnail_path=thumbnail,
                duration_seconds=plan.duration_seconds,
                size=plan.display_size,
                warnings=plan.warnings,
                report=plan.report,
            )
            if not saved:
                raise Superseded(
                    f"attempt {claim.attempt} at the plan lost its claim, or the video has ended"
                )
            for index in range(len(plan.chunks)):
                await self.outbox.add(connection, EncodeChunk(video_id=claim.video_id, chunk=index))
        failpoint("plan.committed")
        log.info("planned", chunks=len(plan.chunks), duration_seconds=plan.duration_seconds)

    async def _announce_unfinished(self, connection: Connection, video: Video) -> None:
        chunks = await videos.chunks_of(connection, video.video_id)
        for chunk in chunks:
            if chunk.status in ("pending", "encoding"):
                await self.outbox.add(connection, EncodeChunk(video_id=video.video_id, chunk=chunk.chunk))
            elif chunk.status == "encoded" or chunk is chunks[-1]:  # the last one, to finish the video
                event = await segmented_event(
                    connection, video.video_id, video.user_id, chunk.chunk, len(chunks)
                )
                await self.outbox.add(connection, event)


async def _wanted(connection: Connection, video_id: UUID) -> Video:
    video = await videos.get(connection, video_id)
    if video is None or video.status != "processing":
        raise Superseded(f"the video is {video.status if video else 'unknown'}")
    return video
