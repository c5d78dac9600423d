"""From the picture's size and the presets to the ladder: which renditions are made, and how large."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

MAX_LONG_SIDE: Final = 4096  # what every H.264 decoder of level 5.2 takes
MIN_VIDEO_BPS: Final = 100_000


class Offer(Protocol):
    """What an operator offers: a quality by name, its short side in pixels, its bit rates."""

    @property
    def name(self) -> str: ...
    @property
    def short_side(self) -> int: ...
    @property
    def video_bps(self) -> int: ...
    @property
    def audio_bps(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Preset:
    """An Offer as a plain value."""

    name: str
    short_side: int
    video_bps: int
    audio_bps: int


@dataclass(frozen=True, slots=True)
class Rung:
    """The target of one encode: even size, square pixels."""

    name: str
    width: int
    height: int
    video_bps: int
    audio_bps: int


DEFAULT_PRESETS: Final = (
    Preset("1080p", 1080, 5_000_000, 128_000),
    Preset("720p", 720, 2_800_000, 128_000),
    Preset("480p", 480, 1_400_000, 128_000),
    Preset("360p", 360, 800_000, 128_000),
)


def build_ladder(
    width: Fraction | int, height: Fraction | int, presets: Sequence[Offer], requested: Collection[str] = ()
) -> tuple[Rung, ...]:
    """Return the rungs for a picture shown at `width` by `height`, largest first, never upscaled.

    `requested` names the wanted presets (empty: all). Where none of them fits, the largest preset that
    does is made; where no preset fits, one rung at the picture's own size.
    """
    ordered = sorted(presets, key=lambda preset: (-preset.short_side, -preset.video_bps))
    fitting = [preset for preset in ordered if preset.short_side <= min(width, height)]
    if not fitting:
        return (_own_size(width, height, ordered),)
    chosen = [preset for preset in fitting if preset.name in requested] if requested else fitting
    return tuple(_rung(width, height, preset) for preset in chosen or fitting[:1])


def _rung(width: Fraction | int, height: Fraction | int, preset: Offer) -> Rung:
    scale = min(
        Fraction(preset.short_side) / min(width, height), Fraction(MAX_LONG_SIDE) / max(width, height)
    )
    return Rung(preset.name, _even(width * scale), _even(height * scale), preset.video_bps, preset.audio_bps)


def _own_size(width: Fraction | int, height: Fraction | int, ordered: Sequence[Offer]) -> Rung:
    """Return one rung as large as the picture itself, its bit rate scaled by area from the nearest preset."""
    short = max(2, int(min(width, height)) // 2 * 2)
    nearest: Offer = ordered[-1] if ordered else DEFAULT_PRESETS[-1]
    rung = _rung(width, height, Preset(f"{short}p", short, nearest.video_bps, nearest.audio_bps))
    area = _rung(width, height, nearest)
    share = Fraction(rung.width * rung.height, area.width * area.height)
    return replace(rung, video_bps=max(MIN_VIDEO_BPS, int(nearest.video_bps * share)))


def _even(length: Fraction | int) -> int:
    """Return the even number nearest to `length`, at least 2: 4:2:0 video has no odd sizes."""
    return max(2, round(Fraction(length) / 2) * 2)
