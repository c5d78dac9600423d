"""The faults: each is played once on services that are whole, and once without the guard that is on trial.

A play returns what the system has accepted. It stops processes where it wants them (crash points) and waits
for what it can see; nothing in it depends on how fast the machine is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.chaos.controls.stage import Stage
    from tests.chaos.judge import Accepted


async def late_encode(stage: Stage) -> Accepted:
    """A transcoder stops with a chunk encoded; another does it, the video is ready, the first goes on."""
    stage.arm("encode.verified")
    await stage.start("transcoder", "uploader", one_core=True)
    video = await stage.hand_in()
    zombie = await stage.stopped("encode.verified")
    zombie.lose_broker()
    await stage.start("transcoder")
    await stage.until(video, "status = 'ready'")
    await stage.relive(zombie, "transcoder.first.handled")
    return video


async def late_finish(stage: Stage) -> Accepted:
    """An uploader stops with all playlists put; another finishes the video, the first goes on."""
    stage.arm("finish.playlists_put")
    await stage.start("transcoder", "uploader")
    video = await stage.hand_in()
    zombie = await stage.stopped("finish.playlists_put")
    stage.arm("finish.committed")
    zombie.lose_broker()
    await stage.start("uploader")
    other = await stage.stopped("finish.committed")  # now none but the zombie can come on
    await stage.relive(zombie, "uploader.store.handled")
    other.wake()
    return video


async def late_put(stage: Stage) -> Accepted:
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
    return stage.accepted(video.video_id, "deleted")


async def killed_after_commit(stage: Stage) -> Accepted:
    """An uploader is killed when it has committed that a video is ready, before it does anything else."""
    stage.arm("finish.committed")
    await stage.start("transcoder", "uploader")
    video = await stage.hand_in()
    await (await stage.stopped("finish.committed")).kill()
    await stage.start("uploader")
    return video


async def killed_in_work(stage: Stage) -> Accepted:
    """A transcoder is killed when it has taken on a chunk."""
    stage.arm("encode.claimed")
    await stage.start("transcoder", "uploader")
    video = await stage.hand_in()
    await (await stage.stopped("encode.claimed")).kill()
    await stage.start("transcoder")
    return video


async def killed_after_answer(stage: Stage) -> Accepted:
    """An ingest is killed as soon as its client has the answer 202."""
    ingest, *_ = await stage.start("ingest", "transcoder", "uploader")
    video = await stage.upload(ingest, await stage.admin_key())
    await ingest.kill()
    return video


async def lost_queue(stage: Stage) -> Accepted:
    """The broker loses the command to encode a chunk."""
    stage.arm("plan.committed")
    await stage.start("transcoder", "uploader")
    video = await stage.hand_in()
    planner = await stage.stopped("plan.committed")
    await stage.purge("transcoder.first")
    planner.wake()
    return video


async def half_kept(stage: Stage) -> Accepted:
    """S3 says that it has kept an object, and has kept the first half of it."""
    stage.s3.fail("shortened", 1, "PUT")
    await stage.start("transcoder", "uploader")
    return await stage.hand_in()
