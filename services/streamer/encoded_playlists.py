"""Playlists as they are sent: compressed for players that accept it, with an ETag."""

from __future__ import annotations

import gzip
import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING

from services.streamer.conditional_requests import accepts_gzip, format_date
from services.streamer.playlist_rewriting import Prefix, rename_segments

if TYPE_CHECKING:
    from collections.abc import Callable

REMEMBERED = 256


class EncodedPlaylists:
    """Compresses and hashes playlists; caches the results for all players."""

    def __init__(self) -> None:
        self._encode = lru_cache(maxsize=REMEMBERED)(_encode)
        self._rename = lru_cache(maxsize=REMEMBERED)(_rename)
        self.accepts_gzip = lru_cache(maxsize=REMEMBERED)(accepts_gzip)
        self.format_date = lru_cache(maxsize=REMEMBERED)(format_date)

    def encode(self, body: bytes, *, zipped: bool) -> tuple[bytes, str]:
        """Return the body to send and its ETag."""
        return self._encode(body, zipped=zipped)

    def rename(self, body: bytes, uri_of: Callable[[str], str]) -> bytes:
        """Return a playlist with each segment's URI replaced by `uri_of` its file name."""
        return self._rename(body, uri_of) if isinstance(uri_of, Prefix) else _rename(body, uri_of)


def _encode(body: bytes, *, zipped: bool) -> tuple[bytes, str]:
    digest = hashlib.sha256(body).hexdigest()[:32]
    if not zipped:
        return body, f'"{digest}"'
    return gzip.compress(body, compresslevel=6, mtime=0), f'"{digest}-gzip"'


def _rename(body: bytes, uri_of: Callable[[str], str]) -> bytes:
    return rename_segments(body.decode(), uri_of).encode()
