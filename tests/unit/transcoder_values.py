"""Sources and plans for the transcoder's unit tests."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from services.transcoder.media import AudioGrid, AudioTrack, Colour, Source, VideoTrack
from services.transcoder.plan.build import build_plan
from services.transcoder.plan.ladder import DEFAULT_PRESETS, build_ladder

if TYPE_CHECKING:
    from services.transcoder.plan.model import Plan

TICKS = 90_000
FIRST = 126_000
FRAME = 3003

VIDEO = VideoTrack(
    index=0,
    codec="h264",
    width=1280,
    height=720,
    sample_aspect=Fraction(1),
    orientation=(),
    pix_fmt="yuv420p",
    colour=Colour("tv", "bt709", "bt709", "bt709"),
    interlaced=False,
    time_base=Fraction(1, TICKS),
    rate=Fraction(30000, 1001),
    is_vfr=False,
    first_pts=FIRST,
    frames=1200,
)
AUDIO = AudioTrack(
    index=1,
    codec="aac",
    sample_rate=44_100,
    channels=2,
    start_seconds=Fraction(14, 10),
    end_seconds=Fraction(1400, 1000) + Fraction(4004, 100),
    lattice=AudioGrid(61_740, 1024, 4),
)


def source(**changes: Any) -> Source:
    """Return a 40 s source at 29.97 fps with a key frame every 60 frames."""
    pts = [FIRST + FRAME * number for number in range(1200)]
    return replace(Source("mov", "exact", VIDEO, AUDIO, pts, pts[::60]), **changes)


def plan(given: Source | None = None, names: tuple[str, ...] = ("720p", "360p")) -> Plan:
    """Return the plan of `given` with segments of 10 s."""
    given = given or source()
    rungs = build_ladder(*given.video.display_size, DEFAULT_PRESETS, names)
    return build_plan(given, rungs, Fraction(10), Fraction(60))
