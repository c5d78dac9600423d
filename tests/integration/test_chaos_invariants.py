"""The checks detect damage to real rows, objects, messages and pictures."""

from __future__ import annotations

import asyncio
import json
import subprocess
from contextlib import asynccontextmanager
from dataclasses import replace
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import aio_pika
import asyncpg
import pytest

from tests.chaos.faults.tcp_proxy import TcpProxy
from tests.chaos.invariants import Accepted, Addresses, Expected, Recorder, check_invariants
from tests.chaos.invariants.observe import QUEUES

VIDEO = "00000000-0000-0000-0000-00000000000a"
PREFIX = f"hls/alice/{VIDEO}"
FRAMES, RATE, SECONDS = 100, 25, 2
SEGMENTS = ("180p/segment_001.ts", "180p/segment_002.ts")
NAMES = (*SEGMENTS, "180p/playlist.m3u8", "master.m3u8")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """One rendition of four seconds in two segments."""
    directory = tmp_path_factory.mktemp("tree") / "180p"
    directory.mkdir()
    command = [
        *("ffmpeg", "-v", "error", "-f", "lavfi", "-i", f"testsrc2=size=320x180:rate={RATE}"),
        *("-f", "lavfi", "-i", "sine=sample_rate=48000", "-frames:v", str(FRAMES), "-t", str(2 * SECONDS)),
        *("-c:v", "libx264", "-preset", "ultrafast", "-g", str(RATE * SECONDS), "-c:a", "aac"),
        *("-hls_time", str(SECONDS), "-hls_playlist_type", "vod", "-start_number", "1"),
        *("-hls_segment_filename", str(directory / "segment_%03d.ts"), str(directory / "playlist.m3u8")),
    ]
    subprocess.run(command, check=True)
    master = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n180p/playlist.m3u8\n"
    (directory.parent / "master.m3u8").write_text(master)
    return {name: (directory.parent / name).read_bytes() for name in NAMES}


class Scene:
    """A ready video, and the means to damage it."""

    def __init__(self, addresses, recorder, database, client, broker):
        self.addresses, self.recorder, self.database = addresses, recorder, database
        self.client, self.broker = client, broker
        self.expected = Expected(accepted={VIDEO: Accepted(VIDEO, frames=FRAMES, retries=0)})

    async def build(self, tree):
        insert = """
            insert into videos (video_id, user_id, source_uri, status, renditions, bytes)
            values ($1, 'alice', 'file:///x', 'ready', $2, $3)"""
        size = sum(map(len, tree.values()))
        await self.database.execute(insert, VIDEO, json.dumps([{"name": "180p"}]), size)
        await self.database.execute(
            "insert into chunks (video_id, chunk, seconds, status) values ($1, 0, 4, 'stored')", VIDEO
        )
        for index, name in enumerate(SEGMENTS, start=1):
            await self.database.execute(
                "insert into segments values ($1, '180p', $2, 0, $3, 2.0, $4)",
                *(VIDEO, index, f"chunks/{VIDEO}/00000-1/{name}", len(tree[name])),
            )
        for name, body in tree.items():
            await self.put(name, body)
        await self.tell("first")

    async def put(self, name, body):
        await self.client.put_object(Bucket=self.addresses.s3_bucket, Key=f"{PREFIX}/{name}", Body=body)

    async def remove(self, name):
        await self.client.delete_object(Bucket=self.addresses.s3_bucket, Key=f"{PREFIX}/{name}")

    async def tell(self, event_id):
        body = {"id": event_id, "type": "video.stored", "data": {"videoId": VIDEO}}
        channel = await self.broker.channel()
        exchange = await channel.get_exchange("hls.events")
        heard = len(self.recorder.events)
        await exchange.publish(aio_pika.Message(json.dumps(body).encode()), "video.stored")
        async with asyncio.timeout(30):
            while len(self.recorder.events) == heard:
                await asyncio.sleep(0.01)

    async def verdict(self):
        verdict = await check_invariants(self.addresses, self.expected, self.recorder, settle_seconds=0)
        return {
            kind: [finding.evidence for finding in found] for kind, found in verdict.findings.items() if found
        }


@asynccontextmanager
async def own_bucket(addresses):
    async with addresses.s3() as client:
        await client.create_bucket(Bucket=addresses.s3_bucket)
        yield client
        for item in (await client.list_objects_v2(Bucket=addresses.s3_bucket)).get("Contents", []):
            await client.delete_object(Bucket=addresses.s3_bucket, Key=item["Key"])
        await client.delete_bucket(Bucket=addresses.s3_bucket)


async def empty_queues(broker):
    for name in QUEUES:
        for queue in (name, f"{name}.dead"):
            channel = await broker.channel()
            declared = await channel.declare_queue(queue, durable=True, arguments={"x-queue-type": "quorum"})
            await declared.purge()


