"""A separate database, bucket and workspace with empty queues for each trial, on shared servers."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import uuid4

import aio_pika
import asyncpg

from tests.chaos.invariants.observe import QUEUES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.chaos.invariants import Addresses

QUORUM = {"x-queue-type": "quorum"}


@asynccontextmanager
async def fresh_environment(servers: Addresses, work_dir: Path) -> AsyncIterator[Addresses]:
    """Yield the addresses for one scenario; database and buckets are removed afterwards, queues emptied.

    There is a work bucket if `servers` names one.
    """
    name = f"controls-{uuid4().hex[:12]}"
    work_dir.mkdir(parents=True)
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(_database(servers.database_url, name))
        addresses = replace(servers, database_url=url, s3_bucket=name, work_dir=work_dir)
        await stack.enter_async_context(_bucket(addresses, name))
        if servers.s3_work_bucket:
            addresses = replace(addresses, s3_work_bucket=f"{name}-work")
            await stack.enter_async_context(_bucket(addresses, addresses.s3_work_bucket))
        await stack.enter_async_context(_queues(addresses.rabbitmq_url))
        yield addresses


@asynccontextmanager
async def _database(url: str, name: str) -> AsyncIterator[str]:
    admin = await asyncpg.connect(url)
    try:
        await admin.execute(f'create database "{name}"')
        yield f"{url.rsplit('/', 1)[0]}/{name}"
    finally:
        await admin.execute(f'drop database if exists "{name}" with (force)')
        await admin.close()


@asynccontextmanager
async def _bucket(addresses: Addresses, name: str) -> AsyncIterator[None]:
    async with addresses.s3() as client:
        await client.create_bucket(Bucket=name)
        try:
            yield
        finally:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=name)
            for key in [item["Key"] async for page in pages for item in page.get("Contents", [])]:
                await client.delete_object(Bucket=name, Key=key)
            await client.delete_bucket(Bucket=name)


@asynccontextmanager
async def _queues(url: str) -> AsyncIterator[None]:
    await _empty(url)
    try:
        yield
    finally:
        await _empty(url)


async def _empty(url: str) -> None:
    """Purge the queues of the services, if they exist."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        for name in QUEUES:
            for queue in (name, f"{name}.dead"):
                declared = await channel.declare_queue(queue, durable=True, arguments=QUORUM)
                await declared.purge()
