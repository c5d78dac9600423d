"""The HTTP session for S3 requests that bypass botocore, and the pauses in which none do."""

from __future__ import annotations

import ssl
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import structlog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from aiobotocore.session import AioSession

BUFFER_BYTES: Final = 128 * 1024
REFUSED: Final = (400, 401, 403, 501)
PAUSE_SECONDS: Final = 600.0

log = structlog.get_logger()


@dataclass
class Pause:
    """Ends direct requests for a while after the server has refused one."""

    clock: Callable[[], float] = time.time
    _until: float = field(default=0.0, init=False)

    @property
    def is_on(self) -> bool:
        return self.clock() < self._until

    def consider(self, status: int) -> None:
        """Begin the pause if an answer was a refusal."""
        if status in REFUSED:
            self._until = self.clock() + PAUSE_SECONDS
            log.info("direct_requests_paused", status=status, seconds=PAUSE_SECONDS)


@asynccontextmanager
async def direct_session(
    session: AioSession, endpoint_url: str, *, connections: int, connect_seconds: float, read_seconds: float
) -> AsyncIterator[aiohttp.ClientSession]:
    """Yield a session for requests to one endpoint; it trusts the certificates that botocore's trusts."""
    trusted = session.get_config_variable("ca_bundle")  # of AWS_CA_BUNDLE or a profile
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=connections, ssl=ssl.create_default_context(cafile=trusted) if trusted else True
        ),
        timeout=aiohttp.ClientTimeout(total=None, connect=connect_seconds, sock_read=read_seconds),
        read_bufsize=BUFFER_BYTES,
        auto_decompress=False,
        trust_env=is_proxied(endpoint_url),  # takes the work of two threads per request
        skip_auto_headers=("Accept-Encoding",),
    ) as opened:
        yield opened


def is_proxied(url: str) -> bool:
    """Tell whether the environment (HTTPS_PROXY, NO_PROXY, …) names a proxy for a URL."""
    parts = urlsplit(url)
    return parts.scheme in getproxies() and not proxy_bypass(parts.netloc)
