"""A third-party server becomes unavailable during an upload and returns; players read parts of objects."""

from __future__ import annotations

import asyncio
import os
from urllib.parse import urlsplit
from uuid import uuid4

import m3u8
import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

from tests.chaos.faults.tcp_proxy import TcpProxy
from tests.e2e.conftest import BASE, S3
from tests.e2e.system import System
from tests.e2e.test_faults import expect_whole

GIVEN = os.environ.get("S3_ENDPOINT_URL", "")


class Route:
    """The way from the services to the server, which may be closed."""

    def __init__(self) -> None:
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def open(self) -> None:
        there = urlsplit(GIVEN)
        assert there.hostname
        assert there.port
        self.proxy = await TcpProxy.start(there.hostname, there.port, own_port=self.port)
        self.port = self.proxy.port

    async def close(self) -> None:
        await self.proxy.close()


@pytest.fixture
async def route():
    made = Route()
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def bucket():
    """An empty bucket: one storage is for one system."""
    name = f"outage-{uuid4()}"
    async with get_session().create_client(
        "s3",
        endpoint_url=GIVEN,
        region_name=os.environ["S3_REGION"],
        aws_access_key_id=os.environ["S3_ACCESS_KEY_ID"],
        aws_secret_access_key=os.environ["S3_SECRET_ACCESS_KEY"],
        config=AioConfig(s3={"addressing_style": "path"}),
    ) as client:
        await client.create_bucket(Bucket=name)
    return name


@pytest.fixture
async def system(route, bucket, outside_servers, tmp_path):
    """A private stack behind the route."""
    running = System(tmp_path / "stack")
    try:
        given = {**BASE, **S3, "S3_ENDPOINT_URL": route.url, "S3_BUCKET": bucket}
        await asyncio.to_thread(running.up, **given)
        yield running
    finally:
        await asyncio.to_thread(running.down)


@pytest.mark.skipif(not GIVEN, reason="test_faults.py stops the server that is ours")
async def test_video_is_stored_and_played_in_parts_after_an_outage(system, route, long_clip, tmp_path):
    async with system.client() as client:
        video_id = (await client.upload(long_clip))["id"]
        await client.until(video_id, lambda record: record["playable"])
        await route.close()
        failed = await client.until(video_id, lambda record: record["status"] == "failed")
        assert (failed["error"]["reason"], failed["error"]["retryable"]) == ("storage_unavailable", True)
        await route.open()
        await client.call("POST", f"/api/videos/{video_id}/retry", 202)
        ready = await client.ready(video_id)
        await expect_whole(system, client, ready, tmp_path)
        await expect_parts(client, ready)


async def expect_parts(client, ready):
    """Every kind of range of a segment is answered with these bytes."""
    master = m3u8.loads((await client.fetch(ready["playlistUrl"])).decode(), uri=ready["playlistUrl"])
    playlist = master.playlists[0].absolute_uri
    segment = m3u8.loads((await client.fetch(playlist)).decode(), uri=playlist).segments[0].absolute_uri
    whole = await client.fetch(segment)
    for asked, part in {
        "bytes=0-0": whole[:1],
        "bytes=188-375": whole[188:376],
        "bytes=-188": whole[-188:],
        f"bytes={len(whole) - 10}-{len(whole) + 10}": whole[-10:],
    }.items():
        async with client.session.get(segment, headers={"Range": asked}) as answer:
            assert (answer.status, await answer.read()) == (206, part), asked
    async with client.session.get(segment, headers={"Range": f"bytes={len(whole)}-"}) as answer:
        assert answer.status == 416
