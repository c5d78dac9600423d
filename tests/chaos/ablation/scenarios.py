"""The scenarios: each runs once with all guards and once without the guard on trial.

The testbed records what the system has accepted. A scenario stops processes at failpoints and waits for
observable states; nothing depends on the speed of the machine.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.chaos.ablation.testbed import Testbed


async def late_encode(testbed: Testbed) -> None:
    """A transcoder pauses with a chunk encoded; another encodes it; the first continues later."""
    testbed.arm("encode.verified")
    await testbed.start("transcoder", "uploader", one_core=True)
    video = await testbed.submit()
    zombie = await testbed.stopped("encode.verified")
    zombie.lose_broker()
    await testbed.start("transcoder")
    await testbed.until(video, "status = 'ready'")
    await testbed.resume_until(zombie, "transcoder.first.handled")


async def late_finish(testbed: Testbed) -> None:
    """An uploader pauses with all playlists put; another finishes the video, the first continues."""
    testbed.arm("finish.playlists_put")
    await testbed.start("transcoder", "uploader")
    await testbed.submit()
    zombie = await testbed.stopped("finish.playlists_put")
    testbed.arm("finish.committed")
    zombie.lose_broker()
    await testbed.start("uploader")
    other = await testbed.stopped("finish.committed")  # from here on only the zombie is active
    await testbed.resume_until(zombie, "uploader.store.handled")
    other.wake()


async def late_put(testbed: Testbed) -> None:
    """An uploader pauses in the middle of a put; the video is deleted and purged, the first continues."""
    testbed.arm("s3.upload_begun")
    await testbed.start("transcoder", "uploader")
    video = await testbed.submit()
    zombie = await testbed.stopped("s3.upload_begun")
    zombie.lose_broker()
    (ingest,) = await testbed.start("ingest")
    path = f"/api/videos/{video.video_id}"
    await testbed.call(ingest, await testbed.admin_key(), "DELETE", path, expect=204)
    testbed.arm("delete.committed")
    await testbed.start("uploader")
    other = await testbed.stopped("delete.committed")
    testbed.arm("delete.committed")
    other.wake()  # for the second pass
    await testbed.stopped("delete.committed")
    await testbed.resume_until(zombie, "uploader.store.handled")
    other.wake()
    testbed.accepted(video.video_id, "deleted")


async def killed_after_commit(testbed: Testbed) -> None:
    """An uploader is killed right after it has committed that a video is ready."""
    testbed.arm("finish.committed")
    await testbed.start("transcoder", "uploader")
    await testbed.submit()
    await (await testbed.stopped("finish.committed")).kill()
    await testbed.start("uploader")


async def killed_in_work(testbed: Testbed) -> None:
    """A transcoder is killed with a claimed chunk."""
    testbed.arm("encode.claimed")
    await testbed.start("transcoder", "uploader")
    await testbed.submit()
    await (await testbed.stopped("encode.claimed")).kill()
    await testbed.start("transcoder")


async def killed_after_encode(testbed: Testbed) -> None:
    """A transcoder is lost with its scratch right after it has committed a chunk."""
    testbed.arm("encode.committed")
    await testbed.start("transcoder", "uploader")
    await testbed.submit()
    await (await testbed.stopped("encode.committed")).kill()
    await testbed.start("transcoder")


async def killed_after_answer(testbed: Testbed) -> None:
    """An ingest is killed as soon as its client has the answer 202."""
    ingest, *_ = await testbed.start("ingest", "transcoder", "uploader")
    await testbed.upload(ingest, await testbed.admin_key())
    await ingest.kill()


async def lost_queue(testbed: Testbed) -> None:
    """The broker loses the command to encode a chunk."""
    testbed.arm("plan.committed")
    await testbed.start("transcoder", "uploader")
    await testbed.submit()
    planner = await testbed.stopped("plan.committed")
    await testbed.purge("transcoder.first")
    planner.wake()


async def half_kept(testbed: Testbed) -> None:
    """S3 reports success but keeps only the first half of an object."""
    testbed.s3.fail("shortened", 1, "PUT")
    await testbed.start("transcoder", "uploader")
    await testbed.submit()


async def late_record(testbed: Testbed) -> None:
    """An ingest pauses with the original in place but no record; sweeps run, then it continues."""
    ingest, uploader, _ = await testbed.start("ingest", "uploader", "transcoder")
    key = await testbed.admin_key()
    await testbed.upload(ingest, key)  # the sweep refuses to run without any record
    testbed.arm("upload.kept")
    uploading = asyncio.create_task(testbed.upload(ingest, key))
    await testbed.stopped("upload.kept")
    await testbed.swept(uploader)
    ingest.wake()
    await uploading
