"""Accepting a video: file, record and event are created together or not at all."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from shared import videos
from shared.errors import DatabaseUnavailable, StorageUnavailable
from shared.failpoints import failpoint

if TYPE_CHECKING:
    from services.ingest.uploads.admission import Admission
    from services.ingest.uploads.pace import UploadPace
    from shared.contracts.events import VideoUploaded
    from shared.database.pool import Connection
    from shared.messaging.outbox import Outbox
    from shared.videos import Video
    from shared.videos.presets import Preset
    from shared.workspace.interface import Upload

log = structlog.get_logger()


class CommitUnknown(DatabaseUnavailable):
    """The connection broke during a commit: Postgres may have committed, or may still do so."""


@dataclass(frozen=True)
class Terms:
    """Data stored with an upload besides its event: title, the presets when it started, and its size.

    `pace` defines how long to wait for Postgres.
    """

    title: str | None
    ladder: tuple[Preset, ...]
    original_bytes: int
    pace: UploadPace


async def accept_upload(
    outbox: Outbox, admission: Admission, incoming: Upload, event: VideoUploaded, terms: Terms
) -> Video:
    """Make the file durable and commit record and event; a failure leaves no record without its file.

    Raises TooManyProcessing, QuotaExceeded, OutOfDisk, StorageUnavailable, DatabaseUnavailable.
    """
    try:
        failpoint("upload.written")
        await incoming.keep()
        failpoint("upload.kept")
    except BaseException:
        await incoming.discard()
        raise
    try:
        video = await _commit(outbox, admission, incoming, event, terms)
    except (CommitUnknown, asyncio.CancelledError):
        await incoming.release()  # the sweep removes the file if no record needs it
        raise
    except BaseException:
        await incoming.discard()
        raise
    await incoming.release()
    failpoint("upload.committed")
    return video


async def _commit(
    outbox: Outbox, admission: Admission, incoming: Upload, event: VideoUploaded, terms: Terms
) -> Video:
    """Commit row and event; waits for Postgres for a while rather than losing the upload.

    Raises CommitUnknown when any attempt may have committed, else DatabaseUnavailable, StorageUnavailable;
    TooManyProcessing, QuotaExceeded.
    """
    loop = asyncio.get_running_loop()
    give_up_at, is_unknown = loop.time() + terms.pace.patience_seconds, False
    while True:
        try:
            return await _commit_once(outbox, admission, incoming, event, terms)
        except StorageUnavailable as error:
            raise CommitUnknown(error.message) if is_unknown else error from error
        except DatabaseUnavailable as error:
            is_unknown |= isinstance(error, CommitUnknown)
            if loop.time() >= give_up_at:
                raise CommitUnknown(error.message) if is_unknown else error from error
            log.warning("commit_waits", video_id=str(event.video_id), error=error.message)
        await asyncio.sleep(terms.pace.pause_seconds)


async def _insert(connection: Connection, event: VideoUploaded, terms: Terms) -> bool:
    return await videos.accept(
        connection, event, title=terms.title, ladder=terms.ladder, original_bytes=terms.original_bytes
    )


async def _commit_once(
    outbox: Outbox, admission: Admission, incoming: Upload, event: VideoUploaded, terms: Terms
) -> Video:
    video = None
    try:
        async with outbox.transaction() as connection:
            # The id is new with this upload: an existing record was committed by an earlier attempt.
            if is_new := await _insert(connection, event, terms):
                await admission.confirm(connection, event.user_id)
                await outbox.add(connection, event)
            video = await videos.get(connection, event.video_id)
            if is_new:
                incoming.expect_claim()  # last: what follows is the commit
    except DatabaseUnavailable as error:
        if video is None:
            raise
        raise CommitUnknown(error.message) from error
    assert video is not None  # noqa: S101 - it was inserted above
    return video
