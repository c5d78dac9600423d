"""Chunks are encoded from parts of a source, and from all of it where the parts are in doubt."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import pytest

from services.transcoder.encode.source_parts import PartsInDoubt, holds_packets
from services.transcoder.ffmpeg.runner import Finished
from services.transcoder.handlers.partial_source import EncodeParts
from services.transcoder.plan.model import ChunkReads, PacketCount
from tests.unit.transcoder_values import plan

HEAD, SPANS = ((0, 100),), ((500, 900),)
COUNT = PacketCount(stream=0, seek_seconds=4.0, end_seconds=8.0, begin=400, end=800, packets=3)


READS = ChunkReads(SPANS, (COUNT,))


def given(*, is_searched=False, reads=READS):
    found = plan()
    chunks = tuple(replace(chunk, reads=reads) for chunk in found.chunks)
    return replace(found, head=HEAD, is_searched=is_searched, chunks=chunks)


@dataclass
class Remote:
    """A remote source that records its requests."""

    path: Path = Path("copy")
    is_remote: bool = True
    whole: bool = False
    asked: list = field(default_factory=list)

    async def is_whole(self):
        return self.whole

    async def need(self, spans):
        self.asked.append(tuple(spans))

    async def need_all(self):
        self.asked.append("all")

    @asynccontextmanager
    async def joined(self, spans):
        self.asked.append(("joined", *spans))
        yield Path("joined")


class Encoding:
    """Encodes, and is in doubt about parts if `doubts`."""

    def __init__(self, *, doubts=False):
        self.doubts, self.runs = doubts, []

    async def __call__(self, path, *, has_holes):
        self.runs.append((str(path), has_holes))
        if has_holes and self.doubts:
            raise PartsInDoubt("zeros do not decode")
        return f"encoded from {path}"


async def encode(source, found, encoding, *, holds=True):
    async def holds_packets_(*_):
        return holds

    return await EncodeParts(holds_packets_)(source, found, found.chunks[0], encoding)


async def test_only_the_parts_of_a_chunk_are_fetched():
    source, encoding = Remote(), Encoding()
    assert await encode(source, given(), encoding) == "encoded from copy"
    assert source.asked == [(*HEAD, *SPANS)]
    assert encoding.runs == [("copy", True)]


async def test_parts_are_joined_where_a_seek_searches_the_file():
    source, encoding = Remote(), Encoding()
    assert await encode(source, given(is_searched=True), encoding) == "encoded from joined"
    assert source.asked == [("joined", *HEAD, *SPANS)]


@pytest.mark.parametrize(
    ("found", "options", "runs"),
    [
        (given(reads=None), {}, [("copy", False)]),
        (replace(given(), head=()), {}, [("copy", False)]),
        (given(), {"holds": False}, [("copy", False)]),
    ],
)
async def test_all_of_the_source_is_fetched_where_its_parts_do_not_suffice(found, options, runs):
    source, encoding = Remote(), Encoding()
    await encode(source, found, encoding, **options)
    assert source.asked[-1] == "all"
    assert encoding.runs == runs


async def test_a_chunk_is_encoded_again_from_the_whole_source_when_its_parts_are_in_doubt():
    source, encoding = Remote(), Encoding(doubts=True)
    await encode(source, given(), encoding)
    assert source.asked == [(*HEAD, *SPANS), "all"]
    assert encoding.runs == [("copy", True), ("copy", False)]


async def test_nothing_is_fetched_when_the_source_is_local():
    for source in (Remote(whole=True), Remote(is_remote=False)):
        encoding = Encoding()
        await encode(source, given(), encoding)
        assert (source.asked, encoding.runs) == ([], [("copy", False)])


@dataclass(frozen=True)
class Listing:
    """Answers with packets as ffprobe lists them."""

    lines: tuple[str, ...]
    returncode: int = 0
    asked: list = field(default_factory=list)

    async def run_ffprobe(self, arguments, *, on_line, **_):
        self.asked.append(arguments)
        for line in self.lines:
            on_line(line)
        return Finished(self.returncode, "")


def packet(time, place):
    return f"0,{time},{time},100,50,{place},K__"


THREE = (packet(300, 10), packet(400, 500), packet(500, 600), packet(700, 850), packet(800, 2000))


@pytest.mark.parametrize(
    ("lines", "holds"),
    [
        (THREE, True),
        (THREE[:3], False),  # one is missing
        ((*THREE, packet(750, 700)), False),  # one more than when the video was planned
        ((*THREE[:3], packet(700, 851)), False),  # its last byte is in a hole
    ],
)
async def test_parts_hold_the_packets_that_were_counted(lines, holds):
    found = given()
    runner = Listing(lines)
    assert await holds_packets(runner, found, found.chunks[0], "copy", (*HEAD, *SPANS)) is holds
    [arguments] = runner.asked
    interval = arguments[arguments.index("-read_intervals") + 1]
    begin, _, end = interval.partition("%")
    assert (float(begin), float(end) > 8 + Fraction(1, 2)) == (4.0, True)


async def test_positions_do_not_matter_in_a_file_of_joined_parts():
    found = given(is_searched=True)
    assert await holds_packets(
        Listing((packet(400, 1), packet(500, 2), packet(600, 3))), found, found.chunks[0], "joined", SPANS
    )


async def test_parts_that_cannot_be_opened_hold_nothing():
    found = given()
    assert not await holds_packets(Listing(THREE, 1), found, found.chunks[0], "copy", SPANS)
