"""Lost or damaged objects: fsck finds them and has exactly these made again."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from uuid import uuid4

from tests.e2e.system import REPO
from tests.e2e.test_faults import expect_whole


async def fsck(system, *options):
    """Return exit code and report of `python -m services.uploader fsck`."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.uploader", "fsck", "--json", *options),
        env=os.environ | system.given | system.env | {"SWEEP_AGE_SECONDS": "0.001"},
        cwd=REPO,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode in (0, 1), err.decode()
    return process.returncode, json.loads(out)


def damage_of(report, video_id):
    (found,) = [each for each in report["damaged"] if each["videoId"] == video_id]
    return found


def faults_of(report, video_id):
    return {(each["kind"], each["key"].split("/", 3)[3]) for each in damage_of(report, video_id)["faults"]}


async def attempts(system, video_id):
    files = await system.work_files(f"chunks/{video_id}")
    return {name.split("/")[0] for name in files if name.endswith(".ts")}


async def test_fsck_recreates_only_damaged_objects(s3_mode, long_clip, tmp_path):
    foreign = f"hls/alice/{uuid4()}/360p/segment_001.ts"
    async with s3_mode.client() as client, s3_mode.s3() as s3, s3_mode.events() as events:
        bucket = s3_mode.env["S3_BUCKET"]
        record = await client.ready((await client.upload(long_clip))["id"])
        video_id, prefix = record["id"], record["s3Key"]
        before = await attempts(s3_mode, video_id)
        assert len(before) > 1, "one chunk would prove nothing"
        assert not any(each["videoId"] == video_id for each in (await fsck(s3_mode))[1]["damaged"])

        await s3.delete_object(Bucket=bucket, Key=f"{prefix}/360p/segment_001.ts")
        await s3.put_object(Bucket=bucket, Key=f"{prefix}/480p/segment_001.ts", Body=b"half")
        await s3.delete_object(Bucket=bucket, Key=f"{prefix}/480p/playlist.m3u8")
        await s3.delete_object(Bucket=bucket, Key=f"{prefix}/thumbnail.jpg")
        await s3.put_object(Bucket=bucket, Key=foreign, Body=b"x")
        code, report = await fsck(s3_mode)
        assert code == 1
        assert foreign in [each["key"] for each in report["unowned"]]
        assert damage_of(report, video_id)["repair"] is None
        assert faults_of(report, video_id) == {
            ("missing", "360p/segment_001.ts"),
            ("wrong_size", "480p/segment_001.ts"),
            ("missing", "480p/playlist.m3u8"),
            ("missing", "thumbnail.jpg"),
        }

        _, report = await fsck(s3_mode, "--repair")
        assert damage_of(report, video_id)["repair"] == ["in_work"]
        again = await client.ready(video_id)
        await expect_whole(s3_mode, client, again, tmp_path)
        assert await attempts(s3_mode, video_id) == before, "what the encoder wrote is still there"
        assert len(await events.of(video_id, "video.stored", at_least=2)) == 2

        await s3_mode.remove_work(f"chunks/{video_id}")
        await s3.delete_object(Bucket=bucket, Key=f"{prefix}/360p/segment_001.ts")
        await s3.delete_object(Bucket=bucket, Key=f"{prefix}/thumbnail.jpg")
        _, report = await fsck(s3_mode, "--repair")
        assert damage_of(report, video_id)["repair"] == ["in_work"]
        await client.fetch(again["playlistUrl"])  # it plays on
        again = await client.ready(video_id)
        await expect_whole(s3_mode, client, again, tmp_path)
        assert {name.split("-")[0] for name in await attempts(s3_mode, video_id)} == {"00000"}
        assert (await client.fetch(again["thumbnailUrl"]))[:2] == b"\xff\xd8"
        await s3.delete_object(Bucket=bucket, Key=foreign)
        assert not any(each["videoId"] == video_id for each in (await fsck(s3_mode))[1]["damaged"])


async def test_fsck_repairs_what_it_can_when_the_original_is_gone(s3_mode, small_clip):
    async with s3_mode.client() as client, s3_mode.s3() as s3:
        record = await client.ready((await client.upload(small_clip))["id"])
        bucket, segment = s3_mode.env["S3_BUCKET"], f"{record['renditions'][0]['name']}/segment_001.ts"
        for place in ("chunks", "originals"):
            await s3_mode.remove_work(f"{place}/{record['id']}")
        await s3.delete_object(Bucket=bucket, Key=f"{record['s3Key']}/{segment}")
        code, report = await fsck(s3_mode, "--repair")
        assert (code, damage_of(report, record["id"])["repair"]) == (1, ["no_original"])
        assert (await client.record(record["id"]))["status"] == "ready"

        await s3.delete_object(Bucket=bucket, Key=f"{record['s3Key']}/master.m3u8")
        _, report = await fsck(s3_mode, "--repair")
        assert damage_of(report, record["id"])["repair"] == ["in_work", "no_original"]
        await client.fetch((await client.ready(record["id"]))["playlistUrl"])
        assert faults_of((await fsck(s3_mode))[1], record["id"]) == {("missing", segment)}
        await client.call("DELETE", f"/api/videos/{record['id']}", 204)
