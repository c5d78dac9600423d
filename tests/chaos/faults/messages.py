"""Duplicate, reordered, late and malformed messages."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import aio_pika
import asyncpg

from tests.chaos.workload.client import UNSENT, event

if TYPE_CHECKING:
    from tests.chaos.faults.injector import Injector

SENT = """
select routing_key, message from outbox
where sent_at is not null and exchange = 'hls.events' and ($1::text is null or routing_key = $1)
order by id desc limit $2"""
QUEUES = ("transcoder.plan", "transcoder.first", "transcoder.bulk", "uploader.store")
HELD = 4
HELD_SECONDS = 2.0


async def delivered_twice(injector: Injector) -> int:
    """Publish the last events of every type again, twice each."""
    sent = await _sent(injector, None, 15)
    return await _publish(injector, [*sent, *sent])


async def out_of_order(injector: Injector) -> int:
    """Publish the last video.segmented events again in reverse order, then the uploaded events."""
    segmented = await _sent(injector, "video.segmented", 10)
    return await _publish(injector, [*segmented, *await _sent(injector, "video.uploaded", 5)])


async def given_back(injector: Injector) -> int:
    """Take messages from the queues and disconnect without acknowledging them."""
    held = 0
    with suppress(*UNSENT):
        connection = await aio_pika.connect(injector.platform.url, timeout=5)
        async with connection:
            channel = await connection.channel()
            for name in QUEUES:
                queue = await channel.get_queue(name, ensure=False)
                for _ in range(HELD):
                    held += await queue.get(fail=False, timeout=5) is not None
            await asyncio.sleep(HELD_SECONDS)
    return held


async def malformed(injector: Injector) -> int:
    """Publish invalid JSON, an invalid CloudEvent, and an event without a video."""
    unique = uuid4()
    bodies = [
        f"{{ no json {unique}".encode(),
        json.dumps({"specversion": "1.0", "id": str(unique)}).encode(),
        event("video.uploaded", {"videoId": "no uuid", "userId": "alice", "source": {"uri": "file:///x"}}),
        event(
            "video.uploaded", {"videoId": str(unique), "userId": "../alice", "source": {"uri": "file:///x"}}
        ),
    ]
    return await _publish_dead(injector, bodies)


async def unknown_version(injector: Injector) -> int:
    """Publish events of an unknown version and of an unknown type."""
    data = {"videoId": str(uuid4()), "userId": "alice", "source": {"uri": "file:///x"}}
    newer = event("video.uploaded", data, specversion="2.0")
    return await _publish_dead(injector, [newer, event("video.uploaded.v2", data)])


async def about_deleted(injector: Injector) -> int:
    """Publish events about deleted videos, which must stay deleted."""
    count = 0
    for video_id in injector.traffic.deleted[-4:]:
        entry = injector.journal.entries[video_id]
        data = {"videoId": video_id, "userId": entry.user_id, "chunk": 0, "chunks": 1, "segments": []}
        count += await injector.platform.publish(event("video.segmented", data), key="video.segmented")
    return count


async def _publish(injector: Injector, messages: list[tuple[str, bytes]]) -> int:
    return sum([await injector.platform.publish(body, key=key) for key, body in messages])


async def _publish_dead(injector: Injector, bodies: list[bytes]) -> int:
    count = 0
    for body in bodies:
        for key in ("video.uploaded", "video.segmented"):
            injector.expected_dead_letters.append(body)
            count += await injector.platform.publish(body, key=key)
    return count


async def _sent(injector: Injector, kind: str | None, count: int) -> list[tuple[str, bytes]]:
    """Return sent events as (routing key, body), newest first; none while Postgres is unavailable."""
    try:
        connection = await asyncpg.connect(injector.environment.servers.env["DATABASE_URL"], timeout=5)
    except (OSError, TimeoutError, asyncpg.PostgresError):
        return []
    try:
        rows: list[Any] = await connection.fetch(SENT, kind, count)
    finally:
        await connection.close()
    return [(row["routing_key"], row["message"].encode()) for row in rows]
