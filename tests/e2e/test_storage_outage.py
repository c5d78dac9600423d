"""Videos in the upload stage while the S3 server is killed: all become ready, nothing is encoded twice."""

from __future__ import annotations

import asyncio
import json
import os

import aiohttp
import pytest

from tests.e2e.system import IN_BUCKET, System, make_clip

OUTAGE_SECONDS = float(os.environ.get("STORAGE_OUTAGE_SECONDS", "8"))
VIDEOS = int(os.environ.get("STORAGE_OUTAGE_VIDEOS", "10"))


@pytest.fixture(scope="module")
def system(outside_servers, tmp_path_factory):
    """A private stack, whose S3 server may be killed."""
    running = System(tmp_path_factory.mktemp("outage"))
    try:
        running.up(
            STORAGE_TYPE="s3",
            HLS_SEGMENT_SECONDS="1",
            CHUNK_SECONDS="1",
            RETRY_ATTEMPTS="2",
            RETRY_SECONDS="0.2",
            LEASE_SECONDS="4",
            DRAIN_SECONDS="2",
        )
        yield running
    finally:
        running.down()


@pytest.mark.skipif(IN_BUCKET, reason="uploads go to the stopped server: see test_work_bucket.py")
@pytest.mark.timeout(300 + 3 * OUTAGE_SECONDS)
async def test_videos_wait_for_the_storage_and_continue_when_it_is_back(system, tmp_path):
    if not system.runs("seaweedfs"):
        pytest.skip("the S3 server is not ours to stop")
    clip = make_clip(tmp_path / "clip.mp4", seconds=2, size="160x90", sound=False)
    async with system.client() as client, system.events() as events:
        system.kill("seaweedfs")
        ids = [(await client.upload(clip))["id"] for _ in range(VIDEOS)]
        waiting = await asyncio.gather(
            *(
                client.until(each, lambda record: record["stage"] == "upload" and record["warnings"])
                for each in ids
            )
        )
        assert {record["status"] for record in waiting} == {"processing"}
        assert {warning["code"] for record in waiting for warning in record["warnings"]} == {
            "storage_waiting"
        }
        assert "storage" in (await status_of(system, "uploader"))
        await asyncio.sleep(OUTAGE_SECONDS)
        system.up()
        ready = await asyncio.gather(*(client.ready(each, seconds=60 + OUTAGE_SECONDS) for each in ids))
        assert [record["warnings"] for record in ready] == [[]] * VIDEOS
        for each in ids:
            assert len(await events.of(each, "video.stored", at_least=1)) == 1
            assert await events.of(each, "video.failed") == []
            files = await system.work_files(f"chunks/{each}")
            attempts = {name.split("/")[0] for name in files if name.endswith(".ts")}
            assert sorted(attempts) == ["00000-1", "00001-1"], "no chunk was encoded twice"


async def status_of(system, part):
    """Return the failing dependencies in /statusz of a service."""
    state = json.loads((system.directory / "state.json").read_text())
    url = f"http://127.0.0.1:{state['ports'][part]}/statusz"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        dependencies = (await answer.json())["dependencies"]
    return {name for name, state in dependencies.items() if state != "ok"}
