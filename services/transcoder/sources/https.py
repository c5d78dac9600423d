"""Sources on https servers, fetched without access to internal networks (SSRF).

Only public addresses are connected to. The check is in the resolver of the connection itself, so that a name
cannot resolve differently afterwards, and every redirect passes it again.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import aiohttp
from yarl import URL

from services.transcoder.sources.fetch import shown
from services.transcoder.sources.public_addresses import PrivateAddress, PublicResolver, refuse_private
from services.transcoder.sources.range_reader import Answer, no_blocks, open_whole, range_header, total_bytes
from shared.errors import (
    SourceChanged,
    SourceFetchFailed,
    SourceServerUnavailable,
    SourceUnavailable,
    described,
)
from shared.http.minimum_rate import MinimumRate

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Collection

    from aiohttp.abc import AbstractResolver

    from services.transcoder.sources.range_reader import Ask, Opened
    from shared.errors import PipelineError

BLOCK_BYTES = 1 << 20
MAX_REDIRECTS = 5
TIMEOUT = aiohttp.ClientTimeout(total=6 * 3600, sock_connect=15, sock_read=60)
HEAD_TIMEOUT_SECONDS = 60.0  # until the response head, including the connection
HEADERS = {"Accept-Encoding": "identity"}
PART, EMPTY = 206, 416  # 416: the file is empty
SUCCESS = (200, PART)
REDIRECTS = (301, 302, 303, 307, 308)
GONE_FOR_GOOD = (400, 401, 403, 404, 405, 410, 451)
BUSY = (408, 425, 429)
UNKNOWN_NAME = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))


class HttpsSource:
    """Opens https URLs as streams of bytes.

    `private_hosts` are allowed although they are internal. `resolver` and `tls` default to the system's.
    """

    def __init__(
        self,
        private_hosts: Collection[str] = (),
        *,
        resolver: AbstractResolver | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._private_hosts, self._tls = frozenset(private_hosts), tls or True
        self._resolver = resolver

    @asynccontextmanager
    async def open(self, uri: str) -> AsyncIterator[Opened]:
        """Open a URL, following redirects to https only.

        Raises SourceUnavailable when it is forbidden or does not exist, SourceServerUnavailable when the
        server is unreachable or overloaded, SourceChanged when the file is replaced meanwhile,
        SourceFetchFailed for other failures of the server.
        """
        async with open_whole(self.asking(uri)) as opened:
            yield opened

    def asking(self, uri: str) -> Ask:
        """Return a function that requests parts of a file; every request follows the redirects again."""
        return partial(self._ask, uri)

    @asynccontextmanager
    async def _ask(self, uri: str, start: int, length: int, validator: str | None) -> AsyncIterator[Answer]:
        resolver = PublicResolver(self._private_hosts, self._resolver)
        connector = aiohttp.TCPConnector(resolver=resolver, ssl=self._tls)
        headers = {**HEADERS, "Range": range_header(start, length)}
        if validator:
            headers["If-Range"] = validator
        async with aiohttp.ClientSession(
            connector=connector, timeout=TIMEOUT, trust_env=False, auto_decompress=False, headers=headers
        ) as session:
            response = await self._get(session, uri)
            try:
                yield _read_answer(response, uri, start, validator)
            finally:
                response.close()

    async def _get(self, session: aiohttp.ClientSession, uri: str) -> aiohttp.ClientResponse:
        for _ in range(MAX_REDIRECTS + 1):
            url = self._allowed(uri)
            try:
                async with asyncio.timeout(HEAD_TIMEOUT_SECONDS):
                    response = await session.get(url, allow_redirects=False)
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                raise _explained(uri, error) from error
            if response.status not in REDIRECTS:
                _expect_success(response, uri)
                return response
            response.close()
            uri = _redirected(url, response)
        raise SourceUnavailable(f"source {shown(uri)}: more than {MAX_REDIRECTS} redirects")

    def _allowed(self, uri: str) -> URL:
        """Return the URL to request; checks hosts that are addresses, which the resolver never sees.

        The URL class has normalized the address.
        """
        try:
            url = URL(uri)
        except ValueError as error:
            raise SourceUnavailable(f"source {shown(uri)} is not a URL: {error}") from error
        if url.scheme != "https" or not url.host:
            raise SourceUnavailable(f"source {shown(uri)} is not an https URL")
        if url.host not in self._private_hosts and _is_address(url.host):
            try:
                refuse_private(url.host, url.host)
            except PrivateAddress as error:
                raise SourceUnavailable(f"source {shown(uri)}: {error}") from error
        return url


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def _redirected(url: URL, response: aiohttp.ClientResponse) -> str:
    place = response.headers.get("Location", "")
    try:
        return str(url.join(URL(place)))
    except ValueError as error:
        raise SourceUnavailable(f"source {shown(str(url))}: redirected to {shown(place)}: {error}") from error


def _read_answer(response: aiohttp.ClientResponse, uri: str, start: int, validator: str | None) -> Answer:
    """Return the answer to a request with a range. Raises SourceChanged, SourceFetchFailed."""
    if response.status == EMPTY:
        return Answer(no_blocks(), 0, None, is_part=False)
    blocks = _blocks(response, uri)
    if response.status != PART:
        return Answer(blocks, response.content_length, None, is_part=False)
    found = _validator(response)
    if validator and found != validator:
        raise SourceChanged(f"source {shown(uri)} was replaced while it was read")
    return Answer(blocks, total_bytes(response.headers.get("Content-Range"), start), found, is_part=True)


def _validator(response: aiohttp.ClientResponse) -> str | None:
    """Return a validator of this version of a file (RFC 9110, 13.1.5); weak ETags are not usable."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified")


def _expect_success(response: aiohttp.ClientResponse, uri: str) -> None:
    encoding = response.headers.get("Content-Encoding", "identity")
    is_empty = response.status == EMPTY and response.headers.get("Content-Range") == "bytes */0"
    if is_empty or (response.status in SUCCESS and encoding == "identity"):
        return
    response.close()
    if response.status in SUCCESS:
        raise SourceUnavailable(f"source {shown(uri)}: the server sends it compressed, as {encoding[:20]!r}")
    raise _of_status(response.status)(
        f"source {shown(uri)}: the server answered {response.status} {response.reason}"
    )


def _of_status(status: int) -> type[PipelineError]:
    if status in GONE_FOR_GOOD:
        return SourceUnavailable
    return SourceServerUnavailable if status >= 500 or status in BUSY else SourceFetchFailed


async def _blocks(response: aiohttp.ClientResponse, uri: str) -> AsyncIterator[bytes]:
    pace = MinimumRate()
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
    if isinstance(error, aiohttp.ClientError | OSError) and not isinstance(error, aiohttp.InvalidURL):
        kind = SourceServerUnavailable if _is_outage(error) else SourceFetchFailed
        return kind(f"source {shown(uri)}: {described(error)}")
    return SourceUnavailable(f"source {shown(uri)}: {error}")


def _is_outage(error: BaseException) -> bool:
    """Tell whether the server or the network is unavailable; a wrong name or certificate is not an outage."""
    if isinstance(error, aiohttp.ClientSSLError):
        return False
    cause = getattr(error, "os_error", error)
    if isinstance(cause, socket.gaierror):
        return cause.errno not in UNKNOWN_NAME
    return isinstance(error, aiohttp.ClientConnectionError | OSError)
