from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from shared.http import server as ours


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: "])
async def test_a_connection_is_closed_when_the_head_of_its_request_does_not_come(monkeypatch, sent):
    monkeypatch.setattr(ours, "IDLE_SECONDS", 0.2)
    runner = ours.runner_of(web.Application())
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        reader, writer = await asyncio.open_connection(*runner.addresses[0][:2])
        writer.write(sent)
        async with asyncio.timeout(10):
            assert await reader.read() == b""
        writer.close()
    finally:
        await runner.cleanup()


async def test_a_loop_ends_the_process_when_it_is_cancelled_by_a_library():
    app = web.Application()
    app[ours.DIED] = asyncio.get_running_loop().create_future()

    async def lose_the_connection():
        raise asyncio.CancelledError

    async with ours.running(app, lose_the_connection(), "relay"):
        with pytest.raises(RuntimeError, match="relay was cancelled"):
            await app[ours.DIED]


async def test_a_loop_is_not_reported_when_the_application_ends_it():
    app = web.Application()
    app[ours.DIED] = asyncio.get_running_loop().create_future()
    async with ours.running(app, asyncio.sleep(3600), "relay"):
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not app[ours.DIED].done()
