"""The transition for a corrected event (transcoder): a failed or deleted video is processed again.

A wrong event does not use up the id that a platform chose. Only data that the video was not accepted with
starts a new run, so that a redelivered event, however late, changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from shared.videos.presets import ladder_to_json
from shared.videos.record import digest_of
from shared.videos.sql_results import sql

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.contracts.events import VideoUploaded, Visibility
    from shared.database.pool import Connection
    from shared.videos.presets import Preset

Step = Literal["nothing", "wait", "delete", "begin"]


async def next_step(connection: Connection, event: VideoUploaded, upload_uri: str) -> Step:
    """Return the step that an event about a known video requires.

    The video is locked until the transaction ends. "wait": a worker, or the deletion, has not finished with
    the earlier run. "delete": its objects have to be removed first. Uploaded videos (from `upload_uri`) can
    only be retried by their owner.
    """
    row = await sql.lock_for_event(
        connection,
        video_id=event.video_id,
        user_id=event.user_id,
        source_uri=event.source.uri,
        digest=digest_of(event),
    )
    if row is None or row["is_known"] or row["source_uri"] == upload_uri:
        return "nothing"
    if row["status"] == "deleted":
        return "begin" if row["is_purged"] else "wait"
    if row["status"] != "failed":
        return "nothing"
    if row["is_held"]:
        return "wait"
    return "begin" if row["storage_type"] is None else "delete"


async def begin_anew(
    connection: Connection, event: VideoUploaded, *, visibility: Visibility, ladder: Sequence[Preset]
) -> None:
    """Process a video again for an event; `next_step` returned "begin" in the same transaction.

    `visibility` is the default for events that set none.
    """
    await sql.begin_anew(
        connection,
        video_id=event.video_id,
        user_id=event.user_id,
        filename=event.filename,
        source_uri=event.source.uri,
        qualities=event.qualities,
        visibility=event.visibility or visibility,
        delivery=event.delivery,
        wished_storage=event.storage,
        ladder=ladder_to_json(ladder),
        digest=digest_of(event),
    )
    await sql.delete_segments(connection, video_id=event.video_id)
    await sql.delete_chunks(connection, video_id=event.video_id)
