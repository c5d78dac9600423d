"""Finds the exact positions of audio frames whose timestamps were rounded by the container; pure.

Most streams have frames of one size, which form a regular grid. Vorbis mixes sizes; its frames are decoded
once and counted.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import accumulate, pairwise
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from services.transcoder.media import AudioGrid, FrameIndex

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Samples per frame: Opus, AMR, MP3, AAC, HE-AAC, AC-3, FLAC, PCM in common packet sizes.
FRAME_SAMPLES: Final = (
    *(120, 128, 160, 192, 240, 256, 320, 384, 480, 512, 576, 882, 960, 1024, 1152, 1536, 1600, 1764),
    *(1920, 2048, 2304, 2880, 4096, 4608),
)
# Every packet of these codecs has one frame of a fixed size, so that even jittering timestamps can be used.
FIXED_CODECS: Final = frozenset({"aac", "mp1", "mp2", "mp3", "ac3", "eac3", "amr_nb", "amr_wb", "opus"})
JITTER_SECONDS: Final = 0.015
ROUNDING_TICKS: Final = 1.5
SLACK_SAMPLES: Final = 2
COUNTED_CODECS: Final = frozenset({"vorbis"})
MAX_DISAGREEMENT_SECONDS: Final = 0.02


def find_audio_grid(
    pts: Sequence[int], time_base: Fraction, sample_rate: int, codec: str
) -> AudioGrid | None:
    """Return the grid of the packets' `pts` (ticks, ascending); None if there is none.

    Lost packets leave gaps in a grid, which are filled with silence.
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
    return AudioGrid(origin, step, min(tolerance, step // 2))


def _gaps(pts: Sequence[int]) -> list[int]:
    return [after - before for before, after in pairwise(pts)]


def _step(gaps: Sequence[float]) -> int:
    """Return the samples per frame: a known size within 2 % of the mean distance, else the mean."""
    typical = median(gaps)
    usual = [gap for gap in gaps if gap < 1.5 * typical]
    mean = sum(usual) / len(usual) if usual else typical
    nearest = min(FRAME_SAMPLES, key=lambda size: abs(size - mean))
    return nearest if abs(nearest - mean) < 0.02 * mean else round(mean)


def _strays(starts: Sequence[float], step: int) -> list[float] | None:
    """Return the distance of each start from its grid position; None if two would share one."""
    places = [round(start / step) for start in starts]
    if any(after <= before for before, after in pairwise(places)):
        return None
    return [start - place * step for start, place in zip(starts, places, strict=True)]


def needs_frame_index(audio: Mapping[str, Any]) -> bool:
    """Return whether `audio` (a stream in ffprobe's JSON) has mixed frame sizes and too coarse a clock."""
    numerator, _, denominator = str(audio["time_base"]).partition("/")
    is_coarse = Fraction(int(numerator), int(denominator)) * int(audio["sample_rate"]) > 1
    return audio.get("codec_name") in COUNTED_CODECS and is_coarse


def index_audio_frames(
    frames: Sequence[tuple[int, int]], time_base: Fraction, sample_rate: int
) -> FrameIndex | None:
    """Return the index of decoded `frames` (ticks, samples); None if there are gaps."""
    if not frames:
        return None
    timed = [round(ticks * time_base * sample_rate) for ticks, _ in frames]
    counted = [timed[0] + before for before in accumulate((samples for _, samples in frames[:-1]), initial=0)]
    strays = [place - count for place, count in zip(timed, counted, strict=True)]
    if max(strays) - min(strays) > MAX_DISAGREEMENT_SECONDS * sample_rate:
        return None
    return FrameIndex(timed, counted)
