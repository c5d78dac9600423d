"""Adapts playlists to a viewer: no renditions above a cap, other segment URLs; pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.errors import TokenNotForThis

if TYPE_CHECKING:
    from collections.abc import Callable

URI = re.compile(r'URI="([^"]*)"')
RESOLUTION = re.compile(r"RESOLUTION=(\d+)x(\d+)")
STREAM = "#EXT-X-STREAM-INF:"
I_FRAMES = "#EXT-X-I-FRAME-STREAM-INF:"
OF_RENDITION = re.compile(r"[A-Za-z0-9_-]+/[A-Za-z0-9_-]+\.m3u8")


def cap_variants(text: str, cap: int | None) -> str:
    """Return a multivariant playlist without variants whose short side is above `cap` pixels.

    Raises TokenNotForThis when none is left.
    """
    if cap is None:
        return text
    kept, lines = [], iter(text.splitlines())
    for line in lines:
        if line.startswith(STREAM):
            variant = [line, next(lines, "")]
            kept += variant if _fits(line, cap) else []
        elif not line.startswith(I_FRAMES) or _fits(line, cap):
            kept.append(line)
    if not any(line.startswith(STREAM) for line in kept):
        raise TokenNotForThis("the playback token covers none of the renditions of this video")
    return "\n".join(kept) + "\n"


def _fits(line: str, cap: int) -> bool:
    size = RESOLUTION.search(line)
    return size is not None and min(int(size[1]), int(size[2])) <= cap


def media_playlists(text: str) -> list[str]:
    """Return the media playlists of this video in a multivariant playlist, each once.

    I-frame playlists are omitted: few players request them.
    """
    return [line for line in dict.fromkeys(text.splitlines()) if OF_RENDITION.fullmatch(line)]


@dataclass(frozen=True)
class Prefix:
    """Prefixes a segment's file name: equal prefixes give equal playlists."""

    text: str

    def __call__(self, name: str) -> str:
        return f"{self.text}{name}"


def rename_segments(text: str, uri_of: Callable[[str], str]) -> str:
    """Return a media or I-frame playlist with each segment's URI replaced by `uri_of` its file name."""
    lines = [_renamed(line, uri_of) for line in text.splitlines()]
    return "\n".join(lines) + "\n"


def _renamed(line: str, uri_of: Callable[[str], str]) -> str:
    if line.startswith("#EXT-X-MAP:"):
        return URI.sub(lambda match: f'URI="{uri_of(match[1])}"', line)
    return line if not line or line.startswith("#") else uri_of(line)
