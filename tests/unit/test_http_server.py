from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from unittest.mock import Mock

import psutil
import pytest
from aiohttp import ClientConnectionError, web
from aiohttp.test_utils import TestClient, TestServer

from shared.http import problems
from shared.http import server as ours
from shared.http.app import create_base_app
from shared.settings import Settings
from tests.processes import free_port


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: "])
async def test_a_connection_is_closed_when_the_head_of_its_request_does_not_arrive(monkeypatch, sent):
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


async def test_a_loop_is_not_reported_when_it_was_asked_to_end():
    app = web.Application()
    app[ours.DIED] = asyncio.get_running_loop().create_future()
    drained = asyncio.Event()
    async with ours.running(app, drained.wait(), "consumer") as expect_end:
        expect_end()
        drained.set()
        await asyncio.sleep(0.01)
    assert not app[ours.DIED].done()


async def test_a_loop_that_ends_is_logged_when_nothing_serves_the_application(monkeypatch, caplog):
    logged = Mock()
    monkeypatch.setattr(ours, "log", logged)
    async with ours.running(web.Application(), asyncio.sleep(0), "relay"):
        await asyncio.sleep(0.01)
    [call] = logged.error.mock_calls
    assert call.args == ("loop_ended",)
    assert (call.kwargs["loop"], str(call.kwargs["exc_info"])) == ("relay", "relay ended")
    assert caplog.records == [], "asyncio has nothing to report"


@pytest.fixture
def settings(tmp_path):
    nowhere = {"database_url": "postgresql://x", "rabbitmq_url": "amqp://x"}
    return Settings(**nowhere, work_dir=tmp_path, http_host="127.0.0.1", drain_seconds=0)


async def test_sigterm_is_handled_when_the_service_waits_at_start(settings):
    app, steps = create_base_app(), []

    async def waits_for_a_server(_):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(3600)
        finally:
            steps.append("ended")
        yield

    async def opened_before(_):
        yield
        steps.append("closed")

    app.cleanup_ctx.extend([opened_before, waits_for_a_server])
    async with asyncio.timeout(10):
        await ours.serve(app, settings)
    assert steps == ["ended", "closed"]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_service_listens_on_every_address_of_its_pod(settings, host):
    """Clusters give their pods IPv4 addresses, IPv6 addresses or both."""
    if host not in machine_addresses():
        pytest.skip(f"this machine has no {host}")
    anywhere = {"http_host": Settings.model_fields["http_host"].default, "http_port": free_port()}
    serving = asyncio.create_task(ours.serve(create_base_app(), settings.model_copy(update=anywhere)))
    async with asyncio.timeout(10):
        while True:
            with suppress(ConnectionRefusedError):
                _, writer = await asyncio.open_connection(host, anywhere["http_port"])
                break
            await asyncio.sleep(0.01)
        writer.close()
        os.kill(os.getpid(), signal.SIGTERM)
        await serving


def machine_addresses():
    return {each.address for addresses in psutil.net_if_addrs().values() for each in addresses}


@pytest.mark.parametrize("error", [ConnectionResetError("gone"), BrokenPipeError("gone")])
async def test_a_client_that_disconnects_during_an_answer_is_no_error(error, monkeypatch, caplog):
    async def breaks_off(request):
        request.transport.abort()
        raise error

    logged = Mock()
    monkeypatch.setattr(problems, "log", logged)
    app = create_base_app()
    app.router.add_get("/film", breaks_off)
    async with TestClient(TestServer(app)) as client:
        with pytest.raises(ClientConnectionError):
            await client.get("/film")
    assert logged.mock_calls == []
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_broken_connection_to_a_server_is_an_error_when_the_client_is_still_there():
    async def breaks(_):
        raise ConnectionResetError("to some server")

    app = create_base_app()
    app.router.add_get("/film", breaks)
    async with TestClient(TestServer(app)) as client:
        assert (await client.get("/film")).status == 500
