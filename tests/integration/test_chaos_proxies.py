"""The proxies break connections as requested, and do nothing else."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from aiohttp import ClientPayloadError
from botocore.exceptions import BotoCoreError, ClientError, ReadTimeoutError

from tests.chaos.faults.s3_proxy import S3Proxy
from tests.chaos.faults.tcp_proxy import TcpProxy

LARGE = bytes(range(256)) * 4096
BROKEN = (ClientPayloadError, BotoCoreError)


@pytest.fixture
async def echo():
    """A TcpProxy in front of an echo server."""

    async def serve(reader, writer):
        while data := await reader.read(4096):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    proxy = await TcpProxy.start("127.0.0.1", server.sockets[0].getsockname()[1])
    yield proxy
    await proxy.close()
    server.close()


async def ask(stream, text, *, seconds=30):
    reader, writer = stream
    writer.write(text)
    async with asyncio.timeout(seconds):
        return await reader.readexactly(len(text))


async def test_tcp_proxy_passes_bytes_when_nothing_is_wrong(echo):
    stream = await asyncio.open_connection("127.0.0.1", echo.port)
    assert await ask(stream, b"hello") == b"hello"
    stream[1].write_eof()
    assert await stream[0].read() == b""
    stream[1].close()


async def test_tcp_proxy_resets_open_connections_when_cut(echo):
    stream = await asyncio.open_connection("127.0.0.1", echo.port)
    await ask(stream, b"hello")
    assert echo.cut() == 1
    with pytest.raises(ConnectionResetError):
        await stream[0].read()
    stream[1].close()
    again = await asyncio.open_connection("127.0.0.1", echo.port)
    assert await ask(again, b"again") == b"again"
    again[1].close()


async def test_tcp_proxy_is_silent_until_healed_when_black_holed(echo):
    before = await asyncio.open_connection("127.0.0.1", echo.port)
    await ask(before, b"hello")
    echo.black_hole()
    fresh = await asyncio.open_connection("127.0.0.1", echo.port)
    for stream in (before, fresh):
        with pytest.raises(TimeoutError):
            await ask(stream, b"anyone?", seconds=0.5)
    echo.heal()
    for stream in (before, fresh):
        with pytest.raises(ConnectionResetError):
            await stream[0].read()
        stream[1].close()
    again = await asyncio.open_connection("127.0.0.1", echo.port)
    assert await ask(again, b"again") == b"again"
    again[1].close()


@pytest.fixture
async def proxy(servers):
    proxy = await S3Proxy.start(servers.s3_endpoint_url)
    yield proxy
    await proxy.close()


@asynccontextmanager
async def signed_for(url, servers, checksums="when_supported"):
    config = AioConfig(
        signature_version="s3v4",
        retries={"total_max_attempts": 1},
        read_timeout=0.5,
        request_checksum_calculation=checksums,
    )
    async with get_session().create_client(
        "s3",
        endpoint_url=url,
        region_name=servers.s3_region,
        aws_access_key_id=servers.s3_access_key_id,
        aws_secret_access_key=servers.s3_secret_access_key,
        config=config,
    ) as client:
        yield client


async def get(client, servers, key):
    answer = await client.get_object(Bucket=servers.s3_bucket, Key=key)
    async with answer["Body"] as body:
        return await body.read()


async def test_s3_proxy_keeps_signatures_valid_when_it_forwards(proxy, servers):
    async with signed_for(proxy.url, servers) as client:
        await client.put_object(Bucket=servers.s3_bucket, Key="proxy/a b+c", Body=LARGE)
        assert await get(client, servers, "proxy/a b+c") == LARGE
        found = await client.list_objects_v2(Bucket=servers.s3_bucket, Prefix="proxy/a b")
        assert [item["Key"] for item in found["Contents"]] == ["proxy/a b+c"]
        await client.delete_object(Bucket=servers.s3_bucket, Key="proxy/a b+c")
        with pytest.raises(ClientError, match="404"):
            await client.head_object(Bucket=servers.s3_bucket, Key="proxy/a b+c")
    assert not proxy.injected


async def test_s3_proxy_answers_503_as_often_as_configured_for_one_method(proxy, servers):
    proxy.fail("unavailable", 2, "PUT")
    async with signed_for(proxy.url, servers) as client:
        for _ in range(2):
            with pytest.raises(ClientError, match="SlowDown"):
                await client.put_object(Bucket=servers.s3_bucket, Key="proxy/busy", Body=b"x")
            await client.head_bucket(Bucket=servers.s3_bucket)
        await client.put_object(Bucket=servers.s3_bucket, Key="proxy/busy", Body=b"x")
    assert proxy.injected == {"unavailable": 2}


async def test_s3_proxy_answers_500_when_the_write_was_applied(proxy, servers):
    proxy.fail("applied_then_500", 1, "PUT")
    async with signed_for(proxy.url, servers) as client:
        with pytest.raises(ClientError, match="InternalError"):
            await client.put_object(Bucket=servers.s3_bucket, Key="proxy/applied", Body=LARGE)
        assert await get(client, servers, "proxy/applied") == LARGE


async def test_s3_proxy_cuts_bodies_in_both_directions_when_told_to_truncate(proxy, servers):
    async with signed_for(proxy.url, servers) as client:
        await client.put_object(Bucket=servers.s3_bucket, Key="proxy/whole", Body=LARGE)
        proxy.fail("truncated", 1, "GET")
        with pytest.raises(BROKEN):
            await get(client, servers, "proxy/whole")
        proxy.fail("truncated", 2, "PUT")  # aiohttp by itself puts once more
        with pytest.raises(BROKEN):
            await client.put_object(Bucket=servers.s3_bucket, Key="proxy/half", Body=LARGE)
        with pytest.raises(ClientError, match="404"):
            await client.head_object(Bucket=servers.s3_bucket, Key="proxy/half")
    assert proxy.injected == {"truncated": 3}


async def test_s3_proxy_leaves_the_client_waiting_until_healed_when_told_to_time_out(proxy, servers):
    proxy.fail("timeout", 5)
    async with signed_for(proxy.url, servers) as client:
        with pytest.raises(ReadTimeoutError):
            await client.head_bucket(Bucket=servers.s3_bucket)
        proxy.heal()
        await client.head_bucket(Bucket=servers.s3_bucket)
    assert proxy.injected == {"timeout": 1}


async def test_s3_proxy_stays_silent_when_it_is_healed_if_told_so(proxy, servers):
    proxy.fail("silent", 1)
    async with signed_for(proxy.url, servers) as client:
        asked = asyncio.create_task(client.head_bucket(Bucket=servers.s3_bucket))
        while not proxy.injected["silent"]:
            await asyncio.sleep(0.01)
        proxy.heal()
        with pytest.raises(ReadTimeoutError):
            await asked
        await client.head_bucket(Bucket=servers.s3_bucket)
    assert proxy.injected == {"silent": 1}


async def test_s3_proxy_falls_silent_in_the_middle_of_a_body_forever_if_told_so(proxy, servers):
    async with signed_for(proxy.url, servers) as client:
        await client.put_object(Bucket=servers.s3_bucket, Key="proxy/stalls", Body=LARGE)
        for method, deed in (("GET", get), ("PUT", put)):
            proxy.fail("stalled", 1, method)
            doing = asyncio.create_task(deed(client, servers, "proxy/stalls"))
            while proxy.injected["stalled"] < (1 if method == "GET" else 2):
                await asyncio.sleep(0.01)
            proxy.heal()
            with pytest.raises((TimeoutError, ReadTimeoutError)):  # the client's own, if it has one
                await asyncio.wait_for(doing, 1)
        assert await get(client, servers, "proxy/stalls") == LARGE


async def put(client, servers, key):
    await client.put_object(Bucket=servers.s3_bucket, Key=key, Body=LARGE)


async def test_s3_proxy_keeps_half_and_reports_success_when_told_to_shorten(proxy, servers):
    proxy.fail("shortened", 1)
    async with signed_for(proxy.url, servers, checksums="when_required") as client:
        await client.head_bucket(Bucket=servers.s3_bucket)
        await client.put_object(Bucket=servers.s3_bucket, Key="proxy/short", Body=LARGE)
        assert await get(client, servers, "proxy/short") == LARGE[: len(LARGE) // 2]
    assert proxy.injected == {"shortened": 1}
