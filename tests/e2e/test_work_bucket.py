"""WORK=bucket: no process sees a file of another one; convert, play, delete, and an outage of the bucket."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
from urllib.parse import quote, urlsplit
from uuid import uuid4

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


SECRET = b"a private original"
GOOD = {"rendition": "360p", "segment": "segment_001.ts"}


def tricks(key):
    """Return paths by which a careless server may send an object: plain, encoded, out of any directory."""
    encoded = quote(key, safe="")
    found = [key, encoded, quote(encoded, safe="")]
    for up, rest in (
        ("../", key),
        ("%2e%2e/", key),
        ("..%2f", encoded),
        ("..%252f", quote(encoded, safe="")),
    ):
        found += [up * count + rest for count in (1, 2, 3)]
    return found


def asked(url, path, key=""):
    """Return status and body of a request whose path is sent as it is."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=20)
    try:
        connection.putrequest("GET", path)
        if key:
            connection.putheader("Authorization", f"Bearer {key}")
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


async def paths_of(client, document, video_id):
    """Yield the paths with parameters of a service's OpenAPI document, as functions of what replaces one."""
    described = json.loads(await client.fetch(document))["paths"]
    for path in [path for path, methods in described.items() if "get" in methods]:
        names = re.findall(r"{(\w+)}", path)
        for wrong in names:
            yield lambda trick, path=path, names=names, wrong=wrong: re.sub(
                r"{(\w+)}",
                lambda found: trick if found[1] == wrong else GOOD.get(found[1], video_id),
                path,
            )


async def test_no_original_and_no_chunk_can_be_read_by_any_route_or_without_credentials(system, clip):
    async with system.client() as client, system.s3() as s3:
        ready = await client.ready((await client.upload(clip))["id"])
        bucket, strange = system.env["S3_BUCKET"], uuid4()
        keys = [f"work/originals/{strange}/source", f"work/chunks/{strange}/00000-1/360p/segment_001.ts"]
        for key in keys:
            await s3.put_object(Bucket=bucket, Key=key, Body=SECRET)
        count = 0
        for name, document, api_key in (
            ("STREAMER_URL", "/api/stream/openapi.json", ""),
            ("INGEST_URL", "/openapi.json", client.key),
        ):
            url = system.env[name]
            for key in keys:
                direct = [
                    f"/{key}",
                    f"/{bucket}/{key}",
                    f"/media/{key}",
                    f"/hls/../{key}",
                    f"/api/stream/{key}",
                ]
                filled = [
                    fill(trick)
                    async for fill in paths_of(client, url + document, ready["id"])
                    for trick in tricks(key)
                ]
                for path in (*direct, *filled):
                    status, body = await asyncio.to_thread(asked, url, path, api_key)
                    assert SECRET not in body, (name, path)
                    assert status < 500, (name, path, body)
                    count += 1
        assert count > 200
        endpoint = system.env["S3_ENDPOINT_URL"]
        for path in (
            *(f"/{bucket}/{key}" for key in keys),
            f"/{bucket}?prefix=work/",
            f"/{bucket}/?list-type=2",
        ):
            status, body = await asyncio.to_thread(asked, endpoint, path)
            assert (status, SECRET in body) == (403, False), path
        for key in keys:
            await s3.delete_object(Bucket=bucket, Key=key)


@pytest.mark.timeout(240)
async def test_videos_continue_by_themselves_after_an_outage_of_both_buckets(system, tmp_path):
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
