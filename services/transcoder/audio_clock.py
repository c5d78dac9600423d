"""Find the regular lattice of an audio stream's frames behind timestamps that its container rounded."""

from __future__ import annotations

from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Final

from .source import Lattice

if TYPE_CHECKING:
    from collections.abc import Sequence
    from fractions import Fraction

# Samples in one frame: Opus, AMR, MP3, AAC, HE-AAC, AC-3, FLAC, PCM as muxers cut it.
FRAME_SAMPLES: Final = (
    *(120, 128, 160, 192, 240, 256, 320, 384, 480, 512, 576, 882, 960, 1024, 1152, 1536, 1600, 1764),
    *(1920, 2048, 2304, 2880, 4096, 4608),
)
# Every packet of these holds one frame of a fixed size, so that timestamps may even jitter.
FIXED_CODECS: Final = frozenset({"aac", "mp1", "mp2", "mp3", "ac3", "eac3", "amr_nb", "amr_wb", "opus"})
JITTER_SECONDS: Final = 0.015
ROUNDING_TICKS: Final = 1.5
SLACK_SAMPLES: Final = 2


def find_lattice(pts: Sequence[int], time_base: Fraction, sample_rate: int, codec: str) -> Lattice | None:
    """Return the lattice that the packets' `pts` (ticks, ascending) lie on, None where there is none.

    Lost packets leave holes in a lattice, which is still one: its sound is silence.
    """
    if len(pts) < 2:
        return None
    scale = float(time_base * sample_rate)
    step = _step([tick * scale for tick in _gaps(pts)])
    starts = [(tick - pts[0]) * scale for tick in pts]
    strays = _strays(starts, step) if step else None
    if strays is None:
        return None
    low, high = min(strays), max(strays)
    jitter = (
        min(step / 3, JITTER_SECONDS * sample_rate) if codec in FIXED_CODECS and step in FRAME_SAMPLES else 0
    )
    if (high - low) / 2 > max(jitter, ROUNDING_TICKS * scale + SLACK_SAMPLES):
        return None
    origin = round(pts[0] * time_base * sample_rate + (low + high) / 2)
    tolerance = int((high - low) / 2 + 2 * scale) + SLACK_SAMPLES
    return Lattice(origin, step, min(tolerance, step // 2))


def _gaps(pts: Sequence[int]) -> list[int]:
    return [after - before for before, after in pairwise(pts)]


def _step(gaps: Sequence[float]) -> int:
    """Return the samples in a frame: a known size within 2 % of the mean distance, or else that mean."""
    typical = median(gaps)
    usual = [gap for gap in gaps if gap < 1.5 * typical]
    mean = sum(usual) / len(usual) if usual else typical
    nearest = min(FRAME_SAMPLES, key=lambda size: abs(size - mean))
    return nearest if abs(nearest - mean) < 0.02 * mean else round(mean)


def _strays(starts: Sequence[float], step: int) -> list[float] | None:
    """Return how far each start lies from its place, None where two would share one."""
    places = [round(start / step) for start in starts]
    if any(after <= before for before, after in pairwise(places)):
        return None
    return [start - place * step for start, place in zip(starts, places, strict=True)]
