"""The H.264 level of a rendition, from its size, frame rate and bit rates, independent of the encoder.

Encoders choose levels by different rules, but one CODECS string applies to all chunks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from fractions import Fraction

MACROBLOCK: Final = 16  # pixels
HIGH_PROFILE_BITS: Final = (
    1250  # bits in a unit of MaxBR and MaxCPB for High profile (Table A-2, cpbBrVclFactor)
)
DECODED_PICTURES: Final = 4  # x264's with B-frames as references; NVENC's is smaller


@dataclass(frozen=True, slots=True)
class Level:
    """A row of Table A-1: macroblocks per second, per frame and of decoded pictures; bit rate and buffer."""

    name: str
    mbps: int
    frame: int
    decoded: int
    rate: int
    buffer: int


# ITU-T H.264, Annex A, Table A-1. Level 1b is omitted: it is signalled by a flag, not by a number.
LEVELS: Final = (
    Level("1.0", 1_485, 99, 396, 64, 175),
    Level("1.1", 3_000, 396, 900, 192, 500),
    Level("1.2", 6_000, 396, 2_376, 384, 1_000),
    Level("1.3", 11_880, 396, 2_376, 768, 2_000),
    Level("2.0", 11_880, 396, 2_376, 2_000, 2_000),
    Level("2.1", 19_800, 792, 4_752, 4_000, 4_000),
    Level("2.2", 20_250, 1_620, 8_100, 4_000, 4_000),
    Level("3.0", 40_500, 1_620, 8_100, 10_000, 10_000),
    Level("3.1", 108_000, 3_600, 18_000, 14_000, 14_000),
    Level("3.2", 216_000, 5_120, 20_480, 20_000, 20_000),
    Level("4.0", 245_760, 8_192, 32_768, 20_000, 25_000),
    Level("4.1", 245_760, 8_192, 32_768, 50_000, 62_500),
    Level("4.2", 522_240, 8_704, 34_816, 50_000, 62_500),
    Level("5.0", 589_824, 22_080, 110_400, 135_000, 135_000),
    Level("5.1", 983_040, 36_864, 184_320, 240_000, 240_000),
    Level("5.2", 2_073_600, 36_864, 184_320, 240_000, 240_000),
    Level("6.0", 4_177_920, 139_264, 696_320, 240_000, 240_000),
    Level("6.1", 8_355_840, 139_264, 696_320, 480_000, 480_000),
    Level("6.2", 16_711_680, 139_264, 696_320, 800_000, 800_000),
)


def lowest_level(width: int, height: int, rate: Fraction, peak_bps: int, buffer_bits: int) -> str:
    """Return the lowest level of High profile that allows all of it, else the highest level."""
    wide, high = -(-width // MACROBLOCK), -(-height // MACROBLOCK)
    size = wide * high
    for level in LEVELS:
        fits = size <= level.frame and max(wide, high) ** 2 <= 8 * level.frame
        in_time = size * rate <= level.mbps and size * DECODED_PICTURES <= level.decoded
        flows = peak_bps <= level.rate * HIGH_PROFILE_BITS and buffer_bits <= level.buffer * HIGH_PROFILE_BITS
        if fits and in_time and flows:
            return level.name
    return LEVELS[-1].name
