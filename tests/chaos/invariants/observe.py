"""Takes a snapshot: rows, objects, open uploads, files, queues."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aio_pika
import asyncpg

from tests.chaos.invariants.values import Chunk, Letter, Row, Segment, Snapshot, Stored, Unsent

if TYPE_CHECKING:
    from tests.chaos.invariants.recorder import Recorder
    from tests.chaos.invariants.servers import Addresses

QUEUES = (
    *("transcoder.plan", "transcoder.first", "transcoder.bulk"),
    *("uploader.store", "uploader.segments", "uploader.delete"),
)
JUDGED_PLACES = ("uploads", "originals", "chunks")

VIDEOS = """
select video_id::text, user_id, status, run, error ->> 'reason' as reason, bytes, renditions,
       coalesce(plan_lease_until > now() and status = 'processing', false) as is_leased,
       purged_at is not null as is_purged
from videos"""
CHUNKS = """
select video_id::text, chunk, status,
       coalesce(lease_until > now() and status = 'encoding', false) as is_leased
from chunks"""
SEGMENTS = "select video_id::text, rendition, index, bytes, path from segments"
UNSENT = """
select video_id::text, routing_key, extract(epoch from now() - available_at)::float8 as due_seconds
from outbox where sent_at is null"""


async def observe(addresses: Addresses, recorder: Recorder) -> Snapshot:
    """Read everything except the dead letters."""
    connection = await asyncpg.connect(addresses.database_url, timeout=10)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            videos = await connection.fetch(VIDEOS)
            chunks = await connection.fetch(CHUNKS)
            segments = await connection.fetch(SEGMENTS)
            unsent = await connection.fetch(UNSENT)
    finally:
        await connection.close()
    async with addresses.s3() as client:
        objects, uploads = (
            await _objects(client, addresses.s3_bucket),
            await _uploads(client, addresses.s3_bucket),
        )
        files, scratch = files_below(addresses.work_dir), ()
        if bucket := addresses.s3_work_bucket:
            files, scratch = await _handed_over(client, addresses), _scratch_files(addresses.work_dir)
            uploads += await _uploads(client, bucket)
    return Snapshot(
        rows={row["video_id"]: _row(row) for row in videos},
        chunks=tuple(Chunk(**row) for row in chunks),
        segments=tuple(_segment(row) for row in segments),
        unsent=tuple(Unsent(**row) for row in unsent),
        objects=objects,
        uploads=uploads,
        files=files,
        scratch=scratch,
        events=tuple(recorder.events),
        waiting=await _waiting(addresses.rabbitmq_url),
    )


def _row(row: Any) -> Row:
    names = tuple(rendition["name"] for rendition in json.loads(row["renditions"]))
    return Row(**{**row, "renditions": names})


def _segment(row: Any) -> Segment:
    directory = "/".join(Path(row["path"]).parts[:3])
    return Segment(row["video_id"], row["rendition"], row["index"], row["bytes"], directory)


async def _objects(client: Any, bucket: str) -> dict[str, Stored]:
    found = {}
    async for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for item in page.get("Contents", []):
            found[item["Key"]] = Stored(item["Size"], item["ETag"].strip('"'))
    return found


async def _handed_over(client: Any, addresses: Addresses) -> tuple[str, ...]:
    """Return the names of the objects in the work bucket."""
    objects = await _objects(client, addresses.s3_work_bucket)
    return tuple(key.removeprefix(addresses.s3_work_prefix) for key in objects)


async def _uploads(client: Any, bucket: str) -> tuple[str, ...]:
    pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket)
    return tuple([item["Key"] async for page in pages for item in page.get("Uploads", [])])


def files_below(work_dir: Path) -> tuple[str, ...]:
    """Return every file of the services on the work volume, relative to it."""
    found = []
    for place in JUDGED_PLACES:
        for directory, _, names in os.walk(work_dir / place):
            found += [str((Path(directory) / name).relative_to(work_dir)) for name in names]
    return tuple(sorted(found))


def _scratch_files(directory: Path) -> tuple[str, ...]:
    """Return the files in the scratch of each process, except those kept on purpose."""
    return tuple(
        f"{member.name}/{name}" for member in sorted(directory.iterdir()) for name in files_below(member)
    )


async def _waiting(url: str) -> dict[str, int]:
    counts = {}
    async with await aio_pika.connect(url, timeout=10) as connection:
        for name in QUEUES:
            if (queue := await _queue(connection, name)) is not None:
                counts[name] = queue.declaration_result.message_count or 0
    return counts


async def dead_letters(url: str) -> tuple[Letter, ...]:
    """Read the dead letter queues; closing the connection returns the messages."""
    found = []
    async with await aio_pika.connect(url, timeout=10) as connection:
        for name in QUEUES:
            queue = await _queue(connection, f"{name}.dead")
            while queue is not None and (message := await queue.get(fail=False, timeout=10)) is not None:
                reason = str(message.headers.get("x-reason", "no reason given"))
                found.append(Letter(name, message.body, reason))
    return tuple(found)


async def _queue(connection: aio_pika.abc.AbstractConnection, name: str) -> Any:
    """Return a queue, or None if it does not exist; each call uses its own channel, which an error closes."""
    channel = await connection.channel()
    try:
        return await channel.declare_queue(name, passive=True)
    except aio_pika.exceptions.ChannelNotFoundEntity:
        return None
