"""The faults: each is played once on services that are whole, and once without the guard that is on trial.

The stage keeps what the system has accepted. A play stops processes where it wants them (crash points) and
waits for what it can see; nothing in it depends on how fast the machine is.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.chaos.ablation.stage import Stage


async def late_encode(stage: Stage) -> None:
    """A transcoder stops with a chunk encoded; another does it, the video is ready, the first goes on."""
    stage.arm("encode.verified")
    await stage.start("transcoder", "uploader", one_core=True)
    video = await stage.hand_in()
    zombie = await stage.stopped("encode.verified")
    zombie.lose_broker()
    await stage.start("transcoder")
    await stage.until(video, "status = 'ready'")
    await stage.relive(zombie, "transcoder.first.handled")


async def late_finish(stage: Stage) -> None:
    """An uploader stops with all playlists put; another finishes the video, the first goes on."""
    stage.arm("finish.playlists_put")
    await stage.start("transcoder", "uploader")
    await stage.hand_in()
    zombie = await stage.stopped("finish.playlists_put")
    stage.arm("finish.committed")
    zombie.lose_broker()
    await stage.start("uploader")
    other = await stage.stopped("finish.committed")  # now none but the zombie can come on
    await stage.relive(zombie, "uploader.store.handled")
    other.wake()


async def late_put(stage: Stage) -> None:
    """An uploader stops in the middle of a put; the video is deleted and purged, the first goes on."""
    stage.arm("s3.upload_begun")
    await stage.start("transcoder", "uploader")
    video = await stage.hand_in()
    zombie = await stage.stopped("s3.upload_begun")
    zombie.lose_broker()
    (ingest,) = await stage.start("ingest")
    path = f"/api/videos/{video.video_id}"
    await stage.call(ingest, await stage.admin_key(), "DELETE", path, expect=204)
    stage.arm("delete.committed")
    await stage.start("uploader")
    other = await stage.stopped("delete.committed")
    stage.arm("delete.committed")
    other.wake()  # it sweeps twice
    await stage.stopped("delete.committed")
    await stage.relive(zombie, "uploader.store.handled")
    other.wake()
    stage.accepted(video.video_id, "deleted")


async def killed_after_commit(stage: Stage) -> None:
    """An uploader is killed when it has committed that a video is ready, before it does anything else."""
    stage.arm("finish.committed")
    await stage.start("transcoder", "uploader")
    await stage.hand_in()
    await (await stage.stopped("finish.committed")).kill()
    await stage.start("uploader")


async def killed_in_work(stage: Stage) -> None:
    """A transcoder is killed when it has taken on a chunk."""
    stage.arm("encode.claimed")
    await stage.start("transcoder", "uploader")
    await stage.hand_in()
    await (await stage.stopped("encode.claimed")).kill()
    await stage.start("transcoder")


async def killed_after_answer(stage: Stage) -> None:
    """An ingest is killed as soon as its client has the answer 202."""
    ingest, *_ = await stage.start("ingest", "transcoder", "uploader")
    await stage.upload(ingest, await stage.admin_key())
    await ingest.kill()


async def lost_queue(stage: Stage) -> None:
    """The broker loses the command to encode a chunk."""
    stage.arm("plan.committed")
    await stage.start("transcoder", "uploader")
    await stage.hand_in()
    planner = await stage.stopped("plan.committed")
    await stage.purge("transcoder.first")
    planner.wake()


async def half_kept(stage: Stage) -> None:
    """S3 says that it has kept an object, and has kept the first half of it."""
    stage.s3.fail("shortened", 1, "PUT")
    await stage.start("transcoder", "uploader")
    await stage.hand_in()


async def late_record(stage: Stage) -> None:
    """An ingest stops with an upload's file in its place, and no record of it; sweeps come by, it goes on."""
    ingest, uploader, _ = await stage.start("ingest", "uploader", "transcoder")
    key = await stage.admin_key()
    await stage.upload(ingest, key)  # without any record nothing is swept
    stage.arm("upload.kept")
    uploading = asyncio.create_task(stage.upload(ingest, key))
    await stage.stopped("upload.kept")
    await stage.swept(uploader)
    ingest.wake()
    await uploading
