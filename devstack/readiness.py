"""Readiness checks of the parts: one for each URL scheme."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aio_pika
import aiohttp
import asyncpg
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

if TYPE_CHECKING:
    from urllib.parse import SplitResult

# It logs every refused connection, which is expected while a server starts.
logging.getLogger("aiormq").setLevel(logging.CRITICAL)


CHECK_SECONDS = 5.0


async def reason_not_ready(url: str) -> str | None:
    """Return why the part at `url` is not ready; None when it is."""
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await check(url)
    except Exception as error:  # noqa: BLE001 - any error means not ready
        return str(error) or type(error).__name__
    return None


async def check(url: str) -> None:
    """Return when the part at `url` works. Raises any error of the client."""
    parts = urlsplit(url)
    checks = {"postgresql": _postgres, "amqp": _amqp, "http": _http, "s3": _s3, "tcp": _tcp}
    await checks[parts.scheme](parts)


async def _postgres(url: SplitResult) -> None:
    connection = await asyncpg.connect(url.geturl())
    try:
        await connection.execute("SELECT 1")
    finally:
        await connection.close()


async def _amqp(url: SplitResult) -> None:
    connection = await aio_pika.connect(url.geturl())
    try:
        await connection.channel()
    finally:
        await connection.close()


async def _http(url: SplitResult) -> None:
    async with aiohttp.ClientSession() as session, session.get(url.geturl()) as answer:
        if answer.status != 200:
            raise RuntimeError(f"GET {url.path} answered {answer.status}: {(await answer.text())[:300]}")


async def _s3(url: SplitResult) -> None:
    """List the buckets, and create the one in the URL."""
    client = get_session().create_client(
        "s3",
        endpoint_url=f"http://{url.hostname}:{url.port}",
        region_name="us-east-1",
        aws_access_key_id=url.username,
        aws_secret_access_key=url.password,
        config=AioConfig(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
    )
    async with client as s3:
        listed = await s3.list_buckets()
        bucket = url.path.strip("/")
        if bucket not in (each["Name"] for each in listed["Buckets"]):
            await s3.create_bucket(Bucket=bucket)


async def _tcp(url: SplitResult) -> None:
    _, writer = await asyncio.open_connection(url.hostname, url.port)
    writer.close()
    await writer.wait_closed()
