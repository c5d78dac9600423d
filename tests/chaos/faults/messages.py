"""Messages that come twice, in the wrong order, too late, or make no sense."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import aio_pika
import asyncpg

from tests.chaos.workload.client import UNSENT, event, uploaded_event

if TYPE_CHECKING:
    from tests.chaos.faults.injector import Storm

SENT = """
select routing_key, message from outbox
where sent_at is not null and exchange = 'hls.events' and ($1::text is null or routing_key = $1)
order by id desc limit $2"""
QUEUES = ("transcoder.plan", "transcoder.first", "transcoder.bulk", "uploader.store")
HELD = 4
HELD_SECONDS = 2.0


async def delivered_twice(storm: Storm) -> int:
    """Publish the last events of every kind again, twice each."""
    sent = await _sent(storm, None, 15)
    return await _publish(storm, [*sent, *sent])


async def out_of_order(storm: Storm) -> int:
    """Publish the last video.segmented again, last chunk first, and the uploaded events after them."""
    segmented = await _sent(storm, "video.segmented", 10)
    return await _publish(storm, [*segmented, *await _sent(storm, "video.uploaded", 5)])


async def given_back(storm: Storm) -> int:
    """Take messages from the queues as a worker would, and go away without an answer."""
    held = 0
    with suppress(*UNSENT):
        connection = await aio_pika.connect(storm.platform.url, timeout=5)
        async with connection:
            channel = await connection.channel()
            for name in QUEUES:
                queue = await channel.get_queue(name, ensure=False)
                for _ in range(HELD):
                    held += await queue.get(fail=False, timeout=5) is not None
            await asyncio.sleep(HELD_SECONDS)
    return held


async def malformed(storm: Storm) -> int:
    """Publish what is no JSON, no CloudEvent, and no event about a video."""
    unique = uuid4()
    bodies = [
        f"{{ no json {unique}".encode(),
        json.dumps({"specversion": "1.0", "id": str(unique)}).encode(),
        event("video.uploaded", {"videoId": "no uuid", "userId": "alice", "source": {"uri": "file:///x"}}),
        event(
            "video.uploaded", {"videoId": str(unique), "userId": "../alice", "source": {"uri": "file:///x"}}
        ),
    ]
    return await _publish_dead(storm, bodies)


async def unknown_version(storm: Storm) -> int:
    """Publish events of a version and of a type that nobody knows yet."""
    data = {"videoId": str(uuid4()), "userId": "alice", "source": {"uri": "file:///x"}}
    newer = event("video.uploaded", data, specversion="2.0")
    return await _publish_dead(storm, [newer, event("video.uploaded.v2", data)])


async def about_deleted(storm: Storm) -> int:
    """Publish events about videos that are deleted, which must stay so."""
    count = 0
    for video_id in storm.traffic.deleted[-4:]:
        entry = storm.ledger.entries[video_id]
        data = {"videoId": video_id, "userId": entry.user_id, "chunk": 0, "chunks": 1, "segments": []}
        again = uploaded_event(video_id, entry.user_id, f"s3://incoming/{video_id}")
        count += await storm.platform.publish(again)
        count += await storm.platform.publish(event("video.segmented", data), key="video.segmented")
    return count


async def _publish(storm: Storm, messages: list[tuple[str, bytes]]) -> int:
    return sum([await storm.platform.publish(body, key=key) for key, body in messages])


async def _publish_dead(storm: Storm, bodies: list[bytes]) -> int:
    count = 0
    for body in bodies:
        for key in ("video.uploaded", "video.segmented"):
            storm.expected_dead_letters.append(body)
            count += await storm.platform.publish(body, key=key)
    return count


async def _sent(storm: Storm, kind: str | None, count: int) -> list[tuple[str, bytes]]:
    """Return events that were sent, as (routing key, body), newest first; none while Postgres is away."""
    try:
        connection = await asyncpg.connect(storm.ground.servers.env["DATABASE_URL"], timeout=5)
    except (OSError, TimeoutError, asyncpg.PostgresError):
        return []
    try:
        rows: list[Any] = await connection.fetch(SENT, kind, count)
    finally:
        await connection.close()
    return [(row["routing_key"], row["message"].encode()) for row in rows]
