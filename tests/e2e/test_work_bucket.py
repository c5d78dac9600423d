"""WORK=bucket: no process sees a file of another one; convert, play, delete, and an outage of the bucket."""

from __future__ import annotations

import asyncio

import pytest

from tests.e2e.system import System, make_clip

OUTAGE_SECONDS = 3.0
MARKERS = {"vod-volume.json"}


@pytest.fixture(scope="module")
def system(outside_servers, tmp_path_factory):
    """A private stack, whose S3 server may be killed."""
    running = System(tmp_path_factory.mktemp("bucket"))
    try:
        running.up(
            WORK="bucket",
            STORAGE_TYPE="s3",
            DELETE_LOCAL_AFTER_S3="true",
            HLS_SEGMENT_SECONDS="2",
            CHUNK_SECONDS="4",
            RETRY_SECONDS="0.2",
            LEASE_SECONDS="4",
            DRAIN_SECONDS="2",
            DELETE_AGAIN_SECONDS="0",
        )
        yield running
    finally:
        running.down()


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Nine seconds of 360p with sound: five segments."""
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", seconds=9)


async def handed_over(system, ended=MARKERS):
    """Return the content of the work bucket once nothing is left of any video, or after 20 s."""
    for _ in range(100):
        if not (left := (await system.bucket("work")).keys() - ended):
            break
        await asyncio.sleep(0.2)
    return left


async def test_video_is_converted_played_and_deleted_and_nothing_is_left_of_it(system, clip, tmp_path):
    async with system.client() as client:
        record = await client.ready((await client.upload(clip))["id"])
        played = await client.play(record, tmp_path)
        assert played["360p"].frames == 225
        assert len(played["360p"].segments) == 5
        assert await handed_over(system) == set(), "original and segments are no longer needed"
        await client.call("DELETE", f"/api/videos/{record['id']}", 204)
        async with asyncio.timeout(30):
            while await system.bucket(record["s3Key"]):
                await asyncio.sleep(0.2)


async def test_originals_and_chunks_cannot_be_read_through_the_streamer(system, clip):
    async with system.client() as client:
        video_id = (await client.upload(clip))["id"]
        for path in (
            f"work/originals/{video_id}/source",
            f"{video_id}/../../work/originals/{video_id}/source",
        ):
            url = f"{system.env['STREAMER_URL']}/api/stream/{path}"
            async with client.session.get(url) as answer:
                assert answer.status in (400, 404)
        await client.ready(video_id)


@pytest.mark.timeout(240)
async def test_videos_go_on_by_themselves_after_an_outage_of_both_buckets(system, tmp_path):
    if not system.runs("seaweedfs"):
        pytest.skip("the S3 server is not ours to stop")
    clip = make_clip(tmp_path / "long.mp4", seconds=16, size="320x180", sound=False)
    async with system.client() as client, system.events() as events:
        ids = [(await client.upload(clip))["id"] for _ in range(2)]
        system.kill("seaweedfs")
        await asyncio.sleep(OUTAGE_SECONDS)
        system.up()
        for video_id in ids:
            record = await client.ready(video_id, seconds=150)
            played = await client.play(record, tmp_path)
            assert {each.frames for each in played.values()} == {400}
            assert len(await events.of(video_id, "video.stored", at_least=1)) == 1
            assert await events.of(video_id, "video.failed") == []
        assert await handed_over(system) == set()
