"""Services that die, and a storage outage, during a conversion."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.system import IN_BUCKET

NAMES = {"480p", "360p"}


async def expect_whole(system, client, record, tmp_path, *, seconds=24):
    """No segment is missing or doubled, in storage and on the way to the player."""
    assert record["durationSeconds"] == pytest.approx(seconds, abs=0.05)
    played = await client.play(record, tmp_path)
    assert set(played) == NAMES
    expected = [f"segment_{number:03d}.ts" for number in range(1, seconds // 2 + 1)]
    assert all(each.segments == expected for each in played.values())
    assert {each.frames for each in played.values()} == {seconds * 25}
    assert all(each.even_steps for each in played.values())
    stored = await system.bucket(record["s3Key"])
    segments = sorted(key for key in stored if key.endswith(".ts"))
    assert segments == sorted(f"{name}/{file}" for name in NAMES for file in expected)


async def encodes(events, video_id):
    """Return the directories of finished attempts at chunks, without those in progress."""
    segmented = await events.of(video_id, "video.segmented")
    return {Path(segment["path"]).parents[1] for event in segmented for segment in event["segments"]}


@pytest.mark.parametrize("part", ["ingest", "transcoder-1", "uploader", "streamer"])
async def test_video_ends_ready_when_a_service_is_killed_in_the_middle(s3_mode, long_clip, tmp_path, part):
    async with s3_mode.client() as client, s3_mode.events() as events:
        video_id = (await client.upload(long_clip))["id"]
        await client.until(video_id, lambda record: record["playable"])
        assert (await client.record(video_id))["status"] == "processing"
        s3_mode.kill(part)
        s3_mode.up()
        await expect_whole(s3_mode, client, await client.ready(video_id), tmp_path)
        assert len(await events.of(video_id, "video.stored", at_least=1)) == 1
        assert await events.of(video_id, "video.failed") == []


@pytest.mark.skipif(IN_BUCKET, reason="the work bucket is on the stopped server: see test_work_bucket.py")
async def test_retry_encodes_nothing_again_after_an_outage_during_upload(s3_mode, long_clip, tmp_path):
    if not s3_mode.runs("seaweedfs"):
        pytest.skip("the S3 server is not ours to stop")
    async with s3_mode.client() as client, s3_mode.events() as events:
        video_id = (await client.upload(long_clip))["id"]
        await client.until(video_id, lambda record: record["playable"])
        s3_mode.kill("seaweedfs")
        error = await client.until(video_id, lambda record: record["status"] == "failed")
        fault = error["error"]
        assert (fault["reason"], fault["retryable"]) == ("storage_unavailable", True)
        assert fault["stage"] == "upload"
        assert len(await events.of(video_id, "video.failed", at_least=1)) == 1
        encoded = await encodes(events, video_id)
        assert encoded, "encoded chunks are kept"

        s3_mode.up()
        assert "source" in await s3_mode.work_files(f"originals/{video_id}"), "the original is kept"
        again = await client.call("POST", f"/api/videos/{video_id}/retry", 202)
        assert (again["status"], again["error"]) == ("processing", None)
        ready = await client.ready(video_id)
        await expect_whole(s3_mode, client, ready, tmp_path)
        after = await encodes(events, video_id)
        assert encoded <= after
        chunks = [path.name.split("-")[0] for path in after]
        assert len(chunks) == len(set(chunks)), "no chunk that was encoded was encoded again"
        assert all([await s3_mode.work_files(str(path)) for path in encoded]), "it is still there"
        assert len(await events.of(video_id, "video.stored", at_least=1)) == 1


async def test_retry_is_refused_when_the_video_has_not_failed(s3_mode, small_clip):
    async with s3_mode.client() as client:
        ready = await client.ready((await client.upload(small_clip))["id"])
        refused = await client.call("POST", f"/api/videos/{ready['id']}/retry", 409)
    assert refused["reason"] == "not_failed"


async def test_video_ends_ready_when_the_queues_are_purged_in_the_middle(s3_mode, long_clip, tmp_path):
    s3_mode.up(RECONCILE_SECONDS="3")
    try:
        async with s3_mode.client() as client, s3_mode.events() as events:
            video_id = (await client.upload(long_clip))["id"]
            await client.until(video_id, lambda record: record["playable"])
            assert await s3_mode.purge() > 0, "commands were lost"
            assert (await client.record(video_id))["status"] == "processing"
            await expect_whole(s3_mode, client, await client.ready(video_id), tmp_path)
            assert len(await events.of(video_id, "video.stored", at_least=1)) == 1
        assert "video_resumed" in s3_mode.log("uploader")
    finally:
        s3_mode.up(RECONCILE_SECONDS="600")
