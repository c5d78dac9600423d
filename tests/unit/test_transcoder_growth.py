"""Segments are handed over as they are closed, and never while they are written."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from services.transcoder.encode import early_segments as growing
from services.transcoder.encode.early_segments import Growth, Part, count_closed
from shared.errors import DatabaseUnavailable, EncodeFailed, Superseded
from shared.names import segment_name
from tests.unit.transcoder_values import plan

PLAN = plan()
CHUNK = PLAN.chunks[1]  # segments 2 and 3


def begin_segments(folder, *counts):
    """Write the first files of each rendition."""
    for rung, count in zip(PLAN.rungs, counts, strict=True):
        Path(folder, rung.name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            Path(folder, rung.name, segment_name(CHUNK.first_segment + number)).write_bytes(b"a")


@pytest.mark.parametrize(
    ("counts", "closed"), [((0, 0), 0), ((1, 1), 0), ((2, 1), 0), ((2, 2), 1), ((1, 0), 0)]
)
def test_segment_is_closed_when_every_rendition_has_begun_the_next(tmp_path, counts, closed):
    assert (CHUNK.segments, len(PLAN.rungs)) == (2, 2)
    begin_segments(tmp_path, *counts)
    assert count_closed(PLAN, CHUNK, str(tmp_path)) == closed


@pytest.fixture
def closed(monkeypatch):
    """The number of closed segments, set by the test, and of looks at it; segments are known by number."""
    state = {"closed": 0, "looks": 0}

    def verify(_plan, _chunk, _outdir, done, count):
        if state.get("broken"):
            state["has_failed"] = True
            raise EncodeFailed("a picture is missing")
        return list(range(done.segments, count)), Part(count)

    def count_closed(*_):
        state["looks"] += 1
        return state["closed"]

    monkeypatch.setattr(growing, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr(growing, "count_closed", count_closed)
    monkeypatch.setattr(growing, "verify_part", verify)
    return state


async def until(condition):
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.001)


async def encode(closed, counts, growth, is_seen=None):
    """Close segments up to each of `counts`, the next after `growth` has dealt with the last."""

    def is_dealt_with(looks):  # a third look follows the end of what the second has started
        return closed["looks"] >= looks + 3 or closed.get("has_failed")

    async def work():
        for count in counts:
            closed["closed"], looks = count, closed["looks"]
            await until(is_seen or (lambda looks=looks: is_dealt_with(looks)))
        return "encoded"

    return await growth.beside(work(), PLAN, CHUNK, "/out")


async def test_segments_are_handed_over_once_each(closed):
    handed = []

    async def take(files):
        handed.append(files)

    assert await encode(closed, [0, 1, 1, 4], Growth(take, 0)) == "encoded"
    assert handed == [[0], [1, 2, 3]]


async def test_nothing_is_handed_over_sooner_than_the_pause(closed):
    handed = []

    async def take(files):
        handed.append(files)

    clock = asyncio.get_running_loop().time
    end = clock() + 0.05

    def is_over():
        return clock() > end

    assert await encode(closed, [1, 2], Growth(take, 60), is_over) == "encoded"
    assert handed == []


async def test_segments_are_handed_over_later_when_postgres_is_unavailable(closed):
    handed, refused = [], []

    async def take(files):
        if not refused:
            refused.append(files)
            raise DatabaseUnavailable("away")
        handed.append(files)

    assert await encode(closed, [1, 2], Growth(take, 0)) == "encoded"
    assert refused == [[0]]
    assert [number for files in handed for number in files] == [0, 1]


async def test_encode_ends_when_its_claim_was_lost(closed):
    async def take(_files):
        raise Superseded("another worker has it")

    with pytest.raises(Superseded):
        await encode(closed, [1, 1, 1, 1], Growth(take, 0))


async def test_a_faulty_segment_is_left_to_the_check_of_the_chunk(closed):
    async def take(_files):
        raise AssertionError("it is not to be shown")

    closed["broken"] = True
    assert await encode(closed, [1, 2], Growth(take, 0)) == "encoded"


async def test_verification_that_has_begun_ends_before_the_encode_does(closed, monkeypatch):
    running = []

    def slowly(*_):
        running.append("begun")
        growing.time.sleep(0.1)
        running.append("ended")
        raise EncodeFailed("too late")

    async def take(_files):
        raise AssertionError

    monkeypatch.setattr(growing, "verify_part", slowly)
    await encode(closed, [1], Growth(take, 0), lambda: running)
    assert running == ["begun", "ended"]


async def test_next_strategy_writes_elsewhere_when_the_answer_to_handing_over_is_lost(closed, tmp_path):
    async def take(_files):
        raise DatabaseUnavailable("the connection broke: the commit may have been made")

    growth, outdir = Growth(take, 0), str(tmp_path)
    growth.next_place(outdir)
    begin_segments(tmp_path, 1, 1)
    await encode(closed, [1], growth)
    assert growth.next_place(outdir) == f"{outdir}/way2"


async def test_next_strategy_writes_elsewhere_once_something_was_handed_over(closed, tmp_path):
    async def take(_files):
        return

    growth, outdir = Growth(take, 0), str(tmp_path)
    assert [growth.next_place(outdir) for _ in range(2)] == [outdir, outdir]
    begin_segments(tmp_path, 1, 1)
    await encode(closed, [1], growth)
    second = growth.next_place(outdir)
    assert (second, growth.next_place(outdir)) == (f"{outdir}/way2", second)
    assert not list(tmp_path.rglob("*.ts")), "they must not be confused with those of the next strategy"
