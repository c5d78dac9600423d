"""Creates the ladder from the picture's size and the presets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Final, Protocol

from services.transcoder.codecs.h264_x264 import Profile  # noqa: TC001 - pydantic reads the annotations
from services.transcoder.codecs.rate_control import rate_factor

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from services.transcoder.codecs.rate_control import RateControl

MAX_LONG_SIDE: Final = 4096  # supported by every H.264 decoder of level 5.2
MIN_VIDEO_BPS: Final = 100_000


class Offer(Protocol):
    """A configured preset: name, short side in pixels, bit rates.

    `video_bps` is never exceeded on average; `rate_control` "quality" uses as much of it as a mean VMAF of
    `quality` needs (None: the default), "abr" all of it. `profile` balances CPU time against bits.
    """

    @property
    def name(self) -> str: ...
    @property
    def short_side(self) -> int: ...
    @property
    def video_bps(self) -> int: ...
    @property
    def audio_bps(self) -> int: ...
    @property
    def rate_control(self) -> RateControl: ...
    @property
    def quality(self) -> float | None: ...
    @property
    def profile(self) -> Profile: ...


@dataclass(frozen=True, slots=True)
class Preset:
    """An Offer as a plain value."""

    name: str
    short_side: int
    video_bps: int
    audio_bps: int
    rate_control: RateControl = "quality"
    quality: float | None = None
    profile: Profile = "balanced"


@dataclass(frozen=True, slots=True)
class Rung:
    """The target of one encode: even size, square pixels.

    `crf` is the target rate factor, within `video_bps`; None: average bit rate. `profile` is None in plans of
    version 1.
    """

    name: str
    width: int
    height: int
    video_bps: int
    audio_bps: int
    crf: float | None = None
    profile: Profile | None = None


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

    `requested` names the presets to use (empty: all). If none of them fits, the largest preset that fits is
    used; if no preset fits, one rung with the picture's own size.
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
    return Rung(
        name=preset.name,
        width=_even(width * scale),
        height=_even(height * scale),
        video_bps=preset.video_bps,
        audio_bps=preset.audio_bps,
        crf=rate_factor(preset.short_side, preset.quality) if preset.rate_control == "quality" else None,
        profile=preset.profile,
    )


def _own_size(width: Fraction | int, height: Fraction | int, ordered: Sequence[Offer]) -> Rung:
    """Return one rung with the picture's size, its bit rate scaled by area from the nearest preset."""
    short = max(2, int(min(width, height)) // 2 * 2)
    nearest: Offer = ordered[-1] if ordered else DEFAULT_PRESETS[-1]
    own = Preset(
        name=f"{short}p",
        short_side=short,
        video_bps=nearest.video_bps,
        audio_bps=nearest.audio_bps,
        rate_control=nearest.rate_control,
        quality=nearest.quality,
        profile=nearest.profile,
    )
    rung = _rung(width, height, own)
    area = _rung(width, height, nearest)
    share = Fraction(rung.width * rung.height, area.width * area.height)
    return replace(rung, video_bps=max(MIN_VIDEO_BPS, int(nearest.video_bps * share)))


def _even(length: Fraction | int) -> int:
    """Return the nearest even number, at least 2: 4:2:0 video needs even sizes."""
    return max(2, round(Fraction(length) / 2) * 2)
