"""Rate control of a rendition: a capped target quality, or an average bit rate (ABR).

With a target quality the encoder needs no estimate of the content, but of the decoder's buffer and of the
pictures before: a chunk starts with a warm-up that is dropped, and then at the quality at which the last one
ended. With ABR the first estimate of the content is 1 to 2 dB off for a second; the warm-up takes that, too.
The scale is x264's rate factor (CRF): an increase of 6 halves the bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

RateControl = Literal["quality", "abr"]

BUFFER_SECONDS: Final = 2  # of the decoder's buffer (VBV), at the average rate
# A peak equal to the average guarantees a preset's limit, "never more than this on average", for any
# content, noise included; a hundredth less, because x264 leaves less in the buffer at the end of a chunk than
# the next one is taken to begin with. The buffer lets ten seconds take a fifth more.
CAPPED_PEAK: Final = 0.99
# How full the buffer is taken to be at the first picture: that of a video, and that of a warm-up. What
# precedes a chunk has usually left it nearly full; noise has spent the difference when the warm-up ends.
BUFFER_AT_START: Final = 0.4
BUFFER_AT_WARM_UP: Final = 0.8
ABR_PEAK: Final = 1.5  # Apple, HLS authoring specification 1.30: at most 2
# The default mean VMAF, and the rate factors that reach it on difficult camera pictures with the balanced
# profile; lower for small pictures, which are watched enlarged.
USUAL_VMAF: Final = 93.0
VMAF_PER_CRF: Final = 2.0
LARGE_ROWS: Final = 720
LARGE_CRF, SMALL_CRF = 22.0, 21.0
MIN_CRF, MAX_CRF = 14.0, 34.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Requirements on the decoder: peak bits per second, and bits of buffer."""

    peak_bps: int
    buffer_bits: int

    def max_bits(self, seconds: float) -> int:
        """Return the maximum number of bits for `seconds` of video."""
        return int(self.peak_bps * seconds) + self.buffer_bits


def limits(video_bps: int, *, is_capped: bool) -> Limits:
    """Return the limits of a rendition at `video_bps` on average; `is_capped`: it has a target quality."""
    peak = CAPPED_PEAK if is_capped else ABR_PEAK
    return Limits(int(video_bps * peak), video_bps * BUFFER_SECONDS)


def rate_factor(short_side: int, vmaf: float | None) -> float:
    """Return the CRF for a target mean VMAF (None: the default) at `short_side` pixels."""
    usual = _usual_crf(short_side)
    better = 0.0 if vmaf is None else vmaf - USUAL_VMAF
    return min(MAX_CRF, max(MIN_CRF, usual - better / VMAF_PER_CRF))


def aimed_vmaf(short_side: int, crf: float) -> float:
    """Return the target mean VMAF of `crf` at `short_side` pixels (see rate_factor)."""
    return USUAL_VMAF + (_usual_crf(short_side) - crf) * VMAF_PER_CRF


def _usual_crf(short_side: int) -> float:
    return LARGE_CRF if short_side >= LARGE_ROWS else SMALL_CRF