@pytest.fixture
async def scene(servers, database_url, tree, tmp_path):
    names = {field: getattr(servers, field) for field in servers.__dataclass_fields__}
    own = {"database_url": database_url, "s3_bucket": f"judge-{uuid4().hex[:12]}", "work_dir": tmp_path}
    addresses = Addresses(**{**names, **own})
    database = await asyncpg.connect(database_url)
    async with await aio_pika.connect(servers.rabbitmq_url) as broker, own_bucket(addresses) as client:
        await empty_queues(broker)
        recorder = await Recorder.start(addresses)
        scene = Scene(addresses, recorder, database, client, broker)
        await scene.build(tree)
        yield scene
        await recorder.close()
    await database.close()


async def test_checks_find_nothing_when_a_video_is_intact_and_its_event_arrives_twice(scene):
    await scene.tell("first")
    assert len(scene.recorder.events) == 2
    verdict = await check_invariants(scene.addresses, scene.expected, scene.recorder, settle_seconds=0)
    assert verdict.clean, verdict
    assert (verdict.videos, verdict.played) == (1, 1)


async def test_checks_find_a_missing_or_superfluous_object(scene, tree):
    await scene.remove(SEGMENTS[1])
    missing = await scene.verdict()
    assert f"{SEGMENTS[1]} is recorded, but not in storage" in missing["damaged"]
    await scene.put(SEGMENTS[1], tree[SEGMENTS[1]])
    await scene.put("180p/segment_003.ts", b"")
    assert await scene.verdict() == {"orphans": ["180p/segment_003.ts is in storage, but not recorded"]}


async def test_checks_find_a_segment_that_is_truncated(scene, tree):
    await scene.put(SEGMENTS[0], tree[SEGMENTS[0]][:-188])
    found = (await scene.verdict())["damaged"]
    assert any("bytes in storage" in evidence for evidence in found)


async def test_checks_find_pictures_that_are_gone_or_in_the_wrong_place_when_all_sizes_are_right(scene, tree):
    blank = b"\x47\x1f\xff\x10" + b"\xff" * 184  # a packet without meaning
    half = len(tree[SEGMENTS[0]]) // 188 // 2
    await scene.put(
        SEGMENTS[0], tree[SEGMENTS[0]][: half * 188] + blank * (len(tree[SEGMENTS[0]]) // 188 - half)
    )
    assert list(await scene.verdict()) == ["damaged"]
    await scene.put(SEGMENTS[0], tree[SEGMENTS[0]])
    swapped = (
        tree["180p/playlist.m3u8"].replace(b"_001", b"_x").replace(b"_002", b"_001").replace(b"_x", b"_002")
    )
    await scene.put("180p/playlist.m3u8", swapped)
    assert list(await scene.verdict()) == ["damaged"]


async def test_checks_find_an_end_that_was_announced_twice(scene):
    await scene.tell("second")
    assert list(await scene.verdict()) == ["doubled"]


async def test_recorder_receives_what_is_published_after_its_connection_broke_or_fell_silent(scene):
    parts = urlsplit(scene.addresses.rabbitmq_url)
    proxy = await TcpProxy.start(parts.hostname, parts.port)
    through = parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{proxy.port}")
    url = urlunsplit(through._replace(query="heartbeat=1"))
    scene.recorder = recorder = await Recorder.start(replace(scene.addresses, rabbitmq_url=url))
    proxy.cut()
    await scene.tell("second")
    proxy.black_hole()
    await asyncio.sleep(4)  # two heartbeats are missed
    proxy.heal()
    await scene.tell("third")
    assert {event.event_id for event in recorder.events} == {"second", "third"}
    await recorder.close()
    await proxy.close()


async def test_checks_find_rows_that_are_stuck(scene):
    await scene.database.execute(
        "insert into outbox (video_id, exchange, routing_key, message) values ($1, 'hls.events', 'k', '{}')",
        VIDEO,
    )
    await scene.database.execute(
        "update chunks set status = 'encoding', lease_until = now() + interval '9 s'"
    )
    found = await scene.verdict()
    assert list(found) == ["stuck"]
    assert len(found["stuck"]) == 3


async def test_checks_find_messages_that_wait_or_are_dead(scene):
    channel = await scene.broker.channel()
    for queue, body in (
        ("uploader.store", b"waits"),
        ("uploader.store.dead", b"foreign"),
        ("uploader.store.dead", b"known"),
    ):
        await channel.default_exchange.publish(aio_pika.Message(body), queue)
    scene.expected = replace(scene.expected, dead_letters=frozenset({b"known"}))
    found = await scene.verdict()
    assert {kind: len(of) for kind, of in found.items()} == {"stuck": 1, "foreign_dead_letters": 1}
    assert await scene.verdict() == found, "the checks leave the messages in place"


async def test_checks_find_open_uploads_and_leftovers(scene):
    await scene.client.create_multipart_upload(Bucket=scene.addresses.s3_bucket, Key=f"{PREFIX}/x.ts")
    (scene.addresses.work_dir / "uploads").mkdir()
    (scene.addresses.work_dir / "uploads" / "left.part").touch()
    assert list(await scene.verdict()) == ["unswept"]
    scene.expected = replace(scene.expected, sweeps=True)
    assert sorted(await scene.verdict()) == ["open_uploads", "orphans"]
