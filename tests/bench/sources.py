"""The sources: made once, kept under `.stack/bench` for the next run."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.bench.commands import LADDER, RATE, TINY_LADDER, real_source, synthetic_source, tiny_source
from tests.bench.measure import run_quietly

if TYPE_CHECKING:
    from services.transcoder.plan.ladder import Rung

REPOSITORY: Final = Path(__file__).parents[2]
FOLDER: Final = REPOSITORY / ".stack" / "bench" / "sources"
CLIPS: Final = ("bigbuckbunny.mp4", "cockatoo.mp4", "karma.mp4", "video-h265.mp4")
TINY: Final = "tiny"  # trivial pictures: the remaining cost is that of any video
TINY_SECONDS: Final = 10.0
KINDS: Final = ("real", "synthetic", TINY)
MAX_TIMES_REAL_TIME: Final = 60


@dataclass(frozen=True, slots=True)
class Source:
    """A file to convert and what it shows."""

    kind: str
    path: Path
    seconds: float
    contents: str
    ladder: tuple[Rung, ...] = LADDER


class NoMedia(Exception):
    """There are no clips for the real source; the message names the directory."""


def make_source(kind: str, seconds: float, media: Path) -> Source:
    """Return the source of a type, creating it if necessary; raises NoMedia, CommandFailed."""
    clips = _clips(media) if kind == "real" else []
    seconds = TINY_SECONDS if kind == TINY else seconds
    unnamed = _argv(kind, clips, seconds, Path("source.mp4"))
    stamp = hashlib.sha256("\n".join(unnamed).encode()).hexdigest()[:12]
    path = FOLDER / f"{kind}-{seconds:g}s-{stamp}.mp4"
    if not path.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".part.mp4")
        run_quietly(_argv(kind, clips, seconds, draft), max(600.0, MAX_TIMES_REAL_TIME * seconds))
        draft.replace(path)
    if kind == TINY:
        return Source(kind, path, seconds, f"64x36, {RATE} fps, H.264 and AAC: testsrc2, tone", TINY_LADDER)
    named = ", ".join(clip.name for clip in clips) or "testsrc2, mandelbrot, noise, tone"
    return Source(kind, path, seconds, f"1920x1080, {RATE} fps, H.264 and AAC: {named}")


def _argv(kind: str, clips: list[Path], seconds: float, target: Path) -> list[str]:
    if kind == TINY:
        return tiny_source(seconds, target)
    return real_source(clips, seconds, target) if clips else synthetic_source(seconds, target)


def _clips(media: Path) -> list[Path]:
    found = [media / name for name in CLIPS if (media / name).is_file()]
    if not found:
        raise NoMedia(f"no clips in {media}: give a directory with {' or '.join(CLIPS)} as BENCH_MEDIA")
    return found
