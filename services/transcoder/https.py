"""Sources on https servers, fetched without letting a stranger reach into our own network (SSRF).

Only addresses that are public are connected to: the check sits in the resolver of the connection itself, so a
name that resolves differently the second time gains nothing, and every redirect passes it again.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver
from aiohttp.resolver import ThreadedResolver

from services.transcoder.sources import shown
from shared.errors import SourceFetchFailed, SourceUnavailable, described
from shared.pace import Pace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

    from aiohttp.abc import ResolveResult

    from shared.errors import PipelineError


BLOCK_BYTES = 1 << 20
MAX_REDIRECTS = 5
TIMEOUT = aiohttp.ClientTimeout(total=6 * 3600, sock_connect=15, sock_read=60)
REDIRECTS = (301, 302, 303, 307, 308)
GONE_FOR_GOOD = (400, 401, 403, 404, 405, 410, 451)


class PrivateAddress(OSError):
    """A name resolves to an address inside somebody's network."""


class PublicResolver(AbstractResolver):
    """Resolves names, refusing addresses that are not public; `private_hosts` are trusted by name."""

    def __init__(self, private_hosts: Collection[str]) -> None:
        self._inner, self._private_hosts = ThreadedResolver(), frozenset(private_hosts)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of `host`. Raises PrivateAddress when one is not public."""
        found = await self._inner.resolve(host, port, family)
        if host.lower() not in self._private_hosts:
            for address in found:
                refuse_private(address["host"], host)
        return found

    async def close(self) -> None:
        await self._inner.close()


def refuse_private(address: str, host: str) -> None:
    """Raise PrivateAddress unless `address` is one that anybody on the internet can reach."""
    parsed = ipaddress.ip_address(address.split("%", maxsplit=1)[0])
    mapped = getattr(parsed, "ipv4_mapped", None)
    if not (mapped or parsed).is_global or parsed.is_multicast:
        raise PrivateAddress(f"{host} is the address {address} inside a private network")


class HttpsSource:
    """Opens https URLs as streams of bytes."""

    def __init__(self, private_hosts: Collection[str] = ()) -> None:
        self._private_hosts = frozenset(private_hosts)

    @asynccontextmanager
    async def open(self, uri: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a URL, following redirects to https only.

        Raises SourceUnavailable when it is refused or not there, SourceFetchFailed when the server fails.
        """
        connector = aiohttp.TCPConnector(resolver=PublicResolver(self._private_hosts))
        async with aiohttp.ClientSession(connector=connector, timeout=TIMEOUT, trust_env=False) as session:
            response = await self._get(session, uri)
            try:
                yield _blocks(response, uri)
            finally:
                response.close()

    async def _get(self, session: aiohttp.ClientSession, uri: str) -> aiohttp.ClientResponse:
        for _ in range(MAX_REDIRECTS + 1):
            self._refuse_literal(uri)
            try:
                response = await session.get(
                    uri, allow_redirects=False, headers={"Accept-Encoding": "identity"}
                )
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                raise _explained(uri, error) from error
            if response.status not in REDIRECTS:
                _expect_success(response, uri)
                return response
            response.close()
            uri = urljoin(uri, response.headers.get("Location", ""))
        raise SourceUnavailable(f"source {shown(uri)}: more than {MAX_REDIRECTS} redirects")

    def _refuse_literal(self, uri: str) -> None:
        """Check hosts that are addresses: the resolver never sees them."""
        parts = urlsplit(uri)
        host = (parts.hostname or "").lower()
        if parts.scheme != "https" or not host:
            raise SourceUnavailable(f"source {shown(uri)} is no https URL")
        if host in self._private_hosts:
            return
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return
        try:
            refuse_private(host, host)
        except PrivateAddress as error:
            raise SourceUnavailable(f"source {shown(uri)}: {error}") from error


def _expect_success(response: aiohttp.ClientResponse, uri: str) -> None:
    if response.status == 200:
        return
    response.close()
    kind = SourceUnavailable if response.status in GONE_FOR_GOOD else SourceFetchFailed
    raise kind(f"source {shown(uri)}: the server answered {response.status} {response.reason}")


async def _blocks(response: aiohttp.ClientResponse, uri: str) -> AsyncIterator[bytes]:
    pace = Pace()
    try:
        while block := await pace.wait(response.content.read(BLOCK_BYTES)):
            pace.came(len(block))
            yield block
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise SourceFetchFailed(f"source {shown(uri)}: {described(error)}") from error


def _explained(uri: str, error: BaseException) -> PipelineError:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, PrivateAddress):
            return SourceUnavailable(f"source {shown(uri)}: {cause}")
        cause = cause.__cause__ or getattr(cause, "os_error", None)
    if isinstance(error, asyncio.TimeoutError | aiohttp.ClientError | OSError):
        return SourceFetchFailed(f"source {shown(uri)}: {described(error)}")
    return SourceUnavailable(f"source {shown(uri)}: {error}")
