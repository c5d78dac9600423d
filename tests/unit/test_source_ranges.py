from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest

from services.transcoder.sources.range_reader import (
    MAX_CUTS,
    Answer,
    RemoteReader,
    open_ranges,
    open_whole,
    range_header,
    total_bytes,
)
from shared.errors import SourceChanged, SourceFetchFailed

FILM = bytes(range(256)) * 40
PIECE = 1000


@dataclass
class Server:
    """Serves FILM by ranges; `cuts` are how many bytes each of the next answers holds, None: all of it."""

    film: bytes = FILM
    validator: str = '"one"'
    ranges: bool = True
    cuts: list[int | None] = field(default_factory=list)
    asked: list[tuple[int, int, str | None]] = field(default_factory=list)

    @asynccontextmanager
    async def ask(self, start, length, validator):
        self.asked.append((start, length, validator))
        is_part = self.ranges and validator in (None, self.validator)
        part = self.film[start : start + length] if is_part else self.film
        cut = self.cuts.pop(0) if self.cuts else None
        yield Answer(self._blocks(part, cut), len(self.film), self.validator, is_part=is_part)

    async def _blocks(self, part, cut):
        sent = part if cut is None else part[:cut]
        for place in range(0, len(sent), 300):
            yield sent[place : place + 300]
        if cut is not None:
            raise SourceFetchFailed("the connection broke")


async def whole(server):
    async with open_whole(server.ask, piece_bytes=PIECE, cut_seconds=0) as opened:
        return b"".join([block async for block in opened.blocks])


async def part(reader, start, length):
    return b"".join([block async for block in reader.read(start, length)])


def reader_of(server):
    return RemoteReader(server.ask, len(server.film), server.validator, PIECE, 0)


async def test_a_source_is_read_in_bounded_requests_when_its_server_allows_ranges():
    server = Server()
    assert await whole(server) == FILM
    assert max(length for _, length, _ in server.asked) == PIECE
    assert {validator for _, _, validator in server.asked[1:]} == {'"one"'}


async def test_reading_continues_where_it_stopped_when_a_connection_breaks():
    server = Server(cuts=[700, None, 350])
    assert await whole(server) == FILM
    assert [start for start, _, _ in server.asked[:4]] == [0, 700, 1700, 2050]
    assert sum(length for _, length, _ in server.asked) < len(FILM) + 3 * PIECE


async def test_a_cut_answer_fails_the_reading_when_the_server_ignores_ranges():
    server = Server(ranges=False)
    assert await whole(server) == FILM
    with pytest.raises(SourceFetchFailed):
        await whole(replace(server, cuts=[500]))
    assert len(server.asked) == 2


async def test_reading_ends_when_no_more_bytes_arrive():
    server = Server(cuts=[0] * (MAX_CUTS + 1))
    with pytest.raises(SourceFetchFailed):
        await part(reader_of(server), 100, 50)
    assert len(server.asked) == MAX_CUTS + 1


async def test_reading_continues_however_often_it_is_cut_when_bytes_arrive_in_between():
    server = Server(cuts=[300] * 20)
    assert await part(reader_of(server), 0, 6000) == FILM[:6000]


async def test_a_part_has_exactly_the_requested_bytes():
    assert await part(reader_of(Server()), 123, 4567) == FILM[123 : 123 + 4567]


@pytest.mark.parametrize("other", [Server(validator='"two"'), Server(film=FILM[1:])])
async def test_a_replaced_source_is_noticed(other):
    with pytest.raises(SourceChanged):
        await part(RemoteReader(other.ask, len(FILM), '"one"', PIECE, 0), 0, 10)


async def test_a_source_that_is_replaced_while_it_is_read_is_not_mixed():
    server, read = Server(cuts=[500]), []

    async def read_on():
        async with open_whole(server.ask, piece_bytes=PIECE, cut_seconds=0) as opened:
            async for block in opened.blocks:
                read.append(block)
                server.validator = '"two"'

    with pytest.raises(SourceChanged):
        await read_on()
    assert b"".join(read) == FILM[:500]


async def test_an_answer_that_is_too_short_is_requested_again():
    server = Server()

    @asynccontextmanager
    async def stingy(start, length, validator):
        async with server.ask(start, max(1, length // 2), validator) as answer:
            yield answer

    assert await part(RemoteReader(stingy, len(FILM), '"one"', PIECE, 0), 0, 3000) == FILM[:3000]


async def test_ranges_are_not_read_when_the_server_ignores_them():
    assert await open_ranges(Server(ranges=False).ask) is None
    reader = await open_ranges(Server().ask)
    assert (reader.size_bytes, reader.validator) == (len(FILM), '"one"')


def test_headers_of_ranges_count_from_zero_and_include_the_last_byte():
    assert range_header(10, 5) == "bytes=10-14"
    assert total_bytes("bytes 10-14/1000", 10) == 1000
    with pytest.raises(SourceFetchFailed):
        total_bytes("bytes 11-14/1000", 10)
