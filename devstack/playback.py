"""Plays a video like a player: every playlist, every segment, every frame decoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

import m3u8

from devstack.ffmpeg_progress import run_ffmpeg

if TYPE_CHECKING:
    import aiohttp

    from devstack.console import Advance

TOLERANCE_SECONDS = 0.5


class PlaybackError(Exception):
    """The video does not play; the message has the place."""


@dataclass(frozen=True)
class Variant:
    """One rendition as its playlists describe it."""

    name: str
    playlist_url: str
    segment_urls: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class Fetched:
    """The size of a fetched rendition."""

    variant: Variant
    total_bytes: int

    @property
    def bits_per_second(self) -> float:
        return self.total_bytes * 8 / self.variant.seconds


async def read_playlists(session: aiohttp.ClientSession, url: str) -> list[Variant]:
    """Fetch the multivariant playlist and every media playlist. Raises PlaybackError."""
    master = m3u8.loads((await _fetch(session, url)).decode(), uri=url)
    if not master.playlists:
        raise PlaybackError(f"{url} lists no rendition")
    return [await _read_media(session, urljoin(url, entry.uri)) for entry in master.playlists]


async def _read_media(session: aiohttp.ClientSession, url: str) -> Variant:
    playlist = m3u8.loads((await _fetch(session, url)).decode(), uri=url)
    if not playlist.is_endlist:
        raise PlaybackError(f"{url} is not complete")
    return Variant(
        name=urlsplit(url).path.split("/")[-2],
        playlist_url=url,
        segment_urls=tuple(urljoin(url, segment.uri) for segment in playlist.segments),
        seconds=sum(segment.duration for segment in playlist.segments),
    )


async def fetch_segments(
    session: aiohttp.ClientSession, variants: list[Variant], advance: Advance
) -> list[Fetched]:
    """Fetch every segment of every rendition. Raises PlaybackError when one is missing."""
    total, done, fetched = sum(len(variant.segment_urls) for variant in variants), 0, []
    for variant in variants:
        weight = 0
        for url in variant.segment_urls:
            weight += len(await _fetch(session, url))
            done += 1
            advance(done / total, f"{variant.name} {url.rpartition('/')[2]}")
        fetched.append(Fetched(variant, weight))
    return fetched


async def decode(variants: list[Variant], expected_seconds: float, advance: Advance) -> None:
    """Decode every rendition through the streamer. Raises PlaybackError on any error."""
    for place, variant in enumerate(variants):

        def at(seconds: float, place: int = place, name: str = variant.name) -> None:
            share = min(seconds / expected_seconds, 1)
            advance((place + share) / len(variants), name)

        outcome = await run_ffmpeg(("-i", variant.playlist_url, "-f", "null", "-"), at)
        if outcome.status != 0 or outcome.complaints:
            raise PlaybackError(f"{variant.name} does not decode cleanly: {outcome.complaints[:2000]}")
        if abs(outcome.seconds - expected_seconds) > TOLERANCE_SECONDS:
            raise PlaybackError(
                f"{variant.name} plays {outcome.seconds:.2f} s, the record says {expected_seconds:.2f} s"
            )
    advance(1, "every rendition")


async def _fetch(session: aiohttp.ClientSession, url: str) -> bytes:
    async with session.get(url) as answer:
        body = await answer.read()
        if answer.status != 200 or not body:
            raise PlaybackError(f"GET {url} answered {answer.status} with {len(body)} bytes")
        return body
