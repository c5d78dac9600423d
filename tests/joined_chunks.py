"""Chunks of a numbered clip, encoded separately and joined, and checks of the result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from services.transcoder.encode.chunk import encode_chunk
from services.transcoder.encode.select_encoder import Encoder
from services.transcoder.plan.ladder import Preset
from services.transcoder.plan.make_plan import make_plan
from tests.media import RATE, read_numbers, read_sound, read_times, tone_steps

if TYPE_CHECKING:
    from pathlib import Path

    from services.transcoder.plan.model import Plan

PRESETS: Final = (Preset("96p", 96, 300_000, 128_000), Preset("64p", 64, 150_000, 128_000))
X264: Final = Encoder("libx264")
SMOOTH: Final = 0.06  # radians in 10 ms: what one uninterrupted encode of the tone shows at its worst


@dataclass(frozen=True)
class Joined:
    """One rendition's segments as one file."""

    plan: Plan
    path: Path
    width: int
    height: int


async def convert(source: Path, folder: Path, change=lambda plan: plan, encoder=X264) -> list[Joined]:
    """Encode every chunk separately, the last first, and join the segments."""
    plan = change(await make_plan(source, PRESETS, segment_seconds=1, chunk_seconds=2))
    assert len(plan.chunks) > 2
    segments = []
    for index in reversed(range(len(plan.chunks))):
        encoded = await encode_chunk(plan, index, source, folder / str(index), encoder)
        segments += encoded.segments
    joined = []
    for rung in plan.rungs:
        files = sorted(
            (file for file in segments if file.rendition == rung.name), key=lambda file: file.index
        )
        assert [file.index for file in files] == list(range(1, len(plan.segment_starts) + 1))
        path = folder / f"{rung.name}.ts"
        path.write_bytes(b"".join(file.path.read_bytes() for file in files))
        check_counters(path.read_bytes())
        joined.append(Joined(plan, path, rung.width, rung.height))
    return joined


def check_counters(stream: bytes) -> None:
    """The continuity counters of every PID continue over all joins (ISO/IEC 13818-1, 2.4.3.3)."""
    last: dict[int, int] = {}
    for at in range(0, len(stream), 188):
        pid, counter = (stream[at + 1] & 0x1F) << 8 | stream[at + 2], stream[at + 3] & 0x0F
        assert counter == (last.get(pid, counter - 1) + 1) % 16
        last[pid] = counter


def check_pictures(joined: Joined, expected: list[int]) -> None:
    """All numbers are in order, and all frames are exactly one frame apart."""
    assert read_numbers(joined.path, joined.width, joined.height) == expected
    times = read_times(joined.path, "v:0")
    wanted = [10 * 90_000 + number * 90_000 / joined.plan.rate for number in range(len(expected))]
    assert all(abs(time - want) <= 1 for time, want in zip(times, wanted, strict=True))


def check_sound(joined: Joined, begin_seconds: float, end_seconds: float) -> None:
    """AAC frames are contiguous, and the tone continues without a break at joins."""
    times = read_times(joined.path, "a:0")
    assert times == list(range(times[0], times[0] + 1920 * len(times), 1920))
    sound = read_sound(joined.path)
    step, drift, weakest = tone_steps(
        sound[int((begin_seconds + 0.05) * RATE) : int((end_seconds - 0.05) * RATE)]
    )
    assert step < SMOOTH
    assert drift < 0.05
    assert weakest > 0.95
