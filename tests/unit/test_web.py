from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from shared import web as ours


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
