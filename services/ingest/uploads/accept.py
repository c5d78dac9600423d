"""Accepting a video: file, record and event are created together or not at all."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from shared import videos
from shared.errors import DatabaseUnavailable
from shared.failpoints import failpoint

if TYPE_CHECKING:
    from uuid import UUID

    from services.ingest.uploads.admission import Admission
    from services.ingest.uploads.upload_file import Incoming
    from shared.contracts.events import VideoUploaded
    from shared.messaging.outbox import Outbox
    from shared.videos import Video

CONFIRM_TRIES, CONFIRM_SECONDS = 3, 0.5

log = structlog.get_logger()


class CommitUnknown(DatabaseUnavailable):
    """The connection broke during a commit: Postgres may have committed, or may still do so."""


async def accept_upload(
    outbox: Outbox, admission: Admission, incoming: Incoming, event: VideoUploaded, title: str | None
) -> Video:
    """Make the file durable and commit record and event; a failure leaves no record without its file.

    Raises TooManyProcessing, OutOfDisk, StorageUnavailable, DatabaseUnavailable.
    """
    try:
        failpoint("upload.written")
        await incoming.keep()
        failpoint("upload.kept")
    except BaseException:
        await incoming.discard()
        raise
    try:
        video = await _commit(outbox, admission, event, title)
    except (CommitUnknown, asyncio.CancelledError):
        await incoming.release()  # the sweep removes the file if no record needs it
        raise
    except BaseException:
        await incoming.discard()
        raise
    await incoming.release()
    failpoint("upload.committed")
    return video


async def _commit(outbox: Outbox, admission: Admission, event: VideoUploaded, title: str | None) -> Video:
    video = None
    try:
        async with outbox.transaction() as connection:
            await videos.accept(connection, event, title=title)
            await admission.confirm(connection, event.user_id)
            await outbox.add(connection, event)
            video = await videos.get(connection, event.video_id)
    except DatabaseUnavailable as error:
        if video is None:
            raise
        video = await _find(outbox, event.video_id)
        if video is None:
            raise CommitUnknown(error.message) from error
    assert video is not None  # noqa: S101 - it was inserted above
    return video


async def _find(outbox: Outbox, video_id: UUID) -> Video | None:
    for _ in range(CONFIRM_TRIES):
        await asyncio.sleep(CONFIRM_SECONDS)
        try:
            async with outbox.database.transaction() as connection:
                return await videos.get(connection, video_id)
        except DatabaseUnavailable as error:
            log.warning("commit_unknown", video_id=str(video_id), error=str(error))
    return None
