"""A test server that runs an application on the same kind of connections as the services do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp.test_utils import TestServer

from shared.http.server import runner_of

if TYPE_CHECKING:
    from aiohttp.web_runner import BaseRunner


class ServiceServer(TestServer):
    """Serves an application as shared/http/server.py does."""

    __test__ = False

    async def _make_runner(self, **_: Any) -> BaseRunner:
        return runner_of(self.app)
