"""The CODECS string is read from the bits, wherever transport stream packets cut them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from services.transcoder.encode.verify import codecs_of
from services.transcoder.ffmpeg.task_group import together
from shared.errors import EncodeFailed

if TYPE_CHECKING:
    from pathlib import Path

HIGH_40 = b"\x00\x00\x01\x67\x64\x00\x28\xac\xd9"


def _packets(stream: bytes, sizes: list[int]) -> bytes:
    """Cut `stream` into transport stream packets of so many bytes each, filled up by adaptation fields."""
    packets, begin = b"", 0
    for size in sizes:
        part, room = stream[begin : begin + size], 183 - size
        packets += b"\x47\x41\x00\x30" + bytes([room]) + b"\xff" * room + part
        begin += size
    return packets


@pytest.mark.parametrize("cut", range(1, len(HIGH_40)))
def test_codecs_of_finds_the_parameter_set_when_a_packet_ends_within_it(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "segment.ts"
    path.write_bytes(_packets(HIGH_40, [cut, len(HIGH_40) - cut]))
    assert codecs_of(path.read_bytes()) == "avc1.640028"


def test_codecs_of_raises_encode_failed_when_there_is_no_parameter_set(tmp_path: Path) -> None:
    path = tmp_path / "segment.ts"
    path.write_bytes(_packets(b"\x00\x00\x01\x65 a picture", [16]))
    with pytest.raises(EncodeFailed, match="no sequence parameter set"):
        codecs_of(path.read_bytes())


async def test_together_returns_the_results_in_order_when_all_succeed() -> None:
    async def after(seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds

    assert await together(after(0.02), after(0.01), after(0)) == [0.02, 0.01, 0]


async def test_together_cancels_the_others_when_one_raises() -> None:
    cancelled = asyncio.Event()

    async def wait_for_ever() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def fail() -> None:
        await asyncio.sleep(0)
        raise EncodeFailed("x264 is tired")

    with pytest.raises(EncodeFailed, match="tired"):
        await together(wait_for_ever(), fail())
    assert cancelled.is_set()
