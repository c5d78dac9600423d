"""Hostile servers that try to lead the transcoder into our network, or to keep it busy."""

from __future__ import annotations

import asyncio
import gzip
import re
import socket
import ssl
from collections import Counter
from itertools import chain, repeat
from typing import TYPE_CHECKING
from unittest.mock import AsyncMock

import pytest
from aiohttp.abc import AbstractResolver

from services.transcoder.sources import https
from services.transcoder.sources.https import HttpsSource
from services.transcoder.sources.retry_unreachable import SourceRetry
from shared.errors import SourceChanged, SourceFetchFailed, SourceServerUnavailable, SourceUnavailable
from shared.videos.source_checks import FIRST_CHECK_SECONDS
from tests.certificate import make_certificate
from tests.memory_database import MemoryPostgres
from tests.sample_video import SampleVideo

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

    from aiohttp.abc import ResolveResult

    from shared.errors import SourceError

FILM = bytes(range(256)) * 512
LOOPBACK, PUBLIC = "127.0.0.1", "192.88.99.1"
HANGS_SECONDS = 30  # no measure of speed: whatever takes this long has hung


class Stranger:
    """A scripted https server on loopback, and a plain http one that must not be requested."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes] = {}
        self.asked: Counter[str] = Counter()
        self.visits, self.port, self.inner_port = 0, 0, 0
        self.films: dict[str, tuple[bytes, str]] = {}
        self.cut_bytes, self.sent_bytes = 0, 0  # of an answer with a part of a film; 0: all of it

    def answer(self, path: str, *headers: str, status: str = "200 OK", body: bytes = b"") -> None:
        head = "\r\n".join([f"HTTP/1.1 {status}", *headers, "Connection: close", "", ""])
        self.answers[path] = head.encode() + body

    def redirect(self, path: str, to: str) -> None:
        self.answer(path, f"Location: {to}", "Content-Length: 0", status="302 Found")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        path = head.split()[1].decode()
        self.asked[path] += 1
        writer.write(self._part(path, head.decode()) if path in self.films else self.answers[path])
        if path == "/silent":
            await reader.read()
        writer.close()

    def _part(self, path: str, head: str) -> bytes:
        film, tag = self.films[path]
        asked = re.search(r"Range: bytes=(\d+)-(\d+)", head)
        condition = re.search(r"If-Range: (\S+)", head)
        assert asked is not None
        start, end = int(asked[1]), min(len(film), int(asked[2]) + 1)
        status, about = "206 Partial Content", f"Content-Range: bytes {start}-{end - 1}/{len(film)}\r\n"
        if condition and condition[1] != tag:
            start, end, status, about = 0, len(film), "200 OK", ""
        sent = film[start:end][: self.cut_bytes or None]
        self.sent_bytes += len(sent)
        lines = f"HTTP/1.1 {status}\r\nETag: {tag}\r\nContent-Length: {end - start}\r\n{about}"
        return f"{lines}Connection: close\r\n\r\n".encode() + sent

    def visit(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.visits += 1
        writer.close()


class Names(AbstractResolver):
    """Resolves every name to the next address of a list, the last one again and again."""

    def __init__(self, *addresses: str) -> None:
        self._addresses: Iterable[str] = chain(addresses, repeat(addresses[-1]))

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily | int = 0
    ) -> list[ResolveResult]:
        address = next(iter(self._addresses))
        return [
            {
                "hostname": host,
                "host": address,
                "port": port,
                "family": socket.AF_INET,
                "proto": 0,
                "flags": 0,
            }
        ]

    async def close(self) -> None:
        """Do nothing: there is nothing to close."""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("certificate"), "films.example")


@pytest.fixture
async def stranger(certificate: tuple[Path, Path]) -> AsyncIterator[Stranger]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    stranger = Stranger()
    outer = await asyncio.start_server(stranger.serve, LOOPBACK, 0, ssl=context)
    inner = await asyncio.start_server(stranger.visit, LOOPBACK, 0)
    stranger.port = outer.sockets[0].getsockname()[1]
    stranger.inner_port = inner.sockets[0].getsockname()[1]
    async with outer, inner:
        yield stranger


@pytest.fixture
def trusting(certificate: tuple[Path, Path]) -> HttpsSource:
    """A source that trusts `films.example`, not what it leads to."""
    tls = ssl.create_default_context(cafile=str(certificate[0]))
    return HttpsSource({"films.example"}, resolver=Names(LOOPBACK), tls=tls)


async def fetch(source: HttpsSource, stranger: Stranger, path: str) -> bytes:
    async with (
        asyncio.timeout(HANGS_SECONDS),
        source.open(f"https://films.example:{stranger.port}{path}") as opened,
    ):
        return b"".join([block async for block in opened.blocks])


async def test_a_film_is_read_when_the_server_redirects_a_few_times(
    stranger: Stranger, trusting: HttpsSource
) -> None:
    stranger.redirect("/a", f"https://films.example:{stranger.port}/b")
    stranger.redirect("/b", "/c")
    stranger.answer("/c", f"Content-Length: {len(FILM)}", body=FILM)
    assert await fetch(trusting, stranger, "/a") == FILM


async def test_reading_of_a_film_continues_when_its_server_breaks_every_connection(
    stranger: Stranger, trusting: HttpsSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asyncio, "sleep", AsyncMock())
    stranger.films["/a"], stranger.cut_bytes = (FILM, '"one"'), 20_000
    assert await fetch(trusting, stranger, "/a") == FILM
    assert stranger.sent_bytes == len(FILM)


async def test_reading_of_a_film_does_not_continue_when_it_is_replaced(
    stranger: Stranger, trusting: HttpsSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def replace(_: float) -> None:
        stranger.films["/a"] = FILM[::-1], '"two"'

    monkeypatch.setattr(asyncio, "sleep", replace)
    stranger.films["/a"], stranger.cut_bytes = (FILM, '"one"'), 20_000
    with pytest.raises(SourceChanged):
        await fetch(trusting, stranger, "/a")


@pytest.mark.parametrize(
    "to",
    [
        "https://127.0.0.1:@/x",
        "https://[::ffff:7f00:1]:@/x",
        "https://①②⑦.⓪.⓪.①:@/x",
        "https://2130706433:@/x",
        "https://inner.example:@/x",
        "//127.0.0.1:@/x",
        "http://films.example:@/x",
        "file:///etc/passwd",
        "gopher://127.0.0.1:@/x",
        "https://[broken",
        "",
    ],
)
async def test_a_redirect_is_refused_when_it_leads_to_a_forbidden_address(
    stranger: Stranger, trusting: HttpsSource, to: str
) -> None:
    stranger.redirect("/a", "/b")
    stranger.redirect("/b", to.replace("@", str(stranger.inner_port)))
    with pytest.raises(SourceUnavailable):
        await fetch(trusting, stranger, "/a")
    assert stranger.visits == 0


async def test_the_internal_server_is_contacted_when_its_host_is_trusted(
    stranger: Stranger, trusting: HttpsSource
) -> None:
    stranger.redirect("/a", f"https://films.example:{stranger.inner_port}/")
    with pytest.raises(SourceFetchFailed):
        await fetch(trusting, stranger, "/a")
    assert stranger.visits > 0


async def test_redirects_end_when_they_form_a_loop(stranger: Stranger, trusting: HttpsSource) -> None:
    stranger.redirect("/a", "/b")
    stranger.redirect("/b", "/a")
    with pytest.raises(SourceUnavailable, match="redirects"):
        await fetch(trusting, stranger, "/a")
    assert sum(stranger.asked.values()) == https.MAX_REDIRECTS + 1


async def test_a_name_is_refused_when_it_resolves_to_our_network_at_the_moment_of_the_connection(
    stranger: Stranger, certificate: tuple[Path, Path]
) -> None:
    names = Names(PUBLIC, LOOPBACK)
    await names.resolve("films.example")  # an earlier check of the name saw a public address
    source = HttpsSource(resolver=names, tls=ssl.create_default_context(cafile=str(certificate[0])))
    with pytest.raises(SourceUnavailable, match="private network"):
        await fetch(source, stranger, "/a")
    assert not stranger.asked


@pytest.mark.parametrize(
    ("headers", "body", "error"),
    [
        (["Content-Length: 999999"], FILM, SourceFetchFailed),
        (["Content-Length: -1"], FILM, SourceFetchFailed),
        (["Content-Length: 5", "Content-Length: 7"], FILM, SourceFetchFailed),
        (["Transfer-Encoding: chunked"], b"fffffffffffffffff\r\n", SourceFetchFailed),
        (["Transfer-Encoding: chunked"], b"5\r\nfilm", SourceFetchFailed),
        (["Content-Encoding: gzip"], gzip.compress(bytes(1 << 20)), SourceUnavailable),
        (["X-Long: " + "x" * 100_000, "Content-Length: 0"], b"", SourceFetchFailed),
        ([f"X-{number}: x" for number in range(10_000)], b"", SourceFetchFailed),
        (["no header at all"], b"", SourceFetchFailed),
    ],
)
async def test_an_answer_fails_the_fetch_when_it_contradicts_its_headers(
    stranger: Stranger,
    trusting: HttpsSource,
    headers: list[str],
    body: bytes,
    error: type[SourceError],
) -> None:
    stranger.answer("/a", *headers, body=body)
    with pytest.raises(error):
        await fetch(trusting, stranger, "/a")


async def test_a_fetch_ends_when_the_server_never_answers(
    stranger: Stranger, trusting: HttpsSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(https, "HEAD_TIMEOUT_SECONDS", 0.5)
    stranger.answers["/silent"] = b"HTTP/1.1 200 OK\r\nX-Slow: "
    with pytest.raises(SourceFetchFailed):
        await fetch(trusting, stranger, "/silent")


@pytest.mark.parametrize(
    ("status", "error"),
    [
        ("503 Service Unavailable", SourceServerUnavailable),
        ("500 Internal Server Error", SourceServerUnavailable),
        ("429 Too Many Requests", SourceServerUnavailable),
        ("416 Range Not Satisfiable", SourceFetchFailed),
        ("404 Not Found", SourceUnavailable),
        ("403 Forbidden", SourceUnavailable),
    ],
)
async def test_only_a_server_that_is_busy_or_broken_is_waited_for(
    stranger: Stranger, trusting: HttpsSource, status: str, error: type[SourceError]
) -> None:
    stranger.answer("/a", "Content-Length: 0", status=status)
    with pytest.raises(error) as raised:
        await fetch(trusting, stranger, "/a")
    assert type(raised.value) is error


async def test_an_unavailable_server_is_waited_for_and_a_wrong_name_is_not(
    trusting: HttpsSource, certificate: tuple[Path, Path], unused_tcp_port: int
) -> None:
    with pytest.raises(SourceServerUnavailable):
        async with trusting.open(f"https://films.example:{unused_tcp_port}/a"):
            raise AssertionError("there is no listener")

    class NoSuchName(AbstractResolver):
        async def resolve(self, host: str, port: int = 0, family: object = 0) -> list[ResolveResult]:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        async def close(self) -> None:
            pass

    nowhere = HttpsSource(resolver=NoSuchName(), tls=ssl.create_default_context(cafile=str(certificate[0])))
    with pytest.raises(SourceFetchFailed) as raised:
        async with nowhere.open("https://typo.example/a"):
            raise AssertionError("there is no such host")
    assert type(raised.value) is SourceFetchFailed


async def test_a_failed_video_continues_when_its_server_answers_again(
    stranger: Stranger, trusting: HttpsSource
) -> None:
    postgres = MemoryPostgres()
    uri = f"https://films.example:{stranger.port}/a"
    video = await SampleVideo(postgres.database, source_uri=uri).failed(SourceServerUnavailable("503"))
    source_retry = SourceRetry(video.outbox, {"https": trusting.asking})
    stranger.answer("/a", "Content-Length: 0", status="503 Service Unavailable")
    postgres.pass_time(FIRST_CHECK_SECONDS)
    assert await source_retry.look() == 0
    stranger.films["/a"] = (FILM, '"1"')
    postgres.pass_time(2 * FIRST_CHECK_SECONDS)
    assert await source_retry.look() == 1
    assert (await video.record()).status == "processing"
    assert (stranger.asked["/a"], stranger.sent_bytes) == (2, 1), "a byte is enough"
