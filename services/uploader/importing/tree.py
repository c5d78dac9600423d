"""Reads the playlists of an HLS tree that another program wrote; pure.

Only trees like the pipeline's own are accepted: complete VOD playlists of whole MPEG-TS segments with muxed
audio, neither encrypted nor discontinuous.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from shared.errors import PipelineError
from shared.names import RENDITION

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ATTRIBUTE: Final = re.compile(r'([A-Z0-9-]+)=("[^"]*"|[^,]*)')
STREAM: Final = "#EXT-X-STREAM-INF:"
REFUSED: Final = {
    "#EXT-X-BYTERANGE": "segments are byte ranges of files",
    "#EXT-X-MAP": "segments are fragmented MP4",
    "#EXT-X-DISCONTINUITY": "its clock jumps",
    "#EXT-X-I-FRAMES-ONLY": "it lists key frames only",
    "#EXT-X-MEDIA:": "sound or captions are separate from the picture",
}
MAX_SEGMENTS: Final = 100_000


class NotImportable(PipelineError):
    """The pipeline cannot import this tree."""

    reason = "not_importable"


@dataclass(frozen=True)
class Variant:
    """An entry of a multivariant playlist; sizes in pixels; `frame_rate` None if not stated."""

    uri: str
    width: int
    height: int
    codecs: str
    frame_rate: float | None


@dataclass(frozen=True)
class Entry:
    """A segment of a media playlist."""

    uri: str
    duration_seconds: float


def parse_variants(text: str, name: str) -> list[Variant]:
    """Return the variants of a multivariant playlist. Raises NotImportable."""
    lines = _lines(text, name)
    found = []
    for line in lines:
        if line.startswith(STREAM):
            found.append(_variant(line, next(lines, ""), name))
        elif not line.startswith("#"):
            raise NotImportable(f"{name} is not a multivariant playlist: {line[:80]} has no {STREAM}")
    if not found:
        raise NotImportable(f"{name} has no variant")
    return found


def _variant(line: str, uri: str, name: str) -> Variant:
    given = {key: value.strip('"') for key, value in ATTRIBUTE.findall(line.removeprefix(STREAM))}
    size = re.fullmatch(r"(\d{2,5})x(\d{2,5})", given.get("RESOLUTION", ""))
    codecs, rate = given.get("CODECS", ""), given.get("FRAME-RATE")
    if not size or not codecs or not uri or uri.startswith("#"):
        raise NotImportable(f"{name}: each variant needs RESOLUTION, CODECS and a playlist: {line[:120]}")
    try:
        return Variant(uri, int(size[1]), int(size[2]), codecs, float(rate) if rate else None)
    except ValueError as error:
        raise NotImportable(f"{name}: FRAME-RATE={rate} is not a number") from error


def parse_segments(text: str, name: str) -> list[Entry]:
    """Return the segments of a complete media playlist. Raises NotImportable."""
    found: list[Entry] = []
    seconds, is_complete = None, False
    for line in _lines(text, name):
        is_complete |= line == "#EXT-X-ENDLIST"
        if line.startswith("#EXTINF:"):
            seconds = _seconds(line, name)
        elif not line.startswith("#"):
            if seconds is None:
                raise NotImportable(f"{name}: {line[:80]} has no duration")
            found.append(Entry(line, seconds))
            seconds = None
    if not is_complete:
        raise NotImportable(f"{name} has no #EXT-X-ENDLIST: it is still growing")
    if not 0 < len(found) <= MAX_SEGMENTS:
        raise NotImportable(f"{name} has {len(found)} segments")
    return found


def _seconds(line: str, name: str) -> float:
    try:
        seconds = float(line.removeprefix("#EXTINF:").partition(",")[0])
    except ValueError as error:
        raise NotImportable(f"{name}: {line[:80]} is not a duration") from error
    if not (math.isfinite(seconds) and 0 < seconds <= 3600):
        raise NotImportable(f"{name}: {line[:80]} is not the duration of a segment")
    return seconds


def _lines(text: str, name: str) -> Iterator[str]:
    lines = [line.strip() for line in text.removeprefix("\ufeff").splitlines() if line.strip()]
    if not lines or lines[0] != "#EXTM3U":
        raise NotImportable(f"{name} is not a playlist")
    for line in lines[1:]:
        for tag, why in REFUSED.items():
            if line == tag.rstrip(":") or line.startswith(f"{tag.rstrip(':')}:"):
                raise NotImportable(f"{name}: {why}")
        if line.startswith("#EXT-X-KEY:") and "METHOD=NONE" not in line:
            raise NotImportable(f"{name}: segments are encrypted")
        yield line


def resolve(folder: str, uri: str, name: str) -> str:
    """Return the key of a relative URI in a playlist below `folder`. Raises NotImportable."""
    path = PurePosixPath(folder, uri)
    if ":" in uri or "?" in uri or uri.startswith("/") or ".." in path.parts or "." in uri.split("/"):
        raise NotImportable(f"{name}: {uri[:120]} is not next to the playlist")
    return str(path)


def rendition_names(variants: Sequence[Variant]) -> list[str]:
    """Return a name for each variant: of its folder if valid, else by its short side."""
    names: list[str] = []
    for variant in variants:
        folder = PurePosixPath(variant.uri).parent.name
        wanted = folder if RENDITION.fullmatch(folder) else f"{min(variant.width, variant.height)}p"
        number, name = 1, wanted
        while name in names:
            number += 1
            name = f"{wanted[:28]}-{number}"
        names.append(name)
    return names


def target_duration(entries: Sequence[Entry]) -> int:
    """Return the target duration that covers all segments (RFC 8216, 4.3.3.1)."""
    return max(1, *(math.floor(entry.duration_seconds + 0.5) for entry in entries))
